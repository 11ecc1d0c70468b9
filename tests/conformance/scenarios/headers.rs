//! Fields shared by all packets: the flags of the first byte, Packet Identifiers, lengths, properties.

use super::connect_bytes::{ConnectBytes, MALFORMED, MALFORMED_OR_PROTOCOL_ERROR, closes, is_refused};
use crate::harness::packet::{
    PUBACK, PUBREC, PUBREL, Properties, Publish, acknowledgement, property, subscribe, unsubscribe,
};
use crate::harness::peer::Peer;
use crate::harness::received::{Message, Received};
use crate::target::Target;

/// Identifiers that differ in either byte, or in both.
const PACKET_IDS: [u16; 7] = [1, 2, 0x00FF, 0x0100, 0x0101, 0x7FFF, 0xFFFF];

pub(crate) fn wrong_flags_close(on: &Target) {
    for flags in 1..16 {
        let mut bytes = ConnectBytes::of(on).encode();
        bytes[0] ^= flags;
        is_refused(on, &format!("CONNECT {:#04x}", bytes[0]), &bytes, MALFORMED);
    }
    let good = [
        acknowledgement(PUBACK, 1),
        acknowledgement(PUBREC, 1),
        acknowledgement(PUBREL, 1),
        acknowledgement(0x70, 1),
        subscribe(on.version, 1, &[("t", 0)], &Properties::new()),
        unsubscribe(on.version, 1, &["t"]),
        vec![0xC0, 0],
    ];
    for packet in &good {
        for flags in 1..16 {
            let mut bytes = packet.clone();
            bytes[0] ^= flags;
            let what = format!("first byte {:#04x}", bytes[0]);
            closes(on, &mut on.client("a"), &what, &bytes, MALFORMED);
        }
    }
}

/// Each packet type of a server has the flags listed in the standard: decoding checks the whole first byte.
pub(crate) fn flags_are_sent_as_listed(on: &Target) {
    let topic = on.name("/t");
    let mut peer = on.client("a");
    peer.subscribe(&topic, 2);
    for qos in 0..3 {
        peer.publish(&Publish::new(&topic, qos, b"x"));
        assert_eq!(peer.next_message().qos, qos);
    }
    peer.ping();
    peer.unsubscribe(&[&topic]);
}

pub(crate) fn qos_0_has_no_packet_id(on: &Target) {
    let topic = on.name("/t");
    let mut peer = on.client("a");
    peer.subscribe(&topic, 0);
    for (qos, payload) in [(0, &b"sent as it is"[..]), (1, b"lowered"), (2, b"lowered too"), (0, b"")] {
        peer.publish(&Publish::new(&topic, qos, payload));
        let message = peer.next_message();
        assert_eq!((message.qos, &message.payload[..]), (0, payload), "no bytes between topic and payload");
        assert_eq!(message.properties, []);
    }
}

pub(crate) fn packet_id_0_closes(on: &Target) {
    let packets = [
        ("PUBLISH of QoS 1", Publish::new("t", 1, b"x").encode(on.version)),
        ("PUBLISH of QoS 2", Publish::new("t", 2, b"x").encode(on.version)),
        ("SUBSCRIBE", subscribe(on.version, 0, &[("t", 0)], &Properties::new())),
        ("UNSUBSCRIBE", unsubscribe(on.version, 0, &["t"])),
    ];
    for (what, bytes) in packets {
        closes(on, &mut on.client("a"), what, &bytes, MALFORMED_OR_PROTOCOL_ERROR);
    }
}

/// A Packet Identifier is not reused until its message is completely acknowledged.
pub(crate) fn packet_ids_are_unused(on: &Target) {
    let topic = on.name("/t");
    let (mut peer, mut publisher) = (on.client("a"), on.client("p"));
    peer.subscribe(&topic, 2);
    let mut in_flight: Vec<Message> = Vec::new();
    for number in 0..12_u8 {
        publisher.publish(&Publish::new(&topic, 1 + number % 2, &[number]));
        let message = peer.next_publish();
        assert_eq!(message.payload, [number]);
        let is_used = in_flight.iter().any(|other| other.packet_id == message.packet_id);
        assert!(message.packet_id != 0 && !is_used, "{message:?} while {in_flight:?} are in flight");
        in_flight.push(message);
        // Some are completed out of order, so that the neighbours stay in flight.
        if number % 3 == 2 {
            peer.acknowledge(&in_flight.remove(in_flight.len() / 2));
        }
    }
}

/// An unacknowledged message is repeated with its identifier, which is free after its acknowledgement.
pub(crate) fn a_repetition_keeps_its_packet_id(on: &Target) {
    let topic = on.name("/t");
    let mut first = on.persistent("a");
    first.subscribe(&topic, 2);
    let mut publisher = on.client("p");
    let mut sent = Vec::new();
    for (qos, payload) in [(1, b"one"), (2, b"two")] {
        publisher.publish(&Publish::new(&topic, qos, payload));
        sent.push(first.next_publish());
    }
    first.vanish();
    let mut second = on.persistent("a");
    for sent in &sent {
        let again = second.next_message();
        assert_eq!((again.packet_id, again.text()), (sent.packet_id, sent.text()));
        assert!(again.dup, "it is a repetition");
    }
    publisher.publish(&Publish::new(&topic, 1, b"new"));
    assert_eq!(second.next_message().text(), "new");
}

pub(crate) fn puback_names_its_publish(on: &Target) {
    let mut peer = on.client("a");
    for id in PACKET_IDS {
        peer.send(&Publish::new(&on.name("/t"), 1, b"x").with_packet_id(id).encode(on.version));
        let answer = peer.next();
        assert!(matches!(answer, Received::PubAck { packet_id, .. } if packet_id == id), "{id}: {answer:?}");
    }
}

pub(crate) fn pubrec_and_pubcomp_name_their_publish(on: &Target) {
    let mut peer = on.client("a");
    for id in PACKET_IDS {
        peer.send(&Publish::new(&on.name("/t"), 2, b"x").with_packet_id(id).encode(on.version));
        let answer = peer.next();
        assert!(matches!(answer, Received::PubRec { packet_id, .. } if packet_id == id), "{id}: {answer:?}");
    }
    for id in PACKET_IDS.into_iter().rev() {
        peer.send(&acknowledgement(PUBREL, id));
        let answer = peer.next();
        assert!(matches!(answer, Received::PubComp { packet_id, .. } if packet_id == id), "{id}: {answer:?}");
    }
}

pub(crate) fn pubrel_names_its_publish(on: &Target) {
    let topic = on.name("/t");
    let (mut peer, mut publisher) = (on.client("a"), on.client("p"));
    peer.subscribe(&topic, 2);
    let mut ids = Vec::new();
    for _ in 0..3 {
        publisher.publish(&Publish::new(&topic, 2, b"x"));
        ids.push(peer.next_publish().packet_id);
    }
    for id in ids {
        peer.send(&acknowledgement(PUBREC, id));
        let answer = peer.next();
        assert!(matches!(answer, Received::PubRel { packet_id, .. } if packet_id == id), "{id}: {answer:?}");
        peer.send(&acknowledgement(0x70, id));
    }
    peer.ping();
}

pub(crate) fn suback_names_its_subscribe(on: &Target) {
    let mut peer = on.client("a");
    for id in PACKET_IDS {
        peer.send(&subscribe(on.version, id, &[(&on.name("/t"), 1)], &Properties::new()));
        let answer = peer.next();
        assert!(matches!(answer, Received::SubAck { packet_id, .. } if packet_id == id), "{id}: {answer:?}");
    }
}

pub(crate) fn unsuback_names_its_unsubscribe(on: &Target) {
    let mut peer = on.client("a");
    peer.subscribe(&on.name("/t"), 1);
    for id in PACKET_IDS {
        peer.send(&unsubscribe(on.version, id, &[&on.name("/t")]));
        let answer = peer.next();
        assert!(
            matches!(answer, Received::UnsubAck { packet_id, .. } if packet_id == id),
            "{id}: {answer:?}"
        );
    }
}

/// Without the zero length, each of these would be decoded differently or not at all.
pub(crate) fn no_properties_are_a_length_of_zero(on: &Target) {
    let topic = on.name("/t");
    let mut peer = on.client("a");
    assert_eq!(peer.subscribe(&topic, 2), 2);
    for qos in 0..3 {
        peer.publish(&Publish::new(&topic, qos, b"payload"));
        let message = peer.next_message();
        assert_eq!((message.text(), message.properties), ("payload".to_owned(), Vec::new()));
    }
    assert_eq!(peer.unsubscribe(&[&topic]), [0]);
    peer.ping();
    let connect = ConnectBytes::of(on).without_properties().encode();
    is_refused(on, "CONNECT without the length of its properties", &connect, MALFORMED_OR_PROTOCOL_ERROR);
}

/// Lengths of packets, properties and Subscription Identifiers, on both sides of each step in size. Every decoded length
/// is checked to be minimal.
pub(crate) fn lengths_are_minimal(on: &Target) {
    let topic = on.name("/t");
    let mut peer = on.client("a");
    peer.subscribe(&topic, 0);
    for payload_bytes in (80..130).chain([16_300, 16_350, 16_383, 16_384, 16_500]) {
        round_trip(&mut peer, &Publish::new(&topic, 0, &vec![b'x'; payload_bytes]));
    }
    for value_bytes in 115..130 {
        let properties = Properties::new().pair("k", &"v".repeat(value_bytes));
        round_trip(&mut peer, &Publish::new(&topic, 0, b"x").with(properties));
    }
    if peer.number(property::SUBSCRIPTION_IDS_AVAILABLE) == Some(0) {
        return;
    }
    for id in [1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455] {
        peer.subscribe_with(&[(&topic, 0)], &Properties::new().variable(property::SUBSCRIPTION_ID, id));
        peer.publish(&Publish::new(&topic, 0, b"x"));
        assert_eq!(peer.next_message().number(property::SUBSCRIPTION_ID), Some(id));
    }
}

fn round_trip(peer: &mut Peer, publish: &Publish<'_>) {
    peer.publish(publish);
    assert_eq!(peer.next_message().payload, publish.payload);
}
