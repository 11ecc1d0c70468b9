//! Commands of the operator to the running broker, such as `mqtt-broker disconnect`: both ends of the connection between them. One
//! connection carries one request and one answer, each a line of JSON.
//! Only the user that runs the broker can connect (on Windows also administrators). This module passes a request on to the main
//! thread, which asks the shards that are concerned; they execute and answer it. No shard waits for an operator.

mod answer;
mod bans;
mod certificates;
mod client;
mod clients;
mod commands;
mod draining;
mod inside;
mod line;
mod output;
#[cfg(windows)]
mod pipe;
mod refusals;
mod reload;
mod request;
mod server;
mod sessions;
#[cfg(unix)]
mod socket;
mod statistics;
mod topics;
mod trace;

use crossbeam_channel::{Receiver, Sender};

pub(crate) use answer::{
    Answer, ClientRow, LogRow, Page, ROWS_MAX, ReceiverRow, RetainedRow, SessionRow, StatisticsRow,
    SubscriptionRow,
};
pub(crate) use bans::{BansArguments, run as run_bans};
pub(crate) use certificates::show as show_certificates;
pub(crate) use client::{ask_health, ask_logs, disconnect};
pub(crate) use commands::OperatorSubcommand;
pub(crate) use inside::{CertificateRow, LogLine, ShardRow, page_of_keys};
pub(crate) use output::Form;
pub(crate) use refusals::show as show_refusals;
pub(crate) use reload::reload as reload_broker;
pub(crate) use request::{ClientFilter, LogAction, PAYLOAD_BYTES_MAX, Receivers, Request};
#[cfg(feature = "admin")]
pub(crate) use server::execute;
pub(crate) use server::{Asking, CommandListener, listen};
pub(crate) use sessions::{SessionsArguments, run as run_sessions};

#[cfg(windows)]
use pipe as ipc;
#[cfg(unix)]
use socket as ipc;

/// A request of an operator, for the shards.
#[derive(Debug)]
pub(crate) struct OperatorCommand {
    /// The request.
    pub(crate) request: Request,
    /// Receives the answers of the shards. It is dropped without a value if the broker is stopping.
    pub(crate) answers: Sender<AnswersToCome>,
}

/// The answers of shards, and how many there are to be.
pub(crate) type AnswersToCome = (Receiver<Answer>, usize);

/// A request on one shard.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The request.
    pub(crate) request: Request,
    /// Receives the shard's answer. It is dropped without a value if the shard cannot execute the request.
    pub(crate) answer: Sender<Answer>,
}
