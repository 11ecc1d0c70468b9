//! What a due timer means.
//! Knows no clock.

use wire::ReasonCode;

use crate::base::time::Instant;
use crate::connection::table::{ConnectionId, Phase};
use crate::engine::Engine;
use crate::event::{Action, Actions};
use crate::message::stored::MessageKey;
use crate::session::table::SessionId;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Timer {
    /// CONNECT did not come, nothing came for too long, or the last bytes are not accepted.
    Connection(ConnectionId),
    /// The Session Expiry Interval ended [MQTT-4.1.0-2].
    SessionExpiry(SessionId),
    /// The Will Delay Interval ended [MQTT-3.1.2-8].
    Will(SessionId),
    /// The Message Expiry Interval of a retained message ended [MQTT-3.3.2-5]. Cancelled before the message goes.
    RetainedExpiry(MessageKey),
}

impl Engine {
    pub(crate) fn on_timer(&mut self, now: Instant, timer: Timer, actions: &mut Actions) {
        match timer {
            Timer::Connection(id) => self.on_connection_timer(now, id, actions),
            Timer::SessionExpiry(id) => {
                if let Some(session) = self.delivery.sessions.get_mut(id.0) {
                    session.expiry_timer = None;
                    self.delivery.counters.sessions_expired += 1;
                    self.end_session(now, id, actions);
                }
            }
            Timer::Will(id) => self.publish_will(now, id, actions),
            Timer::RetainedExpiry(message) => {
                let is_expired = self.remove_if_expired(now, message);
                assert!(is_expired);
            }
        }
    }

    fn on_connection_timer(&mut self, now: Instant, id: ConnectionId, actions: &mut Actions) {
        let Some(connection) = self.delivery.connections.get_mut(id.0) else { return };
        connection.timer = None;
        match connection.phase {
            // CONNECT and all of its authentication have one time.
            Phase::Fresh(_) | Phase::Authenticating | Phase::HandingOver => {
                self.close(now, id, None, actions);
            }
            Phase::Accepting(_) | Phase::Open(_) => {
                // While we do not read it, or it waits for CONNACK, its silence is ours.
                if connection.paused || !connection.is_open() {
                    connection.received_at = now;
                }
                let silence_ms_max = u64::from(connection.silence_ms_max);
                let deadline = connection.received_at.plus_ms(silence_ms_max);
                if now < deadline {
                    let timer = self.wheel.insert(deadline, Timer::Connection(id));
                    self.connection(id).timer = Some(timer);
                } else {
                    self.close(now, id, Some(ReasonCode::KeepAliveTimeout), actions);
                }
            }
            Phase::Closing => {
                if !connection.aborted {
                    connection.aborted = true;
                    actions.push(Action::Abort(id));
                }
            }
        }
    }

    /// Replaces the timer of a connection; `None` leaves it without.
    pub(crate) fn set_connection_timer(&mut self, id: ConnectionId, deadline: Option<Instant>) {
        if let Some(timer) = self.connection(id).timer.take() {
            self.wheel.cancel(timer);
        }
        let timer = deadline.map(|deadline| self.wheel.insert(deadline, Timer::Connection(id)));
        self.connection(id).timer = timer;
    }
}
