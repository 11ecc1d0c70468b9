//! The files that keep the state of sessions across restarts: today `subscriptions.json`.

pub(crate) mod subscriptions_file;
