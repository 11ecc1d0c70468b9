//! A condition that lasts: one line when it begins, one a minute while it lasts, one when it is over. Time is an argument.
//! Invariant: each line but the first of a condition follows the one before it by a minute, or ends the condition.

/// Milliseconds between two lines of a condition that lasts.
const TOLD_EVERY_MS: u64 = 60_000;

/// Milliseconds without a sign of the condition after which it is over.
const QUIET_MS: u64 = 10_000;

/// A condition of which each sign is reported.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lasting {
    /// Times of the first and the last sign, and of the last line.
    since: Option<(u64, u64, u64)>,
}

/// The line that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It begins.
    Begins,
    /// It has lasted for another minute.
    Lasts,
    /// It is over.
    Ends {
        /// Seconds from the first sign to the last.
        lasted_s: u64,
    },
}

impl Lasting {
    /// Reports a sign of the condition, or with `false` the lack of one. Returns the line that is due.
    pub(crate) fn observe(&mut self, now_ms: u64, is_on: bool) -> Option<Told> {
        match (&mut self.since, is_on) {
            (None, false) => None,
            (None, true) => {
                self.since = Some((now_ms, now_ms, now_ms));
                Some(Told::Begins)
            }
            (Some((_, seen, told)), true) => {
                *seen = now_ms;
                let is_due = now_ms.saturating_sub(*told) >= TOLD_EVERY_MS;
                is_due.then(|| {
                    *told = now_ms;
                    Told::Lasts
                })
            }
            (Some((_, seen, _)), false) if now_ms.saturating_sub(*seen) < QUIET_MS => None,
            (Some(_), false) => self.end(),
        }
    }

    /// The condition is over for certain. Returns the line that is due.
    pub(crate) fn end(&mut self) -> Option<Told> {
        let (began, seen, _) = self.since.take()?;
        Some(Told::Ends { lasted_s: seen.saturating_sub(began) / 1_000 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_told_when_it_begins_each_minute_and_when_it_is_over() {
        let mut condition = Lasting::default();
        assert_eq!(condition.observe(0, false), None);
        let mut told = Vec::new();
        // A sign each second from 5 s to 155 s.
        for second in 0..200 {
            let line = condition.observe(second * 1_000, (5..=155).contains(&second));
            told.extend(line.map(|line| (second, line)));
        }
        assert_eq!(
            told,
            [(5, Told::Begins), (65, Told::Lasts), (125, Told::Lasts), (165, Told::Ends { lasted_s: 150 })]
        );
    }

    #[test]
    fn a_short_pause_is_no_end_and_the_next_time_is_a_new_beginning() {
        let mut condition = Lasting::default();
        assert_eq!(condition.observe(1_000, true), Some(Told::Begins));
        assert_eq!(condition.observe(9_000, false), None);
        assert_eq!(condition.observe(9_500, true), None);
        assert_eq!(condition.observe(19_499, false), None);
        assert_eq!(condition.observe(19_500, false), Some(Told::Ends { lasted_s: 8 }));
        assert_eq!(condition.observe(20_000, true), Some(Told::Begins));
        assert_eq!(condition.end(), Some(Told::Ends { lasted_s: 0 }));
        assert_eq!(condition.end(), None);
    }
}
