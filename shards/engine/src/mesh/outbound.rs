//! The outbound items that wait for a lane to another shard: shard messages packed into blocks, in order.
//!
//! Invariant: lanes that are full in both directions lose nothing, do not stop and take bounded memory. A shard takes every item of
//! every inbound lane in each turn, even while much waits here; data lanes wait for the end of a long fan-out, which waits for no
//! lane. So a full lane has room again as soon as its receiver had a turn, and no lane waits for another. Each source of waiting
//! items is bounded:
//! - Packets of clients: none is taken while [`WAITING_ITEMS_MAX`] items wait for some lane, and reassigned messages are held back
//!   as well. So the items of one packet come on top.
//! - Pages: at most `pages::REQUESTS_MAX` requests of a shard are open, which is asserted where they arrive, and each is answered by
//!   one page of bounded length. No slot is reserved for a page before its request leaves, since this bounds the same memory.
//! - Returned messages: a shard returns a message whose group has no member there, one for each that came. A shard that has no turn
//!   returns none, so no more of them wait than its lane held.
//! - Transfers that wait until their records are durable, and messages that may not overtake them: no new packets are taken while they
//!   have [`HELD_BYTES_MAX`] bytes for some lane. They wait for the disk of this shard alone.
//! - Sessions and connections that end: they send announcements and perhaps a will, whether or not there is room. For each other
//!   shard, that takes no more than the freed subscriptions and the freed will took.

mod held;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::action::Batch;
use crate::base::heap;

/// Bytes of a block: many small messages, one item of a lane.
pub const BLOCK_BYTES: usize = 8 * 1024;
/// Items that may wait for a lane before new packets are refused. The items of one packet come on top: two for
/// each lane.
const WAITING_ITEMS_MAX: usize = 64;
/// Bytes that may wait for the log before they may wait for a lane, before new packets are refused. No more transfers than half of it
/// are open towards a shard.
const HELD_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Empty blocks kept for reuse.
const BLOCKS_KEPT: usize = 64;

/// Each ordered pair of shards has two lanes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LaneKind {
    /// Publishes, and pages of retained messages.
    Data,
    /// Interest, groups, page requests and watermarks.
    Control,
}

/// One item on its way to a lane.
#[derive(Debug)]
pub enum OutboundItem {
    /// Many messages, at most [`BLOCK_BYTES`] bytes.
    Block(Vec<u8>),
    /// A message that is an item by itself.
    Oversized(OversizedItem),
}

/// A message that is too large for a block or has a shared payload, which is not copied.
#[derive(Clone, Debug)]
pub struct OversizedItem {
    head: Vec<u8>,
    payload: Bytes,
}

/// One item that came out of a lane.
#[derive(Clone, Copy, Debug)]
pub enum InboundItem<'a> {
    /// The bytes of an [`OutboundItem::Block`].
    Block(&'a [u8]),
    /// An [`OutboundItem::Oversized`].
    Oversized(&'a OversizedItem),
}

impl OutboundItem {
    /// Bytes that it takes beside its own struct. A payload counts here too while the store has it as well.
    fn memory_bytes(&self) -> u64 {
        match self {
            Self::Block(block) => heap::block(block.capacity()),
            Self::Oversized(item) => item.memory_bytes(),
        }
    }
}

impl OversizedItem {
    /// Bytes that it takes beside its own struct, for a host that has it on its way.
    #[must_use]
    pub fn bytes_held(&self) -> usize {
        self.head.capacity() + self.payload.len()
    }

    /// Bytes that it takes beside its own struct.
    pub(crate) fn memory_bytes(&self) -> u64 {
        heap::block(self.head.capacity()) + heap::block(self.payload.len())
    }
}

/// An item that waits until a batch is durable before it waits for its lane.
#[derive(Debug)]
struct Held {
    until: Batch,
    item: OutboundItem,
}

/// The items that wait for one lane.
#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<OutboundItem>,
    open: Vec<u8>,
    /// In the order of their batches.
    held: VecDeque<Held>,
    held_bytes: u64,
}

impl Waiting {
    /// At its bound: no new packets are taken.
    fn is_full(&self) -> bool {
        self.items.len() >= WAITING_ITEMS_MAX || self.held_bytes > HELD_BYTES_MAX
    }

    /// Appends an item; `full_count` counts the lanes that are full.
    fn push(&mut self, item: OutboundItem, full_count: &mut u32) {
        let was_full = self.is_full();
        self.items.push_back(item);
        *full_count += u32::from(self.is_full() && !was_full);
    }

    /// Takes the oldest item; `full_count` counts the lanes that are full.
    fn pop(&mut self, full_count: &mut u32) -> Option<OutboundItem> {
        let was_full = self.is_full();
        let item = self.items.pop_front()?;
        if was_full && !self.is_full() {
            assert!(*full_count > 0);
            *full_count -= 1;
        }
        Some(item)
    }

    /// Closes the open block, if anything is in it.
    fn seal(&mut self, full_count: &mut u32) {
        if !self.open.is_empty() {
            let sealed = core::mem::take(&mut self.open);
            assert!(sealed.len() <= BLOCK_BYTES);
            self.push(OutboundItem::Block(sealed), full_count);
        }
    }
}

/// **Lives on:** every shard. **Sees:** the shard messages on their way to the others.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    /// By target, data before control.
    lanes: Vec<[Waiting; 2]>,
    /// Lanes at their bound. It is counted here because every packet asks for it.
    full_count: u32,
    empties: Vec<Vec<u8>>,
    /// Bytes of waiting items, of open blocks and of empty ones.
    memory_bytes: u64,
    /// Held items of all lanes.
    held_count: usize,
}

impl Outbound {
    pub(crate) fn new(shard_count: u16) -> Self {
        let mut lanes = Vec::new();
        lanes.resize_with(usize::from(shard_count), Default::default);
        Self { lanes, full_count: 0, empties: Vec::new(), memory_bytes: 0, held_count: 0 }
    }

    /// Whether one more packet may be taken: no lane is far behind.
    pub(crate) fn has_room(&self) -> bool {
        self.full_count == 0
    }

    /// Bytes of everything that waits, and of the empty blocks.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Whether its bytes are what a walk over all lanes finds, for an audit.
    pub(crate) fn is_memory_right(&self) -> bool {
        let lanes = self.lanes.iter().flatten().map(|waiting| {
            heap::block(waiting.open.capacity())
                + waiting.items.iter().map(OutboundItem::memory_bytes).sum::<u64>()
                + waiting.held_bytes
        });
        let empties = self.empties.iter().map(|block| heap::block(block.capacity()));
        lanes.chain(empties).sum::<u64>() == self.memory_bytes
    }

    /// Whether the count of full lanes is what a walk over all lanes finds.
    pub(crate) fn is_counted_right(&self) -> bool {
        let full = self.lanes.iter().flatten().filter(|waiting| waiting.is_full());
        full.count() == self.full_count as usize
    }

    /// Items and open blocks that wait, held ones too.
    pub(crate) fn waiting_count(&self) -> usize {
        self.lanes
            .iter()
            .flatten()
            .map(|waiting| waiting.items.len() + usize::from(!waiting.open.is_empty()) + waiting.held.len())
            .sum()
    }

    /// The next item for a lane; an open block is closed if nothing else waits.
    pub(crate) fn take(&mut self, target: u16, lane: LaneKind) -> Option<OutboundItem> {
        let waiting = &mut self.lanes[usize::from(target)][lane as usize];
        let waits = waiting.pop(&mut self.full_count).or_else(|| {
            let is_open = !waiting.open.is_empty();
            is_open.then(|| OutboundItem::Block(core::mem::take(&mut waiting.open)))
        })?;
        assert!(self.memory_bytes >= waits.memory_bytes());
        self.memory_bytes -= waits.memory_bytes();
        Some(waits)
    }

    /// Takes an empty block back.
    pub(crate) fn recycle(&mut self, mut block: Vec<u8>) {
        if self.empties.len() < BLOCKS_KEPT && block.capacity() >= BLOCK_BYTES {
            block.clear();
            self.memory_bytes += heap::block(block.capacity());
            self.empties.push(block);
        }
    }

    /// Appends the message that `write` appends, of at most `bytes_max` bytes, with its length before it. A message that is
    /// too large for a block or has a payload attached is an item by itself.
    pub(crate) fn push(
        &mut self,
        target: u16,
        lane: LaneKind,
        bytes_max: usize,
        payload: Option<&Bytes>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Self { lanes, full_count, empties, memory_bytes, .. } = self;
        let waiting = &mut lanes[usize::from(target)][lane as usize];
        let bytes_max = 4 + bytes_max;
        if payload.is_some() || bytes_max > BLOCK_BYTES {
            waiting.seal(full_count);
            let item = oversized(bytes_max, payload, write);
            *memory_bytes += item.memory_bytes();
            waiting.push(item, full_count);
            return;
        }
        if waiting.open.len() + bytes_max > BLOCK_BYTES {
            waiting.seal(full_count);
        }
        if waiting.open.capacity() == 0 {
            waiting.open = empties.pop().unwrap_or_else(|| {
                *memory_bytes += heap::block(BLOCK_BYTES);
                Vec::with_capacity(BLOCK_BYTES)
            });
        }
        write_into(&mut waiting.open, bytes_max, write);
    }
}

/// Appends a message to a block that has room for it, with its length before it.
#[inline]
fn write_into(block: &mut Vec<u8>, bytes_max: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let at = block.len();
    block.extend_from_slice(&[0; 4]);
    write(block);
    let length = block.len() - at - 4;
    assert!(4 + length <= bytes_max, "a block has its size");
    let length = u32::try_from(length).expect("at most a block");
    block[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// A message that is an item by itself.
fn oversized(bytes_max: usize, payload: Option<&Bytes>, write: impl FnOnce(&mut Vec<u8>)) -> OutboundItem {
    let mut head = Vec::new();
    write(&mut head);
    assert!(!head.is_empty() && head.len() <= bytes_max);
    OutboundItem::Oversized(OversizedItem { head, payload: payload.cloned().unwrap_or_default() })
}

impl OversizedItem {
    /// The message, and the payload that is attached to it.
    pub(crate) fn message(&self) -> (&[u8], Option<&Bytes>) {
        (&self.head, Some(&self.payload))
    }
}

/// The first message of a block, and the rest of the block; `None` at its end.
pub(crate) fn split_message(block: &[u8]) -> Option<(&[u8], &[u8])> {
    let Some((length, rest)) = block.split_first_chunk::<4>() else {
        assert!(block.is_empty());
        return None;
    };
    let (message, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
    assert!(!message.is_empty());
    Some((message, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends an item too large for a block, an item by itself.
    fn push_oversized(outbound: &mut Outbound, target: u16, lane: LaneKind) {
        outbound.push(target, lane, 1, Some(&Bytes::from_static(b"oversized")), |head| head.push(1));
        assert!(outbound.is_counted_right());
    }

    #[test]
    fn there_is_room_again_once_no_lane_is_at_its_bound() {
        let mut outbound = Outbound::new(64);
        let full = [(1, LaneKind::Data), (1, LaneKind::Control), (63, LaneKind::Data)];
        for (target, lane) in full {
            for _ in 1..WAITING_ITEMS_MAX {
                push_oversized(&mut outbound, target, lane);
            }
        }
        assert!(outbound.has_room());
        for (target, lane) in full {
            // The next item closes the open block, so two items are added at the bound.
            outbound.push(target, lane, 1, None, |block| block.push(1));
            push_oversized(&mut outbound, target, lane);
            assert!(!outbound.has_room());
        }
        for (target, lane) in full {
            for left in (WAITING_ITEMS_MAX - 1..=WAITING_ITEMS_MAX).rev() {
                assert!(!outbound.has_room(), "{left} items and one more wait");
                assert!(outbound.take(target, lane).is_some());
                assert!(outbound.is_counted_right());
            }
        }
        assert!(outbound.has_room());
        for (target, lane) in full {
            while outbound.take(target, lane).is_some() {
                assert!(outbound.is_counted_right());
            }
        }
        assert_eq!(outbound.waiting_count(), 0);
    }
}
