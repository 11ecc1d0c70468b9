//! The time that a stopping broker waits for its clients. The counts of the connection permits cover all shards,
//! because a connection that moves between two shards must find its target running.

use std::time::{Duration, Instant};

use crate::net::permits::ConnectionPermits;
use crate::process::clock;

/// Time that a stop waits for peers that were sent everything and do not close.
const LINGER: Duration = Duration::from_millis(500);

/// A stop in progress.
pub(in crate::backend) struct Linger {
    last: Instant,
    lingering_since: Option<Instant>,
}

impl Linger {
    /// Interval of the checks. No shard listens to its doorbell during a stop, so the lanes are drained at this
    /// interval.
    pub(in crate::backend) const POLL_INTERVAL: Duration = Duration::from_millis(5);

    /// Starts now and ends when `deadline` has passed, at the latest.
    pub(in crate::backend) fn begin(deadline: Duration) -> Self {
        Self { last: clock::read() + deadline, lingering_since: None }
    }

    /// Whether every client has received its data and the end, or the time is up.
    pub(in crate::backend) fn is_over(&mut self, permits: &ConnectionPermits) -> bool {
        let now = clock::read();
        // A peer that was sent everything and does not close gets only the time in which the sent bytes arrive.
        self.lingering_since = permits.all_linger().then(|| self.lingering_since.unwrap_or(now));
        let lingered = self.lingering_since.is_some_and(|since| now.duration_since(since) >= LINGER);
        permits.is_idle() || lingered || now >= self.last
    }
}
