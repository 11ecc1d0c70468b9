//! A small closed-loop load generator: every publisher keeps a window of messages on their way, and the broker's CPU time
//! for each delivered message is what is measured. One thread; it must stay several times cheaper than the broker.
//! Knows no broker in particular: it speaks MQTT to an address, and reads `/proc` of a process.

mod cpu;
mod scenario;
mod session;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;

use crate::scenario::{Load, Scenario, Totals};

/// Runs one scenario against a broker and prints what arrived and what it cost.
#[derive(Parser)]
struct Arguments {
    /// Where the broker listens.
    #[arg(long, default_value = "127.0.0.1:1883")]
    broker: SocketAddr,
    /// Process to charge, and all its threads.
    #[arg(long)]
    pid: Option<u32>,
    #[arg(long, value_enum, default_value_t = Scenario::Pairs)]
    scenario: Scenario,
    /// Publishers of `pairs` and `fan_in`, subscribers of `fan_out`.
    #[arg(long, default_value_t = 50)]
    count: usize,
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Messages each publisher keeps on their way.
    #[arg(long, default_value_t = 64)]
    window: usize,
    #[arg(long, default_value_t = 64)]
    payload_bytes: usize,
    /// Speak 5.0 instead of 3.1.1.
    #[arg(long)]
    v5: bool,
    /// Seconds measured, after one to warm up.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Core to stay on.
    #[arg(long)]
    core: Option<usize>,
    /// One line of JSON instead of the table.
    #[arg(long)]
    json: bool,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    if let Some(id) = arguments.core {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    let mut load = Load::connect(&scenario::Plan {
        broker: arguments.broker,
        scenario: arguments.scenario,
        count: arguments.count,
        qos: arguments.qos,
        window: arguments.window,
        payload_bytes: arguments.payload_bytes,
        v5: arguments.v5,
    })?;
    load.run_until(now() + Duration::from_secs(1), true)?;
    let (before, before_cpu) = (load.totals(), cpu_ns(arguments.pid)?);
    let start = now();
    load.run_until(start + Duration::from_secs(arguments.seconds), true)?;
    let (after, after_cpu) = (load.totals(), cpu_ns(arguments.pid)?);
    let elapsed = start.elapsed();
    // What is on its way may arrive before it is called lost.
    load.run_until(now() + Duration::from_secs(2), false)?;
    tell(&arguments, after.delivered - before.delivered, after_cpu - before_cpu, elapsed, load.totals())
}

#[expect(clippy::cast_precision_loss, reason = "figures to be read, far below 2^52")]
fn tell(
    arguments: &Arguments,
    delivered: u64,
    cpu_ns: u64,
    elapsed: Duration,
    end: Totals,
) -> io::Result<()> {
    let per_message_us = |ns: u64| ns as f64 / 1_000.0 / delivered.max(1) as f64;
    let rate = delivered as f64 / elapsed.as_secs_f64();
    let mut output = io::stdout().lock();
    if arguments.json {
        let line = json!({
            "scenario": format!("{:?}", arguments.scenario),
            "count": arguments.count,
            "qos": arguments.qos,
            "window": arguments.window,
            "payload_bytes": arguments.payload_bytes,
            "v5": arguments.v5,
            "delivered": delivered,
            "messages_per_s": rate.round(),
            "broker_cpu_us_per_message": per_message_us(cpu_ns),
            "lost": end.lost(),
            "duplicated": end.duplicated,
            "reordered": end.reordered,
        });
        return writeln!(output, "{line}");
    }
    writeln!(output, "delivered      {delivered} in {:.1} s, {rate:.0} messages/s", elapsed.as_secs_f64())?;
    writeln!(output, "broker CPU     {:.2} µs a message", per_message_us(cpu_ns))?;
    writeln!(output, "lost {}, duplicated {}, reordered {}", end.lost(), end.duplicated, end.reordered)
}

fn cpu_ns(pid: Option<u32>) -> io::Result<u64> {
    pid.map_or(Ok(0), cpu::spent_ns)
}

#[expect(clippy::disallowed_methods, reason = "a load generator is about real time")]
fn now() -> Instant {
    Instant::now()
}
