//! The broker as the sender of QoS 0, 1 and 2: assigned identifiers, unacknowledged messages, and repetition.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::packet::{
    PUBACK, PUBCOMP, PUBREC, Properties, Publish, acknowledgement, acknowledgement_with, property,
};
use crate::harness::peer::Peer;
use crate::harness::received::{Message, Received};
use crate::target::Target;

/// Messages in flight in a round. Together with the rest of three rounds they do not exceed any broker's limit.
const COUNT: usize = 10;

fn is_pubrel_of(packet: &Received, id: u16) -> bool {
    matches!(packet, Received::PubRel { packet_id, .. } if *packet_id == id)
}

/// A client with a persistent session, subscribed to `topic`.
fn subscribed(on: &Target, topic: &str, qos: u8) -> Peer {
    let mut peer = on.persistent("a");
    peer.subscribe(topic, qos);
    peer
}

fn publish(on: &Target, topic: &str, qos: u8, texts: &[&str]) {
    let mut publisher = on.client("p");
    for text in texts {
        publisher.publish(&Publish::new(topic, qos, text.as_bytes()));
    }
    publisher.disconnect();
}

/// The connection is lost, and the client reconnects.
fn come_back(on: &Target, peer: Peer) -> Peer {
    peer.vanish();
    on.persistent("a")
}

/// Asserts that nothing is repeated: the next message is a new one.
fn next_is_new(on: &Target, peer: &mut Peer, topic: &str) {
    publish(on, topic, 1, &["new"]);
    match peer.next() {
        Received::Publish(message) => {
            assert_eq!((message.text().as_str(), message.dup), ("new", false));
            peer.acknowledge(&message);
        }
        other => panic!("{other:?} came before the new message"),
    }
}

pub(crate) fn qos_0_goes_out_as_qos_0_without_dup(on: &Target) {
    for (granted, qos) in [(0, 0), (1, 0), (2, 0), (0, 1), (0, 2)] {
        let topic = on.name(&format!("/{granted}{qos}"));
        let mut peer = on.client("a");
        peer.subscribe(&topic, granted);
        publish(on, &topic, qos, &["1", "2"]);
        for text in ["1", "2"] {
            let message = peer.next_publish();
            assert_eq!((message.text().as_str(), message.qos, message.dup), (text, 0, false));
        }
    }
}

fn in_flight_have_identifiers_of_their_own(on: &Target, qos: u8) {
    let topic = on.name("/t");
    let mut peer = on.client("a");
    peer.subscribe(&topic, qos);
    let mut open: Vec<Message> = Vec::new();
    for _ in 0..4 {
        publish(on, &topic, qos, &["x"; COUNT]);
        open.extend((0..COUNT).map(|_| peer.next_publish()));
        let identifiers: BTreeSet<u16> = open.iter().map(|message| message.packet_id).collect();
        assert_eq!(identifiers.len(), open.len(), "two messages in flight have one identifier");
        assert!(!identifiers.contains(&0));
        // Every other one is acknowledged: its identifier may be reused, the others may not.
        let mut number = 0;
        open.retain(|message| {
            number += 1;
            if number % 2 == 0 {
                peer.acknowledge(message);
            }
            number % 2 != 0
        });
        // Halfway through QoS 2 it is still in use.
        if qos == 2 {
            for message in open.iter().take(2) {
                peer.send(&acknowledgement(PUBREC, message.packet_id));
            }
        }
    }
}

pub(crate) fn qos_1_in_flight_has_an_unused_identifier(on: &Target) {
    in_flight_have_identifiers_of_their_own(on, 1);
}

pub(crate) fn qos_2_in_flight_has_an_unused_identifier(on: &Target) {
    in_flight_have_identifiers_of_their_own(on, 2);
}

fn first_sending_has_no_dup(on: &Target, qos: u8) {
    let topic = on.name("/t");
    let mut peer = subscribed(on, &topic, qos);
    publish(on, &topic, qos, &["here"]);
    let message = peer.next_message();
    assert_eq!((message.qos, message.dup), (qos, false));
    peer.disconnect();
    // A queued message was not sent yet.
    publish(on, &topic, qos, &["queued"]);
    let mut peer = on.persistent("a");
    let message = peer.next_message();
    assert_eq!((message.text().as_str(), message.qos, message.dup), ("queued", qos, false));
}

pub(crate) fn qos_1_is_first_sent_without_dup(on: &Target) {
    first_sending_has_no_dup(on, 1);
}

pub(crate) fn qos_2_is_first_sent_without_dup(on: &Target) {
    first_sending_has_no_dup(on, 2);
}

/// PUBLISH is repeated with its identifier and DUP on every connection until it is acknowledged.
fn publish_comes_until_it_is_acknowledged(on: &Target, qos: u8) {
    let topic = on.name("/t");
    let mut peer = subscribed(on, &topic, qos);
    publish(on, &topic, qos, &["x"]);
    let first = peer.next_publish();
    for _ in 0..2 {
        peer = come_back(on, peer);
        let again = peer.next_publish();
        assert_eq!((again.text().as_str(), again.qos, again.dup), ("x", qos, true));
        assert_eq!(again.packet_id, first.packet_id);
    }
    peer.acknowledge(&first);
    // The answer to a later packet shows that the acknowledgement was read.
    peer.ping();
    let mut peer = come_back(on, peer);
    next_is_new(on, &mut peer, &topic);
}

pub(crate) fn qos_1_is_unacknowledged_until_puback(on: &Target) {
    publish_comes_until_it_is_acknowledged(on, 1);
}

pub(crate) fn qos_2_is_unacknowledged_until_pubrec(on: &Target) {
    publish_comes_until_it_is_acknowledged(on, 2);
}

pub(crate) fn pubrec_is_answered_by_pubrel(on: &Target) {
    let topic = on.name("/t");
    let mut peer = on.client("a");
    peer.subscribe(&topic, 2);
    publish(on, &topic, 2, &["0", "1", "2", "3"]);
    let messages: Vec<Message> = (0..4).map(|_| peer.next_publish()).collect();
    // Any reason code below 0x80 is success, and any order is allowed.
    for (at, reason) in [(2, None), (0, Some(0x00)), (3, Some(0x10)), (1, None)] {
        let id = messages[at].packet_id;
        match reason {
            Some(reason) if on.version.is_v5() => peer.send(&acknowledgement_with(PUBREC, id, reason)),
            _ => peer.send(&acknowledgement(PUBREC, id)),
        }
        match peer.next() {
            Received::PubRel { packet_id, reason, .. } => assert_eq!((packet_id, reason), (id, 0)),
            other => panic!("PUBREC was answered by {other:?}"),
        }
    }
    for message in &messages {
        peer.send(&acknowledgement(PUBCOMP, message.packet_id));
    }
    next_is_new(on, &mut peer, &topic);
}

pub(crate) fn pubrel_is_unacknowledged_until_pubcomp(on: &Target) {
    let topic = on.name("/t");
    let mut peer = subscribed(on, &topic, 2);
    publish(on, &topic, 2, &["x"]);
    let id = peer.next_publish().packet_id;
    peer.send(&acknowledgement(PUBREC, id));
    peer.await_packet("PUBREL", |packet| is_pubrel_of(packet, id));
    for _ in 0..2 {
        peer = come_back(on, peer);
        let again = peer.next();
        assert!(is_pubrel_of(&again, id), "PUBREL is sent again, not {again:?}");
    }
    peer.send(&acknowledgement(PUBCOMP, id));
    peer.ping();
    let mut peer = come_back(on, peer);
    next_is_new(on, &mut peer, &topic);
}

pub(crate) fn after_pubrel_publish_is_not_repeated(on: &Target) {
    let topic = on.name("/t");
    let mut peer = subscribed(on, &topic, 2);
    publish(on, &topic, 2, &["x"]);
    let id = peer.next_publish().packet_id;
    peer.send(&acknowledgement(PUBREC, id));
    peer.await_packet("PUBREL", |packet| is_pubrel_of(packet, id));
    // A second PUBREC is answered by PUBREL, too.
    peer.send(&acknowledgement(PUBREC, id));
    peer.await_packet("PUBREL", |packet| is_pubrel_of(packet, id));
    let mut peer = come_back(on, peer);
    publish(on, &topic, 1, &["end"]);
    loop {
        match peer.next() {
            Received::Publish(message) => {
                assert_eq!(message.text(), "end", "PUBLISH was sent again after PUBREL");
                break;
            }
            Received::PubRel { packet_id, .. } => assert_eq!(packet_id, id),
            other => panic!("{other:?} was sent"),
        }
    }
}

pub(crate) fn sent_messages_do_not_expire(on: &Target) {
    let topic = on.name("/t");
    let mut peer = subscribed(on, &topic, 2);
    let expiring = Properties::new().four(property::MESSAGE_EXPIRY_INTERVAL, 2);
    on.client("p").publish(&Publish::new(&topic, 2, b"x").with(expiring));
    let first = peer.next_publish();
    peer.vanish();
    // The statement is about expiry.
    std::thread::sleep(Duration::from_millis(3_200));
    let mut peer = on.persistent("a");
    let again = peer.next_publish();
    assert_eq!((again.text().as_str(), again.packet_id, again.dup), ("x", first.packet_id, true));
    peer.acknowledge(&again);
}

pub(crate) fn all_unacknowledged_packets_are_repeated_with_their_identifiers(on: &Target) {
    let topic = on.name("/t");
    let mut peer = subscribed(on, &topic, 2);
    let mut publisher = on.client("p");
    for number in 0..COUNT {
        let qos = if number % 2 == 0 { 1 } else { 2 };
        publisher.publish(&Publish::new(&topic, qos, format!("{number}").as_bytes()));
    }
    let messages: Vec<Message> = (0..COUNT).map(|_| peer.next_publish()).collect();
    // One of each QoS is complete, and one of QoS 2 is halfway.
    peer.acknowledge(&messages[0]);
    peer.acknowledge(&messages[3]);
    let halfway = messages[5].packet_id;
    peer.send(&acknowledgement(PUBREC, halfway));
    peer.await_packet("PUBREL", |packet| is_pubrel_of(packet, halfway));
    let mut peer = come_back(on, peer);
    let mut released = 0;
    let mut again = Vec::new();
    while released + again.len() < COUNT - 2 {
        match peer.next() {
            Received::Publish(message) => again.push((message.text(), message.packet_id, message.qos)),
            Received::PubRel { packet_id, .. } => {
                assert_eq!(packet_id, halfway);
                released += 1;
            }
            other => panic!("{other:?} was sent"),
        }
    }
    assert_eq!(released, 1, "PUBREL is sent again, once");
    let expected: Vec<(String, u16, u8)> = [1, 2, 4, 6, 7, 8, 9]
        .map(|at: usize| (messages[at].text(), messages[at].packet_id, messages[at].qos))
        .into();
    again.sort();
    assert_eq!(again, expected);
}

pub(crate) fn nothing_is_repeated_on_the_same_connection(on: &Target) {
    let topic = on.name("/t");
    let mut peer = subscribed(on, &topic, 2);
    publish(on, &topic, 1, &["1"]);
    publish(on, &topic, 2, &["2"]);
    let (first, second) = (peer.next_publish(), peer.next_publish());
    assert_eq!((first.text().as_str(), second.text().as_str()), ("1", "2"));
    peer.ping();
    // Gives a broker that repeats after a time-out the time to do so.
    std::thread::sleep(Duration::from_secs(3));
    next_is_new(on, &mut peer, &topic);
    peer.acknowledge(&first);
    peer.acknowledge(&second);
}

pub(crate) fn a_negative_acknowledgement_ends_a_delivery(on: &Target) {
    for reason in [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99] {
        let topic = on.name(&format!("/{reason}"));
        let mut peer = subscribed(on, &topic, 2);
        publish(on, &topic, 1, &["1"]);
        publish(on, &topic, 2, &["2"]);
        for first_byte in [PUBACK, PUBREC] {
            let message = peer.next_publish();
            peer.send(&acknowledgement_with(first_byte, message.packet_id, reason));
        }
        peer.ping();
        let mut peer = come_back(on, peer);
        next_is_new(on, &mut peer, &topic);
        peer.disconnect();
    }
}
