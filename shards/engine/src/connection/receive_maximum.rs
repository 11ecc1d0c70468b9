//! Receive Maximum, both ways: how many QoS 1 and 2 messages may be unacknowledged.
//!
//! Invariants: `send_quota` is the client's Receive Maximum less the messages that hold quota on this connection, so it
//! never exceeds it [MQTT-3.3.4-9]; and a 5.0 client that exceeds ours is closed with 0x93.

use super::Connection;
use crate::limits::Limits;

impl Connection {
    pub(crate) fn send_quota(&self) -> u16 {
        self.send_quota
    }

    /// Messages that hold send quota, for an audit.
    pub(crate) fn spent_quota(&self) -> u16 {
        self.receive_maximum - self.send_quota
    }

    /// A QoS 1 or 2 PUBLISH went out [MQTT-3.3.4-9].
    pub(crate) fn spend_quota(&mut self) {
        assert!(self.send_quota > 0);
        self.send_quota -= 1;
    }

    /// A QoS 1 or 2 delivery has ended [MQTT-4.9.0-2].
    pub(crate) fn return_quota(&mut self) {
        self.send_quota += 1;
        assert!(self.send_quota <= self.receive_maximum);
    }

    /// Counts a QoS 1 or 2 message against our Receive Maximum; `false` if the client exceeds it.
    pub(crate) fn count_receiving(&mut self, limits: &Limits) -> bool {
        if self.version.is_v5() && self.receiving_count >= limits.receive_maximum {
            return false;
        }
        self.receiving_count = self.receiving_count.saturating_add(1);
        true
    }

    /// A message that was counted is put back: it counts again when it is taken.
    pub(crate) fn uncount_receiving(&mut self) {
        self.receiving_count = self.receiving_count.saturating_sub(1);
    }
}
