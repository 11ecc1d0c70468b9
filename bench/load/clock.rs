//! The only module of the generator that reads a clock.

use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "a load generator is about real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
