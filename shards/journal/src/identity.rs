//! The identity of a data directory: two copies of a small file, written in turn, of which the newer valid one counts.
//! Invariant: a crash while one is written leaves the other, so a directory never loses its identity.

use alloc::vec::Vec;

use crate::FORMAT;
use crate::fields::{Fields, is_sealed, pad, seal};
use crate::settings::SECTOR_BYTES;

const MAGIC: [u8; 8] = *b"MQTTIDNT";

/// Bytes of a copy without its padding.
const IDENTITY_BYTES: usize = 4 + 8 + 2 + 2 + 8 + 16 + 16 + 4;

/// The facts that all logs of a data directory share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The key that gives clients and topics their homes.
    pub placement_key: [u8; 16],
    /// Drawn at random when the directory was made.
    pub log: [u8; 16],
    /// The number of logs.
    pub shard_count: u16,
    /// Counts the changes of that number.
    pub generation: u64,
    /// Counts the starts of the process, from 1. It is made durable before anything else of a start.
    pub start: u32,
}

/// The reason why the copies say nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdentityFault {
    /// Neither copy is whole.
    Damaged,
    /// A later version wrote this format.
    Format(u16),
}

impl Identity {
    /// A copy, [`SECTOR_BYTES`] long. The copy `a` takes the odd starts and `b` the even ones.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SECTOR_BYTES);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.shard_count.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.placement_key);
        out.extend_from_slice(&self.log);
        out.extend_from_slice(&self.start.to_le_bytes());
        debug_assert!(out.len() == IDENTITY_BYTES);
        seal(&mut out);
        pad(&mut out, 0, SECTOR_BYTES);
        out
    }

    /// Whether the copy for this start is `a`.
    #[must_use]
    pub const fn is_copy_a(&self) -> bool {
        self.start % 2 == 1
    }

    /// The newer of two copies that is whole. A file that does not exist is an empty copy; `None` if both are.
    ///
    /// # Errors
    /// A copy of a later format, or no whole one among two of which one is not empty.
    pub fn newer(a: &[u8], b: &[u8]) -> Result<Option<Self>, IdentityFault> {
        let copies = [Self::decode(a)?, Self::decode(b)?];
        match copies.into_iter().flatten().max_by_key(|identity| (identity.generation, identity.start)) {
            None if a.is_empty() && b.is_empty() => Ok(None),
            None => Err(IdentityFault::Damaged),
            found => Ok(found),
        }
    }

    fn decode(copy: &[u8]) -> Result<Option<Self>, IdentityFault> {
        let Some(copy) = copy.get(..IDENTITY_BYTES) else { return Ok(None) };
        let mut fields = Fields(&copy[4..]);
        let (magic, format) = (fields.bytes::<8>(), fields.u16());
        if magic == MAGIC && format > FORMAT {
            return Err(IdentityFault::Format(format));
        }
        let (shard_count, generation) = (fields.u16(), fields.u64());
        let (placement_key, log, start) = (fields.bytes(), fields.bytes(), fields.u32());
        let is_whole = magic == MAGIC && is_sealed(copy);
        Ok(is_whole.then_some(Self { placement_key, log, shard_count, generation, start }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Identity =
        Identity { placement_key: [1; 16], log: [2; 16], shard_count: 4, generation: 1, start: 1 };

    #[test]
    fn the_newer_whole_copy_counts() {
        let second = Identity { start: 2, ..FIRST };
        let (a, b) = (FIRST.encode(), second.encode());
        assert!(FIRST.is_copy_a() && !second.is_copy_a());
        assert_eq!(Identity::newer(&[], &[]), Ok(None));
        assert_eq!(Identity::newer(&a, &[]), Ok(Some(FIRST)));
        assert_eq!(Identity::newer(&a, &b), Ok(Some(second)));
        for at in 0..IDENTITY_BYTES {
            let mut torn = b.clone();
            torn[at] ^= 0x40;
            let found = Identity::newer(&a, &torn);
            // The bit of the format that makes it a later one is not told from a later version.
            let is_format = matches!(found, Err(IdentityFault::Format(_)));
            assert!(found == Ok(Some(FIRST)) || is_format, "{at}: {found:?}");
            assert_eq!(is_format, (12..14).contains(&at), "{at}");
        }
    }

    #[test]
    fn no_whole_copy_is_damage() {
        let mut a = FIRST.encode();
        a[20] ^= 1;
        assert_eq!(Identity::newer(&a, &[]), Err(IdentityFault::Damaged));
    }
}
