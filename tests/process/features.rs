//! The optional features of the broker, switched off or changed, from the view of its clients.

use rustix::process::Signal;

use crate::harness::broker::{Broker, Setup};
use crate::harness::packet::{Connect, Properties, Publish, Version, property, subscribe};
use crate::harness::peer::Peer;
use crate::harness::received::{Received, text};

fn start(config: &str) -> Broker {
    Broker::start_with(&Setup { flags: &["--shards", "2"], config, ..Setup::default() })
}

fn connect(broker: &Broker, version: Version) -> Peer {
    Peer::connect(broker.address(), &Connect::new(version, "peer"))
}

fn refused(broker: &Broker, connect: &Connect<'_>) -> (u8, Peer) {
    let (mut peer, reason) = Peer::try_connect(broker.address(), connect);
    peer.await_close();
    (reason, peer)
}

#[test]
fn unsupported_features_are_refused_with_their_reason_code() {
    let broker = start(
        "wildcard_subscriptions = false\nshared_subscriptions = false\nsubscription_identifiers = false\n\
         retain_available = false\nmaximum_qos = 1\nassigned_client_ids = false\n",
    );
    let peer = connect(&broker, Version::V5);
    for (id, expected) in [
        (property::WILDCARD_AVAILABLE, 0),
        (property::SHARED_AVAILABLE, 0),
        (property::SUBSCRIPTION_IDS_AVAILABLE, 0),
        (property::RETAIN_AVAILABLE, 0),
        (property::MAXIMUM_QOS, 1),
    ] {
        assert_eq!(peer.number(id), Some(expected), "{id:#04x}");
    }
    peer.disconnect();
    let mut older = connect(&broker, Version::V3_1_1);
    let filters = [("a", 2), ("a/#", 0), ("$share/g/a", 0)];
    assert_eq!(older.subscribe_with(&filters, &Properties::new()), [1, 0x80, 0x80]);
    older.publish(&Publish::new("a", 1, b"x"));
    assert_eq!(older.next_message().qos, 1);
    older.disconnect();
    for bytes in [
        Publish::new("a", 2, b"x").with_packet_id(1).encode(Version::V3_1_1),
        Publish::new("a", 0, b"x").retained().encode(Version::V3_1_1),
    ] {
        let mut older = connect(&broker, Version::V3_1_1);
        older.send(&bytes);
        assert_eq!(older.await_close(), None);
    }
    for (version, reasons) in [(Version::V5, [0x9B, 0x9A, 0x85]), (Version::V3_1_1, [3, 3, 2])] {
        let mut connect = Connect::new(version, "mortal").with_will("w", b"x", Properties::new());
        let will = connect.will.as_mut().expect("it has a will");
        will.qos = 2;
        assert_eq!(refused(&broker, &connect).0, reasons[0], "will of QoS 2 [MQTT-3.2.2-12]");
        let will = connect.will.as_mut().expect("it has a will");
        (will.qos, will.retain) = (1, true);
        assert_eq!(refused(&broker, &connect).0, reasons[1], "retained will [MQTT-3.2.2-13]");
        assert_eq!(refused(&broker, &Connect::new(version, "")).0, reasons[2], "no client identifier");
    }
    broker.stop();
}

#[test]
fn new_clients_are_sent_elsewhere() {
    for (redirect, reason) in [("use_another", 0x9C), ("moved", 0x9D)] {
        let broker =
            start(&format!("redirect = \"{redirect}\"\nserver_reference = \"other.example:1883\"\n"));
        let (received, peer) = refused(&broker, &Connect::new(Version::V5, "peer"));
        assert_eq!(received, reason);
        assert_eq!(peer.text(property::SERVER_REFERENCE).as_deref(), Some("other.example:1883"));
        let mut small = Connect::new(Version::V5, "small");
        small.properties = Properties::new().four(property::MAXIMUM_PACKET_SIZE, 20);
        let (received, peer) = refused(&broker, &small);
        assert_eq!((received, peer.text(property::SERVER_REFERENCE)), (reason, None), "only what fits");
        let (received, _) = refused(&broker, &Connect::new(Version::V3_1_1, "older"));
        assert_eq!(received, 3, "server unavailable");
        broker.stop();
    }
}

#[test]
fn a_stop_refers_to_the_other_server() {
    let mut broker = start("server_reference = \"other.example:1883\"\n");
    let mut peer = connect(&broker, Version::V5);
    let mut connect = Connect::new(Version::V5, "small");
    connect.properties = Properties::new().four(property::MAXIMUM_PACKET_SIZE, 24);
    let mut small = Peer::connect(broker.address(), &connect);
    broker.process().signal(Signal::TERM);
    let (reason, properties) = peer.await_disconnect().expect("a client of version 5 receives a reason");
    assert_eq!(reason, 0x9C);
    assert_eq!(text(&properties, property::SERVER_REFERENCE).as_deref(), Some("other.example:1883"));
    let (reason, properties) = small.await_disconnect().expect("a client of version 5 receives a reason");
    assert_eq!(reason, 0x9C);
    assert_eq!(text(&properties, property::SERVER_REFERENCE), None, "only what fits");
    broker.stop();
}

#[test]
fn a_payload_that_is_not_utf8_as_indicated_is_refused() {
    let broker = start("check_payload_format = true\n");
    let utf8 = || Properties::new().byte(property::PAYLOAD_FORMAT, 1);
    let mut peer = connect(&broker, Version::V5);
    peer.subscribe("t", 0);
    for qos in [1, 2] {
        assert_eq!(peer.publish(&Publish::new("t", qos, b"\xff").with(utf8())), 0x99);
        assert_eq!(peer.publish(&Publish::new("t", qos, "grüße".as_bytes()).with(utf8())), 0);
        assert_eq!(peer.next_message().text(), "grüße");
    }
    peer.publish(&Publish::new("t", 1, b"\xff"));
    assert_eq!(peer.next_message().payload, b"\xff", "without the indicator it is bytes");
    peer.send(&Publish::new("t", 0, b"\xff").with(utf8()).encode(Version::V5));
    assert_eq!(peer.await_close(), Some(0x99));
    let mortal = Connect::new(Version::V5, "mortal").with_will("w", b"\xff", utf8());
    assert_eq!(refused(&broker, &mortal).0, 0x99);
    broker.stop();
}

#[test]
fn response_information_is_sent_on_request() {
    let broker = start("response_topic_prefix = \"answers\"\n");
    for (asks, expected) in [(0, None), (1, Some("answers/peer"))] {
        let mut connect = Connect::new(Version::V5, "peer");
        connect.properties = Properties::new().byte(property::REQUEST_RESPONSE_INFORMATION, asks);
        let peer = Peer::connect(broker.address(), &connect);
        assert_eq!(peer.text(property::RESPONSE_INFORMATION).as_deref(), expected, "[MQTT-3.1.2-28]");
        peer.disconnect();
    }
    assert_eq!(connect(&broker, Version::V5).text(property::RESPONSE_INFORMATION), None);
    broker.stop();
}

#[test]
fn refusals_carry_a_reason_string_unless_the_client_declines() {
    let broker = start("topic_levels_max = 2\n");
    for (wanted, has_words) in [(None, true), (Some(1), true), (Some(0), false)] {
        let mut connect = Connect::new(Version::V5, "peer");
        if let Some(wanted) = wanted {
            connect.properties = Properties::new().byte(property::REQUEST_PROBLEM_INFORMATION, wanted);
        }
        let mut peer = Peer::connect(broker.address(), &connect);
        peer.send(&Publish::new("a/b/c", 1, b"x").with_packet_id(7).encode(Version::V5));
        match peer.next() {
            Received::PubAck { reason: 0x90, properties, .. } => {
                let words = text(&properties, property::REASON_STRING);
                assert_eq!(words.is_some(), has_words, "{words:?} [MQTT-3.1.2-29]");
            }
            other => panic!("{other:?} answers PUBLISH"),
        }
        peer.send(&subscribe(Version::V5, 8, &[("a", 0), ("a/b/c", 0)], &Properties::new()));
        match peer.next() {
            Received::SubAck { reasons, properties, .. } => {
                assert_eq!(reasons, [0, 0x8F]);
                let words = text(&properties, property::REASON_STRING);
                assert_eq!(words.is_some(), has_words, "{words:?} [MQTT-3.1.2-29]");
            }
            other => panic!("{other:?} answers SUBSCRIBE"),
        }
        peer.disconnect();
    }
    broker.stop();
}
