//! What the system says instead of a connection.
//! Knows no listener.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use tracing::error;

use crate::error::Trouble;
use crate::process::clock;

/// Rest after a refusal of the system, which the next accept would only meet again.
pub(crate) const REST: Duration = Duration::from_millis(200);

/// Least time between two log lines about it.
const TOLD_EVERY: Duration = Duration::from_mins(1);

/// What the system refused to one who accepts, or to a shard: told in the log once a minute, however often it happens.
#[derive(Default)]
pub(crate) struct Refusals {
    told: Cell<Option<Instant>>,
}

impl Refusals {
    /// Whether to rest before the next accept; says why in the log, unless that was just said. A connection that was gone
    /// before it was accepted is no reason.
    pub(crate) fn must_rest(&self, refused: io::Error) -> bool {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(refused.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return false;
        }
        self.tell("accept a connection", refused, "accepting rests");
        true
    }

    /// Says in the log what the system refused and what follows from it, unless something was said a moment ago.
    pub(crate) fn tell(&self, attempt: &str, refused: io::Error, consequence: &str) {
        let now = clock::read();
        if self.told.get().is_none_or(|told| now.duration_since(told) >= TOLD_EVERY) {
            self.told.set(Some(now));
            error!(trouble = %Trouble::system(attempt, refused), "{consequence}");
        }
    }
}
