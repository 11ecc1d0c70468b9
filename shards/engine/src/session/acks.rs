//! PUBACK, PUBREC, PUBREL and PUBCOMP of clients: what each of them moves on or ends.
//! Knows no topic; `publish` began the exchange of a message that came in, `deliver` of one that goes out.

use wire::packet::{Ack, AckKind, AckProperties};
use wire::{PacketId, QoS, ReasonCode};

use crate::base::time::Instant;
use crate::connection::ack_gate::PendingAck;
use crate::connection::table::ConnectionId;
use crate::counters::DropReason;
use crate::engine::Engine;
use crate::event::Actions;
use crate::session::inflight::Stage;
use crate::session::table::SessionId;

impl Engine {
    pub(crate) fn on_puback(
        &mut self,
        now: Instant,
        id: ConnectionId,
        session: SessionId,
        ack: &Ack<'_>,
        actions: &mut Actions,
    ) {
        match self.stage_of(session, ack.packet_id) {
            Some((Stage::Publish(_), QoS::AtLeastOnce)) => {
                self.finish_delivery(now, id, session, ack.packet_id, ack.reason, actions);
            }
            // Acknowledged before, perhaps on an earlier connection.
            None => {}
            Some((Stage::Publish(_) | Stage::Release, _)) => {
                self.protocol_error(now, id, ReasonCode::ProtocolError, actions);
            }
        }
    }

    pub(crate) fn on_pubrec(
        &mut self,
        now: Instant,
        id: ConnectionId,
        session_id: SessionId,
        ack: &Ack<'_>,
        actions: &mut Actions,
    ) {
        let reason = match self.stage_of(session_id, ack.packet_id) {
            Some((Stage::Publish(_), QoS::ExactlyOnce)) if ack.reason.is_error() => {
                self.finish_delivery(now, id, session_id, ack.packet_id, ack.reason, actions);
                return;
            }
            Some((Stage::Publish(message), QoS::ExactlyOnce)) => {
                let session = self.delivery.sessions.get_mut(session_id.0).expect("it has a stage");
                let inflight =
                    session.deliveries.as_mut().and_then(|deliveries| deliveries.inflight(ack.packet_id));
                inflight.expect("it has a stage").stage = Stage::Release;
                self.delivery.messages.release(message);
                ReasonCode::Success
            }
            // A repetition of a PUBREC whose PUBREL is out already.
            Some((Stage::Release, _)) => ReasonCode::Success,
            Some((Stage::Publish(_), QoS::AtMostOnce | QoS::AtLeastOnce)) => {
                self.protocol_error(now, id, ReasonCode::ProtocolError, actions);
                return;
            }
            None => ReasonCode::PacketIdentifierNotFound,
        };
        let version = self.connection(id).version;
        let pubrel = Ack { packet_id: ack.packet_id, reason, properties: AckProperties::default() };
        self.delivery.write(id, actions, |out| pubrel.encode(AckKind::PubRel, version, out));
    }

    pub(crate) fn on_pubrel(
        &mut self,
        now: Instant,
        id: ConnectionId,
        session: SessionId,
        ack: &Ack<'_>,
        actions: &mut Actions,
    ) {
        let session = self.delivery.sessions.get_mut(session.0).expect("an open connection has a session");
        let known =
            session.deliveries.as_mut().is_some_and(|deliveries| deliveries.release_received(ack.packet_id));
        let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        // A repetition waits as well: the first may be on its way to the journal from a lost connection.
        let must_persist = session.is_persistent();
        let ack = PendingAck::Ack(AckKind::PubComp, ack.packet_id, reason);
        self.acknowledge(now, id, ack, must_persist, actions);
    }

    pub(crate) fn on_pubcomp(
        &mut self,
        now: Instant,
        id: ConnectionId,
        session: SessionId,
        ack: &Ack<'_>,
        actions: &mut Actions,
    ) {
        match self.stage_of(session, ack.packet_id) {
            Some((Stage::Release, _)) => {
                self.finish_delivery(now, id, session, ack.packet_id, ReasonCode::Success, actions);
            }
            None => {}
            Some((Stage::Publish(_), _)) => self.protocol_error(now, id, ReasonCode::ProtocolError, actions),
        }
    }

    fn stage_of(&mut self, session: SessionId, packet_id: PacketId) -> Option<(Stage, QoS)> {
        let session = self.delivery.sessions.get_mut(session.0).expect("an open connection has a session");
        let inflight = session.deliveries.as_mut()?.inflight(packet_id)?;
        Some((inflight.stage, inflight.grant.qos))
    }

    /// A delivery is acknowledged to its end: the quota it held serves the next [MQTT-4.9.0-2].
    fn finish_delivery(
        &mut self,
        now: Instant,
        id: ConnectionId,
        session_id: SessionId,
        packet_id: PacketId,
        reason: ReasonCode,
        actions: &mut Actions,
    ) {
        let delivery = &mut self.delivery;
        let session = delivery.sessions.get_mut(session_id.0).expect("it has a stage");
        let inflight = session
            .deliveries
            .as_mut()
            .and_then(|deliveries| deliveries.finish(packet_id))
            .expect("it has a stage");
        match inflight.stage {
            Stage::Publish(message) => delivery.messages.release(message),
            Stage::Release => {}
        }
        if reason.is_error() {
            session.ledger.drop(&mut delivery.counters, DropReason::Refused, 1);
        } else {
            session.ledger.deliver(&mut delivery.counters, 1);
        }
        let backlog = session.deliveries.as_ref().is_some_and(|deliveries| !deliveries.has_no_backlog());
        if inflight.holds_quota {
            let connection = self.connection(id);
            connection.send_quota += 1;
            assert!(connection.send_quota <= connection.receive_maximum);
        }
        if backlog {
            self.delivery.deliver_pending(now, session_id, actions);
        }
        self.schedule_replays(session_id);
    }
}
