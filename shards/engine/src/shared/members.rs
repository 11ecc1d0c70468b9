//! The members of shared subscriptions that live here: how many of them can take a message, and whose turn it is.
//! Knows no other shard; `groups` chooses among those.

use wire::QoS;

use crate::base::time::Instant;
use crate::counters::DropReason;
use crate::engine::Engine;
use crate::event::Actions;
use crate::message::stored::MessageView;
use crate::publish::fan_out::FanOut;
use crate::publish::route::grant;
use crate::session::inflight::Grant;
use crate::topic::tree::GroupTag;

/// Which member of a group is rather given a message, the best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Preference {
    Online,
    /// Offline, and its session lasts.
    Persistent,
    /// Connected, and its queue is full.
    OnlineFull,
    PersistentFull,
}

impl Engine {
    /// Delivers to one member of each group, where there is one shard. Returns how many groups matched.
    pub(crate) fn offer_to_groups(
        &mut self,
        now: Instant,
        filters: &[u32],
        fan_out: &mut FanOut<'_>,
        actions: &mut Actions,
    ) -> u32 {
        let mut group_count = 0;
        for &filter in filters {
            for at in 0..self.tree.groups(filter).len() {
                group_count += 1;
                self.offer_to_group(now, self.tree.groups(filter)[at], fan_out, actions);
            }
        }
        group_count
    }

    /// Delivers to the member of a group whose turn it is, or counts the drop.
    pub(crate) fn offer_to_group(
        &mut self,
        now: Instant,
        group: u32,
        fan_out: &mut FanOut<'_>,
        actions: &mut Actions,
    ) {
        if let Some((session, mut grant)) = self.choose_member(group, &fan_out.view) {
            // Nobody waits for QoS 0.
            grant.group = (grant.qos != QoS::AtMostOnce).then(|| GroupTag::of(group));
            self.delivery.offer(now, session, grant, fan_out, actions);
        } else {
            self.drop_for_group(DropReason::NoMember);
        }
    }

    /// Members of a group that are online, and those that are not but can keep a message.
    pub(crate) fn count_members(&mut self, group: u32) -> (u32, u32) {
        let group = self.tree.group_mut(group);
        if let Some(counts) = group.counts {
            return counts;
        }
        let (mut online_count, mut persistent_count) = (0, 0);
        for member in &group.members {
            let session = self.delivery.sessions.at(member.session);
            let session = session.expect("a subscription ends before its session");
            if self.delivery.is_online(session) {
                online_count += 1;
            } else if session.is_persistent() {
                persistent_count += 1;
            }
        }
        group.counts = Some((online_count, persistent_count));
        (online_count, persistent_count)
    }

    /// The member of a shared subscription whose turn it is: connected if any is, else one whose session
    /// can keep the message; of either, one whose queue is full only if there is no other.
    fn choose_member(&mut self, group: u32, view: &MessageView<'_>) -> Option<(u32, Grant)> {
        let group = self.tree.group_mut(group);
        let count = group.members.len();
        let mut second: Option<(Preference, u32, Grant, u32)> = None;
        for step in 0..count {
            let at = (group.cursor as usize + step) % count;
            let member = group.members[at];
            let Some(grant) = grant(&member, view, None) else { continue };
            let session =
                self.delivery.sessions.at(member.session).expect("a subscription ends before its session");
            let keeps = grant.qos != QoS::AtMostOnce || self.delivery.limits.queue_qos0_offline;
            // QoS 0 is not queued for who is connected.
            let has_room = grant.qos == QoS::AtMostOnce || self.delivery.has_queue_room(session);
            let preference = match (self.delivery.is_online(session), has_room) {
                (true, true) => Preference::Online,
                (true, false) => Preference::OnlineFull,
                (false, _) if !(keeps && session.is_persistent()) => continue,
                (false, true) => Preference::Persistent,
                (false, false) => Preference::PersistentFull,
            };
            let next = u32::try_from((at + 1) % count).expect("below the member count");
            if preference == Preference::Online {
                group.cursor = next;
                return Some((member.session, grant));
            }
            if second.as_ref().is_none_or(|(other, ..)| preference < *other) {
                second = Some((preference, member.session, grant, next));
            }
        }
        let (_, session, grant, next) = second?;
        group.cursor = next;
        Some((session, grant))
    }
}
