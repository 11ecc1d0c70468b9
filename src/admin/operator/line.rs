//! The request line and the answer line: reading and writing them within a bound of bytes and of time.

use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ipc::Stream;
use crate::process::clock;
use crate::process::held_bytes::OPERATORS;

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
    let mut held = OPERATORS.hold(0);
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
        held.resize(line.capacity());
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
    let _held = OPERATORS.hold(bytes.capacity());
    stream.write_all(&bytes, time_limit)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::answer::{ANSWER_BYTES_MAX, Answer, ROWS_MAX, SessionRow};
    use super::super::ipc::{self, Listener};
    use super::super::request::{REQUEST_BYTES_MAX, Request};
    use super::*;
    use crate::observe::refusals::{REFUSALS_MAX, Refusal};
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
