//! The work of each micro bench: prepared once, then repeated, `BURST` operations a call.

use std::hint::black_box;

use ring::{Capacity, Item, Lane};
use wire::packet::{Publish, PublishParts};
use wire::{PacketId, QoS};

use crate::host::{Host, VERSION};
use crate::shards::Shards;

/// Operations of a call: as many as one receive of a busy connection brings.
pub(crate) const BURST: u64 = 50;
const SUBSCRIBERS: u64 = 500;
const KEPT_ALIVE: usize = 10_000;
/// Filters of one session; the broker allows no more.
const FILTERS_PER_SESSION: u32 = 5_000;

pub(crate) fn publish_bytes(topic: &str, qos: QoS, packet_id: u16, out: &mut Vec<u8>) {
    let parts = PublishParts {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: (qos != QoS::AtMostOnce).then(|| PacketId::new(packet_id).expect("not zero")),
        message_expiry_interval_s: None,
        topic_alias: None,
        subscription_ids: &[],
        forwarded: &[],
        payload_bytes: 64,
    };
    parts.encode_head(VERSION, out);
    out.extend_from_slice(&[b'x'; 64]);
}

pub(crate) fn decode() -> impl FnMut() {
    let mut bytes = Vec::new();
    publish_bytes("device/7/state", QoS::AtMostOnce, 1, &mut bytes);
    move || {
        for _ in 0..BURST {
            let bytes = black_box(&bytes[..]);
            let publish = Publish::decode(VERSION, bytes[0], &bytes[2..]).expect("made by the codec");
            black_box(publish.payload.len());
        }
    }
}

pub(crate) fn encode() -> impl FnMut() {
    let mut out = Vec::with_capacity(256);
    move || {
        for _ in 0..BURST {
            out.clear();
            publish_bytes(black_box("device/7/state"), QoS::AtMostOnce, 1, &mut out);
            black_box(&out);
        }
    }
}

/// Publishes bursts to `device/7/state`, with one subscriber to `filter` and this many other filters in the tree.
pub(crate) fn publish(filter_count: u32, filter: &str, qos: u8) -> impl FnMut() + use<> {
    let qos = QoS::from_bits(qos).expect("0, 1 or 2");
    let mut host = Host::new();
    fill(&mut host, filter_count);
    host.client("subscriber", &[filter.to_owned()], qos);
    let publisher = host.client("publisher", &[], qos);
    let mut burst = Vec::new();
    for number in 1..=BURST {
        let packet_id = u16::try_from(number).expect("a burst is short");
        publish_bytes("device/7/state", qos, packet_id, &mut burst);
    }
    move || {
        let before = host.delivered;
        host.receive(publisher, &burst);
        assert_eq!(host.delivered - before, BURST);
    }
}

/// Like `publish`, without decoding the engine's output.
pub(crate) fn publish_unread(filter_count: u32) -> impl FnMut() {
    let mut host = Host::new();
    fill(&mut host, filter_count);
    host.client("subscriber", &["device/7/state".to_owned()], QoS::AtMostOnce);
    let publisher = host.client("publisher", &[], QoS::AtMostOnce);
    let mut burst = Vec::new();
    for _ in 0..BURST {
        publish_bytes("device/7/state", QoS::AtMostOnce, 1, &mut burst);
    }
    move || {
        let sent_bytes = host.receive_unread(publisher, &burst);
        assert_eq!(sent_bytes, burst.len());
    }
}

/// As `publish_unread` on one of two shards, with the subscriber on the same shard or on the other.
pub(crate) fn publish_beside_a_shard(filter_count: u32, subscriber_shard: u16) -> impl FnMut() {
    let mut shards = Shards::new(2);
    for (number, filters) in filters_by_client(filter_count) {
        shards.client(subscriber_shard, &format!("filler-{number}"), &filters);
    }
    publish_to_shard(shards, subscriber_shard)
}

/// Publishes on a shard of 64 to a subscriber on another one; 62 shards have no interest in it.
pub(crate) fn publish_across_64() -> impl FnMut() {
    publish_to_shard(interested_elsewhere(64), 1)
}

fn publish_to_shard(mut shards: Shards, subscriber_shard: u16) -> impl FnMut() {
    shards.client(subscriber_shard, "subscriber", &["device/7/state".to_owned()]);
    let publisher = shards.client(0, "publisher", &[]);
    shards.settle();
    let mut burst = Vec::new();
    for _ in 0..BURST {
        publish_bytes("device/7/state", QoS::AtMostOnce, 1, &mut burst);
    }
    move || {
        let sent_bytes = shards.receive_unread(0, publisher, &burst) + shards.exchange(0, 1);
        assert_eq!(sent_bytes, burst.len());
    }
}

/// Publishes to a subscriber on the same shard, which is one of so many and the only one with an interest. Each message is a
/// step of its own and is sent by itself, so the cost of a step and of a send count in full.
pub(crate) fn publish_local(shard_count: u16) -> impl FnMut() {
    let mut shards = interested_elsewhere(shard_count);
    shards.client(0, "subscriber", &["device/7/state".to_owned()]);
    let publisher = shards.client(0, "publisher", &[]);
    shards.settle();
    let mut one = Vec::new();
    publish_bytes("device/7/state", QoS::AtMostOnce, 1, &mut one);
    move || {
        for _ in 0..BURST {
            let sent_bytes = shards.receive_unread(0, publisher, &one);
            assert_eq!(sent_bytes, one.len());
        }
        assert_eq!(shards.forwarded_count(0), 0);
    }
}

/// So many shards, of which each but the first has a subscriber of a topic of its own.
fn interested_elsewhere(shard_count: u16) -> Shards {
    let mut shards = Shards::new(shard_count);
    for shard in 1..shard_count {
        shards.client(shard, "elsewhere", &[format!("elsewhere/{shard}/state")]);
    }
    shards
}

/// Publishes each message to another topic of very many.
pub(crate) fn publish_cold(filter_count: u32) -> impl FnMut() {
    let mut host = Host::new();
    fill(&mut host, filter_count);
    host.client("subscriber", &["site/+/+/+/cold".to_owned()], QoS::AtMostOnce);
    let publisher = host.client("publisher", &[], QoS::AtMostOnce);
    let mut burst = Vec::new();
    let mut number = 0_u32;
    move || {
        burst.clear();
        for _ in 0..BURST {
            // Always the same length, and never the same topic twice in a run.
            number += 1;
            let topic = format!("site/{:02}/device/{number:07}/cold", number % 100);
            publish_bytes(&topic, QoS::AtMostOnce, 1, &mut burst);
        }
        let before = host.delivered;
        host.receive(publisher, &burst);
        assert_eq!(host.delivered - before, BURST);
    }
}

/// The filters that fill a tree; a third of each form.
pub(crate) fn filter_text(number: u32) -> String {
    match number % 3 {
        0 => format!("site/{}/device/{number}/state", number % 100),
        1 => format!("site/{}/+/{number}/state", number % 100),
        _ => format!("site/{}/{number}/#", number % 100),
    }
}

/// Clients that subscribe to this many filters, a third of them without wildcards.
fn fill(host: &mut Host, filter_count: u32) {
    for (number, filters) in filters_by_client(filter_count) {
        host.client(&format!("filler-{number}"), &filters, QoS::AtMostOnce);
    }
}

/// The filters that fill a tree, grouped by client.
fn filters_by_client(filter_count: u32) -> impl Iterator<Item = (u32, Vec<String>)> {
    (0..filter_count).step_by(FILTERS_PER_SESSION as usize).map(move |first| {
        let end = filter_count.min(first + FILTERS_PER_SESSION);
        (first, (first..end).map(filter_text).collect())
    })
}

pub(crate) fn fan_out() -> impl FnMut() {
    let mut host = Host::new();
    for number in 0..SUBSCRIBERS {
        host.client(&format!("subscriber-{number}"), &["device/7/state".to_owned()], QoS::AtMostOnce);
    }
    let publisher = host.client("publisher", &[], QoS::AtMostOnce);
    let mut one = Vec::new();
    publish_bytes("device/7/state", QoS::AtMostOnce, 1, &mut one);
    let mut pending = 0;
    move || {
        // A publish has more receivers than a call has operations.
        pending += BURST;
        if pending >= SUBSCRIBERS {
            pending -= SUBSCRIBERS;
            let before = host.delivered;
            host.receive(publisher, &one);
            assert_eq!(host.delivered - before, SUBSCRIBERS);
        }
    }
}

/// Clients that send only PINGREQ, one after the other, each every 45 seconds of a keep alive of 60.
pub(crate) fn keep_alive() -> impl FnMut() {
    const INTERVAL_MS: u64 = 45_000 * BURST / KEPT_ALIVE as u64;
    let mut host = Host::new();
    let mut clients = Vec::new();
    for number in 0..KEPT_ALIVE {
        clients.push(host.client(&format!("c{number}"), &[], QoS::AtMostOnce));
        if clients.len() % 50 == 0 {
            host.pass(INTERVAL_MS);
        }
    }
    let mut next = 0;
    let mut work = move || {
        for _ in 0..BURST {
            let sent_bytes = host.receive_unread(clients[next], &[0xC0, 0]);
            assert_eq!(sent_bytes, 2, "a PINGRESP");
            next = (next + 1) % KEPT_ALIVE;
        }
        host.pass(INTERVAL_MS);
    };
    // Until every timer has expired once.
    for _ in 0..3 * KEPT_ALIVE as u64 / BURST {
        work();
    }
    work
}

pub(crate) fn connect() -> impl FnMut() {
    let mut host = Host::new();
    move || {
        for number in 0..BURST {
            let id = host.client(&format!("c{number}"), &[format!("device/{number}/state")], QoS::AtMostOnce);
            host.receive(id, &[0xE0, 0]);
            host.close(id);
        }
    }
}

pub(crate) fn ring() -> impl FnMut() {
    let mut ports = ring::mesh::<u64>(2, Capacity::DEFAULT);
    let message = [7_u8; 100];
    move || {
        let mut block = ports[0].empty_block(1, Lane::Data);
        for _ in 0..BURST {
            block.as_mut().extend_from_slice(black_box(&message));
        }
        ports[0].push(1, Lane::Data, Item::Block(block)).expect("the other end takes everything out");
        match ports[1].pop(0, Lane::Data) {
            Some(Item::Block(block)) => {
                black_box(block.as_ref().len());
                ports[1].give_back(0, Lane::Data, block);
            }
            other => unreachable!("{:?} was not pushed", other.is_some()),
        }
    }
}
