//! Values by a 64-bit keyed hash, such as a fingerprint, which is their whole key. It grows without a pause, as its parts do.

use super::index::Index;
use super::pool::Pool;

/// A table of values, each under a hash of its own.
#[derive(Debug)]
pub(crate) struct ByHash<V> {
    slots: Pool<(u64, V)>,
    index: Index,
}

impl<V> Default for ByHash<V> {
    fn default() -> Self {
        Self { slots: Pool::new(), index: Index::new() }
    }
}

impl<V> ByHash<V> {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn bytes_held(&self) -> u64 {
        self.slots.bytes_held() + self.index.bytes_held()
    }

    pub(crate) fn get(&self, hash: u64) -> Option<&V> {
        self.slot_of(hash).map(|slot| &self.slots.get(slot).1)
    }

    pub(crate) fn get_mut(&mut self, hash: u64) -> Option<&mut V> {
        self.slot_of(hash).map(|slot| &mut self.slots.get_mut(slot).1)
    }

    /// The value under a hash, a new one if there is none.
    pub(crate) fn get_or_default(&mut self, hash: u64) -> &mut V
    where
        V: Default,
    {
        let slot = self.slot_of(hash).unwrap_or_else(|| {
            let slot = self.slots.insert((hash, V::default()));
            self.index.insert(hash, slot);
            assert!(self.index.len() == self.slots.len());
            slot
        });
        &mut self.slots.get_mut(slot).1
    }

    pub(crate) fn remove(&mut self, hash: u64) -> Option<V> {
        let slot = self.slot_of(hash)?;
        self.index.remove(hash, slot);
        let (_, value) = self.slots.remove(slot);
        assert!(self.index.len() == self.slots.len());
        Some(value)
    }

    /// Every value with its hash, for an audit.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.slots.iter().map(|(_, (hash, value))| (*hash, value))
    }

    fn slot_of(&self, hash: u64) -> Option<u32> {
        self.index.find(hash, |slot| self.slots.get(slot).0 == hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_has_one_value_though_others_share_half_of_it() {
        let mut table = ByHash::default();
        let (one, other) = (7, 7 | 1 << 40);
        *table.get_or_default(one) = "one";
        *table.get_or_default(other) = "other";
        assert_eq!(*table.get_or_default(one), "one");
        assert_eq!((table.get(one), table.get(other), table.len()), (Some(&"one"), Some(&"other"), 2));
        assert_eq!(table.remove(one), Some("one"));
        assert_eq!((table.remove(one), table.get(other)), (None, Some(&"other")));
    }
}
