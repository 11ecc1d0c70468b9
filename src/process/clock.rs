//! The one place that reads a clock.
//! Knows no calendar: shards need durations, and the log writes its own time.

use std::time::{Duration, Instant};

/// Monotonic time since the process started, as the engines see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose origin is now.
    pub(crate) fn start() -> Self {
        Self { origin: read() }
    }

    /// Now, for the engine.
    pub(crate) fn now(self) -> engine::Instant {
        let elapsed = read().duration_since(self.origin);
        engine::Instant::from_ms(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// The moment of the engine as the system's; a moment too far away becomes one in a year.
    pub(crate) fn system(self, moment: engine::Instant) -> Instant {
        const YEAR: Duration = Duration::from_hours(24 * 365);
        self.origin.checked_add(Duration::from_millis(moment.as_ms())).unwrap_or_else(|| read() + YEAR)
    }
}

/// The system's monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(crate) fn read() -> Instant {
    Instant::now()
}
