//! What goes into a step and what comes out of it.
//! Knows no I/O: the host translates both ways.

use alloc::vec::Vec;

use crate::base::ids::ConnectionId;
use crate::connection::authenticate::Verdict;
use crate::mesh::outbound::InboundItem;

/// Something that happened outside the engine.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Bytes arrived from a peer. [`Consumed`] tells how many were taken; the host keeps the rest and
    /// offers it again, before anything newer, once [`Action::Resume`] names the connection.
    Received {
        /// Whose.
        connection: ConnectionId,
        /// What arrived, following what was consumed before.
        bytes: &'a [u8],
    },
    /// The network connection is gone and nothing of its outbox is lent. Its identity ends here.
    Closed {
        /// Whose.
        connection: ConnectionId,
        /// Who ended it.
        by: ClosedBy,
    },
    /// Everything persisted up to and including this batch is on stable storage.
    Durable(Batch),
    /// The host has judged a step of authentication; whenever it likes, and other events may come in between.
    Authenticated {
        /// Whose.
        connection: ConnectionId,
        /// Of [`Action::Authenticate`].
        step: u64,
        /// What becomes of it.
        verdict: Verdict<'a>,
    },
    /// An item came out of a lane. Always taken whole, whatever this shard's own lanes are like.
    Inbox {
        /// The shard that sent it.
        source: u16,
        /// What came.
        item: InboundItem<'a>,
    },
    /// Another shard has taken in this many of our announcements since the start.
    Announced {
        /// That shard.
        target: u16,
        /// Its [`crate::Engine::announcements_seen`].
        count: u64,
    },
    /// The host publishes one of the broker's own messages, whose topic is `$SYS` or below and at home on this shard.
    Sys {
        /// Where to.
        topic: &'a str,
        /// What; the next one replaces it.
        payload: &'a [u8],
    },
    /// The operator closes a connection: its client is told 0x98, and its session goes on as it would without a
    /// DISCONNECT of the client.
    Disconnect {
        /// Whose; [`crate::Engine::connection_of`] tells.
        connection: ConnectionId,
    },
    /// Time passed, or [`crate::Engine::next_deadline`] was reached.
    Tick,
    /// The host is about to stop: no more packets are taken from clients, so that what they were promised is
    /// on its way, here and between shards, before [`Event::Stop`] tells them.
    Quiesce,
    /// The host stops: every client is told 0x8B and closed.
    Stop,
}

/// Who ended a network connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClosedBy {
    /// The peer closed or reset it.
    Peer,
    /// The host did, after [`crate::Lend::Close`] or [`Action::Abort`].
    Host,
}

/// Everything the engine asked to persist up to some step. Grows by one each time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Batch(pub u64);

/// How much of an event was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "bytes that were not consumed must be offered again"]
pub struct Consumed {
    /// Bytes of [`Event::Received`]; always all of them unless credit was short. 0 for other events.
    pub bytes: usize,
    /// The peer said DISCONNECT and is owed nothing more: the host may close at once, and need not wait until the peer has.
    pub may_close_at_once: bool,
}

impl Consumed {
    pub(crate) const fn of(bytes: usize) -> Self {
        Self { bytes, may_close_at_once: false }
    }
}

/// Something the host must do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The outbox has bytes, or an end, to be sent: lend until it answers `Idle` or `Close`. Named
    /// once until then.
    Flush(ConnectionId),
    /// There is credit again: offer what this connection's bytes were not consumed of.
    Resume(ConnectionId),
    /// Close at once; what is in the outbox is given up.
    Abort(ConnectionId),
    /// Judge what [`crate::Engine::authentication_step`] gives and answer [`Event::Authenticated`]. Until then the exchange
    /// rests, and nothing else does.
    Authenticate {
        /// Which connection.
        connection: ConnectionId,
        /// Which step; each has a number of its own.
        step: u64,
    },
    /// The session of this connection lives on shard `home`: take what [`crate::Engine::complete_hand_over`] gives, add
    /// the bytes that were not consumed, and have that shard accept the socket and receive them.
    HandOver {
        /// Which connection.
        connection: ConnectionId,
        /// The shard of its session.
        home: u16,
    },
    /// Make everything up to this batch durable and answer [`Event::Durable`]. At most one a step.
    Persist(Batch),
}

/// The actions of a turn. The engine appends, the host drains; the allocation is reused.
///
/// Bound: `Flush`, `Resume`, `Abort`, `HandOver` and `Authenticate` name a connection at most once until it was served,
/// and there is one `Persist` for each step.
#[derive(Debug, Default)]
pub struct Actions {
    list: Vec<Action>,
}

impl Actions {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self { list: Vec::new() }
    }

    pub(crate) fn push(&mut self, action: Action) {
        self.list.push(action);
    }

    /// Takes all actions, oldest first; the allocation stays.
    pub fn drain(&mut self) -> impl Iterator<Item = Action> + '_ {
        self.list.drain(..)
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
