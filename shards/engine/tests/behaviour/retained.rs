//! Retained messages: kept, replaced, removed, and replayed in pages while other packets are served.

use engine::{DropReason, Limits};
use wire::{Packet, Publish, PublishProperties, RetainHandling, SubscribeOptions};

use crate::client::{Client, Got, Hello, plain, publish};
use crate::host::{Drain, Shard, run};

/// Limits under which a SUBSCRIBE takes its whole step, so that the retained messages wait for the next tick.
fn late_replays() -> Limits {
    Limits { step_work_max: 5, ..Limits::default() }
}

/// Fills more than half of the outbox of a client, so that retained messages wait.
fn stall(shard: &mut Shard, client: Client) {
    shard.subscribe(client, "fill", 0);
    shard.drain(client, Drain::STALLED);
    let publisher = shard.connect(&Hello::v5("fills"));
    shard.publish(publisher, "fill", &vec![b'x'; 600_000], 0);
    shard.goodbye(publisher);
}

/// Sends a SUBSCRIBE, whose SUBACK waits behind what fills the outbox.
fn subscribe_stalled(shard: &mut Shard, client: Client, filter: &str, bits: u8) {
    shard.begin_subscribe(client, &[(filter, plain(bits))], None);
}

#[test]
fn mqtt_3_3_1_5_the_last_retained_message_of_a_topic_is_sent_to_new_subscriptions() {
    for (published, granted) in [(0, 0), (1, 0), (1, 2), (2, 2)] {
        run(Limits::default(), |shard| {
            let client = shard.connect(&Hello::v5("a"));
            shard.publish_retained(client, "t/1", b"old", 0);
            shard.publish_retained(client, "t/1", b"new", published);
            // [MQTT-3.3.1-8]
            shard.publish(client, "t/1", b"passing", 0);
            for filter in ["t/1", "t/+", "#"] {
                shard.subscribe(client, filter, granted);
                let messages = shard.messages(client);
                assert_eq!(messages.len(), 1, "{filter}");
                let message = &messages[0];
                assert_eq!(
                    (message.text(), message.retain, message.qos),
                    ("new", true, published.min(granted))
                );
            }
        });
    }
}

#[test]
fn mqtt_3_3_1_6_an_empty_payload_removes_and_is_delivered_as_usual() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        shard.publish_retained(client, "t", b"x", 1);
        shard.subscribe(client, "t", 0);
        assert_eq!(shard.texts(client), ["x"]);
        shard.publish_retained(client, "t", b"", 1);
        assert_eq!(shard.texts(client), [""]);
        assert_eq!(shard.engine.retained_count(), 0);
        shard.publish_retained(client, "never was", b"", 1);
        assert_eq!(shard.engine.retained_count(), 0);
    });
}

#[test]
fn retain_handling_decides_when_they_are_sent() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        shard.publish_retained(client, "t", b"x", 0);
        let steps = [
            (RetainHandling::DoNotSend, 0),
            (RetainHandling::SendIfNew, 0),
            (RetainHandling::SendAtSubscribe, 1),
            (RetainHandling::SendIfNew, 0),
        ];
        for (retain_handling, count) in steps {
            shard.subscribe_with(client, &[("t", SubscribeOptions { retain_handling, ..plain(0) })], None);
            assert_eq!(shard.texts(client).len(), count, "{retain_handling:?}");
        }
        shard.unsubscribe(client, &["t"]);
        let options = SubscribeOptions { retain_handling: RetainHandling::SendIfNew, ..plain(0) };
        shard.subscribe_with(client, &[("t", options)], None);
        assert_eq!(shard.texts(client).len(), 1);
    });
}

#[test]
fn mqtt_3_8_3_3_no_local_keeps_a_client_s_own_retained_messages_from_it() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        let other = shard.connect(&Hello::v5("b"));
        shard.publish_retained(client, "t/own", b"own", 0);
        shard.publish_retained(other, "t/other", b"other", 0);
        let options = SubscribeOptions { no_local: true, ..plain(0) };
        for filter in ["t/#", "t/own"] {
            shard.subscribe_with(client, &[(filter, options)], None);
        }
        assert_eq!(shard.texts(client), ["other"]);
        shard.subscribe_with(other, &[("t/own", options)], None);
        assert_eq!(shard.texts(other), ["own"]);
    });
}

#[test]
fn thousands_come_in_pages_to_a_slow_reader_without_a_loss() {
    for (bits, receive_maximum, budget) in [(0, 65_535, 2_000), (1, 10, 2_000), (2, 65_535, 300)] {
        let limits = Limits { outbox_bytes_max: 4_096, queue_messages_max: 5, ..Limits::default() };
        run(limits, |shard| {
            let publisher = shard.connect(&Hello::v5("p"));
            for number in 0..3_000 {
                shard.publish_retained(publisher, &format!("t/{number:04}"), b"x", 2);
            }
            let client = shard.connect(&Hello::v5("a").receive_maximum(receive_maximum));
            shard.drain(client, Drain { piece_bytes: 100, budget_bytes: 2_000 });
            shard.subscribe(client, "t/+", bits);
            let mut topics = Vec::new();
            for _ in 0..5_000 {
                let before = topics.len();
                while let Some(message) = shard.find(client, |got| match got {
                    Got::Publish(message) => Some(message.clone()),
                    _ => None,
                }) {
                    topics.push(message.topic);
                    match message.qos {
                        1 => shard.ack(client, wire::AckKind::PubAck, message.id),
                        2 => {
                            shard.ack(client, wire::AckKind::PubRec, message.id);
                            shard.ack(client, wire::AckKind::PubComp, message.id);
                        }
                        _ => {}
                    }
                }
                shard.drain(client, Drain { piece_bytes: 100, budget_bytes: budget });
                if topics.len() == before && topics.len() == 3_000 {
                    break;
                }
            }
            let expected: Vec<String> = (0..3_000).map(|number| format!("t/{number:04}")).collect();
            assert_eq!(topics, expected, "QoS {bits}");
            assert_eq!(shard.engine.counters().dropped_total(), 0);
            shard.drain(client, Drain::ALL);
        });
    }
}

#[test]
fn large_retained_messages_wait_for_room_in_the_outbox() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        let large = vec![b'x'; 200_000];
        for number in 0..30 {
            shard.publish_retained(client, &format!("t/{number}"), &large, 0);
        }
        shard.subscribe(client, "t/#", 0);
        assert_eq!(shard.messages(client).len(), 30);
        assert_eq!(shard.engine.counters().dropped[DropReason::OutboxFull.index()], 0);
    });
}

#[test]
fn a_tick_sends_at_most_a_few_pages_of_retained_messages() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        for number in 0..3_000 {
            shard.publish_retained(client, &format!("t/{number}"), b"x", 0);
        }
        shard.ticks = false;
        shard.subscribe(client, "t/+", 0);
        let mut left = 3_000;
        while left > 0 {
            // The first of them come with the SUBACK.
            let count = shard.messages(client).len();
            assert!((1..=500 + 128).contains(&count), "{count}");
            left -= count;
            shard.tick();
        }
        shard.ticks = true;
    });
}

/// A retained message can wait in its store; a message published meanwhile cannot.
#[test]
fn a_replay_fills_half_an_outbox_and_leaves_the_rest_to_live_messages() {
    let limits = Limits { outbox_bytes_max: 4_000, ..Limits::default() };
    run(limits, |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        for number in 0..100 {
            shard.publish_retained(publisher, &format!("t/{number:02}"), &[b'x'; 100], 0);
        }
        let client = shard.connect(&Hello::v5("a"));
        shard.ticks = false;
        shard.subscribe(client, "t/+", 0);
        shard.drain(client, Drain::STALLED);
        shard.ticks = true;
        shard.tick();
        let held = shard.engine.audit().outbox_bytes;
        assert!((2_000..2_120).contains(&held), "{held}");
        for _ in 0..10 {
            shard.publish(publisher, "t/live", &[b'y'; 100], 0);
        }
        shard.drain(client, Drain::ALL);
        assert_eq!(shard.messages(client).len(), 110);
    });
}

/// Queued messages come before a replay. No send makes room when they expire, so the replay must notice it by itself.
#[test]
fn a_replay_begins_once_the_messages_queued_before_it_have_expired() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        shard.publish_retained(publisher, "kept", b"kept", 0);
        let client = shard.connect(&Hello::v5("a").receive_maximum(1));
        shard.subscribe(client, "t", 1);
        shard.publish(publisher, "t", b"first", 1);
        let first = shard.messages(client);
        let properties =
            PublishProperties { message_expiry_interval_s: Some(1), ..PublishProperties::default() };
        shard.publish_packet(publisher, &Publish { properties, ..publish("t", b"expires", 1, 9) });
        shard.subscribe(client, "kept", 0);
        shard.advance_ms(1_000);
        assert_eq!(shard.messages(client), []);
        shard.ack(client, wire::AckKind::PubAck, first[0].id);
        assert_eq!(shard.texts(client), ["kept"]);
    });
}

#[test]
fn mqtt_4_6_0_5_an_older_retained_message_never_follows_a_newer_live_one() {
    for (topic, filter) in [("t", "t"), ("t", "#")] {
        for retains in [true, false] {
            run(late_replays(), |shard| {
                let publisher = shard.connect(&Hello::v5("p"));
                let client = shard.connect(&Hello::v5("a"));
                shard.publish_retained(publisher, topic, b"old", 1);
                shard.publish_retained(publisher, "u", b"other", 1);
                shard.ticks = false;
                shard.subscribe(client, filter, 1);
                shard.publish_packet(publisher, &Publish { retain: retains, ..publish(topic, b"new", 1, 9) });
                shard.ticks = true;
                shard.tick();
                let texts = shard.texts(client);
                let expected: &[&str] = if filter == "#" { &["new", "other"] } else { &["new"] };
                assert_eq!(texts, expected, "{filter} {retains}");
                // A new subscriber is sent the retained message.
                shard.subscribe(publisher, filter, 0);
                let kept = if retains { "new" } else { "old" };
                assert!(shard.texts(publisher).iter().any(|text| text == kept));
            });
        }
    }
}

#[test]
fn mqtt_3_8_4_4_each_of_several_pending_subscriptions_gets_its_own_replay() {
    for filter in ["t/1", "t/+"] {
        run(Limits::default(), |shard| {
            let publisher = shard.connect(&Hello::v5("p"));
            shard.publish_retained(publisher, "t/1", b"x", 2);
            let client = shard.connect(&Hello::v5("a"));
            stall(shard, client);
            subscribe_stalled(shard, client, filter, 2);
            // This one comes live to the first subscription, and is retained before the second.
            shard.publish_retained(publisher, "t/1", b"y", 2);
            let options = |retain_handling, qos| SubscribeOptions { retain_handling, ..plain(qos) };
            shard.begin_subscribe(client, &[(filter, plain(1)), (filter, plain(2))], Some(8));
            shard.begin_subscribe(client, &[(filter, options(RetainHandling::SendIfNew, 2))], Some(9));
            shard.begin_subscribe(client, &[(filter, options(RetainHandling::DoNotSend, 0))], Some(7));
            shard.drain(client, Drain::ALL);
            let got = shard.take(client).into_iter().filter_map(|got| match got {
                Got::Publish(message) if message.topic != "fill" => Some(message),
                _ => None,
            });
            let messages: Vec<_> = got.collect();
            let got: Vec<_> =
                messages.iter().map(|message| (message.text(), message.retain, message.qos)).collect();
            assert_eq!(got, [("y", false, 2), ("y", true, 0), ("y", true, 0)], "{filter}");
            // The last subscription replaced the others, so its options apply.
            assert!(messages[1..].iter().all(|message| message.subscription_ids == [7]));
        });
    }
}

#[test]
fn subscribing_again_during_a_replay_sends_the_rest_and_then_all_again() {
    let limits = Limits { outbox_bytes_max: 4_096, ..Limits::default() };
    run(limits, |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let topics: Vec<String> = (0..300).map(|number| format!("t/{number:03}")).collect();
        for topic in &topics {
            shard.publish_retained(publisher, topic, &[b'x'; 100], 0);
        }
        let client = shard.connect(&Hello::v5("a"));
        shard.drain(client, Drain { piece_bytes: 100, budget_bytes: 10_000 });
        shard.subscribe(client, "t/+", 0);
        let mut got: Vec<String> = shard.messages(client).into_iter().map(|message| message.topic).collect();
        assert!(got.len() > 10 && got.len() < 150, "{}", got.len());
        let again = wire::TopicFilter::parse("t/+").unwrap();
        shard.drain(client, Drain::STALLED);
        for id in [1, 2] {
            shard.send(
                client,
                &Packet::Subscribe(wire::Subscribe {
                    packet_id: crate::client::packet_id(id),
                    subscription_id: None,
                    user_properties: wire::UserProperties::default(),
                    filters: wire::SubscribeFilters::from_slice(&[(again, plain(0))]),
                }),
            );
        }
        shard.drain(client, Drain::ALL);
        // The SUBACKs come between the messages.
        while let Some(message) = shard.find(client, |packet| match packet {
            Got::Publish(message) => Some(message.clone()),
            _ => None,
        }) {
            got.push(message.topic);
        }
        assert!((0..2).all(|_| matches!(shard.next(client), Some(Got::SubAck(..)))));
        let expected: Vec<String> = [&topics[..], &topics, &topics].concat();
        assert_eq!(got, expected);
    });
}

#[test]
fn no_number_of_subscriptions_makes_a_replay_endless() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        shard.publish_retained(client, "t", b"x", 0);
        assert_eq!(shard.subscribe_with(client, &vec![("t", plain(0)); 1_000], None).len(), 1_000);
        assert_eq!(shard.texts(client).len(), 256);
    });
}

#[test]
fn a_replay_ends_with_its_subscription_and_survives_its_connection() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        for number in 0..3 {
            shard.publish_retained(publisher, &format!("t/{number}"), b"x", 1);
        }
        let hello = Hello::v5("a").resume();
        let client = shard.connect(&hello);
        stall(shard, client);
        subscribe_stalled(shard, client, "t/#", 1);
        shard.begin_unsubscribe(client, &["t/#"]);
        shard.drain(client, Drain::ALL);
        let got = shard.take(client);
        let is_filled = |got: &Got| matches!(got, Got::Publish(message) if message.topic == "fill");
        assert!(got.iter().all(|got| is_filled(got) || !matches!(got, Got::Publish(_))), "{got:?}");
        stall(shard, client);
        subscribe_stalled(shard, client, "t/+", 1);
        shard.hang_up(client);
        shard.ticks = false;
        let client = shard.connect(&hello);
        // One topic was removed meanwhile and one replaced: the replacement reached the session live.
        shard.publish_retained(publisher, "t/1", b"", 0);
        shard.publish_retained(publisher, "t/2", b"y", 1);
        shard.ticks = true;
        shard.tick();
        assert_eq!(shard.texts(client), ["", "y", "x"]);
        // A session that ends during its replay leaves nothing to do.
        stall(shard, client);
        subscribe_stalled(shard, client, "t/#", 1);
        let client = shard.connect(&Hello::v5("a"));
        assert_eq!(shard.messages(client), []);
    });
}

#[test]
fn a_message_retained_while_a_replay_waits_comes_exactly_once() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        for topic in ["t/1", "t/2"] {
            shard.publish_retained(publisher, topic, b"old", 1);
        }
        let hello = Hello::v5("a").resume();
        let client = shard.connect(&hello);
        stall(shard, client);
        subscribe_stalled(shard, client, "t/#", 2);
        shard.publish_retained(publisher, "t/1", b"live", 2);
        shard.hang_up(client);
        shard.ticks = false;
        // At QoS 0 nothing is kept for an absent session, so its replay has to bring these.
        shard.publish_retained(publisher, "t/2", b"missed", 0);
        shard.publish_retained(publisher, "t/3", b"also missed", 0);
        let client = shard.connect(&hello);
        shard.ticks = true;
        shard.tick();
        assert_eq!(shard.texts(client), ["live", "missed", "also missed"]);
    });
}

#[test]
fn a_replay_under_a_storm_of_live_topics_repeats_none_of_them() {
    run(late_replays(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        shard.publish_retained(publisher, "t/old", b"old", 0);
        let client = shard.connect(&Hello::v5("a"));
        shard.ticks = false;
        shard.subscribe(client, "t/#", 2);
        for number in 0..5_000 {
            shard.publish_retained(publisher, &format!("t/{number}"), b"live", 0);
        }
        shard.ticks = true;
        shard.tick();
        let texts = shard.texts(client);
        assert_eq!((texts.len(), texts[5_000].as_str()), (5_001, "old"));
    });
}

#[test]
fn a_full_store_refuses_new_topics_and_takes_replacements() {
    let limits = Limits { retained_messages_max: 2, retained_bytes_max: 20, ..Limits::default() };
    run(limits, |shard| {
        let client = shard.connect(&Hello::v5("a"));
        let mut retain = |topic, payload: &[u8]| shard.publish_retained(client, topic, payload, 1);
        assert_eq!(retain("a", b"123456789"), 0x10);
        assert_eq!(retain("b", b"12345"), 0x10);
        assert_eq!(retain("c", b"1"), 0x97, "one too many");
        assert_eq!(retain("b", b"123456789"), 0x10, "twenty bytes in all");
        assert_eq!(retain("b", b"1234567890"), 0x97);
        assert_eq!(retain("c", b""), 0x10);
        assert_eq!(retain("a", b""), 0x10);
        assert_eq!(retain("c", b"123456789"), 0x10);
        assert_eq!(shard.engine.retained_count(), 2);
    });
}

#[test]
fn mqtt_3_3_2_5_an_expired_retained_message_is_sent_to_nobody() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        let properties =
            PublishProperties { message_expiry_interval_s: Some(10), ..PublishProperties::default() };
        for topic in ["t/1", "t/2"] {
            let packet = Publish { retain: true, properties, ..publish(topic, b"x", 0, 0) };
            shard.send(client, &Packet::Publish(packet));
        }
        shard.publish_retained(client, "t/3", b"stays", 0);
        shard.advance_ms(4_500);
        shard.subscribe(client, "t/1", 0);
        assert_eq!(shard.messages(client)[0].expiry_s, Some(6));
        shard.advance_ms(5_500);
        shard.subscribe(client, "t/1", 0);
        shard.subscribe(client, "t/+", 0);
        assert_eq!(shard.texts(client), ["stays"]);
        assert_eq!(shard.engine.retained_count(), 1);
    });
}

#[test]
fn a_filter_that_is_repeated_in_one_packet_costs_one_replay() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        shard.publish_retained(client, "zzz", b"x", 0);
        let names: Vec<String> = (0..5_000).map(|n| format!("{n}/#")).collect();
        let mut filters: Vec<_> = names.iter().map(|name| (name.as_str(), plain(0))).collect();
        // Each filter comes again in the same packet, which still is one replay each.
        for _ in 0..3 {
            filters.extend_from_within(..5_000);
        }
        filters.push(("#", plain(0)));
        assert_eq!(shard.subscribe_with(client, &filters, None).len(), 20_001);
        assert_eq!(shard.texts(client), ["x"]);
    });
}

#[test]
fn one_of_overlapping_subscriptions_is_enough_to_keep_the_retain_flag() {
    for as_published in ["t/#", "t/+"] {
        run(Limits::default(), |shard| {
            let client = shard.connect(&Hello::v5("a"));
            for filter in ["t/#", "t/+"] {
                let options = SubscribeOptions { retain_as_published: filter == as_published, ..plain(0) };
                shard.subscribe_with(client, &[(filter, options)], None);
            }
            shard.publish_retained(client, "t/1", b"x", 0);
            let messages = shard.messages(client);
            assert_eq!(messages.len(), 1);
            assert!(messages[0].retain, "{as_published}");
        });
    }
}

/// A client that publishes right behind its SUBSCRIBE got the newer message alone: the retained one was held back as older. mosquitto has
/// sent it before.
#[test]
fn a_message_right_behind_the_subscribe_comes_after_the_retained_ones() {
    for hello in [Hello::v3("a"), Hello::v5("a")] {
        run(Limits::default(), |shard| {
            let publisher = shard.connect(&Hello::v5("p"));
            shard.publish_retained(publisher, "t/1", b"kept", 0);
            shard.publish_retained(publisher, "t/2", b"kept too", 0);
            let client = shard.connect(&hello);
            let mut bytes = Vec::new();
            shard.append_subscribe(client, &[("t/+", plain(0))], None, &mut bytes);
            Packet::Publish(publish("t/1", b"live", 0, 0)).encode(client.version, &mut bytes);
            shard.send_bytes(client, &bytes);
            assert!(matches!(shard.next(client), Some(Got::SubAck(..))));
            let texts: Vec<String> =
                shard.messages(client).iter().map(|it| format!("{} {}", it.text(), it.retain)).collect();
            assert_eq!(texts, ["kept true", "kept too true", "live false"]);
        });
    }
}
