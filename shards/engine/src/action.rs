//! Actions: the requests of the engine to its host, gathered during a turn.
//!
//! Invariant: an action names a connection at most once until the host has served it, so their number is bounded by the
//! connections.

use alloc::vec::Vec;

use crate::base::ids::ConnectionId;
use crate::notice::Notice;

/// Everything that the engine asked to persist up to some moment. The number grows by one each time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Batch(pub u64);

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
    /// The peer was silent for as long as it may be: look whether bytes of it, or its end, wait in its socket, and answer
    /// [`crate::Event::Peeked`].
    Peek(ConnectionId),
    /// Judge the step that [`crate::Engine::authentication_step`] returns and answer [`crate::Event::Authenticated`]. Until then
    /// this exchange waits. On an open connection nothing else does; before CONNACK nothing else is read.
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
    /// Make everything up to this batch durable and answer [`crate::Event::Durable`]. At most one a step. With a log there is none:
    /// [`crate::Engine::records`] says what has to become durable.
    Persist(Batch),
}

/// The actions of a turn. The engine appends and the host drains them; the allocation is reused.
///
/// Bound: `Flush`, `Resume`, `Abort`, `HandOver`, `Peek` and `Authenticate` name a connection at most once until it was
/// served, and there is one `Persist` for each step. A connection has at most two notices, and none unless
/// `Limits::connection_notices` asks for them.
#[derive(Debug, Default)]
pub struct Actions {
    list: Vec<Action>,
    notices: Vec<Notice>,
}

impl Actions {
    /// No actions.
    #[must_use]
    pub const fn new() -> Self {
        Self { list: Vec::new(), notices: Vec::new() }
    }

    pub(crate) fn push(&mut self, action: Action) {
        self.list.push(action);
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    /// Takes all notices, oldest first; the allocation stays.
    pub fn drain_notices(&mut self) -> impl Iterator<Item = Notice> + '_ {
        self.notices.drain(..)
    }

    /// Takes all actions, oldest first; the allocation stays.
    pub fn drain(&mut self) -> impl Iterator<Item = Action> + '_ {
        self.list.drain(..)
    }

    /// Whether there is nothing to do. Notices are nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
