//! A shard on monoio: io_uring or epoll on Linux, kqueue on macOS.
//!
//! Everything here runs on the shard's one thread. A connection is one task that waits until its socket is
//! readable and receives into a buffer shared by the shard; what is to be sent leaves once a turn from the
//! flusher, by `send(2)`. `bench/runtimes` holds the measurement behind that choice.

mod accept;
mod deadline;
mod doorbell;
mod flush;
mod hand_over;
mod lanes;
mod receive;
mod runtime;
mod socket;
mod turn;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use engine::{Action, Actions, Admission, ClosedBy, ConnectionId, Consumed, Engine, Event};
use ring::Port;
use rustix::net::Shutdown;
use tracing::debug;

use crate::authentication;
use crate::clock::{self, Clock};
use crate::config::Io;
use crate::gauges::Gauges;
use crate::listen::ListenerNumber;
use crate::places::Places;
use crate::shard_thread::Control;
use crate::subscriptions_file::Feed;
use crate::trouble::Trouble;

use deadline::Deadline;
use doorbell::Doorbell;
pub(crate) use doorbell::{Bell, Bells, Counter};
use lanes::Lanes;
pub(crate) use lanes::{Beside, CAPACITY};
pub(crate) use runtime::{Built, build};
use socket::Socket;
use turn::Turn;

/// Accepts kept outstanding on a listener: each completes for one connection, and a storm brings many.
const ACCEPT_TASKS: usize = 8;
/// Session slots exported in one turn.
const EXPORT_SLOTS: u32 = 256;

/// How long a stop waits for peers that were told everything and do not close.
const FAREWELL: Duration = Duration::from_millis(500);

/// What a shard is given when its thread starts.
pub(crate) struct Parts {
    pub(crate) number: u16,
    pub(crate) engine: Engine,
    pub(crate) clock: Clock,
    pub(crate) listeners: Vec<TcpListener>,
    pub(crate) read_buffer_bytes: usize,
    pub(crate) port: Port<Beside>,
    pub(crate) bells: Bells,
    pub(crate) places: Places,
    pub(crate) gauges: Gauges,
    pub(crate) control: Receiver<Control>,
    pub(crate) doorbell: Counter,
    /// Told once every other shard knows what this one subscribes to.
    pub(crate) settled: Sender<()>,
    pub(crate) feed: Feed,
}

/// **Lives on:** one thread. **Sees:** the engine of its shard, that engine's sockets, and the lanes to other shards.
struct Shard {
    number: u16,
    engine: RefCell<Engine>,
    actions: RefCell<Actions>,
    clock: Clock,
    /// By slot of the connection.
    sockets: RefCell<Vec<Option<Rc<Socket>>>>,
    /// Bytes received in a turn pass through here; taken out while they do.
    receive_buffer: Cell<Vec<u8>>,
    turn: Turn,
    turns: Cell<u64>,
    lanes: Lanes,
    settled: Cell<Option<Sender<()>>>,
    deadline: Deadline,
    places: Places,
    gauges: Gauges,
    feed: Feed,
    export: Cell<Export>,
    stopping: Cell<bool>,
    /// Those it accepts on, to be shut when it stops.
    listening: RefCell<Vec<TcpListener>>,
    accept_trouble_told: Cell<Option<std::time::Instant>>,
}

/// How far the records of persistent sessions were handed over.
#[derive(Default)]
struct Export {
    /// Of the engine's records, the version that the writer has.
    written_version: Option<u64>,
    /// The version, the next slot and the records of an export that is under way.
    running: Option<(u64, u32, Vec<engine::SessionRecord>)>,
}

/// Serves until it is told to stop; returns when every client is closed or the deadline has passed.
///
/// # Errors
/// What the system refuses before the first connection.
pub(crate) fn run(built: &mut Built, parts: Parts) -> Result<(), Trouble> {
    let runs_on_epoll = built.io == Io::Epoll;
    built.runtime.block_on(serve(parts, runs_on_epoll))
}

async fn serve(parts: Parts, runs_on_epoll: bool) -> Result<(), Trouble> {
    let Parts { control, doorbell, listeners, .. } = parts;
    let doorbell =
        Doorbell::attach(doorbell).map_err(|error| Trouble::system("watch the shard's doorbell", error))?;
    let shard = Rc::new(Shard {
        number: parts.number,
        engine: RefCell::new(parts.engine),
        actions: RefCell::default(),
        clock: parts.clock,
        sockets: RefCell::default(),
        receive_buffer: Cell::new(vec![0; parts.read_buffer_bytes]),
        turn: Turn::default(),
        turns: Cell::new(0),
        lanes: Lanes::new(parts.port, parts.bells),
        settled: Cell::new(Some(parts.settled)),
        deadline: Deadline::default(),
        places: parts.places,
        gauges: parts.gauges,
        feed: parts.feed,
        export: Cell::default(),
        stopping: Cell::new(false),
        listening: RefCell::default(),
        accept_trouble_told: Cell::new(None),
    });
    drop(monoio::spawn(flush::run(Rc::clone(&shard))));
    drop(monoio::spawn(accompany(Rc::clone(&shard))));
    drop(monoio::spawn(tick(Rc::clone(&shard))));
    // Announces what was restored.
    let _nothing = shard.step(Event::Tick);
    obey(&shard, &doorbell, &control, listeners, runs_on_epoll).await
}

async fn accompany(shard: Rc<Shard>) {
    match shard.turn.accompany().await {}
}

/// Does what the control plane asks for; returns once the shard has stopped. Other shards ring here, too, and all they
/// want is a turn.
async fn obey(
    shard: &Rc<Shard>,
    doorbell: &Doorbell,
    control: &Receiver<Control>,
    listeners: Vec<TcpListener>,
    runs_on_epoll: bool,
) -> Result<(), Trouble> {
    let mut listeners = Some(listeners);
    loop {
        doorbell.rung().await.map_err(|error| Trouble::system("watch the shard's doorbell", error))?;
        if control.is_empty() {
            shard.gauges.count_parked_wake();
        }
        for asked in control.try_iter() {
            match asked {
                Control::Accept => {
                    for (number, listener) in ListenerNumber::all().zip(listeners.take().unwrap_or_default())
                    {
                        shard
                            .accept_on(number, listener, runs_on_epoll)
                            .map_err(|error| Trouble::system("watch a listening socket", error))?;
                    }
                }
                Control::Turn(number) => shard.gauges.answer_turn(number),
                Control::Publish(messages) => {
                    for (topic, payload) in &messages {
                        let payload = payload.as_bytes();
                        let _nothing = shard.step(Event::Sys { topic, payload });
                    }
                }
                Control::HandOver => {
                    shard.lanes.trim();
                    shard.begin_export();
                }
                Control::Quiesce(answer) => {
                    shard.stopping.set(true);
                    let _nothing = shard.step(Event::Quiesce);
                    // A whole turn: lanes are drained and filled.
                    shard.turn.yield_now().await;
                    let _ = answer.send(shard.is_idle());
                }
                Control::Stop(deadline) => {
                    shard.stop(deadline).await;
                    return Ok(());
                }
            }
        }
        // A task that goes round without I/O in between must let the driver turn; and the turn is what was rung for.
        shard.turn.yield_now().await;
    }
}

/// Runs the engine's timers when they are due.
async fn tick(shard: Rc<Shard>) {
    loop {
        shard.deadline.reached().await;
        let _nothing = shard.step(Event::Tick);
        shard.turn.yield_now().await;
    }
}

impl Shard {
    fn accept_on(
        self: &Rc<Self>,
        number: ListenerNumber,
        listener: TcpListener,
        runs_on_epoll: bool,
    ) -> io::Result<()> {
        // epoll wants sockets that do not block; io_uring would answer EAGAIN on them instead of waiting.
        listener.set_nonblocking(runs_on_epoll)?;
        self.listening.borrow_mut().push(listener.try_clone()?);
        let listener = Rc::new(monoio::net::TcpListener::from_std(listener)?);
        // On epoll a descriptor wakes one task, so more would wait for nothing.
        let accept_tasks = if runs_on_epoll { 1 } else { ACCEPT_TASKS };
        for _ in 0..accept_tasks {
            drop(monoio::spawn(accept::run(Rc::clone(self), Rc::clone(&listener), number)));
        }
        Ok(())
    }

    /// Feeds the engine and carries out what it asks for.
    fn step(&self, event: Event<'_>) -> Consumed {
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
            let mut asked = Vec::new();
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
                    Action::Authenticate { connection, step } => asked.push((connection, step)),
                    // There is no journal yet, so what was asked to be durable is so at once.
                    Action::Persist(batch) => durable = Some(batch),
                }
            }
            for (connection, step) in asked {
                let Some(said) = engine.authentication_step(connection, step) else { continue };
                let challenge = format!("{}-{}", connection.slot(), connection.generation());
                let verdict = authentication::judge(&said, challenge.as_bytes());
                let answer = Event::Authenticated { connection, step, verdict };
                let _nothing = engine.step(self.clock.now(), answer, actions);
            }
            if let Some(batch) = durable {
                let _nothing = engine.step(self.clock.now(), Event::Durable(batch), actions);
            }
        }
        self.turn.wake_flusher();
    }

    fn socket(&self, id: ConnectionId) -> Option<Rc<Socket>> {
        let sockets = self.sockets.borrow();
        sockets.get(id.slot() as usize)?.as_ref().filter(|socket| socket.id == id).cloned()
    }

    fn open(
        &self,
        stream: monoio::net::TcpStream,
        admission: Admission,
        listener: ListenerNumber,
    ) -> Rc<Socket> {
        let id = self.engine.borrow_mut().accept(self.clock.now(), admission);
        let socket = Rc::new(Socket::new(id, stream, admission, listener));
        let mut sockets = self.sockets.borrow_mut();
        let slot = id.slot() as usize;
        if sockets.len() <= slot {
            sockets.resize_with(slot + 1, || None);
        }
        sockets[slot] = Some(Rc::clone(&socket));
        socket
    }

    fn close(&self, socket: &Socket, by: ClosedBy) {
        debug!(shard = self.number, connection = socket.id.slot(), ?by, "closed");
        let _nothing = self.step(Event::Closed { connection: socket.id, by });
        self.sockets.borrow_mut()[socket.id.slot() as usize] = None;
        if socket.is_told() {
            self.places.leave_told();
        }
        self.places.leave(socket.admission);
    }

    /// The end of a turn: what others see of this shard, and when it has to wake by itself.
    fn end_turn(&self) {
        self.export_slice();
        self.turns.set(self.turns.get() + 1);
        let engine = self.engine.borrow();
        self.gauges.publish(&engine, self.turns.get());
        if let Some(settled) = self.settled.take() {
            if engine.is_settled() {
                // Nobody listens any more only if the start has failed.
                let _ = settled.send(());
            } else {
                self.settled.set(Some(settled));
            }
        }
        let exporting = self.with_export(|export| export.running.is_some());
        let due = if exporting { Some(engine::Instant::default()) } else { engine.next_deadline() };
        self.deadline.set(due.map(|moment| self.clock.system(moment).into()));
    }

    fn with_export<R>(&self, look: impl FnOnce(&mut Export) -> R) -> R {
        let mut export = self.export.take();
        let result = look(&mut export);
        self.export.set(export);
        result
    }

    /// Starts to hand the records of persistent sessions over, if they changed since the last time.
    fn begin_export(&self) {
        let version = self.engine.borrow().records_version();
        self.with_export(|export| {
            if export.running.is_none() && export.written_version != Some(version) {
                export.running = Some((version, 0, Vec::new()));
            }
        });
        self.turn.wake_flusher();
    }

    /// Exports a few sessions; the last slice hands all of them over.
    fn export_slice(&self) {
        self.with_export(|export| {
            let Some((version, from, mut records)) = export.running.take() else { return };
            match self.engine.borrow().export(from, EXPORT_SLOTS, &mut records) {
                Some(next) => export.running = Some((version, next, records)),
                None if self.feed.hand_over(self.number.into(), records) => {
                    export.written_version = Some(version);
                }
                // The writer is behind: the next request starts anew.
                None => {}
            }
        });
    }

    /// Whether nothing is on its way between this shard and the others.
    fn is_idle(&self) -> bool {
        self.engine.borrow().has_nothing_to_say() && self.lanes.is_idle()
    }

    /// Tells every client that the broker stops and waits, until `deadline`, for them to be told.
    async fn stop(&self, deadline: Duration) {
        self.stopping.set(true);
        for listener in self.listening.borrow_mut().drain(..) {
            // Closing does not do: accepts that are outstanding in io_uring keep the socket, and with it the port,
            // for a while beyond the end of the process, and the next broker would find it in use.
            let _ = rustix::net::shutdown(&listener, Shutdown::Both);
        }
        let _nothing = self.step(Event::Stop);
        let last = clock::read() + deadline;
        // Of all shards: a connection that is on its way here must find its home awake.
        let mut told_since = None;
        while !self.places.is_deserted() && clock::read() < last {
            // Who was told and does not close is owed no more than the time in which what was sent arrives.
            told_since = self.places.is_all_told().then(|| told_since.unwrap_or_else(clock::read));
            if told_since.is_some_and(|since| clock::read().duration_since(since) >= FAREWELL) {
                break;
            }
            // Nobody hears the doorbell any more, so the lanes are looked at all the time.
            self.turn.wake_flusher();
            monoio::time::sleep(Duration::from_millis(5)).await;
        }
        let engine = self.engine.borrow();
        self.gauges.publish(&engine, self.turns.get());
        let mut records = Vec::new();
        let mut from = 0;
        while let Some(next) = engine.export(from, EXPORT_SLOTS, &mut records) {
            from = next;
        }
        self.feed.hand_over_last(self.number.into(), records);
    }
}
