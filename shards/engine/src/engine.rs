//! One shard: the state machine that composes the rooms, and its one entrance.
//!
//! Rooms never call each other upwards: a room returns what it wants done elsewhere, and the files below this one carry
//! it on. They alone see all rooms.

mod audit;
mod backlog;
mod checkpoint;
mod close;
mod connect;
mod deal;
mod fan_out;
mod forward;
mod groups;
mod inbox;
mod inspect;
mod introduce;
mod long_match;
mod long_packet;
mod memory;
mod notices;
mod ownership;
mod portable;
mod publish;
mod receive;
mod record;
mod recover;
mod recovering;
mod replay;
mod rules;
mod shedding;
mod snapshot;
mod subscribe;
mod summary;
mod survey;
mod timers;
mod transfers;
mod unasked;
mod users;
mod will;

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::action::Actions;
use crate::base::hash::{Entropy, Keyed};
use crate::base::ids::ConnectionId;
use crate::base::time::Instant;
use crate::cause::Cause;
use crate::connection::Admission;
use crate::connection::arrival::Arrival;
use crate::connection::outbox::{Chunk, Lend};
use crate::counters::Counters;
use crate::event::{Consumed, Event};
use crate::limits::Limits;
use crate::memory::{Held, HostMemory, MemoryLevel, Pressure, Shedding};
use crate::mesh::Mesh;
use crate::mesh::outbound::{LaneKind, OutboundItem};
use crate::mesh::topology::Topology;
use crate::notice::LongMatch;
use crate::publish::Delivery;
use crate::record::Recorder;
use crate::retained::Retained;
use crate::rules_in_force::RulesInForce;
use crate::session::user_changes::UserChanges;
use crate::shared::Shared;
use crate::timer::Timers;
use crate::topic::tree::Tree;
use crate::turn::{Ending, Turn};

use backlog::Backlog;
use recovering::{Due, Recovering};

pub use audit::{Audit, SessionAudit};
pub use checkpoint::CheckpointCursor;
pub use deal::Dealing;
pub use portable::{Portable, PortableMessage};
pub use recover::RecoverFault;
pub use summary::{ClientSummary, SessionSummary, StreamPosition};
pub use survey::{ReceiverCursor, ReceiverSummary, RetainedSummary, SubscriptionSummary, SurveyChanged};

/// One shard: its connections, sessions, subscriptions and retained messages.
///
/// The order of calls, in one turn of the host:
/// 1. [`Engine::accept`] for each accepted socket, [`Engine::step`] for each event;
///    [`Engine::step`] with [`Event::Tick`] once [`Engine::next_deadline`] has come.
/// 2. Carry out the [`crate::Action`]s. [`crate::Action::Persist`] is answered by [`Event::Durable`]
///    when it is so.
/// 3. For each [`crate::Action::Flush`]: [`Engine::lend`], send, [`Engine::give_back`], until `lend` answers
///    [`Lend::Idle`] or [`Lend::Close`]. Nothing else may happen to a lent piece.
/// 4. [`Event::Closed`] for a socket that is gone, after its lent piece was given back.
///
/// **Lives on:** one shard. **Sees:** what its host feeds it.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    counters: Counters,
    timers: Timers,
    held: Held,
    endings: Vec<Ending>,
    /// Units of work that the last call did.
    step_work: u32,
    rules: Option<Box<RulesInForce>>,
    /// `None` without a log.
    recorder: Option<Box<Recorder>>,
    /// Counts the changes of the rules.
    rules_generation: u32,
    rooms: Rooms,
}

/// The rooms of a shard, and the little that belongs to none of them.
#[derive(Debug)]
struct Rooms {
    topics: Tree,
    delivery: Delivery,
    retained: Retained,
    shared: Shared,
    mesh: Mesh,
    backlog: Backlog,
    hasher: Keyed,
    /// Filters that the topic of a publish matches; kept for its allocation.
    filters: Vec<u32>,
    /// Encoded properties of a publish; kept for its allocation.
    forwarded: Vec<u8>,
    /// Boxed, because it is rare.
    long_match: Option<Box<LongMatch>>,
    /// Client identifiers assigned so far.
    assigned_count: u64,
    /// Ticks so far, modulo 256: the one that comes first in a tick changes with it.
    ticks: u8,
    /// The host was paused and has not caught up: nothing is judged to be late.
    paused: bool,
    /// The slot of the connection that the stop closes next.
    stop_at: Option<u32>,
    /// Bytes that the host holds.
    host: HostMemory,
    /// Bytes of records on their way to the log, when the host took some last.
    record_bytes: u64,
    pressure: Pressure,
    /// The part of a log that was read, until all of it is.
    recovering: Option<Box<Recovering>>,
    /// Wills that are due since recovery, until the interest of all shards is known.
    due: Option<Box<Due>>,
    /// The slot of the session that the sweep comes to next, after a change of the rules.
    sweep_at: Option<u32>,
    user_changes: UserChanges,
    shedding: Shedding,
    /// No packets are taken from clients until the stop.
    quiet: bool,
    /// The shard is drained or stops, so clients are refused.
    refuses: Option<Cause>,
}

impl Engine {
    /// An empty shard at `now`. `entropy` keys its hash tables and the client identifiers it assigns.
    ///
    /// # Panics
    /// If a step may do no work.
    #[must_use]
    pub fn new(limits: Limits, entropy: Entropy, now: Instant) -> Self {
        let hasher = Keyed::new(entropy);
        let generation_bits = limits.generation_bits;
        assert!(limits.step_work_max > 0);
        let recorder = limits.journal_start.map(|start| Box::new(Recorder::new(start)));
        let mesh = Mesh::alone();
        let rooms = Rooms {
            topics: Tree::new(hasher),
            delivery: Delivery::new(hasher, &limits),
            retained: Retained::new(0, 1, mesh.placement().fingerprints()),
            shared: Shared::default(),
            mesh,
            backlog: Backlog::default(),
            hasher,
            filters: Vec::new(),
            forwarded: Vec::new(),
            long_match: None,
            assigned_count: 0,
            ticks: 0,
            paused: false,
            stop_at: None,
            host: HostMemory::default(),
            record_bytes: 0,
            pressure: Pressure::new(&limits),
            recovering: None,
            due: None,
            sweep_at: None,
            user_changes: UserChanges::default(),
            shedding: Shedding::default(),
            quiet: false,
            refuses: None,
        };
        Self {
            limits,
            counters: Counters::default(),
            timers: Timers::new(now, generation_bits),
            held: Held::default(),
            endings: Vec::new(),
            step_work: 0,
            rules: None,
            recorder,
            rules_generation: 0,
            rooms,
        }
    }

    /// Makes this shard one of several. To be called before anything else.
    ///
    /// # Panics
    /// If the topology contradicts itself or the engine has seen something already.
    #[must_use]
    pub fn in_mesh(mut self, topology: Topology) -> Self {
        let Rooms { topics, delivery, retained, mesh, .. } = &mut self.rooms;
        assert!(delivery.connections.len() == 0 && delivery.sessions.len() == 0);
        *mesh = Mesh::new(topology);
        let fingerprints = mesh.placement().fingerprints();
        // The log names groups by them.
        topics.name_groups_by(fingerprints);
        *retained = Retained::new(topology.own, usize::from(topology.shard_count), fingerprints);
        if mesh.placement().is_meshed() {
            topics.share_names(fingerprints);
        }
        if self.recorder.is_some() {
            mesh.await_recovery();
        }
        self
    }

    /// A network connection was accepted. It has `Limits::connect_timeout_ms` to send its CONNECT.
    ///
    /// Of two connections with one client identifier the one that came later stays, by their `arrival`. `listener` is the number
    /// of the one that accepted it: its place in `Limits::listeners`.
    pub fn accept(
        &mut self,
        now: Instant,
        admission: Admission,
        arrival: Arrival,
        listener: u16,
    ) -> ConnectionId {
        // No action follows from a connection that has sent nothing.
        let mut actions = Actions::new();
        let (rooms, mut turn) = self.turn(now, &mut actions);
        rooms.delivery.connections.accept(&mut turn, admission, arrival, listener)
    }

    /// Takes in an event, and appends to `actions` what is to be done about it.
    ///
    /// Returns how much of the event was taken: all of it, except that [`Event::Received`] stops
    /// between two packets when credit is short, or when the step has done its share of work. Names of an earlier generation are
    /// counted and ignored.
    pub fn step(&mut self, now: Instant, event: Event<'_>, actions: &mut Actions) -> Consumed {
        match event {
            Event::Rules(rules) => self.change_rules(now, rules, actions),
            Event::Limits(live) => self.limits.set_live(live),
            Event::Drain { server_reference, .. } => self.limits.server_reference = server_reference.into(),
            _ => {}
        }
        let (rooms, mut turn) = self.turn(now, actions);
        let turn = &mut turn;
        let mut consumed = Consumed::of(0);
        match event {
            Event::Received { connection, bytes } => consumed = rooms.receive(turn, connection, bytes),
            Event::Closed { connection, by } => rooms.on_closed(turn, connection, by),
            Event::Authenticated { connection, step, verdict } => {
                rooms.on_authenticated(turn, connection, step, verdict);
            }
            Event::Peeked { connection, has_bytes } => rooms.on_peeked(turn, connection, has_bytes),
            Event::HungUp { connection } => rooms.delivery.connections.on_hung_up(turn, connection),
            Event::Paused { was_suspended } => rooms.on_paused(turn, was_suspended),
            Event::CaughtUp => rooms.paused = false,
            Event::Durable { written, synced } => rooms.on_durable(turn, written, synced),
            Event::LogRoom(room) => rooms.on_log_room(turn, room),
            Event::Inbox { source, item } => rooms.on_inbox(turn, source, item),
            Event::Announced { target, count } => rooms.on_announced(turn, target, count),
            Event::Sys { topic, payload } => rooms.publish_sys(turn, topic, payload),
            Event::Publish { topic, payload, qos, retain } => {
                rooms.publish_of_operator(turn, (topic, payload), qos, retain);
            }
            Event::TurnAway { connection, refused } => {
                rooms.delivery.connections.turn_away(turn, connection, refused);
            }
            Event::Disconnect { connection } => rooms.close_by_operator(turn, connection),
            Event::EndSession { client_id } => rooms.end_session_of(turn, client_id),
            Event::GiveSession { client_id, grant } => rooms.give_session(turn, client_id, grant),
            Event::Rules(_) => rooms.begin_sweep(),
            Event::Limits(_) => {}
            Event::Users { gone, renewed } => rooms.change_users(turn, gone, renewed),
            Event::Revoked { connection } => rooms.close_revoked(turn, connection),
            Event::Drain { is_on, .. } => rooms.drain(is_on),
            Event::SendAway { connection } => rooms.send_away(turn, connection),
            Event::Tick => {
                rooms.tick(turn);
                consumed.goes_on = rooms.backlog.has_fan_out() && turn.was_delivering();
            }
            Event::Quiesce => rooms.quiet = true,
            Event::Stop => rooms.stop(turn),
        }
        rooms.end_step(turn);
        self.step_work = turn.work();
        if matches!(event, Event::Tick) {
            self.end_sweep();
        }
        consumed
    }

    /// When [`Event::Tick`] is due next; `None` if nothing is ever due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let Rooms { retained, delivery, backlog, .. } = &self.rooms;
        let idle = retained.is_idle()
            && backlog.is_empty()
            && self.rooms.stop_at.is_none()
            && self.rooms.sweep_at.is_none()
            && self.rooms.user_changes.is_empty()
            && delivery.messages.is_tidy()
            && !delivery.has_unfinished()
            && !delivery.has_durable()
            && !self.rooms.may_reassign()
            && !self.may_resume();
        if !idle {
            return Some(Instant::default());
        }
        if self.rooms.paused || !self.rooms.mesh.is_whole() {
            return None;
        }
        let shedding = self.rooms.shedding.deadline(&self.rooms.pressure);
        self.timers.next_deadline().into_iter().chain(shedding).min()
    }

    /// Lends the next piece of an outbox to be sent.
    ///
    /// # Panics
    /// While a piece of the same outbox is lent.
    pub fn lend(&mut self, id: ConnectionId) -> Lend {
        self.rooms.delivery.connections.lend(id).unwrap_or_else(|| {
            self.counters.stale += 1;
            Lend::Idle
        })
    }

    /// Takes a lent piece back, of which the kernel accepted `sent_bytes`. The room it made is used for
    /// the pending messages of its session.
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
        let (rooms, mut turn) = self.turn(now, actions);
        let Rooms { delivery, retained, .. } = rooms;
        let (owner, delivered) = delivery.connections.give_back(id, chunk, sent_bytes);
        turn.counters.bytes_sent += sent_bytes as u64;
        if delivered > 0 {
            match owner.and_then(|owner| delivery.sessions.get_mut(owner)) {
                Some(session) => session.count_delivered(turn.counters, delivered),
                None => turn.counters.delivered += u64::from(delivered),
            }
        }
        let connection = delivery.connections.get(id);
        if let Some(connection) = connection.filter(|connection| connection.is_outbox_half_empty(turn.limits))
            && let Some(session) = connection.session()
        {
            delivery.deliver_pending(&mut turn, session);
            retained.schedule(&mut delivery.sessions, session);
        }
        rooms.end_step(&mut turn);
        self.step_work = turn.work();
    }

    /// Gives up a connection whose [`crate::Action::HandOver`] was asked for, and returns the bytes of its CONNECT,
    /// which the other shard receives first. Its identity ends here; `None` if it has ended or begun to close
    /// meanwhile: then the host closes it.
    pub fn complete_hand_over(&mut self, id: ConnectionId) -> Option<Vec<u8>> {
        let mut actions = Actions::new();
        let (rooms, mut turn) = self.turn(Instant::default(), &mut actions);
        rooms.delivery.connections.complete_hand_over(&mut turn, id)
    }

    /// The next item for a lane, which has room for it; the host pushes it and rings. Taking items may
    /// give connections credit again, so `actions` are to be carried out afterwards.
    pub fn take_outbound(
        &mut self,
        now: Instant,
        target: u16,
        lane: LaneKind,
        actions: &mut Actions,
    ) -> Option<OutboundItem> {
        let (rooms, mut turn) = self.turn(now, actions);
        let item = rooms.mesh.outbound_mut().take(target, lane)?;
        rooms.resume_starved(&mut turn);
        Some(item)
    }

    /// Takes an empty block back, for the next item.
    pub fn recycle(&mut self, block: Vec<u8>) {
        self.rooms.mesh.outbound_mut().recycle(block);
    }

    /// Whether connections wait though nothing is short any more: a step resumes a bounded number of them.
    fn may_resume(&self) -> bool {
        let Rooms { delivery, pressure, .. } = &self.rooms;
        let may_resume_starved = self.rooms.may_resume_starved();
        may_resume_starved || (delivery.connections.has_delayed() && pressure.may_resume())
    }

    fn turn<'a>(&'a mut self, now: Instant, actions: &'a mut Actions) -> (&'a mut Rooms, Turn<'a>) {
        let Self { limits, counters, timers, held, endings, rules, recorder, rooms, .. } = self;
        let mut turn = Turn::new(now, limits, actions, (counters, held), timers, endings);
        turn.set_outbox_bytes_max(rooms.pressure.outbox_bytes_max());
        turn.set_rules(rules.as_deref(), rooms.sweep_at.is_some());
        turn.set_recorder(recorder.as_deref_mut());
        (rooms, turn)
    }
}

impl Rooms {
    /// Whether connections wait that need not: for room in a lane, or for the backlog.
    fn may_resume_starved(&self) -> bool {
        self.mesh.outbound().has_room() && self.delivery.connections.has_starved(self.backlog.hold())
    }

    /// Ends what a packet or event found to be at its end, and opens what it opened. Each ending may publish a will and so
    /// find another; bounded by the sessions and connections, since each ends once.
    #[inline]
    fn settle(&mut self, turn: &mut Turn<'_>) {
        // Most packets open nothing and end nothing.
        if self.delivery.connections.has_opened() || !turn.endings.is_empty() {
            self.settle_all(turn);
        }
    }

    #[cold]
    fn settle_all(&mut self, turn: &mut Turn<'_>) {
        while let Some(session) = self.delivery.connections.pop_opened() {
            self.on_opened(turn, session);
        }
        while let Some(ending) = turn.endings.pop() {
            match ending {
                Ending::Session(id, cause) if turn.is_overdrawn() => self.backlog.push_ending(id, cause),
                ending => self.end(turn, ending),
            }
        }
    }

    fn end_step(&mut self, turn: &mut Turn<'_>) {
        self.settle(turn);
        if self.may_reassign() {
            self.run_reassignments(turn);
            self.settle(turn);
        }
        // Most steps have none of these.
        if !self.retained.has_no_ready_request() {
            self.answer_page_requests(turn);
        }
        if self.topics.has_change() {
            self.announce_changes();
        }
        self.report_watermarks();
        if self.mesh.transfers().has_untold() {
            self.tell_settled();
        }
        self.delivery.messages.end_step();
        // A long fan-out goes on in steps that count nothing.
        if self.pressure.level() != MemoryLevel::Normal || !self.backlog.is_empty() {
            self.weigh(turn);
        }
        if self.delivery.connections.has_waiting() {
            self.resume_starved(turn);
        }
        assert!(turn.endings.is_empty());
        self.delivery.connections.end_step(turn);
    }

    /// Lets connections be read again that waited for room in a lane.
    fn resume_starved(&mut self, turn: &mut Turn<'_>) {
        if self.may_resume_starved() {
            self.delivery.connections.resume_starved(turn, self.backlog.hold());
        }
        if self.delivery.connections.has_delayed() && self.pressure.may_resume() {
            self.delivery.connections.resume_delayed(turn);
        }
    }
}
