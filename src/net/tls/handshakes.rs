//! Counts of handshakes of a listener, by kind and result. A shard writes them once for each handshake.

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
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Handshakes([AtomicU64; 3]);

impl Handshakes {
    pub(super) fn count(&self, end: HandshakeEnd) {
        self.0[end as usize].fetch_add(1, Relaxed);
    }

    /// Kind, result and count.
    #[cfg(feature = "admin")]
    pub(super) fn read(&self) -> [(&'static str, &'static str, u64); 3] {
        let count = |end: HandshakeEnd| self.0[end as usize].load(Relaxed);
        [
            ("full", "ok", count(HandshakeEnd::Full)),
            ("resumed", "ok", count(HandshakeEnd::Resumed)),
            ("none", "failed", count(HandshakeEnd::Failed)),
        ]
    }
}
