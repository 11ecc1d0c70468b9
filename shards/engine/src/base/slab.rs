//! Slots with generations: the identity of a connection, a session or a timer.
//!
//! Invariant: a removal raises the generation of its slot, so the key of an earlier value finds nothing until generations wrap.

use core::num::NonZeroU32;

use crate::base::slots::Slots;

/// A slot and the generation of the value in it. A key may outlive its value; it then finds nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key {
    /// The index plus one, so that an `Option<Key>` is no larger than a key: connections and sessions hold several.
    place: NonZeroU32,
    generation: u32,
}

impl Key {
    /// # Panics
    /// If `index` is 2³² − 1, which no slot has.
    pub(crate) const fn new(index: u32, generation: u32) -> Self {
        let place = NonZeroU32::MIN.checked_add(index).expect("slabs are bounded far below 2^32");
        Self { place, generation }
    }

    pub(crate) const fn generation(self) -> u32 {
        self.generation
    }

    /// The index of the slot. Indices are dense from 0.
    pub(crate) const fn index(self) -> u32 {
        self.place.get() - 1
    }
}

const _: () = assert!(size_of::<Option<Key>>() == 8);

#[derive(Debug)]
enum Slot<T> {
    Vacant { generation: u32, next: u32 },
    Taken { generation: u32, value: T },
}

const NONE: u32 = u32::MAX;

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self::Vacant { generation: 0, next: NONE }
    }
}

/// A growing array of slots, each reused under a new generation.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Slots<Slot<T>>,
    vacant: u32,
    len: u32,
    generation_mask: u32,
}

impl<T> Slab<T> {
    /// Bytes of a slot.
    pub(crate) const SLOT_BYTES: usize = size_of::<Slot<T>>();

    /// An empty slab. Generations wrap after `generation_bits` bits: 32 in production, few where a
    /// test wants to see a wrapped one.
    pub(crate) fn new(generation_bits: u32) -> Self {
        assert!((1..=32).contains(&generation_bits));
        Self {
            slots: Slots::new(),
            vacant: NONE,
            len: 0,
            generation_mask: u32::MAX >> (32 - generation_bits),
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Makes `additional` slots ready, so that taking them allocates nothing.
    pub(crate) fn reserve(&mut self, additional: u32) {
        let first = self.slot_count();
        for index in first..first + additional {
            let next = if index + 1 < first + additional { index + 1 } else { self.vacant };
            self.slots.push(Slot::Vacant { generation: 0, next });
        }
        if additional > 0 {
            self.vacant = first;
        }
    }

    /// Takes a slot for `value`.
    ///
    /// # Panics
    /// When 2³² − 1 slots are taken; every caller has a far lower bound of its own.
    pub(crate) fn insert(&mut self, value: T) -> Key {
        self.len += 1;
        if self.vacant == NONE {
            let index = u32::try_from(self.slots.len()).expect("slabs are bounded far below 2^32");
            assert!(index != NONE);
            self.slots.push(Slot::Taken { generation: 0, value });
            return Key::new(index, 0);
        }
        let index = self.vacant;
        let slot = &mut self.slots[index];
        let Slot::Vacant { generation, next } = *slot else {
            panic!("the vacant list holds vacant slots only")
        };
        self.vacant = next;
        *slot = Slot::Taken { generation, value };
        Key::new(index, generation)
    }

    /// Frees a slot and returns its value; `None` if the key is stale.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index())?;
        match slot {
            Slot::Taken { generation, .. } if *generation == key.generation => {}
            Slot::Taken { .. } | Slot::Vacant { .. } => return None,
        }
        let taken = free(slot, self.vacant, self.generation_mask);
        self.vacant = key.index();
        self.len -= 1;
        taken
    }

    /// Frees slot `index` and returns its value, if it has one.
    pub(crate) fn remove_at(&mut self, index: u32) -> Option<T> {
        let slot = self.slots.get_mut(index)?;
        let taken = free(slot, self.vacant, self.generation_mask)?;
        self.vacant = index;
        self.len -= 1;
        Some(taken)
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        match self.slots.get(key.index()) {
            Some(Slot::Taken { generation, value }) if *generation == key.generation => Some(value),
            Some(Slot::Taken { .. } | Slot::Vacant { .. }) | None => None,
        }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.index()) {
            Some(Slot::Taken { generation, value }) if *generation == key.generation => Some(value),
            Some(Slot::Taken { .. } | Slot::Vacant { .. }) | None => None,
        }
    }

    /// The value in slot `index`, without a look at its generation: for tables that name occupied slots only.
    pub(crate) fn at(&self, index: u32) -> Option<&T> {
        match self.slots.get(index) {
            Some(Slot::Taken { value, .. }) => Some(value),
            Some(Slot::Vacant { .. }) | None => None,
        }
    }

    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.slots.get_mut(index) {
            Some(Slot::Taken { value, .. }) => Some(value),
            Some(Slot::Vacant { .. }) | None => None,
        }
    }

    /// The key of slot `index` now, if the slot is occupied.
    pub(crate) fn key_at(&self, index: u32) -> Option<Key> {
        match self.slots.get(index) {
            Some(Slot::Taken { generation, .. }) => Some(Key::new(index, *generation)),
            Some(Slot::Vacant { .. }) | None => None,
        }
    }

    /// One past the highest slot ever taken: the end of a walk over all slots.
    pub(crate) fn slot_count(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("bounded in `insert`")
    }

    /// Bytes of the slots that were ever taken.
    pub(crate) fn bytes_held(&self) -> u64 {
        self.slots.bytes_held()
    }

    /// Recomputes its count and follows the list of vacant slots, for an audit.
    ///
    /// # Panics
    /// If one of them is wrong.
    pub(crate) fn check(&self) {
        assert!(self.iter().count() == self.len as usize);
        let (mut at, mut vacant_count) = (self.vacant, 0);
        while let Some(Slot::Vacant { next, .. }) = self.slots.get(at) {
            assert!((at as usize) < self.slots.len());
            (at, vacant_count) = (*next, vacant_count + 1);
            assert!(vacant_count <= self.slots.len());
        }
        assert!(at == NONE && vacant_count + self.len as usize == self.slots.len());
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        (0u32..).zip(self.slots.iter()).filter_map(|(index, slot)| match slot {
            Slot::Taken { generation, value } => Some((Key::new(index, *generation), value)),
            Slot::Vacant { .. } => None,
        })
    }
}

/// Makes a slot vacant that has a value, which it returns.
fn free<T>(slot: &mut Slot<T>, next: u32, generation_mask: u32) -> Option<T> {
    let Slot::Taken { generation, .. } = *slot else { return None };
    let generation = generation.wrapping_add(1) & generation_mask;
    match core::mem::replace(slot, Slot::Vacant { generation, next }) {
        Slot::Taken { value, .. } => Some(value),
        Slot::Vacant { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_an_earlier_tenant_finds_nothing() {
        let mut slab = Slab::new(32);
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(second.index(), first.index());
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get(second), Some(&"second"));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn two_bits_of_generation_wrap_after_four_tenants() {
        let mut slab = Slab::new(2);
        let first = slab.insert(0);
        slab.remove(first);
        for value in 1..4 {
            let key = slab.insert(value);
            assert_ne!(key, first);
            slab.remove(key);
        }
        assert_eq!(slab.insert(4), first);
    }
}
