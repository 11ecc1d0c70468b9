//! Sessions as an operator sees them, one by one or some slots at a time. Nothing changes here.

use wire::ProtocolVersion;

use super::{Engine, Rooms};
use crate::base::ids::{ConnectionId, SessionId};
use crate::connection::Connection;
use crate::counters::DropReason;

/// A session as an operator sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionSummary<'a> {
    /// Its client identifier.
    pub client_id: &'a str,
    /// The user that it belongs to; "" for nobody.
    pub user: &'a str,
    /// The connection that it has.
    pub connection: Option<ConnectionId>,
    /// Its subscriptions.
    pub subscription_count: u32,
    /// Messages that wait in its queue.
    pub queued_count: usize,
    /// Messages of QoS 1 and 2 that were sent and are not acknowledged to their end.
    pub inflight_count: u16,
    /// Bytes that wait for it: queued messages, everything that names those and the ones in flight, and its outbox.
    pub waiting_bytes: u64,
    /// Seconds that it outlives its connection; 2³² − 1: it never ends.
    pub expiry_interval_s: u32,
    /// Messages that matched its subscriptions since it began.
    pub matched: u64,
    /// Messages that were delivered to it.
    pub delivered: u64,
    /// Messages that it lost, by [`DropReason::index`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// The facts of its connection.
    pub client: Option<ClientSummary>,
}

/// The facts of a client that is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientSummary {
    /// The version that it speaks.
    pub version: ProtocolVersion,
    /// The keep alive in force, in seconds; 0: none.
    pub keep_alive_s: u16,
    /// The number of its listener.
    pub listener: u16,
    /// Packets that came from it on this connection.
    pub packets_received: u32,
}

/// The place in the streams of a client that is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamPosition<'a> {
    /// Its client identifier.
    pub client_id: &'a str,
    /// The version that it speaks.
    pub version: ProtocolVersion,
    /// The bytes that were consumed end with a packet.
    pub is_received_whole: bool,
    /// The bytes that were sent end with a packet, because nothing is left to send.
    pub is_sent_whole: bool,
}

impl Rooms {
    /// A session, unless it has ended.
    pub(super) fn summary(&self, id: SessionId) -> Option<SessionSummary<'_>> {
        let sessions = &self.delivery.sessions;
        let session = sessions.get(id).filter(|session| !session.has_ended())?;
        let connection = session.connection().and_then(|id| self.delivery.connections.get(id));
        assert!(connection.is_some() == session.connection().is_some());
        let ledger = session.ledger();
        // A table without messages is memory, and keeps nobody waiting.
        let owes = session.queued_count() > 0 || session.inflight_count() > 0;
        let waiting_bytes = if owes { session.debt_bytes() } else { 0 };
        Some(SessionSummary {
            client_id: session.client_id(),
            user: sessions.users().name_of(sessions.user_of(id)).name(),
            connection: session.connection(),
            subscription_count: session.subscriptions().count(),
            queued_count: session.queued_count(),
            inflight_count: session.inflight_count(),
            waiting_bytes: waiting_bytes + connection.map_or(0, Connection::outbox_bytes),
            expiry_interval_s: session.expiry_interval_s(),
            matched: ledger.matched(),
            delivered: ledger.delivered(),
            dropped: ledger.dropped(),
            client: connection.map(|connection| ClientSummary {
                version: connection.version(),
                keep_alive_s: connection.keep_alive_s(),
                listener: connection.listener(),
                packets_received: connection.packets_received(),
            }),
        })
    }

    /// The session at a slot, unless that is free or its session has ended.
    fn summary_at(&self, slot: u32) -> Option<SessionSummary<'_>> {
        self.summary(self.delivery.sessions.id_at(slot)?)
    }
}

impl Engine {
    /// The session of a client identifier, for an operator.
    #[must_use]
    pub fn session_of(&self, client_id: &str) -> Option<SessionSummary<'_>> {
        self.rooms.summary(self.rooms.delivery.sessions.find(client_id)?)
    }

    /// Whether something waits for the client of a connection, or is not acknowledged to its end; `None` if it is not let in, or is on its
    /// way out.
    #[must_use]
    pub fn owes(&self, connection: ConnectionId) -> Option<bool> {
        let Rooms { delivery, .. } = &self.rooms;
        let connection = delivery.connections.get(connection)?;
        let session = delivery.sessions.get(connection.session()?)?;
        Some(session.queued_count() > 0 || session.inflight_count() > 0 || connection.outbox_bytes() > 0)
    }

    /// The place in the streams of a connection; `None` if its client is not let in, or is on its way out.
    #[must_use]
    pub fn stream_position(&self, connection: ConnectionId) -> Option<StreamPosition<'_>> {
        let Rooms { delivery, .. } = &self.rooms;
        let connection = delivery.connections.get(connection)?;
        let session = delivery.sessions.get(connection.session()?)?;
        Some(StreamPosition {
            client_id: session.client_id(),
            version: connection.version(),
            is_received_whole: !connection.has_partial_packet(),
            is_sent_whole: connection.outbox_bytes() == 0,
        })
    }

    /// Passes the sessions of the slots from `from` up to `end` on to `each`, until that answers `false`. Returns where the next call
    /// goes on, with the session that was refused, or `None` at the end.
    pub fn visit_sessions(
        &self,
        from: u32,
        end: u32,
        each: &mut dyn FnMut(SessionSummary<'_>) -> bool,
    ) -> Option<u32> {
        let slot_count = self.rooms.delivery.sessions.slot_count();
        let refused = (from..end.min(slot_count)).find(|&slot| {
            let summary = self.rooms.summary_at(slot);
            summary.is_some_and(|summary| !each(summary))
        });
        refused.or_else(|| (end < slot_count).then_some(end))
    }
}
