//! Message expiry: the interval counts down while a message waits, and the message is dropped at its end unless it was sent before.

use engine::{DropReason, Limits, QueueFull};
use wire::{AckKind, Publish, PublishProperties};

use crate::client::{Client, Hello, publish};
use crate::host::{Shard, run};

fn send(shard: &mut Shard, client: Client, text: &str, expiry_s: u32) {
    let properties =
        PublishProperties { message_expiry_interval_s: Some(expiry_s), ..PublishProperties::default() };
    let id = shard.packet_id();
    shard.publish_packet(client, &Publish { properties, ..publish("t", text.as_bytes(), 1, id) });
}

#[test]
fn mqtt_3_3_2_6_the_remaining_interval_is_sent() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let client = shard.connect(&Hello::v5("a").resume());
        shard.subscribe(client, "t", 1);
        send(shard, publisher, "live", 10);
        assert_eq!(shard.messages(client)[0].expiry_s, Some(10));
        shard.hang_up(client);
        send(shard, publisher, "waits", 10);
        shard.advance_ms(3_500);
        let client = shard.connect(&Hello::v5("a").resume());
        let messages = shard.messages(client);
        let left: Vec<_> = messages.iter().map(|message| message.expiry_s).collect();
        assert_eq!(left, [Some(7), Some(7)], "the first was sent again, the second for the first time");
    });
}

#[test]
fn an_interval_of_zero_reaches_subscribers_that_can_be_sent_it_at_once() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let client = shard.connect(&Hello::v5("a").receive_maximum(1));
        shard.subscribe(client, "t", 1);
        send(shard, publisher, "at once", 0);
        send(shard, publisher, "waits", 0);
        let messages = shard.messages(client);
        assert_eq!(messages.len(), 1);
        assert_eq!((messages[0].text(), messages[0].expiry_s), ("at once", Some(0)));
        shard.ack(client, AckKind::PubAck, messages[0].id);
        assert_eq!(shard.messages(client), []);
        assert_eq!(shard.engine.counters().dropped[DropReason::Expired.index()], 1);
    });
}

#[test]
fn mqtt_3_3_2_5_a_message_that_expires_in_the_queue_is_never_sent() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let client = shard.connect(&Hello::v5("a").resume());
        shard.subscribe(client, "t", 1);
        shard.hang_up(client);
        send(shard, publisher, "short", 5);
        send(shard, publisher, "long", 50);
        send(shard, publisher, "none", 0);
        shard.advance_ms(5_000);
        let client = shard.connect(&Hello::v3("a").resume());
        assert_eq!(shard.texts(client), ["long"]);
        assert_eq!(shard.engine.counters().dropped[DropReason::Expired.index()], 2);
    });
}

#[test]
fn mqtt_4_3_3_7_a_message_that_was_sent_is_redelivered_even_if_it_has_expired() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a").resume());
        shard.subscribe(client, "t", 2);
        let properties =
            PublishProperties { message_expiry_interval_s: Some(5), ..PublishProperties::default() };
        shard.publish_packet(client, &Publish { properties, ..publish("t", b"x", 2, 1) });
        assert_eq!(shard.messages(client).len(), 1);
        shard.hang_up(client);
        shard.advance_ms(60_000);
        let client = shard.connect(&Hello::v5("a").resume());
        let messages = shard.messages(client);
        assert_eq!((messages[0].text(), messages[0].dup, messages[0].expiry_s), ("x", true, Some(0)));
        shard.ack(client, AckKind::PubRec, messages[0].id);
        assert_eq!(shard.acked(client, AckKind::PubRel, messages[0].id), Some(0));
    });
}

/// Retains a message with a Message Expiry Interval.
fn retain(shard: &mut Shard, client: Client, topic: &str, text: &str, expiry_s: Option<u32>) {
    let properties =
        PublishProperties { message_expiry_interval_s: expiry_s, ..PublishProperties::default() };
    let id = shard.packet_id();
    let message = publish(topic, text.as_bytes(), 1, id);
    shard.publish_packet(client, &Publish { retain: true, properties, ..message });
}

#[test]
fn mqtt_3_3_2_5_an_expired_retained_message_leaves_the_store_by_itself() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        for number in 0..1_000 {
            retain(shard, client, &format!("t/{number}"), "short", Some(5));
        }
        retain(shard, client, "long", "long", Some(50));
        retain(shard, client, "for ever", "for ever", None);
        shard.advance_ms(4_999);
        assert_eq!(shard.engine.retained_count(), 1_002);
        shard.advance_ms(1);
        assert_eq!(shard.engine.retained_count(), 2);
        assert_eq!(shard.engine.counters().retained_expired, 1_000);
        shard.subscribe(client, "long", 1);
        assert_eq!(shard.messages(client)[0].expiry_s, Some(45));
        shard.advance_ms(45_000);
        assert_eq!(shard.engine.retained_count(), 1);
        assert_eq!(shard.engine.audit().timers, 0);
    });
}

#[test]
fn the_expiry_of_a_replaced_retained_message_does_not_remove_its_replacement() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        for (first, second, left) in
            [(Some(5), None, 1), (Some(5), Some(50), 1), (Some(50), Some(5), 0), (None, Some(5), 0)]
        {
            retain(shard, client, "t", "first", first);
            retain(shard, client, "t", "second", second);
            assert_eq!(
                shard.engine.audit().timers,
                u32::from(second.is_some()),
                "one timer a message at most"
            );
            shard.advance_ms(10_000);
            assert_eq!(shard.engine.retained_count(), left, "{first:?} {second:?}");
            retain(shard, client, "t", "", None);
            assert_eq!((shard.engine.retained_count(), shard.engine.audit().timers), (0, 0));
        }
    });
}

#[test]
fn the_room_of_an_expired_retained_message_is_free_for_the_next() {
    run(Limits { retained_messages_max: 1, ..Limits::default() }, |shard| {
        let client = shard.connect(&Hello::v5("a"));
        retain(shard, client, "old", "x", Some(5));
        assert_eq!(shard.publish_retained(client, "new", b"x", 1), 0x97);
        shard.advance_ms(5_000);
        assert_eq!(shard.publish_retained(client, "new", b"x", 1), 0x10);
    });
}

#[test]
fn a_full_queue_drops_expired_messages_first() {
    for queue_full in [QueueFull::DropNewest, QueueFull::DropOldest, QueueFull::EndSession] {
        run(Limits { queue_messages_max: 3, queue_full, ..Limits::default() }, |shard| {
            let publisher = shard.connect(&Hello::v5("p"));
            let client = shard.connect(&Hello::v5("a").resume());
            shard.subscribe(client, "t", 1);
            shard.hang_up(client);
            send(shard, publisher, "short", 5);
            send(shard, publisher, "shorter", 4);
            send(shard, publisher, "long", 50);
            shard.advance_ms(5_000);
            send(shard, publisher, "new", 50);
            send(shard, publisher, "newer", 50);
            let client = shard.connect(&Hello::v5("a").resume());
            assert_eq!(shard.texts(client), ["long", "new", "newer"], "{queue_full:?}");
            let counters = shard.engine.counters();
            assert_eq!(counters.dropped[DropReason::Expired.index()], 2);
            assert_eq!(counters.dropped[DropReason::QueueFull.index()], 0);
        });
    }
}
