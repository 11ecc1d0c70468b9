//! Deadlines: the one place of the suites that reads a clock.
//! Knows nothing of what is waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a test waits for something that must happen; only a failing test ever waits this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

static PEER_PATIENCE_MS: AtomicU64 = AtomicU64::new(PATIENCE.as_secs() * 1000);

/// How long a peer waits: `PATIENCE`, unless what it talks to is known to be wrong.
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

    /// What is left, or `None` once the deadline has passed.
    pub(crate) fn remaining(self) -> Option<Duration> {
        self.0.checked_duration_since(now()).filter(|left| !left.is_zero())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a judge outside the broker has to read a clock somewhere: here"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}
