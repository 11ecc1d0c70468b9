//! How long a stop waits for clients that are being told.
//! Knows no client: the places count them.

use std::time::{Duration, Instant};

use crate::net::permits::Places;
use crate::process::clock;

/// How long a stop waits for peers that were told everything and do not close.
const FAREWELL: Duration = Duration::from_millis(500);

/// A stop that has begun.
pub(in crate::backend) struct Farewell {
    last: Instant,
    told_since: Option<Instant>,
}

impl Farewell {
    /// How often to ask: nobody hears the doorbell any more, so lanes are looked at all the time.
    pub(in crate::backend) const LOOK_EVERY: Duration = Duration::from_millis(5);

    /// From now until `deadline` has passed, at most.
    pub(in crate::backend) fn begin(deadline: Duration) -> Self {
        Self { last: clock::read() + deadline, told_since: None }
    }

    /// Whether no client is owed anything, or the time is up. Of all shards: a connection that is on its way to one must
    /// find its home awake.
    pub(in crate::backend) fn is_over(&mut self, places: &Places) -> bool {
        let now = clock::read();
        // Who was told and does not close is owed no more than the time in which what was sent arrives.
        self.told_since = places.is_all_told().then(|| self.told_since.unwrap_or(now));
        let told = self.told_since.is_some_and(|since| now.duration_since(since) >= FAREWELL);
        places.is_deserted() || told || now >= self.last
    }
}
