//! The books: whether every delivery owed is accounted for, and whether everything is back where it was.
//! Knows nothing that the engine does not; for tests, simulators and an operator's doubt.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::counters::DropReason;
use crate::engine::Engine;
use crate::session::table::SessionId;

/// What one session was owed and what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionAudit {
    /// Client identifier.
    pub client_id: String,
    /// Deliveries owed.
    pub matched: u64,
    /// Accepted by the kernel (QoS 0) or acknowledged (QoS 1 and 2).
    pub delivered: u64,
    /// QoS 0 in an outbox, QoS 1 and 2 sent and not acknowledged.
    pub inflight: u64,
    /// Waiting in the session's queue.
    pub queued: u64,
    /// By [`DropReason::index`].
    pub dropped: [u64; DropReason::ALL.len()],
}

impl SessionAudit {
    /// Whether every delivery owed is accounted for.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.matched == self.delivered + self.inflight + self.queued + self.dropped.iter().sum::<u64>()
    }
}

/// The books of a shard and what it holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Audit {
    /// One for each session.
    pub sessions: Vec<SessionAudit>,
    /// Messages in the store.
    pub messages: u32,
    /// Messages of groups that wait for another member.
    pub reassignments: usize,
    /// Timers set.
    pub timers: u32,
    /// Acknowledgements at the release gate.
    pub pending_acks: usize,
    /// Filters, groups and trie nodes in use; (0, 0, 1) when nobody subscribes.
    pub tree: (usize, usize, usize),
    /// Bytes in outboxes.
    pub outbox_bytes: u64,
    /// Parcels and open blocks that wait for lanes.
    pub waiting_outbound: usize,
    /// Filters without wildcards and groups that other shards want.
    pub interests: (usize, usize),
    /// Questions for retained messages: asked of other shards and open, asked by them and not answered.
    pub page_requests: (u32, usize),
}

impl Engine {
    /// Adds up the books. Walks everything: not for the hot path.
    ///
    /// # Panics
    /// If the engine's own tables contradict each other.
    #[must_use]
    pub fn audit(&self) -> Audit {
        let delivery = &self.delivery;
        let mut outbox_qos0: Vec<u64> = vec![0; delivery.sessions.slot_count() as usize];
        let mut outbox_bytes = 0;
        for (key, connection) in delivery.connections.iter() {
            outbox_bytes += connection.outbox.bytes();
            if let Some(session) = connection.session() {
                let serves = delivery.sessions.get(session.0).and_then(|session| session.connection);
                assert!(serves.is_some_and(|serves| serves.0 == key));
            }
            if let Some(SessionId(owner)) = connection.owner
                && delivery.sessions.get(owner).is_some()
            {
                outbox_qos0[owner.index() as usize] += u64::from(connection.outbox.qos0_count());
            }
        }
        assert!(outbox_bytes == delivery.outbox_writer.bytes_held);
        assert!(delivery.sessions.len() as usize == self.by_client.len());
        let mut held = 0;
        let sessions = delivery.sessions.iter().map(|(key, session)| {
            let index = key.index();
            held += session.deliveries.as_ref().map_or(0, |deliveries| deliveries.messages().count());
            for tag in session.deliveries.iter().flat_map(|deliveries| deliveries.groups()) {
                let mut members = self.tree.group(tag.group()).members.iter();
                assert!(members.any(|member| member.session == index));
            }
            SessionAudit {
                client_id: session.client_id.as_str().into(),
                matched: session.ledger.matched,
                delivered: session.ledger.delivered,
                inflight: u64::from(session.inflight_count()) + outbox_qos0[index as usize],
                queued: session.queued_count() as u64,
                dropped: session.ledger.dropped(),
            }
        });
        let sessions: Vec<SessionAudit> = sessions.collect();
        assert!(held + self.reassignments.len() + self.retained.len() >= delivery.messages.len() as usize);
        Audit {
            sessions,
            messages: delivery.messages.len(),
            reassignments: self.reassignments.len(),
            timers: self.wheel.len(),
            pending_acks: self.gate.len(),
            tree: self.tree.slot_counts(),
            outbox_bytes,
            waiting_outbound: self.mesh.outbound.waiting_count(),
            interests: (self.mesh.exact.len(), self.mesh.groups.len()),
            page_requests: (
                self.mesh.open_request_count.iter().sum(),
                self.mesh.page_requests.len() + self.mesh.early_page_requests.len(),
            ),
        }
    }
}
