//! `mqtt-broker data check`: whether every log of a data directory is whole.

use std::path::Path;

use super::{Bar, must_exist, print};
use crate::error::StartupError;
use crate::persist::journal::{Opened, read_log};
use crate::process::data_dir::DataDir;

/// Reads every log in a data directory, and prints a line about each.
///
/// # Errors
/// If a broker uses the directory, or a log in it is damaged. Nothing is changed.
pub(super) fn run(data_dir: &Path) -> Result<(), StartupError> {
    must_exist(data_dir)?;
    let held = DataDir::take(data_dir)?;
    let Some(opened) = Opened::look(held.path())? else {
        print(&format!("{}: there is no journal", data_dir.display()));
        return Ok(());
    };
    for shard in 0..opened.shard_count() {
        let (mut bar, total, mut done) = (Bar::new(), opened.bytes_of(shard).max(1), 0);
        let (end, read) = read_log(&opened, shard, &mut |_, _, _| Ok(()), &mut |bytes| {
            done += bytes;
            bar.show(format!("shard {shard}: {} %", (done * 100 / total).min(100)));
        })?;
        drop(bar);
        let kibibytes = read.bytes / 1024;
        let behind = end.checkpoint.map_or_else(String::new, |checkpoint| {
            let kibibytes = checkpoint.bytes / 1024;
            format!(", behind a checkpoint of {kibibytes} KiB at position {}", checkpoint.position)
        });
        print(&format!(
            "shard {shard}: whole, {} records in {} segments of {kibibytes} KiB, up to position {}{behind}",
            read.records,
            read.segments.len(),
            end.position
        ));
    }
    Ok(())
}
