//! The client whose publish made the topic tree visit many nodes: one is kept until the host asks.

use alloc::boxed::Box;

use super::{Engine, Rooms};
use crate::base::ids::SessionId;
use crate::notice::{LongMatch, cut};
use crate::topic::tree::Matched;

impl Engine {
    /// The first publish since the last call that visited many nodes; `Counters::long_matches` counts all of them.
    pub fn take_long_match(&mut self) -> Option<LongMatch> {
        self.rooms.long_match.take().map(|long_match| *long_match)
    }
}

impl Rooms {
    /// Keeps one until it is taken, so that a storm of them costs nothing more.
    #[cold]
    pub(super) fn keep_long_match(&mut self, publisher: Option<SessionId>, topic: &str, found: Matched) {
        if self.long_match.is_some() {
            return;
        }
        let publisher = publisher.and_then(|id| self.delivery.sessions.get(id));
        let client_id = cut(publisher.map_or("", |session| session.client_id()));
        let nodes_visited = found.visited_count();
        self.long_match = Some(Box::new(LongMatch { client_id, topic: cut(topic), nodes_visited }));
    }
}
