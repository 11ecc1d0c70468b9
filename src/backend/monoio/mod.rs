//! A shard on monoio: io_uring or epoll on Linux, kqueue on macOS.
//!
//! Everything here runs on the shard's one thread. A connection is one task that waits until its socket is
//! readable and receives into a buffer shared by the shard; what is to be sent leaves once a turn from the
//! flusher, by `send(2)`. `bench/runtimes` holds the measurement behind that choice.

mod accept;
mod deadline;
mod doorbell;
mod flush;
mod receive;
mod runtime;
mod socket;
mod turn;

use std::cell::{Cell, RefCell};
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use engine::{Action, Actions, Admission, ClosedBy, ConnectionId, Consumed, Engine, Event};
use tracing::debug;

use crate::clock::{self, Clock};
use crate::config::Io;
use crate::shard_thread::{Control, Gauges, Places};
use crate::subscriptions_file::Feed;
use crate::trouble::Trouble;

use deadline::Deadline;
use doorbell::Doorbell;
pub(crate) use doorbell::{Bell, Counter};
pub(crate) use runtime::{Built, build};
use socket::Socket;
use turn::Turn;

/// Accepts kept outstanding on a listener: each completes for one connection, and a storm brings many.
const ACCEPT_TASKS: usize = 8;
/// Session slots exported in one turn.
const EXPORT_SLOTS: u32 = 256;

/// What a shard is given when its thread starts.
pub(crate) struct Parts {
    pub(crate) number: usize,
    pub(crate) engine: Engine,
    pub(crate) clock: Clock,
    pub(crate) listeners: Vec<TcpListener>,
    pub(crate) read_buffer_bytes: usize,
    pub(crate) places: Places,
    pub(crate) gauges: Gauges,
    pub(crate) control: Receiver<Control>,
    pub(crate) doorbell: Counter,
    pub(crate) feed: Feed,
}

/// **Lives on:** one thread. **Sees:** the engine of its shard and that engine's sockets.
struct Shard {
    number: usize,
    engine: RefCell<Engine>,
    actions: RefCell<Actions>,
    clock: Clock,
    /// By slot of the connection.
    sockets: RefCell<Vec<Option<Rc<Socket>>>>,
    /// Bytes received in a turn pass through here; taken out while they do.
    receive_buffer: Cell<Vec<u8>>,
    turn: Turn,
    deadline: Deadline,
    places: Places,
    gauges: Gauges,
    feed: Feed,
    export: Cell<Export>,
    stopping: Cell<bool>,
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
        deadline: Deadline::default(),
        places: parts.places,
        gauges: parts.gauges,
        feed: parts.feed,
        export: Cell::default(),
        stopping: Cell::new(false),
        accept_trouble_told: Cell::new(None),
    });
    drop(monoio::spawn(flush::run(Rc::clone(&shard))));
    drop(monoio::spawn(tick(Rc::clone(&shard))));
    for listener in listeners {
        let watched = || {
            // epoll wants sockets that do not block; io_uring would answer EAGAIN on them instead of waiting.
            listener.set_nonblocking(runs_on_epoll)?;
            monoio::net::TcpListener::from_std(listener)
        };
        let listener =
            Rc::new(watched().map_err(|error| Trouble::system("watch a listening socket", error))?);
        for _ in 0..ACCEPT_TASKS {
            drop(monoio::spawn(accept::run(Rc::clone(&shard), Rc::clone(&listener))));
        }
    }
    shard.turn.wake_flusher();
    obey(&shard, &doorbell, &control).await
}

/// Does what the control plane asks for; returns once the shard has stopped.
async fn obey(shard: &Rc<Shard>, doorbell: &Doorbell, control: &Receiver<Control>) -> Result<(), Trouble> {
    loop {
        doorbell.rung().await.map_err(|error| Trouble::system("watch the shard's doorbell", error))?;
        for asked in control.try_iter() {
            match asked {
                Control::Turn(number) => shard.gauges.answer_turn(number),
                Control::HandOver => shard.begin_export(),
                Control::Stop(deadline) => {
                    shard.stop(deadline).await;
                    return Ok(());
                }
            }
        }
        // A task that goes round without I/O in between must let the driver turn.
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
    /// Feeds the engine and carries out what it asks for.
    fn step(&self, event: Event<'_>) -> Consumed {
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
                    // There is no journal yet, so what was asked to be durable is so at once.
                    Action::Persist(batch) => durable = Some(batch),
                }
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

    fn open(&self, stream: monoio::net::TcpStream, admission: Admission) -> Rc<Socket> {
        let id = self.engine.borrow_mut().accept(self.clock.now(), admission);
        let socket = Rc::new(Socket::new(id, stream, admission));
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
        self.places.leave(socket.admission);
    }

    /// The end of a turn: what others see of this shard, and when it has to wake by itself.
    fn end_turn(&self) {
        self.export_slice();
        let engine = self.engine.borrow();
        self.gauges.publish(&engine);
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
                None if self.feed.hand_over(self.number, records) => export.written_version = Some(version),
                // The writer is behind: the next request starts anew.
                None => {}
            }
        });
    }

    /// Tells every client that the broker stops and waits, until `deadline`, for them to be told.
    async fn stop(&self, deadline: Duration) {
        self.stopping.set(true);
        let _nothing = self.step(Event::Stop);
        let last = clock::read() + deadline;
        while self.engine.borrow().connection_count() > 0 && clock::read() < last {
            monoio::time::sleep(Duration::from_millis(5)).await;
        }
        let engine = self.engine.borrow();
        self.gauges.publish(&engine);
        let mut records = Vec::new();
        let mut from = 0;
        while let Some(next) = engine.export(from, EXPORT_SLOTS, &mut records) {
            from = next;
        }
        self.feed.hand_over_last(self.number, records);
    }
}
