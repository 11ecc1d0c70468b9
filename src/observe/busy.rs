//! The share of time that each shard's thread works, between two looks at its CPU time.
//! Invariant: a share is from 0 to 100. The first one covers the life of the thread, and one between two looks in quick
//! succession is the one before: the system counts CPU time in steps, so a short interval would tell nothing.

use std::time::Duration;

use crate::observe::statistics::ShardReport;

/// The shortest interval that a share is computed for.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The times of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadTimes {
    /// Time since its start.
    pub(crate) lived: Duration,
    /// CPU time since its start.
    pub(crate) worked: Duration,
}

/// The last look at each shard.
#[derive(Debug, Default)]
pub(crate) struct BusyMeter {
    shards: Vec<Look>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Look {
    times: ThreadTimes,
    percent: Option<u64>,
}

impl BusyMeter {
    /// The share of each shard in percent, rounded, in the order of the shards; `None` where the system reports no CPU time.
    pub(crate) fn percents(&mut self, shards: &[ShardReport]) -> Vec<Option<u64>> {
        self.shards.resize_with(shards.len(), Look::default);
        self.shards
            .iter_mut()
            .zip(shards)
            .map(|(last, report)| report.times.map(|times| last.next_percent(times)))
            .collect()
    }
}

impl Look {
    fn next_percent(&mut self, times: ThreadTimes) -> u64 {
        let interval = times.lived.saturating_sub(self.times.lived);
        if let Some(percent) = self.percent
            && interval < INTERVAL_MIN
        {
            return percent;
        }
        let percent = percent(times.worked.saturating_sub(self.times.worked), interval);
        *self = Self { times, percent: Some(percent) };
        percent
    }
}

/// `part` of `whole` in percent, rounded, at most 100.
fn percent(part: Duration, whole: Duration) -> u64 {
    let whole_us = whole.as_micros().max(1);
    let percent = (part.as_micros() * 100 + whole_us / 2) / whole_us;
    u64::try_from(percent).unwrap_or(u64::MAX).min(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::statistics::ShardTotals;

    /// The share that `meter` reports after a thread has lived and worked this long.
    fn look(meter: &mut BusyMeter, lived_ms: u64, worked_ms: u64) -> Option<u64> {
        let times =
            ThreadTimes { lived: Duration::from_millis(lived_ms), worked: Duration::from_millis(worked_ms) };
        let report = ShardReport { totals: ShardTotals::default(), times: Some(times) };
        meter.percents(&[report])[0]
    }

    #[test]
    fn a_share_of_time_is_a_rounded_percentage_of_at_most_100() {
        let check = |part, whole, expected| {
            assert_eq!(percent(Duration::from_millis(part), Duration::from_millis(whole)), expected);
        };
        check(0, 0, 0);
        check(5, 1_000, 1);
        check(4, 1_000, 0);
        check(1_000, 1_000, 100);
        check(1_001, 1_000, 100);
        check(12, 0, 100);
    }

    #[test]
    fn the_first_share_covers_the_life_of_the_thread_and_each_later_one_the_time_since_the_last() {
        let mut meter = BusyMeter::default();
        assert_eq!(look(&mut meter, 20, 5), Some(25));
        assert_eq!(look(&mut meter, 1_020, 505), Some(50));
        assert_eq!(look(&mut meter, 2_020, 505), Some(0));
    }

    #[test]
    fn two_looks_in_quick_succession_tell_the_same() {
        let mut meter = BusyMeter::default();
        assert_eq!(look(&mut meter, 1_000, 100), Some(10));
        assert_eq!(look(&mut meter, 1_001, 105), Some(10));
        // The short interval is part of the next one.
        assert_eq!(look(&mut meter, 1_200, 200), Some(50));
    }

    #[test]
    fn a_thread_without_cpu_time_has_no_share() {
        let report = ShardReport { totals: ShardTotals::default(), times: None };
        assert_eq!(BusyMeter::default().percents(&[report]), [None]);
    }
}
