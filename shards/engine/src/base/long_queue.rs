//! A long queue in banks, so that it grows without ever moving what it holds: a queue in one piece copies a million entries when it
//! doubles, and holds up a step for that.
//!
//! Invariants: no bank is empty, but for one that is kept while the queue is. All banks but the first to be filled are allocated whole;
//! that one grows by doubling, so a short queue takes little.

use alloc::collections::VecDeque;

use crate::base::heap;

/// Bytes of a bank at most. It bounds the work of a push: a bank that doubles is copied.
const BANK_BYTES: usize = 16 * 1024;

/// A queue with two ends.
#[derive(Debug)]
pub(crate) struct LongQueue<T> {
    banks: VecDeque<VecDeque<T>>,
    len: usize,
}

impl<T> Default for LongQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> LongQueue<T> {
    /// Entries of a bank.
    const BANK_LEN: usize = (BANK_BYTES / size_of::<T>()).next_power_of_two() / 2;

    pub(crate) const fn new() -> Self {
        const { assert!(Self::BANK_LEN > 1) };
        Self { banks: VecDeque::new(), len: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push_back(&mut self, value: T) {
        self.len += 1;
        match self.banks.back_mut() {
            Some(bank) if bank.len() < Self::BANK_LEN => bank.push_back(value),
            _ => self.banks.push_back(self.new_bank(value)),
        }
    }

    /// Puts an entry before all others.
    pub(crate) fn push_front(&mut self, value: T) {
        self.len += 1;
        match self.banks.front_mut() {
            Some(bank) if bank.len() < Self::BANK_LEN => bank.push_front(value),
            _ => self.banks.push_front(self.new_bank(value)),
        }
    }

    /// A bank with its first entry: the first of all grows as it is filled.
    fn new_bank(&self, value: T) -> VecDeque<T> {
        let capacity = if self.banks.is_empty() { 1 } else { Self::BANK_LEN };
        let mut bank = VecDeque::with_capacity(capacity);
        bank.push_back(value);
        bank
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let bank = self.banks.front_mut()?;
        let value = bank.pop_front()?;
        self.len -= 1;
        // The last bank is kept, so that a queue that is emptied again and again allocates nothing.
        if bank.is_empty() && self.banks.len() > 1 {
            self.banks.pop_front();
        }
        Some(value)
    }

    /// Takes all entries of another queue behind its own.
    pub(crate) fn append(&mut self, other: &mut Self) {
        if self.banks.len() <= 1 || other.len < Self::BANK_LEN {
            // Few entries are moved, so that short banks do not gather.
            let moved = if self.is_empty() { 0 } else { other.len.min(Self::BANK_LEN) };
            for _ in 0..moved {
                self.extend(other.pop_front());
            }
        }
        if other.is_empty() {
            return;
        }
        if self.is_empty() {
            self.banks.clear();
        }
        self.len += core::mem::take(&mut other.len);
        self.banks.append(&mut other.banks);
    }

    /// Takes the first entry out that is `wanted`.
    pub(crate) fn remove_first(&mut self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        let mut places = self.banks.iter().enumerate();
        let (at, place) = places.find_map(|(at, bank)| Some((at, bank.iter().position(&wanted)?)))?;
        let removed = self.banks[at].remove(place);
        self.len -= 1;
        if self.banks[at].is_empty() && self.banks.len() > 1 {
            self.banks.remove(at);
        }
        removed
    }

    /// Gives back what an empty queue keeps.
    pub(crate) fn forget_if_empty(&mut self) {
        if self.is_empty() {
            self.banks = VecDeque::new();
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.banks.iter().flatten()
    }

    /// Bytes of the banks and of their list.
    pub(crate) fn bytes_held(&self) -> u64 {
        let whole = self.banks.len().saturating_sub(2) * Self::BANK_LEN;
        let ends = [self.banks.front(), self.banks.back().filter(|_| self.banks.len() > 1)];
        let ends = ends.into_iter().flatten().map(VecDeque::capacity).sum::<usize>();
        heap::block((whole + ends) * size_of::<T>())
            + heap::block(self.banks.capacity() * size_of::<VecDeque<T>>())
    }
}

impl<T> Extend<T> for LongQueue<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        for value in values {
            self.push_back(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_a_queue_in_one_piece_holds() {
        let (mut queue, mut model) = (LongQueue::new(), VecDeque::new());
        let mut state = 1_u32;
        let mut below = |bound: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % bound
        };
        for round in 0..40_u32 {
            // It grows in one half of the rounds, and shrinks in the other.
            let growth = if round % 20 < 10 { 60 } else { 40 };
            for _ in 0..5_000 {
                let value = below(1_000_000);
                match below(100) {
                    0 => {
                        queue.push_front(value);
                        model.push_front(value);
                    }
                    chance if chance < growth => {
                        queue.push_back(value);
                        model.push_back(value);
                    }
                    _ => assert_eq!(queue.pop_front(), model.pop_front()),
                }
                assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
            }
            assert!(queue.iter().eq(&model));
            assert!(queue.banks.len() == 1 || queue.banks.iter().all(|bank| !bank.is_empty()));
        }
        while let Some(value) = queue.pop_front() {
            assert_eq!(Some(value), model.pop_front());
        }
        queue.forget_if_empty();
        assert_eq!((queue.bytes_held(), queue.pop_front()), (0, None));
    }

    #[test]
    fn nothing_is_moved_when_it_grows_and_an_end_frees_what_it_took() {
        const COUNT: u32 = 100_000;
        let mut queue = LongQueue::new();
        let mut first = core::ptr::null();
        for number in 0..COUNT {
            queue.push_back(number);
            if number as usize == LongQueue::<u32>::BANK_LEN {
                first = &raw const queue.banks[0][0];
            }
        }
        assert_eq!(first, &raw const queue.banks[0][0]);
        let full = queue.bytes_held();
        assert!((u64::from(COUNT) * 4..u64::from(COUNT) * 5).contains(&full), "{full}");
        for number in 0..COUNT {
            assert_eq!(queue.pop_front(), Some(number));
        }
        assert!(queue.bytes_held() <= 2 * BANK_BYTES as u64);
    }

    #[test]
    fn one_queue_takes_another_and_an_entry_leaves_from_anywhere() {
        for (own, others) in [(0, 0), (0, 9_000), (3, 0), (3, 5), (3, 9_000), (9_000, 3), (9_000, 9_000)] {
            let (mut queue, mut other) = (LongQueue::new(), LongQueue::new());
            queue.extend(0..own);
            other.extend(own..own + others);
            queue.append(&mut other);
            assert!(other.is_empty() && other.pop_front().is_none());
            assert!(queue.iter().copied().eq(0..own + others), "{own} {others}");
            for wanted in [4_500, 0, own, u32::MAX] {
                let is_there = queue.iter().any(|&number| number == wanted);
                let removed = queue.remove_first(|&number| number == wanted);
                assert_eq!(removed, is_there.then_some(wanted));
            }
            assert_eq!(queue.len(), queue.iter().count());
        }
    }
}
