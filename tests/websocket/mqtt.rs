//! MQTT in frames: section 6 of both standards, control frames between packets, and the end of a connection.

use std::thread;
use std::time::Duration;

use crate::harness::broker::{Broker, Io};
use crate::harness::packet::{Connect, PINGREQ, Properties, Publish, Version, subscribe};
use crate::harness::peer::Peer;
use crate::harness::received::Received;
use crate::harness::websocket::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, WebSocket, frame, tunnel};

/// The first listener has WebSocket, the second plain TCP.
const LISTENERS: &str = "[[listener]]\nname = \"pages\"\nbind = [\"127.0.0.1\"]\nport = 0\nwebsocket = {}\n\
                         [[listener]]\nname = \"plain\"\nbind = [\"127.0.0.1\"]\nport = 0\n";

fn broker(io: Io) -> Broker {
    Broker::listen(io, LISTENERS, &["--shards", "1"])
}

fn connected(broker: &Broker, client: &str) -> WebSocket {
    let mut socket = WebSocket::open(broker.address());
    socket.send_frame(BINARY, &Connect::new(Version::V3_1_1, client).encode());
    assert_eq!(socket.payload(4), [0x20, 2, 0, 0]);
    socket
}

pub(crate) fn mqtt_6_0_0_1_packets_are_in_binary_frames_and_text_closes(io: Io) {
    let broker = broker(io);
    // `payload` accepts binary frames alone.
    let mut socket = connected(&broker, "texter");
    socket.send_frame(TEXT, &PINGREQ);
    assert_eq!(socket.next(), Some((CLOSE, 1003_u16.to_be_bytes().to_vec())));
    assert_eq!(socket.next(), None);
}

pub(crate) fn mqtt_6_0_0_2_packets_and_frames_need_not_align(io: Io) {
    let broker = broker(io);
    let mut socket = WebSocket::open(broker.address());
    // CONNECT with a frame for each byte, then three packets in one frame, then one in the fragments of a message.
    for byte in Connect::new(Version::V3_1_1, "odd").encode() {
        socket.send_frame(BINARY, &[byte]);
    }
    assert_eq!(socket.payload(4), [0x20, 2, 0, 0]);
    socket.send_frame(BINARY, &PINGREQ.repeat(3));
    assert_eq!(socket.payload(6), [0xd0, 0].repeat(3));
    socket.send(&frame(BINARY, false, &PINGREQ[..1]));
    socket.send(&frame(CONTINUATION, false, b""));
    socket.send(&frame(CONTINUATION, true, &PINGREQ[1..]));
    assert_eq!(socket.payload(2), [0xd0, 0]);
    // All of the library of packets, whatever the frames: a large message there and back.
    let address = tunnel(broker.address());
    let mut peer = Peer::connect(address, &Connect::new(Version::V5, "large"));
    peer.subscribe("large", 1);
    let payload: Vec<u8> =
        (0..300_000_u32).map(|place| place.to_le_bytes()[0] ^ place.to_le_bytes()[1]).collect();
    peer.publish(&Publish::new("large", 1, &payload));
    assert!(peer.next_message().payload == payload);
}

pub(crate) fn a_ping_is_answered_and_a_close_with_its_code(io: Io) {
    let mut broker = broker(io);
    let mut socket = connected(&broker, "closer");
    socket.send_frame(PING, b"there?");
    assert_eq!(socket.next(), Some((PONG, b"there?".to_vec())));
    // A part of a packet, and a ping within its message.
    socket.send(&frame(BINARY, false, &PINGREQ[..1]));
    socket.send_frame(PING, b"");
    assert_eq!(socket.next(), Some((PONG, Vec::new())));
    socket.send(&frame(CONTINUATION, true, &PINGREQ[1..]));
    assert_eq!(socket.payload(2), [0xd0, 0]);
    let mark = broker.process().mark();
    socket.send_frame(CLOSE, &[3, 233, b'b', b'y', b'e']);
    assert_eq!(socket.next(), Some((CLOSE, vec![3, 233])));
    assert_eq!(socket.next(), None);
    // It left without DISCONNECT.
    let line = broker.process().wait_for(mark, "the end", |line| line.contains("client closed"));
    assert!(line.contains("reason=peer_closed"), "{line}");
}

pub(crate) fn a_violation_closes_with_its_code_after_what_came_before_it(io: Io) {
    let broker = broker(io);
    for (violation, code) in [
        (&[0x82, 1, 0xc0][..], 1002_u16),
        (&[0xc2, 0x80], 1002),
        (&[0x82, 0xff, 0, 0, 0, 0, 0x20, 0, 0, 0], 1009),
    ] {
        let mut watcher = Peer::connect(broker.addresses()[1], &Connect::new(Version::V5, "watcher"));
        watcher.subscribe("seen", 0);
        let mut socket = connected(&broker, "violator");
        let publish = Publish::new("seen", 0, b"before").encode(Version::V3_1_1);
        socket.send(&[&frame(BINARY, true, &publish)[..], violation].concat());
        assert_eq!(socket.next(), Some((CLOSE, code.to_be_bytes().to_vec())));
        assert_eq!(socket.next(), None);
        assert_eq!(watcher.next_message().payload, b"before");
    }
}

pub(crate) fn the_brokers_farewell_is_disconnect_then_close(io: Io) {
    let broker = broker(io);
    let mut socket = WebSocket::open(broker.address());
    socket.send_frame(BINARY, &Connect::new(Version::V5, "twice").encode());
    let (kind, connack) = socket.next().unwrap();
    assert_eq!((kind, connack[0]), (BINARY, 0x20));
    let _newer = Peer::connect(broker.addresses()[1], &Connect::new(Version::V5, "twice"));
    let (kind, disconnect) = socket.next().unwrap();
    // 0x8E: the session is taken over.
    assert_eq!((kind, disconnect[0], disconnect[2]), (BINARY, 0xe0, 0x8e));
    assert_eq!(socket.next(), Some((CLOSE, 1000_u16.to_be_bytes().to_vec())));
    assert_eq!(socket.next(), None);
}

pub(crate) fn a_slow_reader_gets_whole_frames(io: Io) {
    let broker = broker(io);
    let mut reader = connected(&broker, "slow");
    reader.send_frame(BINARY, &subscribe(Version::V3_1_1, 1, &[("flood", 0)], &Properties::new()));
    assert_eq!(reader.payload(5), [0x90, 3, 0, 1, 0]);
    let mut writer = Peer::connect(broker.addresses()[1], &Connect::new(Version::V5, "fast"));
    // More than the buffers of both sockets take, less than the broker holds for a reader.
    let message = Publish::new("flood", 0, &[b'x'; 10_000]).encode(Version::V5);
    for _ in 0..90 {
        writer.send(&message);
    }
    writer.ping();
    thread::sleep(Duration::from_millis(100));
    // Pings of a reader that does not read are answered between frames.
    reader.send_frame(PING, b"still here");
    let one = Publish::new("flood", 0, &[b'x'; 10_000]).encode(Version::V3_1_1);
    let (mut came, mut has_pong) = (Vec::new(), false);
    while came.len() < 90 * one.len() || !has_pong {
        match reader.next() {
            Some((BINARY, payload)) => came.extend(payload),
            Some((PONG, payload)) => has_pong = payload == b"still here",
            other => panic!("{other:?}"),
        }
    }
    assert!(came == one.repeat(90));
}

pub(crate) fn clients_reach_their_sessions_on_every_shard(io: Io) {
    let broker = Broker::listen(io, LISTENERS, &["--shards", "2"]);
    let address = tunnel(broker.address());
    let mut peers: Vec<Peer> = (0..16)
        .map(|number| {
            let mut peer = Peer::connect(address, &Connect::new(Version::V5, &format!("client-{number}")));
            peer.subscribe("everyone", 1);
            peer
        })
        .collect();
    // CONNECT and a packet behind it in one frame: both move to the home of the session.
    let mut sockets: Vec<WebSocket> = (0..16)
        .map(|number| {
            let mut socket = WebSocket::open(broker.address());
            let connect = Connect::new(Version::V3_1_1, &format!("frame-{number}")).encode();
            socket.send_frame(BINARY, &[&connect[..], &PINGREQ].concat());
            socket
        })
        .collect();
    for socket in &mut sockets {
        assert_eq!(socket.payload(6), [0x20, 2, 0, 0, 0xd0, 0]);
    }
    peers[0].publish(&Publish::new("everyone", 1, b"hello"));
    for peer in &mut peers {
        let message = peer.await_packet("message", |packet| matches!(packet, Received::Publish(_)));
        let Received::Publish(message) = message else { unreachable!() };
        assert_eq!(message.payload, b"hello");
    }
}
