//! Messages of groups whose member has left: queued ones, and those of QoS 1 in flight, go to another member.
//! Knows no lane and no packet; `mesh` finds the shard and `publish` the member.
//!
//! Invariants worth naming:
//! - A message is booked as moved with the session that had it, and as matched once more wherever it goes, be it
//!   only to be counted as a drop because no member is left. So the books balance on every shard.
//! - Each move is the work of a client that left: the message stays with its next member as long as that one
//!   stays, and within one move each shard is asked twice at most. So nothing goes round by itself.
//! - What a receiver has in full is never moved, nor is QoS 2 once it was sent [MQTT-4.8.2-5], nor QoS 0.
//! - What moves left its first place in the order of its publisher; among each other such messages keep theirs.

use alloc::vec::Vec;

use wire::TopicFilter;

use crate::base::time::Instant;
use crate::counters::DropReason;
use crate::engine::Engine;
use crate::event::Actions;
use crate::message::stored::MessageKey;
use crate::session::inflight::{DeliveryState, Undelivered, Via};
use crate::session::table::SessionId;
use crate::topic::tree::GroupTag;

/// Messages moved in one step; the rest waits for the next.
const REASSIGNMENTS_PER_STEP_MAX: usize = 128;

/// A message that needs another member of its group, and that nobody else holds for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reassignment {
    message: MessageKey,
    /// What stands for the group, of which this shard may have no member.
    group_key: u64,
}

/// Groups that a session is about to leave, each with its key.
#[derive(Debug, Default)]
pub(crate) struct Leaving(Vec<(GroupTag, u64)>);

impl Engine {
    /// Notes that a session is about to give up `filter`, if that is a shared one.
    pub(crate) fn record_leaving(&self, leaving: &mut Leaving, filter: &TopicFilter<'_>) {
        if filter.share_name().is_some()
            && let Some(group) = self.tree.group_named(filter)
        {
            leaving.0.push((GroupTag::of(group), self.tree.group(group).key));
        }
    }

    /// The session has left these groups: what it has queued because of them goes to others. What it was sent
    /// stays with it until it is acknowledged or the session ends [MQTT-3.10.4-3].
    pub(crate) fn leave_groups(&mut self, id: SessionId, leaving: Leaving) {
        let Leaving(mut groups) = leaving;
        if groups.is_empty() {
            return;
        }
        groups.sort_unstable();
        let session = self.delivery.sessions.get_mut(id.0).expect("the caller found it");
        let Some(deliveries) = &mut session.deliveries else { return };
        let key_of = |tag| {
            let at = groups.binary_search_by_key(&tag, |&(group, _)| group).ok()?;
            Some(groups[at].1)
        };
        let mut reassigned_count = 0;
        deliveries.leave(&self.delivery.messages, key_of, |message, group_key| {
            reassigned_count += 1;
            self.reassignments.push_back(Reassignment { message, group_key });
        });
        session.ledger.drop(&mut self.delivery.counters, DropReason::Reassigned, reassigned_count);
    }

    /// The session ends, while its groups still have their names: what others may have goes to them, the rest
    /// is released. Returns how many deliveries end with the session.
    pub(crate) fn leave_all_groups(&mut self, id: SessionId, deliveries: DeliveryState) -> u32 {
        let (mut reassigned_count, mut ended_count) = (0, 0);
        for Undelivered { message, via } in deliveries.into_undelivered() {
            let group_key = match via {
                Via::Own => None,
                Via::Group(tag) => Some(self.tree.group(tag.group()).key),
                Via::Former(key) => Some(key),
            };
            match (message, group_key) {
                (Some(message), Some(group_key)) => {
                    reassigned_count += 1;
                    self.reassignments.push_back(Reassignment { message, group_key });
                }
                (Some(message), None) => {
                    ended_count += 1;
                    self.delivery.messages.release(message);
                }
                (None, _) => ended_count += 1,
            }
        }
        let session = self.delivery.sessions.get_mut(id.0).expect("the caller found it");
        session.ledger.drop(&mut self.delivery.counters, DropReason::Reassigned, reassigned_count);
        ended_count
    }

    /// Whether a message waits to be moved and can be.
    pub(crate) fn has_reassignments(&self) -> bool {
        !self.reassignments.is_empty() && self.mesh.outbound.has_room()
    }

    /// Finds other members for some of the messages that wait. While lanes are full they stay here: they were
    /// held before, so this takes no more memory than the sessions did.
    pub(crate) fn run_reassignments(&mut self, now: Instant, actions: &mut Actions) {
        for _ in 0..REASSIGNMENTS_PER_STEP_MAX {
            if !self.has_reassignments() {
                return;
            }
            let Reassignment { message, group_key } =
                self.reassignments.pop_front().expect("seen a moment ago");
            let mut copy = core::mem::take(&mut self.stored_copy);
            let mut fan_out = self.delivery.fan_out_stored(message, &mut copy);
            if fan_out.view.is_expired(now) {
                self.drop_for_group(DropReason::Expired);
            } else {
                self.reassign(now, group_key, &mut fan_out, actions);
            }
            self.delivery.finish(&fan_out);
            self.delivery.messages.release(message);
            self.stored_copy = copy;
        }
    }
}
