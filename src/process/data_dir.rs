//! The data directory: created if missing, tested for writing, and locked by one broker at a time.
//! A lock belongs to a file and not to its name. A directory that is deleted takes the lock along, and a second broker can then
//! start in a new one of the same name. The broker therefore looks whether the name still leads to its own lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process;

use tracing::{error, info};

use crate::error::StartupError;

/// The file whose lock marks the directory as in use. It contains the number of the process.
const LOCK_FILE: &str = "broker.lock";

/// The lock on the directory, held while this value or a [`Hold`] lives. The system releases it with the process, however that
/// ends.
#[derive(Debug)]
pub(crate) struct DataDir {
    directory: PathBuf,
    hold: Hold,
    /// The state at the last look.
    state: HoldState,
}

/// A handle on the lock, to ask whose the directory is.
#[derive(Debug)]
pub(crate) struct Hold {
    lock: File,
    path: PathBuf,
}

/// The owner of the place that the name of the directory leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HoldState {
    /// The directory that this broker has locked.
    Ours,
    /// Nothing, or a directory without a lock.
    Deleted,
    /// A directory that another broker has used since.
    Anothers,
}

/// Whether a process has locked `directory`.
pub(crate) fn is_held(directory: &Path) -> bool {
    let lock = File::open(directory.join(LOCK_FILE));
    // The lock that this may get is gone at once, together with the file.
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

impl DataDir {
    /// Creates `directory` if it is missing, and locks it.
    ///
    /// # Errors
    /// If it cannot be created or written, or if another broker holds it.
    pub(crate) fn take(directory: &Path) -> Result<Self, StartupError> {
        let unusable = |error| StartupError::data_dir(directory, error);
        fs::create_dir_all(directory).map_err(unusable)?;
        let path = directory.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StartupError::DataDirInUse {
                    directory: directory.to_owned(),
                    process: holder(&lock),
                });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        claim(&mut lock).map_err(unusable)?;
        let hold = Hold { lock, path };
        Ok(Self { directory: directory.to_owned(), hold, state: HoldState::Ours })
    }

    /// The directory, as it was named.
    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// A handle on the lock for another thread.
    ///
    /// # Errors
    /// If the system refuses another descriptor.
    pub(crate) fn hold(&self) -> Result<Hold, StartupError> {
        let lock =
            self.hold.lock.try_clone().map_err(|error| StartupError::data_dir(&self.directory, error))?;
        Ok(Hold { lock, path: self.hold.path.clone() })
    }

    /// Logs one line if the directory was deleted, replaced or brought back since the last look.
    pub(crate) fn report_change(&mut self) {
        let state = self.hold.state();
        if state == self.state {
            return;
        }
        self.state = state;
        let data_dir = self.directory.display();
        match state {
            HoldState::Ours => info!(%data_dir, "the data directory is back in its place"),
            HoldState::Deleted => error!(
                %data_dir,
                "the data directory was deleted while the broker runs: nothing is saved any more, and a second broker can start \
                 in a new directory of this name; restart this broker"
            ),
            HoldState::Anothers => error!(
                %data_dir,
                "the data directory was replaced while the broker runs, and another broker has used the new one: this broker \
                 saves nothing there; stop one of the two, or start one with another --data-dir DIR"
            ),
        }
    }
}

impl Hold {
    /// The owner of the place that the name leads to now. A state that cannot be read counts as unchanged.
    pub(crate) fn state(&self) -> HoldState {
        match fs::metadata(&self.path) {
            Ok(found) if self.lock.metadata().is_ok_and(|own| !is_same(&own, &found)) => HoldState::Anothers,
            Err(error) if is_absence(&error) => HoldState::Deleted,
            Ok(_) | Err(_) => HoldState::Ours,
        }
    }
}

#[cfg(unix)]
fn is_same(own: &fs::Metadata, found: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (own.dev(), own.ino()) == (found.dev(), found.ino())
}

/// Windows refuses to delete a directory with an open file in it.
#[cfg(not(unix))]
fn is_same(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn claim(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.write_all(process::id().to_string().as_bytes())
}

fn holder(lock: &File) -> Option<u32> {
    let mut text = String::new();
    lock.take(16).read_to_string(&mut text).ok()?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::scratch::Scratch;

    #[test]
    fn a_directory_is_made_and_held_by_one_at_a_time() {
        let scratch = Scratch::new("data_dir_held");
        let directory = scratch.path().join("made/on/the/way");
        let first = DataDir::take(&directory).unwrap();
        match DataDir::take(&directory).unwrap_err() {
            StartupError::DataDirInUse { process, .. } => assert_eq!(process, Some(process::id())),
            other => panic!("{other}"),
        }
        drop(first);
        DataDir::take(&directory).unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn a_directory_that_is_deleted_replaced_or_brought_back_is_noticed() {
        let scratch = Scratch::new("data_dir_lost");
        let (directory, aside) = (scratch.path().join("data"), scratch.path().join("aside"));
        let first = DataDir::take(&directory).unwrap();
        let hold = first.hold().unwrap();
        assert_eq!(hold.state(), HoldState::Ours);
        fs::rename(&directory, &aside).unwrap();
        assert_eq!(hold.state(), HoldState::Deleted);
        fs::create_dir(&directory).unwrap();
        assert_eq!(hold.state(), HoldState::Deleted, "nobody has used it");
        let second = DataDir::take(&directory).unwrap();
        assert_eq!(hold.state(), HoldState::Anothers);
        assert_eq!(second.hold().unwrap().state(), HoldState::Ours);
        fs::remove_dir_all(&directory).unwrap();
        fs::rename(&aside, &directory).unwrap();
        assert_eq!(hold.state(), HoldState::Ours);
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_an_error() {
        let scratch = Scratch::new("data_dir_file");
        let file = scratch.path().join("data");
        fs::write(&file, "").unwrap();
        let error = DataDir::take(&file).unwrap_err();
        assert!(matches!(error, StartupError::DataDirUnwritable { .. }), "{error}");
    }
}
