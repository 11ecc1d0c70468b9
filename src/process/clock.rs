//! The only module that reads a clock, so that time is an argument everywhere else. It reads monotonic time: shards
//! need durations only, and the log formats its own time.

use std::time::{Duration, Instant};

/// Monotonic time since the start of the process, in the units of the engines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose origin is now.
    pub(crate) fn start() -> Self {
        Self { origin: read() }
    }

    /// The current time of the engine.
    pub(crate) fn now(self) -> engine::Instant {
        let elapsed = read().duration_since(self.origin);
        engine::Instant::from_ms(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// The system time of an engine's moment; a moment that the system cannot represent becomes one in a year.
    pub(crate) fn system(self, moment: engine::Instant) -> Instant {
        const YEAR: Duration = Duration::from_hours(24 * 365);
        self.origin.checked_add(Duration::from_millis(moment.as_ms())).unwrap_or_else(|| read() + YEAR)
    }
}

/// The system's monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the only place that reads the clock")]
pub(crate) fn read() -> Instant {
    Instant::now()
}
