//! Shared subscriptions: which member of a group receives a message [MQTT-4.8.2-1].
//!
//! The shard of the publisher chooses a shard, and that shard chooses a member. Invariant: a message that no member
//! receives is counted as dropped for [`DropReason::NoMember`].

pub(crate) mod members;
pub(crate) mod reassignment;
pub(crate) mod remote_members;
mod shard_choice;

use crate::base::long_queue::LongQueue;
use crate::base::sparse::Sparse;
use crate::counters::{Counters, DropReason};

use members::MemberCounts;
use reassignment::Reassignment;
use remote_members::RemoteMembers;

/// **Lives on:** every shard. **Sees:** the members that live here, and how many the other shards announced.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    remote: RemoteMembers,
    /// By number of the group: its counted members, with the version of the group that they belong to.
    counts: Sparse<(u64, MemberCounts)>,
    /// Messages that need another member. Each was queued or in flight before, so their bounds hold.
    reassignments: LongQueue<Reassignment>,
}

impl Shared {
    /// Bytes of the counts of members here and on the other shards.
    pub(crate) fn member_bytes(&self) -> u64 {
        self.remote.memory_bytes() + self.counts.bytes_held()
    }

    /// Members that other shards announced.
    pub(crate) fn remote(&self) -> &RemoteMembers {
        &self.remote
    }

    pub(crate) fn remote_mut(&mut self) -> &mut RemoteMembers {
        &mut self.remote
    }
}

/// Counts a message that no member of its group receives.
pub(crate) fn count_undeliverable(totals: &mut Counters, reason: DropReason) {
    totals.matched += 1;
    totals.dropped[reason.index()] += 1;
}
