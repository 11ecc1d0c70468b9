//! What the other shards want: which of them has a subscriber for a filter, and how many members of a
//! group each of them has.
//! Knows no session; the sessions of another shard are that shard's affair.

use alloc::vec::Vec;

use hashbrown::HashTable;

use crate::mesh::topology::ShardSet;

/// What the other shards want of one filter.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    /// Shards with a subscriber that is not in a group.
    pub(crate) shards: ShardSet,
    /// Keys of groups that have members elsewhere.
    pub(crate) groups: Vec<u64>,
}

impl Interest {
    pub(crate) fn is_empty(&self) -> bool {
        self.shards.is_empty() && self.groups.is_empty()
    }
}

/// Interest in filters without wildcards, by fingerprint: no text is kept. Two filters with the same
/// fingerprint cost a message that crosses for nothing, which the target counts.
///
/// There may be one for each subscription of the other shards, so an entry is two words and no allocation.
#[derive(Debug, Default)]
pub(crate) struct ExactInterests {
    /// Fingerprints are keyed hashes already. An empty set stands only where there are groups.
    shards: HashTable<(u64, ShardSet)>,
    groups: HashTable<(u64, Vec<u64>)>,
}

impl ExactInterests {
    pub(crate) fn len(&self) -> usize {
        self.shards.len()
    }

    /// Shards with a subscriber that is not in a group.
    pub(crate) fn shards(&self, fingerprint: u64) -> ShardSet {
        let entry = self.shards.find(fingerprint, |entry| entry.0 == fingerprint);
        entry.map_or(ShardSet::default(), |entry| entry.1)
    }

    /// Keys of groups that have members elsewhere.
    pub(crate) fn groups(&self, fingerprint: u64) -> &[u64] {
        let entry = self.groups.find(fingerprint, |entry| entry.0 == fingerprint);
        entry.map_or(&[], |entry| &entry.1)
    }

    /// Changes the interest in one filter; an empty one is forgotten.
    pub(crate) fn change(&mut self, fingerprint: u64, change: impl FnOnce(&mut Interest)) {
        let groups = self.groups.find_entry(fingerprint, |entry| entry.0 == fingerprint);
        let groups = groups.map_or(Vec::new(), |entry| entry.remove().0.1);
        let entry = self.shards.entry(fingerprint, |entry| entry.0 == fingerprint, |entry| entry.0);
        let mut entry = entry.or_insert((fingerprint, ShardSet::default()));
        let mut interest = Interest { shards: entry.get().1, groups };
        change(&mut interest);
        if interest.is_empty() {
            entry.remove();
            return;
        }
        entry.get_mut().1 = interest.shards;
        if !interest.groups.is_empty() {
            self.groups.insert_unique(fingerprint, (fingerprint, interest.groups), |entry| entry.0);
        }
    }
}

/// The members of a group that live on another shard.
#[derive(Clone, Copy, Debug)]
struct Share {
    shard: u16,
    /// Others that it has are offline, but able to keep a message.
    online_count: u32,
}

#[derive(Debug)]
struct SharedGroup {
    key: u64,
    shares: Vec<Share>,
    cursor: u32,
}

/// Groups with members on other shards.
#[derive(Debug, Default)]
pub(crate) struct SharedGroups {
    table: HashTable<SharedGroup>,
}

/// Which shard is to find a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Choice {
    Own,
    Other(u16),
    /// Nobody is known to be online, but this shard has a session that can keep it.
    PersistentOffline(u16),
    Nobody,
}

impl SharedGroups {
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Another shard says how many members it has now. Returns whether the group still has any elsewhere.
    pub(crate) fn set(&mut self, key: u64, shard: u16, online_count: u32, persistent_count: u32) -> bool {
        let entry = self.table.entry(key, |group| group.key == key, |group| group.key);
        let mut entry = entry.or_insert_with(|| SharedGroup { key, shares: Vec::new(), cursor: 0 });
        let shares = &mut entry.get_mut().shares;
        shares.retain(|share| share.shard != shard);
        if online_count + persistent_count > 0 {
            let at = shares.partition_point(|share| share.shard < shard);
            shares.insert(at, Share { shard, online_count });
        }
        let known = !shares.is_empty();
        if !known {
            entry.remove();
        }
        known
    }

    /// The shard whose turn it is: each member that is online is as likely as any other, on the shards that were
    /// not `tried`.
    pub(crate) fn choose(&mut self, key: u64, own_online_count: u32, tried: ShardSet) -> Choice {
        let Some(group) = self.table.find_mut(key, |group| group.key == key) else {
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
        group.cursor = group.cursor.wrapping_add(1);
        choice
    }

    /// A shard that was not `tried` and has a member, online or able to keep the message.
    pub(crate) fn choose_persistent(&self, key: u64, own_count: u32, tried: ShardSet) -> Choice {
        if own_count > 0 {
            return Choice::Own;
        }
        let group = self.table.find(key, |group| group.key == key);
        let mut shares = group.into_iter().flat_map(|group| &group.shares);
        let share = shares.find(|share| !tried.contains(share.shard));
        share.map_or(Choice::Nobody, |share| Choice::PersistentOffline(share.shard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interest_comes_and_goes_and_leaves_nothing() {
        let mut interests = ExactInterests::default();
        interests.change(7, |interest| interest.shards = interest.shards.with(3));
        interests.change(7, |interest| interest.groups.push(9));
        assert!(interests.shards(7).contains(3));
        assert_eq!(interests.groups(7), [9]);
        interests.change(7, |interest| interest.shards = interest.shards.without(3));
        assert_eq!((interests.len(), interests.groups(7)), (1, &[9][..]));
        interests.change(7, |interest| interest.groups.clear());
        assert_eq!((interests.len(), interests.groups.len()), (0, 0));
    }

    #[test]
    fn every_online_member_has_its_turn_and_keepers_only_when_there_is_none() {
        let mut groups = SharedGroups::default();
        assert!(groups.set(1, 2, 3, 0));
        assert!(groups.set(1, 5, 1, 4));
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
        assert!(groups.set(1, 2, 0, 0));
        assert!(groups.set(1, 5, 0, 4));
        assert_eq!(groups.choose(1, 0, nobody), Choice::Nobody);
        assert_eq!(groups.choose_persistent(1, 0, nobody), Choice::PersistentOffline(5));
        assert_eq!(groups.choose_persistent(1, 1, nobody), Choice::Own);
        assert!(!groups.set(1, 5, 0, 0));
        assert_eq!(groups.len(), 0);
        assert_eq!(groups.choose(1, 1, nobody), Choice::Own);
    }
}
