//! The limit of open files of the process: raised as far as the system permits, and divided between connections and all else.
//! Invariants: the table of descriptors has its full size before the first connection, because while it grows the thread that accepts
//! stands still; and connections never take the descriptors of the reserve. Otherwise a crowd of clients could keep acknowledged
//! subscriptions from being written.

#[cfg(target_os = "linux")]
use std::os::fd::RawFd;

#[cfg(target_os = "linux")]
use rustix::io::fcntl_dupfd_cloexec;
#[cfg(unix)]
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::admin::http;
use crate::backend::Backend;
use crate::config::{Config, Durability, ListenerConfig};
use crate::error::StartupError;
use crate::net::permits::ConnectionPermits;

/// Descriptors of the process that are not connections: standard streams, signals, data and log files, and a reserve.
const RESERVED: u64 = 24;

/// Descriptors of a shard that are neither connections nor listeners: its rings or epoll instance, its doorbell, and a reserve.
const RESERVED_BY_SHARD: u64 = 8;

/// Descriptors of a log: each of its threads has at most two files open, and a directory or a file that it makes.
const RESERVED_BY_LOG: u64 = 9;

/// Connections above the limit that are accepted at the same time only to be refused with a reason code.
const TURNED_AWAY_MAX: u32 = 64;

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

/// The connections that the limit of open files leaves room for. The rest stays free for everything else, so that no number of
/// connections keeps the broker from writing its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Connections that can be served.
    pub(crate) connections_possible: u64,
    /// Connections beyond these that can be open at the same time, only to be refused with a reason.
    pub(crate) turned_away_max: u32,
}

/// The budget of a process with this configuration. Logs a warning if it is less than `max_connections`.
///
/// # Errors
/// If no connection is possible.
pub(crate) fn budget(config: &Config, shard_count: u16) -> Result<Budget, StartupError> {
    let open_files_max = limit();
    let reserved = reserved(config, shard_count);
    let budget = Budget::of(open_files_max, reserved);
    let connections_possible = budget.connections_possible;
    if connections_possible == 0 {
        return Err(StartupError::TooManyOpenFiles { what: "serve any connection".to_owned() });
    }
    if connections_possible < u64::from(config.max_connections) {
        warn!(
            open_files_max,
            max_connections = config.max_connections,
            connections_possible,
            "too few open files for max_connections: connections beyond connections_possible are refused; raise the limit \
             with `ulimit -n`, with /etc/security/limits.d, or with LimitNOFILE= in the systemd unit, or lower max_connections"
        );
    }
    let connections = u64::from(config.max_connections) + u64::from(budget.turned_away_max);
    reserve_places(open_files_max.min(connections + reserved));
    Ok(budget)
}

/// Lets the kernel's table of this process have places for so many descriptors. A table of a process with several threads that has to
/// grow waits until every core has passed through the scheduler (`synchronize_rcu`): 10 to 25 ms, in which the shard that accepts serves
/// nobody. A place takes eight bytes.
#[cfg(target_os = "linux")]
fn reserve_places(count: u64) {
    let last = RawFd::try_from(count.saturating_sub(1)).unwrap_or(RawFd::MAX);
    // The duplicate is closed at once, and the table keeps its size.
    if let Err(error) = fcntl_dupfd_cloexec(std::io::stderr(), last) {
        tracing::debug!(%error, count, "the table of open files cannot be as large as it may become");
    }
}

/// Elsewhere a growing table holds nobody up.
#[cfg(not(target_os = "linux"))]
fn reserve_places(_count: u64) {}

impl Budget {
    fn of(open_files_max: u64, reserved: u64) -> Self {
        let for_connections = open_files_max.saturating_sub(reserved);
        // Of very few, most are for connections that are served.
        let turned_away_max =
            u32::try_from(for_connections / 8).map_or(TURNED_AWAY_MAX, |few| few.min(TURNED_AWAY_MAX));
        Self { connections_possible: for_connections - u64::from(turned_away_max), turned_away_max }
    }

    /// The permits of the process: at most `connections_max`, and no more than are possible.
    pub(crate) fn permits(self, config: &Config) -> ConnectionPermits {
        let possible = u32::try_from(self.connections_possible).unwrap_or(u32::MAX);
        let own = config.listeners.iter().map(|listener| listener.connections_max);
        ConnectionPermits::new(config.max_connections.min(possible), own, self.turned_away_max, config)
    }
}

/// Descriptors that are not connections with a permit.
fn reserved(config: &Config, shard_count: u16) -> u64 {
    // A connection that was accepted has a descriptor before it is known whether there is a permit for it.
    let by_listener = 1 + Backend::accepts_outstanding(config.io) as u64;
    let sockets: usize = config.listeners.iter().map(ListenerConfig::sockets).sum();
    let by_log = if config.durability == Durability::Memory { 0 } else { RESERVED_BY_LOG };
    let by_shard = RESERVED_BY_SHARD + by_log + by_listener * sockets as u64;
    RESERVED + http::descriptors(config) + by_shard * u64::from(shard_count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(max_connections: u32) -> Config {
        Config { max_connections, ..Config::default() }
    }
    use crate::config::Io;

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
    fn the_reserve_is_never_given_to_connections() {
        for reserved in [0, 40, 1_000] {
            for open_files_max in (0..2_000).chain([100_000, u64::MAX]) {
                let Budget { connections_possible, turned_away_max } = Budget::of(open_files_max, reserved);
                let for_connections = connections_possible + u64::from(turned_away_max);
                assert_eq!(for_connections, open_files_max.saturating_sub(reserved));
                assert!(turned_away_max <= TURNED_AWAY_MAX && connections_possible >= for_connections / 2);
            }
        }
        let plenty = Budget::of(100_064, 64);
        assert_eq!(plenty, Budget { connections_possible: 99_936, turned_away_max: 64 });
        assert_eq!(
            (plenty.permits(&most(10_000)).max(), plenty.permits(&most(1_000_000)).max()),
            (10_000, 99_936)
        );
        assert_eq!(Budget::of(u64::MAX, 64).permits(&most(u32::MAX)).max(), u32::MAX);
    }

    #[test]
    fn the_reserve_grows_with_shards_and_listeners() {
        let config = Config { io: Io::Epoll, durability: Durability::Memory, ..Config::default() };
        assert_eq!(config.listeners[0].sockets(), 2);
        let admin = http::descriptors(&config);
        let (one, two) = (reserved(&config, 1), reserved(&config, 2));
        assert_eq!((one, two), (RESERVED + admin + 12, RESERVED + admin + 24));
        let ring = Config { io: Io::Auto, ..config.clone() };
        assert!(reserved(&ring, 1) > one);
        let logged = Config { durability: Durability::Power, ..config };
        assert_eq!(reserved(&logged, 2), two + 2 * RESERVED_BY_LOG);
    }
}
