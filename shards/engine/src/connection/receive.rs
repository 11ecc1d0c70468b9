//! Received bytes of a connection: the packet that has not come whole, and the credit to take another one.

use alloc::boxed::Box;

use wire::{Assembler, PacketType, ProtocolVersion};

use super::disconnect::Wait;
use super::facts::Fact;
use super::{Connection, Connections, Phase};
use crate::action::{Action, Actions};
use crate::base::ids::{ConnectionId, SessionId};
use crate::base::time::Instant;
use crate::turn::Turn;

/// Bytes of a packet that has not come whole which a connection may hold however short memory is.
const PARTIAL_PACKET_BYTES_FREE: u32 = 16 * 1024;

/// Shortages that keep packets from being taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shortage {
    /// A lane to another shard is at its bound.
    lanes: bool,
    topics: TopicsHold,
}

/// Packets that wait for the backlog of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TopicsHold {
    Nothing,
    /// Many sessions have ended and are not forgotten yet: no SUBSCRIBE is taken.
    Subscribe,
    /// A fan-out is under way: nothing is taken that is matched or changes subscriptions.
    All,
}

impl Shortage {
    pub(crate) const fn new(lanes: bool, topics: TopicsHold) -> Self {
        Self { lanes, topics }
    }

    /// Whether a packet of this type waits for the backlog.
    fn holds(self, arriving: Option<PacketType>) -> bool {
        match self.topics {
            TopicsHold::Nothing => false,
            TopicsHold::Subscribe => arriving == Some(PacketType::Subscribe),
            TopicsHold::All => matches!(
                arriving,
                Some(PacketType::Publish | PacketType::Subscribe | PacketType::Unsubscribe)
            ),
        }
    }
}

impl Connections {
    /// Takes the assembler of a connection out while its bytes are read: the frames that it lends outlive changes to the
    /// table. [`Connections::store_rest`] puts it back.
    pub(crate) fn take_assembler(&mut self, id: ConnectionId) -> Option<Assembler> {
        let connection = self.get_mut(id)?;
        Some(connection.partial_packet.take().map_or_else(Assembler::new, |partial| *partial))
    }

    /// Stores the part of a packet that has come; the host keeps more if there are leftover bytes. Returns whether the part has grown
    /// beyond the free bytes.
    pub(crate) fn store_rest(&mut self, id: ConnectionId, assembler: Assembler, has_leftover: bool) -> bool {
        let connection = self.current(id);
        connection.has_leftover = has_leftover;
        // Most receives end with a packet.
        if assembler.is_idle() && connection.partial_packet_bytes == 0 {
            return false;
        }
        // The buffer of an idle assembler still has the packet that was taken last.
        let partial_packet = (!assembler.is_idle()).then(|| Box::new(assembler));
        let after = partial_packet.as_ref().map_or(0, |partial| partial.bytes_held());
        let after = u32::try_from(after).unwrap_or(u32::MAX);
        let before = self.change_unjudged(id, |connection| {
            assert!(connection.partial_packet.is_none());
            connection.partial_packet = partial_packet;
            core::mem::replace(&mut connection.partial_packet_bytes, after)
        });
        let Some(before) = before else { return false };
        self.partial_packet_bytes += u64::from(after);
        assert!(self.partial_packet_bytes >= u64::from(before));
        self.partial_packet_bytes -= u64::from(before);
        after > before && after > PARTIAL_PACKET_BYTES_FREE
    }

    /// Whether one more packet of a connection may be taken, without asking its meter; `first_byte` is that of a packet that begins.
    /// Without credit the connection is paused, unless it [awaits its meter only](Connections::awaits_meter_only).
    pub(crate) fn has_credit(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        first_byte: Option<u8>,
        shortage: Shortage,
    ) -> bool {
        let Self { slab, starved, .. } = self;
        let Some(connection) = slab.get_mut(id.key()) else { return false };
        if let Some(first_byte) = first_byte {
            connection.arriving = PacketType::from_first_byte(first_byte);
        }
        // One more than the receive maximum, so that a client that exceeds it is told so.
        let is_gate_full = connection.pending_ack_count > u32::from(turn.limits.receive_maximum);
        // Nothing may be answered before CONNACK [MQTT-3.2.0-1], and clients may send behind CONNECT.
        let is_accepting = matches!(connection.phase, Phase::Accepting(_) | Phase::Judging);
        // One that waits for memory or a lane is resumed in its turn, whatever a host offers before.
        if is_gate_full | is_accepting | connection.barriers.any() {
            let is_stopped = is_gate_full | is_accepting | connection.barriers.stop();
            connection.paused |= is_stopped;
            if is_stopped || !(shortage.lanes || shortage.holds(connection.arriving)) {
                return false;
            }
        }
        if shortage.lanes || shortage.holds(connection.arriving) {
            connection.paused = true;
            connection.barriers.set_starved(true);
            starved.push_back(id);
            return false;
        }
        true
    }

    /// Whether nothing but its meter decides about the next packet of a connection, of which [`Connections::has_credit`] has said that
    /// there is no credit.
    pub(crate) fn awaits_meter_only(&self, turn: &Turn<'_>, id: ConnectionId, shortage: Shortage) -> bool {
        self.get(id).is_some_and(|connection| {
            let is_gate_full = connection.pending_ack_count > u32::from(turn.limits.receive_maximum);
            let is_short = shortage.lanes || shortage.holds(connection.arriving);
            let is_stopped = is_gate_full || is_short || !connection.is_open() || connection.barriers.stop();
            connection.barriers.is_metered() && !is_stopped
        })
    }

    /// Pauses a connection until the end of the step, which has done its share of work: the host offers the rest again
    /// after others had their turn.
    pub(crate) fn pause_for_others(&mut self, id: ConnectionId) {
        self.current(id).paused = true;
        assert!(self.spent.is_none());
        self.spent = Some(id);
    }

    /// Holds a connection whose packet goes on in later steps: no other packet of it is taken until
    /// [`Connections::end_hold`]. Returns its ordinal.
    pub(crate) fn hold(&mut self, id: ConnectionId) -> u64 {
        let connection = self.current(id);
        assert!(connection.is_open() && !connection.barriers.is_held());
        connection.barriers.set_held(true);
        connection.arrival.ordinal
    }

    /// The session of a connection that is held; `None` if it has ended or begun to close.
    pub(crate) fn session_of_held(&self, id: ConnectionId, ordinal: u64) -> Option<SessionId> {
        let connection = self.get(id).filter(|connection| connection.arrival.ordinal == ordinal)?;
        assert!(connection.barriers.is_held());
        connection.session()
    }

    /// CONNECT was judged: the bytes behind it may be taken.
    pub(crate) fn end_wait(&mut self, turn: &mut Turn<'_>, id: ConnectionId) {
        let connection = self.current(id);
        assert!(connection.phase != Phase::Judging);
        connection.resume(turn.now, id, turn.actions);
    }

    /// The packet is done: the next one may be taken.
    pub(crate) fn end_hold(&mut self, turn: &mut Turn<'_>, id: ConnectionId) {
        let connection = self.current(id);
        assert!(connection.barriers.is_held());
        connection.barriers.set_held(false);
        connection.resume(turn.now, id, turn.actions);
    }

    /// Connections that are held and have not begun to close, for an audit.
    pub(crate) fn held_count(&self) -> usize {
        self.iter().filter(|(_, connection)| connection.barriers.is_held() && connection.is_open()).count()
    }

    /// Pauses a connection of which no packet is taken until the stop.
    pub(crate) fn pause(&mut self, id: ConnectionId) {
        self.current(id).paused = true;
    }

    /// Bytes came, perhaps of a packet that is not whole, while the host catches up.
    pub(crate) fn byte_received(&mut self, turn: &mut Turn<'_>, id: ConnectionId) {
        self.current(id).received_at = turn.now;
    }

    /// A control packet came. Returns the version in which its connection reads it.
    pub(crate) fn packet_received(&mut self, turn: &mut Turn<'_>, id: ConnectionId) -> ProtocolVersion {
        turn.counters.packets_received += 1;
        let connection = self.current(id);
        connection.received_at = turn.now;
        connection.packets_received = connection.packets_received.saturating_add(1);
        connection.version
    }

    /// A packet has to wait and was put back: its connection is not read until then, which slows its client down. For memory, that is a
    /// publish of a 3.1.1 client, for which there is no reason code to refuse it with; after `Limits::close_timeout_ms` it is closed,
    /// because its PINGREQ waits too. For the log it waits for as long as it takes, and the silence is ours.
    pub(crate) fn delay(&mut self, turn: &mut Turn<'_>, id: ConnectionId, wait: Wait) {
        turn.counters.packets_received -= 1;
        let connection = self.current(id);
        connection.packets_received = connection.packets_received.saturating_sub(1);
        assert!(
            connection.is_open() && !connection.barriers.is_starved() && !connection.facts.has(Fact::Delayed)
        );
        connection.paused = true;
        connection.barriers.set_starved(true);
        self.delayed.push_back(id);
        match wait {
            Wait::Memory => {
                let until = turn.now.plus_ms(u64::from(turn.limits.close_timeout_ms));
                self.current(id).facts.set(Fact::Delayed, true);
                self.set_timer(turn, id, Some(until));
            }
            Wait::Log => turn.counters.log_waits += 1,
        }
    }

    /// Whether any connection waits for room in a lane, for memory or for the log.
    #[inline]
    pub(crate) fn has_waiting(&self) -> bool {
        self.has_starved(TopicsHold::Nothing) || self.has_delayed()
    }

    /// Whether any packet waits for memory or for the log.
    pub(crate) fn has_delayed(&self) -> bool {
        !self.delayed.is_empty()
    }

    /// Lets connections be read again whose packet waited for memory or for the log, as [`Connections::resume_starved`] does.
    pub(crate) fn resume_delayed(&mut self, turn: &mut Turn<'_>) {
        while !turn.is_spent() {
            let Some(id) = self.delayed.pop_front() else { return };
            turn.spend(1);
            let Some(connection) = self.slab.get_mut(id.key()) else { continue };
            assert!(connection.barriers.is_starved());
            connection.barriers.set_starved(false);
            let has_time = connection.facts.set(Fact::Delayed, false);
            if connection.session().is_some() {
                connection.resume(turn.now, id, turn.actions);
                if has_time {
                    self.restart_keep_alive(turn, id);
                }
            }
        }
    }

    /// Whether any connection waits that need not, under this hold.
    pub(crate) fn has_starved(&self, hold: TopicsHold) -> bool {
        match hold {
            TopicsHold::Nothing => !(self.starved.is_empty() && self.starved_subscribes.is_empty()),
            TopicsHold::Subscribe => !self.starved.is_empty(),
            TopicsHold::All => false,
        }
    }

    /// Lets connections be read again that waited for room in a lane or for the backlog and need not any more, in the order in which
    /// they began to wait, until the step has done its share of work.
    pub(crate) fn resume_starved(&mut self, turn: &mut Turn<'_>, hold: TopicsHold) {
        while self.has_starved(hold) && !turn.is_spent() {
            let waited_on =
                if hold == TopicsHold::Nothing { self.starved_subscribes.pop_front() } else { None };
            let Some(id) = waited_on.or_else(|| self.starved.pop_front()) else { return };
            turn.spend(1);
            if let Some(connection) = self.slab.get_mut(id.key()) {
                assert!(connection.barriers.is_starved());
                if hold == TopicsHold::Subscribe && connection.arriving == Some(PacketType::Subscribe) {
                    self.starved_subscribes.push_back(id);
                    continue;
                }
                connection.barriers.set_starved(false);
                connection.resume(turn.now, id, turn.actions);
            }
        }
    }
}

impl Connection {
    /// There may be credit again: the host offers the bytes that were not consumed, if there are any.
    pub(super) fn resume(&mut self, now: Instant, id: ConnectionId, actions: &mut Actions) {
        if self.paused {
            self.paused = false;
            // The silence was ours, so the client's begins only now.
            self.received_at = now;
            actions.push(Action::Resume(id));
        }
    }
}
