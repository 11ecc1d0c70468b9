//! The statistics block on standard output, in the format that scripts of operators parse, and one log line for each
//! shard.

use std::array::from_fn;
use std::io::Write as _;

use engine::{CauseGroup, DropReason, MemoryKind};
use tracing::{debug, info, warn};
use tracing_appender::non_blocking::NonBlocking;

use crate::config::Durability;
use crate::observe::busy::{BusyMeter, ThreadTimes};
use crate::process::logging::STATISTICS;
use crate::process::systemd;
use crate::shard::gauges::JournalState;

/// Declares the counters of a shard once, for the struct, its sum and its outputs.
macro_rules! shard_totals {
    ($( $(#[doc = $line:literal])+ $name:ident, )+) => {
        /// Counters of one shard, or sums over several. Gauges are current values; the other counters only grow.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct ShardTotals {
            $( $(#[doc = $line])+ pub(crate) $name: u64, )+
            /// Deliveries dropped, by `DropReason::index`.
            pub(crate) dropped: [u64; DropReason::ALL.len()],
            /// Clients that were let in and closed, by `CauseGroup::index`.
            pub(crate) closed: [u64; CauseGroup::COUNT],
            /// Connections that ended before a client was let in, by `CauseGroup::index`.
            pub(crate) refused: [u64; CauseGroup::COUNT],
            /// Bytes held (gauges), by `MemoryKind::index`.
            pub(crate) memory: [u64; MemoryKind::ALL.len()],
        }

        impl ShardTotals {
            /// Number of counters except the arrays.
            pub(crate) const NUMBERS: usize = [$( stringify!($name) ),+].len();

            /// Their names, in a fixed order.
            pub(crate) const NAMES: [&str; Self::NUMBERS] = [$( stringify!($name) ),+];
            /// The name of each of these counters, and the lines of its description.
            #[cfg(feature = "admin")]
            pub(crate) const DESCRIPTIONS: [(&str, &[&str]); Self::NUMBERS] =
                [$( (stringify!($name), &[$($line),+]) ),+];

            /// All counters except the arrays, in a fixed order.
            pub(crate) fn numbers(&self) -> [u64; Self::NUMBERS] {
                [$( self.$name ),+]
            }

            /// The reverse of `numbers`.
            pub(crate) fn from_numbers(numbers: [u64; Self::NUMBERS]) -> Self {
                let [$( $name ),+] = numbers;
                Self { $( $name, )+ ..Self::default() }
            }
        }
    };
}

shard_totals! {
    /// Current connections (gauge).
    connections,
    /// Connections that were accepted, to be served or to be turned away.
    sockets_opened,
    /// CONNECT packets received.
    connects_received,
    /// Clients that were let in with a user name or password that nothing checked.
    credentials_ignored,
    /// Sessions with a connection (gauge).
    attached,
    /// Sessions, connected or not (gauge).
    sessions,
    /// Sessions that expired.
    sessions_expired,
    /// Connections above the maximum that were refused with a reason.
    connections_turned_away,
    /// Connections that the operator closed.
    closed_by_operator,
    /// Subscriptions of all sessions (gauge).
    subscriptions,
    /// Shared subscriptions of all sessions (gauge).
    shared_subscriptions,
    /// Retained messages of clients (gauge).
    retained_messages,
    /// Retained messages that expired.
    retained_expired,
    /// Stored messages, including retained ones (gauge).
    stored_messages,
    /// Bytes of stored messages (gauge).
    stored_bytes,
    /// Packets of every type received from clients.
    packets_received,
    /// Packets of every type sent to clients.
    packets_sent,
    /// Bytes received from clients.
    bytes_received,
    /// Bytes sent to clients.
    bytes_sent,
    /// PUBLISH packets received from clients.
    messages_received,
    /// PUBLISH packets sent to clients.
    messages_sent,
    /// Payload bytes of PUBLISH packets received.
    payload_bytes_received,
    /// Payload bytes of PUBLISH packets sent.
    payload_bytes_sent,
    /// Publishes that were refused for lack of room.
    publishes_refused,
    /// Packets that waited for room in the log.
    log_waits,
    /// Pauses of clients that published faster than they may.
    rate_pauses,
    /// Retained messages that were acknowledged by one shard and refused for lack of room by the store of another.
    retained_refused,
    /// Publishes to topics that clients must not publish to.
    publishes_denied,
    /// Publishes that the rules forbid to their clients.
    publishes_forbidden,
    /// Subscriptions that the rules forbid.
    subscriptions_forbidden,
    /// Wills that the rules had come to forbid.
    wills_forbidden,
    /// Messages that a session subscribes to and may not read.
    reads_denied,
    /// Retained messages that matched a subscription, and that their source may not publish any more.
    retained_unread,
    /// Nodes of the topic tree that publishes visited.
    topic_nodes_visited,
    /// Publishes that visited at least 512 of them.
    long_matches,
    /// Filters that were refused because of `match_nodes_max`.
    filters_refused,
    /// Messages forwarded to other shards, one for each shard.
    messages_forwarded,
    /// Messages of other shards without a subscriber here.
    crossed_for_nothing,
    /// Connections handed over to the shard of their session.
    handed_over,
    /// Turns of the shard.
    turns,
    /// Wake-ups of this shard by another one.
    parked_wakes,
}

/// Counters of one shard and the times of its thread, where the system reports them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShardReport {
    /// Counters of the shard.
    pub(crate) totals: ShardTotals,
    /// Times of its thread.
    pub(crate) times: Option<ThreadTimes>,
}

/// Sums over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Current connections, including those that move between two shards.
    pub(crate) connections: u64,
    /// Maximum number of connections: as configured, or as many as the limit of open files leaves room for.
    pub(crate) connections_max: u64,
    /// Messages that waited for clients when the shards ended; 0 before.
    pub(crate) pending_at_end: u64,
    /// Connections above that number that were closed without an answer, because even those that are told so were too many.
    pub(crate) connections_unanswered: u64,
    /// The same, of connections that a limit by address refused.
    pub(crate) addresses_unanswered: u64,
    /// The same, of connections from addresses that are banned.
    pub(crate) banned_unanswered: u64,
    /// Bans in force.
    pub(crate) bans: u64,
    /// Bytes that may be held, as configured; 0: no ceiling.
    pub(crate) memory_bytes_max: u64,
    /// The worst state of a shard's log.
    pub(crate) journal: JournalState,
    /// All other counters.
    pub(crate) shards: ShardTotals,
}

impl ShardTotals {
    /// Adds the counters of another shard.
    pub(crate) fn add(&mut self, other: &Self) {
        let (mine, theirs) = (self.numbers(), other.numbers());
        let dropped = from_fn(|at| self.dropped[at] + other.dropped[at]);
        let closed = from_fn(|at| self.closed[at] + other.closed[at]);
        let refused = from_fn(|at| self.refused[at] + other.refused[at]);
        let memory = from_fn(|at| self.memory[at] + other.memory[at]);
        *self = Self {
            dropped,
            closed,
            refused,
            memory,
            ..Self::from_numbers(from_fn(|at| mine[at] + theirs[at]))
        };
    }

    /// Bytes held of every kind.
    pub(crate) fn memory_total(&self) -> u64 {
        self.memory.iter().sum()
    }

    /// The bytes of each kind of which there are any, the largest first.
    pub(crate) fn memory_kinds(&self) -> String {
        let mut kinds = MemoryKind::ALL.map(|kind| (self.memory[kind.index()], kind.name()));
        kinds.sort_unstable_by(|one, other| other.cmp(one));
        let held = kinds.iter().filter(|(bytes, _)| *bytes > 0);
        held.map(|(bytes, name)| format!("{name}={bytes}")).collect::<Vec<_>>().join(" ")
    }

    /// Deliveries dropped for any reason. Moved messages are excluded: they are counted again by their new session, so
    /// they are no loss.
    pub(crate) fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum::<u64>() - self.dropped[DropReason::Reassigned.index()]
    }
}

impl Totals {
    /// `1234/10000 (12.3%)`.
    pub(crate) fn connections_of_max(&self) -> String {
        // Tenths of a percent, rounded, in integers.
        let max = self.connections_max.max(1);
        let tenths = (self.connections.saturating_mul(1_000) + max / 2) / max;
        format!("{}/{} ({}.{}%)", self.connections, self.connections_max, tenths / 10, tenths % 10)
    }

    fn block(&self) -> String {
        format!(
            "[STATS] Connections: {}\n[STATS] Messages: {} received, {} sent\n[STATS] Subscriptions: {}\n",
            self.connections_of_max(),
            self.shards.messages_received,
            self.shards.messages_sent,
            self.shards.subscriptions
        )
    }
}

/// State of the reports that were printed.
#[derive(Debug)]
pub(crate) struct Report {
    /// Standard output, unless the statistics are log lines only.
    output: Option<NonBlocking>,
    durability: Durability,
    warned_of_credentials: bool,
    busy: BusyMeter,
}

/// The trigger of a report, which determines the log level of its shard lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// The interval or the end of the broker: shard lines have debug level.
    Interval,
    /// A signal of the operator: shard lines have info level.
    Signal,
}

impl Report {
    /// Starts without a report.
    pub(crate) fn start(output: Option<NonBlocking>, durability: Durability) -> Self {
        Self { output, durability, warned_of_credentials: false, busy: BusyMeter::default() }
    }

    /// Prints the block on standard output, logs its numbers to the log files, and sends its first line to the service
    /// manager.
    pub(crate) fn print(&mut self, totals: &Totals) {
        // A single write keeps log lines out of the block. It waits for nobody: the thread of the log writes it.
        if let Some(output) = &mut self.output {
            let _ = output.write_all(totals.block().as_bytes());
        }
        info!(
            target: STATISTICS,
            connections = totals.connections,
            connections_max = totals.connections_max,
            messages_received = totals.shards.messages_received,
            messages_sent = totals.shards.messages_sent,
            subscriptions = totals.shards.subscriptions,
            messages_dropped = totals.shards.dropped_total(),
            durability = self.durability.name(),
            journal = totals.journal.name(),
            "statistics"
        );
        systemd::status(&format!("Connections: {}", totals.connections_of_max()));
        let shards = &totals.shards;
        debug!(sessions = shards.sessions, retained_messages = shards.retained_messages, "totals");
        info!(
            target: STATISTICS,
            used = shards.memory_total(),
            limit = totals.memory_bytes_max,
            kinds = shards.memory_kinds(),
            "memory"
        );
        if totals.journal >= JournalState::Degraded {
            let state = totals.journal.name();
            warn!(
                state,
                "the journal is not well, so messages that have to survive may not be acknowledged; an earlier line says more"
            );
        }
    }

    /// Logs a warning the first time that a client was let in with a user name or password.
    pub(crate) fn warn_of_credentials(&mut self, totals: &Totals) {
        if totals.shards.credentials_ignored > 0 && !self.warned_of_credentials {
            self.warned_of_credentials = true;
            warn!(
                "clients send user names or passwords, which this version does not check: every client is let in, whatever it \
                 sends"
            );
        }
    }

    /// Logs the number of messages that the end of the process takes along.
    pub(crate) fn warn_of_lost_messages(totals: &Totals) {
        let (queued, retained) = (totals.pending_at_end, totals.shards.retained_messages);
        let is_kept = totals.journal != JournalState::None;
        if !is_kept && (queued > 0 || retained > 0) {
            warn!(queued, retained, "messages end with the process, because they are kept in memory only");
        }
    }

    /// Logs one line for each shard, in order. `busy_percent` covers the time since the last call.
    pub(crate) fn log_shards(&mut self, shards: &[ShardReport], trigger: Trigger) {
        let percents = self.busy.percents(shards);
        for (shard, (ShardReport { totals, .. }, busy_percent)) in shards.iter().zip(percents).enumerate() {
            let ShardTotals {
                connections,
                sessions,
                messages_received: received,
                messages_sent: sent,
                messages_forwarded: crossed,
                crossed_for_nothing,
                handed_over,
                turns,
                parked_wakes,
                ..
            } = *totals;
            macro_rules! log {
                ($level:ident) => {
                    $level!(
                        shard,
                        connections,
                        sessions,
                        received,
                        sent,
                        crossed,
                        crossed_for_nothing,
                        handed_over,
                        turns,
                        parked_wakes,
                        busy_percent,
                        "shard"
                    )
                };
            }
            match trigger {
                Trigger::Interval => log!(debug),
                Trigger::Signal => log!(info),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_has_exactly_the_form_that_scripts_read() {
        let totals = Totals {
            connections: 1_234,
            connections_max: 10_000,
            pending_at_end: 0,
            connections_unanswered: 0,
            addresses_unanswered: 0,
            banned_unanswered: 0,
            bans: 0,
            memory_bytes_max: 0,
            journal: JournalState::None,
            shards: ShardTotals {
                messages_received: 45_678,
                messages_sent: 123_456,
                subscriptions: 5_678,
                ..ShardTotals::default()
            },
        };
        assert_eq!(
            totals.block(),
            "[STATS] Connections: 1234/10000 (12.3%)\n\
             [STATS] Messages: 45678 received, 123456 sent\n\
             [STATS] Subscriptions: 5678\n"
        );
    }

    #[test]
    fn shares_are_rounded_to_a_tenth_of_a_percent() {
        let check = |connections, connections_max, expected: &str| {
            let totals = Totals { connections, connections_max, ..Totals::default() };
            assert_eq!(totals.connections_of_max(), expected);
        };
        check(0, 10_000, "0/10000 (0.0%)");
        check(1, 10_000, "1/10000 (0.0%)");
        check(5, 10_000, "5/10000 (0.1%)");
        check(9_999, 10_000, "9999/10000 (100.0%)");
        check(10_000, 10_000, "10000/10000 (100.0%)");
        check(1, 3, "1/3 (33.3%)");
    }
}
