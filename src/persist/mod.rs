//! The files that keep the state of sessions across restarts: `subscriptions.json`, or the logs of the shards.

pub(crate) mod journal;
pub(crate) mod subscriptions_file;
