//! The end of a grant: a client that was authenticated for a time has to authenticate again before it is over.
//!
//! Invariant: an entry for each connection whose grant ends, and its timer; none for any other, so that a connection pays nothing
//! for it.

use alloc::collections::BTreeMap;

use super::Connections;
use crate::base::ids::ConnectionId;
use crate::base::time::Instant;
use crate::base::timer_wheel::TimerId;
use crate::memory::tree_entry_bytes;
use crate::timer::Timer;
use crate::turn::Turn;

/// **Lives on:** every shard. **Sees:** the connections whose grants end.
#[derive(Debug, Default)]
pub(super) struct GrantTimers {
    /// By slot of the connection.
    by_slot: BTreeMap<u32, TimerId>,
}

impl GrantTimers {
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

impl Connections {
    /// The grant of a connection ends at this moment, whatever was said before; `None`: never.
    pub(crate) fn set_grant_end(&mut self, turn: &mut Turn<'_>, id: ConnectionId, ends_at: Option<Instant>) {
        self.forget_grant_end(turn, id);
        if let Some(ends_at) = ends_at {
            assert!(self.get(id).is_some_and(|connection| connection.session().is_some()));
            let timer = turn.timers.insert(ends_at, Timer::Grant(id));
            let before = self.grant_timers.by_slot.insert(id.slot(), timer);
            assert!(before.is_none());
        }
    }

    /// A connection begins to close: its grant needs no end.
    pub(super) fn forget_grant_end(&mut self, turn: &mut Turn<'_>, id: ConnectionId) {
        if self.grant_timers.by_slot.is_empty() || self.get(id).is_none() {
            return;
        }
        if let Some(timer) = self.grant_timers.by_slot.remove(&id.slot()) {
            let was_set = turn.timers.cancel(timer);
            assert!(was_set);
        }
    }

    /// The timer of a grant was due.
    pub(crate) fn grant_ended(&mut self, id: ConnectionId) {
        let timer = self.grant_timers.by_slot.remove(&id.slot());
        assert!(timer.is_some() && self.get(id).is_some());
    }
}
