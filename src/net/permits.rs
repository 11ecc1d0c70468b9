//! The process's places for connections: one count over all shards, so that the limit is exact.
//! Knows no connection.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use engine::Admission;

/// Connections beyond the limit that are read, at once, only to be told that there is no place.
const TURNED_AWAY_MAX: u32 = 64;

#[expect(clippy::disallowed_types, reason = "one count that all shards keep: connections, not messages")]
type Shared<T> = std::sync::Arc<T>;

/// A handle on the counts. A connection that moves to another shard takes its place along.
#[derive(Clone, Debug)]
pub(crate) struct Places(Shared<Counts>);

#[derive(Debug)]
struct Counts {
    max: u32,
    taken: AtomicU32,
    turned_away: AtomicU32,
    /// Connections that were sent everything, their end included, and whose peer has not closed yet.
    told: AtomicU32,
}

impl Places {
    /// As many as `max`.
    pub(crate) fn new(max: u32) -> Self {
        Self(Shared::new(Counts {
            max,
            taken: AtomicU32::new(0),
            turned_away: AtomicU32::new(0),
            told: AtomicU32::new(0),
        }))
    }

    /// Takes a place, or one of the few in which a connection is told that there is none; `None` if those
    /// are taken too.
    pub(crate) fn enter(&self) -> Option<Admission> {
        let take = |count: &AtomicU32, max| {
            count.fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1)).is_ok()
        };
        if take(&self.0.taken, self.0.max) {
            Some(Admission::Serve)
        } else if take(&self.0.turned_away, TURNED_AWAY_MAX) {
            Some(Admission::TurnAway)
        } else {
            None
        }
    }

    /// Gives a place back.
    pub(crate) fn leave(&self, admission: Admission) {
        let count = match admission {
            Admission::Serve => &self.0.taken,
            Admission::TurnAway => &self.0.turned_away,
        };
        let before = count.fetch_sub(1, Relaxed);
        assert!(before > 0);
    }

    /// A connection was sent everything there is, and its end.
    pub(crate) fn tell(&self) {
        self.0.told.fetch_add(1, Relaxed);
    }

    /// One of those is gone.
    pub(crate) fn leave_told(&self) {
        let before = self.0.told.fetch_sub(1, Relaxed);
        assert!(before > 0);
    }

    /// Whether all that is left of any connection is that its peer closes.
    pub(crate) fn is_all_told(&self) -> bool {
        self.0.told.load(Relaxed) >= self.taken() + self.0.turned_away.load(Relaxed)
    }

    /// Connections that are served, wherever they are.
    pub(crate) fn taken(&self) -> u32 {
        self.0.taken.load(Relaxed)
    }

    /// Most of them at once.
    pub(crate) fn max(&self) -> u32 {
        self.0.max
    }

    /// Whether no shard has a connection and none is on its way between two.
    pub(crate) fn is_deserted(&self) -> bool {
        self.taken() == 0 && self.0.turned_away.load(Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_exact_and_a_few_more_are_told_so() {
        let places = Places::new(2);
        assert!(places.is_deserted());
        let entered: Vec<_> = (0..2 + TURNED_AWAY_MAX).map(|_| places.enter()).collect();
        assert_eq!(entered[..2], [Some(Admission::Serve); 2]);
        assert!(entered[2..].iter().all(|admission| *admission == Some(Admission::TurnAway)));
        assert_eq!(places.enter(), None);
        places.leave(Admission::Serve);
        assert_eq!(places.enter(), Some(Admission::Serve));
        assert_eq!(places.enter(), None);
        assert_eq!(places.taken(), 2);
        for admission in entered.into_iter().flatten() {
            assert!(!places.is_deserted() && !places.is_all_told());
            places.leave(admission);
        }
        assert!(places.is_deserted());
    }

    #[test]
    fn all_are_told_when_each_of_them_is() {
        let places = Places::new(1);
        let entered = [places.enter(), places.enter()];
        places.tell();
        assert!(!places.is_all_told());
        places.tell();
        assert!(places.is_all_told());
        for admission in entered.into_iter().flatten() {
            places.leave_told();
            places.leave(admission);
            assert!(places.is_all_told());
        }
    }
}
