//! `mqtt-broker data`: commands about a data directory. Most are for one that no broker uses; a checkpoint and a backup are made of a
//! running broker as well.
//!
//! Invariants: nothing is changed that a command only reads, and nothing is written into a directory that has something. Errors name the
//! file or the directory, and the remedy.

mod backup;
mod check;
mod checkpoint;
mod deal;
mod export;
mod import;
mod lines;
mod offline;
mod restore;

pub(crate) use deal::deal;

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::config::Config;
use crate::error::StartupError;

/// Subcommands of `mqtt-broker data`.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Read the checkpoint and the log of every shard and say whether they are whole; exit code 1 with the file, the offset and what to do if they are not
    Check {
        /// Data directory [default: that of the configuration]
        directory: Option<PathBuf>,
    },
    /// Write a checkpoint in place of the log of every shard, of a running broker or of one that does not run
    Checkpoint,
    /// Copy the data directory, of a running broker or of one that does not run; the copy is whole at one moment
    Backup {
        /// Directory of the copy, which is created
        directory: PathBuf,
    },
    /// Write what a data directory has, of a broker that does not run, as JSON lines (state.jsonl) and as subscriptions.json, for other versions
    Export {
        /// Directory of the export, which is created
        directory: PathBuf,
    },
    /// Make the data directory from an export; it must be empty, and no broker may use it
    Import {
        /// Directory of the export, or its file state.jsonl
        from: PathBuf,
    },
    /// Make the data directory from a backup; it must be empty, and no broker may use it
    Restore {
        /// Directory of the backup
        directory: PathBuf,
    },
}

/// Runs a command. `config` reads the configuration, which `check DIR` does without.
///
/// # Errors
/// Those of the command.
pub(crate) fn run(
    command: &DataCommand,
    config: impl FnOnce() -> Result<Config, StartupError>,
) -> Result<(), StartupError> {
    match command {
        DataCommand::Check { directory: Some(directory) } => check::run(directory),
        DataCommand::Check { directory: None } => check::run(&config()?.data_dir),
        DataCommand::Checkpoint => checkpoint::run(&config()?),
        DataCommand::Backup { directory } => backup::run(&config()?.data_dir, directory),
        DataCommand::Export { directory } => export::run(&config()?, directory),
        DataCommand::Import { from } => import::run(&config()?, from),
        DataCommand::Restore { directory } => restore::run(&config()?, directory),
    }
}

/// Prints a line.
fn print(line: &str) {
    // A reader that closes early has read enough.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// An error about a directory, with its remedy.
fn refuse(what: &str, directory: &Path, remedy: &str) -> StartupError {
    StartupError::system(format!("{what} {}", directory.display()), io::Error::other(remedy.to_owned()))
}

/// Checks that there is such a directory.
fn must_exist(directory: &Path) -> Result<(), StartupError> {
    if directory.is_dir() {
        return Ok(());
    }
    Err(refuse("read", directory, "there is no such directory; pass the right one, or --data-dir DIR"))
}

/// Whether a directory is missing or has nothing in it but the lock of this process.
fn is_empty(directory: &Path) -> io::Result<bool> {
    match fs::read_dir(directory) {
        Ok(entries) => {
            for entry in entries {
                if entry?.file_name() != "broker.lock" {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// How far a command has come, on a terminal.
struct Bar {
    is_shown: bool,
    shown: String,
}

impl Bar {
    fn new() -> Self {
        Self { is_shown: io::stderr().is_terminal(), shown: String::new() }
    }

    /// Shows a line in place of the one before.
    fn show(&mut self, line: String) {
        if self.is_shown && line != self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
            self.shown = line;
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
