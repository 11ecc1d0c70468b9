//! The choice of the shard that finds a member of a group.
//!
//! Each shard is asked once for a member that is online, then each once for one that keeps the message, by the shard that
//! began. A message that finds no member goes back in one piece and leads to at most two messages to each other shard; the
//! groups are divided among them and none is doubled. So a shard sends back no more than it was sent. A shard whose members may
//! not read the message answers as one without members.

use alloc::vec::Vec;

use super::Shared;
use super::members::MemberCounts;
use super::remote_members::Choice;
use crate::base::shard_set::ShardSet;
use crate::publish::Delivery;
use crate::topic::tree::Tree;

impl Shared {
    /// Appends the keys of the groups of this shard that `filters` have. The result is sorted and has each key once.
    pub(crate) fn add_own_keys(topics: &Tree, filters: &[u32], keys: &mut Vec<u64>) {
        let groups = filters.iter().flat_map(|&filter| topics.groups(filter).iter());
        keys.extend(groups.map(|&group| topics.group_key(group)));
        keys.sort_unstable();
        keys.dedup();
    }

    /// The shard that is to find a member of a group, none of those that were `tried`.
    pub(crate) fn choose_shard(
        &mut self,
        topics: &Tree,
        delivery: &Delivery,
        key: u64,
        tried: ShardSet,
        accepts_offline: bool,
    ) -> Choice {
        let own = self.count_members_of(topics, delivery, key);
        self.choose_with(own, key, tried, accepts_offline)
    }

    /// The same where no member here may read the message.
    pub(crate) fn choose_elsewhere(&mut self, key: u64, tried: ShardSet, accepts_offline: bool) -> Choice {
        self.choose_with(MemberCounts::default(), key, tried, accepts_offline)
    }

    fn choose_with(&mut self, own: MemberCounts, key: u64, tried: ShardSet, accepts_offline: bool) -> Choice {
        let (online, persistent) = own.counts();
        if accepts_offline {
            return self.remote.choose_persistent(key, online + persistent, tried);
        }
        match self.remote.choose(key, online, tried) {
            Choice::Nobody => self.remote.choose_persistent(key, persistent, ShardSet::default()),
            choice => choice,
        }
    }
}
