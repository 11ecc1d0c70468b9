//! The memory ceiling: the bytes that count beside those of messages, and the requests that are refused past it.

use engine::{Admission, Limits};
use wire::{Packet, ProtocolVersion, QoS};

use crate::client::{Client, Got, Hello, plain, publish};
use crate::host::{Drain, Shard, run};

fn connack(shard: &mut Shard, client: Client) -> u8 {
    match shard.next(client) {
        Some(Got::ConnAck { reason, .. }) => reason,
        other => panic!("no CONNACK but {other:?}"),
    }
}

#[test]
fn wills_count_until_they_are_published_replaced_or_deleted() {
    run(Limits { memory_bytes_max: 1_000, ..Limits::default() }, |shard| {
        let payload = "x".repeat(599);
        let hello = Hello::v5("a").resume().will_with("w", &payload, QoS::AtMostOnce, false, 100);
        let client = shard.connect(&hello);
        assert_eq!(shard.engine.memory_bytes(), 600);
        let other = shard.dial(&Hello::v5("b").will("w", &payload, 0));
        assert_eq!(connack(shard, other), 0, "there is room when it comes");
        assert_eq!(shard.engine.memory_bytes(), 1_200);
        for hello in [Hello::v5("c"), Hello::v3("c")] {
            let refused = shard.dial(&hello.will("w", "x", 0));
            assert_eq!(connack(shard, refused), if hello.connect.version.is_v5() { 0x97 } else { 0x88 });
            shard.connect(&hello);
        }
        shard.goodbye(other);
        assert_eq!(shard.engine.memory_bytes(), 600, "a normal end deletes it");
        shard.hang_up(client);
        assert_eq!(shard.engine.memory_bytes(), 600, "it waits for its delay");
        let client = shard.connect(&Hello::v5("a").resume());
        assert_eq!(shard.engine.memory_bytes(), 0, "the client is back without one");
        shard.hang_up(client);
        let client = shard.connect(&hello);
        shard.hang_up(client);
        shard.advance_ms(100_000);
        assert_eq!(shard.engine.memory_bytes(), 0, "it was published");
    });
}

#[test]
fn the_properties_of_a_will_count_as_its_topic_and_payload_do() {
    run(Limits::default(), |shard| {
        let mut hello = Hello::v5("a").will("w", "x", 0);
        let client = shard.connect(&hello);
        assert_eq!(shard.engine.memory_bytes(), 2);
        shard.goodbye(client);
        let content_type = "y".repeat(100);
        let will = hello.connect.will.as_mut().expect("it has one");
        will.properties.content_type = Some(&content_type);
        shard.connect(&hello);
        assert_eq!(shard.engine.memory_bytes(), 2 + 3 + 100, "with its name and length");
    });
}

#[test]
fn filter_texts_count_once_and_a_new_one_is_refused_past_the_ceiling() {
    run(Limits { memory_bytes_max: 1_000, ..Limits::default() }, |shard| {
        let one = shard.connect(&Hello::v5("one"));
        let two = shard.connect(&Hello::v5("two"));
        let long = format!("{}/+", "x".repeat(498));
        for client in [one, two] {
            shard.subscribe(client, &long, 0);
            shard.subscribe(client, &long, 1);
        }
        assert_eq!(shard.engine.memory_bytes(), 500);
        let shared = format!("$share/group/{}", "y".repeat(495));
        shard.subscribe(one, &shared, 0);
        assert_eq!(shard.engine.memory_bytes(), 1_000, "495 and the name of the group");
        let filters = [("a", plain(0)), (long.as_str(), plain(2))];
        assert_eq!(shard.subscribe_with(one, &filters, None), [0x97, 2], "only what is new is refused");
        shard.unsubscribe(one, &[&shared]);
        assert_eq!(shard.engine.memory_bytes(), 500);
        shard.subscribe(one, "a", 0);
    });
}

#[test]
fn bytes_in_outboxes_count_until_they_are_sent() {
    run(Limits { memory_bytes_max: 3_000, ..Limits::default() }, |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let client = shard.connect(&Hello::v5("a"));
        shard.subscribe(client, "t", 0);
        let filters = shard.engine.memory_bytes();
        shard.drain(client, Drain::STALLED);
        for reason in [0, 0, 0, 0x97] {
            assert_eq!(shard.publish(publisher, "t", &[b'x'; 1_000], 1), reason);
        }
        let held = shard.engine.memory_bytes();
        assert_eq!(held, filters + shard.engine.audit().outbox_bytes);
        assert!((3_000..3_100).contains(&held), "{held}");
        shard.drain(client, Drain::ALL);
        assert_eq!(shard.engine.memory_bytes(), filters);
        assert_eq!(shard.publish(publisher, "t", b"x", 1), 0);
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
        run(Limits { memory_bytes_max: 50_000, ..Limits::default() }, |shard| {
            let before = shard.connect(&Hello::v5("before"));
            half(shard, before, 40_000);
            assert!(
                (39_000..=50_000).contains(&shard.engine.memory_bytes()),
                "{}",
                shard.engine.memory_bytes()
            );
            let client = shard.connect(&hello);
            half(shard, client, 12_000);
            assert!(!shard.is_closed(client), "a short part is held all the same");
            shard.hang_up(client);
            let client = shard.connect(&hello);
            half(shard, client, 30_000);
            assert_eq!(shard.ended(client), reason);
            assert_eq!(shard.engine.counters().partial_packets_refused, 1);
            assert!(!shard.is_closed(before), "who does not grow is not ended");
            // Partial packets, which may never become whole, do not refuse new work.
            let other = shard.connect(&Hello::v3("other"));
            assert_eq!(shard.publish(other, "t", b"x", 1), 0);
            shard.hang_up(before);
            assert_eq!(shard.engine.memory_bytes(), 0);
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
        assert_eq!(shard.engine.memory_bytes(), 0);
        let fresh = shard.open(ProtocolVersion::V5, Admission::Serve);
        shard.send_bytes(fresh, &[0x10, 0xFF, 0x7F, 0, 4]);
        assert!(shard.engine.memory_bytes() > 0);
        shard.advance_ms(10_000);
        assert!(shard.is_closed(fresh));
        assert_eq!(shard.engine.memory_bytes(), 0);
    });
}

#[test]
fn a_connect_that_is_being_authenticated_counts() {
    run(Limits { authentication_methods: vec!["m".into()], ..Limits::default() }, |shard| {
        let payload = "x".repeat(1_000);
        let hello = Hello::v5("a").will("w", &payload, 0).method("m", b"data");
        let client = shard.dial(&hello);
        let held = shard.engine.memory_bytes();
        assert!(held > 1_005, "{held}");
        shard.hang_up(client);
        assert_eq!(shard.engine.memory_bytes(), 0);
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
        assert_eq!(shard.engine.memory_bytes(), 20_001, "the retained message and nothing else");
        shard.durable();
        assert_eq!(shard.unconsumed_bytes(client), 0);
    });
}
