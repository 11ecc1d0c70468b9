//! One lane: a ring of items, a ring of empty blocks back, and the pool at the producer's end.
//! Knows neither which shards it joins nor whether anyone sleeps.

use alloc::vec::Vec;

use crate::block::Block;
use crate::capacity::BLOCKS_BESIDE_RING;
use crate::sync::{Consumer, Producer, PushError, ring};

/// Which of the two lanes of an ordered pair of shards. Each is in order; there is none between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// What peers cause in bulk, and what may have to wait for credit.
    Data,
    /// What shards ask and answer each other; must never wait behind data.
    Control,
}

impl Lane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Data, Self::Control];
}

/// What a lane carries, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<T> {
    /// Many messages, packed.
    Block(Block),
    /// What is too large for a block or is not bytes: a shared payload, a connection handed over. Every slot of every
    /// lane is as large as a `T`: keep it to a few words, boxed if need be.
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

/// The producer's end.
///
/// **Lives on:** the shard that pushes. **Sees:** its own pool, and what the consumer has taken.
pub(crate) struct Outbound<T> {
    items: Producer<Item<T>>,
    returned: Consumer<Block>,
    /// Empty blocks, the warmest last. At most `blocks_max` by way of `blocks_alive`.
    spare: Vec<Block>,
    /// Blocks of this lane that exist, wherever they are; never more than `blocks_max`.
    blocks_alive: usize,
    blocks_max: usize,
    block_bytes: usize,
    /// Whether a block was taken from the pool and is not pushed yet.
    filling: bool,
    /// Free slots that the shard waits for; 0 while it waits for none.
    pub(crate) items_wanted: usize,
}

/// The consumer's end.
///
/// **Lives on:** the shard that pops. **Sees:** what was pushed.
pub(crate) struct Inbound<T> {
    items: Consumer<Item<T>>,
    empties: Producer<Block>,
    /// Whether a block was popped and is not given back yet.
    reading: bool,
}

/// Both ends of a lane of `items_max` items. Allocates its slots, and no block.
pub(crate) fn lane<T>(items_max: usize, block_bytes: usize) -> (Outbound<T>, Inbound<T>) {
    // A full ring, one block being filled and one being read: all of them may be empties at once, so a return always fits.
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

    pub(crate) fn empty_block(&mut self) -> Block {
        assert!(!self.filling, "the block taken before was pushed");
        self.filling = true;
        self.collect_returned();
        self.spare.pop().unwrap_or_else(|| {
            // The consumer gives each block back before it pops the next. So of the blocks it has popped, as far as we
            // know, all but one are back in the pool, and those not popped fit into the ring.
            assert!(
                self.blocks_alive < self.blocks_max,
                "all but the ring's and the one being read are back"
            );
            self.blocks_alive += 1;
            Block::new(self.block_bytes)
        })
    }

    pub(crate) fn push(&mut self, item: Item<T>) -> Result<(), Item<T>> {
        let is_block = match &item {
            Item::Block(block) => {
                assert!(self.filling, "a block is pushed by who took it, to where it was taken from");
                assert!(block.is_whole(self.block_bytes), "a block keeps within the bytes it was made with");
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

    /// Frees the empty blocks of the pool; how many.
    pub(crate) fn trim(&mut self) -> usize {
        self.collect_returned();
        let freed = self.spare.len();
        assert!(freed <= self.blocks_alive);
        self.spare = Vec::new();
        self.blocks_alive -= freed;
        freed
    }

    // All of them, not just one: the pool is a stack, so that a lane which runs nearly empty uses the same few blocks
    // again and again, and not in turn all those that one burst made.
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
        assert!(!self.reading, "a block is given back before the next item is popped");
        let item = self.items.pop().ok()?;
        self.reading = matches!(item, Item::Block(_));
        Some(item)
    }

    pub(crate) fn give_back(&mut self, mut block: Block) {
        assert!(self.reading, "a block is given back by who popped it, to where it was popped from");
        self.reading = false;
        block.clear();
        let returned = self.empties.push(block);
        assert!(returned.is_ok(), "the ring of empties holds all blocks there can be");
    }
}
