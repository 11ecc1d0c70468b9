//! The budget of one kind of log lines: a burst at once, then so many each second, and a count of the lines that were held
//! back. Time is an argument.
//! Invariant: every line is admitted, or counted and later told; `due` tells it once a minute at least.

/// Milliseconds after the last suppressed line at which a storm is over.
const QUIET_MS: u64 = 1_000;

/// Milliseconds between two counts of a storm that goes on.
const TOLD_EVERY_MS: u64 = 60_000;

/// A token bucket, kept as the time at which it would be full again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LineBudget {
    /// The time at which all tokens are back.
    full_at_ms: u64,
    suppressed: u64,
    suppressed_last_ms: u64,
    /// Time of the first suppressed line that was not told, or of the last count.
    since_ms: u64,
}

impl LineBudget {
    /// Whether one more line may be written: `burst` at once, and one each `interval_ms`. Otherwise it is counted.
    pub(crate) fn admit(&mut self, now_ms: u64, burst: u64, interval_ms: u64) -> bool {
        let full_at_ms = self.full_at_ms.max(now_ms) + interval_ms;
        if full_at_ms - now_ms <= burst * interval_ms {
            self.full_at_ms = full_at_ms;
            return true;
        }
        if self.suppressed == 0 {
            self.since_ms = now_ms;
        }
        self.suppressed += 1;
        self.suppressed_last_ms = now_ms;
        false
    }

    /// The number of lines that were held back and not told yet, once no more are held back, or a minute has passed.
    pub(crate) fn due(&mut self, now_ms: u64) -> Option<u64> {
        let is_over = now_ms.saturating_sub(self.suppressed_last_ms) >= QUIET_MS;
        let is_long = now_ms.saturating_sub(self.since_ms) >= TOLD_EVERY_MS;
        if self.suppressed == 0 || !(is_over || is_long) {
            return None;
        }
        self.since_ms = now_ms;
        Some(std::mem::take(&mut self.suppressed))
    }

    /// The number of lines that were held back and not told yet, at the end.
    pub(crate) fn rest(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.suppressed)).filter(|suppressed| *suppressed > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(budget: &mut LineBudget, now_ms: u64, lines: u64) -> u64 {
        (0..lines).map(|_| u64::from(budget.admit(now_ms, 10, 50))).sum()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut budget = LineBudget::default();
        assert_eq!(admitted(&mut budget, 1_000, 100), 10);
        assert_eq!(admitted(&mut budget, 1_049, 100), 0);
        assert_eq!(admitted(&mut budget, 1_050, 100), 1);
        assert_eq!(admitted(&mut budget, 1_250, 100), 4);
        assert_eq!(admitted(&mut budget, 9_000, 100), 10);
    }

    #[test]
    fn lines_that_were_held_back_are_told_when_the_storm_is_over() {
        let mut budget = LineBudget::default();
        assert_eq!(budget.due(0), None);
        admitted(&mut budget, 1_000, 17);
        assert_eq!(budget.due(1_999), None);
        assert_eq!(budget.due(2_000), Some(7));
        assert_eq!(budget.due(3_000), None);
        assert_eq!(budget.rest(), None);
    }

    #[test]
    fn a_long_storm_is_told_once_a_minute_and_the_rest_at_the_end() {
        let mut budget = LineBudget::default();
        let (mut written, mut told) = (0, Vec::new());
        for now_ms in (0..150_000).step_by(10) {
            written += admitted(&mut budget, now_ms, 1);
            told.extend(budget.due(now_ms).map(|lines| (now_ms, lines)));
        }
        // 10 at once and 20 a second out of 100 a second.
        assert!((3_000..=3_020).contains(&written), "{written}");
        assert_eq!(told.len(), 2, "{told:?}");
        let rest = budget.rest().unwrap_or_default();
        assert_eq!(written + rest + told.iter().map(|(_, lines)| lines).sum::<u64>(), 15_000);
    }
}
