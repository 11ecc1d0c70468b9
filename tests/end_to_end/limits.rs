//! Limits that the broker announces, or the client, checked from both sides.

use rustix::process::Signal;

use crate::harness::broker::Broker;
use crate::harness::packet::{Connect, Properties, Publish, Version, property, variable_byte_integer};
use crate::harness::peer::Peer;
use crate::harness::time::{Deadline, PATIENCE};

pub(crate) fn a_packet_over_the_limit_is_refused_from_its_header(broker: &mut Broker) {
    let topic = broker.name("bound");
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("measure")));
    let limit = peer.number(property::MAXIMUM_PACKET_SIZE).expect("the limit is announced");
    let limit_bytes = usize::try_from(limit).expect("it fits");
    assert!(limit_bytes > 1 << 20, "a payload of 1 MiB fits the default limit");
    // A packet of exactly the limit is accepted: type, length, topic with its length, no properties, payload.
    let head_bytes = head_bytes(limit);
    let payload = vec![0; limit_bytes - head_bytes - 2 - topic.len() - 1];
    let largest = Publish::new(&topic, 0, &payload).encode(Version::V5);
    assert_eq!(largest.len(), limit_bytes);
    peer.send(&largest);
    peer.ping();
    peer.disconnect();
    for version in Version::BOTH {
        let mut peer = Peer::connect(broker.address(), &Connect::new(version, &broker.name("greedy")));
        let mut header = vec![0x30];
        variable_byte_integer(limit + 1 - u32::try_from(head_bytes).expect("at most five"), &mut header);
        peer.send(&header);
        let expected = version.is_v5().then_some(0x95);
        assert_eq!(peer.await_close(), expected, "{version:?}: Packet too large, before any byte of it came");
    }
    // The limit also applies before CONNECT.
    let mut peer = Peer::open(broker.address(), Version::V5);
    peer.send(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F]);
    peer.await_close();
}

/// Bytes of the fixed header of a packet of `packet_bytes` bytes in total.
fn head_bytes(packet_bytes: u32) -> usize {
    let mut length = Vec::new();
    variable_byte_integer(packet_bytes - 5, &mut length);
    // A length field of one byte less would leave one byte more for the body.
    let mut longer = Vec::new();
    variable_byte_integer(packet_bytes - 1 - u32::try_from(length.len()).expect("at most four"), &mut longer);
    1 + longer.len()
}

pub(crate) fn a_packet_too_large_for_the_client_is_not_sent_to_it(broker: &mut Broker) {
    for qos in 0..=2 {
        let (topic, id) = (broker.name("small"), broker.name("small"));
        let mut connect = Connect::new(Version::V5, &id);
        connect.properties = Properties::new().four(property::MAXIMUM_PACKET_SIZE, 100);
        let mut small = Peer::connect(broker.address(), &connect);
        small.subscribe(&topic, qos);
        let mut large = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("large")));
        large.subscribe(&topic, qos);
        large.publish(&Publish::new(&topic, qos, &[b'x'; 200]));
        large.publish(&Publish::new(&topic, qos, b"fits"));
        assert_eq!(large.next_message().payload.len(), 200);
        assert_eq!(large.next_message().text(), "fits");
        assert_eq!(
            small.next_message().text(),
            "fits",
            "what is too large is left out [MQTT-3.1.2-24, MQTT-3.1.2-25]"
        );
        small.disconnect();
        large.disconnect();
    }
}

pub(crate) fn a_topic_alias_over_the_maximum_is_refused(broker: &mut Broker) {
    let topic = broker.name("alias");
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("peer")));
    let maximum = peer.number(property::TOPIC_ALIAS_MAXIMUM).unwrap_or(0);
    let over = u16::try_from(maximum + 1).expect("the maximum is not the largest there is");
    for number in [over, 0] {
        let properties = Properties::new().two(property::TOPIC_ALIAS, number);
        peer.send(&Publish::new(&topic, 0, b"x").with(properties).encode(Version::V5));
        assert_eq!(peer.await_close(), Some(0x94), "alias {number} [MQTT-3.3.2-9]");
        peer = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("peer")));
    }
    peer.disconnect();
}

/// Connections that end in every possible way release their slot for the next one.
pub(crate) fn connection_slots_come_back(broker: &mut Broker) {
    let topic = broker.name("slots");
    let mut witness = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("witness")));
    witness.subscribe(&topic, 1);
    for round in 0..100 {
        let id = broker.name(&format!("{round}"));
        let connect = Connect::new(Version::BOTH[round % 2], &id);
        let mut peers: Vec<Peer> = (0..3).map(|_| Peer::open(broker.address(), connect.version)).collect();
        let mut last = peers.remove(0);
        last.send(&connect.encode());
        assert_eq!(last.await_connack(), 0);
        last.publish(&Publish::new(&topic, 1, format!("{round}").as_bytes()));
        assert_eq!(witness.next_message().text(), format!("{round}"));
        match round % 3 {
            0 => last.disconnect(),
            1 => last.vanish(),
            _ => {
                last.send(&[0x00, 0x00]);
                last.await_close();
            }
        }
        for peer in peers {
            peer.vanish();
        }
    }
    witness.disconnect();
    // All of them are released soon.
    let deadline = Deadline::after(PATIENCE);
    loop {
        let mark = broker.process().mark();
        broker.process().signal(Signal::USR1);
        let line =
            broker.process().wait_for(mark, "statistics", |line| line.starts_with("[STATS] Connections: "));
        if line.starts_with("[STATS] Connections: 0/") {
            return;
        }
        assert!(deadline.remaining().is_some(), "connections that have ended are still counted: {line}");
    }
}
