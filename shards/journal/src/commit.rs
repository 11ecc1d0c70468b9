//! Commits: a header, a piece of the stream of records, and zeros up to the next sector.
//! Invariant: the checksum covers header and records, so whatever a crash left of a commit is found out.

use alloc::vec::Vec;

use crate::fields::{Fields, is_sealed, pad, seal};
use crate::settings::{COMMIT_BYTES_MAX, SECTOR_BYTES};

/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 52;

/// Bytes of records that a commit can have.
pub(crate) const PAYLOAD_BYTES_MAX: usize = COMMIT_BYTES_MAX - HEADER_BYTES;

const _: () = assert!(HEADER_BYTES < SECTOR_BYTES && COMMIT_BYTES_MAX.is_multiple_of(SECTOR_BYTES));

/// The fields of a commit beside its records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    /// Counts the commits of a log, over all starts.
    pub(crate) sequence: u64,
    /// The start of the process that wrote it.
    pub(crate) start: u32,
    /// All commits below this number were durable when this one was made.
    pub(crate) synced_below: u64,
    /// Where its first byte stands in the stream.
    pub(crate) position: u64,
    /// The broker's time and the wall clock's, in milliseconds.
    pub(crate) broker_ms: u64,
    pub(crate) wall_ms: u64,
}

/// Appends a commit with these records.
///
/// # Panics
/// If it would be longer than a commit may be, or has no records.
pub(crate) fn encode(out: &mut Vec<u8>, header: &Header, records: &[u8]) {
    assert!(!records.is_empty() && records.len() <= PAYLOAD_BYTES_MAX);
    let begin = out.len();
    let size_bytes = u32::try_from(HEADER_BYTES + records.len()).expect("it is at most 1 MiB");
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&size_bytes.to_le_bytes());
    out.extend_from_slice(&header.sequence.to_le_bytes());
    out.extend_from_slice(&header.start.to_le_bytes());
    for field in [header.synced_below, header.position, header.broker_ms, header.wall_ms] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    assert!(out.len() - begin == HEADER_BYTES);
    out.extend_from_slice(records);
    seal(&mut out[begin..]);
    pad(out, begin, SECTOR_BYTES);
}

/// The commit at the beginning of `bytes`, with its records and the bytes that it takes with its padding; `None` if there is no
/// whole one.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Header, &[u8], usize)> {
    if bytes.len() < HEADER_BYTES {
        return None;
    }
    let mut fields = Fields(&bytes[4..]);
    let size_bytes = fields.u32() as usize;
    if size_bytes <= HEADER_BYTES || size_bytes > COMMIT_BYTES_MAX {
        return None;
    }
    let commit = bytes.get(..size_bytes).filter(|commit| is_sealed(commit))?;
    let header = Header {
        sequence: fields.u64(),
        start: fields.u32(),
        synced_below: fields.u64(),
        position: fields.u64(),
        broker_ms: fields.u64(),
        wall_ms: fields.u64(),
    };
    Some((header, &commit[HEADER_BYTES..], size_bytes.next_multiple_of(SECTOR_BYTES)))
}
