//! A hash table of slot numbers: from a keyed hash to a slot of a pool.
//!
//! It stores four bytes a slot and no key. The caller compares the slots, because they hold the keys already.

use hashbrown::HashTable;

use crate::base::heap;

/// Slot numbers by the hash of their slots' keys. A slot is in it at most once.
#[derive(Debug)]
pub(super) struct Index {
    table: HashTable<u32>,
}

impl Index {
    pub(super) const fn new() -> Self {
        Self { table: HashTable::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes of the table.
    pub(super) fn bytes_held(&self) -> u64 {
        heap::block(self.table.allocation_size())
    }

    /// The slot of that hash for which `is_wanted` holds.
    pub(super) fn find(&self, hash: u64, is_wanted: impl Fn(u32) -> bool) -> Option<u32> {
        self.table.find(hash, |&slot| is_wanted(slot)).copied()
    }

    /// Adds a slot; `hash_of` computes the hash of any slot again when the table grows.
    pub(super) fn insert(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        self.table.insert_unique(hash, slot, |&other| hash_of(other));
    }

    /// Removes a slot that was inserted under this hash.
    pub(super) fn remove(&mut self, hash: u64, slot: u32) {
        let entry = self.table.find_entry(hash, |&other| other == slot);
        entry.expect("a slot is indexed until it is freed").remove();
    }
}
