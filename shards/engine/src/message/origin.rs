//! Where a publish began, as its sequence is known to every shard.
//! Invariant: a shard's sequence grows with each of its publishes and begins at 1, so two updates of one shard have
//! an order everywhere, and 0 is free to say that a message says nothing about that order.

use alloc::vec::Vec;

use crate::base::byte_reader::Reader;

/// The shard of a publish, and its number among the publishes of that shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    pub(crate) shard: u16,
    pub(crate) sequence: u64,
}

impl Origin {
    /// Bytes of an encoded one.
    const BYTES: usize = 10;

    /// Of a message that was published to its group long ago: it says nothing about newer live messages.
    pub(crate) const fn past(shard: u16) -> Self {
        Self { shard, sequence: 0 }
    }

    pub(crate) const fn is_past(self) -> bool {
        self.sequence == 0
    }

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.shard.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
    }

    /// Reads the bytes that [`Origin::encode`] wrote.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Self {
        Self { shard: reader.u16(), sequence: reader.u64() }
    }
}

/// Updates of several shards, or for several homes: a list to be sent, or the bytes that another shard sent.
#[derive(Clone, Copy)]
pub(crate) enum Origins<'a> {
    Bytes(&'a [u8]),
    List(&'a [Origin]),
}

impl<'a> Origins<'a> {
    pub(crate) fn iter(self) -> impl Iterator<Item = Origin> + use<'a> {
        let (bytes, list): (&[u8], &[Origin]) = match self {
            Self::Bytes(bytes) => (bytes, &[]),
            Self::List(list) => (&[], list),
        };
        let from_bytes =
            bytes.chunks_exact(Origin::BYTES).map(|origin| Origin::decode(&mut Reader::new(origin)));
        from_bytes.chain(list.iter().copied())
    }

    /// Bytes of the encoded updates, without their length.
    pub(crate) fn encoded_bytes(self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.len() * Origin::BYTES,
        }
    }

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        let bytes = self.encoded_bytes();
        out.extend_from_slice(&u32::try_from(bytes).expect("at most one a shard").to_le_bytes());
        let start = out.len();
        for origin in self.iter() {
            origin.encode(out);
        }
        assert!(out.len() - start == bytes);
    }

    /// Reads the bytes that [`Origins::encode`] wrote.
    pub(crate) fn decode(reader: &mut Reader<'a>) -> Self {
        let bytes = reader.part();
        assert!(bytes.len().is_multiple_of(Origin::BYTES));
        Self::Bytes(bytes)
    }
}

impl core::fmt::Debug for Origins<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_and_its_bytes_are_the_same_origins() {
        let list = [Origin::past(3), Origin { shard: 63, sequence: u64::MAX }];
        let mut bytes = Vec::new();
        Origins::List(&list).encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        let decoded = Origins::decode(&mut reader);
        reader.finish();
        assert_eq!(decoded.iter().collect::<Vec<_>>(), list);
        assert_eq!(decoded.encoded_bytes(), Origins::List(&list).encoded_bytes());
        assert!(list[0].is_past() && !list[1].is_past());
    }
}
