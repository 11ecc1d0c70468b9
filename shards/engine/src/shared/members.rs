//! The members of a group that live on this shard: how many can receive a message, and whose turn it is.

use alloc::vec::Vec;

use wire::QoS;

use super::{Shared, count_undeliverable};
use crate::counters::DropReason;
use crate::publish::Delivery;
use crate::publish::fan_out::FanOut;
use crate::publish::matches::grant;
use crate::session::grant::Grant;
use crate::topic::groups::GroupTag;
use crate::topic::members::Member;
use crate::topic::tree::Tree;
use crate::turn::Turn;

/// Members of a group that are looked at for one unit of work.
const MEMBERS_PER_WORK: usize = 4;

/// Members of a group on one shard.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct MemberCounts {
    online: u32,
    /// Offline, with a session that can keep a message.
    persistent: u32,
    /// Messages of QoS 1 and 2 for one of them have to outlive the process.
    is_lasting: bool,
}

impl MemberCounts {
    /// Members that are online, and those that are not but can keep a message.
    pub(crate) const fn counts(self) -> (u32, u32) {
        (self.online, self.persistent)
    }

    /// Whether messages of QoS 1 and 2 for one of them have to outlive the process.
    pub(crate) const fn is_lasting(self) -> bool {
        self.is_lasting
    }
}

/// The preference for a member, the best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Preference {
    Online,
    /// Offline, with a session that can keep a message.
    Persistent,
    /// Connected, and its queue is full.
    OnlineFull,
    PersistentFull,
}

impl Shared {
    /// Delivers to one member of each group of `filters` from a filter and its group on, where there is one shard. A step
    /// that does too much is cut: then it returns where to go on.
    pub(crate) fn offer_to_groups(
        &mut self,
        turn: &mut Turn<'_>,
        (topics, delivery): (&mut Tree, &mut Delivery),
        filters: &[u32],
        (first, mut from): (usize, usize),
        fan_out: &mut FanOut<'_>,
    ) -> Option<(usize, usize)> {
        for (number, &filter) in filters.iter().enumerate().skip(first) {
            for at in core::mem::take(&mut from)..topics.groups(filter).len() {
                if turn.is_overdrawn() {
                    return Some((number, at));
                }
                let group = topics.groups(filter)[at];
                if !self.offer_to_group(turn, (topics, delivery), group, fan_out) {
                    count_undeliverable(turn.counters, DropReason::NoMember);
                }
            }
        }
        None
    }

    /// Groups of `filters`.
    pub(crate) fn count_groups(topics: &Tree, filters: &[u32]) -> u32 {
        let count: usize = filters.iter().map(|&filter| topics.groups(filter).len()).sum();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Delivers to the member of a group whose turn it is. Returns whether there is one that may have it.
    pub(crate) fn offer_to_group(
        &mut self,
        turn: &mut Turn<'_>,
        (topics, delivery): (&mut Tree, &mut Delivery),
        group: u32,
        fan_out: &mut FanOut<'_>,
    ) -> bool {
        let chosen = choose_member(turn, topics, delivery, group, fan_out);
        let Some((session, mut grant)) = chosen else { return false };
        // A QoS 0 message is not passed on to another member.
        let is_tracked = grant.qos != QoS::AtMostOnce;
        grant.group = is_tracked.then(|| GroupTag::of(group));
        let key = topics.group_key(group);
        // One that did not come as a transfer was published before the session of a lasting member was known.
        let may_owe = turn.is_recording() && is_tracked && !fan_out.is_unpromised();
        let is_volatile = may_owe && delivery.sessions.of_member(session).recorded_number().is_none();
        let is_owed = is_volatile && self.is_lasting(topics, delivery, key);
        if is_owed {
            delivery.sessions.of_member_mut(session).begin_owing(turn);
        }
        delivery.set_group(key, is_owed);
        delivery.offer(turn, session, grant, fan_out);
        true
    }

    /// Members of a group that are online, and those that are not but can keep a message.
    pub(crate) fn count_members(&mut self, topics: &Tree, delivery: &Delivery, group: u32) -> MemberCounts {
        let version = topics.group_version(group);
        if let Some((counted, counts)) = self.counts.get(group)
            && *counted == version
        {
            return *counts;
        }
        let mut counts = MemberCounts::default();
        for member in topics.group_members(group).iter() {
            let session = delivery.sessions.of_member(member.session());
            counts.is_lasting |= member.is_lasting();
            if delivery.is_online(session) {
                counts.online += 1;
            } else if session.is_persistent() {
                counts.persistent += 1;
            }
        }
        assert!((counts.online + counts.persistent) as usize <= topics.group_members(group).len());
        self.counts.set(group, (version, counts));
        counts
    }

    /// Counts that are kept are what a walk over the members finds, for an audit.
    ///
    /// # Panics
    /// If one is not.
    pub(crate) fn check(&self, topics: &Tree, delivery: &Delivery) {
        for group in topics.group_numbers() {
            if let Some((version, counts)) = self.counts.get(group)
                && *version == topics.group_version(group)
            {
                let members = topics.group_members(group);
                assert!(members.iter().any(Member::is_lasting) == counts.is_lasting);
                let sessions = members.iter().map(|member| delivery.sessions.of_member(member.session()));
                let (online, offline): (Vec<_>, Vec<_>) =
                    sessions.partition(|session| delivery.is_online(session));
                assert!(online.len() == counts.online as usize);
                let persistent = offline.iter().filter(|session| session.is_persistent());
                assert!(persistent.count() == counts.persistent as usize);
            }
        }
    }

    /// Whether a message of QoS 1 or 2 for the group with this key has to outlive the process, because of a member here or elsewhere.
    pub(crate) fn is_lasting(&mut self, topics: &Tree, delivery: &Delivery, key: u64) -> bool {
        self.remote.is_lasting(key) || self.count_members_of(topics, delivery, key).is_lasting
    }

    /// [`Shared::count_members`] of the group that other shards call `key`; none if this shard has no such group.
    pub(crate) fn count_members_of(&mut self, topics: &Tree, delivery: &Delivery, key: u64) -> MemberCounts {
        let group = topics.group_by_key(key);
        group.map_or_else(MemberCounts::default, |group| self.count_members(topics, delivery, group))
    }
}

/// The member whose turn it is: one that is connected if there is any, else one whose session can keep the message; and
/// of either one whose queue is full only if there is no other.
fn choose_member(
    turn: &mut Turn<'_>,
    topics: &mut Tree,
    delivery: &Delivery,
    group: u32,
    fan_out: &FanOut<'_>,
) -> Option<(u32, Grant)> {
    let message = fan_out.message();
    let (members, cursor) = (topics.group_members(group), topics.group_cursor(group) as usize);
    let mut best: Option<(Preference, usize, Grant)> = None;
    for step in 0..members.len() {
        if step % MEMBERS_PER_WORK == 0 {
            turn.spend(1);
        }
        let at = (cursor + step) % members.len();
        let Some(member) = members.get(at) else { break };
        let Some(grant) = grant(member, message, None) else { continue };
        let session = delivery.sessions.of_member(member.session());
        // One that may not read the message is passed over.
        if session.is_watched(turn)
            && (fan_out.is_too_early_for(session, grant.qos) || !session.may_read(turn, message.topic))
        {
            continue;
        }
        let is_tracked = grant.qos != QoS::AtMostOnce;
        let can_keep = session.is_persistent() && (is_tracked || turn.limits.queue_qos0_offline);
        // QoS 0 is not queued for a connected member.
        let has_room = !is_tracked || session.has_queue_room(turn.limits);
        let preference = match (delivery.is_online(session), has_room) {
            (true, true) => Preference::Online,
            (true, false) => Preference::OnlineFull,
            (false, _) if !can_keep => continue,
            (false, true) => Preference::Persistent,
            (false, false) => Preference::PersistentFull,
        };
        if best.as_ref().is_none_or(|(other, ..)| preference < *other) {
            best = Some((preference, at, grant));
        }
        if preference == Preference::Online {
            break;
        }
    }
    let (_, at, grant) = best?;
    let (session, next) = (members.get(at)?.session(), (at + 1) % members.len());
    topics.set_group_cursor(group, u32::try_from(next).unwrap_or(0));
    Some((session, grant))
}
