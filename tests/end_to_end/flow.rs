//! Flow control: the number of messages in flight in each direction, and stray acknowledgements.

use crate::harness::broker::Broker;
use crate::harness::packet::{
    Connect, PUBACK, PUBCOMP, PUBREC, PUBREL, Properties, Publish, Version, acknowledgement, property,
};
use crate::harness::peer::Peer;
use crate::harness::received::{Message, Received};

pub(crate) fn the_receive_maximum_of_the_client_is_honoured(broker: &mut Broker) {
    for qos in 1..=2 {
        for maximum in [1_u16, 5] {
            let (topic, id) = (broker.name("window"), broker.name("narrow"));
            let mut connect = Connect::new(Version::V5, &id);
            connect.properties = Properties::new().two(property::RECEIVE_MAXIMUM, maximum);
            let mut narrow = Peer::connect(broker.address(), &connect);
            narrow.subscribe(&topic, qos);
            let mut publisher =
                Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("publisher")));
            for number in 0..20 {
                publisher.publish(&Publish::new(&topic, qos, format!("{number}").as_bytes()));
            }
            publisher.disconnect();
            let mut open: Vec<Message> = (0..maximum).map(|_| narrow.next_publish()).collect();
            let mut expected = 0;
            loop {
                narrow.ping();
                let waiting = narrow.waiting().len();
                assert_eq!(
                    waiting, 0,
                    "QoS {qos}, {expected} done: {maximum} are in flight and {waiting} more came [MQTT-3.3.4-9]"
                );
                if open.is_empty() {
                    break;
                }
                let message = open.remove(0);
                assert_eq!(message.text(), format!("{expected}"));
                expected += 1;
                narrow.acknowledge(&message);
                if expected + u32::try_from(open.len()).expect("few") < 20 {
                    open.push(narrow.next_publish());
                }
            }
            assert_eq!(expected, 20);
            narrow.disconnect();
        }
    }
}

pub(crate) fn an_older_client_gets_more_than_twenty_in_flight(broker: &mut Broker) {
    const COUNT: usize = 200;
    for qos in 1..=2 {
        let topic = broker.name("window");
        let mut wide = Peer::connect(broker.address(), &Connect::new(Version::V3_1_1, &broker.name("wide")));
        wide.subscribe(&topic, qos);
        let mut publisher =
            Peer::connect(broker.address(), &Connect::new(Version::V3_1_1, &broker.name("publisher")));
        for number in 0..COUNT {
            publisher.publish(&Publish::new(&topic, qos, format!("{number}").as_bytes()));
        }
        publisher.disconnect();
        let messages: Vec<Message> = (0..COUNT).map(|_| wide.next_publish()).collect();
        for (number, message) in messages.iter().enumerate() {
            assert_eq!(
                message.text(),
                format!("{number}"),
                "in order although none was acknowledged [MQTT-4.6.0-6]"
            );
        }
        for message in &messages {
            wide.acknowledge(message);
        }
        wide.disconnect();
    }
}

pub(crate) fn more_than_the_receive_maximum_is_refused(broker: &mut Broker) {
    let topic = broker.name("greedy");
    let mut greedy = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("greedy")));
    let maximum = greedy.number(property::RECEIVE_MAXIMUM).unwrap_or(65_535);
    let maximum = u16::try_from(maximum).expect("it has two bytes");
    assert!(maximum < 65_535, "without a bound there is nothing to check");
    let publish = Publish::new(&topic, 2, b"x");
    let mut bytes = Vec::new();
    for id in 1..=maximum {
        bytes.extend(publish.clone().with_packet_id(id).encode(Version::V5));
    }
    greedy.send(&bytes);
    for id in 1..=maximum {
        greedy.await_pubrec(id);
    }
    // All of them are open until PUBREL, so one more exceeds the limit.
    greedy.send_ignoring_errors(&publish.with_packet_id(maximum + 1).encode(Version::V5));
    assert_eq!(greedy.await_close(), Some(0x93), "Receive Maximum exceeded");
}

pub(crate) fn a_qos_2_duplicate_is_not_delivered_again(broker: &mut Broker) {
    for version in Version::BOTH {
        let topic = broker.name("twice");
        let mut subscriber =
            Peer::connect(broker.address(), &Connect::new(version, &broker.name("subscriber")));
        subscriber.subscribe(&topic, 2);
        let mut publisher =
            Peer::connect(broker.address(), &Connect::new(version, &broker.name("publisher")));
        let mut publish = Publish::new(&topic, 2, b"once").with_packet_id(1);
        publisher.send(&publish.encode(version));
        publisher.await_pubrec(1);
        publish.dup = true;
        publisher.send(&publish.encode(version));
        publisher.await_pubrec(1);
        publisher.send(&acknowledgement(PUBREL, 1));
        publisher.await_pubcomp(1);
        publisher.publish(&Publish::new(&topic, 1, b"end"));
        assert_eq!(subscriber.next_message().text(), "once");
        assert_eq!(
            subscriber.next_message().text(),
            "end",
            "{version:?}: a repeated PUBLISH was delivered again"
        );
        subscriber.disconnect();
        publisher.disconnect();
    }
}

pub(crate) fn acknowledgements_of_nothing_do_no_harm(broker: &mut Broker) {
    for version in Version::BOTH {
        let mut peer = Peer::connect(broker.address(), &Connect::new(version, &broker.name("stray")));
        for first_byte in [PUBACK, PUBCOMP] {
            peer.send(&acknowledgement(first_byte, 77));
        }
        // PUBREC and PUBREL for an unknown message are answered, so that the other side can finish.
        peer.send(&acknowledgement(PUBREL, 78));
        let answer =
            peer.await_packet("PUBCOMP", |packet| matches!(packet, Received::PubComp { packet_id: 78, .. }));
        if version.is_v5() {
            assert!(matches!(answer, Received::PubComp { packet_id: 78, reason: 0x92, .. }), "{answer:?}");
        }
        peer.send(&acknowledgement(PUBREC, 79));
        let answer =
            peer.await_packet("PUBREL", |packet| matches!(packet, Received::PubRel { packet_id: 79, .. }));
        if version.is_v5() {
            assert!(matches!(answer, Received::PubRel { packet_id: 79, reason: 0x92, .. }), "{answer:?}");
        }
        peer.ping();
        peer.disconnect();
    }
}
