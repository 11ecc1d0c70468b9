//! Outbound messages that are held until a batch of the log is durable, and those that may not overtake them.
//!
//! Invariant: held items of a lane stand in the order of their batches, so one comparison with the first tells whether any may wait for
//! the lane.

use alloc::vec::Vec;

use bytes::Bytes;

use super::{
    BLOCK_BYTES, Held, LaneKind, Outbound, OutboundItem, Waiting, oversized, split_message, write_into,
};
use crate::action::Batch;
use crate::base::heap;

impl Waiting {
    /// Appends a held item; `full_count` counts the lanes that are full.
    fn push_held(&mut self, until: Batch, item: OutboundItem, full_count: &mut u32) {
        let was_full = self.is_full();
        self.held_bytes += item.memory_bytes();
        self.held.push_back(Held { until, item });
        *full_count += u32::from(self.is_full() && !was_full);
    }

    /// Lets held items wait for the lane whose batch is durable.
    fn release(&mut self, synced: Batch, full_count: &mut u32) {
        while let Some(Held { item, .. }) = self.held.pop_front_if(|first| first.until <= synced) {
            // Of one publisher, something may be there that came before.
            self.seal(full_count);
            let was_full = self.is_full();
            assert!(self.held_bytes >= item.memory_bytes());
            self.held_bytes -= item.memory_bytes();
            self.items.push_back(item);
            match (was_full, self.is_full()) {
                (false, true) => *full_count += 1,
                (true, false) => *full_count -= 1,
                (true, true) | (false, false) => {}
            }
        }
    }

    /// The batch that the last held item waits for.
    fn held_until(&self) -> Option<Batch> {
        self.held.back().map(|held| held.until)
    }
}

impl Outbound {
    /// Whether held items are in order and their counts are what a walk finds, for an audit.
    pub(crate) fn is_held_right(&self) -> bool {
        let count = self.lanes.iter().flatten().map(|waiting| waiting.held.len()).sum::<usize>();
        count == self.held_count
            && self.lanes.iter().flatten().all(|waiting| {
                let bytes = waiting.held.iter().map(|held| held.item.memory_bytes()).sum::<u64>();
                bytes == waiting.held_bytes && waiting.held.iter().is_sorted_by_key(|held| held.until)
            })
    }

    /// Whether anything is held.
    #[inline]
    pub(crate) fn holds_any(&self) -> bool {
        self.held_count > 0
    }

    /// The batch that the last held message for a target waits for, if one is held.
    pub(crate) fn held_until(&self, target: u16) -> Option<Batch> {
        self.lanes[usize::from(target)][LaneKind::Data as usize].held_until()
    }

    /// Everything up to this batch is durable.
    pub(crate) fn release(&mut self, synced: Batch) {
        if self.held_count == 0 {
            return;
        }
        let Self { lanes, full_count, held_count, .. } = self;
        for waiting in lanes.iter_mut().flatten() {
            let before = waiting.held.len();
            waiting.release(synced, full_count);
            *held_count -= before - waiting.held.len();
        }
    }

    /// Lets everything that is held wait for its lane, except for the messages that are not `wanted`.
    pub(crate) fn release_held(&mut self, wanted: impl Fn(&[u8]) -> bool) {
        let Self { lanes, full_count, held_count, memory_bytes, .. } = self;
        for waiting in lanes.iter_mut().flatten() {
            let was_full = waiting.is_full();
            for Held { item, .. } in core::mem::take(&mut waiting.held) {
                *memory_bytes -= item.memory_bytes();
                let item = match item {
                    OutboundItem::Oversized(item) => {
                        wanted(&item.head).then_some(OutboundItem::Oversized(item))
                    }
                    OutboundItem::Block(block) => {
                        let (mut kept, mut rest) = (Vec::with_capacity(BLOCK_BYTES), &block[..]);
                        while let Some((message, next)) = split_message(rest) {
                            if wanted(message) {
                                kept.extend_from_slice(&rest[..rest.len() - next.len()]);
                            }
                            rest = next;
                        }
                        (!kept.is_empty()).then_some(OutboundItem::Block(kept))
                    }
                };
                *memory_bytes += item.as_ref().map_or(0, OutboundItem::memory_bytes);
                waiting.items.extend(item);
                *held_count -= 1;
            }
            waiting.held_bytes = 0;
            match (was_full, waiting.is_full()) {
                (false, true) => *full_count += 1,
                (true, false) => *full_count -= 1,
                (true, true) | (false, false) => {}
            }
        }
        assert!(*held_count == 0);
    }

    /// Everything that waits for `before` waits for `until` instead, which is not later.
    pub(crate) fn shorten(&mut self, before: Batch, until: Batch) {
        assert!(until <= before);
        let held = self.lanes.iter_mut().flatten().flat_map(|waiting| &mut waiting.held);
        held.filter(|held| held.until == before).for_each(|held| held.until = until);
    }

    /// Holds the message that `write` appends until a batch is durable, behind those that are held for the same target. Returns the batch
    /// that it waits for because of them.
    pub(crate) fn push_held(
        &mut self,
        (target, until): (u16, Batch),
        bytes_max: usize,
        payload: Option<&Bytes>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Batch {
        let Self { lanes, full_count, empties, memory_bytes, held_count } = self;
        let waiting = &mut lanes[usize::from(target)][LaneKind::Data as usize];
        let until = waiting.held_until().map_or(until, |last| last.max(until));
        let bytes_max = 4 + bytes_max;
        if payload.is_none() && bytes_max <= BLOCK_BYTES {
            let last = waiting.held.back_mut().filter(|last| last.until == until);
            if let Some(Held { item: OutboundItem::Block(block), .. }) = last
                && block.len() + bytes_max <= BLOCK_BYTES
            {
                write_into(block, bytes_max, write);
                return until;
            }
            let mut block = empties.pop().unwrap_or_else(|| {
                *memory_bytes += heap::block(BLOCK_BYTES);
                Vec::with_capacity(BLOCK_BYTES)
            });
            write_into(&mut block, bytes_max, write);
            waiting.push_held(until, OutboundItem::Block(block), full_count);
        } else {
            let item = oversized(bytes_max, payload, write);
            *memory_bytes += item.memory_bytes();
            waiting.push_held(until, item, full_count);
        }
        *held_count += 1;
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_messages_wait_for_their_batch_and_keep_their_order() {
        let mut outbound = Outbound::new(2);
        let push = |outbound: &mut Outbound, until, byte| {
            outbound.push_held((1, Batch(until)), 1, None, |block| block.push(byte));
            assert!(outbound.is_held_right() && outbound.is_memory_right());
        };
        push(&mut outbound, 3, 1);
        // One that waits for less goes behind.
        push(&mut outbound, 2, 2);
        push(&mut outbound, u64::MAX, 3);
        push(&mut outbound, 4, 4);
        outbound.push(1, LaneKind::Data, 1, None, |block| block.push(9));
        assert_eq!((outbound.waiting_count(), outbound.held_until(1)), (3, Some(Batch(u64::MAX))));
        outbound.release(Batch(2));
        let mut seen = Vec::new();
        let mut take_all = |outbound: &mut Outbound| {
            while let Some(item) = outbound.take(1, LaneKind::Data) {
                let OutboundItem::Block(block) = item else { panic!("no message is that large") };
                let mut block = &block[..];
                while let Some((message, rest)) = split_message(block) {
                    seen.push(message[0]);
                    block = rest;
                }
            }
            assert!(outbound.is_held_right() && outbound.is_memory_right() && outbound.is_counted_right());
        };
        take_all(&mut outbound);
        outbound.release(Batch(3));
        take_all(&mut outbound);
        outbound.shorten(Batch(u64::MAX), Batch(5));
        outbound.release(Batch(5));
        take_all(&mut outbound);
        push(&mut outbound, 6, 5);
        push(&mut outbound, 6, 6);
        push(&mut outbound, 7, 7);
        outbound.release_held(|message| message != [6]);
        take_all(&mut outbound);
        assert_eq!(seen, [9, 1, 2, 3, 4, 5, 7]);
        assert!(!outbound.holds_any() && outbound.waiting_count() == 0);
    }

    #[test]
    fn there_is_no_room_while_too_much_is_held() {
        let mut outbound = Outbound::new(2);
        let large = Bytes::from(alloc::vec![0; 4 * 1024 * 1024]);
        for _ in 0..8 {
            assert!(outbound.has_room());
            outbound.push_held((1, Batch(1)), 1, Some(&large), |head| head.push(1));
            assert!(outbound.is_counted_right());
        }
        assert!(!outbound.has_room());
        outbound.release(Batch(1));
        assert!(outbound.has_room() && outbound.is_counted_right());
    }
}
