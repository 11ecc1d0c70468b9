//! The frames that leave, whatever part of them the transport takes.

use proptest::collection::vec;
use proptest::prelude::*;
use websocket::{CloseCode, Message, Rules, WebSocket};

use crate::client::{BINARY, CLOSE, Frame, PING, PONG, pattern, read};

/// A transport that takes the given numbers of bytes, in turn.
struct Transport {
    takes: Vec<usize>,
    calls: usize,
    bytes: Vec<u8>,
}

impl Transport {
    /// Offers what the connection has for `piece`. Returns how much of the piece was taken.
    fn send(&mut self, connection: &mut WebSocket, piece: &[u8]) -> usize {
        let outgoing = connection.outgoing(Message::Binary, piece);
        let wire = [outgoing.head(), &piece[..outgoing.payload_bytes()]].concat();
        let taken = wire.len().min(self.takes[self.calls % self.takes.len()]);
        self.calls += 1;
        self.bytes.extend_from_slice(&wire[..taken]);
        connection.sent(&outgoing, taken)
    }
}

#[derive(Clone, Debug)]
enum Happening {
    /// So much of the payload is offered at most.
    Offer(usize),
    Ping(Vec<u8>),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let offer = prop_oneof![Just(0_usize), 1_usize..9, 100_usize..200, 65_000_usize..66_000];
    let ping = vec(any::<u8>(), 0..=125);
    vec(prop_oneof![3 => offer.prop_map(Happening::Offer), 1 => ping.prop_map(Happening::Ping)], 0..40)
}

proptest! {
    /// The payload arrives as a whole and in order, in binary frames; control frames stand between them, each answers a ping
    /// that came, in order, and the last ping is answered.
    #[test]
    fn frames_are_whole_however_the_transport_takes_them(
        (length, seed) in (prop_oneof![0_usize..300, 65_000_usize..70_000], any::<u8>()),
        happenings in happenings(),
        takes in vec(prop_oneof![0_usize..12, 100_usize..70_000], 1..6),
    ) {
        let payload = pattern(length, seed);
        prop_assume!(takes.iter().any(|taken| *taken > 0));
        let mut connection = WebSocket::default();
        let mut transport = Transport { takes, calls: 0, bytes: Vec::new() };
        let mut pings = Vec::new();
        let mut left = &payload[..];
        for happening in happenings {
            match happening {
                Happening::Offer(most) => {
                    let piece = &left[..left.len().min(most)];
                    let taken = transport.send(&mut connection, piece);
                    left = &left[taken..];
                }
                Happening::Ping(payload) => {
                    let mut bytes = Frame::new(PING, &payload).masked([5, 6, 7, 8]);
                    let _nothing = connection.receive(Rules::BINARY, &mut bytes);
                    pings.push(payload);
                }
            }
        }
        while !left.is_empty() || connection.is_due() {
            let taken = transport.send(&mut connection, left);
            left = &left[taken..];
        }
        let (frames, rest) = read(&transport.bytes);
        prop_assert!(rest.is_empty());
        let (data, pongs): (Vec<Frame>, Vec<Frame>) = frames.into_iter().partition(|frame| frame.kind == BINARY);
        prop_assert!(data.iter().all(|frame| frame.is_last && !frame.payload.is_empty()));
        prop_assert_eq!(data.into_iter().flat_map(|frame| frame.payload).collect::<Vec<u8>>(), payload);
        prop_assert!(pongs.iter().all(|frame| frame.kind == PONG));
        let answered: Vec<Vec<u8>> = pongs.into_iter().map(|frame| frame.payload).collect();
        prop_assert_eq!(answered.last(), pings.last());
        let mut asked = pings.iter();
        prop_assert!(answered.iter().all(|payload| asked.any(|ping| ping == payload)), "out of order");
        prop_assert_eq!(connection, WebSocket::default());
    }
}

#[test]
fn each_form_of_the_header_is_as_short_as_it_can_be() {
    for (length, header) in [
        (1, &[0x82, 1][..]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (65_535, &[0x82, 126, 255, 255]),
        (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let outgoing = WebSocket::default().outgoing(Message::Binary, &vec![0; length]).clone();
        assert_eq!((outgoing.head(), outgoing.payload_bytes()), (header, length));
    }
    assert!(WebSocket::default().outgoing(Message::Binary, &[]).is_empty());
}

#[test]
fn a_close_follows_the_frame_that_has_begun_and_no_other() {
    let mut connection = WebSocket::default();
    let mut transport = Transport { takes: vec![3], calls: 0, bytes: Vec::new() };
    assert_eq!(transport.send(&mut connection, b"abcd"), 1);
    assert_eq!(connection.announced_bytes(), 3);
    connection.close(CloseCode::NORMAL);
    assert_eq!(transport.send(&mut connection, b"bcdefg"), 3);
    assert_eq!(connection.announced_bytes(), 0);
    while connection.is_due() {
        assert_eq!(transport.send(&mut connection, b"efg"), 0);
    }
    assert_eq!(transport.send(&mut connection, b"efg"), 0);
    let close = Frame::new(CLOSE, &1000_u16.to_be_bytes());
    assert_eq!(read(&transport.bytes), (vec![Frame::new(BINARY, b"abcd"), close], &[][..]));
}

#[test]
fn a_close_replaces_the_pong_that_waits_behind_one_that_is_leaving() {
    let mut connection = WebSocket::default();
    let mut transport = Transport { takes: vec![1], calls: 0, bytes: Vec::new() };
    for payload in [b"1", b"2", b"3"] {
        let _nothing = connection.receive(Rules::BINARY, &mut Frame::new(PING, payload).masked([0; 4]));
        assert_eq!(transport.send(&mut connection, &[]), 0);
    }
    connection.close(CloseCode::NORMAL);
    while connection.is_due() {
        assert_eq!(transport.send(&mut connection, &[]), 0);
    }
    let close = Frame::new(CLOSE, &1000_u16.to_be_bytes());
    assert_eq!(read(&transport.bytes).0, [Frame::new(PONG, b"1"), close]);
}
