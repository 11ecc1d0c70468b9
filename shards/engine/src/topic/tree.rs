//! The subscription tree of one shard: topic filters, and the sessions of this shard that subscribe to each.
//!
//! Invariants worth naming:
//! - A filter is held while a session subscribes to it, a group shares it, or it is pinned. So no text outlives its use.
//! - A filter keeps its number as long as it is held, so a number from [`Tree::matches`] is valid until the tree changes, and the number
//!   of a pinned filter until it is unpinned.
//! - A filter without wildcards is found by one look-up of the whole topic, whatever the number of filters. Filters with wildcards are
//!   in a trie. The match cache keeps the result for recent topics until the filters change.
//! - Changes are recorded once names are shared, and in the order in which they happened: others rebuild this shard's interest from them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use wire::{SubscribeOptions, SubscriptionId, TopicFilter};

use crate::base::fingerprint::Fingerprints;
use crate::base::hash::Keyed;
use crate::base::heap;
use crate::base::long_list::LongList;
use crate::base::pool::number;

use super::filters::Filters;
use super::groups::Groups;
use super::match_cache::MatchCache;
use super::members::{Member, Members};
use super::subscriptions::{SubscriptionList, Subscriptions, Target};
use super::trie::Trie;

pub(crate) use super::filters::Wanted;

/// The result of a look-up beside the filters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matched {
    fingerprint: u64,
    visited_count: u32,
    serial: u64,
}

impl Matched {
    /// The topic's fingerprint; 0 while names are not shared.
    pub(crate) fn fingerprint(self) -> u64 {
        self.fingerprint
    }

    /// Names the topic, which has the same serial as long as the match cache knows it; 0 if it does not.
    pub(crate) fn serial(self) -> u64 {
        self.serial
    }

    /// Nodes of the trie that the look-up visited, as a measure of its work; 0 if the match cache knew the topic.
    pub(crate) fn visited_count(self) -> u32 {
        self.visited_count
    }
}

/// **Lives on:** every shard. **Sees:** subscriptions of sessions owned here.
#[derive(Debug)]
pub(crate) struct Tree {
    filters: Filters,
    /// Filters without wildcards.
    exact_count: usize,
    wild: Trie,
    cache: MatchCache,
    groups: Groups,
    subscriptions: Subscriptions,
    /// Heap bytes of lists of members and groups.
    list_bytes: u64,
    fingerprints: Fingerprints,
    shares_names: bool,
    /// Drained in every step, so bounded by the subscriptions that one step changes.
    changes: VecDeque<Change>,
}

impl Tree {
    pub(crate) fn new(hasher: Keyed) -> Self {
        Self {
            filters: Filters::new(hasher),
            exact_count: 0,
            wild: Trie::new(hasher),
            cache: MatchCache::new(),
            groups: Groups::new(hasher),
            subscriptions: Subscriptions::new(hasher),
            list_bytes: 0,
            fingerprints: Fingerprints::new(hasher),
            shares_names: false,
            changes: VecDeque::new(),
        }
    }

    /// From now on records changes and computes fingerprints, under a key that all who share the names have.
    ///
    /// To be called before the first subscription: keys of groups are computed once.
    pub(crate) fn share_names(&mut self, fingerprints: Fingerprints) {
        assert!(!self.shares_names);
        assert!(self.filters.len() == 0);
        self.fingerprints = fingerprints;
        self.shares_names = true;
        self.cache.invalidate_all();
    }

    /// Computes the keys of groups under this key, which later starts of the process have too. To be called before the first
    /// subscription.
    pub(crate) fn name_groups_by(&mut self, fingerprints: Fingerprints) {
        assert!(self.filters.len() == 0);
        self.fingerprints = fingerprints;
    }

    /// Appends every filter that matches `topic` to `matched`.
    ///
    /// The nodes visited are at most [`Self::cost`].
    pub(crate) fn matches(&mut self, topic: &str, matched: &mut Vec<u32>) -> Matched {
        if let Some((filters, fingerprint, serial)) = self.cache.get(topic) {
            matched.extend_from_slice(filters);
            return Matched { fingerprint, visited_count: 0, serial };
        }
        let before = matched.len();
        if self.exact_count > 0
            && let Some(filter) = self.filters.find(topic)
        {
            matched.push(filter);
        }
        let visited_count = self.wild.matches(&self.filters, topic, matched);
        let fingerprint = if self.shares_names { self.fingerprints.of_topic(topic) } else { 0 };
        let serial = self.cache.set(topic, &matched[before..], fingerprint);
        Matched { fingerprint, visited_count, serial }
    }

    /// The most nodes of the trie that any topic can make [`Self::matches`] visit.
    pub(crate) fn cost(&self) -> u32 {
        self.wild.cost()
    }

    /// Whether the cost stays within `nodes_max` with this filter, or does not change because the filter is held already.
    pub(crate) fn fits(&mut self, text: &TopicFilter<'_>, nodes_max: u32) -> bool {
        if !text.has_wildcard() {
            return true;
        }
        let text = text.filter();
        if self.cost().saturating_add(Trie::cost_added_max(text)) <= nodes_max
            || self.filters.find(text).is_some()
        {
            return true;
        }
        // Close to the bound, the filter is tried. Nobody sees it, so what is cached stays right.
        let old_cost = self.cost();
        let filter = self.filters.add(text);
        let node = self.wild.insert(&self.filters, filter);
        let cost = self.cost();
        self.wild.remove(&self.filters, node, filter);
        self.filters.remove(filter);
        assert!(self.cost() == old_cost);
        cost <= nodes_max.max(old_cost)
    }

    /// The sessions that subscribe to a filter; its groups are apart.
    pub(crate) fn members(&self, filter: u32) -> &Members {
        self.filters.get(filter).members()
    }

    /// The groups that share a filter.
    pub(crate) fn groups(&self, filter: u32) -> &LongList<u32> {
        self.filters.get(filter).groups()
    }

    /// The number of a filter, if it is held.
    #[cfg(test)]
    pub(crate) fn filter_named(&self, text: &TopicFilter<'_>) -> Option<u32> {
        self.filters.find(text.filter())
    }

    /// Holds a filter with wildcards, though no session here may subscribe to it. Returns its number, valid until [`Self::unpin`]. To
    /// pin it again changes nothing.
    pub(crate) fn pin(&mut self, text: &TopicFilter<'_>) -> u32 {
        assert!(text.has_wildcard());
        assert!(text.share_name().is_none());
        let filter = self.filter_or_new(text);
        self.filters.get_mut(filter).set_pinned(true);
        filter
    }

    /// Undoes [`Self::pin`]: the filter is dropped unless a session or group here uses it.
    pub(crate) fn unpin(&mut self, filter: u32) {
        let pinned = self.filters.get_mut(filter);
        assert!(pinned.is_pinned());
        pinned.set_pinned(false);
        self.drop_filter_if_unused(filter);
    }

    /// Adds a subscription or replaces its options [MQTT-3.8.4-3]. It is `lasting` if its messages of QoS 1 and 2 have to outlive the
    /// process. Returns whether it is new.
    pub(crate) fn subscribe(
        &mut self,
        list: &mut SubscriptionList,
        (session, is_lasting): (u32, bool),
        text: &TopicFilter<'_>,
        options: SubscribeOptions,
        identifier: Option<SubscriptionId>,
    ) -> bool {
        let filter = self.filter_or_new(text);
        let before = self.filters.get(filter).wanted();
        let target = match text.share_name() {
            None => Target::Filter(filter),
            Some(name) => Target::Group(self.group_or_new(filter, name, text)),
        };
        if let Some(subscription) = self.subscriptions.find(session, target) {
            let position = self.subscriptions.position(subscription);
            let terms = (options, identifier);
            let was_lasting = self.members_mut(target).change(position, session, is_lasting, terms);
            if was_lasting != is_lasting {
                self.record_change(target, before, (was_lasting, is_lasting));
            }
            return false;
        }
        let position = self.members_mut(target).next_position();
        let subscription = self.subscriptions.add(list, session, target, position);
        let members = self.members_mut(target);
        let held_bytes = members.heap_bytes();
        members.push(Member::new(session, (subscription, is_lasting), options, identifier));
        self.list_bytes = self.list_bytes + self.members_mut(target).heap_bytes() - held_bytes;
        self.record_change(target, before, (false, is_lasting));
        true
    }

    /// Whether `session` subscribes to exactly this filter.
    pub(crate) fn holds(&self, session: u32, text: &TopicFilter<'_>) -> bool {
        self.find(session, text).is_some()
    }

    /// Removes a subscription; `false` if there was none [MQTT-3.10.4-1].
    pub(crate) fn unsubscribe(
        &mut self,
        list: &mut SubscriptionList,
        session: u32,
        text: &TopicFilter<'_>,
    ) -> bool {
        let Some(subscription) = self.find(session, text) else { return false };
        self.remove(list, subscription);
        true
    }

    /// Removes one subscription of a session that has ended; `false` once none is left.
    pub(crate) fn unsubscribe_one(&mut self, list: &mut SubscriptionList) -> bool {
        let Some(subscription) = list.first() else {
            assert!(list.count() == 0);
            assert!(!list.has_shared());
            return false;
        };
        self.remove(list, subscription);
        true
    }

    /// Visits the subscriptions of a session: share name, filter and member.
    pub(crate) fn for_each(
        &self,
        list: SubscriptionList,
        mut visit: impl FnMut(Option<&str>, &str, &Member),
    ) {
        for (target, position) in self.subscriptions.of(list) {
            let (share_name, filter, member) = self.listed(target, position);
            visit(share_name, filter, member);
        }
    }

    pub(crate) fn has_groups(&self) -> bool {
        self.groups.len() > 0
    }

    /// The group with this key, if it has a member here.
    pub(crate) fn group_by_key(&self, key: u64) -> Option<u32> {
        self.groups.by_key(key)
    }

    /// The group of a shared subscription's filter.
    pub(crate) fn group_named(&self, text: &TopicFilter<'_>) -> Option<u32> {
        match self.target_of(text)? {
            Target::Group(group) => Some(group),
            Target::Filter(_) => None,
        }
    }

    /// The fingerprint that names a group between shards, also after it is gone here.
    pub(crate) fn group_key(&self, group: u32) -> u64 {
        self.groups.get(group).key()
    }

    pub(crate) fn group_members(&self, group: u32) -> &Members {
        self.groups.get(group).members()
    }

    /// The member whose turn is next. Members may have left since it was set, so it is taken modulo their count.
    pub(crate) fn group_cursor(&self, group: u32) -> u32 {
        self.groups.get(group).cursor()
    }

    pub(crate) fn set_group_cursor(&mut self, group: u32, cursor: u32) {
        self.groups.set_cursor(group, cursor);
    }

    /// Grows whenever the members of the group, or whether they are online, may have changed. No two groups ever have the same.
    pub(crate) fn group_version(&self, group: u32) -> u64 {
        self.groups.version(group)
    }

    /// Subscriptions held.
    pub(crate) fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    /// Subscriptions that are in a group.
    pub(crate) fn shared_count(&self) -> usize {
        self.subscriptions.shared_count()
    }

    /// Bytes of the texts of filters, pinned ones included, and of share names.
    pub(crate) fn text_bytes(&self) -> u64 {
        self.filters.text_bytes() + self.groups.name_bytes()
    }

    /// Bytes of everything that the tree holds: slots, texts, tables, lists and caches, by their capacity.
    pub(crate) fn bytes_held(&self) -> u64 {
        self.filters.bytes_held()
            + self.wild.bytes_held()
            + self.cache.bytes_held()
            + self.groups.bytes_held()
            + self.subscriptions.bytes_held()
            + self.list_bytes
            + heap::block(self.changes.capacity() * size_of::<Change>())
    }

    /// Slots in use for filters, groups and trie nodes; (0, 0, 1) while no filter is held.
    pub(crate) fn slot_counts(&self) -> (usize, usize, usize) {
        (self.filters.len(), self.groups.len(), self.wild.node_count())
    }

    fn members_mut(&mut self, target: Target) -> &mut Members {
        match target {
            Target::Filter(filter) => self.filters.get_mut(filter).members_mut(),
            Target::Group(group) => self.groups.members_mut(group),
        }
    }

    fn find(&self, session: u32, text: &TopicFilter<'_>) -> Option<u32> {
        self.subscriptions.find(session, self.target_of(text)?)
    }

    fn target_of(&self, text: &TopicFilter<'_>) -> Option<Target> {
        let filter = self.filters.find(text.filter())?;
        match text.share_name() {
            None => Some(Target::Filter(filter)),
            Some(name) => self.groups.find(filter, name).map(Target::Group),
        }
    }

    fn filter_or_new(&mut self, text: &TopicFilter<'_>) -> u32 {
        if let Some(filter) = self.filters.find(text.filter()) {
            return filter;
        }
        let filter = self.filters.add(text.filter());
        if text.has_wildcard() {
            let node = self.wild.insert(&self.filters, filter);
            self.filters.get_mut(filter).set_node(node);
            self.cache.invalidate_all();
        } else {
            self.cache.forget(text.filter());
            self.exact_count += 1;
        }
        filter
    }

    fn group_or_new(&mut self, filter: u32, name: &str, text: &TopicFilter<'_>) -> u32 {
        if let Some(group) = self.groups.find(filter, name) {
            return group;
        }
        let position = number(self.groups(filter).len());
        let group = self.groups.add(filter, name, position, self.fingerprints.of_group(name, text));
        let filter = self.filters.get_mut(filter);
        let held_bytes = filter.group_list_bytes();
        filter.add_group(group);
        self.list_bytes = self.list_bytes + filter.group_list_bytes() - held_bytes;
        group
    }

    fn remove(&mut self, list: &mut SubscriptionList, subscription: u32) {
        let (target, position) = self.subscriptions.remove(list, subscription);
        let before = match target {
            Target::Filter(filter) => self.filters.get(filter).wanted(),
            Target::Group(group) => {
                self.record_group(group);
                Wanted::Nothing
            }
        };
        let members = self.members_mut(target);
        let held_bytes = members.heap_bytes();
        let (moved, was_lasting) = members.remove(position, subscription);
        let (is_empty, left_bytes) = (members.is_empty(), members.heap_bytes());
        self.list_bytes = self.list_bytes + left_bytes - held_bytes;
        if let Some(moved) = moved {
            self.subscriptions.reposition(moved, target, position);
        }
        match target {
            Target::Filter(filter) => {
                self.record_change(target, before, (was_lasting, false));
                if is_empty {
                    self.drop_filter_if_unused(filter);
                }
            }
            Target::Group(group) if is_empty => self.drop_group(group),
            Target::Group(_) => {}
        }
    }

    fn drop_group(&mut self, group: u32) {
        let removed = self.groups.remove(group);
        let (index, position) = (removed.filter(), removed.position());
        let filter = self.filters.get_mut(index);
        let held_bytes = filter.group_list_bytes();
        let moved = filter.remove_group(position, group);
        self.list_bytes = self.list_bytes + filter.group_list_bytes() - held_bytes;
        if let Some(moved) = moved {
            self.groups.reposition(moved, index, position);
        }
        self.drop_filter_if_unused(index);
    }

    fn drop_filter_if_unused(&mut self, index: u32) {
        let filter = self.filters.get(index);
        if filter.is_used() {
            return;
        }
        if let Some(node) = filter.node() {
            self.cache.invalidate_all();
            self.wild.remove(&self.filters, node, index);
        } else {
            self.cache.forget(filter.text());
            self.exact_count -= 1;
        }
        self.filters.remove(index);
        if self.filters.len() == 0 {
            assert!(self.subscriptions.len() == 0 && self.groups.len() == 0);
            assert!(self.exact_count == 0 && self.text_bytes() == 0 && self.list_bytes == 0);
            assert!(self.wild.node_count() == 1);
        }
    }
}

mod changes;
mod check;
pub(crate) mod listed;
mod telling;

pub(crate) use changes::Change;

#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod tests;
