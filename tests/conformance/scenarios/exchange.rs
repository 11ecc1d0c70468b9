//! The exchange of AUTH packets, at CONNECT and again on an open connection, with the method of `test_authentication`. It
//! sends one challenge and accepts a client that returns the challenge.

use crate::harness::packet::{Connect, Properties, Publish, auth, property};
use crate::harness::peer::Peer;
use crate::harness::received::{self, Received};
use crate::target::Target;

const METHOD: &str = "test-echo";
const CONTINUE: u8 = 0x18;
const AGAIN: u8 = 0x19;

fn named(data: &str) -> Properties {
    Properties::new().text(property::AUTHENTICATION_METHOD, METHOD).text(property::AUTHENTICATION_DATA, data)
}

/// Sends CONNECT with the method and these properties; reads no answer.
fn dial(on: &Target, suffix: &str, more: impl FnOnce(Properties) -> Properties) -> Peer {
    let name = on.name(suffix);
    let mut connect = Connect::new(on.version, &name);
    connect.properties = more(named("hello"));
    let mut peer = on.open();
    peer.send(&connect.encode());
    peer
}

/// The next AUTH: its reason code, its method and its data.
fn next_auth(peer: &mut Peer) -> (u8, Option<String>, String) {
    match peer.next() {
        Received::Auth { reason, properties } => {
            let text = |id| received::text(&properties, id);
            (
                reason,
                text(property::AUTHENTICATION_METHOD),
                text(property::AUTHENTICATION_DATA).unwrap_or_default(),
            )
        }
        other => panic!("instead of AUTH came {other:?}"),
    }
}

/// Answers the next challenge.
fn answer(peer: &mut Peer) {
    let (reason, _, challenge) = next_auth(peer);
    assert_eq!(reason, CONTINUE, "another step is requested");
    peer.send(&auth(CONTINUE, &named(&challenge)));
}

/// An accepted client.
fn client(on: &Target, suffix: &str) -> Peer {
    let mut peer = dial(on, suffix, |properties| properties);
    answer(&mut peer);
    assert_eq!(peer.await_connack(), 0);
    peer
}

pub(crate) fn auth_has_a_reason_of_auth(on: &Target) {
    let mut peer = dial(on, "a", |properties| properties);
    let (reason, _, challenge) = next_auth(&mut peer);
    assert_eq!(reason, CONTINUE, "another step before CONNACK");
    peer.send(&auth(CONTINUE, &named(&challenge)));
    assert_eq!(peer.await_connack(), 0);
    peer.send(&auth(AGAIN, &named("again")));
    answer(&mut peer);
    assert_eq!(next_auth(&mut peer).0, 0x00, "the end of an authentication on an open connection");
}

pub(crate) fn auth_keeps_to_the_maximum_packet_size(on: &Target) {
    // CONNACK must fit as well.
    let bytes_max = client(on, "m").last_packet_bytes + 20;
    let limit = u32::try_from(bytes_max).expect("a CONNACK is short");
    let mut peer = dial(on, "a", |properties| properties.four(property::MAXIMUM_PACKET_SIZE, limit));
    answer(&mut peer);
    assert_eq!(peer.await_connack(), 0);
    peer.send(&auth(AGAIN, &named("again")));
    answer(&mut peer);
    assert_eq!(next_auth(&mut peer).0, 0x00);
    let bytes = peer.longest_packet_bytes;
    assert!(bytes <= bytes_max, "{bytes} bytes, but the maximum is {bytes_max}");
}

pub(crate) fn further_steps_are_requested_with_continue(on: &Target) {
    let mut peer = dial(on, "a", |properties| properties);
    let (reason, _, challenge) = next_auth(&mut peer);
    assert_eq!(reason, CONTINUE);
    assert!(!challenge.is_empty(), "the test method challenges");
}

pub(crate) fn a_rejected_client_is_closed(on: &Target) {
    let (name, topic) = (on.name("a"), on.name("/t"));
    // The existing connection stays, because a refused CONNECT has no effect.
    let mut rightful = client(on, "a");
    rightful.subscribe(&topic, 0);
    let mut connect = Connect::new(on.version, &name);
    connect.properties = named("hello");
    let mut peer = on.open();
    peer.send(&connect.encode());
    let _challenge = next_auth(&mut peer);
    peer.send(&auth(CONTINUE, &named("wrong")));
    match peer.next_or_close() {
        None => {}
        Some(Received::ConnAck { reason, session_present, .. }) => {
            assert!(reason >= 0x80 && !session_present, "answered with {reason:#04x}");
            assert_eq!(peer.next_or_close(), None, "the connection ends");
        }
        Some(other) => panic!("answered with {other:?}"),
    }
    rightful.publish(&Publish::new(&topic, 0, b"still here"));
    assert_eq!(rightful.next_message().text(), "still here");
}

pub(crate) fn every_step_names_the_method(on: &Target) {
    let mut peer = dial(on, "a", |properties| properties);
    let (_, method, challenge) = next_auth(&mut peer);
    assert_eq!(method.as_deref(), Some(METHOD), "in AUTH");
    peer.send(&auth(CONTINUE, &named(&challenge)));
    assert_eq!(peer.await_connack(), 0);
    assert_eq!(peer.text(property::AUTHENTICATION_METHOD).as_deref(), Some(METHOD), "in CONNACK");
    peer.send(&auth(AGAIN, &named("again")));
    let (_, method, challenge) = next_auth(&mut peer);
    assert_eq!(method.as_deref(), Some(METHOD), "in AUTH of an open connection");
    peer.send(&auth(CONTINUE, &named(&challenge)));
    assert_eq!(next_auth(&mut peer).1.as_deref(), Some(METHOD), "in its last AUTH");
}

pub(crate) fn a_failed_authentication_of_an_open_connection_closes(on: &Target) {
    let mut peer = client(on, "a");
    peer.send(&auth(AGAIN, &named("again")));
    let _challenge = next_auth(&mut peer);
    peer.send(&auth(CONTINUE, &named("wrong")));
    let reason = peer.await_close();
    assert!(
        matches!(reason, None | Some(0x87 | 0x8C)),
        "a reason code other than Not authorized: {reason:02x?}"
    );
}
