//! The part of a shard that all backends share: it feeds events to its engine, carries out the actions, serves the
//! lanes, and publishes the counters at the end of each turn. It reaches a socket through [`Endpoint`] only, so it
//! works with tasks and with threads.

mod answers;
mod draining;
mod export;
mod identities;
mod journal;
mod judging;
mod lanes;
mod latency;
mod linger;
mod listeners;
mod long_matches;
mod memory;
mod notices;
mod pause;
mod peers;
mod requests;
mod revocation;
mod send;
mod socket;
mod traces;
mod turn;

use std::cell::{Cell, RefCell};
use std::hint;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use crossbeam_channel::Sender;
use engine::{Action, Actions, ClosedBy, ConnectionId, Consumed, Engine, Event};
use tracing::{debug, warn};
use zeroize::Zeroizing;

use super::Parts;
use crate::auth::Authenticator;
use crate::net::layers::ListenerLayers;
use crate::net::listen::ListenerNumber;
use crate::net::permits::{ConnectionPermits, Permit};
use crate::observe::connection_log::ConnectionLog;
use crate::observe::drop_log::DropLog;
use crate::persist::subscriptions_file::Feed;
use crate::process::clock::Clock;
use crate::shard::gauges::Gauges;
use crate::shard::memory_share::MemoryShare;
use judging::Noted;

use draining::Draining;
use export::Export;
pub(crate) use identities::ClientIds;
pub(crate) use journal::Journal;
use lanes::Lanes;
pub(crate) use lanes::{CAPACITY, LaneItem};
pub(super) use lanes::{HandOver, Transport};
use latency::TurnTimes;
pub(super) use linger::Linger;
use long_matches::LongMatches;
use pause::{News, PAUSE_MS, PauseWatch};
use peers::Peers;
pub(super) use send::Flushed;
pub(super) use socket::{Endpoint, Socket, is_transient, lost_by};
use traces::Traces;
pub(super) use turn::Turn;

/// Sockets that are read ahead of their flush: as many as the processor fetches at a time.
pub(super) const TOUCHED_AHEAD: usize = 32;

/// **Lives on:** one thread. **Sees:** the engine of its shard, that engine's sockets, and the lanes to other shards.
pub(super) struct Host<T> {
    pub(super) number: u16,
    pub(super) turn: Turn,
    pub(super) permits: ConnectionPermits,
    pub(super) gauges: Gauges,
    memory: MemoryShare,
    /// Received bytes that the engine has not consumed, and those that the layers of connections hold.
    kept_bytes: Rc<Cell<usize>>,
    /// No more connections are accepted.
    pub(super) stopping: Cell<bool>,
    engine: RefCell<Engine>,
    actions: RefCell<Actions>,
    clock: Clock,
    /// By slot of the connection.
    sockets: RefCell<Vec<Option<Rc<Socket<T>>>>>,
    turns: Cell<u64>,
    turn_times: TurnTimes,
    pauses: PauseWatch,
    long_matches: LongMatches,
    lanes: Lanes,
    authenticator: Authenticator,
    /// The verdicts of this step.
    verdicts: RefCell<Vec<Noted>>,
    client_ids: RefCell<ClientIds>,
    /// The layers that each listener begins its connections with.
    layers: RefCell<ListenerLayers>,
    /// Numbers of listeners that have ended with their clients.
    ended: RefCell<Vec<u16>>,
    /// The shard that receives the next connection, if this one distributes.
    next_target: Option<Cell<u16>>,
    settled: Cell<Option<Sender<()>>>,
    feed: Feed,
    export: Cell<Export>,
    peers: RefCell<Peers>,
    /// The slot of the connection that is looked at next, after lists of certificates have changed, or a listener has ended.
    revocation_at: Cell<Option<usize>>,
    draining: Draining,
    traces: Traces,
    log: RefCell<ConnectionLog>,
    drop_log: RefCell<DropLog>,
    /// `None` if nothing outlives the process.
    journal: Option<RefCell<Box<Journal>>>,
}

/// Steps in a row, before the turn sends, while each of them delivers as much as it may: a message that goes to hundreds is
/// then sent together with those that follow it.
const STEPS_PER_TURN: usize = 16;

/// The parts of a connection that moves to another shard, beside its transport.
pub(super) struct Departed {
    /// CONNECT and the bytes received after it.
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) permit: Permit,
    /// `None` if it has no address.
    pub(super) peer: Option<SocketAddr>,
    /// The name that a proxy gave to the client.
    pub(super) name: Option<Box<str>>,
}

impl<T: Endpoint> Host<T> {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            number: parts.number,
            turn: Turn::default(),
            permits: parts.permits,
            gauges: parts.gauges,
            memory: parts.memory,
            kept_bytes: Rc::default(),
            stopping: Cell::new(false),
            engine: RefCell::new(parts.engine),
            actions: RefCell::default(),
            clock: parts.clock,
            sockets: RefCell::default(),
            turns: Cell::new(0),
            turn_times: TurnTimes::default(),
            pauses: PauseWatch::default(),
            long_matches: LongMatches::default(),
            lanes: Lanes::new(parts.port, parts.doorbells),
            authenticator: parts.authenticator,
            verdicts: RefCell::default(),
            client_ids: RefCell::new(parts.tables.client_ids),
            layers: RefCell::new(parts.tables.layers),
            ended: RefCell::default(),
            next_target: parts.distributes.then(Cell::default),
            settled: Cell::new(Some(parts.settled)),
            feed: parts.feed,
            export: Cell::default(),
            peers: RefCell::default(),
            revocation_at: Cell::new(None),
            draining: Draining::default(),
            traces: Traces::default(),
            log: RefCell::new(parts.log),
            drop_log: RefCell::default(),
            journal: parts.journal.map(RefCell::new),
        }
    }

    /// Feeds an event to the engine and carries out its actions.
    pub(super) fn step(&self, event: Event<'_>) -> Consumed {
        self.begin_turn();
        if let Event::Received { .. } = event {
            self.pauses.hear();
        }
        let now = self.clock.now();
        let mut engine = self.engine.borrow_mut();
        let mut actions = self.actions.borrow_mut();
        let consumed = engine.step(now, event, &mut actions);
        self.carry_out(&mut engine, &mut actions);
        consumed
    }

    /// Offers received bytes to the engine, in a few steps if they are delivered to many.
    fn offer_untraced(&self, connection: ConnectionId, bytes: &[u8]) -> Consumed {
        let mut consumed = self.step(Event::Received { connection, bytes });
        for _ in 1..STEPS_PER_TURN {
            if !consumed.goes_on {
                break;
            }
            let before = consumed.bytes;
            consumed = self.step(Event::Received { connection, bytes: &bytes[before..] });
            consumed.bytes += before;
        }
        consumed
    }

    /// Any task can begin a turn, and it begins with this call.
    fn begin_turn(&self) {
        if self.lanes.unpark() {
            let now_us = self.clock.now_us();
            self.turn_times.begin(now_us);
            self.pauses.begin_turn(self.clock.at_us(now_us));
        }
    }

    fn carry_out(&self, engine: &mut Engine, actions: &mut Actions) {
        while !actions.is_empty() {
            let mut durable = None;
            let mut steps = Vec::new();
            let mut peeks = Vec::new();
            for action in actions.drain() {
                match action {
                    Action::Flush(id) => self.turn.mark_dirty(id),
                    Action::Resume(id) => {
                        if let Some(socket) = self.socket(id) {
                            socket.resume();
                        }
                    }
                    Action::Abort(id) => {
                        if let Some(socket) = self.socket(id) {
                            socket.abort(ClosedBy::Host);
                        }
                    }
                    Action::HandOver { connection, home } => {
                        if let Some(socket) = self.socket(connection) {
                            socket.leave_for(home);
                        }
                    }
                    Action::Peek(id) => peeks.push(id),
                    Action::Authenticate { connection, step } => steps.push((connection, step)),
                    // Without a journal, a batch counts as durable at once.
                    Action::Persist(batch) => durable = Some(batch),
                }
            }
            for (connection, step) in steps {
                let Some(answer) = self.judge(engine, connection, step) else { continue };
                let now = self.clock.now();
                self.note_verdict(connection, &answer);
                answer.pass(now, |verdict| {
                    let event = Event::Authenticated { connection, step, verdict };
                    let _nothing = engine.step(now, event, actions);
                });
            }
            for connection in peeks {
                let socket = self.socket(connection);
                if socket.as_ref().is_some_and(|socket| socket.endpoint.has_ended()) {
                    let _nothing = engine.step(self.clock.now(), Event::HungUp { connection }, actions);
                }
                let has_bytes = socket.is_some_and(|socket| socket.endpoint.has_unread_bytes());
                let answer = Event::Peeked { connection, has_bytes };
                let _nothing = engine.step(self.clock.now(), answer, actions);
            }
            if let Some(batch) = durable {
                let _nothing = engine.step(self.clock.now(), Event::durable(batch), actions);
            }
        }
        self.log_notices(actions);
        self.turn.wake_flusher();
    }

    /// Receives once from the connection that a CONNECT takes over. That CONNECT came over a lane and can be faster than the
    /// last bytes of the old connection, which a client may have ended by DISCONNECT just before.
    pub(super) fn receive_from_rival(&self, newer: ConnectionId, connect: &[u8], buffer: &mut Vec<u8>) {
        let rival = self.engine.borrow().rival(newer, connect);
        let Some(socket) = rival.and_then(|rival| self.socket(rival)) else { return };
        if let Ok(length @ 1..) = socket.endpoint.receive_now(buffer) {
            // The rest would be given up with the connection in any case.
            let _nothing = self.offer(socket.id, &buffer[..length]);
        }
    }

    pub(super) fn socket(&self, id: ConnectionId) -> Option<Rc<Socket<T>>> {
        let sockets = self.sockets.borrow();
        sockets.get(id.slot() as usize)?.as_ref().filter(|socket| socket.id == id).cloned()
    }

    /// Reads from the sockets of connections that are flushed next, all at once: none is in a cache after the thousands that
    /// came before it, and after the system call of a flush each miss would be waited for alone.
    pub(super) fn touch(&self, ids: &[ConnectionId]) {
        let sockets = self.sockets.borrow();
        let known = |id: &&ConnectionId| {
            sockets
                .get(id.slot() as usize)
                .is_some_and(|socket| socket.as_ref().is_some_and(|it| it.id == **id))
        };
        hint::black_box(ids.iter().filter(known).count());
    }

    /// Registers a connection with the engine; `make` creates its endpoint for the given identity.
    pub(super) fn open(
        &self,
        permit: Permit,
        (listener, peer): (ListenerNumber, Option<SocketAddr>),
        make: impl FnOnce(ConnectionId) -> T,
    ) -> Rc<Socket<T>> {
        self.pauses.hear();
        let now = self.clock.now();
        let id = self.engine.borrow_mut().accept(now, permit.admission, permit.arrival, listener.number());
        self.peers.borrow_mut().set(id.slot(), peer, now.as_ms());
        self.tell_address(id, listener, peer);
        let socket = Rc::new(Socket::new(id, make(id), permit.admission, listener));
        let mut sockets = self.sockets.borrow_mut();
        let slot = id.slot() as usize;
        if sockets.len() <= slot {
            sockets.resize_with(slot + 1, || None);
        }
        sockets[slot] = Some(Rc::clone(&socket));
        socket
    }

    pub(super) fn close(&self, socket: &Socket<T>, by: ClosedBy) {
        debug!(shard = self.number, connection = socket.id.slot(), "network connection gone");
        let _nothing = self.step(Event::Closed { connection: socket.id, by });
        let peer = self.peers.borrow().address(socket.id.slot());
        self.forget(socket);
        if socket.is_lingering() {
            self.permits.end_linger();
        }
        self.permits.release(socket.admission.get(), socket.listener, peer);
    }

    fn forget(&self, socket: &Socket<T>) {
        self.sockets.borrow_mut()[socket.id.slot() as usize] = None;
        self.peers.borrow_mut().forget(socket.id.slot());
    }

    /// The shard that serves the next new connection; this one where the system distributes connections.
    pub(super) fn take_target(&self) -> u16 {
        let Some(next) = &self.next_target else { return self.number };
        let target = next.get();
        next.set((target + 1) % self.lanes.shard_count());
        target
    }

    /// Takes the bytes of a connection that moves to the shard of its session; `rest` is the part that the engine did
    /// not consume. `None` if the connection ended in the same step; it is then closed.
    pub(super) fn depart(&self, socket: &Socket<T>, home: u16, rest: &[u8]) -> Option<Departed> {
        let arrival = self.engine.borrow().arrival_of(socket.id);
        let departed = self.engine.borrow_mut().complete_hand_over(socket.id);
        let Some((connect, arrival)) = departed.zip(arrival) else {
            self.close(socket, ClosedBy::Host);
            return None;
        };
        let connect = Zeroizing::new(connect);
        // A vector that grows leaves what it had in the block that the allocator takes back.
        let mut bytes = Zeroizing::new(Vec::with_capacity(connect.len() + rest.len()));
        bytes.extend_from_slice(&connect);
        bytes.extend_from_slice(rest);
        let (connection, listener) = (socket.id.slot(), socket.listener);
        let peer = self.peers.borrow().address(connection);
        let name = self.peers.borrow().name(connection).map(Into::into);
        self.forget(socket);
        debug!(shard = self.number, connection, %listener, ?peer, home, "handed over");
        Some(Departed { bytes, permit: Permit { admission: socket.admission.get(), arrival }, peer, name })
    }

    /// Runs the timers of the engine if they are due, after everything that was received in this turn. Timers of a
    /// runtime fire only when the thread sleeps, so each turn checks the deadline.
    pub(super) fn tick_if_due(&self) {
        let now = self.clock.now();
        let is_due = || self.engine.borrow().next_deadline().is_some_and(|due| due <= now);
        if is_due() || self.pauses.late_ms(now) > PAUSE_MS || self.pauses.is_catching_up() {
            self.look_for_pause(now);
        }
        for _ in 0..STEPS_PER_TURN {
            if !is_due() || !self.step(Event::Tick).goes_on {
                return;
            }
        }
    }

    fn look_for_pause(&self, now: engine::Instant) {
        match self.pauses.look(now, self.clock.suspended_ms()) {
            None => {}
            Some(News::Paused { late_ms, was_suspended, is_logged }) => {
                if is_logged {
                    warn!(
                        shard = self.number,
                        late_ms,
                        was_suspended,
                        "the shard was paused; it reads what came meanwhile before it judges clients to be silent"
                    );
                }
                let _nothing = self.step(Event::Paused { was_suspended });
            }
            Some(News::CaughtUp) => {
                let _nothing = self.step(Event::CaughtUp);
            }
        }
    }

    /// The end of a turn: publishes the counters. Returns the time at which the shard has to wake by itself.
    pub(super) fn end_turn(&self) -> Option<Instant> {
        self.take_turn_times();
        self.serve_journal();
        self.checkpoint_slice();
        self.export_slice();
        self.look_for_revoked();
        self.turns.set(self.turns.get() + 1);
        self.long_matches.tell(self.number, || self.clock.now().as_ms(), &self.engine);
        let mut engine = self.engine.borrow_mut();
        self.weigh(&mut engine);
        if let Some(settled) = self.settled.take() {
            if engine.is_settled() {
                // The receiver is gone only if the start has failed.
                let _ = settled.send(());
            } else {
                self.settled.set(Some(settled));
            }
        }
        let due = if self.is_exporting() || self.is_looking_for_revoked() {
            Some(engine::Instant::default())
        } else {
            engine.next_deadline()
        };
        let wake = self.pauses.end_turn(due).map(|moment| self.clock.system(moment));
        drop(engine);
        [wake, self.journal_deadline()].into_iter().flatten().min()
    }

    /// Accepts no more packets from clients.
    pub(super) fn quiesce(&self) {
        self.stopping.set(true);
        let _nothing = self.step(Event::Quiesce);
    }

    /// Whether no message is in flight between this shard and the others.
    pub(super) fn is_idle(&self) -> bool {
        self.engine.borrow().is_outbound_empty() && self.lanes.is_idle()
    }

    /// The last action of a shard: publishes its counters and exports its sessions.
    pub(super) fn end(&self) {
        self.end_journal();
        let engine = self.engine.borrow();
        self.gauges.update(&engine, &engine.memory_use(), self.turns.get());
        if self.journal.is_none() {
            self.gauges.set_pending_at_end(engine.pending_count());
            self.export_last(&engine);
        }
        self.log.borrow_mut().end();
    }
}
