//! The deliveries of QoS 2 whose next packet is sent once the record of the step before is durable: PUBLISH once the message is,
//! PUBREL once PUBREC is.
//!
//! Invariant: a delivery waits here at most twice, so the list is bounded by what sessions have queued and in flight.

use wire::ReasonCode;

use super::Delivery;
use super::awaited::Awaited;
use crate::action::Batch;
use crate::base::ids::SessionId;
use crate::connection::Connection;
use crate::turn::Turn;

/// The batch of a fan-out that was cut, until its last part is recorded.
const UNKNOWN: Batch = Batch(u64::MAX);

impl Delivery {
    /// Sends a packet of a session once what was recorded until now is durable.
    pub(crate) fn await_durable(&mut self, session: SessionId, packet: Awaited) {
        let until = self.connections.await_batch();
        self.durable_waits.push_back((until, session, packet));
    }

    /// A member of the group with this key is offered the message next. The log may owe it to the group: the session of that member
    /// ends with its connection, and another one's lasts.
    pub(crate) fn set_group(&mut self, key: u64, is_owed: bool) {
        self.group = (key, is_owed);
    }

    /// A fan-out is cut: the waits that it brought about in this step end with its last part.
    pub(super) fn prolong_waits(&mut self) {
        let count = core::mem::take(&mut self.fan_out_waits);
        assert!(count <= self.durable_waits.len());
        for (until, _, packet) in self.durable_waits.iter_mut().rev().take(count) {
            assert!(matches!(packet, Awaited::Publish(_)));
            *until = UNKNOWN;
        }
    }

    /// The last part of a fan-out that was cut is recorded.
    pub(crate) fn end_cut_fan_out(&mut self, turn: &mut Turn<'_>) {
        let Some(recorder) = turn.recorder() else { return };
        recorder.end_cut_message();
        let until = self.connections.await_batch();
        for (waits_until, ..) in &mut self.durable_waits {
            if *waits_until == UNKNOWN {
                *waits_until = until;
            }
        }
    }

    /// Everything up to this batch is durable.
    pub(crate) fn set_synced(&mut self, batch: Batch) {
        self.synced = self.synced.max(batch);
    }

    /// Whether a packet waits that need not.
    #[inline]
    pub(crate) fn has_durable(&self) -> bool {
        self.durable_waits.front().is_some_and(|&(until, ..)| until <= self.synced)
    }

    /// Lets the next packet go that need not wait any more. Returns its session.
    pub(crate) fn serve_durable(&mut self, turn: &mut Turn<'_>) -> Option<SessionId> {
        if turn.is_spent() || !self.has_durable() {
            return None;
        }
        let (_, id, packet) = self.durable_waits.pop_front()?;
        turn.spend(1);
        match packet {
            Awaited::Publish(delivery) => {
                if let Some(session) = self.sessions.get_mut(id) {
                    session.publish_is_durable(delivery);
                    self.deliver_pending(turn, id);
                }
            }
            Awaited::Cleared(delivery) => {
                if let Some(session) = self.sessions.get_mut(id) {
                    session.clearing_is_durable(delivery);
                    self.deliver_pending(turn, id);
                }
            }
            Awaited::Release(delivery) => {
                let session = self.sessions.get_mut(id).filter(|session| !session.has_ended());
                let released = session.and_then(|session| {
                    let packet_id = session.pubrec_is_durable(delivery)?;
                    Some((session.connection()?, packet_id))
                });
                if let Some((connection, packet_id)) = released
                    && self.connections.get(connection).is_some_and(Connection::is_open)
                {
                    self.connections.write_pubrel(turn, connection, packet_id, ReasonCode::Success);
                }
            }
        }
        Some(id)
    }
}
