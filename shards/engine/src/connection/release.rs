//! Acknowledgements on their way to the client: through the gate, and from there into the outbox.

use alloc::vec::Vec;

use wire::ReasonCode;
use wire::packet::{Ack, AckKind, AckProperties};

use super::ack_gate::{Gated, Level, PendingAck};
use super::bounded_write::append_bounded;
use super::reason_string::reason_string;
use super::{Connections, Phase};
use crate::action::Batch;
use crate::base::ids::{ConnectionId, SessionId};
use crate::cause::Cause;
use crate::turn::{Ending, Turn};

impl Connections {
    /// Sends an acknowledgement, at once if it promises nothing durable and none of its connection waits.
    pub(crate) fn acknowledge(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        ack: PendingAck,
        must_persist: bool,
    ) {
        let Some(connection) = self.slab.get_mut(id.key()) else {
            turn.counters.stale += 1;
            return;
        };
        // An acknowledgement that waits for the other shards may be overtaken. One that waits for the journal may not,
        // since it is about the same packets.
        let waits_behind = connection.pending_ack_count > connection.awaiting_interest_count;
        if !must_persist && !waits_behind {
            self.release(turn, id, ack);
            return;
        }
        connection.pending_ack_count += 1;
        let ordinal = connection.arrival.ordinal;
        let is_written = turn.limits.acknowledges_written(connection.listener);
        let level = if is_written { Level::Written } else { Level::Synced };
        self.gate.hold_until_durable(level, Gated::new(id, ordinal, ack, must_persist));
    }

    /// [`Connections::acknowledge`] for a SUBACK: first, all shards have to know the `announced` announcements of
    /// interest made until now.
    pub(crate) fn acknowledge_after_interest(
        &mut self,
        id: ConnectionId,
        ack: PendingAck,
        must_persist: bool,
        announced: u64,
    ) {
        let connection = self.current(id);
        assert!(connection.is_open());
        connection.pending_ack_count += 1;
        connection.awaiting_interest_count += 1;
        let ordinal = connection.arrival.ordinal;
        self.gate.hold_until_known(announced, Gated::new(id, ordinal, ack, must_persist));
    }

    /// All shards know `known` announcements of interest: passes the SUBACKs on that waited for them. Returns their
    /// sessions.
    pub(crate) fn acknowledge_known(&mut self, turn: &mut Turn<'_>, known: u64) -> Vec<SessionId> {
        let mut sessions = Vec::new();
        while let Some(gated) = self.gate.pop_known(known) {
            let (id, ordinal) = gated.connection();
            let (ack, must_persist) = gated.into_ack();
            if !self.leave_gate(turn, id, ordinal) {
                continue;
            }
            let connection = self.current(id);
            assert!(connection.awaiting_interest_count > 0);
            connection.awaiting_interest_count -= 1;
            sessions.extend(connection.session());
            self.acknowledge(turn, id, ack, must_persist);
        }
        sessions
    }

    /// Sends everything that waited until records up to these batches are written, or synced. Returns the sessions that were sent a
    /// SUBACK or UNSUBACK.
    pub(crate) fn on_durable(
        &mut self,
        turn: &mut Turn<'_>,
        written: Batch,
        synced: Batch,
    ) -> Vec<SessionId> {
        let mut sessions = Vec::new();
        for (level, batch) in [(Level::Synced, synced), (Level::Written, written)] {
            while let Some(gated) = self.gate.pop_durable(level, batch) {
                let (id, ordinal) = gated.connection();
                if self.leave_gate(turn, id, ordinal) {
                    let (ack, _persisted) = gated.into_ack();
                    let is_of_filters = matches!(ack, PendingAck::Encoded(_));
                    self.release(turn, id, ack);
                    if is_of_filters {
                        sessions.extend(self.current(id).session());
                    }
                }
            }
        }
        sessions
    }

    /// The log has failed: acknowledgements that wait for it never leave. Clients that wait for CONNACK are closed, and told why when they
    /// come again.
    pub(crate) fn fail_gate(&mut self, turn: &mut Turn<'_>) {
        for (id, ordinal) in self.gate.fail() {
            let is_alive = self.slab.get(id.key()).is_some_and(|it| it.arrival.ordinal == ordinal);
            if is_alive {
                turn.endings.push(Ending::Connection(id, Cause::NoLog));
            }
        }
    }

    /// Something else waits until everything that was recorded is durable. Returns the batch of that.
    pub(crate) fn await_batch(&mut self) -> Batch {
        self.gate.await_batch()
    }

    /// The batch of the records that the host has not taken.
    pub(crate) fn gathering(&self) -> Batch {
        self.gate.gathering()
    }

    /// Whether anything waits for the records that the host has not taken.
    pub(crate) fn is_batch_awaited(&self) -> bool {
        self.gate.is_batch_awaited()
    }

    /// Ends the batch of the records that the host takes.
    pub(crate) fn end_batch(&mut self) -> Batch {
        self.gate.end_batch()
    }

    /// One acknowledgement of a connection leaves the gate; `false` if that connection has ended.
    fn leave_gate(&mut self, turn: &mut Turn<'_>, id: ConnectionId, ordinal: u64) -> bool {
        let connection = self.slab.get_mut(id.key());
        let Some(connection) = connection.filter(|connection| connection.arrival.ordinal == ordinal) else {
            turn.counters.stale += 1;
            return false;
        };
        assert!(connection.pending_ack_count > 0);
        connection.pending_ack_count -= 1;
        connection.resume(turn.now, id, turn.actions);
        true
    }

    fn release(&mut self, turn: &mut Turn<'_>, id: ConnectionId, ack: PendingAck) {
        let Self { slab, outboxes, opened, .. } = self;
        let connection = slab.get_mut(id.key()).expect("looked up by the caller");
        match (ack, connection.phase) {
            (
                _,
                Phase::Closing
                | Phase::HandingOver
                | Phase::Authenticating
                | Phase::Judging
                | Phase::Fresh(_),
            ) => {
                turn.counters.stale += 1;
            }
            (PendingAck::ConnAck(bytes), Phase::Accepting(session)) => {
                assert!(connection.pending_ack_count == 0);
                connection.phase = Phase::Open(session);
                connection.received_at = turn.now;
                outboxes.write(turn, connection, id, |out| out.extend_from_slice(&bytes));
                opened.push_back(session);
            }
            (PendingAck::ConnAck(_), Phase::Open(_)) => {
                unreachable!("one CONNACK a connection [MQTT-3.2.0-2]")
            }
            (PendingAck::Encoded(bytes), Phase::Accepting(_) | Phase::Open(_)) => {
                outboxes.write(turn, connection, id, |out| out.extend_from_slice(&bytes));
            }
            (PendingAck::Ack(kind, packet_id, reason), Phase::Accepting(_) | Phase::Open(_)) => {
                if ends_receiving(kind, reason) {
                    connection.receiving_count = connection.receiving_count.saturating_sub(1);
                }
                let (version, bytes_max) = (connection.version, connection.packet_bytes_max);
                let text = reason_string(reason).filter(|_| connection.problem_information());
                outboxes.write(turn, connection, id, |out| {
                    // A reason string only where it fits [MQTT-3.4.2-2].
                    let variants = [text, None];
                    let variants = if text.is_some() { &variants[..] } else { &variants[1..] };
                    append_bounded(out, bytes_max, variants, |&reason_string, out| {
                        let properties = AckProperties { reason_string, ..AckProperties::default() };
                        Ack { packet_id, reason, properties }.encode(kind, version, out);
                    });
                });
            }
        }
    }
}

/// Whether an acknowledgement is the last one that a message of the client gets.
fn ends_receiving(kind: AckKind, reason: ReasonCode) -> bool {
    match kind {
        AckKind::PubAck | AckKind::PubComp => true,
        AckKind::PubRec => reason.is_error(),
        AckKind::PubRel => false,
    }
}
