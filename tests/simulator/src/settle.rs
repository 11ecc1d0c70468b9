//! The end of a run: the load stops, every required delivery arrives, all clients leave, and nothing is left behind.
//! Nothing here is random.

use engine::DropReason;
use wire::{ProtocolVersion, QoS, RetainHandling};

use crate::client::Subscribing;
use crate::crash::Machine;
use crate::identity::{ConnectOptions, Identity, Phase};
use crate::link::ClientEnd;
use crate::log::ShardLog;
use crate::oracle::Counted;
use crate::world::World;

/// Maximum rounds until everything is quiet. In a round every shard has a turn and every client reads.
const ROUNDS_MAX: usize = 20_000;
/// Longer than any will delay and any time-out of a connection.
const PAUSE_MS: u64 = 15_000;
/// Longer than any session expiry.
const AGE_MS: u64 = 2_000_000;

impl World {
    /// Ends the load and checks required deliveries, retained messages, and leaks.
    pub fn finish(&mut self) {
        if self.oracle.failure.is_some() {
            return;
        }
        self.release();
        self.heal();
        self.settle();
        self.advance(PAUSE_MS);
        self.settle();
        self.check_ledgers();
        self.judge_recovery();
        self.judge_deliveries();
        self.judge_retained();
        self.leave_all();
        self.judge_baseline();
        if self.is_logged() && self.oracle.failure.is_none() {
            self.judge_disks();
            self.crash_at_rest();
            self.settle();
            self.judge_baseline();
        }
    }

    /// Runs turns and reads until nothing is in transit. It is a failure if that never happens.
    ///
    /// Clients with a session reconnect meanwhile.
    pub fn settle(&mut self) {
        self.settle_with(true);
    }

    /// Like [`World::settle`], but offline clients stay offline.
    pub fn settle_without_clients_coming_back(&mut self) {
        self.settle_with(false);
    }

    fn settle_with(&mut self, reconnect_clients: bool) {
        for _ in 0..ROUNDS_MAX {
            if reconnect_clients {
                // Includes clients that a rival took over while the load ended.
                self.reconnect_clients();
            }
            if self.oracle.failure.is_some() || self.is_quiet(reconnect_clients) {
                return;
            }
            self.advance(1);
            for shard in 0..self.shards.len() {
                self.turn(shard);
            }
            for client in 0..self.identities.len() {
                self.read(client, usize::MAX);
            }
        }
        let waiting: Vec<_> = self.shards.iter().map(|shard| shard.engine.audit()).collect();
        let open: Vec<_> = self
            .shards
            .iter()
            .map(|shard| {
                let log = shard.log.as_ref().map(|log| (log.is_at_rest(), log.writer.progress()));
                (
                    shard.engine.next_deadline(),
                    shard.engine.is_outbound_empty(),
                    shard.engine.may_checkpoint(),
                    log,
                )
            })
            .collect();
        self.oracle.fail(format!("it never became quiet at {}: {open:?} {waiting:?}", self.now_ms));
    }

    /// Notices abandoned connections, and connects clients that have a session.
    fn reconnect_clients(&mut self) {
        for link in &mut self.links {
            if link.client_end == ClientEnd::Abandoned {
                link.client_end = ClientEnd::Reset;
            }
        }
        let has_crashed = self.crash_count() > 0;
        for client in 0..self.identities.len() {
            self.identities[client].stalled_until_ms = 0;
            let identity = &self.identities[client];
            // The client ended its session, which a rival may have taken over before its DISCONNECT arrived.
            let is_doubtful = !identity.rivals.is_empty() || has_crashed;
            let clean_start = identity.must_clean_start && is_doubtful;
            let may_exist = identity.session_kept || identity.may_exist || clean_start;
            if identity.phase == Phase::Offline && may_exist {
                let shard = client % self.shards.len();
                self.connect(client, shard, ConnectOptions { clean_start, will: None });
            }
        }
    }

    fn is_quiet(&self, all_sessions: bool) -> bool {
        let shards_quiet = self.shards.iter().all(|shard| {
            let audit = shard.engine.audit();
            shard.persists.is_empty()
                && shard.log.as_ref().is_none_or(ShardLog::is_at_rest)
                && shard.accepts.is_empty()
                && shard.arrivals.is_empty()
                && audit.waiting_outbound == 0
                && audit.pending_acks == 0
                && audit.page_requests == (0, 0)
                && shard.engine.next_deadline().is_none_or(|deadline| deadline.as_ms() > 0)
                && audit.outbox_bytes == 0
                && audit
                    .sessions
                    .iter()
                    .all(|session| !all_sessions || (session.queued == 0 && session.inflight == 0))
        });
        shards_quiet
            && !self.has_questions()
            && self.lanes.is_empty()
            && self.links.iter().all(crate::link::Link::is_quiet)
            && self.identities.iter().all(Identity::is_idle)
            && self.identities.iter().all(|identity| identity.phase != Phase::Connecting)
            && self.shards.iter().all(|shard| shard.engine.is_settled())
    }

    fn judge_deliveries(&mut self) {
        if self.oracle.failure.is_some() {
            return;
        }
        for reason in
            [DropReason::QueueFull, DropReason::PacketTooLarge, DropReason::Refused, DropReason::Expired]
        {
            let count = self.dropped(reason);
            if count > 0 {
                self.oracle.fail(format!("{count} deliveries were dropped: {}", reason.name()));
            }
        }
        let (dropped_count, ended_count) = self.droppable();
        self.oracle.check_required(Counted {
            dropped: dropped_count,
            ended: ended_count + self.machine.as_ref().map_or(0, Machine::ended_count),
            without_member: self.dropped(DropReason::NoMember),
            moved: self.dropped(DropReason::Reassigned),
        });
    }

    /// QoS 0 deliveries that may be missing, and messages that ended with their session.
    fn droppable(&self) -> (u64, u64) {
        let ended_count = self.dropped(DropReason::SessionEnded);
        let reasons =
            [DropReason::OutboxFull, DropReason::Memory, DropReason::Offline, DropReason::ConnectionLost];
        (ended_count + reasons.map(|reason| self.dropped(reason)).iter().sum::<u64>(), ended_count)
    }

    fn judge_retained(&mut self) {
        if self.oracle.failure.is_some() {
            return;
        }
        let checker = self.add(Identity::new("checker", ProtocolVersion::V5, 0));
        self.connect(checker, 0, ConnectOptions { clean_start: true, will: None });
        self.settle();
        let (filter, qos) = ("w/#", QoS::AtLeastOnce);
        let retain_handling = RetainHandling::SendAtSubscribe;
        self.subscribe(checker, &[Subscribing { filter, qos, retain_handling }]);
        self.settle();
        let found = self.identities[checker].found.clone();
        self.oracle.check_newest(&found);
        let missing_qos0: u64 = found.values().map(|&id| self.oracle.check_retained(id)).sum();
        let (dropped_count, _) = self.droppable();
        if missing_qos0 > dropped_count {
            self.oracle.fail(format!("{missing_qos0} retained messages of QoS 0 are missing"));
        }
        for topic in found.keys() {
            self.publish(checker, topic, QoS::AtLeastOnce, true, 0);
            self.settle();
        }
    }

    fn leave_all(&mut self) {
        if self.oracle.failure.is_some() {
            return;
        }
        for client in 0..self.identities.len() {
            if self.identities[client].phase != Phase::Offline {
                self.disconnect(client, true);
            }
            self.identities[client].session_kept = false;
            // Everything is settled, so no rival connection exists.
            self.identities[client].rivals.clear();
            self.identities[client].must_clean_start = false;
        }
        self.settle();
        self.advance(AGE_MS);
        self.settle();
        for _ in 0..10 {
            for shard in 0..self.shards.len() {
                self.turn(shard);
            }
        }
        self.settle();
    }

    fn judge_baseline(&mut self) {
        if self.oracle.failure.is_some() {
            return;
        }
        for number in 0..self.shards.len() {
            let audit = self.audit(number);
            let baseline = engine::Audit { tree: (0, 0, 1), ..Default::default() };
            let connections = self.shards[number].engine.connection_count();
            if audit != baseline || connections > 0 {
                self.oracle.fail(format!("shard {number} keeps {connections} connections and {audit:?}"));
            }
        }
        if !self.lanes.is_empty() {
            self.oracle.fail("items are left in the lanes".into());
        }
    }
}
