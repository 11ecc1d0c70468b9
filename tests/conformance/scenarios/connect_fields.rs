//! The fields of CONNECT: required, forbidden and malformed ones.

use super::connect_bytes::{
    CLEAN, ConnectBytes, MALFORMED, MALFORMED_OR_PROTOCOL_ERROR, PASSWORD, USER_NAME, WILL, field,
    is_refused, property,
};
use crate::harness::packet::{Connect, Properties, packet};
use crate::harness::received::Received;
use crate::target::Target;

const UNSUPPORTED_PROTOCOL_VERSION: u8 = 0x84;
/// The same in 3.1.1.
const UNACCEPTABLE_PROTOCOL_LEVEL: u8 = 0x01;

/// Another protocol: the broker closes, optionally after a CONNACK that its version is unsupported.
pub(crate) fn another_protocol_name_closes(on: &Target) {
    for name in ["MQTU", "mqtt", "MQT", "MQTTT", "MQTT\u{feff}", "HTTP", ""] {
        let mut connect = ConnectBytes::of(on);
        connect.name = name.as_bytes().to_vec();
        is_not_spoken(on, name, &connect);
    }
}

/// Levels above that of 5.0, and below that of 3.1.1.
pub(crate) fn another_protocol_level_closes(on: &Target) {
    for level in [0, 1, 2, 6, 7, 0x45, 0x7F] {
        let mut connect = ConnectBytes::of(on);
        connect.level = level;
        is_not_spoken(on, &format!("level {level}"), &connect);
    }
}

/// An answer may be in the format of either version, because the client uses neither.
fn is_not_spoken(on: &Target, what: &str, connect: &ConnectBytes) {
    let mut peer = on.open();
    peer.send_ignoring_errors(&connect.encode());
    match peer.next_or_close() {
        None => {}
        Some(Received::ConnAck {
            session_present: false,
            reason: UNSUPPORTED_PROTOCOL_VERSION | UNACCEPTABLE_PROTOCOL_LEVEL,
            ..
        }) => {
            peer.await_close();
        }
        Some(other) => panic!("{what:?} is answered with {other:?}"),
    }
}

/// 3.1.1 requires this answer. Higher levels belong to later standards, which answer in their own format.
pub(crate) fn an_older_protocol_level_is_refused_with_1(on: &Target) {
    for level in [0, 1, 2] {
        let mut connect = ConnectBytes::of(on);
        connect.level = level;
        let mut peer = on.open();
        peer.send(&connect.encode());
        assert_eq!(peer.await_connack(), UNACCEPTABLE_PROTOCOL_LEVEL, "level {level}");
        assert!(!peer.session_present);
        peer.await_close();
    }
}

pub(crate) fn a_will_without_its_fields_closes(on: &Target) {
    let will = ConnectBytes::of(on).flag(WILL);
    let mut missing = vec![
        ("no field", will.clone()),
        ("no topic", will.clone().will_properties(&[])),
        ("no payload", will.clone().will_properties(&[]).field(b"t")),
        ("half a payload", will.clone().will_properties(&[]).field(b"t").raw(&[0, 2, b'x'])),
    ];
    if on.version.is_v5() {
        // The topic's length is read as that of the properties, which end beyond the packet or leave no payload.
        missing.push(("no properties", will.clone().field(b"t").field(b"x")));
        missing.push(("properties beyond the end", will.raw(&[20, 0, 1, b't', 0, 1, b'x'])));
    }
    for (what, connect) in missing {
        is_refused(on, what, &connect.encode(), MALFORMED_OR_PROTOCOL_ERROR);
    }
}

pub(crate) fn a_will_qos_without_a_will_closes(on: &Target) {
    for qos in [0x08, 0x10, 0x18] {
        let connect = ConnectBytes::of(on).flag(qos).encode();
        is_refused(on, &format!("flags {qos:#04x}"), &connect, MALFORMED_OR_PROTOCOL_ERROR);
    }
}

pub(crate) fn a_will_retain_without_a_will_closes(on: &Target) {
    let connect = ConnectBytes::of(on).flag(0x20).encode();
    is_refused(on, "will retain without a will", &connect, MALFORMED_OR_PROTOCOL_ERROR);
}

/// Flags and fields of a will without the will flag.
pub(crate) fn parts_of_a_will_without_a_will_close(on: &Target) {
    a_will_qos_without_a_will_closes(on);
    a_will_retain_without_a_will_closes(on);
    let connect = ConnectBytes::of(on).field(b"t").field(b"gone").encode();
    is_refused(on, "topic and message of a will", &connect, MALFORMED_OR_PROTOCOL_ERROR);
}

pub(crate) fn a_will_qos_of_3_closes(on: &Target) {
    for retain in [0, 0x20] {
        let connect = ConnectBytes::of(on).flag(WILL | 0x18 | retain);
        let connect = connect.will_properties(&[]).field(on.name("/w").as_bytes()).field(b"gone");
        is_refused(on, "a will of QoS 3", &connect.encode(), MALFORMED_OR_PROTOCOL_ERROR);
    }
}

pub(crate) fn a_user_name_without_its_flag_closes(on: &Target) {
    let connect = ConnectBytes::of(on);
    is_refused(on, "a user name", &connect.clone().field(b"user").encode(), MALFORMED_OR_PROTOCOL_ERROR);
    let with_will = connect.flag(WILL).will_properties(&[]).field(on.name("/w").as_bytes()).field(b"gone");
    let connect = with_will.field(b"user").encode();
    is_refused(on, "a user name after a will", &connect, MALFORMED_OR_PROTOCOL_ERROR);
}

pub(crate) fn a_user_name_flag_without_a_user_name_closes(on: &Target) {
    let connect = ConnectBytes::of(on).flag(USER_NAME);
    for (what, connect) in [
        ("nothing", connect.clone()),
        ("half a length", connect.clone().raw(&[0])),
        ("half a user name", connect.raw(&[0, 4, b'u', b's'])),
    ] {
        is_refused(on, what, &connect.encode(), MALFORMED_OR_PROTOCOL_ERROR);
    }
}

pub(crate) fn a_password_without_its_flag_closes(on: &Target) {
    let connect = ConnectBytes::of(on).flag(USER_NAME).field(b"user").field(b"secret");
    is_refused(on, "a password", &connect.encode(), MALFORMED_OR_PROTOCOL_ERROR);
}

pub(crate) fn a_password_flag_without_a_password_closes(on: &Target) {
    let connect = ConnectBytes::of(on).flag(USER_NAME | PASSWORD).field(b"user");
    for (what, connect) in [
        ("nothing", connect.clone()),
        ("half a length", connect.clone().raw(&[0])),
        ("half a password", connect.raw(&[0, 6, b's'])),
    ] {
        is_refused(on, what, &connect.encode(), MALFORMED_OR_PROTOCOL_ERROR);
    }
}

pub(crate) fn a_password_without_a_user_name_closes(on: &Target) {
    let connect = ConnectBytes::of(on).flag(PASSWORD).field(b"secret").encode();
    is_refused(on, "a password without a user name", &connect, MALFORMED);
}

/// The fields are read in their order, whichever are present: the published will is the given one.
pub(crate) fn fields_are_read_in_their_order(on: &Target) {
    let topic = on.name("/w");
    let mut watcher = on.client("w");
    watcher.subscribe(&topic, 1);
    for (number, flags) in [0, USER_NAME, USER_NAME | PASSWORD].into_iter().enumerate() {
        let payload = format!("gone {number}");
        let properties = property(0x03, b"text/plain");
        let mut connect = ConnectBytes::of(on).flag(flags | WILL).will_properties(&properties);
        connect = connect.field(topic.as_bytes()).field(payload.as_bytes());
        if flags & USER_NAME != 0 {
            connect = connect.field(b"user");
        }
        if flags & PASSWORD != 0 {
            connect = connect.field(b"secret \0\xFF");
        }
        let mut peer = on.open();
        peer.send(&connect.encode());
        assert_eq!(peer.await_connack(), 0);
        peer.ping();
        peer.vanish();
        let will = watcher.next_message();
        assert_eq!((will.topic, will.payload), (topic.clone(), payload.into_bytes()));
        assert_eq!(
            will.properties.len(),
            usize::from(on.version.is_v5()),
            "the content type, where there is one"
        );
    }
}

pub(crate) fn a_connect_without_a_client_identifier_closes(on: &Target) {
    let connect = ConnectBytes::new(on);
    for (what, connect) in [
        ("no payload", connect.clone()),
        ("half a length", connect.clone().raw(&[0])),
        ("half an identifier", connect.clone().raw(&[0, 3, b'a', b'b'])),
        ("only a user name, as in the flags", connect.flag(USER_NAME).field(b"user")),
    ] {
        is_refused(on, what, &connect.encode(), MALFORMED_OR_PROTOCOL_ERROR);
    }
}

/// All remaining rules of section 3.1 for CONNECT.
pub(crate) fn a_connect_out_of_format_closes(on: &Target) {
    let good = ConnectBytes::of(on);
    let body = good.body();
    // Cut off at every position, with a matching length.
    for bytes in 0..body.len() {
        let what = format!("the first {bytes} bytes");
        is_refused(on, &what, &packet(0x10, &body[..bytes]), &[0x81, 0x82, UNSUPPORTED_PROTOCOL_VERSION]);
    }
    let mut others = vec![
        ("a byte after the last field", good.clone().raw(&[0]).encode()),
        ("the reserved flag", good.clone().flag(0x01).encode()),
        ("flags of the first byte", packet(0x11, &body)),
        ("a will topic with a wildcard", with_will_topic(on, b"a/#")),
        ("a will topic of no characters", with_will_topic(on, b"")),
        ("a length of more than four bytes", vec![0x10, 0x80, 0x80, 0x80, 0x80, 0x01]),
    ];
    if on.version.is_v5() {
        let with = |properties: &[u8]| good.clone().properties(properties).encode();
        others.extend([
            ("a property of another packet", with(&[0x23, 0, 1])),
            ("a property that does not exist", with(&[0x7F, 0])),
            ("a property twice", with(&[0x22, 0, 1, 0x22, 0, 1])),
            ("a receive maximum of 0", with(&[0x21, 0, 0])),
            ("a maximum packet size of 0", with(&[0x27, 0, 0, 0, 0])),
            ("request problem information of 2", with(&[0x17, 2])),
            ("request response information of 2", with(&[0x19, 2])),
            ("half a property", with(&[0x27, 0, 1])),
            ("authentication data without a method", with(&property(0x16, b"data"))),
            ("properties longer than the packet", long_properties(on)),
        ]);
    } else {
        others.push(("a password without a user name", good.flag(PASSWORD).field(b"secret").encode()));
    }
    for (what, bytes) in others {
        // A will topic or client identifier may also be refused with other codes.
        is_refused(on, what, &bytes, &[0x81, 0x82, 0x90]);
    }
}

/// No return code fits a malformed CONNECT, so there is no answer.
pub(crate) fn a_connect_error_without_a_return_code_is_not_answered(on: &Target) {
    for (what, connect) in [
        ("a will of QoS 3", ConnectBytes::of(on).flag(WILL | 0x18).field(b"t").field(b"gone")),
        ("the reserved flag", ConnectBytes::of(on).flag(0x01)),
        ("bytes after the last field", ConnectBytes::of(on).raw(b"more")),
    ] {
        is_refused(on, what, &connect.encode(), &[]);
    }
}

/// Every valid form of CONNECT is accepted.
pub(crate) fn good_connects_are_accepted(on: &Target) {
    let name = on.name("a");
    let mut forms = vec![
        Connect::new(on.version, &name),
        Connect { keep_alive_s: 0, ..Connect::new(on.version, &name) },
        Connect { keep_alive_s: u16::MAX, ..Connect::new(on.version, &name) },
        Connect { clean_start: false, ..Connect::new(on.version, &name) },
        Connect::new(on.version, &name).with_will("t", b"", Properties::new()),
    ];
    if on.version.is_v5() {
        let properties =
            Properties::new().two(0x21, 1).four(0x27, u32::MAX).two(0x22, u16::MAX).byte(0x17, 0);
        let properties = properties.byte(0x19, 0).four(0x11, 0).pair("key", "value").pair("key", "value");
        forms.push(Connect { properties, ..Connect::new(on.version, &name) });
    }
    for connect in forms {
        on.connect(&connect).disconnect();
    }
}

fn with_will_topic(on: &Target, topic: &[u8]) -> Vec<u8> {
    ConnectBytes::of(on).flag(WILL).will_properties(&[]).field(topic).field(b"gone").encode()
}

fn long_properties(on: &Target) -> Vec<u8> {
    let fixed = [&field(b"MQTT")[..], &[5, CLEAN, 0, 60, 100]].concat();
    packet(0x10, &[fixed, field(on.name("a").as_bytes())].concat())
}
