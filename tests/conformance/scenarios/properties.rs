//! Properties of a message: each arrives unaltered, the expiry interval is counted down, and invalid properties end the
//! connection.

use std::time::Duration;

use super::closes;
use crate::harness::packet::{Connect, Properties, Publish, packet, property};
use crate::harness::received::{Message, Value};
use crate::harness::time::now;
use crate::target::Target;

const INTERVAL: u32 = 1000;

/// Delivers a message in every way: at once with each QoS, retained, and queued for an offline client.
fn brings(on: &Target, round: usize, sent: &Properties, expected: impl Fn(&Message)) {
    for qos in 0..=2 {
        let topic = on.name(&format!("/{round}/{qos}"));
        let mut away = on.persistent("away");
        away.subscribe(&topic, 2);
        away.disconnect();
        let mut peers = [0, 1, 2].map(|granted| {
            let mut peer = on.client(&format!("s{granted}"));
            peer.subscribe(&topic, granted);
            peer
        });
        let publish = Publish::new(&topic, qos, b"payload").retained().with(sent.clone());
        let mut publisher = on.client("p");
        publisher.publish(&publish);
        for peer in &mut peers {
            expected(&peer.next_message());
        }
        let mut newcomer = on.client("n");
        newcomer.subscribe(&topic, 2);
        expected(&newcomer.next_message());
        if qos > 0 {
            let mut away = on.persistent("away");
            expected(&away.next_message());
            away.disconnect();
        }
    }
}

fn values(message: &Message, id: u8) -> Vec<Value> {
    message.properties.iter().filter(|(found, _)| *found == id).map(|(_, value)| value.clone()).collect()
}

/// Checks that each of these texts arrives, as the only value of this property.
fn texts_arrive(on: &Target, id: u8, texts: &[&str]) {
    for (round, text) in texts.iter().enumerate() {
        brings(on, round, &Properties::new().text(id, text), |message| {
            assert_eq!(values(message, id), [Value::Bytes(text.as_bytes().to_vec())], "property {id:#04x}");
            assert_eq!(message.text(), "payload");
        });
    }
}

pub(crate) fn the_payload_format_arrives(on: &Target) {
    for format in [0, 1] {
        brings(on, format.into(), &Properties::new().byte(property::PAYLOAD_FORMAT, format), |message| {
            let found = values(message, property::PAYLOAD_FORMAT);
            // Sending 0 is equivalent to sending nothing, but an unaltered 0 is present.
            assert_eq!(found, [Value::Number(format.into())]);
        });
    }
    brings(on, 2, &Properties::new(), |message| assert_eq!(values(message, property::PAYLOAD_FORMAT), []));
}

pub(crate) fn the_response_topic_arrives(on: &Target) {
    texts_arrive(on, property::RESPONSE_TOPIC, &["answer/here", "/ä/日本/😀", "$SYS/x"]);
}

pub(crate) fn the_correlation_data_arrives(on: &Target) {
    // Arbitrary bytes that are not valid text.
    texts_arrive(on, property::CORRELATION_DATA, &["\0\u{1}\u{7f}", "", &"long".repeat(100)]);
    let binary = [property::CORRELATION_DATA, 0, 4, 0xFF, 0x00, 0xC0, 0x80];
    let topic = on.name("/binary");
    let mut peer = on.client("a");
    peer.subscribe(&topic, 1);
    let mut body = Vec::new();
    crate::harness::packet::text(&topic, &mut body);
    body.push(7);
    body.extend(binary);
    on.client("p").send(&packet(0x30, &body));
    let message = peer.next_message();
    assert_eq!(values(&message, property::CORRELATION_DATA), [Value::Bytes(binary[3..].to_vec())]);
}

pub(crate) fn the_content_type_arrives(on: &Target) {
    texts_arrive(on, property::CONTENT_TYPE, &["application/json", "", "ä/日本/😀"]);
}

pub(crate) fn user_properties_arrive(on: &Target) {
    let pairs = [("k", "v"), ("k", "w"), ("", ""), ("ä", "日本😀")];
    user_pairs_arrive(on, &pairs);
}

pub(crate) fn user_properties_keep_their_order(on: &Target) {
    let pairs = [("b", "1"), ("a", "2"), ("b", "0"), ("a", "2"), ("c", "3"), ("b", "9")];
    user_pairs_arrive(on, &pairs);
}

fn user_pairs_arrive(on: &Target, pairs: &[(&str, &str)]) {
    // Other properties before, between and after them make no difference.
    let mut properties = Properties::new().byte(property::PAYLOAD_FORMAT, 1);
    for (number, (key, value)) in pairs.iter().enumerate() {
        properties = properties.pair(key, value);
        if number == 1 {
            properties = properties.text(property::CONTENT_TYPE, "t");
        }
    }
    let properties = properties.text(property::RESPONSE_TOPIC, "r");
    let expected: Vec<Value> =
        pairs.iter().map(|(key, value)| Value::Pair((*key).to_owned(), (*value).to_owned())).collect();
    brings(on, 0, &properties, |message| assert_eq!(values(message, property::USER_PROPERTY), expected));
}

/// Ill-formed texts as property values: description and bytes.
const ILL_FORMED: [(&str, &[u8]); 7] = [
    ("a lone continuation", b"a\x80"),
    ("a sequence cut short", b"\xE2\x82"),
    ("longer than needed", b"\xC0\xAF"),
    ("a surrogate", b"\xED\xBF\xBF"),
    ("above U+10FFFF", b"\xF4\x90\x80\x80"),
    ("no byte of UTF-8", b"\xFE"),
    ("the null character", b"a\x00"),
];

fn ill_formed_closes(on: &Target, id: u8) {
    for (what, value) in ILL_FORMED {
        let mut body = Vec::new();
        crate::harness::packet::text(&on.name("/t"), &mut body);
        let length = u8::try_from(value.len()).expect("short");
        body.extend([length + 3, id, 0, length]);
        body.extend(value);
        let mut peer = on.client("a");
        peer.send_ignoring_errors(&packet(0x30, &body));
        closes(&mut peer, &[0x81], &format!("{what} in property {id:#04x}"));
    }
}

pub(crate) fn a_response_topic_that_is_no_utf_8_closes(on: &Target) {
    ill_formed_closes(on, property::RESPONSE_TOPIC);
}

pub(crate) fn a_content_type_that_is_no_utf_8_closes(on: &Target) {
    ill_formed_closes(on, property::CONTENT_TYPE);
}

pub(crate) fn a_wildcard_in_the_response_topic_closes(on: &Target) {
    for response in ["#", "+", "a/#", "a/+/b", "a+", "b#c"] {
        for qos in 0..=2 {
            let topic = on.name("/t");
            let properties = Properties::new().text(property::RESPONSE_TOPIC, response);
            let publish = Publish::new(&topic, qos, b"x").with_packet_id(1).with(properties);
            let mut peer = on.client("a");
            peer.send_ignoring_errors(&publish.encode(on.version));
            closes(&mut peer, &[0x81, 0x82, 0x90], response);
        }
    }
}

fn expiring(interval_s: u32) -> Properties {
    Properties::new().four(property::MESSAGE_EXPIRY_INTERVAL, interval_s)
}

pub(crate) fn expired_messages_are_deleted(on: &Target) {
    let (topic, retained) = (on.name("/t"), on.name("/r"));
    let mut away = on.persistent("away");
    away.subscribe(&topic, 2);
    away.disconnect();
    let mut publisher = on.client("p");
    for qos in [1, 2] {
        publisher.publish(&Publish::new(&topic, qos, b"short").with(expiring(1)));
        publisher.publish(&Publish::new(&topic, qos, b"long").with(expiring(INTERVAL)));
        publisher.publish(&Publish::new(&topic, qos, b"for ever"));
    }
    publisher.publish(&Publish::new(&retained, 1, b"short").with(expiring(1)).retained());
    // The statement is about elapsed time.
    std::thread::sleep(Duration::from_millis(2_200));
    let mut away = on.persistent("away");
    for qos in [1, 2] {
        for text in ["long", "for ever"] {
            let message = away.next_message();
            assert_eq!((message.text().as_str(), message.qos), (text, qos));
        }
    }
    // An expired retained message is not sent to a new subscription either.
    away.subscribe(&retained, 1);
    publisher.publish(&Publish::new(&retained, 1, b"live"));
    assert_eq!(away.next_message().text(), "live");
    away.disconnect();
}

pub(crate) fn messages_that_expire_in_the_queue_are_deleted(on: &Target) {
    let (name, topic) = (on.name("a"), on.name("/t"));
    let mut connect = Connect::new(on.version, &name);
    connect.properties = Properties::new().two(property::RECEIVE_MAXIMUM, 1);
    let mut peer = on.connect(&connect);
    peer.subscribe(&topic, 1);
    let mut publisher = on.client("p");
    publisher.publish(&Publish::new(&topic, 1, b"first"));
    publisher.publish(&Publish::new(&topic, 1, b"short").with(expiring(1)));
    publisher.publish(&Publish::new(&topic, 1, b"long").with(expiring(INTERVAL)));
    let first = peer.next_publish();
    assert_eq!(first.text(), "first");
    // The statement is about elapsed time.
    std::thread::sleep(Duration::from_millis(2_200));
    peer.acknowledge(&first);
    assert_eq!(peer.next_message().text(), "long", "a message that expired in the queue is not sent");
}

pub(crate) fn the_forwarded_interval_is_the_remaining_one(on: &Target) {
    let topic = on.name("/t");
    let mut away = on.persistent("away");
    away.subscribe(&topic, 2);
    away.disconnect();
    let mut here = on.client("a");
    here.subscribe(&topic, 2);
    let mut publisher = on.client("p");
    let start = now();
    for qos in [1, 2] {
        publisher.publish(&Publish::new(&topic, qos, b"x").retained().with(expiring(INTERVAL)));
    }
    let left = |peer: &mut crate::harness::peer::Peer, waited_s: u64| {
        let message = peer.next_message();
        let left = message.number(property::MESSAGE_EXPIRY_INTERVAL).expect("the interval is forwarded");
        // One second of tolerance for a broker that counts whole seconds of a clock.
        let least = u64::from(INTERVAL) - start.elapsed().as_secs() - 2;
        let most = u64::from(INTERVAL) - waited_s;
        assert!((least..=most).contains(&left.into()), "{left} s are left, not {least} to {most}");
    };
    for _ in 0..2 {
        left(&mut here, 0);
    }
    // The statement is about the time that a message has waited.
    std::thread::sleep(Duration::from_secs(2));
    let mut away = on.persistent("away");
    for _ in 0..2 {
        left(&mut away, 2);
    }
    away.disconnect();
    let mut newcomer = on.client("n");
    newcomer.subscribe(&topic, 1);
    left(&mut newcomer, 2);
}
