//! The subscription tree: which sessions of this shard want a topic.
//! Knows no connection, no delivery and no other shard; `deliver` joins those.
//!
//! A filter without wildcards is found by one look-up of the whole topic. Filters with wildcards hang
//! in a trie by level. What hot topics matched is remembered until the filters change.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use compact_str::CompactString;
use hashbrown::HashTable;
use smallvec::SmallVec;
use wire::{QoS, RetainHandling, SubscribeOptions, SubscriptionId, TopicFilter};

use crate::base::hash::Keyed;
use crate::mesh::interest::Interest;
use crate::mesh::topology::Placement;

use super::match_cache::MatchCache;
use super::pool::{NONE, Pool};
use super::trie::Trie;

/// Names a group in one word, beside which there may be none. It lasts as long as the group has a member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct GroupTag(NonZeroU32);

impl GroupTag {
    pub(crate) fn of(group: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(group))
    }

    pub(crate) fn group(self) -> u32 {
        self.0.get() - 1
    }
}

/// A session that subscribes to a filter, as the fan-out reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    /// Slot of the session; its generation is not needed, a session unsubscribes before it ends.
    pub(crate) session: u32,
    subscription: u32,
    pub(crate) identifier: Option<SubscriptionId>,
    pub(crate) options: SubscribeOptions,
}

/// Who subscribes to a filter or is in a group. Most filters have one subscriber, and that one is no allocation of its own.
type Members = SmallVec<[Member; 1]>;

/// Where a subscription hangs: at a filter, or in a group that shares the filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Filter(u32),
    Group(u32),
}

impl Place {
    fn as_u64(self) -> u64 {
        match self {
            Self::Filter(filter) => u64::from(filter),
            Self::Group(group) => 1 << 32 | u64::from(group),
        }
    }
}

#[derive(Debug)]
struct Subscription {
    session: u32,
    place: Place,
    /// Index in the member list of its place.
    position: u32,
    /// Neighbours in the list of its session.
    next: u32,
    previous: u32,
}

#[derive(Debug)]
struct Filter {
    text: CompactString,
    /// Where it ends in the trie; `NONE` without wildcards.
    node: u32,
    members: Members,
    beside: Option<Box<Extension>>,
}

/// What few filters have.
#[derive(Debug, Default)]
struct Extension {
    groups: Vec<u32>,
    /// What the other shards want of it, if it has wildcards.
    interest: Interest,
}

impl Filter {
    fn groups(&self) -> &[u32] {
        self.beside.as_ref().map_or(&[], |beside| &beside.groups)
    }

    fn interest(&self) -> Option<&Interest> {
        self.beside.as_ref().map(|beside| &beside.interest).filter(|interest| !interest.is_empty())
    }

    /// Changes what few filters have; nothing is kept of it once there is nothing.
    fn change_extension(&mut self, change: impl FnOnce(&mut Extension)) {
        let beside = self.beside.get_or_insert_default();
        change(beside);
        if beside.groups.is_empty() && beside.interest.is_empty() {
            self.beside = None;
        }
    }
}

/// A change that the other shards have to know.
#[derive(Debug)]
pub(crate) enum Change {
    /// The first subscriber that is in no group came, or the last one went.
    Interest { filter: Box<str>, wanted: bool },
    /// The members of a group changed.
    Group { filter: Box<str>, key: u64 },
}

/// A group of a shared subscription: each message goes to one of its members [MQTT-4.8.2-1].
#[derive(Debug)]
pub(crate) struct Group {
    name: Box<str>,
    filter: u32,
    /// Index in the group list of its filter.
    position: u32,
    pub(crate) members: Members,
    /// The member whose turn is next.
    pub(crate) cursor: u32,
    /// What stands for it between shards, and where the group itself may be gone meanwhile.
    pub(crate) key: u64,
    /// Members online, and offline ones that can keep a message, since they were counted last.
    pub(crate) counts: Option<(u32, u32)>,
}

/// The list of a session's subscriptions: its first one, how many, and how many of them are shared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SubscriptionList {
    first: u32,
    pub(crate) count: u32,
    shared_count: u32,
}

impl SubscriptionList {
    pub(crate) const EMPTY: Self = Self { first: NONE, count: 0, shared_count: 0 };
}

/// **Lives on:** every shard. **Sees:** subscriptions of sessions owned here.
#[derive(Debug)]
pub(crate) struct Tree {
    hasher: Keyed,
    filters: Pool<Filter>,
    groups: Pool<Group>,
    wild: Trie,
    hot: MatchCache,
    subscriptions: Pool<Subscription>,
    by_text: HashTable<u32>,
    by_group: HashTable<u32>,
    by_session: HashTable<u32>,
    by_key: HashTable<u32>,
    exact_count: usize,
    text_bytes: u64,
    shared_count: usize,
    /// How groups are called between shards.
    placement: Placement,
    /// There are other shards to be told.
    is_watched: bool,
    changes: VecDeque<Change>,
}

impl Tree {
    pub(crate) fn new(hasher: Keyed, placement: Placement) -> Self {
        Self {
            hasher,
            filters: Pool::new(),
            groups: Pool::new(),
            wild: Trie::new(hasher),
            hot: MatchCache::new(),
            subscriptions: Pool::new(),
            by_text: HashTable::new(),
            by_group: HashTable::new(),
            by_session: HashTable::new(),
            by_key: HashTable::new(),
            exact_count: 0,
            text_bytes: 0,
            shared_count: 0,
            placement,
            is_watched: false,
            changes: VecDeque::new(),
        }
    }

    /// From now on, notes what the other shards have to know.
    pub(crate) fn watch_changes(&mut self, placement: Placement) {
        self.placement = placement;
        self.is_watched = true;
    }

    /// The oldest change not yet told. Bounded by what one step changes.
    pub(crate) fn next_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// The group that other shards call `key`.
    pub(crate) fn group_by_key(&self, key: u64) -> Option<u32> {
        self.by_key.find(key, |&group| self.groups.get(group).key == key).copied()
    }

    /// The group of a shared subscription's filter.
    pub(crate) fn group_named(&self, text: &TopicFilter<'_>) -> Option<u32> {
        match self.place_of(text)? {
            Place::Group(group) => Some(group),
            Place::Filter(_) => None,
        }
    }

    pub(crate) fn group(&self, group: u32) -> &Group {
        self.groups.get(group)
    }

    pub(crate) fn has_groups(&self) -> bool {
        self.groups.len() > 0
    }

    /// What the other shards want of a filter with wildcards.
    pub(crate) fn interest(&self, filter: u32) -> Option<&Interest> {
        self.filters.get(filter).interest()
    }

    /// Changes what the other shards want of a filter with wildcards.
    pub(crate) fn change_interest(&mut self, text: &TopicFilter<'_>, change: impl FnOnce(&mut Interest)) {
        assert!(text.has_wildcard());
        let filter = self.filter_or_new(text);
        self.filters.get_mut(filter).change_extension(|beside| change(&mut beside.interest));
        self.drop_filter_if_unused(filter);
    }

    /// A session came online, went offline or changed whether it keeps messages: its groups count anew.
    pub(crate) fn member_changed(&mut self, list: SubscriptionList) {
        if !self.is_watched || list.shared_count == 0 {
            return;
        }
        let mut at = list.first;
        while at != NONE {
            let Subscription { place, next, .. } = *self.subscriptions.get(at);
            match place {
                Place::Filter(_) => {}
                Place::Group(group) => self.group_changed(group),
            }
            at = next;
        }
    }

    fn group_changed(&mut self, group: u32) {
        if self.is_watched {
            let group = self.groups.get_mut(group);
            group.counts = None;
            let filter = self.filters.get(group.filter).text.as_str().into();
            self.changes.push_back(Change::Group { filter, key: group.key });
        }
    }

    fn interest_changed(&mut self, filter: u32, wanted: bool) {
        if self.is_watched {
            let filter = self.filters.get(filter).text.as_str().into();
            self.changes.push_back(Change::Interest { filter, wanted });
        }
    }

    /// Subscriptions held.
    pub(crate) fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    /// Bytes of the texts of filters, those of other shards included, and of the names of groups.
    pub(crate) fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// Those of them that are in a group.
    pub(crate) fn shared_count(&self) -> usize {
        self.shared_count
    }

    /// Slots in use for filters, groups and trie nodes: all back at their baseline (0, 0, 1) once
    /// nobody subscribes.
    pub(crate) fn slot_counts(&self) -> (usize, usize, usize) {
        (self.filters.len(), self.groups.len(), self.wild.node_count())
    }

    pub(crate) fn members(&self, filter: u32) -> &[Member] {
        &self.filters.get(filter).members
    }

    pub(crate) fn groups(&self, filter: u32) -> &[u32] {
        self.filters.get(filter).groups()
    }

    pub(crate) fn group_mut(&mut self, group: u32) -> &mut Group {
        self.groups.get_mut(group)
    }

    /// Adds a subscription or replaces its options [MQTT-3.8.4-3]. Returns whether it is new.
    pub(crate) fn subscribe(
        &mut self,
        list: &mut SubscriptionList,
        session: u32,
        text: &TopicFilter<'_>,
        options: SubscribeOptions,
        identifier: Option<SubscriptionId>,
    ) -> bool {
        let filter = self.filter_or_new(text);
        let place = match text.share_name() {
            None => Place::Filter(filter),
            Some(name) => Place::Group(self.group_or_new(filter, name, text)),
        };
        if let Some(subscription) = self.find(session, place) {
            let position = self.subscriptions.get(subscription).position as usize;
            let member = &mut self.members_mut(place)[position];
            member.options = options;
            member.identifier = identifier;
            return false;
        }
        let members = self.members_mut(place);
        let position = u32::try_from(members.len()).expect("at most one member a session");
        members.push(Member { session, subscription: NONE, identifier, options });
        let subscription = self.subscriptions.insert(Subscription {
            session,
            place,
            position,
            next: list.first,
            previous: NONE,
        });
        self.members_mut(place)[position as usize].subscription = subscription;
        if list.first != NONE {
            self.subscriptions.get_mut(list.first).previous = subscription;
        }
        *list = SubscriptionList { first: subscription, count: list.count + 1, ..*list };
        match place {
            Place::Filter(filter) if position == 0 => self.interest_changed(filter, true),
            Place::Filter(_) => {}
            Place::Group(group) => {
                list.shared_count += 1;
                self.shared_count += 1;
                self.group_changed(group);
            }
        }
        let hash = self.hasher.pair(session, place.as_u64());
        let (subscriptions, hasher) = (&self.subscriptions, self.hasher);
        self.by_session.insert_unique(hash, subscription, |&other| {
            let other = subscriptions.get(other);
            hasher.pair(other.session, other.place.as_u64())
        });
        true
    }

    /// Whether `session` holds this very filter.
    pub(crate) fn holds(&self, session: u32, text: &TopicFilter<'_>) -> bool {
        self.place_of(text).and_then(|place| self.find(session, place)).is_some()
    }

    /// Removes a subscription; `false` if there was none [MQTT-3.10.4-1].
    pub(crate) fn unsubscribe(
        &mut self,
        list: &mut SubscriptionList,
        session: u32,
        text: &TopicFilter<'_>,
    ) -> bool {
        let Some(subscription) = self.place_of(text).and_then(|place| self.find(session, place)) else {
            return false;
        };
        self.remove(list, subscription);
        true
    }

    /// Removes all subscriptions of a session.
    pub(crate) fn unsubscribe_all(&mut self, list: &mut SubscriptionList) {
        while list.first != NONE {
            self.remove(list, list.first);
        }
        assert!(list.count == 0);
    }

    /// Visits the subscriptions of a session: share name, filter, options, identifier.
    pub(crate) fn for_each(
        &self,
        list: SubscriptionList,
        mut visit: impl FnMut(Option<&str>, &str, &Member),
    ) {
        let mut at = list.first;
        while at != NONE {
            let subscription = self.subscriptions.get(at);
            let position = subscription.position as usize;
            match subscription.place {
                Place::Filter(filter) => {
                    let filter = self.filters.get(filter);
                    visit(None, &filter.text, &filter.members[position]);
                }
                Place::Group(group) => {
                    let group = self.groups.get(group);
                    let filter = self.filters.get(group.filter);
                    visit(Some(&group.name), &filter.text, &group.members[position]);
                }
            }
            at = subscription.next;
        }
    }

    /// Appends every filter that matches `topic` to `matched`. Returns the topic's fingerprint; 0 if there is
    /// no other shard.
    ///
    /// Bounded by the filters with wildcards; see [`Trie::matches`].
    pub(crate) fn matches(&mut self, topic: &str, matched: &mut Vec<u32>) -> u64 {
        if let Some((filters, fingerprint)) = self.hot.get(topic) {
            matched.extend_from_slice(filters);
            return fingerprint;
        }
        let before = matched.len();
        if self.exact_count > 0
            && let Some(filter) = self.filter_of(topic)
        {
            matched.push(filter);
        }
        self.wild.matches(topic, matched);
        let fingerprint = if self.is_watched { self.placement.fingerprint(topic) } else { 0 };
        self.hot.set(topic, &matched[before..], fingerprint);
        fingerprint
    }

    fn members_mut(&mut self, place: Place) -> &mut Members {
        match place {
            Place::Filter(filter) => &mut self.filters.get_mut(filter).members,
            Place::Group(group) => &mut self.groups.get_mut(group).members,
        }
    }

    fn find(&self, session: u32, place: Place) -> Option<u32> {
        let hash = self.hasher.pair(session, place.as_u64());
        self.by_session
            .find(hash, |&subscription| {
                let subscription = self.subscriptions.get(subscription);
                subscription.session == session && subscription.place == place
            })
            .copied()
    }

    fn place_of(&self, text: &TopicFilter<'_>) -> Option<Place> {
        let filter = self.filter_of(text.filter())?;
        match text.share_name() {
            None => Some(Place::Filter(filter)),
            Some(name) => self.group_of(filter, name).map(Place::Group),
        }
    }

    fn filter_of(&self, text: &str) -> Option<u32> {
        self.by_text
            .find(self.hasher.bytes(text.as_bytes()), |&filter| *self.filters.get(filter).text == *text)
            .copied()
    }

    fn group_of(&self, filter: u32, name: &str) -> Option<u32> {
        self.by_group
            .find(self.hasher.below(filter, name.as_bytes()), |&group| {
                let group = self.groups.get(group);
                group.filter == filter && *group.name == *name
            })
            .copied()
    }

    fn filter_or_new(&mut self, text: &TopicFilter<'_>) -> u32 {
        if let Some(filter) = self.filter_of(text.filter()) {
            return filter;
        }
        self.text_bytes += text.filter().len() as u64;
        let filter = self.filters.insert(Filter {
            text: text.filter().into(),
            node: NONE,
            members: Members::new(),
            beside: None,
        });
        if text.has_wildcard() {
            self.filters.get_mut(filter).node = self.wild.insert(text.filter(), filter);
            self.hot.invalidate_all();
        } else {
            self.hot.forget(text.filter());
            self.exact_count += 1;
        }
        let (filters, hasher) = (&self.filters, self.hasher);
        self.by_text.insert_unique(self.hasher.bytes(text.filter().as_bytes()), filter, |&other| {
            hasher.bytes(filters.get(other).text.as_bytes())
        });
        filter
    }

    fn group_or_new(&mut self, filter: u32, name: &str, text: &TopicFilter<'_>) -> u32 {
        if let Some(group) = self.group_of(filter, name) {
            return group;
        }
        let position = u32::try_from(self.groups(filter).len()).expect("at most one group a subscription");
        let key = self.placement.group_key(name, text);
        self.text_bytes += name.len() as u64;
        let group = self.groups.insert(Group {
            name: name.into(),
            filter,
            position,
            members: Members::new(),
            cursor: 0,
            key,
            counts: None,
        });
        let groups = &self.groups;
        self.by_key.insert_unique(key, group, |&other| groups.get(other).key);
        self.filters.get_mut(filter).change_extension(|beside| beside.groups.push(group));
        let (groups, hasher) = (&self.groups, self.hasher);
        self.by_group.insert_unique(self.hasher.below(filter, name.as_bytes()), group, |&other| {
            let other = groups.get(other);
            hasher.below(other.filter, other.name.as_bytes())
        });
        group
    }

    fn remove(&mut self, list: &mut SubscriptionList, subscription: u32) {
        let Subscription { session, place, position, next, previous } =
            self.subscriptions.remove(subscription);
        let hash = self.hasher.pair(session, place.as_u64());
        self.by_session
            .find_entry(hash, |&other| other == subscription)
            .expect("every subscription is in the table")
            .remove();
        if previous == NONE {
            assert!(list.first == subscription);
            list.first = next;
        } else {
            self.subscriptions.get_mut(previous).next = next;
        }
        if next != NONE {
            self.subscriptions.get_mut(next).previous = previous;
        }
        list.count -= 1;
        match place {
            Place::Filter(_) => {}
            Place::Group(group) => {
                list.shared_count -= 1;
                self.shared_count -= 1;
                self.group_changed(group);
            }
        }

        let members = self.members_mut(place);
        members.swap_remove(position as usize);
        if let Some(moved) = members.get(position as usize).map(|member| member.subscription) {
            self.subscriptions.get_mut(moved).position = position;
        } else if members.is_empty() {
            *members = Members::new();
            match place {
                Place::Filter(filter) => {
                    self.interest_changed(filter, false);
                    self.drop_filter_if_unused(filter);
                }
                Place::Group(group) => self.drop_group(group),
            }
        }
    }

    fn drop_group(&mut self, group: u32) {
        let Group { name, filter, position, members, key, .. } = self.groups.remove(group);
        assert!(members.is_empty());
        self.text_bytes -= name.len() as u64;
        self.by_group
            .find_entry(self.hasher.below(filter, name.as_bytes()), |&other| other == group)
            .expect("every group is in the table")
            .remove();
        self.by_key.find_entry(key, |&other| other == group).expect("every group is in the table").remove();
        let filter_left = self.filters.get_mut(filter);
        filter_left.change_extension(|beside| _ = beside.groups.swap_remove(position as usize));
        if let Some(&moved) = filter_left.groups().get(position as usize) {
            self.groups.get_mut(moved).position = position;
        }
        self.drop_filter_if_unused(filter);
    }

    fn drop_filter_if_unused(&mut self, index: u32) {
        let filter = self.filters.get(index);
        if !filter.members.is_empty() || filter.beside.is_some() {
            return;
        }
        let filter = self.filters.remove(index);
        self.text_bytes -= filter.text.len() as u64;
        self.by_text
            .find_entry(self.hasher.bytes(filter.text.as_bytes()), |&other| other == index)
            .expect("every filter is in the table")
            .remove();
        if filter.node == NONE {
            self.hot.forget(&filter.text);
            self.exact_count -= 1;
            return;
        }
        self.hot.invalidate_all();
        self.wild.remove(filter.node, index);
    }
}

/// The options a subscription has when nothing says otherwise: 3.1.1, and restored ones.
pub(crate) const fn plain_options(qos: QoS) -> SubscribeOptions {
    SubscribeOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
