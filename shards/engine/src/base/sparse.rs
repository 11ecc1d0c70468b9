//! Values by the numbers of slots, of which few may have one. Banks exist only where there is a value, so neither the first value of a
//! high number nor the last one of many costs more than any other.
//!
//! Invariant: a bank is there while it has a value.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::base::heap;

/// Slots of a bank.
const BANK_LEN: usize = 256;

#[derive(Debug)]
struct Bank<T> {
    slots: Box<[Option<T>]>,
    count: usize,
}

/// A list with gaps.
#[derive(Debug)]
pub(crate) struct Sparse<T> {
    banks: Vec<Option<Bank<T>>>,
    bank_count: usize,
    len: usize,
}

impl<T> Default for Sparse<T> {
    fn default() -> Self {
        Self { banks: Vec::new(), bank_count: 0, len: 0 }
    }
}

impl<T> Sparse<T> {
    /// Values that it has.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        let (bank, slot) = place(at);
        self.banks.get(bank)?.as_ref()?.slots[slot].as_ref()
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        let (bank, slot) = place(at);
        self.banks.get_mut(bank)?.as_mut()?.slots[slot].as_mut()
    }

    /// Puts a value into a slot. Returns the one that was there.
    pub(crate) fn set(&mut self, at: u32, value: T) -> Option<T> {
        let (bank, slot) = place(at);
        if self.banks.len() <= bank {
            self.banks.resize_with(bank + 1, || None);
        }
        let bank_count = &mut self.bank_count;
        let bank = self.banks[bank].get_or_insert_with(|| {
            *bank_count += 1;
            Bank { slots: core::iter::repeat_with(|| None).take(BANK_LEN).collect(), count: 0 }
        });
        let before = bank.slots[slot].replace(value);
        let added = usize::from(before.is_none());
        bank.count += added;
        self.len += added;
        before
    }

    /// Takes the value out of a slot.
    pub(crate) fn take(&mut self, at: u32) -> Option<T> {
        let (number, slot) = place(at);
        let bank = self.banks.get_mut(number)?.as_mut()?;
        let value = bank.slots[slot].take()?;
        assert!(bank.count > 0 && self.len > 0);
        bank.count -= 1;
        self.len -= 1;
        if bank.count == 0 {
            self.banks[number] = None;
            self.bank_count -= 1;
        }
        Some(value)
    }

    /// Values by their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let banks = (0u32..).step_by(BANK_LEN).zip(&self.banks);
        let banks = banks.filter_map(|(first, bank)| Some((first, bank.as_ref()?)));
        banks.flat_map(|(first, bank)| {
            (first..).zip(&bank.slots).filter_map(|(at, value)| Some((at, value.as_ref()?)))
        })
    }

    pub(crate) fn bytes_held(&self) -> u64 {
        self.bank_count as u64 * heap::block(BANK_LEN * size_of::<Option<T>>())
            + heap::block(self.banks.capacity() * size_of::<Option<Bank<T>>>())
    }
}

/// The bank of a slot, and the place there.
fn place(at: u32) -> (usize, usize) {
    (at as usize / BANK_LEN, at as usize % BANK_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_banks_only_where_there_are_values() {
        let mut sparse = Sparse::default();
        assert_eq!(sparse.get(5), None);
        assert_eq!(sparse.take(5), None);
        assert_eq!(sparse.set(1_000_000, 'a'), None);
        assert_eq!(sparse.set(0, 'b'), None);
        assert_eq!(sparse.set(1, 'c'), None);
        assert_eq!((sparse.set(1, 'd'), sparse.len(), sparse.bank_count), (Some('c'), 3, 2));
        assert_eq!(sparse.iter().collect::<Vec<_>>(), [(0, &'b'), (1, &'d'), (1_000_000, &'a')]);
        assert_eq!((sparse.take(1_000_000), sparse.bank_count), (Some('a'), 1));
        *sparse.get_mut(0).unwrap() = 'e';
        assert_eq!((sparse.take(0), sparse.take(0)), (Some('e'), None));
        assert_eq!(sparse.get(1), Some(&'d'));
        assert_eq!((sparse.take(1), sparse.len(), sparse.bank_count), (Some('d'), 0, 0));
    }
}
