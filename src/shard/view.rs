//! The published counters of all shards, for any thread: reading them waits for nobody, and no shard notices it.

use super::cores::ThreadId;
use super::gauges::Gauges;
use crate::net::permits::ConnectionPermits;
#[cfg(feature = "admin")]
use crate::observe::histogram::Times;
use crate::observe::histogram::{BOUNDS, Stage};
use crate::observe::statistics::{ShardReport, Totals};

/// The counters of all shards. **Lives on:** the control plane, and the admin thread.
#[derive(Clone)]
pub(crate) struct View {
    pub(super) shards: Vec<(Gauges, ThreadId)>,
    pub(super) permits: ConnectionPermits,
    pub(super) memory_bytes_max: u64,
}

impl View {
    /// The counters of each shard, in the order of the shards.
    pub(crate) fn each(&self) -> Vec<ShardReport> {
        self.shards
            .iter()
            .map(|(gauges, thread)| ShardReport { totals: gauges.read(), times: thread.times() })
            .collect()
    }

    /// Sums over all shards.
    pub(crate) fn totals(&self) -> Totals {
        super::control::sum(
            &self.permits,
            self.memory_bytes_max,
            self.shards.iter().map(|(gauges, _)| gauges),
        )
    }

    /// The times of a stage on each shard, by bound, and above all of them.
    pub(crate) fn stage(&self, stage: Stage) -> impl Iterator<Item = [u64; BOUNDS + 1]> {
        self.shards.iter().map(move |(gauges, _)| gauges.stage(stage))
    }

    /// The times of a stage on each shard.
    #[cfg(feature = "admin")]
    pub(crate) fn times(&self, stage: Stage) -> Vec<Times> {
        self.shards.iter().map(|(gauges, _)| gauges.times(stage)).collect()
    }

    /// The turns of each shard so far.
    pub(crate) fn turns(&self) -> Vec<u64> {
        self.shards.iter().map(|(gauges, _)| gauges.read().turns).collect()
    }
}
