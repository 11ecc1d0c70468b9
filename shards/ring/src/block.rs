//! A block: the bytes of many messages, filled by one shard, read by another, used again.
//! Knows no lane; what its bytes mean is known to those who fill and read it.

use alloc::vec::Vec;
use core::ops::Deref;

/// Bytes under way between two shards. Made by [`Port::empty_block`](crate::Port::empty_block) alone, and owed back to
/// its lane: a producer pushes it, a consumer gives it back.
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

    /// Whether this is still the vector it was made with: neither grown nor exchanged for a smaller one.
    pub(crate) fn is_whole(&self, block_bytes: usize) -> bool {
        self.0.len() <= block_bytes && self.0.capacity() >= block_bytes
    }
}

/// For reading.
impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// For filling: append up to [`Block::room`] bytes. A block that holds more than the mesh's `block_bytes`, or whose
/// vector was exchanged for a smaller one, is refused by an assertion when it is pushed.
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
