//! `mqtt-broker data`: looks at the data directory of a broker that does not run.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::recovery;
use super::start::Opened;
use crate::error::StartupError;
use crate::process::data_dir::DataDir;

/// Subcommands of `mqtt-broker data`.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Read the log of every shard and say whether it is whole; exit code 1 with the file, the offset and what to do if it is not
    Check {
        /// Data directory [default: that of the configuration]
        directory: Option<PathBuf>,
    },
}

/// Reads every log in a data directory, and prints a line about each.
///
/// # Errors
/// If a broker uses the directory, or a log in it is damaged. Nothing is changed.
pub(crate) fn check(data_dir: &Path) -> Result<(), StartupError> {
    if !data_dir.is_dir() {
        let error = io::Error::new(io::ErrorKind::NotFound, "there is no such directory");
        return Err(StartupError::system(format!("read {}", data_dir.display()), error));
    }
    let held = DataDir::take(data_dir)?;
    let mut out = io::stdout().lock();
    let Some(opened) = Opened::look(held.path())? else {
        let _ = writeln!(out, "{}: there is no journal", data_dir.display());
        return Ok(());
    };
    for shard in 0..opened.shard_count() {
        let mut bar = Bar::new(shard, opened.bytes_of(shard));
        let (end, read) =
            recovery::read_log(&opened, shard, &mut |_, _| Ok(()), &mut |bytes| bar.add(bytes))?;
        bar.end();
        let kibibytes = read.bytes / 1024;
        // A reader that closes early has read enough.
        let _ = writeln!(
            out,
            "shard {shard}: whole, {} records in {} segments of {kibibytes} KiB, up to position {}",
            read.records,
            read.segments.len(),
            end.position
        );
    }
    Ok(())
}

/// How far the reading of a log has come, on a terminal.
struct Bar {
    shard: u16,
    total: u64,
    read: u64,
    is_shown: bool,
}

impl Bar {
    fn new(shard: u16, total: u64) -> Self {
        Self { shard, total: total.max(1), read: 0, is_shown: io::stderr().is_terminal() }
    }

    fn add(&mut self, bytes: u64) {
        self.read += bytes;
        if self.is_shown {
            let (shard, percent) = (self.shard, (self.read * 100 / self.total).min(100));
            let _ = write!(io::stderr(), "\rshard {shard}: {percent} %");
        }
    }

    fn end(&self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
