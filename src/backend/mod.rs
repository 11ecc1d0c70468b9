//! Events in, actions out: one folder for each I/O world.
//! Knows no packet: bytes go to the engine and come from its outboxes.

pub(crate) mod monoio;
