//! The events that go into a step and the actions that come out of it. The host translates between these and its I/O.

use alloc::vec::Vec;

use crate::base::ids::ConnectionId;
use crate::connection::authenticate::Verdict;
use crate::mesh::outbound::InboundItem;

/// Something that happened outside the engine.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Bytes arrived from a peer. [`Consumed`] says how many were taken. The host keeps the rest and
    /// offers it again, before anything newer, once [`Action::Resume`] names the connection.
    Received {
        /// The connection of that peer.
        connection: ConnectionId,
        /// The bytes that follow the ones consumed before.
        bytes: &'a [u8],
    },
    /// The network connection is gone and nothing of its outbox is lent. Its identity ends here.
    Closed {
        /// The connection that ended.
        connection: ConnectionId,
        /// The side that ended it.
        by: ClosedBy,
    },
    /// Everything persisted up to and including this batch is on stable storage.
    Durable(Batch),
    /// The host has judged a step of authentication. It may take its time; other events may come in between.
    Authenticated {
        /// The connection of the exchange.
        connection: ConnectionId,
        /// The step that [`Action::Authenticate`] named.
        step: u64,
        /// The judgement.
        verdict: Verdict<'a>,
    },
    /// An item came out of a lane. It is always taken whole, even while this shard's own lanes are full.
    Inbox {
        /// The shard that sent it.
        source: u16,
        /// The item.
        item: InboundItem<'a>,
    },
    /// Another shard has taken in that many announcements of this shard since the start.
    Announced {
        /// The other shard.
        target: u16,
        /// Its [`crate::Engine::announcements_seen`].
        count: u64,
    },
    /// The host publishes one of the broker's own messages, whose topic is `$SYS` or below and at home on this shard.
    Sys {
        /// The topic.
        topic: &'a str,
        /// The payload. It replaces the one published before.
        payload: &'a [u8],
    },
    /// The operator closes a connection: its client is sent 0x98, and its session goes on as it would without a
    /// DISCONNECT of the client.
    Disconnect {
        /// The connection, as [`crate::Engine::connection_of`] returns it.
        connection: ConnectionId,
    },
    /// Time passed, or [`crate::Engine::next_deadline`] was reached.
    Tick,
    /// The host is about to stop. No more packets are taken from clients, so that every acknowledged message is on its way,
    /// here and between shards, before [`Event::Stop`] closes the connections.
    Quiesce,
    /// The host stops: every client is sent 0x8B and closed.
    Stop,
}

/// The side that ended a network connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClosedBy {
    /// The peer closed or reset it.
    Peer,
    /// The host closed it, after [`crate::Lend::Close`] or [`Action::Abort`].
    Host,
}

/// Everything that the engine asked to persist up to some step. The number grows by one each time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Batch(pub u64);

/// How much of an event was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "bytes that were not consumed must be offered again"]
pub struct Consumed {
    /// Bytes of [`Event::Received`]; always all of them unless credit was short. 0 for other events.
    pub bytes: usize,
    /// The peer sent DISCONNECT and is owed nothing more: the host may close at once, without waiting for the peer to close.
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
    /// There is credit again: offer the bytes of this connection that were not consumed.
    Resume(ConnectionId),
    /// Close at once. The bytes in the outbox are given up.
    Abort(ConnectionId),
    /// Judge the step that [`crate::Engine::authentication_step`] returns and answer [`Event::Authenticated`]. Until then
    /// this exchange waits, and nothing else does.
    Authenticate {
        /// The connection of the exchange.
        connection: ConnectionId,
        /// The number of the step. No two steps have the same one.
        step: u64,
    },
    /// The session of this connection lives on shard `home`: take the bytes that
    /// [`crate::Engine::complete_hand_over`] returns, append the bytes that were not consumed, and have that shard accept the
    /// socket and receive them.
    HandOver {
        /// The connection to hand over.
        connection: ConnectionId,
        /// The shard of its session.
        home: u16,
    },
    /// Make everything up to this batch durable and answer [`Event::Durable`]. At most one a step.
    Persist(Batch),
}

/// The actions of a turn. The engine appends and the host drains them; the allocation is reused.
///
/// Bound: `Flush`, `Resume`, `Abort`, `HandOver` and `Authenticate` name a connection at most once until it was served,
/// and there is one `Persist` for each step.
#[derive(Debug, Default)]
pub struct Actions {
    list: Vec<Action>,
}

impl Actions {
    /// No actions.
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
