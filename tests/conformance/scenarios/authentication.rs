//! AUTH and the Authentication Method of CONNECT, on brokers without a method.

use super::refusal::closes;
use crate::harness::packet::{Connect, Properties, packet};
use crate::harness::received::Received;
use crate::target::Target;

const AUTHENTICATION_METHOD: u8 = 0x15;
const AUTHENTICATION_DATA: u8 = 0x16;

fn auth(first_byte: u8, reason: u8) -> Vec<u8> {
    packet(first_byte, &[reason, 4, AUTHENTICATION_METHOD, 0, 1, b'm'])
}

pub(crate) fn flags_of_auth_close(on: &Target) {
    for flags in 1..16 {
        for reason in [0x18, 0x19] {
            closes(on, &format!("flags {flags:#x}"), &auth(0xF0 | flags, reason), &[0x81]);
        }
    }
}

pub(crate) fn an_unknown_method_is_refused(on: &Target) {
    let method = on.name("-no-such-method");
    let properties = Properties::new().text(AUTHENTICATION_METHOD, &method);
    for properties in [properties.clone(), properties.text(AUTHENTICATION_DATA, "data")] {
        let name = on.name("a");
        let mut connect = Connect::new(on.version, &name);
        connect.properties = properties;
        let mut peer = on.open();
        peer.send(&connect.encode());
        if let Some(answer) = peer.next_or_close() {
            assert!(
                matches!(answer, Received::ConnAck { reason: 0x8C | 0x87, session_present: false, .. }),
                "answered with {answer:?}"
            );
            assert_eq!(peer.next_or_close(), None, "the connection ends");
        }
    }
}

pub(crate) fn connack_has_no_method_unless_the_client_names_one(on: &Target) {
    for name in [on.name("a"), String::new()] {
        for clean_start in [true, false] {
            let mut connect = Connect::new(on.version, &name);
            connect.clean_start = clean_start;
            let mut peer = on.connect(&connect);
            assert_eq!(peer.text(AUTHENTICATION_METHOD), None, "a method that the client did not name");
            peer.ping();
            assert!(peer.waiting().is_empty(), "after CONNACK came {:?}", peer.waiting());
            peer.disconnect();
        }
    }
}

pub(crate) fn an_auth_without_a_method_closes(on: &Target) {
    for reason in [0x00, 0x18, 0x19] {
        closes(on, &format!("AUTH with {reason:#04x}"), &auth(0xF0, reason), &[0x82, 0x87, 0x8C]);
    }
}
