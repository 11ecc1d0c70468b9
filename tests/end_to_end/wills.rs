//! Wills: when they are published, when they are not, and when they are delayed.

use std::time::Duration;

use crate::harness::broker::Broker;
use crate::harness::packet::{Connect, Properties, Publish, Version, property};
use crate::harness::peer::{Peer, expiring};
use crate::harness::time::now;
use crate::library_client::{Client, Options};

fn delayed(seconds: u32) -> Properties {
    Properties::new().four(property::WILL_DELAY_INTERVAL, seconds)
}

pub(crate) fn a_will_follows_an_abnormal_end_only(broker: &mut Broker) {
    for version in Version::BOTH {
        let topic = broker.name("will");
        let (watcher_id, id) = (broker.name("watcher"), broker.name("mortal"));
        let mut watcher = Client::connect(broker.address(), &Options::new(version, &watcher_id));
        watcher.subscribe(&topic, 2);
        for qos in 0..=2 {
            let options = Options { will: Some((&topic, "gone", qos)), ..Options::new(version, &id) };
            Client::connect(broker.address(), &options).disconnect();
            watcher.publish(&topic, 1, false, b"end");
            assert_eq!(watcher.messages_until("end"), [], "DISCONNECT discards the will [MQTT-3.14.4-3]");
            Client::connect(broker.address(), &options).vanish();
            let message = watcher.message();
            assert_eq!((message.text(), message.qos), ("gone".to_owned(), qos), "[MQTT-3.1.2-8]");
        }
        watcher.disconnect();
    }
}

pub(crate) fn a_retained_will_is_retained(broker: &mut Broker) {
    for version in Version::BOTH {
        let topic = broker.name("will/retained");
        let id = broker.name("mortal");
        let mut connect = Connect::new(version, &id).with_will(&topic, b"gone for long", Properties::new());
        if let Some(will) = &mut connect.will {
            will.retain = true;
        }
        let mut watcher = Peer::connect(broker.address(), &Connect::new(version, &broker.name("watcher")));
        watcher.subscribe(&topic, 1);
        Peer::connect(broker.address(), &connect).vanish();
        assert!(!watcher.next_message().retain);
        let mut latecomer =
            Peer::connect(broker.address(), &Connect::new(version, &broker.name("latecomer")));
        latecomer.subscribe(&topic, 1);
        let message = latecomer.next_message();
        assert!(message.retain, "[MQTT-3.1.2-15]");
        assert_eq!(message.text(), "gone for long");
        latecomer.publish(&Publish::new(&topic, 0, b"").retained());
        latecomer.disconnect();
        watcher.disconnect();
    }
}

pub(crate) fn disconnect_with_will_sends_the_will(broker: &mut Broker) {
    let topic = broker.name("will/asked");
    let id = broker.name("mortal");
    let mut watcher = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("watcher")));
    watcher.subscribe(&topic, 1);
    let connect = Connect::new(Version::V5, &id).with_will(&topic, b"as asked", Properties::new());
    Peer::connect(broker.address(), &connect).disconnect_with(0x04, &Properties::new());
    assert_eq!(watcher.next_message().text(), "as asked");
    watcher.disconnect();
}

pub(crate) fn a_delayed_will_waits(broker: &mut Broker) {
    let topic = broker.name("will/delayed");
    let id = broker.name("mortal");
    let mut watcher = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("watcher")));
    watcher.subscribe(&topic, 1);
    let properties = delayed(1).text(property::CONTENT_TYPE, "text/plain").pair("who", "me");
    let mut connect = Connect::new(Version::V5, &id).with_will(&topic, b"late", properties);
    connect.properties = expiring(3600);
    let peer = Peer::connect(broker.address(), &connect);
    let start = now();
    peer.vanish();
    let message = watcher.next_message();
    let waited = now() - start;
    assert_eq!(message.text(), "late");
    assert!(waited >= Duration::from_millis(900), "a delay of 1 s took {waited:?} [MQTT-3.1.3-9]");
    assert!(waited < Duration::from_secs(5), "a delay of 1 s took {waited:?}");
    assert_eq!(message.properties.len(), 2, "the delay itself does not travel: {:?}", message.properties);
    watcher.disconnect();
}

pub(crate) fn a_return_within_the_delay_cancels_the_will(broker: &mut Broker) {
    let topic = broker.name("will/cancelled");
    let (id, other) = (broker.name("mortal"), broker.name("other"));
    let mut watcher = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("watcher")));
    watcher.subscribe(&topic, 1);
    let mut connect = Connect::persistent(Version::V5, &id).with_will(&topic, b"cancelled", delayed(1));
    Peer::connect(broker.address(), &connect).vanish();
    connect.will = None;
    let back = Peer::connect(broker.address(), &connect);
    // A second will with the same delay, started later, shows when the first one would have been due.
    let mut later = Connect::persistent(Version::V5, &other).with_will(&topic, b"due", delayed(1));
    Peer::connect(broker.address(), &later).vanish();
    assert_eq!(watcher.next_message().text(), "due", "the client was back in time [MQTT-3.1.3-9]");
    back.disconnect();
    later.will = None;
    later.properties = Properties::new();
    later.clean_start = true;
    Peer::connect(broker.address(), &later).disconnect();
    watcher.disconnect();
}

pub(crate) fn the_end_of_the_session_sends_a_delayed_will(broker: &mut Broker) {
    let topic = broker.name("will/session");
    let id = broker.name("mortal");
    let mut watcher = Peer::connect(broker.address(), &Connect::new(Version::V5, &broker.name("watcher")));
    watcher.subscribe(&topic, 1);
    // The session ends with the connection, long before the delay [MQTT-3.1.2-8].
    let connect = Connect::new(Version::V5, &id).with_will(&topic, b"with the session", delayed(3600));
    Peer::connect(broker.address(), &connect).vanish();
    assert_eq!(watcher.next_message().text(), "with the session");
    // A clean start ends the old session as well.
    let connect = Connect::persistent(Version::V5, &id).with_will(&topic, b"by a clean start", delayed(3600));
    Peer::connect(broker.address(), &connect).vanish();
    Peer::connect(broker.address(), &Connect::new(Version::V5, &id)).disconnect();
    assert_eq!(watcher.next_message().text(), "by a clean start");
    watcher.disconnect();
}

pub(crate) fn a_take_over_is_an_abnormal_end(broker: &mut Broker) {
    for version in Version::BOTH {
        let topic = broker.name("will/takeover");
        let id = broker.name("mortal");
        let mut watcher = Peer::connect(broker.address(), &Connect::new(version, &broker.name("watcher")));
        watcher.subscribe(&topic, 1);
        let connect = Connect::new(version, &id).with_will(&topic, b"taken over", Properties::new());
        let mut old = Peer::connect(broker.address(), &connect);
        let new = Peer::connect(broker.address(), &Connect::new(version, &id));
        assert_eq!(watcher.next_message().text(), "taken over");
        old.await_close();
        new.disconnect();
        watcher.disconnect();
    }
}
