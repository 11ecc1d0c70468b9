//! A set of shards in one word, one bit for each shard.

/// Some of the shards of a process. A shard is its number, below [`Self::SHARDS_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct ShardSet(u64);

impl ShardSet {
    /// One bit for each shard.
    pub(crate) const SHARDS_MAX: u16 = 64;

    /// The set as a word, in which bit `n` is shard `n`. Shards send each other this word.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) fn with(self, shard: u16) -> Self {
        assert!(shard < Self::SHARDS_MAX);
        Self(self.0 | 1 << shard)
    }

    pub(crate) fn without(self, shard: u16) -> Self {
        assert!(shard < Self::SHARDS_MAX);
        Self(self.0 & !(1 << shard))
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn contains(self, shard: u16) -> bool {
        self.0 >> shard & 1 == 1
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The shards of the set in ascending order. Only set bits are visited, so an empty set costs nothing.
    pub(crate) fn iter(self) -> impl Iterator<Item = u16> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let shard = left.trailing_zeros();
            left &= left.checked_sub(1)?;
            u16::try_from(shard).ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_set_keeps_what_it_is_given() {
        let set = ShardSet::default().with(0).with(63).with(7).without(0);
        assert_eq!(set.iter().collect::<Vec<_>>(), [7, 63]);
        assert_eq!((set.len(), set.contains(7), set.contains(0)), (2, true, false));
        assert_eq!((set.bits(), ShardSet::from_bits(set.bits())), (1 << 63 | 1 << 7, set));
    }
}
