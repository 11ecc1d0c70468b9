//! What the system says instead of a connection.
//! Knows no listener.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use tracing::error;

use crate::error::StartupError;
use crate::process::clock;

/// Rest after a refusal of the system, which the next accept would only meet again.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Least time between two log lines about it.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// What the system refused to one who accepts, or to a shard: told in the log once a minute, however often it happens.
#[derive(Default)]
pub(crate) struct ErrorLog {
    logged_at: Cell<Option<Instant>>,
}

impl ErrorLog {
    /// Whether to rest before the next accept; says why in the log, unless that was just said. A connection that was gone
    /// before it was accepted is no reason.
    pub(crate) fn must_pause(&self, refused: io::Error) -> bool {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(refused.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return false;
        }
        self.log("accept a connection", refused, "accepting paused");
        true
    }

    /// Says in the log what the system refused and what follows from it, unless something was said a moment ago.
    pub(crate) fn log(&self, attempt: &str, refused: io::Error, consequence: &str) {
        let now = clock::read();
        if self.logged_at.get().is_none_or(|at| now.duration_since(at) >= LOG_INTERVAL) {
            self.logged_at.set(Some(now));
            error!(error = %StartupError::system(attempt, refused), "{consequence}");
        }
    }
}
