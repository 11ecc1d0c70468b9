//! The one timer of a connection: for its CONNECT, for its keep alive, and for its last bytes.
//!
//! Invariant: a packet re-arms nothing. The timer looks, when it is due, how long the peer was silent, so an active
//! connection costs one timer event in each keep alive interval.

use super::{Close, Connections, Phase};
use crate::action::Action;
use crate::base::ids::ConnectionId;
use crate::base::time::Instant;
use crate::cause::Cause;
use crate::timer::Timer;
use crate::turn::Turn;

impl Connections {
    /// The timer of a connection was due. Returns how the connection is to be closed, if it is.
    pub(crate) fn on_timer(&mut self, turn: &mut Turn<'_>, id: ConnectionId) -> Option<Close> {
        let connection = self.get_mut(id)?;
        assert!(connection.timer.is_some());
        connection.timer = None;
        match connection.phase {
            // CONNECT and all of its authentication have one time.
            Phase::Fresh(_) | Phase::Authenticating | Phase::HandingOver => {
                Some(Close::Silently(Cause::ConnectTimeout))
            }
            Phase::Accepting(_) | Phase::Open(_) => {
                // While we do not read it, or it waits for CONNACK, the silence is ours.
                if connection.paused || !connection.is_open() {
                    connection.received_at = turn.now;
                }
                let silence_ms_max = u64::from(connection.silence_ms_max);
                assert!(silence_ms_max > 0);
                let deadline = connection.received_at.plus_ms(silence_ms_max);
                if turn.now >= deadline {
                    return Some(Close::Told(Cause::KeepAlive));
                }
                connection.timer = Some(turn.timers.insert(deadline, Timer::Connection(id)));
                None
            }
            Phase::Closing => {
                if !connection.aborted {
                    connection.aborted = true;
                    turn.actions.push(Action::Abort(id));
                }
                None
            }
        }
    }

    /// Begins to supervise the keep alive; 0 is none [MQTT-3.1.2-22].
    pub(crate) fn begin_keep_alive(&mut self, turn: &mut Turn<'_>, id: ConnectionId, keep_alive_s: u16) {
        let connection = self.current(id);
        // The clock counts whole milliseconds and the silence begins within one: one more makes sure that it was long
        // enough.
        connection.silence_ms_max = if keep_alive_s == 0 { 0 } else { u32::from(keep_alive_s) * 1500 + 1 };
        connection.received_at = turn.now;
        let silence_ms_max = u64::from(connection.silence_ms_max);
        let deadline = (keep_alive_s > 0).then(|| turn.now.plus_ms(silence_ms_max));
        self.set_timer(turn, id, deadline);
    }

    /// Replaces the timer of a connection; `None` leaves it without.
    pub(super) fn set_timer(&mut self, turn: &mut Turn<'_>, id: ConnectionId, deadline: Option<Instant>) {
        let connection = self.current(id);
        if let Some(timer) = connection.timer.take() {
            let was_set = turn.timers.cancel(timer);
            assert!(was_set);
        }
        connection.timer = deadline.map(|deadline| turn.timers.insert(deadline, Timer::Connection(id)));
    }
}
