//! `$SYS/broker/...`: the statistics for clients, with the names and formats that mosquitto uses.

use std::collections::BTreeMap;

use crate::harness::broker::{Broker, Setup};
use crate::harness::packet::{Connect, Properties, Publish, Version, property};
use crate::harness::peer::Peer;
use crate::harness::time::{Deadline, PATIENCE};

/// All values below `$SYS` that `peer` has received so far.
fn receive(peer: &mut Peer, values: &mut BTreeMap<String, String>) {
    let message = peer.next_message();
    assert!(message.topic.starts_with("$SYS/broker/"), "{message:?}");
    values.insert(message.topic.clone(), message.text());
}

/// Receives until a topic has the expected value.
fn becomes(peer: &mut Peer, values: &mut BTreeMap<String, String>, topic: &str, expected: &str) {
    let deadline = Deadline::after(PATIENCE);
    while values.get(topic).map(String::as_str) != Some(expected) {
        assert!(deadline.remaining().is_some(), "{topic} does not become {expected}: {values:?}");
        receive(peer, values);
    }
}

fn start(shards: &str, interval_s: &str) -> Broker {
    Broker::start_with(&Setup {
        flags: &["--shards", shards, "--sys-interval-s", interval_s],
        ..Setup::default()
    })
}

#[test]
fn the_numbers_follow_every_shard() {
    for shards in ["1", "3"] {
        let broker = start(shards, "1");
        let mut reader = Peer::connect(broker.address(), &Connect::new(Version::V5, "reader"));
        reader.subscribe("$SYS/#", 1);
        let mut values = BTreeMap::new();
        let mut is = |topic: &str, expected: &str| becomes(&mut reader, &mut values, topic, expected);
        let version = concat!("mqtt-broker version ", env!("CARGO_PKG_VERSION"));
        is("$SYS/broker/version", version);
        is("$SYS/broker/clients/connected", "1");

        let mut peers: Vec<Peer> = (0..4)
            .map(|number| {
                let id = format!("peer-{number}");
                let mut peer = Peer::connect(broker.address(), &Connect::persistent(Version::V5, &id));
                peer.subscribe("t", 1);
                peer.subscribe("$share/g/s", 1);
                peer
            })
            .collect();
        peers[0].publish(&Publish::new("t", 1, b"12345"));
        for peer in &mut peers {
            peer.next_message();
        }
        peers[1].publish(&Publish::new("kept", 1, b"x").retained());
        peers[2].publish(&Publish::new("$SYS/broker/uptime", 1, b"x"));
        is("$SYS/broker/clients/connected", "5");
        is("$SYS/broker/subscriptions/count", "9");
        is("$SYS/broker/shared_subscriptions/count", "4");
        is("$SYS/broker/retained messages/count", "1");
        is("$SYS/broker/publish/messages/received", "3");
        is("$SYS/broker/publish/bytes/received", "7");
        is("$SYS/broker/publish/messages/refused/not_authorized", "1");
        for peer in peers {
            peer.disconnect();
        }
        is("$SYS/broker/clients/disconnected", "4");
        is("$SYS/broker/clients/total", "5");
        is("$SYS/broker/clients/maximum", "5");
        // QoS 0 messages are not queued for an offline session: they are dropped and counted by reason.
        let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
        publisher.publish(&Publish::new("t", 0, b"x"));
        publisher.ping();
        is("$SYS/broker/clients/closed/disconnect", "4");
        is("$SYS/broker/clients/refused/tls", "0");
        let mut stranger = std::net::TcpStream::connect(broker.address()).unwrap();
        std::io::Write::write_all(&mut stranger, &[0x16, 3, 1, 2, 0, 1]).unwrap();
        is("$SYS/broker/clients/refused/tls", "1");
        is("$SYS/broker/messages/dropped/offline", "4");
        is("$SYS/broker/publish/messages/dropped", "4");

        let uptime = &values["$SYS/broker/uptime"];
        let seconds = uptime.strip_suffix(" seconds").and_then(|seconds| seconds.parse::<u64>().ok());
        assert!(seconds.is_some(), "{uptime}");
        for topic in [
            "messages/received",
            "messages/sent",
            "bytes/received",
            "bytes/sent",
            "clients/expired",
            "store/messages/count",
            "store/messages/bytes",
            "publish/messages/sent",
            "publish/bytes/sent",
            "shard/0/connections",
            "shard/0/sessions",
            "shard/0/messages/received",
            "shard/0/messages/sent",
            "shard/0/messages/crossed",
            "shard/0/turns",
            "shard/0/parked_wakes",
        ] {
            let number = values.get(&format!("$SYS/broker/{topic}")).map(|text| text.parse::<u64>());
            assert!(matches!(number, Some(Ok(_))), "{topic}: {number:?}");
        }
        assert_eq!(values.contains_key("$SYS/broker/shard/2/turns"), shards == "3");
        broker.stop();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_first_share_of_a_shards_time_is_a_percentage() {
    // It was CPU time since the start divided by the microseconds since the first look, up to 12,215 %.
    let broker = start("1", "60");
    let mut reader = Peer::connect(broker.address(), &Connect::new(Version::V5, "reader"));
    reader.subscribe("$SYS/broker/shard/0/busy_percent", 1);
    let percent: u64 = reader.next_message().text().parse().expect("a number");
    assert!(percent <= 100, "{percent}");
    broker.stop();
}

#[test]
fn retained_messages_refused_after_their_acknowledgement_are_counted() {
    let flags = ["--shards", "2", "--sys-interval-s", "1", "--retained-messages-max", "2"];
    let broker = Broker::start_with(&Setup { flags: &flags, ..Setup::default() });
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
    // Topics live on either shard, each with half of the room. The shard of the publisher knows whether its own store
    // is full, and acknowledges for the store of the other.
    let taken = (0..40)
        .filter(|number| publisher.publish(&Publish::new(&format!("t/{number}"), 1, b"x").retained()) < 0x80)
        .count();
    assert!(taken > 2, "{taken} of 40");
    let mut reader = Peer::connect(broker.address(), &Connect::new(Version::V5, "reader"));
    reader.subscribe("$SYS/#", 1);
    let mut values = BTreeMap::new();
    becomes(&mut reader, &mut values, "$SYS/broker/retained messages/count", "2");
    becomes(&mut reader, &mut values, "$SYS/broker/retained messages/refused", &(taken - 2).to_string());
    becomes(
        &mut reader,
        &mut values,
        "$SYS/broker/publish/messages/refused/no_room",
        &(40 - taken).to_string(),
    );
    broker.stop();
}

#[test]
fn loads_follow_events_and_a_moved_connection_counts_once() {
    let broker = start("3", "1");
    let mut reader = Peer::connect(broker.address(), &Connect::new(Version::V5, "reader"));
    reader.subscribe("$SYS/#", 1);
    let mut values = BTreeMap::new();
    // Enough clients that some live on another shard than the one that accepted them.
    for number in 0..20 {
        let id = format!("peer-{number}");
        Peer::connect(broker.address(), &Connect::new(Version::V5, &id)).disconnect();
    }
    // CONNECT and SUBSCRIBE of the reader, CONNECT and DISCONNECT of the others.
    becomes(&mut reader, &mut values, "$SYS/broker/messages/received", "42");
    let load = |values: &BTreeMap<String, String>, name: &str| {
        let text = values.get(&format!("$SYS/broker/load/{name}"))?;
        let (_, decimals) = text.split_once('.')?;
        assert_eq!(decimals.len(), 2, "{name}: {text}");
        text.parse::<f64>().ok()
    };
    let is_published = |values: &BTreeMap<String, String>, name: &str| {
        let [one, five, fifteen] =
            ["1min", "5min", "15min"].map(|window| load(values, &format!("{name}/{window}")).unwrap_or(-1.0));
        let is_idle = ["publish/received", "publish/dropped"].contains(&name);
        one >= five && five >= fifteen && fifteen >= 0.0 && (one > 0.0) != is_idle
    };
    let names = [
        "messages/received",
        "messages/sent",
        "publish/received",
        "publish/sent",
        "publish/dropped",
        "bytes/received",
        "bytes/sent",
        "sockets",
        "connections",
    ];
    let deadline = Deadline::after(PATIENCE);
    // Each shard publishes its own topics, so some values can be newer than others for a moment.
    while !names.iter().all(|name| is_published(&values, name)) {
        assert!(deadline.remaining().is_some(), "{values:?}");
        receive(&mut reader, &mut values);
    }
    broker.stop();
}

#[test]
fn a_wildcard_subscription_does_not_match_sys_topics_and_clients_cannot_publish_to_them() {
    let broker = start("2", "1");
    let mut everything = Peer::connect(broker.address(), &Connect::new(Version::V3_1_1, "everything"));
    everything.subscribe("#", 1);
    everything.subscribe("+/broker/uptime", 1);
    let mut reader = Peer::connect(broker.address(), &Connect::new(Version::V5, "reader"));
    reader.subscribe("$SYS/broker/uptime", 1);
    // 3.1.1 has no reason code for it: the message is acknowledged and dropped.
    everything.publish(&Publish::new("$SYS/broker/uptime", 1, b"forged").retained());
    everything.publish(&Publish::new("$SYS/broker/uptime", 2, b"forged"));
    assert_eq!(reader.publish(&Publish::new("$SYS/broker/uptime", 1, b"forged")), 0x87);
    assert_eq!(reader.publish(&Publish::new("$SYS/broker/uptime", 2, b"forged")), 0x87);
    reader.send(&Publish::new("$SYS/broker/uptime", 0, b"forged").encode(Version::V5));
    for _ in 0..3 {
        let message = reader.next_message();
        assert!(message.text().ends_with(" seconds"), "{message:?}");
    }
    everything.settle();
    assert!(everything.waiting().is_empty(), "{:?} [MQTT-4.7.2-1]", everything.waiting());
    broker.stop();
}

#[test]
fn interval_zero_publishes_none() {
    let broker = start("2", "0");
    let mut reader = Peer::connect(broker.address(), &Connect::new(Version::V5, "reader"));
    reader.subscribe("$SYS/#", 1);
    reader.settle();
    assert!(reader.waiting().is_empty(), "{:?}", reader.waiting());
    broker.stop();
}

#[test]
fn retained_messages_that_expire_leave_by_themselves() {
    let broker = start("2", "1");
    let mut reader = Peer::connect(broker.address(), &Connect::new(Version::V5, "reader"));
    reader.subscribe("$SYS/#", 1);
    let mut values = BTreeMap::new();
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
    for (topic, seconds) in [("a", 2), ("b", 2), ("c", 1_000)] {
        let expiry = Properties::new().four(property::MESSAGE_EXPIRY_INTERVAL, seconds);
        publisher.publish(&Publish::new(topic, 1, b"x").retained().with(expiry));
    }
    // The expired messages have no subscriber, so no delivery discovers them.
    becomes(&mut reader, &mut values, "$SYS/broker/retained messages/expired", "2");
    becomes(&mut reader, &mut values, "$SYS/broker/retained messages/count", "1");
    broker.stop();
}
