//! Errors of accept and of new connections: the pause after a failed accept, and a log line about it at most once a
//! minute.
//! Without the pause a shard that is out of descriptors would accept in a busy loop. Without the bound the log would
//! grow with every attempt.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use tracing::error;

use crate::error::StartupError;
use crate::process::clock;

/// Pause after a failed accept. An immediate retry would fail with the same error.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Minimum time between two log lines.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// Logs errors of the system at most once a minute, however often they occur.
#[derive(Default)]
pub(crate) struct ErrorLog {
    logged_at: Cell<Option<Instant>>,
}

impl ErrorLog {
    /// Whether to pause before the next accept; logs the reason. A connection that was closed before it was accepted
    /// needs no pause.
    pub(crate) fn must_pause(&self, refused: io::Error) -> bool {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(refused.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return false;
        }
        self.log("accept a connection", refused, "accepting paused");
        true
    }

    /// Logs the failed attempt and its consequence, unless a line was logged within the last minute.
    pub(crate) fn log(&self, attempt: &str, refused: io::Error, consequence: &str) {
        let now = clock::read();
        if self.logged_at.get().is_none_or(|at| now.duration_since(at) >= LOG_INTERVAL) {
            self.logged_at.set(Some(now));
            error!(error = %StartupError::system(attempt, refused), "{consequence}");
        }
    }
}
