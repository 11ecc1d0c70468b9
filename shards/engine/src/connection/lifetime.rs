//! The life of a connection: accepted, bound to a session, closing, removed.

use super::arrival::Arrival;
use super::{Admission, Connection, Connections, Phase, Refused, lower_half};
use crate::base::ids::{ConnectionId, SessionId};
use crate::base::time::Instant;
use crate::limits::Limits;
use crate::timer::Timer;
use crate::turn::Turn;

impl Connection {
    /// Whether this shard has known it only since a moment that has passed.
    pub(crate) fn is_known_since(&self, moment: Instant, now: Instant) -> bool {
        let passed_ms = lower_half(now).wrapping_sub(self.known_since_ms);
        u64::from(passed_ms) < now.as_ms().saturating_sub(moment.as_ms())
    }
}

impl Connections {
    /// A network connection was accepted. It has `Limits::connect_timeout_ms` to send its CONNECT.
    pub(crate) fn accept(
        &mut self,
        turn: &mut Turn<'_>,
        admission: Admission,
        arrival: Arrival,
        listener: u16,
    ) -> ConnectionId {
        match admission {
            Admission::Serve => turn.counters.connections_accepted += 1,
            Admission::TurnAway(_) => turn.counters.connections_refused += 1,
        }
        let connection = Connection::new(turn.limits, turn.now, admission, arrival, listener);
        let id = ConnectionId::new(self.slab.insert(connection));
        let deadline = turn.now.plus_ms(u64::from(turn.limits.connect_timeout_ms));
        self.current(id).timer = Some(turn.timers.insert(deadline, Timer::Connection(id)));
        id
    }

    /// A connection whose CONNECT has not come is to be turned away after all.
    pub(crate) fn turn_away(&mut self, turn: &mut Turn<'_>, id: ConnectionId, refused: Refused) {
        let connection = self.get_mut(id);
        let Some(connection) = connection.filter(|it| it.phase == Phase::Fresh(Admission::Serve)) else {
            turn.counters.stale += 1;
            return;
        };
        connection.phase = Phase::Fresh(Admission::TurnAway(refused));
        assert!(turn.counters.connections_accepted > 0);
        turn.counters.connections_accepted -= 1;
        turn.counters.connections_refused += 1;
    }

    /// Binds a connection to a session; CONNACK is due.
    pub(crate) fn begin_accepting(&mut self, limits: &Limits, id: ConnectionId, session: SessionId) {
        let found = self.change_unjudged(id, |connection| {
            connection.receive_bytes_max = limits.packet_bytes_max_of(connection.listener);
            assert!(matches!(connection.phase, Phase::Fresh(_) | Phase::Authenticating | Phase::Judging));
            connection.phase = Phase::Accepting(session);
        });
        assert!(found.is_some());
    }

    /// Takes the session of a connection away from it. A connection without one is left alone.
    pub(crate) fn leave_session(&mut self, id: ConnectionId) -> Option<SessionId> {
        let connection = self.get_mut(id)?;
        let session = connection.session()?;
        connection.phase = Phase::Closing;
        Some(session)
    }

    /// Begins to close a connection that has left its session: its last bytes are sent, and no more of its own are
    /// taken.
    pub(crate) fn begin_closing(&mut self, turn: &mut Turn<'_>, id: ConnectionId) {
        self.forget_unfinished(id);
        self.forget_aliases(id);
        self.forget_grant_end(turn, id);
        self.forget_meter(turn, id);
        let connection = self.current(id);
        connection.phase = Phase::Closing;
        connection.partial_packet = None;
        // The bytes that were not consumed are offered once more, to be thrown away.
        connection.resume(turn.now, id, turn.actions);
        connection.ask_flush(id, turn.actions);
        let deadline = turn.now.plus_ms(u64::from(turn.limits.close_timeout_ms));
        self.set_timer(turn, id, Some(deadline));
    }

    /// Removes a connection that is gone and has left its session; `None` if its identity is stale. Returns the session
    /// whose QoS 0 messages were in the outbox, those of which the kernel had every byte, and those that are lost.
    ///
    /// # Panics
    /// While a piece of its outbox is lent.
    pub(crate) fn remove(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
    ) -> Option<(Option<SessionId>, u32, u32)> {
        self.get(id)?;
        self.forget_grant_end(turn, id);
        self.forget_meter(turn, id);
        self.forget_unfinished(id);
        self.identities.forget(id);
        self.forget_address(id);
        self.forget_aliases(id);
        let mut connection = self.slab.remove(id.key())?;
        assert!(connection.session().is_none());
        assert!(!connection.outbox.is_lent());
        if let Some(timer) = connection.timer {
            let was_set = turn.timers.cancel(timer);
            assert!(was_set);
        }
        if connection.barriers.is_starved() {
            for waiting in [&mut self.delayed, &mut self.starved, &mut self.starved_subscribes] {
                waiting.remove_first(|&other| other == id);
            }
        }
        self.hand_overs.retain(|(handing_over, _)| *handing_over != id);
        assert!(self.outboxes.bytes_held >= connection.outbox.bytes());
        self.outboxes.bytes_held -= connection.outbox.bytes();
        let owner = connection.outbox.owner();
        let (qos0_sent, qos0_lost) =
            connection.outbox.abandon(&mut self.outboxes.spare, &mut self.outboxes.pool);
        Some((owner, qos0_sent, qos0_lost))
    }

    /// Whether a CONNACK has left.
    pub(crate) fn has_opened(&self) -> bool {
        !self.opened.is_empty()
    }

    /// Forgets the unfinished business of a connection: a packet that is not whole, an exchange of authentication.
    fn forget_unfinished(&mut self, id: ConnectionId) {
        let forgotten = self.change_unjudged(id, |connection| {
            let authentication = connection.authentication.take().map_or(0, |known| known.bytes_held());
            (u64::from(core::mem::take(&mut connection.partial_packet_bytes)), authentication)
        });
        let Some((partial_packet_bytes, authentication)) = forgotten else { return };
        assert!(self.partial_packet_bytes >= partial_packet_bytes);
        self.partial_packet_bytes -= partial_packet_bytes;
        assert!(self.authentication_bytes >= authentication);
        self.authentication_bytes -= authentication;
    }
}
