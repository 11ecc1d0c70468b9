//! Inputs as a run of one engine or a mesh: who connects, what is said, damaged, sent in part, delayed, and when time
//! passes.
//! Knows how an input is read; `host` carries it out and judges.

use engine::{Admission, ClosedBy, Counters, Event, Limits, QueueFull};
use wire::{Packet, PacketType, ProtocolVersion};

use crate::choices::Choices;
use crate::host::{LANES, World};
use crate::packets;

/// More would make an input slow and teach nothing new.
const OPERATIONS_MAX: usize = 400;
const LINES_MAX: usize = 24;

const VERSIONS: [ProtocolVersion; 4] =
    [ProtocolVersion::V5, ProtocolVersion::V3_1_1, ProtocolVersion::V5, ProtocolVersion::V3_1];

/// One engine. Returns what it counted, so that it can be seen how far an input reaches.
///
/// # Panics
/// If the engine breaks a promise.
pub fn check_alone(input: &[u8]) -> Vec<Counters> {
    let mut choices = Choices::new(input);
    let limits = limits(&mut choices);
    run(World::new(&limits, 1, 0), &mut choices)
}

/// Two or three engines, each with what it counted.
///
/// # Panics
/// If an engine breaks a promise.
pub fn check_mesh(input: &[u8]) -> Vec<Counters> {
    let mut choices = Choices::new(input);
    let limits = limits(&mut choices);
    let (shard_count, lane_parcels_max) = (choices.pick(&[2, 3]), choices.pick(&[1, 2, 8]));
    run(World::new(&limits, shard_count, lane_parcels_max), &mut choices)
}

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
        memory_bytes_max: c.pick(&[0, 0, 20_000]),
        tell_shard: c.one_in(2),
        // Names that come again soon: what is stale must be told from what is not all the same.
        generation_bits: c.pick(&[2, 32]),
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
    world.shards.iter().map(|shard| *shard.engine.counters()).collect()
}

fn operate(world: &mut World, c: &mut Choices<'_>) {
    let shard_count = world.shards.len();
    match c.index(20) {
        0 | 1 => dial(world, c),
        2..=6 => say(world, c),
        7 => {
            // Bytes that are no packet at all.
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
            // A slow reader, or one that reads on.
            let Some(line) = line(world, c) else { return };
            world.lines[line].budget_bytes = c.pick(&[usize::MAX, 0, 1, 7, 200]);
            world.flush(line, c.pick(&[usize::MAX, 1, 3, 50]));
        }
        10 | 11 => {
            let Some(line) = line(world, c) else { return };
            let count = c.pick(&[usize::MAX, 1, 2]);
            world.flush(line, usize::MAX);
            let this = &mut world.lines[line];
            this.peer.pay(count, &mut this.inbound);
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
            // A name that is over, unless its generation has come round and it is somebody's again.
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

/// What would be written to subscriptions.json can be read back, and changes nothing for sessions that are there.
fn restart(world: &mut World, shard: usize) {
    let now = world.now();
    let engine = &mut world.shards[shard].engine;
    let (mut records, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        from = engine.export(at, 2, &mut records);
    }
    let before = (engine.session_count(), engine.subscription_count());
    for record in &records {
        engine.restore(now, record).expect("what was exported can be restored");
    }
    assert_eq!((engine.session_count(), engine.subscription_count()), before);
}

/// One of the sockets there are, the newest ones first.
fn line(world: &World, c: &mut Choices<'_>) -> Option<usize> {
    let count = world.lines.len();
    (count > 0).then(|| count - 1 - c.index(count.min(LINES_MAX)))
}

fn dial(world: &mut World, c: &mut Choices<'_>) {
    if world.lines.iter().filter(|line| line.is_open()).count() >= LINES_MAX {
        return;
    }
    let version = c.pick(&VERSIONS);
    let admission = if c.one_in(16) { Admission::TurnAway } else { Admission::Serve };
    let line = world.open(c.index(world.shards.len()), version, admission);
    if c.one_in(16) {
        return;
    }
    let connect = packets::connect(version, c);
    let this = &mut world.lines[line];
    this.peer.announces(&connect);
    Packet::Connect(connect).encode(version, &mut this.inbound);
    if c.one_in(16) {
        packets::damage(c, &mut this.inbound);
        this.peer.misbehaves();
    }
    world.receive(line, usize::MAX);
}

fn say(world: &mut World, c: &mut Choices<'_>) {
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
        // It acknowledges what it may not have received, or changes what it said it can take.
        this.peer.misbehaves();
    }
    if c.one_in(16) {
        packets::damage(c, &mut bytes);
        this.peer.misbehaves();
    }
    this.inbound.append(&mut bytes);
    world.receive(line, usize::MAX);
}
