//! What an operator asks of a running broker, by a way that is open to whoever runs it alone: a connection is one request and
//! one answer, each a line of JSON.
//! Knows no shard and no session: whoever keeps them is given an [`Order`] and answers it.

mod ask;
mod line;
mod listen;
#[cfg(windows)]
mod pipe;
#[cfg(unix)]
mod socket;

use crossbeam_channel::Sender;

pub(crate) use ask::disconnect;
pub(crate) use listen::listen;

#[cfg(windows)]
use pipe as way;
#[cfg(unix)]
use socket as way;

/// Close the connection of a client.
#[derive(Debug)]
pub(crate) struct Order {
    /// Its client identifier.
    pub(crate) client_id: String,
    /// Told whether it was connected; dropped by whoever cannot say.
    pub(crate) answer: Sender<bool>,
}
