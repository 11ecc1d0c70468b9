//! Bytes that no engine sees, by purpose: those of threads beside the shards, and those between two shards. The first shard adds them to
//! what it counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Users, what is remembered of their passwords, clients that wait for a verdict, and the memory of slow hashes.
pub(crate) static AUTHENTICATION: HeldBytes = HeldBytes::new();

/// Large messages and connections on their way from one shard to another.
pub(crate) static LANES: HeldBytes = HeldBytes::new();

/// Requests of operators, and the answers to them.
pub(crate) static OPERATORS: HeldBytes = HeldBytes::new();

/// Bytes held for one purpose. **Lives on:** any thread.
#[derive(Debug)]
pub(crate) struct HeldBytes(AtomicU64);

impl HeldBytes {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts so many bytes until the hold is dropped.
    pub(crate) fn hold(&'static self, bytes: usize) -> Hold {
        let mut hold = Hold { of: self, bytes: 0 };
        hold.resize(bytes);
        hold
    }

    /// Bytes that are held now.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Bytes that count until it is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    of: &'static HeldBytes,
    bytes: u64,
}

impl Hold {
    /// So many bytes are held from now on.
    pub(crate) fn resize(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        // Wrapping, because the difference may be negative; the sum is not.
        self.of.0.fetch_add(bytes.wrapping_sub(self.bytes), Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_as_long_as_they_are_held() {
        static BYTES: HeldBytes = HeldBytes::new();
        let (one, mut other) = (BYTES.hold(100), BYTES.hold(1_000));
        assert_eq!(BYTES.bytes(), 1_100);
        other.resize(10);
        assert_eq!(BYTES.bytes(), 110);
        drop(one);
        assert_eq!(BYTES.bytes(), 10);
        drop(other);
        assert_eq!(BYTES.bytes(), 0);
    }
}
