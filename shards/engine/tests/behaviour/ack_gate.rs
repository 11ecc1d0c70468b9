//! The acknowledgement gate: an acknowledgement leaves only when its promise is durable, in the order in which it became due.
//! Stale identities are ignored.

use engine::{Batch, ClosedBy, Event, Limits};
use wire::{AckKind, Packet, Publish};

use crate::client::{Got, Hello, publish};
use crate::host::{Drain, run, run_unlogged};

#[test]
fn an_acknowledgement_waits_until_the_message_that_a_session_keeps_is_durable() {
    for (bits, is_away) in [(1, false), (2, false), (1, true), (2, true)] {
        run(Limits::default(), |shard| {
            let keeper = shard.connect(&Hello::v5("keeper").resume());
            shard.subscribe(keeper, "kept", 1);
            if is_away {
                shard.hang_up(keeper);
            }
            shard.durable_at_once = false;
            let client = shard.connect(&Hello::v5("a"));
            // No session keeps this message, so its acknowledgement does not wait.
            assert_eq!(shard.publish(client, "passing", b"x", 1), 0x10);
            shard.send(client, &Packet::Publish(publish("kept", b"x", bits, 5)));
            assert_eq!(shard.take(client), []);
            assert_eq!(shard.engine.audit().pending_acks, 1);
            shard.durable();
            let kind = if bits == 1 { AckKind::PubAck } else { AckKind::PubRec };
            assert_eq!(shard.acked(client, kind, 5), Some(0));
            // The shard itself keeps a retained message.
            shard.send(client, &Packet::Publish(Publish { retain: true, ..publish("r", b"x", 1, 6) }));
            assert_eq!(shard.take(client), []);
            shard.durable();
            assert_eq!(shard.acked(client, AckKind::PubAck, 6), Some(0x10));
        });
    }
}

#[test]
fn acknowledgements_of_one_connection_leave_in_the_order_they_became_due() {
    run(Limits::default(), |shard| {
        let keeper = shard.connect(&Hello::v5("keeper").resume());
        shard.subscribe(keeper, "kept", 1);
        shard.durable_at_once = false;
        let client = shard.connect(&Hello::v5("a"));
        let other = shard.connect(&Hello::v5("b"));
        let send = |shard: &mut crate::host::Shard, topic, id| {
            shard.send(client, &Packet::Publish(publish(topic, b"x", 1, id)));
        };
        send(shard, "kept", 1);
        send(shard, "passing", 2);
        send(shard, "kept", 3);
        send(shard, "passing", 4);
        shard.send(client, &Packet::PingReq);
        assert_eq!(shard.take(client), [Got::PingResp], "it promises nothing");
        assert_eq!(shard.publish(other, "passing", b"x", 1), 0x10, "another connection does not wait");
        assert!(shard.durable_oldest());
        let ids = |got: Vec<Got>| -> Vec<u16> {
            got.iter().map(|got| if let Got::Ack(_, id, _) = got { *id } else { 0 }).collect()
        };
        assert_eq!(ids(shard.take(client)), [1, 2]);
        assert!(shard.durable_oldest());
        assert_eq!(ids(shard.take(client)), [3, 4]);
        assert!(!shard.durable_oldest());
    });
}

#[test]
fn a_repeated_packet_is_not_acknowledged_before_the_first_one_is_durable() {
    // The connection is lost before PUBREC, and again before PUBCOMP, while the journal is slow.
    run_unlogged(Limits::default(), |shard| {
        let keeper = shard.connect(&Hello::v5("keeper").resume());
        shard.subscribe(keeper, "kept", 2);
        let hello = Hello::v5("a").resume();
        let client = shard.connect(&hello);
        shard.durable_at_once = false;
        let packet = publish("kept", b"x", 2, 5);
        shard.send(client, &Packet::Publish(packet));
        shard.hang_up(client);
        let client = shard.connect(&hello);
        shard.send(client, &Packet::Publish(Publish { dup: true, ..packet }));
        assert_eq!(shard.take(client), []);
        shard.durable();
        assert_eq!(shard.take(client), [Got::Ack(AckKind::PubRec, 5, 0)]);
        shard.ack(client, AckKind::PubRel, 5);
        shard.hang_up(client);
        let client = shard.connect(&hello);
        shard.ack(client, AckKind::PubRel, 5);
        assert_eq!(shard.take(client), []);
        shard.durable();
        assert_eq!(shard.take(client), [Got::Ack(AckKind::PubComp, 5, 0x92)]);
        assert_eq!(shard.texts(keeper), ["x"]);
    });
}

#[test]
fn mqtt_3_2_0_1_nothing_leaves_before_connack() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let hello = Hello::v5("a").expiry_s(100);
        let client = shard.connect(&hello);
        shard.subscribe(client, "t", 1);
        shard.hang_up(client);
        shard.durable_at_once = false;
        // Clean start discards a session. CONNACK waits until that is durable.
        let mut bytes = Vec::new();
        Packet::Connect(hello.connect).encode(publisher.version, &mut bytes);
        bytes.extend_from_slice(&[0x82, 7, 0, 1, 0, 0, 1, b't', 1, 0xC0, 0]);
        let client = shard.open(publisher.version, engine::Admission::Serve);
        shard.send_bytes(client, &bytes);
        shard.publish(publisher, "t", b"nobody yet", 1);
        assert_eq!(shard.take(client), []);
        assert_eq!(shard.unconsumed_bytes(client), 11);
        shard.durable();
        let got = shard.take(client);
        assert!(matches!(got.as_slice(), [Got::ConnAck { present: false, .. }, Got::PingResp]), "{got:?}");
        shard.durable();
        assert_eq!(shard.take(client), [Got::SubAck(1, vec![1])]);
    });
}

#[test]
fn a_session_taken_over_while_its_connack_waits_belongs_to_the_last() {
    run(Limits::default(), |shard| {
        let hello = Hello::v5("a").expiry_s(100);
        let client = shard.connect(&hello);
        shard.hang_up(client);
        shard.durable_at_once = false;
        let first = shard.dial(&hello);
        let second = shard.dial(&hello);
        assert!(shard.is_closed(first));
        assert_eq!(shard.take(first), [], "no CONNACK, so no DISCONNECT [MQTT-3.14.0-1]");
        let third = shard.dial(&hello);
        shard.hang_up(third);
        shard.durable();
        assert_eq!(shard.take(second), []);
        assert!(shard.is_closed(second));
        shard.durable_at_once = true;
        let (_, present) = shard.connect_present(&Hello::v5("a").resume());
        assert!(present);
    });
}

#[test]
fn a_client_is_not_read_past_our_receive_maximum_while_the_journal_is_slow() {
    for hello in [Hello::v3("a"), Hello::v5("a")] {
        run(Limits { receive_maximum: 4, ..Limits::default() }, |shard| {
            let keeper = shard.connect(&Hello::v5("keeper").resume());
            shard.subscribe(keeper, "t", 1);
            shard.durable_at_once = false;
            let client = shard.connect(&hello);
            let mut bytes = Vec::new();
            for id in 1..=20 {
                Packet::Publish(publish("t", b"x", 1, id)).encode(client.version, &mut bytes);
            }
            shard.send_bytes(client, &bytes);
            if client.version.is_v5() {
                assert_eq!(shard.ended(client), Some(0x93));
                return;
            }
            assert!(shard.engine.audit().pending_acks <= 5);
            let mut acks = 0;
            while shard.durable_oldest() {
                acks += shard.take(client).len();
            }
            assert_eq!((acks, shard.unconsumed_bytes(client)), (20, 0));
            assert_eq!(shard.texts(keeper).len(), 20);
        });
    }
}

#[test]
fn stale_identities_are_counted_and_ignored() {
    run_unlogged(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a").resume());
        shard.subscribe(client, "t", 1);
        shard.durable_at_once = false;
        shard.send(client, &Packet::Publish(publish("t", b"x", 1, 1)));
        let old = shard.id(client);
        shard.hang_up(client);
        let client = shard.connect(&Hello::v5("a").resume());
        assert_eq!(shard.id(client).slot(), old.slot());
        assert_ne!(shard.id(client).generation(), old.generation());
        assert_eq!(shard.texts(client), ["x"]);
        let before = shard.engine.counters().stale;
        shard.durable();
        assert_eq!(shard.take(client), [], "the acknowledgement was the old connection's");
        assert_eq!(shard.raw_step(Event::Received { connection: old, bytes: &[0xC0, 0] }), 2);
        shard.raw_step(Event::Closed { connection: old, by: ClosedBy::Peer });
        assert!(matches!(shard.engine.lend(old), engine::Lend::Idle));
        assert_eq!(shard.engine.counters().stale, before + 4);
        assert!(!shard.is_closed(client));
        shard.raw_step(Event::durable(Batch(0)));
    });
}

#[test]
fn a_pending_acknowledgement_never_reaches_a_later_connection_of_the_same_identity() {
    run(Limits { generation_bits: 2, ..Limits::default() }, |shard| {
        let keeper = shard.connect(&Hello::v5("keeper").resume());
        shard.subscribe(keeper, "t", 1);
        shard.durable_at_once = false;
        let mut seen = Vec::new();
        for id in 1..=9 {
            let client = shard.connect(&Hello::v5("a"));
            seen.push((shard.id(client).slot(), shard.id(client).generation()));
            shard.send(client, &Packet::Publish(publish("t", b"x", 1, id)));
            shard.hang_up(client);
        }
        assert_eq!(seen[0], seen[4], "the name came back");
        let client = shard.connect(&Hello::v5("a"));
        shard.send(client, &Packet::Publish(publish("t", b"x", 1, 77)));
        for _ in 0..9 {
            assert!(shard.durable_oldest());
            assert_eq!(shard.take(client), []);
        }
        assert!(shard.durable_oldest());
        assert_eq!(shard.take(client), [Got::Ack(AckKind::PubAck, 77, 0)]);
        assert_eq!(shard.texts(keeper).len(), 10);
    });
}

#[test]
fn an_outbox_of_a_former_session_never_counts_for_a_later_one() {
    run(Limits { generation_bits: 2, ..Limits::default() }, |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let stalled = shard.connect(&Hello::v5("a"));
        shard.subscribe(stalled, "t", 0);
        shard.drain(stalled, Drain::STALLED);
        shard.publish(publisher, "t", b"x", 0);
        // Its session ends and later sessions take the slot. Then the old socket takes its bytes.
        for _ in 0..4 {
            let client = shard.connect(&Hello::v5("a"));
            shard.subscribe(client, "t", 0);
            if shard.engine.session_count() == 2 {
                continue;
            }
            shard.hang_up(client);
        }
        shard.drain(stalled, Drain::ALL);
        shard.check_ledgers();
    });
}
