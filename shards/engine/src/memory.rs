//! The one ledger of bytes: what a shard holds, by kind, and whether that is more than it may.
//!
//! Each room counts the bytes that it owns; this file alone adds them up and compares them with the ceiling.

use crate::limits::Limits;

/// Bytes held by one shard.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MemoryUse {
    /// Topics, properties and payloads of messages: queued, in flight and retained, each once.
    pub messages: u64,
    /// Bytes that wait to be sent.
    pub outboxes: u64,
    /// Wills of sessions.
    pub wills: u64,
    /// Texts of topic filters and names of groups.
    pub filters: u64,
    /// CONNECTs of clients that are being authenticated.
    pub authentications: u64,
    /// Topic aliases in both directions, with their tables.
    pub aliases: u64,
    /// Packets of which a part has come.
    pub partial_packets: u64,
}

impl MemoryUse {
    /// Bytes of everything but partial packets: a connection that waits until this is less must not wait for others
    /// that wait in the middle of theirs.
    #[must_use]
    pub const fn settled(&self) -> u64 {
        self.messages + self.outboxes + self.wills + self.filters + self.authentications + self.aliases
    }

    /// Bytes of everything.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.settled() + self.partial_packets
    }

    /// Whether new work is refused, or waits.
    pub(crate) const fn is_over_ceiling(&self, limits: &Limits) -> bool {
        limits.memory_bytes_max > 0 && self.settled() >= limits.memory_bytes_max
    }

    /// Whether a long packet that has not come whole may not grow any more.
    pub(crate) const fn is_over_ceiling_in_all(&self, limits: &Limits) -> bool {
        limits.memory_bytes_max > 0 && self.total() >= limits.memory_bytes_max
    }
}
