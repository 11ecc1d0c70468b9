//! Events: everything that the host feeds a step, and how much of it was taken.
//! Invariant: an event names its connection by an identity with a generation, so a late one is counted and ignored.

use crate::action::Batch;
use crate::base::ids::ConnectionId;
use crate::connection::authenticate::Verdict;
use crate::mesh::outbound::InboundItem;

/// Something that happened outside the engine.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Bytes arrived from a peer. [`Consumed`] tells how many were taken; the host keeps the rest and
    /// offers it again, before anything newer, once [`crate::Action::Resume`] names the connection.
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
        /// Of [`crate::Action::Authenticate`].
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
    /// The host did, after [`crate::Lend::Close`] or [`crate::Action::Abort`].
    Host,
}

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
