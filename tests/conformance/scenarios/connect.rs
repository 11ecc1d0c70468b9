//! CONNECT: the first packet, refusals, and the session of a client.

use crate::harness::packet::{Connect, PINGREQ, Publish};
use crate::harness::received::Received;
use crate::target::Target;

const QOS_1: u8 = 1;

pub(crate) fn another_first_packet_closes(on: &Target) {
    let mut peer = on.open();
    peer.send_ignoring_errors(&PINGREQ);
    assert_eq!(peer.next_or_close(), None, "no answer before CONNECT");
}

pub(crate) fn a_second_connect_closes(on: &Target) {
    let name = on.name("a");
    let connect = Connect::new(on.version, &name);
    let mut peer = on.connect(&connect);
    peer.send_ignoring_errors(&connect.encode());
    let reason = peer.await_close();
    if on.version.is_v5() {
        assert!(matches!(reason, None | Some(0x82)), "a reason other than 0x82 Protocol Error: {reason:?}");
    }
}

pub(crate) fn the_reserved_flag_closes(on: &Target) {
    let mut bytes = Connect::new(on.version, &on.name("a")).encode();
    // Fixed header (2), protocol name (6), level (1), flags.
    bytes[9] |= 0x01;
    let mut peer = on.open();
    peer.send_ignoring_errors(&bytes);
    match peer.next_or_close() {
        None => {}
        Some(Received::ConnAck { reason, .. }) if on.version.is_v5() && reason >= 0x80 => {
            peer.await_close();
        }
        Some(other) => panic!("answered with {other:?}"),
    }
}

pub(crate) fn a_clean_start_discards_the_session(on: &Target) {
    let (name, topic) = (on.name("a"), on.name("/t"));
    let mut first = on.persistent("a");
    first.subscribe(&topic, QOS_1);
    first.disconnect();
    let clean = on.connect(&Connect::new(on.version, &name));
    assert!(!clean.session_present);
    clean.disconnect();
    let mut third = on.persistent("a");
    assert!(
        !third.session_present,
        "the clean start ended the first session, and its own with the connection"
    );
    on.client("p").publish(&Publish::new(&topic, 1, b"lost"));
    third.subscribe(&topic, QOS_1);
    on.client("p").publish(&Publish::new(&topic, 1, b"seen"));
    assert_eq!(third.next_message().text(), "seen", "the subscription of the first session is gone");
}

pub(crate) fn a_session_is_resumed(on: &Target) {
    let topic = on.name("/t");
    let mut first = on.persistent("a");
    first.subscribe(&topic, QOS_1);
    first.disconnect();
    on.client("p").publish(&Publish::new(&topic, 1, b"kept"));
    let mut second = on.persistent("a");
    assert!(second.session_present);
    assert_eq!(second.next_message().text(), "kept");
}

pub(crate) fn simple_identifiers_are_allowed(on: &Target) {
    let longest = "0123456789abcdefghijklm";
    let scope = on.name("");
    for characters in ["nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ", longest] {
        let name = format!("{scope}{}", &characters[..characters.len().min(23 - scope.len())]);
        on.connect(&Connect::new(on.version, &name)).disconnect();
    }
    on.connect(&Connect::new(on.version, longest)).disconnect();
}

pub(crate) fn there_is_one_connack(on: &Target) {
    let mut peer = on.client("a");
    peer.ping();
    assert!(peer.waiting().is_empty(), "after CONNACK came {:?}", peer.waiting());
}

pub(crate) fn a_clean_start_has_no_session_present(on: &Target) {
    on.persistent("a").disconnect();
    let peer = on.connect(&Connect::new(on.version, &on.name("a")));
    assert!(!peer.session_present);
}
