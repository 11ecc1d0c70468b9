//! A block: a fixed-size buffer of packed messages. One shard fills it, another reads it, and it returns to be filled
//! again. The contents are opaque to this crate.

use alloc::vec::Vec;
use core::ops::Deref;

/// A buffer in transit between two shards. Only [`Port::empty_block`](crate::Port::empty_block) makes one, and each must
/// return to its lane's pool: the producer pushes it, the consumer gives it back.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a block that is dropped is missing from its lane's pool"]
pub struct Block(Vec<u8>);

impl Block {
    pub(crate) fn new(block_bytes: usize) -> Self {
        Self(Vec::with_capacity(block_bytes))
    }

    /// Bytes that may still be appended.
    #[must_use]
    pub fn room(&self) -> usize {
        self.0.capacity() - self.0.len()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether this is still the original vector: not grown, and not replaced by a smaller one.
    pub(crate) fn is_whole(&self, block_bytes: usize) -> bool {
        self.0.len() <= block_bytes && self.0.capacity() >= block_bytes
    }
}

/// Read access.
impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Write access: append up to [`Block::room`] bytes. [`Port::push`](crate::Port::push) asserts that the block holds at
/// most the mesh's `block_bytes` and that its vector was not replaced by a smaller one.
impl AsMut<Vec<u8>> for Block {
    fn as_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn appending_shrinks_the_room() {
        let mut block = Block::new(16);
        assert_eq!(block.room(), 16);
        block.as_mut().extend_from_slice(b"seven b");
        assert_eq!(block.room(), 9);
        assert_eq!(&block[..], b"seven b");
        block.clear();
        assert_eq!((block.room(), block.len()), (16, 0));
    }

    #[test]
    fn a_block_that_outgrew_or_lost_its_vector_is_not_whole() {
        let mut block = Block::new(4);
        block.as_mut().extend_from_slice(b"four");
        assert!(block.is_whole(4));
        block.as_mut().push(b'!');
        assert!(!block.is_whole(4));
        *block.as_mut() = Vec::new();
        assert!(!block.is_whole(4));
    }
}
