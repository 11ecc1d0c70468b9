//! The limit of open files of the process: raised as far as the system permits, and compared with `max_connections`.

#[cfg(unix)]
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Descriptors of the process that are not connections: standard streams, signals, data and log files, and a reserve.
const RESERVED: u64 = 24;

/// Descriptors of a shard that are not connections: its listeners, its ring or epoll instance, and its doorbell.
const RESERVED_BY_SHARD: u64 = 8;

/// Maximum number of open files and sockets; `u64::MAX` without a limit.
#[cfg(unix)]
pub(crate) fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the soft limit of open files to the hard limit.
#[cfg(unix)]
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if raised.current == limit.current {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        // macOS reports no hard limit, but refuses more than OPEN_MAX.
        let open_max = Rlimit { current: Some(10_240), maximum: limit.maximum };
        let lower = limit.current.is_some_and(|current| current < 10_240);
        if !(cfg!(target_os = "macos") && lower && setrlimit(Resource::Nofile, open_max).is_ok()) {
            tracing::debug!(%error, "the limit of open files cannot be raised");
        }
    }
}

/// Maximum number of open files and sockets. Windows has no such limit; it bounds memory instead.
#[cfg(not(unix))]
pub(crate) fn limit() -> u64 {
    u64::MAX
}

/// There is no limit to raise.
#[cfg(not(unix))]
pub(crate) fn raise_limit() {}

/// Logs a warning if the limit of open files is reached before `connections_max`.
pub(crate) fn warn_if_too_few(connections_max: u32, shard_count: u16) {
    let open_files_max = limit();
    let connections_possible = connections_possible(open_files_max, shard_count);
    if connections_possible < u64::from(connections_max) {
        warn!(
            open_files_max,
            max_connections = connections_max,
            connections_possible,
            "too few open files for max_connections: raise the limit with `ulimit -n`, with \
             /etc/security/limits.d, or with LimitNOFILE= in the systemd unit, or lower max_connections"
        );
    }
}

fn connections_possible(open_files_max: u64, shard_count: u16) -> u64 {
    open_files_max.saturating_sub(RESERVED + RESERVED_BY_SHARD * u64::from(shard_count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn the_soft_limit_ends_at_the_hard_one() {
        raise_limit();
        let limit = getrlimit(Resource::Nofile);
        if cfg!(target_os = "linux") {
            assert_eq!(limit.current, limit.maximum);
        }
    }

    #[test]
    fn a_limit_below_the_reserve_leaves_no_connection() {
        assert_eq!(connections_possible(10, 1), 0);
        assert_eq!(connections_possible(RESERVED + 2 * RESERVED_BY_SHARD + 10_000, 2), 10_000);
    }
}
