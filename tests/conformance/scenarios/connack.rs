//! CONNACK: it comes first, reports the session, gives the reason of a refusal, and carries assigned identifiers.

use super::connect_bytes::ConnectBytes;
use crate::harness::packet::{Connect, PINGREQ, Properties, Publish, Version, Will, property, subscribe};
use crate::harness::peer::Peer;
use crate::harness::received::Received;
use crate::target::Target;

const AUTHENTICATION_METHOD: u8 = 0x15;
const SESSION_TAKEN_OVER: u8 = 0x8E;
const RETAIN_NOT_SUPPORTED: u8 = 0x9A;
const QOS_NOT_SUPPORTED: u8 = 0x9B;
const IDENTIFIER_REJECTED: u8 = 0x02;
const IDENTIFIER_NOT_VALID: u8 = 0x85;
/// Section 3.2.2.2.
const CONNECT_REASON_CODES: [u8; 22] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99,
    0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
];

/// Nothing precedes it, neither queued messages of the session nor answers to packets sent together with CONNECT.
pub(crate) fn connack_comes_first(on: &Target) {
    let topic = on.name("/t");
    let mut peer = on.persistent("a");
    peer.subscribe(&topic, 1);
    peer.disconnect();
    on.client("p").publish(&Publish::new(&topic, 1, b"waits"));
    let name = on.name("a");
    let mut bytes = Connect::persistent(on.version, &name).encode();
    bytes.extend(PINGREQ);
    bytes.extend(subscribe(on.version, 7, &[(&topic, 1)], &Properties::new()));
    bytes.extend(Publish::new(&topic, 0, b"sent along").encode(on.version));
    let mut peer = on.open();
    peer.send(&bytes);
    assert_eq!(peer.await_connack(), 0);
    // They have different publishers, so either may come first: the first one may still be on its way between shards.
    let mut received = [peer.next_message().text(), peer.next_message().text()];
    received.sort();
    assert_eq!(received, ["sent along", "waits"]);
    peer.ping();
}

pub(crate) fn reserved_flags_are_0(on: &Target) {
    // Decoding a CONNACK checks the whole byte: here both allowed values, and a refusal.
    assert!(!on.persistent("a").session_present);
    assert!(on.persistent("a").session_present);
    refused(on).await_close();
}

pub(crate) fn session_present_reports_an_existing_session(on: &Target) {
    let topic = on.name("/t");
    let mut first = on.persistent("a");
    assert!(!first.session_present, "there is none yet");
    first.subscribe(&topic, 1);
    first.disconnect();
    for _ in 0..2 {
        let again = on.persistent("a");
        assert!(again.session_present);
        again.vanish();
    }
    // The same while the first connection still exists: it is taken over.
    let _first = on.persistent("a");
    assert!(on.persistent("a").session_present);
}

/// Without clean start and without a session, a session is created and exists the next time.
pub(crate) fn a_session_is_created_if_there_is_none(on: &Target) {
    let topic = on.name("/t");
    let mut first = on.persistent("a");
    assert!(!first.session_present);
    first.subscribe(&topic, 1);
    on.client("p").publish(&Publish::new(&topic, 1, b"one"));
    assert_eq!(first.next_message().text(), "one");
    first.disconnect();
    on.client("p").publish(&Publish::new(&topic, 1, b"two"));
    assert_eq!(on.persistent("a").next_message().text(), "two");
}

/// Identifiers that differ in any way name different sessions; the same identifier always names the same session.
pub(crate) fn client_identifiers_distinguish_sessions(on: &Target) {
    let names = [on.name("a"), on.name("A"), on.name("aa"), on.name("")];
    for (number, name) in names.iter().enumerate() {
        let mut peer = on.connect(&Connect::persistent(on.version, name));
        assert!(!peer.session_present, "{name} is another one");
        peer.subscribe(&on.name(&format!("/{number}")), 1);
        peer.disconnect();
    }
    let mut publisher = on.client("p");
    for number in 0..names.len() {
        publisher.publish(&Publish::new(&on.name(&format!("/{number}")), 1, number.to_string().as_bytes()));
    }
    for (number, name) in names.iter().enumerate() {
        let mut peer = on.connect(&Connect::persistent(on.version, name));
        assert!(peer.session_present);
        assert_eq!(peer.next_message().text(), number.to_string());
        peer.disconnect();
    }
}

/// A client without an identifier gets a unique one or is refused; no other such client shares its session.
pub(crate) fn an_empty_identifier_is_replaced_by_a_unique_one(on: &Target) {
    let mut peers = Vec::new();
    for number in 0..3 {
        let Some(mut peer) = nameless(on, &Connect::new(on.version, "")) else { return };
        peer.subscribe(&on.name(&format!("/{number}")), 1);
        peers.push(peer);
    }
    let mut publisher = on.client("p");
    for (number, peer) in peers.iter_mut().enumerate() {
        let topic = on.name(&format!("/{number}"));
        publisher.publish(&Publish::new(&topic, 1, b"x"));
        assert_eq!(peer.next_message().topic, topic);
    }
    let mut names: Vec<_> = peers.iter().map(|peer| peer.text(property::ASSIGNED_CLIENT_ID)).collect();
    if on.version.is_v5() {
        assert!(names.iter().flatten().all(|name| !name.is_empty()), "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.iter().flatten().count(), peers.len(), "each CONNACK has another identifier");
    }
}

/// An assigned identifier can be used like one chosen by the client.
pub(crate) fn an_assigned_identifier_is_sent_and_names_the_session(on: &Target) {
    let topic = on.name("/t");
    let Some(mut peer) = nameless(on, &Connect::persistent(on.version, "")) else { return };
    assert!(!peer.session_present, "an identifier that no session has");
    let name = peer.text(property::ASSIGNED_CLIENT_ID).expect("CONNACK has the assigned identifier");
    peer.subscribe(&topic, 1);
    peer.disconnect();
    on.client("p").publish(&Publish::new(&topic, 1, b"kept"));
    let mut back = on.connect(&Connect::persistent(on.version, &name));
    assert!(back.session_present);
    assert_eq!(back.text(property::ASSIGNED_CLIENT_ID), None, "the client sent an identifier");
    assert_eq!(back.next_message().text(), "kept");
    back.disconnect();
    on.connect(&Connect::new(on.version, &name)).disconnect();
}

pub(crate) fn an_empty_identifier_without_clean_session_is_refused_with_2(on: &Target) {
    let (mut peer, reason) = Peer::try_connect(on.address, &Connect::persistent(on.version, ""));
    assert_eq!((reason, peer.session_present), (IDENTIFIER_REJECTED, false));
    peer.await_close();
}

/// One of the longest possible identifiers: it is accepted or refused.
pub(crate) fn an_identifier_that_is_rejected_closes(on: &Target) {
    let name = on.name(&"x".repeat(65_000));
    let mut peer = on.open();
    peer.send_ignoring_errors(&Connect::new(on.version, &name).encode());
    match peer.next_or_close() {
        None => assert!(on.version.is_v5(), "3.1.1 requires a CONNACK"),
        Some(Received::ConnAck { reason: 0, .. }) => peer.ping(),
        Some(Received::ConnAck { session_present: false, reason, .. }) => {
            let expected = if on.version.is_v5() { IDENTIFIER_NOT_VALID } else { IDENTIFIER_REJECTED };
            assert_eq!(reason, expected);
            peer.await_close();
        }
        Some(other) => panic!("answered with {other:?}"),
    }
}

pub(crate) fn a_second_connection_ends_the_first(on: &Target) {
    let name = on.name("a");
    for connect in [Connect::new, Connect::persistent] {
        let mut first = on.connect(&connect(on.version, &name));
        let mut second = on.connect(&connect(on.version, &name));
        let sent = first.await_close();
        assert!(
            sent.is_none_or(|reason| reason == SESSION_TAKEN_OVER),
            "DISCONNECT has reason code {sent:#04x?}"
        );
        second.ping();
        second.disconnect();
    }
}

pub(crate) fn a_take_over_is_reported_with_its_reason_code(on: &Target) {
    let mut first = on.client("a");
    let _second = on.client("a");
    assert_eq!(first.await_close(), Some(SESSION_TAKEN_OVER));
}

/// Packets sent together with a refused CONNECT are ignored.
pub(crate) fn nothing_after_a_refused_connect_is_processed(on: &Target) {
    let topic = on.name("/t");
    let mut watcher = on.client("w");
    watcher.subscribe(&topic, 1);
    for qos in 0..2 {
        let publish = Publish::new(&topic, qos, b"smuggled").with_packet_id(1).encode(on.version);
        let mut peer = on.open();
        peer.send_ignoring_errors(&[refusable(on).encode(), publish].concat());
        peer.finish();
        on.client("p").publish(&Publish::new(&topic, 1, b"after"));
        assert_eq!(watcher.next_message().text(), "after");
    }
    refused(on).await_close();
}

pub(crate) fn a_refusal_has_no_session_present(on: &Target) {
    // The refused name has a session, where that is possible.
    on.persistent("a").disconnect();
    refused(on).await_close();
    assert!(on.persistent("a").session_present, "the refusal left the session alone");
}

pub(crate) fn a_refusal_closes(on: &Target) {
    refused(on).await_close();
}

/// Several refused CONNECTs, and an accepted one.
pub(crate) fn connack_uses_a_connect_reason_code(on: &Target) {
    let good = ConnectBytes::of(on);
    let mut future = good.clone();
    future.level = 6;
    let mut other = good.clone();
    other.name = b"MQTU".to_vec();
    for bytes in [
        good.encode(),
        refusable(on).encode(),
        future.encode(),
        other.encode(),
        good.clone().flag(0x01).encode(),
        good.clone().raw(&[0]).encode(),
        good.clone().properties(&[0x27, 0, 0, 0, 0]).encode(),
        ConnectBytes::new(on).field("x".repeat(65_000).as_bytes()).encode(),
    ] {
        let mut peer = on.open();
        peer.send_ignoring_errors(&bytes);
        match peer.next_or_close() {
            None => {}
            // An unsupported protocol level may be answered in the format of an older version.
            Some(Received::ConnAck { reason: 1, .. }) if bytes == future.encode() => {}
            Some(Received::ConnAck { reason, .. }) => {
                assert!(CONNECT_REASON_CODES.contains(&reason), "{reason:#04x}");
            }
            Some(packet) => panic!("answered with {packet:?}"),
        }
    }
}

/// Reason String and User Properties are omitted from a CONNACK that would exceed the client's Maximum Packet Size.
pub(crate) fn connack_fits_into_the_client_s_maximum(on: &Target) {
    for bytes_max in [5_u32, 8, 12, 16, 20, 24, 32, 48, 64] {
        for is_good in [true, false] {
            let maximum = [&[property::MAXIMUM_PACKET_SIZE], &bytes_max.to_be_bytes()[..]].concat();
            let connect = if is_good { ConnectBytes::of(on) } else { refusable(on) };
            let mut peer = on.open();
            peer.send(&connect.properties(&maximum).encode());
            let answer = peer.next_or_close();
            assert!(matches!(answer, None | Some(Received::ConnAck { .. })), "{answer:?}");
            assert!(
                peer.longest_packet_bytes <= bytes_max as usize,
                "{answer:?} has more than {bytes_max} bytes"
            );
        }
    }
}

/// A PUBLISH of every QoS is accepted, up to the Maximum QoS in CONNACK.
pub(crate) fn every_qos_up_to_the_maximum_is_served(on: &Target) {
    let topic = on.name("/t");
    let mut peer = on.client("a");
    let maximum = maximum_qos(&peer);
    peer.subscribe(&topic, 2);
    for qos in 0..=maximum {
        assert_eq!(peer.publish(&Publish::new(&topic, qos, b"x")), 0);
        assert_eq!(peer.next_message().qos, qos);
    }
}

pub(crate) fn subscriptions_of_every_qos_are_accepted(on: &Target) {
    let mut peer = on.client("a");
    let maximum = maximum_qos(&peer);
    for qos in 0..3 {
        let granted = peer.subscribe(&on.name("/t"), qos);
        assert!(granted <= qos, "QoS {qos} is answered with {granted:#04x}");
        peer.publish(&Publish::new(&on.name("/t"), maximum, b"x"));
        assert_eq!(peer.next_message().qos, qos.min(maximum));
    }
}

pub(crate) fn a_will_beyond_the_maximum_qos_is_refused(on: &Target) {
    let maximum = maximum_qos(&on.client("a"));
    for qos in 0..3 {
        let answer = connect_with_will(on, qos, false);
        assert_eq!(answer == Some(0), qos <= maximum, "a will of QoS {qos} is answered with {answer:#04x?}");
        assert!(matches!(answer, None | Some(0 | QOS_NOT_SUPPORTED)), "{answer:#04x?}");
    }
}

pub(crate) fn a_retained_will_is_refused_if_retain_is_unavailable(on: &Target) {
    let is_available = on.client("a").number(property::RETAIN_AVAILABLE) != Some(0);
    let answer = connect_with_will(on, 0, true);
    assert_eq!(answer == Some(0), is_available, "a retained will is answered with {answer:#04x?}");
    assert!(matches!(answer, None | Some(0 | RETAIN_NOT_SUPPORTED)), "{answer:#04x?}");
}

/// The smallest form of each packet is accepted, over an ordered byte stream.
pub(crate) fn the_smallest_form_of_each_packet_is_served(on: &Target) {
    let topic = on.name("/t");
    let mut peer = on.open();
    // One byte at a time, as a stream may deliver it.
    for byte in ConnectBytes::of(on).encode() {
        peer.send(&[byte]);
    }
    assert_eq!(peer.await_connack(), 0);
    peer.subscribe(&topic, 2);
    for qos in 0..3 {
        peer.publish(&Publish::new(&topic, qos, b"x"));
        let message = peer.next_message();
        assert_eq!(
            (message.topic.as_str(), message.qos, message.text()),
            (topic.as_str(), qos, "x".to_owned())
        );
    }
    // All messages arrive, once and in order.
    for number in 0..200_u32 {
        peer.send(&Publish::new(&topic, 0, &number.to_be_bytes()).encode(on.version));
    }
    for number in 0..200_u32 {
        assert_eq!(peer.next_message().payload, number.to_be_bytes());
    }
    peer.ping();
    peer.unsubscribe(&[&topic]);
    peer.disconnect();
}

/// A connection that was refused; its close is not read yet.
fn refused(on: &Target) -> Peer {
    let mut peer = on.open();
    peer.send_ignoring_errors(&refusable(on).encode());
    match peer.next_or_close() {
        None => assert!(on.version.is_v5(), "before 5.0, CONNACK reports a rejected identifier"),
        Some(Received::ConnAck { reason, session_present, .. }) => {
            assert_ne!(reason, 0, "it is refused");
            assert!(!session_present, "a refusal has no session");
        }
        Some(other) => panic!("answered with {other:?}"),
    }
    peer
}

/// A well-formed CONNECT that no server accepts: with an unknown authentication method, or, before 5.0, with a persistent
/// session but no identifier.
fn refusable(on: &Target) -> ConnectBytes {
    match on.version {
        Version::V5 => {
            let mut connect = ConnectBytes::of(on);
            connect.flags = 0;
            let method = b"no such method";
            connect.properties(&super::connect_bytes::property(AUTHENTICATION_METHOD, method))
        }
        Version::V3_1 | Version::V3_1_1 => {
            let mut connect = ConnectBytes::new(on).field(b"");
            connect.flags = 0;
            connect
        }
    }
}

fn maximum_qos(peer: &Peer) -> u8 {
    let maximum = peer.number(property::MAXIMUM_QOS).unwrap_or(2);
    u8::try_from(maximum).expect("it is a byte")
}

/// The reason code of the CONNACK; `None` if there is none. A refused connection is closed.
fn connect_with_will(on: &Target, qos: u8, retain: bool) -> Option<u8> {
    let (name, topic) = (on.name("b"), on.name("/w"));
    let mut connect = Connect::new(on.version, &name);
    connect.will = Some(Will { topic: &topic, payload: b"gone", qos, retain, properties: Properties::new() });
    let mut peer = on.open();
    peer.send_ignoring_errors(&connect.encode());
    match peer.next_or_close() {
        None => None,
        Some(Received::ConnAck { reason: 0, .. }) => {
            peer.disconnect();
            Some(0)
        }
        Some(Received::ConnAck { reason, .. }) => {
            peer.await_close();
            Some(reason)
        }
        Some(other) => panic!("answered with {other:?}"),
    }
}

/// A client without an identifier, if the server accepts such clients.
fn nameless(on: &Target, connect: &Connect<'_>) -> Option<Peer> {
    let (mut peer, reason) = Peer::try_connect(on.address, connect);
    if reason == 0 {
        return Some(peer);
    }
    let expected = if on.version.is_v5() { IDENTIFIER_NOT_VALID } else { IDENTIFIER_REJECTED };
    assert_eq!(reason, expected, "a server may refuse clients without an identifier");
    peer.await_close();
    None
}
