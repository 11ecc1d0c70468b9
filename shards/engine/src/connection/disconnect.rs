//! How connections and sessions end: who is told what, what outlives them.
//! Knows no socket; the host closes once the outbox is empty.

use alloc::boxed::Box;
use alloc::format;

use wire::packet::{Disconnect, DisconnectProperties};
use wire::{Malformed, ReasonCode};

use crate::base::time::Instant;
use crate::connection::table::{ConnectionId, Phase};
use crate::counters::DropReason;
use crate::engine::Engine;
use crate::event::{Action, Actions};
use crate::session::table::SessionId;
use crate::timer::Timer;

/// Every reason that the engine closes an open connection with and tells a 5.0 client in DISCONNECT. 0x8C and others
/// that the host gives as [`crate::Verdict::Failed`] come on top.
pub const CLOSE_REASONS: [ReasonCode; 19] = [
    ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
    ReasonCode::NotAuthorized,
    ReasonCode::ServerShuttingDown,
    ReasonCode::KeepAliveTimeout,
    ReasonCode::SessionTakenOver,
    ReasonCode::TopicNameInvalid,
    ReasonCode::ReceiveMaximumExceeded,
    ReasonCode::TopicAliasInvalid,
    ReasonCode::PacketTooLarge,
    ReasonCode::QuotaExceeded,
    ReasonCode::AdministrativeAction,
    ReasonCode::PayloadFormatInvalid,
    ReasonCode::RetainNotSupported,
    ReasonCode::QoSNotSupported,
    ReasonCode::UseAnotherServer,
    ReasonCode::SharedSubscriptionsNotSupported,
    ReasonCode::SubscriptionIdentifiersNotSupported,
    ReasonCode::WildcardSubscriptionsNotSupported,
];

impl Engine {
    pub(crate) fn on_disconnect(
        &mut self,
        now: Instant,
        id: ConnectionId,
        session_id: SessionId,
        disconnect: &Disconnect<'_>,
        actions: &mut Actions,
    ) {
        let expiry_s_max = self.delivery.limits.session_expiry_s_max;
        let session = self.delivery.sessions.get_mut(session_id.0).expect("an open connection has a session");
        if let Some(interval_s) = disconnect.properties.session_expiry_interval_s {
            if session.expiry_interval_s == 0 && interval_s > 0 {
                // It was 0 in CONNECT and may not be raised now [3.14.2.2.2].
                self.protocol_error(now, id, ReasonCode::ProtocolError, actions);
                return;
            }
            session.expiry_interval_s = interval_s.min(expiry_s_max);
            self.records_version += 1;
        }
        // A normal end deletes the will [MQTT-3.14.4-3]; 0x04 and every other reason leaves it due.
        if disconnect.reason == ReasonCode::Success {
            self.delivery.set_will(session_id, None);
        }
        self.connection(id).has_disconnected = true;
        self.close(now, id, None, actions);
    }

    /// The operator closes a connection. Its will is due, because the client sent no DISCONNECT [MQTT-3.1.2-8].
    pub(crate) fn close_by_operator(&mut self, now: Instant, id: ConnectionId, actions: &mut Actions) {
        let Some(connection) = self.delivery.connections.get(id.0) else {
            self.delivery.counters.stale += 1;
            return;
        };
        if connection.phase != Phase::Closing {
            self.delivery.counters.closed_by_operator += 1;
        }
        self.close(now, id, Some(ReasonCode::AdministrativeAction), actions);
    }

    /// Ends a connection: its session is let go at once, its peer is told `reason` if it can be, and the
    /// host closes it once that is sent. A second call changes nothing.
    pub(crate) fn close(
        &mut self,
        now: Instant,
        id: ConnectionId,
        reason: Option<ReasonCode>,
        actions: &mut Actions,
    ) {
        match reason {
            Some(reason) => self.close_with_reason(now, id, reason, None, actions),
            None => self.close_silently(now, id, actions),
        }
    }

    /// [`Engine::close`] with the reason and, in words, what was wrong.
    pub(crate) fn close_with_reason(
        &mut self,
        now: Instant,
        id: ConnectionId,
        reason: ReasonCode,
        malformed: Option<&Malformed>,
        actions: &mut Actions,
    ) {
        let Some(connection) = self.delivery.connections.get(id.0) else { return };
        // DISCONNECT exists in 5.0 only, and only after CONNACK [MQTT-3.14.0-1].
        if connection.is_open() && connection.version.is_v5() {
            assert!(CLOSE_REASONS.contains(&reason) || connection.authentication.is_some());
            let told = malformed.map(|malformed| format!("{malformed}"));
            let reference = self.server_reference(reason);
            let packet_bytes_max = connection.packet_bytes_max as usize;
            let disconnect = |reason_string, server_reference| Disconnect {
                reason,
                properties: DisconnectProperties { reason_string, server_reference, ..Default::default() },
            };
            let version = connection.version;
            self.delivery.write(id, actions, |out| {
                let start = out.len();
                disconnect(told.as_deref(), reference.as_deref()).encode(version, out);
                if out.len() - start > packet_bytes_max {
                    // Words and references only where they fit [MQTT-3.14.2-3].
                    out.truncate(start);
                    disconnect(None, None).encode(version, out);
                }
            });
        }
        self.close_silently(now, id, actions);
    }

    /// What a connection has begun comes to nothing: a packet that is not whole, an exchange of authentication.
    pub(crate) fn forget_unfinished(&mut self, id: ConnectionId) {
        let connection = self.delivery.connections.get_mut(id.0).expect("the caller found it");
        let partial_packet_bytes = core::mem::take(&mut connection.partial_packet_bytes);
        let authentication = connection.authentication.take();
        let held = &mut self.delivery.held;
        held.partial_packets -= u64::from(partial_packet_bytes);
        held.authentications -= authentication.map_or(0, |authentication| authentication.bytes());
    }

    /// What a reason refers to another server for.
    pub(crate) fn server_reference(&self, reason: ReasonCode) -> Option<Box<str>> {
        let refers = matches!(reason, ReasonCode::UseAnotherServer | ReasonCode::ServerMoved);
        let reference = &self.delivery.limits.server_reference;
        (refers && !reference.is_empty()).then(|| reference.clone())
    }

    /// Why a stop ends or refuses connections: `otherwise`, unless there is a server to refer to.
    pub(crate) fn stop_reason(&self, otherwise: ReasonCode) -> ReasonCode {
        if self.delivery.limits.server_reference.is_empty() {
            otherwise
        } else {
            ReasonCode::UseAnotherServer
        }
    }

    fn close_silently(&mut self, now: Instant, id: ConnectionId, actions: &mut Actions) {
        let Some(connection) = self.delivery.connections.get(id.0) else { return };
        match connection.phase {
            Phase::Closing => return,
            Phase::Fresh(_)
            | Phase::Authenticating
            | Phase::Accepting(_)
            | Phase::Open(_)
            | Phase::HandingOver => {}
        }
        self.detach(now, id, actions);
        self.forget_unfinished(id);
        let connection = self.connection(id);
        connection.phase = Phase::Closing;
        connection.partial_packet = None;
        connection.aliases_in = None;
        connection.aliases_out = None;
        // What was not consumed is offered once more, to be thrown away.
        connection.resume(now, id, actions);
        if !connection.flush_asked {
            connection.flush_asked = true;
            actions.push(Action::Flush(id));
        }
        let deadline = now.plus_ms(u64::from(self.delivery.limits.close_timeout_ms));
        self.set_connection_timer(id, Some(deadline));
    }

    /// Takes a connection's session away from it: it goes on offline, or ends.
    pub(crate) fn detach(&mut self, now: Instant, id: ConnectionId, actions: &mut Actions) {
        let connection = self.connection(id);
        let Some(session_id) = connection.session() else { return };
        connection.phase = Phase::Closing;
        let session = self.delivery.sessions.get_mut(session_id.0).expect("a connection's session lives");
        assert!(session.connection == Some(id));
        session.connection = None;
        self.attached_count -= 1;
        if session.deliveries.as_ref().is_some_and(|deliveries| deliveries.is_empty()) {
            session.deliveries = None;
        }
        let expiry_interval_s = session.expiry_interval_s;
        self.tree.member_changed(session.subscriptions);
        if expiry_interval_s == 0 {
            self.end_session(now, session_id, actions);
            return;
        }
        if let Some(deadline) = Self::interval_end(now, expiry_interval_s) {
            let timer = self.wheel.insert(deadline, Timer::SessionExpiry(session_id));
            let session = self.delivery.sessions.get_mut(session_id.0).expect("not ended above");
            session.expiry_timer = Some(timer);
        }
        self.delay_will(now, session_id, actions);
    }

    /// Ends a session: its will is published, its subscriptions are gone, and so are its messages,
    /// each counted, except those that other members of its groups are to have.
    pub(crate) fn end_session(&mut self, now: Instant, id: SessionId, actions: &mut Actions) {
        let will = self.delivery.set_will(id, None);
        let Some(session) = self.delivery.sessions.get_mut(id.0) else { return };
        assert!(session.connection.is_none());
        if let Some(timer) = session.expiry_timer.take() {
            self.wheel.cancel(timer);
        }
        if session.is_persistent() && session.subscriptions.count > 0 {
            self.records_version += 1;
        }
        // While its groups still have their names.
        let deliveries = session.deliveries.take();
        let ended = deliveries.map_or(0, |deliveries| self.leave_all_groups(id, *deliveries));
        let session = self.delivery.sessions.get_mut(id.0).expect("looked up above");
        session.ledger.drop(&mut self.delivery.counters, DropReason::SessionEnded, ended);
        self.tree.unsubscribe_all(&mut session.subscriptions);
        let hash = self.delivery.hasher.bytes(session.client_id.as_bytes());
        self.by_client
            .find_entry(hash, |&other| other == id.0.index())
            .expect("every session is in the table")
            .remove();
        self.delivery.sessions.remove(id.0).expect("looked up above");
        if let Some(will) = will {
            if let Some(timer) = will.timer {
                self.wheel.cancel(timer);
            }
            self.publish_message(now, &will.message, actions);
        }
    }
}
