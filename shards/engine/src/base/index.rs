//! A hash table of slot numbers that grows by one bucket at a time: from a keyed hash to a slot of a pool.
//!
//! A table that doubles moves all its entries in the one step that happens to fill it: 0.3 s for a million. Here an insertion that
//! would fill it adds one bucket, and moves the entries of one other bucket that belong there (*linear hashing*). So the work of an
//! insertion is that of a bucket, however large the table is.
//!
//! Invariants worth naming:
//! - It stores no key. The caller compares the slots, because they hold the keys already. 32 bits of the hash are kept, so hardly any
//!   other slot is compared, and none is looked at when entries move.
//! - There are as many buckets as there were ever entries. So a bucket has one entry on average.
//! - Hashes are keyed, so nobody can choose entries of one bucket.

use super::pool::{NONE, number};
use super::slots::Slots;

#[derive(Clone, Copy, Default, Debug)]
struct Entry {
    hash: u32,
    /// The next slot in the bucket.
    next: u32,
}

/// Slot numbers by the hash of their slots' keys. A slot is in it at most once.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// The first slot of each bucket.
    buckets: Slots<u32>,
    /// All bits of the highest number of a bucket: so many bits of a hash name one.
    mask: u32,
    /// By slot.
    entries: Slots<Entry>,
    len: usize,
}

impl Index {
    pub(crate) const fn new() -> Self {
        Self { buckets: Slots::new(), mask: 0, entries: Slots::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the table.
    pub(crate) fn bytes_held(&self) -> u64 {
        self.buckets.bytes_held() + self.entries.bytes_held()
    }

    /// The slot of that hash for which `is_wanted` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_wanted: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = short(hash);
        let mut slot = *self.buckets.get(self.bucket_of(hash))?;
        while slot != NONE {
            let entry = self.entries[slot];
            if entry.hash == hash && is_wanted(slot) {
                return Some(slot);
            }
            slot = entry.next;
        }
        None
    }

    /// Has room for this slot, though it may never be inserted: so that the room for many is not made in one step.
    pub(crate) fn cover(&mut self, slot: u32) {
        while self.entries.len() <= slot as usize {
            self.entries.push(Entry { hash: 0, next: NONE });
        }
    }

    /// Adds a slot. Returns how many entries it moved.
    pub(crate) fn insert(&mut self, hash: u64, slot: u32) -> u32 {
        let hash = short(hash);
        self.cover(slot);
        self.len += 1;
        let moved = if self.len > self.buckets.len() { self.add_bucket() } else { 0 };
        let bucket = self.bucket_of(hash);
        self.entries[slot] = Entry { hash, next: self.buckets[bucket] };
        self.buckets[bucket] = slot;
        moved
    }

    /// Removes a slot that was inserted under this hash.
    ///
    /// # Panics
    /// If it is not there.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32) {
        let bucket = self.bucket_of(short(hash));
        let next = self.entries[slot].next;
        let mut at = self.buckets[bucket];
        if at == slot {
            self.buckets[bucket] = next;
        } else {
            while self.entries[at].next != slot {
                at = self.entries[at].next;
            }
            self.entries[at].next = next;
        }
        assert!(self.len > 0);
        self.len -= 1;
    }

    /// The bucket of a hash: by as many of its bits as number all buckets, or by one bit less if that bucket does not exist yet.
    #[inline]
    fn bucket_of(&self, hash: u32) -> u32 {
        let bucket = hash & self.mask;
        if (bucket as usize) < self.buckets.len() { bucket } else { bucket & self.mask >> 1 }
    }

    /// Adds a bucket, and moves the entries there that belong there now. All come from one bucket.
    fn add_bucket(&mut self) -> u32 {
        let added = number(self.buckets.len());
        self.buckets.push(NONE);
        self.mask |= added;
        if added == 0 {
            return 0;
        }
        // The highest bit of its number is the one that the entries of both differ in.
        let source = added & !(1 << added.ilog2());
        let mut slot = core::mem::replace(&mut self.buckets[source], NONE);
        let mut moved = 0;
        while slot != NONE {
            let entry = self.entries[slot];
            let bucket = self.bucket_of(entry.hash);
            assert!(bucket == source || bucket == added);
            self.entries[slot].next = core::mem::replace(&mut self.buckets[bucket], slot);
            (slot, moved) = (entry.next, moved + 1);
        }
        moved
    }

    /// Follows every bucket, for an audit.
    ///
    /// # Panics
    /// If an entry is in a wrong bucket, or a count is wrong.
    pub(crate) fn check(&self) {
        let mut count = 0;
        for (bucket, &first) in (0..).zip(self.buckets.iter()) {
            let mut slot = first;
            while slot != NONE {
                let entry = self.entries[slot];
                assert!(self.bucket_of(entry.hash) == bucket);
                (slot, count) = (entry.next, count + 1);
                assert!(count <= self.len);
            }
        }
        assert!(count == self.len && self.len <= self.buckets.len());
    }
}

/// The part of a hash that is kept. All bits of a keyed hash are equally good.
#[inline]
fn short(hash: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the rest is not needed")]
    let short = hash as u32;
    short
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::base::hash::{Entropy, Keyed};

    #[test]
    fn entries_come_and_go_and_each_is_found() {
        let hasher = Keyed::new(Entropy(5));
        let hash = |slot: u32| hasher.pair(slot, 7);
        let mut index = Index::new();
        assert_eq!(index.find(hash(0), |_| true), None);
        let mut held = Vec::new();
        let mut seed = 1u64;
        for _ in 0..30_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let slot = u32::try_from(seed >> 52).unwrap();
            if let Some(at) = held.iter().position(|&other| other == slot) {
                held.swap_remove(at);
                index.remove(hash(slot), slot);
            } else {
                held.push(slot);
                index.insert(hash(slot), slot);
            }
            assert_eq!(index.len(), held.len());
        }
        index.check();
        for slot in 0..4_096 {
            let found = index.find(hash(slot), |other| other == slot);
            assert_eq!(found, held.contains(&slot).then_some(slot));
        }
        for slot in held {
            index.remove(hash(slot), slot);
        }
        index.check();
        assert_eq!(index.len(), 0);
    }

    #[test]
    fn no_insertion_moves_more_than_a_bucket_however_large_the_table_is() {
        let hasher = Keyed::new(Entropy(5));
        let mut index = Index::new();
        let (mut most, mut total) = (0, 0);
        for slot in 0..300_000 {
            let moved = index.insert(hasher.pair(slot, 7), slot);
            (most, total) = (most.max(moved), total + moved);
        }
        index.check();
        assert!(most <= 16, "{most} entries moved at once");
        assert!(total <= 450_000, "{total} entries moved in all");
    }

    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn a_slot_that_is_not_there_cannot_be_removed() {
        let mut index = Index::new();
        index.insert(1, 0);
        index.cover(1);
        index.remove(1, 1);
    }
}
