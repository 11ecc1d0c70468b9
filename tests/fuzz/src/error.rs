//! What `config` wants of the broker's `error`: the two that its commands can end in.
//! Tells nobody; no check runs a command.

use std::path::PathBuf;

use crate::config::Fault;

#[expect(dead_code, reason = "nobody reads what no check makes")]
pub(crate) enum Trouble {
    Configuration(Vec<Fault>),
    Import { file: PathBuf, reason: String },
}
