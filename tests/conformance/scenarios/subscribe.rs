//! SUBSCRIBE and SUBACK: refusals, answers, and the deliveries of a subscription. Shared subscriptions are tested in
//! `shared`.

use super::refusal::{NOT_UTF_8, closes, subscribe_bytes, with_first_byte};
use crate::harness::packet::{Connect, Properties, Publish, property, subscribe};
use crate::harness::peer::Peer;
use crate::harness::received::{Message, Received, Value};
use crate::target::Target;

const NO_LOCAL: u8 = 0x04;
const RETAIN_AS_PUBLISHED: u8 = 0x08;
/// Retain handling 2: no retained messages.
const DO_NOT_SEND: u8 = 0x20;
/// Levels of a filter that brokers with a limit refuse and others accept.
const DEEP_LEVELS: usize = 150;

pub(crate) fn other_flags_close(on: &Target) {
    for flags in (0..16).filter(|flags| *flags != 2) {
        let bytes = with_first_byte(0x80 | flags, &subscribe_bytes(on.version, 1, &[(b"t", 0)]));
        closes(on, &format!("flags {flags:#x}"), &bytes, &[0x81]);
    }
}

pub(crate) fn a_filter_that_is_no_utf_8_closes(on: &Target) {
    for filter in NOT_UTF_8 {
        let after_a_good_one = subscribe_bytes(on.version, 1, &[(b"t", 0), (filter, 0)]);
        for bytes in [subscribe_bytes(on.version, 1, &[(filter, 0)]), after_a_good_one] {
            closes(on, &format!("{filter:02x?}"), &bytes, &[0x81]);
        }
    }
}

pub(crate) fn no_filter_closes(on: &Target) {
    // The standard calls it a protocol error; a packet without its payload is also malformed.
    closes(on, "no filter", &subscribe_bytes(on.version, 1, &[]), &[0x81, 0x82]);
}

pub(crate) fn no_local_keeps_own_messages_away(on: &Target) {
    let topic = on.name("/t");
    let mut own = on.client("a");
    let mut other = on.client("b");
    own.subscribe(&topic, 1 | NO_LOCAL);
    other.subscribe(&topic, 1 | NO_LOCAL);
    for qos in 0..3 {
        own.publish(&Publish::new(&topic, qos, b"of a"));
    }
    other.publish(&Publish::new(&topic, 1, b"of b"));
    assert_eq!(own.next_message().text(), "of b", "the first message of another client");
    for _ in 0..3 {
        assert_eq!(other.next_message().text(), "of a", "No Local affects the publisher only");
    }
    // Without the option a client receives its own messages.
    let open = on.name("/open");
    own.subscribe(&open, 1 | DO_NOT_SEND);
    own.publish(&Publish::new(&open, 1, b"heard"));
    assert_eq!(own.next_message().text(), "heard");
}

pub(crate) fn no_local_on_a_shared_subscription_closes(on: &Target) {
    for filter in ["$share/g/t", "$share/g/#", "$share/g/+/t", "$share/g//"] {
        let bytes = subscribe_bytes(on.version, 1, &[(filter.as_bytes(), NO_LOCAL | 1)]);
        closes(on, filter, &bytes, &[0x82]);
    }
}

pub(crate) fn reserved_bits_of_the_options_close(on: &Target) {
    for reserved in [0x40, 0x80, 0xC0] {
        for options in [0, 1, 2, 0x2C] {
            let bytes = subscribe_bytes(on.version, 1, &[(b"t", reserved | options)]);
            closes(on, &format!("options {:#04x}", reserved | options), &bytes, &[0x81]);
        }
    }
}

/// Filters of every allowed form, and one that a broker may refuse as too deep.
fn filters(on: &Target) -> Vec<String> {
    let mut forms: Vec<String> =
        ["t", "+", "t/+", "t/#", "+/+/#", "/t", "t/", "t//u", "\u{e4}\u{1F600}", " "]
            .iter()
            .map(|form| on.name(&format!("/{form}")))
            .collect();
    forms.push("/".repeat(DEEP_LEVELS));
    if on.version.is_v5() {
        forms.push(format!("$share/{}/t", on.name("g")));
    }
    forms
}

pub(crate) fn every_subscribe_is_answered(on: &Target) {
    let mut peer = on.client("a");
    for (id, filter) in (1..).zip(filters(on)) {
        peer.send(&subscribe(on.version, id, &[(&filter, 1)], &Properties::new()));
        match peer.next() {
            Received::SubAck { packet_id, .. } => assert_eq!(packet_id, id),
            other => panic!("{filter}: answered with {other:?}"),
        }
    }
}

pub(crate) fn suback_has_the_packet_identifier(on: &Target) {
    let (mut peer, topic) = (on.client("a"), on.name("/t"));
    for id in [1, 2, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 1] {
        peer.send(&subscribe(on.version, id, &[(&topic, 1)], &Properties::new()));
        match peer.next() {
            Received::SubAck { packet_id, .. } => assert_eq!(packet_id, id),
            other => panic!("{id}: answered with {other:?}"),
        }
    }
}

pub(crate) fn a_new_subscription_replaces_the_old(on: &Target) {
    let (topic, end) = (on.name("/t"), on.name("~end"));
    let mut publisher = on.client("p");
    for filter in [topic.clone(), on.name("/+")] {
        let mut peer = on.client("a");
        peer.subscribe(&end, 1);
        let tells_identifiers = peer.number(property::SUBSCRIPTION_IDS_AVAILABLE) != Some(0);
        for (number, qos) in [(1, 0), (2, 2), (3, 1), (4, 0)] {
            let identifier = if on.version.is_v5() && tells_identifiers {
                Properties::new().variable(property::SUBSCRIPTION_ID, number)
            } else {
                Properties::new()
            };
            let granted = peer.subscribe_with(&[(&filter, qos)], &identifier)[0];
            assert!(granted <= qos, "granted {granted:#04x}");
            // If the old subscription still existed, a second copy with another QoS or identifier would come.
            for text in ["one", "two"] {
                publisher.publish(&Publish::new(&topic, 2, text.as_bytes()));
                let message = peer.next_message();
                assert_eq!((message.text().as_str(), message.qos), (text, granted));
                if on.version.is_v5() && tells_identifiers {
                    let identifiers: Vec<_> = message
                        .properties
                        .iter()
                        .filter(|(id, _)| *id == property::SUBSCRIPTION_ID)
                        .collect();
                    assert_eq!(identifiers, [&(property::SUBSCRIPTION_ID, Value::Number(number))]);
                }
            }
        }
        assert_eq!(peer.unsubscribe(&[&filter]).len(), usize::from(on.version.is_v5()));
        publisher.publish(&Publish::new(&topic, 1, b"gone"));
        publisher.publish(&Publish::new(&end, 1, b"end"));
        assert_eq!(peer.next_message().text(), "end", "one UNSUBSCRIBE ends the only subscription");
        if on.version.is_v5() {
            // Every option of the new subscription applies.
            peer.subscribe(&filter, 1 | NO_LOCAL);
            peer.subscribe(&filter, 1 | RETAIN_AS_PUBLISHED);
            peer.publish(&Publish::new(&topic, 1, b"own").retained());
            let message = peer.next_message();
            assert_eq!((message.text().as_str(), message.retain), ("own", true));
            peer.publish(&Publish::new(&topic, 1, b"").retained());
            assert_eq!(peer.next_message().text(), "");
            peer.subscribe(&filter, 1 | NO_LOCAL);
            peer.publish(&Publish::new(&topic, 1, b"unheard"));
            publisher.publish(&Publish::new(&topic, 1, b"heard"));
            assert_eq!(peer.next_message().text(), "heard");
        }
        peer.disconnect();
    }
    // 5.0 has its own statement for this.
    if !on.version.is_v5() {
        replacing_sends_retained_messages_and_loses_none(on);
    }
    if !on.version.is_v5() {
        retained_messages_are_sent_again(on, &on.name("/+"));
        retained_messages_are_sent_for_each_of_many_at_once(on, &on.name("/+"));
    }
}

pub(crate) fn replacing_sends_retained_messages_and_loses_none(on: &Target) {
    for filter in [on.name("/r"), on.name("/+")] {
        retained_messages_are_sent_again(on, &filter);
        retained_messages_are_sent_for_each_of_many_at_once(on, &filter);
    }
    messages_flow_on_while_a_subscription_is_replaced(on);
}

fn retained_messages_are_sent_again(on: &Target, filter: &str) {
    let topic = on.name("/r");
    let mut publisher = on.client("r");
    publisher.publish(&Publish::new(&topic, 1, b"kept").retained());
    let mut peer = on.client("s");
    for qos in [1, 0, 2, 2] {
        peer.subscribe(filter, qos);
        let message = peer.next_message();
        assert_eq!((message.text().as_str(), message.retain), ("kept", true), "QoS {qos}");
    }
    publisher.publish(&Publish::new(&topic, 1, b"").retained());
    peer.disconnect();
}

/// A client that does not wait for the SUBACK receives the same messages as one that waits.
fn retained_messages_are_sent_for_each_of_many_at_once(on: &Target, filter: &str) {
    let topic = on.name("/r");
    let mut publisher = on.client("r");
    publisher.publish(&Publish::new(&topic, 1, b"kept").retained());
    let mut peer = on.client("s");
    let requests = [1_u16, 2, 3].map(|id| subscribe(on.version, id, &[(filter, 1)], &Properties::new()));
    peer.send(&requests.concat());
    for _ in requests {
        peer.await_packet("SUBACK", |packet| matches!(packet, Received::SubAck { .. }));
    }
    for number in 1..=3 {
        let message = peer.next_message();
        assert_eq!((message.text().as_str(), message.retain), ("kept", true), "number {number}");
    }
    peer.settle();
    assert!(peer.waiting().is_empty(), "one retained message for each SUBSCRIBE: {:?}", peer.waiting());
    publisher.publish(&Publish::new(&topic, 1, b"").retained());
    peer.disconnect();
}

fn messages_flow_on_while_a_subscription_is_replaced(on: &Target) {
    let topic = on.name("/f");
    let (mut peer, mut publisher) = (on.client("f"), on.client("q"));
    peer.subscribe(&topic, 1);
    for round in 0_u16..20 {
        for number in 0..5 {
            let text = format!("{}", round * 5 + number);
            let publish = Publish::new(&topic, 1, text.as_bytes()).with_packet_id(round * 5 + number + 1);
            publisher.send(&publish.encode(on.version));
        }
        peer.send(&subscribe(
            on.version,
            100 + round,
            &[(&topic, 1 + (round % 2) as u8)],
            &Properties::new(),
        ));
    }
    for number in 0..100 {
        assert_eq!(peer.next_message().text(), format!("{number}"), "each message comes once and in order");
    }
}

pub(crate) fn many_filters_are_a_sequence_with_one_answer(on: &Target) {
    let (first, second, third) = (on.name("/1"), on.name("/2"), on.name("/3"));
    let mut peer = on.client("a");
    let filters = [(first.as_str(), 0), (&second, 1), (&first, 2), (&third, 2), (&third, 0)];
    peer.send(&subscribe(on.version, 7, &filters, &Properties::new()));
    match peer.next() {
        Received::SubAck { packet_id: 7, reasons, .. } => assert_eq!(reasons, [0, 1, 2, 2, 0]),
        other => panic!("answered with {other:?}"),
    }
    let mut publisher = on.client("p");
    for (topic, qos) in [(&first, 2), (&second, 1), (&third, 0)] {
        for text in ["one", "two"] {
            publisher.publish(&Publish::new(topic, 2, text.as_bytes()));
            let message = peer.next_message();
            assert_eq!(
                (&message.topic, message.text().as_str(), message.qos),
                (topic, text, qos),
                "the last subscription counts"
            );
        }
    }
    peer.ping();
    let answers: Vec<_> = peer.waiting().iter().collect();
    assert!(answers.is_empty(), "more than one SUBACK: {answers:?}");
}

pub(crate) fn each_filter_has_a_reason(on: &Target) {
    let mut peer = on.client("a");
    for (id, count) in (1..).zip([1, 2, 3, 10, 200]) {
        let names: Vec<String> = (0..count).map(|number| on.name(&format!("/{id}/{number}"))).collect();
        let filters: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        peer.send(&subscribe(on.version, id, &filters, &Properties::new()));
        match peer.next() {
            Received::SubAck { reasons, .. } => assert_eq!(reasons.len(), count),
            other => panic!("answered with {other:?}"),
        }
    }
}

pub(crate) fn the_reason_code_is_the_granted_qos(on: &Target) {
    let mut publisher = on.client("p");
    for requested in 0..3 {
        let topic = on.name(&format!("/{requested}"));
        let mut peer = on.client("a");
        let reason = peer.subscribe(&topic, requested);
        assert!(reason <= requested, "requested {requested}, granted {reason:#04x}");
        publisher.publish(&Publish::new(&topic, 2, b"m"));
        assert_eq!(peer.next_message().qos, reason, "messages come with the granted QoS");
    }
    let deep = "/".repeat(DEEP_LEVELS);
    let reason = on.client("d").subscribe(&deep, 1);
    assert!(reason <= 1 || reason >= 0x80, "granted or failed, not {reason:#04x}");
}

pub(crate) fn the_quality_is_the_lesser_of_both(on: &Target) {
    let mut publisher = on.client("p");
    let mut peer = on.client("a");
    for granted in 0..3 {
        let live = on.name(&format!("/l{granted}"));
        assert_eq!(peer.subscribe(&live, granted), granted);
        for published in 0..3 {
            let text = format!("{published} to {granted}");
            publisher.publish(&Publish::new(&live, published, text.as_bytes()));
            assert_comes(&mut peer, &text, published, granted);
            let kept = on.name(&format!("/r{granted}{published}"));
            publisher.publish(&Publish::new(&kept, published, text.as_bytes()).retained());
            peer.subscribe(&kept, granted);
            assert_comes(&mut peer, &text, published, granted);
            publisher.publish(&Publish::new(&kept, 0, b"").retained());
        }
        peer.unsubscribe(&[&live]);
    }
}

/// QoS 1 messages delivered with QoS 0 may come more than once.
fn assert_comes(peer: &mut Peer, text: &str, published: u8, granted: u8) {
    let is_new = |message: &Message| message.text() == text;
    let message = std::iter::repeat_with(|| peer.next_message())
        .take(5)
        .find(is_new)
        .unwrap_or_else(|| panic!("{text} did not come"));
    assert_eq!(message.qos, published.min(granted), "{text}");
}

pub(crate) fn suback_keeps_to_the_maximum_packet_size(on: &Target) {
    // A SUBACK with 250 reason codes and no properties has 256 bytes.
    let name = on.name("a");
    let mut connect = Connect::new(on.version, &name);
    connect.properties = Properties::new().four(property::MAXIMUM_PACKET_SIZE, 256);
    let mut peer = on.connect(&connect);
    let deep = "/".repeat(DEEP_LEVELS);
    let mut names: Vec<String> = (0..249).map(|number| on.name(&format!("/{number}"))).collect();
    names.push(deep);
    let filters: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    peer.send(&subscribe(on.version, 1, &filters, &Properties::new()));
    match peer.next() {
        Received::SubAck { reasons, properties, .. } => {
            assert_eq!(reasons.len(), 250);
            assert!(properties.is_empty(), "no property fits, but SUBACK has {properties:?}");
        }
        other => panic!("answered with {other:?}"),
    }
}

pub(crate) fn reasons_are_in_the_order_of_the_filters(on: &Target) {
    let mut peer = on.client("a");
    for qualities in [&[0, 1, 2][..], &[2, 1, 0, 0], &[0, 0, 1], &[1, 2, 2, 2, 0, 1]] {
        let names: Vec<String> = (0..qualities.len()).map(|at| on.name(&format!("/{at}"))).collect();
        let filters: Vec<(&str, u8)> =
            names.iter().map(String::as_str).zip(qualities.iter().copied()).collect();
        assert_eq!(peer.subscribe_with(&filters, &Properties::new()), qualities);
    }
}

pub(crate) fn reasons_are_those_of_suback(on: &Target) {
    let known: &[u8] = if on.version.is_v5() {
        &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2]
    } else {
        &[0x00, 0x01, 0x02, 0x80]
    };
    let mut peer = on.client("a");
    for filter in filters(on) {
        for qos in 0..3 {
            let reason = peer.subscribe(&filter, qos);
            assert!(known.contains(&reason), "{filter}: {reason:#04x} is not allowed in SUBACK");
        }
    }
}

/// For a broker without wildcard subscriptions.
pub(crate) fn wildcards_that_are_not_supported_are_rejected(on: &Target) {
    let mut peer = on.client("a");
    for filter in ["#", "+", "a/#", "+/a", "a/+/b"] {
        assert_eq!(peer.subscribe(filter, 1), 0x80, "{filter}");
    }
    assert_eq!(peer.subscribe(&on.name("/t"), 1), 1, "a filter without wildcards");
}
