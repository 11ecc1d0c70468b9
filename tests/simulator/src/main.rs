//! Plays the requested number of seeds on several threads, and reports the seeds that violated a guarantee.

use std::cell::Cell;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use simulator::run;

const USAGE: &str = "usage: simulate [--seeds N] [--from SEED] [--threads N]";

thread_local! {
    /// The seed that this thread plays.
    static SEED: Cell<u64> = const { Cell::new(0) };
}

struct Arguments {
    seeds: u64,
    from: u64,
    threads: u64,
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    // If panics abort, an assertion of the engine ends the process, and this is its last output.
    let previous_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        previous_hook(panic);
        eprintln!("SEED={:#x}: an assertion of the engine failed", SEED.get());
    }));
    let (next, failed, digest) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= arguments.seeds {
                        return;
                    }
                    let seed = arguments.from.wrapping_add(at);
                    SEED.set(seed);
                    match run(seed) {
                        Ok(report) => {
                            digest.fetch_xor(report.digest.rotate_left(7), Ordering::Relaxed);
                        }
                        Err(failure) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            eprintln!("{failure}\n");
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    let (from, seeds) = (arguments.from, arguments.seeds);
    let told = writeln!(
        std::io::stdout(),
        "{seeds} seeds from {from:#x}: {failed} failed, digest {:#018x}",
        digest.into_inner()
    );
    if failed == 0 && told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn arguments() -> Option<Arguments> {
    let mut parsed = Arguments { seeds: 1_000, from: 0, threads: 2 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let slot = match word.as_str() {
            "--seeds" => &mut parsed.seeds,
            "--from" => &mut parsed.from,
            "--threads" => &mut parsed.threads,
            _ => return None,
        };
        *slot = number(&words.next()?)?;
    }
    Some(parsed)
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
