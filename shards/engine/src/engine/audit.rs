//! The audit of a shard: whether every delivery is accounted for, and whether everything that is counted is right. For
//! tests, simulators and an operator's doubt.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{Engine, Rooms};
use crate::connection::Connection;
use crate::counters::DropReason;
use crate::memory::{Held, MemoryKind};
use crate::publish::Delivery;
use crate::session::Session;

/// The ledger of one session.
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

/// The ledgers of a shard and everything that it holds.
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
    /// Acknowledgements at the acknowledgement gate.
    pub pending_acks: usize,
    /// Filters, groups and trie nodes in use; (0, 0, 1) when nobody subscribes.
    pub tree: (usize, usize, usize),
    /// Bytes in outboxes.
    pub outbox_bytes: u64,
    /// Outbound items and open blocks that wait for lanes, or for the log.
    pub waiting_outbound: usize,
    /// Transfers that some shard has not settled.
    pub open_transfers: usize,
    /// Filters without wildcards and groups that other shards want.
    pub interests: (usize, usize),
    /// Page requests that are open: of this shard to others, and of others to this shard.
    pub page_requests: (u32, usize),
    /// Bytes of everything that goes with its owner: no slot or buffer is kept for it.
    pub owned_bytes: u64,
}

impl Engine {
    /// The ledger of each session: walks the sessions alone.
    ///
    /// # Panics
    /// If the engine's own tables contradict each other.
    #[must_use]
    pub fn ledgers(&self) -> Vec<SessionAudit> {
        self.rooms.audit_sessions()
    }

    /// Adds up the ledgers, and recomputes every byte, timer and count that a room keeps. Walks everything: not for the
    /// hot path.
    ///
    /// # Panics
    /// If the engine's own tables contradict each other.
    #[must_use]
    pub fn audit(&self) -> Audit {
        let Rooms { topics, delivery, retained, shared, mesh, .. } = &self.rooms;
        self.rooms.check_connections();
        self.rooms.check_messages();
        self.rooms.check_sessions(&self.held);
        delivery.connections.check();
        delivery.check_unfinished();
        if let Some(recorder) = &self.recorder {
            recorder.check();
            assert!(self.rooms.backlog.has_fan_out() || !recorder.has_cut_message());
        }
        self.rooms.backlog.check((&delivery.sessions, &self.rooms.topics), &delivery.connections);
        topics.check();
        retained.store().check(&delivery.messages);
        retained.check(&delivery.sessions);
        shared.check(topics, delivery);
        mesh.check(topics);
        self.rooms.user_changes.check();
        self.timers.check();
        let timers = delivery.sessions.iter().map(|(_, session)| session.timer_count()).sum::<u32>()
            + delivery.connections.timer_count()
            + retained.store().timer_count();
        assert!(timers == self.timers.len());
        assert!(self.endings.is_empty() && self.rooms.filters.is_empty());
        let sessions = self.rooms.audit_sessions();
        assert!(sessions.iter().all(SessionAudit::balances));
        Audit {
            sessions,
            messages: delivery.messages.len(),
            reassignments: shared.reassignment_count(),
            timers,
            pending_acks: delivery.connections.pending_ack_count(),
            tree: topics.slot_counts(),
            outbox_bytes: delivery.connections.outbox_bytes(),
            waiting_outbound: mesh.outbound().waiting_count(),
            open_transfers: mesh.transfers().open_count(),
            interests: (mesh.interests().counts().0, shared.remote().len()),
            page_requests: retained.page_request_counts(),
            owned_bytes: self.owned_bytes(),
        }
    }
}

impl Engine {
    fn owned_bytes(&self) -> u64 {
        let kinds = self.memory_use();
        let owned = [
            MemoryKind::PartialPackets,
            MemoryKind::Authentications,
            MemoryKind::AliasesIn,
            MemoryKind::AliasesOut,
            MemoryKind::Wills,
            MemoryKind::Retained,
        ];
        let of_sessions = self.held.deliveries() + self.held.replays();
        of_sessions + owned.map(|kind| kinds.of_kind(kind)).iter().sum::<u64>()
    }
}

impl Rooms {
    fn audit_sessions(&self) -> Vec<SessionAudit> {
        let delivery = &self.delivery;
        let mut outbox_qos0: Vec<u64> = vec![0; delivery.sessions.slot_count() as usize];
        for (owner, count) in delivery.connections.outbox_qos0() {
            if delivery.sessions.get(owner).is_some() {
                outbox_qos0[owner.index() as usize] += u64::from(count);
            }
        }
        let sessions = delivery.sessions.iter().map(|(id, session)| SessionAudit {
            client_id: session.client_id().into(),
            matched: session.ledger().matched(),
            delivered: session.ledger().delivered(),
            inflight: u64::from(session.inflight_count()) + outbox_qos0[id.index() as usize],
            queued: session.queued_count() as u64,
            dropped: session.ledger().dropped(),
        });
        sessions.collect()
    }

    /// Each session's own counts are right, and it is a member of the groups by which it holds something.
    fn check_sessions(&self, held: &Held) {
        let Self { topics, delivery, .. } = self;
        delivery.sessions.check(held);
        let of_sessions = delivery.sessions.iter().filter_map(|(id, _)| delivery.sessions.user_of(id));
        let places = of_sessions.chain(self.retained.store().users()).chain(self.backlog.users());
        delivery.sessions.users().check(places);
        let subscriptions =
            delivery.sessions.iter().map(|(_, session)| session.subscriptions().count() as usize);
        assert!(subscriptions.sum::<usize>() == topics.subscription_count());
        for (id, session) in delivery.sessions.iter() {
            session.check(&delivery.messages);
            for tag in session.groups() {
                let mut members = topics.group_members(tag.group()).iter();
                assert!(members.any(|member| member.session() == id.index()));
            }
        }
    }

    /// A connection and its session name each other.
    fn check_connections(&self) {
        let Delivery { sessions, connections, .. } = &self.delivery;
        for (id, connection) in connections.iter() {
            if let Some(session) = connection.session() {
                let serves = sessions.get(session).and_then(Session::connection);
                assert!(serves == Some(id));
            }
        }
        for (id, session) in sessions.iter() {
            if let Some(connection) = session.connection() {
                let served = connections.get(connection).and_then(Connection::session);
                assert!(served == Some(id));
                let spent = connections.get(connection).map_or(0, Connection::spent_quota);
                assert!(session.quota_held() == usize::from(spent));
            }
        }
    }

    /// Every message in the store has exactly as many holders as there are places that name it.
    fn check_messages(&self) {
        let Self { delivery, retained, shared, mesh, .. } = self;
        let mut holders: Vec<u32> = Vec::new();
        let of_sessions = delivery.sessions.iter().flat_map(|(_, session)| session.messages());
        let all = of_sessions.chain(retained.store().messages()).chain(shared.reassigned_messages());
        let all = all.chain(self.backlog.held_messages()).chain(mesh.transfers().messages());
        for key in all {
            let slot = key.index() as usize;
            holders.resize(holders.len().max(slot + 1), 0);
            holders[slot] += 1;
        }
        delivery.messages.check(|key| holders.get(key.index() as usize).copied().unwrap_or(0));
    }
}
