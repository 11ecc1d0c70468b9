//! `mqtt-broker disconnect` and `mqtt-broker health`: both ends of the connection between an operator and the running broker. One connection
//! carries one request and one answer, each a line of JSON.
//! Only the user that runs the broker can connect (on Windows also administrators). This module passes a request on as
//! a [`DisconnectCommand`]; the shard of the client executes and answers it.

mod client;
mod line;
#[cfg(windows)]
mod pipe;
mod server;
#[cfg(unix)]
mod socket;

use crossbeam_channel::{Receiver, Sender};

pub(crate) use client::{ask_health, disconnect};
pub(crate) use server::listen;

#[cfg(windows)]
use pipe as ipc;
#[cfg(unix)]
use socket as ipc;

/// A request of an operator that shards execute.
#[derive(Debug)]
pub(crate) enum OperatorCommand {
    /// Close the connection of a client.
    Disconnect(DisconnectCommand),
    /// Let every shard answer.
    Health(Sender<AnswersToCome>),
}

/// The answers of shards, and how many there are to be.
pub(crate) type AnswersToCome = (Receiver<bool>, usize);

/// Closes the connection of a client.
#[derive(Debug)]
pub(crate) struct DisconnectCommand {
    /// Its client identifier.
    pub(crate) client_id: String,
    /// Receives whether the client was connected. It is dropped without a value if the shard cannot execute the
    /// command.
    pub(crate) answer: Sender<bool>,
}
