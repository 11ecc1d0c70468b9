//! Pending messages of a session, moved to its connection as far as quota, window and outbox allow. Called whenever
//! one of the three got room.

use core::cell::OnceCell;

use wire::{QoS, ReasonCode};

use super::Delivery;
use super::awaited::Awaited;
use crate::base::ids::{ConnectionId, SessionId};
use crate::connection::Connection;
use crate::connection::send::Outgoing;
use crate::counters::DropReason;
use crate::session::inflight::Stage;
use crate::turn::Turn;

impl Delivery {
    /// Sends again everything that a resumed session had in flight, then everything that it has queued.
    ///
    /// Bounded by the outbox, of which at most `outbox_bytes_max` plus one message are written, and by the step's share of
    /// work: then [`Delivery::go_on_with_pending`] goes on.
    pub(crate) fn deliver_pending(&mut self, turn: &mut Turn<'_>, id: SessionId) {
        let Some(session) = self.sessions.get(id).filter(|session| session.has_backlog()) else { return };
        let Some(to) = session.connection() else { return };
        if !self.connections.get(to).is_some_and(Connection::is_open) {
            return;
        }
        while !turn.is_spent() && self.redeliver_one(turn, id, to) {}
        while !turn.is_spent() && self.deliver_queued_one(turn, id, to) {}
        self.clear_owed(turn, id, to);
        if turn.is_spent() {
            let session = self.sessions.of_connection(id);
            if session.has_backlog() && session.defer_pending() {
                self.unfinished.push_back(id);
            }
        }
    }

    /// Clears what the log owes to groups of the messages that are sent next, which waits for that.
    fn clear_owed(&mut self, turn: &mut Turn<'_>, id: SessionId, to: ConnectionId) {
        if !self.sessions.of_connection(id).is_owing() {
            return;
        }
        let Some(send_quota) = self.quota_of(turn, to) else { return };
        if let Some(last) = self.sessions.of_connection(id).clear_next(turn, send_quota) {
            self.await_durable(id, Awaited::Cleared(last));
        }
    }

    /// Goes on with the pending messages that earlier steps had no time for. Returns the session that was served.
    pub(crate) fn go_on_with_pending(&mut self, turn: &mut Turn<'_>) -> Option<SessionId> {
        if turn.is_spent() {
            return None;
        }
        let id = self.unfinished.pop_front()?;
        if let Some(session) = self.sessions.get_mut(id) {
            session.resume_pending();
            self.deliver_pending(turn, id);
        }
        // Only now: otherwise a step could do nothing but count.
        turn.spend(1);
        Some(id)
    }

    /// Whether a session waits for [`Delivery::go_on_with_pending`].
    pub(crate) fn has_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// The send quota of a connection, while its outbox has room.
    fn quota_of(&self, turn: &Turn<'_>, to: ConnectionId) -> Option<u16> {
        let connection = self.connections.get(to)?;
        connection.has_outbox_room(turn.outbox_bytes_max()).then_some(connection.send_quota())
    }

    /// One step of redelivery [MQTT-4.4.0-1]; `false` when there is none or no room.
    fn redeliver_one(&mut self, turn: &mut Turn<'_>, id: SessionId, to: ConnectionId) -> bool {
        let Some(send_quota) = self.quota_of(turn, to) else { return false };
        let session = self.sessions.of_connection(id);
        let Some((packet_id, stage, grant)) = session.next_redelivery() else { return false };
        if send_quota == 0 && stage != Stage::Release {
            // Work that is counted for nothing would be tried again in every step.
            return false;
        }
        turn.spend_delivery();
        match stage {
            Stage::Release => {
                assert!(grant.qos == QoS::ExactlyOnce);
                session.end_redelivery(packet_id, false);
                self.connections.write_pubrel(turn, to, packet_id, ReasonCode::Success);
            }
            Stage::Publish(key) => {
                let message = self.messages.view(key);
                if session.is_watched(turn) && !session.may_read(turn, message.topic) {
                    session.give_up_redelivery(turn, packet_id);
                    self.messages.release(key);
                    session.count_dropped(turn.counters, DropReason::Denied, 1);
                    return true;
                }
                let shared = self.messages.shared_payload(key);
                let topic_hash = OnceCell::new();
                let outgoing = Outgoing::new(&message, shared, &topic_hash, &grant, Some(packet_id)).again();
                if self.connections.send_alone(turn, to, &outgoing) {
                    session.end_redelivery(packet_id, true);
                } else {
                    // The client now accepts less than when the message was first sent [MQTT-3.1.2-25].
                    session.give_up_redelivery(turn, packet_id);
                    self.messages.release(key);
                    session.count_dropped(turn.counters, DropReason::PacketTooLarge, 1);
                }
            }
        }
        true
    }

    /// Sends or drops the first message of the queue; `false` when it is empty or there is no room.
    fn deliver_queued_one(&mut self, turn: &mut Turn<'_>, id: SessionId, to: ConnectionId) -> bool {
        let Some(send_quota) = self.quota_of(turn, to) else { return false };
        let session = self.sessions.of_connection(id);
        let Some((queued, packet_id)) = session.dequeue(turn, &mut self.messages, send_quota) else {
            return false;
        };
        turn.spend_delivery();
        let key = queued.message;
        let message = self.messages.view(key);
        let shared = self.messages.shared_payload(key);
        let topic_hash = OnceCell::new();
        let outgoing = Outgoing::new(&message, shared, &topic_hash, &queued.grant, packet_id);
        let is_denied = session.is_watched(turn) && !session.may_read(turn, message.topic);
        let sent = !is_denied && self.connections.send_alone(turn, to, &outgoing);
        if !sent {
            if let Some(packet_id) = packet_id {
                session.give_up_inflight(turn, packet_id);
            }
            let reason = if is_denied { DropReason::Denied } else { DropReason::PacketTooLarge };
            session.count_dropped(turn.counters, reason, 1);
        }
        if !sent || packet_id.is_none() {
            self.messages.release(key);
        }
        true
    }
}
