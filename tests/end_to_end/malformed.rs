//! Packets that no client may send: refused with the reason that the standard names, without effect on other clients.

use crate::harness::broker::Broker;
use crate::harness::packet::{Connect, Properties, Publish, Version, packet, property, subscribe};
use crate::harness::peer::Peer;
use crate::harness::received::Received;

const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;
/// Forbidden by the standard, which leaves the choice between the two reasons open.
const EITHER: u8 = 0x00;

/// After a valid CONNECT: the error, the bytes, and the reason code for version 5.
fn table(version: Version) -> Vec<(&'static str, Vec<u8>, u8)> {
    let mut table = vec![
        ("reserved packet type 0", vec![0x00, 0x00], MALFORMED),
        ("reserved flags of PINGREQ [MQTT-2.1.3-1]", vec![0xC1, 0x00], MALFORMED),
        (
            "reserved flags of SUBSCRIBE [MQTT-3.8.1-1]",
            [&[0x80], &subscribe_body(version)[1..]].concat(),
            MALFORMED,
        ),
        ("reserved flags of PUBREL [MQTT-3.6.1-1]", vec![0x60, 0x02, 0x00, 0x01], MALFORMED),
        ("a length of five bytes", vec![0xC0, 0x80, 0x80, 0x80, 0x80, 0x01], MALFORMED),
        ("a length with a needless byte [MQTT-1.5.5-1]", vec![0xC0, 0x80, 0x00], MALFORMED),
        ("PINGREQ with a body", vec![0xC0, 0x01, 0x00], MALFORMED),
        ("QoS 3 [MQTT-3.3.1-4]", vec![0x36, 0x05, 0x00, 0x01, b'a', 0x00, 0x01], MALFORMED),
        ("packet identifier 0 [MQTT-2.2.1-3]", Publish::new("a", 1, b"").encode(version), EITHER),
        ("a wildcard in a topic [MQTT-3.3.2-2]", Publish::new("a/+", 0, b"").encode(version), MALFORMED),
        ("a topic with U+0000 [MQTT-1.5.4-2]", Publish::new("a\0", 0, b"").encode(version), MALFORMED),
        (
            "a topic that is not UTF-8 [MQTT-1.5.4-1]",
            vec![0x30, 0x05, 0x00, 0x02, 0xC3, 0x28, 0x00],
            MALFORMED,
        ),
        ("a surrogate [MQTT-1.5.4-1]", vec![0x30, 0x06, 0x00, 0x03, 0xED, 0xA0, 0x80, 0x00], MALFORMED),
        ("a topic longer than the packet", vec![0x30, 0x03, 0x00, 0xFF, b'a'], MALFORMED),
        (
            "DUP without QoS [MQTT-3.3.1-2]",
            [&[0x38], &Publish::new("a", 0, b"").encode(version)[1..]].concat(),
            MALFORMED,
        ),
        ("SUBSCRIBE to nothing", subscribe(version, 1, &[], &Properties::new()), PROTOCOL_ERROR),
        ("a subscription at QoS 3", subscribe(version, 1, &[("a", 3)], &Properties::new()), PROTOCOL_ERROR),
        (
            "reserved subscription options",
            subscribe(version, 1, &[("a", 0xC0)], &Properties::new()),
            MALFORMED,
        ),
        (
            "# before the end [MQTT-4.7.1-1]",
            subscribe(version, 1, &[("#/a", 0)], &Properties::new()),
            MALFORMED,
        ),
        ("# beside text [MQTT-4.7.1-1]", subscribe(version, 1, &[("a#", 0)], &Properties::new()), MALFORMED),
        (
            "+ beside text [MQTT-4.7.1-2]",
            subscribe(version, 1, &[("a+/b", 0)], &Properties::new()),
            MALFORMED,
        ),
        ("an empty filter [MQTT-4.7.3-1]", subscribe(version, 1, &[("", 0)], &Properties::new()), MALFORMED),
        ("a packet that only a server sends", vec![0xD0, 0x00], PROTOCOL_ERROR),
        ("SUBACK from a client", packet(0x90, &[0, 1, 0, 0]), PROTOCOL_ERROR),
    ];
    if version.is_v5() {
        table.extend(table_v5());
    } else {
        table.push(("AUTH, which came with version 5", vec![0xF0, 0x00], MALFORMED));
    }
    table
}

/// Errors that only version 5 can contain.
fn table_v5() -> Vec<(&'static str, Vec<u8>, u8)> {
    let version = Version::V5;
    let none = Properties::new();
    let alias = |number| Properties::new().two(property::TOPIC_ALIAS, number);
    let publish = |properties| Publish::new("a", 0, b"").with(properties).encode(version);
    vec![
        ("a subscription identifier from a client", publish(none.clone().variable(0x0B, 1)), PROTOCOL_ERROR),
        ("a property twice", publish(alias(1).two(property::TOPIC_ALIAS, 1)), PROTOCOL_ERROR),
        ("a property that does not exist", publish(none.clone().byte(0x7F, 0)), MALFORMED),
        (
            "a property of another packet",
            publish(none.clone().four(property::SESSION_EXPIRY_INTERVAL, 1)),
            MALFORMED,
        ),
        (
            "a payload format that does not exist",
            publish(none.clone().byte(property::PAYLOAD_FORMAT, 2)),
            PROTOCOL_ERROR,
        ),
        ("no topic and no alias", Publish::new("", 0, b"").encode(version), PROTOCOL_ERROR),
        (
            "a wildcard in a response topic [MQTT-3.3.2-14]",
            publish(none.clone().text(property::RESPONSE_TOPIC, "a/#")),
            EITHER,
        ),
        ("properties longer than the packet", vec![0x30, 0x04, 0x00, 0x01, b'a', 0x05], MALFORMED),
        (
            "no-local on a share [MQTT-3.8.3-4]",
            subscribe(version, 1, &[("$share/g/a", 4)], &none),
            PROTOCOL_ERROR,
        ),
        (
            "a share without a name [MQTT-4.8.2-1]",
            subscribe(version, 1, &[("$share//a", 0)], &none),
            MALFORMED,
        ),
        (
            "a share without a filter [MQTT-4.8.2-2]",
            subscribe(version, 1, &[("$share/g", 0)], &none),
            MALFORMED,
        ),
        ("retain handling 3", subscribe(version, 1, &[("a", 0x30)], &none), PROTOCOL_ERROR),
        (
            "subscription identifier 0",
            subscribe(version, 1, &[("a", 0)], &none.clone().variable(0x0B, 0)),
            PROTOCOL_ERROR,
        ),
        ("AUTH without a method", vec![0xF0, 0x00], PROTOCOL_ERROR),
    ]
}

fn subscribe_body(version: Version) -> Vec<u8> {
    subscribe(version, 1, &[("a", 0)], &Properties::new())
}

pub(crate) fn malformed_packets_end_the_connection_with_their_reason(broker: &mut Broker) {
    let mut failures = Vec::new();
    let mut witness = Peer::connect(broker.address(), &Connect::new(Version::V5, "witness"));
    for version in Version::BOTH {
        for (what, bytes, reason) in table(version) {
            let mut peer = Peer::connect(broker.address(), &Connect::new(version, "offender"));
            peer.send(&bytes);
            let sent = peer.await_close();
            let expected: &[Option<u8>] = match (version.is_v5(), reason) {
                (false, _) => &[None],
                (true, MALFORMED) => &[Some(MALFORMED)],
                (true, PROTOCOL_ERROR) => &[Some(PROTOCOL_ERROR)],
                (true, _) => &[Some(MALFORMED), Some(PROTOCOL_ERROR)],
            };
            if !expected.contains(&sent) {
                failures.push(format!("{version:?}: {what}: sent {sent:02x?}, expected {expected:02x?}"));
            }
            witness.ping();
        }
    }
    assert!(failures.is_empty(), "refused, but not as expected:\n{}", failures.join("\n"));
    witness.disconnect();
}

pub(crate) fn an_unknown_protocol_is_answered_or_closed(broker: &mut Broker) {
    let connect = |name: &str, level: u8| {
        let mut body = Vec::new();
        crate::harness::packet::text(name, &mut body);
        body.extend([level, 0x02, 0, 60]);
        body.extend([0, 1, b'a', 0, 0]);
        packet(0x10, &body)
    };
    // An unknown protocol level is answered, so that the client learns the reason [MQTT-3.1.2-2 of 3.1.1].
    for level in [0, 6, 0x7F] {
        // A future protocol level is answered in the newest version.
        let version = if level < 5 { Version::V3_1_1 } else { Version::V5 };
        let mut peer = Peer::open(broker.address(), version);
        peer.send(&connect("MQTT", level));
        let Some(reason) = connack_or_close(&mut peer) else { continue };
        assert!(matches!(reason, 0x01 | 0x84), "level {level} was answered with {reason:#04x}");
    }
    // A client of another protocol is not answered.
    let mut peer = Peer::open(broker.address(), Version::V3_1_1);
    peer.send(&connect("HTTP", 4));
    if let Some(reason) = connack_or_close(&mut peer) {
        assert!(matches!(reason, 0x01 | 0x84), "another protocol was answered with {reason:#04x}");
    }
    let mut peer = Peer::open(broker.address(), Version::V3_1_1);
    // As MQTT its first byte is PUBACK and its second a length of 69, so it is a complete packet and more.
    peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a browser that took a wrong turn\r\nAccept: */*\r\n\r\n");
    assert_eq!(connack_or_close(&mut peer), None);
}

/// The reason of a CONNACK before the end of the connection, or `None` for the end alone.
fn connack_or_close(peer: &mut Peer) -> Option<u8> {
    match peer.next_or_close() {
        Some(Received::ConnAck { reason, session_present, .. }) => {
            assert!(!session_present, "[MQTT-3.2.2-6]");
            peer.await_close();
            Some(reason)
        }
        Some(other) => panic!("{other:?} answers CONNECT"),
        None => None,
    }
}

pub(crate) fn a_packet_before_connect_closes(broker: &mut Broker) {
    for version in Version::BOTH {
        for bytes in [
            Publish::new("a", 0, b"x").encode(version),
            subscribe_body(version),
            vec![0xC0, 0x00],
            vec![0xE0, 0x00],
        ] {
            let mut peer = Peer::open(broker.address(), version);
            peer.send(&bytes);
            peer.await_close();
        }
    }
}

/// Thousands of streams that are almost MQTT: each one ends or is closed, without effect on other clients.
pub(crate) fn damaged_streams_do_not_affect_other_clients(broker: &mut Broker) {
    const STREAMS: usize = 1_500;
    let topic = broker.name("witness");
    let mut witness = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("witness")));
    witness.subscribe(&topic, 1);
    // Any sequence would do. This one is the same in every run.
    let mut state = 0x5eed_u32;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        usize::try_from(state).expect("32 bits fit") % below
    };
    for number in 0..STREAMS {
        let version = Version::ALL[number % 3];
        let id = broker.name("damaged");
        let mut bytes = Connect::persistent(version, &id).with_will("w", b"w", Properties::new()).encode();
        bytes.extend(subscribe(version, 1, &[("a/+", 1), ("#", 2)], &Properties::new()));
        bytes.extend(Publish::new("a/b", 1, b"payload").with_packet_id(1).encode(version));
        bytes.extend(Publish::new("a/b", 2, b"payload").with_packet_id(2).retained().encode(version));
        bytes.extend([0x62, 0x02, 0x00, 0x02, 0xC0, 0x00]);
        for _ in 0..=next(3) {
            let at = next(bytes.len());
            bytes[at] ^= 1 << next(8);
        }
        let mut stream = Peer::open(broker.address(), version);
        stream.send_ignoring_errors(&bytes);
        stream.finish();
        if number % 100 == 99 {
            witness.publish(&Publish::new(&topic, 1, format!("{number}").as_bytes()));
            assert_eq!(witness.next_message().text(), format!("{number}"));
        }
    }
    witness.disconnect();
}

pub(crate) fn a_second_connect_closes(broker: &mut Broker) {
    for version in Version::BOTH {
        let id = broker.name("again");
        let mut peer = Peer::connect(broker.address(), &Connect::new(version, &id));
        peer.send(&Connect::new(version, &id).encode());
        let reason = peer.await_close();
        if version.is_v5() && broker.is_ours() {
            assert_eq!(reason, Some(PROTOCOL_ERROR), "[MQTT-3.1.0-2]");
        }
    }
}
