//! UNSUBSCRIBE and UNSUBACK: refusals, answers, ended subscriptions, and deliveries that are still completed.

use super::refusal::{NOT_UTF_8, closes, unsubscribe_bytes, with_first_byte};
use crate::harness::packet::{Connect, Properties, Publish, property, unsubscribe};
use crate::harness::received::Received;
use crate::target::Target;

const NO_SUBSCRIPTION_EXISTED: u8 = 0x11;

pub(crate) fn other_flags_close(on: &Target) {
    for flags in (0..16).filter(|flags| *flags != 2) {
        let bytes = with_first_byte(0xA0 | flags, &unsubscribe_bytes(on.version, 1, &[b"t"]));
        closes(on, &format!("flags {flags:#x}"), &bytes, &[0x81]);
    }
}

pub(crate) fn a_filter_that_is_no_utf_8_closes(on: &Target) {
    for filter in NOT_UTF_8 {
        for bytes in
            [unsubscribe_bytes(on.version, 1, &[filter]), unsubscribe_bytes(on.version, 1, &[b"t", filter])]
        {
            closes(on, &format!("{filter:02x?}"), &bytes, &[0x81]);
        }
    }
}

pub(crate) fn no_filter_closes(on: &Target) {
    // The standard calls it a protocol error; a packet without its payload is also malformed.
    closes(on, "no filter", &unsubscribe_bytes(on.version, 1, &[]), &[0x81, 0x82]);
}

pub(crate) fn filters_are_compared_character_by_character(on: &Target) {
    let (held, end) = (on.name("/+/x"), on.name("/end"));
    let plain = on.name("/c");
    let mut peer = on.client("a");
    for filter in [&held, &plain, &end] {
        peer.subscribe(filter, 1);
    }
    let mut others: Vec<String> =
        ["/b/x", "/#", "/+/X", "/+/x/", "/+/x/#", "/+", "/C", "/c/", "/c/#", "/+/+", "/\u{FEFF}c"]
            .iter()
            .map(|suffix| on.name(suffix))
            .collect();
    others.push(format!("/{held}"));
    others.push("#".to_owned());
    if on.version.is_v5() {
        others.push(format!("$share/g/{plain}"));
    }
    for other in &others {
        let reasons = peer.unsubscribe(&[other]);
        assert!(!on.version.is_v5() || reasons == [NO_SUBSCRIPTION_EXISTED], "{other}: {reasons:02x?}");
    }
    let mut publisher = on.client("p");
    for (topic, filter) in [(on.name("/b/x"), &held), (plain.clone(), &plain)] {
        publisher.publish(&Publish::new(&topic, 1, b"held"));
        assert_eq!(peer.next_message().topic, topic, "the unsubscribed filter differs from {filter}");
        let reasons = peer.unsubscribe(&[filter]);
        assert!(!on.version.is_v5() || reasons == [0], "{filter}: {reasons:02x?}");
        publisher.publish(&Publish::new(&topic, 1, b"gone"));
        publisher.publish(&Publish::new(&end, 1, b"end"));
        assert_eq!(peer.next_message().text(), "end", "{filter} was unsubscribed");
    }
}

pub(crate) fn nothing_new_is_added(on: &Target) {
    let end = on.name("/end");
    let mut peer = on.client("a");
    let mut publisher = on.client("p");
    peer.subscribe(&end, 1);
    for (filter, topic) in [("/t", "/t"), ("/+/u", "/t/u"), ("/v/#", "/v/w/x")] {
        let (filter, topic) = (on.name(filter), on.name(topic));
        for qos in 0..3 {
            peer.subscribe(&filter, qos);
            publisher.publish(&Publish::new(&topic, qos, b"before"));
            assert_eq!(peer.next_message().text(), "before");
            peer.unsubscribe(&[&filter]);
            publisher.publish(&Publish::new(&topic, qos, b"after"));
            publisher.publish(&Publish::new(&end, 1, b"end"));
            assert_eq!(peer.next_message().text(), "end", "{filter} with QoS {qos}");
        }
    }
}

pub(crate) fn started_deliveries_are_completed_after_unsubscribe(on: &Target) {
    let (topic, end) = (on.name("/t"), on.name("/end"));
    let mut peer = on.persistent("a");
    let mut publisher = on.client("p");
    peer.subscribe(&topic, 2);
    peer.subscribe(&end, 1);
    for (qos, text) in [(2, "two"), (1, "one"), (2, "dup")] {
        publisher.publish(&Publish::new(&topic, qos, text.as_bytes()));
    }
    let [two, one, dup] = std::array::from_fn(|_| peer.next_publish());
    peer.unsubscribe(&[&topic]);
    peer.acknowledge(&two);
    peer.ping();
    peer.vanish();
    let mut peer = on.persistent("a");
    assert!(peer.session_present);
    for begun in [one, dup] {
        let again = peer.next_publish();
        assert_eq!((again.text(), again.qos, again.packet_id), (begun.text(), begun.qos, begun.packet_id));
        assert!(again.dup, "it is repeated");
        peer.acknowledge(&again);
    }
    publisher.publish(&Publish::new(&topic, 1, b"gone"));
    publisher.publish(&Publish::new(&end, 1, b"end"));
    assert_eq!(peer.next_message().text(), "end", "the subscription has ended");
}

pub(crate) fn unsuback_has_the_packet_identifier(on: &Target) {
    let (mut peer, topic) = (on.client("a"), on.name("/t"));
    for id in [1, 2, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 1] {
        if id % 2 == 0 {
            peer.subscribe(&topic, 1);
        }
        peer.send(&unsubscribe(on.version, id, &[&topic]));
        match peer.next() {
            Received::UnsubAck { packet_id, .. } => assert_eq!(packet_id, id),
            other => panic!("{id}: answered with {other:?}"),
        }
    }
}

pub(crate) fn unsuback_comes_even_if_nothing_was_deleted(on: &Target) {
    let mut peer = on.client("a");
    for (id, filter) in (1..).zip(["/t", "/t", "/+", "/#"]) {
        peer.send(&unsubscribe(on.version, id, &[&on.name(filter)]));
        match peer.next() {
            Received::UnsubAck { packet_id, reasons, .. } => {
                assert_eq!(packet_id, id);
                assert!(
                    !on.version.is_v5() || reasons == [NO_SUBSCRIPTION_EXISTED],
                    "{filter}: {reasons:02x?}"
                );
            }
            other => panic!("{filter}: answered with {other:?}"),
        }
    }
}

pub(crate) fn many_filters_are_a_sequence_with_one_answer(on: &Target) {
    let [first, second, none, end] = ["/1", "/2", "/3", "/end"].map(|suffix| on.name(suffix));
    let mut peer = on.client("a");
    for filter in [&first, &second, &end] {
        peer.subscribe(filter, 1);
    }
    peer.send(&unsubscribe(on.version, 7, &[&first, &none, &second, &first]));
    match peer.next() {
        Received::UnsubAck { packet_id: 7, reasons, .. } if on.version.is_v5() => {
            assert_eq!(reasons, [0, NO_SUBSCRIPTION_EXISTED, 0, NO_SUBSCRIPTION_EXISTED]);
        }
        Received::UnsubAck { packet_id: 7, .. } => {}
        other => panic!("answered with {other:?}"),
    }
    peer.ping();
    assert!(peer.waiting().is_empty(), "more than one UNSUBACK: {:?}", peer.waiting());
    let mut publisher = on.client("p");
    for topic in [&first, &second, &end] {
        publisher.publish(&Publish::new(topic, 1, b"m"));
    }
    assert_eq!(peer.next_message().topic, end, "each subscription has ended");
}

pub(crate) fn unsuback_keeps_to_the_maximum_packet_size(on: &Target) {
    // An UNSUBACK with 250 reason codes and no properties has 256 bytes.
    let name = on.name("a");
    let mut connect = Connect::new(on.version, &name);
    connect.properties = Properties::new().four(property::MAXIMUM_PACKET_SIZE, 256);
    let mut peer = on.connect(&connect);
    let names: Vec<String> = (0..250).map(|number| on.name(&format!("/{number}"))).collect();
    let filters: Vec<&str> = names.iter().map(String::as_str).collect();
    peer.send(&unsubscribe(on.version, 1, &filters));
    match peer.next() {
        Received::UnsubAck { reasons, properties, .. } => {
            assert_eq!(reasons.len(), 250);
            assert!(properties.is_empty(), "no property fits, but UNSUBACK has {properties:?}");
        }
        other => panic!("answered with {other:?}"),
    }
}

pub(crate) fn reasons_are_in_the_order_of_the_filters(on: &Target) {
    let [first, second, third, fourth] = ["/1", "/2", "/3", "/4"].map(|suffix| on.name(suffix));
    let none = NO_SUBSCRIPTION_EXISTED;
    let mut peer = on.client("a");
    for held in [[true, false, false, false], [false, true, true, true], [false, false, true, false]] {
        let filters = [first.as_str(), &second, &third, &fourth];
        for (filter, _) in filters.iter().zip(held).filter(|(_, held)| *held) {
            peer.subscribe(filter, 1);
        }
        assert_eq!(peer.unsubscribe(&filters), held.map(|held| if held { 0 } else { none }));
    }
}

pub(crate) fn reasons_are_those_of_unsuback(on: &Target) {
    let mut peer = on.client("a");
    let names: Vec<String> = ["/t", "/+", "/#", "/\u{e4}"].iter().map(|suffix| on.name(suffix)).collect();
    peer.subscribe(&names[0], 0);
    peer.subscribe(&names[1], 2);
    let mut filters: Vec<&str> = names.iter().map(String::as_str).collect();
    let deep = "/".repeat(150);
    filters.extend([deep.as_str(), "$share/g/t", "$SYS/#"]);
    let reasons = peer.unsubscribe(&filters);
    assert_eq!(reasons.len(), filters.len());
    for reason in reasons {
        let known = [0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
        assert!(known.contains(&reason), "{reason:#04x} is not allowed in UNSUBACK");
    }
}
