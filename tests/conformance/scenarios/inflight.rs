//! Receive Maximum in both directions: how many messages are in flight, and that other packets do not wait for quota.

use super::closes;
use crate::harness::packet::{
    Connect, PUBACK, PUBCOMP, PUBREC, PUBREL, Properties, Publish, acknowledgement, acknowledgement_with,
    property,
};
use crate::harness::peer::Peer;
use crate::harness::received::{Message, Received};
use crate::target::Target;

const COUNT: usize = 12;

/// A client with this Receive Maximum.
fn narrow(on: &Target, suffix: &str, receive_maximum: u16) -> Peer {
    let name = on.name(suffix);
    let mut connect = Connect::new(on.version, &name);
    connect.properties = Properties::new().two(property::RECEIVE_MAXIMUM, receive_maximum);
    on.connect(&connect)
}

pub(crate) fn no_more_is_in_flight_than_the_client_s_receive_maximum(on: &Target) {
    for qos in [1, 2] {
        for maximum in [1, 2, 5_u16] {
            let topic = on.name(&format!("/{qos}{maximum}"));
            let mut peer = narrow(on, "a", maximum);
            peer.subscribe(&topic, qos);
            let mut publisher = on.client("p");
            for number in 0..COUNT {
                publisher.publish(&Publish::new(&topic, qos, format!("{number}").as_bytes()));
            }
            let mut open: Vec<Message> = (0..maximum).map(|_| peer.next_publish()).collect();
            for done in 0..COUNT {
                // A surplus message would be on its way by now; it shows here or in the next round.
                peer.settle();
                assert!(
                    peer.waiting().is_empty(),
                    "QoS {qos}, {maximum} are in flight and more came: {:?}",
                    peer.waiting()
                );
                let message = open.remove(0);
                assert_eq!(message.text(), format!("{done}"));
                // A failure ends a delivery as success does, for QoS 2 at once.
                match done % 3 {
                    0 if qos == 1 => peer.send(&acknowledgement_with(PUBACK, message.packet_id, 0x80)),
                    0 => peer.send(&acknowledgement_with(PUBREC, message.packet_id, 0x80)),
                    _ => peer.acknowledge(&message),
                }
                if done + usize::from(maximum) < COUNT {
                    open.push(peer.next_publish());
                }
            }
            peer.disconnect();
        }
    }
}

/// Messages repeated on a new connection count against the new Receive Maximum, not the old one.
pub(crate) fn repeated_messages_count_against_receive_maximum(on: &Target) {
    for qos in [1, 2] {
        let topic = on.name(&format!("/{qos}"));
        let mut peer = on.persistent("a");
        peer.subscribe(&topic, qos);
        let mut publisher = on.client("p");
        for number in 0..6 {
            publisher.publish(&Publish::new(&topic, qos, format!("{number}").as_bytes()));
        }
        for number in 0..6 {
            assert_eq!(peer.next_publish().text(), format!("{number}"));
        }
        peer.vanish();
        let name = on.name("a");
        let mut connect = Connect::persistent(on.version, &name);
        connect.properties = connect.properties.two(property::RECEIVE_MAXIMUM, 2);
        let mut peer = on.connect(&connect);
        let mut open = vec![peer.next_publish(), peer.next_publish()];
        for number in 0..6 {
            peer.settle();
            assert!(peer.waiting().is_empty(), "QoS {qos}, more than 2 came: {:?}", peer.waiting());
            let message = open.remove(0);
            assert_eq!((message.text(), message.dup), (format!("{number}"), true));
            peer.acknowledge(&message);
            if number < 4 {
                open.push(peer.next_publish());
            }
        }
        peer.disconnect();
    }
}

pub(crate) fn pubrec_alone_frees_no_quota(on: &Target) {
    let topic = on.name("/t");
    let mut peer = narrow(on, "a", 1);
    peer.subscribe(&topic, 2);
    let mut publisher = on.client("p");
    for number in 0..3 {
        publisher.publish(&Publish::new(&topic, 2, format!("{number}").as_bytes()));
    }
    for number in 0..3 {
        let message = peer.next_publish();
        assert_eq!(message.text(), format!("{number}"));
        peer.send(&acknowledgement(PUBREC, message.packet_id));
        let released = peer.next();
        assert!(
            matches!(released, Received::PubRel { packet_id, .. } if packet_id == message.packet_id),
            "PUBREC is answered by PUBREL, not by {released:?}"
        );
        peer.settle();
        assert!(peer.waiting().is_empty(), "more messages came before PUBCOMP: {:?}", peer.waiting());
        peer.send(&acknowledgement(PUBCOMP, message.packet_id));
    }
}

pub(crate) fn other_packets_do_not_wait_for_quota(on: &Target) {
    let (topic, other) = (on.name("/t"), on.name("/other"));
    let mut peer = narrow(on, "a", 1);
    peer.subscribe(&topic, 2);
    let mut publisher = on.client("p");
    publisher.publish(&Publish::new(&topic, 2, b"first"));
    publisher.publish(&Publish::new(&topic, 1, b"second"));
    let first = peer.next_publish();
    // The quota is used up. Everything except PUBLISH is still answered.
    assert_eq!(peer.subscribe(&other, 1), 1);
    peer.ping();
    for qos in [1, 2] {
        assert!(peer.publish(&Publish::new(&on.name("/nobody"), qos, b"x")) < 0x80);
    }
    assert_eq!(peer.unsubscribe(&[&other]), [0]);
    peer.send(&acknowledgement(PUBREL, 999));
    peer.await_pubcomp(999);
    peer.send(&acknowledgement(PUBREC, first.packet_id));
    peer.await_packet(
        "PUBREL",
        |packet| matches!(packet, Received::PubRel { packet_id, .. } if *packet_id == first.packet_id),
    );
    assert!(peer.waiting().is_empty(), "{:?}", peer.waiting());
    peer.send(&acknowledgement(PUBCOMP, first.packet_id));
    assert_eq!(peer.next_message().text(), "second");
}

pub(crate) fn more_than_the_broker_s_receive_maximum_closes(on: &Target) {
    let topic = on.name("/t");
    let maximum = on.client("m").number(property::RECEIVE_MAXIMUM).unwrap_or(65_535);
    let maximum = u16::try_from(maximum).expect("it has two bytes");
    // There are no more Packet Identifiers than that.
    if maximum == u16::MAX {
        return;
    }
    let mut peer = on.client("p");
    let publish = Publish::new(&topic, 2, b"x");
    for id in 1..=maximum {
        peer.send(&publish.clone().with_packet_id(id).encode(on.version));
    }
    for id in 1..=maximum {
        assert!(peer.await_pubrec(id) < 0x80, "messages up to the maximum are accepted");
    }
    peer.send_ignoring_errors(&publish.with_packet_id(maximum + 1).encode(on.version));
    closes(&mut peer, &[0x93], "one more than the Receive Maximum");
}
