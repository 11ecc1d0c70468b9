//! Connections through a proxy: the client's address in the broker's log, and who is believed.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use crate::harness::broker::{Broker, Io};
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::websocket::{BINARY, WebSocket, request};

fn broker(io: Io, rest: &str, shards: &str) -> Broker {
    let config = format!("[[listener]]\nbind = [\"127.0.0.1\"]\nport = 0\n{rest}\n");
    Broker::listen(io, &config, &["--shards", shards])
}

const REQUIRED: &str = "proxy_protocol = \"require\"\ntrusted_proxies = [\"127.0.0.0/8\"]";

/// A header of version 2 for 192.0.2.7:8080 and our port; `command` is 1, or 0 for a proxy that speaks for itself.
fn binary(command: u8) -> Vec<u8> {
    let start = b"\r\n\r\n\0\r\nQUIT\n";
    let addresses = [192, 0, 2, 7, 127, 0, 0, 1, 0x1f, 0x90, 0x07, 0x5b];
    [&start[..], &[0x20 | command, 0x11, 0, 12], &addresses].concat()
}

/// The same with what the proxy says of the client's certificate: the flags of its TLS, its verification, and its common name.
fn verified(client: u8, verify: u8, name: &str) -> Vec<u8> {
    let value = |kind: u8, value: &[u8]| {
        [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
    };
    let tls = value(0x20, &[&[client, 0, 0, 0, verify][..], &value(0x22, name.as_bytes())].concat());
    let mut header = binary(1);
    let length = u16::try_from(12 + tls.len()).unwrap();
    header[14..16].copy_from_slice(&length.to_be_bytes());
    [header, tls].concat()
}

/// The line of the log that tells of this client.
fn logged(broker: &mut Broker, client: &str) -> String {
    broker
        .process()
        .wait_for(0, "the client", |line| line.contains("client connected") && line.contains(client))
}

fn stream(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub(crate) fn a_trusted_proxy_names_the_client(io: Io) {
    // Two shards: the address goes with a connection that moves.
    let mut broker = broker(io, REQUIRED, "2");
    let text = b"PROXY TCP4 192.0.2.7 127.0.0.1 8080 1883\r\n".to_vec();
    let v6 = b"PROXY TCP6 2001:db8::7 ::1 8080 1883\r\n".to_vec();
    for (number, (header, expected)) in [
        (text, "peer=192.0.2.7:8080"),
        (v6, "peer=[2001:db8::7]:8080"),
        (binary(1), "peer=192.0.2.7:8080"),
        (binary(0), "peer=127.0.0.1:"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "peer=127.0.0.1:"),
    ]
    .into_iter()
    .enumerate()
    {
        for (way, pieces) in [("whole", usize::MAX), ("bytes", 1)] {
            let client = format!("{way}-{number}");
            let mut stream = stream(broker.address());
            let connect = Connect::new(Version::V5, &client).encode();
            // The header in one piece with CONNECT, and byte by byte.
            for piece in [&header[..], &connect].concat().chunks(pieces) {
                stream.write_all(piece).unwrap();
            }
            let mut peer = Peer::over(stream, Version::V5);
            assert_eq!(peer.await_connack(), 0);
            peer.ping();
            let line = logged(&mut broker, &client);
            assert!(line.contains(expected), "{line}");
        }
    }
}

pub(crate) fn without_a_header_the_connection_is_closed(io: Io) {
    let broker = broker(io, REQUIRED, "1");
    let connect = Connect::new(Version::V5, "bare").encode();
    let long = [&binary(1)[..14], &[0xff, 0xff]].concat();
    for bytes in [connect, b"PROXY TCP4 nobody\r\n".to_vec(), long, b"PROXX".to_vec()] {
        let mut peer = Peer::open(broker.address(), Version::V5);
        peer.send(&bytes);
        assert_eq!(peer.next_or_close(), None, "{bytes:?}");
    }
}

pub(crate) fn a_stranger_is_closed_whatever_it_sends(io: Io) {
    let broker = broker(io, "proxy_protocol = \"require\"\ntrusted_proxies = [\"10.0.0.0/8\"]", "1");
    let mut peer = Peer::open(broker.address(), Version::V5);
    peer.send(&binary(1));
    assert_eq!(peer.next_or_close(), None);
}

pub(crate) fn the_forwarded_address_counts_from_trusted_proxies(io: Io) {
    let forwarded = "X-Forwarded-For: 203.0.113.1, 192.0.2.9, 127.0.0.3\r\n";
    for (number, (config, header, expected)) in [
        (
            "trusted_proxies = [\"127.0.0.0/8\"]\nwebsocket = { forwarded_for = true }",
            Vec::new(),
            "peer=192.0.2.9:",
        ),
        (
            "trusted_proxies = [\"10.0.0.0/8\"]\nwebsocket = { forwarded_for = true }",
            Vec::new(),
            "peer=127.0.0.1:",
        ),
        ("websocket = {}", Vec::new(), "peer=127.0.0.1:"),
        // A proxy in front of a proxy: the first speaks PROXY, the second HTTP.
        (
            "proxy_protocol = \"require\"\ntrusted_proxies = [\"127.0.0.0/8\", \"192.0.2.7\"]\n\
             websocket = { forwarded_for = true }",
            binary(1),
            "peer=192.0.2.9:",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut broker = broker(io, config, "2");
        let mut stream = stream(broker.address());
        stream.write_all(&header).unwrap();
        let (mut socket, head) = WebSocket::ask(stream, &request("/mqtt", forwarded));
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let client = format!("forwarded-{number}");
        socket.send_frame(BINARY, &Connect::new(Version::V3_1_1, &client).encode());
        assert_eq!(socket.payload(4), [0x20, 2, 0, 0]);
        let line = logged(&mut broker, &client);
        assert!(line.contains(expected), "{config}: {line}");
    }
}

/// Only of a certificate that was shown and is good, and only where the listener takes it.
/// Each new identifier began with a whole burst, and everything that it had sent was taken when it left.
pub(crate) fn identifiers_of_one_address_share_their_bursts(io: Io) {
    // A message is paid for 1,000 seconds long.
    let broker = broker(io, &format!("{REQUIRED}\npublish_bytes_rate = 1\nburst_s = 1"), "1");
    let connect = |address: &str, client: &str| {
        let mut stream = stream(broker.address());
        let header = format!("PROXY TCP4 {address} 127.0.0.1 8080 1883\r\n");
        stream.write_all(&[header.as_bytes(), &Connect::new(Version::V5, client).encode()].concat()).unwrap();
        let mut peer = Peer::over(stream, Version::V5);
        assert_eq!(peer.await_connack(), 0);
        peer
    };
    let mut watcher = connect("192.0.2.1", "watcher");
    watcher.subscribe("t", 0);
    let long = "first".repeat(200);
    let mut first = connect("192.0.2.7", "first");
    first.publish(&Publish::new("t", 1, long.as_bytes()));
    first.finish();
    assert_eq!(watcher.next_message().text(), long);
    for number in 0..2 {
        let mut invented = connect("192.0.2.7", &format!("invented-{number}"));
        invented.send(&Publish::new("t", 0, b"invented").encode(Version::V5).repeat(20));
        invented.finish();
        let mut other = connect(&format!("192.0.2.{}", 10 + number), &format!("other-{number}"));
        other.publish(&Publish::new("t", 1, b"other"));
        assert_eq!(watcher.next_message().text(), "other");
        other.disconnect();
    }
}

pub(crate) fn a_certificate_that_the_proxy_has_verified_names_the_user(io: Io) {
    let rules = "[rules]\nroles = [\"device\"]\n[role.device]\npublish = [\"devices/%u/#\"]";
    for (header, expected) in [
        (verified(0x07, 0, "pump-7"), Some("pump-7")),
        (verified(0x07, 1, "pump-7"), None),
        (verified(0x01, 0, "pump-7"), None),
        (verified(0x07, 0, ""), None),
        (binary(1), None),
    ] {
        let config = format!("{REQUIRED}\nproxy_identity = true\nanonymous = false\n{rules}");
        let broker = broker(io, &config, "2");
        for number in 0..4 {
            let mut stream = stream(broker.address());
            // Some of these clients live on the other shard.
            let client = format!("client-{number}");
            let connect = Connect::new(Version::V5, &client).with_credentials("eve", b"");
            stream.write_all(&[&header[..], &connect.encode()].concat()).unwrap();
            let mut peer = Peer::over(stream, Version::V5);
            let reason = peer.await_connack();
            assert_eq!(reason, if expected.is_some() { 0 } else { 0x86 }, "{header:?}");
            if let Some(user) = expected {
                // No subscriber matches.
                let topic = format!("devices/{user}/up");
                assert_eq!(peer.publish(&Publish::new(&topic, 1, b"")), 0x10);
                assert_eq!(peer.publish(&Publish::new("devices/eve/up", 1, b"")), 0x87);
            }
        }
        broker.stop();
    }
    // Without it the name counts for nothing.
    let broker = broker(io, &format!("{REQUIRED}\nanonymous = true\n{rules}"), "1");
    let mut stream = stream(broker.address());
    stream.write_all(&verified(0x07, 0, "pump-7")).unwrap();
    stream.write_all(&Connect::new(Version::V5, "client").encode()).unwrap();
    let mut peer = Peer::over(stream, Version::V5);
    assert_eq!(peer.await_connack(), 0);
    assert_eq!(peer.publish(&Publish::new("devices/pump-7/up", 1, b"")), 0x87);
}
