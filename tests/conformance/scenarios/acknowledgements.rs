//! PUBACK, PUBREC, PUBREL and PUBCOMP as packets: their reason codes, their size, their flags. Their effect on a delivery
//! is tested in `qos_sender` and `qos_receiver`.

use super::closes;
use crate::harness::packet::{
    Connect, PUBCOMP, PUBREC, PUBREL, Properties, Publish, acknowledgement, acknowledgement_with, property,
};
use crate::harness::peer::Peer;
use crate::harness::received::Received;
use crate::target::Target;

/// The reason codes allowed in PUBACK and PUBREC.
const PUBLISH_REASONS: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
/// The reason codes allowed in PUBREL and PUBCOMP.
const PUBREL_REASONS: [u8; 2] = [0x00, 0x92];
/// Large enough for CONNACK and for every acknowledgement without explanations.
const PACKET_BYTES_MAX: u32 = 96;
/// More levels than some brokers accept; the others answer with success.
const LEVELS: usize = 150;

/// Publishes with and without subscribers, retained messages, and messages that a broker may refuse; returns the reason
/// codes.
fn reasons(on: &Target, qos: u8) -> Vec<u8> {
    let (wanted, deep) = (on.name("/wanted"), on.name(&"/x".repeat(LEVELS)));
    let mut peer = on.client("a");
    peer.subscribe(&wanted, 0);
    let mut publisher = on.client("p");
    let mut reasons = Vec::new();
    for topic in [&wanted, &on.name("/unwanted"), &deep] {
        for payload in [b"".as_slice(), b"x"] {
            reasons.push(publisher.publish(&Publish::new(topic, qos, payload)));
            reasons.push(publisher.publish(&Publish::new(topic, qos, payload).retained()));
        }
        publisher.publish(&Publish::new(topic, qos, b"").retained());
    }
    // The Payload Format Indicator is UTF-8, but the payload is not.
    let wrong = Properties::new().byte(property::PAYLOAD_FORMAT, 1);
    reasons.push(publisher.publish(&Publish::new(&wanted, qos, b"\xFF").with(wrong)));
    reasons
}

pub(crate) fn puback_has_a_reason_of_its_own(on: &Target) {
    let found = reasons(on, 1);
    assert!(found.iter().all(|reason| PUBLISH_REASONS.contains(reason)), "{found:02x?}");
}

pub(crate) fn pubrec_has_a_reason_of_its_own(on: &Target) {
    let found = reasons(on, 2);
    assert!(found.iter().all(|reason| PUBLISH_REASONS.contains(reason)), "{found:02x?}");
}

/// The reason codes of PUBREL: after PUBREC with each success code, after a repeated PUBREC, and for an unknown
/// identifier.
fn released(on: &Target, peer: &mut Peer) -> Vec<u8> {
    let topic = on.name("/t");
    peer.subscribe(&topic, 2);
    let mut publisher = on.client("p");
    let mut reasons = Vec::new();
    for reason in [0x00, 0x10] {
        publisher.publish(&Publish::new(&topic, 2, b"x"));
        let message = peer.next_publish();
        for _ in 0..2 {
            peer.send(&acknowledgement_with(PUBREC, message.packet_id, reason));
            reasons.push(pubrel(peer, message.packet_id));
        }
        peer.send(&acknowledgement(PUBCOMP, message.packet_id));
    }
    peer.send(&acknowledgement(PUBREC, 60_001));
    reasons.push(pubrel(peer, 60_001));
    reasons
}

fn pubrel(peer: &mut Peer, id: u16) -> u8 {
    match peer.await_packet(
        "PUBREL",
        |packet| matches!(packet, Received::PubRel { packet_id, .. } if *packet_id == id),
    ) {
        Received::PubRel { reason, .. } => reason,
        other => unreachable!("{other:?} is not a PUBREL"),
    }
}

pub(crate) fn pubrel_has_a_reason_of_its_own(on: &Target) {
    let found = released(on, &mut on.client("a"));
    assert!(found.iter().all(|reason| PUBREL_REASONS.contains(reason)), "{found:02x?}");
    assert_eq!(found[..4], [0; 4], "a known identifier is released with success");
}

/// The reason codes of PUBCOMP: for a known identifier, for the same again, and for an unknown one.
fn completed(on: &Target, peer: &mut Peer) -> Vec<u8> {
    let topic = on.name("/t");
    peer.send(&Publish::new(&topic, 2, b"x").with_packet_id(7).encode(on.version));
    peer.await_pubrec(7);
    let mut reasons = Vec::new();
    for id in [7, 7, 60_001] {
        peer.send(&acknowledgement(PUBREL, id));
        let completed = peer.await_packet(
            "PUBCOMP",
            |packet| matches!(packet, Received::PubComp { packet_id, .. } if *packet_id == id),
        );
        if let Received::PubComp { reason, .. } = completed {
            reasons.push(reason);
        }
    }
    reasons
}

pub(crate) fn pubcomp_has_a_reason_of_its_own(on: &Target) {
    let found = completed(on, &mut on.client("a"));
    assert!(found.iter().all(|reason| PUBREL_REASONS.contains(reason)), "{found:02x?}");
    assert_eq!(found[0], 0, "a known identifier is completed with success");
}

/// A client with a small Maximum Packet Size that requests explanations.
fn limited_client(on: &Target) -> Peer {
    let name = on.name("short");
    let mut connect = Connect::new(on.version, &name);
    connect.properties =
        Properties::new().four(property::MAXIMUM_PACKET_SIZE, PACKET_BYTES_MAX).byte(0x17, 1);
    on.connect(&connect)
}

fn assert_short(peer: &Peer) {
    let longest = peer.longest_packet_bytes;
    assert!(
        longest <= PACKET_BYTES_MAX as usize,
        "a packet of {longest} bytes, but the maximum is {PACKET_BYTES_MAX}"
    );
}

fn publishes_are_acknowledged_within_the_maximum(on: &Target, qos: u8) {
    let mut peer = limited_client(on);
    for topic in [on.name("/t"), on.name(&"/x".repeat(LEVELS))] {
        peer.publish(&Publish::new(&topic, qos, b"x"));
        peer.publish(
            &Publish::new(&topic, qos, b"\xFF").with(Properties::new().byte(property::PAYLOAD_FORMAT, 1)),
        );
    }
    assert_short(&peer);
}

pub(crate) fn puback_fits_into_the_client_s_maximum(on: &Target) {
    publishes_are_acknowledged_within_the_maximum(on, 1);
}

pub(crate) fn pubrec_fits_into_the_client_s_maximum(on: &Target) {
    publishes_are_acknowledged_within_the_maximum(on, 2);
}

pub(crate) fn pubrel_fits_into_the_client_s_maximum(on: &Target) {
    let mut peer = limited_client(on);
    released(on, &mut peer);
    assert_short(&peer);
}

pub(crate) fn pubcomp_fits_into_the_client_s_maximum(on: &Target) {
    let mut peer = limited_client(on);
    completed(on, &mut peer);
    assert_short(&peer);
}

pub(crate) fn reserved_flags_of_pubrel_close(on: &Target) {
    let topic = on.name("/t");
    for flags in (0..16).filter(|flags| *flags != 2) {
        let mut peer = on.client("a");
        peer.send(&Publish::new(&topic, 2, b"x").with_packet_id(1).encode(on.version));
        peer.await_pubrec(1);
        peer.send_ignoring_errors(&acknowledgement(PUBREL & 0xF0 | flags, 1));
        closes(&mut peer, &[0x81], &format!("PUBREL with flags {flags:#06b}"));
    }
}
