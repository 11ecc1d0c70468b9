//! The bounds of the lanes: items per lane and bytes per block, with their relations checked at compile time.

/// The bounds of every lane of a mesh. A lane pins at most `(items + 2) * block_bytes`: a full ring, one block being
/// filled and one being read. An idle lane pins its ring's slots and no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Items that a data lane holds. When it is full, [`Port::push`](crate::Port::push) returns the item.
    pub data_items: usize,
    /// Items that a control lane holds, including slots reserved for replies. When it is full, `push` returns the item.
    pub control_items: usize,
    /// Bytes in a block. Longer content takes another block or travels as [`Item::Other`](crate::Item::Other).
    pub block_bytes: usize,
}

/// One block being filled by the producer and one being read by the consumer.
pub(crate) const BLOCKS_BESIDE_RING: usize = 2;

/// Maximum items of one lane. Ring positions count up to twice the capacity.
const ITEMS_MAX: usize = 1 << 20;

/// Maximum bytes of one block. Above this size, moving a message is cheaper than copying it.
const BLOCK_BYTES_MAX: usize = 1 << 20;

impl Capacity {
    /// 64 blocks of 8 KiB in each lane.
    pub const DEFAULT: Self = Self { data_items: 64, control_items: 64, block_bytes: 8_192 };

    /// Whether a mesh can be built with these bounds: every lane holds at least one item, and positions can count them
    /// all.
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

// A ring position (twice the capacity) and the bytes that a whole lane pins must fit in a 32-bit `usize`.
const _: () = assert!(ITEMS_MAX <= u32::MAX as usize / 4);
const _: () = assert!(Capacity::DEFAULT.is_valid());
// A block is one or two pages, and a lane with the default bounds pins at most one megabyte.
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
