//! The way of a message from its publisher to the sessions of this shard.
//!
//! Invariant: each matched message is sent, queued or dropped for each session, and the session's ledger says which.

pub(crate) mod admission;
pub(crate) mod awaited;
mod durable;
pub(crate) mod fan_out;
pub(crate) mod matches;
mod pending;
pub(crate) mod spread;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::action::Batch;
use crate::base::hash::Keyed;
use crate::base::heap;
use crate::base::ids::{MessageKey, SessionId};
use crate::base::long_queue::LongQueue;
use crate::connection::Connections;
use crate::limits::Limits;
use crate::message::stored::{MessageStore, StoredMessage};
use crate::record::first_number;
use crate::session::Session;
use crate::session::table::Sessions;
use crate::session::user::Users;

use awaited::Awaited;
use matches::Match;

/// Everything that the delivery of a message to a session of this shard touches.
///
/// **Lives on:** every shard. **Sees:** connections and sessions owned here, and the messages held for them.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) sessions: Sessions,
    pub(crate) connections: Connections,
    pub(crate) messages: MessageStore,
    hasher: Keyed,
    /// Publishes so far: tells old from new, and one fan-out from the next.
    publish_sequence: u64,
    /// Sessions with pending messages that a step had no time for; each at most once.
    unfinished: LongQueue<SessionId>,
    /// Packets that wait for the log, oldest first.
    durable_waits: VecDeque<(Batch, SessionId, Awaited)>,
    /// How many of them the fan-out of this step brought about.
    fan_out_waits: usize,
    /// The key of the group of which a member is offered a message.
    group: (u64, bool),
    /// The last batch that is durable.
    synced: Batch,
    /// Kept for their allocations.
    matches: Vec<Match>,
    stored_copy: StoredMessage,
}

impl Delivery {
    pub(crate) fn new(hasher: Keyed, limits: &Limits) -> Self {
        Self {
            sessions: Sessions::new(hasher),
            connections: Connections::new(hasher, limits),
            messages: MessageStore::new(limits),
            hasher,
            // Above the numbers of every start before.
            publish_sequence: limits.journal_start.map_or(0, first_number),
            unfinished: LongQueue::new(),
            durable_waits: VecDeque::new(),
            fan_out_waits: 0,
            group: (0, false),
            synced: Batch(0),
            matches: Vec::new(),
            stored_copy: StoredMessage::default(),
        }
    }

    /// Bytes of the lists of sessions with pending messages, and of packets that wait for the log.
    pub(crate) fn list_bytes(&self) -> u64 {
        self.unfinished.bytes_held()
            + heap::block(self.durable_waits.capacity() * size_of::<(Batch, SessionId, Awaited)>())
    }

    /// The number of the last publish.
    pub(crate) fn publish_sequence(&self) -> u64 {
        self.publish_sequence
    }

    /// The log was read up to the publish with this number.
    pub(crate) fn set_publish_sequence(&mut self, sequence: u64) {
        self.publish_sequence = sequence;
    }

    /// Numbers one more publish.
    pub(crate) fn next_publish(&mut self) -> u64 {
        self.publish_sequence += 1;
        self.publish_sequence
    }

    /// The tables whose entries a retained message holds.
    pub(crate) fn retention(&mut self) -> (&mut MessageStore, &mut Users) {
        (&mut self.messages, self.sessions.users_mut())
    }

    /// Whether a session has a connection that may be sent to.
    pub(crate) fn is_online(&self, session: &Session) -> bool {
        let connection = session.connection().and_then(|id| self.connections.get(id));
        connection.is_some_and(super::connection::Connection::is_open)
    }

    /// Hashes a topic for what a session was sent live.
    pub(crate) fn topic_hash(&self, topic: &str) -> u64 {
        self.hasher.bytes(topic.as_bytes())
    }

    /// Compares the list of sessions whose pending messages wait with the sessions, for an audit.
    ///
    /// # Panics
    /// If one that waits is not in the list, or is in it twice.
    pub(crate) fn check_unfinished(&self) {
        let listed = self.unfinished.iter().filter_map(|&id| self.sessions.get(id));
        assert!(listed.clone().all(Session::is_pending_deferred));
        let deferred = self.sessions.iter().filter(|(_, session)| session.is_pending_deferred());
        assert!(listed.count() == deferred.count());
    }

    /// Lends a copy of a stored message, from which it is delivered; [`Delivery::return_copy`] gives it back.
    pub(crate) fn lend_copy(&mut self, key: MessageKey) -> StoredMessage {
        let mut copy = core::mem::take(&mut self.stored_copy);
        self.messages.copy_to(key, &mut copy);
        copy
    }

    pub(crate) fn return_copy(&mut self, copy: StoredMessage) {
        assert!(self.stored_copy.bytes_held() == 0);
        self.stored_copy = copy;
    }
}
