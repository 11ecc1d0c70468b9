//! Which shard this is, of how many, and who is at home where.
//! Knows no lane and no other shard's state.

use core::num::NonZeroU64;

use wire::TopicFilter;

use crate::base::hash::{Entropy, Keyed};

/// Most shards of a process: a set of them is one word.
pub const SHARDS_MAX: u16 = 64;

/// The place of a shard among all shards of a process.
#[derive(Clone, Copy, Debug)]
pub struct Topology {
    /// This shard's number, from 0.
    pub own: u16,
    /// How many shards there are, 1 to [`SHARDS_MAX`].
    pub shard_count: u16,
    /// Keys the dealing of client identifiers and topics: the same in all shards, and kept in the data
    /// directory. Unkeyed, an attacker could choose a shard.
    pub key: Entropy,
}

impl Topology {
    /// The shard on which the session of a client identifier lives.
    #[must_use]
    pub fn home_of_client(&self, client_id: &str) -> u16 {
        Placement::new(*self).home_of_client(client_id)
    }

    /// The shard that retains the messages of a topic.
    #[must_use]
    pub fn home_of_topic(&self, topic: &str) -> u16 {
        Placement::new(*self).home_of_topic(topic)
    }
}

/// [`Topology`] with its hasher made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placement {
    pub(crate) own: u16,
    pub(crate) shard_count: u16,
    hasher: Keyed,
}

impl Placement {
    pub(crate) fn new(topology: Topology) -> Self {
        assert!((1..=SHARDS_MAX).contains(&topology.shard_count));
        assert!(topology.own < topology.shard_count);
        Self { own: topology.own, shard_count: topology.shard_count, hasher: Keyed::new(topology.key) }
    }

    /// The only shard there is.
    pub(crate) fn alone() -> Self {
        Self::new(Topology { own: 0, shard_count: 1, key: Entropy(0) })
    }

    /// There are other shards.
    pub(crate) fn is_meshed(&self) -> bool {
        self.shard_count > 1
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = u16> + use<> {
        let own = self.own;
        (0..self.shard_count).filter(move |&shard| shard != own)
    }

    pub(crate) fn home_of_client(&self, client_id: &str) -> u16 {
        self.home(self.hasher.below(0, client_id.as_bytes()))
    }

    /// The shard that keeps the retained message of a topic.
    pub(crate) fn home_of_topic(&self, topic: &str) -> u16 {
        self.home(self.fingerprint(topic))
    }

    /// What stands for a filter without wildcards, or for the topic it matches, between shards.
    pub(crate) fn fingerprint(&self, text: &str) -> u64 {
        self.hasher.below(1, text.as_bytes())
    }

    /// What stands for a publisher where two of them need only be told apart. One in 2⁶⁴ has none.
    pub(crate) fn publisher(&self, client_id: &str) -> Option<NonZeroU64> {
        NonZeroU64::new(self.hasher.below(3, client_id.as_bytes()))
    }

    /// What stands for a group of a shared subscription between shards.
    pub(crate) fn group_key(&self, name: &str, filter: &TopicFilter<'_>) -> u64 {
        self.hasher
            .pair(2, self.hasher.bytes(name.as_bytes()) ^ self.fingerprint(filter.filter()).rotate_left(1))
    }

    /// The shard that a hash falls on; of a topic's fingerprint, the one that keeps its retained message.
    pub(crate) fn home(&self, hash: u64) -> u16 {
        // The high half times the count: even, and without a division.
        let home = ((hash >> 32) * u64::from(self.shard_count)) >> 32;
        u16::try_from(home).expect("below the shard count")
    }
}

/// Some of the shards.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct ShardSet(pub(crate) u64);

impl ShardSet {
    pub(crate) fn with(self, shard: u16) -> Self {
        Self(self.0 | 1 << shard)
    }

    pub(crate) fn without(self, shard: u16) -> Self {
        Self(self.0 & !(1 << shard))
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn contains(self, shard: u16) -> bool {
        self.0 >> shard & 1 == 1
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Those in it, in order; an empty set costs nothing.
    pub(crate) fn iter(self) -> impl Iterator<Item = u16> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let shard = left.trailing_zeros();
            left &= left.checked_sub(1)?;
            u16::try_from(shard).ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec;

    #[test]
    fn clients_are_dealt_evenly_and_the_same_by_every_shard() {
        for shard_count in [1u16, 2, 3, 7, 64] {
            let mut counts = vec![0u32; usize::from(shard_count)];
            let topology = |own| Topology { own, shard_count, key: Entropy(99) };
            for client in 0..6_400 {
                let client = format!("client-{client}");
                let home = topology(0).home_of_client(&client);
                assert_eq!(home, topology(shard_count - 1).home_of_client(&client));
                counts[usize::from(home)] += 1;
            }
            let fair = 6_400 / u32::from(shard_count);
            assert!(counts.iter().all(|&count| count > fair / 2 && count <= fair * 2), "{counts:?}");
        }
    }

    #[test]
    fn a_set_keeps_what_it_is_given() {
        let set = ShardSet::default().with(0).with(63).with(7).without(0);
        assert_eq!(set.iter().collect::<vec::Vec<_>>(), [7, 63]);
        assert_eq!((set.len(), set.contains(7), set.contains(0)), (2, true, false));
    }
}
