//! Topic aliases of both directions: their topics, their maximum, and that they end with their connection.

use super::closes;
use crate::harness::packet::{Connect, Properties, Publish, property};
use crate::harness::peer::Peer;
use crate::harness::received::Message;
use crate::target::Target;

const PROTOCOL_ERROR: u8 = 0x82;
const TOPIC_ALIAS_INVALID: u8 = 0x94;
/// The number of a broker's aliases tried at each end of its range.
const TRIED: u16 = 128;

fn alias(number: u16) -> Properties {
    Properties::new().two(property::TOPIC_ALIAS, number)
}

/// The broker's Topic Alias Maximum on this connection.
fn maximum(peer: &Peer) -> u16 {
    let maximum = peer.number(property::TOPIC_ALIAS_MAXIMUM).unwrap_or(0);
    u16::try_from(maximum).expect("it has two bytes")
}

/// A client with this Topic Alias Maximum.
fn accepting(on: &Target, suffix: &str, aliases: u16) -> Peer {
    let name = on.name(suffix);
    let mut connect = Connect::persistent(on.version, &name);
    connect.properties = connect.properties.two(property::TOPIC_ALIAS_MAXIMUM, aliases);
    on.connect(&connect)
}

pub(crate) fn aliases_end_with_their_connection(on: &Target) {
    let topic = on.name("/t/with/a/name");
    let mut first = on.persistent("a");
    let is_allowed = maximum(&first) > 0;
    if is_allowed {
        first.publish(&Publish::new(&topic, 1, b"known").with(alias(1)));
        first.publish(&Publish::new("", 1, b"known").with(alias(1)));
        // With a resumed session or a new one: aliases do not belong to the session.
        for suffix in ["a", "b"] {
            let mut second = on.persistent(suffix);
            second.send_ignoring_errors(&Publish::new("", 0, b"unknown").with(alias(1)).encode(on.version));
            closes(&mut second, &[PROTOCOL_ERROR, TOPIC_ALIAS_INVALID], "the alias of another connection");
        }
    }
    // The other direction: the broker sends the topic of an alias again.
    let mut publisher = on.client("p");
    let mut peer = accepting(on, "c", 10);
    peer.subscribe(&topic, 1);
    for round in 0..3 {
        publisher.publish(&Publish::new(&topic, 1, b"1"));
        publisher.publish(&Publish::new(&topic, 1, b"2"));
        let first = peer.next_message();
        assert_eq!(first.topic, topic, "connection {round} has no alias yet");
        let second = peer.next_message();
        assert!(second.topic == topic || second.topic.is_empty());
        peer.disconnect();
        peer = accepting(on, "c", 10);
    }
}

pub(crate) fn alias_0_closes(on: &Target) {
    for (topic, qos) in [(on.name("/t"), 0), (String::new(), 0), (on.name("/t"), 1), (on.name("/t"), 2)] {
        let mut peer = on.client("a");
        let publish = Publish::new(&topic, qos, b"x").with_packet_id(1).with(alias(0));
        peer.send_ignoring_errors(&publish.encode(on.version));
        closes(&mut peer, &[0x81, PROTOCOL_ERROR, TOPIC_ALIAS_INVALID], "alias 0");
    }
}

pub(crate) fn an_alias_over_the_maximum_closes(on: &Target) {
    let maximum = maximum(&on.client("m"));
    // A broker that accepts all aliases has none above its maximum.
    let Some(next) = maximum.checked_add(1) else { return };
    for number in [next, u16::MAX] {
        for qos in 0..=2 {
            let topic = on.name("/t");
            let mut peer = on.client("a");
            let publish = Publish::new(&topic, qos, b"x").with_packet_id(1).with(alias(number));
            peer.send_ignoring_errors(&publish.encode(on.version));
            closes(&mut peer, &[TOPIC_ALIAS_INVALID], &format!("alias {number} of {maximum}"));
        }
    }
}

/// The messages that a broker sends to a client with this Topic Alias Maximum, three for each topic.
fn sent(on: &Target, aliases: u16) -> Vec<Message> {
    let topics: Vec<String> =
        (0..6).map(|number| on.name(&format!("/topic/of/some/length/{number}"))).collect();
    let suffix = format!("a{aliases}");
    let mut peer = accepting(on, &suffix, aliases);
    peer.subscribe(&on.name("/#"), 1);
    let mut publisher = on.client("p");
    let mut messages = Vec::new();
    for _ in 0..3 {
        for topic in &topics {
            for qos in [0, 1] {
                publisher.publish(&Publish::new(topic, qos, topic.as_bytes()));
                messages.push(peer.next_message());
            }
        }
    }
    peer.disconnect();
    messages
}

pub(crate) fn no_alias_of_the_broker_is_0(on: &Target) {
    for aliases in [1, 3, u16::MAX] {
        for message in sent(on, aliases) {
            assert_ne!(message.number(property::TOPIC_ALIAS), Some(0));
        }
    }
}

pub(crate) fn no_alias_of_the_broker_is_over_the_client_s_maximum(on: &Target) {
    for aliases in [0, 1, 3, u16::MAX] {
        let mut known = std::collections::BTreeMap::new();
        for message in sent(on, aliases) {
            let Some(number) = message.number(property::TOPIC_ALIAS) else {
                assert_eq!(message.topic, message.text());
                continue;
            };
            assert!(number <= aliases.into(), "alias {number} of at most {aliases}");
            if !message.topic.is_empty() {
                known.insert(number, message.topic.clone());
            }
            assert_eq!(known.get(&number), Some(&message.text()), "what alias {number} stands for");
        }
    }
}

pub(crate) fn every_alias_up_to_the_maximum_is_accepted(on: &Target) {
    let mut publisher = on.client("p");
    let maximum = maximum(&publisher);
    let numbers: Vec<u16> =
        (1..=maximum).filter(|number| *number <= TRIED || *number > maximum.saturating_sub(TRIED)).collect();
    let mut peer = on.client("a");
    peer.subscribe(&on.name("/#"), 1);
    let topic = |number: u16| on.name(&format!("/{number}"));
    // All aliases are valid at once, and each can be assigned another topic.
    for round in 0..2_u16 {
        for number in &numbers {
            publisher.publish(&Publish::new(&topic(number ^ round), 1, b"set").with(alias(*number)));
        }
        for number in &numbers {
            publisher.publish(&Publish::new("", 1, b"used").with(alias(*number)));
        }
        for text in ["set", "used"] {
            for number in &numbers {
                let message = peer.next_message();
                assert_eq!(message.text(), text);
                assert_eq!(message.topic, topic(number ^ round));
            }
        }
    }
}
