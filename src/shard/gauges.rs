//! The counters that one shard publishes. The shard alone writes them, at the end of each turn; the control plane
//! reads them at any time.
//! Reads and writes are relaxed: a reader can see the numbers of two turns mixed, which statistics tolerate.

use std::array::from_fn;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use engine::{CauseGroup, Counters, DropReason, Engine, MemoryKind, MemoryUse};

#[cfg(feature = "admin")]
use crate::observe::histogram::Times;
use crate::observe::histogram::{BOUNDS, Histogram, Stage};
use crate::observe::statistics::ShardTotals;

#[expect(clippy::disallowed_types, reason = "counters that one shard writes and the control plane reads")]
type Shared<T> = std::sync::Arc<T>;

/// A handle on the counters of one shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges(Shared<Values>);

#[derive(Debug)]
struct Values {
    /// In the order of `ShardTotals::numbers`.
    numbers: [AtomicU64; ShardTotals::NUMBERS],
    dropped: [AtomicU64; DropReason::ALL.len()],
    /// The ends that the two arrays below contain.
    ended: AtomicU64,
    closed: [AtomicU64; CauseGroup::COUNT],
    refused: [AtomicU64; CauseGroup::COUNT],
    /// By `MemoryKind::index`.
    memory: [AtomicU64; MemoryKind::ALL.len()],
    parked_wakes: AtomicU64,
    turn_completed: AtomicU64,
    pending_at_end: AtomicU64,
    /// A [`JournalState`].
    journal: AtomicU64,
    /// 1 once the log has made durable what this start began with.
    journal_begun: AtomicU64,
    /// By number of the stage.
    stages: [Histogram; Stage::ALL.len()],
}

/// The state of a shard's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum JournalState {
    /// There is none.
    #[default]
    None,
    /// Nothing is wrong.
    Serving,
    /// It has no room for what follows.
    Degraded,
    /// A write or a sync has failed.
    Failed,
}

impl JournalState {
    /// Its name below `$SYS`, and in the log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Serving => "serving",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

impl Default for Values {
    fn default() -> Self {
        Self {
            numbers: from_fn(|_| AtomicU64::new(0)),
            dropped: from_fn(|_| AtomicU64::new(0)),
            ended: AtomicU64::new(0),
            closed: from_fn(|_| AtomicU64::new(0)),
            refused: from_fn(|_| AtomicU64::new(0)),
            memory: from_fn(|_| AtomicU64::new(0)),
            parked_wakes: AtomicU64::new(0),
            turn_completed: AtomicU64::new(0),
            pending_at_end: AtomicU64::new(0),
            journal: AtomicU64::new(0),
            journal_begun: AtomicU64::new(0),
            stages: Default::default(),
        }
    }
}

impl Gauges {
    /// Publishes the counters of the engine, the bytes that it holds, and the number of turns.
    pub(crate) fn update(&self, engine: &Engine, held: &MemoryUse, turns: u64) {
        let counters = engine.counters();
        let (stored_messages, stored_bytes) = engine.store();
        let totals = ShardTotals {
            connections: engine.connection_count().into(),
            sockets_opened: counters.connections_accepted + counters.connections_refused,
            connects_received: counters.connects_received,
            credentials_ignored: counters.credentials_ignored,
            log_waits: counters.log_waits,
            rate_pauses: counters.rate_pauses,
            attached: engine.attached_count().into(),
            sessions: engine.session_count().into(),
            sessions_expired: counters.sessions_expired,
            connections_turned_away: counters.connections_refused,
            closed_by_operator: counters.closed_by_operator,
            subscriptions: engine.subscription_count() as u64,
            shared_subscriptions: engine.shared_subscription_count() as u64,
            retained_messages: engine.retained_count() as u64,
            retained_expired: counters.retained_expired,
            stored_messages: stored_messages.into(),
            stored_bytes,
            packets_received: counters.packets_received,
            packets_sent: counters.control_packets_sent + counters.messages_sent,
            bytes_received: counters.bytes_received,
            bytes_sent: counters.bytes_sent,
            messages_received: counters.messages_received,
            messages_sent: counters.messages_sent,
            payload_bytes_received: counters.payload_bytes_received,
            payload_bytes_sent: counters.payload_bytes_sent,
            publishes_refused: counters.publishes_refused,
            retained_refused: counters.retained_refused,
            publishes_denied: counters.publishes_denied,
            publishes_forbidden: counters.publishes_forbidden,
            subscriptions_forbidden: counters.subscriptions_forbidden,
            wills_forbidden: counters.wills_forbidden,
            reads_denied: counters.reads_denied,
            retained_unread: counters.retained_unread,
            topic_nodes_visited: counters.topic_nodes_visited,
            long_matches: counters.long_matches,
            filters_refused: counters.filters_refused,
            messages_forwarded: counters.messages_forwarded,
            crossed_for_nothing: counters.forwarded_unmatched,
            handed_over: counters.handed_over,
            turns,
            parked_wakes: self.0.parked_wakes.load(Relaxed),
            dropped: counters.dropped,
            memory: held.kinds(),
            ..ShardTotals::default()
        };
        for (value, number) in self.0.numbers.iter().zip(totals.numbers()) {
            value.store(number, Relaxed);
        }
        for (value, number) in self.0.dropped.iter().zip(totals.dropped) {
            value.store(number, Relaxed);
        }
        for (value, number) in self.0.memory.iter().zip(totals.memory) {
            value.store(number, Relaxed);
        }
        self.update_ends(counters);
    }

    /// Publishes the ends of connections. Most turns have none, so these counters cost a turn one comparison.
    fn update_ends(&self, counters: &Counters) {
        let values = &self.0;
        if values.ended.load(Relaxed) == counters.ended {
            return;
        }
        values.ended.store(counters.ended, Relaxed);
        let published = values.closed.iter().chain(&values.refused);
        for (value, number) in published.zip(counters.closed.iter().chain(&counters.refused)) {
            value.store(*number, Relaxed);
        }
    }

    /// Counts a time of a stage `count` times.
    pub(crate) fn observe(&self, stage: Stage, time: Duration, count: u64) {
        self.0.stages[stage as usize].observe(time, count);
    }

    /// The times of a stage by bound, and above all of them.
    pub(crate) fn stage(&self, stage: Stage) -> [u64; BOUNDS + 1] {
        self.0.stages[stage as usize].counts()
    }

    /// The times of a stage.
    #[cfg(feature = "admin")]
    pub(crate) fn times(&self, stage: Stage) -> Times {
        self.0.stages[stage as usize].read()
    }

    /// Counts a wake-up by another shard while this one slept.
    pub(crate) fn count_parked_wake(&self) {
        self.0.parked_wakes.fetch_add(1, Relaxed);
    }

    /// Publishes that the shard has turned since request `number`.
    pub(crate) fn complete_turn(&self, number: u64) {
        self.0.turn_completed.store(number, Relaxed);
    }

    /// The last request after which the shard has turned.
    pub(crate) fn turn_completed(&self) -> u64 {
        self.0.turn_completed.load(Relaxed)
    }

    /// Publishes the messages that wait for clients at the end of the shard.
    pub(crate) fn set_pending_at_end(&self, count: u64) {
        self.0.pending_at_end.store(count, Relaxed);
    }

    /// The messages that waited for clients at the end of the shard; 0 before.
    pub(crate) fn pending_at_end(&self) -> u64 {
        self.0.pending_at_end.load(Relaxed)
    }

    /// Publishes the state of the log.
    pub(crate) fn set_journal(&self, state: JournalState) {
        self.0.journal.store(state as u64, Relaxed);
    }

    /// Publishes that the log has made durable what this start began with.
    pub(crate) fn set_journal_begun(&self) {
        self.0.journal_begun.store(1, Relaxed);
    }

    /// Whether the log has made durable what this start began with.
    pub(crate) fn has_journal_begun(&self) -> bool {
        self.0.journal_begun.load(Relaxed) == 1
    }

    /// The state of the log.
    pub(crate) fn journal(&self) -> JournalState {
        use JournalState::{Degraded, Failed, None, Serving};
        let state = self.0.journal.load(Relaxed);
        [Serving, Degraded, Failed].into_iter().find(|known| *known as u64 == state).unwrap_or(None)
    }

    /// The current values.
    pub(crate) fn read(&self) -> ShardTotals {
        let values = &self.0;
        let numbers = from_fn(|at| values.numbers[at].load(Relaxed));
        let dropped = from_fn(|at| values.dropped[at].load(Relaxed));
        let closed = from_fn(|at| values.closed[at].load(Relaxed));
        let refused = from_fn(|at| values.refused[at].load(Relaxed));
        let memory = from_fn(|at| values.memory[at].load(Relaxed));
        let parked_wakes = values.parked_wakes.load(Relaxed);
        ShardTotals { parked_wakes, dropped, closed, refused, memory, ..ShardTotals::from_numbers(numbers) }
    }
}
