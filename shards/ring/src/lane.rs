//! One lane: a ring of items to the consumer, a ring of empty blocks back, and the pool at the producer's end. Invariant:
//! at most `items_max + 2` blocks of a lane exist, so returning a block never fails.

use alloc::vec::Vec;

use crate::block::Block;
use crate::capacity::BLOCKS_BESIDE_RING;
use crate::sync::{Consumer, Producer, PushError, ring};

/// Selects one of the two lanes of an ordered pair of shards. Each lane is ordered; nothing is ordered between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Bulk traffic caused by clients; may have to wait for credit.
    Data,
    /// Requests and replies between shards; must never wait behind data.
    Control,
}

impl Lane {
    /// Both lanes.
    pub const ALL: [Self; 2] = [Self::Data, Self::Control];
}

/// One entry of a lane.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<T> {
    /// Many packed messages.
    Block(Block),
    /// A value that is too large for a block or is not bytes: a shared payload, a connection that is handed over. Every
    /// slot of every lane is as large as a `T`, so `T` should be a few words; box it if necessary.
    Other(T),
}

/// One value for each lane.
pub(crate) struct Lanes<V> {
    pub(crate) data: V,
    pub(crate) control: V,
}

impl<V> Lanes<V> {
    pub(crate) fn of(&self, lane: Lane) -> &V {
        match lane {
            Lane::Data => &self.data,
            Lane::Control => &self.control,
        }
    }

    pub(crate) fn of_mut(&mut self, lane: Lane) -> &mut V {
        match lane {
            Lane::Data => &mut self.data,
            Lane::Control => &mut self.control,
        }
    }
}

/// The producer's end of a lane.
///
/// **Lives on:** the shard that pushes. **Sees:** its own pool, and how much the consumer has popped.
pub(crate) struct Outbound<T> {
    items: Producer<Item<T>>,
    returned: Consumer<Block>,
    /// Empty blocks, the most recently used last. `blocks_alive` bounds it by `blocks_max`.
    spare: Vec<Block>,
    /// Blocks of this lane that exist, in the pool or elsewhere; at most `blocks_max`.
    blocks_alive: usize,
    blocks_max: usize,
    block_bytes: usize,
    /// Whether a block was taken from the pool and not yet pushed.
    filling: bool,
    /// Free slots that the shard is waiting for; 0 if it is not waiting.
    pub(crate) items_wanted: usize,
}

/// The consumer's end of a lane.
///
/// **Lives on:** the shard that pops. **Sees:** the pushed items.
pub(crate) struct Inbound<T> {
    items: Consumer<Item<T>>,
    empties: Producer<Block>,
    /// Whether a block was popped and not yet given back.
    reading: bool,
}

/// Both ends of a lane of `items_max` items. Allocates the slots but no block.
pub(crate) fn lane<T>(items_max: usize, block_bytes: usize) -> (Outbound<T>, Inbound<T>) {
    // A full ring, one block being filled and one being read can all be empty at once. A return therefore always fits.
    let blocks_max = items_max + BLOCKS_BESIDE_RING;
    let (producer, consumer) = ring(items_max);
    let (empties, returned) = ring(blocks_max);
    let outbound = Outbound {
        items: producer,
        returned,
        spare: Vec::new(),
        blocks_alive: 0,
        blocks_max,
        block_bytes,
        filling: false,
        items_wanted: 0,
    };
    (outbound, Inbound { items: consumer, empties, reading: false })
}

impl<T> Outbound<T> {
    pub(crate) fn free(&self) -> usize {
        self.items.slots()
    }

    pub(crate) fn blocks_alive(&self) -> usize {
        self.blocks_alive
    }

    /// An empty block, and whether it is a new one.
    pub(crate) fn empty_block(&mut self) -> (Block, bool) {
        assert!(!self.filling, "the previous block must be pushed first");
        self.filling = true;
        self.collect_returned();
        if let Some(block) = self.spare.pop() {
            return (block, false);
        }
        // The consumer gives each block back before it pops the next. Of the popped blocks that we know of, all but
        // one are therefore back in the pool, and the blocks that were not popped fit into the ring.
        assert!(
            self.blocks_alive < self.blocks_max,
            "only the blocks in the ring and the one being read are missing from the pool"
        );
        self.blocks_alive += 1;
        (Block::new(self.block_bytes), true)
    }

    /// Bytes of the slots: those of the items, and those of the blocks that come back.
    pub(crate) fn slot_bytes(&self) -> usize {
        let items_max = self.blocks_max - BLOCKS_BESIDE_RING;
        items_max * size_of::<Item<T>>() + self.blocks_max * size_of::<Block>()
    }

    pub(crate) fn push(&mut self, item: Item<T>) -> Result<(), Item<T>> {
        let is_block = match &item {
            Item::Block(block) => {
                assert!(self.filling, "a block must be pushed to the lane it was taken from");
                assert!(
                    block.is_whole(self.block_bytes),
                    "a block must not exceed the size it was made with"
                );
                true
            }
            Item::Other(_) => false,
        };
        match self.items.push(item) {
            Ok(()) => {
                self.filling &= !is_block;
                Ok(())
            }
            Err(PushError::Full(item)) => Err(item),
        }
    }

    /// Frees the empty blocks of the pool and returns their number.
    pub(crate) fn trim(&mut self) -> usize {
        self.collect_returned();
        let freed = self.spare.len();
        assert!(freed <= self.blocks_alive);
        self.spare = Vec::new();
        self.blocks_alive -= freed;
        freed
    }

    // Collects every returned block. The pool is a stack, so a nearly empty lane reuses the same few blocks instead of
    // cycling through all blocks that one burst made.
    fn collect_returned(&mut self) {
        while let Ok(block) = self.returned.pop() {
            self.spare.push(block);
        }
    }
}

impl<T> Inbound<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn pop(&mut self) -> Option<Item<T>> {
        assert!(!self.reading, "a block must be given back before the next pop");
        let item = self.items.pop().ok()?;
        self.reading = matches!(item, Item::Block(_));
        Some(item)
    }

    pub(crate) fn give_back(&mut self, mut block: Block) {
        assert!(self.reading, "a block must be given back to the lane it was popped from");
        self.reading = false;
        block.clear();
        let returned = self.empties.push(block);
        assert!(returned.is_ok(), "the ring of empty blocks has room for all blocks of the lane");
    }
}
