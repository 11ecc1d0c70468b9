//! Numbered slots that are reused, without generations: the owner drops every link to a slot before it frees the slot.
//!
//! Free slots form a list through themselves, so insertion and removal take the same time however many slots there are.

use super::slots::Slots;

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Debug)]
enum Slot<T> {
    Vacant { next: u32 },
    Taken(T),
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self::Vacant { next: NONE }
    }
}

#[derive(Debug)]
pub(crate) struct Pool<T> {
    slots: Slots<Slot<T>>,
    /// The slot to be reused first, which names the next.
    vacant: u32,
    len: usize,
}

impl<T> Pool<T> {
    /// Bytes of a slot.
    pub(crate) const SLOT_BYTES: usize = size_of::<Slot<T>>();

    pub(crate) const fn new() -> Self {
        Self { slots: Slots::new(), vacant: NONE, len: 0 }
    }

    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        let index = self.vacant;
        if index == NONE {
            // No slot is vacant, so all are in use.
            self.slots.push(Slot::Taken(value));
            assert!(self.len == self.slots.len());
            return number(self.slots.len() - 1);
        }
        match core::mem::replace(&mut self.slots[index], Slot::Taken(value)) {
            Slot::Vacant { next } => self.vacant = next,
            Slot::Taken(_) => unreachable!("the vacant list holds vacant slots only"),
        }
        assert!(self.len <= self.slots.len());
        index
    }

    pub(crate) fn remove(&mut self, index: u32) -> T {
        let vacant = Slot::Vacant { next: self.vacant };
        match core::mem::replace(&mut self.slots[index], vacant) {
            Slot::Taken(value) => {
                self.vacant = index;
                self.len -= 1;
                value
            }
            Slot::Vacant { .. } => unreachable!("a slot is freed once"),
        }
    }

    pub(crate) fn get(&self, index: u32) -> &T {
        match &self.slots[index] {
            Slot::Taken(value) => value,
            Slot::Vacant { .. } => unreachable!("only slots in use are linked"),
        }
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> &mut T {
        match &mut self.slots[index] {
            Slot::Taken(value) => value,
            Slot::Vacant { .. } => unreachable!("only slots in use are linked"),
        }
    }

    /// Whether a slot is in use, for an audit.
    pub(crate) fn holds(&self, index: u32) -> bool {
        matches!(self.slots.get(index), Some(Slot::Taken(_)))
    }

    /// The value of a slot that may be vacant or never taken.
    pub(crate) fn at(&self, index: u32) -> Option<&T> {
        match self.slots.get(index)? {
            Slot::Taken(value) => Some(value),
            Slot::Vacant { .. } => None,
        }
    }

    /// One past the highest slot ever taken.
    pub(crate) fn slot_count(&self) -> u32 {
        number(self.slots.len())
    }

    /// Slots in use, with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0u32..).zip(self.slots.iter()).filter_map(|(index, slot)| match slot {
            Slot::Taken(value) => Some((index, value)),
            Slot::Vacant { .. } => None,
        })
    }

    /// Recomputes its count and follows the list of vacant slots, for an audit.
    ///
    /// # Panics
    /// If one of them is wrong.
    pub(crate) fn check(&self) {
        assert!(self.iter().count() == self.len);
        let (mut at, mut vacant_count) = (self.vacant, 0);
        while let Some(Slot::Vacant { next }) = self.slots.get(at) {
            assert!((at as usize) < self.slots.len());
            (at, vacant_count) = (*next, vacant_count + 1);
            assert!(vacant_count <= self.slots.len());
        }
        assert!(at == NONE && vacant_count + self.len == self.slots.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of all slots, vacant ones included.
    pub(crate) fn bytes_held(&self) -> u64 {
        self.slots.bytes_held()
    }
}

/// The number of a slot or a position. Memory ends long before 2³² of them.
pub(crate) fn number(index: usize) -> u32 {
    u32::try_from(index).expect("bounded by sessions × subscriptions")
}
