//! The variants of the broker's `StartupError` that `config` uses. No check runs a command, so none of them is read.

use std::path::PathBuf;

use crate::config::ConfigError;

#[expect(dead_code, reason = "no check creates one")]
pub(crate) enum StartupError {
    Configuration(Vec<ConfigError>),
    Import { file: PathBuf, reason: String },
}
