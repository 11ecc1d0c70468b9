//! The one ledger of bytes: what a shard holds, by kind, from the real sizes of its structures.
//!
//! Each room counts the bytes that it owns, by capacity and with what the allocator adds; this file alone adds them up. A structure
//! that only grows counts by the highest slot that was ever used, because the system gives a large allocation its pages as they are
//! touched.

mod pressure;
mod shedding;

use alloc::boxed::Box;
use alloc::vec::Vec;

pub(crate) use pressure::Pressure;
pub use pressure::{Budget, Elsewhere, MemoryLevel};
pub(crate) use shedding::Shedding;

/// The purpose that bytes are held for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryKind {
    /// Slots of connections, their acknowledgements at the gate, all timers, and what the host holds for them and for operators.
    Connections,
    /// Bytes that wait to be sent, and the buffers kept for them.
    Outboxes,
    /// Packets of which a part has come.
    PartialPackets,
    /// CONNECTs of clients that are being authenticated, users, remembered passwords, and the memory of slow hashes.
    Authentications,
    /// Topic aliases that clients set.
    AliasesIn,
    /// Topic aliases set towards clients.
    AliasesOut,
    /// Slots of sessions, their identifiers, and retained messages that they are still to be sent.
    Sessions,
    /// Wills of sessions.
    Wills,
    /// Messages queued and in flight, each once, and the entries that name them.
    Queues,
    /// Retained messages, also while a session is sent them.
    Retained,
    /// Topic filters, subscriptions, groups, and the interest of other shards.
    Subscriptions,
    /// Items in the lanes to other shards and before them, and blocks kept for them; and records on their way to the log.
    Lanes,
}

impl MemoryKind {
    /// Every kind, in the order of [`MemoryKind::index`].
    pub const ALL: [Self; 12] = [
        Self::Connections,
        Self::Outboxes,
        Self::PartialPackets,
        Self::Authentications,
        Self::AliasesIn,
        Self::AliasesOut,
        Self::Sessions,
        Self::Wills,
        Self::Queues,
        Self::Retained,
        Self::Subscriptions,
        Self::Lanes,
    ];

    /// Position in [`MemoryKind::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name under which it is shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Outboxes => "outboxes",
            Self::PartialPackets => "partial_packets",
            Self::Authentications => "authentications",
            Self::AliasesIn => "aliases_in",
            Self::AliasesOut => "aliases_out",
            Self::Sessions => "sessions",
            Self::Wills => "wills",
            Self::Queues => "queues",
            Self::Retained => "retained",
            Self::Subscriptions => "subscriptions",
            Self::Lanes => "lanes",
        }
    }
}

/// Bytes that the host holds, which count as the engine's own.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HostMemory {
    /// For connections: sockets, tasks, bytes that the engine has not taken.
    pub connections: u64,
    /// For clients that are being authenticated, and what was learned of them.
    pub authentications: u64,
    /// In the lanes to other shards, and records on their way to the log.
    pub lanes: u64,
}

/// Bytes held by one shard, by kind.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MemoryUse {
    bytes: [u64; MemoryKind::ALL.len()],
}

impl MemoryUse {
    /// From the bytes of each kind; a kind that is not named has none.
    pub(crate) fn of(kinds: impl IntoIterator<Item = (MemoryKind, u64)>) -> Self {
        let mut bytes = [0; MemoryKind::ALL.len()];
        for (kind, held) in kinds {
            bytes[kind.index()] += held;
        }
        Self { bytes }
    }

    /// Bytes of one kind.
    #[must_use]
    pub const fn of_kind(&self, kind: MemoryKind) -> u64 {
        self.bytes[kind.index()]
    }

    /// Bytes of all kinds, in the order of [`MemoryKind::ALL`].
    #[must_use]
    pub const fn kinds(&self) -> [u64; MemoryKind::ALL.len()] {
        self.bytes
    }

    /// Bytes of everything.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.bytes.iter().sum()
    }
}

/// The level of memory, and the clients of this shard that hold the most.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryReport {
    /// The level when the search for them began.
    pub level: MemoryLevel,
    /// Their identifiers, cut to [`crate::NOTICE_TEXT_BYTES_MAX`], with the bytes in their outbox and queue, of their aliases and their
    /// will; the largest first.
    pub holders: Vec<(Box<str>, u64)>,
}

/// Bytes that sessions hold each by itself. A session changes while nothing else of its table is in reach, so it notes here by how
/// much it has grown or shrunk.
#[derive(Debug, Default)]
pub(crate) struct Held {
    deliveries: u64,
    replays: u64,
}

impl Held {
    /// Queues, windows and handshakes of sessions.
    pub(crate) fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Retained replays under way.
    pub(crate) fn replays(&self) -> u64 {
        self.replays
    }

    /// The deliveries of one session took `before` bytes and take `after`.
    pub(crate) fn note_deliveries(&mut self, before: u64, after: u64) {
        assert!(self.deliveries >= before);
        self.deliveries = self.deliveries - before + after;
    }

    /// The replays of one session took `before` bytes and take `after`.
    pub(crate) fn note_replays(&mut self, before: u64, after: u64) {
        assert!(self.replays >= before);
        self.replays = self.replays - before + after;
    }
}

/// Bytes of one entry of a B-tree, whose nodes of eleven are between half full and full.
pub(crate) const fn tree_entry_bytes(entry: usize) -> u64 {
    entry as u64 * 3 / 2 + 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_add_up_and_are_in_the_order_of_their_index() {
        let kinds = MemoryKind::ALL.map(|kind| (kind, 1 << kind.index()));
        let held = MemoryUse::of(kinds);
        assert_eq!(held.total(), (1 << MemoryKind::ALL.len()) - 1);
        assert!(MemoryKind::ALL.iter().all(|&kind| held.of_kind(kind) == 1 << kind.index()));
    }
}
