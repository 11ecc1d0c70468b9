//! Inputs as a run of one engine or a mesh: connections, packets, damage, partial sends, delays, and the passing of time.
//! An input is decoded here; `host` carries it out and checks the result.

use engine::{
    Admission, ClosedBy, Counters, Event, Limits, ListenerLimits, OnRate, QueueFull, Rates, Refused,
};
use wire::{Packet, PacketType, ProtocolVersion};

use crate::choices::Choices;
use crate::host::{LANES, World};
use crate::packets;

/// More operations would make an input slow without finding anything new.
const OPERATIONS_MAX: usize = 400;
const LINES_MAX: usize = 24;

const VERSIONS: [ProtocolVersion; 4] =
    [ProtocolVersion::V5, ProtocolVersion::V3_1_1, ProtocolVersion::V5, ProtocolVersion::V3_1];

/// Runs one engine. Returns its counters, which show how far an input reaches.
///
/// # Panics
/// If the engine violates a guarantee.
pub fn check_alone(input: &[u8]) -> Vec<Counters> {
    let mut choices = Choices::new(input);
    let limits = limits(&mut choices);
    run(World::new(&limits, 1, 0), &mut choices)
}

/// Runs two or three engines; returns the counters of each.
///
/// # Panics
/// If an engine violates a guarantee.
pub fn check_mesh(input: &[u8]) -> Vec<Counters> {
    let mut choices = Choices::new(input);
    let limits = limits(&mut choices);
    let (shard_count, lane_items_max) = (choices.pick(&[2, 3]), choices.pick(&[1, 2, 8]));
    run(World::new(&limits, shard_count, lane_items_max), &mut choices)
}

/// The rates of the listeners: few messages a second, which clients have to wait for or are closed for.
const RATES: [Option<Rates>; 3] = [
    None,
    Some(Rates { messages: 3, bytes: 0, burst_s: 1, on_rate: OnRate::Pause }),
    Some(Rates { messages: 0, bytes: 200, burst_s: 2, on_rate: OnRate::Disconnect }),
];

fn limits(c: &mut Choices<'_>) -> Limits {
    Limits {
        packet_bytes_max: c.pick(&[64 * 1024, 256]),
        receive_maximum: c.pick(&[10, 1, 2]),
        inflight_max: c.pick(&[10, 1, 2]),
        queue_messages_max: c.pick(&[100, 0, 1, 3]),
        queue_bytes_max: c.pick(&[1 << 20, 0, 500]),
        queue_full: c.pick(&[QueueFull::DropNewest, QueueFull::DropOldest, QueueFull::EndSession]),
        queue_qos0_offline: c.one_in(2),
        outbox_bytes_max: c.pick(&[64 * 1024, 100, 4 * 1024]),
        topic_alias_maximum: c.pick(&[64, 0, 2]),
        topic_alias_outgoing_max: c.pick(&[16, 0, 1]),
        keep_alive_s_max: c.pick(&[0, 5]),
        default_session_expiry_s: c.pick(&[60, 0]),
        session_expiry_s_max: c.pick(&[u32::MAX, 3_600, 0]),
        sessions_max: c.pick(&[100, 1, 3]),
        subscriptions_per_session_max: c.pick(&[100, 0, 2]),
        topic_levels_max: c.pick(&[128, 2]),
        retained_messages_max: c.pick(&[100, 0, 2]),
        retained_bytes_max: c.pick(&[1 << 20, 0, 5_000]),
        memory_bytes_max: c.pick(&[0, 0, 60_000]),
        tell_shard: c.one_in(2),
        // Few generation bits, so that identifiers repeat soon and stale ones must be recognised nevertheless.
        generation_bits: c.pick(&[2, 32]),
        listeners: RATES.map(|rates| ListenerLimits { rates, ..ListenerLimits::default() }).into(),
        ..Limits::default()
    }
}

fn run(mut world: World, c: &mut Choices<'_>) -> Vec<Counters> {
    for _ in 0..OPERATIONS_MAX {
        if c.is_empty() {
            break;
        }
        operate(&mut world, c);
    }
    world.finish();
    world.shards.iter().map(|shard| shard.engine.counters().clone()).collect()
}

fn operate(world: &mut World, c: &mut Choices<'_>) {
    let shard_count = world.shards.len();
    match c.index(20) {
        0 | 1 => dial(world, c),
        2..=6 => send_packet(world, c),
        7 => {
            // Bytes that are not a packet.
            let Some(line) = line(world, c) else { return };
            let count = c.index(16);
            let bytes = c.bytes(count);
            world.lines[line].peer.misbehaves();
            world.lines[line].inbound.extend_from_slice(bytes);
            world.receive(line, usize::MAX);
        }
        8 => {
            let Some(line) = line(world, c) else { return };
            let count = usize::from(c.byte());
            world.receive(line, count);
        }
        9 => {
            // A slow reader, or one that reads everything.
            let Some(line) = line(world, c) else { return };
            world.lines[line].budget_bytes = c.pick(&[usize::MAX, 0, 1, 7, 200]);
            world.flush(line, c.pick(&[usize::MAX, 1, 3, 50]));
        }
        10 | 11 => {
            let Some(line) = line(world, c) else { return };
            let count = c.pick(&[usize::MAX, 1, 2]);
            world.flush(line, usize::MAX);
            let this = &mut world.lines[line];
            this.peer.send_acks(count, &mut this.inbound);
            world.receive(line, usize::MAX);
        }
        12 => {
            let Some(line) = line(world, c) else { return };
            world.close(line, ClosedBy::Peer);
        }
        13 => world.durable(c.index(shard_count), c.one_in(2)),
        14 => world.pass(c.pick(&[0, 1, 999, 1_500, 10_000, 100_000, 4_000_000])),
        15 => {
            let (source, target) = (c.index(shard_count), c.index(shard_count));
            let (lane, count) = (c.pick(&LANES), c.pick(&[1, 2, usize::MAX]));
            world.push(source, target, lane, count);
        }
        16 => {
            let (source, target) = (c.index(shard_count), c.index(shard_count));
            let (lane, count) = (c.pick(&LANES), c.pick(&[1, 2, usize::MAX]));
            world.pull(source, target, lane, count);
        }
        17 => world.announce(c.index(shard_count)),
        18 => world.turn(),
        _ => rare(world, c),
    }
}

fn rare(world: &mut World, c: &mut Choices<'_>) {
    let shard = c.index(world.shards.len());
    match c.index(6) {
        0 => world.event(shard, Event::Tick),
        1 => {
            // An expired connection identifier, unless its generation has come round and it belongs to another
            // connection.
            let Some((shard, connection)) = world.stale else { return };
            if !world.is_served(shard, connection) {
                world.event(shard, Event::Received { connection, bytes: &[0xC0, 0] });
                world.event(shard, Event::Closed { connection, by: ClosedBy::Peer });
            }
        }
        2 => restart(world, shard),
        3 if c.one_in(4) => {
            world.event(shard, Event::Quiesce);
            world.stopped = true;
        }
        4 if c.one_in(4) => {
            for shard in 0..world.shards.len() {
                world.event(shard, Event::Stop);
            }
            world.stopped = true;
        }
        5 if !world.lines.is_empty() => {
            let line = c.index(world.lines.len());
            world.evict(line);
        }
        _ => {}
    }
}

/// Records written to subscriptions.json can be restored, and change nothing for existing sessions.
fn restart(world: &mut World, shard: usize) {
    let now = world.now();
    let engine = &mut world.shards[shard].engine;
    let (mut records, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        from = engine.export(now, at, 2, &mut records);
    }
    let before = (engine.session_count(), engine.subscription_count());
    for record in &records {
        engine.restore(now, record).expect("what was exported can be restored");
    }
    assert_eq!((engine.session_count(), engine.subscription_count()), before);
}

/// One of the sockets, the newest ones first.
fn line(world: &World, c: &mut Choices<'_>) -> Option<usize> {
    let count = world.lines.len();
    (count > 0).then(|| count - 1 - c.index(count.min(LINES_MAX)))
}

fn dial(world: &mut World, c: &mut Choices<'_>) {
    if world.lines.iter().filter(|line| line.is_open()).count() >= LINES_MAX {
        return;
    }
    let version = c.pick(&VERSIONS);
    let admission = if c.one_in(16) { Admission::TurnAway(Refused::Full) } else { Admission::Serve };
    let line = world.open(c.index(world.shards.len()), version, admission);
    if c.one_in(16) {
        return;
    }
    let connect = packets::connect(version, c);
    let this = &mut world.lines[line];
    this.peer.sends_connect(&connect);
    Packet::Connect(connect).encode(version, &mut this.inbound);
    if c.one_in(16) {
        packets::damage(c, &mut this.inbound);
        this.peer.misbehaves();
    }
    world.receive(line, usize::MAX);
}

fn send_packet(world: &mut World, c: &mut Choices<'_>) {
    let Some(line) = line(world, c) else { return };
    let this = &mut world.lines[line];
    if !this.is_open() {
        return;
    }
    let kind = if c.one_in(32) { c.pick(&PacketType::ALL) } else { c.pick(&packets::OF_CLIENTS) };
    let mut bytes = Vec::new();
    packets::packet(this.peer.version(), kind, c, &mut bytes);
    let is_ack =
        matches!(kind, PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp);
    if is_ack || kind == PacketType::Connect {
        // The peer acknowledges messages that it may not have received, or changes its limits.
        this.peer.misbehaves();
    }
    if c.one_in(16) {
        packets::damage(c, &mut bytes);
        this.peer.misbehaves();
    }
    this.inbound.append(&mut bytes);
    world.receive(line, usize::MAX);
}
