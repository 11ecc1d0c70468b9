//! Retained messages: set, replaced, cleared, and sent to new subscriptions.

use crate::harness::broker::Broker;
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::received::Message;
use crate::library_client::{Client, Options};

/// Subscription options of version 5 above the QoS.
const RETAIN_AS_PUBLISHED: u8 = 0x08;
const SEND_IF_NEW: u8 = 0x10;
const DO_NOT_SEND: u8 = 0x20;

/// A retained message that is requested after others. A broker may replay retained messages in parts, between other
/// packets and in any order. When this one has arrived and a few pings were answered, the replay of the others is
/// complete.
struct Sentinel(String);

impl Sentinel {
    fn set(broker: &Broker, publisher: &mut Peer) -> Self {
        let topic = format!("$t/{}", broker.name("sentinel"));
        publisher.publish(&Publish::new(&topic, 1, b"sentinel").retained());
        Self(topic)
    }

    /// The messages that `peer` receives: waits for `expected` messages and checks whether more arrive.
    fn sent(&self, peer: &mut Peer, expected: usize) -> Vec<Message> {
        peer.subscribe(&self.0, 0);
        let mut messages = Vec::new();
        let mut sentinel_seen = false;
        while !sentinel_seen || messages.len() < expected {
            let message = peer.next_message();
            if message.topic == self.0 {
                sentinel_seen = true;
            } else {
                messages.push(message);
            }
        }
        peer.settle();
        while !peer.waiting().is_empty() {
            messages.push(peer.next_message());
        }
        messages
    }

    fn clear(self, publisher: &mut Peer) {
        publisher.publish(&Publish::new(&self.0, 1, b"").retained());
    }
}

pub(crate) fn retained_messages_are_set_replaced_and_cleared(broker: &mut Broker) {
    for version in Version::BOTH {
        for qos in 0..=2 {
            let topic = broker.name(&format!("retained/{qos}"));
            let id = broker.name("publisher");
            let mut publisher = Client::connect(broker.address(), &Options::new(version, &id));
            publisher.subscribe(&topic, 2);
            // The publisher's own copy shows that the broker has the message, which QoS 0 does not.
            let mut say = |text: &str, retain: bool| {
                publisher.publish(&topic, qos, retain, text.as_bytes());
                let live = publisher.message();
                assert_eq!(live.text(), text);
                assert!(
                    !live.retain,
                    "who was there before sees an ordinary message [MQTT-3.3.1-9 of 3.1.1]"
                );
            };
            let newcomer = |expected: &str| {
                let id = broker.name("newcomer");
                let mut newcomer = Client::connect(broker.address(), &Options::new(version, &id));
                newcomer.subscribe(&topic, 2);
                let message = newcomer.message();
                assert_eq!(message.text(), expected);
                assert_eq!(message.qos, qos);
                assert!(
                    message.retain,
                    "who comes later sees that it is an old message [MQTT-3.3.1-8 of 3.1.1]"
                );
                newcomer.disconnect();
            };
            say("first", true);
            newcomer("first");
            say("second", true);
            newcomer("second");
            // A message without the retain flag does not change the retained one.
            say("passing", false);
            newcomer("second");
            // An empty payload is still delivered to the present subscribers.
            say("", true);

            let id = broker.name("latecomer");
            let mut latecomer = Client::connect(broker.address(), &Options::new(version, &id));
            latecomer.subscribe(&topic, 2);
            publisher.publish(&topic, 1, false, b"end");
            assert_eq!(latecomer.messages_until("end"), [], "an empty payload clears [MQTT-3.3.1-6]");
            latecomer.disconnect();
            publisher.disconnect();
        }
    }
}

pub(crate) fn retained_messages_match_wildcards(broker: &mut Broker) {
    let scope = broker.name("tree");
    let system = format!("$t/{scope}");
    let mut publisher =
        Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("publisher")));
    let topics = ["a", "a/b", "a/b/c", "b/b", "/b"];
    for topic in topics {
        publisher.publish(&Publish::new(&format!("{scope}/{topic}"), 1, topic.as_bytes()).retained());
    }
    publisher.publish(&Publish::new(&system, 1, b"system").retained());
    let table: [(&str, &[&str]); 6] = [
        ("#", &["/b", "a", "a/b", "a/b/c", "b/b"]),
        ("+", &["a"]),
        ("+/b", &["/b", "a/b", "b/b"]),
        ("a/#", &["a", "a/b", "a/b/c"]),
        ("a/b", &["a/b"]),
        ("c", &[]),
    ];
    let sentinel = Sentinel::set(broker, &mut publisher);
    for version in Version::BOTH {
        for (filter, expected) in table {
            let mut peer = Peer::connect(broker.address(), &Connect::new(version, &broker.name("newcomer")));
            peer.subscribe(&format!("{scope}/{filter}"), 1);
            let sent = sentinel.sent(&mut peer, expected.len());
            let mut arrived: Vec<String> = sent.iter().map(Message::text).collect();
            arrived.sort();
            assert_eq!(arrived, expected, "{filter}");
            peer.disconnect();
        }
        let mut peer = Peer::connect(broker.address(), &Connect::new(version, &broker.name("newcomer")));
        peer.subscribe(&format!("+/{scope}"), 1);
        peer.subscribe("+/#", 1);
        // All retained messages but the one below $.
        let sent = sentinel.sent(&mut peer, topics.len());
        assert!(
            sent.iter().all(|message| message.topic != system),
            "a wildcard matched a topic that begins with $"
        );
        peer.disconnect();
    }
    sentinel.clear(&mut publisher);
    for topic in topics {
        publisher.publish(&Publish::new(&format!("{scope}/{topic}"), 1, b"").retained());
    }
    publisher.publish(&Publish::new(&system, 1, b"").retained());
    publisher.disconnect();
}

pub(crate) fn retain_handling_decides_what_a_subscription_sends(broker: &mut Broker) {
    let topic = broker.name("handling");
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("peer")));
    peer.publish(&Publish::new(&topic, 1, b"old").retained());
    let sentinel = Sentinel::set(broker, &mut peer);
    let sends = |peer: &mut Peer, options: u8, expected: usize, why: &str| {
        peer.subscribe(&topic, options);
        let sent: Vec<String> = sentinel.sent(peer, expected).iter().map(Message::text).collect();
        assert_eq!(sent, vec!["old"; expected], "{why}");
    };
    sends(&mut peer, SEND_IF_NEW, 1, "the subscription is new [MQTT-3.3.1-10]");
    sends(&mut peer, SEND_IF_NEW, 0, "the subscription existed [MQTT-3.3.1-10]");
    sends(&mut peer, 0, 1, "asked for at every SUBSCRIBE [MQTT-3.3.1-9]");
    sends(&mut peer, DO_NOT_SEND, 0, "not asked for [MQTT-3.3.1-11]");
    peer.unsubscribe(&[&topic]);
    sends(&mut peer, DO_NOT_SEND, 0, "not asked for, though new");
    peer.disconnect();
    // A shared subscription receives no retained messages when it is made.
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("member")));
    peer.subscribe(&format!("$share/group/{topic}"), 0);
    assert_eq!(sentinel.sent(&mut peer, 0), [], "a shared subscription was sent retained messages");
    sentinel.clear(&mut peer);
    peer.publish(&Publish::new(&topic, 0, b"").retained());
    peer.disconnect();
}

pub(crate) fn retain_as_published_keeps_the_flag(broker: &mut Broker) {
    let topic = broker.name("as-published");
    let mut keeps = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("keeps")));
    keeps.subscribe(&topic, RETAIN_AS_PUBLISHED);
    let mut clears = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("clears")));
    clears.subscribe(&topic, 0);
    keeps.publish(&Publish::new(&topic, 1, b"kept").retained());
    keeps.publish(&Publish::new(&topic, 1, b"passing"));
    assert!(keeps.next_message().retain, "[MQTT-3.3.1-13]");
    assert!(!keeps.next_message().retain);
    assert!(!clears.next_message().retain, "[MQTT-3.3.1-12]");
    assert!(!clears.next_message().retain);
    keeps.publish(&Publish::new(&topic, 1, b"").retained());
    keeps.disconnect();
    clears.disconnect();
}
