//! What another process has used so far: CPU time, resident memory, context switches.
//! Reads `/proc` and nothing else.

use std::fs;
use std::io;

/// A reading of one process, all its threads together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Nanoseconds on a core.
    pub(crate) cpu_ns: u64,
    /// Of them, what the process itself says it spent in the kernel.
    pub(crate) kernel_ns: u64,
    /// Resident bytes of its own memory, anonymous or shared: pages of files, its program among them, and what the kernel keeps for
    /// its sockets are not counted.
    pub(crate) resident_bytes: u64,
    /// Times a thread gave the core away, and times it was taken from one.
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
}

impl Usage {
    /// # Errors
    /// The process is gone, or `/proc` is not as Linux writes it.
    pub(crate) fn of(process: u32) -> io::Result<Self> {
        let mut usage = Self::default();
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let thread = thread?.path();
            let scheduled = fs::read_to_string(thread.join("schedstat"))?;
            usage.cpu_ns += number(scheduled.split_whitespace().next())?;
            let status = fs::read_to_string(thread.join("status"))?;
            usage.voluntary_switches += field(&status, "voluntary_ctxt_switches:")?;
            usage.involuntary_switches += field(&status, "nonvoluntary_ctxt_switches:")?;
        }
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        usage.resident_bytes = (field(&status, "RssAnon:")? + field(&status, "RssShmem:")?) * 1024;
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // Behind the name, which may hold spaces: state is field 3, the kernel's share field 15, in ticks of 10 ms.
        let behind = stat.rsplit(')').next().unwrap_or_default();
        usage.kernel_ns = number(behind.split_whitespace().nth(12))? * 10_000_000;
        Ok(usage)
    }

    /// What was used between two readings; memory is that of the later one.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns - earlier.cpu_ns,
            kernel_ns: self.kernel_ns - earlier.kernel_ns,
            resident_bytes: self.resident_bytes,
            voluntary_switches: self.voluntary_switches - earlier.voluntary_switches,
            involuntary_switches: self.involuntary_switches - earlier.involuntary_switches,
        }
    }
}

fn field(status: &str, name: &str) -> io::Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    number(line.and_then(|rest| rest.split_whitespace().next()))
}

fn number(text: Option<&str>) -> io::Result<u64> {
    text.and_then(|text| text.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
