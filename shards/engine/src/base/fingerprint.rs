//! Fingerprints: keyed hashes that name topics, clients, publishers and groups between shards.
//!
//! Every shard of a process computes them under the same key, so equal texts have equal fingerprints on all of them. Each kind is
//! hashed below a number of its own: a client identifier that equals a topic has another fingerprint.

use core::num::NonZeroU64;

use wire::TopicFilter;

use super::hash::Keyed;

const CLIENT: u32 = 0;
const TOPIC: u32 = 1;
const GROUP: u32 = 2;
const PUBLISHER: u32 = 3;

/// Computes fingerprints under one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fingerprints {
    hasher: Keyed,
}

impl Fingerprints {
    pub(crate) fn new(hasher: Keyed) -> Self {
        Self { hasher }
    }

    /// Of a topic, or of a filter without wildcards: such a filter has the fingerprint of the one topic that it matches.
    pub(crate) fn of_topic(&self, topic: &str) -> u64 {
        self.hasher.below(TOPIC, topic.as_bytes())
    }

    /// Of a client identifier; it decides on which shard the session lives.
    pub(crate) fn of_client(&self, client_id: &str) -> u64 {
        self.hasher.below(CLIENT, client_id.as_bytes())
    }

    /// Of a client identifier, to tell two publishers apart. One in 2⁶⁴ has none.
    pub(crate) fn of_publisher(&self, client_id: &str) -> Option<NonZeroU64> {
        NonZeroU64::new(self.hasher.below(PUBLISHER, client_id.as_bytes()))
    }

    /// Of a group: the share name and the filter of a shared subscription.
    pub(crate) fn of_group(&self, name: &str, filter: &TopicFilter<'_>) -> u64 {
        let filter = self.of_topic(filter.filter()).rotate_left(1);
        self.hasher.pair(GROUP, self.hasher.bytes(name.as_bytes()) ^ filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::Entropy;

    #[test]
    fn one_text_has_a_fingerprint_of_its_own_for_each_kind() {
        let fingerprints = Fingerprints::new(Keyed::new(Entropy(5)));
        let publisher = fingerprints.of_publisher("a").unwrap().get();
        let kinds = [fingerprints.of_topic("a"), fingerprints.of_client("a"), publisher];
        assert!(kinds[0] != kinds[1] && kinds[1] != kinds[2] && kinds[0] != kinds[2]);
        let group = |text| {
            let filter = TopicFilter::parse(text).unwrap();
            fingerprints.of_group(filter.share_name().unwrap(), &filter)
        };
        assert_eq!(group("$share/g/a/+"), group("$share/g/a/+"));
        assert_ne!(group("$share/g/a/+"), group("$share/h/a/+"));
        assert_ne!(group("$share/g/a/+"), group("$share/g/b/+"));
    }
}
