//! The WebSocket codec with arbitrary bytes in arbitrary pieces, towards a transport that takes arbitrary parts. It never panics, a
//! stream means the same wherever it is cut, and the frames that leave are whole and carry the payload in order.

use websocket::{End, Message, Rules, WebSocket};

use crate::choices::Choices;

const FRAME_BYTES_MAX: [u32; 3] = [100, 70_000, 1 << 28];

/// The first bytes choose the rules, the pieces and what the transport takes; the rest is the stream.
///
/// # Panics
/// If the codec violates a guarantee.
pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    let rules = Rules { frame_bytes_max: choices.pick(&FRAME_BYTES_MAX), text: choices.one_in(4) };
    let pieces = [choices.byte(), choices.byte(), choices.byte()].map(|byte| usize::from(byte) + 1);
    let takes = [choices.byte(), choices.byte(), choices.byte()].map(usize::from);
    let stream = choices.bytes(usize::MAX);

    let whole = receive(stream, &[stream.len().max(1)], rules);
    assert_eq!(receive(stream, &pieces, rules), whole, "cut into pieces of {pieces:?}");
    assert_eq!(receive(stream, &[1], rules), whole, "cut into bytes");
    check_sending(stream, &pieces, takes, rules);
}

/// The payload of a stream and its end.
fn receive(stream: &[u8], pieces: &[usize], rules: Rules) -> (Vec<u8>, Option<End>, WebSocket) {
    let mut connection = WebSocket::default();
    let mut payload = Vec::new();
    let mut rest = stream;
    let mut end = None;
    for length in pieces.iter().cycle() {
        let (piece, next) = rest.split_at(rest.len().min(*length));
        rest = next;
        let mut buffer = piece.to_vec();
        let received = connection.receive(rules, &mut buffer);
        payload.extend_from_slice(&buffer[received.payload]);
        assert!(connection.heap_bytes() <= 512, "no more is held for a peer than one control frame each way");
        assert!(end.is_none() || received.end.is_none(), "an end is told once");
        end = end.or(received.end);
        assert_eq!(end.is_some(), connection.has_ended());
        if rest.is_empty() {
            break;
        }
    }
    assert!(payload.len() <= stream.len());
    (payload, end, connection)
}

/// The stream is received, and its own bytes are the payload that is sent meanwhile, to a transport that takes parts.
fn check_sending(stream: &[u8], pieces: &[usize], takes: [usize; 3], rules: Rules) {
    let mut connection = WebSocket::default();
    let mut wire = Vec::new();
    let mut left = stream;
    let mut send = |connection: &mut WebSocket, piece: &[u8], most: usize| {
        let outgoing = connection.outgoing(Message::Binary, piece);
        let bytes = [outgoing.head(), &piece[..outgoing.payload_bytes()]].concat();
        let taken = bytes.len().min(most);
        wire.extend_from_slice(&bytes[..taken]);
        connection.sent(&outgoing, taken)
    };
    for (piece, most) in stream.chunks(pieces[0]).zip(takes.iter().cycle()) {
        let _payload = connection.receive(rules, &mut piece.to_vec());
        let offered = &left[..left.len().min(pieces[1])];
        left = &left[send(&mut connection, offered, *most)..];
    }
    // The peer reads on: all that may still leave does.
    loop {
        let before = left.len();
        let was_due = connection.is_due();
        left = &left[send(&mut connection, left, usize::MAX)..];
        if left.len() == before && !was_due {
            break;
        }
    }
    assert!(!connection.is_due());
    let sent = read_frames(&wire);
    assert_eq!(sent, stream[..stream.len() - left.len()]);
    assert!(left.is_empty() || connection.has_ended(), "only a Close keeps payload back");
}

/// The payload of a server's data frames, which must be whole, as must be those between them; nothing follows a Close.
fn read_frames(mut wire: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    while let [first, second, rest @ ..] = wire {
        let (length, rest) = match second {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (
                usize::try_from(u64::from_be_bytes(rest[..8].try_into().expect("eight"))).expect("a length"),
                &rest[8..],
            ),
            length => (usize::from(*length), rest),
        };
        let (body, rest) = rest.split_at(length);
        wire = rest;
        match first {
            0x82 => payload.extend_from_slice(body),
            0x8a => assert!(length <= 125),
            0x88 => {
                assert!(length == 0 || length == 2);
                assert!(wire.is_empty(), "nothing follows a Close");
            }
            other => panic!("a frame of a server that begins with {other:#x}"),
        }
    }
    assert!(wire.is_empty());
    payload
}
