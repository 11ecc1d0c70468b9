//! The identities that rooms hand each other: of a connection, a session and a stored message.
//! Invariant: only the table that owns a thing makes its identity, so each kind is a type of its own and none
//! can be taken for another.

use crate::base::slab::Key;

/// The identity of a network connection, never used again within 2³² tenants of its slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnectionId(Key);

impl ConnectionId {
    pub(crate) const fn new(key: Key) -> Self {
        Self(key)
    }

    pub(crate) const fn key(self) -> Key {
        self.0
    }

    /// The slot, dense from 0: an index for the host's own table.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.0.index()
    }

    /// The generation of the slot.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.0.generation()
    }
}

/// The identity of a session of this shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct SessionId(Key);

impl SessionId {
    pub(crate) const fn new(key: Key) -> Self {
        Self(key)
    }

    pub(crate) const fn key(self) -> Key {
        self.0
    }

    /// The slot, dense from 0: subscriptions name their session by it.
    pub(crate) const fn index(self) -> u32 {
        self.0.index()
    }
}

/// The slot of a message in the store. It names that message as long as its owner counts as a holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MessageKey(u32);

impl MessageKey {
    pub(crate) const fn new(index: u32) -> Self {
        Self(index)
    }

    pub(crate) const fn index(self) -> u32 {
        self.0
    }
}

// Sessions, queues and timers have many of them.
const _: () = assert!(size_of::<Option<ConnectionId>>() == 8 && size_of::<Option<SessionId>>() == 8);
const _: () = assert!(size_of::<MessageKey>() == 4);
