//! The log of publishes that visit many nodes of the topic tree: at most one line a second, which names a client that published one
//! and says how many there were.

use std::cell::{Cell, RefCell};

use engine::Engine;
use tracing::warn;

use crate::observe::connection_log::printable;

const PAUSE_MS: u64 = 1_000;

/// The part of them that the log knows.
#[derive(Default)]
pub(super) struct LongMatches {
    told_count: Cell<u64>,
    next_ms: Cell<u64>,
}

impl LongMatches {
    /// Tells of those since the last line, if there are any and it is time.
    pub(super) fn tell(&self, shard: u16, now_ms: impl FnOnce() -> u64, engine: &RefCell<Engine>) {
        let count = engine.borrow().counters().long_matches;
        // One comparison in a turn without any.
        if count == self.told_count.get() {
            return;
        }
        let now_ms = now_ms();
        if now_ms < self.next_ms.get() {
            return;
        }
        // A forwarded publish is counted on both shards and named on that of its publisher.
        let Some(first) = engine.borrow_mut().take_long_match() else { return };
        let publishes = count - self.told_count.replace(count);
        self.next_ms.set(now_ms + PAUSE_MS);
        warn!(
            shard,
            client = &*printable(&first.client_id),
            topic = &*printable(&first.topic),
            nodes_visited = first.nodes_visited,
            publishes,
            "publishes visit many nodes of the topic tree, because filters have + at many different levels; see match_nodes_max"
        );
    }
}
