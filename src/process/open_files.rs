//! The process's own limit of open files: raised as far as it goes, and compared with what was asked for.
//! Knows no connection.

#[cfg(unix)]
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Descriptors of the process that are not connections: standard streams, signals, files of data and logs, and some
/// to spare.
const RESERVED: u64 = 24;

/// Descriptors of a shard that are not connections: its listeners, its ring or epoll instance, its doorbell.
const RESERVED_BY_SHARD: u64 = 8;

/// Files and sockets this process may have open at once; `u64::MAX` if there is no limit.
#[cfg(unix)]
pub(crate) fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the soft limit of open files to the hard one.
#[cfg(unix)]
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if raised.current == limit.current {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        // macOS has no hard limit and yet refuses more than OPEN_MAX.
        let open_max = Rlimit { current: Some(10_240), maximum: limit.maximum };
        let lower = limit.current.is_some_and(|current| current < 10_240);
        if !(cfg!(target_os = "macos") && lower && setrlimit(Resource::Nofile, open_max).is_ok()) {
            tracing::debug!(%error, "the limit of open files cannot be raised");
        }
    }
}

/// Files and sockets this process may have open at once: Windows counts memory instead.
#[cfg(not(unix))]
pub(crate) fn limit() -> u64 {
    u64::MAX
}

/// There is no limit to raise.
#[cfg(not(unix))]
pub(crate) fn raise_limit() {}

/// Warns, once and in full, if the limit of open files is reached before `connections_max`.
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
