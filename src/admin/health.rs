//! The health check: asks the running broker over the operator's socket whether every shard answers, whatever its listeners are.

use std::path::Path;

use super::operator;
use crate::error::StartupError;

/// Checks that the broker of `data_dir` runs, and that each of its shards answers.
///
/// # Errors
/// If no broker runs with that directory, or a shard does not answer within two seconds.
pub(crate) fn check(data_dir: &Path) -> Result<(), StartupError> {
    operator::ask_health(data_dir)
}
