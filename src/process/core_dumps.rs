//! Core dumps, which would have the keys and passwords that the broker has loaded.

use tracing::{info, warn};

use crate::config::Config;

/// Turns core dumps off if the configuration loads secrets: private keys, users, or keys of tokens. They stay as they are where
/// `core_dumps = true` says so, and on systems that have none.
pub(crate) fn forbid(config: &Config) {
    let has_secrets =
        config.listeners.iter().any(|listener| listener.tls.is_some() || !listener.methods().is_empty());
    if !has_secrets || config.core_dumps {
        return;
    }
    match turn_off() {
        Ok(()) => info!("core dumps are off, because they would have keys and passwords in them"),
        Err(reason) => {
            warn!(%reason, "core dumps cannot be turned off; they would have keys and passwords in them");
        }
    }
}

#[cfg(unix)]
fn turn_off() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    Ok(setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?)
}

#[cfg(not(unix))]
fn turn_off() -> std::io::Result<()> {
    Ok(())
}
