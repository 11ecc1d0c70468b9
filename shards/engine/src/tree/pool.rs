//! Numbered slots of the tree's parts.
//! Knows nothing of what it holds.

use alloc::vec::Vec;

/// Slots of plain values that are reused, without generations: nothing outside keeps these numbers.
#[derive(Debug)]
pub(super) struct Pool<T> {
    slots: Vec<Option<T>>,
    vacant: Vec<u32>,
}

impl<T> Pool<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), vacant: Vec::new() }
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(index) = self.vacant.pop() {
            self.slots[index as usize] = Some(value);
            return index;
        }
        self.slots.push(Some(value));
        u32::try_from(self.slots.len() - 1).expect("bounded by sessions × subscriptions")
    }

    pub(super) fn remove(&mut self, index: u32) -> T {
        let value = self.slots[index as usize].take().expect("only live slots are removed");
        self.vacant.push(index);
        value
    }

    pub(super) fn get(&self, index: u32) -> &T {
        self.slots[index as usize].as_ref().expect("only live slots are linked")
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut T {
        self.slots[index as usize].as_mut().expect("only live slots are linked")
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }
}
