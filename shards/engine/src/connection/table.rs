//! One network connection: how far it has come and what its peer allows.
//! Knows no session state; that outlives it.

use alloc::boxed::Box;

use wire::frame::Assembler;
use wire::{PACKET_BYTES_MAX, ProtocolVersion};

use crate::base::slab::Key;
use crate::base::time::Instant;
use crate::base::timer_wheel::TimerId;
use crate::connection::authenticate::Authentication;
use crate::connection::outbox::Outbox;
use crate::connection::topic_alias::{IncomingAliases, OutgoingAliases};
use crate::event::{Action, Actions};
use crate::session::table::SessionId;

/// The identity of a network connection, never used again within 2³² tenants of its slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnectionId(pub(crate) Key);

impl ConnectionId {
    /// The slot, dense from 0: an index for the host's own table.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.0.index()
    }

    /// The generation of the slot.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.0.generation
    }
}

/// What the host decided about a connection it accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Serve it.
    Serve,
    /// The process is full: read its CONNECT to learn its version, tell it 0x97 and close.
    TurnAway,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Its first packet has to be CONNECT [MQTT-3.1.0-1].
    Fresh(Admission),
    /// CONNECT named a method of authentication, and the exchange goes on; nothing of CONNECT counts yet.
    Authenticating,
    /// CONNECT was accepted; CONNACK waits at the release gate and nothing else may be sent.
    Accepting(SessionId),
    /// CONNACK is out.
    Open(SessionId),
    /// Its session lives on another shard, which will take it over.
    HandingOver,
    /// It is told what there is to tell and closed; nothing is read any more.
    Closing,
}

/// **Lives on:** the shard of its session. **Sees:** its peer's bytes.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
pub(crate) struct Connection {
    /// How many connections came before it. What waits for the journal names it by this too: a journal
    /// may be slow enough for a slot's generations to come round.
    pub(crate) ordinal: u64,
    pub(crate) phase: Phase,
    pub(crate) version: ProtocolVersion,
    /// The host was asked to flush and has not been told `Idle` yet.
    pub(crate) flush_asked: bool,
    /// Bytes were left unconsumed; the host waits for `Resume`.
    pub(crate) paused: bool,
    /// It waits in the list of connections that are not read for lack of memory.
    pub(crate) starved: bool,
    /// The packet that arrives is a PUBLISH.
    pub(crate) publish_arrives: bool,
    /// `Abort` was asked for.
    pub(crate) aborted: bool,
    /// Its peer said DISCONNECT.
    pub(crate) has_disconnected: bool,
    /// The packet that has not come whole, if there is one.
    pub(crate) partial_packet: Option<Box<Assembler>>,
    /// Bytes that `partial_packet` held when it was last left.
    pub(crate) partial_packet_bytes: u32,
    pub(crate) outbox: Outbox,
    /// Whose QoS 0 messages are in the outbox; outlives `phase`.
    pub(crate) owner: Option<SessionId>,
    /// When the last control packet came [MQTT-3.1.2-22].
    pub(crate) received_at: Instant,
    /// One and a half times the keep alive and the millisecond that the clock may be behind; 0: none.
    pub(crate) silence_ms_max: u32,
    /// Keep alive, or the time-out of CONNECT or of closing.
    pub(crate) timer: Option<TimerId>,
    /// The client's Maximum Packet Size, in bytes.
    pub(crate) packet_bytes_max: u32,
    /// Whether acknowledgements may carry words [MQTT-3.1.2-29].
    pub(crate) problem_information: bool,
    /// The client's Receive Maximum and what is left of it [MQTT-3.3.4-9].
    pub(crate) receive_maximum: u16,
    pub(crate) send_quota: u16,
    /// QoS 1 and 2 messages of the client that we have not finished acknowledging.
    pub(crate) receiving_count: u16,
    /// Acknowledgements at the release gate.
    pub(crate) pending_ack_count: u32,
    /// Those of them that wait for the other shards.
    pub(crate) awaiting_interest_count: u32,
    /// Set if CONNECT named a method.
    pub(crate) authentication: Option<Box<Authentication>>,
    pub(crate) aliases_in: Option<Box<IncomingAliases>>,
    pub(crate) aliases_out: Option<Box<OutgoingAliases>>,
}

impl Connection {
    pub(crate) fn new(now: Instant, admission: Admission, ordinal: u64) -> Self {
        Self {
            ordinal,
            phase: Phase::Fresh(admission),
            version: ProtocolVersion::V3_1_1,
            flush_asked: false,
            paused: false,
            starved: false,
            publish_arrives: false,
            aborted: false,
            has_disconnected: false,
            partial_packet: None,
            partial_packet_bytes: 0,
            outbox: Outbox::default(),
            owner: None,
            received_at: now,
            silence_ms_max: 0,
            timer: None,
            packet_bytes_max: PACKET_BYTES_MAX,
            problem_information: true,
            receive_maximum: u16::MAX,
            send_quota: u16::MAX,
            receiving_count: 0,
            pending_ack_count: 0,
            awaiting_interest_count: 0,
            authentication: None,
            aliases_in: None,
            aliases_out: None,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        match self.phase {
            Phase::Open(_) => true,
            Phase::Fresh(_)
            | Phase::Authenticating
            | Phase::Accepting(_)
            | Phase::HandingOver
            | Phase::Closing => false,
        }
    }

    /// There may be credit again: the host offers what was not consumed, if anything was not.
    pub(crate) fn resume(&mut self, now: Instant, id: ConnectionId, actions: &mut Actions) {
        if self.paused {
            self.paused = false;
            // Its silence was ours and begins only now.
            self.received_at = now;
            actions.push(Action::Resume(id));
        }
    }

    /// The session it serves.
    pub(crate) fn session(&self) -> Option<SessionId> {
        match self.phase {
            Phase::Accepting(session) | Phase::Open(session) => Some(session),
            Phase::Fresh(_) | Phase::Authenticating | Phase::HandingOver | Phase::Closing => None,
        }
    }
}
