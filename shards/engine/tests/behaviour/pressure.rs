//! Short memory: what is refused, what waits, and what is always served.

use engine::{Budget, CauseGroup, Limits, MemoryKind, MemoryLevel};
use wire::{AckKind, Packet};

use crate::client::{Client, Hello, publish};
use crate::host::{Drain, Shard, run};

const CEILING: u64 = 4_000_000;

fn limits() -> Limits {
    Limits { memory_bytes_max: CEILING, ..Limits::default() }
}

/// Queues messages for `keeper`, who is offline, until one is refused. Returns how many were taken.
fn fill_queue(shard: &mut Shard, publisher: Client) -> usize {
    let keeper = shard.connect(&Hello::v5("keeper").resume());
    shard.subscribe(keeper, "kept", 1);
    shard.hang_up(keeper);
    (0..1_000).find(|_| shard.publish(publisher, "kept", &vec![b'x'; 40_000], 1) == 0x97).expect("an end")
}

/// Retains messages until one is refused. Returns how many were taken.
fn fill_retained(shard: &mut Shard, publisher: Client) -> usize {
    (0..1_000)
        .find(|number| {
            shard.publish_retained(publisher, &format!("kept/{number}"), &vec![b'x'; 40_000], 1) == 0x97
        })
        .expect("an end")
}

#[test]
fn a_full_queue_refuses_what_is_kept_and_nothing_else() {
    run(limits(), |shard| {
        let new = shard.connect(&Hello::v5("new"));
        let reader = shard.connect(&Hello::v5("reader"));
        shard.subscribe(reader, "live", 0);
        let taken = fill_queue(shard, new);
        assert!((70..81).contains(&taken), "{taken} of 40,100 bytes are 80 % of the ceiling");
        assert_eq!(shard.engine.memory_level(), MemoryLevel::Refusing);
        assert!(shard.engine.memory_bytes() < CEILING);
        assert_eq!(shard.publish(new, "kept", b"x", 2), 0x97);
        assert_eq!(shard.publish(new, "live", b"x", 1), 0, "nobody keeps it");
        assert_eq!(shard.publish(new, "nobody", b"x", 1), 0x10);
        assert_eq!(shard.texts(reader), ["x"]);
        // Retained messages, subscriptions and clients have reserves.
        assert_eq!(shard.publish_retained(new, "r", b"x", 1), 0x10);
        shard.subscribe(reader, "more", 1);
        shard.connect(&Hello::v5("later").will("w", "x", 0));
        // Memory has room once the keeper has acknowledged.
        let keeper = shard.connect(&Hello::v5("keeper").resume());
        assert_eq!(shard.texts(keeper).len(), taken);
        assert_eq!(shard.engine.memory_level(), MemoryLevel::Normal);
        assert_eq!(shard.publish(new, "kept", b"x", 1), 0);
    });
}

#[test]
fn a_publish_of_3_1_1_waits_until_there_is_room() {
    run(limits(), |shard| {
        let new = shard.connect(&Hello::v5("new"));
        let old = shard.connect(&Hello::v3("old"));
        let taken = fill_queue(shard, new);
        let before = shard.engine.counters().clone();
        shard.send(old, &Packet::Publish(publish("kept", b"waits", 1, 7)));
        shard.send(old, &Packet::PingReq);
        assert_eq!(shard.take(old), []);
        assert!(shard.unconsumed_bytes(old) > 0);
        let after = shard.engine.counters();
        assert_eq!(after.messages_received, before.messages_received, "it counts when it is taken");
        assert_eq!(after.publishes_refused, before.publishes_refused);
        let keeper = shard.connect(&Hello::v5("keeper").resume());
        assert_eq!(shard.texts(keeper).len(), taken + 1);
        assert_eq!(shard.acked(old, AckKind::PubAck, 7), Some(0));
        assert_eq!(shard.unconsumed_bytes(old), 0);
        shard.advance_ms(10_000);
        assert!(!shard.is_closed(old));
    });
}

#[test]
fn a_publish_of_3_1_1_that_came_in_parts_waits_too() {
    run(limits(), |shard| {
        let new = shard.connect(&Hello::v5("new"));
        let old = shard.connect(&Hello::v3("old"));
        let mut bytes = Vec::new();
        Packet::Publish(publish("kept", &[b'x'; 100], 2, 7)).encode(old.version, &mut bytes);
        shard.send_bytes(old, &bytes[..50]);
        fill_queue(shard, new);
        shard.send_bytes(old, &bytes[50..]);
        assert_eq!(shard.take(old), []);
        let keeper = shard.connect(&Hello::v5("keeper").resume());
        shard.texts(keeper);
        assert_eq!(shard.acked(old, AckKind::PubRec, 7), Some(0));
    });
}

#[test]
fn a_publish_of_3_1_1_that_waited_too_long_ends_its_connection() {
    // With a keep alive of 0, the wait is the only reason for a timer.
    for keep_alive_s in [2, 0] {
        run(limits(), |shard| {
            let new = shard.connect(&Hello::v5("new"));
            let old = shard.connect(&Hello::v3("old").keep_alive_s(keep_alive_s));
            fill_queue(shard, new);
            shard.send(old, &Packet::Publish(publish("kept", b"waits", 1, 7)));
            let _audited = shard.engine.audit();
            shard.advance_ms(4_999);
            assert!(!shard.is_closed(old));
            shard.advance_ms(1);
            assert!(shard.is_closed(old));
            assert_eq!(shard.engine.counters().closed[CauseGroup::Memory.index()], 1);
            let old = shard.connect(&Hello::v3("old"));
            assert_eq!(shard.publish(old, "nobody", b"x", 1), 0);
        });
    }
}

#[test]
fn a_full_store_takes_deletions_and_lets_clients_in() {
    run(limits(), |shard| {
        let keeper = shard.connect(&Hello::v5("keeper"));
        let taken = fill_retained(shard, keeper);
        assert!((65..76).contains(&taken), "{taken} of 40,200 bytes are 75 % of the ceiling");
        let retained = shard.engine.memory_use().of_kind(MemoryKind::Retained);
        assert!((2_700_000..3_040_000).contains(&retained), "{retained}");
        let old = shard.connect(&Hello::v3("old"));
        shard.subscribe(old, "live", 1);
        assert_eq!(shard.publish(old, "live", b"x", 1), 0, "messages on their way have a reserve");
        assert_eq!(shard.texts(old), ["x"]);
        // It cannot be told, and waiting would not help.
        let id = shard.packet_id();
        let payload = vec![b'x'; 40_000];
        let packet = publish("new", &payload, 1, id);
        shard.send(old, &Packet::Publish(wire::Publish { retain: true, ..packet }));
        assert!(shard.is_closed(old));
        let old = shard.connect(&Hello::v3("old"));
        assert_eq!(shard.publish_retained(old, "kept/0", b"", 1), 0);
        assert_eq!(shard.publish_retained(old, "kept/1", b"", 1), 0);
        assert_eq!(shard.publish_retained(keeper, "new", &vec![b'x'; 40_000], 1), 0x10);
    });
}

#[test]
fn filters_are_refused_by_their_own_budget_and_those_of_the_broker_are_not() {
    run(limits(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        let filter = |number| format!("{number:05}/{}", "x".repeat(20_000));
        let refused = (0..1_000).find(|&number| {
            let codes = shard.subscribe_with(client, &[(&filter(number), crate::client::plain(0))], None);
            codes == [0x97]
        });
        assert!(refused.is_some_and(|taken| (30..160).contains(&taken)), "{refused:?}");
        let again = filter(0);
        shard.subscribe(client, &again, 1);
        shard.subscribe(client, "$SYS/broker/memory/#", 0);
        assert_eq!(shard.publish(client, &again, b"x", 1), 0);
        assert_eq!(shard.texts(client), ["x"]);
        shard.unsubscribe(client, &[&again]);
        shard.unsubscribe(client, &[&filter(1)]);
        shard.subscribe(client, "a", 0);
    });
}

#[test]
fn sessions_and_wills_are_refused_by_their_own_budget() {
    run(limits(), |shard| {
        let payload = "x".repeat(50_000);
        let refused = (0..1_000).find(|number| {
            let id = format!("mortal-{number}");
            let client = shard.dial(&Hello::v5(&id).will("w", &payload, 0));
            matches!(shard.next(client), Some(crate::client::Got::ConnAck { reason: 0x97, .. }))
        });
        assert!(refused.is_some_and(|taken| (30..80).contains(&taken)), "{refused:?}");
        shard.connect(&Hello::v5("mortal-0"));
        shard.connect(&Hello::v5("mortal-1"));
    });
}

#[test]
fn an_outbox_takes_less_while_memory_is_short_and_a_reader_that_keeps_up_loses_nothing() {
    run(Limits { outbox_bytes_max: 2_400_000, ..limits() }, |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let reader = shard.connect(&Hello::v5("reader"));
        shard.subscribe(reader, "t", 0);
        let stalled: Vec<Client> = (0..4)
            .map(|number| {
                let client = shard.connect(&Hello::v5(&format!("stalled-{number}")));
                shard.subscribe(client, "t", 0);
                shard.drain(client, Drain::STALLED);
                client
            })
            .collect();
        for _ in 0..1_600 {
            assert_eq!(shard.publish(publisher, "t", &[b'x'; 3_000], 0), 0);
        }
        assert_eq!(shard.texts(reader).len(), 1_600);
        let outboxes = shard.engine.memory_use().of_kind(MemoryKind::Outboxes);
        assert!(outboxes < 3_800_000, "{outboxes}");
        assert!(shard.engine.memory_level() > MemoryLevel::Normal);
        for client in stalled {
            shard.drain(client, Drain::ALL);
            shard.hang_up(client);
        }
        shard.advance_ms(1);
        assert_eq!(shard.engine.memory_level(), MemoryLevel::Normal);
    });
}

#[test]
fn every_kind_has_a_budget_and_no_two_of_them_a_name() {
    let names: std::collections::BTreeSet<_> = MemoryKind::ALL.map(MemoryKind::name).into();
    assert_eq!(names.len(), MemoryKind::ALL.len());
    for budget in Budget::ALL {
        assert!(MemoryKind::ALL.iter().any(|kind| kind.budget() == budget), "{budget:?}");
    }
}
