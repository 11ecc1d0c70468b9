//! The resources of another process: CPU time, context switches, resident memory. Read from `/proc`.

use std::fs;
use std::io;
use std::str::FromStr;
use std::time::Duration;

/// The unit of `utime` and `stime`: 100 a second on every Linux of today.
const TICK: Duration = Duration::from_millis(10);

/// A snapshot. The difference of two is the usage in between.
pub(crate) struct Usage {
    /// CPU time with nanosecond resolution, of the first thread only; the server has no other.
    pub(crate) cpu: Duration,
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    /// Voluntary and forced.
    pub(crate) switches: usize,
    pub(crate) resident_anonymous_bytes: u64,
}

impl Usage {
    /// # Errors
    /// If the process is gone, or `/proc` does not have Linux's format.
    pub(crate) fn of(identifier: u32) -> io::Result<Self> {
        let scheduled = fs::read_to_string(format!("/proc/{identifier}/schedstat"))?;
        let stat = fs::read_to_string(format!("/proc/{identifier}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{identifier}/status"))?;
        // The name in parentheses may contain spaces, so fields are counted after it.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        Ok(Self {
            cpu: Duration::from_nanos(number(scheduled.split_whitespace().next())?),
            user: TICK * number(fields.split_whitespace().nth(11))?,
            system: TICK * number(fields.split_whitespace().nth(12))?,
            switches: number::<usize>(field(&status, "voluntary_ctxt_switches:"))?
                + number::<usize>(field(&status, "nonvoluntary_ctxt_switches:"))?,
            resident_anonymous_bytes: number::<u64>(field(&status, "RssAnon:"))? * 1024,
        })
    }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.split_whitespace().next())
}

fn number<T: FromStr>(text: Option<&str>) -> io::Result<T> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
