//! The progress of shedding: passes over the connections, and the census of those who hold the most.
//!
//! Invariant: each pass takes outboxes half as large as the largest that the one before left. So the order is by size within a factor of
//! two, and no list of outboxes is kept.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{MemoryLevel, MemoryReport, Pressure};
use crate::base::ids::{ConnectionId, SessionId};
use crate::base::time::Instant;

/// After a pass that found nothing more to take, the next one begins so much later, in milliseconds.
const PAUSE_MS: u64 = 100;
/// A report follows another one after so many milliseconds, if the level has changed meanwhile.
const REPORT_MS_MIN: u64 = 1_000;
/// A report is made so often while memory is short, in milliseconds.
const REPORT_MS_MAX: u64 = 60_000;
/// Clients that a report names.
const HOLDERS_MAX: usize = 5;

/// **Lives on:** every shard.
#[derive(Debug, Default)]
pub(crate) struct Shedding {
    pass: Pass,
    /// The next pass begins then; at once, if it is unset.
    resumes_at: Option<Instant>,
    /// The host was paused until then at least: no idleness counts from before.
    idle_from: Instant,
    census: Option<Census>,
    /// The level of the last report, and when its census began.
    reported: (MemoryLevel, Instant),
    report: Option<Box<MemoryReport>>,
}

/// One walk over the connections.
#[derive(Debug, Default)]
struct Pass {
    cursor: u32,
    /// Outboxes of so many bytes are shed; `None` while the first pass only measures.
    bytes_min: Option<u64>,
    /// The largest of those that could be shed and were too small for this pass.
    largest_left: u64,
    /// The outbox under the cursor, and its piece at which a step ran out of time.
    cut: Option<(ConnectionId, usize)>,
}

/// One walk over the sessions for the largest holders.
#[derive(Debug)]
pub(crate) struct Census {
    cursor: u32,
    level: MemoryLevel,
    /// The largest so far, in descending order.
    largest: Vec<(u64, SessionId)>,
}

impl Census {
    /// The slot that is looked at next. The cursor moves on.
    pub(crate) fn next_slot(&mut self) -> u32 {
        self.cursor += 1;
        self.cursor - 1
    }

    /// Whether `slot_count` slots were looked at.
    pub(crate) fn is_done(&self, slot_count: u32) -> bool {
        self.cursor >= slot_count
    }

    pub(crate) fn add(&mut self, bytes: u64, session: SessionId) {
        let at = self.largest.partition_point(|&(other, _)| other >= bytes);
        if at < HOLDERS_MAX {
            self.largest.insert(at, (bytes, session));
            self.largest.truncate(HOLDERS_MAX);
        }
        assert!(self.largest.is_sorted_by(|one, next| one.0 >= next.0));
    }

    /// The report; `name` tells the names of those that are still there.
    pub(crate) fn into_report(self, name: impl Fn(SessionId) -> Option<Box<str>>) -> MemoryReport {
        let holders = self.largest.into_iter().filter_map(|(bytes, id)| Some((name(id)?, bytes))).collect();
        MemoryReport { level: self.level, holders }
    }
}

impl Shedding {
    /// When it goes on, if it does.
    pub(crate) fn deadline(&self, pressure: &Pressure) -> Option<Instant> {
        if self.census.is_some() {
            return Some(Instant::default());
        }
        let shed = pressure.sheds().then(|| self.resumes_at.unwrap_or_default());
        self.report_due(pressure.level()).into_iter().chain(shed).min()
    }

    /// When the next report is due, at this level.
    fn report_due(&self, level: MemoryLevel) -> Option<Instant> {
        let (reported, at) = self.reported;
        if level != reported {
            // The first one of a process has none to follow.
            return Some(if at == Instant::default() { at } else { at.plus_ms(REPORT_MS_MIN) });
        }
        (level != MemoryLevel::Normal).then(|| at.plus_ms(REPORT_MS_MAX))
    }

    /// The census under way, or a new one that is due. It is to be put back or reported.
    pub(crate) fn take_census(&mut self, level: MemoryLevel, now: Instant) -> Option<Census> {
        if self.census.is_none() && self.report_due(level).is_some_and(|due| due <= now) {
            self.reported = (level, now);
            self.census = Some(Census { cursor: 0, level, largest: Vec::new() });
        }
        self.census.take()
    }

    /// A step ran out of time for the census.
    pub(crate) fn put_back(&mut self, census: Census) {
        assert!(self.census.is_none());
        self.census = Some(census);
    }

    pub(crate) fn set_report(&mut self, report: MemoryReport) {
        assert!(self.census.is_none());
        self.report = Some(Box::new(report));
    }

    /// The last report that was not taken.
    pub(crate) fn take_report(&mut self) -> Option<Box<MemoryReport>> {
        self.report.take()
    }

    /// The host was paused, so readers could not be sent anything.
    pub(crate) fn begin_pause(&mut self, now: Instant) {
        self.idle_from = now;
    }

    /// How long a reader was idle that took nothing for `idle_ms`, in milliseconds.
    pub(crate) fn idle_ms(&self, now: Instant, idle_ms: u64) -> u64 {
        idle_ms.min(self.idle_from.ms_until(now))
    }

    /// Memory is not short any more.
    pub(crate) fn end(&mut self) {
        self.pass = Pass::default();
        self.resumes_at = None;
    }

    /// Whether nothing is to be done before a later moment.
    pub(crate) fn rests(&self, now: Instant) -> bool {
        self.resumes_at.is_some_and(|at| now < at)
    }

    /// The slot that is looked at next, of `slot_count`; `None` if a pass has ended. Then the next one takes smaller outboxes, or begins
    /// after a pause.
    pub(crate) fn slot(&mut self, now: Instant, slot_count: u32) -> Option<u32> {
        if self.pass.cursor < slot_count {
            return Some(self.pass.cursor);
        }
        let largest = self.pass.largest_left;
        self.pass = Pass { bytes_min: (largest > 0).then(|| largest.div_ceil(2)), ..Pass::default() };
        self.resumes_at = (largest == 0).then(|| now.plus_ms(PAUSE_MS));
        None
    }

    /// The slot is done.
    pub(crate) fn advance(&mut self) {
        // The connection that was cut may have gone.
        self.pass.cut = None;
        self.pass.cursor += 1;
    }

    /// The piece at which an outbox was cut, if it was.
    pub(crate) fn take_cut(&mut self, id: ConnectionId) -> Option<usize> {
        let (of, piece) = self.pass.cut.take()?;
        (of == id).then_some(piece)
    }

    /// A step ran out of time for an outbox, and the next one goes on at a piece of it.
    pub(crate) fn set_cut(&mut self, id: ConnectionId, piece: usize) {
        self.pass.cut = Some((id, piece));
    }

    /// Whether an outbox of so many bytes has its turn. A later pass takes it otherwise.
    pub(crate) fn takes(&mut self, bytes: u64) -> bool {
        let takes = self.pass.bytes_min.is_some_and(|bytes_min| bytes >= bytes_min);
        if !takes {
            self.pass.largest_left = self.pass.largest_left.max(bytes);
        }
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn passes_take_the_largest_first_and_end_with_a_pause() {
        let mut shedding = Shedding::default();
        let now = Instant::from_ms(5_000);
        let mut outboxes = [10, 9_000, 300, 5_000, 200];
        let mut taken = Vec::new();
        while !shedding.rests(now) {
            let Some(slot) = shedding.slot(now, 5) else { continue };
            let outbox = &mut outboxes[slot as usize];
            if *outbox > 0 && shedding.takes(*outbox) {
                taken.push(core::mem::take(outbox));
            }
            shedding.advance();
        }
        assert_eq!(taken, [9_000, 5_000, 300, 200, 10]);
        assert!(!shedding.rests(now.plus_ms(PAUSE_MS)));
    }

    #[test]
    fn a_report_is_due_at_once_then_after_a_second_and_each_minute_that_it_lasts() {
        use MemoryLevel::{Normal, Refusing, Shedding as Above};
        let mut shedding = Shedding::default();
        let mut due = Vec::new();
        for second in 1..200_u64 {
            let level = match second {
                10 => Above,
                11..100 => Refusing,
                _ => Normal,
            };
            // A change that is over within a second is not told.
            let calls = if second == 150 { vec![Above, Normal] } else { vec![level] };
            for level in calls {
                if let Some(census) = shedding.take_census(level, Instant::from_ms(second * 1_000)) {
                    due.push((second, census.level));
                    shedding.set_report(census.into_report(|_| None));
                }
            }
        }
        let expected =
            [(10, Above), (11, Refusing), (71, Refusing), (100, Normal), (150, Above), (151, Normal)];
        assert_eq!(due, expected);
    }
}
