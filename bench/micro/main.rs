//! Micro benches: one part of the broker, without I/O, doing the same work repeatedly. Prints nanoseconds of CPU for each
//! operation; under callgrind, `bench/micro/run` counts instructions, which do not depend on other load of the machine.
//! `run` compares the counts with the baseline.
//!
//! The engine's internals are private, and nothing is made public for a bench. A part that is measured alone is compiled
//! a second time into this program, from the same files.

extern crate alloc;

mod host;
mod parts;
mod pieces;
mod shards;

#[path = "../../shards/engine/src/base/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the engine's file, of which a part is measured")]
mod base;
#[path = "../../shards/engine/src/connection/outbox.rs"]
#[allow(dead_code, unreachable_pub, reason = "the engine's file, of which a part is measured")]
mod outbox;
#[path = "../../shards/engine/src/topic/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the engine's file, of which a part is measured")]
mod topic;
use std::hint::black_box;
use std::io::{self, Write as _};

use clap::{Parser, ValueEnum};
use rustix::time::{ClockId, clock_gettime};

/// Does one kind of work `count` times.
#[derive(Parser)]
struct Arguments {
    #[arg(value_enum)]
    part: Part,
    /// Operations of a round.
    #[arg(long, default_value_t = 100_000)]
    count: u64,
    /// Rounds; prints the median and the lowest. 0 is one round without a clock, because valgrind hides the kernel's
    /// clock page.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Filters in the tree.
    #[arg(long, default_value_t = 1_000)]
    filters: u32,
}

/// The work to do.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    /// Decodes a PUBLISH of 64 bytes.
    Decode,
    /// Encodes one.
    Encode,
    /// Routes a PUBLISH of QoS 0 through codec and tree to one subscriber without wildcards, and takes it out of the
    /// outbox.
    Exact,
    /// The same to a subscriber with +.
    Plus,
    /// The same to a subscriber with #.
    Hash,
    /// Like `plus`, to topics that were not published to before, so that the tree is walked.
    Cold,
    /// Like `exact`, with QoS 1 both ways.
    Qos1,
    /// Like `exact`, with QoS 2 both ways.
    Qos2,
    /// One publish to 500 subscribers; an operation is a delivery.
    FanOut,
    /// Like `exact`, but the output is counted in bytes and not decoded: the engine alone.
    EngineExact,
    /// Like `engine-exact`, on one of two shards.
    EngineBeside,
    /// The same to a subscriber on the other shard: both engines, without the ring between them.
    EngineAcross,
    /// The same on two of 64 shards.
    #[value(name = "across-64")]
    Across64,
    /// As `engine-exact`, a message a step, on the only shard there is.
    #[value(name = "local-1")]
    Local1,
    /// The same on one of 64 shards, of which no other has an interest in the message.
    #[value(name = "local-64")]
    Local64,
    /// Codec and tree alone: takes a PUBLISH of QoS 0 out of the stream, decodes it, finds its filter, encodes it for the subscriber.
    Route,
    /// The same with topics that were not published to before.
    RouteCold,
    /// Finds the filter without wildcards of a topic that is not cached.
    TreeExact,
    /// The same for a filter with +.
    TreePlus,
    /// The same for a filter with #.
    TreeHash,
    /// Walks filters that branch for + as often as is allowed: `--filters` is the most nodes that a walk may visit.
    TreeBranches,
    /// Finds the filter of a topic that is cached.
    TreeHot,
    /// Appends a message of 80 bytes to an outbox, lends the gathered bytes and takes them back as sent.
    Outbox,
    /// The same with a payload of 4 KiB that is shared instead of copied.
    OutboxShared,
    /// The same to a peer that accepts every message in two pieces.
    OutboxPieces,
    /// Cancels a timer and sets it anew, among 100,000.
    TimerReset,
    /// One of 100,000 timers expires, after passing through all levels of the wheel, and is set again.
    TimerExpiry,
    /// PINGREQ of one of 10,000 clients, and its share of checking their keep alive.
    KeepAlive,
    /// CONNECT, SUBSCRIBE and DISCONNECT of a clean session.
    Connect,
    /// Packs messages of 100 bytes into blocks, pushes them through a lane and takes them out.
    Ring,
}

fn main() -> io::Result<()> {
    let Arguments { part, count, rounds, filters } = Arguments::parse();
    let mut work: Box<dyn FnMut()> = match part {
        Part::Decode => Box::new(parts::decode()),
        Part::Encode => Box::new(parts::encode()),
        Part::Exact => Box::new(parts::publish(filters, "device/7/state", 0)),
        Part::Plus => Box::new(parts::publish(filters, "device/+/state", 0)),
        Part::Hash => Box::new(parts::publish(filters, "device/#", 0)),
        Part::Cold => Box::new(parts::publish_cold(filters)),
        Part::Qos1 => Box::new(parts::publish(filters, "device/7/state", 1)),
        Part::Qos2 => Box::new(parts::publish(filters, "device/7/state", 2)),
        Part::FanOut => Box::new(parts::fan_out()),
        Part::EngineExact => Box::new(parts::publish_unread(filters)),
        Part::EngineBeside => Box::new(parts::publish_beside_a_shard(filters, 0)),
        Part::EngineAcross => Box::new(parts::publish_beside_a_shard(filters, 1)),
        Part::Across64 => Box::new(parts::publish_across_64()),
        Part::Local1 => Box::new(parts::publish_local(1)),
        Part::Local64 => Box::new(parts::publish_local(64)),
        Part::Route => Box::new(pieces::route(filters)),
        Part::RouteCold => Box::new(pieces::route_cold(filters)),
        Part::TreeExact => Box::new(pieces::tree(filters, 0)),
        Part::TreePlus => Box::new(pieces::tree(filters, 1)),
        Part::TreeHash => Box::new(pieces::tree(filters, 2)),
        Part::TreeBranches => Box::new(pieces::tree_branches(filters)),
        Part::TreeHot => Box::new(pieces::tree_hot(filters)),
        Part::Outbox => Box::new(pieces::outbox()),
        Part::OutboxShared => Box::new(pieces::outbox_shared()),
        Part::OutboxPieces => Box::new(pieces::outbox_pieces()),
        Part::TimerReset => Box::new(pieces::timer_reset()),
        Part::TimerExpiry => Box::new(pieces::timer_expiry()),
        Part::KeepAlive => Box::new(parts::keep_alive()),
        Part::Connect => Box::new(parts::connect()),
        Part::Ring => Box::new(parts::ring()),
    };
    // One-time allocations happen here.
    for _ in 0..parts::BURST * 4 {
        work();
    }
    if rounds == 0 {
        measured(&mut work, count.div_ceil(parts::BURST));
        return Ok(());
    }
    let mut each_ns: Vec<f64> = (0..rounds)
        .map(|_| {
            let start_ns = cpu_ns();
            measured(&mut work, count.div_ceil(parts::BURST));
            #[expect(clippy::cast_precision_loss, reason = "a figure to be read")]
            let each_ns = (cpu_ns() - start_ns) as f64 / count as f64;
            each_ns
        })
        .collect();
    each_ns.sort_by(f64::total_cmp);
    writeln!(io::stdout(), "{:.1} ns, at best {:.1} ns", each_ns[each_ns.len() / 2], each_ns[0])
}

/// The function that callgrind counts: collection starts at its entry and stops at its exit, so preparation costs
/// nothing.
#[inline(never)]
fn measured(work: &mut Box<dyn FnMut()>, calls: u64) {
    for _ in 0..calls {
        black_box(&mut *work)();
    }
}

/// CPU time of this thread in nanoseconds, without the time of other threads.
fn cpu_ns() -> u64 {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(spent.tv_sec * 1_000_000_000 + spent.tv_nsec).expect("it counts from the thread's start")
}
