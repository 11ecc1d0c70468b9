//! The buckets of clients that have left before these were full: who comes again goes on where it stopped, and not with a whole burst.
//!
//! Invariant: there is a bound. One more client pushes out the one whose buckets are full the soonest, since that loses the least.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::base::heap;
use crate::base::time::Instant;

/// Clients whose buckets are kept.
const DEBTS_MAX: usize = 16_384;
/// Clients whose buckets are full meanwhile, and that one more makes room by.
const FORGOTTEN_AT_ONCE: usize = 2;

/// The levels of a client's buckets at a moment, in thousandths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Debt {
    messages: i64,
    bytes: i64,
    at: Instant,
    /// When both are full.
    full_at: Instant,
}

impl Debt {
    /// The levels of messages and bytes at a moment, and when both are full.
    pub(super) const fn new((messages, bytes): (i64, i64), at: Instant, full_at: Instant) -> Self {
        Self { messages, bytes, at, full_at }
    }

    /// The levels of messages and bytes, and the moment that they are of.
    pub(super) const fn levels(&self) -> ((i64, i64), Instant) {
        ((self.messages, self.bytes), self.at)
    }
}

/// **Lives on:** every shard. **Sees:** keyed hashes of client identifiers.
#[derive(Debug, Default)]
pub(super) struct Debts {
    by_client: BTreeMap<u64, Debt>,
    by_end: BTreeSet<(Instant, u64)>,
}

impl Debts {
    /// Keeps the buckets of a client that leaves.
    pub(super) fn keep(&mut self, client: u64, debt: Debt) {
        self.take(client);
        for _ in 0..FORGOTTEN_AT_ONCE {
            let Some(&(full_at, first)) = self.by_end.first() else { break };
            if full_at > debt.at && self.by_client.len() < DEBTS_MAX {
                break;
            }
            self.take(first);
        }
        self.by_end.insert((debt.full_at, client));
        self.by_client.insert(client, debt);
        assert!(self.by_client.len() <= DEBTS_MAX);
    }

    /// Takes out the buckets of a client that comes.
    pub(super) fn take(&mut self, client: u64) -> Option<Debt> {
        let debt = self.by_client.remove(&client)?;
        let had_end = self.by_end.remove(&(debt.full_at, client));
        assert!(had_end);
        Some(debt)
    }

    /// Bytes held, about: an entry in each of two trees, which are three quarters full.
    pub(super) fn memory_bytes(&self) -> u64 {
        let entry = size_of::<(u64, Debt)>() + size_of::<(Instant, u64)>();
        self.by_client.len() as u64 * heap::block(entry * 4 / 3)
    }

    /// # Panics
    /// If the two tables differ.
    pub(super) fn check(&self) {
        assert!(self.by_end.len() == self.by_client.len());
        for (client, debt) in &self.by_client {
            assert!(self.by_end.contains(&(debt.full_at, *client)) && debt.at < debt.full_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debt(at_ms: u64, full_ms: u64) -> Debt {
        let (at, full_at) = (Instant::from_ms(at_ms), Instant::from_ms(full_ms));
        Debt::new((-1, 0), at, full_at)
    }

    #[test]
    fn the_bound_pushes_out_those_that_are_full_the_soonest() {
        let mut debts = Debts::default();
        debts.keep(u64::MAX, debt(0, 1_000_000));
        for client in 0..2 * DEBTS_MAX as u64 {
            debts.keep(client, debt(1, 1_000 + client));
        }
        debts.check();
        assert_eq!(debts.by_client.len(), DEBTS_MAX);
        assert_eq!((debts.take(u64::MAX), debts.take(0)), (Some(debt(0, 1_000_000)), None));
        // Full buckets make room by themselves.
        for client in 0..DEBTS_MAX as u64 {
            debts.keep(client, debt(2_000_000, 2_000_001));
        }
        debts.keep(0, debt(3_000_000, 3_000_001));
        assert!(debts.by_client.len() < DEBTS_MAX);
        debts.check();
    }
}
