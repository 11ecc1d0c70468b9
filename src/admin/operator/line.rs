//! The request line and the answer line: their types, and reading and writing them within a bound of bytes and of
//! time.

use std::io;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ipc::Stream;
use crate::process::clock;

/// The longest client identifier of MQTT with each byte escaped by JSON (`\u0000`), plus the JSON around it.
pub(super) const REQUEST_BYTES_MAX: usize = 6 * u16::MAX as usize + 64;

/// Longer than every answer.
pub(super) const ANSWER_BYTES_MAX: usize = 64;

/// A request of an operator.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    /// Say whether every shard answers.
    Health {},
    /// Close the connection of this client.
    Disconnect {
        /// Its identifier.
        client_id: String,
    },
}

/// The answer of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// Every shard has answered.
    Healthy,
    /// The client was connected, and is being disconnected.
    Disconnected,
    /// The client was not connected.
    NotConnected,
    /// The shard of the client is too busy to answer, or the broker is stopping.
    Busy,
    /// The request is invalid.
    NotUnderstood,
}

/// Reads the complete line of the other end before `deadline`.
///
/// # Errors
/// `InvalidData` if the line is longer than `bytes_max` or is not a valid `T`; any error of the system.
pub(super) fn read<T: DeserializeOwned>(
    stream: &mut Stream,
    bytes_max: usize,
    deadline: Instant,
) -> io::Result<T> {
    let mut line = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(clock::read());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let length = match stream.read(&mut piece, left) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = piece[..length].iter().position(|&byte| byte == b'\n');
        line.extend_from_slice(&piece[..end.unwrap_or(length)]);
        if line.len() > bytes_max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"));
        }
        if end.is_some() {
            return serde_json::from_slice(&line).map_err(io::Error::from);
        }
    }
}

/// Writes a line.
///
/// # Errors
/// Any error of the system, and a timeout if the peer takes no bytes for `time_limit`.
pub(super) fn write(stream: &mut Stream, line: &impl Serialize, time_limit: Duration) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    stream.write_all(&bytes, time_limit)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::ipc::{self, Listener};
    use super::*;
    use crate::process::scratch::Scratch;

    const SOON: Duration = Duration::from_millis(50);
    const TIME_LIMIT: Duration = Duration::from_secs(30);

    fn pair(name: &str) -> (Stream, Stream) {
        let scratch = Scratch::new(name);
        let path = ipc::path(scratch.path());
        let mut listener = Listener::bind(&path).unwrap();
        let there = Stream::connect(&path, TIME_LIMIT).unwrap();
        (listener.accept().unwrap(), there)
    }

    fn check(name: &str, bytes: &[u8]) -> io::Result<Request> {
        let (mut here, mut there) = pair(name);
        thread::scope(|scope| {
            // The write fails if the reader hangs up early.
            scope.spawn(move || there.write_all(bytes, TIME_LIMIT));
            let read = read(&mut here, REQUEST_BYTES_MAX, clock::read() + TIME_LIMIT);
            drop(here);
            read
        })
    }

    #[test]
    fn the_longest_identifier_arrives_whatever_it_contains() {
        for character in ['a', '\u{1}', '\n', '"', '\u{10FFFF}'] {
            let client_id = character.to_string().repeat(usize::from(u16::MAX) / character.len_utf8());
            let request = Request::Disconnect { client_id };
            let mut bytes = serde_json::to_vec(&request).unwrap();
            assert!(bytes.len() <= REQUEST_BYTES_MAX, "{}", bytes.len());
            bytes.push(b'\n');
            assert_eq!(check("operator_longest", &bytes).unwrap(), request);
        }
        for answer in
            [Answer::Healthy, Answer::Disconnected, Answer::NotConnected, Answer::Busy, Answer::NotUnderstood]
        {
            assert!(serde_json::to_vec(&answer).unwrap().len() <= ANSWER_BYTES_MAX);
        }
    }

    #[test]
    fn an_invalid_request_is_refused() {
        for text in [
            "\n",
            "disconnect me\n",
            "{\"disconnect\":{}}\n",
            "{\"disconnect\":{\"client_id\":7}}\n",
            "{\"disconnect\":{\"client_id\":\"a\",\"force\":true}}\n",
            "{\"stop\":{}}\n",
            "{\"disconnect\":{\"client_id\":\"\u{0}\"}}\n",
            "[[[[[[[[\n",
        ] {
            let refused = check("operator_none", text.as_bytes()).unwrap_err();
            assert!(
                matches!(refused.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof),
                "{text}: {refused:?}"
            );
        }
        assert!(check("operator_none", &[b'[', 0xFF, b'\n']).is_err());
    }

    #[test]
    fn a_read_is_bounded_in_bytes_and_in_time() {
        let endless = vec![b' '; REQUEST_BYTES_MAX + 10_000];
        assert_eq!(check("operator_bounds", &endless).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (mut here, mut there) = pair("operator_bounds");
        there.write_all(b"{", TIME_LIMIT).unwrap();
        let late = read::<Request>(&mut here, REQUEST_BYTES_MAX, clock::read() + SOON);
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(there);
        let gone = read::<Request>(&mut here, REQUEST_BYTES_MAX, clock::read() + TIME_LIMIT);
        assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
