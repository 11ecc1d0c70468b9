//! PINGREQ and DISCONNECT: answers, the end of a connection, and which will is published after it.

use super::refusal::{broken_packets, connect_with_will_to};
use crate::harness::packet::{Connect, PINGREQ, Properties, Publish, packet, property};
use crate::harness::peer::Peer;
use crate::harness::received::Received;
use crate::target::Target;

/// Sent after another violation, for brokers that ignore that one.
const RESERVED_TYPE: [u8; 2] = [0x00, 0x00];

pub(crate) fn every_pingreq_is_answered(on: &Target) {
    let mut peer = on.client("a");
    for count in [1, 2, 50] {
        peer.send(&PINGREQ.repeat(count));
        for number in 0..count {
            assert_eq!(peer.next(), Received::PingResp, "answer {number} of {count}");
        }
    }
    // One answer each: the next packet answers something else.
    peer.subscribe(&on.name("/t"), 0);
    assert!(peer.waiting().is_empty(), "surplus answers: {:?}", peer.waiting());
}

pub(crate) fn no_disconnect_before_connack(on: &Target) {
    let mut connect = Connect::new(on.version, "refused");
    connect.properties = Properties::new().text(0x15, "no-such-method");
    let mut level = Connect::new(on.version, "refused").encode();
    level[8] = 6;
    let early = [
        ("PINGREQ first", PINGREQ.to_vec()),
        ("AUTH first", packet(0xF0, &[0x18, 4, 0x15, 0, 1, b'm'])),
        ("PUBLISH first", Publish::new("t", 0, b"p").encode(on.version)),
        ("DISCONNECT first", vec![0xE0, 0x00]),
        ("a refused CONNECT", connect.encode()),
        ("another protocol level", level),
        ("a will to a topic with wildcards", connect_with_will_to(on.version, "refused", b"t/#")),
        ("a CONNECT that ends early", packet(0x10, &[0, 4, b'M', b'Q'])),
    ];
    for (what, bytes) in early {
        let mut peer = on.open();
        peer.send_ignoring_errors(&bytes);
        while let Some(received) = peer.next_or_close() {
            assert!(
                matches!(received, Received::ConnAck { reason: 1.., .. }),
                "{what}: no successful CONNACK, but then {received:?}"
            );
        }
    }
    // An accepted client receives its CONNACK first.
    on.client("a").disconnect();
}

/// A client subscribed to `topic`.
fn watcher(on: &Target, topic: &str) -> Peer {
    let mut watcher = on.client("w");
    watcher.subscribe(topic, 1);
    watcher
}

pub(crate) fn a_disconnect_with_reserved_bits_is_malformed(on: &Target) {
    let (name, topic) = (on.name("a"), on.name("/will"));
    let mut watcher = watcher(on, &topic);
    for flags in 1..16 {
        let text = format!("will {flags}");
        let connect = Connect::new(on.version, &name).with_will(&topic, text.as_bytes(), Properties::new());
        let mut peer = on.connect(&connect);
        peer.send(&[0xE0 | flags, 0x00]);
        let reason = peer.await_close();
        assert!(
            matches!(reason, None | Some(0x81)),
            "flags {flags:#x}: DISCONNECT has reason code {reason:02x?}"
        );
        // A valid DISCONNECT would have deleted the will.
        assert_eq!(watcher.next_message().text(), text);
    }
}

/// Connections on which the broker is expected to send DISCONNECT: one for each invalid packet, and one after a
/// take-over. The first of each pair describes the cause.
fn disconnections(on: &Target, properties: &Properties) -> Vec<(&'static str, Peer)> {
    let connect = |name: &str| {
        let mut connect = Connect::new(on.version, name);
        connect.properties = properties.clone();
        on.connect(&connect)
    };
    let mut peers = Vec::new();
    for (number, broken) in broken_packets(on.version).into_iter().enumerate() {
        let mut peer = connect(&on.name(&format!("{number}")));
        peer.send_ignoring_errors(&[broken.bytes, RESERVED_TYPE.into()].concat());
        peers.push((broken.what, peer));
    }
    let name = on.name("t");
    let old = connect(&name);
    connect(&name).disconnect();
    peers.push(("a take-over", old));
    peers
}

pub(crate) fn the_reason_is_one_of_disconnect(on: &Target) {
    // Reason codes allowed for a server; 0x04 is for clients.
    let known = [
        0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97,
        0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    ];
    for (what, mut peer) in disconnections(on, &Properties::new()) {
        if let Some(reason) = peer.await_close() {
            assert!(known.contains(&reason), "{what}: {reason:#04x} is not allowed in a server's DISCONNECT");
        }
    }
}

pub(crate) fn a_server_sends_no_session_expiry_interval(on: &Target) {
    for asked in [0, 3600] {
        let properties = Properties::new().four(property::SESSION_EXPIRY_INTERVAL, asked);
        for (what, mut peer) in disconnections(on, &properties) {
            let (_, sent) = peer.await_disconnect().unwrap_or_default();
            assert!(!sent.iter().any(|(id, _)| *id == property::SESSION_EXPIRY_INTERVAL), "{what}: {sent:?}");
        }
    }
}

pub(crate) fn disconnect_keeps_to_the_maximum_packet_size(on: &Target) {
    // CONNACK must fit as well, and is longer than a DISCONNECT without explanations.
    let bytes_max = on.client("m").last_packet_bytes + 5;
    let limit = u32::try_from(bytes_max).expect("a CONNACK is short");
    for (what, mut peer) in disconnections(on, &Properties::new().four(property::MAXIMUM_PACKET_SIZE, limit))
    {
        peer.await_close();
        let bytes = peer.last_packet_bytes;
        assert!(bytes <= bytes_max, "{what}: {bytes} bytes, but the maximum is {bytes_max}");
    }
}

pub(crate) fn nothing_follows_disconnect(on: &Target) {
    let topic = on.name("/t");
    let mut publisher = on.client("p");
    for (number, broken) in broken_packets(on.version).into_iter().enumerate() {
        let mut peer = on.client(&format!("{number}"));
        peer.subscribe(&topic, 0);
        // Answers to later requests and messages of others come before DISCONNECT or never.
        peer.send_ignoring_errors(&[&broken.bytes[..], &RESERVED_TYPE, &PINGREQ].concat());
        for _ in 0..3 {
            publisher.publish(&Publish::new(&topic, 1, b"m"));
        }
        peer.await_close();
    }
    let mut old = on.client("t");
    old.subscribe(&topic, 0);
    for _ in 0..3 {
        publisher.publish(&Publish::new(&topic, 1, b"m"));
    }
    let new = on.client("t");
    publisher.publish(&Publish::new(&topic, 1, b"m"));
    old.await_close();
    new.disconnect();
}

pub(crate) fn the_connection_ends_with_disconnect(on: &Target) {
    for (_, mut peer) in disconnections(on, &Properties::new()) {
        peer.await_close();
    }
    // A DISCONNECT of the client ends the connection too, whatever its reason code.
    for reason in [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99] {
        on.client("a").disconnect_with(reason, &Properties::new());
    }
}

pub(crate) fn a_normal_disconnect_discards_the_will(on: &Target) {
    let (name, topic) = (on.name("a"), on.name("/will"));
    let mut watcher = watcher(on, &topic);
    let forms: &[&[u8]] = if on.version.is_v5() {
        &[&[0xE0, 0], &[0xE0, 1, 0], &[0xE0, 2, 0, 0], &[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0]]
    } else {
        &[&[0xE0, 0]]
    };
    for form in forms {
        for delay_s in 0..2 {
            let properties = if on.version.is_v5() {
                Properties::new().four(property::WILL_DELAY_INTERVAL, delay_s)
            } else {
                Properties::new()
            };
            let connect = Connect::new(on.version, &name).with_will(&topic, b"will", properties);
            let mut peer = on.connect(&connect);
            peer.send(form);
            peer.await_close();
            // Sent the same way that the will would have been.
            on.client("a").publish(&Publish::new(&topic, 1, b"end"));
            assert_eq!(watcher.next_message().text(), "end", "after {form:02x?}");
        }
    }
}
