//! What a shard shows of itself: written by it alone at the end of a turn, read by the control plane at any time.
//! Knows no sum: the statistics make that.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use engine::{DropReason, Engine};

use crate::statistics::ShardTotals;

#[expect(clippy::disallowed_types, reason = "counters that one shard writes and the control plane reads")]
type Shared<T> = std::sync::Arc<T>;

/// A handle on what one shard shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges(Shared<Shown>);

#[derive(Debug, Default)]
struct Shown {
    connections: AtomicU64,
    sessions: AtomicU64,
    subscriptions: AtomicU64,
    retained_messages: AtomicU64,
    messages_received: AtomicU64,
    messages_sent: AtomicU64,
    messages_crossed: AtomicU64,
    crossed_for_nothing: AtomicU64,
    handed_over: AtomicU64,
    dropped: AtomicU64,
    turns: AtomicU64,
    parked_wakes: AtomicU64,
    turn_answered: AtomicU64,
}

impl Gauges {
    /// Shows what the engine counts, and how often the shard turned.
    pub(crate) fn publish(&self, engine: &Engine, turns: u64) {
        let (shown, counters) = (&self.0, engine.counters());
        shown.connections.store(engine.connection_count().into(), Relaxed);
        shown.sessions.store(engine.session_count().into(), Relaxed);
        shown.subscriptions.store(engine.subscription_count() as u64, Relaxed);
        shown.retained_messages.store(engine.retained_count() as u64, Relaxed);
        shown.messages_received.store(counters.messages_received, Relaxed);
        shown.messages_sent.store(counters.messages_sent, Relaxed);
        shown.messages_crossed.store(counters.messages_crossed, Relaxed);
        shown.crossed_for_nothing.store(counters.crossed_for_nothing, Relaxed);
        shown.handed_over.store(counters.handed_over, Relaxed);
        // What moved is counted wherever it went, so it is nothing to be warned of.
        let moved = counters.dropped[DropReason::Moved.index()];
        shown.dropped.store(counters.dropped_total() - moved, Relaxed);
        shown.turns.store(turns, Relaxed);
    }

    /// Another shard rang while this one slept.
    pub(crate) fn count_parked_wake(&self) {
        self.0.parked_wakes.fetch_add(1, Relaxed);
    }

    /// Shows that the shard turned when it was asked for the `number`th time.
    pub(crate) fn answer_turn(&self, number: u64) {
        self.0.turn_answered.store(number, Relaxed);
    }

    /// The last time it was asked and turned.
    pub(crate) fn turn_answered(&self) -> u64 {
        self.0.turn_answered.load(Relaxed)
    }

    /// What is shown now.
    pub(crate) fn read(&self) -> ShardTotals {
        let shown = &self.0;
        ShardTotals {
            connections: shown.connections.load(Relaxed),
            sessions: shown.sessions.load(Relaxed),
            subscriptions: shown.subscriptions.load(Relaxed),
            retained_messages: shown.retained_messages.load(Relaxed),
            messages_received: shown.messages_received.load(Relaxed),
            messages_sent: shown.messages_sent.load(Relaxed),
            messages_crossed: shown.messages_crossed.load(Relaxed),
            crossed_for_nothing: shown.crossed_for_nothing.load(Relaxed),
            handed_over: shown.handed_over.load(Relaxed),
            dropped: shown.dropped.load(Relaxed),
            turns: shown.turns.load(Relaxed),
            parked_wakes: shown.parked_wakes.load(Relaxed),
        }
    }
}
