//! The request line and the answer line: their types, and reading and writing them within a bound of bytes and of
//! time.

use std::io;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ipc::Stream;
use crate::net::bans::{Ban, Lift};
use crate::observe::refusals::{REFUSALS_MAX, Refusal};
use crate::process::clock;

/// The longest client identifier and user name of MQTT with each byte escaped by JSON (`\u0000`), plus the JSON around them.
pub(super) const REQUEST_BYTES_MAX: usize = 2 * 6 * u16::MAX as usize + 128;

/// Longer than every answer: rows with at most five texts of a peer, each of 256 bytes with its escapes.
pub(super) const ANSWER_BYTES_MAX: usize = ROWS_MAX * 2_048;

/// Rows of one answer.
pub(crate) const ROWS_MAX: usize = 256;

const _: () = assert!(REFUSALS_MAX <= ROWS_MAX);

/// A request of an operator. Shards execute it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Say whether every shard answers.
    Health {},
    /// Close the connection of this client.
    Disconnect {
        /// Its identifier.
        client_id: String,
    },
    /// End the session of this client.
    EndSession {
        /// Its identifier.
        client_id: String,
    },
    /// Give the session of this client to another user.
    GiveSession {
        /// Its identifier.
        client_id: String,
        /// The name of the user.
        user: String,
    },
    /// Show the session of this client.
    Session {
        /// Its identifier.
        client_id: String,
    },
    /// Show sessions of a shard.
    Sessions {
        /// The number of the shard.
        shard: u16,
        /// The slot of the first one.
        from: u32,
    },
    /// Show the last refusals.
    Refusals {},
    /// Show bans. No shard is asked.
    Bans {
        /// The number of those before the first one.
        from: usize,
    },
    /// Lift bans. No shard is asked.
    LiftBans(Lift),
    /// Look at the logs of all shards, or do something about them.
    Log(LogAction),
}

/// An action on the logs of all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogAction {
    /// Nothing but the answer.
    Look,
    /// Write a checkpoint as soon as can be.
    Checkpoint,
    /// Delete no file for a time, so that they can be copied; to be repeated while that lasts.
    Freeze,
    /// Delete files again.
    Thaw,
}

/// The receivers of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receivers<'a> {
    /// Every shard.
    All,
    /// The shard where the session of this client lives.
    HomeOf(&'a str),
    /// The shard of this number.
    Shard(u16),
    /// No shard.
    None,
}

impl Request {
    /// The shards that execute it.
    pub(crate) fn receivers(&self) -> Receivers<'_> {
        match self {
            Self::Health {} | Self::Refusals {} | Self::Log(_) => Receivers::All,
            Self::Disconnect { client_id }
            | Self::EndSession { client_id }
            | Self::GiveSession { client_id, .. }
            | Self::Session { client_id } => Receivers::HomeOf(client_id),
            Self::Sessions { shard, .. } => Receivers::Shard(*shard),
            Self::Bans { .. } | Self::LiftBans(_) => Receivers::None,
        }
    }
}

/// The answer of the broker, or of one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Every shard has answered.
    Healthy,
    /// Every shard has answered, and the log of one has no room for what follows.
    JournalDegraded,
    /// Every shard has answered, and the log of one has failed.
    JournalFailed,
    /// The client was connected, and is being disconnected.
    Disconnected,
    /// The client was not connected.
    NotConnected,
    /// The session was ended, or given away.
    Done,
    /// There is no such session.
    NoSession,
    /// Sessions, and the shard and slot where the next request goes on; `None` at the end.
    Sessions {
        /// One row for each.
        rows: Vec<SessionRow>,
        /// The place of the next ones.
        next: Option<(u16, u32)>,
    },
    /// Refusals, the oldest first.
    Refusals(Vec<Refusal>),
    /// Bans; none after the last one.
    Bans(Vec<Ban>),
    /// So many bans were lifted.
    Lifted(usize),
    /// The log of each shard; none without logs.
    Logs(Vec<LogRow>),
    /// The shard of the client is too busy to answer, or the broker is stopping.
    Busy,
    /// The request is invalid.
    NotUnderstood,
}

/// A session. Text of a peer is escaped and has at most 256 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionRow {
    /// Its client identifier.
    pub(crate) client: String,
    /// The user that it belongs to; "" for nobody.
    pub(crate) user: String,
    /// Whether it has a connection.
    pub(crate) connected: bool,
    /// The address of the peer, if it is known.
    pub(crate) peer: Option<String>,
    /// Its subscriptions.
    pub(crate) subscriptions: u32,
    /// Messages that wait in its queue.
    pub(crate) queued: usize,
}

/// The log of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogRow {
    /// The shard.
    pub(crate) shard: u16,
    /// The position of its checkpoint.
    pub(crate) checkpoint: Option<u64>,
    /// Bytes of that; 0 without one.
    pub(crate) checkpoint_bytes: u64,
    /// Another checkpoint was asked for, or is under way.
    pub(crate) is_checkpointing: bool,
    /// The last checkpoint could not be written, or the log has failed.
    pub(crate) has_refused: bool,
    /// The first and the last segment that are part of it; 0 and 0: none.
    pub(crate) segments: (u64, u64),
    /// Bytes of the last one that are part of it.
    pub(crate) last_bytes: u64,
    /// Files were kept already when this was asked.
    pub(crate) was_frozen: bool,
}

impl Answer {
    /// The answers of two shards as one.
    pub(super) fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Refusals(mut refusals), Self::Refusals(others)) => {
                refusals.extend(others);
                refusals.sort_by_key(|refusal| refusal.at_us);
                refusals.drain(..refusals.len().saturating_sub(REFUSALS_MAX));
                Self::Refusals(refusals)
            }
            (Self::Logs(mut logs), Self::Logs(others)) => {
                logs.extend(others);
                Self::Logs(logs)
            }
            // The worst of their healths.
            (Self::JournalFailed, _) | (_, Self::JournalFailed) => Self::JournalFailed,
            (Self::JournalDegraded, _) | (_, Self::JournalDegraded) => Self::JournalDegraded,
            (one, _) => one,
        }
    }
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
            for request in [
                Request::Disconnect { client_id: client_id.clone() },
                Request::GiveSession { client_id: client_id.clone(), user: client_id.clone() },
            ] {
                let mut bytes = serde_json::to_vec(&request).unwrap();
                assert!(bytes.len() <= REQUEST_BYTES_MAX, "{}", bytes.len());
                bytes.push(b'\n');
                assert_eq!(check("operator_longest", &bytes).unwrap(), request);
            }
        }
    }

    #[test]
    fn the_longest_answers_are_within_the_bound() {
        let text = "\u{1}".repeat(256 / 6);
        let refusal = Refusal {
            at_us: u64::MAX,
            client: Some(text.clone()),
            user: Some(text.clone()),
            peer: Some("x".repeat(64)),
            listener: Some("x".repeat(256)),
            method: Some(text.clone()),
            reason: "x".repeat(32),
            why: "x".repeat(512),
        };
        let row = SessionRow {
            client: text.clone(),
            user: text,
            connected: true,
            peer: Some("x".repeat(64)),
            subscriptions: u32::MAX,
            queued: usize::MAX,
        };
        for answer in [
            Answer::Refusals(vec![refusal; ROWS_MAX]),
            Answer::Sessions { rows: vec![row; ROWS_MAX], next: Some((u16::MAX, u32::MAX)) },
            Answer::NotUnderstood,
        ] {
            let length = serde_json::to_vec(&answer).unwrap().len();
            assert!(length <= ANSWER_BYTES_MAX, "{length}");
        }
    }

    #[test]
    fn of_the_refusals_of_two_shards_the_last_ones_are_shown() {
        let refusal = |at_us| Refusal { at_us, ..Refusal::default() };
        let of = |range: std::ops::Range<u64>| Answer::Refusals(range.map(refusal).collect());
        let Answer::Refusals(shown) = of(0..200).with(of(100..300)) else { panic!("refusals") };
        assert_eq!(shown.len(), REFUSALS_MAX);
        assert!(shown.is_sorted_by_key(|refusal| refusal.at_us) && shown[255].at_us == 299);
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
