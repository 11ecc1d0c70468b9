//! The filters that hot topics matched, remembered until the filters change: devices publish to the same topics again and again.
//! Knows topics and filters by what they are called alone; what matches is the tree's to say.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// Topics remembered at once. A further one takes the place of whichever it falls on.
const SLOTS: usize = 1024;
/// Longer topics, and those that match more filters, are looked up each time: this bounds the memory to about 500 KiB.
const TOPIC_BYTES_MAX: usize = 256;
const FILTERS_MAX: usize = 32;

const _: () = assert!(SLOTS.is_power_of_two());

#[derive(Debug, Default)]
struct Slot {
    /// Of the filters, when this was true; 0: never.
    version: u64,
    topic: String,
    /// What stands for the topic between shards.
    fingerprint: u64,
    filters: Vec<u32>,
}

/// **Lives on:** every shard, inside its tree. Allocated at the first look-up.
#[derive(Debug)]
pub(super) struct MatchCache {
    slots: Box<[Slot]>,
    version: u64,
}

impl MatchCache {
    pub(super) fn new() -> Self {
        Self { slots: Box::default(), version: 1 }
    }

    /// The set of filters with wildcards changed: nothing that is remembered counts any more.
    pub(super) fn invalidate_all(&mut self) {
        self.version += 1;
    }

    /// A filter without wildcards came or went: only the topic of that name matches another set now.
    pub(super) fn forget(&mut self, topic: &str) {
        if let Some(slot) = self.slots.get_mut(slot_of(topic))
            && slot.topic == topic
        {
            slot.version = 0;
        }
    }

    /// The filters that `topic` matched and its fingerprint, if it is remembered.
    pub(super) fn get(&self, topic: &str) -> Option<(&[u32], u64)> {
        let slot = self.slots.get(slot_of(topic))?;
        (slot.version == self.version && slot.topic == topic).then_some((&slot.filters, slot.fingerprint))
    }

    /// Remembers what a topic matched.
    pub(super) fn set(&mut self, topic: &str, filters: &[u32], fingerprint: u64) {
        if topic.len() > TOPIC_BYTES_MAX || filters.len() > FILTERS_MAX {
            return;
        }
        if self.slots.is_empty() {
            let mut slots = Vec::new();
            slots.resize_with(SLOTS, Slot::default);
            self.slots = slots.into_boxed_slice();
        }
        let slot = &mut self.slots[slot_of(topic)];
        slot.version = self.version;
        slot.fingerprint = fingerprint;
        slot.topic.clear();
        slot.topic.push_str(topic);
        slot.filters.clear();
        slot.filters.extend_from_slice(filters);
    }
}

/// Needs no key: who makes topics collide here only makes each of them be looked up.
fn slot_of(topic: &str) -> usize {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let (reason_string, rest) = topic.as_bytes().as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut hash = topic.len() as u64;
    for word in reason_string.iter().chain([&last]) {
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR);
    }
    usize::try_from(hash >> (u64::BITS - SLOTS.ilog2())).expect("below the number of slots")
}
