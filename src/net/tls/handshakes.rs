//! Counts of handshakes of a listener, by their ends. A shard writes them once for each handshake; metrics and `$SYS` read them here.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The end of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeEnd {
    /// The connection is open, with keys and certificates of its own.
    Full,
    /// The connection is open, and goes on with the keys of an earlier one.
    Resumed,
    /// The peer was at fault.
    Failed,
    /// The peer left, or its time was over, before it was at an end.
    Unfinished,
}

impl HandshakeEnd {
    /// The name of each, in their order.
    pub(crate) const NAMES: [&str; 4] = ["full", "resumed", "failed", "unfinished"];
}

/// Handshakes in the order of [`HandshakeEnd::NAMES`].
pub(crate) type HandshakeCounts = [u64; HandshakeEnd::NAMES.len()];

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Handshakes([AtomicU64; HandshakeEnd::NAMES.len()]);

impl Handshakes {
    pub(super) fn count(&self, end: HandshakeEnd) {
        self.0[end as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn read(&self) -> HandshakeCounts {
        self.0.each_ref().map(|count| count.load(Relaxed))
    }
}
