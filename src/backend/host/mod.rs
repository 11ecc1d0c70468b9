//! What every shard does, on whatever its bytes move: it hosts an engine, feeds it, carries out what that asks for, keeps
//! the lanes, and shows itself at the end of each turn.
//! Knows no runtime, no task and no thread; of a socket it knows what [`Endpoint`] says.

mod export;
mod lanes;
mod linger;
mod socket;
mod turn;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Instant;

use crossbeam_channel::Sender;
use engine::{Action, Actions, Admission, Chunk, ClosedBy, ConnectionId, Consumed, Engine, Event, Lend};
use tracing::{debug, info};

use super::Parts;
use crate::admin::operator::DisconnectCommand;
use crate::auth;
use crate::net::listen::ListenerNumber;
use crate::net::permits::ConnectionPermits;
use crate::observe::sys_topics::SysMessage;
use crate::persist::subscriptions_file::Feed;
use crate::process::clock::Clock;
use crate::shard::gauges::Gauges;

use export::Export;
use lanes::Lanes;
pub(crate) use lanes::{CAPACITY, LaneItem};
pub(super) use lanes::{HandOver, Transport};
pub(super) use linger::Linger;
pub(super) use socket::{Endpoint, Socket};
use turn::Turn;

/// Pieces sent to one connection in a turn; a fast reader with a long queue must not hold up the others.
const PIECES_PER_TURN: usize = 16;

/// **Lives on:** one thread. **Sees:** the engine of its shard, that engine's sockets, and the lanes to other shards.
pub(super) struct Host<T> {
    pub(super) number: u16,
    pub(super) turn: Turn,
    pub(super) permits: ConnectionPermits,
    pub(super) gauges: Gauges,
    /// No more connections are accepted.
    pub(super) stopping: Cell<bool>,
    engine: RefCell<Engine>,
    actions: RefCell<Actions>,
    clock: Clock,
    /// By slot of the connection.
    sockets: RefCell<Vec<Option<Rc<Socket<T>>>>>,
    turns: Cell<u64>,
    lanes: Lanes,
    /// The shard that is dealt the next connection, if this one deals.
    next_target: Option<Cell<u16>>,
    settled: Cell<Option<Sender<()>>>,
    feed: Feed,
    export: Cell<Export>,
}

/// How a flush of one connection ended.
pub(super) enum Flushed {
    Done,
    /// There may be more: once again next turn.
    More,
    /// The socket takes no more for now.
    Blocked,
}

impl<T: Endpoint> Host<T> {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            number: parts.number,
            turn: Turn::default(),
            permits: parts.permits,
            gauges: parts.gauges,
            stopping: Cell::new(false),
            engine: RefCell::new(parts.engine),
            actions: RefCell::default(),
            clock: parts.clock,
            sockets: RefCell::default(),
            turns: Cell::new(0),
            lanes: Lanes::new(parts.port, parts.doorbells),
            next_target: parts.distributes.then(Cell::default),
            settled: Cell::new(Some(parts.settled)),
            feed: parts.feed,
            export: Cell::default(),
        }
    }

    /// Feeds the engine and carries out what it asks for.
    pub(super) fn step(&self, event: Event<'_>) -> Consumed {
        // Whichever task begins a turn, it begins with this.
        self.lanes.unpark();
        let now = self.clock.now();
        let mut engine = self.engine.borrow_mut();
        let mut actions = self.actions.borrow_mut();
        let consumed = engine.step(now, event, &mut actions);
        self.carry_out(&mut engine, &mut actions);
        consumed
    }

    fn carry_out(&self, engine: &mut Engine, actions: &mut Actions) {
        while !actions.is_empty() {
            let mut durable = None;
            let mut steps = Vec::new();
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
                            socket.abort();
                        }
                    }
                    Action::HandOver { connection, home } => {
                        if let Some(socket) = self.socket(connection) {
                            socket.leave_for(home);
                        }
                    }
                    Action::Authenticate { connection, step } => steps.push((connection, step)),
                    // There is no journal yet, so what was asked to be durable is so at once.
                    Action::Persist(batch) => durable = Some(batch),
                }
            }
            for (connection, step) in steps {
                let Some(exchange) = engine.authentication_step(connection, step) else { continue };
                let challenge = format!("{}-{}", connection.slot(), connection.generation());
                let verdict = auth::judge(&exchange, challenge.as_bytes());
                let answer = Event::Authenticated { connection, step, verdict };
                let _nothing = engine.step(self.clock.now(), answer, actions);
            }
            if let Some(batch) = durable {
                let _nothing = engine.step(self.clock.now(), Event::Durable(batch), actions);
            }
        }
        self.turn.wake_flusher();
    }

    pub(super) fn socket(&self, id: ConnectionId) -> Option<Rc<Socket<T>>> {
        let sockets = self.sockets.borrow();
        sockets.get(id.slot() as usize)?.as_ref().filter(|socket| socket.id == id).cloned()
    }

    /// Has the engine accept a connection; `make` makes its endpoint, told its identity.
    pub(super) fn open(
        &self,
        admission: Admission,
        listener: ListenerNumber,
        make: impl FnOnce(ConnectionId) -> T,
    ) -> Rc<Socket<T>> {
        let id = self.engine.borrow_mut().accept(self.clock.now(), admission);
        let socket = Rc::new(Socket::new(id, make(id), admission, listener));
        let mut sockets = self.sockets.borrow_mut();
        let slot = id.slot() as usize;
        if sockets.len() <= slot {
            sockets.resize_with(slot + 1, || None);
        }
        sockets[slot] = Some(Rc::clone(&socket));
        socket
    }

    pub(super) fn close(&self, socket: &Socket<T>, by: ClosedBy) {
        debug!(shard = self.number, connection = socket.id.slot(), ?by, "closed");
        let _nothing = self.step(Event::Closed { connection: socket.id, by });
        self.forget(socket);
        if socket.is_lingering() {
            self.permits.end_linger();
        }
        self.permits.release(socket.admission);
    }

    fn forget(&self, socket: &Socket<T>) {
        self.sockets.borrow_mut()[socket.id.slot() as usize] = None;
    }

    /// The shard that is to serve a new connection: this one where the system deals them.
    pub(super) fn take_target(&self) -> u16 {
        let Some(next) = &self.next_target else { return self.number };
        let target = next.get();
        next.set((target + 1) % self.lanes.shard_count());
        target
    }

    /// Takes what a connection that leaves for its home has said so far; `rest` is what the engine did not consume. `None`
    /// if it ended in the same step: then it is closed.
    pub(super) fn depart(&self, socket: &Socket<T>, home: u16, rest: &[u8]) -> Option<Vec<u8>> {
        let departed = self.engine.borrow_mut().depart(socket.id);
        let Some(mut bytes) = departed else {
            self.close(socket, ClosedBy::Host);
            return None;
        };
        bytes.extend_from_slice(rest);
        self.forget(socket);
        let (connection, listener, peer) = (socket.id.slot(), socket.listener, socket.peer());
        debug!(shard = self.number, connection, %listener, ?peer, home, "handed over");
        Some(bytes)
    }

    /// Timers of a runtime come only when the thread sleeps, so while it is busy each turn looks.
    pub(super) fn tick_if_due(&self) {
        let due = self.engine.borrow().next_deadline();
        if due.is_some_and(|due| due <= self.clock.now()) {
            let _nothing = self.step(Event::Tick);
        }
    }

    /// Sends what an outbox holds, as far as the socket takes it.
    pub(super) fn flush(&self, socket: &Socket<T>) -> Flushed {
        let mut engine = self.engine.borrow_mut();
        let mut actions = self.actions.borrow_mut();
        let mut flushed = Flushed::More;
        for _ in 0..PIECES_PER_TURN {
            let chunk = match engine.lend(socket.id) {
                Lend::Chunk(chunk) => chunk,
                Lend::Idle => {
                    flushed = Flushed::Done;
                    break;
                }
                Lend::Close => {
                    if socket.end_sending() {
                        self.permits.begin_linger();
                    }
                    flushed = Flushed::Done;
                    break;
                }
            };
            let length = chunk.as_bytes().len();
            let sent = socket.endpoint.send(chunk.as_bytes());
            let sent_bytes = *sent.as_ref().unwrap_or(&0);
            engine.give_back(self.clock.now(), socket.id, chunk, sent_bytes, &mut actions);
            match sent {
                Ok(sent) if sent == length => {}
                Ok(_) => {
                    flushed = Flushed::Blocked;
                    break;
                }
                Err(refused) if is_transient(&refused) => {
                    flushed = Flushed::Blocked;
                    break;
                }
                Err(_) => {
                    // The peer is gone: who receives from it learns that next.
                    socket.abort();
                    flushed = Flushed::Done;
                    break;
                }
            }
        }
        self.carry_out(&mut engine, &mut actions);
        flushed
    }

    /// Lends the next piece of an outbox to somebody who sends it later.
    pub(super) fn lend(&self, id: ConnectionId) -> Lend {
        self.engine.borrow_mut().lend(id)
    }

    /// Takes a lent piece back, of which so many bytes were sent.
    pub(super) fn give_back(&self, id: ConnectionId, chunk: Chunk, sent_bytes: usize) {
        // It may be the first thing of a turn.
        self.lanes.unpark();
        let mut engine = self.engine.borrow_mut();
        let mut actions = self.actions.borrow_mut();
        engine.give_back(self.clock.now(), id, chunk, sent_bytes, &mut actions);
        self.carry_out(&mut engine, &mut actions);
    }

    /// The end of a turn: what others see of this shard. Returns when it has to wake by itself.
    pub(super) fn end_turn(&self) -> Option<Instant> {
        self.export_slice();
        self.turns.set(self.turns.get() + 1);
        let engine = self.engine.borrow();
        self.gauges.update(&engine, self.turns.get());
        if let Some(settled) = self.settled.take() {
            if engine.is_settled() {
                // Nobody listens any more only if the start has failed.
                let _ = settled.send(());
            } else {
                self.settled.set(Some(settled));
            }
        }
        let due = if self.is_exporting() { Some(engine::Instant::default()) } else { engine.next_deadline() };
        due.map(|moment| self.clock.system(moment))
    }

    /// Publishes messages of the broker's own.
    pub(super) fn publish_sys(&self, messages: &[SysMessage]) {
        for (topic, payload) in messages {
            let payload = payload.as_bytes();
            let _nothing = self.step(Event::Sys { topic, payload });
        }
    }

    /// Closes the connection of a client, if it has one, and answers whether.
    pub(super) fn disconnect(&self, command: &DisconnectCommand) {
        let connection = self.engine.borrow().connection_of(&command.client_id);
        if let Some(connection) = connection {
            // Peers' text belongs to debug, but this is the operator's.
            info!(shard = self.number, connection = connection.slot(), client_id = ?command.client_id, "disconnected by the operator");
            let _nothing = self.step(Event::Disconnect { connection });
        }
        // Whoever asked may have waited long enough.
        let _ = command.answer.try_send(connection.is_some());
    }

    /// Takes no more packets from clients.
    pub(super) fn quiesce(&self) {
        self.stopping.set(true);
        let _nothing = self.step(Event::Quiesce);
    }

    /// Whether nothing is on its way between this shard and the others.
    pub(super) fn is_idle(&self) -> bool {
        self.engine.borrow().has_nothing_to_say() && self.lanes.is_idle()
    }

    /// The last thing of a shard: what it leaves behind is shown and handed over.
    pub(super) fn end(&self) {
        let engine = self.engine.borrow();
        self.gauges.update(&engine, self.turns.get());
        self.export_last(&engine);
    }
}

/// Whether a send or a receive that was refused need only be tried again.
pub(super) fn is_transient(refused: &io::Error) -> bool {
    matches!(refused.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
