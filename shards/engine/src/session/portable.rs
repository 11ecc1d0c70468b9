//! A session as it is described for other logs: what it is owed, and what is left of its will's delay.

use super::grant::Grant;
use super::inflight::Stage;
use super::{Session, is_tracked};
use crate::base::ids::{MessageKey, SessionId};
use crate::base::time::Instant;
use crate::message::borrowed::Message;
use crate::timer::Timers;
use crate::turn::Turn;

impl Session {
    /// Visits the messages that it has not acknowledged, oldest first. Of a handshake whose message has arrived nothing is owed.
    pub(crate) fn for_each_owed(&self, visit: &mut dyn FnMut(MessageKey, &Grant)) {
        let Some(deliveries) = self.deliveries.as_deref() else { return };
        for inflight in deliveries.window.iter() {
            match inflight.stage() {
                Stage::Publish(message) => visit(message, inflight.grant()),
                Stage::Release => {}
            }
        }
        for queued in deliveries.queue.iter().filter(|queued| is_tracked(queued.grant.qos)) {
            visit(queued.message, &queued.grant);
        }
    }

    /// Its will, the seconds until it is due, and those until the message expires then; `None` without one. A will without a timer is due
    /// with the end of the session.
    pub(crate) fn will_left(&self, timers: &Timers, now: Instant) -> Option<(Message<'_>, u32, Option<u32>)> {
        let will = self.will.as_ref()?;
        let deadline = will.timer().and_then(|timer| timers.deadline(timer));
        let delay_s = deadline.map_or(u32::MAX, |deadline| now.seconds_until(deadline));
        Some((will.message(), delay_s, will.expiry_interval_s()))
    }

    /// It waits without a connection, since `since`, for the delay of its will.
    pub(crate) fn wait_with_will(&mut self, turn: &mut Turn<'_>, id: SessionId, since: Instant) {
        let is_due = self.delay_will(turn, id, since);
        assert!(!is_due);
    }
}
