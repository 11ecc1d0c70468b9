//! Connection permits: one count over all shards, so that `max_connections` is exact.
//! Invariant: every connection that is served or turned away holds one permit until it is closed, also while it moves
//! between two shards.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use engine::{Admission, Arrival};

use crate::net::listen::ListenerNumber;

#[expect(clippy::disallowed_types, reason = "one count that all shards keep: connections, not messages")]
type Shared<T> = std::sync::Arc<T>;

/// The right to hold one connection. It moves with the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permit {
    pub(crate) admission: Admission,
    pub(crate) arrival: Arrival,
}

/// A handle on the counts. A connection that moves to another shard keeps its permit.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionPermits(Shared<Counts>);

#[derive(Debug)]
struct Counts {
    max: u32,
    /// The connections of each listener that has a maximum of its own.
    listeners: Box<[ListenerCount]>,
    /// Connections above `max` that are accepted at the same time only to be refused with a reason code.
    turned_away_max: u32,
    served: AtomicU32,
    turned_away: AtomicU32,
    /// Permits so far.
    acquired: AtomicU64,
    /// Connections that were sent all data and the end of the stream, and whose peer has not closed yet.
    lingering: AtomicU32,
    /// Connections so far for which there was no permit of either kind.
    unanswered: AtomicU64,
}

#[derive(Debug)]
struct ListenerCount {
    max: u32,
    served: AtomicU32,
}

impl ConnectionPermits {
    /// Permits for `max` connections, and for `turned_away_max` more that are only told so. `listeners` are the maxima of the
    /// listeners, by their number; a listener without one has no maximum of its own.
    pub(crate) fn new(max: u32, listeners: impl Iterator<Item = Option<u32>>, turned_away_max: u32) -> Self {
        let count =
            |max: Option<u32>| ListenerCount { max: max.unwrap_or(u32::MAX), served: AtomicU32::new(0) };
        Self(Shared::new(Counts {
            max,
            listeners: listeners.map(count).collect(),
            turned_away_max,
            served: AtomicU32::new(0),
            turned_away: AtomicU32::new(0),
            acquired: AtomicU64::new(0),
            lingering: AtomicU32::new(0),
            unanswered: AtomicU64::new(0),
        }))
    }

    /// Acquires a permit to serve a connection that shard `queue` has accepted on `listener`, or one of the few to turn it away
    /// with a reason code; `None` if both are exhausted.
    pub(crate) fn acquire(
        &self,
        queue: u16,
        listener: ListenerNumber,
        peer: Option<SocketAddr>,
    ) -> Option<Permit> {
        let admission = if self.serve(listener) {
            Admission::Serve
        } else if take(&self.0.turned_away, self.0.turned_away_max) {
            Admission::TurnAway
        } else {
            self.0.unanswered.fetch_add(1, Relaxed);
            return None;
        };
        let ordinal = self.0.acquired.fetch_add(1, Relaxed);
        Some(Permit {
            admission,
            arrival: Arrival { ordinal, queue, port: peer.map_or(0, |peer| peer.port()) },
        })
    }

    /// Counts one more connection that is served on `listener`, if neither maximum is reached.
    fn serve(&self, listener: ListenerNumber) -> bool {
        let own = self.own(listener);
        if own.is_some_and(|own| !take(&own.served, own.max)) {
            return false;
        }
        let is_served = take(&self.0.served, self.0.max);
        if let Some(own) = own.filter(|_| !is_served) {
            own.served.fetch_sub(1, Relaxed);
        }
        is_served
    }

    /// The count of the listener, if it has a maximum.
    fn own(&self, listener: ListenerNumber) -> Option<&ListenerCount> {
        self.0.listeners.get(listener.index()).filter(|own| own.max < u32::MAX)
    }

    /// Releases a permit of `listener`.
    pub(crate) fn release(&self, admission: Admission, listener: ListenerNumber) {
        let count = match admission {
            Admission::Serve => {
                if let Some(own) = self.own(listener) {
                    let before = own.served.fetch_sub(1, Relaxed);
                    assert!(before > 0);
                }
                &self.0.served
            }
            Admission::TurnAway => &self.0.turned_away,
        };
        let before = count.fetch_sub(1, Relaxed);
        assert!(before > 0);
    }

    /// A connection was sent all data and the end of the stream, and waits for its peer to close.
    pub(crate) fn begin_linger(&self) {
        self.0.lingering.fetch_add(1, Relaxed);
    }

    /// Such a connection was closed.
    pub(crate) fn end_linger(&self) {
        let before = self.0.lingering.fetch_sub(1, Relaxed);
        assert!(before > 0);
    }

    /// Whether every open connection only waits for its peer to close.
    pub(crate) fn all_linger(&self) -> bool {
        self.0.lingering.load(Relaxed) >= self.in_use() + self.0.turned_away.load(Relaxed)
    }

    /// Number of connections that are served, on all shards and between them.
    pub(crate) fn in_use(&self) -> u32 {
        self.0.served.load(Relaxed)
    }

    /// Connections so far that were closed without an answer, for want of a permit.
    pub(crate) fn unanswered(&self) -> u64 {
        self.0.unanswered.load(Relaxed)
    }

    /// Maximum number of connections that are served.
    pub(crate) fn max(&self) -> u32 {
        self.0.max
    }

    /// Whether no connection is open, on any shard or between two.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_use() == 0 && self.0.turned_away.load(Relaxed) == 0
    }
}

/// Adds one to `count`, unless it has reached `max`.
fn take(count: &AtomicU32, max: u32) -> bool {
    count.fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURNED_AWAY_MAX: u32 = 5;

    fn acquire(permits: &ConnectionPermits) -> Option<Permit> {
        permits.acquire(0, ListenerNumber::default(), None)
    }

    #[test]
    fn permits_are_exact_and_a_few_more_connections_are_turned_away() {
        let permits = ConnectionPermits::new(2, [None].into_iter(), TURNED_AWAY_MAX);
        assert!(permits.is_idle());
        let mut acquired: Vec<_> = (0..2 + TURNED_AWAY_MAX).map_while(|_| acquire(&permits)).collect();
        let admissions: Vec<_> = acquired.iter().map(|permit| permit.admission).collect();
        assert_eq!(admissions[..2], [Admission::Serve; 2]);
        assert_eq!(admissions[2..], [Admission::TurnAway; TURNED_AWAY_MAX as usize]);
        assert!(acquire(&permits).is_none());
        permits.release(acquired.remove(0).admission, ListenerNumber::default());
        acquired.push(acquire(&permits).unwrap());
        assert!(
            acquired.is_sorted_by(|one, other| one.arrival.ordinal < other.arrival.ordinal),
            "{acquired:?}"
        );
        assert_eq!(acquired.last().unwrap().admission, Admission::Serve);
        assert!(acquire(&permits).is_none());
        assert_eq!((permits.in_use(), permits.unanswered()), (2, 2));
        for permit in acquired {
            assert!(!permits.is_idle() && !permits.all_linger());
            permits.release(permit.admission, ListenerNumber::default());
        }
        assert!(permits.is_idle());
    }

    #[test]
    fn a_listener_with_a_maximum_leaves_the_others_their_connections() {
        let [crowded, other] = ListenerNumber::first_two();
        let permits = ConnectionPermits::new(3, [Some(1), None].into_iter(), TURNED_AWAY_MAX);
        let admission = |listener| permits.acquire(0, listener, None).unwrap().admission;
        assert_eq!((admission(crowded), admission(crowded)), (Admission::Serve, Admission::TurnAway));
        assert_eq!((admission(other), admission(other)), (Admission::Serve, Admission::Serve));
        assert_eq!(admission(other), Admission::TurnAway);
        // A refusal for the whole broker does not count for the listener.
        permits.release(Admission::Serve, crowded);
        assert_eq!(admission(other), Admission::Serve);
        assert_eq!(admission(crowded), Admission::TurnAway);
        permits.release(Admission::Serve, other);
        assert_eq!(admission(crowded), Admission::Serve);
    }

    #[test]
    fn all_linger_once_each_connection_lingers() {
        let permits = ConnectionPermits::new(1, [None].into_iter(), TURNED_AWAY_MAX);
        let acquired = [acquire(&permits), acquire(&permits)];
        permits.begin_linger();
        assert!(!permits.all_linger());
        permits.begin_linger();
        assert!(permits.all_linger());
        for permit in acquired.into_iter().flatten() {
            permits.end_linger();
            permits.release(permit.admission, ListenerNumber::default());
            assert!(permits.all_linger());
        }
    }
}
