//! Sessions: resumed, taken over, expired, discarded.

use engine::Limits;
use wire::{AckKind, Packet, ProtocolVersion, Publish, ReasonCode};

use crate::client::{Got, Hello, Message, publish};
use crate::host::{Drain, run};

#[test]
fn mqtt_3_2_2_3_session_present_says_whether_there_was_one() {
    for hello in [Hello::v3("a"), Hello::v5("a")] {
        run(Limits::default(), |shard| {
            let (client, present) = shard.connect_present(&hello.resume());
            assert!(!present);
            shard.hang_up(client);
            let (client, present) = shard.connect_present(&hello.resume());
            assert!(present);
            shard.hang_up(client);
            // [MQTT-3.2.2-2]
            let (client, present) = shard.connect_present(&hello);
            assert!(!present);
            shard.hang_up(client);
            let (_, present) = shard.connect_present(&hello.resume());
            assert!(!present, "a clean session ends with its connection");
        });
    }
}

#[test]
fn mqtt_3_1_2_4_clean_start_discards_subscriptions_and_messages() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let client = shard.connect(&Hello::v5("a").resume());
        shard.subscribe(client, "t", 1);
        shard.hang_up(client);
        shard.publish(publisher, "t", b"lost", 1);
        let client = shard.connect(&Hello::v5("a").expiry_s(10));
        assert_eq!(shard.engine.subscription_count(), 0);
        shard.publish(publisher, "t", b"unwanted", 1);
        assert_eq!(shard.messages(client), []);
    });
}

#[test]
fn a_session_that_is_discarded_or_resumed_leaves_no_timer() {
    for clean_start in [true, false] {
        run(Limits::default(), |shard| {
            let hello = Hello::v5("a").resume();
            let client = shard.connect(&hello.keep_alive_s(100));
            assert_eq!(shard.engine.audit().timers, 1, "of its keep alive");
            shard.hang_up(client);
            assert_eq!(shard.engine.audit().timers, 1, "of its session");
            shard.connect(&if clean_start { Hello::v5("a") } else { hello });
            assert_eq!(shard.engine.audit().timers, 0);
        });
    }
}

#[test]
fn an_interval_in_disconnect_is_granted_as_far_as_one_in_connect() {
    run(Limits { session_expiry_s_max: 100, ..Limits::default() }, |shard| {
        let client = shard.connect(&Hello::v5("a").expiry_s(50));
        shard.disconnect(client, ReasonCode::Success, Some(1_000));
        shard.advance_ms(99_999);
        assert_eq!(shard.engine.session_count(), 1);
        shard.advance_ms(1);
        assert_eq!(shard.engine.session_count(), 0);
    });
}

#[test]
fn mqtt_3_1_2_5_a_resumed_session_is_sent_the_messages_published_meanwhile_in_order() {
    for hello in [Hello::v3("a"), Hello::v5("a")] {
        run(Limits::default(), |shard| {
            let publisher = shard.connect(&Hello::v3("p"));
            let client = shard.connect(&hello.resume());
            shard.subscribe(client, "t/#", 2);
            shard.hang_up(client);
            for number in 0..30u8 {
                shard.publish(publisher, "t/1", &[b'0' + number], number % 3);
            }
            let client = shard.connect(&hello.resume());
            let expected: Vec<String> =
                (0..30u8).filter(|n| n % 3 > 0).map(|n| char::from(b'0' + n).to_string()).collect();
            assert_eq!(shard.texts(client), expected, "QoS 0 is not kept");
        });
    }
}

#[test]
fn mqtt_4_1_0_2_a_session_ends_when_its_interval_has_passed() {
    run(Limits::default(), |shard| {
        for (hello, lives_ms) in [
            (Hello::v5("a").expiry_s(10), 10_000),
            (Hello::v3("a").resume(), 3_600_000),
            (Hello::v5("a").expiry_s(u32::MAX), u64::MAX),
        ] {
            let client = shard.connect(&hello);
            shard.subscribe(client, "t", 1);
            shard.hang_up(client);
            if lives_ms == u64::MAX {
                shard.advance_ms(400_000_000);
                assert_eq!(shard.engine.session_count(), 1, "it never expires");
                continue;
            }
            shard.advance_ms(lives_ms - 1);
            assert_eq!(shard.engine.session_count(), 1);
            shard.advance_ms(1);
            assert_eq!((shard.engine.session_count(), shard.engine.subscription_count()), (0, 0));
        }
    });
}

#[test]
fn a_disconnect_may_change_the_interval_but_not_raise_it_from_zero() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a").expiry_s(1_000));
        shard.disconnect(client, ReasonCode::Success, Some(5));
        shard.advance_ms(4_999);
        assert_eq!(shard.engine.session_count(), 1);
        shard.advance_ms(1);
        assert_eq!(shard.engine.session_count(), 0);

        let client = shard.connect(&Hello::v5("a").expiry_s(1_000));
        shard.disconnect(client, ReasonCode::Success, Some(0));
        assert_eq!(shard.engine.session_count(), 0);

        let client = shard.connect(&Hello::v5("a"));
        shard.disconnect(client, ReasonCode::Success, Some(5));
        assert_eq!(shard.ended(client), Some(0x82));
        assert_eq!(shard.engine.session_count(), 0);
    });
}

#[test]
fn mqtt_3_1_4_3_the_second_connection_of_a_client_ends_the_first() {
    for (old, reason) in [(Hello::v5("a"), Some(0x8E)), (Hello::v3("a"), None)] {
        run(Limits::default(), |shard| {
            let first = shard.connect(&old.resume());
            shard.subscribe(first, "t", 1);
            let (second, present) = shard.connect_present(&Hello::v5("a").resume());
            assert!(present);
            assert_eq!(shard.ended(first), reason);
            shard.publish(second, "t", b"x", 1);
            assert_eq!(shard.texts(second), ["x"]);
            assert_eq!(shard.engine.counters().take_overs, 1);
            assert_eq!(shard.engine.connection_count(), 1);
        });
    }
}

#[test]
fn a_taken_over_peer_that_does_not_read_holds_up_nobody() {
    run(Limits::default(), |shard| {
        let first = shard.connect(&Hello::v5("a").resume());
        shard.subscribe(first, "t", 0);
        shard.drain(first, Drain::STALLED);
        let publisher = shard.connect(&Hello::v5("p"));
        shard.publish(publisher, "t", b"lost", 0);
        let second = shard.connect(&Hello::v5("a").resume());
        shard.publish(publisher, "t", b"new", 0);
        assert_eq!(shard.texts(second), ["new"]);
        assert!(!shard.is_closed(first));
        shard.advance_ms(u64::from(Limits::default().close_timeout_ms));
        assert!(shard.is_closed(first), "aborted once its time is over");
    });
}

#[test]
fn mqtt_4_4_0_1_unacknowledged_messages_are_sent_again_with_their_identifiers() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let client = shard.connect(&Hello::v5("a").resume());
        shard.subscribe(client, "t", 2);
        for (text, bits) in [("1", 1), ("2", 2), ("3", 2), ("4", 1)] {
            shard.publish(publisher, "t", text.as_bytes(), bits);
        }
        let first: Vec<Message> = shard.messages(client);
        assert!(first.iter().all(|message| !message.dup));
        // "2" is between PUBREL and PUBCOMP, "4" is acknowledged to its end.
        shard.ack(client, AckKind::PubRec, first[1].id);
        assert_eq!(shard.acked(client, AckKind::PubRel, first[1].id), Some(0));
        shard.ack(client, AckKind::PubAck, first[3].id);
        shard.hang_up(client);

        let client = shard.connect(&Hello::v5("a").resume());
        assert_eq!(shard.acked(client, AckKind::PubRel, first[1].id), Some(0));
        let again: Vec<Message> = shard.messages(client);
        let expected: Vec<Message> =
            [0, 2].into_iter().map(|at: usize| Message { dup: true, ..first[at].clone() }).collect();
        assert_eq!(again, expected);
        // The same holds a third time, and for an acknowledgement before the redelivery.
        shard.hang_up(client);
        let client = shard.connect(&Hello::v3("a").resume());
        assert_eq!(shard.acked(client, AckKind::PubRel, first[1].id), Some(0));
        assert_eq!(shard.texts(client), ["1", "3"]);
        shard.ack(client, AckKind::PubComp, first[1].id);
        let audit = shard.engine.audit();
        let session = audit.sessions.iter().find(|session| session.client_id == "a").unwrap();
        assert_eq!((session.matched, session.delivered, session.inflight), (4, 4, 0));
    });
}

#[test]
fn mqtt_4_3_3_10_a_repeated_qos_2_publish_is_delivered_once_across_connections() {
    run(Limits::default(), |shard| {
        let watcher = shard.connect(&Hello::v5("w"));
        shard.subscribe(watcher, "t", 0);
        let hello = Hello::v5("a").resume();
        let first = publish("t", b"once", 2, 9);
        let again = Publish { dup: true, ..first };
        let client = shard.connect(&hello);
        for packet in [first, again] {
            shard.send(client, &Packet::Publish(packet));
            assert_eq!(shard.acked(client, AckKind::PubRec, 9), Some(0));
        }
        shard.hang_up(client);
        let client = shard.connect(&hello);
        shard.send(client, &Packet::Publish(again));
        assert_eq!(shard.acked(client, AckKind::PubRec, 9), Some(0));
        assert_eq!(shard.texts(watcher), ["once"]);
        // [MQTT-4.3.3-12]
        shard.ack(client, AckKind::PubRel, 9);
        assert_eq!(shard.acked(client, AckKind::PubComp, 9), Some(0));
        shard.send(client, &Packet::Publish(first));
        assert_eq!(shard.texts(watcher), ["once"]);
        // Clean start forgets the identifier too.
        let client = shard.connect(&Hello::v5("a"));
        shard.send(client, &Packet::Publish(again));
        assert_eq!(shard.texts(watcher), ["once"]);
        shard.ack(client, AckKind::PubRel, 77);
        assert_eq!(shard.acked(client, AckKind::PubComp, 77), Some(0x92));
    });
}

#[test]
fn a_session_changes_its_version_with_its_connection() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a").resume());
        let options = crate::client::plain(1);
        shard.subscribe_with(client, &[("t", options)], Some(7));
        shard.hang_up(client);
        let publisher = shard.connect(&Hello::v5("p"));
        shard.publish(publisher, "t", b"x", 1);
        let client = shard.connect(&Hello::v3("a").resume());
        let messages = shard.messages(client);
        assert_eq!((messages[0].text(), messages[0].subscription_ids.len()), ("x", 0));
        shard.hang_up(client);
        let client = shard.connect(&Hello::v5("a").resume());
        let messages = shard.messages(client);
        assert_eq!((messages[0].dup, messages[0].subscription_ids.as_slice()), (true, &[7][..]));
    });
}

#[test]
fn messages_in_an_outbox_count_as_delivered_or_lost_to_the_byte() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v3("a").resume());
        shard.subscribe(client, "t", 0);
        let publisher = shard.connect(&Hello::v3("p"));
        // Each is 6 bytes long; the kernel takes 15.
        shard.drain(client, Drain { budget_bytes: 15, ..Drain::ALL });
        for text in ["1", "2", "3", "4"] {
            shard.publish(publisher, "t", text.as_bytes(), 0);
        }
        assert_eq!(shard.texts(client), ["1", "2"]);
        shard.hang_up(client);
        let audit = shard.engine.audit();
        let session = audit.sessions.iter().find(|session| session.client_id == "a").unwrap();
        assert_eq!((session.matched, session.delivered, session.dropped.iter().sum::<u64>()), (4, 2, 2));
    });
}

#[test]
fn a_client_that_left_is_sent_nothing() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        shard.subscribe(client, "t", 0);
        let mut bytes = vec![0xE0, 0];
        Packet::Publish(publish("t", b"after the end", 0, 0)).encode(client.version, &mut bytes);
        shard.send_bytes(client, &bytes);
        assert_eq!(shard.take(client), [] as [Got; 0]);
        assert!(shard.is_closed(client));
        assert_eq!(shard.engine.counters().messages_received, 0);
    });
}

#[test]
fn a_client_that_sent_disconnect_and_is_owed_nothing_may_be_closed_at_once() {
    run(Limits::default(), |shard| {
        for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
            for owed in [false, true] {
                let client = shard.connect(&Hello::new(version, "leaver"));
                let ping: &[u8] = if owed { &[0xC0, 0] } else { &[] };
                shard.send_bytes(client, &[ping, &[0xE0, 0]].concat());
                assert_eq!(shard.may_close_at_once(client), !owed, "{version:?}");
            }
            // A client that is sent DISCONNECT gets the time to read it.
            let client = shard.connect(&Hello::new(version, "offender"));
            shard.send_bytes(client, &[0xF0, 1, 0]);
            assert!(!shard.may_close_at_once(client), "{version:?}");
        }
    });
}
