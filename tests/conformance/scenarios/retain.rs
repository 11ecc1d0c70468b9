//! RETAIN: stored messages, messages sent to a new subscription, and the flag of a delivered message.

use crate::harness::packet::Publish;
use crate::harness::peer::Peer;
use crate::harness::received::Message;
use crate::target::Target;

const RETAIN_AS_PUBLISHED: u8 = 0x08;
const SEND_IF_NEW: u8 = 0x10;
const DO_NOT_SEND: u8 = 0x20;

/// Subscribes and returns the retained messages, at least `expected`. A broker may send retained messages in parts and in
/// any order. Another retained message is therefore requested after them, and then a live one of the same topic is
/// awaited: no older message can follow that.
fn brought(on: &Target, peer: &mut Peer, filter: &str, options: u8, expected: usize) -> Vec<Message> {
    let (topic, sentinel) = (filter.replace(['+', '#'], "end"), on.name("sentinel"));
    let mut publisher = on.client("p");
    publisher.publish(&Publish::new(&sentinel, 2, b"sentinel").retained());
    peer.subscribe(filter, options);
    peer.subscribe(&sentinel, 0);
    let mut found = Vec::new();
    let mut sentinel_seen = false;
    while !sentinel_seen || found.len() < expected {
        let message = peer.next_message();
        if message.topic == sentinel {
            sentinel_seen = true;
        } else {
            found.push(message);
        }
    }
    peer.unsubscribe(&[&sentinel]);
    publisher.publish(&Publish::new(&topic, 1, b"end"));
    loop {
        let message = peer.next_message();
        if message.text() == "end" {
            return found;
        }
        found.push(message);
    }
}

/// The texts of the retained messages that a new client's subscription receives.
fn new_subscriber_gets(on: &Target, filter: &str, expected: usize) -> Vec<String> {
    let mut texts: Vec<String> =
        brought(on, &mut on.client("n"), filter, 2, expected).iter().map(Message::text).collect();
    texts.sort();
    texts
}

fn retain(on: &Target, topic: &str, qos: u8, text: &str) {
    let mut publisher = on.client("r");
    publisher.publish(&Publish::new(topic, qos, text.as_bytes()).retained());
    // QoS 0 has no acknowledgement; the next message on the same topic has one.
    publisher.publish(&Publish::new(topic, 1, b"live"));
    // Nor has it where messages are kept on a disk, and there the next one that is kept has one.
    publisher.publish(&Publish::new(&on.name("behind"), 1, b"kept").retained());
}

pub(crate) fn the_last_retained_message_is_kept_with_its_qos(on: &Target) {
    for qos in [1, 2] {
        let topic = on.name(&format!("/{qos}"));
        retain(on, &topic, qos, "first");
        assert_eq!(new_subscriber_gets(on, &topic, 1), ["first"]);
        retain(on, &topic, qos, "second");
        let found = brought(on, &mut on.client("n"), &topic, 2, 1);
        assert_eq!(found.iter().map(Message::text).collect::<Vec<_>>(), ["second"], "it replaces the first");
        assert_eq!(found[0].qos, qos, "it has the QoS that it was published with");
    }
}

pub(crate) fn a_new_subscription_is_sent_the_last_of_each_topic(on: &Target) {
    for (topic, text) in [("/t/a", "old"), ("/t/a", "a"), ("/t/b", "b"), ("/t/b/c", "c"), ("/u/a", "u")] {
        retain(on, &on.name(topic), 1, text);
    }
    for (filter, expected) in [
        ("/t/a", vec!["a"]),
        ("/t/+", vec!["a", "b"]),
        ("/t/#", vec!["a", "b", "c"]),
        ("/+/a", vec!["a", "u"]),
    ] {
        assert_eq!(new_subscriber_gets(on, &on.name(filter), expected.len()), expected, "{filter}");
    }
}

pub(crate) fn a_retained_qos_0_message_discards_the_previous_one(on: &Target) {
    let topic = on.name("/t");
    retain(on, &topic, 1, "old");
    assert_eq!(new_subscriber_gets(on, &topic, 1), ["old"]);
    retain(on, &topic, 0, "new");
    // A broker should store the new message, and may discard it at any time.
    let found = new_subscriber_gets(on, &topic, 0);
    assert!(found.is_empty() || found == ["new"], "the old message is gone, and yet {found:?} came");
}

pub(crate) fn an_empty_payload_is_delivered_and_removes(on: &Target) {
    for qos in 0..=2 {
        let topic = on.name(&format!("/{qos}"));
        let mut witness = on.client("w");
        witness.subscribe(&topic, 2);
        retain(on, &topic, 1, "kept");
        assert_eq!(witness.next_message().text(), "kept");
        assert_eq!(witness.next_message().text(), "live");
        assert_eq!(new_subscriber_gets(on, &topic, 1), ["kept"]);
        assert_eq!(witness.next_message().text(), "end");
        retain(on, &topic, qos, "");
        let empty = witness.next_message();
        assert_eq!((empty.text().as_str(), empty.qos), ("", qos), "it is delivered like any other message");
        assert_eq!(
            new_subscriber_gets(on, &topic, 0),
            [""; 0],
            "QoS {qos}: the retained message was removed"
        );
    }
}

pub(crate) fn an_empty_payload_is_not_retained(on: &Target) {
    for qos in 0..=2 {
        let topic = on.name(&format!("/{qos}"));
        retain(on, &topic, qos, "");
        assert_eq!(new_subscriber_gets(on, &topic, 0), [""; 0]);
        retain(on, &topic, 1, "kept");
        retain(on, &topic, qos, "");
        assert_eq!(new_subscriber_gets(on, &topic, 0), [""; 0]);
    }
}

pub(crate) fn without_the_flag_nothing_is_stored_or_removed(on: &Target) {
    for qos in [1, 2, 0] {
        let (topic, other) = (on.name(&format!("/{qos}")), on.name(&format!("/{qos}/other")));
        retain(on, &topic, 1, "kept");
        let mut publisher = on.client("q");
        for topic in [&topic, &other] {
            for payload in [b"passing".as_slice(), b"", b"another"] {
                publisher.publish(&Publish::new(topic, qos, payload));
            }
        }
        // Published after all of them, on both topics.
        publisher.publish(&Publish::new(&topic, 1, b""));
        publisher.publish(&Publish::new(&other, 1, b""));
        assert_eq!(new_subscriber_gets(on, &topic, 1), ["kept"]);
        assert_eq!(new_subscriber_gets(on, &other, 0), [""; 0]);
    }
}

pub(crate) fn retained_messages_for_a_new_subscription_have_the_flag(on: &Target) {
    let topic = on.name("/t");
    retain(on, &topic, 1, "kept");
    for options in 0..=2 {
        let found = brought(on, &mut on.client("n"), &topic, options, 1);
        assert!(found.iter().all(|message| message.retain), "QoS {options}: {found:?}");
    }
}

pub(crate) fn an_established_subscription_has_no_flag(on: &Target) {
    for granted in 0..=2 {
        let topic = on.name(&format!("/{granted}"));
        let mut peer = on.client("a");
        peer.subscribe(&topic, granted);
        let mut publisher = on.client("p");
        for qos in 0..=2 {
            publisher.publish(&Publish::new(&topic, qos, b"retained").retained());
            publisher.publish(&Publish::new(&topic, qos, b"passing"));
            publisher.publish(&Publish::new(&topic, qos, b"").retained());
            for text in ["retained", "passing", ""] {
                let message = peer.next_message();
                assert_eq!(
                    (message.text().as_str(), message.retain),
                    (text, false),
                    "QoS {qos} to {granted}"
                );
            }
        }
    }
}

pub(crate) fn handling_0_sends_at_every_subscribe(on: &Target) {
    let topic = on.name("/t/a");
    retain(on, &topic, 1, "kept");
    let mut peer = on.client("a");
    for filter in [topic, on.name("/t/+")] {
        for round in 0..3 {
            let found = brought(on, &mut peer, &filter, 1, 1);
            let texts: Vec<String> = found.iter().map(Message::text).collect();
            assert_eq!(texts, ["kept"], "{filter}, round {round}");
            assert!(found[0].retain);
        }
        peer.unsubscribe(&[&filter]);
    }
}

pub(crate) fn handling_1_sends_to_a_new_subscription_only(on: &Target) {
    let topic = on.name("/t/a");
    retain(on, &topic, 1, "kept");
    for filter in [topic, on.name("/t/+")] {
        let mut peer = on.persistent("a");
        for round in 0..2 {
            assert_eq!(
                brought(on, &mut peer, &filter, SEND_IF_NEW | 1, 1).len(),
                1,
                "it is new, round {round}"
            );
            let again = brought(on, &mut peer, &filter, SEND_IF_NEW | 1, 0);
            assert_eq!(again, [], "it existed");
            let changed = brought(on, &mut peer, &filter, SEND_IF_NEW | 2, 0);
            assert_eq!(changed, [], "it existed, with other options");
            peer.disconnect();
            peer = on.persistent("a");
            let resumed = brought(on, &mut peer, &filter, SEND_IF_NEW | 1, 0);
            assert_eq!(resumed, [], "it existed in the session");
            peer.unsubscribe(&[&filter]);
        }
        peer.disconnect();
    }
}

pub(crate) fn handling_2_sends_nothing(on: &Target) {
    let topic = on.name("/t/a");
    retain(on, &topic, 1, "kept");
    for filter in [topic, on.name("/t/+")] {
        let mut peer = on.client("a");
        assert_eq!(brought(on, &mut peer, &filter, DO_NOT_SEND | 1, 0), [], "new");
        assert_eq!(brought(on, &mut peer, &filter, DO_NOT_SEND | 1, 0), [], "existing");
    }
}

pub(crate) fn retain_as_published_keeps_the_flag(on: &Target) {
    for granted in 0..=2 {
        let topic = on.name(&format!("/{granted}"));
        let mut peer = on.client("a");
        peer.subscribe(&topic, RETAIN_AS_PUBLISHED | granted);
        let mut publisher = on.client("p");
        for qos in 0..=2 {
            publisher.publish(&Publish::new(&topic, qos, b"retained").retained());
            publisher.publish(&Publish::new(&topic, qos, b"passing"));
            publisher.publish(&Publish::new(&topic, qos, b"").retained());
            for (text, flag) in [("retained", true), ("passing", false), ("", true)] {
                let message = peer.next_message();
                assert_eq!((message.text().as_str(), message.retain), (text, flag), "QoS {qos} to {granted}");
            }
        }
    }
}
