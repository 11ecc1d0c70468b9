//! A build without the admin thread: nothing is served over HTTP.

use super::operator::Asking;
use crate::auth::Operators;
use crate::config::Config;
use crate::error::StartupError;
use crate::net::tls::Rotation;
use crate::observe::service_state::ServiceState;
use crate::observe::tally::Tally;
use crate::shard::view::View;

/// No sockets.
pub(crate) struct Bound;

/// No descriptor is needed.
pub(crate) fn descriptors(_: &Config) -> u64 {
    0
}

impl Bound {
    /// Nobody.
    #[expect(clippy::unused_self, reason = "it stands in for a method that has something")]
    pub(crate) fn operators(&self) -> Operators {
        Operators::default()
    }
}

/// Binds nothing. A configuration that asks for more is refused before.
///
/// # Errors
/// None.
#[expect(clippy::unnecessary_wraps, reason = "it stands in for a function that can fail")]
pub(crate) fn bind(_: &Config, _: &mut Rotation) -> Result<Bound, StartupError> {
    Ok(Bound)
}

/// Starts nothing.
///
/// # Errors
/// None.
#[expect(clippy::unnecessary_wraps, reason = "it stands in for a function that can fail")]
pub(crate) fn start(_: Bound, _: View, _: Tally, _: ServiceState, _: Asking) -> Result<(), StartupError> {
    Ok(())
}
