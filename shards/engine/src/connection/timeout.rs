//! The one timer of a connection: for its CONNECT, for its keep alive, and for its last bytes.
//!
//! Invariant: a packet re-arms nothing. The timer looks, when it is due, how long the peer was silent, so an active
//! connection costs one timer event in each keep alive interval.
//!
//! A peer is not silent while bytes of it wait in its socket, however late the host is. So the host looks there before a
//! connection is closed for its silence.

use super::facts::Fact;
use super::shown::SILENCE_MS_PER_S;
use super::{Close, Connection, Connections, Phase};
use crate::action::{Action, Actions};
use crate::base::ids::ConnectionId;
use crate::base::time::Instant;
use crate::cause::Cause;
use crate::timer::Timer;
use crate::turn::Turn;

/// Time in which a CONNECT that waited unread at the end of its time is received.
const EXTENSION_MS: u64 = 1_000;

impl Connections {
    /// The timer of a connection was due. Returns how the connection is to be closed, if it is.
    pub(crate) fn on_timer(&mut self, turn: &mut Turn<'_>, id: ConnectionId) -> Option<Close> {
        let silence_from = self.silence_from;
        let connection = self.get_mut(id)?;
        assert!(connection.timer.is_some() && !connection.facts.has(Fact::Peeking));
        connection.timer = None;
        match connection.phase() {
            // CONNECT and all of its authentication have one time.
            Phase::Fresh(_) | Phase::Authenticating if !connection.facts.has(Fact::Extended) => {
                connection.peek(id, turn.actions);
                None
            }
            Phase::Fresh(_) | Phase::Authenticating | Phase::HandingOver => {
                Some(Close::Silently(Cause::ConnectTimeout))
            }
            // The client did its part in time.
            Phase::Judging => Some(Close::Authentication(Cause::VerdictTimeout)),
            Phase::Accepting(_) | Phase::Open(_) => {
                if connection.facts.has(Fact::Delayed) {
                    return Some(Close::Silently(Cause::PublishDelayed));
                }
                // While we do not read it, or it waits for CONNACK, the silence is ours.
                if connection.paused || !connection.is_open() {
                    connection.received_at = turn.now;
                }
                let deadline = connection.silent_until(silence_from);
                if turn.now >= deadline {
                    connection.peek(id, turn.actions);
                } else {
                    connection.timer = Some(turn.timers.insert(deadline, Timer::Connection(id)));
                }
                None
            }
            Phase::Closing => {
                if !connection.facts.set(Fact::Aborted, true) {
                    turn.actions.push(Action::Abort(id));
                }
                None
            }
        }
    }

    /// The host has looked into the socket. Returns how the connection is to be closed, if it is.
    pub(crate) fn on_peeked(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        has_bytes: bool,
    ) -> Option<Close> {
        let silence_from = self.silence_from;
        let Some(connection) =
            self.slab.get_mut(id.key()).filter(|connection| connection.facts.has(Fact::Peeking))
        else {
            // A connection that its rate pauses is looked at for its end alone.
            turn.counters.stale += u64::from(self.get(id).is_none_or(|known| !known.barriers.is_metered()));
            return None;
        };
        connection.facts.set(Fact::Peeking, false);
        assert!(connection.timer.is_none());
        let deadline = match connection.phase() {
            Phase::Fresh(_) | Phase::Authenticating if !has_bytes => {
                return Some(Close::Silently(Cause::ConnectTimeout));
            }
            // CONNECT came while the host looked.
            Phase::Judging => turn.now.plus_ms(EXTENSION_MS),
            Phase::Fresh(_) | Phase::Authenticating | Phase::HandingOver => {
                connection.facts.set(Fact::Extended, true);
                turn.now.plus_ms(EXTENSION_MS)
            }
            Phase::Accepting(_) | Phase::Open(_) => {
                if has_bytes {
                    connection.received_at = turn.now;
                }
                let deadline = connection.silent_until(silence_from);
                if turn.now >= deadline {
                    return Some(Close::Told(Cause::KeepAlive));
                }
                deadline
            }
            Phase::Closing => unreachable!("closing sets a timer, which ends the question"),
        };
        connection.timer = Some(turn.timers.insert(deadline, Timer::Connection(id)));
        None
    }

    /// Nothing could arrive until now: the silence of every peer begins anew.
    pub(crate) fn begin_silence(&mut self, now: Instant) {
        assert!(self.silence_from <= now);
        self.silence_from = now;
    }

    /// Begins to supervise the keep alive; 0 is none [MQTT-3.1.2-22].
    pub(crate) fn begin_keep_alive(&mut self, turn: &mut Turn<'_>, id: ConnectionId, keep_alive_s: u16) {
        let connection = self.current(id);
        // The clock counts whole milliseconds and the silence begins within one: one more makes sure that it was long
        // enough.
        connection.silence_ms_max =
            if keep_alive_s == 0 { 0 } else { u32::from(keep_alive_s) * SILENCE_MS_PER_S + 1 };
        assert!(connection.keep_alive_s() == keep_alive_s);
        connection.received_at = turn.now;
        self.restart_keep_alive(turn, id);
    }

    /// Begins to wait for the next packet anew.
    pub(super) fn restart_keep_alive(&mut self, turn: &mut Turn<'_>, id: ConnectionId) {
        let silence_ms_max = u64::from(self.current(id).silence_ms_max);
        let deadline = (silence_ms_max > 0).then(|| turn.now.plus_ms(silence_ms_max));
        self.set_timer(turn, id, deadline);
    }

    /// Replaces the timer of a connection; `None` leaves it without. An answer of the host that is due is not waited for.
    pub(super) fn set_timer(&mut self, turn: &mut Turn<'_>, id: ConnectionId, deadline: Option<Instant>) {
        let connection = self.current(id);
        connection.facts.set(Fact::Peeking, false);
        if let Some(timer) = connection.timer.take() {
            let was_set = turn.timers.cancel(timer);
            assert!(was_set);
        }
        connection.timer = deadline.map(|deadline| turn.timers.insert(deadline, Timer::Connection(id)));
    }
}

impl Connection {
    /// When the keep alive ends if the peer stays silent.
    fn silent_until(&self, silence_from: Instant) -> Instant {
        assert!(self.silence_ms_max > 0);
        self.received_at.max(silence_from).plus_ms(u64::from(self.silence_ms_max))
    }

    /// Asks the host whether bytes of the peer wait in its socket.
    fn peek(&mut self, id: ConnectionId, actions: &mut Actions) {
        assert!(!self.facts.has(Fact::Peeking) && self.timer.is_none());
        self.facts.set(Fact::Peeking, true);
        actions.push(Action::Peek(id));
    }
}
