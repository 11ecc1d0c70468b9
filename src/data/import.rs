//! `mqtt-broker data import`: a data directory from an export.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use engine::{Actions, Event, Topology};

use super::{Bar, is_empty, lines, offline, print, refuse};
use crate::config::{Config, Durability};
use crate::error::StartupError;
use crate::persist::journal::Opened;
use crate::process::data_dir::DataDir;
use crate::shard::thread::journal_settings;
use crate::shard::{cores, placement_key};

/// Lines after which records are given up, which the checkpoint makes needless, and a terminal is told.
const LINES: usize = 1_000;

/// Makes the data directory of the configuration from the file of an export, or from the directory with it.
///
/// # Errors
/// If the data directory is not empty or in use, the configuration keeps nothing, or a line is none; then the line is named, and
/// the directory has nothing that counts.
pub(super) fn run(config: &Config, from: &Path) -> Result<(), StartupError> {
    let to = &config.data_dir;
    if config.durability == Durability::Memory {
        let remedy = "durability = \"memory\" keeps subscriptions alone; put subscriptions.json of the export there, or import \
                      with --durability power";
        return Err(refuse("import into", to, remedy));
    }
    let shard_count = cores::shard_count(config.shards);
    let unreadable = |error| StartupError::system(format!("read {}", to.display()), error);
    if !is_empty(to).map_err(unreadable)? {
        let remedy = "the directory is not empty; move what it has away, or name another by --data-dir DIR";
        return Err(refuse("import into", to, remedy));
    }
    let file = if from.is_dir() { from.join("state.jsonl") } else { from.to_owned() };
    let failed = |error| StartupError::system(format!("read {}", file.display()), error);
    let source = BufReader::new(File::open(&file).map_err(failed)?);
    let _held = DataDir::take(to)?;
    let key = placement_key::key(to)?;
    let logs = Opened::begin_new(to, shard_count, key)?;
    let (clock, mut engines, ends) = offline::read(config, &logs)?;
    let topology = Topology { own: 0, shard_count, key };
    let mut bar = Bar::new();
    let mut count = 0_usize;
    for (at, line) in source.lines().enumerate() {
        let line = line.map_err(failed)?;
        let taken = match at {
            0 => lines::check_head(&line),
            _ if line.is_empty() => Ok(()),
            _ => lines::read(&line, |home, portable| {
                let home = match home {
                    lines::Home::Client(client_id) => topology.home_of_client(client_id),
                    lines::Home::Topic(topic) => topology.home_of_topic(topic),
                };
                count += 1;
                engines[usize::from(home)].bring_back(clock.now(), portable)
            }),
        };
        taken.map_err(|reason| refuse(&format!("import line {} of", at + 1), &file, &reason))?;
        if at % LINES == 0 {
            bar.show(format!("{at} lines read"));
            for engine in &mut engines {
                let batch = engine.records().map(|records| records.batch);
                if let Some(batch) = batch {
                    let _nothing = engine.step(clock.now(), Event::durable(batch), &mut Actions::new());
                }
            }
        }
    }
    drop(bar);
    if count == 0 {
        return Err(refuse("import", &file, "it has nothing; pass the file state.jsonl of an export"));
    }
    let targets = (0..).zip(ends).map(|(shard, end)| (logs.directory(shard), end, logs.start().get()));
    let settings = (clock, journal_settings(config));
    offline::write(engines, targets.collect(), settings, offline::tell_written)?;
    logs.found()?;
    print(&format!("{} is imported from {}", to.display(), file.display()));
    Ok(())
}
