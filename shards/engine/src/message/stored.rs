//! Messages that outlive the step in which they arrived: queued, in flight, retained, wills.
//!
//! Invariants:
//! - A stored message is one buffer, so storing one costs at most one allocation. A large payload is shared instead,
//!   so a fan-out to many sessions keeps it once.
//! - A message in the store has at least one holder, which counted itself and releases it once; the last one frees it.
//! - `bytes_held` is the sum over all held messages, since the ceiling on memory counts by it.

use alloc::vec::Vec;

use bytes::Bytes;
use wire::QoS;

use crate::base::heap;
use crate::base::ids::MessageKey;
use crate::base::slots::Slots;
use crate::base::time::Instant;
use crate::limits::Limits;
use crate::message::borrowed::Message;

/// A payload longer than this is shared between outboxes; a shorter one is copied, which is cheaper.
pub(crate) const SHARED_PAYLOAD_BYTES_MIN: usize = 4096;
/// A freed slot keeps its buffer for the next message up to this size.
const BUFFER_BYTES_KEPT: usize = 1024;
/// Bytes of the buffers that all freed slots keep at most: a store that held much and is empty gives it back.
const BYTES_KEPT_MAX: u64 = 4 * 1024 * 1024;
/// The part of the ceiling on memory that they may be.
const KEPT_PART: u64 = 64;
/// Slots of a store that was emptied are given back above this number, so many at a time.
const SLOTS_KEPT: usize = 4096;
/// Bytes of a shared payload beside its content: the reference count of `Bytes`.
const SHARED_HEAD_BYTES: usize = 24;
const NONE: u32 = u32::MAX;

/// A message that owns its bytes.
#[derive(Debug)]
pub(crate) struct StoredMessage {
    /// Topic, forwarded properties and, unless shared, the payload.
    bytes: Vec<u8>,
    shared_payload: Option<Bytes>,
    topic_bytes: u32,
    forwarded_bytes: u32,
    expires_at: Option<Instant>,
    qos: QoS,
    retain: bool,
}

impl Default for StoredMessage {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl StoredMessage {
    pub(crate) const EMPTY: Self = Self {
        bytes: Vec::new(),
        shared_payload: None,
        topic_bytes: 0,
        forwarded_bytes: 0,
        expires_at: None,
        qos: QoS::AtMostOnce,
        retain: false,
    };

    /// Replaces it by a copy of `message`, in the same buffer. A payload that is shared already stays shared.
    pub(crate) fn assign(&mut self, message: &Message<'_>, shared: Option<&Bytes>) {
        let Message { topic, forwarded, payload, .. } = *message;
        self.topic_bytes = length(topic.as_bytes());
        self.forwarded_bytes = length(forwarded);
        let inline_payload = match shared {
            Some(shared) => {
                assert!(shared.len() == payload.len());
                &[][..]
            }
            None => payload,
        };
        self.bytes.clear();
        self.bytes.reserve(topic.len() + forwarded.len() + inline_payload.len());
        self.bytes.extend_from_slice(topic.as_bytes());
        self.bytes.extend_from_slice(forwarded);
        self.bytes.extend_from_slice(inline_payload);
        self.shared_payload = shared.cloned();
        self.expires_at = message.expires_at;
        self.qos = message.qos;
        self.retain = message.retain;
    }

    /// Replaces it by a copy of another one, in the same buffer.
    pub(crate) fn copy_from(&mut self, source: &Self) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&source.bytes);
        self.shared_payload.clone_from(&source.shared_payload);
        self.topic_bytes = source.topic_bytes;
        self.forwarded_bytes = source.forwarded_bytes;
        self.expires_at = source.expires_at;
        self.qos = source.qos;
        self.retain = source.retain;
        assert!(self.bytes_held() == source.bytes_held());
    }

    /// The message. A shared payload is seen through the same slice.
    pub(crate) fn view(&self) -> Message<'_> {
        let (topic, rest) = self.bytes.split_at(self.topic_bytes as usize);
        let (forwarded, inline_payload) = rest.split_at(self.forwarded_bytes as usize);
        Message {
            topic: core::str::from_utf8(topic).expect("stored from a str"),
            forwarded,
            payload: self.shared_payload.as_deref().unwrap_or(inline_payload),
            qos: self.qos,
            retain: self.retain,
            expires_at: self.expires_at,
            packet: None,
        }
    }

    /// Bytes of topic, properties and payload.
    pub(crate) fn bytes_held(&self) -> u64 {
        (self.bytes.len() + self.shared_payload.as_ref().map_or(0, Bytes::len)) as u64
    }

    /// Bytes that it takes beside its own struct.
    pub(crate) fn heap_bytes(&self) -> u64 {
        let shared = self.shared_payload.as_ref();
        self.buffer_bytes()
            + shared.map_or(0, |shared| heap::block(shared.len()) + heap::block(SHARED_HEAD_BYTES))
    }

    /// The payload, if it is shared rather than copied.
    pub(crate) fn shared_payload(&self) -> Option<&Bytes> {
        self.shared_payload.as_ref()
    }

    /// Bytes of its buffer.
    fn buffer_bytes(&self) -> u64 {
        heap::block(self.bytes.capacity())
    }

    /// Lets go of its bytes, but for a buffer that is small enough to be kept, if it `may_keep` one.
    fn clear(&mut self, may_keep: bool) {
        self.shared_payload = None;
        self.topic_bytes = 0;
        self.forwarded_bytes = 0;
        self.bytes.clear();
        if !may_keep {
            self.bytes = Vec::new();
        } else if self.bytes.capacity() > BUFFER_BYTES_KEPT {
            self.bytes.shrink_to(BUFFER_BYTES_KEPT);
        }
    }
}

fn length(part: &[u8]) -> u32 {
    u32::try_from(part.len()).expect("a packet has at most 268 435 460 bytes")
}

#[derive(Debug)]
struct Slot {
    message: StoredMessage,
    /// A free slot has none and links to the next one.
    holders: u32,
    vacant_next: u32,
}

impl Default for Slot {
    fn default() -> Self {
        Self { message: StoredMessage::EMPTY, holders: 0, vacant_next: NONE }
    }
}

// Every queued, in-flight and retained message has one.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<StoredMessage>() == 88 && size_of::<Slot>() == 96);

/// **Lives on:** every shard. **Sees:** messages of sessions owned here.
///
/// Bounded by its holders: queues, windows and the retained store each have a bound of their own.
#[derive(Debug)]
pub(crate) struct MessageStore {
    slots: Slots<Slot>,
    vacant: u32,
    len: u32,
    bytes_held: u64,
    /// Of buffers and payloads, beside the slots. Vacant slots keep buffers, so most messages change nothing here.
    heap_bytes: u64,
    /// Capacity of the buffers that vacant slots keep.
    kept_bytes: usize,
    kept_bytes_max: u64,
    /// Slots of a time when the store was larger, given back piece by piece.
    retired: Slots<Slot>,
}

impl MessageStore {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            slots: Slots::new(),
            vacant: NONE,
            len: 0,
            bytes_held: 0,
            heap_bytes: 0,
            kept_bytes: 0,
            kept_bytes_max: BYTES_KEPT_MAX.min(limits.memory_bytes_max.wrapping_sub(1) / KEPT_PART),
            retired: Slots::new(),
        }
    }

    /// Messages held.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Bytes of topics, properties and payloads held.
    pub(crate) fn bytes_held(&self) -> u64 {
        self.bytes_held
    }

    /// Bytes of everything: slots, buffers and payloads.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.slots.bytes_held() + self.retired.bytes_held() + self.heap_bytes
    }

    /// Bytes of buffers and payloads alone, without the slots.
    #[inline]
    pub(crate) fn heap_bytes(&self) -> u64 {
        self.heap_bytes
    }

    /// Bytes that one message takes in the store.
    pub(crate) fn memory_bytes_of(&self, key: MessageKey) -> u64 {
        size_of::<Slot>() as u64 + self.held(key).heap_bytes()
    }

    /// Whether it has no slots to give back.
    pub(crate) fn is_tidy(&self) -> bool {
        self.retired.is_empty()
    }

    /// Gives slots back that an emptied store does not need, some at a time.
    pub(crate) fn end_step(&mut self) {
        if !self.retired.is_empty() {
            self.retired.drop_bank();
        }
    }

    /// Recomputes both counts and compares the holders of each message with `holders_of`, for an audit.
    ///
    /// # Panics
    /// If one of them is wrong.
    pub(crate) fn check(&self, holders_of: impl Fn(MessageKey) -> u32) {
        let (mut len, mut bytes_held, mut heap_bytes, mut kept_bytes) = (0, 0, 0, 0);
        for (index, slot) in (0u32..).zip(self.slots.iter()) {
            assert!(slot.holders == holders_of(MessageKey::new(index)));
            len += u32::from(slot.holders > 0);
            heap_bytes += slot.message.heap_bytes();
            if slot.holders > 0 {
                bytes_held += slot.message.bytes_held();
            } else {
                assert!(slot.message.shared_payload.is_none());
                kept_bytes += slot.message.bytes.capacity();
            }
        }
        assert!(len == self.len && bytes_held == self.bytes_held);
        assert!(heap_bytes == self.heap_bytes && kept_bytes == self.kept_bytes);
        let (mut at, mut vacant_count) = (self.vacant, 0);
        while let Some(slot) = self.slots.get(at) {
            assert!(slot.holders == 0 && (at as usize) < self.slots.len() && vacant_count < self.slots.len());
            (at, vacant_count) = (slot.vacant_next, vacant_count + 1);
        }
        assert!(vacant_count + self.len as usize == self.slots.len());
    }

    /// Copies a message in, held once. A payload that is shared already stays shared.
    pub(crate) fn put(&mut self, message: &Message<'_>, shared: Option<&Bytes>) -> MessageKey {
        let index = self.vacant_slot();
        let slot = &mut self.slots[index];
        assert!(slot.holders == 0);
        self.vacant = slot.vacant_next;
        let capacity = slot.message.bytes.capacity();
        self.kept_bytes -= capacity;
        slot.message.assign(message, shared);
        slot.holders = 1;
        self.bytes_held += slot.message.bytes_held();
        if slot.message.bytes.capacity() != capacity || shared.is_some() {
            self.heap_bytes = self.heap_bytes - heap::block(capacity) + slot.message.heap_bytes();
        }
        self.len += 1;
        MessageKey::new(index)
    }

    /// Counts one more holder.
    pub(crate) fn hold(&mut self, key: MessageKey) {
        let slot = &mut self.slots[key.index()];
        assert!(slot.holders > 0);
        slot.holders += 1;
    }

    /// Counts one holder less; the last one frees the message.
    pub(crate) fn release(&mut self, key: MessageKey) {
        let slot = &mut self.slots[key.index()];
        assert!(slot.holders > 0);
        slot.holders -= 1;
        if slot.holders > 0 {
            return;
        }
        let bytes = slot.message.bytes_held();
        assert!(self.bytes_held >= bytes && self.len > 0);
        self.bytes_held -= bytes;
        self.len -= 1;
        let is_small = slot.message.bytes.capacity() <= BUFFER_BYTES_KEPT;
        let is_kept = (self.kept_bytes as u64) < self.kept_bytes_max;
        if is_small && is_kept && slot.message.shared_payload.is_none() {
            slot.message.clear(true);
        } else {
            let before = slot.message.heap_bytes();
            slot.message.clear(is_kept);
            assert!(self.heap_bytes >= before);
            self.heap_bytes = self.heap_bytes - before + slot.message.heap_bytes();
        }
        self.kept_bytes += slot.message.bytes.capacity();
        slot.vacant_next = self.vacant;
        self.vacant = key.index();
        if self.len == 0 && self.slots.len() > SLOTS_KEPT {
            self.retire();
        }
    }

    /// A message that is held.
    pub(crate) fn view(&self, key: MessageKey) -> Message<'_> {
        self.held(key).view()
    }

    /// Copies a message out, in the buffer that `copy` has: it can be read while the store changes.
    pub(crate) fn copy_to(&self, key: MessageKey, copy: &mut StoredMessage) {
        copy.copy_from(self.held(key));
    }

    /// The payload, if it is shared rather than copied.
    pub(crate) fn shared_payload(&self, key: MessageKey) -> Option<&Bytes> {
        self.held(key).shared_payload()
    }

    /// Bytes this message holds.
    pub(crate) fn bytes_of(&self, key: MessageKey) -> u64 {
        self.held(key).bytes_held()
    }

    /// Begins anew after a time with many messages: their slots are given back in pieces.
    fn retire(&mut self) {
        assert!(self.len == 0 && self.bytes_held == 0);
        if self.retired.is_empty() {
            self.retired = core::mem::take(&mut self.slots);
            self.vacant = NONE;
            self.kept_bytes = 0;
            self.heap_bytes = 0;
        }
    }

    fn held(&self, key: MessageKey) -> &StoredMessage {
        let slot = &self.slots[key.index()];
        assert!(slot.holders > 0);
        &slot.message
    }

    /// The slot for the next message, which is still the first of the vacant ones or a new one.
    fn vacant_slot(&mut self) -> u32 {
        if self.vacant != NONE {
            return self.vacant;
        }
        let index = u32::try_from(self.slots.len()).expect("bounded by the holders' bounds");
        assert!(index != NONE);
        self.slots.push(Slot::default());
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn message(payload: &[u8]) -> Message<'_> {
        Message {
            topic: "a/b",
            forwarded: &[1, 2],
            payload,
            qos: QoS::AtLeastOnce,
            retain: true,
            expires_at: Some(Instant::from_ms(7)),
            packet: None,
        }
    }

    #[test]
    fn the_last_holder_frees_and_the_slot_is_used_again() {
        let mut store = MessageStore::new(&Limits::default());
        let payload = vec![7u8; SHARED_PAYLOAD_BYTES_MIN];
        let key = store.put(&message(&payload), Some(&Bytes::copy_from_slice(&payload)));
        store.hold(key);
        store.release(key);
        assert_eq!(store.view(key).payload, &payload[..]);
        assert!(store.shared_payload(key).is_some());
        store.release(key);
        assert_eq!((store.len(), store.bytes_held()), (0, 0));
        let small = store.put(&message(b"x"), None);
        assert_eq!(small, key);
        assert_eq!(store.view(small).payload, b"x");
        assert_eq!(store.bytes_held(), 6);
    }

    #[test]
    #[should_panic(expected = "holders > 0")]
    fn a_message_that_nobody_holds_cannot_be_read() {
        let mut store = MessageStore::new(&Limits::default());
        let key = store.put(&message(b"x"), None);
        store.release(key);
        store.view(key);
    }

    #[test]
    fn a_copy_reuses_its_buffer_and_is_the_same_message() {
        let mut store = MessageStore::new(&Limits::default());
        let payload = vec![7u8; SHARED_PAYLOAD_BYTES_MIN];
        let shared = Bytes::copy_from_slice(&payload);
        let mut copy = StoredMessage::default();
        for (payload, shared) in [(&payload[..], Some(&shared)), (b"inline", None), (b"", None)] {
            let key = store.put(&message(payload), shared);
            store.copy_to(key, &mut copy);
            store.release(key);
            let (view, expected) = (copy.view(), message(payload));
            assert_eq!(
                (view.topic, view.forwarded, view.payload),
                (expected.topic, expected.forwarded, payload)
            );
            assert_eq!(
                (view.qos, view.retain, view.expires_at),
                (expected.qos, expected.retain, expected.expires_at)
            );
            assert_eq!(copy.shared_payload(), shared);
            assert_eq!(copy.bytes_held(), expected.bytes());
        }
    }
}
