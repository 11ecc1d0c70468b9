//! Published messages reach their subscribers: QoS, order, wildcards, sizes, shared subscriptions.

use crate::harness::broker::Broker;
use crate::harness::packet::{Connect, Properties, Publish, Version, packet, subscribe};
use crate::harness::peer::Peer;
use crate::harness::received::Received;
use crate::library_client::{Client, Options};

pub(crate) fn every_qos_arrives_at_the_lower_of_both(broker: &mut Broker) {
    for subscriber_version in Version::BOTH {
        for subscribed in 0..=2 {
            let topic = broker.name("qos/matrix");
            let id = broker.name("subscriber");
            let mut subscriber = Client::connect(broker.address(), &Options::new(subscriber_version, &id));
            subscriber.subscribe(&topic, subscribed);
            for publisher_version in Version::BOTH {
                let id = broker.name("publisher");
                let mut publisher = Client::connect(broker.address(), &Options::new(publisher_version, &id));
                for published in 0..=2 {
                    let payload = format!("{publisher_version:?} {published} to {subscribed}");
                    publisher.publish(&topic, published, false, payload.as_bytes());
                    let message = subscriber.message();
                    assert_eq!(message.text(), payload);
                    assert_eq!(message.topic, topic);
                    assert_eq!(message.qos, published.min(subscribed), "{payload}");
                    assert!(!message.retain);
                }
                publisher.disconnect();
            }
            subscriber.disconnect();
        }
    }
}

pub(crate) fn hundreds_in_flight_arrive_once_and_in_order(broker: &mut Broker) {
    const COUNT: usize = 2_000;
    for version in Version::BOTH {
        for qos in 1..=2 {
            let topic = broker.name("order");
            let (id, publisher_id) = (broker.name("subscriber"), broker.name("publisher"));
            let mut subscriber = Client::connect(broker.address(), &Options::new(version, &id));
            subscriber.subscribe(&topic, qos);
            let mut publisher = Client::connect(broker.address(), &Options::new(version, &publisher_id));
            for number in 0..COUNT {
                publisher.send(&topic, qos, false, number.to_string().as_bytes());
            }
            publisher.await_acknowledged(COUNT);
            for number in 0..COUNT {
                assert_eq!(subscriber.message().text(), number.to_string(), "{version:?}, QoS {qos}");
            }
            publisher.disconnect();
            subscriber.disconnect();
        }
    }
}

pub(crate) fn wildcards_match_as_the_standard_defines(broker: &mut Broker) {
    // Below a level of its own, so that the table reads like the examples of the standard.
    const TABLE: [(&str, &str, bool); 20] = [
        ("a/b/c", "a/b/c", true),
        ("a/b/c", "a/b", false),
        ("a/b/c", "a/b/c/d", false),
        ("a/b/c", "A/b/c", false),
        ("+/b/c", "a/b/c", true),
        ("a/+/c", "a/b/c", true),
        ("a/+/c", "a//c", true),
        ("a/+", "a/b/c", false),
        ("a/+", "a", false),
        ("a/+", "a/", true),
        ("+", "a", true),
        ("+", "/a", false),
        ("+/+", "/a", true),
        ("/+", "/a", true),
        ("a/#", "a", true),
        ("a/#", "a/b/c", true),
        ("a/#", "ab", false),
        ("#", "a/b/c", true),
        ("+/#", "a", true),
        ("a/b/#", "a/c", false),
    ];
    for version in Version::BOTH {
        let scope = broker.name("wild");
        for (filter, topic, expected) in TABLE {
            let mut peer = Peer::connect(broker.address(), &Connect::new(version, &broker.name("wildcard")));
            assert_eq!(peer.subscribe(&format!("{scope}/{filter}"), 1), 1);
            assert_eq!(peer.subscribe(&format!("{scope}-end"), 1), 1);
            peer.publish(&Publish::new(&format!("{scope}/{topic}"), 1, b"wild"));
            peer.publish(&Publish::new(&format!("{scope}-end"), 1, b"end"));
            let first = peer.next_message();
            let arrived = first.payload == b"wild";
            assert_eq!(arrived, expected, "{filter} and {topic}");
            if arrived {
                assert_eq!(peer.next_message().payload, b"end", "{filter} got {topic} twice");
            }
            peer.disconnect();
        }
        // A wildcard at the start does not match a topic that begins with $ [MQTT-4.7.2-1].
        let mut peer = Peer::connect(broker.address(), &Connect::new(version, &broker.name("dollar")));
        let system = format!("$t/{scope}");
        peer.subscribe_with(&[("+/#", 0), (&format!("+/{scope}"), 0)], &Properties::new());
        peer.publish(&Publish::new(&system, 0, b"to nobody"));
        peer.publish(&Publish::new(&format!("x/{scope}"), 0, b"end"));
        loop {
            let message = peer.next_message();
            assert_ne!(message.topic, system, "a wildcard matched a topic that begins with $");
            if message.topic == format!("x/{scope}") {
                break;
            }
        }
        let mut named = Peer::connect(broker.address(), &Connect::new(version, &broker.name("named")));
        named.subscribe("$t/#", 0);
        named.publish(&Publish::new(&system, 0, b"to who names it"));
        assert_eq!(named.next_message().topic, system);
        named.disconnect();
        peer.disconnect();
    }
}

pub(crate) fn a_mebibyte_arrives_unharmed(broker: &mut Broker) {
    let payload: Vec<u8> =
        (0_u32..1 << 20).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    for version in Version::BOTH {
        let topic = broker.name("large");
        let (id, publisher_id) = (broker.name("subscriber"), broker.name("publisher"));
        let mut subscriber = Client::connect(broker.address(), &Options::new(version, &id));
        subscriber.subscribe(&topic, 2);
        let mut publisher = Client::connect(broker.address(), &Options::new(version, &publisher_id));
        for qos in 0..=2 {
            publisher.publish(&topic, qos, false, &payload);
            let message = subscriber.message();
            assert_eq!(message.qos, qos);
            assert!(message.payload == payload, "{version:?}, QoS {qos}: the payload was changed");
        }
        publisher.disconnect();
        subscriber.disconnect();
    }
}

pub(crate) fn shared_subscriptions_spread_evenly(broker: &mut Broker) {
    const MEMBERS: usize = 4;
    const EACH: usize = 100;
    let topic = broker.name("shared");
    let share = format!("$share/group/{topic}");
    let mut members: Vec<Client> = (0..MEMBERS)
        .map(|member| {
            let id = broker.name(&format!("member{member}"));
            let mut client = Client::connect(broker.address(), &Options::new(Version::V5, &id));
            client.subscribe(&share, 1);
            client.subscribe(&format!("{topic}/end"), 1);
            client
        })
        .collect();
    // An ordinary subscription receives everything beside the shared ones.
    let (id, publisher_id) = (broker.name("everything"), broker.name("publisher"));
    let mut everything = Client::connect(broker.address(), &Options::new(Version::V3_1_1, &id));
    everything.subscribe(&topic, 1);
    let mut publisher = Client::connect(broker.address(), &Options::new(Version::V5, &publisher_id));
    for number in 0..MEMBERS * EACH {
        publisher.send(&topic, 1, false, number.to_string().as_bytes());
    }
    publisher.await_acknowledged(MEMBERS * EACH);
    publisher.publish(&format!("{topic}/end"), 1, false, b"end");
    let mut seen = vec![0; MEMBERS * EACH];
    for member in &mut members {
        let messages = member.messages_until("end");
        let count = messages.len();
        assert!((EACH / 2..=EACH * 3 / 2).contains(&count), "a member got {count} of {}", MEMBERS * EACH);
        for message in messages {
            seen[message.text().parse::<usize>().expect("payloads are numbers")] += 1;
        }
    }
    assert!(seen.iter().all(|times| *times == 1), "each message goes to one member: {seen:?}");
    for number in 0..MEMBERS * EACH {
        assert_eq!(everything.message().text(), number.to_string());
    }
    for client in members.into_iter().chain([everything, publisher]) {
        client.disconnect();
    }
}

pub(crate) fn unsubscribed_filters_are_silent(broker: &mut Broker) {
    for version in Version::BOTH {
        let topic = broker.name("silent");
        let id = broker.name("client");
        let mut client = Client::connect(broker.address(), &Options::new(version, &id));
        client.subscribe(&topic, 1);
        client.subscribe(&format!("{topic}/end"), 1);
        client.publish(&topic, 1, false, b"subscribed");
        assert_eq!(client.message().text(), "subscribed");
        client.unsubscribe(&topic);
        client.publish(&topic, 1, false, b"unsubscribed");
        client.publish(&format!("{topic}/end"), 1, false, b"end");
        assert_eq!(client.messages_until("end"), []);
        client.disconnect();
    }
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("peer")));
    let topic = broker.name("known");
    peer.subscribe(&topic, 0);
    assert_eq!(peer.unsubscribe(&[&topic, "unknown/filter"]), [0x00, 0x11]);
    peer.disconnect();
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V3_1_1, &broker.name("peer")));
    assert_eq!(peer.unsubscribe(&["unknown/filter"]), [0_u8; 0], "3.1.1 has no reasons in UNSUBACK");
    peer.disconnect();
}

pub(crate) fn overlapping_subscriptions_deliver_at_the_highest_qos(broker: &mut Broker) {
    for version in Version::BOTH {
        let topic = broker.name("overlap");
        let mut peer = Peer::connect(broker.address(), &Connect::new(version, &broker.name("peer")));
        peer.subscribe_with(&[(&format!("{topic}/+"), 1), (&format!("{topic}/#"), 0)], &Properties::new());
        peer.subscribe(&format!("{topic}/x"), 2);
        peer.publish(&Publish::new(&format!("{topic}/x"), 2, b"once or once each"));
        peer.publish(&Publish::new(&format!("{topic}/y/end"), 0, b"end"));
        let mut highest = 0;
        loop {
            let message = peer.next_message();
            if message.payload == b"end" {
                break;
            }
            highest = highest.max(message.qos);
        }
        assert_eq!(highest, 2, "{version:?} [MQTT-3.3.4-2]");
        // A subscription with the same filter replaces the first one [MQTT-3.8.4-3].
        let again = broker.name("again");
        assert_eq!(peer.subscribe(&again, 2), 2);
        assert_eq!(peer.subscribe(&again, 0), 0);
        peer.publish(&Publish::new(&again, 2, b"x"));
        assert_eq!(peer.next_message().qos, 0);
        peer.ping();
        assert!(peer.waiting().is_empty(), "a replaced subscription delivered twice: {:?}", peer.waiting());
        peer.disconnect();
    }
}

pub(crate) fn mqtt_3_1_clients_are_served(broker: &mut Broker) {
    let topic = broker.name("old");
    let mut peers: Vec<Peer> = Version::ALL
        .iter()
        .map(|version| {
            let id = broker.name(&format!("{version:?}"));
            let mut peer = Peer::connect(broker.address(), &Connect::new(*version, &id));
            assert_eq!(peer.subscribe(&topic, 2), 2);
            peer
        })
        .collect();
    for from in 0..peers.len() {
        for qos in 0..=2 {
            let payload = format!("{from} at {qos}");
            peers[from].publish(&Publish::new(&topic, qos, payload.as_bytes()));
            for to in &mut peers {
                let message = to.next_message();
                assert_eq!((message.text(), message.qos), (payload.clone(), qos));
            }
        }
    }
    for peer in peers {
        peer.disconnect();
    }
}

pub(crate) fn packets_may_come_in_one_piece_or_byte_by_byte(broker: &mut Broker) {
    for version in Version::ALL {
        let topic = broker.name("pieces");
        let id = broker.name("peer");
        let mut bytes = Connect::new(version, &id).encode();
        bytes.extend(subscribe(version, 1, &[(&topic, 0)], &Properties::new()));
        for number in 0..20 {
            bytes.extend(Publish::new(&topic, 0, format!("{number}").as_bytes()).encode(version));
        }
        // A client cannot determine how its bytes are received. These are the two extremes it can produce: all at
        // once, and byte by byte.
        for chunk_bytes in [bytes.len(), 1, 7] {
            let mut peer = Peer::open(broker.address(), version);
            for chunk in bytes.chunks(chunk_bytes) {
                peer.send(chunk);
            }
            assert_eq!(peer.await_connack(), 0);
            peer.await_packet("SUBACK", |packet| matches!(packet, Received::SubAck { .. }));
            for number in 0..20 {
                assert_eq!(peer.next_message().text(), format!("{number}"), "in chunks of {chunk_bytes}");
            }
            peer.disconnect();
        }
    }
}

/// A stalled reader costs the memory that its bounds allow, and no message of other readers.
pub(crate) fn a_stalled_reader_does_not_hold_up_the_others(broker: &mut Broker) {
    const COUNT: usize = 6_000;
    let topic = broker.name("stalled");
    let mut stalled = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("stalled")));
    stalled.subscribe(&topic, 0);
    let (id, publisher_id) = (broker.name("reader"), broker.name("publisher"));
    let mut reader = Client::connect(broker.address(), &Options::new(Version::V5, &id));
    reader.subscribe(&topic, 1);
    let mut publisher = Client::connect(broker.address(), &Options::new(Version::V5, &publisher_id));
    let mut payload = vec![b'x'; 4096];
    for number in 0..COUNT {
        payload[..8].copy_from_slice(format!("{number:08}").as_bytes());
        publisher.send(&topic, 1, false, &payload);
        // Publisher and reader keep pace, so that only the stalled reader falls behind.
        if number % 50 == 49 {
            publisher.await_acknowledged(50);
            for message in reader.messages(50) {
                assert_eq!(message.payload.len(), payload.len());
            }
        }
    }
    publisher.disconnect();
    reader.disconnect();
    stalled.vanish();
}

/// The checks themselves have to be right first.
#[test]
fn a_packet_helper_writes_the_bytes_of_the_standard() {
    assert_eq!(packet(0xC0, &[]), [0xC0, 0x00]);
    assert_eq!(packet(0x30, &[0; 200])[..3], [0x30, 0xC8, 0x01]);
    let connect = Connect::new(Version::V3_1_1, "a").encode();
    assert_eq!(connect, [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 1, b'a']);
}
