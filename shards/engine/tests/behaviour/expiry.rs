//! Message expiry: counted down while a message waits, dropped when it is over, not once it was sent.

use engine::{DropReason, Limits};
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
fn mqtt_3_3_2_6_the_interval_sent_is_what_is_left_of_it() {
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
fn mqtt_3_3_2_5_what_expires_in_the_queue_is_never_sent() {
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
fn mqtt_4_3_3_7_what_was_sent_once_is_sent_again_however_old() {
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
