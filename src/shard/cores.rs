//! The cores of the processor: how many the process can use, which one a shard is pinned to, and the CPU time of its
//! thread.

use std::num::NonZero;
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;

use crate::observe::busy::ThreadTimes;
use crate::process::clock;

/// Number of shards for the setting `shards`; 0 selects one for each core that the process can use.
pub(crate) fn shard_count(shards: u32) -> u16 {
    let wanted = match shards {
        // The answer of the system takes CPU affinity and the quotas of control groups v1 and v2 into account.
        0 => thread::available_parallelism().map_or(1, NonZero::get),
        shards => shards as usize,
    };
    u16::try_from(wanted).unwrap_or(u16::MAX).clamp(1, engine::SHARDS_MAX)
}

/// The core of each shard, in order. With more shards than cores the list starts again. Empty where the system does
/// not list its cores.
pub(crate) fn assign(shard_count: u16) -> Vec<CoreId> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    cores.iter().copied().cycle().take(if cores.is_empty() { 0 } else { shard_count.into() }).collect()
}

/// A thread whose CPU time can be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadId {
    started: Instant,
    #[cfg(target_os = "linux")]
    id: rustix::thread::Pid,
}

impl ThreadId {
    /// The calling thread, which has just started.
    pub(crate) fn current() -> Self {
        Self {
            started: clock::read(),
            #[cfg(target_os = "linux")]
            id: rustix::thread::gettid(),
        }
    }

    /// The times of the thread; `None` where the system reports no CPU time.
    pub(crate) fn times(self) -> Option<ThreadTimes> {
        let worked = self.worked()?;
        Some(ThreadTimes { lived: clock::read().duration_since(self.started), worked })
    }

    #[cfg(target_os = "linux")]
    fn worked(self) -> Option<Duration> {
        let path = format!("/proc/self/task/{}/schedstat", self.id.as_raw_nonzero());
        let text = std::fs::read_to_string(path).ok()?;
        text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, reason = "Linux needs it")]
    fn worked(self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_as_many_as_asked_for_or_as_there_are_cores() {
        assert_eq!(shard_count(1), 1);
        assert_eq!(shard_count(64), 64);
        let cores = thread::available_parallelism().unwrap().get();
        assert_eq!(usize::from(shard_count(0)), cores.min(engine::SHARDS_MAX.into()));
    }

    #[test]
    fn more_shards_than_cores_share_them_in_turn() {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let assigned = assign(64);
        assert!(assigned.len() == 64 || cores.is_empty());
        assert!(assigned.iter().zip(cores.iter().cycle()).all(|(assigned, core)| assigned == core));
    }

    #[test]
    fn a_thread_that_works_is_busy() {
        let thread = ThreadId::current();
        let Some(before) = thread.times() else { return };
        let mut sum = 0_u64;
        while thread.times().unwrap().worked < before.worked + Duration::from_millis(2) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
