//! The warning about dropped messages: when a shard begins to drop, once a minute while it goes on, and when it is over,
//! each with the reasons and the client that lost the most.

use std::fmt::Write as _;

use engine::{DropReason, WorstClient};
use tracing::warn;

use crate::observe::connection_log::printable;
use crate::observe::lasting::{Lasting, Told};

type Dropped = [u64; DropReason::ALL.len()];

/// **Lives on:** one shard. **Sees:** its totals, once a second.
#[derive(Default)]
pub(crate) struct DropLog {
    lasting: Lasting,
    /// The totals at the last call, and at the last line.
    seen: Dropped,
    told: Dropped,
}

impl DropLog {
    /// Logs the line that is due. `take_worst` returns the worst client since its last call.
    pub(crate) fn observe(
        &mut self,
        now_ms: u64,
        shard: u16,
        totals: &Dropped,
        take_worst: impl FnOnce() -> Option<WorstClient>,
    ) {
        let is_on = lost(totals) > lost(&self.seen);
        self.seen = *totals;
        let Some(told) = self.lasting.observe(now_ms, is_on) else { return };
        let dropped = lost(totals) - lost(&self.told);
        let reasons = reasons(totals, &self.told);
        self.told = *totals;
        let worst = take_worst();
        let client = worst.as_ref().map(|worst| printable(&worst.client_id));
        let client = client.as_deref();
        let (client_dropped, client_reason) =
            worst.as_ref().map(|worst| (worst.dropped, tracing::field::display(worst.reason.name()))).unzip();
        let total = lost(totals);
        match told {
            Told::Begins | Told::Lasts => warn!(
                shard,
                since_last = dropped,
                total,
                reasons,
                worst_client = client,
                worst_client_dropped = client_dropped,
                worst_client_reason = client_reason,
                "messages dropped"
            ),
            Told::Ends { lasted_s } => warn!(
                shard,
                lasted_s,
                since_last = dropped,
                total,
                reasons,
                worst_client = client,
                worst_client_dropped = client_dropped,
                worst_client_reason = client_reason,
                "no more messages dropped"
            ),
        }
    }
}

/// Messages lost. One that was moved to another member of its group is no loss.
fn lost(totals: &Dropped) -> u64 {
    totals.iter().sum::<u64>() - totals[DropReason::Reassigned.index()]
}

/// `queue_full=3 offline=1`, of the reasons that have grown.
fn reasons(totals: &Dropped, before: &Dropped) -> String {
    let mut text = String::new();
    for reason in DropReason::ALL.iter().filter(|reason| **reason != DropReason::Reassigned) {
        let grown = totals[reason.index()] - before[reason.index()];
        if grown > 0 {
            let space = if text.is_empty() { "" } else { " " };
            let _ = write!(text, "{space}{}={grown}", reason.name());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reasons_that_have_grown_are_named_and_a_move_is_no_loss() {
        let mut before = Dropped::default();
        before[DropReason::Offline.index()] = 5;
        let mut totals = before;
        totals[DropReason::QueueFull.index()] = 3;
        totals[DropReason::Expired.index()] = 1;
        totals[DropReason::Reassigned.index()] = 9;
        assert_eq!(reasons(&totals, &before), "expired=1 queue_full=3");
        assert_eq!((lost(&before), lost(&totals)), (5, 9));
    }
}
