//! What `config` wants of the broker's `error`: the two that its commands can end in.
//! Tells nobody; no check runs a command.

use std::path::PathBuf;

use crate::config::ConfigError;

#[expect(dead_code, reason = "nobody reads what no check makes")]
pub(crate) enum StartupError {
    Configuration(Vec<ConfigError>),
    Import { file: PathBuf, reason: String },
}
