//! The order of messages, of repeated messages, and of PUBREL, for each topic. Messages of different topics are not
//! ordered.

use crate::harness::packet::{PUBREC, Publish, acknowledgement};
use crate::harness::peer::Peer;
use crate::harness::received::{Message, Received};
use crate::target::Target;

const COUNT: usize = 60;

fn texts(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("{number:03}")).collect()
}

/// Messages in flight at once; every broker accepts and sends this many.
const AT_ONCE: usize = 10;

/// Sends several messages without waiting in between, then completes them.
fn publish_all(on: &Target, publisher: &mut Peer, topic: &str, qos: u8, texts: &[String]) {
    for texts in texts.chunks(AT_ONCE) {
        let mut bytes = Vec::new();
        for (id, text) in (1..).zip(texts) {
            bytes.extend(Publish::new(topic, qos, text.as_bytes()).with_packet_id(id).encode(on.version));
        }
        publisher.send(&bytes);
        for (id, _) in (1..).zip(texts) {
            publisher.complete(qos, id);
        }
    }
}

pub(crate) fn messages_arrive_in_the_order_of_their_publisher(on: &Target) {
    for qos in 0..=2 {
        let topic = on.name(&format!("/{qos}"));
        let mut peers = [0, 1, 2].map(|granted| {
            let mut peer = on.client(&format!("s{granted}"));
            peer.subscribe(&topic, granted);
            peer
        });
        // Two publishers: the messages of each are in order, however they interleave.
        let mut publishers = ["a", "b"].map(|name| (name, on.client(name)));
        for (name, publisher) in &mut publishers {
            let texts: Vec<String> = texts(0..COUNT).iter().map(|text| format!("{name}{text}")).collect();
            publish_all(on, publisher, &topic, qos, &texts);
        }
        for peer in &mut peers {
            let found: Vec<String> = (0..2 * COUNT).map(|_| peer.next_message().text()).collect();
            for name in ["a", "b"] {
                let of: Vec<&str> = found.iter().filter_map(|text| text.strip_prefix(name)).collect();
                assert_eq!(of, texts(0..COUNT), "QoS {qos}, publisher {name}");
            }
        }
    }
}

/// By default every topic is ordered, also for filters with wildcards and for clients that were offline.
pub(crate) fn every_topic_is_ordered_by_default(on: &Target) {
    for qos in [1, 2] {
        let scope = on.name(&format!("/{qos}"));
        let topics = ["", "/a", "/a/b/c", "/$x", "/ "].map(|topic| format!("{scope}{topic}"));
        let mut here = on.client("h");
        here.subscribe(&format!("{scope}/#"), 2);
        let mut away = on.persistent("away");
        away.subscribe(&format!("{scope}/#"), 2);
        away.disconnect();
        let mut publisher = on.client("p");
        for topic in &topics {
            publish_all(on, &mut publisher, topic, qos, &texts(0..COUNT));
        }
        let mut away = on.persistent("away");
        for peer in [&mut here, &mut away] {
            let found: Vec<Message> = (0..topics.len() * COUNT).map(|_| peer.next_message()).collect();
            for topic in &topics {
                let of: Vec<String> =
                    found.iter().filter(|message| message.topic == *topic).map(Message::text).collect();
                assert_eq!(of, texts(0..COUNT), "{topic}");
            }
        }
        away.unsubscribe(&[&format!("{scope}/#")]);
        away.disconnect();
    }
}

pub(crate) fn repeated_messages_keep_their_order(on: &Target) {
    for qos in [1, 2] {
        let topic = on.name(&format!("/{qos}"));
        let mut peer = on.persistent("a");
        peer.subscribe(&topic, qos);
        let mut publisher = on.client("p");
        publish_all(on, &mut publisher, &topic, qos, &texts(0..10));
        let mut open: Vec<Message> = (0..10).map(|_| peer.next_publish()).collect();
        // Reused identifiers no longer follow the order of sending.
        for text in ["000", "003", "004", "008"] {
            let at = open.iter().position(|message| message.text() == text).expect("it was sent");
            peer.acknowledge(&open.remove(at));
        }
        // The answer to a later packet shows that the acknowledgements were read.
        peer.ping();
        publish_all(on, &mut publisher, &topic, qos, &texts(10..20));
        for _ in 10..20 {
            peer.next_publish();
        }
        peer.vanish();
        let mut peer = on.persistent("a");
        let again: Vec<String> = (0..16).map(|_| peer.next_message().text()).collect();
        let mut expected = texts(0..20);
        expected.retain(|text| !["000", "003", "004", "008"].contains(&text.as_str()));
        assert_eq!(again, expected, "QoS {qos}");
        peer.disconnect();
    }
}

pub(crate) fn pubrel_is_in_the_order_of_pubrec(on: &Target) {
    let topic = on.name("/t");
    let mut peer = on.client("a");
    peer.subscribe(&topic, 2);
    publish_all(on, &mut on.client("p"), &topic, 2, &texts(0..10));
    let mut identifiers: Vec<u16> = (0..10).map(|_| peer.next_publish().packet_id).collect();
    // Neither the order of sending nor its reverse.
    identifiers.rotate_left(3);
    identifiers.swap(0, 5);
    let bytes: Vec<u8> = identifiers.iter().flat_map(|id| acknowledgement(PUBREC, *id)).collect();
    peer.send(&bytes);
    let released: Vec<u16> = (0..10)
        .map(|_| match peer.next() {
            Received::PubRel { packet_id, .. } => packet_id,
            other => panic!("PUBREC was answered with {other:?}"),
        })
        .collect();
    assert_eq!(released, identifiers);
}
