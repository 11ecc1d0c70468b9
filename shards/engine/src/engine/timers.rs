//! Timers that are due, and the end that each of them brings.

use super::Rooms;
use crate::base::ids::ConnectionId;
use crate::cause::Cause;
use crate::connection::Close;
use crate::timer::Timer;
use crate::turn::Turn;

/// Work of a timer, apart from the end that it brings.
const TIMER_WORK: u32 = 2;
/// Timers that the wheel may place anew for one unit of work.
const MOVES_PER_WORK: u32 = 2;

impl Rooms {
    /// Everything that is due by itself: what earlier steps had no time for, timers, replays.
    pub(super) fn tick(&mut self, turn: &mut Turn<'_>) {
        self.go_on_with_stop(turn);
        self.go_on_with_sweep(turn);
        self.go_on_with_users(turn);
        // Each of them comes first in every fifth tick, so that none keeps another one waiting for ever.
        self.ticks = self.ticks.wrapping_add(1);
        for part in 0..5 {
            match self.ticks.wrapping_add(part) % 5 {
                0 => self.run_backlog(turn),
                1 => self.run_pending(turn),
                2 => self.run_timers(turn),
                3 => self.run_shedding(turn),
                _ => self.run_replays(turn),
            }
        }
    }

    fn run_pending(&mut self, turn: &mut Turn<'_>) {
        self.run_durable(turn);
        while let Some(session) = self.delivery.go_on_with_pending(turn) {
            self.retained.schedule(&mut self.delivery.sessions, session);
        }
    }

    /// Serves timers that are due until the step has done its share of work; the rest are due again at once. None is served
    /// while something that came in time may wait unread.
    pub(super) fn run_timers(&mut self, turn: &mut Turn<'_>) {
        while !turn.is_spent() && !self.paused {
            let moves_max = turn.work_left().saturating_mul(MOVES_PER_WORK);
            let mut moves_left = moves_max;
            let timer = turn.timers.pop_due(turn.now, &mut moves_left);
            turn.spend((moves_max - moves_left).div_ceil(MOVES_PER_WORK));
            let Some(timer) = timer else { return };
            turn.spend(TIMER_WORK);
            self.on_timer(turn, timer);
            self.settle(turn);
        }
    }

    /// The host was paused: what came meanwhile is read before anything is judged to be late.
    pub(super) fn on_paused(&mut self, turn: &mut Turn<'_>, was_suspended: bool) {
        self.paused = true;
        self.shedding.begin_pause(turn.now);
        if was_suspended {
            self.delivery.connections.begin_silence(turn.now);
        }
    }

    /// The host has looked at the socket of a peer that was silent for too long.
    pub(super) fn on_peeked(&mut self, turn: &mut Turn<'_>, id: ConnectionId, has_bytes: bool) {
        if let Some(close) = self.delivery.connections.on_peeked(turn, id, has_bytes) {
            self.close(turn, id, &close);
        }
    }

    fn on_timer(&mut self, turn: &mut Turn<'_>, timer: Timer) {
        match timer {
            Timer::Connection(id) => {
                if let Some(close) = self.delivery.connections.on_timer(turn, id) {
                    self.close(turn, id, &close);
                }
            }
            Timer::Grant(id) => {
                self.delivery.connections.grant_ended(id);
                self.close(turn, id, &Close::Told(Cause::GrantEnded));
            }
            Timer::Rate(id) => self.delivery.connections.on_rate_timer(turn, id),
            Timer::SessionExpiry(id) => {
                if self.delivery.sessions.expire(id) {
                    turn.counters.sessions_expired += 1;
                    self.end_session(turn, id);
                }
            }
            Timer::Will(id) => self.publish_will(turn, id),
            Timer::RetainedExpiry(message) => {
                let held = self.delivery.retention();
                let is_expired = self.retained.store_mut().remove_if_expired(turn, held, message);
                assert!(is_expired);
            }
        }
    }
}
