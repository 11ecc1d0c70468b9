//! The stages of a shard whose times are counted, and the histogram of one: the times up to each power of two of 16 µs.
//!
//! Invariant: the shard alone writes its histograms, so no write is a locked one.

use std::array::from_fn;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets with a bound. Above the last of them times are counted together.
pub(crate) const BOUNDS: usize = 18;

/// The lowest bound in microseconds, as a power of two.
const LOWEST_POWER: u32 = 4;

/// A part of the way of a message or a client through a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A turn: everything that came is worked on, and everything that is due is sent.
    Turn,
    /// A PUBLISH, from the beginning of the turn that reads it to the end of the sends of that turn.
    PublishToFlush,
    /// A step of authentication, from its question to its verdict.
    Auth,
    /// The opening of TLS, WebSocket and the PROXY header, from accept to the first packet.
    Handshake,
    /// A record, from its turn until the disk has it as `durability` demands; one at a time is measured.
    Persist,
}

impl Stage {
    /// Every stage, in the order of their numbers.
    pub(crate) const ALL: [Self; 5] =
        [Self::Turn, Self::PublishToFlush, Self::Auth, Self::Handshake, Self::Persist];

    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::PublishToFlush => "publish_to_flush",
            Self::Auth => "auth",
            Self::Handshake => "handshake",
            Self::Persist => "persist",
        }
    }

    /// Its description, for metrics.
    #[cfg(feature = "admin")]
    pub(crate) const fn description(self) -> &'static str {
        match self {
            Self::Turn => "Duration of a turn of the shard.",
            Self::PublishToFlush => "Time from the turn that reads a PUBLISH to the end of its sends.",
            Self::Auth => "Time from a question about a client to the verdict.",
            Self::Handshake => "Time from accept until TLS, WebSocket and PROXY header are open.",
            Self::Persist => "Time until the disk has a record; one at a time is measured.",
        }
    }
}

/// The times of one stage. **Lives on:** one shard, which writes it.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// By bound, and above all of them.
    counts: [AtomicU64; BOUNDS + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts a time `count` times.
    pub(crate) fn observe(&self, time: Duration, count: u64) {
        let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let add = |value: &AtomicU64, more: u64| value.store(value.load(Relaxed).wrapping_add(more), Relaxed);
        add(&self.counts[bucket(time_us)], count);
        add(&self.sum_us, time_us.saturating_mul(count));
    }

    /// The times by bound, and above all of them.
    pub(crate) fn counts(&self) -> [u64; BOUNDS + 1] {
        from_fn(|at| self.counts[at].load(Relaxed))
    }

    /// What was counted so far.
    #[cfg(feature = "admin")]
    pub(crate) fn read(&self) -> Times {
        Times { counts: self.counts(), sum_us: self.sum_us.load(Relaxed) }
    }
}

/// The bounds of every histogram in microseconds.
pub(crate) fn bounds_us() -> impl Iterator<Item = u64> {
    (0..BOUNDS).map(|at| 1 << (LOWEST_POWER as usize + at))
}

/// The first bucket whose bound is not below the time.
fn bucket(time_us: u64) -> usize {
    let powers = u64::BITS - time_us.saturating_sub(1).leading_zeros();
    (powers.saturating_sub(LOWEST_POWER) as usize).min(BOUNDS)
}

/// The content of a histogram.
#[cfg(feature = "admin")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    counts: [u64; BOUNDS + 1],
    sum_us: u64,
}

#[cfg(feature = "admin")]
impl Times {
    /// Times so far.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum in seconds.
    pub(crate) fn sum_s(&self) -> f64 {
        Duration::from_micros(self.sum_us).as_secs_f64()
    }

    /// Each bound in seconds, with the times that are not above it.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = bounds_us().map(|bound_us| Duration::from_micros(bound_us).as_secs_f64());
        let mut so_far = 0;
        bounds.zip(self.counts.into_iter().take(BOUNDS)).map(move |(bound_s, count)| {
            so_far += count;
            (bound_s, so_far)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_below_the_first_bound_that_it_does_not_exceed() {
        for (time_us, expected) in [
            (0, 0),
            (1, 0),
            (16, 0),
            (17, 1),
            (32, 1),
            (33, 2),
            (1 << 21, 17),
            ((1 << 21) + 1, 18),
            (u64::MAX, 18),
        ] {
            assert_eq!(bucket(time_us), expected, "{time_us}");
        }
    }

    #[test]
    #[cfg(feature = "admin")]
    fn buckets_add_up() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(20), 3);
        histogram.observe(Duration::from_micros(40), 1);
        histogram.observe(Duration::from_secs(100), 1);
        let times = histogram.read();
        let cumulative: Vec<_> = times.cumulative().collect();
        assert_eq!(&cumulative[..3], [(0.000_016, 0), (0.000_032, 3), (0.000_064, 4)]);
        assert_eq!((cumulative.len(), cumulative[17], times.count()), (18, (2.097_152, 4), 5));
        assert!((times.sum_s() - 100.000_1).abs() < 1e-9);
    }
}
