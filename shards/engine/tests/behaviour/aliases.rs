//! Topic aliases, from clients and to them.

use core::num::NonZeroU16;

use engine::{CauseGroup, Limits, MemoryKind};
use wire::{Packet, Publish, PublishProperties};

use crate::client::{Client, Got, Hello, publish};
use crate::host::{Shard, run};

fn send(shard: &mut Shard, client: Client, topic: Option<&str>, alias: u16, text: &str) {
    let properties =
        PublishProperties { topic_alias: NonZeroU16::new(alias), ..PublishProperties::default() };
    let packet = publish(topic.unwrap_or("unused"), text.as_bytes(), 0, 0);
    let topic = topic.and(packet.topic);
    shard.send(client, &Packet::Publish(Publish { topic, properties, ..packet }));
}

#[test]
fn mqtt_3_3_2_12_a_client_s_alias_stands_for_its_topic_until_it_is_set_anew() {
    run(Limits { topic_alias_maximum: 3, ..Limits::default() }, |shard| {
        let watcher = shard.connect(&Hello::v5("w"));
        shard.subscribe(watcher, "#", 0);
        let client = shard.connect(&Hello::v5("a"));
        for (topic, alias) in
            [(Some("one"), 3), (None, 3), (Some("two"), 1), (None, 3), (None, 1), (Some("new"), 3), (None, 3)]
        {
            send(shard, client, topic, alias, "x");
        }
        let topics: Vec<String> = shard.messages(watcher).into_iter().map(|message| message.topic).collect();
        assert_eq!(topics, ["one", "one", "two", "one", "two", "new", "new"]);
    });
}

#[test]
fn an_alias_never_set_or_too_high_ends_the_connection() {
    for (topic, alias, reason) in [(None, 2, 0x82), (None, 3, 0x82), (None, 4, 0x94), (Some("t"), 4, 0x94)] {
        run(Limits { topic_alias_maximum: 3, ..Limits::default() }, |shard| {
            let client = shard.connect(&Hello::v5("a"));
            send(shard, client, Some("t"), 1, "x");
            send(shard, client, topic, alias, "x");
            assert_eq!(shard.ended(client), Some(reason), "{topic:?} {alias}");
        });
    }
}

#[test]
fn mqtt_3_3_2_7_aliases_end_with_their_connection() {
    run(Limits { topic_alias_outgoing_max: 16, ..Limits::default() }, |shard| {
        let client = shard.connect(&Hello::v5("a").resume());
        send(shard, client, Some("t"), 1, "x");
        let client = shard.connect(&Hello::v5("a").resume().aliases(10));
        shard.subscribe(client, "long/enough", 1);
        shard.publish(client, "long/enough", b"x", 1);
        assert_eq!(shard.messages(client)[0].topic, "long/enough");
        let client = shard.connect(&Hello::v5("a").resume().aliases(10));
        let again = &shard.messages(client)[0];
        assert_eq!((again.topic.as_str(), again.alias, again.dup), ("long/enough", Some(1), true));
        send(shard, client, None, 1, "x");
        assert_eq!(shard.ended(client), Some(0x82));
    });
}

#[test]
fn mqtt_3_3_2_11_aliases_we_set_stay_within_what_the_client_and_we_allow() {
    for (client_allows, we_allow, expected) in [(0, 16, 0), (2, 16, 2), (16, 2, 2)] {
        run(Limits { topic_alias_outgoing_max: we_allow, ..Limits::default() }, |shard| {
            let client = shard.connect(&Hello::v5("a").aliases(client_allows));
            shard.subscribe(client, "a/topic/#", 0);
            let mut known: Vec<String> = Vec::new();
            for number in [0, 1, 2, 3, 0, 1, 2, 3] {
                let topic = format!("a/topic/{number}");
                shard.publish(client, &topic, b"x", 0);
                let message = shard.messages(client).remove(0);
                match message.alias.map(usize::from) {
                    None => assert_eq!(message.topic, topic),
                    Some(alias) if message.topic.is_empty() => assert_eq!(known[alias - 1], topic),
                    Some(alias) => {
                        known.push(message.topic);
                        assert_eq!(alias, known.len());
                    }
                }
            }
            assert_eq!(known.len(), expected);
        });
    }
}

/// MQTT.js and paho-python announce a Topic Alias Maximum and lose the topics of aliased messages: MQTT.js those of QoS 2.
#[test]
fn no_alias_is_used_by_default_and_none_on_qos_2() {
    for (limits, expected) in [
        (Limits::default(), [None, None, None]),
        (Limits { topic_alias_outgoing_max: 16, ..Limits::default() }, [Some(1), Some(1), None]),
    ] {
        run(limits, |shard| {
            let client = shard.connect(&Hello::v5("a").aliases(10));
            shard.subscribe(client, "long/enough", 2);
            for (qos, alias) in (0..).zip(expected) {
                shard.publish(client, "long/enough", b"x", qos);
                let message = shard.messages(client).remove(0);
                assert_eq!(message.alias, alias, "QoS {qos}");
                assert!(message.topic == "long/enough" || qos == 1 && alias.is_some());
            }
        });
    }
}

/// Three numbers are easily confused: the aliases that clients may set, those that the broker sets, and those that this client accepts.
#[test]
fn each_direction_has_a_limit_of_its_own() {
    for (incoming, outgoing, client_allows) in
        [(2, 5, Some(9)), (5, 2, Some(9)), (9, 5, Some(2)), (2, 9, Some(5)), (9, 2, Some(5)), (5, 9, None)]
    {
        let limits =
            Limits { topic_alias_maximum: incoming, topic_alias_outgoing_max: outgoing, ..Limits::default() };
        run(limits, |shard| {
            let hello = Hello::v5("a");
            let client = shard.dial(&client_allows.map_or(hello, |allows| hello.aliases(allows)));
            let Some(Got::ConnAck { fields, .. }) = shard.next(client) else { panic!("no CONNACK") };
            assert_eq!(fields.alias_maximum, Some(incoming));
            shard.subscribe(client, "long/enough/#", 0);
            let mut set = Vec::new();
            for number in 0..12 {
                shard.publish(client, &format!("long/enough/{number}"), b"x", 0);
                set.extend(shard.messages(client).remove(0).alias);
            }
            let expected: Vec<u16> = (1..=outgoing.min(client_allows.unwrap_or(0))).collect();
            assert_eq!(set, expected, "{incoming} {outgoing} {client_allows:?}");
            for alias in 1..=incoming {
                send(shard, client, Some("t"), alias, "x");
            }
            assert!(!shard.is_closed(client), "{incoming} {outgoing} {client_allows:?}");
            send(shard, client, Some("t"), incoming + 1, "x");
            assert_eq!(shard.ended(client), Some(0x94), "{incoming} {outgoing} {client_allows:?}");
        });
    }
}

#[test]
fn an_alias_that_would_make_a_message_too_long_is_left_out() {
    run(Limits { topic_alias_outgoing_max: 16, ..Limits::default() }, |shard| {
        let client = shard.connect(&Hello::v5("a").aliases(10).packet_bytes_max(50));
        shard.subscribe(client, "topic/name", 0);
        // 2 + 2 + 10 + 1 bytes around the payload, and three more with the alias.
        for (length, alias) in [(35, None), (33, None), (32, Some(1)), (42, Some(1)), (43, None)] {
            shard.publish(client, "topic/name", "x".repeat(length).as_bytes(), 0);
            let messages = shard.messages(client);
            let expected = usize::from(length <= 42);
            assert_eq!(messages.len(), expected, "{length}");
            if let Some(message) = messages.first() {
                assert_eq!(message.alias, alias, "{length}");
                assert!(message.packet_bytes <= 50);
            }
        }
    });
}

#[test]
fn aliases_longer_than_their_bound_end_the_connection_with_the_quota_and_not_as_invalid() {
    run(Limits { alias_bytes_max: 1_000, ..Limits::default() }, |shard| {
        let client = shard.connect(&Hello::v5("a"));
        let topic = |letter: &str, length| letter.repeat(length);
        send(shard, client, Some(&topic("a", 600)), 1, "x");
        send(shard, client, Some(&topic("b", 400)), 64, "x");
        let held = shard.engine.memory_use().of_kind(MemoryKind::AliasesIn);
        assert!((2_000..3_000).contains(&held), "{held}: 64 places of 16 bytes, and their texts");
        // The same topic again, a shorter one in its place, and a longer one where that made room.
        send(shard, client, Some(&topic("a", 600)), 1, "x");
        send(shard, client, Some(&topic("c", 100)), 1, "x");
        send(shard, client, Some(&topic("d", 500)), 2, "x");
        send(shard, client, None, 2, "x");
        assert!(!shard.is_closed(client));
        send(shard, client, Some("e"), 3, "x");
        assert!(shard.is_closed(client));
        let Some(Got::Disconnect(0x97, Some(text))) = shard.take(client).pop() else { panic!("no reason") };
        assert!(text.contains("aliases"), "{text}");
        assert_eq!(shard.engine.counters().closed[CauseGroup::AliasesTooLong.index()], 1);
        assert_eq!(shard.engine.memory_use().of_kind(MemoryKind::AliasesIn), 0);
    });
}

#[test]
fn towards_a_client_topics_beyond_the_bound_go_out_without_an_alias() {
    run(Limits { topic_alias_outgoing_max: 16, alias_bytes_max: 1_000, ..Limits::default() }, |shard| {
        let client = shard.connect(&Hello::v5("a").aliases(16));
        shard.subscribe(client, "#", 0);
        let (long, short) = ("l".repeat(600), "s".repeat(400));
        for (topic, alias, is_told) in [
            (long.clone(), Some(1), true),
            ("m".repeat(401), None, true),
            (short.clone(), Some(2), true),
            ("another/one".to_owned(), None, true),
            (long, Some(1), false),
            (short, Some(2), false),
        ] {
            shard.publish(client, &topic, b"x", 0);
            let message = shard.messages(client).remove(0);
            assert_eq!((message.alias, message.topic), (alias, if is_told { topic } else { String::new() }));
        }
        let held = shard.engine.memory_use().of_kind(MemoryKind::AliasesOut);
        assert!((1_000..2_000).contains(&held), "{held}");
        shard.goodbye(client);
        assert_eq!(shard.engine.memory_use().of_kind(MemoryKind::AliasesOut), 0);
    });
}
