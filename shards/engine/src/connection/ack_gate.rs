//! The acknowledgement gate: PUBACK, PUBREC, PUBCOMP, SUBACK, UNSUBACK and CONNACK leave only when their promise is
//! durable, in the order in which they became due.
//!
//! Invariants: batches never decrease along either list of `durable`, so one comparison with the first tells whether anything may
//! leave; a connection has one level, so its own stand in one list; and each connection counts its own acknowledgements here, so that it is not read while it has too many.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use wire::packet::AckKind;
use wire::{PacketId, ReasonCode};

use crate::action::{Action, Actions, Batch};
use crate::base::heap;
use crate::base::ids::ConnectionId;

/// An acknowledgement that is due.
#[derive(Debug)]
pub(crate) enum PendingAck {
    Ack(AckKind, PacketId, ReasonCode),
    /// SUBACK and UNSUBACK, encoded.
    Encoded(Box<[u8]>),
    /// CONNACK, encoded; it opens the connection.
    ConnAck(Box<[u8]>),
}

impl PendingAck {
    /// Bytes that it takes beside its own struct.
    fn encoded_bytes(&self) -> u64 {
        match self {
            Self::Ack(..) => 0,
            Self::Encoded(bytes) | Self::ConnAck(bytes) => heap::block(bytes.len()),
        }
    }
}

/// The moment from which an acknowledgement may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Level {
    /// Its records are written: they survive the end of the process.
    Written,
    /// They are synced: they survive the loss of power.
    Synced,
}

/// An acknowledgement on its way through the gate, and the connection it belongs to.
#[derive(Debug)]
pub(crate) struct Gated {
    connection: ConnectionId,
    /// Of the connection: the journal may be slow enough for the generations of a slot to wrap.
    ordinal: u64,
    ack: PendingAck,
    must_persist: bool,
}

impl Gated {
    pub(crate) fn new(connection: ConnectionId, ordinal: u64, ack: PendingAck, must_persist: bool) -> Self {
        Self { connection, ordinal, ack, must_persist }
    }

    /// The connection and its ordinal.
    pub(crate) fn connection(&self) -> (ConnectionId, u64) {
        (self.connection, self.ordinal)
    }

    /// The acknowledgement, and whether it has to be durable.
    pub(crate) fn into_ack(self) -> (PendingAck, bool) {
        (self.ack, self.must_persist)
    }
}

#[derive(Debug)]
struct Waiting<T> {
    until: T,
    gated: Gated,
}

/// **Lives on:** every shard. Bounded: a connection with as many acknowledgements here as its receive maximum is not
/// read until one leaves.
#[derive(Debug)]
pub(crate) struct AckGate {
    /// SUBACKs that wait until all shards have acknowledged so many announcements of interest. SUBACKs that have to be
    /// durable wait for a batch afterwards.
    interest: VecDeque<Waiting<u64>>,
    /// By [`Level`].
    durable: [VecDeque<Waiting<Batch>>; 2],
    /// The batch that is being gathered. It is persisted at the end of the step if anything asked for it.
    gathering: Batch,
    is_persist_wanted: bool,
    /// Nothing becomes durable any more, so what waits for that is not kept: its connection counts it for ever.
    has_failed: bool,
    /// Of acknowledgements that are encoded.
    encoded_bytes: u64,
}

impl AckGate {
    pub(crate) const fn new() -> Self {
        Self {
            interest: VecDeque::new(),
            durable: [const { VecDeque::new() }; 2],
            gathering: Batch(1),
            is_persist_wanted: false,
            has_failed: false,
            encoded_bytes: 0,
        }
    }

    /// Bytes of everything that waits.
    pub(crate) fn memory_bytes(&self) -> u64 {
        heap::block(self.interest.capacity() * size_of::<Waiting<u64>>())
            + self.durable.iter().map(heap_bytes).sum::<u64>()
            + self.encoded_bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.interest.len() + self.durable.iter().map(VecDeque::len).sum::<usize>()
    }

    /// Holds an acknowledgement until its batch is durable: the one that is being gathered, or, for one that promises
    /// nothing itself, that of the acknowledgement before it.
    pub(crate) fn hold_until_durable(&mut self, level: Level, gated: Gated) {
        if self.has_failed {
            assert!(
                !matches!(gated.ack, PendingAck::ConnAck(_)),
                "a CONNECT is refused that would wait for ever"
            );
            return;
        }
        self.is_persist_wanted |= gated.must_persist;
        let durable = &mut self.durable[level as usize];
        let last = durable.back().map_or(self.gathering, |last| last.until);
        let until = if gated.must_persist { self.gathering } else { last };
        assert!(last <= until && until <= self.gathering);
        assert!(gated.must_persist || !durable.is_empty());
        assert!(self.is_persist_wanted || until < self.gathering);
        self.encoded_bytes += gated.ack.encoded_bytes();
        durable.push_back(Waiting { until, gated });
    }

    /// Holds an acknowledgement until all shards have acknowledged `announced` announcements.
    pub(crate) fn hold_until_known(&mut self, announced: u64, gated: Gated) {
        assert!(self.interest.back().is_none_or(|last| last.until <= announced));
        self.encoded_bytes += gated.ack.encoded_bytes();
        self.interest.push_back(Waiting { until: announced, gated });
    }

    /// The next acknowledgement that waited for `known` announcements or fewer.
    pub(crate) fn pop_known(&mut self, known: u64) -> Option<Gated> {
        let waiting = self.interest.pop_front_if(|first| first.until <= known)?;
        self.encoded_bytes -= waiting.gated.ack.encoded_bytes();
        Some(waiting.gated)
    }

    /// The next acknowledgement of this level that waited for `batch` or an earlier one.
    pub(crate) fn pop_durable(&mut self, level: Level, batch: Batch) -> Option<Gated> {
        let waiting = self.durable[level as usize].pop_front_if(|first| first.until <= batch)?;
        self.encoded_bytes -= waiting.gated.ack.encoded_bytes();
        assert!(waiting.until < self.gathering);
        Some(waiting.gated)
    }

    /// Nothing becomes durable any more. Returns the connections whose CONNACK was waited for.
    pub(crate) fn fail(&mut self) -> impl Iterator<Item = (ConnectionId, u64)> + use<> {
        self.has_failed = true;
        let durable = core::mem::take(&mut self.durable);
        for waiting in durable.iter().flatten() {
            self.encoded_bytes -= waiting.gated.ack.encoded_bytes();
        }
        let connacks = durable
            .into_iter()
            .flatten()
            .filter(|waiting| matches!(waiting.gated.ack, PendingAck::ConnAck(_)));
        connacks.map(|waiting| waiting.gated.connection())
    }

    /// Whether nothing becomes durable any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Something else waits until the batch that is being gathered is durable. Returns its number.
    pub(crate) fn await_batch(&mut self) -> Batch {
        self.is_persist_wanted = true;
        self.gathering
    }

    /// Whether anything waits for the batch that is being gathered.
    pub(crate) fn is_batch_awaited(&self) -> bool {
        self.is_persist_wanted
    }

    /// Ends the batch that is being gathered, and returns its number.
    pub(crate) fn end_batch(&mut self) -> Batch {
        self.is_persist_wanted = false;
        let batch = self.gathering;
        self.gathering.0 += 1;
        batch
    }

    /// Ends a step without a log: asks for one [`Action::Persist`] if anything of it has to be durable.
    pub(crate) fn end_step(&mut self, actions: &mut Actions) {
        if self.is_persist_wanted {
            actions.push(Action::Persist(self.end_batch()));
        }
    }

    /// The order that [`AckGate::pop_known`] and [`AckGate::pop_durable`] rely on, for an audit.
    ///
    /// # Panics
    /// If it is wrong.
    pub(crate) fn check(&self) {
        assert!(self.interest.iter().is_sorted_by_key(|waiting| waiting.until));
        let is_wanted = u64::from(self.is_persist_wanted);
        for durable in &self.durable {
            assert!(durable.iter().is_sorted_by_key(|waiting| waiting.until));
            assert!(durable.back().is_none_or(|last| last.until.0 < self.gathering.0 + is_wanted));
        }
        let interest = self.interest.iter().map(|waiting| waiting.gated.ack.encoded_bytes());
        let durable = self.durable.iter().flatten().map(|waiting| waiting.gated.ack.encoded_bytes());
        assert!(interest.chain(durable).sum::<u64>() == self.encoded_bytes);
    }

    /// How many acknowledgements each connection has here, and how many of them wait for other shards: for an audit.
    pub(crate) fn counts_of(&self, connection: ConnectionId, ordinal: u64) -> (usize, usize) {
        let is_its = |gated: &Gated| gated.connection == connection && gated.ordinal == ordinal;
        let interest = self.interest.iter().filter(|waiting| is_its(&waiting.gated)).count();
        let durable = self.durable.iter().flatten().filter(|waiting| is_its(&waiting.gated)).count();
        (interest + durable, interest)
    }
}

fn heap_bytes(durable: &VecDeque<Waiting<Batch>>) -> u64 {
    heap::block(durable.capacity() * size_of::<Waiting<Batch>>())
}
