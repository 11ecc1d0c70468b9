//! Hard days: scenarios that attack a release build of the broker and measure it. Each returns figures with limits, and a
//! figure beyond its limit in three attempts fails.
//!
//! `tests/overload/run [--full] [NAME…]` builds the broker and runs the scenarios, or the named ones. The short form is for CI,
//! `--full` for the figures in `bench/results/overload.md`. Without the path of a release build in `MQTT_BROKER_BINARY` nothing
//! runs, because a debug build's times say nothing.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "memory and CPU time are read from /proc"))]

#[path = "../harness/mod.rs"]
mod harness;

mod cores;
mod figure;
mod filters;
mod logins;
mod memory;
mod meter;
mod neighbour;
mod pauses;
mod readers;
mod shedding;
mod steps;
mod storm;
mod strangers;

use std::process::ExitCode;

use figure::{Figure, print_table};
use harness::time::now;

/// How much of a scenario is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scale {
    /// Seconds: in CI.
    Short,
    /// As in the reports that the scenario is made from.
    Full,
}

impl Scale {
    /// One of two values.
    fn pick<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full => full,
        }
    }
}

/// Attempts at a scenario. Machines that others use too are slow for a second now and then; a fault of the broker is there each time.
const ATTEMPTS: u32 = 3;

struct Scenario {
    name: &'static str,
    /// The claim that its figures judge, in one sentence.
    claim: &'static str,
    run: fn(Scale) -> Vec<Figure>,
}

/// Every scenario. Those of one section share a file.
const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "steps",
        claim: "no step of the engine takes more than a millisecond of CPU time",
        run: steps::steps,
    },
    Scenario {
        name: "stalled_readers",
        claim: "readers that never read do not slow their neighbours",
        run: readers::stalled_readers,
    },
    Scenario {
        name: "stopped_process",
        claim: "a broker that stood still closes no client that sent in time",
        run: pauses::stopped_process,
    },
    Scenario {
        name: "hostile_filters",
        claim: "filters that branch at every level neither stall a shard nor slow their neighbours",
        run: filters::hostile_filters,
    },
    Scenario {
        name: "deep_filters",
        claim: "a filter of many levels takes little memory",
        run: filters::deep_filters,
    },
    Scenario {
        name: "stalled_sockets",
        claim: "the kernel holds less than 512 KiB for a reader that never reads",
        run: readers::stalled_sockets,
    },
    Scenario {
        name: "given_back",
        claim: "the memory of readers that have left goes back to the system",
        run: readers::given_back,
    },
    Scenario {
        name: "unfinished_connects",
        claim: "peers that are not connected yet hold little, one by one and together",
        run: strangers::unfinished_connects,
    },
    Scenario {
        name: "aliases",
        claim: "topic aliases of a connection are bounded by their bytes",
        run: strangers::aliases,
    },
    Scenario {
        name: "counted_memory",
        claim: "the bytes that are counted are those that the process takes, within a quarter",
        run: memory::counted_memory,
    },
    Scenario {
        name: "held_ceiling",
        claim: "a ceiling on memory holds, within a quarter",
        run: memory::held_ceiling,
    },
    Scenario {
        name: "shed_readers",
        claim: "readers that never read lose their messages before anybody else is refused",
        run: shedding::shed_readers,
    },
    Scenario {
        name: "full_store",
        claim: "a full store of retained messages is no outage",
        run: shedding::full_store,
    },
    Scenario {
        name: "connection_storm",
        claim: "ten thousand connections a second and their log do not slow their neighbours",
        run: storm::connection_storm,
    },
    Scenario {
        name: "handshake_storm",
        claim: "handshakes of TLS, all at once, do not slow who is connected",
        run: logins::handshake_storm,
    },
    Scenario {
        name: "device_logins",
        claim: "keys of devices, all at once, do not slow who is connected",
        run: logins::device_logins,
    },
    Scenario {
        name: "remembered_logins",
        claim: "passwords that are remembered, all at once, do not slow who is connected",
        run: logins::remembered_logins,
    },
    Scenario {
        name: "fresh_logins",
        claim: "passwords that cost argon2, all at once, do not slow who is connected",
        run: logins::fresh_logins,
    },
];

#[expect(clippy::print_stdout, reason = "the tables are the result")]
fn main() -> ExitCode {
    if cfg!(not(target_os = "linux")) || std::env::var_os("MQTT_BROKER_BINARY").is_none() {
        println!(
            "overload: nothing was run; tests/overload/run builds a release and runs {} scenarios",
            SCENARIOS.len()
        );
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let scale =
        if arguments.iter().any(|argument| argument == "--full") { Scale::Full } else { Scale::Short };
    let names: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|name| !name.starts_with("--")).collect();
    if let Some(unknown) = names.iter().find(|name| SCENARIOS.iter().all(|scenario| scenario.name != **name))
    {
        let known: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        eprintln!("there is no scenario {unknown}; there are: {}", known.join(", "));
        return ExitCode::from(2);
    }
    let mut failed = Vec::new();
    for scenario in SCENARIOS.iter().filter(|scenario| names.is_empty() || names.contains(&scenario.name)) {
        if !(1..=ATTEMPTS).any(|attempt| is_within(scenario, scale, attempt)) {
            failed.push(scenario.name);
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("\noverload: beyond a limit in each of {ATTEMPTS} attempts: {}", failed.join(", "));
    ExitCode::FAILURE
}

/// Runs a scenario and prints its table; false if a figure is beyond its limit or the scenario panicked.
#[expect(clippy::print_stdout, reason = "the tables are the result")]
fn is_within(scenario: &Scenario, scale: Scale, attempt: u32) -> bool {
    let start = now();
    let figures = std::panic::catch_unwind(|| (scenario.run)(scale));
    let seconds = (now() - start).as_secs_f64();
    println!("\n### {}: {} ({seconds:.1} s, attempt {attempt})\n", scenario.name, scenario.claim);
    let Ok(figures) = figures else {
        println!("FAILED: the scenario panicked; its reason stands above");
        return false;
    };
    print_table(&figures);
    figures.iter().all(Figure::is_within)
}
