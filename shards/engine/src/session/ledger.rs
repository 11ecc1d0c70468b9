//! The ledger of one session: every delivery it was matched with ends as delivered or as dropped with a reason.

use alloc::boxed::Box;

use crate::counters::{Counters, DropReason};

/// matched = delivered + in flight + queued + dropped, exactly. The totals of the shard are counted with it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    matched: u64,
    delivered: u64,
    /// By [`DropReason::index`]; allocated at the first drop.
    dropped: Option<Box<[u64; DropReason::ALL.len()]>>,
}

impl Ledger {
    pub(crate) fn count_match(&mut self, totals: &mut Counters) {
        self.matched += 1;
        totals.matched += 1;
    }

    pub(crate) fn count_delivered(&mut self, totals: &mut Counters, count: u32) {
        self.delivered += u64::from(count);
        totals.delivered += u64::from(count);
    }

    pub(crate) fn count_dropped(&mut self, totals: &mut Counters, reason: DropReason, count: u32) {
        if count == 0 {
            return;
        }
        self.dropped.get_or_insert_default()[reason.index()] += u64::from(count);
        totals.dropped[reason.index()] += u64::from(count);
    }

    pub(crate) fn matched(&self) -> u64 {
        self.matched
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(crate) fn dropped(&self) -> [u64; DropReason::ALL.len()] {
        self.dropped.as_deref().copied().unwrap_or_default()
    }
}
