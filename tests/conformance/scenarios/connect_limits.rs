//! Limits that a client sets in CONNECT and the server must keep: keep alive, session expiry, packet size, topic aliases,
//! requested information. Also the packet size and alias limits of the server.

use std::time::Duration;

use super::connect_bytes::closes;
use crate::harness::packet::{
    Connect, PUBREC, PUBREL, Properties, Publish, acknowledgement, property, subscribe, unsubscribe,
};
use crate::harness::peer::Peer;
use crate::harness::received::{Message, Received};
use crate::harness::time::now;
use crate::target::Target;

const PROTOCOL_ERROR: u8 = 0x82;
const KEEP_ALIVE_TIMEOUT: u8 = 0x8D;
const TOPIC_ALIAS_INVALID: u8 = 0x94;
const PACKET_TOO_LARGE: u8 = 0x95;
const RESPONSE_INFORMATION: u8 = 0x1A;
const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
const REASON_STRING: u8 = 0x1F;

/// After one and a half times the keep alive of silence, not earlier, the connection is closed as lost and its will
/// published.
pub(crate) fn silence_beyond_the_keep_alive_closes(on: &Target) {
    is_closed_for_silence(on, 1, |sent_s| assert!(sent_s.is_none(), "the client's keep alive applies"));
}

/// The client requests a minute, and the server shortens it.
pub(crate) fn silence_beyond_the_server_s_keep_alive_closes(on: &Target) {
    is_closed_for_silence(on, 60, |sent_s| assert!(sent_s.is_some_and(|sent_s| sent_s < 60), "{sent_s:?}"));
}

fn is_closed_for_silence(on: &Target, keep_alive_s: u16, check_sent: impl Fn(Option<u32>)) {
    let topic = on.name("/w");
    // Offline meanwhile: a server that shortens every keep alive would close the watcher, too.
    let mut watcher = on.persistent("w");
    watcher.subscribe(&topic, 1);
    watcher.disconnect();
    let name = on.name("a");
    let mut connect = Connect::new(on.version, &name).with_will(&topic, b"silent", Properties::new());
    connect.keep_alive_s = keep_alive_s;
    let mut peer = on.open();
    let silent_since = now();
    peer.send(&connect.encode());
    assert_eq!(peer.await_connack(), 0);
    let sent_s = peer.number(property::SERVER_KEEP_ALIVE);
    check_sent(sent_s);
    let reason_sent = peer.await_close();
    let silence = silent_since.elapsed();
    let keep_alive_s = sent_s.unwrap_or(u32::from(keep_alive_s));
    assert!(silence >= Duration::from_millis(u64::from(keep_alive_s) * 1500), "closed after {silence:?}");
    let is_allowed = reason_sent.is_none_or(|reason| on.version.is_v5() && reason == KEEP_ALIVE_TIMEOUT);
    assert!(is_allowed, "DISCONNECT has reason code {reason_sent:#04x?}");
    assert_eq!(on.persistent("w").next_message().text(), "silent");
}

/// However the connection ended, the session is resumed with its subscription and the queued messages.
pub(crate) fn a_session_is_kept_for_its_expiry_interval(on: &Target) {
    let topic = on.name("/t");
    on.persistent("a").subscribe(&topic, 2);
    let mut publisher = on.client("p");
    for ends_well in [true, false] {
        let peer = on.persistent("a");
        assert!(peer.session_present);
        if ends_well {
            peer.disconnect();
        } else {
            peer.vanish();
        }
        publisher.publish(&Publish::new(&topic, 1, b"one"));
        publisher.publish(&Publish::new(&topic, 2, b"two"));
        let mut back = on.persistent("a");
        assert!(back.session_present);
        assert_eq!((back.next_message().text(), back.next_message().text()), ("one".into(), "two".into()));
        back.disconnect();
    }
}

/// Of messages around the client's Maximum Packet Size, only the ones within it arrive.
pub(crate) fn no_packet_exceeds_the_client_s_maximum_packet_size(on: &Target) {
    const BYTES_MAX: u32 = 120;
    let topic = on.name("/t");
    let mut publisher = on.client("p");
    let mut peer = limited(on, BYTES_MAX, 10);
    peer.subscribe(&topic, 1);
    // Header of two bytes, topic with its length, identifier, no properties.
    let largest = BYTES_MAX as usize - 2 - 2 - topic.len() - 2 - 1;
    for payload_bytes in [largest - 1, largest, largest + 1, largest + 2, 1000, 100_000, largest] {
        publisher.publish(&Publish::new(&topic, 1, &vec![b'x'; payload_bytes]));
    }
    for payload_bytes in [largest - 1, largest, largest] {
        assert_eq!(peer.next_message().payload.len(), payload_bytes);
    }
    assert_eq!(peer.longest_packet_bytes, BYTES_MAX as usize);
}

/// A message that is too large uses no quota, blocks no later message, and is not sent later.
pub(crate) fn messages_too_large_for_the_client_count_as_sent(on: &Target) {
    let topic = on.name("/t");
    let mut publisher = on.client("p");
    let mut peer = limited(on, 100, 1);
    peer.subscribe(&topic, 2);
    for qos in 0..3 {
        for _ in 0..3 {
            let large = Publish::new(&topic, qos, &[b'x'; 100]);
            assert!(publisher.publish(&large) < 0x80, "the publisher gets a success code");
        }
        publisher.publish(&Publish::new(&topic, qos, b"small"));
        assert_eq!(peer.next_message().text(), "small");
    }
    peer.disconnect();
    let mut unlimited = on.persistent("a");
    assert!(unlimited.session_present);
    publisher.publish(&Publish::new(&topic, 1, b"now"));
    assert_eq!(unlimited.next_message().text(), "now", "the large message was discarded");
}

pub(crate) fn aliases_are_within_the_client_s_maximum(on: &Target) {
    const MAXIMUM: u16 = 2;
    let name = on.name("a");
    let mut connect = Connect::new(on.version, &name);
    connect.properties = Properties::new().two(property::TOPIC_ALIAS_MAXIMUM, MAXIMUM);
    let mut peer = on.connect(&connect);
    let mut aliases = vec![String::new(); usize::from(MAXIMUM) + 1];
    for (expected, message) in published_twice_to_many_topics(on, &mut peer) {
        let Some(alias) = message.number(property::TOPIC_ALIAS) else {
            assert_eq!(message.topic, expected);
            continue;
        };
        assert!((1..=u32::from(MAXIMUM)).contains(&alias), "alias {alias}");
        let meaning = &mut aliases[alias as usize];
        if !message.topic.is_empty() {
            *meaning = message.topic;
        }
        assert_eq!(*meaning, expected);
    }
}

pub(crate) fn clients_without_alias_maximum_receive_no_aliases(on: &Target) {
    let name = on.name("a");
    for properties in [Properties::new(), Properties::new().two(property::TOPIC_ALIAS_MAXIMUM, 0)] {
        let mut peer = on.connect(&Connect { properties, ..Connect::new(on.version, &name) });
        for (expected, message) in published_twice_to_many_topics(on, &mut peer) {
            assert_eq!((message.number(property::TOPIC_ALIAS), message.topic), (None, expected));
        }
    }
}

pub(crate) fn response_information_is_sent_only_on_request(on: &Target) {
    let name = on.name("a");
    for properties in [Properties::new(), Properties::new().byte(REQUEST_RESPONSE_INFORMATION, 0)] {
        let peer = on.connect(&Connect { properties, ..Connect::new(on.version, &name) });
        assert_eq!(peer.text(RESPONSE_INFORMATION), None);
        peer.disconnect();
    }
}

/// Answers of every type, most of them with failures.
pub(crate) fn problem_information_is_not_sent_when_declined(on: &Target) {
    let (name, topic) = (on.name("a"), on.name("/t"));
    let properties = Properties::new().byte(REQUEST_PROBLEM_INFORMATION, 0);
    let mut peer = on.connect(&Connect { properties, ..Connect::new(on.version, &name) });
    for id in 1..4 {
        let shared = format!("$share/g/{topic}/s");
        let filters = [(topic.as_str(), 2), (&shared, 2), ("$SYS/#", 0)];
        peer.send(&subscribe(on.version, id, &filters[..usize::from(id)], &Properties::new()));
        is_without_problem_information(
            &peer.await_packet("SUBACK", |p| matches!(p, Received::SubAck { .. })),
        );
        peer.send(&unsubscribe(on.version, id, &[&on.name("nobody")]));
        is_without_problem_information(
            &peer.await_packet("UNSUBACK", |p| matches!(p, Received::UnsubAck { .. })),
        );
    }
    let nobody = &on.name("/nobody");
    for (qos, topic) in [(1, topic.as_str()), (2, &topic), (1, nobody), (2, nobody)] {
        peer.send(&Publish::new(topic, qos, b"x").with_packet_id(9).encode(on.version));
        let answer = peer.await_packet("PUBACK or PUBREC", |packet| {
            matches!(packet, Received::PubAck { .. } | Received::PubRec { .. })
        });
        is_without_problem_information(&answer);
        if qos == 2 {
            peer.send(&acknowledgement(PUBREL, 9));
            is_without_problem_information(
                &peer.await_packet("PUBCOMP", |p| matches!(p, Received::PubComp { .. })),
            );
        }
    }
    // A PUBREL for an unknown identifier, and one for a known one.
    peer.send(&acknowledgement(PUBREL, 77));
    is_without_problem_information(&peer.await_packet("PUBCOMP", |p| matches!(p, Received::PubComp { .. })));
    let message = loop {
        let message = peer.next_publish();
        if message.qos == 2 {
            break message;
        }
    };
    peer.send(&acknowledgement(PUBREC, message.packet_id));
    is_without_problem_information(&peer.await_packet("PUBREL", |p| matches!(p, Received::PubRel { .. })));
}

/// A server with a Maximum Packet Size closes on a larger packet and accepts one of exactly that size.
pub(crate) fn a_packet_above_the_server_s_maximum_packet_size_closes(on: &Target) {
    let mut peer = on.client("a");
    let Some(bytes_max) = peer.number(property::MAXIMUM_PACKET_SIZE) else { return };
    let topic = on.name("/t");
    for bytes_more in [0, 1] {
        let mut packet = Publish::new(&topic, 1, b"").with_packet_id(1).encode(on.version);
        // First byte, and a length of as many bytes as the largest packet needs.
        let body = packet.split_off(2);
        let payload_bytes = bytes_max as usize + bytes_more - body.len() - length_head(bytes_max);
        let large = crate::harness::packet::packet(0x32, &[body, vec![b'x'; payload_bytes]].concat());
        assert_eq!(large.len(), bytes_max as usize + bytes_more);
        if bytes_more == 0 {
            peer.send(&large);
            assert!(peer.complete(1, 1) < 0x80);
        } else {
            closes(on, &mut peer, "a packet one byte above the maximum", &large, &[PACKET_TOO_LARGE]);
        }
    }
}

/// Size of the first byte and length of a packet with this total size.
fn length_head(bytes: u32) -> usize {
    match bytes {
        0..=129 => 2,
        130..=16_386 => 3,
        16_387..=2_097_155 => 4,
        _ => 5,
    }
}

/// The first alias and the last one are valid, if there are any; a greater one is not.
pub(crate) fn an_alias_beyond_the_server_s_maximum_closes(on: &Target) {
    let topic = on.name("/t");
    let publish = |alias: u16| {
        let alias = Properties::new().two(property::TOPIC_ALIAS, alias);
        Publish::new(&topic, 0, b"x").with(alias).encode(on.version)
    };
    let mut peer = on.client("a");
    let maximum = peer.number(property::TOPIC_ALIAS_MAXIMUM).unwrap_or(0);
    let maximum = u16::try_from(maximum).expect("it has two bytes");
    for alias in [1, maximum] {
        if maximum > 0 {
            peer.send(&publish(alias));
        }
    }
    peer.ping();
    let beyond = [maximum.checked_add(1), Some(u16::MAX)];
    for alias in beyond.into_iter().flatten().filter(|alias| *alias > maximum) {
        let what = format!("alias {alias}");
        closes(on, &mut on.client("b"), &what, &publish(alias), &[TOPIC_ALIAS_INVALID, PROTOCOL_ERROR]);
    }
}

fn is_without_problem_information(packet: &Received) {
    let properties = match packet {
        Received::SubAck { properties, .. }
        | Received::UnsubAck { properties, .. }
        | Received::PubAck { properties, .. }
        | Received::PubRec { properties, .. }
        | Received::PubRel { properties, .. }
        | Received::PubComp { properties, .. } => properties,
        other => unreachable!("{other:?} was not awaited"),
    };
    let is_problem = |id: u8| id == REASON_STRING || id == property::USER_PROPERTY;
    assert!(!properties.iter().any(|(id, _)| is_problem(*id)), "{packet:?}");
}

fn limited(on: &Target, packet_bytes_max: u32, receive_maximum: u16) -> Peer {
    let name = on.name("a");
    let mut connect = Connect::persistent(on.version, &name);
    connect.properties = connect
        .properties
        .four(property::MAXIMUM_PACKET_SIZE, packet_bytes_max)
        .two(property::RECEIVE_MAXIMUM, receive_maximum);
    on.connect(&connect)
}

fn published_twice_to_many_topics(on: &Target, peer: &mut Peer) -> Vec<(String, Message)> {
    let mut publisher = on.client("p");
    let topics: Vec<String> = (0..5).map(|number| on.name(&format!("/{number}"))).collect();
    peer.subscribe(&on.name("/+"), 0);
    let mut came = Vec::new();
    for topic in topics.iter().chain(&topics).chain(topics.iter().rev()) {
        publisher.publish(&Publish::new(topic, 0, b"x"));
        came.push((topic.clone(), peer.next_message()));
    }
    came
}
