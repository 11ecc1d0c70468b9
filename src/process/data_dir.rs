//! The data directory: created if missing, tested for writing, and locked by one broker at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process;

use crate::error::StartupError;

/// The file whose lock marks the directory as in use. It contains the number of the process.
const LOCK_FILE: &str = "broker.lock";

/// The lock on the directory, held while this value lives. The system releases it with the process, however that ends.
#[derive(Debug)]
pub(crate) struct DataDir {
    _lock: File,
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
            .open(path)
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
        Ok(Self { _lock: lock })
    }
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
    fn a_file_in_the_place_of_the_directory_is_an_error() {
        let scratch = Scratch::new("data_dir_file");
        let file = scratch.path().join("data");
        fs::write(&file, "").unwrap();
        let error = DataDir::take(&file).unwrap_err();
        assert!(matches!(error, StartupError::DataDirUnwritable { .. }), "{error}");
    }
}
