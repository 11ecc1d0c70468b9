//! Fixed fields in little-endian order, as headers have them. The lengths are constants of the formats, so reading beyond
//! the end is a bug of this crate and not of a file.

use alloc::vec::Vec;

use crc::{CRC_32_ISCSI, Crc, Table};

/// CRC-32C, sixteen bytes at a time.
static CHECKSUM: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// Reads fields one after the other.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    /// The next `N` bytes.
    ///
    /// # Panics
    /// If there are fewer; the callers read headers of a fixed length.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.0.split_first_chunk::<N>().expect("a header has a fixed length");
        self.0 = rest;
        *field
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.bytes())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }
}

/// Closes a block that begins with four bytes for its checksum: fills in the checksum of all that follows them.
///
/// # Panics
/// If the block is shorter than its checksum.
pub(crate) fn seal(block: &mut [u8]) {
    let (checksum, rest) = block.split_first_chunk_mut::<4>().expect("a block begins with its checksum");
    *checksum = CHECKSUM.checksum(rest).to_le_bytes();
}

/// Whether a block is as [`seal`] left it.
pub(crate) fn is_sealed(block: &[u8]) -> bool {
    block
        .split_first_chunk::<4>()
        .is_some_and(|(checksum, rest)| u32::from_le_bytes(*checksum) == CHECKSUM.checksum(rest))
}

/// Appends zeros until the length from `begin` on is a multiple of `alignment`.
pub(crate) fn pad(out: &mut Vec<u8>, begin: usize, alignment: usize) {
    out.resize(begin + (out.len() - begin).next_multiple_of(alignment), 0);
}
