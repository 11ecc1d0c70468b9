//! Deadlines. This is the only module of the suites that reads a clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a test waits for something that must happen. Only a failing test waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

static PEER_PATIENCE_MS: AtomicU64 = AtomicU64::new(PATIENCE.as_secs() * 1000);

/// How long a peer waits: `PATIENCE`, unless the broker under test is known to be faulty.
pub(crate) fn patience() -> Duration {
    Duration::from_millis(PEER_PATIENCE_MS.load(Ordering::Relaxed))
}

pub(crate) fn set_patience(patience: Duration) {
    let milliseconds = u64::try_from(patience.as_millis()).expect("a test does not wait for ages");
    PEER_PATIENCE_MS.store(milliseconds, Ordering::Relaxed);
}

/// A point in time after which waiting is a failure.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(duration: Duration) -> Self {
        Self(now() + duration)
    }

    /// The remaining time, or `None` after the deadline.
    pub(crate) fn remaining(self) -> Option<Duration> {
        self.0.checked_duration_since(now()).filter(|left| !left.is_zero())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test outside the broker needs a clock, and this is the only place that reads it"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The clock of the system that never goes back, in nanoseconds: the same one in every process.
pub(crate) fn monotonic_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let [seconds, nanoseconds] =
        [time.tv_sec, time.tv_nsec].map(|part| u64::try_from(part).expect("it is positive"));
    seconds * 1_000_000_000 + nanoseconds
}

/// The wall clock, in seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "tokens name the moment of their end")]
pub(crate) fn unix_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_secs()).expect("the clock is before the end of time")
}
