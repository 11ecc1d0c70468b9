//! Users with passwords: the file that names them, the hashes in it, the queue in front of slow hashes, and the subcommand that
//! edits the file.

pub(crate) mod command;
mod device_key;
mod edit;
pub(super) mod fair_queue;
mod file;
mod hash;
mod prepared;
pub(super) mod remembered;

pub(super) use edit::FILE_BYTES_MAX;
pub(super) use file::{PasswordFile, sentence};
pub(super) use hash::{HashMemory, ScramVerifier, StoredHash, hmac_sha256, sha256};
pub(super) use prepared::prepare_name;
