//! Bounds: session queues and their policies, outboxes of slow readers, the memory ceiling.

use engine::{Admission, DropReason, Limits, QueueFull};
use wire::{AckKind, Packet};

use crate::client::{Got, Hello, Message, publish};
use crate::host::{Drain, Shard, run, run_unlogged};

fn dropped(shard: &Shard, reason: DropReason) -> u64 {
    shard.engine.counters().dropped[reason.index()]
}

#[test]
fn a_full_queue_drops_by_its_policy_and_never_stops_the_publisher() {
    for (queue_full, expected) in [
        (QueueFull::DropNewest, &["0", "1", "2"][..]),
        (QueueFull::DropOldest, &["3", "4", "5"]),
        (QueueFull::EndSession, &[]),
    ] {
        for by_bytes in [false, true] {
            let mut limits = Limits { queue_full, ..Limits::default() };
            if by_bytes {
                // Topic and payload are two bytes.
                limits.queue_bytes_max = 6;
            } else {
                limits.queue_messages_max = 3;
            }
            run(limits, |shard| {
                let publisher = shard.connect(&Hello::v5("p"));
                let client = shard.connect(&Hello::v5("a").resume());
                shard.subscribe(client, "t", 1);
                shard.hang_up(client);
                for number in 0..6 {
                    shard.publish(publisher, "t", number.to_string().as_bytes(), 1);
                }
                let (client, present) = shard.connect_present(&Hello::v5("a").resume());
                assert_eq!(present, queue_full != QueueFull::EndSession);
                assert_eq!(shard.texts(client), expected, "{queue_full:?}");
            });
        }
    }
}

#[test]
fn a_message_larger_than_the_queue_takes_nothing_else_with_it() {
    let limits = Limits { queue_full: QueueFull::DropOldest, queue_bytes_max: 100, ..Limits::default() };
    run(limits, |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let client = shard.connect(&Hello::v5("a").resume());
        shard.subscribe(client, "t", 1);
        shard.hang_up(client);
        shard.publish(publisher, "t", b"small", 1);
        shard.publish(publisher, "t", &[b'x'; 200], 1);
        let client = shard.connect(&Hello::v5("a").resume());
        assert_eq!(shard.texts(client), ["small"]);
    });
}

#[test]
fn a_session_that_ends_for_its_full_queue_is_closed_with_0x97_and_its_will_is_published() {
    let limits = Limits { queue_full: QueueFull::EndSession, queue_messages_max: 2, ..Limits::default() };
    run(limits, |shard| {
        let watcher = shard.connect(&Hello::v5("w"));
        shard.subscribe(watcher, "will", 0);
        let publisher = shard.connect(&Hello::v5("p"));
        let client = shard.connect(&Hello::v5("a").resume().receive_maximum(1).will("will", "gone", 1_000));
        shard.subscribe(client, "t/#", 1);
        for number in 0..4 {
            assert_eq!(shard.publish(publisher, "t/1", number.to_string().as_bytes(), 1), 0);
        }
        assert_eq!(shard.ended(client), Some(0x97));
        assert_eq!(shard.texts(watcher), ["gone"]);
        assert_eq!(shard.engine.session_count(), 2);
        assert_eq!((dropped(shard, DropReason::QueueFull), dropped(shard, DropReason::SessionEnded)), (1, 3));
    });
}

#[test]
fn sessions_that_end_for_each_other_s_wills_all_end() {
    let limits = Limits { queue_full: QueueFull::EndSession, queue_messages_max: 1, ..Limits::default() };
    run(limits, |shard| {
        // Each will fills the queues of the other sessions, so one end causes the next.
        for number in 0..20 {
            let name = format!("c{number}");
            let hello = Hello::v5(&name).expiry_s(1_000);
            let client = shard.connect(&hello.will_with("t", "gone", crate::client::qos(1), false, 5_000));
            shard.subscribe(client, "t", 1);
            shard.hang_up(client);
        }
        let publisher = shard.connect(&Hello::v5("p"));
        shard.publish(publisher, "t", b"1", 1);
        assert_eq!(shard.engine.session_count(), 21);
        shard.publish(publisher, "t", b"2", 1);
        assert_eq!(shard.engine.session_count(), 1);
    });
}

#[test]
fn a_take_over_whose_will_fills_its_own_queue_ends_the_session_and_nothing_else() {
    for resumes in [true, false] {
        let limits = Limits { queue_full: QueueFull::EndSession, queue_messages_max: 1, ..Limits::default() };
        run_unlogged(limits, |shard| {
            let hello = Hello::v5("a").resume().receive_maximum(1);
            let old = shard.connect(&hello.will_with("t", "gone", crate::client::qos(1), false, 0));
            shard.subscribe(old, "t", 1);
            for _ in 0..2 {
                shard.publish(old, "t", b"x", 1);
            }
            let new = shard.connect(&if resumes { hello } else { Hello::v5("a") });
            assert_eq!(shard.ended(old), Some(0x8E));
            if resumes {
                assert_eq!(shard.ended(new), Some(0x97));
                assert_eq!(shard.engine.session_count(), 0);
            } else {
                assert!(!shard.is_closed(new));
            }
        });
    }
}

#[test]
fn a_publisher_whose_own_session_ends_by_what_it_published_is_closed_cleanly() {
    let limits = Limits { queue_full: QueueFull::EndSession, queue_messages_max: 1, ..Limits::default() };
    for bits in [0, 1, 2] {
        run(limits.clone(), |shard| {
            let client = shard.connect(&Hello::v5("a").resume().receive_maximum(1));
            shard.subscribe(client, "t", 1);
            for _ in 0..3 {
                shard.send(client, &Packet::Publish(publish("t", b"x", 1, 1)));
            }
            shard.send(client, &Packet::Publish(publish("t", b"x", bits, 2)));
            assert_eq!(shard.ended(client), Some(0x97));
        });
    }
}

#[test]
fn a_slow_reader_loses_qos_0_past_its_bound_and_nothing_else() {
    let limits = Limits { outbox_bytes_max: 1_000, ..Limits::default() };
    run(limits, |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let client = shard.connect(&Hello::v5("a"));
        shard.subscribe(client, "t", 1);
        shard.drain(client, Drain::STALLED);
        for number in 0..100 {
            shard.publish(publisher, "t", format!("{number:02}{:>98}", "").as_bytes(), number % 2);
        }
        let lost = dropped(shard, DropReason::OutboxFull);
        assert!((40..50).contains(&lost), "{lost}");
        shard.drain(client, Drain { piece_bytes: 33, ..Drain::ALL });
        let texts = shard.texts(client);
        let numbers: Vec<u32> = texts.iter().map(|text| text[..2].parse().unwrap()).collect();
        let tracked: Vec<u32> = numbers.iter().copied().filter(|number| number % 2 == 1).collect();
        assert_eq!(tracked, (1..100).step_by(2).collect::<Vec<_>>());
        assert_eq!(numbers.len() as u64, 100 - lost);
    });
}

/// Past the bound, QoS 1 and 2 wait in the queue, so an outbox holds no more than its bound and the one message that
/// exceeded it: when they are published, when the peer reads a little, and when all of them are sent again.
#[test]
fn a_slow_reader_has_no_more_of_qos_1_and_2_in_its_outbox_than_the_bound_and_one_message() {
    let limits = Limits { outbox_bytes_max: 1_000, ..Limits::default() };
    for bits in [1, 2] {
        run(limits.clone(), |shard| {
            let held_max = 1_000 + 120;
            let held = |shard: &Shard| shard.engine.audit().outbox_bytes;
            let publisher = shard.connect(&Hello::v5("p"));
            let hello = Hello::v5("a").resume();
            let client = shard.connect(&hello);
            shard.subscribe(client, "t", bits);
            shard.drain(client, Drain::STALLED);
            for number in 0..100 {
                shard.publish(publisher, "t", format!("{number:0100}").as_bytes(), bits);
                assert!(held(shard) <= held_max, "{} bytes after {number}", held(shard));
            }
            assert!(held(shard) >= 1_000);
            shard.drain(client, Drain { budget_bytes: 800, ..Drain::ALL });
            assert!((1_000..=held_max).contains(&held(shard)), "{} bytes, from the queue", held(shard));
            // The client reads everything and acknowledges nothing.
            shard.drain(client, Drain::ALL);
            assert_eq!(shard.messages(client).len(), 100);
            shard.hang_up(client);
            let client = shard.open(hello.connect.version, Admission::Serve);
            shard.drain(client, Drain::STALLED);
            shard.send(client, &Packet::Connect(hello.connect));
            assert!((1_000..=held_max).contains(&held(shard)), "{} bytes, sent again", held(shard));
            shard.drain(client, Drain::ALL);
            assert!(matches!(shard.next(client), Some(Got::ConnAck { present: true, .. })));
            let numbers = shard.texts(client).into_iter().map(|text| text.parse().unwrap());
            assert_eq!(numbers.collect::<Vec<u32>>(), (0..100).collect::<Vec<_>>());
        });
    }
}

#[test]
fn messages_that_wait_for_an_outbox_are_not_overtaken_while_it_has_a_little_room() {
    let limits = Limits { outbox_bytes_max: 1_000, ..Limits::default() };
    run(limits, |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let client = shard.connect(&Hello::v5("a"));
        shard.subscribe(client, "t", 1);
        shard.drain(client, Drain::STALLED);
        for number in 0..20 {
            shard.publish(publisher, "t", format!("{number:02}{:>98}", "").as_bytes(), 1);
        }
        // The outbox is below its bound again, but not yet below half of it.
        shard.drain(client, Drain { budget_bytes: 300, ..Drain::ALL });
        shard.publish(publisher, "t", b"20", 1);
        shard.drain(client, Drain::ALL);
        let texts = shard.texts(client);
        let numbers: Vec<u32> = texts.iter().map(|text| text[..2].parse().unwrap()).collect();
        assert_eq!(numbers, (0..=20).collect::<Vec<_>>());
    });
}

#[test]
fn a_peer_that_lets_acknowledgements_pile_up_is_closed() {
    let limits = Limits { outbox_bytes_max: 1_000, packet_bytes_max: 1_000, ..Limits::default() };
    run(limits, |shard| {
        let client = shard.connect(&Hello::v5("a"));
        shard.drain(client, Drain::STALLED);
        for _ in 0..40_000 {
            shard.send_bytes(client, &[0xC0, 0]);
        }
        let held = shard.engine.audit().outbox_bytes;
        assert!(held < 70_000, "{held}");
        assert_eq!(shard.engine.session_count(), 0);
        shard.advance_ms(5_000);
        assert!(shard.is_closed(client));
    });
}

#[test]
fn qos_0_is_queued_for_absent_sessions_only_where_that_is_configured_and_keeps_its_order() {
    for queue_qos0_offline in [false, true] {
        run(Limits { queue_qos0_offline, ..Limits::default() }, |shard| {
            let publisher = shard.connect(&Hello::v5("p"));
            let hello = Hello::v5("a").resume().receive_maximum(1);
            let client = shard.connect(&hello);
            shard.subscribe(client, "t", 1);
            shard.hang_up(client);
            for (text, bits) in [("1", 1), ("2", 1), ("a", 0), ("b", 0)] {
                shard.publish(publisher, "t", text.as_bytes(), bits);
            }
            let client = shard.connect(&hello);
            let first: Vec<Message> = shard.messages(client);
            // One more message is published while "2", "a" and "b" still wait for the quota.
            shard.publish(publisher, "t", b"c", 0);
            shard.ack(client, AckKind::PubAck, first[0].id);
            let texts = shard.texts(client);
            let unordered: Vec<&str> = texts.iter().map(String::as_str).filter(|text| *text != "2").collect();
            let expected: &[&str] = if queue_qos0_offline { &["a", "b", "c"] } else { &["c"] };
            assert_eq!(unordered, expected);
        });
    }
}

#[test]
fn a_peer_that_does_not_read_has_64_kib_of_acknowledgements_beyond_its_bounds() {
    const PINGRESP_BYTES: usize = 2;
    let limits = Limits { outbox_bytes_max: 4_096, packet_bytes_max: 1_024, ..Limits::default() };
    let bytes_max = 4_096 + 1_024 + 64 * 1_024;
    run(limits, |shard| {
        let client = shard.connect(&Hello::v5("a"));
        shard.drain(client, Drain::STALLED);
        let pings = |count: usize| [0xC0, 0].repeat(count);
        shard.send_bytes(client, &pings(bytes_max / PINGRESP_BYTES));
        assert_eq!(shard.engine.audit().outbox_bytes, bytes_max as u64);
        assert_eq!(shard.engine.attached_count(), 1, "at the bound it is served");
        shard.send_bytes(client, &pings(1));
        assert_eq!(shard.engine.attached_count(), 0, "past the bound it is closed");
        shard.drain(client, Drain::ALL);
    });
}
