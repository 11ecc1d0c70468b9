//! The warning about short memory: when the process crosses a mark of its ceiling, once a minute while it is above, and when it has been
//! below for ten seconds, each with the clients that hold the most.

use std::array::from_fn;

use engine::{MemoryLevel, MemoryReport};
use tracing::warn;

use crate::observe::connection_log::printable;
use crate::observe::lasting::{Lasting, Told};
use crate::observe::statistics::Totals;
use crate::process::clock::Clock;

/// The levels above the marks.
const MARKS: [MemoryLevel; 2] = [MemoryLevel::Shedding, MemoryLevel::Refusing];
/// Clients that a line names.
const NAMED_MAX: usize = 5;

/// **Lives on:** the control plane. **Sees:** the reports of all shards.
pub(crate) struct MemoryLog {
    clock: Clock,
    marks: [Lasting; MARKS.len()],
    /// By shard.
    shards: Vec<Reported>,
    /// The level at the last look.
    level_before: MemoryLevel,
}

/// The reports of one shard.
#[derive(Clone, Default)]
struct Reported {
    last: Option<MemoryReport>,
    /// The last one with the highest level since the last line.
    highest: Option<MemoryReport>,
}

/// A line that is due.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    mark: MemoryLevel,
    told: Told,
    /// The clients that hold the most, each with its bytes.
    largest: String,
}

impl MemoryLog {
    pub(crate) fn start(shard_count: u16) -> Self {
        let shards = vec![Reported::default(); shard_count.into()];
        let marks = from_fn(|_| Lasting::default());
        Self { clock: Clock::start(), marks, shards, level_before: MemoryLevel::Normal }
    }

    /// Takes the reports of shards, by their numbers, and logs the lines that are due. To be called once a second.
    pub(crate) fn observe(
        &mut self,
        totals: &Totals,
        reports: impl Iterator<Item = (u16, Box<MemoryReport>)>,
    ) {
        for Line { mark, told, largest } in self.lines(self.clock.now().as_ms(), reports) {
            let (used, limit) = (totals.shards.memory_total(), totals.memory_bytes_max);
            let kinds = totals.shards.memory_kinds();
            match (mark, told) {
                (MemoryLevel::Refusing, Told::Begins | Told::Lasts) => {
                    warn!(
                        used,
                        limit, kinds, largest, "memory is above its second mark, 95 %: more is refused"
                    );
                }
                (_, Told::Begins | Told::Lasts) => {
                    warn!(
                        used,
                        limit,
                        kinds,
                        largest,
                        "memory is above its first mark, 80 %: slow readers lose QoS 0"
                    );
                }
                (MemoryLevel::Refusing, Told::Ends { lasted_s }) => {
                    warn!(lasted_s, used, limit, kinds, largest, "memory is below its second mark, 95 %");
                }
                (_, Told::Ends { lasted_s }) => {
                    warn!(lasted_s, used, limit, kinds, largest, "memory is below its first mark, 80 %");
                }
            }
        }
    }

    fn lines(&mut self, now_ms: u64, reports: impl Iterator<Item = (u16, Box<MemoryReport>)>) -> Vec<Line> {
        // A mark may be crossed and left again between two looks.
        let mut level = self.shards.iter().map(Reported::level).max().unwrap_or_default();
        for (shard, report) in reports {
            level = level.max(report.level);
            self.shards[usize::from(shard)].take(*report);
        }
        // A shard without work notices within a second, and its clients may be the largest holders.
        let before = std::mem::replace(&mut self.level_before, level);
        let is_complete = self.shards.iter().all(|shard| shard.level() == level);
        let level = if is_complete { level.max(before) } else { before };
        let mut lines = Vec::new();
        for (mark, lasting) in MARKS.into_iter().zip(&mut self.marks) {
            if let Some(told) = lasting.observe(now_ms, level >= mark) {
                let is_over = matches!(told, Told::Ends { .. });
                lines.push(Line { mark, told, largest: largest(&self.shards, is_over) });
            }
        }
        if !lines.is_empty() {
            self.shards.iter_mut().for_each(Reported::begin_anew);
        }
        lines
    }
}

impl Reported {
    fn level(&self) -> MemoryLevel {
        self.last.as_ref().map_or(MemoryLevel::Normal, |report| report.level)
    }

    fn take(&mut self, report: MemoryReport) {
        if self.highest.as_ref().is_none_or(|highest| report.level >= highest.level) {
            self.highest = Some(report.clone());
        }
        self.last = Some(report);
    }

    fn begin_anew(&mut self) {
        self.highest = self.last.clone();
    }
}

/// The clients of all shards that held the most: now, or when memory stood highest.
fn largest(shards: &[Reported], now: bool) -> String {
    let reports =
        shards.iter().filter_map(|shard| if now { shard.last.as_ref() } else { shard.highest.as_ref() });
    let mut holders: Vec<_> = reports.flat_map(|report| &report.holders).collect();
    holders.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let named = holders.iter().take(NAMED_MAX).map(|(id, bytes)| format!("{}={bytes}", printable(id)));
    named.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(shard: u16, level: MemoryLevel, holders: &[(&str, u64)]) -> (u16, Box<MemoryReport>) {
        let holders = holders.iter().map(|&(id, bytes)| (id.into(), bytes)).collect();
        (shard, Box::new(MemoryReport { level, holders }))
    }

    fn line(mark: MemoryLevel, told: Told, largest: &str) -> Line {
        Line { mark, told, largest: largest.to_owned() }
    }

    #[test]
    fn each_mark_is_told_once_with_the_largest_of_all_shards_and_once_when_it_is_over() {
        use MemoryLevel::{Normal, Refusing, Shedding};
        let mut log = MemoryLog::start(2);
        assert_eq!(log.lines(0, [].into_iter()), []);
        // It was crossed and left within a second: the line names those who held the most then, also those of a slow shard.
        let reports =
            [report(1, Shedding, &[("big", 700), ("small", 3)]), report(1, Normal, &[("small", 3)])];
        assert_eq!(log.lines(1_000, reports.into_iter()), []);
        let reports = [report(0, Shedding, &[("middle \u{202E}", 50)])];
        let begins = line(Shedding, Told::Begins, "big=700 middle \u{FFFD}=50 small=3");
        assert_eq!(log.lines(2_000, reports.into_iter()), [begins]);
        let up = [report(1, Refusing, &[("other", 900)]), report(0, Refusing, &[])];
        let second = line(Refusing, Told::Begins, "other=900");
        assert_eq!(log.lines(3_000, up.into_iter()), [second]);
        for second in 4..11 {
            assert_eq!(log.lines(second * 1_000, [].into_iter()), [], "{second}");
        }
        let down = [report(1, Normal, &[]), report(0, Normal, &[])].into_iter();
        assert_eq!(log.lines(12_000, down), []);
        let mut over = Vec::new();
        for second in 13..40 {
            over.extend(log.lines(second * 1_000, [].into_iter()).into_iter().map(|line| (second, line)));
        }
        let ends = |mark, lasted_s| line(mark, Told::Ends { lasted_s }, "");
        assert_eq!(over, [(23, ends(Shedding, 11)), (23, ends(Refusing, 10))]);
    }
}
