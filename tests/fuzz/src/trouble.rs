//! A stand-in for the broker's `trouble` with the two errors that `config` needs. No check runs a command.

use std::path::PathBuf;

use crate::config::Fault;

#[expect(dead_code, reason = "no check constructs or reads it")]
pub(crate) enum Trouble {
    Configuration(Vec<Fault>),
    Import { file: PathBuf, reason: String },
}
