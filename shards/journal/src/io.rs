//! The I/O that a writer asks its host for, and its result.

use alloc::vec::Vec;

use crate::settings::SECTOR_BYTES;

/// Names a request until its result is reported.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct IoId(pub(crate) u64);

/// I/O that is due. Requests may be done at the same time and in any order; each result is reported once, by
/// [`crate::Writer::complete`]. Segments are named by their number.
#[derive(Debug)]
pub enum Io {
    /// Create this segment with that many zeros, or truncate it to them, and make its content durable.
    Create {
        /// Names the request.
        id: IoId,
        /// The segment.
        segment: u64,
        /// Its length.
        bytes: u64,
    },
    /// Write [`Block::bytes`] at this offset of a segment. The result is the number of bytes that were written; after a short
    /// write the writer asks for the rest.
    Write {
        /// Names the request.
        id: IoId,
        /// The segment.
        segment: u64,
        /// Where in it, in bytes.
        offset: u64,
        /// The bytes; they come back with the result.
        block: Block,
    },
    /// Make everything durable that was written to this segment before.
    Sync {
        /// Names the request.
        id: IoId,
        /// The segment.
        segment: u64,
    },
    /// Make the names of created and deleted segments durable.
    SyncDirectory {
        /// Names the request.
        id: IoId,
    },
    /// Delete a segment that nobody needs any more.
    Delete {
        /// Names the request.
        id: IoId,
        /// The segment.
        segment: u64,
    },
}

/// The reason why I/O failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The file system is full, or a quota of it.
    NoSpace,
    /// Anything else, by the number of the system's error.
    Failed(i32),
}

/// Bytes to be written, at an address that is a multiple of [`SECTOR_BYTES`], as direct I/O demands.
#[derive(Default, Debug)]
pub struct Block {
    buffer: Vec<u8>,
    begin: usize,
    /// Bytes that are written already.
    written: usize,
}

impl Block {
    /// Fills a block anew with what `encode` appends to it, at most `bytes_max` bytes.
    pub(crate) fn fill(&mut self, bytes_max: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        self.buffer.clear();
        self.buffer.reserve(bytes_max + SECTOR_BYTES);
        self.begin = self.buffer.as_ptr().align_offset(SECTOR_BYTES).min(SECTOR_BYTES);
        self.buffer.resize(self.begin, 0);
        let before = self.buffer.as_ptr();
        encode(&mut self.buffer);
        assert!(before == self.buffer.as_ptr(), "the block was reserved");
        self.written = 0;
    }

    /// The bytes that are not written yet.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.begin + self.written..]
    }

    /// Notes that the first of them are written, and returns whether some are left.
    ///
    /// # Panics
    /// If more were written than there were.
    pub(crate) fn advance(&mut self, bytes: usize) -> bool {
        assert!(bytes <= self.bytes().len());
        self.written += bytes;
        !self.bytes().is_empty()
    }

    pub(crate) fn written(&self) -> usize {
        self.written
    }
}
