//! Reason strings: a plain sentence beside the reason codes that users of MQTT 5.0 clients see most, in each packet that
//! carries them, and left out where it does not fit or is not wanted.

use crate::harness::broker::{Broker, Setup};
use crate::harness::packet::{Connect, Properties, Publish, Version, property, subscribe};
use crate::harness::peer::Peer;
use crate::harness::received::{Received, text};

fn start(config: &str) -> Broker {
    let flags = ["--shards", "1", "--sys-interval-s", "0"];
    Broker::start_with(&Setup { flags: &flags, config, ..Setup::default() })
}

fn properties() -> Properties {
    Properties::new()
}

fn connect(client_id: &str, properties: Properties) -> Connect<'_> {
    Connect { properties, ..Connect::new(Version::V5, client_id) }
}

/// Reason and reason string of a CONNACK.
fn connack(broker: &Broker, connect: &Connect<'_>) -> (u8, Option<String>) {
    let (mut peer, reason) = Peer::try_connect(broker.address(), connect);
    let text = peer.text(property::REASON_STRING);
    peer.await_close();
    (reason, text)
}

type Provocation = (u8, &'static str, &'static str, fn(&Broker, &mut Peer));

/// Reason, setting, words of the sentence, and the act that brings about a DISCONNECT.
const DISCONNECTS: &[Provocation] = &[
    (0x82, "", "only a server may send", |_, peer| peer.send(&[0xD0, 0])),
    (0x8D, "keep_alive_s_max = 1", "send PINGREQ in time", |_, _| {}),
    (0x8E, "", "give each client an identifier of its own", |broker, _| {
        Peer::connect(broker.address(), &Connect::new(Version::V5, "subject"));
    }),
    (0x97, "alias_bytes_max = 256", "alias_bytes_max = 256", |_, peer| {
        let alias = properties().two(property::TOPIC_ALIAS, 1);
        peer.send(&Publish::new(&"t".repeat(300), 0, b"x").with(alias).encode(Version::V5));
    }),
];

#[test]
fn disconnect_explains_itself_where_the_client_takes_as_long_a_packet() {
    for (reason, config, words, provoke) in DISCONNECTS {
        let broker = start(config);
        let mut peer = Peer::connect(broker.address(), &connect("subject", properties()));
        provoke(&broker, &mut peer);
        let (sent, properties) = peer.await_disconnect().expect("a 5.0 client is sent DISCONNECT");
        let explained = text(&properties, property::REASON_STRING).unwrap_or_default();
        assert!(sent == *reason && explained.contains(words), "{sent:#04x} {explained:?}");

        let short = self::properties().four(property::MAXIMUM_PACKET_SIZE, 40);
        let mut peer = Peer::connect(broker.address(), &connect("subject", short));
        provoke(&broker, &mut peer);
        let (sent, properties) = peer.await_disconnect().expect("it fits without the text [MQTT-3.14.2-3]");
        assert_eq!((sent, text(&properties, property::REASON_STRING)), (*reason, None));
        broker.stop();
    }
}

#[test]
fn connack_explains_itself() {
    let broker = start("max_connections = 1\nclient_id_bytes_max = 23");
    let (reason, text) = connack(&broker, &connect(&"x".repeat(24), properties()));
    let text = text.unwrap_or_default();
    assert!(reason == 0x85 && text.contains("client_id_bytes_max = 23"), "{reason:#04x} {text:?}");
    let method = properties().text(property::AUTHENTICATION_METHOD, "none-such");
    let (reason, text) = retry(|| connack(&broker, &connect("a", method.clone())), 0x97);
    let text = text.unwrap_or_default();
    assert!(reason == 0x8C && text.contains("not offered"), "{reason:#04x} {text:?}");
    let short = properties().four(property::MAXIMUM_PACKET_SIZE, 20);
    let short = connect("a", short.text(property::AUTHENTICATION_METHOD, "none-such"));
    assert_eq!(retry(|| connack(&broker, &short), 0x97), (0x8C, None));
    let keeper = retry(|| Peer::try_connect(broker.address(), &connect("keeper", properties())), 0x97);
    let (reason, text) = connack(&broker, &connect("late", properties()));
    let text = text.unwrap_or_default();
    assert!(reason == 0x97 && text.contains("max_connections"), "{reason:#04x} {text:?}");
    keeper.0.disconnect();
    broker.stop();
}

/// A client that left keeps its permit for a moment.
fn retry<T: HasReason>(mut connect: impl FnMut() -> T, passing: u8) -> T {
    let deadline = crate::harness::time::Deadline::after(crate::harness::time::PATIENCE);
    loop {
        let answer = connect();
        if answer.reason() != passing {
            return answer;
        }
        assert!(deadline.remaining().is_some(), "the permit of a client that left is not free");
    }
}

trait HasReason {
    fn reason(&self) -> u8;
}

impl HasReason for (u8, Option<String>) {
    fn reason(&self) -> u8 {
        self.0
    }
}

impl HasReason for (Peer, u8) {
    fn reason(&self) -> u8 {
        self.1
    }
}

#[test]
fn acknowledgements_explain_a_quota_unless_the_client_wants_no_problem_information() {
    let broker = start("subscriptions_per_session_max = 1\nretained_messages_max = 0");
    for (wants, client_id) in [(1, "curious"), (0, "incurious")] {
        let wanted = properties().byte(property::REQUEST_PROBLEM_INFORMATION, wants);
        let mut peer = Peer::connect(broker.address(), &connect(client_id, wanted));
        peer.send(&subscribe(Version::V5, 1, &[("a", 0), ("b", 0)], &properties()));
        let (reasons, suback) = match peer.next() {
            Received::SubAck { reasons, properties, .. } => {
                (reasons, text(&properties, property::REASON_STRING))
            }
            other => panic!("{other:?} is not SUBACK"),
        };
        peer.send(&Publish::new("kept", 1, b"x").retained().with_packet_id(2).encode(Version::V5));
        let (reason, puback) = match peer.next() {
            Received::PubAck { reason, properties, .. } => {
                (reason, text(&properties, property::REASON_STRING))
            }
            other => panic!("{other:?} is not PUBACK"),
        };
        assert_eq!((&reasons[..], reason), (&[0, 0x97][..], 0x97));
        if wants == 1 {
            assert!(suback.unwrap_or_default().contains("subscriptions_per_session_max"));
            assert!(puback.unwrap_or_default().contains("retained_messages_max"));
        } else {
            assert_eq!((suback, puback), (None, None), "[MQTT-3.1.2-29]");
        }
        peer.disconnect();
    }
    broker.stop();
}
