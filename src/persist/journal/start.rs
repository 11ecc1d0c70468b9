//! The start of the logs: the identity of the data directory, the number of this start, and the directories.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use engine::Entropy;
use journal::{Identity, IdentityFault, LogIdentity, Recovered, SECTOR_BYTES};

use super::files::{Directory, sync_names};
use crate::error::StartupError;
use crate::shard::placement_key;

/// The directory of the logs in the data directory.
const JOURNAL: &str = "journal";

/// The two copies of the identity.
const COPIES: [&str; 2] = ["identity.a", "identity.b"];

/// The logs of a data directory, whose start has a number.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    journal: PathBuf,
    identity: Identity,
    is_new: bool,
    /// This start has a number of its own, or it only looks.
    is_start: bool,
}

impl Opened {
    /// Opens the logs for a start of the broker, or makes so many. Afterwards the number of this start is durable, and the logs of other
    /// generations are gone.
    ///
    /// # Errors
    /// If another version wrote them, they are damaged, or the directory cannot be written.
    pub(crate) fn open(data_dir: &Path, shard_count: u16, key: Entropy) -> Result<Self, StartupError> {
        let journal = data_dir.join(JOURNAL);
        let unusable = |error| StartupError::data_dir(&journal, error);
        fs::create_dir_all(&journal).map_err(unusable)?;
        let found = read(&journal)?;
        let identity = if let Some(found) = found {
            let start = found.start.checked_add(1);
            let start =
                start.ok_or_else(|| unusable(io::Error::other("its number of starts is at its end")))?;
            Identity { start, ..found }
        } else {
            let log = placement_key::draw()?.0.to_le_bytes();
            let placement_key = key.0.to_le_bytes();
            Identity { placement_key, log, shard_count, generation: 1, start: 1 }
        };
        let opened = Self { journal, identity, is_new: found.is_none(), is_start: true };
        opened
            .prepare()
            .and_then(|()| opened.remove_others())
            .map_err(|error| StartupError::data_dir(&opened.journal, error))?;
        Ok(opened)
    }

    /// The logs as they are, for a command that only reads; `None` if there are none.
    ///
    /// # Errors
    /// If another version wrote them, or they are damaged.
    pub(crate) fn look(data_dir: &Path) -> Result<Option<Self>, StartupError> {
        let journal = data_dir.join(JOURNAL);
        let found = read(&journal)?;
        Ok(found.map(|identity| Self { journal, identity, is_new: false, is_start: false }))
    }

    /// The logs as a start after the last one would find them, whose number nothing has yet. Nothing is written.
    ///
    /// # Errors
    /// If the number of starts is at its end.
    pub(crate) fn ahead(self) -> Result<Self, StartupError> {
        let unusable = |error| StartupError::data_dir(&self.journal, error);
        let start = self.identity.start.checked_add(1);
        let start = start.ok_or_else(|| unusable(io::Error::other("its number of starts is at its end")))?;
        Ok(Self { identity: Identity { start, ..self.identity }, is_start: true, ..self })
    }

    /// Empty logs in a data directory that has none. The directories are made; [`Opened::found`] makes them count.
    ///
    /// # Errors
    /// If the system has no random numbers, or the directories cannot be made.
    pub(crate) fn begin_new(data_dir: &Path, shard_count: u16, key: Entropy) -> Result<Self, StartupError> {
        let placement_key = key.0.to_le_bytes();
        let identity = Identity { placement_key, log: [0; 16], shard_count, generation: 1, start: 1 };
        Self { journal: PathBuf::new(), identity, is_new: true, is_start: true }.begin_copy(data_dir)
    }

    /// The same state as other logs in another data directory, which has none: with an identity of their own, so that no file of
    /// one is ever taken for a file of the other. The directories are made; [`Opened::found`] makes it count.
    ///
    /// # Errors
    /// If the system has no random numbers, or the directories cannot be made.
    pub(crate) fn begin_copy(&self, data_dir: &Path) -> Result<Self, StartupError> {
        let journal = data_dir.join(JOURNAL);
        let log = placement_key::draw()?.0.to_le_bytes();
        let identity = Identity { log, generation: 1, ..self.identity };
        let copy = Self { journal, identity, is_new: true, is_start: true };
        copy.make_directories().map_err(|error| StartupError::data_dir(&copy.journal, error))?;
        Ok(copy)
    }

    /// Empty logs of another number of shards, for the same state: the next generation, in the place of one that was not finished.
    /// The directories are made; [`Opened::found`] makes them count.
    ///
    /// # Errors
    /// If the directories cannot be made.
    pub(crate) fn begin_next(&self, shard_count: u16) -> Result<Self, StartupError> {
        let generation = self.identity.generation + 1;
        let identity = Identity { shard_count, generation, ..self.identity };
        let next = Self { journal: self.journal.clone(), identity, is_new: true, is_start: true };
        let folder = next.journal.join(generation.to_string());
        let made = remove_folder(&folder).and_then(|()| next.make_directories());
        made.map_err(|error| StartupError::data_dir(&next.journal, error))?;
        Ok(next)
    }

    /// Removes the logs of all other generations: of the one before, and of one that was not finished.
    fn remove_others(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.journal)? {
            let entry = entry?;
            let generation = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            if generation.is_some_and(|generation| generation != self.identity.generation) {
                remove_folder(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Makes the identity durable, after everything that it stands for.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn found(&self) -> Result<(), StartupError> {
        self.write_identity().map_err(|error| StartupError::data_dir(&self.journal, error))
    }

    /// The directory of all logs.
    pub(crate) fn path(&self) -> &Path {
        &self.journal
    }

    /// Whether there were no logs before this start.
    pub(crate) const fn is_new(&self) -> bool {
        self.is_new
    }

    /// The number of this start.
    ///
    /// # Panics
    /// Never: starts are counted from 1.
    pub(crate) fn start(&self) -> NonZeroU32 {
        NonZeroU32::new(self.identity.start).expect("starts are counted from 1")
    }

    /// The key that gives clients and topics their homes. The logs were written by it.
    pub(crate) fn key(&self) -> Entropy {
        Entropy(u128::from_le_bytes(self.identity.placement_key))
    }

    /// Checks that the identity is not older than a log, as one is that was put back alone.
    pub(super) fn check_age(&self, log: &Recovered) -> Result<(), StartupError> {
        let is_older = if self.is_start {
            log.last_start >= self.identity.start
        } else {
            log.last_start > self.identity.start
        };
        if !is_older {
            return Ok(());
        }
        let file = self.journal.join(COPIES[0]);
        Err(StartupError::JournalDamaged {
            file,
            reason: "it and identity.b are older than the log".to_owned(),
        })
    }

    /// The number of logs.
    pub(crate) const fn shard_count(&self) -> u16 {
        self.identity.shard_count
    }

    /// The directory of a shard's log.
    pub(crate) fn directory(&self, shard: u16) -> Directory {
        Directory::of(&self.journal, self.identity.generation, shard)
    }

    /// Bytes of a shard's log.
    pub(crate) fn bytes_of(&self, shard: u16) -> u64 {
        let directory = self.directory(shard);
        let files = directory.files().unwrap_or_default();
        files
            .into_iter()
            .filter_map(|file| directory.path_of(file).metadata().ok())
            .map(|found| found.len())
            .sum()
    }

    /// The identity of a shard's log.
    pub(crate) const fn log_identity(&self, shard: u16) -> LogIdentity {
        let Identity { log, shard_count, generation, .. } = self.identity;
        LogIdentity { log, shard, shard_count, generation }
    }

    /// Makes the directories, if this is the first start, and then the number of the start durable. So a directory that is missing
    /// later was taken away.
    fn prepare(&self) -> io::Result<()> {
        if self.is_new {
            self.make_directories()?;
        }
        self.write_identity()
    }

    fn make_directories(&self) -> io::Result<()> {
        for shard in 0..self.identity.shard_count {
            fs::create_dir_all(self.directory(shard).path())?;
        }
        let generation = self.journal.join(self.identity.generation.to_string());
        sync_names(&generation)?;
        self.journal.parent().map_or(Ok(()), sync_names)
    }

    fn write_identity(&self) -> io::Result<()> {
        let copy = if self.identity.is_copy_a() { COPIES[0] } else { COPIES[1] };
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            // It has the key of homes.
            options.mode(0o600);
        }
        let mut file = options.open(self.journal.join(copy))?;
        file.write_all(&self.identity.encode())?;
        file.sync_all()?;
        sync_names(&self.journal)
    }
}

/// Removes a folder and everything in it, if it is there.
fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// The identity in a directory of logs; `None` if there is none.
fn read(journal: &Path) -> Result<Option<Identity>, StartupError> {
    let [a, b] = COPIES.map(|name| copy(&journal.join(name)));
    // The whole directory has another owner then, so the remedy names it.
    let data_dir = journal.parent().unwrap_or(journal);
    let unusable = |error| StartupError::data_dir(data_dir, error);
    let (a, b) = (a.map_err(unusable)?, b.map_err(unusable)?);
    Identity::newer(&a, &b).map_err(|fault| StartupError::JournalDamaged {
        file: journal.join(COPIES[0]),
        reason: match fault {
            IdentityFault::Damaged => "neither it nor identity.b beside it is whole".to_owned(),
            IdentityFault::Format(format) => {
                format!("a later version wrote it (format {format}; this one reads {})", journal::FORMAT)
            }
        },
    })
}

/// The bytes of a copy; none if it does not exist.
fn copy(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(SECTOR_BYTES as u64).read_to_end(&mut bytes).map(|_| bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(bytes),
        Err(error) => Err(error),
    }
}
