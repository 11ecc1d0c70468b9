//! What an operator asks of a running broker, over a Unix domain socket in its data directory: a connection is one request
//! and one answer, each a line of JSON.
//! Knows no shard and no session: whoever keeps them is given an [`Order`] and answers it.

#[cfg(unix)]
mod ask;
#[cfg(unix)]
mod line;
#[cfg(unix)]
mod listen;
#[cfg(windows)]
mod windows;

use crossbeam_channel::Sender;

#[cfg(windows)]
pub(crate) use windows::{disconnect, listen};
#[cfg(unix)]
pub(crate) use {ask::disconnect, listen::listen};

/// Close the connection of a client.
#[derive(Debug)]
#[cfg_attr(windows, allow(dead_code, reason = "nobody can ask there yet"))]
pub(crate) struct Order {
    /// Its client identifier.
    pub(crate) client_id: String,
    /// Told whether it was connected; dropped by whoever cannot say.
    pub(crate) answer: Sender<bool>,
}
