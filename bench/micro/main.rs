//! Micro benches: one part of the broker, no I/O, the same work over and over. Prints nanoseconds for each operation; under
//! callgrind, `bench/micro/run` counts instructions, which do not depend on what else the machine does.
//! Knows no figure to compare with; `run` does.

mod host;
mod parts;

use std::hint::black_box;
use std::io::{self, Write as _};
use std::time::Instant;

use clap::{Parser, ValueEnum};

/// Does one kind of work `count` times.
#[derive(Parser)]
struct Arguments {
    #[arg(value_enum)]
    part: Part,
    /// Operations.
    #[arg(long, default_value_t = 200_000)]
    count: u64,
    /// Filters in the tree.
    #[arg(long, default_value_t = 1_000)]
    filters: u32,
}

/// What is done.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    /// Decodes a PUBLISH of 64 bytes.
    Decode,
    /// Encodes one.
    Encode,
    /// Routes a PUBLISH of QoS 0 through codec and tree to one subscriber without wildcards, and takes it out of the outbox.
    Exact,
    /// The same to a subscriber with +.
    Plus,
    /// The same to a subscriber with #.
    Hash,
    /// As `plus`, to topics that were not published to before, so that the tree is walked.
    Cold,
    /// As `exact`, with QoS 1 both ways.
    Qos1,
    /// As `exact`, with QoS 2 both ways.
    Qos2,
    /// One publish to 500 subscribers; an operation is a delivery.
    FanOut,
    /// CONNECT, SUBSCRIBE and DISCONNECT of a clean session.
    Connect,
    /// Packs messages of 100 bytes into blocks, pushes them through a lane and takes them out.
    Ring,
}

fn main() -> io::Result<()> {
    let Arguments { part, count, filters } = Arguments::parse();
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
        Part::Connect => Box::new(parts::connect()),
        Part::Ring => Box::new(parts::ring()),
    };
    // Whatever is allocated once is allocated here.
    for _ in 0..parts::BURST * 4 {
        work();
    }
    let start = now();
    for _ in 0..count.div_ceil(parts::BURST) {
        black_box(&mut work)();
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure to be read")]
    let each_ns = start.elapsed().as_nanos() as f64 / count as f64;
    writeln!(io::stdout(), "{part:?}: {each_ns:.1} ns")
}

#[expect(clippy::disallowed_methods, reason = "a bench is about real time")]
fn now() -> Instant {
    Instant::now()
}
