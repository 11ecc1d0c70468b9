//! `mqtt-broker data checkpoint`: a checkpoint in place of the log, so that the next start reads less.

use std::thread;
use std::time::Duration;

use super::{Bar, must_exist, offline, print, refuse};
use crate::admin::operator::{LogAction, LogRow, ask_logs};
use crate::config::Config;
use crate::error::StartupError;
use crate::persist::journal::Opened;
use crate::process::data_dir::DataDir;
use crate::shard::thread::journal_settings;

/// Interval at which a running broker is asked how far it is.
const LOOK: Duration = Duration::from_millis(100);

/// Writes a checkpoint of every shard.
///
/// # Errors
/// If there is no journal, it is damaged, or the disk refuses the checkpoint.
pub(super) fn run(config: &Config) -> Result<(), StartupError> {
    let data_dir = &config.data_dir;
    must_exist(data_dir)?;
    match DataDir::take(data_dir) {
        Ok(_held) => of_directory(config),
        Err(StartupError::DataDirInUse { .. }) => {
            let before = ask_logs(data_dir, LogAction::Checkpoint)?;
            of_broker(config, &before)
        }
        Err(error) => Err(error),
    }
}

fn none(config: &Config) -> StartupError {
    refuse("make a checkpoint in", &config.data_dir, "there is no journal; durability = \"power\" makes one")
}

fn of_directory(config: &Config) -> Result<(), StartupError> {
    let Some(found) = Opened::look(&config.data_dir)? else { return Err(none(config)) };
    let logs = Opened::open(&config.data_dir, found.shard_count(), found.key())?;
    let (clock, engines, ends) = offline::read(config, &logs)?;
    let targets = (0..).zip(ends).map(|(shard, end)| (logs.directory(shard), end, logs.start().get()));
    let settings = (clock, journal_settings(config));
    offline::write(engines, targets.collect(), settings, |shard, _, bytes| tell(shard, bytes))
}

fn of_broker(config: &Config, before: &[LogRow]) -> Result<(), StartupError> {
    if before.is_empty() {
        return Err(none(config));
    }
    let mut bar = Bar::new();
    loop {
        let now = ask_logs(&config.data_dir, LogAction::Look)?;
        if let Some(row) = now.iter().find(|row| row.has_refused) {
            let what = format!("write the checkpoint of shard {} in", row.shard);
            return Err(refuse(
                &what,
                &config.data_dir,
                "the log of the broker names the file and the error",
            ));
        }
        let left = now.iter().filter(|row| row.is_checkpointing).count();
        if left == 0 {
            drop(bar);
            for (row, before) in now.iter().zip(before) {
                let is_new = row.checkpoint != before.checkpoint;
                tell(row.shard, if is_new { row.checkpoint_bytes } else { 0 });
            }
            return Ok(());
        }
        bar.show(format!("{left} shards are not done"));
        thread::sleep(LOOK);
    }
}

fn tell(shard: u16, bytes: u64) {
    if bytes == 0 {
        print(&format!("shard {shard}: the last checkpoint has everything"));
    } else {
        print(&format!("shard {shard}: a checkpoint of {} KiB", bytes.div_ceil(1024)));
    }
}
