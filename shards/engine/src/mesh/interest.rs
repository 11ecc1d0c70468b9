//! The interest of the other shards: for each filter, which of them have a subscriber, and which groups have members there.
//!
//! Invariants worth naming:
//! - Filters without wildcards are held by fingerprint, without their text. Two filters with one fingerprint cost a message that is
//!   forwarded in vain; its target counts that.
//! - Filters with wildcards are pinned in the topic tree of this shard, and their interest is held by the tree's number: the walk of a
//!   publish finds it by an index, without another hash. A filter is pinned exactly while it has interest here.

use alloc::boxed::Box;
use alloc::vec::Vec;

use hashbrown::HashTable;
use wire::TopicFilter;

use crate::base::heap;
use crate::base::shard_set::ShardSet;
use crate::topic::tree::{Tree, Wanted};

use super::message::RemoteFilter;

/// The interest of the other shards in one filter.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    /// Shards with a subscriber that is not in a group.
    shards: ShardSet,
    /// The ones of them with a subscriber whose messages of QoS 1 and 2 have to outlive the process.
    lasting: ShardSet,
    /// Keys of groups that have members elsewhere.
    groups: Vec<u64>,
}

impl Interest {
    /// The subscribers of `shard` that are not in a group.
    pub(crate) fn set_shard(&mut self, shard: u16, wanted: Wanted) {
        let set = |set: ShardSet, is_in| if is_in { set.with(shard) } else { set.without(shard) };
        self.shards = set(self.shards, wanted >= Wanted::Volatile);
        self.lasting = set(self.lasting, wanted == Wanted::Lasting);
    }

    /// Whether the group `key` has members elsewhere.
    pub(crate) fn set_group(&mut self, key: u64, has_members: bool) {
        self.groups.retain(|&other| other != key);
        if has_members {
            self.groups.push(key);
        }
    }

    fn is_empty(&self) -> bool {
        self.shards.is_empty() && self.groups.is_empty()
    }
}

/// **Lives on:** every shard. **Sees:** what the other shards announced.
#[derive(Debug, Default)]
pub(crate) struct Interests {
    exact: ExactInterests,
    wild: WildInterests,
}

impl Interests {
    /// Filters that other shards have an interest in: those without wildcards and those with.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.exact.shards.len(), self.wild.count)
    }

    /// Bytes of both tables. Groups of filters without wildcards count by their number.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let exact = self.exact.shards.allocation_size()
            + self.exact.lasting.allocation_size()
            + self.exact.groups.allocation_size();
        let groups = self.exact.groups.len() as u64 * heap::block(size_of::<[u64; 4]>());
        let wild = heap::block(self.wild.by_filter.capacity() * size_of::<usize>());
        exact as u64 + groups + wild + self.wild.count as u64 * heap::block(size_of::<Interest>())
    }

    /// The shards that want a topic, by its fingerprint and the filters that the tree matched.
    pub(crate) fn interested(&self, fingerprint: u64, matched: &[u32]) -> ShardSet {
        let wild = matched.iter().filter_map(|&filter| self.wild.get(filter));
        wild.fold(self.exact.shards(fingerprint), |shards, interest| shards.union(interest.shards))
    }

    /// The interested shards with a subscriber whose messages of QoS 1 and 2 have to outlive the process.
    pub(crate) fn lasting(&self, fingerprint: u64, matched: &[u32]) -> ShardSet {
        let wild = matched.iter().filter_map(|&filter| self.wild.get(filter));
        wild.fold(self.exact.lasting(fingerprint), |shards, interest| shards.union(interest.lasting))
    }

    /// Appends the keys of groups with members elsewhere whose filter matches.
    pub(crate) fn groups(&self, fingerprint: u64, matched: &[u32], keys: &mut Vec<u64>) {
        keys.extend_from_slice(self.exact.groups(fingerprint));
        let wild = matched.iter().filter_map(|&filter| self.wild.get(filter));
        keys.extend(wild.flat_map(|interest| interest.groups.iter().copied()));
    }

    /// Every filter with interest is held by the tree, and none without: for an audit.
    ///
    /// # Panics
    /// If that is not so.
    pub(crate) fn check(&self, tree: &Tree) {
        assert!(tree.pinned_count() == self.wild.count);
        assert!(self.wild.by_filter.iter().flatten().count() == self.wild.count);
        assert!(self.wild.by_filter.iter().flatten().all(|interest| !interest.is_empty()));
        for &(fingerprint, shards) in &self.exact.shards {
            assert!(!shards.is_empty() || !self.exact.groups(fingerprint).is_empty());
        }
        for &(fingerprint, lasting) in &self.exact.lasting {
            assert!(!lasting.is_empty());
            assert!(self.exact.shards(fingerprint).union(lasting) == self.exact.shards(fingerprint));
        }
    }

    /// Changes the interest in one filter; an empty one is forgotten.
    pub(crate) fn change(
        &mut self,
        tree: &mut Tree,
        filter: RemoteFilter<'_>,
        change: impl FnOnce(&mut Interest),
    ) {
        let text = match filter {
            RemoteFilter::Exact(fingerprint) => return self.exact.change(fingerprint, change),
            RemoteFilter::Wild(text) => text,
        };
        let filter = TopicFilter::parse_unshared(text).expect("another shard parsed it");
        let filter = tree.pin(&filter);
        if !self.wild.change(filter, change) {
            tree.unpin(filter);
        }
    }
}

/// Interest in filters with wildcards, by the tree's number.
#[derive(Debug, Default)]
struct WildInterests {
    /// The last one is never empty, so the list is as long as the highest number needs.
    by_filter: Vec<Option<Box<Interest>>>,
    count: usize,
}

impl WildInterests {
    fn get(&self, filter: u32) -> Option<&Interest> {
        self.by_filter.get(filter as usize)?.as_deref()
    }

    /// Returns whether any interest is left.
    fn change(&mut self, filter: u32, change: impl FnOnce(&mut Interest)) -> bool {
        let at = filter as usize;
        if at >= self.by_filter.len() {
            self.by_filter.resize_with(at + 1, || None);
        }
        let slot = &mut self.by_filter[at];
        let known_count = usize::from(slot.is_some());
        let interest = slot.get_or_insert_default();
        change(interest);
        let is_left = !interest.is_empty();
        if !is_left {
            *slot = None;
        }
        self.count = self.count - known_count + usize::from(is_left);
        self.truncate();
        is_left
    }

    /// Drops the empty end of the list, and its memory once most of it is unused.
    fn truncate(&mut self) {
        let len = self.by_filter.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.by_filter.truncate(len);
        if self.by_filter.capacity() / 4 > len {
            self.by_filter.shrink_to(len * 2);
        }
        assert!(self.count <= len);
        assert!((self.count == 0) == (len == 0));
    }
}

/// Interest in filters without wildcards, by fingerprint.
///
/// There may be one for each subscription of the other shards, so an entry is two words and no allocation.
#[derive(Debug, Default)]
struct ExactInterests {
    /// Fingerprints are keyed hashes already. A set is empty only where there are groups.
    shards: HashTable<(u64, ShardSet)>,
    /// Without empty sets, so that there is none without a log.
    lasting: HashTable<(u64, ShardSet)>,
    groups: HashTable<(u64, Vec<u64>)>,
}

impl ExactInterests {
    /// Shards with a subscriber that is not in a group.
    fn shards(&self, fingerprint: u64) -> ShardSet {
        let entry = self.shards.find(fingerprint, |entry| entry.0 == fingerprint);
        entry.map_or(ShardSet::default(), |entry| entry.1)
    }

    /// The ones of them with a lasting subscriber.
    fn lasting(&self, fingerprint: u64) -> ShardSet {
        let entry = self.lasting.find(fingerprint, |entry| entry.0 == fingerprint);
        entry.map_or(ShardSet::default(), |entry| entry.1)
    }

    /// Keys of groups that have members elsewhere.
    fn groups(&self, fingerprint: u64) -> &[u64] {
        let entry = self.groups.find(fingerprint, |entry| entry.0 == fingerprint);
        entry.map_or(&[], |entry| &entry.1)
    }

    /// Changes the interest in one filter; an empty one is forgotten.
    fn change(&mut self, fingerprint: u64, change: impl FnOnce(&mut Interest)) {
        let groups = self.groups.find_entry(fingerprint, |entry| entry.0 == fingerprint);
        let groups = groups.map_or(Vec::new(), |entry| entry.remove().0.1);
        let lasting = self.lasting.find_entry(fingerprint, |entry| entry.0 == fingerprint);
        let lasting = lasting.map_or(ShardSet::default(), |entry| entry.remove().0.1);
        let entry = self.shards.entry(fingerprint, |entry| entry.0 == fingerprint, |entry| entry.0);
        let mut entry = entry.or_insert((fingerprint, ShardSet::default()));
        let mut interest = Interest { shards: entry.get().1, lasting, groups };
        change(&mut interest);
        if interest.is_empty() {
            entry.remove();
            assert!(self.groups.len() <= self.shards.len());
            return;
        }
        entry.get_mut().1 = interest.shards;
        if !interest.lasting.is_empty() {
            self.lasting.insert_unique(fingerprint, (fingerprint, interest.lasting), |entry| entry.0);
        }
        if !interest.groups.is_empty() {
            self.groups.insert_unique(fingerprint, (fingerprint, interest.groups), |entry| entry.0);
        }
        assert!(self.groups.len() <= self.shards.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::{Entropy, Keyed};

    fn groups(interests: &Interests, fingerprint: u64, matched: &[u32]) -> Vec<u64> {
        let mut keys = Vec::new();
        interests.groups(fingerprint, matched, &mut keys);
        keys
    }

    #[test]
    fn interest_comes_and_goes_and_leaves_nothing() {
        let mut tree = Tree::new(Keyed::new(Entropy(7)));
        for filter in [RemoteFilter::Exact(7), RemoteFilter::Wild("a/+")] {
            let mut interests = Interests::default();
            let is_wild = matches!(filter, RemoteFilter::Wild(_));
            let counts = |count| if is_wild { (0, count) } else { (count, 0) };
            interests.change(&mut tree, filter, |interest| interest.set_shard(3, Wanted::Lasting));
            interests.change(&mut tree, filter, |interest| interest.set_group(9, true));
            interests.change(&mut tree, filter, |interest| interest.set_group(9, true));
            let mut matched = Vec::new();
            tree.matches("a/b", &mut matched);
            assert_eq!(matched.len(), usize::from(is_wild));
            assert!(interests.interested(7, &matched).contains(3));
            assert!(interests.lasting(7, &matched).contains(3));
            interests.change(&mut tree, filter, |interest| interest.set_shard(3, Wanted::Volatile));
            assert!(interests.interested(7, &matched).contains(3));
            assert!(interests.lasting(7, &matched).is_empty());
            interests.check(&tree);
            assert_eq!(groups(&interests, 7, &matched), [9]);
            interests.change(&mut tree, filter, |interest| interest.set_shard(3, Wanted::Nothing));
            assert!(interests.interested(7, &matched).is_empty());
            assert_eq!((interests.counts(), groups(&interests, 7, &matched)), (counts(1), Vec::from([9])));
            interests.change(&mut tree, filter, |interest| interest.set_group(9, false));
            assert_eq!((interests.counts(), interests.exact.groups.len()), (counts(0), 0));
            assert_eq!(interests.wild.by_filter.len(), 0);
            assert_eq!((tree.slot_counts(), tree.text_bytes()), ((0, 0, 1), 0));
        }
    }

    #[test]
    fn the_list_of_wild_interests_is_as_long_as_its_last_one() {
        let mut wild = WildInterests::default();
        for filter in [5, 1_000, 2] {
            assert!(wild.change(filter, |interest| interest.set_shard(1, Wanted::Volatile)));
        }
        assert_eq!((wild.by_filter.len(), wild.count), (1_001, 3));
        assert!(!wild.change(5, |interest| interest.set_shard(1, Wanted::Nothing)));
        assert_eq!((wild.by_filter.len(), wild.count), (1_001, 2));
        assert!(!wild.change(1_000, |interest| interest.set_shard(1, Wanted::Nothing)));
        assert_eq!((wild.by_filter.len(), wild.count), (3, 1));
        assert!(wild.by_filter.capacity() < 100);
        assert!(!wild.change(2, |interest| interest.set_shard(1, Wanted::Nothing)));
        assert_eq!((wild.by_filter.len(), wild.by_filter.capacity()), (0, 0));
    }
}
