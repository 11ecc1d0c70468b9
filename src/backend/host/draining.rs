//! The drain on a shard: clients are refused, and some of those that are connected are sent away each time that the control plane asks.

use std::cell::Cell;

use engine::Event;

use super::{Endpoint, Host};

/// Slots of connections that are looked at for one request.
const SLOTS_MAX: usize = 4_096;

/// Clients that are sent away for one request.
const CLIENTS_MAX: u32 = 1_024;

/// The place in a drain.
#[derive(Debug, Default)]
pub(super) struct Draining {
    is_on: Cell<bool>,
    /// The slot of the connection that is looked at next.
    at: Cell<usize>,
}

impl<T: Endpoint> Host<T> {
    /// Clients are refused from now on, or let in again. Refused clients and clients that are sent away are told this server, if there is one.
    pub(in crate::backend) fn drain(&self, is_on: bool, server_reference: &str) {
        self.draining.is_on.set(is_on);
        let _nothing = self.step(Event::Drain { is_on, server_reference });
    }

    /// Sends up to `count` clients away: those to whom nothing is owed, or anybody if `is_overdue`. It goes on where it ended last.
    pub(in crate::backend) fn send_away(&self, count: u32, is_overdue: bool) {
        // The drain may have been cancelled meanwhile.
        if !self.draining.is_on.get() {
            return;
        }
        let slots = self.sockets.borrow().len();
        let mut left = count.min(CLIENTS_MAX);
        for _ in 0..slots.min(SLOTS_MAX) {
            if left == 0 {
                return;
            }
            let at = self.draining.at.get() % slots;
            self.draining.at.set(at + 1);
            let Some(connection) = self.sockets.borrow()[at].as_ref().map(|socket| socket.id) else {
                continue;
            };
            let owes = self.engine.borrow().owes(connection);
            if owes.is_some_and(|owes| is_overdue || !owes) {
                let _nothing = self.step(Event::SendAway { connection });
                left -= 1;
            }
        }
    }
}
