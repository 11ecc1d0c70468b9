//! UTF-8 text in every field of a client's packets: ill-formed text ends the connection, other text arrives unaltered.

use super::connect_bytes::{
    ConnectBytes, MALFORMED, PASSWORD, USER_NAME, WILL, block, closes, field, is_refused, property,
};
use crate::harness::packet::{Connect, Publish, packet};
use crate::target::Target;

const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const AUTHENTICATION_METHOD: u8 = 0x15;
const REASON_STRING: u8 = 0x1F;
const USER_PROPERTY: u8 = 0x26;

/// One example of each kind of ill-formed UTF-8.
const ILL_FORMED: [(&str, &[u8]); 15] = [
    ("a continuation without a start", &[0x80]),
    ("a start without a continuation", &[0xC3]),
    ("three bytes that end after two", &[0xE2, 0x82]),
    ("four bytes that end after three", &[0xF0, 0x9F, 0x98]),
    ("U+007F in two bytes", &[0xC1, 0xBF]),
    ("a slash in two bytes", &[0xC0, 0xAF]),
    ("U+0000 in two bytes", &[0xC0, 0x80]),
    ("a slash in three bytes", &[0xE0, 0x80, 0xAF]),
    ("a slash in four bytes", &[0xF0, 0x80, 0x80, 0xAF]),
    ("U+D800", &[0xED, 0xA0, 0x80]),
    ("U+DFFF", &[0xED, 0xBF, 0xBF]),
    ("U+1F600 as two surrogates", &[0xED, 0xA0, 0xBD, 0xED, 0xB8, 0x80]),
    ("U+110000", &[0xF4, 0x90, 0x80, 0x80]),
    ("five bytes", &[0xF8, 0x88, 0x80, 0x80, 0x80]),
    ("0xFF", &[0xFF]),
];

/// The field that contains the text, and the packet.
type Place = (&'static str, Vec<u8>);

pub(crate) fn ill_formed_text_closes(on: &Target) {
    for (class, bytes) in ILL_FORMED {
        let text = [b"a", bytes, b"b"].concat();
        refuse(on, class, &connects(on, &text), &later(on, &text));
    }
}

pub(crate) fn null_closes(on: &Target) {
    for text in [&b"a\0b"[..], b"\0", b"\0a", b"a\0"] {
        refuse(on, "U+0000", &connects(on, text), &later(on, text));
    }
}

pub(crate) fn ill_formed_user_properties_close(on: &Target) {
    for (class, bytes) in ILL_FORMED.into_iter().chain([("U+0000", &b"\0"[..])]) {
        let pairs = [pair(bytes, b"value"), pair(b"key", bytes)];
        for pair in pairs {
            let connects = [("CONNECT", ConnectBytes::of(on).properties(&pair).encode())];
            refuse(on, class, &connects, &with_properties(&pair));
        }
    }
}

pub(crate) fn a_will_topic_that_is_not_utf_8_closes(on: &Target) {
    refuse_connects(on, |text| {
        ConnectBytes::of(on).flag(WILL).will_properties(&[]).field(text).field(b"gone").encode()
    });
}

pub(crate) fn a_user_name_that_is_not_utf_8_closes(on: &Target) {
    refuse_connects(on, |text| ConnectBytes::of(on).flag(USER_NAME).field(text).encode());
    refuse_connects(on, |text| {
        ConnectBytes::of(on).flag(USER_NAME | PASSWORD).field(text).field(b"secret").encode()
    });
}

pub(crate) fn a_client_identifier_that_is_not_utf_8_closes(on: &Target) {
    refuse_connects(on, |text| ConnectBytes::new(on).field(text).encode());
}

/// U+FEFF is an ordinary character, in a topic and in a client identifier.
pub(crate) fn a_byte_order_mark_is_kept(on: &Target) {
    let (plain, mark) = (on.name("/t"), '\u{feff}');
    let topics = [format!("{mark}{plain}"), format!("{plain}{mark}"), format!("{plain}{mark}/x")];
    let mut peer = on.client("a");
    for topic in topics.iter().chain([&plain]) {
        peer.subscribe(topic, 1);
    }
    for topic in topics.iter().chain([&plain]) {
        peer.publish(&Publish::new(topic, 1, topic.as_bytes()));
        let message = peer.next_message();
        assert_eq!(message.topic.as_bytes(), topic.as_bytes());
        assert_eq!(message.payload, topic.as_bytes(), "the payload names the topic");
    }
    let marked = format!("{mark}{}", on.name("a"));
    let mut other = on.connect(&Connect::new(on.version, &marked));
    other.ping();
    peer.ping();
}

fn refuse(on: &Target, class: &str, connects: &[Place], later: &[Place]) {
    for (place, bytes) in connects {
        is_refused(on, &format!("{class} in {place}"), bytes, MALFORMED);
    }
    for (place, bytes) in later {
        closes(on, &mut on.client("a"), &format!("{class} in {place}"), bytes, MALFORMED);
    }
}

fn refuse_connects(on: &Target, connect: impl Fn(&[u8]) -> Vec<u8>) {
    for (class, bytes) in ILL_FORMED.into_iter().chain([("U+0000", &b"\0"[..])]) {
        is_refused(on, class, &connect(&[b"a", bytes, b"b"].concat()), MALFORMED);
    }
}

/// CONNECT with the text in each field.
fn connects(on: &Target, text: &[u8]) -> Vec<Place> {
    let connect = ConnectBytes::of(on);
    let will = |properties: &[u8], topic: &[u8]| {
        let will = connect.clone().flag(WILL).will_properties(properties);
        will.field(topic).field(b"gone").encode()
    };
    let mut places = vec![
        ("the client identifier", ConnectBytes::new(on).field(text).encode()),
        ("the will topic", will(&[], text)),
        ("the user name", connect.clone().flag(USER_NAME).field(text).encode()),
    ];
    if on.version.is_v5() {
        places.extend([
            ("a user property of CONNECT", connect.clone().properties(&pair(text, b"value")).encode()),
            (
                "the authentication method of CONNECT",
                connect.clone().properties(&property(AUTHENTICATION_METHOD, text)).encode(),
            ),
            ("the content type of a will", will(&property(CONTENT_TYPE, text), b"t")),
            ("the response topic of a will", will(&property(RESPONSE_TOPIC, text), b"t")),
            ("a user property of a will", will(&pair(b"key", text), b"t")),
        ]);
    }
    places
}

/// Packets of a connected client with the text in each field.
fn later(on: &Target, text: &[u8]) -> Vec<Place> {
    let none: &[u8] = if on.version.is_v5() { &[0] } else { &[] };
    let mut places = vec![
        ("a topic name", packet(0x30, &[&field(text), none, b"x"].concat())),
        ("a topic name of QoS 2", packet(0x34, &[&field(text)[..], &[0, 1], none, b"x"].concat())),
        ("a topic filter", packet(0x82, &[&[0, 1], none, &field(text), &[0]].concat())),
        (
            "the second of two topic filters",
            packet(0x82, &[&[0, 1], none, &field(b"t"), &[0], &field(text), &[0]].concat()),
        ),
        ("a topic filter of UNSUBSCRIBE", packet(0xA2, &[&[0, 1], none, &field(text)].concat())),
    ];
    if on.version.is_v5() {
        places.extend([
            ("a content type", publish(&property(CONTENT_TYPE, text))),
            ("a response topic", publish(&property(RESPONSE_TOPIC, text))),
        ]);
        places.extend(with_properties(&pair(text, b"value")));
        places.extend(with_properties(&pair(b"key", text)));
        let acknowledgement = |first_byte| {
            packet(first_byte, &[&[0, 1, 0x80][..], &block(&property(REASON_STRING, text))].concat())
        };
        places.extend([
            ("the reason string of PUBACK", acknowledgement(0x40)),
            ("the reason string of PUBREC", acknowledgement(0x50)),
            ("the reason string of PUBCOMP", packet(0x70, &reason_not_found(text))),
            ("the reason string of PUBREL", packet(0x62, &reason_not_found(text))),
        ]);
    }
    places
}

/// PUBREL and PUBCOMP have one reason code besides success.
fn reason_not_found(text: &[u8]) -> Vec<u8> {
    [&[0, 1, 0x92][..], &block(&property(REASON_STRING, text))].concat()
}

/// The packets in which a client may send user properties, with these.
fn with_properties(properties: &[u8]) -> Vec<Place> {
    let block = block(properties);
    vec![
        ("a property of PUBLISH", publish(properties)),
        ("a property of SUBSCRIBE", packet(0x82, &[&[0, 1], &block[..], &field(b"t"), &[0]].concat())),
        ("a property of UNSUBSCRIBE", packet(0xA2, &[&[0, 1], &block[..], &field(b"t")].concat())),
        ("a property of PUBACK", packet(0x40, &[&[0, 1, 0x80], &block[..]].concat())),
        ("a property of PUBREC", packet(0x50, &[&[0, 1, 0x80], &block[..]].concat())),
        ("a property of PUBREL", packet(0x62, &[&[0, 1, 0x92], &block[..]].concat())),
        ("a property of PUBCOMP", packet(0x70, &[&[0, 1, 0x92], &block[..]].concat())),
    ]
}

fn publish(properties: &[u8]) -> Vec<u8> {
    packet(0x30, &[&field(b"t"), &block(properties), &b"x"[..]].concat())
}

fn pair(key: &[u8], value: &[u8]) -> Vec<u8> {
    [&[USER_PROPERTY], &field(key)[..], &field(value)].concat()
}
