//! Moves what a session is owed to its connection, as far as quota, window and outbox allow.
//! Knows no topic tree; called whenever one of the three got room.

use alloc::vec::Vec;

use wire::QoS;
use wire::packet::{Ack, AckKind};

use crate::base::time::Instant;
use crate::connection::table::ConnectionId;
use crate::counters::DropReason;
use crate::event::Actions;
use crate::publish::fan_out::{Delivery, dequeue};
use crate::publish::send::send_one;
use crate::session::inflight::Stage;
use crate::session::table::SessionId;

impl Delivery {
    /// Sends again what a resumed session had in flight, then what it has queued.
    ///
    /// Bounded by the outbox: at most `outbox_bytes_max` plus one message are written.
    pub(crate) fn deliver_pending(&mut self, now: Instant, id: SessionId, actions: &mut Actions) {
        let Some(connection) = self.sessions.get(id.0).and_then(|session| session.connection) else { return };
        if self.connections.get(connection.0).is_none_or(|connection| !connection.is_open()) {
            return;
        }
        while self.redeliver_one(now, id, connection, actions) {}
        while self.deliver_queued_one(now, id, connection, actions) {}
    }

    /// One step of redelivery [MQTT-4.4.0-1]; `false` when there is none or no room.
    fn redeliver_one(
        &mut self,
        now: Instant,
        id: SessionId,
        to: ConnectionId,
        actions: &mut Actions,
    ) -> bool {
        let Self { limits, connections, sessions, counters, messages, outbox_writer, hasher, .. } = self;
        let session = sessions.get_mut(id.0).expect("pumped while it lives");
        let Some(deliveries) = session.deliveries.as_mut() else { return false };
        let Some(&packet_id) = deliveries.resend.front() else { return false };
        let connection = connections.get_mut(to.0).expect("a session's connection lives");
        if connection.outbox.bytes() >= u64::from(limits.outbox_bytes_max) {
            return false;
        }
        let Some(inflight) = deliveries.inflight(packet_id) else {
            // It was acknowledged before its turn came.
            deliveries.resend.pop_front();
            return true;
        };
        let (stage, grant) = (inflight.stage, inflight.grant.clone());
        match stage {
            Stage::Release => {
                deliveries.resend.pop_front();
                let version = connection.version;
                outbox_writer.append(connection, to, actions, |out: &mut Vec<u8>| {
                    Ack::success(packet_id).encode(AckKind::PubRel, version, out);
                });
            }
            Stage::Publish(key) => {
                if connection.send_quota == 0 {
                    return false;
                }
                deliveries.resend.pop_front();
                let view = messages.view(key);
                let shared = messages.shared_payload(key);
                let sent = send_one(
                    now,
                    connection,
                    to,
                    &grant,
                    Some(packet_id),
                    true,
                    &view,
                    shared,
                    outbox_writer,
                    hasher,
                    counters,
                    actions,
                );
                if sent {
                    connection.send_quota -= 1;
                    deliveries.inflight(packet_id).expect("seen above").holds_quota = true;
                } else {
                    // The client now accepts less than when it was first sent [MQTT-3.1.2-25].
                    deliveries.finish(packet_id);
                    messages.release(key);
                    session.ledger.drop(counters, DropReason::PacketTooLarge, 1);
                }
            }
        }
        true
    }

    /// Sends or drops the first of the queue; `false` when it is empty or there is no room.
    fn deliver_queued_one(
        &mut self,
        now: Instant,
        id: SessionId,
        to: ConnectionId,
        actions: &mut Actions,
    ) -> bool {
        let Self { limits, connections, sessions, counters, messages, outbox_writer, hasher, .. } = self;
        let session = sessions.get_mut(id.0).expect("pumped while it lives");
        let Some(deliveries) = session.deliveries.as_mut() else { return false };
        if !deliveries.resend.is_empty() {
            return false;
        }
        let Some(first) = deliveries.queue.front() else { return false };
        let connection = connections.get_mut(to.0).expect("a session's connection lives");
        if connection.outbox.bytes() >= u64::from(limits.outbox_bytes_max) {
            return false;
        }
        let tracked = first.grant.qos != QoS::AtMostOnce;
        if tracked && (connection.send_quota == 0 || deliveries.inflight_count() >= limits.inflight_max) {
            return false;
        }
        let queued = dequeue(deliveries, messages).expect("its front was seen");
        let (key, grant) = (queued.message, queued.grant);
        let view = messages.view(key);
        if view.is_expired(now) {
            messages.release(key);
            session.ledger.drop(counters, DropReason::Expired, 1);
            return true;
        }
        let shared = messages.shared_payload(key);
        let packet_id = tracked.then(|| {
            deliveries
                .start(limits.inflight_max, Stage::Publish(key), grant.clone())
                .expect("the window had room a moment ago")
        });
        let sent = send_one(
            now,
            connection,
            to,
            &grant,
            packet_id,
            false,
            &view,
            shared,
            outbox_writer,
            hasher,
            counters,
            actions,
        );
        match (sent, packet_id) {
            (true, Some(_)) => connection.send_quota -= 1,
            (true, None) => messages.release(key),
            (false, packet_id) => {
                packet_id.map(|packet_id| deliveries.finish(packet_id));
                messages.release(key);
                session.ledger.drop(counters, DropReason::PacketTooLarge, 1);
            }
        }
        true
    }
}
