//! `mqtt-broker data backup`: a copy of a data directory, which has the form of one.
//!
//! Invariants: of a running broker, each log is copied up to where it was written at one moment, and no file of it is deleted meanwhile. So
//! the copy is what a crash at that moment would have left. The identity of the logs is copied last: without it a copy does not count.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Bar, is_empty, must_exist, print, refuse};
use crate::admin::operator::{LogAction, LogRow, ask_logs};
use crate::error::StartupError;
use crate::persist::journal::{Opened, sync_names};
use crate::process::clock;
use crate::process::data_dir::DataDir;

/// Files of a data directory that belong to a process.
const OF_PROCESS: [&str; 3] = ["broker.lock", "control.sock", "page.sock"];

/// Bytes that are copied at a time.
const PIECE_BYTES: usize = 1024 * 1024;

/// Interval at which a running broker is asked to keep its files.
const RENEWAL: Duration = Duration::from_secs(5);

/// Copies `data_dir` to `to`.
///
/// # Errors
/// If `to` has something in it, or a file cannot be copied.
pub(super) fn run(data_dir: &Path, to: &Path) -> Result<(), StartupError> {
    must_exist(data_dir)?;
    if !is_empty(to).map_err(|error| StartupError::system(format!("read {}", to.display()), error))? {
        return Err(refuse(
            "make a backup in",
            to,
            "the directory is not empty; name one that does not exist",
        ));
    }
    match DataDir::take(data_dir) {
        Ok(_held) => Copying::new(data_dir, to).run(None),
        Err(StartupError::DataDirInUse { .. }) => {
            let logs = ask_logs(data_dir, LogAction::Freeze)?;
            let copied = Copying::new(data_dir, to).run(Some(&logs));
            let thawed = ask_logs(data_dir, LogAction::Thaw);
            copied.and(thawed.map(|_| ()))
        }
        Err(error) => Err(error),
    }
}

struct Copying<'a> {
    data_dir: &'a Path,
    to: &'a Path,
    bar: Bar,
    files: u64,
    bytes: u64,
    /// When a running broker was asked last to keep its files.
    renewed: Instant,
    is_running: bool,
}

impl<'a> Copying<'a> {
    fn new(data_dir: &'a Path, to: &'a Path) -> Self {
        Self { data_dir, to, bar: Bar::new(), files: 0, bytes: 0, renewed: clock::read(), is_running: false }
    }

    /// Copies everything; the logs of a running broker up to these ends.
    fn run(mut self, running: Option<&[LogRow]>) -> Result<(), StartupError> {
        self.is_running = running.is_some_and(|logs| !logs.is_empty());
        let logs = Opened::look(self.data_dir)?;
        make_directory(self.to)?;
        self.copy_plain()?;
        if let Some(logs) = logs {
            for shard in 0..logs.shard_count() {
                let row = running.and_then(|rows| rows.iter().find(|row| row.shard == shard));
                self.copy_log(&logs, shard, row)?;
            }
            self.renew(true)?;
            let journal = self.to.join("journal");
            for copy in ["identity.a", "identity.b"] {
                let from = logs.path().join(copy);
                if from.exists() {
                    self.copy(&from, &journal.join(copy), u64::MAX)?;
                }
            }
            sync(&journal)?;
        }
        sync(self.to)?;
        let Self { bar, files, bytes, to, .. } = self;
        drop(bar);
        print(&format!("{files} files of {} KiB are in {}", bytes.div_ceil(1024), to.display()));
        Ok(())
    }

    /// Copies what is no log.
    fn copy_plain(&mut self) -> Result<(), StartupError> {
        let unreadable = |error| StartupError::system(format!("read {}", self.data_dir.display()), error);
        let entries: io::Result<Vec<_>> = fs::read_dir(self.data_dir).map_err(unreadable)?.collect();
        for entry in entries.map_err(unreadable)? {
            let name = entry.file_name();
            let is_of_process = OF_PROCESS.iter().any(|own| name == *own);
            let is_temporary = name.to_string_lossy().ends_with(".new");
            if entry.file_type().is_ok_and(|kind| kind.is_file()) && !is_of_process && !is_temporary {
                self.copy(&entry.path(), &self.to.join(&name), u64::MAX)?;
            }
        }
        Ok(())
    }

    /// Copies the log of a shard, of a running broker up to the end in `row`.
    fn copy_log(&mut self, logs: &Opened, shard: u16, row: Option<&LogRow>) -> Result<(), StartupError> {
        let directory = logs.directory(shard);
        let relative = directory.path().strip_prefix(self.data_dir).unwrap_or(directory.path());
        let to = self.to.join(relative);
        make_directory(&to)?;
        let files = directory
            .files()
            .map_err(|error| StartupError::system(format!("read {}", directory.path().display()), error))?;
        for file in files {
            let bytes_max = match (file, row) {
                (journal::File::Draft, _) => continue,
                (_, None) => u64::MAX,
                (journal::File::Checkpoint(position), Some(row)) if row.checkpoint == Some(position) => {
                    u64::MAX
                }
                (journal::File::Segment(number), Some(row)) if number == row.segments.1 => row.last_bytes,
                (journal::File::Segment(number), Some(row))
                    if (row.segments.0..row.segments.1).contains(&number) =>
                {
                    u64::MAX
                }
                (journal::File::Checkpoint(_) | journal::File::Segment(_), Some(_)) => continue,
            };
            let from = directory.path_of(file);
            let name = from.file_name().unwrap_or_default().to_owned();
            self.copy(&from, &to.join(name), bytes_max)?;
        }
        sync(&to)
    }

    /// Copies the beginning of a file, and makes it durable.
    fn copy(&mut self, from: &Path, to: &Path, bytes_max: u64) -> Result<(), StartupError> {
        let failed =
            |error| StartupError::system(format!("copy {} to {}", from.display(), to.display()), error);
        let mut source = File::open(from).map_err(failed)?.take(bytes_max);
        let mut target = create(to).map_err(failed)?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let length = match source.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            target.write_all(&piece[..length]).map_err(failed)?;
            self.bytes += length as u64;
            self.bar.show(format!("{} MiB copied", self.bytes / 1024 / 1024));
            self.renew(false)?;
        }
        self.files += 1;
        target.sync_all().map_err(failed)
    }

    /// Asks a running broker to keep its files for longer, if it is time or `is_end`.
    fn renew(&mut self, is_end: bool) -> Result<(), StartupError> {
        if !self.is_running || (!is_end && self.renewed.elapsed() < RENEWAL) {
            return Ok(());
        }
        let logs = ask_logs(self.data_dir, LogAction::Freeze)?;
        if logs.iter().any(|log| !log.was_frozen) {
            let remedy = "the broker did not keep its files for so long; remove this directory, and try again on a faster disk";
            return Err(refuse("finish the backup in", self.to, remedy));
        }
        self.renewed = clock::read();
        Ok(())
    }
}

/// A directory for its owner alone.
pub(super) fn make_directory(directory: &Path) -> Result<(), StartupError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder
        .create(directory)
        .map_err(|error| StartupError::system(format!("create {}", directory.display()), error))
}

/// A new file for its owner alone.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create_new(true).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

fn sync(directory: &Path) -> Result<(), StartupError> {
    sync_names(directory)
        .map_err(|error| StartupError::system(format!("synchronise {}", directory.display()), error))
}
