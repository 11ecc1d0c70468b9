//! The filters that recent topics matched, kept until the filters change: devices publish to the same topics again and again.
//!
//! Invariants worth naming:
//! - An entry is valid while its version equals the cache's. A new or removed filter with wildcards raises the version, so it
//!   invalidates all entries at once, in constant time.
//! - Each topic has one slot. A second topic that falls on it replaces the first, so the memory is bounded by the slots.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use crate::base::heap;

/// Topics cached at once.
const SLOTS: usize = 1024;
/// Longer topics, and topics that match more filters, are not cached: this bounds the memory to about 500 KiB.
const TOPIC_BYTES_MAX: usize = 256;
const FILTERS_MAX: usize = 32;

const _: () = assert!(SLOTS.is_power_of_two() && SLOTS.ilog2() <= u16::BITS);

#[derive(Debug, Default)]
struct Slot {
    /// The cache's version when the entry was made; 0: no entry.
    version: u64,
    topic: String,
    /// The name of the topic between shards.
    fingerprint: u64,
    /// No other topic has it, here or ever.
    serial: u64,
    filters: Vec<u32>,
}

/// **Lives on:** every shard, inside its tree. It is allocated when the first topic is cached.
#[derive(Debug)]
pub(super) struct MatchCache {
    slots: Box<[Slot]>,
    version: u64,
    /// The last one that was given to a topic.
    serial: u64,
    /// Heap bytes of topics and lists.
    heap_bytes: u64,
}

impl Slot {
    fn heap_bytes(&self) -> u64 {
        heap::block(self.topic.capacity()) + heap::block(self.filters.capacity() * size_of::<u32>())
    }
}

impl MatchCache {
    pub(super) fn new() -> Self {
        Self { slots: Box::default(), version: 1, serial: 0, heap_bytes: 0 }
    }

    /// A filter with wildcards was added or removed: any topic may match another set of filters now.
    pub(super) fn invalidate_all(&mut self) {
        self.version += 1;
    }

    /// A filter without wildcards was added or removed: only the topic of that name matches another set of filters now.
    pub(super) fn forget(&mut self, topic: &str) {
        if let Some(slot) = self.slots.get_mut(slot_of(topic))
            && slot.topic == topic
        {
            slot.version = 0;
        }
    }

    /// The filters that `topic` matches, its fingerprint and its serial, if cached.
    pub(super) fn get(&self, topic: &str) -> Option<(&[u32], u64, u64)> {
        let slot = self.slots.get(slot_of(topic))?;
        (slot.version == self.version && slot.topic == topic).then_some((
            &slot.filters,
            slot.fingerprint,
            slot.serial,
        ))
    }

    /// Topics whose filters are cached, for an audit.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &[u32])> {
        let valid = self.slots.iter().filter(|slot| slot.version == self.version);
        valid.map(|slot| (&*slot.topic, &*slot.filters))
    }

    /// Caches the filters that `topic` matches, and its fingerprint. Returns its serial; 0 if it is not cached.
    pub(super) fn set(&mut self, topic: &str, filters: &[u32], fingerprint: u64) -> u64 {
        if topic.len() > TOPIC_BYTES_MAX || filters.len() > FILTERS_MAX {
            return 0;
        }
        if self.slots.is_empty() {
            let mut slots = Vec::new();
            slots.resize_with(SLOTS, Slot::default);
            self.slots = slots.into_boxed_slice();
        }
        let slot = &mut self.slots[slot_of(topic)];
        let fits = topic.len() <= slot.topic.capacity() && filters.len() <= slot.filters.capacity();
        let held_bytes = if fits { 0 } else { slot.heap_bytes() };
        slot.version = self.version;
        slot.fingerprint = fingerprint;
        if slot.topic != topic {
            slot.topic.clear();
            slot.topic.push_str(topic);
            self.serial += 1;
            slot.serial = self.serial;
        }
        slot.filters.clear();
        slot.filters.extend_from_slice(filters);
        let serial = slot.serial;
        if !fits {
            self.heap_bytes = self.heap_bytes + slot.heap_bytes() - held_bytes;
        }
        serial
    }

    /// Bytes of the slots, their topics and their lists, also of those that are not valid any more.
    pub(super) fn bytes_held(&self) -> u64 {
        heap::block(size_of_val(&*self.slots)) + self.heap_bytes
    }

    /// # Panics
    /// If the count of bytes is wrong.
    pub(super) fn check(&self) {
        assert!(self.slots.iter().map(Slot::heap_bytes).sum::<u64>() == self.heap_bytes);
    }
}

/// The slot of a topic. The hash needs no key: topics made to collide only evict each other from the cache.
fn slot_of(topic: &str) -> usize {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let (words, rest) = topic.as_bytes().as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut hash = topic.len() as u64;
    for word in words.iter().chain([&last]) {
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
    }
    let [first, second, ..] = hash.to_be_bytes();
    usize::from(u16::from_be_bytes([first, second]) >> (u16::BITS - SLOTS.ilog2()))
}
