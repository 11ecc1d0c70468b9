//! A load generator: measures what a broker delivers, loses, repeats or reorders, its latency, and its CPU time and
//! memory. One thread, except for the connection storm. It uses MQTT on a loopback address and reads `/proc` of a
//! process, so it works with any broker.

mod client;
mod clock;
#[cfg(test)]
mod faulty_broker;
mod ledger;
mod placing;
mod plan;
mod process;
mod report;
mod run;
mod storms;
#[cfg(test)]
mod tests;
mod transport;
mod websocket;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use wire::{ProtocolVersion, QoS};

use client::Identity;
use clock::now;
use ledger::Totals;
use placing::Placing;
use plan::{Plan, Scenario};
use process::Usage;
use report::Report;
use run::{Pace, Run, Way};
use transport::Trust;

/// Runs one scenario against a broker and prints deliveries and cost.
#[derive(Clone, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct Arguments {
    /// Address of the broker; a loopback address.
    #[arg(long, default_value = "127.0.0.1:1883")]
    broker: SocketAddr,
    /// Process to measure, with all its threads.
    #[arg(long)]
    pid: Option<u32>,
    #[arg(long, value_enum, default_value_t = Scenario::Pairs)]
    scenario: Scenario,
    /// Number of clients; its meaning depends on the scenario.
    #[arg(long, default_value_t = 50)]
    count: usize,
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Closed loop: messages of each stream in flight.
    #[arg(long, default_value_t = 64)]
    window: u64,
    /// Open loop instead: messages per second over all streams. Latency counts from the time each message was due.
    #[arg(long)]
    rate: Option<u64>,
    /// With `--rate`: messages that are due within this time leave together, in microseconds. Latency still counts from when each was due.
    #[arg(long, default_value_t = 0)]
    tick_us: u64,
    #[arg(long, default_value_t = 64)]
    payload_bytes: usize,
    /// Keep alive of every client, for brokers that require one. No PINGREQ is sent, so it must be longer than a run.
    #[arg(long, default_value_t = 0)]
    keep_alive_s: u16,
    /// Connect by WebSocket, at the path `/mqtt`. Each message of the load is a frame.
    #[arg(long)]
    websocket: bool,
    /// Use TLS 1.3, and trust the certificate in this file.
    #[arg(long)]
    tls: Option<PathBuf>,
    /// Subscribers have sessions that outlive their connections, and `--window` counts messages that are not acknowledged. For QoS 1 and 2
    /// of `pairs`, `fan_in` and `mixed`, whose clients publish one stream each.
    #[arg(long)]
    lasting: bool,
    /// Use 5.0 instead of 3.1.1.
    #[arg(long)]
    v5: bool,
    /// Seconds measured.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Seconds before that, not measured.
    #[arg(long, default_value_t = 1)]
    warm_up: u64,
    /// `pairs`: chooses client identifiers by the shard that our broker reports, so that both ends are on one shard or on
    /// two.
    #[arg(long, value_enum)]
    shards: Option<Placing>,
    /// Rounds of `idle`.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Messages for each session of `persistent`.
    #[arg(long, default_value_t = 100)]
    messages: u64,
    /// Core to run on.
    #[arg(long)]
    core: Option<usize>,
    /// Print one line of JSON instead of the table.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(id) = arguments.core {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    match measure(&arguments).and_then(|report| report.print(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> io::Result<Report> {
    if arguments.tls.is_some() && (arguments.scenario == Scenario::Churn || arguments.shards.is_some()) {
        return Err(io::Error::other("churn and --shards are without TLS"));
    }
    let has_one_stream = matches!(arguments.scenario, Scenario::Pairs | Scenario::FanIn | Scenario::Mixed);
    if arguments.lasting && (arguments.qos == 0 || !has_one_stream) {
        return Err(io::Error::other("--lasting is for QoS 1 and 2 of pairs, fan_in and mixed"));
    }
    // Every client refers to it until the end of the process.
    let tls = match &arguments.tls {
        Some(file) => Some(&*Box::leak(Box::new(Trust::read(file)?))),
        None => None,
    };
    let way = Way {
        broker: arguments.broker,
        version: if arguments.v5 { ProtocolVersion::V5 } else { ProtocolVersion::V3_1_1 },
        payload_bytes: arguments.payload_bytes,
        keep_alive_s: arguments.keep_alive_s,
        websocket: arguments.websocket,
        tls,
        lasting: arguments.lasting,
    };
    match arguments.scenario {
        Scenario::Churn => churn(arguments, way),
        Scenario::Idle => idle(arguments, way),
        Scenario::Retained => retained(arguments, way),
        Scenario::Persistent => persistent(arguments, way),
        Scenario::Pairs
        | Scenario::FanOut
        | Scenario::FanIn
        | Scenario::Shared
        | Scenario::Wildcards
        | Scenario::Mixed
        | Scenario::SlowReader => steady(arguments, way),
    }
}

fn steady(arguments: &Arguments, way: Way) -> io::Result<Report> {
    let qos = QoS::from_bits(arguments.qos).expect("checked by the arguments");
    let mut plan = Plan::new(arguments.scenario, arguments.count, qos);
    if let Some(placing) = arguments.shards {
        if arguments.scenario != Scenario::Pairs {
            return Err(io::Error::other("--shards is for pairs"));
        }
        // Only 5.0 has a property for the shard; the load itself uses the requested version.
        placing::place(&mut plan, placing, |name| {
            client::shard_of(&Identity {
                broker: way.broker,
                version: ProtocolVersion::V5,
                name,
                number: 0,
                expiry_s: 0,
                clean_start: true,
                keep_alive_s: way.keep_alive_s,
                websocket: false,
                tls: None,
            })
        })?;
    }
    let pace = match arguments.rate {
        Some(per_s) => Pace::Rate { per_s, tick_ns: arguments.tick_us * 1_000 },
        None => Pace::Window(arguments.window),
    };
    let mut run = Run::connect(&plan, way, pace)?;
    progress(arguments, &format!("{} clients connected", plan.clients.len()));
    run.publish_until(now() + Duration::from_secs(arguments.warm_up))?;
    run.measure();
    let (before, used, start) = (run.totals(), usage(arguments)?, now());
    let own = Usage::of(std::process::id())?;
    for second in 1..=arguments.seconds {
        let so_far = run.totals().delivered;
        run.publish_until(start + Duration::from_secs(second))?;
        progress(arguments, &format!("{second} s: {} messages/s", run.totals().delivered - so_far));
    }
    let (after, elapsed) = (run.totals(), start.elapsed());
    let usage = usage(arguments)?.since(&used);
    let generator = Usage::of(std::process::id())?.since(&own);
    let latency_us = run.latency_us().clone();
    let acknowledged_us = run.acknowledged_us().cloned();
    // Messages in flight may arrive before they are counted as lost.
    run.settle_until(now() + Duration::from_secs(5))?;
    let mut report = Report::new(after.delivered - before.delivered, elapsed, usage, run.totals());
    report.generator_cpu_ns = Some(generator.cpu_ns);
    report.latency_us = Some(latency_us);
    report.acknowledged_us = acknowledged_us;
    report.receivers_mean = plan.receivers_mean();
    Ok(report)
}

fn churn(arguments: &Arguments, way: Way) -> io::Result<Report> {
    storms::churn(way, arguments.count, now() + Duration::from_secs(arguments.warm_up))?;
    let (used, start) = (usage(arguments)?, now());
    let cycles = storms::churn(way, arguments.count, start + Duration::from_secs(arguments.seconds))?;
    let elapsed = start.elapsed();
    Ok(Report::new(cycles, elapsed, usage(arguments)?.since(&used), Totals::default()))
}

fn idle(arguments: &Arguments, way: Way) -> io::Result<Report> {
    let pid = arguments.pid.ok_or_else(|| io::Error::other("idle is about the memory of --pid"))?;
    let (used, start) = (usage(arguments)?, now());
    let (held, left) = storms::idle(way, arguments.count, arguments.rounds, pid)?;
    let mut report = Report::new(0, start.elapsed(), usage(arguments)?.since(&used), Totals::default());
    report.bytes_per_connection = held;
    report.bytes_left_per_connection = left;
    Ok(report)
}

fn retained(arguments: &Arguments, way: Way) -> io::Result<Report> {
    let mut begun = None;
    let totals = storms::retained(way, arguments.count, || {
        let start = now();
        begun = Some((usage(arguments)?, start));
        Ok(start + Duration::from_secs(arguments.seconds))
    })?;
    let (used, start) = begun.expect("set before anything was fetched");
    Ok(Report::new(totals.delivered, start.elapsed(), usage(arguments)?.since(&used), totals))
}

fn persistent(arguments: &Arguments, way: Way) -> io::Result<Report> {
    let mut begun = None;
    let totals = storms::persistent(way, arguments.count, arguments.messages, || {
        begun = Some((usage(arguments)?, now()));
        Ok(())
    })?;
    let (used, start) = begun.expect("set before anything was published");
    Ok(Report::new(totals.delivered, start.elapsed(), usage(arguments)?.since(&used), totals))
}

fn usage(arguments: &Arguments) -> io::Result<Usage> {
    arguments.pid.map_or_else(|| Ok(Usage::default()), Usage::of)
}

fn progress(arguments: &Arguments, text: &str) {
    if !arguments.json {
        eprintln!("{text}");
    }
}
