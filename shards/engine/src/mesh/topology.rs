//! The number of this shard among all shards of the process, and the home shard of each client and topic.
//!
//! Invariant: every shard computes the same home for the same text, because all have the same key and count. So no shard asks another
//! where a session or a retained message is.

use core::num::NonZeroU64;

use crate::base::fingerprint::Fingerprints;
use crate::base::hash::{Entropy, Keyed};
use crate::base::shard_set::ShardSet;

/// Most shards of a process: a set of them is one word.
pub const SHARDS_MAX: u16 = 64;

const _: () = assert!(SHARDS_MAX == ShardSet::SHARDS_MAX);

/// The place of a shard among all shards of a process.
#[derive(Clone, Copy, Debug)]
pub struct Topology {
    /// This shard's number, from 0.
    pub own: u16,
    /// How many shards there are, 1 to [`SHARDS_MAX`].
    pub shard_count: u16,
    /// The key by which client identifiers and topics are dealt to shards. It is the same in all shards, and kept in the
    /// data directory. Without a key, an attacker could choose a shard.
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

/// A [`Topology`] with its hasher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placement {
    own: u16,
    shard_count: u16,
    fingerprints: Fingerprints,
}

impl Placement {
    pub(crate) fn new(topology: Topology) -> Self {
        assert!((1..=SHARDS_MAX).contains(&topology.shard_count));
        assert!(topology.own < topology.shard_count);
        let fingerprints = Fingerprints::new(Keyed::new(topology.key));
        Self { own: topology.own, shard_count: topology.shard_count, fingerprints }
    }

    /// The names that all shards of the process give to topics, clients and groups.
    pub(crate) fn fingerprints(&self) -> Fingerprints {
        self.fingerprints
    }

    /// This shard's number.
    pub(crate) fn own(&self) -> u16 {
        self.own
    }

    pub(crate) fn shard_count(&self) -> u16 {
        self.shard_count
    }

    /// Whether there are other shards.
    pub(crate) fn is_meshed(&self) -> bool {
        self.shard_count > 1
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = u16> + use<> {
        let own = self.own;
        (0..self.shard_count).filter(move |&shard| shard != own)
    }

    pub(crate) fn home_of_client(&self, client_id: &str) -> u16 {
        self.home(self.fingerprints.of_client(client_id))
    }

    /// The shard that keeps the retained message of a topic.
    pub(crate) fn home_of_topic(&self, topic: &str) -> u16 {
        self.home(self.fingerprint(topic))
    }

    /// The fingerprint of a topic, or of a filter without wildcards.
    pub(crate) fn fingerprint(&self, text: &str) -> u64 {
        self.fingerprints.of_topic(text)
    }

    /// The fingerprint of a publisher, to tell two of them apart. One in 2⁶⁴ has none.
    pub(crate) fn publisher(&self, client_id: &str) -> Option<NonZeroU64> {
        self.fingerprints.of_publisher(client_id)
    }

    /// The shard that a hash selects; for a topic's fingerprint, the one that keeps its retained message.
    pub(crate) fn home(&self, hash: u64) -> u16 {
        // The high half times the count selects shards evenly and needs no division.
        let home = ((hash >> 32) * u64::from(self.shard_count)) >> 32;
        u16::try_from(home).expect("below the shard count")
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
}
