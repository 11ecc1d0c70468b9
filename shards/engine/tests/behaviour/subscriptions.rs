//! Subscriptions: wildcards, overlaps, options, identifiers, replacement, unsubscribing.

use engine::Limits;
use wire::{Packet, SubscribeOptions};

use crate::client::{Hello, plain, publish};
use crate::host::{run, run_unlogged};

#[test]
fn filters_match_as_the_standard_says() {
    for (filter, yes, no) in [
        ("a/#", &["a", "a/b", "a/b/c", "a/"][..], &["b", "ab", "/a"][..]),
        ("a/+", &["a/b", "a/"], &["a", "a/b/c"]),
        ("+/+", &["a/b", "/x", "/"], &["a", "a/b/c"]),
        ("#", &["a", "a/b", "/"], &["$SYS/a"]),
        ("+/a", &["b/a", "/a"], &["$SYS/a"]),
        ("$OWN/#", &["$OWN/a", "$OWN"], &["a"]),
        ("a", &["a"], &["A", "a/", "/a"]),
    ] {
        run(Limits::default(), |shard| {
            let client = shard.connect(&Hello::v3("a"));
            shard.subscribe(client, filter, 0);
            for (topics, count) in [(yes, 1), (no, 0)] {
                for topic in topics {
                    shard.publish(client, topic, b"x", 0);
                    assert_eq!(shard.texts(client).len(), count, "{filter} {topic}");
                }
            }
            shard.unsubscribe(client, &[filter]);
            shard.publish(client, yes[0], b"x", 0);
            assert_eq!(shard.texts(client).len(), 0);
        });
    }
}

#[test]
fn mqtt_3_3_4_2_overlapping_subscriptions_deliver_once_with_the_highest_qos() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        for (filter, bits, id) in
            [("a/#", 0, Some(3)), ("a/+", 2, None), ("a/b", 1, Some(4)), ("+/b", 0, Some(4))]
        {
            shard.subscribe_with(client, &[(filter, plain(bits))], id);
        }
        shard.publish(client, "a/b", b"x", 2);
        let messages = shard.messages(client);
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].qos, 2);
        // All identifiers are sent, one twice if two subscriptions have it [MQTT-3.3.4-4].
        let mut ids = messages[0].subscription_ids.clone();
        ids.sort_unstable();
        assert_eq!(ids, [3, 4, 4]);
    });
}

#[test]
fn mqtt_3_8_4_3_subscribing_again_replaces_the_options_and_the_identifier() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        assert_eq!(shard.subscribe_with(client, &[("t", plain(0))], Some(1)), [0]);
        assert_eq!(shard.subscribe_with(client, &[("t", plain(2))], Some(2)), [2]);
        assert_eq!(shard.engine.subscription_count(), 1);
        shard.publish(client, "t", b"x", 1);
        let messages = shard.messages(client);
        assert_eq!(
            (messages.len(), messages[0].qos, messages[0].subscription_ids.as_slice()),
            (1, 1, &[2][..])
        );
        shard.subscribe_with(client, &[("t", plain(0))], None);
        shard.publish(client, "t", b"y", 1);
        let messages = shard.messages(client);
        assert_eq!((messages[0].qos, messages[0].subscription_ids.len()), (0, 0));
    });
}

#[test]
fn mqtt_3_8_3_3_no_local_keeps_a_client_s_own_messages_from_it() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        let other = shard.connect(&Hello::v5("b"));
        let options = SubscribeOptions { no_local: true, ..plain(1) };
        shard.subscribe_with(client, &[("t/#", options)], None);
        shard.publish(client, "t/1", b"own", 1);
        shard.publish(other, "t/1", b"other", 1);
        assert_eq!(shard.texts(client), ["other"]);
        // Another subscription of the same client still gets the message, with its own QoS.
        shard.subscribe_with(client, &[("t/1", plain(0))], None);
        shard.publish(client, "t/1", b"own", 1);
        let messages = shard.messages(client);
        assert_eq!((messages[0].text(), messages[0].qos), ("own", 0));
    });
}

#[test]
fn mqtt_3_3_1_13_retain_as_published_keeps_the_flag_of_a_live_message() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        for (keep, filter) in [(false, "t/+"), (true, "u/+")] {
            let options = SubscribeOptions { retain_as_published: keep, ..plain(0) };
            shard.subscribe_with(client, &[(filter, options)], None);
        }
        for (topic, expected) in [("t/1", false), ("u/1", true)] {
            shard.publish_retained(client, topic, b"x", 0);
            shard.publish(client, topic, b"y", 0);
            let flags: Vec<bool> = shard.messages(client).iter().map(|message| message.retain).collect();
            assert_eq!(flags, [expected, false]);
        }
    });
}

#[test]
fn mqtt_3_9_3_1_reason_codes_are_in_the_order_of_the_filters() {
    let limits = Limits { subscriptions_per_session_max: 3, topic_levels_max: 2, ..Limits::default() };
    run(limits, |shard| {
        let client = shard.connect(&Hello::v5("a"));
        let filters = [
            ("a", plain(2)),
            ("a/b/c", plain(0)),
            ("b", plain(0)),
            ("c", plain(1)),
            ("d", plain(1)),
            ("a", plain(1)),
        ];
        assert_eq!(shard.subscribe_with(client, &filters, None), [2, 0x8F, 0, 1, 0x97, 1]);
        assert_eq!(shard.unsubscribe(client, &["c", "d", "a/+", "a"]), [0, 0x11, 0x11, 0]);
        assert_eq!(shard.engine.subscription_count(), 1);
        let old = shard.connect(&Hello::v3("b"));
        assert_eq!(shard.subscribe_with(old, &[("a/b/c", plain(0)), ("a", plain(1))], None), [0x80, 1]);
        assert_eq!(shard.unsubscribe(old, &["nothing"]), [0; 0]);
    });
}

#[test]
fn mqtt_3_10_4_2_no_new_message_after_unsuback_but_those_in_flight_are_completed() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a").resume().receive_maximum(1));
        shard.subscribe(client, "t", 1);
        shard.publish(client, "t", b"1", 1);
        shard.publish(client, "t", b"2", 1);
        assert_eq!(shard.unsubscribe(client, &["t"]), [0]);
        shard.publish(client, "t", b"3", 1);
        assert_eq!(shard.texts(client), ["1", "2"]);
    });
}

#[test]
fn mqtt_3_1_2_24_an_answer_too_long_for_the_client_is_never_sent() {
    run(Limits::default(), |shard| {
        let names: Vec<String> = (0..100).map(|n| format!("t/{n}")).collect();
        let filters: Vec<_> = names.iter().map(|name| (name.as_str(), plain(0))).collect();
        let client = shard.connect(&Hello::v5("a").packet_bytes_max(104));
        assert_eq!(shard.subscribe_with(client, &filters[..99], None).len(), 99);
        let mut bytes = vec![0x82];
        let body: Vec<u8> = [0, 9, 0]
            .into_iter()
            .chain(names.iter().flat_map(|name| {
                let length = u8::try_from(name.len()).unwrap();
                [0, length].into_iter().chain(name.bytes()).chain([0]).collect::<Vec<_>>()
            }))
            .collect();
        let length = body.len();
        bytes.extend([u8::try_from(length % 128 + 128).unwrap(), u8::try_from(length / 128).unwrap()]);
        bytes.extend(body);
        shard.send_bytes(client, &bytes);
        assert_eq!(shard.ended(client), Some(0x95));
    });
}

#[test]
fn ten_thousand_filters_in_one_packet_are_subscribed_and_unsubscribed() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a").resume());
        let names: Vec<String> = (0..10_000).map(|n| format!("{n}/+/x/#")).collect();
        let filters: Vec<_> = names.iter().map(|name| (name.as_str(), plain(1))).collect();
        shard.publish_retained(client, "9999/y/x", b"kept", 1);
        assert_eq!(shard.subscribe_with(client, &filters, Some(5)), [1; 10_000]);
        assert_eq!(shard.engine.subscription_count(), 10_000);
        assert_eq!(shard.texts(client), ["kept"]);
        shard.publish(client, "7777/y/x/z", b"x", 1);
        assert_eq!(shard.texts(client), ["x"]);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(shard.unsubscribe(client, &names), [0; 10_000]);
        assert_eq!(shard.engine.audit().tree, (0, 0, 1));
    });
}

#[test]
fn subscriptions_of_one_session_never_reach_another() {
    run(Limits::default(), |shard| {
        let clients: Vec<_> = (0..20).map(|n| shard.connect(&Hello::v5(&format!("c{n}")))).collect();
        for (n, client) in clients.iter().enumerate() {
            shard.subscribe(*client, &format!("t/{}", n % 5), 0);
        }
        for n in 0..5 {
            shard.publish(clients[0], &format!("t/{n}"), n.to_string().as_bytes(), 0);
        }
        for (n, client) in clients.iter().enumerate() {
            assert_eq!(shard.texts(*client), [(n % 5).to_string()]);
        }
    });
}

#[test]
fn a_message_before_the_subscription_is_durable_is_permitted_and_counted() {
    run_unlogged(Limits::default(), |shard| {
        shard.durable_at_once = false;
        let client = shard.connect(&Hello::v3("a").resume());
        shard.send_bytes(client, &[0x82, 6, 0, 1, 0, 1, b't', 0]);
        shard.send(client, &Packet::Publish(publish("t", b"x", 0, 0)));
        assert_eq!(shard.texts(client), ["x"]);
        shard.durable();
        assert!(matches!(shard.next(client), Some(crate::client::Got::SubAck(1, _))));
    });
}
