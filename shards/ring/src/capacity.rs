//! How much the lanes of a process may hold.
//! Knows no shard and no ring: only the figures and what they must be to each other.

/// The bounds of every lane of a mesh. What a lane can pin at most is `(items + 2) * block_bytes`: a full ring, one
/// block being filled and one being read. An idle lane pins its ring's slots and no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Items that a data lane holds; when it is full, [`Port::push`](crate::Port::push) gives the item back.
    pub data_items: usize,
    /// Items that a control lane holds, slots reserved for replies included; full as above.
    pub control_items: usize,
    /// Bytes in a block. Who has more to say takes another block, or sends [`Item::Other`](crate::Item::Other).
    pub block_bytes: usize,
}

/// One block being filled by the producer, one being read by the consumer.
pub(crate) const BLOCKS_BESIDE_RING: usize = 2;

/// Most items of one lane: positions in a ring are counted up to twice its capacity.
const ITEMS_MAX: usize = 1 << 20;

/// Most bytes of one block: past it a message is better moved than copied.
const BLOCK_BYTES_MAX: usize = 1 << 20;

impl Capacity {
    /// 64 blocks of 8 KiB in each lane.
    pub const DEFAULT: Self = Self { data_items: 64, control_items: 64, block_bytes: 8_192 };

    /// Whether a mesh can be built of it: every lane holds something, and none more than positions can count.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        0 < self.data_items
            && self.data_items <= ITEMS_MAX
            && 0 < self.control_items
            && self.control_items <= ITEMS_MAX
            && 0 < self.block_bytes
            && self.block_bytes <= BLOCK_BYTES_MAX
    }
}

// A ring position (twice the capacity) and the bytes that a whole lane pins must be countable, on 32 bits too.
const _: () = assert!(ITEMS_MAX <= u32::MAX as usize / 4);
const _: () = assert!(Capacity::DEFAULT.is_valid());
// A page or two for each block, and no lane of the default pins more than a megabyte.
const _: () = assert!(Capacity::DEFAULT.block_bytes.is_multiple_of(4_096));
const _: () = assert!(
    (Capacity::DEFAULT.data_items + BLOCKS_BESIDE_RING) * Capacity::DEFAULT.block_bytes <= 1 << 20
        && (Capacity::DEFAULT.control_items + BLOCKS_BESIDE_RING) * Capacity::DEFAULT.block_bytes <= 1 << 20
);

impl Default for Capacity {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn zero_and_excessive_capacities_are_invalid() {
        let valid = Capacity::DEFAULT;
        assert!(valid.is_valid());
        for invalid in [
            Capacity { data_items: 0, ..valid },
            Capacity { control_items: 0, ..valid },
            Capacity { block_bytes: 0, ..valid },
            Capacity { data_items: ITEMS_MAX + 1, ..valid },
            Capacity { control_items: ITEMS_MAX + 1, ..valid },
            Capacity { block_bytes: BLOCK_BYTES_MAX + 1, ..valid },
        ] {
            assert!(!invalid.is_valid(), "{invalid:?}");
        }
    }
}
