//! How long a stop waits for clients that are being told.
//! Knows no client: the places count them.

use std::time::{Duration, Instant};

use crate::net::permits::ConnectionPermits;
use crate::process::clock;

/// How long a stop waits for peers that were told everything and do not close.
const LINGER: Duration = Duration::from_millis(500);

/// A stop that has begun.
pub(in crate::backend) struct Linger {
    last: Instant,
    lingering_since: Option<Instant>,
}

impl Linger {
    /// How often to ask: nobody hears the doorbell any more, so lanes are looked at all the time.
    pub(in crate::backend) const POLL_INTERVAL: Duration = Duration::from_millis(5);

    /// From now until `deadline` has passed, at most.
    pub(in crate::backend) fn begin(deadline: Duration) -> Self {
        Self { last: clock::read() + deadline, lingering_since: None }
    }

    /// Whether no client is owed anything, or the time is up. Of all shards: a connection that is on its way to one must
    /// find its home awake.
    pub(in crate::backend) fn is_over(&mut self, permits: &ConnectionPermits) -> bool {
        let now = clock::read();
        // Who was told and does not close is owed no more than the time in which what was sent arrives.
        self.lingering_since = permits.all_linger().then(|| self.lingering_since.unwrap_or(now));
        let lingered = self.lingering_since.is_some_and(|since| now.duration_since(since) >= LINGER);
        permits.is_idle() || lingered || now >= self.last
    }
}
