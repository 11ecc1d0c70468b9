//! CPU time and memory of the broker's process, read from `/proc`.

use std::fs;
use std::time::Duration;

pub(crate) use crate::harness::machine::resident_bytes;

/// CPU time of all threads that live.
pub(crate) fn cpu_time(process: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("a running process has threads");
    let times = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
    let sum = times.filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).sum();
    Duration::from_nanos(sum)
}

/// Bytes as MiB.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A duration as milliseconds.
pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
