//! `subscriptions.json`: the subscriptions of persistent sessions, kept across restarts. A session here is a client
//! identifier with its subscriptions and its expiry; the shards decide which sessions are persistent.
//!
//! Time in which the broker does not run does not count towards the expiry: a client cannot come back meanwhile. Of a crash, the
//! time since the last write does not count either.

mod format;
mod writer;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use format::{Read as ReadSubscription, Written as WrittenSubscription};
pub(crate) use writer::{Feed, Writer};

use engine::SessionRecord;

use crate::error::StartupError;
use crate::process::atomic_file::{self, Readers};

const FILE: &str = "subscriptions.json";

/// The sessions of the file in `data_dir`; none if there is no file.
///
/// # Errors
/// If the file cannot be read or is invalid. It is not changed.
pub(crate) fn load(data_dir: &Path) -> Result<Vec<SessionRecord>, StartupError> {
    let file = path(data_dir);
    let damaged = |reason: String| StartupError::SubscriptionsDamaged { file: file.clone(), reason };
    match fs::read(&file) {
        Ok(json) => format::parse(&json).map_err(|error| damaged(format!("is damaged: {error}"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(damaged(format!("cannot be read: {error}"))),
    }
}

/// Renames the file, because a log has taken its sessions over; they are not to come back when the log has ended them.
///
/// # Errors
/// If the system refuses it.
pub(crate) fn retire(data_dir: &Path) -> io::Result<PathBuf> {
    let file = path(data_dir);
    let retired = file.with_extension("json.imported");
    fs::rename(&file, &retired)?;
    Ok(retired)
}

/// Writes the file of these sessions into a directory.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn export(directory: &Path, mut sessions: Vec<SessionRecord>) -> Result<(), StartupError> {
    sessions.sort_unstable_by(|one, other| one.client_id.cmp(&other.client_id));
    let file = path(directory);
    atomic_file::replace(&file, Readers::All, |target| format::write(target, sessions.iter()))
        .map_err(|error| StartupError::SubscriptionsUnwritten { file, error })
}

/// Whether there is a file.
pub(crate) fn exists(data_dir: &Path) -> bool {
    path(data_dir).exists()
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::scratch::Scratch;

    #[test]
    fn no_file_is_no_subscriptions() {
        let scratch = Scratch::new("subscriptions_none");
        assert_eq!(load(scratch.path()).unwrap(), []);
    }

    #[test]
    fn a_damaged_file_is_reported_with_name_and_position_and_left_alone() {
        let scratch = Scratch::new("subscriptions_damaged");
        let file = path(scratch.path());
        let check = |content: &str, parts: &[&str]| {
            fs::write(&file, content).unwrap();
            let sentence = load(scratch.path()).unwrap_err().to_string();
            for part in
                ["subscriptions.json", "damaged", "line", "column", "move it away"].iter().chain(parts)
            {
                assert!(sentence.contains(part), "{part:?} is missing in: {sentence}");
            }
            assert_eq!(fs::read_to_string(&file).unwrap(), content);
        };
        check("", &["line 1"]);
        check("{\"subscriptions\": {", &["line 1"]);
        check("{\n\"subscriptions\": []}", &["line 2"]);
        check("{\"sesions\": {}}", &["sesions"]);
    }
}
