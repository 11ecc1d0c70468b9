//! The memory that the process may use: the limit of its control group, or the memory of the machine, whichever is less.
//! A ceiling by default needs it. Where the system does not tell, there is none.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Where Linux mounts the control groups.
const GROUPS: &str = "/sys/fs/cgroup";

/// An amount of memory and what it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Available {
    /// Its size.
    pub(crate) bytes: u64,
    /// Whose memory it is.
    pub(crate) owner: Owner,
}

/// The owner of the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The control group whose limit is in this file.
    ControlGroup(PathBuf),
    /// The machine.
    Machine,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlGroup(file) => write!(f, "the control group's limit in {}", file.display()),
            Self::Machine => write!(f, "the machine's memory"),
        }
    }
}

/// The memory that this process may use; `None` if the system does not tell.
pub(crate) fn available() -> Option<Available> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let machine = machine_bytes().map(|bytes| Available { bytes, owner: Owner::Machine });
    let group = limit_of_groups(&own, Path::new(GROUPS));
    // A group without a limit may show the largest number there is.
    [machine, group].into_iter().flatten().min_by_key(|available| available.bytes)
}

/// The lowest limit of a control group and of all above it. `own` is the content of `/proc/self/cgroup`, `root` the place where the
/// groups are mounted.
fn limit_of_groups(own: &str, root: &Path) -> Option<Available> {
    let limits = own.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        // The second version has one tree for all controllers, and no name for it. Next to the first version it is mounted beside.
        match controllers {
            "" => limit_from(root, path, "memory.max")
                .or_else(|| limit_from(&root.join("unified"), path, "memory.max")),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                limit_from(&root.join("memory"), path, "memory.limit_in_bytes")
            }
            _ => None,
        }
    });
    limits.min_by_key(|available| available.bytes)
}

/// The lowest number in the files of this name in `path` below `root` and in each directory above it.
fn limit_from(root: &Path, path: &str, name: &str) -> Option<Available> {
    // In a container the path may be that of the machine, of which only the root is mounted.
    let own = root.join(path.trim_start_matches('/'));
    let groups = own.ancestors().take_while(|group| group.starts_with(root));
    let limits = groups.filter_map(|group| {
        let file = group.join(name);
        let bytes = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
        Some(Available { bytes, owner: Owner::ControlGroup(file) })
    });
    limits.min_by_key(|available| available.bytes)
}

/// The memory of the machine. The system call also works where a service may not read `/proc/meminfo`.
#[cfg(target_os = "linux")]
fn machine_bytes() -> Option<u64> {
    let machine = rustix::system::sysinfo();
    machine.totalram.checked_mul(machine.mem_unit.into()).filter(|&bytes| bytes > 0)
}

/// The memory of the machine. The command is part of the system, and needs no unsafe code here.
#[cfg(target_os = "macos")]
fn machine_bytes() -> Option<u64> {
    let output = std::process::Command::new("/usr/sbin/sysctl").args(["-n", "hw.memsize"]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Other systems tell it only through calls that need unsafe code.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn machine_bytes() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::scratch::Scratch;

    /// The limit of a process in the groups of `own`, with these files below the mounted root; and that root.
    fn limit(name: &str, own: &str, files: &[(&str, &str)]) -> Option<(u64, String)> {
        let scratch = Scratch::new(name);
        for (file, content) in files {
            let file = scratch.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        let available = limit_of_groups(own, scratch.path())?;
        let Owner::ControlGroup(file) = available.owner else { panic!("not a group: {:?}", available.owner) };
        Some((
            available.bytes,
            file.strip_prefix(scratch.path()).unwrap().to_str().unwrap().replace('\\', "/"),
        ))
    }

    #[test]
    fn the_lowest_limit_on_the_way_up_counts() {
        let own = "0::/system.slice/mqtt-broker.service\n";
        let files = [
            ("memory.max", "max\n"),
            ("system.slice/memory.max", "1000\n"),
            ("system.slice/mqtt-broker.service/memory.max", "max\n"),
            ("system.slice/other.service/memory.max", "10\n"),
        ];
        assert_eq!(limit("groups_up", own, &files), Some((1_000, "system.slice/memory.max".to_owned())));
        let own_limit = ("system.slice/mqtt-broker.service/memory.max", "900\n");
        let found = limit("groups_own", own, &[files[1], own_limit]);
        assert_eq!(found, Some((900, own_limit.0.to_owned())));
        assert_eq!(limit("groups_none", own, &files[..1]), None);
    }

    #[test]
    fn a_container_sees_its_own_limit_at_the_root() {
        let files = [("memory.max", "536870912\n")];
        for own in ["0::/\n", "0::/docker/0123456789abcdef\n", "0::/../..\n"] {
            let found = limit("groups_container", own, &files);
            assert_eq!(found, Some((536_870_912, "memory.max".to_owned())), "{own}");
        }
    }

    #[test]
    fn the_first_version_names_the_controller_and_the_second_may_stand_beside_it() {
        let own = "12:cpu,cpuacct:/a\n9:memory:/docker/x\n1:name=systemd:/a\n0::/a\n";
        let first = ("memory/docker/x/memory.limit_in_bytes", "2000\n");
        let unlimited = ("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit("groups_first", own, &[first, unlimited]), Some((2_000, first.0.to_owned())));
        let beside = ("unified/a/memory.max", "1500\n");
        assert_eq!(limit("groups_hybrid", own, &[first, beside]), Some((1_500, beside.0.to_owned())));
    }

    #[test]
    fn files_that_make_no_sense_are_no_limit() {
        let files =
            [("memory.max", "-1\n"), ("a/memory.max", "many\n"), ("memory/memory.limit_in_bytes", "")];
        for own in ["", "0::/a\n", "garbage\n", "::\n", "5:memory:\n"] {
            assert_eq!(limit("groups_garbage", own, &files), None, "{own}");
        }
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    fn this_machine_has_memory() {
        let available = available().unwrap();
        assert!(available.bytes > 16 * 1024 * 1024, "{available:?}");
    }
}
