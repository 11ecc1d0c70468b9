//! The members of a filter or of a group: the sessions that receive what is published to it.
//!
//! A member and its subscription name each other: the subscription knows the member's position, the member knows the subscription's
//! slot. Removal moves the last member into the gap, and the caller then tells that member's subscription its new position.

use smallvec::SmallVec;
use wire::{SubscribeOptions, SubscriptionId};

use crate::base::heap;

use super::pool::number;

/// The bit of a subscription that says that it is lasting. Subscriptions are fewer, so that a member takes no word more for it.
const LASTING: u32 = 1 << 31;

/// A session that subscribes to a filter, as the fan-out reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    session: u32,
    /// With [`LASTING`].
    subscription: u32,
    identifier: Option<SubscriptionId>,
    options: SubscribeOptions,
}

impl Member {
    pub(super) fn new(
        session: u32,
        (subscription, is_lasting): (u32, bool),
        options: SubscribeOptions,
        identifier: Option<SubscriptionId>,
    ) -> Self {
        assert!(subscription < LASTING);
        let subscription = subscription | if is_lasting { LASTING } else { 0 };
        Self { session, subscription, identifier, options }
    }

    fn subscription(&self) -> u32 {
        self.subscription & !LASTING
    }

    /// Whether its messages of QoS 1 and 2 have to outlive the process.
    pub(crate) fn is_lasting(&self) -> bool {
        self.subscription & LASTING != 0
    }

    /// Slot of the session. Its generation is not needed: a session unsubscribes before it ends.
    pub(crate) fn session(&self) -> u32 {
        self.session
    }

    pub(crate) fn options(&self) -> SubscribeOptions {
        self.options
    }

    pub(crate) fn identifier(&self) -> Option<SubscriptionId> {
        self.identifier
    }
}

/// The members of one filter or group. Most have one, and one needs no allocation.
#[derive(Debug, Default)]
pub(super) struct Members {
    list: SmallVec<[Member; 1]>,
}

impl Members {
    pub(super) fn as_slice(&self) -> &[Member] {
        &self.list
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes of a list that does not fit its place.
    pub(super) fn heap_bytes(&self) -> u64 {
        if self.list.spilled() { heap::block(self.list.capacity() * size_of::<Member>()) } else { 0 }
    }

    /// The position that [`Self::push`] gives to the next member.
    pub(super) fn next_position(&self) -> u32 {
        number(self.list.len())
    }

    pub(super) fn push(&mut self, member: Member) {
        self.list.push(member);
    }

    /// Replaces the member at a position by one of the same session, with other options. Returns whether the former was lasting.
    pub(super) fn change(
        &mut self,
        position: u32,
        session: u32,
        is_lasting: bool,
        (options, identifier): (SubscribeOptions, Option<SubscriptionId>),
    ) -> bool {
        let member = &mut self.list[position as usize];
        assert!(member.session == session);
        let was_lasting = member.is_lasting();
        *member = Member::new(session, (member.subscription(), is_lasting), options, identifier);
        was_lasting
    }

    /// Removes the member of `subscription`. Returns the subscription of the member that took its position, and whether the one that is
    /// removed was lasting.
    pub(super) fn remove(&mut self, position: u32, subscription: u32) -> (Option<u32>, bool) {
        let removed = self.list.swap_remove(position as usize);
        assert!(removed.subscription() == subscription);
        if self.list.is_empty() {
            // Gives back the allocation of a list that was longer once.
            self.list = SmallVec::new();
        }
        let moved = self.list.get(position as usize).map(Member::subscription);
        (moved, removed.is_lasting())
    }
}
