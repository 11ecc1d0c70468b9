//! The memory that all shards take, so that one may use what the others do not: the ceiling is the process's.
//!
//! Invariant: each total is the sum of what every shard published, so a shard knows what the others published by taking its own part
//! away. A shard publishes once its part has changed by enough, so that the totals stay in the caches of all.

use std::array::from_fn;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_channel::{Receiver, Sender, bounded};
use engine::{Budget, Elsewhere, Engine, MemoryKind, MemoryReport, MemoryUse};

/// The budgets, and the connections.
const TOTALS: usize = Budget::ALL.len() + 1;
/// A part that changed by less is not published.
const BYTES_MIN: u64 = 64 * 1024;
const CONNECTIONS_MIN: u64 = 16;
/// Reports that wait for the control plane. Further ones wait in the engine, where the last one stays.
const REPORTS_MAX: usize = 64;

#[expect(clippy::disallowed_types, reason = "totals that every shard writes and reads")]
type Shared<T> = std::sync::Arc<T>;

/// A report, with the number of its shard.
pub(crate) type Reported = (u16, Box<MemoryReport>);

/// One shard's handle on the totals. **Lives on:** the shard.
#[derive(Debug)]
pub(crate) struct MemoryShare {
    reports: Sender<Reported>,
    totals: Shared<[AtomicU64; TOTALS]>,
    /// This shard's part of them.
    published: Cell<[u64; TOTALS]>,
}

impl MemoryShare {
    /// A handle for the first shard, and the reports of all.
    pub(crate) fn new() -> (Self, Receiver<Reported>) {
        let (reports, reported) = bounded(REPORTS_MAX);
        (Self { reports, totals: Shared::default(), published: Cell::default() }, reported)
    }

    /// A handle for one more shard.
    pub(crate) fn another(&self) -> Self {
        let reports = self.reports.clone();
        Self { reports, totals: Shared::clone(&self.totals), published: Cell::default() }
    }

    /// Passes the report of a shard on, if there is one.
    pub(crate) fn report(&self, shard: u16, engine: &mut Engine) {
        if self.reports.is_full() {
            return;
        }
        if let Some(report) = engine.take_memory_report() {
            // If another shard was faster, this one is lost, and the next one comes with the next change.
            let _ = self.reports.try_send((shard, report));
        }
    }

    /// Publishes what this shard takes. Returns what the others do.
    pub(crate) fn exchange(&self, held: &MemoryUse, connections: u64) -> Elsewhere {
        let mut own = [0; TOTALS];
        for kind in MemoryKind::ALL {
            own[kind.budget().index()] += held.of_kind(kind);
        }
        own[TOTALS - 1] = connections;
        let mut published = self.published.get();
        for (at, total) in self.totals.iter().enumerate() {
            let enough = if at == TOTALS - 1 { CONNECTIONS_MIN } else { BYTES_MIN };
            if own[at].abs_diff(published[at]) >= enough {
                total.fetch_add(own[at].wrapping_sub(published[at]), Relaxed);
                published[at] = own[at];
            }
        }
        self.published.set(published);
        let elsewhere = |at: usize| self.totals[at].load(Relaxed).wrapping_sub(published[at]);
        Elsewhere { budgets: from_fn(elsewhere), connections: elsewhere(TOTALS - 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_sees_what_the_others_published() {
        let engine = |count: u64| {
            let mut engine =
                Engine::new(engine::Limits::default(), engine::Entropy(7), engine::Instant::default());
            let host = engine::HostMemory { connections: count * 1_000, ..Default::default() };
            engine.set_host_memory(host);
            engine.memory_use()
        };
        let ((one, _reports), fixed) = (MemoryShare::new(), engine(0));
        let (two, three) = (one.another(), one.another());
        let clients =
            |share: &MemoryShare, held, count| share.exchange(&held, count).budgets[Budget::Clients.index()];
        let base = fixed.of_kind(MemoryKind::Connections) + fixed.of_kind(MemoryKind::Sessions);
        assert!(base < BYTES_MIN);
        assert_eq!(clients(&one, engine(100), 20), 0);
        assert_eq!(clients(&two, engine(10), 3), base + 100_000, "its own part is too small to be published");
        assert_eq!(three.exchange(&engine(200), 5).connections, 20);
        assert_eq!(clients(&one, engine(100), 20), base + 200_000);
        assert_eq!(clients(&one, engine(0), 0), base + 200_000);
        assert_eq!(clients(&three, engine(200), 5), base);
    }
}
