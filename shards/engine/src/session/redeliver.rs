//! The next message of a session for its connection: first everything in flight again, then the queue.

use wire::PacketId;

use super::grant::Grant;
use super::inflight::Stage;
use super::queue::Queued;
use super::recorded::settle_queued;
use super::{Session, is_tracked};
use crate::counters::DropReason;
use crate::message::stored::MessageStore;
use crate::turn::Turn;

impl Session {
    /// The first delivery to be sent again [MQTT-4.4.0-1]. It stays first until [`Session::end_redelivery`].
    pub(crate) fn next_redelivery(&mut self) -> Option<(PacketId, Stage, Grant)> {
        self.pass_over_held_releases();
        let window = &mut self.deliveries.as_mut()?.window;
        let packet_id = window.next_resend()?;
        let inflight = window.get(packet_id)?;
        assert!(!inflight.holds_quota());
        Some((packet_id, inflight.stage(), inflight.grant().clone()))
    }

    /// The first delivery was sent again; `takes_quota` if it was a PUBLISH.
    pub(crate) fn end_redelivery(&mut self, packet_id: PacketId, takes_quota: bool) {
        let Some(deliveries) = &mut self.deliveries else { return };
        deliveries.window.pop_resend(packet_id);
        if takes_quota && let Some(inflight) = deliveries.window.get_mut(packet_id) {
            inflight.take_quota();
        }
    }

    /// The first delivery cannot be sent again: the client accepts less than before [MQTT-3.1.2-25].
    pub(crate) fn give_up_redelivery(&mut self, turn: &mut Turn<'_>, packet_id: PacketId) {
        if let Some(deliveries) = &mut self.deliveries {
            deliveries.window.pop_resend(packet_id);
        }
        self.give_up_inflight(turn, packet_id);
    }

    /// Takes the first message out of the queue if the connection's `send_quota` and the window allow it. Expired ones are
    /// dropped on the way, as far as the step's share of work allows. A message with a Packet Identifier is in the window now, which
    /// takes over its hold; another's hold goes to the caller.
    pub(crate) fn dequeue(
        &mut self,
        turn: &mut Turn<'_>,
        messages: &mut MessageStore,
        send_quota: u16,
    ) -> Option<(Queued, Option<PacketId>)> {
        let before = self.delivery_bytes();
        let dequeued = self.dequeue_unnoted(turn, messages, send_quota);
        turn.held_mut().note_deliveries(before, self.delivery_bytes());
        dequeued
    }

    fn dequeue_unnoted(
        &mut self,
        turn: &mut Turn<'_>,
        messages: &mut MessageStore,
        send_quota: u16,
    ) -> Option<(Queued, Option<PacketId>)> {
        let Self { client_id, deliveries, ledger, .. } = self;
        let deliveries = deliveries.as_mut()?;
        let next = deliveries.next_delivery;
        // Expired messages are cheap to drop, but there may be as many as the queue holds.
        while !turn.is_spent() {
            let first = deliveries.queue.first()?;
            let tracked = is_tracked(first.grant.qos);
            let delivery = first.delivery(next);
            let may_send = !tracked
                || (send_quota > 0
                    && deliveries.window.has_room_for(delivery, turn.limits.inflight_max)
                    && !deliveries.is_held(first.grant.qos, delivery));
            if deliveries.window.has_resend() || !may_send {
                return None;
            }
            let queued = deliveries.queue.pop(messages)?;
            if messages.view(queued.message).is_expired(turn.now) {
                settle_queued(turn, deliveries.log_number(), &queued, next);
                messages.release(queued.message);
                ledger.count_dropped(turn.counters, client_id, DropReason::Expired, 1);
                turn.spend(1);
                continue;
            }
            let packet_id = tracked.then(|| {
                deliveries.window.start(delivery, Stage::Publish(queued.message), queued.grant.clone())
            });
            return Some((queued, packet_id));
        }
        None
    }
}
