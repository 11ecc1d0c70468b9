//! Shared subscriptions across shards: a shard is chosen for each group, and asked again elsewhere if it has no member.

use alloc::vec::Vec;

use bytes::Bytes;
use wire::QoS;

use super::Rooms;
use super::transfers::{Way, cross};
use crate::base::shard_set::ShardSet;
use crate::counters::DropReason;
use crate::mesh::message::ShardMessage;
use crate::message::forwarded::{ForwardedPublish, GroupKeys};
use crate::message::origin::Origin;
use crate::publish::fan_out::FanOut;
use crate::shared::remote_members::Choice;
use crate::shared::{Shared, count_undeliverable};
use crate::turn::Turn;

/// Work of a reassignment, apart from the delivery.
const REASSIGNMENT_WORK: u32 = 2;
/// Messages reassigned in one step; the rest waits for the next.
const REASSIGNMENTS_PER_STEP_MAX: usize = 128;

impl Rooms {
    /// Keys of all groups, here and elsewhere, whose filter matches.
    pub(super) fn group_keys(&self, fingerprint: u64, filters: &[u32]) -> Vec<u64> {
        let mut keys = Vec::new();
        self.mesh.interests().groups(fingerprint, filters, &mut keys);
        Shared::add_own_keys(&self.topics, filters, &mut keys);
        keys
    }

    /// Chooses the shard that finds a member of a group: this one at once, another by adding the key to the message that
    /// is forwarded. Returns that other shard.
    pub(super) fn choose_shard(
        &mut self,
        turn: &mut Turn<'_>,
        key: u64,
        fan_out: &mut FanOut<'_>,
    ) -> Option<u16> {
        let (target, _) = self.offer_here_or_choose(turn, key, (ShardSet::default(), false), fan_out)?;
        self.mesh.add_group_key(target, key);
        Some(target)
    }

    /// Chooses the next shard for a group. If it is this one, a member here receives the message; if none may have it, another shard is
    /// chosen at once. Returns that other shard, and whether it is for a member that is offline.
    fn offer_here_or_choose(
        &mut self,
        turn: &mut Turn<'_>,
        key: u64,
        (tried, accepts_offline): (ShardSet, bool),
        fan_out: &mut FanOut<'_>,
    ) -> Option<(u16, bool)> {
        let Self { topics, delivery, shared, .. } = self;
        let mut choice = shared.choose_shard(topics, delivery, key, tried, accepts_offline);
        if choice == Choice::Own {
            if self.offer_to_own_members(turn, key, fan_out) {
                return None;
            }
            choice = self.shared.choose_elsewhere(key, tried, accepts_offline);
        }
        match choice {
            Choice::Other(target) => Some((target, false)),
            Choice::PersistentOffline(target) => Some((target, true)),
            Choice::Own => unreachable!("nobody here counts"),
            Choice::Nobody => {
                count_undeliverable(turn.counters, DropReason::NoMember);
                None
            }
        }
    }

    /// Finds members of the groups that this shard was chosen for. The groups without one go back, all in one message.
    pub(super) fn deliver_to_groups(
        &mut self,
        turn: &mut Turn<'_>,
        (source, is_cut): (u16, bool),
        forwarded: &ForwardedPublish<'_>,
        fan_out: &mut FanOut<'_>,
    ) {
        let mut missing: Vec<u8> = Vec::new();
        for key in forwarded.groups.iter() {
            let Self { topics, delivery, shared, .. } = self;
            let (online, persistent) = shared.count_members_of(topics, delivery, key).counts();
            let has_members = online > 0 || (persistent > 0 && forwarded.accepts_offline);
            if !has_members || !self.offer_to_own_members(turn, key, fan_out) {
                missing.extend_from_slice(&key.to_le_bytes());
            }
        }
        if missing.is_empty() {
            return;
        }
        let returned = ForwardedPublish {
            groups: GroupKeys::from_bytes(&missing),
            tried: forwarded.tried,
            accepts_offline: forwarded.accepts_offline,
            ..ForwardedPublish::of(*fan_out.message(), forwarded.origin)
        };
        let way = if forwarded.transfer.is_some() { self.transfer(is_cut) } else { Way::Plain };
        cross(turn, &mut self.mesh, source, &mut ShardMessage::Returned(returned), way, fan_out);
        self.open_transfer(turn, fan_out);
    }

    /// The shard chosen for some groups had no member: the next one is asked, each once for a member that is online, then
    /// each once for one that keeps the message.
    pub(super) fn on_returned(
        &mut self,
        turn: &mut Turn<'_>,
        source: u16,
        returned: &ForwardedPublish<'_>,
        attached: Option<&Bytes>,
    ) {
        if self.is_repetition(turn, source, returned) {
            return;
        }
        if turn.is_recording() {
            // Its record has a number of its own.
            self.delivery.next_publish();
        }
        let mut fan_out = self.delivery.begin(&returned.view, attached, None, None);
        assert!(returned.origin.shard == self.mesh.placement().own());
        assert!(!returned.tried.contains(source));
        let transfer = returned.transfer;
        let returned = ForwardedPublish { tried: returned.tried.with(source), ..returned.clone() };
        self.search_members(turn, &returned, Way::Plain, &mut fan_out);
        self.delivery.finish(turn, &fan_out);
        self.end_transfer(turn, source, transfer);
    }

    /// Whether a message waits for another member and can be passed on.
    pub(super) fn may_reassign(&self) -> bool {
        // A record has the number of the last publish, which is that of a fan-out while one is under way.
        self.shared.reassignment_count() > 0
            && self.mesh.outbound().has_room()
            && self.mesh.is_whole()
            && !self.backlog.has_fan_out()
    }

    /// Finds other members for some of the messages that wait. While lanes are full they stay here: they were held before,
    /// so this takes no more memory than the sessions did.
    pub(super) fn run_reassignments(&mut self, turn: &mut Turn<'_>) {
        for _ in 0..REASSIGNMENTS_PER_STEP_MAX {
            if turn.is_spent() || !self.may_reassign() {
                return;
            }
            turn.spend(REASSIGNMENT_WORK);
            let Some((message, key, owed)) = self.shared.pop_reassignment() else { return };
            if let Some(recorder) = turn.recorder() {
                // Its record has a number of its own.
                self.delivery.next_publish();
                if let Some((session, delivery)) = owed {
                    recorder.set_ends(session, delivery);
                }
            }
            let copy = self.delivery.lend_copy(message);
            let view = copy.view();
            let mut fan_out = self.delivery.begin_stored(message, &view, copy.shared_payload());
            if view.is_expired(turn.now) {
                count_undeliverable(turn.counters, DropReason::Expired);
            } else {
                let key = key.to_le_bytes();
                let origin = Origin::past(self.mesh.placement().own());
                let publish = ForwardedPublish::of(view, origin);
                let publish = ForwardedPublish { groups: GroupKeys::from_bytes(&key), ..publish };
                // A second receiver has QoS 2 only once it is durable that the first one has it no more.
                let way = if owed.is_some() && view.qos == QoS::ExactlyOnce {
                    Way::Behind(self.delivery.connections.await_batch())
                } else {
                    Way::Plain
                };
                self.search_members(turn, &publish, way, &mut fan_out);
            }
            self.delivery.finish(turn, &fan_out);
            self.delivery.messages.release(message);
            self.delivery.return_copy(copy);
        }
    }

    /// Goes on with the search for members of the groups of `publish`, of which the shards that it was `tried` on had
    /// none: here at once, elsewhere by one message to a shard for members that are online, or one more for members that
    /// are not. A message that has to survive goes as a transfer, another one by `way`.
    fn search_members(
        &mut self,
        turn: &mut Turn<'_>,
        publish: &ForwardedPublish<'_>,
        way: Way,
        fan_out: &mut FanOut<'_>,
    ) {
        let ForwardedPublish { tried, accepts_offline, origin, .. } = *publish;
        let mut requests: Vec<(u16, bool, u64)> = Vec::new();
        for key in publish.groups.iter() {
            let chosen = self.offer_here_or_choose(turn, key, (tried, accepts_offline), fan_out);
            requests.extend(chosen.map(|(target, offline)| (target, offline, key)));
        }
        requests.sort_unstable();
        let may_transfer = Self::may_transfer(turn, fan_out.message().qos);
        if may_transfer {
            // There is one transfer of a message to a shard: with one for members that are not online, all of it is for those.
            let offline: Vec<u16> = requests.iter().filter(|it| it.1).map(|it| it.0).collect();
            for (target, is_offline, _) in &mut requests {
                *is_offline |= offline.contains(target);
            }
        }
        for alike in requests.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (target, offline, _) = alike[0];
            // The search for offline members begins anew: a shard without a member online may have one of them.
            let tried = if offline && !accepts_offline { ShardSet::default() } else { tried };
            assert!(!tried.contains(target));
            let keys: Vec<u8> = alike.iter().flat_map(|(_, _, key)| key.to_le_bytes()).collect();
            let again = ForwardedPublish {
                groups: GroupKeys::from_bytes(&keys),
                tried,
                accepts_offline: offline,
                ..ForwardedPublish::of(*fan_out.message(), origin)
            };
            let Self { topics, delivery, shared, .. } = self;
            let is_lasting = may_transfer && alike.iter().any(|it| shared.is_lasting(topics, delivery, it.2));
            let way = if is_lasting { self.transfer(false) } else { way };
            cross(turn, &mut self.mesh, target, &mut ShardMessage::Publish(again), way, fan_out);
            turn.counters.messages_forwarded += 1;
        }
        self.open_transfer(turn, fan_out);
    }

    /// Returns whether a member here may have the message.
    fn offer_to_own_members(&mut self, turn: &mut Turn<'_>, key: u64, fan_out: &mut FanOut<'_>) -> bool {
        let Self { topics, delivery, shared, .. } = self;
        let Some(group) = topics.group_by_key(key) else {
            unreachable!("this shard was chosen for its members");
        };
        shared.offer_to_group(turn, (topics, delivery), group, fan_out)
    }
}
