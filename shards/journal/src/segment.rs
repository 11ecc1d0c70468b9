//! The header of a segment: to which log it belongs, and where in the log it begins.

use alloc::vec::Vec;

use crate::FORMAT;
use crate::fields::{Fields, is_sealed, pad, seal};
use crate::settings::SECTOR_BYTES;

const MAGIC: [u8; 8] = *b"MQTTLOG\0";

/// Bytes of a header without its padding.
const HEADER_BYTES: usize = 4 + 8 + 2 + 2 + 2 + 8 + 16 + 8 + 4 + 8 + 8 + 8;

/// The log that a segment belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogIdentity {
    /// Drawn at random when the data directory was made.
    pub log: [u8; 16],
    /// The shard whose log it is.
    pub shard: u16,
    /// The number of shards.
    pub shard_count: u16,
    /// Counts the changes of that number.
    pub generation: u64,
}

/// The fields of a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) identity: LogIdentity,
    /// Counts the segments of a log, from 1.
    pub(crate) number: u64,
    /// The start of the process that wrote it.
    pub(crate) start: u32,
    /// The number of its first commit.
    pub(crate) first_sequence: u64,
    /// Where that commit stands in the stream.
    pub(crate) first_position: u64,
    /// All commits below this number were durable when it was made.
    pub(crate) synced_below: u64,
}

/// The reason why a header cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// Nothing was written, or only a part.
    Torn,
    /// A later version wrote it.
    Format(u16),
    /// It belongs to another log.
    Foreign,
}

impl Header {
    /// Appends the header, with its padding.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&MAGIC);
        for field in [FORMAT, self.identity.shard, self.identity.shard_count] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.identity.generation.to_le_bytes());
        out.extend_from_slice(&self.identity.log);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.start.to_le_bytes());
        for field in [self.first_sequence, self.first_position, self.synced_below] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        assert!(out.len() - begin == HEADER_BYTES);
        seal(&mut out[begin..]);
        pad(out, begin, SECTOR_BYTES);
    }

    /// Reads the header at the beginning of a segment of the log `identity`.
    pub(crate) fn decode(bytes: &[u8], identity: &LogIdentity) -> Result<Self, Refusal> {
        let header =
            bytes.get(..HEADER_BYTES).filter(|_| bytes.len() >= SECTOR_BYTES).ok_or(Refusal::Torn)?;
        let mut fields = Fields(&header[4..]);
        let (magic, format) = (fields.bytes::<8>(), fields.u16());
        if magic != MAGIC || !is_sealed(header) {
            // A later version may have a longer header, and then the checksum is elsewhere.
            return Err(if magic == MAGIC && format > FORMAT {
                Refusal::Format(format)
            } else {
                Refusal::Torn
            });
        }
        let (shard, shard_count) = (fields.u16(), fields.u16());
        let (generation, log) = (fields.u64(), fields.bytes::<16>());
        let header = Self {
            identity: LogIdentity { log, shard, shard_count, generation },
            number: fields.u64(),
            start: fields.u32(),
            first_sequence: fields.u64(),
            first_position: fields.u64(),
            synced_below: fields.u64(),
        };
        match format {
            _ if format > FORMAT => Err(Refusal::Format(format)),
            _ if header.identity != *identity => Err(Refusal::Foreign),
            _ => Ok(header),
        }
    }
}
