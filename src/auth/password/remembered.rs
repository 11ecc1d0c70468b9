//! Passwords that were judged lately, so that a client that returns costs no slow hash.
//! It keeps an HMAC under a key of this process, over user, password and stored hash: nothing can be tried against it, and a
//! password that was changed is forgotten with its hash.
//! Bound: [`RIGHT_MAX`] right ones and [`WRONG_MAX`] wrong ones; the oldest makes room.

use std::collections::{BTreeMap, VecDeque};

use crypto::hmac;

use super::hash::StoredHash;
use crate::process::held_bytes::{AUTHENTICATION, Hold};

const RIGHT_MAX: usize = 65_536;
const WRONG_MAX: usize = 4_096;

/// Milliseconds for which a wrong password is remembered: a client that tries it in a loop costs one hash in that time.
const WRONG_MS: u64 = 10_000;

/// The HMAC of a user, a password and a stored hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Recollection([u8; 32]);

/// Makes recollections. **Lives on:** any thread.
pub(crate) struct Memory {
    key: hmac::Key,
}

impl Memory {
    /// With a key that is drawn now.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let mut key = zeroize::Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice())?;
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()) })
    }

    /// The recollection of a password for a user whose hash is `stored`.
    pub(crate) fn of(&self, user: &str, password: &[u8], stored: &StoredHash) -> Recollection {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user.as_bytes(), password, stored.to_line().as_bytes()] {
            // With the length of each, no two triples are the same text.
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        Recollection(context.sign().as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes"))
    }
}

/// The judgements that are remembered.
#[derive(Debug)]
pub(crate) struct Remembered {
    right: Table,
    wrong: Table,
    /// Counts the bytes of both.
    held: Hold,
}

impl Remembered {
    /// With right passwords remembered for `right_ms`; 0 remembers none.
    pub(crate) fn new(right_ms: u64) -> Self {
        let (right, wrong) = (Table::new(RIGHT_MAX, right_ms), Table::new(WRONG_MAX, WRONG_MS));
        Self { right, wrong, held: AUTHENTICATION.hold(0) }
    }

    /// Whether the password was right or wrong, if that is remembered.
    pub(crate) fn recall(&mut self, recollection: Recollection, now_ms: u64) -> Option<bool> {
        if self.right.contains(recollection, now_ms) {
            Some(true)
        } else {
            self.wrong.contains(recollection, now_ms).then_some(false)
        }
    }

    /// Remembers a judgement.
    pub(crate) fn remember(&mut self, recollection: Recollection, is_right: bool, now_ms: u64) {
        let table = if is_right { &mut self.right } else { &mut self.wrong };
        table.insert(recollection, now_ms);
        self.held.resize(self.bytes());
    }

    /// Bytes that it takes.
    fn bytes(&self) -> usize {
        self.right.bytes() + self.wrong.bytes()
    }
}

/// Recollections that all live equally long, so that the oldest ends first.
#[derive(Debug)]
struct Table {
    entries_max: usize,
    lifetime_ms: u64,
    ends_ms: BTreeMap<Recollection, u64>,
    order: VecDeque<(u64, Recollection)>,
}

impl Table {
    fn new(entries_max: usize, lifetime_ms: u64) -> Self {
        Self { entries_max, lifetime_ms, ends_ms: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Bytes of the entries in the tree, whose nodes are between half full and full, and of the list.
    fn bytes(&self) -> usize {
        let entry = size_of::<(Recollection, u64)>();
        self.ends_ms.len() * (entry * 3 / 2 + 8) + self.order.capacity() * entry
    }

    fn contains(&mut self, recollection: Recollection, now_ms: u64) -> bool {
        self.expire(now_ms);
        self.ends_ms.contains_key(&recollection)
    }

    fn insert(&mut self, recollection: Recollection, now_ms: u64) {
        self.expire(now_ms);
        if self.lifetime_ms == 0 || self.ends_ms.contains_key(&recollection) {
            return;
        }
        if self.order.len() == self.entries_max {
            self.remove_oldest();
        }
        let end_ms = now_ms.saturating_add(self.lifetime_ms);
        self.ends_ms.insert(recollection, end_ms);
        self.order.push_back((end_ms, recollection));
    }

    fn expire(&mut self, now_ms: u64) {
        while self.order.front().is_some_and(|(end_ms, _)| *end_ms <= now_ms) {
            self.remove_oldest();
        }
    }

    fn remove_oldest(&mut self) {
        if let Some((_, oldest)) = self.order.pop_front() {
            self.ends_ms.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recollection_differs_with_each_of_its_parts() {
        let (memory, other) = (Memory::new().unwrap(), Memory::new().unwrap());
        let (one, two) = (StoredHash::device_key(b"1"), StoredHash::device_key(b"2"));
        let right = memory.of("ab", b"c", &one);
        assert_eq!(memory.of("ab", b"c", &one), right);
        for different in [
            memory.of("a", b"bc", &one),
            memory.of("ab", b"d", &one),
            memory.of("ab", b"c", &two),
            other.of("ab", b"c", &one),
        ] {
            assert_ne!(different, right);
        }
    }

    #[test]
    fn right_and_wrong_ones_are_forgotten_after_their_time() {
        let mut remembered = Remembered::new(60_000);
        let (right, wrong) = (Recollection([1; 32]), Recollection([2; 32]));
        assert_eq!(remembered.recall(right, 0), None);
        remembered.remember(right, true, 0);
        remembered.remember(wrong, false, 0);
        assert_eq!(
            (remembered.recall(right, 9_999), remembered.recall(wrong, 9_999)),
            (Some(true), Some(false))
        );
        assert_eq!(remembered.recall(wrong, 10_000), None);
        // Another success does not prolong it, so that a hash is computed once in that time.
        remembered.remember(right, true, 59_999);
        assert_eq!(remembered.recall(right, 59_999), Some(true));
        assert_eq!(remembered.recall(right, 60_000), None);
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut table = Table::new(2, 1_000);
        for number in 0..3_u8 {
            table.insert(Recollection([number; 32]), number.into());
        }
        let found: Vec<bool> = (0..3).map(|number| table.contains(Recollection([number; 32]), 5)).collect();
        assert_eq!(found, [false, true, true]);
        assert_eq!(table.ends_ms.len(), table.order.len());
    }

    #[test]
    fn remembered_passwords_count() {
        let mut remembered = Remembered::new(60_000);
        assert_eq!(remembered.bytes(), 0);
        for number in 0..200_u8 {
            remembered.remember(Recollection([number; 32]), true, 0);
        }
        assert!((200 * 100..200 * 150).contains(&remembered.bytes()), "{}", remembered.bytes());
        // It is the count of the process, in which other tests count as well.
        assert!(AUTHENTICATION.bytes() >= remembered.bytes() as u64);
    }

    #[test]
    fn nothing_is_remembered_where_the_operator_wants_none() {
        let mut remembered = Remembered::new(0);
        remembered.remember(Recollection([1; 32]), true, 5);
        assert_eq!(remembered.recall(Recollection([1; 32]), 5), None);
    }
}
