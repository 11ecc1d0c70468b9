//! The members of shared subscriptions on the other shards: how many each of them has, and which shard finds the next one.
//!
//! Invariant: a group is held while another shard has a member that is online or can keep a message, so a group without an entry is
//! this shard's alone.

use alloc::vec::Vec;

use crate::base::by_hash::ByHash;
use crate::base::heap;
use crate::base::shard_set::ShardSet;

/// The members of a group that live on another shard.
#[derive(Clone, Copy, Debug)]
struct Share {
    shard: u16,
    /// Members that are online. A share with none has offline members that can keep a message.
    online_count: u32,
    /// Messages of QoS 1 and 2 for one of its members have to outlive the process.
    is_lasting: bool,
}

#[derive(Default, Debug)]
struct SharedGroup {
    shares: Vec<Share>,
    cursor: u32,
}

/// **Lives on:** every shard. **Sees:** how many members the other shards announced, group by group.
#[derive(Debug, Default)]
pub(crate) struct RemoteMembers {
    by_key: ByHash<SharedGroup>,
}

/// The shard that finds a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Choice {
    Own,
    Other(u16),
    /// No member is known to be online, but this shard has a session that can keep the message.
    PersistentOffline(u16),
    Nobody,
}

impl RemoteMembers {
    /// Bytes of the table. The shares of a group count as those of four shards.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let shares = self.by_key.len() as u64 * heap::block(size_of::<[Share; 4]>());
        self.by_key.bytes_held() + shares
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Replaces the member counts of one other shard. Returns whether the group still has a member on any of them.
    pub(crate) fn set(
        &mut self,
        key: u64,
        shard: u16,
        (online_count, persistent_count): (u32, u32),
        is_lasting: bool,
    ) -> bool {
        let group = self.by_key.get_or_default(key);
        let shares = &mut group.shares;
        shares.retain(|share| share.shard != shard);
        if online_count + persistent_count > 0 {
            let at = shares.partition_point(|share| share.shard < shard);
            shares.insert(at, Share { shard, online_count, is_lasting });
        }
        let known = !shares.is_empty();
        assert!(shares.is_sorted_by(|a, b| a.shard < b.shard));
        assert!(shares.len() <= usize::from(ShardSet::SHARDS_MAX));
        if !known {
            self.by_key.remove(key);
        }
        known
    }

    /// Whether a member elsewhere is lasting.
    pub(crate) fn is_lasting(&self, key: u64) -> bool {
        let group = self.by_key.get(key);
        group.is_some_and(|group| group.shares.iter().any(|share| share.is_lasting))
    }

    /// The shard whose turn it is. Every online member on the shards that were not `tried` has one turn a round.
    pub(crate) fn choose(&mut self, key: u64, own_online_count: u32, tried: ShardSet) -> Choice {
        let Some(group) = self.by_key.get_mut(key) else {
            return if own_online_count > 0 { Choice::Own } else { Choice::Nobody };
        };
        let others = || group.shares.iter().filter(|share| !tried.contains(share.shard));
        let total: u32 = own_online_count + others().map(|share| share.online_count).sum::<u32>();
        if total == 0 {
            return Choice::Nobody;
        }
        let mut turn = group.cursor % total;
        let mut choice = Choice::Own;
        if turn >= own_online_count {
            turn -= own_online_count;
            for share in others() {
                if turn < share.online_count {
                    choice = Choice::Other(share.shard);
                    break;
                }
                turn -= share.online_count;
            }
        }
        assert!(choice != Choice::Own || own_online_count > 0);
        group.cursor = group.cursor.wrapping_add(1);
        choice
    }

    /// A shard that was not `tried` and has a member that is online or can keep the message.
    pub(crate) fn choose_persistent(&self, key: u64, own_count: u32, tried: ShardSet) -> Choice {
        if own_count > 0 {
            return Choice::Own;
        }
        let group = self.by_key.get(key);
        let mut shares = group.into_iter().flat_map(|group| &group.shares);
        let share = shares.find(|share| !tried.contains(share.shard));
        share.map_or(Choice::Nobody, |share| Choice::PersistentOffline(share.shard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_online_member_has_its_turn_and_persistent_ones_only_when_there_is_none() {
        let mut groups = RemoteMembers::default();
        assert!(groups.set(1, 2, (3, 0), 2 == 5));
        assert!(groups.set(1, 5, (1, 4), 5 == 5));
        assert!(groups.is_lasting(1) && !groups.is_lasting(2));
        let mut counts = [0; 3];
        let nobody = ShardSet::default();
        for _ in 0..60 {
            match groups.choose(1, 2, nobody) {
                Choice::Own => counts[0] += 1,
                Choice::Other(2) => counts[1] += 1,
                Choice::Other(5) => counts[2] += 1,
                Choice::Other(_) | Choice::PersistentOffline(_) | Choice::Nobody => panic!("not a member"),
            }
        }
        assert_eq!(counts, [20, 30, 10]);
        assert_eq!(groups.choose(1, 0, nobody.with(2)), Choice::Other(5));
        assert_eq!(groups.choose(1, 0, nobody.with(2).with(5)), Choice::Nobody);
        assert_eq!(groups.choose_persistent(1, 0, nobody.with(2)), Choice::PersistentOffline(5));
        assert_eq!(groups.choose_persistent(1, 0, nobody.with(2).with(5)), Choice::Nobody);
        assert!(groups.set(1, 2, (0, 0), 2 == 5));
        assert!(groups.set(1, 5, (0, 4), 5 == 5));
        assert_eq!(groups.choose(1, 0, nobody), Choice::Nobody);
        assert_eq!(groups.choose_persistent(1, 0, nobody), Choice::PersistentOffline(5));
        assert_eq!(groups.choose_persistent(1, 1, nobody), Choice::Own);
        assert!(groups.is_lasting(1));
        assert!(!groups.set(1, 5, (0, 0), 5 == 5));
        assert_eq!(groups.len(), 0);
        assert_eq!(groups.choose(1, 1, nobody), Choice::Own);
    }
}
