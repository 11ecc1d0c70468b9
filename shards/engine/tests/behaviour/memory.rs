//! The bytes that count: each kind by the real size of what is held, until it is gone.

use engine::{Admission, Limits, MemoryKind};
use wire::{Packet, ProtocolVersion, QoS};

use crate::client::{Client, Hello, publish};
use crate::host::{Drain, Shard, run};

/// Bytes of one kind.
fn held(shard: &Shard, kind: MemoryKind) -> u64 {
    shard.engine.memory_use().of_kind(kind)
}

/// `bytes` and what an allocator and a few words may add.
fn is_about(held: u64, bytes: u64) -> bool {
    (bytes..bytes + 400).contains(&held)
}

#[test]
fn a_will_counts_until_it_is_published_replaced_or_deleted() {
    run(Limits::default(), |shard| {
        let payload = "x".repeat(10_000);
        let wills = |shard: &Shard| held(shard, MemoryKind::Wills);
        let hello = Hello::v5("a").resume().will_with("w", &payload, QoS::AtMostOnce, false, 100);
        let client = shard.connect(&hello);
        assert!(is_about(wills(shard), 10_000), "{}", wills(shard));
        let other = shard.connect(&Hello::v5("b").will("w", &payload, 0));
        assert!(wills(shard) >= 20_000);
        shard.goodbye(other);
        assert!(is_about(wills(shard), 10_000), "a normal end deletes it");
        shard.hang_up(client);
        assert!(is_about(wills(shard), 10_000), "it waits for its delay");
        let client = shard.connect(&Hello::v5("a").resume());
        assert_eq!(wills(shard), 0, "the client is back without one");
        shard.hang_up(client);
        let client = shard.connect(&hello);
        shard.hang_up(client);
        shard.advance_ms(100_000);
        assert_eq!(wills(shard), 0, "it was published");
    });
}

#[test]
fn the_properties_of_a_will_count_as_its_topic_and_payload_do() {
    run(Limits::default(), |shard| {
        let mut hello = Hello::v5("a").will("w", "x", 0);
        let client = shard.connect(&hello);
        let without = held(shard, MemoryKind::Wills);
        shard.goodbye(client);
        let content_type = "y".repeat(1_000);
        let will = hello.connect.will.as_mut().expect("it has one");
        will.properties.content_type = Some(&content_type);
        shard.connect(&hello);
        let grown = held(shard, MemoryKind::Wills) - without;
        assert!((900..1_300).contains(&grown), "{grown}");
    });
}

#[test]
fn bytes_in_outboxes_count_by_their_buffers() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let client = shard.connect(&Hello::v5("a"));
        shard.subscribe(client, "t", 0);
        let before = held(shard, MemoryKind::Outboxes);
        shard.drain(client, Drain::STALLED);
        for (count, payload_bytes) in [(200, 1_000), (5, 50_000)] {
            for _ in 0..count {
                shard.publish(publisher, "t", &vec![b'x'; payload_bytes], 0);
            }
            let grown = held(shard, MemoryKind::Outboxes) - before;
            let bytes = shard.engine.audit().outbox_bytes;
            assert!((bytes..bytes * 5 / 4).contains(&grown), "{grown} for {bytes}");
        }
        shard.drain(client, Drain::ALL);
        assert_eq!(shard.engine.audit().outbox_bytes, 0);
        assert!(held(shard, MemoryKind::Outboxes) < 400_000, "the buffers that are kept");
    });
}

#[test]
fn queued_messages_count_once_and_each_entry_counts() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let queues = |shard: &Shard| held(shard, MemoryKind::Queues);
        let before = queues(shard);
        for id in ["a", "b", "c"] {
            let client = shard.connect(&Hello::v5(id).resume());
            shard.subscribe(client, "t", 1);
            shard.hang_up(client);
        }
        for _ in 0..1_000 {
            shard.publish(publisher, "t", b"x", 1);
        }
        let small = queues(shard) - before;
        // A slot, a buffer, and three entries of 40 bytes.
        assert!((200_000..350_000).contains(&small), "{small}");
        shard.publish(publisher, "t", &vec![b'x'; 50_000], 1);
        assert!((50_000..52_000).contains(&(queues(shard) - before - small)), "each once");
        for id in ["a", "b", "c"] {
            let client = shard.connect(&Hello::v5(id).resume());
            assert_eq!(shard.texts(client).len(), 1_001);
            shard.hang_up(client);
        }
        let left = queues(shard) - before;
        assert!(left < small * 2 / 3, "slots and buffers that are kept: {left} of {small}");
    });
}

#[test]
fn a_store_that_held_much_and_is_empty_gives_its_slots_back() {
    run(Limits { queue_messages_max: 100_000, ..Limits::default() }, |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let client = shard.connect(&Hello::v5("a").resume());
        shard.subscribe(client, "t", 1);
        shard.hang_up(client);
        for _ in 0..20_000 {
            shard.publish(publisher, "t", &[b'x'; 900], 1);
        }
        let full = held(shard, MemoryKind::Queues);
        assert!(full > 20_000_000, "{full}");
        let client = shard.connect(&Hello::v5("a"));
        assert_eq!(shard.messages(client), []);
        shard.advance_ms(10);
        let left = held(shard, MemoryKind::Queues);
        assert!(left < full / 10, "{left}");
        shard.publish(publisher, "t", b"x", 1);
    });
}

#[test]
fn retained_messages_count_with_their_topics_even_while_they_are_sent() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let topic = "t".repeat(1_000);
        shard.publish_retained(publisher, &topic, &[b'x'; 2_000], 1);
        let retained = held(shard, MemoryKind::Retained);
        assert!(is_about(retained, 4_000), "the topic twice: {retained}");
        let queues = held(shard, MemoryKind::Queues);
        let client = shard.connect(&Hello::v5("a").resume());
        shard.subscribe(client, "#", 1);
        shard.hang_up(client);
        assert_eq!(held(shard, MemoryKind::Retained), retained);
        assert!(held(shard, MemoryKind::Queues) - queues < 2_000, "an entry of a window");
        shard.publish_retained(publisher, &topic, b"", 1);
        assert_eq!(held(shard, MemoryKind::Retained), 0);
    });
}

#[test]
fn long_identifiers_of_sessions_count() {
    run(Limits::default(), |shard| {
        let before = held(shard, MemoryKind::Sessions);
        let id = "i".repeat(1_000);
        let client = shard.connect(&Hello::v5(&id));
        let grown = held(shard, MemoryKind::Sessions) - before;
        assert!((1_000..1_700).contains(&grown), "{grown}");
        shard.hang_up(client);
        assert!(held(shard, MemoryKind::Sessions) - before < 700);
    });
}

/// Sends the first `bytes` bytes of a PUBLISH.
fn half(shard: &mut Shard, client: Client, bytes: usize) {
    let payload = vec![b'x'; 60_000];
    let mut packet = Vec::new();
    Packet::Publish(publish("t", &payload, 1, 1)).encode(client.version, &mut packet);
    shard.send_bytes(client, &packet[..bytes]);
}

#[test]
fn a_partial_packet_counts_and_a_long_one_ends_its_connection_past_the_ceiling() {
    for (hello, reason) in [(Hello::v5("a"), Some(0x97)), (Hello::v3("a"), None)] {
        run(Limits { memory_bytes_max: 60_000, ..Limits::default() }, |shard| {
            let before = shard.connect(&Hello::v5("before"));
            half(shard, before, 40_000);
            let partial = held(shard, MemoryKind::PartialPackets);
            assert!((39_000..=50_000).contains(&partial), "{partial}");
            let client = shard.connect(&hello);
            half(shard, client, 12_000);
            assert!(!shard.is_closed(client), "a short part is held all the same");
            shard.hang_up(client);
            let client = shard.connect(&hello);
            half(shard, client, 30_000);
            assert_eq!(shard.ended(client), reason);
            assert_eq!(shard.engine.counters().partial_packets_refused, 1);
            assert!(!shard.is_closed(before), "who does not grow is not ended");
            let other = shard.connect(&Hello::v3("other"));
            assert_eq!(shard.publish(other, "t", b"x", 1), 0);
            shard.hang_up(before);
            assert_eq!(held(shard, MemoryKind::PartialPackets), 0);
        });
    }
}

#[test]
fn a_packet_that_came_in_parts_is_not_counted_once_it_is_whole() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        let payload = vec![b'x'; 60_000];
        let mut packet = Vec::new();
        Packet::Publish(publish("t", &payload, 0, 0)).encode(ProtocolVersion::V5, &mut packet);
        for part in packet.chunks(7_000) {
            shard.send_bytes(client, part);
        }
        assert_eq!(shard.engine.counters().messages_received, 1);
        assert_eq!(held(shard, MemoryKind::PartialPackets), 0);
        let fresh = shard.open(ProtocolVersion::V5, Admission::Serve);
        shard.send_bytes(fresh, &[0x10, 0xFF, 0x7F, 0, 4]);
        assert!(held(shard, MemoryKind::PartialPackets) > 0);
        shard.advance_ms(10_000);
        assert!(shard.is_closed(fresh));
        assert_eq!(held(shard, MemoryKind::PartialPackets), 0);
    });
}

#[test]
fn a_connect_that_is_being_authenticated_counts() {
    run(Limits { authentication_methods: vec!["m".into()], ..Limits::default() }, |shard| {
        let payload = "x".repeat(1_000);
        let hello = Hello::v5("a").will("w", &payload, 0).method("m", b"data");
        let client = shard.dial(&hello);
        let bytes = held(shard, MemoryKind::Authentications);
        assert!(bytes > 1_005, "{bytes}");
        shard.hang_up(client);
        assert_eq!(held(shard, MemoryKind::Authentications), 0);
        shard.asked.clear();
    });
}

#[test]
fn the_buffer_of_a_packet_that_was_taken_in_is_not_kept_while_its_connection_waits() {
    run(Limits { receive_maximum: 1, ..Limits::default() }, |shard| {
        shard.durable_at_once = false;
        let client = shard.connect(&Hello::v3("a"));
        let payload = vec![b'x'; 20_000];
        let mut bytes = Vec::new();
        for id in 1..=3 {
            let message = publish("t", &payload, 1, id);
            Packet::Publish(wire::Publish { retain: true, ..message }).encode(client.version, &mut bytes);
        }
        shard.send_bytes(client, &bytes[..10_000]);
        shard.send_bytes(client, &bytes[10_000..]);
        assert!(
            shard.unconsumed_bytes(client) > 20_000,
            "the third waits for an acknowledgement of the first"
        );
        assert_eq!(held(shard, MemoryKind::PartialPackets), 0);
        assert!(is_about(held(shard, MemoryKind::Retained), 20_001));
        shard.durable();
        assert_eq!(shard.unconsumed_bytes(client), 0);
    });
}

#[test]
fn a_payload_that_many_readers_wait_for_counts_once() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let clients: Vec<Client> = (0..20)
            .map(|number| {
                let client = shard.connect(&Hello::v5(&format!("reader {number}")));
                shard.subscribe(client, "t", 0);
                shard.drain(client, Drain::STALLED);
                client
            })
            .collect();
        let before = held(shard, MemoryKind::Outboxes);
        shard.publish(publisher, "t", &vec![b'x'; 200_000], 0);
        let grown = held(shard, MemoryKind::Outboxes) - before;
        assert!(shard.engine.audit().outbox_bytes > 20 * 200_000);
        assert!((200_000..300_000).contains(&grown), "{grown}");
        // As long as one of them waits for it, it counts.
        for &client in &clients[1..] {
            shard.hang_up(client);
        }
        assert!(held(shard, MemoryKind::Outboxes) - before > 200_000);
        shard.drain(clients[0], Drain::ALL);
        assert!(held(shard, MemoryKind::Outboxes) < before + 100_000);
    });
}
