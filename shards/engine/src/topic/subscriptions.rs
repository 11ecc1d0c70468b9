//! The subscriptions of one shard, found by session and target, and linked into one list for each session.
//!
//! Invariants worth naming:
//! - A session has at most one subscription to a target, so a SUBSCRIBE to the same filter replaces the options [MQTT-3.8.4-3].
//! - The session owns the head of its list ([`SubscriptionList`]) and lends it for each change, so a session that ends visits its own
//!   subscriptions alone, however many others there are.

use core::num::NonZeroU32;

use wire::{QoS, RetainHandling, SubscribeOptions};

use crate::base::hash::Keyed;
use crate::base::index::Index;
use crate::base::pool::{NONE, Pool};
use crate::base::sparse::Sparse;

/// A subscription is to a filter, or to a group that shares a filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Filter(u32),
    Group(u32),
}

impl Target {
    fn as_u64(self) -> u64 {
        match self {
            Self::Filter(filter) => u64::from(filter),
            Self::Group(group) => 1 << 32 | u64::from(group),
        }
    }
}

/// A target in one word that is never 0, so that a subscription and the mark of a vacant slot share its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct PackedTarget(NonZeroU32);

/// The bit of a group. Filters and groups are fewer than subscriptions, of which there are fewer than 2³¹.
const GROUP: u32 = 1 << 31;

impl PackedTarget {
    fn new(target: Target) -> Self {
        let (number, bit) = match target {
            Target::Filter(filter) => (filter, 0),
            Target::Group(group) => (group, GROUP),
        };
        assert!(number < GROUP - 1);
        Self(NonZeroU32::MIN.saturating_add(number | bit))
    }

    fn target(self) -> Target {
        let packed = self.0.get() - 1;
        if packed & GROUP == 0 { Target::Filter(packed) } else { Target::Group(packed & !GROUP) }
    }
}

/// The list of a session's subscriptions: its first one, how many, and how many of them are shared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SubscriptionList {
    first: u32,
    count: u32,
    shared_count: u32,
}

impl SubscriptionList {
    pub(crate) const EMPTY: Self = Self { first: NONE, count: 0, shared_count: 0 };

    /// Subscriptions of the session.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Some of them are shared.
    pub(super) fn has_shared(&self) -> bool {
        self.shared_count > 0
    }

    /// The subscription that was added last.
    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    fn check(&self) {
        assert!(self.shared_count <= self.count);
        assert!((self.first == NONE) == (self.count == 0));
    }
}

#[derive(Debug)]
struct Subscription {
    session: u32,
    target: PackedTarget,
    /// Index in the member list of the target.
    position: u32,
    /// Neighbours in the list of the session.
    next: u32,
    previous: u32,
}

// A shard has one for each subscription, and as many as sessions at least.
const _: () = assert!(Pool::<Subscription>::SLOT_BYTES == 20);

/// All subscriptions of a shard.
#[derive(Debug)]
pub(super) struct Subscriptions {
    hasher: Keyed,
    slots: Pool<Subscription>,
    by_session: Index,
    shared_count: usize,
    /// By session: the subscription from which on other shards are to be told about its groups.
    untold: Sparse<u32>,
}

impl Subscriptions {
    pub(super) fn new(hasher: Keyed) -> Self {
        Self {
            hasher,
            slots: Pool::new(),
            by_session: Index::new(),
            shared_count: 0,
            untold: Sparse::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of slots and of the table that finds them.
    pub(super) fn bytes_held(&self) -> u64 {
        self.slots.bytes_held() + self.by_session.bytes_held() + self.untold.bytes_held()
    }

    pub(super) fn shared_count(&self) -> usize {
        self.shared_count
    }

    pub(super) fn find(&self, session: u32, target: Target) -> Option<u32> {
        let hash = self.hasher.pair(session, target.as_u64());
        self.by_session.find(hash, |subscription| {
            let subscription = self.slots.get(subscription);
            subscription.session == session && subscription.target.target() == target
        })
    }

    /// The index of a subscription in the member list of its target.
    pub(super) fn position(&self, subscription: u32) -> u32 {
        self.slots.get(subscription).position
    }

    pub(super) fn target(&self, subscription: u32) -> Target {
        self.slots.get(subscription).target.target()
    }

    /// The subscription after this one in the list of its session.
    pub(super) fn next(&self, subscription: u32) -> Option<u32> {
        let next = self.slots.get(subscription).next;
        (next != NONE).then_some(next)
    }

    /// Other shards are to be told about a session's groups from this subscription on; `NONE`: they know all.
    pub(super) fn set_untold(&mut self, session: u32, subscription: u32) {
        if subscription == NONE {
            self.untold.take(session);
        } else {
            self.untold.set(session, subscription);
        }
    }

    /// The session of a list with a first subscription.
    pub(super) fn session_of(&self, list: SubscriptionList) -> Option<u32> {
        list.first().map(|subscription| self.slots.get(subscription).session)
    }

    /// Sessions of which other shards are to be told about some groups.
    pub(super) fn untold_count(&self) -> usize {
        self.untold.len()
    }

    pub(super) fn is_untold(&self, session: u32) -> bool {
        self.untold.get(session).is_some()
    }

    /// The target of the next subscription of a session whose group other shards are to be told about, if it is a group.
    pub(super) fn next_untold(&mut self, session: u32) -> Option<Target> {
        let subscription = *self.untold.get(session)?;
        self.set_untold(session, self.slots.get(subscription).next);
        Some(self.target(subscription))
    }

    /// The session, target and position of what is in a slot, if something is.
    pub(super) fn at(&self, slot: u32) -> Option<(u32, Target, u32)> {
        let subscription = self.slots.at(slot)?;
        Some((subscription.session, subscription.target.target(), subscription.position))
    }

    /// One past the highest slot ever taken.
    pub(super) fn slot_count(&self) -> u32 {
        self.slots.slot_count()
    }

    /// The targets of a session's subscriptions, each with the position in its member list.
    pub(super) fn of(&self, list: SubscriptionList) -> impl Iterator<Item = (Target, u32)> {
        let subscriptions = core::iter::successors(list.first(), |&subscription| self.next(subscription));
        subscriptions.map(|subscription| (self.target(subscription), self.position(subscription)))
    }

    /// Adds a subscription that the session does not have yet; its member will stand at `position`.
    pub(super) fn add(
        &mut self,
        list: &mut SubscriptionList,
        session: u32,
        target: Target,
        position: u32,
    ) -> u32 {
        list.check();
        let packed = PackedTarget::new(target);
        let added = Subscription { session, target: packed, position, next: list.first, previous: NONE };
        let subscription = self.slots.insert(added);
        if list.first != NONE {
            let head = self.slots.get_mut(list.first);
            assert!(head.previous == NONE && head.session == session);
            head.previous = subscription;
        }
        list.first = subscription;
        list.count += 1;
        if matches!(target, Target::Group(_)) {
            list.shared_count += 1;
            self.shared_count += 1;
        }
        let hash = self.hasher.pair(session, target.as_u64());
        self.by_session.insert(hash, subscription);
        assert!(self.by_session.len() == self.slots.len());
        subscription
    }

    /// Removes a subscription of the list's session. Returns its target and its position there.
    pub(super) fn remove(&mut self, list: &mut SubscriptionList, subscription: u32) -> (Target, u32) {
        let Subscription { session, target, position, next, previous } = self.slots.remove(subscription);
        let target = target.target();
        if self.untold.get(session) == Some(&subscription) {
            self.set_untold(session, next);
        }
        self.by_session.remove(self.hasher.pair(session, target.as_u64()), subscription);
        assert!(self.by_session.len() == self.slots.len());
        if previous == NONE {
            assert!(list.first == subscription);
            list.first = next;
        } else {
            let previous = self.slots.get_mut(previous);
            assert!(previous.next == subscription);
            previous.next = next;
        }
        if next != NONE {
            let next = self.slots.get_mut(next);
            assert!(next.previous == subscription);
            next.previous = previous;
        }
        list.count -= 1;
        if matches!(target, Target::Group(_)) {
            list.shared_count -= 1;
            self.shared_count -= 1;
        }
        list.check();
        (target, position)
    }

    /// # Panics
    /// If its slots are linked wrongly.
    pub(super) fn check(&self) {
        self.slots.check();
        self.by_session.check();
    }

    /// A removal moved the member of this subscription from the end of the target's list to `position`.
    pub(super) fn reposition(&mut self, subscription: u32, target: Target, position: u32) {
        let moved = self.slots.get_mut(subscription);
        assert!(moved.target.target() == target);
        assert!(moved.position > position);
        moved.position = position;
    }
}

/// The options of a subscription whose packet or record names its QoS alone: MQTT 3.1.1, and restored ones.
pub(crate) const fn plain_options(qos: QoS) -> SubscribeOptions {
    SubscribeOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_the_same_when_it_is_unpacked() {
        for number in [0, 1, 7, GROUP - 2] {
            for target in [Target::Filter(number), Target::Group(number)] {
                assert_eq!(PackedTarget::new(target).target(), target);
            }
        }
    }
}
