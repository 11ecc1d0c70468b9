//! Users with passwords: the file that names them, the hashes in it, and the subcommand that edits it.

pub(crate) mod command;
mod device_key;
mod edit;
mod file;
mod hash;
