//! PUBLISH: its flags, its topic, and its acknowledgement.

use super::closes;
use crate::harness::packet::{PUBREL, Properties, Publish, acknowledgement, packet};
use crate::harness::received::Received;
use crate::target::Target;

const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;
const TOPIC_NAME_INVALID: u8 = 0x90;

pub(crate) fn a_repeated_publish_has_dup(on: &Target) {
    for qos in [1, 2] {
        let (topic, name) = (on.name(&format!("/{qos}")), format!("a{qos}"));
        let mut peer = on.persistent(&name);
        peer.subscribe(&topic, qos);
        on.client("p").publish(&Publish::new(&topic, qos, b"again"));
        peer.next_publish();
        peer.vanish();
        for attempt in 2..4 {
            let mut peer = on.persistent(&name);
            let message = peer.next_publish();
            assert_eq!(message.text(), "again");
            assert!(message.dup, "QoS {qos}: attempt {attempt} has no DUP");
            peer.vanish();
        }
    }
}

pub(crate) fn qos_0_never_has_dup(on: &Target) {
    let mut peer = on.client("a");
    let mut publisher = on.client("p");
    for (granted, qos) in [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)] {
        let topic = on.name(&format!("/{granted}{qos}"));
        peer.subscribe(&topic, granted);
        // DUP may be set on the way to the broker; the delivery is QoS 0.
        for dup in [false, qos != 0] {
            let mut publish = Publish::new(&topic, qos, b"x").retained();
            publish.dup = dup;
            publisher.publish(&publish);
            let message = peer.next_message();
            assert_eq!((message.qos, message.dup), (0, false), "QoS {qos} to {granted}");
        }
        let mut newcomer = on.client("n");
        newcomer.subscribe(&topic, 0);
        let message = newcomer.next_message();
        assert_eq!((message.qos, message.dup), (0, false), "retained QoS {qos} to {granted}");
        newcomer.disconnect();
    }
}

pub(crate) fn qos_0_with_dup_closes(on: &Target) {
    for first_byte in [0x38, 0x39] {
        let mut bytes = Publish::new(&on.name("/t"), 0, b"x").encode(on.version);
        bytes[0] = first_byte;
        let mut peer = on.client("a");
        peer.send_ignoring_errors(&bytes);
        closes(&mut peer, &[MALFORMED, PROTOCOL_ERROR], &format!("first byte {first_byte:#04x}"));
    }
}

pub(crate) fn dup_is_not_forwarded(on: &Target) {
    let topic = on.name("/t");
    let mut peer = on.client("a");
    peer.subscribe(&topic, 2);
    let mut publisher = on.client("p");
    for qos in [1, 2] {
        for dup in [true, false, true] {
            let mut publish = Publish::new(&topic, qos, b"x");
            publish.dup = dup;
            publisher.publish(&publish);
            let message = peer.next_message();
            assert_eq!((message.qos, message.dup), (qos, false), "it came with DUP {dup}");
        }
    }
}

pub(crate) fn both_qos_bits_close(on: &Target) {
    let topic = on.name("/t");
    let mut witness = on.client("w");
    witness.subscribe(&topic, 2);
    for first_byte in [0x36, 0x37, 0x3E, 0x3F] {
        let mut bytes = Publish::new(&topic, 2, b"refused").with_packet_id(1).encode(on.version);
        bytes[0] = first_byte;
        let mut peer = on.client("a");
        peer.send_ignoring_errors(&bytes);
        closes(&mut peer, &[MALFORMED], &format!("first byte {first_byte:#04x}"));
    }
    on.client("p").publish(&Publish::new(&topic, 1, b"taken"));
    assert_eq!(witness.next_message().text(), "taken", "a malformed PUBLISH was delivered");
}

/// One topic for each length of UTF-8 sequences, and characters that a careless receiver drops.
const TOPICS: [&str; 6] = ["/plain", "/ä/ß", "/€/日本", "/😀", "/a b", "/\u{feff}x"];

pub(crate) fn the_topic_comes_first_and_in_utf_8(on: &Target) {
    for qos in 0..=2 {
        let mut peer = on.client("a");
        peer.subscribe(&on.name("/#"), qos);
        let mut publisher = on.client("p");
        for topic in TOPICS {
            let topic = on.name(topic);
            publisher.publish(&Publish::new(&topic, qos, topic.as_bytes()));
            let message = peer.next_message();
            assert_eq!(message.topic, topic);
            assert_eq!(message.text(), topic, "the payload is unaltered");
        }
    }
}

pub(crate) fn a_topic_that_is_no_utf_8_closes(on: &Target) {
    let table: [(&str, &[u8]); 9] = [
        ("a lone continuation", b"\x00\x03a\x80b"),
        ("a sequence cut short", b"\x00\x02a\xC3"),
        ("longer than needed", b"\x00\x03a\xC0\xAF"),
        ("a surrogate", b"\x00\x04a\xED\xA0\x80"),
        ("above U+10FFFF", b"\x00\x05a\xF4\x90\x80\x80"),
        ("no byte of UTF-8", b"\x00\x02a\xFF"),
        ("the null character", b"\x00\x03a\x00b"),
        ("a length past the end", b"\x00\x10abc"),
        ("half a length", b"\x00"),
    ];
    for (what, head) in table {
        let mut peer = on.client("a");
        peer.send_ignoring_errors(&packet(0x30, &topic_then_no_properties(on, head)));
        closes(&mut peer, &[MALFORMED], what);
    }
}

fn topic_then_no_properties(on: &Target, topic: &[u8]) -> Vec<u8> {
    let mut body = topic.to_vec();
    let is_whole = topic.get(1).is_some_and(|length| usize::from(*length) == topic.len() - 2);
    if on.version.is_v5() && is_whole {
        body.push(0);
    }
    body
}

pub(crate) fn a_wildcard_in_the_topic_closes(on: &Target) {
    for topic in ["/#", "/+", "/a/+/b", "/a+", "/a#b", "/+a"] {
        for qos in 0..=2 {
            let topic = on.name(topic);
            let mut peer = on.client("a");
            let publish = Publish::new(&topic, qos, b"x").with_packet_id(1);
            peer.send_ignoring_errors(&publish.encode(on.version));
            closes(&mut peer, &[MALFORMED, PROTOCOL_ERROR, TOPIC_NAME_INVALID], &topic);
        }
    }
}

pub(crate) fn delivered_topics_match_the_filter(on: &Target) {
    let topics = ["/a", "/a/b", "/a/b/c", "/b", "/b/b", "/", "//b"];
    let table: [(&str, &[&str]); 8] = [
        ("/a", &["/a"]),
        ("/+", &["/a", "/b", "/"]),
        ("/+/b", &["/a/b", "/b/b", "//b"]),
        ("/a/#", &["/a", "/a/b", "/a/b/c"]),
        ("/a/+/c", &["/a/b/c"]),
        ("/#", &topics),
        ("//+", &["//b"]),
        ("/A", &[]),
    ];
    let end = on.name("end");
    let mut publisher = on.client("p");
    for (filter, expected) in table {
        let mut peer = on.client("a");
        peer.subscribe_with(&[(&on.name(filter), 1), (&end, 1)], &Properties::new());
        for topic in topics {
            publisher.publish(&Publish::new(&on.name(topic), 1, topic.as_bytes()));
        }
        publisher.publish(&Publish::new(&end, 1, b"end"));
        for topic in expected.iter().map(|topic| on.name(topic)).chain([end.clone()]) {
            assert_eq!(peer.next_message().topic, topic, "{filter}");
        }
    }
}

pub(crate) fn the_answer_is_that_of_the_qos(on: &Target) {
    let topic = on.name("/t");
    let mut peer = on.client("p");
    for (id, retain) in [(1, false), (65_535, true)] {
        for qos in 0..=2 {
            let mut publish = Publish::new(&topic, qos, b"x").with_packet_id(id);
            publish.retain = retain;
            peer.send(&publish.encode(on.version));
            match qos {
                0 => {
                    peer.ping();
                    assert!(peer.waiting().is_empty(), "QoS 0 was answered with {:?}", peer.waiting());
                }
                1 => match peer.next() {
                    Received::PubAck { packet_id, .. } => assert_eq!(packet_id, id),
                    other => panic!("QoS 1 was answered with {other:?}"),
                },
                _ => {
                    match peer.next() {
                        Received::PubRec { packet_id, .. } => assert_eq!(packet_id, id),
                        other => panic!("QoS 2 was answered with {other:?}"),
                    }
                    peer.send(&acknowledgement(PUBREL, id));
                    peer.await_pubcomp(id);
                }
            }
        }
    }
    peer.publish(&Publish::new(&topic, 1, b"").retained());
}

/// Needs a limit of four levels; a topic of five is refused.
pub(crate) fn a_refused_publish_is_acknowledged_or_closes(on: &Target) {
    let topic = on.name("/2/3/4/5");
    for qos in [1, 2] {
        let mut peer = on.client("p");
        peer.send(&Publish::new(&topic, qos, b"x").with_packet_id(1).encode(on.version));
        match peer.next_or_close() {
            None => {}
            Some(Received::PubAck { packet_id, .. }) => assert_eq!((qos, packet_id), (1, 1)),
            Some(Received::PubRec { packet_id, .. }) => assert_eq!((qos, packet_id), (2, 1)),
            Some(other) => panic!("QoS {qos} was answered with {other:?}"),
        }
    }
}
