//! The payloads that outboxes share. One that goes to many receivers counts once, however many outboxes hold it: memory holds it once.
//!
//! Invariants worth naming:
//! - A payload counts from its first holder to its last. So it is never counted too low: each holder alone keeps it alive.
//! - Only the payload that was shared last is recognised, because the receivers of a fan-out follow each other. One that comes again
//!   later, such as by a redelivery, counts once more.

use bytes::Bytes;

use crate::base::heap;
use crate::base::pool::{NONE, Pool};

/// A payload and the pieces of outboxes that hold it. Its address tells it from others while one of them does.
#[derive(Debug)]
struct Entry {
    address: usize,
    bytes: usize,
    holders: u32,
}

/// **Lives on:** every shard.
#[derive(Debug)]
pub(super) struct Payloads {
    entries: Pool<Entry>,
    last: u32,
}

/// A payload in an outbox, counted with the others that are the same.
#[derive(Debug)]
pub(super) struct SharedPayload {
    payload: Bytes,
    entry: u32,
}

impl SharedPayload {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.payload
    }
}

impl Payloads {
    pub(super) const fn new() -> Self {
        Self { entries: Pool::new(), last: NONE }
    }

    /// One more piece holds a payload. Returns with it by how many bytes memory grows.
    pub(super) fn hold(&mut self, payload: Bytes) -> (SharedPayload, u64) {
        let (address, bytes) = (payload.as_ptr().addr(), payload.len());
        if self.entries.holds(self.last) {
            let last = self.entries.get_mut(self.last);
            if (last.address, last.bytes) == (address, bytes) {
                last.holders += 1;
                return (SharedPayload { payload, entry: self.last }, 0);
            }
        }
        self.last = self.entries.insert(Entry { address, bytes, holders: 1 });
        (SharedPayload { payload, entry: self.last }, heap::block(bytes))
    }

    /// A piece holds its payload no longer. Returns by how many bytes memory shrinks.
    pub(super) fn release(&mut self, held: SharedPayload) -> u64 {
        let SharedPayload { payload, entry: number } = held;
        let entry = self.entries.get_mut(number);
        assert!(entry.address == payload.as_ptr().addr() && entry.holders > 0);
        entry.holders -= 1;
        drop(payload);
        if entry.holders > 0 {
            return 0;
        }
        heap::block(self.entries.remove(number).bytes)
    }

    /// Bytes of the table.
    pub(super) fn table_bytes(&self) -> u64 {
        self.entries.bytes_held()
    }

    /// Bytes of all payloads, for an audit.
    pub(super) fn check(&self) -> u64 {
        self.entries.check();
        assert!(self.entries.iter().all(|(_, entry)| entry.holders > 0));
        self.entries.iter().map(|(_, entry)| heap::block(entry.bytes)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_counts_once_from_its_first_holder_to_its_last() {
        let mut payloads = Payloads::new();
        let (one, other) = (Bytes::from(alloc::vec![1; 5_000]), Bytes::from(alloc::vec![2; 9_000]));
        let counted = heap::block(5_000);
        let (first, grown) = payloads.hold(one.clone());
        assert_eq!(grown, counted);
        let (second, grown) = payloads.hold(one.clone());
        assert_eq!((grown, payloads.check()), (0, counted));
        let (third, grown) = payloads.hold(other);
        assert_eq!(grown, heap::block(9_000));
        // It is not the last one any more.
        let (fourth, grown) = payloads.hold(one);
        assert_eq!(grown, counted);
        assert_eq!(fourth.bytes(), [1; 5_000]);
        assert_eq!(payloads.release(first), 0);
        assert_eq!(payloads.release(fourth), counted);
        assert_eq!(payloads.release(second), counted);
        assert_eq!(payloads.release(third), heap::block(9_000));
        assert_eq!(payloads.check(), 0);
        assert!(payloads.table_bytes() > 0);
    }
}
