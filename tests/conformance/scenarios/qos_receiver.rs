//! The broker as the receiver of QoS 1 and 2: its answers, and which PUBLISH is a new message.

use std::time::Duration;

use crate::harness::packet::{PUBREL, Properties, Publish, acknowledgement, property};
use crate::harness::peer::Peer;
use crate::harness::received::Received;
use crate::target::Target;

/// Identifiers at the limits and in between, unordered.
const IDENTIFIERS: [u16; 5] = [65_535, 1, 256, 255, 40_000];

/// A client subscribed to `topic`.
fn witness(on: &Target, topic: &str) -> Peer {
    let mut witness = on.client("w");
    witness.subscribe(topic, 2);
    witness
}

fn send(on: &Target, peer: &mut Peer, topic: &str, qos: u8, id: u16, dup: bool, text: &str) {
    let mut publish = Publish::new(topic, qos, text.as_bytes()).with_packet_id(id);
    publish.dup = dup;
    peer.send(&publish.encode(on.version));
}

fn next_pubrec(peer: &mut Peer, id: u16) {
    match peer.next() {
        Received::PubRec { packet_id, reason, .. } => {
            assert_eq!(packet_id, id);
            assert!(reason < 0x80, "PUBREC has reason {reason:#04x}");
        }
        other => panic!("PUBLISH {id} was answered with {other:?}"),
    }
}

fn release(peer: &mut Peer, id: u16) {
    peer.send(&acknowledgement(PUBREL, id));
    match peer.next() {
        Received::PubComp { packet_id, reason, .. } => assert_eq!((packet_id, reason), (id, 0)),
        other => panic!("PUBREL {id} was answered with {other:?}"),
    }
}

pub(crate) fn qos_1_is_answered_with_its_identifier(on: &Target) {
    let topic = on.name("/t");
    let mut witness = witness(on, &topic);
    let mut peer = on.client("a");
    for id in IDENTIFIERS {
        send(on, &mut peer, &topic, 1, id, false, &id.to_string());
        match peer.next() {
            Received::PubAck { packet_id, reason, .. } => {
                assert_eq!(packet_id, id);
                assert!(reason < 0x80, "PUBACK has reason {reason:#04x}");
            }
            other => panic!("PUBLISH {id} was answered with {other:?}"),
        }
        assert_eq!(witness.next_message().text(), id.to_string(), "the broker has taken ownership");
    }
}

pub(crate) fn after_puback_the_identifier_is_of_a_new_message(on: &Target) {
    let topic = on.name("/t");
    let mut witness = witness(on, &topic);
    let mut peer = on.persistent("a");
    for (number, dup) in [false, true, true, false].into_iter().enumerate() {
        send(on, &mut peer, &topic, 1, 5, dup, &format!("{number}"));
        peer.complete(1, 5);
        assert_eq!(witness.next_message().text(), format!("{number}"), "DUP is {dup}");
    }
    peer.vanish();
    let mut peer = on.persistent("a");
    send(on, &mut peer, &topic, 1, 5, true, "again");
    peer.complete(1, 5);
    assert_eq!(witness.next_message().text(), "again", "on a later connection");
}

pub(crate) fn qos_2_is_answered_with_its_identifier(on: &Target) {
    let topic = on.name("/t");
    let mut witness = witness(on, &topic);
    let mut peer = on.client("a");
    for id in IDENTIFIERS {
        send(on, &mut peer, &topic, 2, id, false, &id.to_string());
        next_pubrec(&mut peer, id);
    }
    for id in IDENTIFIERS {
        release(&mut peer, id);
        assert_eq!(witness.next_message().text(), id.to_string(), "the broker has taken ownership");
    }
}

pub(crate) fn pubrel_is_answered_with_its_identifier(on: &Target) {
    let topic = on.name("/t");
    let mut peer = on.client("a");
    for id in IDENTIFIERS {
        send(on, &mut peer, &topic, 2, id, false, "x");
        next_pubrec(&mut peer, id);
    }
    // In another order than they arrived.
    for id in IDENTIFIERS.into_iter().rev() {
        release(&mut peer, id);
    }
    // The sender may have missed PUBCOMP, so a second PUBREL is answered again.
    peer.send(&acknowledgement(PUBREL, IDENTIFIERS[0]));
    peer.await_pubcomp(IDENTIFIERS[0]);
}

pub(crate) fn until_pubrel_a_repetition_is_acknowledged_and_not_delivered(on: &Target) {
    let topic = on.name("/t");
    let mut witness = witness(on, &topic);
    let mut peer = on.persistent("a");
    send(on, &mut peer, &topic, 2, 9, false, "once");
    next_pubrec(&mut peer, 9);
    for _ in 0..2 {
        send(on, &mut peer, &topic, 2, 9, true, "once");
        next_pubrec(&mut peer, 9);
    }
    peer.vanish();
    let mut peer = on.persistent("a");
    send(on, &mut peer, &topic, 2, 9, true, "once");
    next_pubrec(&mut peer, 9);
    release(&mut peer, 9);
    send(on, &mut peer, &topic, 1, 10, false, "end");
    peer.complete(1, 10);
    for text in ["once", "end"] {
        assert_eq!(witness.next_message().text(), text);
    }
}

pub(crate) fn after_pubcomp_the_identifier_is_of_a_new_message(on: &Target) {
    let topic = on.name("/t");
    let mut witness = witness(on, &topic);
    let mut peer = on.persistent("a");
    for (number, dup) in [false, false, true].into_iter().enumerate() {
        send(on, &mut peer, &topic, 2, 9, dup, &format!("{number}"));
        next_pubrec(&mut peer, 9);
        release(&mut peer, 9);
        assert_eq!(witness.next_message().text(), format!("{number}"), "DUP is {dup}");
    }
    peer.vanish();
    let mut peer = on.persistent("a");
    send(on, &mut peer, &topic, 2, 9, false, "later");
    next_pubrec(&mut peer, 9);
    release(&mut peer, 9);
    assert_eq!(witness.next_message().text(), "later", "on a later connection");
}

/// Needs a limit of four levels; a topic of five is refused.
pub(crate) fn after_a_negative_pubrec_the_identifier_is_of_a_new_message(on: &Target) {
    let (topic, deep) = (on.name("/t"), on.name("/2/3/4/5"));
    let mut witness = witness(on, &topic);
    let mut peer = on.client("a");
    for dup in [false, true] {
        for _ in 0..2 {
            send(on, &mut peer, &deep, 2, 9, false, "refused");
            assert!(peer.await_pubrec(9) >= 0x80, "five levels exceed the limit");
        }
        send(on, &mut peer, &topic, 2, 9, dup, "taken");
        next_pubrec(&mut peer, 9);
        release(&mut peer, 9);
        assert_eq!(witness.next_message().text(), "taken", "DUP is {dup}");
    }
}

pub(crate) fn the_sequence_goes_on_after_expiry(on: &Target) {
    let topic = on.name("/t");
    let mut away = on.persistent("away");
    away.subscribe(&topic, 2);
    away.disconnect();
    let expiring = Properties::new().four(property::MESSAGE_EXPIRY_INTERVAL, 1);
    let publish = Publish::new(&topic, 2, b"x").with(expiring);
    let mut peer = on.persistent("a");
    for id in [9, 10] {
        peer.send(&publish.clone().with_packet_id(id).encode(on.version));
        next_pubrec(&mut peer, id);
    }
    // The statement is about expiry.
    std::thread::sleep(Duration::from_millis(2_200));
    release(&mut peer, 9);
    peer.vanish();
    let mut peer = on.persistent("a");
    let mut publish = publish.with_packet_id(10);
    publish.dup = true;
    peer.send(&publish.encode(on.version));
    next_pubrec(&mut peer, 10);
    release(&mut peer, 10);
}
