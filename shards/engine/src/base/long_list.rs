//! A long list in banks, so that it grows without ever moving what it holds: a list in one piece copies a million entries when it
//! doubles, and holds up a step for that.
//!
//! Invariants: every bank but the last is full, and no bank is empty. All banks but the first are allocated whole; the first one grows
//! by doubling, so a short list takes little.

use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

use crate::base::heap;

/// Bytes of a bank at most, of which at least half are used. It bounds the work of a push: a first bank that doubles is copied.
const BANK_BYTES_MAX: usize = 64 * 1024;

/// A list of entries that are named by their places.
#[derive(Debug)]
pub(crate) struct LongList<T> {
    banks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for LongList<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> LongList<T> {
    /// Entries of a bank: a power of two, so that a place is two numbers by a shift and a mask.
    const BANK_BITS: u32 = (BANK_BYTES_MAX / size_of::<T>()).ilog2();
    const BANK_LEN: usize = 1 << Self::BANK_BITS;

    pub(crate) const fn new() -> Self {
        Self { banks: Vec::new(), len: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push(&mut self, value: T) {
        match self.banks.last_mut() {
            Some(bank) if bank.len() < Self::BANK_LEN => bank.push(value),
            last => {
                let mut bank = Vec::with_capacity(if last.is_none() { 1 } else { Self::BANK_LEN });
                bank.push(value);
                self.banks.push(bank);
            }
        }
        self.len += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        let bank = self.banks.last_mut()?;
        let value = bank.pop();
        assert!(value.is_some());
        if bank.is_empty() {
            self.banks.pop();
            if self.banks.is_empty() {
                self.banks = Vec::new();
            }
        }
        self.len -= 1;
        value
    }

    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.banks.get(at >> Self::BANK_BITS)?.get(at & (Self::BANK_LEN - 1))
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.banks.get_mut(at >> Self::BANK_BITS)?.get_mut(at & (Self::BANK_LEN - 1))
    }

    /// The entries from `at` on that lie in one piece, at least one if there is one: for a loop over many of them.
    #[inline]
    pub(crate) fn piece(&self, at: usize) -> &[T] {
        let bank = self.banks.get(at >> Self::BANK_BITS);
        bank.and_then(|bank| bank.get(at & (Self::BANK_LEN - 1)..)).unwrap_or(&[])
    }

    /// Takes an entry out, and moves the last one to its place.
    ///
    /// # Panics
    /// If there is no such entry.
    pub(crate) fn swap_remove(&mut self, at: usize) -> T {
        assert!(at < self.len);
        let Some(last) = self.pop() else { unreachable!("it is not empty") };
        match self.get_mut(at) {
            Some(entry) => core::mem::replace(entry, last),
            None => last,
        }
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.banks.iter().flatten()
    }

    /// Bytes of the entries and of the list of banks. The rest of the last bank is not touched yet, so it takes none.
    pub(crate) fn bytes_held(&self) -> u64 {
        heap::block(self.len * size_of::<T>()) + heap::block(self.banks.capacity() * size_of::<Vec<T>>())
    }
}

impl<T> Index<usize> for LongList<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        &self.banks[at >> Self::BANK_BITS][at & (Self::BANK_LEN - 1)]
    }
}

impl<T> IndexMut<usize> for LongList<T> {
    #[inline]
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.banks[at >> Self::BANK_BITS][at & (Self::BANK_LEN - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_a_list_in_one_piece_holds_and_moves_nothing() {
        const LEN: u32 = 40_000;
        assert!(LEN as usize > 2 * LongList::<u32>::BANK_LEN);
        let (mut list, mut model) = (LongList::new(), Vec::new());
        let mut places = Vec::new();
        for number in 0..LEN {
            list.push(number);
            model.push(number);
            if list.len() % LongList::<u32>::BANK_LEN == 0 {
                let place = &raw const list[list.len() - 1];
                places.push((list.len() - 1, place));
            }
        }
        // A bank that is full stays where it is.
        assert!(places.len() >= 2 && places.iter().all(|&(at, place)| &raw const list[at] == place));
        assert!(list.iter().eq(&model));
        for at in [0, 1, 16_383, 16_384, 39_995] {
            assert_eq!(list.swap_remove(at), model.swap_remove(at));
        }
        assert!(list.iter().eq(&model));
        let mut pieces = Vec::new();
        while pieces.len() < list.len() {
            pieces.extend_from_slice(list.piece(pieces.len()));
        }
        assert_eq!(pieces, model);
        assert!(list.piece(model.len()).is_empty() && list.get(model.len()).is_none());
        while let Some(value) = list.pop() {
            assert_eq!(Some(value), model.pop());
            assert_eq!(list.len(), model.len());
        }
        assert_eq!((list.bytes_held(), model.len()), (0, 0));
    }
}
