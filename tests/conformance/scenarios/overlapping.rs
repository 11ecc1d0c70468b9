//! Several matching subscriptions of one client: the QoS of the message and its Subscription Identifiers. A broker may
//! send one copy or several; both are checked.

use crate::harness::packet::{Properties, Publish, property};
use crate::harness::peer::Peer;
use crate::harness::received::{Message, Value};
use crate::target::Target;

pub(crate) fn the_highest_qos_of_all_that_match(on: &Target) {
    let orders: [[u8; 3]; 7] = [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 0, 1], [1, 0, 0], [0, 2, 0], [1, 1, 1]];
    for (number, granted) in (0..).zip(orders) {
        let scope = on.name(&format!("/{number}"));
        let topic = format!("{scope}/a/b");
        let mut peer = on.client("a");
        for (filter, qos) in ["a/b", "a/+", "#"].into_iter().zip(granted) {
            peer.subscribe(&format!("{scope}/{filter}"), qos);
        }
        let mut publisher = on.client("p");
        for qos in 0..=2 {
            publisher.publish(&Publish::new(&topic, qos, b"x"));
            publisher.publish(&Publish::new(&topic, qos, b"end"));
            let copies = copies_before_end(&mut peer, &topic);
            let expected = granted.into_iter().max().unwrap_or(0).min(qos);
            let best = copies.iter().map(|copy| copy.qos).max();
            assert_eq!(best, Some(expected), "QoS {qos} to subscriptions of {granted:?}: {copies:?}");
            let mut allowed = granted.map(|granted| granted.min(qos)).to_vec();
            for copy in &copies {
                let at = allowed.iter().position(|allowed| *allowed == copy.qos);
                allowed.remove(at.unwrap_or_else(|| panic!("one copy too many: {copies:?}")));
            }
        }
        peer.disconnect();
    }
}

/// The copies of the first message. The second message has at most as many, and they come later.
fn copies_before_end(peer: &mut Peer, topic: &str) -> Vec<Message> {
    let mut copies = Vec::new();
    loop {
        let message = peer.next_message();
        assert_eq!(message.topic, topic);
        if message.text() == "end" {
            for _ in 1..copies.len() {
                assert_eq!(peer.next_message().text(), "end");
            }
            return copies;
        }
        copies.push(message);
    }
}

fn identifiers(message: &Message) -> Vec<u32> {
    let numbers = message.properties.iter().filter_map(|(id, value)| match value {
        Value::Number(number) if *id == property::SUBSCRIPTION_ID => Some(*number),
        Value::Number(_) | Value::Bytes(_) | Value::Pair(..) => None,
    });
    let mut found: Vec<u32> = numbers.collect();
    found.sort_unstable();
    found
}

fn subscribe(peer: &mut Peer, filter: &str, identifier: Option<u32>) {
    let properties = identifier.map_or_else(Properties::new, |identifier| {
        Properties::new().variable(property::SUBSCRIPTION_ID, identifier)
    });
    peer.subscribe_with(&[(filter, 1)], &properties);
}

/// Identifiers of every encoded length, and one subscription without.
const SUBSCRIBED: [(&str, Option<u32>); 5] =
    [("a/b", Some(268_435_455)), ("a/+", None), ("+/b", Some(128)), ("a/#", Some(1)), ("+/+", Some(16_384))];

pub(crate) fn every_matching_subscription_identifier_is_sent(on: &Target) {
    let scope = on.name("");
    let topic = format!("{scope}/a/b");
    let mut peer = on.client("a");
    for (filter, identifier) in SUBSCRIBED {
        subscribe(&mut peer, &format!("{scope}/{filter}"), identifier);
    }
    subscribe(&mut peer, &format!("{scope}/a/c"), Some(77));
    let mut publisher = on.client("p");
    for qos in 0..=2 {
        publisher.publish(&Publish::new(&topic, qos, b"x"));
        publisher.publish(&Publish::new(&topic, qos, b"end"));
        let copies = copies_before_end(&mut peer, &topic);
        let mut all: Vec<u32> = copies.iter().flat_map(identifiers).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 128, 16_384, 268_435_455], "QoS {qos}: {copies:?}");
    }
}

/// A retained message sent for a new subscription also has its identifier.
pub(crate) fn a_retained_message_names_the_subscription_made(on: &Target) {
    let topic = on.name("/a/b");
    on.client("p").publish(&Publish::new(&topic, 1, b"kept").retained());
    let mut peer = on.client("a");
    for (filter, identifier) in SUBSCRIBED {
        subscribe(&mut peer, &on.name(&format!("/{filter}")), identifier);
        let message = peer.next_message();
        assert_eq!(message.text(), "kept");
        assert_eq!(identifiers(&message), Vec::from_iter(identifier), "{filter}");
    }
}

pub(crate) fn one_copy_names_all_identifiers(on: &Target) {
    let topic = on.name("/a/b");
    let mut peer = on.client("a");
    subscribe(&mut peer, &topic, Some(5));
    let mut publisher = on.client("p");
    let mut ask = |peer: &mut Peer, expected: &[u32]| {
        publisher.publish(&Publish::new(&topic, 1, b"x"));
        publisher.publish(&Publish::new(&topic, 1, b"end"));
        let copies = copies_before_end(peer, &topic);
        if let [copy] = copies.as_slice() {
            assert_eq!(identifiers(copy), expected, "one copy stands for all subscriptions");
        } else {
            assert_eq!(copies.len(), expected.len());
        }
    };
    ask(&mut peer, &[5]);
    subscribe(&mut peer, &on.name("/+/b"), Some(300));
    ask(&mut peer, &[5, 300]);
    subscribe(&mut peer, &on.name("/a/#"), Some(70_000));
    ask(&mut peer, &[5, 300, 70_000]);
    // Subscribing again replaces the identifier.
    subscribe(&mut peer, &topic, Some(6));
    ask(&mut peer, &[6, 300, 70_000]);
    peer.unsubscribe(&[&on.name("/a/#")]);
    ask(&mut peer, &[6, 300]);
}

/// A shared subscription is independent of an ordinary one: if both match, two copies come.
pub(crate) fn each_of_several_copies_names_its_subscription(on: &Target) {
    let topic = on.name("/t");
    let mut peer = on.client("a");
    subscribe(&mut peer, &topic, Some(11));
    subscribe(&mut peer, &format!("$share/{}/{topic}", on.name("g")), Some(22));
    let mut publisher = on.client("p");
    for round in 0..3 {
        publisher.publish(&Publish::new(&topic, 1, format!("{round}").as_bytes()));
        let first = peer.next_message();
        assert_eq!(first.text(), format!("{round}"));
        if identifiers(&first) == [11, 22] {
            continue;
        }
        let second = peer.next_message();
        assert_eq!(second.text(), format!("{round}"));
        let mut named = [identifiers(&first), identifiers(&second)];
        named.sort();
        assert_eq!(named, [[11], [22]], "each copy has the identifier of its own subscription");
    }
}

pub(crate) fn a_subscription_identifier_from_a_client_closes(on: &Target) {
    let topic = on.name("/t");
    for qos in 0..=2 {
        for identifiers in [vec![1], vec![268_435_455], vec![1, 2]] {
            let mut properties = Properties::new();
            for identifier in identifiers {
                properties = properties.variable(property::SUBSCRIPTION_ID, identifier);
            }
            let mut peer = on.client("p");
            let publish = Publish::new(&topic, qos, b"x").with_packet_id(1).with(properties);
            peer.send_ignoring_errors(&publish.encode(on.version));
            super::closes(&mut peer, &[0x81, 0x82], "a client's PUBLISH has no Subscription Identifier");
        }
    }
}
