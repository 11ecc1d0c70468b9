//! Which shard finds a member of a group, and how the search goes on where it has none.
//! Knows no session: `publish` chooses the member.
//!
//! Each shard is asked once for a member that is online, then each once for one that keeps the message, by the
//! shard that began. A message that is not wanted goes back in one piece, and leads to at most two to each other
//! shard; the groups are divided among them, none is doubled. So what a shard has to send back is no more than
//! what it was sent.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::base::time::Instant;
use crate::counters::DropReason;
use crate::engine::Engine;
use crate::event::Actions;
use crate::mesh::interest::Choice;
use crate::mesh::message::{Crossing, GroupKeys, Said};
use crate::mesh::topology::ShardSet;
use crate::publish::fan_out::Source;
use crate::retained::watermarks::Origin;

impl Engine {
    /// Keys of all groups, here and elsewhere, whose filter matches.
    pub(crate) fn group_keys(&self, fingerprint: u64, matched: &[u32]) -> Vec<u64> {
        let mut keys: Vec<u64> = self.mesh.exact.groups(fingerprint).into();
        let wild = matched.iter().filter_map(|&filter| self.tree.interest(filter));
        keys.extend(wild.flat_map(|interest| interest.groups.iter().copied()));
        keys.extend(
            matched
                .iter()
                .flat_map(|&filter| self.tree.groups(filter))
                .map(|&group| self.tree.group(group).key),
        );
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Chooses the shard that finds a member of a group: here at once, elsewhere by adding the key to what
    /// crosses.
    pub(crate) fn choose_shard(
        &mut self,
        now: Instant,
        key: u64,
        source: &mut Source<'_>,
        actions: &mut Actions,
    ) {
        match self.choice(key, ShardSet::default(), false) {
            Choice::Own => self.offer_to_own_members(now, key, source, actions),
            Choice::Other(target) | Choice::Keeper(target) => {
                self.mesh.keys[usize::from(target)].extend_from_slice(&key.to_le_bytes());
            }
            Choice::Nobody => self.drop_for_group(DropReason::NoMember),
        }
    }

    /// Finds another member for a message whose first one has left.
    pub(crate) fn pass_on(&mut self, now: Instant, key: u64, source: &mut Source<'_>, actions: &mut Actions) {
        let key = key.to_le_bytes();
        let origin = Origin::past(self.mesh.placement.own);
        let crossing = Crossing { groups: GroupKeys::from_bytes(&key), ..Crossing::of(source.view, origin) };
        self.search(now, &crossing, source, actions);
    }

    /// Goes on with the search for members of the groups of `crossing`, of which the shards that it was `tried` on
    /// had none: here at once, elsewhere by one message to a shard for a choice, or one more for a last choice.
    fn search(
        &mut self,
        now: Instant,
        crossing: &Crossing<'_>,
        source: &mut Source<'_>,
        actions: &mut Actions,
    ) {
        let Crossing { tried, last_choice, origin, .. } = *crossing;
        let mut asked: Vec<(u16, bool, u64)> = Vec::new();
        for key in crossing.groups.iter() {
            match self.choice(key, tried, last_choice) {
                Choice::Own => self.offer_to_own_members(now, key, source, actions),
                Choice::Other(target) => asked.push((target, false, key)),
                Choice::Keeper(target) => asked.push((target, true, key)),
                Choice::Nobody => self.drop_for_group(DropReason::NoMember),
            }
        }
        asked.sort_unstable();
        for alike in asked.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (target, is_last, _) = alike[0];
            // The search begins anew: a shard without a member online may have one that keeps the message.
            let tried = if is_last && !last_choice { ShardSet::default() } else { tried };
            let keys: Vec<u8> = alike.iter().flat_map(|(_, _, key)| key.to_le_bytes()).collect();
            let groups = GroupKeys::from_bytes(&keys);
            let again = Crossing { groups, tried, last_choice: is_last, ..Crossing::of(source.view, origin) };
            let shared = source.shared.clone();
            self.mesh.say(target, &Said::Publish(again), shared.as_ref());
            self.delivery.counters.messages_crossed += 1;
        }
    }

    fn choice(&mut self, key: u64, tried: ShardSet, last_choice: bool) -> Choice {
        let group = self.tree.group_by_key(key);
        let (online_count, keeper_count) = group.map_or((0, 0), |group| self.count_members(group));
        let groups = &mut self.mesh.groups;
        if last_choice {
            return groups.choose_keeper(key, online_count + keeper_count, tried);
        }
        match groups.choose(key, online_count, tried) {
            Choice::Nobody => groups.choose_keeper(key, keeper_count, ShardSet::default()),
            choice => choice,
        }
    }

    fn offer_to_own_members(
        &mut self,
        now: Instant,
        key: u64,
        source: &mut Source<'_>,
        actions: &mut Actions,
    ) {
        let group = self.tree.group_by_key(key).expect("this shard was chosen for its members");
        self.offer_to_group(now, group, source, actions);
    }

    /// Counts a message of a group that no session has.
    pub(crate) fn drop_for_group(&mut self, reason: DropReason) {
        self.delivery.counters.matched += 1;
        self.delivery.counters.dropped[reason.index()] += 1;
    }

    /// Finds members of the groups that this shard was chosen for; those it has none of go back, all in one
    /// message.
    pub(crate) fn take_for_groups(
        &mut self,
        now: Instant,
        from: u16,
        crossing: &Crossing<'_>,
        source: &mut Source<'_>,
        actions: &mut Actions,
    ) {
        let mut missing: Vec<u8> = Vec::new();
        for key in crossing.groups.iter() {
            let group = self.tree.group_by_key(key);
            let (online_count, keeper_count) = group.map_or((0, 0), |group| self.count_members(group));
            match group {
                Some(group) if online_count > 0 || (keeper_count > 0 && crossing.last_choice) => {
                    self.offer_to_group(now, group, source, actions);
                }
                _ => missing.extend_from_slice(&key.to_le_bytes()),
            }
        }
        if missing.is_empty() {
            return;
        }
        let groups = GroupKeys::from_bytes(&missing);
        let Crossing { tried, last_choice, origin, .. } = *crossing;
        let bounced = Crossing { groups, tried, last_choice, ..Crossing::of(source.view, origin) };
        let shared = source.shared.clone();
        self.mesh.say(from, &Said::Bounce(bounced), shared.as_ref());
    }

    /// The shard chosen for some groups had no member online: the next one is asked, each once; then those that
    /// may keep the message, each once.
    pub(crate) fn on_bounce(
        &mut self,
        now: Instant,
        from: u16,
        crossing: &Crossing<'_>,
        payload: Option<&Bytes>,
        actions: &mut Actions,
    ) {
        let mut source = self.delivery.source_beside(crossing.view, payload, None);
        let crossing = Crossing { tried: crossing.tried.with(from), ..crossing.clone() };
        self.search(now, &crossing, &mut source, actions);
        self.delivery.finish(&source);
    }
}
