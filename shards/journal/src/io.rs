//! The I/O that a writer asks its host for, and its result.

use alloc::vec::Vec;
use core::fmt;

use crate::settings::SECTOR_BYTES;

/// A file of a log. The host gives it a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum File {
    /// The segment of this number.
    Segment(u64),
    /// The checkpoint that began at this position.
    Checkpoint(u64),
    /// The checkpoint that is being written. A start deletes it.
    Draft,
}

impl fmt::Display for File {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(number) => write!(formatter, "segment {number}"),
            Self::Checkpoint(position) => write!(formatter, "checkpoint {position}"),
            Self::Draft => formatter.write_str("the unfinished checkpoint"),
        }
    }
}

/// Names a request until its result is reported.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct IoId(pub(crate) u64);

/// I/O that is due. Requests may be done at the same time and in any order; each result is reported once, by
/// [`crate::Writer::complete`].
#[derive(Debug)]
pub enum Io {
    /// Create this file with that many zeros, or truncate it to them, and make its content durable.
    Create {
        /// Names the request.
        id: IoId,
        /// The file.
        file: File,
        /// Its length.
        bytes: u64,
    },
    /// Write [`Block::bytes`] at this offset of a file. The result is the number of bytes that were written; after a short
    /// write the writer asks for the rest.
    Write {
        /// Names the request.
        id: IoId,
        /// The file.
        file: File,
        /// Where in it, in bytes.
        offset: u64,
        /// The bytes; they come back with the result.
        block: Block,
    },
    /// Make everything durable that was written to this file before.
    Sync {
        /// Names the request.
        id: IoId,
        /// The file.
        file: File,
    },
    /// Make the names of created, renamed and deleted files durable.
    SyncDirectory {
        /// Names the request.
        id: IoId,
    },
    /// Give a file another name, in one step.
    Rename {
        /// Names the request.
        id: IoId,
        /// The file.
        from: File,
        /// Its new name. A file that has it already is replaced.
        to: File,
    },
    /// Delete a file that nobody needs any more.
    Delete {
        /// Names the request.
        id: IoId,
        /// The file.
        file: File,
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
