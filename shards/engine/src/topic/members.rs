//! The members of a filter or of a group: the sessions that receive what is published to it.
//!
//! A member and its subscription name each other: the subscription knows the member's position, the member knows the subscription's
//! slot. Removal moves the last member into the gap, and the caller then tells that member's subscription its new position.

use alloc::boxed::Box;
use alloc::vec::Vec;

use wire::{SubscribeOptions, SubscriptionId};

use crate::base::heap;
use crate::base::long_list::LongList;
use crate::base::pool::number;

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

/// Members that are in one piece. A list that becomes longer is copied once, into banks.
const MEMBERS_IN_PIECE_MAX: usize = 1_024;

/// The members of one filter or group, by position.
#[derive(Debug)]
pub(crate) struct Members {
    list: List,
}

#[derive(Debug)]
enum List {
    /// Most have one, and one needs no allocation.
    One(Member),
    Few(Vec<Member>),
    Many(Box<LongList<Member>>),
}

const _: () = assert!(size_of::<Members>() == 24);

impl Default for Members {
    fn default() -> Self {
        Self { list: List::Few(Vec::new()) }
    }
}

impl Members {
    pub(crate) fn len(&self) -> usize {
        match &self.list {
            List::One(_) => 1,
            List::Few(list) => list.len(),
            List::Many(list) => list.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn get(&self, position: usize) -> Option<&Member> {
        self.piece(position).first()
    }

    /// The member at a position.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn at(&self, position: usize) -> &Member {
        &self.piece(position)[0]
    }

    /// All members, if they lie in one piece.
    #[inline]
    pub(crate) fn in_piece(&self) -> Option<&[Member]> {
        match &self.list {
            List::One(member) => Some(core::slice::from_ref(member)),
            List::Few(list) => Some(list),
            List::Many(_) => None,
        }
    }

    /// The members from a position on that lie in one piece, at least one if there is one: for a loop over many of them.
    #[inline]
    pub(crate) fn piece(&self, position: usize) -> &[Member] {
        match &self.list {
            List::One(member) => core::slice::from_ref(member).get(position..).unwrap_or(&[]),
            List::Few(list) => list.get(position..).unwrap_or(&[]),
            List::Many(list) => list.piece(position),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.iter_from(0)
    }

    /// The members from a position on, however far that is.
    pub(crate) fn iter_from(&self, mut position: usize) -> impl Iterator<Item = &Member> {
        let pieces = core::iter::from_fn(move || {
            let piece = self.piece(position);
            position += piece.len();
            (!piece.is_empty()).then_some(piece)
        });
        pieces.flatten()
    }

    /// Bytes of a list that does not fit its place.
    pub(super) fn heap_bytes(&self) -> u64 {
        match &self.list {
            List::One(_) => 0,
            List::Few(list) => heap::block(list.capacity() * size_of::<Member>()),
            List::Many(list) => heap::block(size_of::<LongList<Member>>()) + list.bytes_held(),
        }
    }

    /// The position that [`Self::push`] gives to the next member.
    pub(super) fn next_position(&self) -> u32 {
        number(self.len())
    }

    pub(super) fn push(&mut self, member: Member) {
        match &mut self.list {
            List::Few(list) if list.is_empty() => self.list = List::One(member),
            List::One(first) => self.list = List::Few(Vec::from([*first, member])),
            List::Few(list) if list.len() < MEMBERS_IN_PIECE_MAX => list.push(member),
            List::Few(list) => {
                let mut long = LongList::new();
                for &member in &*list {
                    long.push(member);
                }
                long.push(member);
                self.list = List::Many(Box::new(long));
            }
            List::Many(list) => list.push(member),
        }
    }

    /// Replaces the member at a position by one of the same session, with other options. Returns whether the former was lasting.
    pub(super) fn change(
        &mut self,
        position: u32,
        session: u32,
        is_lasting: bool,
        (options, identifier): (SubscribeOptions, Option<SubscriptionId>),
    ) -> bool {
        let member = match &mut self.list {
            List::One(member) => member,
            List::Few(list) => &mut list[position as usize],
            List::Many(list) => &mut list[position as usize],
        };
        assert!(member.session == session);
        let was_lasting = member.is_lasting();
        *member = Member::new(session, (member.subscription(), is_lasting), options, identifier);
        was_lasting
    }

    /// Removes the member of `subscription`. Returns the subscription of the member that took its position, and whether the one that is
    /// removed was lasting.
    pub(super) fn remove(&mut self, position: u32, subscription: u32) -> (Option<u32>, bool) {
        let removed = match &mut self.list {
            List::One(member) => *member,
            List::Few(list) => list.swap_remove(position as usize),
            List::Many(list) => list.swap_remove(position as usize),
        };
        assert!(removed.subscription() == subscription);
        if matches!(self.list, List::One(_)) || self.is_empty() {
            // Gives back the allocation of a list that was longer once.
            *self = Self::default();
        }
        let moved = self.get(position as usize).map(Member::subscription);
        (moved, removed.is_lasting())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::subscriptions::plain_options;
    use wire::QoS;

    #[test]
    fn members_come_and_go_in_every_shape_of_the_list() {
        let (mut members, mut model) = (Members::default(), Vec::new());
        for number in 0..10_000u32 {
            assert_eq!(members.next_position() as usize, model.len());
            members.push(Member::new(number, (number, false), plain_options(QoS::AtMostOnce), None));
            model.push(number);
        }
        assert!(members.heap_bytes() > 160_000);
        let mut position = 7;
        while !model.is_empty() {
            position = position * 31 % model.len();
            let subscription = model.swap_remove(position);
            let (moved, _) = members.remove(u32::try_from(position).unwrap(), subscription);
            assert_eq!(moved, model.get(position).copied());
            assert_eq!(members.len(), model.len());
            if model.len() % 1_000 < 3 {
                assert!(members.iter().map(Member::session).eq(model.iter().copied()));
            }
            position += 1;
        }
        assert!(members.is_empty() && members.heap_bytes() == 0);
    }
}
