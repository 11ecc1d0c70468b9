//! Every violation, provoked from outside, with the code that answers it.

use websocket::{CloseCode, End, Rules, Violation, WebSocket};

use crate::client::{BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, TEXT, read};
use crate::receiving::{drain, receive};

const RULES: Rules = Rules { frame_bytes_max: 70_000, text: false };

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    Frame::new(kind, payload).masked([1, 2, 3, 4])
}

fn fragment(kind: u8) -> Vec<u8> {
    Frame { is_last: false, ..Frame::new(kind, b"x") }.masked([0; 4])
}

fn violations() -> Vec<(Violation, Vec<u8>)> {
    use Violation as V;
    let unmasked = vec![0x82, 0x01, b'x'];
    let close = |code: u16| frame(CLOSE, &code.to_be_bytes());
    let mut cases = vec![
        (V::Unmasked, unmasked),
        (V::Unmasked, vec![0x89, 0]),
        (V::FragmentedControl, fragment(PING)),
        (V::FragmentedControl, fragment(CLOSE)),
        (V::LongControl, frame(PING, &[0; 126])),
        (V::LongControl, frame(CLOSE, &vec![b'x'; 65_536])),
        (V::NothingToContinue, frame(CONTINUATION, b"x")),
        (V::NothingToContinue, [frame(BINARY, b"x"), frame(CONTINUATION, b"x")].concat()),
        (V::UnfinishedMessage, [fragment(BINARY), frame(BINARY, b"x")].concat()),
        (V::MalformedLength, vec![0x82, 0xfe, 0, 125]),
        (V::MalformedLength, vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 255, 255]),
        (V::MalformedLength, vec![0x82, 0xff, 128, 0, 0, 0, 0, 0, 255, 255]),
        (V::MalformedClose, frame(CLOSE, &[3])),
        (V::CloseReasonNotUtf8, frame(CLOSE, &[3, 232, 0xce, 0xba, 0xff])),
        (V::Text, frame(TEXT, b"x")),
        (V::Text, fragment(TEXT)),
        (V::LongFrame, frame(BINARY, &vec![0; 70_001])),
        (V::LongFrame, vec![0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0]),
    ];
    cases.extend([0x40, 0x20, 0x10].map(|bit| (V::ReservedBits, vec![0x82 | bit, 0x80])));
    cases.extend([3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map(|kind| (V::ReservedType, frame(kind, b""))));
    cases.extend(
        [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]
            .map(|code| (V::MalformedClose, close(code))),
    );
    cases
}

#[test]
fn every_violation_ends_the_connection_with_its_code() {
    let cases = violations();
    for (violation, bytes) in &cases {
        let good = frame(BINARY, b"good");
        let all = [&good[..], bytes, &good].concat();
        for piece in [1, 7, usize::MAX] {
            let mut connection = WebSocket::default();
            let received = receive(&mut connection, RULES, &all, &[piece]);
            let (payload, end) = received;
            assert_eq!(end, Some(End::Violated(*violation)), "{bytes:?}");
            assert!(payload.starts_with(b"good") && payload.len() <= 6, "{bytes:?}");
            assert!(connection.has_ended());
            let close = Frame::new(CLOSE, &violation.close_code().get().to_be_bytes());
            assert_eq!(read(&drain(&mut connection)), (vec![close], &[][..]));
        }
    }
    let unseen: Vec<_> =
        Violation::ALL.iter().filter(|one| cases.iter().all(|(seen, _)| seen != *one)).collect();
    assert!(unseen.is_empty(), "no case provokes {unseen:?}");
}

#[test]
fn a_refusal_needs_no_more_than_the_bytes_that_show_it() {
    let ends = |bytes: &[u8]| WebSocket::default().receive(RULES, &mut bytes.to_vec()).end;
    assert_eq!(ends(&[0x82, 0x05]), Some(End::Violated(Violation::Unmasked)));
    assert_eq!(ends(&[0x81, 0x85]), Some(End::Violated(Violation::Text)));
    // The length alone, before mask and payload.
    assert_eq!(ends(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x11, 0x71]), Some(End::Violated(Violation::LongFrame)));
    assert_eq!(ends(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x11, 0x70]), None);
}

#[test]
fn codes_of_the_standard_and_private_ones_are_taken() {
    for code in
        [1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
    {
        let mut connection = WebSocket::default();
        let (_, end) = receive(&mut connection, RULES, &frame(CLOSE, &code.to_be_bytes()), &[2]);
        let Some(End::Closed(Some(seen))) = end else { panic!("{code}: {end:?}") };
        assert_eq!(seen.get(), code);
    }
}

#[test]
fn violations_have_sentences_and_codes_that_may_travel() {
    let codes =
        [CloseCode::PROTOCOL_ERROR, CloseCode::UNSUPPORTED, CloseCode::INVALID_TEXT, CloseCode::TOO_LONG];
    for violation in Violation::ALL {
        assert!(
            !violation.to_string().is_empty() && codes.contains(&violation.close_code()),
            "{violation:?}"
        );
    }
}

#[test]
fn a_pong_that_nobody_asked_for_is_ignored() {
    let mut connection = WebSocket::default();
    let received = receive(&mut connection, RULES, &frame(PONG, &[7; 125]), &[3]);
    assert_eq!((received, connection), ((Vec::new(), None), WebSocket::default()));
}
