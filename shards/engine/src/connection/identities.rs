//! The names of clients that are known before their CONNECT: see `identify.rs`. They are kept until CONNECT comes.
//!
//! Invariant: a name has at most `Limits::client_id_bytes_max` bytes, and a connection has one at most.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use crate::base::heap;
use crate::base::ids::ConnectionId;

/// **Lives on:** every shard. **Sees:** the connections of listeners that take client identifiers from elsewhere.
#[derive(Debug, Default)]
pub(super) struct Identities {
    /// By slot. An empty name is one that cannot be an identifier.
    names: BTreeMap<u32, (ConnectionId, Box<str>)>,
    name_bytes: u64,
}

impl Identities {
    /// Keeps the name of a connection in place of the one before.
    pub(super) fn insert(&mut self, id: ConnectionId, name: Box<str>) {
        self.forget(id);
        self.name_bytes += heap::block(name.len());
        let replaced = self.names.insert(id.slot(), (id, name));
        assert!(replaced.is_none());
    }

    pub(super) fn of(&self, id: ConnectionId) -> Option<&str> {
        self.names.get(&id.slot()).filter(|(owner, _)| *owner == id).map(|(_, name)| &**name)
    }

    /// Forgets the name of a connection, if it has one.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        if let Some((_, name)) = self.names.remove(&id.slot()) {
            assert!(self.name_bytes >= heap::block(name.len()));
            self.name_bytes -= heap::block(name.len());
        }
    }

    /// Bytes held, about.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.names.len() as u64 * heap::block(size_of::<(u32, ConnectionId, Box<str>)>()) + self.name_bytes
    }

    /// The connections that have a name, for an audit.
    ///
    /// # Panics
    /// If the count of bytes is wrong.
    pub(super) fn check(&self) -> impl Iterator<Item = ConnectionId> {
        let bytes = self.names.values().map(|(_, name)| heap::block(name.len())).sum::<u64>();
        assert!(bytes == self.name_bytes);
        self.names.values().map(|(id, _)| *id)
    }
}
