//! Time as the engine sees it: milliseconds since an origin that the host chose.
//!
//! Invariant: the host reads the clock and passes the moment as an argument, so a run with the same inputs is the same run.

/// A moment, in milliseconds since the host's origin. It never goes backwards between two calls.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Instant {
    ms: u64,
}

impl Instant {
    /// The moment that lies `ms` milliseconds after the host's origin.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self { ms }
    }

    /// Milliseconds since the host's origin.
    #[must_use]
    pub const fn as_ms(self) -> u64 {
        self.ms
    }

    /// This moment plus `ms` milliseconds; the last representable moment if that overflows.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self { ms: self.ms.saturating_add(ms) }
    }

    /// This moment plus `seconds`.
    #[must_use]
    pub const fn plus_s(self, seconds: u32) -> Self {
        self.plus_ms(seconds as u64 * 1000)
    }

    /// Milliseconds from this moment until `later`; zero if that has passed.
    #[must_use]
    pub const fn ms_until(self, later: Self) -> u64 {
        later.ms.saturating_sub(self.ms)
    }

    /// Whole seconds from this moment until `later`, rounded up, at most `u32::MAX`.
    #[must_use]
    pub fn seconds_until(self, later: Self) -> u32 {
        u32::try_from(self.ms_until(later).div_ceil(1000)).unwrap_or(u32::MAX)
    }
}
