//! The session that lost the most messages since the last look, exactly and at the cost of a comparison for each drop.
//!
//! Invariant: a share belongs to the look that it names; an older one counts as zero, so a look resets all shares at once.

use alloc::boxed::Box;

use compact_str::CompactString;

use crate::counters::DropReason;
use crate::notice::cut;

/// The client that lost the most messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorstClient {
    /// Its identifier, cut to [`crate::NOTICE_TEXT_BYTES_MAX`].
    pub client_id: Box<str>,
    /// Messages that it lost.
    pub dropped: u64,
    /// Why it lost the last of them.
    pub reason: DropReason,
}

/// **Lives on:** the counters of a shard. **Sees:** every drop of a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct DropWatch {
    /// The number of the look under way.
    look: u32,
    /// Shares that were numbered so far.
    numbered: u64,
    worst: Option<Worst>,
}

#[derive(Clone, Debug)]
struct Worst {
    share: u64,
    client_id: CompactString,
    dropped: u64,
    reason: DropReason,
}

/// The drops of one session in the look that it names. **Lives on:** the ledger of that session.
#[derive(Debug, Default)]
pub(crate) struct DropShare {
    /// 0 before its first drop.
    number: u64,
    dropped: u64,
    look: u32,
}

impl DropWatch {
    /// Records drops of a session.
    pub(crate) fn record(
        &mut self,
        share: &mut DropShare,
        client_id: &CompactString,
        reason: DropReason,
        count: u32,
    ) {
        if share.number == 0 {
            self.numbered += 1;
            share.number = self.numbered;
        }
        if share.look != self.look {
            share.look = self.look;
            share.dropped = 0;
        }
        share.dropped += u64::from(count);
        match &mut self.worst {
            Some(worst) if worst.share == share.number => {
                assert!(worst.dropped < share.dropped);
                (worst.dropped, worst.reason) = (share.dropped, reason);
            }
            Some(worst) if worst.dropped >= share.dropped => {}
            worst => {
                let (share, dropped, client_id) = (share.number, share.dropped, client_id.clone());
                *worst = Some(Worst { share, client_id, dropped, reason });
            }
        }
    }

    /// The worst client since the last look, which ends with this call.
    pub(crate) fn take(&mut self) -> Option<WorstClient> {
        self.look = self.look.wrapping_add(1);
        let Worst { client_id, dropped, reason, .. } = self.worst.take()?;
        Some(WorstClient { client_id: cut(&client_id), dropped, reason })
    }
}
