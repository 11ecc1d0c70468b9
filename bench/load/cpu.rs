//! The CPU time of another process, all its threads together.
//! Reads `/proc` and nothing else.

use std::fs;
use std::io;

/// Nanoseconds on a core, since the process began.
///
/// # Errors
/// The process is gone, or `/proc` is not as Linux writes it.
pub(crate) fn spent_ns(process: u32) -> io::Result<u64> {
    let mut spent = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let scheduled = fs::read_to_string(thread?.path().join("schedstat"))?;
        let on_core = scheduled.split_whitespace().next().and_then(|first| first.parse::<u64>().ok());
        spent += on_core.ok_or(io::ErrorKind::InvalidData)?;
    }
    Ok(spent)
}
