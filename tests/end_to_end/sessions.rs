//! Sessions: kept, resumed, taken over and expired; and QoS 1 and 2 across a lost connection.

use std::time::Duration;

use crate::harness::broker::{Broker, MEMORY, Setup};
use crate::harness::packet::{
    Connect, PUBACK, PUBCOMP, PUBREC, PUBREL, Properties, Publish, Version, acknowledgement,
};
use crate::harness::peer::{Peer, expiring};
use crate::harness::received::Received;
use crate::library_client::{Client, Options};

pub(crate) fn an_offline_queue_arrives_in_order(broker: &mut Broker) {
    const COUNT: usize = 300;
    for version in Version::BOTH {
        let topic = broker.name("offline");
        let id = broker.name("sleeper");
        let options = Options::persistent(version, &id);
        let mut sleeper = Client::connect(broker.address(), &options);
        assert!(!sleeper.session_present);
        sleeper.subscribe(&format!("{topic}/1"), 1);
        sleeper.subscribe(&format!("{topic}/2"), 2);
        sleeper.disconnect();
        let publisher_id = broker.name("publisher");
        let mut publisher = Client::connect(broker.address(), &Options::new(version, &publisher_id));
        for number in 0..COUNT {
            let qos = if number % 2 == 0 { 1 } else { 2 };
            publisher.send(&format!("{topic}/{qos}"), qos, false, number.to_string().as_bytes());
        }
        publisher.await_acknowledged(COUNT);
        let mut sleeper = Client::connect(broker.address(), &options);
        assert!(sleeper.session_present, "the session was kept [MQTT-3.2.2-3]");
        // The order is guaranteed within a QoS, not between QoS 1 and 2 [MQTT-4.6.0-5].
        let mut next = [0, 1];
        for _ in 0..COUNT {
            let message = sleeper.message();
            let lane = &mut next[usize::from(message.qos - 1)];
            assert_eq!(message.text(), lane.to_string(), "{version:?}, QoS {}", message.qos);
            *lane += 2;
        }
        // The subscriptions exist without a second SUBSCRIBE.
        publisher.publish(&format!("{topic}/1"), 1, false, b"live");
        assert_eq!(sleeper.message().text(), "live");
        sleeper.disconnect();
        publisher.disconnect();
        Client::connect(broker.address(), &Options::new(version, &id)).disconnect();
    }
}

pub(crate) fn a_clean_start_forgets_the_session(broker: &mut Broker) {
    for version in Version::BOTH {
        let topic = broker.name("forgotten");
        let id = broker.name("client");
        let persistent = Connect::persistent(version, &id);
        let mut peer = Peer::connect(broker.address(), &persistent);
        peer.subscribe(&topic, 1);
        peer.disconnect();
        let mut clean = Connect::new(version, &id);
        clean.properties = persistent.properties.clone();
        let mut peer = Peer::connect(broker.address(), &clean);
        assert!(!peer.session_present, "[MQTT-3.2.2-2]");
        peer.publish(&Publish::new(&topic, 1, b"to nobody"));
        peer.ping();
        assert!(peer.waiting().is_empty(), "a forgotten subscription delivered");
        peer.disconnect();
        let peer = Peer::connect(broker.address(), &Connect::persistent(version, &id));
        // A clean session of 3.1.1 ends with its connection; in version 5 only the expiry ends it.
        assert_eq!(peer.session_present, version.is_v5());
        peer.disconnect();
        Peer::connect(broker.address(), &Connect::new(version, &id)).disconnect();
    }
}

pub(crate) fn a_session_without_expiry_ends_with_its_connection(broker: &mut Broker) {
    let id = broker.name("brief");
    let mut connect = Connect::new(Version::V5, &id);
    for expiry in [None, Some(0)] {
        connect.properties = expiry.map_or_else(Properties::new, expiring);
        connect.clean_start = false;
        let mut peer = Peer::connect(broker.address(), &connect);
        assert!(!peer.session_present);
        peer.subscribe(&broker.name("x"), 1);
        peer.vanish();
    }
    let peer = Peer::connect(broker.address(), &connect);
    assert!(!peer.session_present, "a session that expires at once was resumed [MQTT-3.1.2-23]");
    peer.disconnect();
}

pub(crate) fn a_session_ends_when_its_expiry_has_passed(broker: &mut Broker) {
    let id = broker.name("expiring");
    let mut connect = Connect::persistent(Version::V5, &id);
    connect.properties = expiring(1);
    Peer::connect(broker.address(), &connect).vanish();
    let peer = Peer::connect(broker.address(), &connect);
    assert!(peer.session_present, "it lives for a second");
    peer.vanish();
    // The passing of time is the subject of the test.
    std::thread::sleep(Duration::from_millis(2_500));
    let peer = Peer::connect(broker.address(), &connect);
    assert!(!peer.session_present, "it lives for a second and not for two and a half");
    peer.disconnect();
}

pub(crate) fn disconnect_may_change_the_expiry(broker: &mut Broker) {
    let id = broker.name("changing");
    let peer = Peer::connect(broker.address(), &Connect::persistent(Version::V5, &id));
    peer.disconnect_with(0, &expiring(0));
    let peer = Peer::connect(broker.address(), &Connect::persistent(Version::V5, &id));
    assert!(!peer.session_present, "DISCONNECT set the expiry to 0");
    peer.disconnect_with(0, &expiring(0));
}

pub(crate) fn a_newcomer_takes_the_session_over(broker: &mut Broker) {
    for old_version in Version::BOTH {
        for new_version in Version::BOTH {
            let id = broker.name("contended");
            let topic = broker.name("contended/topic");
            let mut old = Peer::connect(broker.address(), &Connect::persistent(old_version, &id));
            old.subscribe(&topic, 1);
            let mut new = Peer::connect(broker.address(), &Connect::persistent(new_version, &id));
            assert!(new.session_present, "the session goes over, {old_version:?} to {new_version:?}");
            let reason = old.await_close();
            if old_version.is_v5() && broker.is_ours() {
                assert_eq!(reason, Some(0x8E), "version 5 is told why [MQTT-3.1.4-3]");
            }
            new.publish(&Publish::new(&topic, 1, b"to the newcomer"));
            assert_eq!(new.next_message().text(), "to the newcomer");
            new.disconnect();
            Peer::connect(broker.address(), &Connect::new(new_version, &id)).disconnect();
        }
    }
}

pub(crate) fn unacknowledged_messages_are_sent_again(broker: &mut Broker) {
    for version in Version::BOTH {
        for qos in 1..=2 {
            let (topic, id) = (broker.name("again"), broker.name("forgetful"));
            let connect = Connect::persistent(version, &id);
            let mut peer = Peer::connect(broker.address(), &connect);
            peer.subscribe(&topic, qos);
            let mut publisher =
                Peer::connect(broker.address(), &Connect::new(version, &broker.name("publisher")));
            for text in ["one", "two", "three"] {
                publisher.publish(&Publish::new(&topic, qos, text.as_bytes()));
            }
            publisher.disconnect();
            let first: Vec<_> = (0..3).map(|_| peer.next_publish()).collect();
            assert!(first.iter().all(|message| !message.dup), "[MQTT-3.3.1-1]");
            peer.vanish();
            let mut peer = Peer::connect(broker.address(), &connect);
            assert!(peer.session_present);
            for before in &first {
                let again = peer.next_message();
                assert!(again.dup, "{version:?}, QoS {qos}: a repeated PUBLISH says so [MQTT-3.3.1-1]");
                assert_eq!(
                    (again.packet_id, &again.payload),
                    (before.packet_id, &before.payload),
                    "[MQTT-4.4.0-1]"
                );
            }
            peer.ping();
            assert!(peer.waiting().is_empty());
            peer.disconnect();
            let mut peer = Peer::connect(broker.address(), &connect);
            peer.ping();
            assert!(peer.waiting().is_empty(), "acknowledged messages came again: {:?}", peer.waiting());
            peer.disconnect();
            Peer::connect(broker.address(), &Connect::new(version, &id)).disconnect();
        }
    }
}

pub(crate) fn publishing_at_qos_2_survives_a_reconnect_exactly_once(broker: &mut Broker) {
    for version in Version::BOTH {
        let (topic, id) = (broker.name("once"), broker.name("publisher"));
        let mut subscriber =
            Peer::connect(broker.address(), &Connect::new(version, &broker.name("subscriber")));
        subscriber.subscribe(&topic, 2);
        let connect = Connect::persistent(version, &id);
        let mut publish = Publish::new(&topic, 2, b"once").with_packet_id(7);
        let mut publisher = Peer::connect(broker.address(), &connect);
        publisher.send(&publish.encode(version));
        publisher.await_pubrec(7);
        publisher.vanish();
        // PUBREC may have been lost: the client repeats PUBLISH, then loses the connection again after PUBREL.
        let mut publisher = Peer::connect(broker.address(), &connect);
        assert!(publisher.session_present);
        publish.dup = true;
        publisher.send(&publish.encode(version));
        publisher.await_pubrec(7);
        publisher.send(&acknowledgement(PUBREL, 7));
        publisher.await_pubcomp(7);
        publisher.vanish();
        let mut publisher = Peer::connect(broker.address(), &connect);
        publisher.send(&acknowledgement(PUBREL, 7));
        publisher.await_pubcomp(7);
        // The identifier is free again: the same number is another message.
        publish = Publish::new(&topic, 2, b"another").with_packet_id(7);
        publisher.publish(&publish);
        assert_eq!(subscriber.next_message().text(), "once");
        assert_eq!(subscriber.next_message().text(), "another");
        subscriber.ping();
        assert!(subscriber.waiting().is_empty(), "delivered more than once: {:?}", subscriber.waiting());
        publisher.disconnect();
        subscriber.disconnect();
        Peer::connect(broker.address(), &Connect::new(version, &id)).disconnect();
    }
}

pub(crate) fn receiving_at_qos_2_survives_a_reconnect_exactly_once(broker: &mut Broker) {
    for version in Version::BOTH {
        let (topic, id) = (broker.name("once"), broker.name("subscriber"));
        let connect = Connect::persistent(version, &id);
        let mut subscriber = Peer::connect(broker.address(), &connect);
        subscriber.subscribe(&topic, 2);
        subscriber.publish(&Publish::new(&topic, 2, b"once"));
        let message = subscriber.next_publish();
        subscriber.send(&acknowledgement(PUBREC, message.packet_id));
        let is_pubrel = |packet: &Received| matches!(packet, Received::PubRel { packet_id, .. } if *packet_id == message.packet_id);
        subscriber.await_packet("PUBREL", is_pubrel);
        subscriber.vanish();
        let mut subscriber = Peer::connect(broker.address(), &connect);
        let next = subscriber.next();
        assert!(is_pubrel(&next), "after PUBREC only PUBREL may be repeated, not {next:?} [MQTT-4.3.3-6]");
        subscriber.send(&acknowledgement(PUBCOMP, message.packet_id));
        subscriber.ping();
        assert!(subscriber.waiting().is_empty(), "delivered again: {:?}", subscriber.waiting());
        // The flow continues normally.
        subscriber.publish(&Publish::new(&topic, 1, b"next"));
        let next = subscriber.next_publish();
        assert_eq!(next.text(), "next");
        subscriber.send(&acknowledgement(PUBACK, next.packet_id));
        subscriber.disconnect();
        Peer::connect(broker.address(), &Connect::new(version, &id)).disconnect();
    }
}

pub(crate) fn subscriptions_survive_a_restart(_: &mut Broker) {
    let mut options = 0x04 | 0x08 | 0x01;
    let ids: Vec<String> = Version::BOTH.iter().map(|version| format!("keeper-{version:?}")).collect();
    let connects: Vec<Connect<'_>> =
        Version::BOTH.iter().zip(&ids).map(|(version, id)| Connect::persistent(*version, id)).collect();
    // The test needs its own broker, because it stops and starts it.
    let setup = Setup { flags: &MEMORY, ..Setup::default() };
    let first = Broker::start_with(&setup);
    for connect in connects.iter().rev() {
        let mut peer = Peer::connect(first.address(), connect);
        peer.subscribe_with(&[("keep/me/#", options), ("keep/+", 2)], &Properties::new());
        peer.subscribe("forget/me", 0);
        peer.unsubscribe(&["forget/me"]);
        peer.disconnect();
        options = 1;
    }
    let mut brief = Peer::connect(first.address(), &Connect::new(Version::V5, "brief"));
    brief.subscribe("brief/#", 1);
    let (_, directory) = first.stop();
    let path = directory.path().join("data/subscriptions.json");
    let text = std::fs::read_to_string(&path).expect("the file is written at stop");
    for part in [
        r#""subscriptions""#,
        r#""keeper-V5""#,
        r#""keeper-V3_1_1""#,
        r#""topic_filter""#,
        r#""keep/me/#""#,
        r#""no_local""#,
        r#""retain_as_published""#,
        r#""retain_handling""#,
    ] {
        assert!(text.contains(part), "{part} is not in subscriptions.json:\n{text}");
    }
    assert!(!text.contains("brief/#"), "a clean session is not kept:\n{text}");
    assert!(!text.contains("forget/me"), "what was unsubscribed is not kept:\n{text}");

    let second = Broker::start_in(directory, &setup);
    let mut publisher = Peer::connect(second.address(), &Connect::new(Version::V5, "publisher"));
    // While the clients are offline, the restored session queues for them.
    publisher.publish(&Publish::new("keep/me/offline", 1, b"queued"));
    for connect in &connects {
        let mut peer = Peer::connect(second.address(), connect);
        assert!(peer.session_present, "{:?}: the session was restored", connect.version);
        assert_eq!(peer.next_message().text(), "queued");
        let (live, own) =
            (format!("live for {}", connect.client_id), format!("own of {}", connect.client_id));
        publisher.publish(&Publish::new("keep/me", 1, live.as_bytes()));
        peer.publish(&Publish::new("keep/me/own", 1, own.as_bytes()));
        peer.ping();
        let arrived: Vec<String> = (0..peer.waiting().len()).map(|_| peer.next_message().text()).collect();
        assert!(arrived.contains(&live), "{arrived:?}");
        // Only the version 5 client requested No Local, which survives as well.
        assert_eq!(arrived.contains(&own), !connect.version.is_v5(), "{:?}: {arrived:?}", connect.version);
        peer.vanish();
    }
    second.stop();
}
