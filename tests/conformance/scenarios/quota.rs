//! Flow control: how many messages are in flight to a client with a Receive Maximum.

use crate::harness::packet::{
    Connect, PUBACK, PUBCOMP, PUBREC, Properties, Publish, acknowledgement, packet, property,
};
use crate::harness::peer::Peer;
use crate::harness::received::{Message, Received};
use crate::target::Target;

/// More than any quota of these scenarios.
const MESSAGES: u16 = 15;

/// A client with this Receive Maximum that subscribes to its own messages, so that its PINGRESP comes after them.
fn client(on: &Target, receive_maximum: Option<u16>, qos: u8) -> (Peer, String) {
    let (name, topic) = (on.name("a"), on.name("/t"));
    let mut connect = Connect::new(on.version, &name);
    if let Some(maximum) = receive_maximum {
        connect.properties = Properties::new().two(property::RECEIVE_MAXIMUM, maximum);
    }
    let mut peer = on.connect(&connect);
    peer.subscribe(&topic, qos);
    (peer, topic)
}

/// Publishes to itself, without acknowledging the deliveries.
fn publish_all(peer: &mut Peer, topic: &str) {
    for number in 0..MESSAGES {
        peer.publish(&Publish::new(topic, 2, format!("{number}").as_bytes()));
    }
    peer.settle();
}

fn arrived(peer: &Peer) -> usize {
    peer.waiting().iter().filter(|packet| matches!(packet, Received::Publish(_))).count()
}

pub(crate) fn a_new_session_sends_at_most_the_receive_maximum(on: &Target) {
    for qos in [1, 2] {
        for maximum in [1, 2, 7] {
            let (mut peer, topic) = client(on, Some(maximum), qos);
            publish_all(&mut peer, &topic);
            // At least one, or nothing would ever come.
            let first = peer.next_publish();
            assert!(
                arrived(&peer) < usize::from(maximum),
                "maximum {maximum}, but {} more arrived",
                arrived(&peer)
            );
            peer.acknowledge(&first);
            for _ in 1..MESSAGES {
                peer.next_message();
            }
            peer.disconnect();
        }
    }
    let (mut peer, topic) = client(on, None, 1);
    publish_all(&mut peer, &topic);
    let all: Vec<Message> = (0..MESSAGES).map(|_| peer.next_publish()).collect();
    assert_eq!(all.len(), usize::from(MESSAGES), "without a maximum it is 65,535");
}

/// Messages left in flight by one connection are repeated on the next, up to the new Receive Maximum.
pub(crate) fn a_resumed_session_begins_with_the_new_maximum(on: &Target) {
    let (name, topic) = (on.name("k"), on.name("/t"));
    let connect = |maximum| {
        let mut connect = Connect::persistent(on.version, &name);
        connect.properties = connect.properties.two(property::RECEIVE_MAXIMUM, maximum);
        on.connect(&connect)
    };
    let mut peer = connect(5);
    peer.subscribe(&topic, 1);
    publish_all(&mut peer, &topic);
    for _ in 0..5 {
        peer.next_publish();
    }
    peer.vanish();
    for maximum in [2, 4] {
        let mut peer = connect(maximum);
        assert!(peer.session_present);
        let first = peer.next_publish();
        peer.settle();
        assert!((first.text(), first.dup) == ("0".to_owned(), true), "{first:?} comes first");
        assert!(
            arrived(&peer) < usize::from(maximum),
            "maximum {maximum}, but {} more arrived",
            arrived(&peer)
        );
        peer.vanish();
    }
    let mut peer = connect(1);
    for number in 0..MESSAGES {
        assert_eq!(peer.next_message().text(), number.to_string());
    }
    peer.disconnect();
    on.client("k").disconnect();
}

pub(crate) fn no_publish_is_sent_without_quota(on: &Target) {
    // QoS 1: each PUBACK allows one more.
    let (mut peer, topic) = client(on, Some(3), 1);
    publish_all(&mut peer, &topic);
    let mut held: Vec<Message> = (0..3).map(|_| peer.next_publish()).collect();
    for number in 3..MESSAGES {
        peer.settle();
        assert_eq!(arrived(&peer), 0, "three are not acknowledged, before {number}");
        peer.send(&acknowledgement(PUBACK, held.remove(0).packet_id));
        let next = peer.next_publish();
        assert_eq!(next.text(), number.to_string());
        held.push(next);
    }
    peer.disconnect();
    // QoS 2: PUBCOMP allows one more, or a PUBREC with a failure.
    let (mut peer, topic) = client(on, Some(2), 2);
    publish_all(&mut peer, &topic);
    let mut held: Vec<Message> = (0..2).map(|_| peer.next_publish()).collect();
    for number in 2..MESSAGES {
        let id = held.remove(0).packet_id;
        if number % 2 == 0 {
            peer.send(&acknowledgement(PUBREC, id));
            peer.await_packet(
                "PUBREL",
                |p| matches!(p, Received::PubRel { packet_id, .. } if *packet_id == id),
            );
            peer.settle();
            assert_eq!(arrived(&peer), 0, "PUBREC alone frees nothing");
            peer.send(&acknowledgement(PUBCOMP, id));
        } else {
            peer.send(&packet(PUBREC, &[id.to_be_bytes()[0], id.to_be_bytes()[1], 0x80]));
        }
        let next = peer.next_publish();
        assert_eq!(next.text(), number.to_string());
        held.push(next);
        peer.settle();
        assert_eq!(arrived(&peer), 0, "two are not acknowledged");
    }
}

pub(crate) fn other_packets_are_sent_without_quota(on: &Target) {
    for qos in [1, 2] {
        let (mut peer, topic) = client(on, Some(1), qos);
        publish_all(&mut peer, &topic);
        let first = peer.next_publish();
        let other = on.name("/other");
        peer.ping();
        peer.subscribe(&other, 1);
        peer.unsubscribe(&[&other]);
        for qos in 0..3 {
            assert!(peer.publish(&Publish::new(&other, qos, b"m")) < 0x80);
        }
        // Acknowledgements are processed as well, or nothing more would come.
        peer.acknowledge(&first);
        for number in 1..MESSAGES {
            assert_eq!(peer.next_message().text(), number.to_string());
        }
        peer.disconnect();
    }
}
