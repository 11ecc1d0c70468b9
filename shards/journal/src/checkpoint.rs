//! Checkpoints: the state that the records of a log led to, as a file of slices, so that the log before it can be deleted.
//!
//! A **slice** is a few records that create objects as they were at one position of the log, its `as_of`: a record of the log
//! before `as_of` has already had its effect on them. Slices are written while the log goes on, so their `as_of` grow.
//! Invariant: a file with a checkpoint's name has all its slices and an end that says so, because it is made durable before it is given
//! the name; a file without its end is no checkpoint.

use alloc::vec::Vec;

use crate::FORMAT;
use crate::fields::{Fields, is_sealed, pad, seal};
use crate::io::File;
use crate::record::{self, Next};
use crate::recover::{Damage, DamageKind};
use crate::segment::LogIdentity;
use crate::settings::SECTOR_BYTES;

const HEADER_MAGIC: [u8; 8] = *b"MQTTCHK\0";
const END_MAGIC: [u8; 8] = *b"MQTTCHKE";

/// Bytes of a header without its padding.
const HEADER_BYTES: usize = 4 + 8 + 2 + 2 + 2 + 8 + 16 + 8 + 8 + 8;

/// Bytes of an end without its padding.
const END_BYTES: usize = 4 + 8 + 8 + 8 + 8;

/// Bytes of the header of a slice.
const SLICE_HEADER_BYTES: usize = 4 + 8 + 8 + 8;

/// The facts about a whole checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checkpoint {
    /// The position of the log at which it began. The log from there on goes on where it ends.
    pub position: u64,
    /// The `as_of` of its last slice. The log was durable up to there before the checkpoint counted.
    pub as_of: u64,
    /// The number of its slices.
    pub slices: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// The broker's time and the wall clock's when it began, in milliseconds. The log behind it may have no commit that is whole.
    pub broker_ms: u64,
    /// See `broker_ms`.
    pub wall_ms: u64,
}

/// Appends the header of a checkpoint that begins.
pub(crate) fn encode_header(out: &mut Vec<u8>, identity: &LogIdentity, checkpoint: &Checkpoint) {
    let begin = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&HEADER_MAGIC);
    for field in [FORMAT, identity.shard, identity.shard_count] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&identity.generation.to_le_bytes());
    out.extend_from_slice(&identity.log);
    for field in [checkpoint.position, checkpoint.broker_ms, checkpoint.wall_ms] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    assert!(out.len() - begin == HEADER_BYTES);
    seal(&mut out[begin..]);
    pad(out, begin, SECTOR_BYTES);
}

/// The bytes that a slice with this many bytes of records takes.
pub(crate) const fn slice_bytes(records_bytes: usize) -> usize {
    (SLICE_HEADER_BYTES + records_bytes).next_multiple_of(SECTOR_BYTES)
}

/// Appends a slice.
pub(crate) fn encode_slice(out: &mut Vec<u8>, number: u64, as_of: u64, records: &[u8]) {
    let begin = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&((SLICE_HEADER_BYTES + records.len()) as u64).to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&as_of.to_le_bytes());
    assert!(out.len() - begin == SLICE_HEADER_BYTES);
    out.extend_from_slice(records);
    seal(&mut out[begin..]);
    pad(out, begin, SECTOR_BYTES);
}

/// Appends the end of a checkpoint.
pub(crate) fn encode_end(out: &mut Vec<u8>, checkpoint: &Checkpoint) {
    let begin = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&END_MAGIC);
    for field in [checkpoint.slices, checkpoint.as_of, checkpoint.bytes] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    assert!(out.len() - begin == END_BYTES);
    seal(&mut out[begin..]);
    pad(out, begin, SECTOR_BYTES);
}

/// Reads a checkpoint from its first slice to its last. Memory: none but what its caller reads at a time.
#[derive(Debug)]
pub struct CheckpointReader {
    checkpoint: Checkpoint,
    offset: u64,
    slices: u64,
    as_of: u64,
}

impl CheckpointReader {
    /// Opens the checkpoint that is named by this position. `first` and `last` are the first and the last
    /// [`SECTOR_BYTES`] of its file, which has `bytes` bytes; shorter if the file is.
    ///
    /// # Errors
    /// [`DamageKind::End`] if it is not whole; a log that goes back to the checkpoint before needs none. Otherwise it belongs to
    /// another log, or a later version wrote it.
    pub fn open(
        identity: &LogIdentity,
        position: u64,
        bytes: u64,
        (first, last): (&[u8], &[u8]),
    ) -> Result<Self, Damage> {
        let damage = |kind| Damage { file: File::Checkpoint(position), offset: 0, kind };
        let header = first.get(..HEADER_BYTES).ok_or(damage(DamageKind::End))?;
        let mut fields = Fields(&header[4..]);
        let (magic, format) = (fields.bytes::<8>(), fields.u16());
        if magic == HEADER_MAGIC && format > FORMAT {
            return Err(damage(DamageKind::Format(format)));
        }
        if magic != HEADER_MAGIC || !is_sealed(header) {
            return Err(damage(DamageKind::End));
        }
        let (shard, shard_count) = (fields.u16(), fields.u16());
        let (generation, log) = (fields.u64(), fields.bytes::<16>());
        if (LogIdentity { log, shard, shard_count, generation }) != *identity || fields.u64() != position {
            return Err(damage(DamageKind::Foreign));
        }
        let (broker_ms, wall_ms) = (fields.u64(), fields.u64());
        let end = last.get(..END_BYTES).filter(|end| is_sealed(end) && bytes >= 2 * SECTOR_BYTES as u64);
        let mut fields = Fields(&end.ok_or(damage(DamageKind::End))?[4..]);
        let is_end = fields.bytes::<8>() == END_MAGIC;
        let checkpoint = Checkpoint {
            position,
            slices: fields.u64(),
            as_of: fields.u64(),
            bytes: fields.u64(),
            broker_ms,
            wall_ms,
        };
        let is_empty = bytes == 2 * SECTOR_BYTES as u64;
        if !is_end
            || checkpoint.bytes != bytes
            || !bytes.is_multiple_of(SECTOR_BYTES as u64)
            || checkpoint.as_of < position
            || is_empty != (checkpoint.slices == 0)
        {
            return Err(damage(DamageKind::End));
        }
        Ok(Self { checkpoint, offset: SECTOR_BYTES as u64, slices: 0, as_of: position })
    }

    /// The facts about it.
    #[must_use]
    pub const fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    /// Where in the file it goes on.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether everything is read.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        self.offset + SECTOR_BYTES as u64 >= self.checkpoint.bytes
    }

    /// Reads the slice at [`CheckpointReader::offset`], of which `bytes` are the file's bytes from there on, and hands out `as_of`, kind and
    /// body of its records. Returns false if that is not all of the slice: the caller then offers more.
    ///
    /// # Errors
    /// The slice is damaged. Records that were handed out are then to be given up.
    pub fn slice(&mut self, bytes: &[u8], visit: &mut dyn FnMut(u64, u8, &[u8])) -> Result<bool, Damage> {
        let file = File::Checkpoint(self.checkpoint.position);
        let damage = |kind| Damage { file, offset: self.offset, kind };
        let rest_bytes = self.checkpoint.bytes - SECTOR_BYTES as u64 - self.offset;
        let Some(header) = bytes.get(..SLICE_HEADER_BYTES) else { return Ok(false) };
        let mut fields = Fields(&header[4..]);
        let (size_bytes, number, as_of) = (fields.u64(), fields.u64(), fields.u64());
        if size_bytes < SLICE_HEADER_BYTES as u64 || size_bytes > rest_bytes {
            return Err(damage(DamageKind::Slice));
        }
        let Some(slice) = usize::try_from(size_bytes).ok().and_then(|size| bytes.get(..size)) else {
            return Ok(false);
        };
        let is_next = number == self.slices && as_of >= self.as_of && as_of <= self.checkpoint.as_of;
        if !is_sealed(slice) || !is_next {
            return Err(damage(DamageKind::Slice));
        }
        let mut rest = &slice[SLICE_HEADER_BYTES..];
        while !rest.is_empty() {
            let Next::Record { kind, body, size_bytes } = record::next(rest) else {
                return Err(damage(DamageKind::Record));
            };
            visit(as_of, kind, body);
            rest = &rest[size_bytes..];
        }
        self.slices += 1;
        self.as_of = as_of;
        self.offset += slice_bytes(slice.len() - SLICE_HEADER_BYTES) as u64;
        if self.is_read() && self.slices != self.checkpoint.slices {
            return Err(Damage { file, offset: self.offset, kind: DamageKind::Slice });
        }
        Ok(true)
    }
}
