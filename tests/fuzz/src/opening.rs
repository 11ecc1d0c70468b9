//! The first bytes of a connection: the head of an HTTP request that opens a WebSocket, and the header of the PROXY protocol. Any
//! bytes are granted, refused or incomplete, wherever they are cut, and no more is kept than a bound.

use std::net::{IpAddr, Ipv4Addr};

use crate::choices::Choices;
use crate::{proxy, upgrade};

/// The first byte chooses the reader and the next ones the pieces; the rest is the stream.
///
/// # Panics
/// If a reader violates a guarantee.
pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    let is_http = choices.one_in(2);
    let pieces = [choices.byte(), choices.byte()].map(|byte| usize::from(byte) + 1);
    let stream = choices.bytes(usize::MAX);
    if is_http { check_upgrade(stream, &pieces) } else { check_proxy(stream) }
}

fn check_upgrade(stream: &[u8], pieces: &[usize]) {
    let origins = ["https://app.example.com".to_owned()];
    let rules = upgrade::Rules { path: "/mqtt", origins: &origins };
    let take = |pieces: &[usize]| {
        let mut head = upgrade::Head::default();
        let mut rest = stream;
        for length in pieces.iter().cycle() {
            let (piece, next) = rest.split_at(rest.len().min(*length));
            rest = next;
            let result = head.take(piece, rules);
            assert!(head.heap_bytes() <= 2 * upgrade::HEAD_BYTES_MAX);
            if rest.is_empty() || !matches!(result, Ok(None)) {
                return (result, rest.len());
            }
        }
        unreachable!("a cycle has no end")
    };
    let (whole, _) = take(&[stream.len().max(1)]);
    let (cut, left) = take(pieces);
    // A cut at the end of the head makes the bytes behind it the client's first frames.
    if whole == Err(upgrade::Refusal::BytesBehind) {
        assert!(cut.is_err() || left > 0);
    } else {
        assert_eq!(cut, whole, "in pieces of {pieces:?}");
    }
    match whole {
        Ok(Some(accepted)) => {
            let answer = String::from_utf8(accepted.answer).expect("an answer is text");
            assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\n"));
            // Nothing of the request but the digest of its key is in the answer.
            assert_eq!(answer.lines().count(), 6, "{answer}");
            let proxy = IpAddr::V4(Ipv4Addr::LOCALHOST);
            let _any =
                upgrade::client_address(&accepted.forwarded_for, proxy, |address| address.is_loopback());
        }
        Ok(None) => {}
        Err(refusal) => {
            let answer = refusal.answer();
            assert!(answer.starts_with(b"HTTP/1.1 4") && !refusal.to_string().is_empty());
        }
    }
}

fn check_proxy(stream: &[u8]) {
    let whole = proxy::read(stream);
    match &whole {
        Ok(Some(header)) => {
            assert!(header.bytes <= proxy::HEADER_BYTES_MAX && header.bytes <= stream.len());
            // It needs all of its bytes, and none behind it.
            assert_eq!(proxy::read(&stream[..header.bytes - 1]), Ok(None));
            assert_eq!(proxy::read(&stream[..header.bytes]), whole);
        }
        Ok(None) => {
            assert!(stream.len() < proxy::HEADER_BYTES_MAX);
            assert!((0..stream.len()).all(|length| proxy::read(&stream[..length]) == Ok(None)));
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
}
