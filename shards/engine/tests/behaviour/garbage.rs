//! Bytes that no client would send: the engine goes on after any of them, and its ledgers balance. Nothing else is expected.

use engine::{Admission, Limits};
use wire::{AckKind, ConnectProperties, Packet, ProtocolVersion, PublishProperties};

use crate::client::{Hello, ack, plain, publish};
use crate::host::{Shard, run};

struct Noise(u64);

impl Noise {
    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits")
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.next() % 256).expect("a byte")
    }
}

/// A stream with most of the packets that a client can send.
fn conversation(version: ProtocolVersion, who: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut hello = Hello::new(version, who).will("t/will", "gone", 1);
    hello.connect.keep_alive_s = 10;
    hello.connect.properties =
        ConnectProperties { session_expiry_interval_s: Some(5), ..ConnectProperties::default() };
    let filters = ["t/#", "$share/g/t/+", "+/1"]
        .map(|text| (wire::TopicFilter::parse(text).expect("a good filter"), plain(2)));
    let subscribe = wire::Subscribe {
        packet_id: crate::client::packet_id(1),
        subscription_id: wire::SubscriptionId::new(7),
        user_properties: wire::UserProperties::default(),
        filters: wire::SubscribeFilters::from_slice(&filters),
    };
    let properties = PublishProperties {
        topic_alias: core::num::NonZeroU16::new(1),
        message_expiry_interval_s: Some(3),
        ..PublishProperties::default()
    };
    let mut packets = vec![Packet::Connect(hello.connect), Packet::Subscribe(subscribe), Packet::PingReq];
    for id in 1..4u16 {
        let bits = u8::try_from(id % 3).expect("below 3");
        let packet = wire::Publish { properties, retain: id == 1, ..publish("t/1", b"payload", bits, id) };
        packets.push(Packet::Publish(packet));
        for kind in [AckKind::PubAck, AckKind::PubRec, AckKind::PubRel, AckKind::PubComp] {
            packets.push(ack(kind, id, wire::ReasonCode::Success));
        }
    }
    for packet in packets {
        packet.encode(version, &mut bytes);
    }
    bytes
}

/// Sends a stream in pieces, and lets time pass before some of them.
fn pour(shard: &mut Shard, noise: &mut Noise, version: ProtocolVersion, bytes: &[u8]) {
    let client = shard.open(version, Admission::Serve);
    let mut rest = bytes;
    while !rest.is_empty() && !shard.is_closed(client) {
        let (piece, after) = rest.split_at(1 + noise.next() % rest.len());
        // Any packet may come back. The host checks that it can be read.
        shard.send_bytes(client, piece);
        rest = after;
        if noise.next().is_multiple_of(8) {
            shard.advance_ms(u64::try_from(noise.next() % 3_000).expect("31 bits"));
        }
    }
    if noise.next().is_multiple_of(2) {
        shard.hang_up(client);
    }
}

#[test]
fn random_bytes_end_a_connection_and_nothing_else() {
    run(Limits::default(), |shard| {
        let mut noise = Noise(1);
        for _ in 0..300 {
            let length = 1 + noise.next() % 200;
            let bytes: Vec<u8> = (0..length).map(|_| noise.byte()).collect();
            pour(shard, &mut noise, ProtocolVersion::V5, &bytes);
        }
        assert_eq!(shard.engine.session_count(), 0);
    });
}

#[test]
fn a_conversation_with_any_byte_changed_never_harms_the_shard() {
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        run(Limits { packet_bytes_max: 1_000, ..Limits::default() }, |shard| {
            let mut noise = Noise(u64::from(version.level()));
            let good = conversation(version, "good");
            for at in 0..good.len() {
                // A change inside CONNECT may change the version, which the reading client cannot know.
                let mut bytes = good.clone();
                bytes[at] = noise.byte();
                let level = bytes.get(8).copied();
                let reader = if level >= Some(5) { ProtocolVersion::V5 } else { ProtocolVersion::V3_1_1 };
                pour(shard, &mut noise, reader, &bytes);
            }
            shard.advance_ms(100_000);
        });
    }
}

#[test]
fn random_packets_behind_a_good_connect_never_harm_the_shard() {
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        run(Limits::default(), |shard| {
            let mut noise = Noise(99);
            for number in 0..400 {
                let name = format!("c{}", number % 7);
                let mut bytes = conversation(version, &name);
                let first_byte = noise.byte();
                let body = 1 + noise.next() % 40;
                bytes.extend([first_byte, u8::try_from(body).unwrap()]);
                bytes.extend((0..body).map(|_| noise.byte() % 8));
                pour(shard, &mut noise, version, &bytes);
            }
            shard.advance_ms(100_000);
        });
    }
}
