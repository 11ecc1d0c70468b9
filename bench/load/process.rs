//! The resources used by another process so far: CPU time, resident memory, context switches. Read from `/proc`.

use std::fs;
use std::io;

/// A reading of one process, all its threads together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// CPU time in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// The part of it in the kernel, according to the process.
    pub(crate) kernel_ns: u64,
    /// Resident bytes of its own memory, anonymous or shared. Pages of files, including its program, and the kernel's
    /// socket buffers are not counted.
    pub(crate) resident_bytes: u64,
    /// The same with the pages of files, as `ps` and `top` show it.
    pub(crate) resident_bytes_with_files: u64,
    /// Voluntary and involuntary context switches.
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
}

impl Usage {
    /// # Errors
    /// If the process is gone, or `/proc` does not have Linux's format.
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
        usage.resident_bytes_with_files = field(&status, "VmRSS:")? * 1024;
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // After the name, which may contain spaces: state is field 3, kernel time field 15, in ticks of 10 ms.
        let behind = stat.rsplit(')').next().unwrap_or_default();
        usage.kernel_ns = number(behind.split_whitespace().nth(12))? * 10_000_000;
        Ok(usage)
    }

    /// The difference between two readings; memory is that of the later one.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns - earlier.cpu_ns,
            kernel_ns: self.kernel_ns - earlier.kernel_ns,
            resident_bytes: self.resident_bytes,
            resident_bytes_with_files: self.resident_bytes_with_files,
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
