//! What an operator asks of a running broker, by a way that is open to whoever runs it alone: a connection is one request and
//! one answer, each a line of JSON.
//! Knows no shard and no session: whoever keeps them is given an [`DisconnectCommand`] and answers it.

mod client;
mod line;
#[cfg(windows)]
mod pipe;
mod server;
#[cfg(unix)]
mod socket;

use crossbeam_channel::Sender;

pub(crate) use client::disconnect;
pub(crate) use server::listen;

#[cfg(windows)]
use pipe as ipc;
#[cfg(unix)]
use socket as ipc;

/// Close the connection of a client.
#[derive(Debug)]
pub(crate) struct DisconnectCommand {
    /// Its client identifier.
    pub(crate) client_id: String,
    /// Told whether it was connected; dropped by whoever cannot say.
    pub(crate) answer: Sender<bool>,
}
