//! The broker's own topics: the host publishes to them, the messages are retained, and clients may read but not write them.

use engine::{Event, Limits};
use wire::{AckKind, Packet, PublishProperties, QoS};

use core::num::NonZeroU16;

use crate::client::{Hello, publish};
use crate::host::{Shard, run};

fn publish_sys(shard: &mut Shard, topic: &str, payload: &str) {
    shard.raw_step(Event::Sys { topic, payload: payload.as_bytes() });
}

/// Removes a retained message, as the host does before it ends.
fn remove(shard: &mut Shard, topic: &str) {
    publish_sys(shard, topic, "");
}

#[test]
fn mqtt_4_7_2_1_messages_of_the_host_are_retained_and_matched_by_their_own_filters_alone() {
    run(Limits::default(), |shard| {
        let names = ["#", "+/a", "+/#", "$SYS/#", "$SYS/+", "$SYS/a"];
        let mut clients = names.map(|filter| {
            let client = shard.connect(&Hello::v5(filter));
            shard.subscribe(client, filter, 2);
            client
        });
        publish_sys(shard, "$SYS/a", "1");
        publish_sys(shard, "$SYS/a", "2");
        for (at, client) in clients.iter().enumerate() {
            let expected: &[&str] = if at < 3 { &[] } else { &["1", "2"] };
            assert_eq!(shard.texts(*client), expected, "{}", names[at]);
        }
        for (at, client) in clients.iter_mut().enumerate() {
            shard.hang_up(*client);
            *client = shard.connect(&Hello::v3(names[at]));
            shard.subscribe(*client, names[at], 0);
            let expected: &[&str] = if at < 3 { &[] } else { &["2"] };
            assert_eq!(shard.texts(*client), expected, "{}", names[at]);
        }
        let counters = shard.engine.counters();
        assert_eq!((counters.messages_received, counters.publishes_unmatched), (0, 0));
        remove(shard, "$SYS/a");
    });
}

#[test]
fn the_limits_of_retained_messages_are_for_those_of_clients() {
    let limits = Limits { retained_messages_max: 1, retained_bytes_max: 10, ..Limits::default() };
    run(limits, |shard| {
        for topic in ["$SYS/a", "$SYS/b", "$SYS/c"] {
            publish_sys(shard, topic, "a long text that is more than ten bytes");
        }
        assert_eq!(shard.engine.retained_count(), 0);
        let client = shard.connect(&Hello::v5("a"));
        assert_eq!(shard.publish_retained(client, "t", b"x", 1), 0x10);
        assert_eq!(shard.publish_retained(client, "u", b"x", 1), 0x97);
        assert_eq!(shard.engine.retained_count(), 1);
        publish_sys(shard, "$SYS/d", "still");
        shard.subscribe(client, "$SYS/#", 0);
        assert_eq!(shard.texts(client).len(), 4);
        for topic in ["$SYS/a", "$SYS/b", "$SYS/c", "$SYS/d"] {
            remove(shard, topic);
        }
    });
}

#[test]
fn a_full_memory_does_not_refuse_messages_of_the_host() {
    run(Limits { memory_bytes_max: 4_000_000, ..Limits::default() }, |shard| {
        let client = shard.connect(&Hello::v5("a"));
        let mut kept = 0;
        while shard.publish_retained(client, &format!("t/{kept}"), &vec![b'x'; 40_000], 1) != 0x97 {
            kept += 1;
        }
        assert_eq!(shard.publish(client, "t", b"x", 1), 0x10, "nobody keeps it");
        shard.subscribe(client, "$SYS/a", 0);
        publish_sys(shard, "$SYS/a", "1");
        publish_sys(shard, "$SYS/a", "2");
        assert_eq!(shard.texts(client), ["1", "2"]);
        remove(shard, "$SYS/a");
        assert!(kept > 10, "{kept}");
    });
}

#[test]
fn a_publish_of_a_client_below_sys_reaches_nobody_and_is_counted() {
    for (hello, reason) in [(Hello::v5("a"), 0x87), (Hello::v3("a"), 0)] {
        run(Limits { receive_maximum: 2, ..Limits::default() }, |shard| {
            let client = shard.connect(&hello);
            shard.subscribe(client, "$SYS/#", 2);
            for topic in ["$SYS", "$SYS/", "$SYS/broker/uptime"] {
                // More refusals than the receive maximum: a refused PUBLISH does not count against it.
                for qos in [0, 1, 2, 1, 2] {
                    let id = shard.packet_id();
                    shard.send(
                        client,
                        &Packet::Publish(wire::Publish { retain: true, ..publish(topic, b"x", qos, id) }),
                    );
                    let kind = if qos == 1 { AckKind::PubAck } else { AckKind::PubRec };
                    let sent = shard.acked(client, kind, id);
                    assert_eq!(sent, (qos > 0).then_some(reason), "{topic} {qos}");
                    if kind == AckKind::PubRec && sent == Some(0) {
                        shard.ack(client, AckKind::PubRel, id);
                        assert_eq!(shard.acked(client, AckKind::PubComp, id), Some(0));
                    }
                }
            }
            // A topic that only begins alike is not affected.
            shard.subscribe(client, "$SYSTEM", 0);
            shard.publish(client, "$SYSTEM", b"mine", 0);
            assert_eq!(shard.texts(client), ["mine"]);
            assert_eq!(shard.engine.counters().publishes_denied, 15);
            assert_eq!(shard.engine.retained_count(), 0);
        });
    }
}

#[test]
fn a_topic_alias_does_not_get_around_the_refusal() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        shard.subscribe(client, "$SYS/#", 0);
        let alias = PublishProperties { topic_alias: NonZeroU16::new(1), ..PublishProperties::default() };
        let first = wire::Publish { properties: alias, ..publish("$SYS/a", b"x", 1, 7) };
        assert_eq!(shard.publish_packet(client, &first), 0x87);
        let again = wire::Publish { topic: None, ..first };
        assert_eq!(shard.publish_packet(client, &again), 0x87);
        assert_eq!(shard.texts(client), [""; 0]);
    });
}

#[test]
fn a_will_below_sys_is_refused_with_its_connect() {
    for hello in [Hello::v5("a"), Hello::v3("a")] {
        run(Limits::default(), |shard| {
            let client = shard.dial(&hello.will_with("$SYS/a", "x", QoS::AtMostOnce, true, 0));
            let sent = shard.take(client);
            assert!(
                matches!(sent.as_slice(), [crate::client::Got::ConnAck { reason: 0x87, .. }]),
                "{sent:?}"
            );
            assert!(shard.is_closed(client));
        });
    }
}
