//! The buckets of clients that have left before these were full: a client that comes again goes on where it stopped, and not with a whole
//! burst. An identifier that has left none goes on with the buckets that another one of its payer has left, and is not used meanwhile.
//!
//! Invariants: there is a bound, and one more client pushes out the one whose buckets are full the soonest, since that loses the least.
//! Buckets are passed on and never copied. So a payer has no more buckets than it had connections at once, whatever identifiers it invents;
//! full ones are no different from new ones.

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

/// The client that buckets belong to, by keyed hashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Debtor {
    /// Of its identifier.
    client: u64,
    /// Of its user, or of its address if it has none; `None`: nobody else goes on with its buckets.
    payer: Option<u64>,
}

impl Debtor {
    /// The client with these hashes.
    pub(super) const fn new(client: u64, payer: Option<u64>) -> Self {
        Self { client, payer }
    }
}

#[derive(Debug)]
struct Kept {
    debt: Debt,
    payer: Option<u64>,
}

/// **Lives on:** every shard. **Sees:** keyed hashes of client identifiers, users and addresses.
#[derive(Debug, Default)]
pub(super) struct Debts {
    /// By client.
    kept: BTreeMap<u64, Kept>,
    /// Clients by the moment when their buckets are full.
    ends: BTreeSet<(Instant, u64)>,
    /// Clients that have a payer, by that one.
    payers: BTreeSet<(u64, Instant, u64)>,
}

impl Debts {
    /// Keeps the buckets of a client that leaves.
    pub(super) fn keep(&mut self, debtor: Debtor, debt: Debt) {
        let Debtor { client, payer } = debtor;
        self.remove(client);
        for _ in 0..FORGOTTEN_AT_ONCE {
            let Some(&(full_at, first)) = self.ends.first() else { break };
            if full_at > debt.at && self.kept.len() < DEBTS_MAX {
                break;
            }
            self.remove(first);
        }
        self.ends.insert((debt.full_at, client));
        if let Some(payer) = payer {
            self.payers.insert((payer, debt.full_at, client));
        }
        self.kept.insert(client, Kept { debt, payer });
        assert!(self.kept.len() <= DEBTS_MAX);
    }

    /// Takes out the buckets that a client goes on with, and whether it has left them itself. Others are those of its payer that are full
    /// the latest.
    pub(super) fn take(&mut self, debtor: Debtor) -> Option<(Debt, bool)> {
        if let Some(debt) = self.remove(debtor.client) {
            return Some((debt, true));
        }
        let payer = debtor.payer?;
        let all = (payer, Instant::from_ms(0), 0)..=(payer, Instant::from_ms(u64::MAX), u64::MAX);
        let (_, _, other) = *self.payers.range(all).next_back()?;
        Some((self.remove(other)?, false))
    }

    fn remove(&mut self, client: u64) -> Option<Debt> {
        let Kept { debt, payer } = self.kept.remove(&client)?;
        let had_end = self.ends.remove(&(debt.full_at, client));
        assert!(had_end);
        if let Some(payer) = payer {
            let had_payer = self.payers.remove(&(payer, debt.full_at, client));
            assert!(had_payer);
        }
        Some(debt)
    }

    /// Bytes held, about: an entry in each of the trees, which are three quarters full.
    pub(super) fn memory_bytes(&self) -> u64 {
        let entry = size_of::<(u64, Kept)>() + size_of::<(Instant, u64)>();
        self.kept.len() as u64 * heap::block(entry * 4 / 3)
            + self.payers.len() as u64 * heap::block(size_of::<(u64, Instant, u64)>() * 4 / 3)
    }

    /// # Panics
    /// If the tables differ.
    pub(super) fn check(&self) {
        assert!(self.ends.len() == self.kept.len());
        let mut count = 0;
        for (client, Kept { debt, payer }) in &self.kept {
            assert!(self.ends.contains(&(debt.full_at, *client)) && debt.at < debt.full_at);
            if let Some(payer) = payer {
                count += 1;
                assert!(self.payers.contains(&(*payer, debt.full_at, *client)));
            }
        }
        assert!(count == self.payers.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debt(at_ms: u64, full_ms: u64) -> Debt {
        let (at, full_at) = (Instant::from_ms(at_ms), Instant::from_ms(full_ms));
        Debt::new((-1, 0), at, full_at)
    }

    const fn alone(client: u64) -> Debtor {
        Debtor::new(client, None)
    }

    const fn of(payer: u64, client: u64) -> Debtor {
        Debtor::new(client, Some(payer))
    }

    #[test]
    fn the_bound_pushes_out_those_that_are_full_the_soonest() {
        let mut debts = Debts::default();
        debts.keep(alone(u64::MAX), debt(0, 1_000_000));
        for client in 0..2 * DEBTS_MAX as u64 {
            debts.keep(of(client % 7, client), debt(1, 1_000 + client));
        }
        debts.check();
        assert_eq!(debts.kept.len(), DEBTS_MAX);
        assert_eq!(debts.take(alone(u64::MAX)), Some((debt(0, 1_000_000), true)));
        assert_eq!(debts.take(alone(0)), None);
        // Full buckets make room by themselves.
        for client in 0..DEBTS_MAX as u64 {
            debts.keep(alone(client), debt(2_000_000, 2_000_001));
        }
        debts.keep(alone(0), debt(3_000_000, 3_000_001));
        assert!(debts.kept.len() < DEBTS_MAX);
        debts.check();
    }

    #[test]
    fn a_client_takes_its_own_buckets_and_else_the_emptiest_of_its_payer() {
        let mut debts = Debts::default();
        for (debtor, full_ms) in [(of(7, 1), 10), (of(7, 2), 30), (of(8, 3), 50), (alone(4), 70)] {
            debts.keep(debtor, debt(0, full_ms));
        }
        assert_eq!(debts.take(alone(9)), None);
        assert_eq!(debts.take(of(6, 9)), None);
        // Its own ones, wherever it comes from.
        assert_eq!(debts.take(of(6, 1)), Some((debt(0, 10), true)));
        debts.keep(of(7, 1), debt(0, 10));
        for expected in [Some((debt(0, 30), false)), Some((debt(0, 10), false)), None] {
            assert_eq!(debts.take(of(7, 9)), expected);
            debts.check();
        }
        assert_eq!(debts.take(of(8, 4)), Some((debt(0, 70), true)));
        assert_eq!(debts.take(of(8, 4)), Some((debt(0, 50), false)));
        debts.check();
        assert!(debts.payers.is_empty() && debts.ends.is_empty());
    }
}
