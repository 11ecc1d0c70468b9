//! Reassignment: messages of groups whose member has left go to another member. Queued ones do, and those of QoS 1 in
//! flight.
//!
//! Invariants worth naming:
//! - The ledger of the session that had a message counts it as reassigned, and it is matched once more wherever it goes,
//!   be it only to be counted as a drop because no member is left. So the ledgers balance on every shard.
//! - Each reassignment is the work of a client that left: the message stays with its next member as long as that one
//!   stays, and within one reassignment each shard is asked twice at most. So no message goes round by itself.
//! - A message that its receiver has in full is never reassigned, nor is QoS 2 once it was sent [MQTT-4.8.2-5], nor QoS 0.
//! - A reassigned message left its first place in the order of its publisher; among each other such messages keep theirs.

use alloc::vec::Vec;

use wire::TopicFilter;

use super::Shared;
use crate::base::ids::{MessageKey, SessionId};
use crate::counters::DropReason;
use crate::publish::Delivery;
use crate::session::grant::{Owed, Via};
use crate::topic::groups::GroupTag;
use crate::topic::tree::Tree;
use crate::turn::Turn;

/// Messages of a queue that are looked through for one unit of work.
const QUEUED_PER_WORK: u32 = 16;

/// A message that needs another member of its group. It is held on behalf of this list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reassignment {
    message: MessageKey,
    /// The key of the group, of which this shard may have no member.
    group_key: u64,
    /// The delivery that it was, if the log has it.
    owed: Option<Owed>,
}

/// Groups that a session is about to leave, each with its key.
#[derive(Debug, Default)]
pub(crate) struct Leaving(Vec<(GroupTag, u64)>);

impl Leaving {
    /// Notes that a session is about to give up `filter`, if that is a shared one.
    pub(crate) fn record(&mut self, topics: &Tree, filter: &TopicFilter<'_>) {
        if filter.share_name().is_some()
            && let Some(group) = topics.group_named(filter)
        {
            self.0.push((GroupTag::of(group), topics.group_key(group)));
        }
    }
}

impl Shared {
    /// The session has left these groups: the messages that it has queued because of them go to others.
    pub(crate) fn leave_groups(
        &mut self,
        turn: &mut Turn<'_>,
        delivery: &mut Delivery,
        id: SessionId,
        leaving: Leaving,
    ) {
        let Leaving(mut groups) = leaving;
        if groups.is_empty() {
            return;
        }
        groups.sort_unstable();
        let key_of = |tag| {
            let at = groups.binary_search_by_key(&tag, |&(group, _)| group).ok()?;
            Some(groups[at].1)
        };
        let session = delivery.sessions.of_connection(id);
        turn.spend(u32::try_from(session.queued_count()).unwrap_or(u32::MAX) / QUEUED_PER_WORK);
        let left = session.leave_groups(turn, &delivery.messages, key_of);
        let left = left.into_iter();
        self.reassignments.extend(left.map(|(message, group_key, owed)| Reassignment {
            message,
            group_key,
            owed,
        }));
    }

    /// Gives up messages of a session that has ended, while its groups still have their names: messages that others may
    /// receive go to them, the rest is released and dropped. Ends with the step's share of work; returns whether nothing is
    /// left.
    pub(crate) fn give_up_messages(
        &mut self,
        turn: &mut Turn<'_>,
        topics: &Tree,
        delivery: &mut Delivery,
        id: SessionId,
    ) -> bool {
        let session = delivery.sessions.of_connection(id);
        while !turn.is_spent() {
            let Some((message, via, owed)) = session.take_undelivered(turn.held_mut(), &delivery.messages)
            else {
                return true;
            };
            turn.spend(1);
            let group_key = match via {
                Via::Own => None,
                Via::Group(tag) => Some(topics.group_key(tag.group())),
                Via::Former(key) => Some(key),
            };
            let reason = match (message, group_key) {
                (Some(message), Some(group_key)) => {
                    self.reassignments.push_back(Reassignment { message, group_key, owed });
                    DropReason::Reassigned
                }
                (Some(message), None) => {
                    delivery.messages.release(message);
                    DropReason::SessionEnded
                }
                (None, _) => DropReason::SessionEnded,
            };
            session.count_dropped(turn.counters, reason, 1);
        }
        false
    }

    /// Bytes of the list of messages that need another member.
    pub(crate) fn reassignment_bytes(&self) -> u64 {
        self.reassignments.bytes_held()
    }

    pub(crate) fn reassignment_count(&self) -> usize {
        self.reassignments.len()
    }

    /// A message needs another member since a time before this start of the process. This list takes over its hold.
    pub(crate) fn push_reassignment(&mut self, message: MessageKey, group_key: u64, owed: Owed) {
        self.reassignments.push_back(Reassignment { message, group_key, owed: Some(owed) });
    }

    /// The next message that needs another member, the key of its group, and the delivery that it was, if the log has that. The
    /// caller takes over its hold.
    pub(crate) fn pop_reassignment(&mut self) -> Option<(MessageKey, u64, Option<Owed>)> {
        let Reassignment { message, group_key, owed } = self.reassignments.pop_front()?;
        self.reassignments.forget_if_empty();
        Some((message, group_key, owed))
    }

    /// Messages that it holds, for an audit.
    pub(crate) fn reassigned_messages(&self) -> impl Iterator<Item = MessageKey> + '_ {
        self.reassignments.iter().map(|reassignment| reassignment.message)
    }
}
