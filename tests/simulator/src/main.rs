//! Plays the requested number of seeds on several threads, and reports the seeds that violated a guarantee.

use std::cell::Cell;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::SHARDS_MAX;
use simulator::{Failure, Report, run, run_on_shards, run_with_crashes};

const USAGE: &str =
    "usage: simulate [--seeds N] [--from SEED | --random N] [--shards-max N | --crashes N] [--threads N] [--failures-max N]
--random N: N seeds from one that is drawn anew each time
--shards-max N: 1 to N shards, N up to 64; without it the number that a seed stands for in the tests
--failures-max N: stop after so many failures
--crashes N: N shards with logs, on disks that are late and fail; the broker crashes";

thread_local! {
    /// The seed that this thread plays.
    static SEED: Cell<u64> = const { Cell::new(0) };
}

struct Arguments {
    seeds: u64,
    from: u64,
    threads: u64,
    failures_max: u64,
    shards_max: Option<u16>,
    /// Shards of a broker that crashes.
    crashes: Option<u16>,
}

impl Arguments {
    fn play(&self, seed: u64) -> Result<Report, Box<Failure>> {
        match (self.crashes, self.shards_max) {
            (Some(count), _) => run_with_crashes(seed, count),
            (None, Some(max)) => run_on_shards(seed, max),
            (None, None) => run(seed),
        }
    }
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    // If panics abort, an assertion of the engine ends the process, and this is its last output.
    let previous_hook = std::panic::take_hook();
    let shards = match (arguments.crashes, arguments.shards_max) {
        (Some(count), _) => format!(" --crashes {count}"),
        (None, Some(max)) => format!(" --shards-max {max}"),
        (None, None) => String::new(),
    };
    let same_shards = shards.clone();
    std::panic::set_hook(Box::new(move |panic| {
        previous_hook(panic);
        let seed = SEED.get();
        eprintln!(
            "SEED={seed:#x}: an assertion of the engine failed: simulate --seeds 1 --from {seed:#x}{same_shards}"
        );
    }));
    let (next, failed, digest) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= arguments.seeds || failed.load(Ordering::Relaxed) >= arguments.failures_max {
                        return;
                    }
                    let seed = arguments.from.wrapping_add(at);
                    SEED.set(seed);
                    match arguments.play(seed) {
                        Ok(report) => {
                            digest.fetch_xor(report.digest.rotate_left(7), Ordering::Relaxed);
                        }
                        Err(failure) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            eprintln!("{failure}\nsimulate --seeds 1 --from {seed:#x}{shards}\n");
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    let (from, seeds) = (arguments.from, arguments.seeds);
    let written = writeln!(
        std::io::stdout(),
        "{seeds} seeds from {from:#x}: {failed} failed, digest {:#018x}",
        digest.into_inner()
    );
    if failed == 0 && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn arguments() -> Option<Arguments> {
    let mut parsed = Arguments {
        seeds: 1_000,
        from: 0,
        threads: 2,
        failures_max: u64::MAX,
        shards_max: None,
        crashes: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = number(&words.next()?)?;
        match word.as_str() {
            "--seeds" => parsed.seeds = value,
            "--from" => parsed.from = value,
            "--random" => (parsed.seeds, parsed.from) = (value, RandomState::new().build_hasher().finish()),
            "--shards-max" => parsed.shards_max = Some(shards(value)?),
            "--crashes" => parsed.crashes = Some(shards(value)?),
            "--threads" => parsed.threads = value,
            "--failures-max" => parsed.failures_max = value,
            _ => return None,
        }
    }
    Some(parsed)
}

fn shards(value: u64) -> Option<u16> {
    u16::try_from(value).ok().filter(|count| (1..=SHARDS_MAX).contains(count))
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
