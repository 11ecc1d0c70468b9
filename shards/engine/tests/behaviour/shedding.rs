//! Shedding: above the first mark of memory, slow readers lose QoS 0, the largest first, and readers that take nothing are closed.

use engine::{Budget, CauseGroup, DropReason, Elsewhere, Limits, MemoryKind, MemoryLevel};
use wire::AckKind;

use crate::client::{Client, Got, Hello};
use crate::host::{Drain, Shard, run};

const CEILING: u64 = 4_000_000;
const STALLED_MS: u64 = 10_000;

fn limits() -> Limits {
    Limits { memory_bytes_max: CEILING, outbox_bytes_max: 2_400_000, ..Limits::default() }
}

/// Connects a reader of `filter` whose socket takes `budget_bytes` and then nothing.
fn stalled(shard: &mut Shard, hello: &Hello<'_>, filter: &str, qos: u8, budget_bytes: usize) -> Client {
    let client = shard.connect(hello);
    shard.subscribe(client, filter, qos);
    shard.drain(client, Drain { piece_bytes: usize::MAX, budget_bytes });
    client
}

/// Messages that a client lost because memory was short.
fn shed(shard: &Shard, id: &str) -> u64 {
    let ledgers = shard.engine.ledgers();
    let ledger = ledgers.into_iter().find(|ledger| ledger.client_id == id).expect("it has a session");
    ledger.dropped[DropReason::Memory.index()]
}

/// Publishes QoS 0 until memory is above its first mark. Returns how many were published.
fn flood(shard: &mut Shard, publisher: Client, topic: &str, payload_bytes: usize) -> u64 {
    let mut count = 0;
    while shard.engine.memory_level() == MemoryLevel::Normal {
        shard.publish(publisher, topic, &vec![b'x'; payload_bytes], 0);
        count += 1;
        assert!(count < 1_000_000, "memory is never short");
    }
    count
}

/// Lets the other shards of the process take so much for messages that this one is above its first mark.
fn press(shard: &mut Shard) {
    let mut elsewhere = Elsewhere::default();
    elsewhere.budgets[Budget::Messages.index()] = CEILING * 7 / 10;
    shard.engine.set_elsewhere(elsewhere);
    assert!(shard.engine.memory_level() >= MemoryLevel::Shedding);
}

/// Ends what [`press`] began.
fn relax(shard: &mut Shard) {
    shard.engine.set_elsewhere(Elsewhere::default());
}

#[test]
fn the_largest_outboxes_lose_their_qos_0_first_and_nothing_else_is_lost() {
    // The large payload is shared with the store, and the small ones lie in pieces with the heads of others.
    for payload_bytes in [1_000, 30_000] {
        run(limits(), |shard| {
            let publisher = shard.connect(&Hello::v5("p"));
            let fat = stalled(shard, &Hello::v5("fat"), "fat/#", 1, 20_000);
            let middle = stalled(shard, &Hello::v5("middle"), "middle", 0, 0);
            let thin = stalled(shard, &Hello::v5("thin"), "thin", 0, 0);
            for _ in 0..900 {
                shard.publish(publisher, "middle", &[b'm'; 1_000], 0);
            }
            for _ in 0..40 {
                shard.publish(publisher, "thin", &[b't'; 1_000], 0);
            }
            shard.publish(publisher, "fat/1", b"tracked once", 1);
            let count = flood(shard, publisher, "fat/0", payload_bytes);
            shard.publish(publisher, "fat/1", b"tracked twice", 1);
            shard.advance_ms(1_000);
            assert_eq!(shard.engine.memory_level(), MemoryLevel::Normal, "it was shed");
            let lost = shed(shard, "fat");
            assert!(lost > 0 && lost < count, "{lost} of {count}");
            assert_eq!((shed(shard, "middle"), shed(shard, "thin")), (0, 0));
            for client in [fat, middle, thin] {
                shard.drain(client, Drain::ALL);
            }
            assert_eq!((shard.texts(middle).len(), shard.texts(thin).len()), (900, 40));
            let texts = shard.texts(fat);
            assert_eq!(texts.len() as u64, 2 + count - lost);
            assert_eq!(texts.iter().filter(|text| text.starts_with("tracked")).count(), 2);
            assert_eq!(texts.last().map(String::as_str), Some("tracked twice"), "the order holds");
        });
    }
}

#[test]
fn a_message_that_sets_an_alias_stays_so_that_later_ones_are_understood() {
    let limits = Limits { topic_alias_outgoing_max: 4, ..limits() };
    run(limits, |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let reader = stalled(shard, &Hello::v5("reader").aliases(4), "#", 0, 100);
        shard.publish(publisher, "plug/in/the/socket", &[b'x'; 200], 0);
        let count = flood(shard, publisher, "a/long/topic", 3_000);
        press(shard);
        shard.advance_ms(1_000);
        assert_eq!(shed(shard, "reader"), count - 1, "the first one names the topic");
        relax(shard);
        shard.drain(reader, Drain::ALL);
        shard.publish(publisher, "a/long/topic", b"later", 0);
        let messages = shard.messages(reader);
        let topics: Vec<&str> = messages.iter().map(|message| message.topic.as_str()).collect();
        assert_eq!(topics, ["plug/in/the/socket", "a/long/topic", ""]);
        assert_eq!(messages[2].text(), "later");
    });
}

#[test]
fn a_reader_that_takes_little_is_shed_and_one_that_takes_all_in_time_is_not() {
    run(limits(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let trickling = stalled(shard, &Hello::v5("trickling"), "t", 0, 0);
        let slow = stalled(shard, &Hello::v5("slow"), "t", 0, 0);
        for _ in 0..300 {
            shard.publish(publisher, "t", &[b'x'; 3_000], 0);
        }
        press(shard);
        // Both take something every 50 ms, one of them nearly all.
        for _ in 0..10 {
            shard.advance_ms(50);
            shard.drain(trickling, Drain { piece_bytes: usize::MAX, budget_bytes: 1 });
            shard.drain(slow, Drain { piece_bytes: usize::MAX, budget_bytes: 1_500_000 });
            shard.publish(publisher, "t", &[b'x'; 3_000], 0);
        }
        assert!(shed(shard, "trickling") > 0);
        assert_eq!(shed(shard, "slow"), 0);
        relax(shard);
    });
}

#[test]
fn an_outbox_within_its_share_loses_nothing_whatever_others_hold() {
    run(limits(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let reader = stalled(shard, &Hello::v5("reader"), "t", 0, 0);
        for _ in 0..50 {
            shard.publish(publisher, "t", &[b'x'; 1_000], 0);
        }
        let keeper = shard.connect(&Hello::v5("keeper").resume());
        shard.subscribe(keeper, "kept", 1);
        shard.hang_up(keeper);
        while shard.publish(publisher, "kept", &vec![b'x'; 40_000], 1) == 0 {}
        assert_eq!(shard.engine.memory_level(), MemoryLevel::Refusing);
        shard.advance_ms(STALLED_MS - 1_000);
        assert_eq!(shed(shard, "reader"), 0);
        shard.drain(reader, Drain::ALL);
        assert_eq!(shard.texts(reader).len(), 50);
    });
}

#[test]
fn a_reader_that_takes_nothing_while_memory_is_short_is_closed_and_its_session_loses_nothing() {
    run(limits(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let reader = stalled(shard, &Hello::v5("a").resume(), "t", 1, 10);
        let quiet = shard.connect(&Hello::v5("quiet"));
        shard.publish(publisher, "t", b"begun", 0);
        shard.publish(publisher, "t", b"kept", 1);
        shard.publish(publisher, "t", b"lost", 0);
        press(shard);
        shard.advance_ms(STALLED_MS - 1);
        assert_eq!((shard.engine.attached_count(), shed(shard, "a")), (3, 0));
        shard.advance_ms(200);
        assert_eq!(shard.engine.attached_count(), 2, "a reader is closed, and idle ones are not");
        assert_eq!(shed(shard, "a"), 1);
        shard.drain(reader, Drain::ALL);
        let got = shard.take(reader);
        assert!(matches!(&got[..], [Got::Publish(_), Got::Disconnect(0x97, _)]), "{got:?}");
        assert_eq!(shard.engine.counters().closed[CauseGroup::SlowReader.index()], 1);
        assert!(!shard.is_closed(quiet));
        let reader = shard.connect(&Hello::v5("a").resume());
        assert_eq!(shard.texts(reader), ["kept"]);
        relax(shard);
    });
}

#[test]
fn no_idleness_counts_while_the_host_is_paused() {
    run(limits(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let _reader = stalled(shard, &Hello::v5("a"), "t", 0, 10);
        shard.publish(publisher, "t", b"waits", 0);
        press(shard);
        shard.advance_ms(1_000);
        shard.pass_ms(60_000);
        shard.pause(false);
        shard.tick();
        shard.catch_up();
        shard.advance_ms(STALLED_MS - 1);
        assert_eq!(shard.engine.attached_count(), 2);
        shard.advance_ms(200);
        assert_eq!(shard.engine.attached_count(), 1);
        relax(shard);
    });
}

#[test]
fn an_outbox_that_shedding_empties_is_sent_what_waited_in_the_queue() {
    run(limits(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let reader = stalled(shard, &Hello::v5("reader"), "t", 1, 0);
        // Nothing of the outbox was begun, so all of it can be taken back.
        while shard.engine.counters().dropped[DropReason::OutboxFull.index()] == 0 {
            shard.publish(publisher, "t", &vec![b'x'; 30_000], 0);
        }
        shard.publish(publisher, "t", b"queued", 1);
        press(shard);
        shard.advance_ms(1_000);
        assert!(shed(shard, "reader") > 10);
        relax(shard);
        shard.drain(reader, Drain::ALL);
        assert!(shard.texts(reader).contains(&"queued".to_owned()));
    });
}

#[test]
fn an_outbox_of_many_small_messages_is_shed_in_slices() {
    for step_work_max in [1, 500] {
        run(Limits { step_work_max, ..limits() }, |shard| {
            let publisher = shard.connect(&Hello::v5("p"));
            let reader = stalled(shard, &Hello::v5("reader"), "t", 1, 300);
            for number in 0..2_000 {
                shard.publish(publisher, "t", b"small", u8::from(number % 500 == 0));
            }
            press(shard);
            // A piece of 64 KiB with messages of 10 bytes: 65 units for its bytes, 820 for its packets.
            shard.work_max = step_work_max + 2_000;
            let mut elsewhere = Elsewhere { connections: 100, ..Elsewhere::default() };
            elsewhere.budgets[Budget::Messages.index()] = CEILING * 7 / 10;
            shard.engine.set_elsewhere(elsewhere);
            shard.advance_ms(1_000);
            assert!(shed(shard, "reader") > 1_000, "{}", shed(shard, "reader"));
            let lost = shed(shard, "reader");
            relax(shard);
            shard.drain(reader, Drain::ALL);
            assert_eq!(shard.texts(reader).len() as u64, 2_000 - lost);
        });
    }
}

#[test]
fn a_mark_is_reported_both_ways_with_the_largest_holders() {
    run(limits(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        assert!(shard.engine.take_memory_report().is_none());
        for number in 0..8 {
            let keeper = shard.connect(&Hello::v5(&format!("keeper-{number}")).resume());
            shard.subscribe(keeper, &format!("kept/{number}"), 1);
            shard.hang_up(keeper);
        }
        let payload = vec![b'x'; 10_000];
        for round in 0.. {
            let number = round % 8;
            if (0..=number).any(|_| shard.publish(publisher, &format!("kept/{number}"), &payload, 1) == 0x97)
            {
                break;
            }
        }
        let report = shard.engine.take_memory_report().expect("a mark was crossed");
        assert_eq!(report.level, MemoryLevel::Shedding);
        let names: Vec<&str> = report.holders.iter().map(|(id, _)| &**id).collect();
        assert_eq!(names, ["keeper-7", "keeper-6", "keeper-5", "keeper-4", "keeper-3"]);
        assert!(report.holders.is_sorted_by(|one, next| one.1 >= next.1));
        assert!((400_000..1_000_000).contains(&report.holders[0].1), "{report:?}");
        assert!(shard.engine.take_memory_report().is_none(), "it is taken once");
        shard.advance_ms(1_000);
        let report = shard.engine.take_memory_report().expect("the second mark was crossed as well");
        assert_eq!((report.level, report.holders.len()), (MemoryLevel::Refusing, 5));
        shard.advance_ms(59_999);
        assert!(shard.engine.take_memory_report().is_none());
        shard.advance_ms(1);
        assert!(shard.engine.take_memory_report().is_some(), "it still lasts");
        for number in 0..8 {
            let keeper = shard.connect(&Hello::v5(&format!("keeper-{number}")));
            shard.hang_up(keeper);
        }
        shard.advance_ms(1_000);
        let report = shard.engine.take_memory_report().expect("it was crossed again");
        assert_eq!((report.level, report.holders), (MemoryLevel::Normal, vec![]));
        shard.advance_ms(3_600_000);
        assert!(shard.engine.take_memory_report().is_none());
    });
}

#[test]
fn a_client_that_acknowledges_nothing_keeps_its_tracked_messages() {
    run(limits(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let reader = stalled(shard, &Hello::v5("reader").receive_maximum(1_000), "t", 2, 1_000);
        for number in 0..300 {
            shard.publish(publisher, "t", &[b'x'; 5_000], 1 + u8::from(number % 2 == 0));
        }
        press(shard);
        shard.advance_ms(STALLED_MS - 1_000);
        assert_eq!(shed(shard, "reader"), 0);
        assert_eq!(shard.engine.counters().dropped_total(), 0);
        relax(shard);
        shard.drain(reader, Drain::ALL);
        assert_eq!(shard.texts(reader).len(), 300);
        assert_eq!(shard.acked(reader, AckKind::PubAck, 1), None);
        assert!(shard.engine.memory_use().of_kind(MemoryKind::Outboxes) < CEILING);
    });
}
