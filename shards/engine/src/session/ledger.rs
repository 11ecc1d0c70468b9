//! The ledger of one session: every delivery it was matched with ends as delivered or as dropped with a reason.

use alloc::boxed::Box;

use compact_str::CompactString;

use crate::counters::{Counters, DropReason};
use crate::drop_watch::DropShare;

/// matched = delivered + in flight + queued + dropped, exactly. The totals of the shard are counted with it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    matched: u64,
    delivered: u64,
    /// Allocated at the first drop.
    dropped: Option<Box<Dropped>>,
}

/// The drops of a session.
#[derive(Debug, Default)]
struct Dropped {
    /// By [`DropReason::index`].
    by_reason: [u64; DropReason::ALL.len()],
    share: DropShare,
}

impl Ledger {
    pub(crate) fn count_match(&mut self, totals: &mut Counters) {
        self.matched += 1;
        totals.matched += 1;
    }

    /// So many messages are owed since before this start of the process.
    pub(crate) fn count_matches(&mut self, totals: &mut Counters, count: usize) {
        self.matched += count as u64;
        totals.matched += count as u64;
    }

    pub(crate) fn count_delivered(&mut self, totals: &mut Counters, count: u32) {
        self.delivered += u64::from(count);
        totals.delivered += u64::from(count);
    }

    pub(crate) fn count_dropped(
        &mut self,
        totals: &mut Counters,
        client_id: &CompactString,
        reason: DropReason,
        count: u32,
    ) {
        if count == 0 {
            return;
        }
        let dropped = self.dropped.get_or_insert_default();
        dropped.by_reason[reason.index()] += u64::from(count);
        totals.dropped[reason.index()] += u64::from(count);
        // A message that another member of its group receives is not lost.
        if reason != DropReason::Reassigned {
            totals.drop_watch().record(&mut dropped.share, client_id, reason, count);
        }
    }

    pub(crate) fn matched(&self) -> u64 {
        self.matched
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(crate) fn dropped(&self) -> [u64; DropReason::ALL.len()] {
        self.dropped.as_ref().map_or_else(Default::default, |dropped| dropped.by_reason)
    }
}
