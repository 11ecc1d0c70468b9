//! Timers that are due, and the end that each of them brings.

use super::Rooms;
use crate::timer::Timer;
use crate::turn::Turn;

/// Timers served in one step; the rest are due again at once.
const TIMERS_PER_STEP_MAX: usize = 256;

impl Rooms {
    pub(super) fn run_timers(&mut self, turn: &mut Turn<'_>) {
        for _ in 0..TIMERS_PER_STEP_MAX {
            let Some(timer) = turn.timers.pop_due(turn.now) else { return };
            self.on_timer(turn, timer);
            self.settle(turn);
        }
    }

    fn on_timer(&mut self, turn: &mut Turn<'_>, timer: Timer) {
        match timer {
            Timer::Connection(id) => {
                if let Some(close) = self.delivery.connections.on_timer(turn, id) {
                    self.close(turn, id, &close);
                }
            }
            Timer::SessionExpiry(id) => {
                if self.delivery.sessions.expire(id) {
                    turn.counters.sessions_expired += 1;
                    self.end_session(turn, id);
                }
            }
            Timer::Will(id) => self.publish_will(turn, id),
            Timer::RetainedExpiry(message) => {
                let messages = &mut self.delivery.messages;
                let is_expired = self.retained.store_mut().remove_if_expired(turn, messages, message);
                assert!(is_expired);
            }
        }
    }
}
