//! One network connection: from its first byte to its last.
//!
//! Invariants: a connection serves a session in the phases `Accepting` and `Open` and in no other, and that session
//! names it; the counts of [`Connections`] are the sums over its connections; and an identity of an earlier generation
//! finds nothing.

pub(crate) mod ack_gate;
mod aliases;
pub(crate) mod arrival;
mod audit;
pub(crate) mod authenticate;
mod barriers;
pub(crate) mod bounded_write;
pub(crate) mod connect;
mod debts;
pub(crate) mod disconnect;
mod facts;
pub(crate) mod first_bytes;
mod grant_expiry;
mod grant_timers;
mod hand_over;
mod identify;
mod identities;
mod lifetime;
mod memory;
pub(crate) mod meter;
mod metering;
pub(crate) mod outbox;
mod outbox_place;
mod phase;
pub(crate) mod reason_string;
pub(crate) mod receive;
mod receive_maximum;
mod release;
pub(crate) mod send;
mod shed;
mod shown;
mod timeout;
pub(crate) mod topic_alias;
mod unjudged;
mod unjudged_bytes;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use wire::frame::Assembler;
use wire::{PACKET_BYTES_MAX, PacketType, ProtocolVersion, QoS};
use zeroize::Zeroizing;

use crate::action::{Action, Actions};
use crate::base::hash::Keyed;
use crate::base::ids::{ConnectionId, SessionId};
use crate::base::long_queue::LongQueue;
use crate::base::slab::Slab;
use crate::base::time::Instant;
use crate::base::timer_wheel::TimerId;
use crate::limits::Limits;
use crate::message::encode::Templates;
use crate::turn::Turn;

use ack_gate::AckGate;
use arrival::Arrival;
use authenticate::Authentication;
use barriers::Barriers;
use facts::{Fact, Facts};
use grant_timers::GrantTimers;
use identities::Identities;
use meter::Meters;
use outbox::{BufferPool, Chunk, Lend};
use outbox_place::{OutboxPlace, SpareOutboxes};
use topic_alias::Aliases;
use unjudged_bytes::UnjudgedBytes;

pub(crate) use disconnect::Close;
pub(crate) use phase::Phase;
pub use phase::{Admission, Refused};

/// **Lives on:** the shard of its session. **Sees:** its peer's bytes.
#[derive(Debug)]
pub(crate) struct Connection {
    /// An acknowledgement that waits for the journal names its connection by this ordinal too: a journal may be slow enough for
    /// the generations of a slot to wrap.
    arrival: Arrival,
    /// The number of the listener that accepted it.
    listener: u16,
    /// When this shard accepted it, or took it over: the lower half of the milliseconds.
    known_since_ms: u32,
    phase: Phase,
    version: ProtocolVersion,
    /// The host was asked to flush and has not been answered `Idle` yet.
    flush_asked: bool,
    /// Bytes were left unconsumed; the host waits for `Resume`.
    paused: bool,
    /// Whether its next packet is simply taken.
    barriers: Barriers,
    /// The type of the packet that arrives.
    arriving: Option<PacketType>,
    /// Bytes of the last receive were not consumed, and the host has not offered all of them again.
    has_leftover: bool,
    facts: Facts,
    /// The packet that has not come whole, if there is one.
    partial_packet: Option<Box<Assembler>>,
    /// Bytes that `partial_packet` held when it was last left.
    partial_packet_bytes: u32,
    outbox: OutboxPlace,
    /// When the last control packet came [MQTT-3.1.2-22].
    received_at: Instant,
    /// One and a half times the keep alive and the millisecond that the clock may be behind; 0: none.
    silence_ms_max: u32,
    /// Keep alive, or the time-out of CONNECT or of closing.
    timer: Option<TimerId>,
    /// The client's Maximum Packet Size, in bytes.
    packet_bytes_max: u32,
    /// The longest packet that is accepted of it, in bytes: less of a peer that is not known.
    receive_bytes_max: u32,
    /// The highest QoS that is accepted of it and granted to it.
    maximum_qos: QoS,
    /// The client's Receive Maximum, and the part of it that is left [MQTT-3.3.4-9].
    receive_maximum: u16,
    send_quota: u16,
    /// QoS 1 and 2 messages of the client that we have not finished acknowledging.
    receiving_count: u16,
    /// Acknowledgements at the gate.
    pending_ack_count: u32,
    /// The number of them that wait for the other shards.
    awaiting_interest_count: u32,
    /// Packets that came from the client; stays at its maximum.
    packets_received: u32,
    /// Set if CONNECT named a method, and while the host judges CONNECT.
    authentication: Option<Box<Authentication>>,
    aliases: Option<Box<Aliases>>,
}

// A shard has one for each connection, and a message passes two of them: whatever few connections have is behind a pointer.
// With the generation of its slot it is two cache lines long.
const _: () = assert!(size_of::<Connection>() <= 120 && Slab::<Connection>::SLOT_BYTES <= 128);

impl Connection {
    fn new(limits: &Limits, now: Instant, admission: Admission, arrival: Arrival, listener: u16) -> Self {
        Self {
            arrival,
            listener,
            known_since_ms: lower_half(now),
            phase: Phase::Fresh(admission),
            version: ProtocolVersion::V3_1_1,
            flush_asked: false,
            paused: false,
            barriers: Barriers::default(),
            arriving: None,
            has_leftover: false,
            facts: Facts::default(),
            partial_packet: None,
            partial_packet_bytes: 0,
            outbox: OutboxPlace::default(),
            received_at: now,
            silence_ms_max: 0,
            timer: None,
            packet_bytes_max: PACKET_BYTES_MAX,
            receive_bytes_max: limits.packet_bytes_max_of(listener).min(limits.connect_bytes_max),
            maximum_qos: limits.maximum_qos_of(listener),
            receive_maximum: u16::MAX,
            send_quota: u16::MAX,
            receiving_count: 0,
            pending_ack_count: 0,
            awaiting_interest_count: 0,
            packets_received: 0,
            authentication: None,
            aliases: None,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(crate) fn version(&self) -> ProtocolVersion {
        self.version
    }

    pub(crate) fn packet_bytes_max(&self) -> u32 {
        self.packet_bytes_max
    }

    /// Packets that came from the client.
    pub(crate) fn packets_received(&self) -> u32 {
        self.packets_received
    }

    pub(crate) fn arrival(&self) -> Arrival {
        self.arrival
    }

    /// Whether it came before another one.
    pub(crate) fn is_older_than(&self, other: &Self, now: Instant) -> bool {
        let passed_ms = lower_half(now).wrapping_sub(other.known_since_ms);
        self.arrival.is_before(other.arrival, passed_ms)
    }

    /// Notes whether bytes of a receive were left unconsumed.
    /// Whether its host may receive more for it: nothing that it sent before waits to be offered again.
    pub(crate) fn takes_bytes(&self) -> bool {
        self.is_open() && !self.has_leftover
    }

    pub(crate) fn is_bridge(&self) -> bool {
        self.facts.has(Fact::Bridge)
    }

    /// Whether acknowledgements may carry a reason string [MQTT-3.1.2-29].
    pub(crate) fn problem_information(&self) -> bool {
        !self.facts.has(Fact::NoProblemInformation)
    }

    pub(crate) fn is_open(&self) -> bool {
        match self.phase {
            Phase::Open(_) => true,
            Phase::Fresh(_)
            | Phase::Authenticating
            | Phase::Judging
            | Phase::Accepting(_)
            | Phase::HandingOver
            | Phase::Closing => false,
        }
    }

    /// The session it serves.
    pub(crate) fn session(&self) -> Option<SessionId> {
        match self.phase {
            Phase::Accepting(session) | Phase::Open(session) => Some(session),
            Phase::Fresh(_)
            | Phase::Authenticating
            | Phase::Judging
            | Phase::HandingOver
            | Phase::Closing => None,
        }
    }

    /// Whether its outbox may take another message, of at most `bytes_max` bytes before it.
    pub(crate) fn has_outbox_room(&self, bytes_max: u64) -> bool {
        self.outbox.bytes() < bytes_max
    }

    /// Whether less than half of its outbox is used.
    pub(crate) fn is_outbox_half_empty(&self, limits: &Limits) -> bool {
        self.outbox.bytes() * 2 < u64::from(limits.outbox_bytes_max)
    }

    /// Whether it may be sent retained messages: clients may take one before SUBACK, and yet it surprises some.
    pub(crate) fn may_replay(&self, limits: &Limits) -> bool {
        let is_answered = self.awaiting_interest_count == 0 && !self.barriers.is_held();
        self.is_open() && is_answered && self.is_outbox_half_empty(limits)
    }

    /// Whether an acknowledgement of it waits at the gate.
    pub(crate) fn awaits_gate(&self) -> bool {
        self.pending_ack_count > 0
    }

    /// Marks it as handed its DISCONNECT by the client: nothing keeps the host from closing at once.
    pub(crate) fn set_disconnected(&mut self) {
        self.facts.set(Fact::Disconnected, true);
    }

    /// Whether its peer sent DISCONNECT and nothing is left to be sent to it.
    pub(crate) fn may_close_at_once(&self) -> bool {
        self.facts.has(Fact::Disconnected) && self.outbox.bytes() == 0 && !self.outbox.is_lent()
    }

    /// Asks the host, once, to flush.
    fn ask_flush(&mut self, id: ConnectionId, actions: &mut Actions) {
        if !self.flush_asked {
            self.flush_asked = true;
            actions.push(Action::Flush(id));
        }
    }
}

fn lower_half(at: Instant) -> u32 {
    u32::try_from(at.as_ms() & u64::from(u32::MAX)).unwrap_or_default()
}

/// Outboxes of all connections together.
#[derive(Debug)]
struct Outboxes {
    pool: BufferPool,
    spare: SpareOutboxes,
    bytes_held: u64,
}

impl Outboxes {
    /// Appends to the outbox of a connection and asks the host, once, to flush. Returns the bytes that were appended.
    fn append(
        &mut self,
        connection: &mut Connection,
        id: ConnectionId,
        actions: &mut Actions,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> u64 {
        let appended = connection.outbox.append(&mut self.spare, &mut self.pool, write);
        self.bytes_held += appended;
        connection.ask_flush(id, actions);
        appended
    }

    #[inline]
    fn give_back(
        &mut self,
        connection: &mut Connection,
        chunk: Chunk,
        sent_bytes: usize,
    ) -> (Option<SessionId>, u32) {
        assert!(self.bytes_held >= sent_bytes as u64);
        self.bytes_held -= sent_bytes as u64;
        connection.outbox.give_back(&mut self.spare, &mut self.pool, chunk, sent_bytes)
    }
}

/// **Lives on:** every shard. **Sees:** the connections accepted here or handed over to here.
#[derive(Debug)]
pub(crate) struct Connections {
    slab: Slab<Connection>,
    outboxes: Outboxes,
    templates: Templates,
    hasher: Keyed,
    gate: AckGate,
    /// Connections that are not read for lack of room in a lane; each at most once.
    starved: LongQueue<ConnectionId>,
    /// Connections whose next packet is a SUBSCRIBE, and which were passed over while many ended sessions are not forgotten.
    starved_subscribes: LongQueue<ConnectionId>,
    /// The connection that is not read in this step any more, because the step has done its share of work.
    spent: Option<ConnectionId>,
    /// No silence counts before this moment, because nothing could arrive.
    silence_from: Instant,
    /// Connections whose next packet waits for memory or for the log; each at most once.
    delayed: LongQueue<ConnectionId>,
    /// CONNECT packets of connections whose hand-over was asked for in this turn.
    hand_overs: Vec<(ConnectionId, Zeroizing<Vec<u8>>)>,
    /// Sessions whose CONNACK has left; emptied after each packet or event.
    opened: VecDeque<SessionId>,
    /// Steps of authentication that the host was asked about; the last one's number.
    authentication_steps: u64,
    authentication_bytes: u64,
    partial_packet_bytes: u64,
    unjudged: UnjudgedBytes,
    grant_timers: GrantTimers,
    meters: Meters,
    identities: Identities,
    alias_in_bytes: u64,
    alias_out_bytes: u64,
}

impl Connections {
    pub(crate) fn new(hasher: Keyed, limits: &Limits) -> Self {
        Self {
            slab: Slab::new(limits.generation_bits),
            outboxes: Outboxes {
                pool: BufferPool::new(limits.memory_bytes_max),
                spare: SpareOutboxes::default(),
                bytes_held: 0,
            },
            templates: Templates::default(),
            hasher,
            gate: AckGate::new(),
            starved: LongQueue::new(),
            starved_subscribes: LongQueue::new(),
            spent: None,
            silence_from: Instant::default(),
            delayed: LongQueue::new(),
            hand_overs: Vec::new(),
            opened: VecDeque::new(),
            authentication_steps: 0,
            authentication_bytes: 0,
            partial_packet_bytes: 0,
            unjudged: UnjudgedBytes::default(),
            grant_timers: GrantTimers::default(),
            meters: Meters::default(),
            identities: Identities::default(),
            alias_in_bytes: 0,
            alias_out_bytes: 0,
        }
    }

    /// Makes slots for `count` connections ready.
    pub(crate) fn reserve(&mut self, count: u32) {
        self.slab.reserve(count);
    }

    pub(crate) fn len(&self) -> u32 {
        self.slab.len()
    }

    /// Frees buffers that no outbox has needed since the last call.
    pub(crate) fn trim(&mut self) {
        self.outboxes.pool.trim();
    }

    /// Bytes in all outboxes.
    pub(crate) fn outbox_bytes(&self) -> u64 {
        self.outboxes.bytes_held
    }

    /// Bytes that all outboxes take, by the capacity of their buffers.
    pub(crate) fn outbox_memory_bytes(&self) -> u64 {
        self.outboxes.pool.memory_bytes() + self.outboxes.spare.memory_bytes()
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.slab.get(id.key())
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.slab.get_mut(id.key())
    }

    /// The connection whose packet is being handled.
    ///
    /// # Panics
    /// If it has ended; a connection is removed by its host only.
    pub(crate) fn current(&mut self, id: ConnectionId) -> &mut Connection {
        self.get_mut(id).expect("looked up at the start of the step")
    }

    /// Identities of all connections, by slot: none at a slot that is free.
    pub(crate) fn id_at(&self, index: u32) -> Option<ConnectionId> {
        self.slab.key_at(index).map(ConnectionId::new)
    }

    /// One past the highest slot ever taken.
    pub(crate) fn slot_count(&self) -> u32 {
        self.slab.slot_count()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        self.slab.iter().map(|(key, connection)| (ConnectionId::new(key), connection))
    }

    /// Lends the next piece of an outbox; `None` if the connection has ended.
    pub(crate) fn lend(&mut self, id: ConnectionId) -> Option<Lend> {
        let connection = self.get_mut(id)?;
        if let Some(chunk) = connection.outbox.lend() {
            return Some(Lend::Chunk(chunk));
        }
        if connection.phase == Phase::Closing {
            return Some(Lend::Close);
        }
        connection.flush_asked = false;
        Some(Lend::Idle)
    }

    /// Takes a lent piece back. Returns the session whose QoS 0 messages it carried, and how many of them it completed.
    ///
    /// # Panics
    /// If nothing was lent to this connection, or it has ended.
    pub(crate) fn give_back(
        &mut self,
        id: ConnectionId,
        chunk: Chunk,
        sent_bytes: usize,
    ) -> (Option<SessionId>, u32) {
        let Self { slab, outboxes, .. } = self;
        let connection = slab.get_mut(id.key()).expect("a connection lives until its piece is back");
        outboxes.give_back(connection, chunk, sent_bytes)
    }

    /// The next session whose CONNACK has left.
    pub(crate) fn pop_opened(&mut self) -> Option<SessionId> {
        self.opened.pop_front()
    }

    /// Ends a step: see [`AckGate::end_step`].
    pub(crate) fn end_step(&mut self, turn: &mut Turn<'_>) {
        assert!(self.opened.is_empty());
        if let Some(id) = self.spent.take()
            && let Some(connection) = self.slab.get_mut(id.key())
        {
            connection.resume(turn.now, id, turn.actions);
        }
        if !turn.is_recording() {
            self.gate.end_step(turn.actions);
        }
    }
}
