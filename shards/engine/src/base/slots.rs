//! An array of slots in banks, so that it grows without ever moving what it holds: an array in one piece copies a million slots when it
//! doubles, and holds up a step for that.
//!
//! Invariants worth naming:
//! - A bank has all its slots from the start. A slot that was never used holds the default, which says so.
//! - Each bank has the same number of slots, a power of two. So a slot costs four instructions more than in an array in one piece.
//! - A bank of slots whose size is a multiple of eight takes whole pages of the system, so none is half used.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

use crate::base::heap;

const BANK_BITS: u32 = 9;
const BANK_LEN: usize = 1 << BANK_BITS;

/// An array that is only ever extended at its end.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    banks: Vec<Box<[T; BANK_LEN]>>,
    len: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slots<T> {
    pub(crate) const fn new() -> Self {
        Self { banks: Vec::new(), len: 0 }
    }

    /// Slots that were pushed.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A slot. One behind the last may be a default or `None`.
    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        let at = at as usize;
        Some(&self.banks.get(at >> BANK_BITS)?[at & (BANK_LEN - 1)])
    }

    /// [`Self::get`], to be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        let at = at as usize;
        Some(&mut self.banks.get_mut(at >> BANK_BITS)?[at & (BANK_LEN - 1)])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.banks.iter().flat_map(|bank| bank.iter()).take(self.len)
    }

    /// Forgets the last bank. Where forgetting all at once would take too long, one call a step does not.
    pub(crate) fn drop_bank(&mut self) {
        self.banks.pop();
        self.len = self.len.min(self.banks.len() << BANK_BITS);
        if self.banks.is_empty() {
            self.banks = Vec::new();
        }
    }

    /// Bytes of the banks and of their list. Of the first bank the slots that were pushed count alone, so that a ceiling on memory may be
    /// low.
    pub(crate) fn bytes_held(&self) -> u64 {
        let slots = if self.banks.len() > 1 { self.banks.len() << BANK_BITS } else { self.len };
        heap::block(slots * size_of::<T>()) + heap::block(self.banks.capacity() * size_of::<usize>())
    }
}

impl<T: Default> Slots<T> {
    pub(crate) fn push(&mut self, value: T) {
        if self.len >> BANK_BITS == self.banks.len() {
            self.add_bank();
        }
        self.banks[self.len >> BANK_BITS][self.len & (BANK_LEN - 1)] = value;
        self.len += 1;
    }

    /// Adds a bank of defaults, which never lies on the stack as a whole.
    #[cold]
    fn add_bank(&mut self) {
        let slots: Box<[T]> = core::iter::repeat_with(T::default).take(BANK_LEN).collect();
        let Ok(bank) = slots.try_into() else { unreachable!("it has that many slots") };
        self.banks.push(bank);
    }
}

/// # Panics
/// If there is no bank for the slot.
impl<T> Index<u32> for Slots<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: u32) -> &T {
        &self.banks[at as usize >> BANK_BITS][at as usize & (BANK_LEN - 1)]
    }
}

/// # Panics
/// If there is no bank for the slot.
impl<T> IndexMut<u32> for Slots<T> {
    #[inline]
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.banks[at as usize >> BANK_BITS][at as usize & (BANK_LEN - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_stay_where_they_are_and_unused_ones_are_defaults() {
        let mut slots = Slots::new();
        assert_eq!((slots.get(0), slots.bytes_held()), (None, 0));
        slots.push(1u32);
        let first = &raw const slots[0];
        for number in 2..=1_537 {
            slots.push(number);
        }
        assert_eq!(&raw const slots[0], first);
        assert!(slots.iter().copied().eq(1..=1_537));
        assert_eq!((slots.len(), slots[1_536], slots.get(1_537)), (1_537, 1_537, Some(&0)));
        slots[5] = 0;
        assert_eq!((slots.get(5), slots.get(2_048)), (Some(&0), None));
        let mut lens = Vec::new();
        while !slots.is_empty() {
            slots.drop_bank();
            lens.push(slots.len());
        }
        assert_eq!((lens, slots.bytes_held()), (Vec::from([1_536, 1_024, 512, 0]), 0));
    }
}
