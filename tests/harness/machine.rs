//! Queries and manipulations of the machine: whether `io_uring` is allowed, the resources of a process, and denied system
//! calls.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Requests a ring of four entries from the kernel, independent of the broker's code.
const URING_PROBE: &str = r#"my $p = "\0" x 120; exit(syscall(425, 4, $p) < 0 ? 1 : 0);"#;

/// Executes the remaining arguments with one system call failing with an error number. Needs no privilege.
const FORBID: &str = r#"
my ($number, $errno) = splice @ARGV, 0, 2;
my $prctl = $ENV{FORBID_PRCTL};
my $filter = pack("SCCL", 0x20, 0, 0, 0) . pack("SCCL", 0x15, 0, 1, $number)
    . pack("SCCL", 0x06, 0, 0, 0x00050000 | $errno) . pack("SCCL", 0x06, 0, 0, 0x7fff0000);
my $program = pack("S x![P] P", 4, $filter);
syscall($prctl, 38, 1, 0, 0, 0) == 0 or die "no_new_privs: $!";
syscall($prctl, 22, 2, $program) == 0 or die "seccomp: $!";
delete $ENV{FORBID_PRCTL};
exec { $ARGV[0] } @ARGV or die "exec: $!";
"#;

/// The number of `io_uring_setup`, the same on every architecture.
pub(crate) const IO_URING_SETUP: u32 = 425;
pub(crate) const EPERM: u32 = 1;
pub(crate) const EACCES: u32 = 13;

/// The number of `bind`.
pub(crate) const BIND: u32 = if cfg!(target_arch = "x86_64") { 49 } else { 200 };
const PRCTL: u32 = if cfg!(target_arch = "x86_64") { 157 } else { 167 };

/// Whether the kernel refuses `io_uring` to every process. If it cannot be probed, the answer is no, and the broker under
/// test has to show it.
pub(crate) fn refuses_uring() -> bool {
    static REFUSED: OnceLock<bool> = OnceLock::new();
    *REFUSED.get_or_init(|| {
        let status = Command::new("perl").args(["-e", URING_PROBE]).status();
        status.is_ok_and(|status| !status.success())
    })
}

/// A command whose arguments run with `system_call` refused; `None` if the machine has no perl.
pub(crate) fn forbidding(system_call: u32, errno: u32) -> Option<Vec<String>> {
    let works = Command::new("perl").args(["-e", "exit 0"]).status().is_ok_and(|status| status.success());
    works.then(|| {
        let prctl = format!("FORBID_PRCTL={PRCTL}");
        let command = ["env", &prctl, "perl", "-e", FORBID, &system_call.to_string(), &errno.to_string()];
        command.map(str::to_owned).to_vec()
    })
}

/// Writes past the test runner's capture, so that a skipped check is visible in a run that passes.
pub(crate) fn print_notice(text: &str) {
    // If standard error is closed, only the notice is lost.
    let _ = writeln!(std::io::stderr(), "NOTICE: {text}");
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Raises this process's soft limit of descriptors to the hard one and returns it.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("the soft limit may be raised to the hard one");
    limit.maximum.unwrap_or(u64::MAX)
}

/// Resident memory of a process.
pub(crate) fn resident_bytes(process: u32) -> u64 {
    let status =
        fs::read_to_string(format!("/proc/{process}/status")).expect("a running process has a status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has a resident size");
    let kib: u64 =
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("it is a number of KiB");
    kib * 1024
}

/// Number of descriptors that a process holds.
pub(crate) fn descriptor_count(process: u32) -> usize {
    descriptors(process).count()
}

/// The same without segments of the log, which come and go with what is written.
pub(crate) fn descriptor_count_beside_the_log(process: u32) -> usize {
    // One that was closed since has no name any more.
    let names = descriptors(process).filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    names.filter(|name| name.extension().is_none_or(|extension| extension != "log")).count()
}

fn descriptors(process: u32) -> fs::ReadDir {
    fs::read_dir(format!("/proc/{process}/fd")).expect("the descriptors of our child can be listed")
}
