//! The operator's end: asks the broker that runs with a data directory, and says what it answered.
//! Knows nothing of that broker but where it is asked.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::ipc::{self, Stream};
use super::line::{self, ANSWER_BYTES_MAX, Answer, Request};
use crate::error::StartupError;
use crate::process::clock;

/// How long the broker may take: longer than it waits for its own shards.
const PATIENCE: Duration = Duration::from_secs(10);

/// Has the connection of a client closed, and says so.
///
/// # Errors
/// If no broker runs with `data_dir`, if it does not answer, or if the client is not connected.
pub(crate) fn disconnect(data_dir: &Path, client_id: &str) -> Result<(), StartupError> {
    let path = ipc::path(data_dir);
    let refused = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            StartupError::NoBroker { directory: data_dir.to_owned() }
        }
        _ => StartupError::BrokerUnreachable { path: path.clone(), error },
    };
    let mut stream = Stream::connect(&path, PATIENCE).map_err(refused)?;
    let request = Request::Disconnect { client_id: client_id.to_owned() };
    // A broker that reads no further has said why.
    let written = line::write(&mut stream, &request, PATIENCE);
    let answer = line::read(&mut stream, ANSWER_BYTES_MAX, clock::read() + PATIENCE);
    let answer = answer.map_err(|error| refused(written.err().unwrap_or(error)))?;
    match answer {
        Answer::Disconnected => {
            // Whoever closes standard output does not want to know.
            let _ = writeln!(io::stdout().lock(), "client {client_id:?} was disconnected");
            Ok(())
        }
        // No client has so long an identifier.
        Answer::NotUnderstood if client_id.len() > usize::from(u16::MAX) => {
            Err(StartupError::NotConnected { client_id: client_id.to_owned() })
        }
        Answer::NotConnected => Err(StartupError::NotConnected { client_id: client_id.to_owned() }),
        Answer::Busy => Err(refused(io::Error::other("it is too busy or is stopping"))),
        Answer::NotUnderstood => Err(refused(io::Error::other("it does not know this command"))),
    }
}
