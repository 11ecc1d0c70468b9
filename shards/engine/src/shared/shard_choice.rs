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
use crate::mesh::message::{ForwardedPublish, GroupKeys, ShardMessage};
use crate::mesh::topology::ShardSet;
use crate::publish::fan_out::FanOut;
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
        fan_out: &mut FanOut<'_>,
        actions: &mut Actions,
    ) {
        match self.choice(key, ShardSet::default(), false) {
            Choice::Own => self.offer_to_own_members(now, key, fan_out, actions),
            Choice::Other(target) | Choice::PersistentOffline(target) => {
                self.mesh.keys[usize::from(target)].extend_from_slice(&key.to_le_bytes());
            }
            Choice::Nobody => self.drop_for_group(DropReason::NoMember),
        }
    }

    /// Finds another member for a message whose first one has left.
    pub(crate) fn reassign(
        &mut self,
        now: Instant,
        key: u64,
        fan_out: &mut FanOut<'_>,
        actions: &mut Actions,
    ) {
        let key = key.to_le_bytes();
        let origin = Origin::past(self.mesh.placement.own);
        let forwarded_publish = ForwardedPublish {
            groups: GroupKeys::from_bytes(&key),
            ..ForwardedPublish::of(fan_out.view, origin)
        };
        self.search(now, &forwarded_publish, fan_out, actions);
    }

    /// Goes on with the search for members of the groups of `forwarded_publish`, of which the shards that it was `tried` on
    /// had none: here at once, elsewhere by one message to a shard for a choice, or one more for a last choice.
    fn search(
        &mut self,
        now: Instant,
        forwarded_publish: &ForwardedPublish<'_>,
        fan_out: &mut FanOut<'_>,
        actions: &mut Actions,
    ) {
        let ForwardedPublish { tried, accepts_offline, origin, .. } = *forwarded_publish;
        let mut open_request: Vec<(u16, bool, u64)> = Vec::new();
        for key in forwarded_publish.groups.iter() {
            match self.choice(key, tried, accepts_offline) {
                Choice::Own => self.offer_to_own_members(now, key, fan_out, actions),
                Choice::Other(target) => open_request.push((target, false, key)),
                Choice::PersistentOffline(target) => open_request.push((target, true, key)),
                Choice::Nobody => self.drop_for_group(DropReason::NoMember),
            }
        }
        open_request.sort_unstable();
        for alike in open_request.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (target, is_last, _) = alike[0];
            // The search begins anew: a shard without a member online may have one that keeps the message.
            let tried = if is_last && !accepts_offline { ShardSet::default() } else { tried };
            let keys: Vec<u8> = alike.iter().flat_map(|(_, _, key)| key.to_le_bytes()).collect();
            let groups = GroupKeys::from_bytes(&keys);
            let again = ForwardedPublish {
                groups,
                tried,
                accepts_offline: is_last,
                ..ForwardedPublish::of(fan_out.view, origin)
            };
            let shared = fan_out.shared.clone();
            self.mesh.send(target, &ShardMessage::Publish(again), shared.as_ref());
            self.delivery.counters.messages_forwarded += 1;
        }
    }

    fn choice(&mut self, key: u64, tried: ShardSet, accepts_offline: bool) -> Choice {
        let group = self.tree.group_by_key(key);
        let (online_count, persistent_count) = group.map_or((0, 0), |group| self.count_members(group));
        let groups = &mut self.mesh.groups;
        if accepts_offline {
            return groups.choose_persistent(key, online_count + persistent_count, tried);
        }
        match groups.choose(key, online_count, tried) {
            Choice::Nobody => groups.choose_persistent(key, persistent_count, ShardSet::default()),
            choice => choice,
        }
    }

    fn offer_to_own_members(
        &mut self,
        now: Instant,
        key: u64,
        fan_out: &mut FanOut<'_>,
        actions: &mut Actions,
    ) {
        let group = self.tree.group_by_key(key).expect("this shard was chosen for its members");
        self.offer_to_group(now, group, fan_out, actions);
    }

    /// Counts a message of a group that no session has.
    pub(crate) fn drop_for_group(&mut self, reason: DropReason) {
        self.delivery.counters.matched += 1;
        self.delivery.counters.dropped[reason.index()] += 1;
    }

    /// Finds members of the groups that this shard was chosen for; those it has none of go back, all in one
    /// message.
    pub(crate) fn deliver_to_groups(
        &mut self,
        now: Instant,
        from: u16,
        forwarded_publish: &ForwardedPublish<'_>,
        fan_out: &mut FanOut<'_>,
        actions: &mut Actions,
    ) {
        let mut missing: Vec<u8> = Vec::new();
        for key in forwarded_publish.groups.iter() {
            let group = self.tree.group_by_key(key);
            let (online_count, persistent_count) = group.map_or((0, 0), |group| self.count_members(group));
            match group {
                Some(group)
                    if online_count > 0 || (persistent_count > 0 && forwarded_publish.accepts_offline) =>
                {
                    self.offer_to_group(now, group, fan_out, actions);
                }
                _ => missing.extend_from_slice(&key.to_le_bytes()),
            }
        }
        if missing.is_empty() {
            return;
        }
        let groups = GroupKeys::from_bytes(&missing);
        let ForwardedPublish { tried, accepts_offline, origin, .. } = *forwarded_publish;
        let returned =
            ForwardedPublish { groups, tried, accepts_offline, ..ForwardedPublish::of(fan_out.view, origin) };
        let shared = fan_out.shared.clone();
        self.mesh.send(from, &ShardMessage::Returned(returned), shared.as_ref());
    }

    /// The shard chosen for some groups had no member online: the next one is asked, each once; then those that
    /// may keep the message, each once.
    pub(crate) fn on_returned(
        &mut self,
        now: Instant,
        from: u16,
        forwarded_publish: &ForwardedPublish<'_>,
        payload: Option<&Bytes>,
        actions: &mut Actions,
    ) {
        let mut fan_out = self.delivery.fan_out_attached(forwarded_publish.view, payload, None);
        let forwarded_publish =
            ForwardedPublish { tried: forwarded_publish.tried.with(from), ..forwarded_publish.clone() };
        self.search(now, &forwarded_publish, &mut fan_out, actions);
        self.delivery.finish(&fan_out);
    }
}
