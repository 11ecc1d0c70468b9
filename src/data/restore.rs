//! `mqtt-broker data restore`: a data directory from a backup.
//!
//! The logs are read whole, as a start reads them, and written as checkpoints of other logs. So a backup that is damaged restores nothing,
//! and the broker that it was taken of may go on beside the restored one: no file of one fits the logs of the other.

use std::fs;
use std::path::Path;

use journal::Recovered;

use super::{is_empty, must_exist, offline, print, refuse};
use crate::config::Config;
use crate::error::StartupError;
use crate::persist::journal::{Opened, sync_names};
use crate::process::data_dir::DataDir;
use crate::shard::thread::journal_settings;

/// Names in a data directory that belong to a process, or to its logs.
const NOT_PLAIN: [&str; 4] = ["broker.lock", "control.sock", "page.sock", "journal"];

/// Makes the data directory of the configuration from the backup in `from`.
///
/// # Errors
/// If the data directory is not empty or in use, the backup is damaged, or a file cannot be written.
pub(super) fn run(config: &Config, from: &Path) -> Result<(), StartupError> {
    let to = &config.data_dir;
    must_exist(from)?;
    let unreadable = |error| StartupError::system(format!("read {}", to.display()), error);
    if !is_empty(to).map_err(unreadable)? {
        let remedy = "the directory is not empty; move what it has away, or name another by --data-dir DIR";
        return Err(refuse("restore into", to, remedy));
    }
    let _held = DataDir::take(to)?;
    let source = Opened::look(from)?;
    if source.is_none() && !from.join("subscriptions.json").exists() {
        return Err(refuse(
            "restore",
            from,
            "it is no backup: it has neither a journal nor subscriptions.json",
        ));
    }
    if let Some(source) = source {
        let source = source.ahead()?;
        let (clock, engines, ends) = offline::read(config, &source)?;
        let copy = source.begin_copy(to)?;
        let targets = (0..).zip(ends).map(|(shard, end)| {
            let end = Recovered {
                position: end.position,
                next_sequence: end.next_sequence,
                broker_ms: end.broker_ms,
                wall_ms: end.wall_ms,
                ..Recovered::nothing(copy.log_identity(shard))
            };
            (copy.directory(shard), end, copy.start().get())
        });
        let settings = (clock, journal_settings(config));
        offline::write(engines, targets.collect(), settings, offline::tell_written)?;
        copy_plain(from, to)?;
        copy.found()?;
    } else {
        copy_plain(from, to)?;
    }
    print(&format!("{} is restored from {}", to.display(), from.display()));
    Ok(())
}

/// Copies the files that are no log.
fn copy_plain(from: &Path, to: &Path) -> Result<(), StartupError> {
    let entries = fs::read_dir(from)
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .map_err(|error| StartupError::system(format!("read {}", from.display()), error))?;
    for entry in entries {
        let name = entry.file_name();
        if NOT_PLAIN.iter().any(|other| name == *other) || !entry.path().is_file() {
            continue;
        }
        let target = to.join(&name);
        let copied = fs::copy(entry.path(), &target).and_then(|_| fs::File::open(&target)?.sync_all());
        copied.map_err(|error| StartupError::system(format!("write {}", target.display()), error))?;
    }
    sync_names(to).map_err(|error| StartupError::system(format!("synchronise {}", to.display()), error))
}
