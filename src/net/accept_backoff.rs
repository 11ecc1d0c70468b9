//! Errors of accept and of new connections: the pause after a failed accept, and log lines when they begin, once a minute,
//! and when they are over.
//! Without the pause a shard that is out of descriptors would accept in a busy loop. Without the bound the log would
//! grow with every attempt.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use tracing::{error, info};

use crate::error::StartupError;
use crate::observe::lasting::{Lasting, Told};
use crate::process::clock;

/// Pause after a failed accept. An immediate retry would fail with the same error.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Logs errors of the system when they begin, once a minute while they go on, and when they are over.
#[derive(Default)]
pub(crate) struct ErrorLog {
    lasting: Cell<Lasting>,
    origin: Cell<Option<Instant>>,
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

    /// Logs the failed attempt and its consequence, where a line about it is due.
    pub(crate) fn log(&self, attempt: &str, refused: io::Error, consequence: &str) {
        if let Some(Told::Begins | Told::Lasts) = self.observe(true) {
            error!(error = %StartupError::system(attempt, refused), "{consequence}");
        }
    }

    /// An attempt has succeeded. Logs that the errors are over, once none has come for ten seconds.
    pub(crate) fn succeeded(&self) {
        if self.origin.get().is_none() {
            // There was no error yet.
            return;
        }
        if let Some(Told::Ends { lasted_s }) = self.observe(false) {
            info!(lasted_s, "connections are accepted again without errors");
        }
    }

    fn observe(&self, is_error: bool) -> Option<Told> {
        let now = clock::read();
        let origin = self.origin.get().unwrap_or(now);
        self.origin.set(Some(origin));
        let now_ms = u64::try_from(now.duration_since(origin).as_millis()).unwrap_or(u64::MAX);
        let mut lasting = self.lasting.get();
        let told = lasting.observe(now_ms, is_error);
        self.lasting.set(lasting);
        told
    }
}
