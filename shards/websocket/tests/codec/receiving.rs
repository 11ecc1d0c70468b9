//! A client's bytes, cut anywhere, in any number of frames.

use proptest::collection::vec;
use proptest::prelude::*;
use websocket::{CloseCode, End, Message, Piece, Rules, Step, WebSocket};

use crate::client::{BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, TEXT, conversation, read};

/// Feeds `bytes` in pieces of the given lengths, in turn. Returns the payload, and the end.
pub(crate) fn receive(
    connection: &mut WebSocket,
    rules: Rules,
    bytes: &[u8],
    pieces: &[usize],
) -> (Vec<u8>, Option<End>) {
    let mut payload = Vec::new();
    let mut rest = bytes;
    for length in pieces.iter().cycle() {
        let (piece, next) = rest.split_at(rest.len().min(*length));
        rest = next;
        let mut buffer = piece.to_vec();
        let received = connection.receive(rules, &mut buffer);
        payload.extend_from_slice(&buffer[received.payload]);
        if rest.is_empty() || received.end.is_some() {
            return (payload, received.end);
        }
    }
    (payload, None)
}

/// Everything that the connection has to send, taken by the transport at once.
pub(crate) fn drain(connection: &mut WebSocket) -> Vec<u8> {
    let mut bytes = Vec::new();
    while connection.is_due() {
        let outgoing = connection.outgoing(Message::Binary, &[]);
        bytes.extend_from_slice(outgoing.head());
        assert_eq!(connection.sent(&outgoing, outgoing.head().len()), 0);
    }
    bytes
}

proptest! {
    /// [MQTT-6.0.0-2] Neither the frames nor the cuts show in the payload.
    #[test]
    fn any_cut_gives_the_payload_in_order(
        conversation in conversation(),
        pieces in vec(1_usize..70_000, 1..4),
        small in vec(1_usize..9, 1..4),
    ) {
        let bytes: Vec<u8> = conversation.iter().flat_map(|(frame, mask)| frame.masked(*mask)).collect();
        let is_data = |frame: &&Frame| frame.kind == BINARY || frame.kind == CONTINUATION;
        let payload: Vec<u8> =
            conversation.iter().map(|(frame, _)| frame).filter(is_data).flat_map(|frame| frame.payload.clone()).collect();
        let last_ping = conversation.iter().map(|(frame, _)| frame).rfind(|frame| frame.kind == PING);
        for pieces in [&[usize::MAX][..], &pieces, &small] {
            let mut connection = WebSocket::default();
            let received = receive(&mut connection, Rules::BINARY, &bytes, pieces);
            prop_assert_eq!(&received, &(payload.clone(), None));
            prop_assert!(!connection.is_within_message());
            // The latest ping is answered, and older ones need not be.
            let sent = drain(&mut connection);
            let pongs: Vec<Frame> = last_ping.iter().map(|ping| Frame::new(PONG, &ping.payload)).collect();
            prop_assert_eq!(read(&sent), (pongs, &[][..]));
            prop_assert_eq!(connection, WebSocket::default());
        }
    }

    /// Arbitrary bytes never panic, and what they mean does not depend on the cuts.
    #[test]
    fn any_bytes_mean_the_same_however_they_are_cut(bytes in vec(any::<u8>(), 0..200), pieces in vec(1_usize..20, 1..4)) {
        let mut whole = WebSocket::default();
        let mut cut = WebSocket::default();
        let rules = Rules { frame_bytes_max: 1_000, text: true };
        prop_assert_eq!(receive(&mut whole, rules, &bytes, &[usize::MAX]), receive(&mut cut, rules, &bytes, &pieces));
        prop_assert_eq!(&whole, &cut);
        prop_assert_eq!(drain(&mut whole), drain(&mut cut));
    }
}

#[test]
fn messages_are_told_apart_where_a_user_needs_them() {
    let frames = [
        Frame { is_last: false, ..Frame::new(TEXT, b"ab") },
        Frame::new(PING, b"?"),
        Frame::new(CONTINUATION, b"c"),
        Frame::new(BINARY, b""),
        Frame::new(CLOSE, &1000_u16.to_be_bytes()),
        Frame::new(BINARY, b"ignored"),
    ];
    let mut bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.masked([9, 8, 7, 6])).collect();
    let mut connection = WebSocket::default();
    let rules = Rules { text: true, ..Rules::BINARY };
    let mut at = 0;
    let mut seen = Vec::new();
    while let Some(step) = connection.next(rules, &mut bytes, &mut at) {
        seen.push(step);
    }
    assert_eq!(at, bytes.len());
    let piece = |payload, message, is_last| Step::Payload(Piece { payload, message, is_last });
    assert_eq!(
        seen,
        [
            piece(6..8, Message::Text, false),
            Step::Ping,
            piece(21..22, Message::Text, true),
            piece(28..28, Message::Binary, true),
            Step::End(End::Closed(Some(CloseCode::NORMAL))),
        ]
    );
    assert_eq!((&bytes[6..8], bytes[21]), (&b"ab"[..], b'c'));
}

#[test]
fn a_close_is_answered_by_its_code_and_nothing_behind_it_counts() {
    for (payload, code) in [
        (&[][..], None),
        (&[3, 232], Some(CloseCode::NORMAL)),
        (&[3, 233, b'b', b'y', b'e'], Some(CloseCode::GOING_AWAY)),
    ] {
        let mut bytes = Frame::new(BINARY, b"last").masked([1; 4]);
        bytes.extend(Frame::new(CLOSE, payload).masked([2; 4]));
        bytes.extend(Frame::new(PING, b"late").masked([3; 4]));
        bytes.extend(Frame::new(BINARY, b"late").masked([4; 4]));
        let mut connection = WebSocket::default();
        let received = receive(&mut connection, Rules::BINARY, &bytes, &[1]);
        assert_eq!(received, (b"last".to_vec(), Some(End::Closed(code))));
        assert!(connection.has_ended());
        let late = receive(&mut connection, Rules::BINARY, &bytes, &[bytes.len()]);
        assert_eq!(late, (Vec::new(), None));
        let answer = Frame::new(CLOSE, &payload[..payload.len().min(2)]);
        assert_eq!(read(&drain(&mut connection)).0, [answer]);
    }
}

#[test]
fn after_our_close_data_is_taken_in_and_a_ping_is_not_answered() {
    let mut connection = WebSocket::default();
    connection.close(CloseCode::GOING_AWAY);
    connection.close(CloseCode::NORMAL);
    let mut bytes = Frame::new(PING, b"?").masked([1; 4]);
    bytes.extend(Frame::new(BINARY, b"data").masked([2; 4]));
    assert_eq!(receive(&mut connection, Rules::BINARY, &bytes, &[3]), (b"data".to_vec(), None));
    assert!(connection.outgoing(Message::Binary, b"more").payload_bytes() == 0, "nothing follows a Close");
    assert_eq!(read(&drain(&mut connection)).0, [Frame::new(CLOSE, &1001_u16.to_be_bytes())]);
    assert!(connection.outgoing(Message::Binary, b"more").is_empty());
    let end = receive(&mut connection, Rules::BINARY, &Frame::new(CLOSE, &[3, 233]).masked([7; 4]), &[2]);
    assert_eq!(end.1, Some(End::Closed(Some(CloseCode::GOING_AWAY))));
    assert_eq!((drain(&mut connection).len(), connection.heap_bytes()), (0, 0));
}
