//! The bytes that connections hold without being known, in their order: see `unjudged.rs`.
//!
//! Invariant: an entry for each connection that holds any, and `bytes` is their sum. A change and a search cost a logarithm of their
//! number.

use alloc::collections::BTreeMap;
use core::cmp::Reverse;

use crate::base::ids::ConnectionId;

/// **Lives on:** every shard. **Sees:** the connections that hold bytes and have no verdict.
#[derive(Debug, Default)]
pub(super) struct UnjudgedBytes {
    /// The connections that hold any, by their bytes and then their age; the last one is to be closed first.
    by_bytes: BTreeMap<(u64, Reverse<u64>), ConnectionId>,
    bytes: u64,
}

impl UnjudgedBytes {
    /// Replaces the bytes of a connection: `before` by `after`.
    pub(super) fn replace(&mut self, id: ConnectionId, ordinal: u64, (before, after): (u64, u64)) {
        if before == after {
            return;
        }
        if before > 0 {
            let removed = self.by_bytes.remove(&(before, Reverse(ordinal)));
            assert!(removed == Some(id));
            assert!(self.bytes >= before);
            self.bytes -= before;
        }
        if after > 0 {
            let replaced = self.by_bytes.insert((after, Reverse(ordinal)), id);
            assert!(replaced.is_none());
            self.bytes += after;
        }
    }

    /// Bytes of all of them.
    pub(super) fn total(&self) -> u64 {
        self.bytes
    }

    /// The connection that holds most; of equals the oldest.
    pub(super) fn largest(&self) -> Option<ConnectionId> {
        self.by_bytes.last_key_value().map(|(_, &id)| id)
    }

    /// Bytes, age and identity of each, for an audit.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64, ConnectionId)> {
        self.by_bytes.iter().map(|(&(bytes, Reverse(ordinal)), &id)| (bytes, ordinal, id))
    }
}
