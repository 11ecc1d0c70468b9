//! What the system says instead of a connection.
//! Knows no listener.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use tracing::error;

use crate::clock;
use crate::trouble::Trouble;

/// Rest after a refusal of the system, which the next accept would only meet again.
pub(crate) const REST: Duration = Duration::from_millis(200);

/// Least time between two log lines about it.
const TOLD_EVERY: Duration = Duration::from_mins(1);

/// Accepts that were refused to one who accepts.
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
        let now = clock::read();
        if self.told.get().is_none_or(|told| now.duration_since(told) >= TOLD_EVERY) {
            self.told.set(Some(now));
            error!(trouble = %Trouble::system("accept a connection", refused), "accepting rests");
        }
        true
    }
}
