//! Helpers and invalid inputs for scenarios of several topics.

use crate::harness::packet::{
    Connect, Properties, Publish, Version, disconnect, packet, property, subscribe,
};
use crate::harness::received::Received;
use crate::target::Target;

/// Byte strings that are not UTF-8, one for each kind of error.
pub(crate) const NOT_UTF_8: [&[u8]; 15] = [
    // Surrogates: the first, the last, a pair.
    b"a\xED\xA0\x80b",
    b"a\xED\xBF\xBFb",
    b"\xED\xA0\xBD\xED\xB8\x80",
    // More bytes than the code point needs.
    b"a\xC0\x80b",
    b"a\xC1\xBFb",
    b"a\xE0\x80\xAFb",
    b"a\xF0\x80\x80\xAFb",
    // Truncated.
    b"a\xC3",
    b"a\xE2\x82",
    b"a\xF0\x9F\x98",
    // A continuation without a start, and invalid start bytes.
    b"a\x80b",
    b"a\xFEb",
    b"a\xFFb",
    // Beyond U+10FFFF.
    b"a\xF4\x90\x80\x80b",
    b"a\xF5\x80\x80\x80b",
];

/// SUBSCRIBE with filters of arbitrary bytes.
pub(crate) fn subscribe_bytes(version: Version, packet_id: u16, filters: &[(&[u8], u8)]) -> Vec<u8> {
    let mut body = head(version, packet_id);
    for (filter, options) in filters {
        text_bytes(filter, &mut body);
        body.push(*options);
    }
    packet(0x82, &body)
}

/// UNSUBSCRIBE with filters of arbitrary bytes.
pub(crate) fn unsubscribe_bytes(version: Version, packet_id: u16, filters: &[&[u8]]) -> Vec<u8> {
    let mut body = head(version, packet_id);
    for filter in filters {
        text_bytes(filter, &mut body);
    }
    packet(0xA2, &body)
}

/// PUBLISH with QoS 1 and a topic of arbitrary bytes.
pub(crate) fn publish_bytes(version: Version, topic: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text_bytes(topic, &mut body);
    body.extend(head(version, 1));
    body.extend(b"payload");
    packet(0x32, &body)
}

/// CONNECT with a will to a topic of arbitrary bytes.
pub(crate) fn connect_with_will_to(version: Version, client_id: &str, topic: &[u8]) -> Vec<u8> {
    // The client identifier is the last field of a CONNECT without a will.
    let whole = Connect::new(version, client_id).encode();
    let mut body = whole[2..].to_vec();
    body[7] |= 0x04;
    if version.is_v5() {
        body.push(0);
    }
    text_bytes(topic, &mut body);
    text_bytes(b"will", &mut body);
    packet(0x10, &body)
}

/// Sends `bytes` on a new connection: the broker closes it, and a DISCONNECT before that has one of the `allowed` reason
/// codes.
pub(crate) fn closes(on: &Target, what: &str, bytes: &[u8], allowed: &[u8]) {
    let mut peer = on.client("a");
    peer.send_ignoring_errors(bytes);
    match peer.answer_to(what) {
        None => {}
        Some(Received::Disconnect { reason, .. }) => {
            assert!(
                allowed.contains(&reason),
                "{what}: reason code {reason:#04x} is not one of {allowed:02x?}"
            );
            assert_eq!(peer.answer_to(what), None, "{what}: the connection ends");
        }
        Some(other) => panic!("{what}: answered with {other:?}"),
    }
}

/// Like `closes`, but a failure code for the only filter in SUBACK or UNSUBACK is accepted as well.
pub(crate) fn closes_or_fails(on: &Target, what: &str, bytes: &[u8], allowed: &[u8]) {
    let mut peer = on.client("a");
    peer.send_ignoring_errors(bytes);
    match peer.answer_to(what) {
        None => {}
        Some(Received::Disconnect { reason, .. }) => {
            assert!(
                allowed.contains(&reason),
                "{what}: reason code {reason:#04x} is not one of {allowed:02x?}"
            );
            assert_eq!(peer.answer_to(what), None, "{what}: the connection ends");
        }
        Some(Received::SubAck { reasons, .. } | Received::UnsubAck { reasons, .. }) => {
            assert!(reasons.len() == 1 && reasons[0] >= 0x80, "{what}: answered with {reasons:02x?}");
        }
        Some(other) => panic!("{what}: answered with {other:?}"),
    }
}

/// Sends a CONNECT that must be refused: the broker closes, optionally after a CONNACK with a failure code.
pub(crate) fn refuses_connect(on: &Target, what: &str, connect: &[u8]) {
    let mut peer = on.open();
    peer.send_ignoring_errors(connect);
    match peer.answer_to(what) {
        None => {}
        Some(Received::ConnAck { reason, session_present, .. }) => {
            let refused = if on.version.is_v5() { reason >= 0x80 } else { (1..=5).contains(&reason) };
            assert!(refused, "{what}: CONNACK has reason code {reason:#04x}");
            assert!(!session_present, "{what}: a refusal has no session");
            assert_eq!(peer.answer_to(what), None, "{what}: the connection ends");
        }
        Some(other) => panic!("{what}: answered with {other:?}"),
    }
}

/// A packet that no client may send: its description, its bytes, and the reason codes that a DISCONNECT of 5.0 may have.
pub(crate) struct Broken {
    pub(crate) what: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) allowed: &'static [u8],
}

/// Packets that violate the protocol on an open connection, for rules with a consequence in the standard.
pub(crate) fn broken_packets(version: Version) -> Vec<Broken> {
    const MALFORMED: &[u8] = &[0x81];
    const PROTOCOL_ERROR: &[u8] = &[0x82];
    const EITHER: &[u8] = &[0x81, 0x82];
    let mut all = Vec::new();
    let mut add = |what, bytes: Vec<u8>, allowed| all.push(Broken { what, bytes, allowed });
    add("the reserved type 0", vec![0x00, 0x00], EITHER);
    add("a second CONNECT", Connect::new(version, "second").encode(), PROTOCOL_ERROR);
    add("CONNACK", packet(0x20, if version.is_v5() { &[0, 0, 0] } else { &[0, 0] }), EITHER);
    add("SUBACK", packet(0x90, if version.is_v5() { &[0, 1, 0, 0] } else { &[0, 1, 0] }), EITHER);
    add("UNSUBACK", packet(0xB0, if version.is_v5() { &[0, 1, 0, 0] } else { &[0, 1] }), EITHER);
    add("PINGRESP", vec![0xD0, 0x00], EITHER);
    add("PUBLISH with both QoS bits", packet(0x36, &head_of_publish(version, "t", b"")), MALFORMED);
    add("PUBREL without its flag", packet(0x60, &[0, 1]), MALFORMED);
    add("PINGREQ with a flag", vec![0xC1, 0x00], MALFORMED);
    add(
        "SUBSCRIBE without its flag",
        with_first_byte(0x80, &subscribe_bytes(version, 1, &[(b"t", 0)])),
        MALFORMED,
    );
    add(
        "UNSUBSCRIBE without its flag",
        with_first_byte(0xA0, &unsubscribe_bytes(version, 1, &[b"t"])),
        MALFORMED,
    );
    add("SUBSCRIBE without a filter", subscribe_bytes(version, 1, &[]), PROTOCOL_ERROR);
    add("UNSUBSCRIBE without a filter", unsubscribe_bytes(version, 1, &[]), PROTOCOL_ERROR);
    add("SUBSCRIBE with packet identifier 0", subscribe_bytes(version, 0, &[(b"t", 0)]), EITHER);
    add("SUBSCRIBE for QoS 3", subscribe_bytes(version, 1, &[(b"t", 3)]), PROTOCOL_ERROR);
    add("reserved bits of a filter", subscribe_bytes(version, 1, &[(b"t", 0x80)]), MALFORMED);
    add("a filter that is no UTF-8", subscribe_bytes(version, 1, &[(b"t\xFF", 0)]), MALFORMED);
    add("a length of five bytes", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], MALFORMED);
    add(
        "a filter longer than its packet",
        packet(0x82, &[&head(version, 1)[..], &[0, 9, b't', 0]].concat()),
        MALFORMED,
    );
    add("a topic longer than its packet", packet(0x30, &[0, 9, b't']), MALFORMED);
    add("PUBLISH to a topic with wildcards", publish_bytes(version, b"t/#"), &[0x81, 0x82, 0x90]);
    if version.is_v5() {
        broken_properties(&mut all);
    } else {
        add("the reserved type 15", vec![0xF0, 0x00], MALFORMED);
    }
    all
}

fn broken_properties(all: &mut Vec<Broken>) {
    const V5: Version = Version::V5;
    let mut add = |what, bytes: Vec<u8>, allowed| all.push(Broken { what, bytes, allowed });
    let publish = |properties: Properties| Publish::new("t", 0, b"p").with(properties).encode(V5);
    let subscribe = |properties: &Properties| subscribe(V5, 1, &[("t", 0)], properties);
    let disconnect = |reason, properties: &Properties| disconnect(V5, reason, properties);
    add("a property that does not exist", publish(Properties::new().byte(0x7F, 0)), &[0x81]);
    add(
        "a property of other packets",
        publish(Properties::new().four(property::SESSION_EXPIRY_INTERVAL, 1)),
        &[0x81, 0x82],
    );
    add(
        "a property twice",
        publish(Properties::new().byte(property::PAYLOAD_FORMAT, 0).byte(property::PAYLOAD_FORMAT, 0)),
        &[0x82],
    );
    add("a topic alias of 0", publish(Properties::new().two(property::TOPIC_ALIAS, 0)), &[0x81, 0x82, 0x94]);
    add("neither topic nor alias", Publish::new("", 0, b"p").encode(V5), &[0x82]);
    add(
        "a subscription identifier of 0",
        subscribe(&Properties::new().variable(property::SUBSCRIPTION_ID, 0)),
        &[0x82],
    );
    add(
        "two subscription identifiers",
        subscribe(
            &Properties::new().variable(property::SUBSCRIPTION_ID, 1).variable(property::SUBSCRIPTION_ID, 2),
        ),
        &[0x82],
    );
    add("retain handling 3", subscribe_bytes(V5, 1, &[(b"t", 0x30)]), &[0x82]);
    add("no local on a shared subscription", subscribe_bytes(V5, 1, &[(b"$share/g/t", 0x04)]), &[0x82]);
    add("a reason that DISCONNECT does not have", disconnect(0x05, &Properties::new()), &[0x81, 0x82]);
    add(
        "a session expiry that was 0 and is raised",
        disconnect(0, &Properties::new().four(property::SESSION_EXPIRY_INTERVAL, 1)),
        &[0x82],
    );
    add("AUTH without a method in CONNECT", packet(0xF0, &[0x19, 4, 0x15, 0, 1, b'm']), &[0x82, 0x87, 0x8C]);
}

pub(crate) fn with_first_byte(first_byte: u8, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[0] = first_byte;
    bytes
}

/// Packet Identifier and, in version 5, an empty property section.
fn head(version: Version, packet_id: u16) -> Vec<u8> {
    let mut head = packet_id.to_be_bytes().to_vec();
    if version.is_v5() {
        head.push(0);
    }
    head
}

fn head_of_publish(version: Version, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text_bytes(topic.as_bytes(), &mut body);
    body.extend(head(version, 1));
    body.extend(payload);
    body
}

fn text_bytes(text: &[u8], out: &mut Vec<u8>) {
    out.extend(u16::try_from(text.len()).expect("a text's length fits its field").to_be_bytes());
    out.extend(text);
}
