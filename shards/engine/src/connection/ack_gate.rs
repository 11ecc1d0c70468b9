//! The one release gate for acknowledgements: PUBACK, PUBREC, PUBCOMP, SUBACK, UNSUBACK and CONNACK
//! leave only when what they promise is durable, in the order in which they were earned.
//! Knows no log; the host answers [`Action::Persist`] with [`crate::Event::Durable`].

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use wire::packet::{Ack, AckKind, AckProperties};
use wire::{PacketId, ReasonCode};

use crate::base::time::Instant;
use crate::connection::reason_string::reason_string;
use crate::connection::table::{Connection, ConnectionId, Phase};
use crate::engine::Engine;
use crate::event::{Action, Actions, Batch};

/// An acknowledgement that was earned.
#[derive(Debug)]
pub(crate) enum PendingAck {
    Ack(AckKind, PacketId, ReasonCode),
    /// SUBACK and UNSUBACK, encoded.
    Encoded(Box<[u8]>),
    /// CONNACK, encoded; it opens the connection.
    ConnAck(Box<[u8]>),
}

#[derive(Debug)]
struct WaitingAck {
    connection: ConnectionId,
    /// Of the connection: see there.
    ordinal: u64,
    batch: Batch,
    ack: PendingAck,
}

/// A SUBACK that waits until every shard knows the filter.
#[derive(Debug)]
struct WaitingForInterest {
    connection: ConnectionId,
    ordinal: u64,
    /// Announcements the other shards have to take in.
    announced: u64,
    ack: PendingAck,
    must_persist: bool,
}

/// **Lives on:** every shard. Bounded: a connection with as many acknowledgements here as its receive
/// maximum is not read until one leaves.
#[derive(Debug)]
pub(crate) struct AckGate {
    /// In the order of `announced`; what leaves goes on to `waiting` if it has to be durable.
    announcing: VecDeque<WaitingForInterest>,
    waiting: VecDeque<WaitingAck>,
    /// What is being gathered; persisted at the end of the step if anything asked for it.
    gathering: Batch,
    persist_wanted: bool,
}

impl AckGate {
    pub(crate) const fn new() -> Self {
        Self {
            announcing: VecDeque::new(),
            waiting: VecDeque::new(),
            gathering: Batch(1),
            persist_wanted: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.announcing.len() + self.waiting.len()
    }

    /// The end of a step: asks for one `Persist` if anything of it has to be durable.
    pub(crate) fn end_step(&mut self, actions: &mut Actions) {
        if self.persist_wanted {
            self.persist_wanted = false;
            actions.push(Action::Persist(self.gathering));
            self.gathering.0 += 1;
        }
    }
}

impl Engine {
    /// Sends an acknowledgement, at once if it promises nothing durable and none of its connection waits.
    pub(crate) fn acknowledge(
        &mut self,
        now: Instant,
        id: ConnectionId,
        ack: PendingAck,
        must_persist: bool,
        actions: &mut Actions,
    ) {
        let Some(connection) = self.delivery.connections.get_mut(id.0) else {
            self.delivery.counters.stale += 1;
            return;
        };
        // An acknowledgement that waits for the other shards may be overtaken; one that waits for the log
        // may not, since it is about the same packets.
        let waits_behind = connection.pending_ack_count > connection.awaiting_interest_count;
        if !must_persist && !waits_behind {
            self.release(now, id, ack, actions);
            return;
        }
        connection.pending_ack_count += 1;
        let ordinal = connection.ordinal;
        let batch = if must_persist {
            self.gate.persist_wanted = true;
            self.gate.gathering
        } else {
            self.gate.waiting.back().expect("this connection has one waiting").batch
        };
        self.gate.waiting.push_back(WaitingAck { connection: id, ordinal, batch, ack });
    }

    /// [`Engine::acknowledge`] for a SUBACK: first, every shard has to know what was announced until now.
    pub(crate) fn acknowledge_after_interest(
        &mut self,
        now: Instant,
        id: ConnectionId,
        ack: PendingAck,
        must_persist: bool,
        actions: &mut Actions,
    ) {
        self.announce_changes();
        let announced = self.mesh.announced;
        if announced <= self.mesh.known_by_all() {
            self.acknowledge(now, id, ack, must_persist, actions);
            return;
        }
        let connection = self.connection(id);
        connection.pending_ack_count += 1;
        connection.awaiting_interest_count += 1;
        let ordinal = connection.ordinal;
        let announcing = WaitingForInterest { connection: id, ordinal, announced, ack, must_persist };
        self.gate.announcing.push_back(announcing);
    }

    /// Every other shard may have taken in more: lets the SUBACKs through that waited for it.
    pub(crate) fn on_interest_acknowledged(&mut self, now: Instant, actions: &mut Actions) {
        let known = self.mesh.known_by_all();
        while let Some(announcing) = self.gate.announcing.pop_front_if(|first| first.announced <= known) {
            let WaitingForInterest { connection: id, ordinal, ack, must_persist, .. } = announcing;
            let Some(connection) = self.leave_gate(now, id, ordinal, actions) else { continue };
            assert!(connection.awaiting_interest_count > 0);
            connection.awaiting_interest_count -= 1;
            let session = connection.session();
            self.acknowledge(now, id, ack, must_persist, actions);
            // What is retained follows SUBACK.
            if let Some(session) = session {
                self.schedule_replays(session);
            }
        }
    }

    /// One acknowledgement of a connection leaves the gate; `None` if that connection is gone.
    fn leave_gate(
        &mut self,
        now: Instant,
        id: ConnectionId,
        ordinal: u64,
        actions: &mut Actions,
    ) -> Option<&mut Connection> {
        let connection = self.delivery.connections.get_mut(id.0);
        let Some(connection) = connection.filter(|connection| connection.ordinal == ordinal) else {
            self.delivery.counters.stale += 1;
            return None;
        };
        assert!(connection.pending_ack_count > 0);
        connection.pending_ack_count -= 1;
        connection.resume(now, id, actions);
        Some(connection)
    }

    /// Lets everything through that waited for `durable` or an earlier batch.
    pub(crate) fn on_durable(&mut self, now: Instant, durable: Batch, actions: &mut Actions) {
        while let Some(waiting_ack) =
            self.gate.waiting.pop_front_if(|waiting_ack| waiting_ack.batch <= durable)
        {
            let id = waiting_ack.connection;
            if self.leave_gate(now, id, waiting_ack.ordinal, actions).is_none() {
                continue;
            }
            self.release(now, id, waiting_ack.ack, actions);
        }
    }

    fn release(&mut self, now: Instant, id: ConnectionId, ack: PendingAck, actions: &mut Actions) {
        let connection = self.delivery.connections.get_mut(id.0).expect("the caller found it");
        let version = connection.version;
        match (ack, connection.phase) {
            (_, Phase::Closing | Phase::HandingOver | Phase::Authenticating | Phase::Fresh(_)) => {
                self.delivery.counters.stale += 1;
            }
            (PendingAck::ConnAck(bytes), Phase::Accepting(session)) => {
                connection.phase = Phase::Open(session);
                connection.received_at = now;
                self.delivery.write(id, actions, |out| out.extend_from_slice(&bytes));
                self.on_opened(now, session, actions);
            }
            (PendingAck::ConnAck(_), Phase::Open(_)) => {
                unreachable!("one CONNACK a connection [MQTT-3.2.0-2]")
            }
            (PendingAck::Encoded(bytes), Phase::Accepting(_) | Phase::Open(_)) => {
                self.delivery.write(id, actions, |out| out.extend_from_slice(&bytes));
            }
            (PendingAck::Ack(kind, packet_id, reason), Phase::Accepting(_) | Phase::Open(_)) => {
                let ends_receiving = match kind {
                    AckKind::PubAck | AckKind::PubComp => true,
                    AckKind::PubRec => reason.is_error(),
                    AckKind::PubRel => false,
                };
                if ends_receiving {
                    connection.receiving_count = connection.receiving_count.saturating_sub(1);
                }
                let packet_bytes_max = connection.packet_bytes_max as usize;
                let told = reason_string(reason).filter(|_| connection.problem_information);
                self.delivery.write(id, actions, |out| {
                    let start = out.len();
                    let properties = AckProperties { reason_string: told, ..AckProperties::default() };
                    Ack { packet_id, reason, properties }.encode(kind, version, out);
                    if told.is_some() && out.len() - start > packet_bytes_max {
                        // Words only where they fit [MQTT-3.4.2-2].
                        out.truncate(start);
                        Ack { reason, ..Ack::success(packet_id) }.encode(kind, version, out);
                    }
                });
            }
        }
    }
}
