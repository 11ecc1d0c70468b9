//! Provokes every decoding error. The last test fails if a kind is missing.

use std::mem::discriminant;

use wire::Malformed as M;
use wire::ProtocolVersion::{self, V3_1, V3_1_1, V5};
use wire::{Assembler, Packet, ReasonCode, TopicFilter, TopicName};

use crate::packet;

/// The packet size limit of these tests.
const SIZE_BYTES_MAX: u32 = 256;

/// Description, fixed header, error.
const FRAMING: &[(&str, &[u8], M)] = &[
    ("packet type 0", &[0x00, 0], M::PacketTypeReserved { packet_type: 0 }),
    ("packet type 0 with flags", &[0x0F], M::PacketTypeReserved { packet_type: 0 }),
    ("too large", &[0x30, 0xFE, 0x01], M::PacketTooLarge { size_bytes: 257, size_bytes_max: SIZE_BYTES_MAX }),
    ("length of five bytes", &[0x30, 0x80, 0x80, 0x80, 0x80, 0x01], M::VariableByteIntegerTooLong),
    ("length not minimal", &[0x30, 0x80, 0x00], M::VariableByteIntegerNotMinimal),
];

/// Description, version of the connection, first byte, body, error.
type Row = (&'static str, ProtocolVersion, u8, &'static [u8], M);

const FLAGS_AND_LENGTHS: &[Row] = &[
    ("AUTH in 3.1.1", V3_1_1, 0xF0, b"", M::PacketTypeReserved { packet_type: 15 }),
    ("CONNECT with flags", V5, 0x11, b"", M::FixedHeaderFlags { first_byte: 0x11 }),
    ("PUBACK with flags", V3_1_1, 0x42, b"\0\x01", M::FixedHeaderFlags { first_byte: 0x42 }),
    ("PUBREL without its flag", V3_1_1, 0x60, b"\0\x01", M::FixedHeaderFlags { first_byte: 0x60 }),
    ("PUBREL repeated as in 3.1", V3_1_1, 0x6A, b"\0\x01", M::FixedHeaderFlags { first_byte: 0x6A }),
    ("SUBSCRIBE without its flag", V5, 0x80, b"\0\x01\0\0\x01a\0", M::FixedHeaderFlags { first_byte: 0x80 }),
    ("UNSUBSCRIBE without its flag", V5, 0xA0, b"\0\x01\0\0\x01a", M::FixedHeaderFlags { first_byte: 0xA0 }),
    ("PINGREQ with flags", V5, 0xC1, b"", M::FixedHeaderFlags { first_byte: 0xC1 }),
    ("DISCONNECT with flags", V5, 0xE8, b"", M::FixedHeaderFlags { first_byte: 0xE8 }),
    ("AUTH with flags", V5, 0xF1, b"", M::FixedHeaderFlags { first_byte: 0xF1 }),
    ("property length not minimal", V5, 0x30, b"\0\x01a\x80\0", M::VariableByteIntegerNotMinimal),
    (
        "property length of five bytes",
        V5,
        0x30,
        b"\0\x01a\x80\x80\x80\x80\x01",
        M::VariableByteIntegerTooLong,
    ),
    ("topic beyond the packet", V5, 0x30, b"\0\x05a", M::FieldTruncated),
    ("no room for a topic", V3_1_1, 0x30, b"\0", M::FieldTruncated),
    ("no room for a packet identifier", V3_1_1, 0x32, b"\0\x01a\0", M::FieldTruncated),
    ("properties beyond the packet", V5, 0x30, b"\0\x01a\x01", M::FieldTruncated),
    ("property beyond its section", V5, 0x30, b"\0\x01a\x01\x01\x01", M::FieldTruncated),
    ("PINGREQ with a body", V3_1_1, 0xC0, b"x", M::TrailingBytes { size_bytes: 1 }),
    ("PINGRESP with a body", V5, 0xD0, b"xy", M::TrailingBytes { size_bytes: 2 }),
    ("PUBACK with a reason in 3.1.1", V3_1_1, 0x40, b"\0\x01\0", M::TrailingBytes { size_bytes: 1 }),
    ("UNSUBACK with a reason in 3.1.1", V3_1_1, 0xB0, b"\0\x01\0", M::TrailingBytes { size_bytes: 1 }),
    ("DISCONNECT with a reason in 3.1.1", V3_1_1, 0xE0, b"\0", M::TrailingBytes { size_bytes: 1 }),
    ("PUBACK beyond its properties", V5, 0x40, b"\0\x01\0\0xy", M::TrailingBytes { size_bytes: 2 }),
    ("CONNACK beyond its return code", V3_1_1, 0x20, b"\0\0\0", M::TrailingBytes { size_bytes: 1 }),
    ("AUTH beyond its properties", V5, 0xF0, b"\x18\x04\x15\0\x01mx", M::TrailingBytes { size_bytes: 1 }),
    (
        "CONNECT beyond its password",
        V3_1_1,
        0x10,
        b"\0\x04MQTT\x04\0\0\0\0\0x",
        M::TrailingBytes { size_bytes: 1 },
    ),
];

const TOPICS: &[Row] = &[
    ("text not UTF-8", V5, 0x30, b"\0\x01\xFF\0", M::TextNotUtf8),
    ("a surrogate", V5, 0x30, b"\0\x03\xED\xA0\x80\0", M::TextNotUtf8),
    ("a client identifier not UTF-8", V3_1_1, 0x10, b"\0\x04MQTT\x04\0\0\0\0\x01\xFF", M::TextNotUtf8),
    ("null in a topic", V5, 0x30, b"\0\x03a\0b\0", M::TextHasNull),
    ("null in a filter", V5, 0x82, b"\0\x01\0\0\x01\0\0", M::TextHasNull),
    ("null in a client identifier", V3_1_1, 0x10, b"\0\x04MQTT\x04\0\0\0\0\x01\0", M::TextHasNull),
    ("null in a user property", V5, 0x30, b"\0\x01a\x06\x26\0\0\0\x01\0", M::TextHasNull),
    ("an empty will topic", V3_1_1, 0x10, b"\0\x04MQTT\x04\x04\0\0\0\0\0\0\0\0", M::TopicNameEmpty),
    ("a wildcard in a topic", V3_1_1, 0x30, b"\0\x03a/#", M::TopicNameHasWildcard),
    (
        "a wildcard in a will topic",
        V3_1_1,
        0x10,
        b"\0\x04MQTT\x04\x04\0\0\0\0\0\x01+\0\0",
        M::TopicNameHasWildcard,
    ),
    ("an empty filter", V3_1_1, 0x82, b"\0\x01\0\0\0", M::TopicFilterEmpty),
    ("an empty filter to leave", V3_1_1, 0xA2, b"\0\x01\0\0", M::TopicFilterEmpty),
    ("# before the end", V3_1_1, 0x82, b"\0\x01\0\x03#/a\0", M::TopicFilterWildcardMisplaced),
    ("+ within a level", V5, 0xA2, b"\0\x01\0\0\x02a+", M::TopicFilterWildcardMisplaced),
    ("an empty share name", V5, 0x82, b"\0\x01\0\0\x09$share//a\0", M::ShareNameInvalid),
    ("a wildcard in a share name", V5, 0x82, b"\0\x01\0\0\x0A$share/+/a\0", M::ShareNameInvalid),
    ("no filter behind the share name", V5, 0x82, b"\0\x01\0\0\x08$share/g\0", M::SharedFilterMissing),
    ("an empty one", V5, 0x82, b"\0\x01\0\0\x09$share/g/\0", M::SharedFilterMissing),
    ("an empty response topic", V5, 0x30, b"\0\x01a\x03\x08\0\0", M::ResponseTopicEmpty),
    (
        "an empty response topic of a will",
        V5,
        0x10,
        b"\0\x04MQTT\x05\x04\0\0\0\0\0\x03\x08\0\0\0\x01w\0\0",
        M::ResponseTopicEmpty,
    ),
    ("a wildcard in a response topic", V5, 0x30, b"\0\x01a\x04\x08\0\x01+", M::ResponseTopicHasWildcard),
];

const PROPERTIES: &[Row] = &[
    ("an unknown property", V5, 0x30, b"\0\x01a\x02\x7F\0", M::PropertyUnknown { identifier: 0x7F }),
    (
        "an unknown one of two bytes",
        V5,
        0x30,
        b"\0\x01a\x02\x81\x01",
        M::PropertyUnknown { identifier: 0x81 },
    ),
    ("a property of CONNECT", V5, 0x30, b"\0\x01a\x02\x17\0", M::PropertyNotAllowed { identifier: 0x17 }),
    (
        "two expiry intervals",
        V5,
        0xE0,
        b"\0\x0A\x11\0\0\0\x01\x11\0\0\0\x01",
        M::PropertyDuplicate { identifier: 0x11 },
    ),
    (
        "payload format 2",
        V5,
        0x30,
        b"\0\x01a\x02\x01\x02",
        M::PropertyValueInvalid { identifier: 0x01, value: 2 },
    ),
    (
        "receive maximum 0",
        V5,
        0x20,
        b"\0\0\x03\x21\0\0",
        M::PropertyValueInvalid { identifier: 0x21, value: 0 },
    ),
    (
        "maximum packet size 0",
        V5,
        0x20,
        b"\0\0\x05\x27\0\0\0\0",
        M::PropertyValueInvalid { identifier: 0x27, value: 0 },
    ),
    (
        "subscription identifier 0",
        V5,
        0x82,
        b"\0\x01\x02\x0B\0\0\x01a\0",
        M::PropertyValueInvalid { identifier: 0x0B, value: 0 },
    ),
    ("topic alias 0", V5, 0x30, b"\0\x01a\x03\x23\0\0", M::TopicAliasZero),
    (
        "data without a method",
        V5,
        0x10,
        b"\0\x04MQTT\x05\x02\0\0\x03\x16\0\0\0\0",
        M::AuthenticationDataWithoutMethod,
    ),
    ("AUTH without a method", V5, 0xF0, b"\x18\0", M::AuthenticationMethodMissing),
    ("AUTH without properties", V5, 0xF0, b"\x18", M::AuthenticationMethodMissing),
];

const CONNECT: &[Row] = &[
    ("another protocol", V5, 0x10, b"\0\x04HTTP\x05\x02\0\0\0\0\0", M::ProtocolNameUnknown),
    ("the name in small letters", V5, 0x10, b"\0\x04mqtt\x04\x02\0\0\0\0", M::ProtocolNameUnknown),
    ("level 6", V5, 0x10, b"\0\x04MQTT\x06", M::UnsupportedProtocolVersion { level: 6 }),
    (
        "level 3 by the new name",
        V5,
        0x10,
        b"\0\x04MQTT\x03\x02\0\0\0\0",
        M::UnsupportedProtocolVersion { level: 3 },
    ),
    (
        "level 4 by the old name",
        V5,
        0x10,
        b"\0\x06MQIsdp\x04\x02\0\0\0\0",
        M::UnsupportedProtocolVersion { level: 4 },
    ),
    (
        "a bridge's level of 5.0, which has options instead",
        V5,
        0x10,
        b"\0\x04MQTT\x85\x02\0\0\0\0\0",
        M::UnsupportedProtocolVersion { level: 0x85 },
    ),
    (
        "a bridge's level of 3.1 by the new name",
        V5,
        0x10,
        b"\0\x04MQTT\x83\x02\0\0\0\0",
        M::UnsupportedProtocolVersion { level: 0x83 },
    ),
    ("the reserved flag", V5, 0x10, b"\0\x04MQTT\x05\x03\0\0\0\0\0", M::ConnectFlagReserved),
    ("will QoS 3", V5, 0x10, b"\0\x04MQTT\x05\x1C\0\0\0\0\0\0\0\x01a\0\0", M::WillQosInvalid),
    ("will QoS 1 without a will", V5, 0x10, b"\0\x04MQTT\x05\x08\0\0\0\0\0", M::WillFlagsWithoutWill),
    ("will retain without a will", V3_1_1, 0x10, b"\0\x04MQTT\x04\x20\0\0\0\0", M::WillFlagsWithoutWill),
    ("a password alone", V3_1_1, 0x10, b"\0\x04MQTT\x04\x40\0\0\0\0\0\0", M::PasswordWithoutUserName),
    ("a user name that is not there", V3_1_1, 0x10, b"\0\x04MQTT\x04\x80\0\0\0\0", M::FieldTruncated),
    ("a reserved acknowledge flag", V3_1_1, 0x20, b"\x02\0", M::ConnAckFlagsReserved),
    ("a session in a refusal", V5, 0x20, b"\x01\x87\0", M::SessionPresentWithError),
    ("a reserved return code", V3_1_1, 0x20, b"\0\x06", M::ReasonCodeNotAllowed { code: 6 }),
];

const PUBLISH: &[Row] = &[
    ("QoS 3", V5, 0x36, b"\0\x01a\0\x01\0", M::QosInvalid),
    ("QoS 3 again", V3_1_1, 0x3E, b"\0\x01a\0\x01", M::QosInvalid),
    ("DUP with QoS 0", V3_1_1, 0x38, b"\0\x01a", M::DupWithQos0),
    ("no topic", V3_1_1, 0x30, b"\0\0", M::TopicNameMissing),
    ("no topic and no alias", V5, 0x30, b"\0\0\0", M::TopicNameMissing),
    ("packet identifier 0", V3_1_1, 0x32, b"\0\x01a\0\0", M::PacketIdZero),
    ("0 in an acknowledgement", V5, 0x40, b"\0\0", M::PacketIdZero),
    ("0 in a subscription", V5, 0x82, b"\0\0\0\0\x01a\0", M::PacketIdZero),
    ("0 in leaving one", V3_1_1, 0xA2, b"\0\0\0\x01a", M::PacketIdZero),
    ("a reason of another packet", V5, 0x40, b"\0\x01\x92", M::ReasonCodeNotAllowed { code: 0x92 }),
];

const SUBSCRIBE: &[Row] = &[
    ("nothing to subscribe to", V5, 0x82, b"\0\x01\0", M::TopicFiltersMissing),
    ("nothing to subscribe to in 3.1.1", V3_1_1, 0x82, b"\0\x01", M::TopicFiltersMissing),
    ("nothing to leave", V5, 0xA2, b"\0\x01\0", M::TopicFiltersMissing),
    ("a filter without options", V5, 0x82, b"\0\x01\0\0\x01a", M::FieldTruncated),
    ("reserved options", V5, 0x82, b"\0\x01\0\0\x01a\x40", M::SubscribeOptionsReserved),
    ("options of 5.0 in 3.1.1", V3_1_1, 0x82, b"\0\x01\0\x01a\x04", M::SubscribeOptionsReserved),
    ("QoS 3", V5, 0x82, b"\0\x01\0\0\x01a\x03", M::SubscribeQosInvalid),
    ("QoS 3 in 3.1.1", V3_1_1, 0x82, b"\0\x01\0\x01a\x03", M::SubscribeQosInvalid),
    ("the second one's QoS 3", V3_1_1, 0x82, b"\0\x01\0\x01a\x02\0\x01b\x03", M::SubscribeQosInvalid),
    ("retain handling 3", V5, 0x82, b"\0\x01\0\0\x01a\x30", M::RetainHandlingInvalid),
    ("no local and shared", V5, 0x82, b"\0\x01\0\0\x0A$share/g/a\x04", M::SharedNoLocal),
    ("no reason codes", V5, 0x90, b"\0\x01\0", M::ReasonCodesMissing),
    ("no reason codes for leaving", V5, 0xB0, b"\0\x01\0", M::ReasonCodesMissing),
];

const TABLES: [&[Row]; 6] = [FLAGS_AND_LENGTHS, TOPICS, PROPERTIES, CONNECT, PUBLISH, SUBSCRIBE];

fn refusal(version: ProtocolVersion, mut stream: &[u8]) -> Option<M> {
    let mut assembler = Assembler::new();
    match assembler.next(&mut stream, SIZE_BYTES_MAX) {
        Ok(Some(frame)) => Packet::decode(version, frame).err(),
        Ok(None) => None,
        Err(refusal) => Some(refusal),
    }
}

#[test]
fn every_violation_is_refused_with_its_own_error() {
    for (what, header, expected) in FRAMING {
        assert_eq!(refusal(V5, header), Some(*expected), "{what}");
    }
    for (what, version, first_byte, body, expected) in TABLES.concat() {
        assert_eq!(refusal(version, &packet(first_byte, body)), Some(expected), "{what}");
    }
}

/// Packets that another version refuses and this one accepts.
#[test]
fn packets_valid_in_their_version_are_accepted() {
    let rows: &[(&str, ProtocolVersion, u8, &[u8])] = &[
        ("a password alone", V5, 0x10, b"\0\x04MQTT\x05\x40\0\0\0\0\0\0\0"),
        ("level 3 by the old name", V3_1, 0x10, b"\0\x06MQIsdp\x03\x02\0\0\0\0"),
        ("PUBREL repeated", V3_1, 0x6A, b"\0\x01"),
        ("SUBSCRIBE repeated", V3_1, 0x8A, b"\0\x01\0\x01a\0"),
        ("a CONNACK's first byte", V3_1, 0x20, b"\x80\0"),
        ("a topic by its alias", V5, 0x30, b"\0\0\x03\x23\0\x01"),
        ("an alias with its topic", V5, 0x30, b"\0\x01a\x03\x23\0\x01"),
        ("a subscription identifier, as servers send it", V5, 0x30, b"\0\x01a\x02\x0B\x01"),
        ("nothing for a payload", V3_1_1, 0x30, b"\0\x01a"),
        ("an empty client identifier", V3_1_1, 0x10, b"\0\x04MQTT\x04\0\0\0\0\0"),
        ("nothing but success", V5, 0xF0, b""),
        ("a reason without properties", V5, 0x40, b"\0\x01\x10"),
        ("no local", V5, 0x82, b"\0\x01\0\0\x01a\x04"),
        ("a byte order mark in a topic", V3_1_1, 0x30, b"\0\x03\xEF\xBB\xBF"), // [MQTT-1.5.4-3]
    ];
    for (what, version, first_byte, body) in rows {
        assert_eq!(refusal(*version, &packet(*first_byte, body)), None, "{what}");
    }
}

#[test]
fn every_refusal_is_provoked() {
    let long = "a".repeat(65_536);
    let mut seen = vec![TopicName::parse(&long).unwrap_err(), TopicFilter::parse(&long).unwrap_err()];
    seen.extend(FRAMING.iter().filter_map(|(_, header, _)| refusal(V5, header)));
    let rows = TABLES.concat();
    seen.extend(
        rows.iter().filter_map(|(_, version, first, body, _)| refusal(*version, &packet(*first, body))),
    );
    for kind in M::ALL {
        assert!(
            seen.iter().any(|refusal| discriminant(refusal) == discriminant(kind)),
            "no test provokes {kind:?}"
        );
    }
}

#[test]
fn refusals_have_the_reason_code_of_the_standard() {
    let reason = |name: &str| {
        let (.., refusal) =
            TABLES.concat().into_iter().find(|(what, ..)| *what == name).expect("a row of that name");
        refusal.reason()
    };
    assert_eq!(FRAMING[2].2.reason(), ReasonCode::PacketTooLarge);
    assert_eq!(reason("an unknown property"), ReasonCode::MalformedPacket); // 2.2.2.2
    assert_eq!(reason("a property of CONNECT"), ReasonCode::MalformedPacket); // 2.2.2.2
    assert_eq!(reason("two expiry intervals"), ReasonCode::ProtocolError); // 3.1.2.11.2
    assert_eq!(reason("receive maximum 0"), ReasonCode::ProtocolError); // 3.1.2.11.3
    assert_eq!(reason("topic alias 0"), ReasonCode::TopicAliasInvalid); // 3.3.4
    assert_eq!(reason("QoS 3"), ReasonCode::MalformedPacket); // [MQTT-3.3.1-4]
    assert_eq!(reason("no topic and no alias"), ReasonCode::ProtocolError); // 3.3.2.1
    assert_eq!(reason("nothing to subscribe to"), ReasonCode::ProtocolError); // [MQTT-3.8.3-2]
    assert_eq!(reason("reserved options"), ReasonCode::MalformedPacket); // [MQTT-3.8.3-5]
    assert_eq!(reason("retain handling 3"), ReasonCode::ProtocolError); // 3.8.3.1
    assert_eq!(reason("no local and shared"), ReasonCode::ProtocolError); // [MQTT-3.8.3-4]
    assert_eq!(reason("level 6"), ReasonCode::UnsupportedProtocolVersion); // [MQTT-3.1.2-2]
    assert_eq!(reason("another protocol"), ReasonCode::UnsupportedProtocolVersion); // [MQTT-3.1.2-1]
}
