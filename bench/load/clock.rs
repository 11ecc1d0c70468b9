//! The one place of the generator that reads a clock.
//! Knows nothing of what is timed.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "a load generator is about real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
