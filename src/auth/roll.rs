//! The roll: the names of the users in the files of authentication, kept in the data directory. So the broker finds at its start which users
//! were removed while it did not run, and their sessions end.
//!
//! Invariant: a name leaves the roll on the disk a minute after the shards were told of it at the earliest, so an end of the process in
//! between loses no removal.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tracing::warn;

use super::snapshot::Snapshot;
use crate::process::atomic_file::{self, Readers};

/// The name of the file in the data directory.
const FILE: &str = "known_users.json";

type Names = BTreeSet<Box<str>>;

/// **Lives on:** the side thread.
pub(super) struct Roll {
    file: PathBuf,
    /// The names in the file.
    written: Names,
}

impl Roll {
    /// The roll of a data directory. One that cannot be read is empty, and told.
    pub(super) fn of(data_dir: &Path) -> Self {
        let file = data_dir.join(FILE);
        let written = read(&file).unwrap_or_else(|error| {
            warn!(file = %file.display(), %error,
                "the users of the last run cannot be read, so sessions of those that were removed since stay until they are asked for");
            Names::new()
        });
        Self { file, written }
    }

    /// Adds the users of a snapshot. Returns those of the roll that are gone, which stay in it until [`Roll::forget`]. Of a snapshot
    /// without users none is gone: an editor or a script that fails leaves an empty file.
    pub(super) fn add(&mut self, snapshot: &Snapshot) -> Vec<Box<str>> {
        let current = names(snapshot);
        if current.is_empty() {
            return Vec::new();
        }
        if !current.is_subset(&self.written) {
            self.write(current.union(&self.written).cloned().collect());
        }
        self.written.difference(&current).cloned().collect()
    }

    /// The shards have had time to end the sessions of users that are gone: only those of the snapshot stay in the roll.
    pub(super) fn forget(&mut self, snapshot: &Snapshot) {
        let current = names(snapshot);
        if !current.is_empty() && current != self.written {
            self.write(current);
        }
    }

    fn write(&mut self, names: Names) {
        let written = atomic_file::replace(&self.file, Readers::Owner, |out| {
            serde_json::to_writer_pretty(&mut *out, &names)?;
            out.write_all(b"\n")
        });
        match written {
            Ok(()) => self.written = names,
            Err(error) => warn!(file = %self.file.display(), %error, "the names of the users cannot be kept"),
        }
    }
}

fn names(snapshot: &Snapshot) -> Names {
    let users = snapshot.users.users().chain(snapshot.scram_users.users());
    users.map(|(name, _)| name.into()).collect()
}

/// The names in a file; none if there is no file.
fn read(file: &Path) -> io::Result<Names> {
    match fs::read(file) {
        Ok(content) => Ok(serde_json::from_slice(&content)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Names::new()),
        Err(error) => Err(error),
    }
}
