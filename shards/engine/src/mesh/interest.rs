//! The interest of the other shards: for each filter, which of them have a subscriber, and which groups have members there.
//!
//! Invariants worth naming:
//! - Filters without wildcards are held by fingerprint, without their text. Two filters with one fingerprint cost a message that is
//!   forwarded in vain; its target counts that.
//! - Filters with wildcards are pinned in the topic tree of this shard, and their interest is held by the tree's number: the walk of a
//!   publish finds it by an index, without another hash. A filter is pinned exactly while it has interest here.

use alloc::boxed::Box;
use alloc::vec::Vec;

use wire::TopicFilter;

use crate::base::by_hash::ByHash;
use crate::base::heap;
use crate::base::shard_set::ShardSet;
use crate::base::sparse::Sparse;
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
        (self.exact.shards.len(), self.wild.by_filter.len())
    }

    /// Bytes of both tables. Groups of filters without wildcards count by their number.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let exact =
            self.exact.shards.bytes_held() + self.exact.lasting.bytes_held() + self.exact.groups.bytes_held();
        let groups = self.exact.groups.len() as u64 * heap::block(size_of::<[u64; 4]>());
        let wild = self.wild.by_filter.bytes_held();
        exact + groups + wild + self.wild.by_filter.len() as u64 * heap::block(size_of::<Interest>())
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
        assert!(tree.pinned_count() == self.wild.by_filter.len());
        assert!(self.wild.by_filter.iter().all(|(_, interest)| !interest.is_empty()));
        for (fingerprint, shards) in self.exact.shards.iter() {
            assert!(!shards.is_empty() || !self.exact.groups(fingerprint).is_empty());
        }
        for (fingerprint, &lasting) in self.exact.lasting.iter() {
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
    by_filter: Sparse<Box<Interest>>,
}

impl WildInterests {
    fn get(&self, filter: u32) -> Option<&Interest> {
        self.by_filter.get(filter).map(|interest| &**interest)
    }

    /// Returns whether any interest is left.
    fn change(&mut self, filter: u32, change: impl FnOnce(&mut Interest)) -> bool {
        let mut interest = self.by_filter.take(filter).unwrap_or_default();
        change(&mut interest);
        let is_left = !interest.is_empty();
        if is_left {
            self.by_filter.set(filter, interest);
        }
        is_left
    }
}

/// Interest in filters without wildcards, by fingerprint.
///
/// There may be one for each subscription of the other shards, so an entry is two words and no allocation.
#[derive(Debug, Default)]
struct ExactInterests {
    /// Fingerprints are keyed hashes already. A set is empty only where there are groups.
    shards: ByHash<ShardSet>,
    /// Without empty sets, so that there is none without a log.
    lasting: ByHash<ShardSet>,
    groups: ByHash<Vec<u64>>,
}

impl ExactInterests {
    /// Shards with a subscriber that is not in a group.
    fn shards(&self, fingerprint: u64) -> ShardSet {
        self.shards.get(fingerprint).copied().unwrap_or_default()
    }

    /// The ones of them with a lasting subscriber.
    fn lasting(&self, fingerprint: u64) -> ShardSet {
        self.lasting.get(fingerprint).copied().unwrap_or_default()
    }

    /// Keys of groups that have members elsewhere.
    fn groups(&self, fingerprint: u64) -> &[u64] {
        self.groups.get(fingerprint).map_or(&[], |keys| keys)
    }

    /// Changes the interest in one filter; an empty one is forgotten.
    fn change(&mut self, fingerprint: u64, change: impl FnOnce(&mut Interest)) {
        let groups = self.groups.remove(fingerprint).unwrap_or_default();
        let lasting = self.lasting.remove(fingerprint).unwrap_or_default();
        let mut interest = Interest { shards: self.shards(fingerprint), lasting, groups };
        change(&mut interest);
        if interest.is_empty() {
            self.shards.remove(fingerprint);
            assert!(self.groups.len() <= self.shards.len());
            return;
        }
        *self.shards.get_or_default(fingerprint) = interest.shards;
        if !interest.lasting.is_empty() {
            *self.lasting.get_or_default(fingerprint) = interest.lasting;
        }
        if !interest.groups.is_empty() {
            *self.groups.get_or_default(fingerprint) = interest.groups;
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
}
