//! The threads of the shards: one pinned thread each, its listeners, and how the control plane speaks to it.
//! Knows no connection; what crosses here is a request, a counter or a stop.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use engine::{Admission, Engine, Entropy, SessionRecord};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::{error, info, warn};

use crate::backend::monoio::{self as backend, Bell, Counter, Parts};
use crate::clock::Clock;
use crate::config::{Config, Io};
use crate::statistics::Totals;
use crate::subscriptions_file::Feed;
use crate::trouble::Trouble;

/// Connections that may wait for a listener to accept them; `net.core.somaxconn` may be lower.
const BACKLOG: i32 = 4_096;
/// Connections beyond the limit that are read, at once, only to be told that there is no place.
const TURNED_AWAY_MAX: u32 = 64;

/// Requests that may wait for a shard. They repeat, so one that finds no room is left out.
const CONTROLS_MAX: usize = 8;

/// Something the control plane asks of a shard.
#[derive(Debug)]
pub(crate) enum Control {
    /// Show that you turn.
    Turn(u64),
    /// Hand the records of persistent sessions over, if they changed.
    HandOver,
    /// Tell the clients, and end within this time.
    Stop(Duration),
}

/// What one shard counts, written by it alone at the end of a turn and read by anyone.
#[derive(Debug, Default)]
struct Counted {
    messages_received: AtomicU64,
    messages_sent: AtomicU64,
    subscriptions: AtomicU64,
    sessions: AtomicU64,
    retained_messages: AtomicU64,
    dropped: AtomicU64,
    turn_answered: AtomicU64,
}

#[expect(clippy::disallowed_types, reason = "counters that one shard writes and the control plane reads")]
type Shared<T> = std::sync::Arc<T>;

/// A handle on [`Counted`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges(Shared<Counted>);

impl Gauges {
    /// Shows what the engine counts.
    pub(crate) fn publish(&self, engine: &Engine) {
        let counters = engine.counters();
        self.0.messages_received.store(counters.messages_received, Relaxed);
        self.0.messages_sent.store(counters.messages_sent, Relaxed);
        self.0.subscriptions.store(engine.subscription_count() as u64, Relaxed);
        self.0.sessions.store(engine.session_count().into(), Relaxed);
        self.0.retained_messages.store(engine.retained_count() as u64, Relaxed);
        self.0.dropped.store(counters.dropped_total(), Relaxed);
    }

    pub(crate) fn answer_turn(&self, number: u64) {
        self.0.turn_answered.store(number, Relaxed);
    }
}

/// The process's places for connections, exact over all shards.
#[derive(Clone, Debug)]
pub(crate) struct Places(Shared<PlaceCounts>);

#[derive(Debug)]
struct PlaceCounts {
    max: u32,
    taken: AtomicU32,
    turned_away: AtomicU32,
}

impl Places {
    fn new(max: u32) -> Self {
        Self(Shared::new(PlaceCounts { max, taken: AtomicU32::new(0), turned_away: AtomicU32::new(0) }))
    }

    /// Takes a place, or one of the few in which a connection is told that there is none; `None` if those
    /// are taken too.
    pub(crate) fn enter(&self) -> Option<Admission> {
        let take = |count: &AtomicU32, max| {
            count.fetch_update(Relaxed, Relaxed, |n| (n < max).then_some(n + 1)).is_ok()
        };
        if take(&self.0.taken, self.0.max) {
            Some(Admission::Serve)
        } else if take(&self.0.turned_away, TURNED_AWAY_MAX) {
            Some(Admission::TurnAway)
        } else {
            None
        }
    }

    /// Gives a place back.
    pub(crate) fn leave(&self, admission: Admission) {
        let count = match admission {
            Admission::Serve => &self.0.taken,
            Admission::TurnAway => &self.0.turned_away,
        };
        let before = count.fetch_sub(1, Relaxed);
        assert!(before > 0);
    }
}

struct Thread {
    control: Sender<Control>,
    bell: Bell,
    gauges: Gauges,
    handle: JoinHandle<()>,
}

/// All shards of the process.
pub(crate) struct Shards {
    threads: Vec<Thread>,
    places: Places,
    turn_asked: AtomicU64,
}

/// Binds the listeners, starts a thread for each shard and waits until all of them serve.
///
/// # Errors
/// Whatever keeps one of them from serving.
///
/// # Panics
/// If a shard's thread ends without saying why, which a panic there does; that ends the process anyway.
pub(crate) fn start(config: &Config, sessions: Vec<SessionRecord>, feed: &Feed) -> Result<Shards, Trouble> {
    let clock = Clock::start();
    let places = Places::new(config.max_connections);
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let mut sessions = Some(sessions);
    let mut threads = Vec::new();
    for number in 0..config.shards as usize {
        let listeners = listen(config)?;
        let addresses: Vec<SocketAddr> =
            listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let mut engine = Engine::new(config.engine_limits(), entropy()?, clock.now());
        engine.reserve_connections(config.initial_pool_size / config.shards);
        restore(&mut engine, clock, sessions.take().unwrap_or_default());
        let (control, asked) = bounded(CONTROLS_MAX);
        let (doorbell, bell) =
            Counter::new().map_err(|error| Trouble::system("make the doorbell of a shard", error))?;
        let gauges = Gauges::default();
        gauges.publish(&engine);
        // The engine is made here and moved before it has seen anything.
        let parts = Parts {
            number,
            engine,
            clock,
            listeners,
            read_buffer_bytes: config.read_buffer_bytes as usize,
            places: places.clone(),
            gauges: gauges.clone(),
            control: asked,
            doorbell,
            feed: feed.clone(),
        };
        let core = cores.get(number).copied();
        let io = config.io;
        let (started, start) = bounded(1);
        let handle = thread::Builder::new()
            .name(format!("shard-{number}"))
            .spawn(move || serve(parts, core, io, &started))
            .map_err(|error| Trouble::system("start the thread of a shard", error))?;
        wait_until_started(&start)?;
        for address in addresses {
            info!(shard = number, "listening on {address}");
        }
        threads.push(Thread { control, bell, gauges, handle });
    }
    Ok(Shards { threads, places, turn_asked: AtomicU64::new(0) })
}

fn wait_until_started(start: &Receiver<Result<(), Trouble>>) -> Result<(), Trouble> {
    start.recv().expect("a shard says whether it started before it ends")
}

/// The thread of a shard.
fn serve(parts: Parts, core: Option<core_affinity::CoreId>, io: Io, started: &Sender<Result<(), Trouble>>) {
    let number = parts.number;
    if let Some(core) = core
        && !core_affinity::set_for_current(core)
    {
        warn!(shard = number, core = core.id, "not pinned: the system refused");
    }
    let mut built = match backend::build(io) {
        Ok(built) => built,
        Err(trouble) => {
            let _ = started.send(Err(trouble));
            return;
        }
    };
    match &built.fallback {
        None => info!(shard = number, io = %built.io, core = core.map(|core| core.id), "shard runs"),
        Some(refused) => info!(
            shard = number,
            io = %built.io,
            core = core.map(|core| core.id),
            reason = %refused,
            "shard runs without io_uring, which this system refused"
        ),
    }
    let _ = started.send(Ok(()));
    if let Err(trouble) = backend::run(&mut built, parts) {
        error!(shard = number, %trouble, "shard failed");
        std::process::abort();
    }
}

/// One listening socket for each address, the port shared among shards.
fn listen(config: &Config) -> Result<Vec<TcpListener>, Trouble> {
    config
        .bind
        .iter()
        .map(|&ip| {
            let address = SocketAddr::new(ip, config.port);
            listen_on(address, config.send_buffer_bytes).map_err(|error| Trouble::listen(address, error))
        })
        .collect()
}

fn listen_on(address: SocketAddr, send_buffer_bytes: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if send_buffer_bytes > 0 {
        // Accepted sockets inherit it.
        socket.set_send_buffer_size(send_buffer_bytes as usize)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn restore(engine: &mut Engine, clock: Clock, sessions: Vec<SessionRecord>) {
    let count = sessions.len();
    for session in sessions {
        if let Err(reason) = engine.restore(clock.now(), &session) {
            // Peers' text belongs to debug, but this is the operator's file.
            warn!(client_id = session.client_id, reason, "session not restored");
        }
    }
    if count > 0 {
        info!(sessions = engine.session_count(), subscriptions = engine.subscription_count(), "restored");
    }
}

fn entropy() -> Result<Entropy, Trouble> {
    let mut key = [0; 16];
    getrandom::fill(&mut key)
        .map_err(|error| Trouble::system("draw random bytes", io::Error::other(error)))?;
    Ok(Entropy(u128::from_ne_bytes(key)))
}

impl Shards {
    /// Sums over all shards.
    pub(crate) fn totals(&self) -> Totals {
        let gauges: Vec<Gauges> = self.threads.iter().map(|thread| thread.gauges.clone()).collect();
        self.sum(&gauges)
    }

    /// Whether every shard has turned since the last call; asks them to turn again.
    pub(crate) fn all_turned(&self) -> bool {
        let asked = self.turn_asked.load(Relaxed);
        let turned = self.threads.iter().all(|thread| thread.gauges.0.turn_answered.load(Relaxed) >= asked);
        if turned {
            self.turn_asked.store(asked + 1, Relaxed);
            self.ask(|| Control::Turn(asked + 1));
        }
        turned
    }

    /// Asks the shards for the records of persistent sessions that changed.
    pub(crate) fn hand_over_subscriptions(&self) {
        self.ask(|| Control::HandOver);
    }

    /// Ends all shards: clients are told 0x8B and get what is on its way to them, within `deadline`.
    ///
    /// # Panics
    /// If a shard's thread panicked, which ends the process anyway.
    pub(crate) fn stop(mut self, deadline: Duration) -> Totals {
        for thread in &self.threads {
            // Nothing else is asked any more, so there will be room.
            let _ = thread.control.send(Control::Stop(deadline));
            thread.bell.ring();
        }
        let gauges: Vec<Gauges> = self.threads.iter().map(|thread| thread.gauges.clone()).collect();
        for thread in self.threads.drain(..) {
            thread.handle.join().expect("a panic ends the process");
        }
        self.sum(&gauges)
    }

    fn sum(&self, gauges: &[Gauges]) -> Totals {
        let mut totals = Totals {
            connections: self.places.0.taken.load(Relaxed).into(),
            connections_max: self.places.0.max.into(),
            ..Totals::default()
        };
        for Gauges(counted) in gauges {
            totals.messages_received += counted.messages_received.load(Relaxed);
            totals.messages_sent += counted.messages_sent.load(Relaxed);
            totals.subscriptions += counted.subscriptions.load(Relaxed);
            totals.sessions += counted.sessions.load(Relaxed);
            totals.retained_messages += counted.retained_messages.load(Relaxed);
            totals.dropped += counted.dropped.load(Relaxed);
        }
        totals
    }

    fn ask(&self, control: impl Fn() -> Control) {
        for thread in &self.threads {
            let _ = thread.control.try_send(control());
            thread.bell.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_exact_and_a_few_more_are_told_so() {
        let places = Places::new(2);
        let entered: Vec<_> = (0..2 + TURNED_AWAY_MAX).map(|_| places.enter()).collect();
        assert_eq!(entered[..2], [Some(Admission::Serve); 2]);
        assert!(entered[2..].iter().all(|admission| *admission == Some(Admission::TurnAway)));
        assert_eq!(places.enter(), None);
        places.leave(Admission::Serve);
        assert_eq!(places.enter(), Some(Admission::Serve));
        assert_eq!(places.enter(), None);
    }
}
