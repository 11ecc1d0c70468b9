//! Messages into the queue of a session, and out of it to the groups that the session leaves.

use alloc::vec::Vec;

use super::grant::{Grant, Owed};
use super::queue::Queued;
use super::recorded::settle_queued;
use super::{Deliveries, Session, is_tracked};
use crate::base::ids::{MessageKey, SessionId};
use crate::cause::Cause;
use crate::counters::DropReason;
use crate::limits::QueueFull;
use crate::message::stored::MessageStore;
use crate::topic::groups::GroupTag;
use crate::turn::{Ending, Turn};

impl Session {
    /// Queues a message, or drops one and counts it as `Limits::queue_full` says. Returns whether it was queued.
    pub(crate) fn enqueue(
        &mut self,
        turn: &mut Turn<'_>,
        id: SessionId,
        messages: &mut MessageStore,
        message: MessageKey,
        grant: Grant,
    ) -> bool {
        let before = self.delivery_bytes();
        let is_queued = self.enqueue_unnoted(turn, id, messages, message, grant);
        turn.held_mut().note_deliveries(before, self.delivery_bytes());
        is_queued
    }

    fn enqueue_unnoted(
        &mut self,
        turn: &mut Turn<'_>,
        id: SessionId,
        messages: &mut MessageStore,
        message: MessageKey,
        grant: Grant,
    ) -> bool {
        let bytes = messages.bytes_of(message);
        let is_held = self.holds_exactly_once();
        let Self { client_id, deliveries, ledger, .. } = self;
        let deliveries = deliveries.get_or_insert_default();
        let number = deliveries.log_number();
        let Deliveries { is_condemned, queue, next_delivery, .. } = &mut **deliveries;
        while !queue.has_room_for(bytes, turn.limits) {
            // A message that is too old to be sent makes room before one that is not is lost.
            let is_stale =
                queue.first().is_some_and(|first| messages.view(first.message).is_expired(turn.now));
            let makes_room = match turn.limits.queue_full {
                // No room is made for a message that would not fit into an empty queue.
                QueueFull::DropOldest => bytes <= turn.limits.queue_bytes_max,
                QueueFull::EndSession | QueueFull::DropNewest => false,
            };
            if !is_stale && !makes_room {
                if turn.limits.queue_full == QueueFull::EndSession && !core::mem::replace(is_condemned, true)
                {
                    turn.endings.push(Ending::Session(id, Cause::QueueFull));
                }
                ledger.count_dropped(turn.counters, client_id, DropReason::QueueFull, 1);
                return false;
            }
            let Some(oldest) = queue.pop(messages) else {
                ledger.count_dropped(turn.counters, client_id, DropReason::QueueFull, 1);
                return false;
            };
            settle_queued(turn, number, &oldest, *next_delivery);
            messages.release(oldest.message);
            let reason = if is_stale { DropReason::Expired } else { DropReason::QueueFull };
            ledger.count_dropped(turn.counters, client_id, reason, 1);
        }
        let delivery = if is_tracked(grant.qos) { deliveries.number_delivery() } else { 0 };
        if !is_held {
            deliveries.durable_below = deliveries.next_delivery;
        }
        deliveries.queue.push(messages, message, grant, delivery);
        true
    }

    /// Takes the messages of groups that the session leaves out of the queue, in order and each with the key of its
    /// group, and counts them as reassigned; the caller takes over their holds. Messages in flight stay until they are
    /// acknowledged or the session ends [MQTT-3.10.4-3].
    pub(crate) fn leave_groups(
        &mut self,
        turn: &mut Turn<'_>,
        messages: &MessageStore,
        key_of: impl Fn(GroupTag) -> Option<u64>,
    ) -> Vec<(MessageKey, u64, Option<Owed>)> {
        let before = self.delivery_bytes();
        let Some(deliveries) = &mut self.deliveries else { return Vec::new() };
        deliveries.window.leave_groups(&key_of);
        let group_key = |queued: &Queued| queued.grant.group.and_then(&key_of);
        let left = deliveries.queue.extract(messages, |queued| group_key(queued).is_some());
        let (number, next) = (deliveries.log_number(), deliveries.next_delivery);
        let owed = |queued: &Queued| number.map(|number| (number, queued.delivery(next)));
        let left: Vec<_> = left
            .iter()
            .filter_map(|queued| Some((queued.message, group_key(queued)?, owed(queued))))
            .collect();
        let count = u32::try_from(left.len()).unwrap_or(u32::MAX);
        self.ledger.count_dropped(turn.counters, &self.client_id, DropReason::Reassigned, count);
        turn.held_mut().note_deliveries(before, self.delivery_bytes());
        left
    }
}
