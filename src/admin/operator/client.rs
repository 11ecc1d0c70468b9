//! The operator's end: sends a request to the broker that runs with a data directory, and prints its answer.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::answer::ANSWER_BYTES_MAX;
use super::ipc::{self, Stream};
use super::line;
use super::{Answer, LogAction, LogRow, Request};
use crate::error::StartupError;
use crate::process::clock;

/// Time limit for the broker, longer than the one that the broker sets its shards.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Asks whether the broker is healthy.
///
/// # Errors
/// If no broker runs with `data_dir`, or if it or one of its shards does not answer.
pub(crate) fn ask_health(data_dir: &Path) -> Result<(), StartupError> {
    match ask(data_dir, &Request::Health {})? {
        Answer::Healthy => Ok(()),
        Answer::Busy => Err(unreachable(data_dir, io::Error::other("a shard does not answer"))),
        Answer::JournalDegraded => Err(StartupError::JournalUnwell {
            state: "degraded: its disk has no room for what follows; make room",
        }),
        Answer::JournalFailed => Err(StartupError::JournalUnwell {
            state: "stopped: a write or a sync has failed; correct the disk, then restart the broker",
        }),
        _ => Err(not_understood(data_dir)),
    }
}

/// The logs of the shards, after this action on them; none if the broker keeps none.
///
/// # Errors
/// If no broker runs with `data_dir`, or if it or one of its shards does not answer.
pub(crate) fn ask_logs(data_dir: &Path, action: LogAction) -> Result<Vec<LogRow>, StartupError> {
    match ask(data_dir, &Request::Log(action))? {
        Answer::Logs(mut logs) => {
            logs.sort_by_key(|log| log.shard);
            Ok(logs)
        }
        Answer::Busy => Err(unreachable(data_dir, io::Error::other("a shard does not answer"))),
        _ => Err(not_understood(data_dir)),
    }
}

/// Closes the connection of a client, and prints a confirmation.
///
/// # Errors
/// If no broker runs with `data_dir`, if it does not answer, or if the client is not connected.
pub(crate) fn disconnect(data_dir: &Path, client_id: &str) -> Result<(), StartupError> {
    let not_connected = || StartupError::NotFound {
        sentence: format!("no client with the identifier {client_id:?} is connected"),
    };
    match ask_about(data_dir, client_id, &Request::Disconnect { client_id: client_id.to_owned() })? {
        Some(Answer::Disconnected) => {
            print(&format!("client {client_id:?} was disconnected"));
            Ok(())
        }
        Some(Answer::NotConnected) | None => Err(not_connected()),
        Some(_) => Err(not_understood(data_dir)),
    }
}

/// Prints a line.
pub(super) fn print(line: &str) {
    // A closed standard output leaves no reader for the line.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// The broker's answer to a request about a client; `None` if no client can have this identifier.
///
/// # Errors
/// If no broker runs with `data_dir`, or if it does not answer.
pub(super) fn ask_about(
    data_dir: &Path,
    client_id: &str,
    request: &Request,
) -> Result<Option<Answer>, StartupError> {
    match ask(data_dir, request)? {
        // The identifier is longer than any client can have, so the broker refused the request by its length.
        Answer::NotUnderstood if client_id.len() > usize::from(u16::MAX) => Ok(None),
        Answer::Busy => Err(unreachable(data_dir, io::Error::other("it is too busy or is stopping"))),
        answer => Ok(Some(answer)),
    }
}

/// All rows of a list that the broker gives in parts: `part` asks for the one at a place, and tells where the next begins.
///
/// # Errors
/// The first error of a part.
pub(super) fn collect<R, P: PartialEq + Clone>(
    first: P,
    mut part: impl FnMut(P) -> Result<(Vec<R>, Option<P>), StartupError>,
) -> Result<Vec<R>, StartupError> {
    let (mut rows, mut place) = (Vec::new(), Some(first));
    while let Some(at) = place {
        let (some, next) = part(at.clone())?;
        rows.extend(some);
        // A place that does not change would be an endless list.
        place = next.filter(|next| *next != at);
    }
    Ok(rows)
}

/// The broker knows no session of this client.
pub(super) fn no_session(client_id: &str) -> StartupError {
    StartupError::NotFound { sentence: format!("there is no session of the client {client_id:?}") }
}

/// The broker has answered something else.
pub(super) fn not_understood(data_dir: &Path) -> StartupError {
    unreachable(data_dir, io::Error::other("it does not know this command"))
}

/// The broker's answer to `request`.
pub(super) fn ask(data_dir: &Path, request: &Request) -> Result<Answer, StartupError> {
    let refused = |error| unreachable(data_dir, error);
    let mut stream = Stream::connect(&ipc::path(data_dir), TIME_LIMIT).map_err(refused)?;
    // If the broker stops reading it has sent an answer, which says more than the error.
    let written = line::write(&mut stream, request, TIME_LIMIT);
    let answer = line::read(&mut stream, ANSWER_BYTES_MAX, clock::read() + TIME_LIMIT);
    answer.map_err(|error| refused(written.err().unwrap_or(error)))
}

fn unreachable(data_dir: &Path, error: io::Error) -> StartupError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            StartupError::NoBroker { directory: data_dir.to_owned() }
        }
        _ => StartupError::BrokerUnreachable { path: ipc::path(data_dir), error },
    }
}
