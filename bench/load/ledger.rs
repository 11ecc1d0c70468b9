//! The exact count of received messages: each message of each stream once for each consumer, in order.

use std::collections::BTreeSet;

/// The totals over all streams and consumers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Deliveries expected for the published messages.
    pub(crate) expected: u64,
    /// First deliveries of a message to a consumer.
    pub(crate) delivered: u64,
    pub(crate) duplicated: u64,
    /// Arrived after a later message of the same stream.
    pub(crate) reordered: u64,
}

impl Totals {
    pub(crate) fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.delivered)
    }
}

/// The messages of one stream that one consumer has received.
#[derive(Debug)]
struct Seen {
    stream: u32,
    /// One more than the highest sequence number received.
    next: u64,
    /// Lower sequence numbers not received.
    missing: BTreeSet<u64>,
}

#[derive(Debug, Default)]
struct Consumer {
    /// By stream, sorted.
    seen: Vec<Seen>,
    /// Position of the last access: messages of a stream come in bursts.
    last: usize,
}

/// The received messages of a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    consumers: Vec<Consumer>,
    totals: Totals,
    is_ordered: bool,
}

impl Ledger {
    pub(crate) fn new(consumer_count: usize, is_ordered: bool) -> Self {
        let mut consumers = Vec::new();
        consumers.resize_with(consumer_count, Consumer::default);
        Self { consumers, totals: Totals::default(), is_ordered }
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Records a published message that this many consumers must receive.
    pub(crate) fn expect(&mut self, receivers: u64) {
        self.totals.expected += receivers;
    }

    /// Records a received message; returns `false` if it had arrived before.
    pub(crate) fn arrive(&mut self, consumer: u32, stream: u32, sequence: u64) -> bool {
        let consumer = &mut self.consumers[consumer as usize];
        let at = match consumer.seen.get(consumer.last) {
            Some(seen) if seen.stream == stream => consumer.last,
            _ => consumer.seen.binary_search_by_key(&stream, |seen| seen.stream).unwrap_or_else(|at| {
                consumer.seen.insert(at, Seen { stream, next: 0, missing: BTreeSet::new() });
                at
            }),
        };
        consumer.last = at;
        let seen = &mut consumer.seen[at];
        if sequence >= seen.next {
            seen.missing.extend(seen.next..sequence);
            seen.next = sequence + 1;
        } else if !seen.missing.remove(&sequence) {
            self.totals.duplicated += 1;
            return false;
        } else if self.is_ordered {
            self.totals.reordered += 1;
        }
        self.totals.delivered += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals_of(sequences: &[u64], expected: u64) -> Totals {
        let mut ledger = Ledger::new(1, true);
        ledger.expect(expected);
        for &sequence in sequences {
            ledger.arrive(0, 7, sequence);
        }
        ledger.totals()
    }

    #[test]
    fn lost_repeated_and_late_messages_are_counted_exactly() {
        let none = Totals { expected: 4, delivered: 4, duplicated: 0, reordered: 0 };
        assert_eq!(totals_of(&[0, 1, 2, 3], 4), none);
        let lost = totals_of(&[0, 3], 4);
        assert_eq!((lost.lost(), lost.duplicated, lost.reordered), (2, 0, 0));
        let late = totals_of(&[0, 2, 1, 3], 4);
        assert_eq!((late.lost(), late.duplicated, late.reordered), (0, 0, 1));
        let twice = totals_of(&[0, 1, 1, 0, 3, 2, 2], 4);
        assert_eq!((twice.lost(), twice.duplicated, twice.reordered), (0, 3, 1));
    }

    #[test]
    fn streams_and_consumers_are_counted_separately() {
        let mut ledger = Ledger::new(2, true);
        ledger.expect(4);
        for (consumer, stream) in [(0, 1), (1, 1), (0, 2), (1, 2)] {
            assert!(ledger.arrive(consumer, stream, 0));
        }
        assert_eq!((ledger.totals().lost(), ledger.totals().duplicated), (0, 0));
    }
}
