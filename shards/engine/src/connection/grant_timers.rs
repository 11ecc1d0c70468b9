//! The timers of grants that end, by the slots of their connections.
//!
//! Invariant: an entry for each connection whose grant ends, and its timer; none for any other, so that a connection pays nothing
//! for it.

use alloc::collections::BTreeMap;

use crate::base::timer_wheel::TimerId;
use crate::memory::tree_entry_bytes;

/// **Lives on:** every shard. **Sees:** the connections whose grants end.
#[derive(Debug, Default)]
pub(super) struct GrantTimers {
    /// By slot of the connection.
    by_slot: BTreeMap<u32, TimerId>,
}

impl GrantTimers {
    pub(super) fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }

    /// Returns the timer that was there before.
    pub(super) fn insert(&mut self, slot: u32, timer: TimerId) -> Option<TimerId> {
        self.by_slot.insert(slot, timer)
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<TimerId> {
        self.by_slot.remove(&slot)
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.by_slot.len() as u64 * tree_entry_bytes(size_of::<(u32, TimerId)>())
    }

    /// Timers that are set, for an audit.
    pub(super) fn count(&self) -> usize {
        self.by_slot.len()
    }

    /// Slots of connections whose grants end, for an audit.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        self.by_slot.keys().copied()
    }
}
