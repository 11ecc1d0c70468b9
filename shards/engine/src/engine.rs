//! The shard's state machine and its one entrance.
//! Knows no clock, socket, thread, ring or runtime.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use hashbrown::HashTable;
use wire::ReasonCode;

use crate::base::hash::{Entropy, Keyed};
use crate::base::slab::Slab;
use crate::base::time::Instant;
use crate::base::timer_wheel::Wheel;
use crate::connection::ack_gate::AckGate;
use crate::connection::outbox::{Chunk, Lend};
use crate::connection::table::{Admission, Connection, ConnectionId, Phase};
use crate::counters::Counters;
use crate::event::{Actions, ClosedBy, Consumed, Event};
use crate::limits::Limits;
use crate::mesh::links::Mesh;
use crate::mesh::topology::Placement;
use crate::message::stored::MessageStore;
use crate::publish::fan_out::{Delivery, Ending, MemoryLedger, StoredCopy};
use crate::publish::route::Scratch;
use crate::publish::send::OutboxWriter;
use crate::retained::store::RetainedStore;
use crate::session::table::SessionId;
use crate::shared::reassignment::Reassignment;
use crate::timer::Timer;
use crate::topic::tree::Tree;

/// Timers served in one step; the rest are due again at once.
const TIMERS_PER_STEP_MAX: usize = 256;

/// One shard: its connections, sessions, subscriptions and retained messages.
///
/// The order of calls, in one turn of the host:
/// 1. [`Engine::accept`] for each accepted socket, [`Engine::step`] for each thing that happened;
///    [`Engine::step`] with [`Event::Tick`] once [`Engine::next_deadline`] has come.
/// 2. Carry out the [`crate::Action`]s. [`crate::Action::Persist`] is answered by [`Event::Durable`]
///    when it is so.
/// 3. For each [`crate::Action::Flush`]: [`Engine::lend`], send, [`Engine::give_back`], until `lend` answers
///    [`Lend::Idle`] or [`Lend::Close`]. Nothing else may happen to a lent piece.
/// 4. A socket that is gone is told by [`Event::Closed`], after its lent piece was given back.
///
/// **Lives on:** one shard. **Sees:** what its host feeds it.
#[derive(Debug)]
pub struct Engine {
    pub(crate) delivery: Delivery,
    pub(crate) tree: Tree,
    pub(crate) retained: RetainedStore,
    pub(crate) wheel: Wheel<Timer>,
    pub(crate) gate: AckGate,
    pub(crate) mesh: Mesh,
    pub(crate) by_client: HashTable<u32>,
    /// Sessions whose look-ups can go on; each at most once.
    pub(crate) replays: VecDeque<SessionId>,
    /// Sessions whose look-ups wait until another shard answers a question or reports what it sent.
    pub(crate) blocked_replays: Vec<SessionId>,
    /// Questions asked of other shards so far; the last one's number.
    pub(crate) requests_made: u32,
    /// Messages of groups that need another member; each was queued or in flight before, so their bounds hold.
    pub(crate) reassignments: VecDeque<Reassignment>,
    /// Connections not read for lack of memory or of room in a lane; each at most once.
    pub(crate) starved: Vec<ConnectionId>,
    /// CONNECT packets of connections whose hand-over was asked for in this turn.
    pub(crate) pending_hand_overs: Vec<(ConnectionId, Vec<u8>)>,
    pub(crate) scratch: Scratch,
    pub(crate) stored_copy: StoredCopy,
    /// Publishes so far: tells old from new, and one fan-out from the next.
    pub(crate) publish_sequence: u64,
    /// Grows whenever subscriptions of a session that outlives its connection change.
    pub(crate) records_version: u64,
    pub(crate) assigned_count: u64,
    /// Sessions with a connection.
    pub(crate) attached_count: u32,
    /// Steps of authentication that the host was asked about; the last one's number.
    pub(crate) authentication_steps: u64,
    /// No packets are taken from clients until the stop.
    pub(crate) quiet: bool,
    /// Connections so far, those that were turned away or handed over later included.
    pub(crate) accepted_count: u64,
    pub(crate) stopping: bool,
}

impl Engine {
    /// An empty shard at `now`. `entropy` keys its hash tables and the client identifiers it assigns.
    #[must_use]
    pub fn new(limits: Limits, entropy: Entropy, now: Instant) -> Self {
        let hasher = Keyed::new(entropy);
        let generation_bits = limits.generation_bits;
        Self {
            delivery: Delivery {
                limits,
                hasher,
                counters: Counters::default(),
                connections: Slab::new(generation_bits),
                // No host ever holds the name of a session, so nothing stale can bring one.
                sessions: Slab::new(u32::BITS),
                messages: MessageStore::new(),
                outbox_writer: OutboxWriter::default(),
                held: MemoryLedger::default(),
                endings: Vec::new(),
            },
            tree: Tree::new(hasher, Placement::alone()),
            retained: RetainedStore::default(),
            wheel: Wheel::new(now, generation_bits),
            gate: AckGate::new(),
            mesh: Mesh::alone(),
            by_client: HashTable::new(),
            replays: VecDeque::new(),
            blocked_replays: Vec::new(),
            requests_made: 0,
            reassignments: VecDeque::new(),
            starved: Vec::new(),
            pending_hand_overs: Vec::new(),
            scratch: Scratch::default(),
            stored_copy: StoredCopy::default(),
            publish_sequence: 0,
            records_version: 0,
            assigned_count: 0,
            attached_count: 0,
            authentication_steps: 0,
            quiet: false,
            accepted_count: 0,
            stopping: false,
        }
    }

    /// Makes slots for `count` connections ready, so that accepting them allocates none.
    pub fn reserve_connections(&mut self, count: u32) {
        self.delivery.connections.reserve(count);
    }

    /// A network connection was accepted. It has `Limits::connect_timeout_ms` to send its CONNECT.
    pub fn accept(&mut self, now: Instant, admission: Admission) -> ConnectionId {
        match admission {
            Admission::Serve => self.delivery.counters.connections_accepted += 1,
            Admission::TurnAway => self.delivery.counters.connections_refused += 1,
        }
        self.accepted_count += 1;
        let connection = Connection::new(now, admission, self.accepted_count);
        let id = ConnectionId(self.delivery.connections.insert(connection));
        let deadline = now.plus_ms(u64::from(self.delivery.limits.connect_timeout_ms));
        let timer = self.wheel.insert(deadline, Timer::Connection(id));
        self.connection(id).timer = Some(timer);
        id
    }

    /// Takes in what happened, and appends to `actions` what is to be done about it.
    ///
    /// Returns how much of the event was taken: all of it, except that [`Event::Received`] stops
    /// between two packets when credit is short. Names of an earlier generation are counted and ignored.
    pub fn step(&mut self, now: Instant, event: Event<'_>, actions: &mut Actions) -> Consumed {
        let mut consumed = Consumed::of(0);
        match event {
            Event::Received { connection, bytes } => {
                consumed = self.receive(now, connection, bytes, actions);
            }
            Event::Closed { connection, by } => self.closed(now, connection, by, actions),
            Event::Authenticated { connection, step, verdict } => {
                self.on_authenticated(now, connection, step, verdict, actions);
            }
            Event::Durable(batch) => self.on_durable(now, batch, actions),
            Event::Inbox { source, item } => self.on_inbox(now, source, item, actions),
            Event::Announced { target, count } => self.on_announced(now, target, count, actions),
            Event::Sys { topic, payload } => self.on_sys(now, topic, payload, actions),
            Event::Disconnect { connection } => self.close_by_operator(now, connection, actions),
            Event::Tick => {
                self.run_timers(now, actions);
                self.run_replays(now, actions);
            }
            Event::Quiesce => self.quiet = true,
            Event::Stop => self.stop(now, actions),
        }
        self.end_step(now, actions);
        consumed
    }

    /// When [`Event::Tick`] is due next; `None` if nothing is ever due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let idle = self.replays.is_empty() && self.mesh.page_requests.is_empty() && !self.has_reassignments();
        if idle { self.wheel.next_deadline() } else { Some(Instant::default()) }
    }

    /// Lends the next piece of an outbox to be sent.
    ///
    /// # Panics
    /// While a piece of the same outbox is lent.
    pub fn lend(&mut self, id: ConnectionId) -> Lend {
        let Some(connection) = self.delivery.connections.get_mut(id.0) else {
            self.delivery.counters.stale += 1;
            return Lend::Idle;
        };
        if let Some(chunk) = connection.outbox.lend() {
            return Lend::Chunk(chunk);
        }
        match connection.phase {
            Phase::Closing => Lend::Close,
            Phase::Fresh(_)
            | Phase::Authenticating
            | Phase::Accepting(_)
            | Phase::Open(_)
            | Phase::HandingOver => {
                connection.flush_asked = false;
                Lend::Idle
            }
        }
    }

    /// Takes a lent piece back, of which the kernel accepted `sent_bytes`. The room it made is used for
    /// what its session is owed.
    ///
    /// # Panics
    /// If nothing was lent to this connection.
    pub fn give_back(
        &mut self,
        now: Instant,
        id: ConnectionId,
        chunk: Chunk,
        sent_bytes: usize,
        actions: &mut Actions,
    ) {
        let Delivery { connections, sessions, counters, outbox_writer, .. } = &mut self.delivery;
        let connection = connections.get_mut(id.0).expect("a connection lives until its piece is back");
        let delivered = connection.outbox.give_back(&mut outbox_writer.pool, chunk, sent_bytes);
        outbox_writer.bytes_held -= sent_bytes as u64;
        counters.bytes_sent += sent_bytes as u64;
        if delivered > 0 {
            match connection.owner.and_then(|owner| sessions.get_mut(owner.0)) {
                Some(session) => session.ledger.deliver(counters, delivered),
                None => counters.delivered += u64::from(delivered),
            }
        }
        let outbox_bytes = connection.outbox.bytes();
        if outbox_bytes * 2 < u64::from(self.delivery.limits.outbox_bytes_max)
            && let Some(session) = self.delivery.connections.get(id.0).and_then(Connection::session)
        {
            self.delivery.deliver_pending(now, session, actions);
            self.schedule_replays(session);
        }
        self.end_step(now, actions);
    }

    /// The connection that the session of a client identifier has now.
    #[must_use]
    pub fn connection_of(&self, client_id: &str) -> Option<ConnectionId> {
        let session = self.session_of(client_id)?;
        self.delivery.sessions.get(session.0)?.connection
    }

    /// Totals since the start.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.delivery.counters
    }

    /// Network connections that have not ended.
    #[must_use]
    pub fn connection_count(&self) -> u32 {
        self.delivery.connections.len()
    }

    /// Sessions, with and without a connection.
    #[must_use]
    pub fn session_count(&self) -> u32 {
        self.delivery.sessions.len()
    }

    /// Subscriptions of all sessions.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.tree.subscription_count()
    }

    /// Subscriptions that are shared.
    #[must_use]
    pub fn shared_subscription_count(&self) -> usize {
        self.tree.shared_count()
    }

    /// Sessions with a connection.
    #[must_use]
    pub fn attached_count(&self) -> u32 {
        self.attached_count
    }

    /// Messages held, and their bytes: queued, in flight and retained ones, each once.
    #[must_use]
    pub fn store(&self) -> (u32, u64) {
        (self.delivery.messages.len(), self.delivery.messages.bytes_held())
    }

    /// Retained messages of clients.
    #[must_use]
    pub fn retained_count(&self) -> usize {
        self.retained.count_of_clients()
    }

    /// Bytes held, of everything that the ceiling counts.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.delivery.memory_bytes()
    }

    pub(crate) fn connection(&mut self, id: ConnectionId) -> &mut Connection {
        self.delivery.connections.get_mut(id.0).expect("looked up at the start of the step")
    }

    /// The peer broke the protocol: it is told how, if its version can be, and closed.
    pub(crate) fn protocol_error(
        &mut self,
        now: Instant,
        id: ConnectionId,
        reason: ReasonCode,
        actions: &mut Actions,
    ) {
        self.delivery.counters.protocol_errors += 1;
        self.close(now, id, Some(reason), actions);
    }

    fn closed(&mut self, now: Instant, id: ConnectionId, by: ClosedBy, actions: &mut Actions) {
        if self.delivery.connections.get(id.0).is_none() {
            self.delivery.counters.stale += 1;
            return;
        }
        match by {
            ClosedBy::Peer | ClosedBy::Host => self.detach(now, id, actions),
        }
        self.forget_unfinished(id);
        let mut connection = self.delivery.connections.remove(id.0).expect("seen above");
        assert!(!connection.outbox.is_lent());
        if let Some(timer) = connection.timer {
            self.wheel.cancel(timer);
        }
        if connection.starved {
            self.starved.retain(|&starved| starved != id);
        }
        self.pending_hand_overs.retain(|(handing_over, _)| *handing_over != id);
        let Delivery { sessions, counters, outbox_writer, .. } = &mut self.delivery;
        outbox_writer.bytes_held -= connection.outbox.bytes();
        let (sent, lost) = connection.outbox.abandon(&mut outbox_writer.pool);
        let mut nobody = crate::session::table::Ledger::default();
        let ledger = connection
            .owner
            .and_then(|owner| sessions.get_mut(owner.0))
            .map_or(&mut nobody, |session| &mut session.ledger);
        ledger.deliver(counters, sent);
        ledger.drop(counters, crate::counters::DropReason::ConnectionLost, lost);
    }

    fn run_timers(&mut self, now: Instant, actions: &mut Actions) {
        for _ in 0..TIMERS_PER_STEP_MAX {
            let Some(timer) = self.wheel.pop_due(now) else { return };
            self.on_timer(now, timer, actions);
        }
    }

    fn stop(&mut self, now: Instant, actions: &mut Actions) {
        self.quiet = false;
        self.stopping = true;
        let reason = self.stop_reason(ReasonCode::ServerShuttingDown);
        for index in 0..self.delivery.connections.slot_count() {
            if let Some(key) = self.delivery.connections.key_at(index) {
                self.close(now, ConnectionId(key), Some(reason), actions);
            }
        }
    }

    /// Ends what a fan-out found to be at its end. Each ending may publish a will and so find another;
    /// bounded by the sessions and connections, since each ends once.
    pub(crate) fn run_endings(&mut self, now: Instant, actions: &mut Actions) {
        while let Some(ending) = self.delivery.endings.pop() {
            match ending {
                Ending::Connection(id, reason) => self.close(now, id, Some(reason), actions),
                Ending::Session(id, reason) => {
                    let Some(session) = self.delivery.sessions.get(id.0) else { continue };
                    if let Some(connection) = session.connection {
                        self.close(now, connection, Some(reason), actions);
                    }
                    self.end_session(now, id, actions);
                }
            }
        }
    }

    fn end_step(&mut self, now: Instant, actions: &mut Actions) {
        self.run_endings(now, actions);
        self.run_reassignments(now, actions);
        self.run_endings(now, actions);
        self.delivery.held.filters = self.tree.text_bytes();
        self.answer_page_requests(now);
        self.announce_changes();
        self.report_watermarks();
        self.resume_starved(now, actions);
        self.gate.end_step(actions);
    }

    /// Lets connections be read again that waited for memory or for room in a lane.
    pub(crate) fn resume_starved(&mut self, now: Instant, actions: &mut Actions) {
        let short = self.delivery.is_over_memory_ceiling() || !self.mesh.outbound.has_room();
        if self.starved.is_empty() || short {
            return;
        }
        for id in core::mem::take(&mut self.starved) {
            if let Some(connection) = self.delivery.connections.get_mut(id.0) {
                connection.starved = false;
                connection.resume(now, id, actions);
            }
        }
    }
}
