//! Whether every shard turns: a shard turns at least once a second, because the control plane asks each for the subscriptions that
//! have changed. So a shard that stands still, and a control plane that does, are both found.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Time between two looks at the shards.
pub(super) const LOOKS_EVERY: Duration = Duration::from_secs(1);

/// Looks without a turn after which a shard stands still. They are counted and not timed, so that a machine that was suspended does
/// not count.
const LOOKS_MAX: u32 = 10;

/// The last look at each shard. **Lives on:** the admin thread.
#[derive(Debug)]
pub(super) struct Pulse(Box<[Look]>);

#[derive(Debug, Default)]
struct Look {
    turns: AtomicU64,
    looks_without_turn: AtomicU32,
}

impl Pulse {
    pub(super) fn new(shard_count: usize) -> Self {
        Self((0..shard_count).map(|_| Look::default()).collect())
    }

    /// Looks at the turns of each shard so far.
    pub(super) fn look(&self, turns: &[u64]) {
        for (look, &turns) in self.0.iter().zip(turns) {
            let has_turned = look.turns.swap(turns, Relaxed) != turns;
            let looks = if has_turned { 0 } else { look.looks_without_turn.load(Relaxed).saturating_add(1) };
            look.looks_without_turn.store(looks, Relaxed);
        }
    }

    /// The first shard that stands still.
    pub(super) fn still(&self) -> Option<usize> {
        self.0.iter().position(|look| look.looks_without_turn.load(Relaxed) >= LOOKS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_stands_still_after_ten_looks_without_a_turn() {
        let pulse = Pulse::new(2);
        pulse.look(&[5, 5]);
        for at in 1..LOOKS_MAX {
            pulse.look(&[5 + u64::from(at), 5]);
            assert_eq!(pulse.still(), None);
        }
        pulse.look(&[100, 5]);
        assert_eq!(pulse.still(), Some(1));
        pulse.look(&[100, 6]);
        assert_eq!(pulse.still(), None);
    }
}
