//! Flow control: receive maximum both ways, the in-flight window, maximum packet size.

use engine::{DropReason, Limits};
use wire::{AckKind, Packet, Publish};

use crate::client::{Got, Hello, Message, publish};
use crate::host::run;

#[test]
fn mqtt_3_3_4_9_no_more_messages_are_in_flight_than_the_client_takes() {
    for (receive_maximum, inflight_max) in [(3, 1024), (1024, 3)] {
        for bits in [1, 2] {
            let limits = Limits { inflight_max, ..Limits::default() };
            run(limits, |shard| {
                let client = shard.connect(&Hello::v5("a").resume().receive_maximum(receive_maximum));
                let publisher = shard.connect(&Hello::v5("p"));
                shard.subscribe(client, "t", 2);
                for number in 0..10 {
                    shard.publish(publisher, "t", number.to_string().as_bytes(), bits);
                }
                // The limit does not apply to QoS 0 [MQTT-4.9.0-2].
                shard.publish(publisher, "t", b"now", 0);
                let messages = shard.messages(client);
                let texts: Vec<&str> = messages.iter().map(Message::text).collect();
                assert_eq!(texts, ["0", "1", "2", "now"]);
                if bits == 1 {
                    shard.ack(client, AckKind::PubAck, messages[1].id);
                } else {
                    shard.ack(client, AckKind::PubRec, messages[1].id);
                    assert_eq!(shard.take(client), [Got::Ack(AckKind::PubRel, messages[1].id, 0)]);
                    shard.ack(client, AckKind::PubComp, messages[1].id);
                }
                let next = shard.messages(client);
                assert_eq!((next.len(), next[0].text()), (1, "3"));
                // A repeated acknowledgement frees nothing more.
                shard.ack(client, if bits == 1 { AckKind::PubAck } else { AckKind::PubComp }, 50_000);
                assert_eq!(shard.messages(client), []);
            });
        }
    }
}

#[test]
fn the_quota_starts_afresh_on_resume_and_counts_the_messages_of_this_connection() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let client = shard.connect(&Hello::v5("a").resume());
        shard.subscribe(client, "t", 2);
        for number in 0..9 {
            shard.publish(publisher, "t", number.to_string().as_bytes(), 2);
        }
        let sent = shard.messages(client);
        // The first three deliveries are between PUBREL and PUBCOMP.
        for message in &sent[..3] {
            shard.ack(client, AckKind::PubRec, message.id);
        }
        shard.hang_up(client);

        let client = shard.connect(&Hello::v5("a").resume().receive_maximum(2));
        let got = shard.take(client);
        let (releases, messages): (Vec<_>, Vec<_>) =
            got.into_iter().partition(|got| matches!(got, Got::Ack(AckKind::PubRel, _, 0)));
        assert_eq!((releases.len(), messages.len()), (3, 2), "PUBREL waits for no quota [MQTT-3.3.4-10]");
        // PUBCOMP of the first three frees nothing: the client has two unacknowledged PUBLISH packets.
        for message in &sent[..3] {
            shard.ack(client, AckKind::PubComp, message.id);
        }
        assert_eq!(shard.take(client), []);
        // The acknowledgement of a message that was not sent again yet frees nothing either.
        shard.ack(client, AckKind::PubRec, sent[8].id);
        assert_eq!(shard.take(client), [Got::Ack(AckKind::PubRel, sent[8].id, 0)]);
        shard.ack(client, AckKind::PubComp, sent[8].id);
        assert_eq!(shard.take(client), []);
        shard.ack(client, AckKind::PubRec, sent[3].id);
        shard.ack(client, AckKind::PubComp, sent[3].id);
        let next = shard.take(client);
        assert_eq!(next[0], Got::Ack(AckKind::PubRel, sent[3].id, 0));
        assert!(matches!(&next[1..], [Got::Publish(message)] if message.text() == "5" && message.dup));
    });
}

#[test]
fn mqtt_3_3_4_10_a_pubrel_to_be_repeated_does_not_wait_behind_a_publish_without_quota() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let client = shard.connect(&Hello::v5("a").resume());
        shard.subscribe(client, "t", 2);
        for number in 0..4 {
            shard.publish(publisher, "t", number.to_string().as_bytes(), 2);
        }
        let last = shard.messages(client)[3].id;
        shard.ack(client, AckKind::PubRec, last);
        shard.hang_up(client);
        let client = shard.connect(&Hello::v5("a").resume().receive_maximum(1));
        let got = shard.take(client);
        assert!(got.contains(&Got::Ack(AckKind::PubRel, last, 0)), "{got:?}");
        assert_eq!(got.len(), 2);
    });
}

#[test]
fn a_queued_message_that_needs_no_quota_does_not_overtake_the_redelivery() {
    run(Limits { queue_qos0_offline: true, ..Limits::default() }, |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let hello = Hello::v5("a").resume();
        let client = shard.connect(&hello);
        shard.subscribe(client, "t", 1);
        for text in ["1", "2"] {
            shard.publish(publisher, "t", text.as_bytes(), 1);
        }
        assert_eq!(shard.messages(client).len(), 2);
        shard.hang_up(client);
        shard.publish(publisher, "t", b"3", 0);
        let client = shard.connect(&hello.receive_maximum(1));
        let first = shard.messages(client);
        assert_eq!(first.iter().map(Message::text).collect::<Vec<_>>(), ["1"]);
        shard.ack(client, AckKind::PubAck, first[0].id);
        assert_eq!(shard.texts(client), ["2", "3"]);
    });
}

#[test]
fn mqtt_3_3_4_7_a_client_that_exceeds_our_receive_maximum_is_closed_with_0x93() {
    let limits = || Limits { receive_maximum: 2, ..Limits::default() };
    run(limits(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        // QoS 2 counts until PUBREL; QoS 1 stops counting at once.
        for id in 1..=2 {
            shard.send(client, &Packet::Publish(publish("t", b"x", 2, id)));
        }
        shard.send(client, &Packet::Publish(Publish { dup: true, ..publish("t", b"x", 2, 1) }));
        assert!(!shard.is_closed(client), "a repetition is no third one");
        shard.ack(client, AckKind::PubRel, 1);
        for _ in 0..5 {
            assert_eq!(shard.publish(client, "t", b"x", 1), 0x10);
        }
        shard.send(client, &Packet::Publish(publish("t", b"x", 2, 3)));
        shard.send(client, &Packet::Publish(publish("t", b"x", 1, 4)));
        assert_eq!(shard.ended(client), Some(0x93));
        // 3.1.1 has no receive maximum.
        let old = shard.connect(&Hello::v3("b"));
        for id in 1..=10 {
            shard.send(old, &Packet::Publish(publish("t", b"x", 2, id)));
        }
        assert_eq!(shard.take(old).len(), 10);
    });
}

#[test]
fn a_refused_publish_no_longer_counts_against_our_receive_maximum() {
    let limits = Limits { receive_maximum: 1, topic_levels_max: 1, ..Limits::default() };
    run(limits, |shard| {
        let client = shard.connect(&Hello::v5("a"));
        for bits in [1, 2, 2, 1, 2] {
            assert_eq!(shard.publish(client, "a/b", b"x", bits), 0x90);
        }
        assert_eq!(shard.publish(client, "a", b"x", 2), 0x10);
    });
}

#[test]
fn mqtt_3_1_2_25_a_message_too_long_for_a_client_is_dropped_for_it_alone() {
    run(Limits::default(), |shard| {
        let small = shard.connect(&Hello::v5("small").resume().packet_bytes_max(50));
        let large = shard.connect(&Hello::v5("large"));
        for client in [small, large] {
            shard.subscribe(client, "topic/name", 1);
        }
        // 2 + 2 + 10 + (2) + 1 bytes around the payload.
        for (bits, fits) in [(0, 35), (1, 33)] {
            for extra in [0, 1] {
                let payload = "x".repeat(fits + extra);
                assert_eq!(shard.publish(large, "topic/name", payload.as_bytes(), bits), 0);
                assert_eq!(shard.texts(small).len(), 1 - extra, "QoS {bits}");
                assert_eq!(shard.texts(large).len(), 1);
            }
        }
        // The same for a queued message, and for one in flight when the client comes back with a smaller maximum.
        shard.hang_up(small);
        for length in [33, 34, 20] {
            shard.publish(large, "topic/name", "x".repeat(length).as_bytes(), 1);
        }
        let small = shard.connect(&Hello::v5("small").resume().packet_bytes_max(50));
        let lengths: Vec<usize> = shard.messages(small).iter().map(|message| message.payload.len()).collect();
        assert_eq!(lengths, [33, 20]);
        shard.hang_up(small);
        let small = shard.connect(&Hello::v5("small").resume().packet_bytes_max(40));
        let lengths: Vec<usize> = shard.messages(small).iter().map(|message| message.payload.len()).collect();
        assert_eq!(lengths, [20]);
        assert_eq!(shard.engine.counters().dropped[DropReason::PacketTooLarge.index()], 4);
    });
}

#[test]
fn a_packet_longer_than_ours_ends_the_connection_with_0x95() {
    let limits = Limits { packet_bytes_max: 100, ..Limits::default() };
    run(limits, |shard| {
        let client = shard.connect(&Hello::v5("a"));
        // 2 + 2 + 1 + 1 bytes around the payload.
        shard.publish(client, "t", &[b'x'; 94], 0);
        assert!(!shard.is_closed(client));
        shard.publish(client, "t", &[b'x'; 95], 0);
        assert_eq!(shard.ended(client), Some(0x95));
    });
}

#[test]
fn a_publish_with_the_largest_receive_maximum_of_ours_and_a_slow_journal_waits() {
    let limits = Limits { receive_maximum: u16::MAX, ..Limits::default() };
    run(limits, |shard| {
        let client = shard.connect(&Hello::v3("a").resume());
        shard.durable_at_once = false;
        let mut bytes = Vec::new();
        for _ in 0..66_000 {
            bytes.extend_from_slice(&[0x82, 6, 0, 1, 0, 1, b't', 0]);
        }
        shard.send_bytes(client, &bytes);
        assert!(shard.unconsumed_bytes(client) > 0);
        shard.durable_at_once = true;
        shard.durable();
        assert_eq!(shard.unconsumed_bytes(client), 0);
        assert_eq!(shard.take(client).len(), 66_000);
    });
}
