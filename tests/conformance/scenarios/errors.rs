//! Malformed packets, protocol errors and other violations end the connection, and affect no other connection. `refusal`
//! lists the invalid packets.

use super::refusal::{broken_packets, closes, connect_with_will_to, refuses_connect};
use crate::harness::packet::{Connect, PINGREQ, Properties, Publish, packet};
use crate::harness::received::Received;
use crate::target::Target;

pub(crate) fn every_violation_closes(on: &Target) {
    let topic = on.name("/t");
    let mut bystander = on.client("b");
    bystander.subscribe(&topic, 1);
    for broken in broken_packets(on.version) {
        closes(on, broken.what, &broken.bytes, broken.allowed);
    }
    for (what, bytes) in broken_connects(on) {
        refuses_connect(on, what, &bytes);
    }
    on.client("p").publish(&Publish::new(&topic, 1, b"still served"));
    assert_eq!(bystander.next_message().text(), "still served");
}

fn broken_connects(on: &Target) -> Vec<(&'static str, Vec<u8>)> {
    let good = Connect::new(on.version, &on.name("c")).encode();
    let with = |at: usize, bits: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= bits;
        bytes
    };
    let mut all = vec![
        ("the reserved flag", with(9, 0x01)),
        ("will QoS without a will", with(9, 0x08)),
        ("will retain without a will", with(9, 0x20)),
        ("flags of the fixed header", with(0, 0x01)),
        ("a user name that is not there", with(9, 0x80)),
        ("a CONNECT that ends early", packet(0x10, &good[2..10])),
        ("a client identifier that is no UTF-8", with(good.len() - 1, 0x80)),
        ("a will to no topic", connect_with_will_to(on.version, &on.name("c"), b"")),
    ];
    if on.version.is_v5() {
        let connect = |properties: Properties| {
            let name = on.name("c");
            let mut connect = Connect::new(on.version, &name);
            connect.properties = properties;
            connect.encode()
        };
        all.extend([
            ("a receive maximum of 0", connect(Properties::new().two(0x21, 0))),
            ("a maximum packet size of 0", connect(Properties::new().four(0x27, 0))),
            ("a property twice", connect(Properties::new().two(0x21, 9).two(0x21, 9))),
            ("a property of other packets", connect(Properties::new().two(0x23, 1))),
            ("a property that does not exist", connect(Properties::new().byte(0x7F, 1))),
            ("request problem information of 2", connect(Properties::new().byte(0x17, 2))),
            ("data without a method", connect(Properties::new().text(0x16, "data"))),
        ]);
    }
    all
}

pub(crate) fn a_reported_error_closes(on: &Target) {
    let mut connects = broken_connects(on);
    let mut level = Connect::new(on.version, &on.name("c")).encode();
    level[8] = 6;
    connects.push(("protocol level 6", level));
    let name = on.name("c");
    let mut connect = Connect::new(on.version, &name);
    connect.properties = Properties::new().text(0x15, "no-such-method");
    connects.push(("an unknown method", connect.encode()));
    for (what, bytes) in connects {
        let mut peer = on.open();
        peer.send_ignoring_errors(&bytes);
        if let Some(Received::ConnAck { reason: 0x80.., .. }) = peer.answer_to(what) {
            assert_eq!(peer.answer_to(what), None, "{what}: the connection ends with CONNACK");
        }
    }
    for broken in broken_packets(on.version) {
        let mut peer = on.client("a");
        peer.send_ignoring_errors(&[&broken.bytes[..], &PINGREQ].concat());
        if let Some(Received::Disconnect { reason: 0x80.., .. }) = peer.answer_to(broken.what) {
            assert_eq!(peer.answer_to(broken.what), None, "{}: the connection ends", broken.what);
        }
    }
    // An error reported by the client ends the connection as well.
    for reason in [0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99] {
        on.client("a").disconnect_with(reason, &Properties::new());
    }
    // A take-over ends it as well, with or without a DISCONNECT.
    let mut old = on.client("t");
    let mut new = on.client("t");
    old.await_close();
    new.ping();
    assert!(new.waiting().is_empty(), "the new connection was sent {:?}", new.waiting());
}

/// 3.1.1 cannot refuse a message, so a message that is not accepted ends the connection.
pub(crate) fn an_unprocessable_publish_closes(on: &Target) {
    let mut peer = on.client("a");
    // The store accepts one retained message on each shard; the rest cannot be processed.
    for number in 1..100 {
        let topic = on.name(&format!("/{number}"));
        let publish = Publish::new(&topic, 1, b"kept").retained().with_packet_id(number);
        peer.send_ignoring_errors(&publish.encode(on.version));
        match peer.answer_to("a message above the limit") {
            Some(Received::PubAck { packet_id, .. }) => assert_eq!(packet_id, number),
            None => {
                // No other client is affected.
                on.client("b").publish(&Publish::new(&topic, 1, b"m"));
                return;
            }
            Some(other) => panic!("answered with {other:?}"),
        }
    }
    panic!("the store accepted a hundred messages with room for one");
}
