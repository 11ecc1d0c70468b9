//! Numbered slots of the tree's parts.
//! Knows nothing of what it holds.

use alloc::vec::Vec;

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Debug)]
enum Slot<T> {
    Vacant { next: u32 },
    Taken(T),
}

/// Slots of plain values that are reused, without generations: nothing outside keeps these numbers.
#[derive(Debug)]
pub(super) struct Pool<T> {
    slots: Vec<Slot<T>>,
    /// The slot to be reused first, which names the next.
    vacant: u32,
    len: usize,
}

impl<T> Pool<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), vacant: NONE, len: 0 }
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        let index = self.vacant;
        if index == NONE {
            self.slots.push(Slot::Taken(value));
            return u32::try_from(self.slots.len() - 1).expect("bounded by sessions × subscriptions");
        }
        match core::mem::replace(&mut self.slots[index as usize], Slot::Taken(value)) {
            Slot::Vacant { next } => self.vacant = next,
            Slot::Taken(_) => unreachable!("the vacant list holds vacant slots only"),
        }
        index
    }

    pub(super) fn remove(&mut self, index: u32) -> T {
        let vacant = Slot::Vacant { next: self.vacant };
        match core::mem::replace(&mut self.slots[index as usize], vacant) {
            Slot::Taken(value) => {
                self.vacant = index;
                self.len -= 1;
                value
            }
            Slot::Vacant { .. } => unreachable!("only live slots are removed"),
        }
    }

    pub(super) fn get(&self, index: u32) -> &T {
        match &self.slots[index as usize] {
            Slot::Taken(value) => value,
            Slot::Vacant { .. } => unreachable!("only live slots are linked"),
        }
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut T {
        match &mut self.slots[index as usize] {
            Slot::Taken(value) => value,
            Slot::Vacant { .. } => unreachable!("only live slots are linked"),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}
