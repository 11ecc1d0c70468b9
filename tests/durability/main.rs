//! Acknowledgements that survive: the real binary with a log, killed and started again, stopped, on a disk that fails. Judged by the
//! records of the clients alone. Disks that lose their power are built from a record of every call.
#![cfg(target_os = "linux")]

#[path = "../harness/mod.rs"]
mod harness;

mod backup;
mod checkpoints;
mod clients;
mod data;
mod deal;
mod disk;
mod export;
mod faults;
mod kill;
mod levels;
mod power_cut;
mod survival;

use harness::broker::{Directory, Io, Setup};

/// Flags of a broker with a log, of one shard.
const PROCESS: [&str; 4] = ["--durability", "process", "--shards", "1"];
const POWER: [&str; 4] = ["--durability", "power", "--shards", "1"];
/// Of several shards.
const MESHED: [&str; 4] = ["--durability", "process", "--shards", "4"];

/// A broker's options with these flags.
fn setup<'a>(io: Io, flags: &'a [&'a str]) -> Setup<'a> {
    Setup { io, flags, ..Setup::default() }
}

/// The only file of the log of shard 0 that has this extension.
fn file_of(directory: &Directory, extension: &str) -> std::path::PathBuf {
    let shard = directory.path().join("data/journal/1/0");
    let entries = std::fs::read_dir(&shard).expect("the log has a directory");
    let mut found: Vec<_> = entries
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    found.sort();
    found.into_iter().next().expect("there is such a file")
}
