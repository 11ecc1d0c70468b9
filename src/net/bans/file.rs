//! `bans.json` in the data directory: the bans in force, so that a restart lifts none.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use tracing::warn;

use super::{BANS_MAX, Ban};
use crate::process::atomic_file::{self, Readers};

/// Name of the file.
const FILE: &str = "bans.json";

/// Name under which a damaged file is kept.
const DAMAGED: &str = "bans.json.damaged";

/// Longest file that is read: so many bans with two of the longest names, each byte escaped.
const BYTES_MAX: u64 = BANS_MAX as u64 * 4_096;

/// The bans of the file. A damaged file is kept aside, and nothing is banned by it.
pub(super) fn load(data_dir: &Path) -> Vec<Ban> {
    let file = data_dir.join(FILE);
    let read = || -> io::Result<Vec<Ban>> {
        if fs::metadata(&file)?.len() > BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too long"));
        }
        let bans: Vec<Ban> = serde_json::from_slice(&fs::read(&file)?)?;
        Ok(bans)
    };
    match read() {
        Ok(mut bans) => {
            bans.truncate(BANS_MAX);
            bans
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            let kept = data_dir.join(DAMAGED);
            let is_kept = fs::rename(&file, &kept).is_ok();
            warn!(file = %file.display(), kept = is_kept.then(|| kept.display().to_string()), %error,
                "the bans cannot be read, so nobody is banned at the start");
            Vec::new()
        }
    }
}

/// Replaces the file by these bans.
///
/// # Errors
/// Any error of the system; the file is then unchanged.
pub(super) fn save(data_dir: &Path, bans: &[Ban]) -> io::Result<()> {
    atomic_file::replace(&data_dir.join(FILE), Readers::Owner, |out| {
        serde_json::to_writer_pretty(&mut *out, bans)?;
        out.write_all(b"\n")
    })
}
