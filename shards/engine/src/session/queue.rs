//! The queue of one session: messages that wait for a connection, for send quota or for room in the outbox.
//!
//! Invariant: `bytes` is the sum of the queued messages' bytes and `qos0_count` their number with QoS 0, so that the
//! bound is checked without a walk.

use alloc::collections::VecDeque;

use wire::QoS;

use super::grant::Grant;
use super::inflight::{Inflight, Window};
use crate::base::heap;
use crate::base::ids::MessageKey;
use crate::limits::Limits;
use crate::message::stored::MessageStore;

#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) message: MessageKey,
    /// The low half of its place in the sequence of the session; nothing for QoS 0.
    delivery_low: u32,
    pub(crate) grant: Grant,
}

impl Queued {
    /// Its place in the sequence of the session, of which `next` comes next.
    pub(crate) fn delivery(&self, next: u64) -> u64 {
        let behind = low_half(next).wrapping_sub(self.delivery_low);
        next - u64::from(behind)
    }
}

fn low_half(number: u64) -> u32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Entries of a queue that is not made smaller once it is empty.
const ENTRIES_KEPT: usize = 64;

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Queued>() == 40);

/// Bounded by `Limits::queue_messages_max` and `Limits::queue_bytes_max`; `Limits::queue_full` decides what a full one
/// does. Holds each of its messages once.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    messages: VecDeque<Queued>,
    bytes: u64,
    qos0_count: u32,
    /// Bytes of grants beside their entries.
    grant_bytes: u64,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn qos0_count(&self) -> u32 {
        self.qos0_count
    }

    /// Bytes of its messages, of which other queues may have some too.
    pub(crate) fn message_bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that it takes beside its own struct and its messages.
    pub(super) fn heap_bytes(&self) -> u64 {
        heap::block(self.messages.capacity() * size_of::<Queued>()) + self.grant_bytes
    }

    /// Whether one more message may be queued, unless it is a very large one.
    pub(crate) fn has_room(&self, limits: &Limits) -> bool {
        self.messages.len() < limits.queue_messages_max as usize && self.bytes < limits.queue_bytes_max
    }

    /// Whether a message of `bytes` bytes may be queued.
    pub(crate) fn has_room_for(&self, bytes: u64, limits: &Limits) -> bool {
        self.messages.len() < limits.queue_messages_max as usize
            && self.bytes + bytes <= limits.queue_bytes_max
    }

    pub(crate) fn first(&self) -> Option<&Queued> {
        self.messages.front()
    }

    /// Appends a message and holds it. QoS 1 and 2 have a `delivery`.
    pub(crate) fn push(
        &mut self,
        messages: &mut MessageStore,
        message: MessageKey,
        grant: Grant,
        delivery: u64,
    ) {
        self.qos0_count += u32::from(grant.qos == QoS::AtMostOnce);
        self.bytes += messages.bytes_of(message);
        messages.hold(message);
        self.grant_bytes += grant.heap_bytes();
        self.messages.push_back(Queued { message, delivery_low: low_half(delivery), grant });
        assert!(self.qos0_count as usize <= self.messages.len());
    }

    /// Takes the oldest message out; the caller takes over its hold.
    pub(crate) fn pop(&mut self, messages: &MessageStore) -> Option<Queued> {
        let queued = self.messages.pop_front()?;
        self.forget(messages, &queued);
        // A queue that was long must not keep its entries for ever.
        if self.messages.capacity() > ENTRIES_KEPT && self.messages.len() < self.messages.capacity() / 4 {
            self.messages.shrink_to((self.messages.capacity() / 2).max(ENTRIES_KEPT));
        }
        assert!(!self.is_empty() || (self.bytes == 0 && self.qos0_count == 0));
        Some(queued)
    }

    /// Takes out, in order, the messages that `is_wanted` names; the caller takes over their holds.
    pub(crate) fn extract(
        &mut self,
        messages: &MessageStore,
        mut is_wanted: impl FnMut(&Queued) -> bool,
    ) -> VecDeque<Queued> {
        let all = core::mem::take(&mut self.messages);
        let (wanted, left) = all.into_iter().partition(|queued| is_wanted(queued));
        self.messages = left;
        self.messages.shrink_to(self.messages.len() * 2);
        let wanted: VecDeque<Queued> = wanted;
        for queued in &wanted {
            self.forget(messages, queued);
        }
        wanted
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Queued> {
        self.messages.iter()
    }

    /// Recomputes both counts, for an audit.
    ///
    /// # Panics
    /// If one of them is wrong.
    pub(crate) fn check(&self, messages: &MessageStore) {
        let qos0 = self.messages.iter().filter(|queued| queued.grant.qos == QoS::AtMostOnce);
        assert!(qos0.count() == self.qos0_count as usize);
        let bytes: u64 = self.messages.iter().map(|queued| messages.bytes_of(queued.message)).sum();
        assert!(bytes == self.bytes);
        let grants = self.messages.iter().map(|queued| queued.grant.heap_bytes());
        assert!(grants.sum::<u64>() == self.grant_bytes);
    }

    /// Tracked messages have growing numbers, behind all that are in flight, for an audit.
    ///
    /// # Panics
    /// If that is not so.
    pub(crate) fn check_deliveries(&self, next: u64, window: &Window) {
        let queued = self.messages.iter().filter(|queued| queued.grant.qos != QoS::AtMostOnce);
        let queued = queued.map(|queued| queued.delivery(next));
        let all = window.iter().map(Inflight::delivery).chain(queued.clone());
        assert!(all.is_sorted_by(|a, b| a < b));
        assert!(queued.max().is_none_or(|last| last < next));
    }

    fn forget(&mut self, messages: &MessageStore, queued: &Queued) {
        let bytes = messages.bytes_of(queued.message);
        assert!(self.bytes >= bytes);
        self.bytes -= bytes;
        self.qos0_count -= u32::from(queued.grant.qos == QoS::AtMostOnce);
        self.grant_bytes -= queued.grant.heap_bytes();
    }
}
