//! The times of a shard's stages. They cost a turn one look at the clock, and a message none.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::{Endpoint, Host};
use crate::observe::histogram::Stage;
use crate::process::clock;

/// The turn whose time is taken. **Lives on:** its shard.
#[derive(Default)]
pub(super) struct TurnTimes {
    began_us: Cell<u64>,
    /// PUBLISH packets received before this turn.
    messages_before: Cell<u64>,
}

impl TurnTimes {
    /// A turn begins after a sleep. One that follows another begins with its end.
    pub(super) fn begin(&self, now_us: u64) {
        self.began_us.set(now_us);
    }
}

impl<T: Endpoint> Host<T> {
    /// The sends of a turn are over.
    pub(super) fn take_turn_times(&self) {
        let (now_us, times) = (self.clock.now_us(), &self.turn_times);
        let took = Duration::from_micros(now_us.saturating_sub(times.began_us.replace(now_us)));
        let messages = self.engine.borrow().counters().messages_received;
        let received = messages - times.messages_before.replace(messages);
        self.gauges.observe(Stage::Turn, took, 1);
        if received > 0 {
            self.gauges.observe(Stage::PublishToFlush, took, received);
        }
    }

    /// The layers of a connection are open, which was accepted at `began`.
    pub(in crate::backend) fn take_handshake_time(&self, began: Instant) {
        self.gauges.observe(Stage::Handshake, clock::read() - began, 1);
    }

    /// There is a verdict on a step that was asked about at `began`.
    pub(super) fn take_verdict_time(&self, began: Instant) {
        self.gauges.observe(Stage::Auth, clock::read() - began, 1);
    }
}
