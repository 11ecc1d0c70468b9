//! Actions: the requests of the engine to its host, gathered during a turn.
//!
//! Invariant: an action names a connection at most once until the host has served it, so their number is bounded by the
//! connections.

use alloc::vec::Vec;

use crate::base::ids::ConnectionId;

/// Everything the engine asked to persist up to some step. Grows by one each time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Batch(pub u64);

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
