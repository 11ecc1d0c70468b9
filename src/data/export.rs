//! `mqtt-broker data export`: what a data directory has, in forms that other versions, other machines and people read.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use engine::Portable;

use super::{Bar, backup, is_empty, lines, must_exist, offline, print, refuse};
use crate::config::Config;
use crate::error::StartupError;
use crate::persist::journal::{Opened, sync_names};
use crate::persist::subscriptions_file;
use crate::process::data_dir::DataDir;
use crate::shard::rest;

/// The file of the complete form.
const STATE: &str = "state.jsonl";

/// Lines after which a terminal is told.
const TOLD_LINES: u64 = 1_000;

/// Writes `state.jsonl` and `subscriptions.json` into `to`.
///
/// # Errors
/// If a broker uses the data directory, its journal is damaged, or `to` has something in it.
pub(super) fn run(config: &Config, to: &Path) -> Result<(), StartupError> {
    must_exist(&config.data_dir)?;
    let _held = DataDir::take(&config.data_dir)?;
    if !is_empty(to).map_err(|error| StartupError::system(format!("read {}", to.display()), error))? {
        return Err(refuse("export into", to, "the directory is not empty; name one that does not exist"));
    }
    let Some(logs) = Opened::look(&config.data_dir)? else {
        let remedy = "there is no journal; subscriptions.json there has everything that is kept without one";
        return Err(refuse("export", &config.data_dir, remedy));
    };
    let (clock, mut engines, _) = offline::read(config, &logs.ahead()?)?;
    // Messages on their way to another shard arrive, in this process alone.
    rest::come_to_rest(clock, &mut engines, rest::give_up)?;
    backup::make_directory(to)?;
    let file = to.join(STATE);
    let failed = |error| StartupError::system(format!("write {}", file.display()), error);
    let mut out = BufWriter::new(backup::create(&file).map_err(failed)?);
    let mut written = writeln!(out, "{}", lines::head());
    let (mut sessions, mut counts, mut bar) = (Vec::new(), [0_u64; 4], Bar::new());
    for engine in engines {
        engine.describe(clock.now(), &mut |portable| {
            let (kind, session) = match portable {
                Portable::Retained(..) => (0, None),
                Portable::Session(record) => (1, Some(record)),
                Portable::Will { .. } => (2, None),
                Portable::Owed { .. } => (3, None),
            };
            counts[kind] += 1;
            sessions.extend(session.filter(|record| !record.subscriptions.is_empty()).cloned());
            if written.is_ok() {
                written = writeln!(out, "{}", lines::line(portable));
            }
            let count: u64 = counts.iter().sum();
            if count.is_multiple_of(TOLD_LINES) {
                bar.show(format!("{count} lines written"));
            }
        });
    }
    drop(bar);
    let written = written.and_then(|()| out.into_inner().map_err(std::io::IntoInnerError::into_error));
    written.and_then(|file: File| file.sync_all()).map_err(failed)?;
    subscriptions_file::export(to, sessions)?;
    sync_names(to).map_err(|error| StartupError::system(format!("synchronise {}", to.display()), error))?;
    let [retained, sessions, wills, owed] = counts;
    print(&format!(
        "{}: {sessions} sessions, {owed} messages for them, {retained} retained messages, {wills} wills",
        file.display()
    ));
    print(&format!("{}: the subscriptions alone, for any version", to.join("subscriptions.json").display()));
    Ok(())
}
