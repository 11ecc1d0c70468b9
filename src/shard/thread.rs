//! The threads of the shards: the resources that each receives, its start, and the wait until all of them serve.

use std::sync::atomic::AtomicU64;
use std::thread::{self, JoinHandle};

use core_affinity::CoreId;
use crossbeam_channel::{Receiver, Sender, bounded};
use engine::{Entropy, SessionRecord, SharedRules, Topology};
use journal::SECTOR_BYTES;
use tracing::{debug, error, info, warn};

use super::control::{Control, KnownListeners, REQUESTS_MAX, Shards, Thread};
use super::cores::{self, ThreadId};
use super::engines::{self, Begun, EndOfLog};
use super::gauges::Gauges;
use super::memory_share::MemoryShare;
use crate::auth::{self, Authenticator, Operators, Side};
use crate::backend::{Backend, CAPACITY, ClientIds, Doorbells, Journal, Parts, SelectedBackend};
use crate::config::{Config, Durability};
use crate::error::StartupError;
use crate::net::layers::ListenerLayers;
use crate::net::listen::{self, Distributor, ListenerTables, Listening};
use crate::net::permits::ConnectionPermits;
use crate::observe::connection_log::ConnectionLog;
use crate::observe::tally::Tally;
use crate::persist::journal::{Executor, Opened};
use crate::persist::subscriptions_file::Feed;
use crate::process::clock::Clock;

/// The part of the process that every shard has a share of.
pub(crate) struct Shared {
    pub(crate) permits: ConnectionPermits,
    pub(crate) layers: ListenerLayers,
    /// The rules about topics that are in force from the start.
    pub(crate) rules: Option<SharedRules>,
    /// The counts of clients that come.
    pub(crate) tally: Tally,
    /// The tokens of operators' own clients.
    pub(crate) operators: Operators,
}

/// Report of a shard's thread after its runtime has started.
struct Started {
    id: ThreadId,
    backend: SelectedBackend,
}

/// Receives once whether the runtime of a shard has started.
type StartReport = Receiver<Result<Started, StartupError>>;

/// The longest segment of a log: as long as is filled with zeros in a moment.
const SEGMENT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Segments between two checkpoints, at least. A checkpoint frees whole ones.
const SEGMENTS_PER_CHECKPOINT: u64 = 16;

/// A shard whose thread was started, with its handles.
type Starting = (Sender<Control>, Gauges, JoinHandle<()>, StartReport);

/// Binds the listeners, starts a thread for each shard, and waits until all shards serve. `key` assigns the restored
/// `sessions`, and later all clients, to shards. With `logs`, their state comes back first, and a shard whose log has nothing takes the
/// `sessions` over.
///
/// # Errors
/// The first error that keeps a shard from serving.
///
/// # Panics
/// If the thread of a shard ends without a report. Only a panic does that, and it ends the process in any case.
pub(crate) fn start(
    config: &Config,
    shard_count: u16,
    shared: Shared,
    (key, sessions): (Entropy, Vec<SessionRecord>),
    feed: &Feed,
    logs: Option<&Opened>,
) -> Result<Shards, StartupError> {
    let (clock, begun) = engines::start(config, (shard_count, key), shared.rules.as_ref(), logs)?;
    let listeners = listen::bind(config, shard_count)?;
    let places: Vec<String> = listeners[0].iter().map(Listening::place).collect();
    let names = names(config, &listeners[0], &places);
    let (backends, doorbells) = Backend::prepare(config.io, shard_count)?;
    let cores = cores::assign(shard_count);
    let mut sessions = distribute(sessions, Topology { own: 0, shard_count, key });
    let (settled, all_settled) = bounded(shard_count.into());

    let authenticators =
        auth::start(config, shard_count, doorbells.clone(), clock, (key, &shared.operators))?;
    let (authentication, known) = known(config, &listeners[0], &names, (&shared, &authenticators[0]));
    let (memory, memory_reports) = MemoryShare::new();
    let mut starting = Vec::new();
    let mesh = ring::mesh(shard_count.into(), CAPACITY);
    let resources = mesh.into_iter().zip(listeners).zip(backends).zip(authenticators).zip(begun);
    for (own, ((((port, listeners), backend), authenticator), mut begun)) in (0..shard_count).zip(resources) {
        let limits = engines::limits(config, shard_count, logs);
        restore(&mut begun, clock, std::mem::take(&mut sessions[usize::from(own)]));
        let Begun { engine, log } = begun;
        let journal = journal_of((own, config), logs.zip(log), &doorbells)?;
        let (control, requests) = bounded(REQUESTS_MAX);
        let gauges = gauges_of(&engine);
        let parts = Parts {
            number: own,
            engine,
            clock,
            listeners,
            distributes: own == 0 && Distributor::of(config.io) == Distributor::FirstShard,
            tables: known.tables.clone(),
            unjudged_bytes_max: usize::try_from(limits.unjudged_bytes_max).unwrap_or(usize::MAX),
            read_buffer_bytes: config.read_buffer_bytes as usize,
            port,
            doorbells: doorbells.clone(),
            permits: shared.permits.clone(),
            gauges: gauges.clone(),
            memory: memory.another(),
            control: requests,
            authenticator,
            settled: settled.clone(),
            feed: feed.clone(),
            log: ConnectionLog::new(config.connection_log, limits, &names, shard_count, shared.tally.clone()),
            journal,
        };
        starting.push(spawn(backend, parts, cores.get(usize::from(own)).copied(), (control, gauges))?);
    }

    let threads = wait_until_all_started(starting, &all_settled)?;
    let shards = Shards {
        threads,
        doorbells,
        permits: shared.permits,
        memory_bytes_max: config.memory_bytes_max.bytes(),
        memory_reports,
        topology: Topology { own: 0, shard_count, key },
        turn_requested: AtomicU64::new(0),
        authentication,
        known,
    };
    begin_accepting(&shards, logs.is_none(), shown(config, &places));
    Ok(shards)
}

/// The places that clients know: all but the operators' socket.
fn shown<'a>(config: &Config, places: &'a [String]) -> impl Iterator<Item = &'a String> {
    let own = config.operators_socket().map(|path| path.display().to_string());
    places.iter().filter(move |place| own.as_ref() != Some(*place))
}

/// The figures of a shard that others read, as its engine has them before its first step.
fn gauges_of(engine: &engine::Engine) -> Gauges {
    let gauges = Gauges::default();
    gauges.update(engine, &engine.memory_use(), 0);
    gauges
}

/// The bounds of the logs.
pub(crate) fn journal_settings(config: &Config) -> journal::Settings {
    let checkpoint_growth_bytes = config.checkpoint_bytes;
    let segment_bytes = (checkpoint_growth_bytes / SEGMENTS_PER_CHECKPOINT).min(SEGMENT_BYTES_MAX);
    let segment_bytes = segment_bytes / SECTOR_BYTES as u64 * SECTOR_BYTES as u64;
    journal::Settings { segment_bytes, checkpoint_growth_bytes, ..journal::Settings::DEFAULT }
}

/// The log of a shard, if there are logs, with the threads that do its I/O.
fn journal_of(
    (shard, config): (u16, &Config),
    log: Option<(&Opened, EndOfLog)>,
    doorbells: &Doorbells,
) -> Result<Option<Box<Journal>>, StartupError> {
    let Some((logs, (end, read))) = log else { return Ok(None) };
    let directory = logs.directory(shard);
    if let Err(error) = directory.shrink(&read.segments) {
        warn!(shard, %error, "segments of the journal keep room that they do not use");
    }
    let doorbells = doorbells.clone();
    let executor = Executor::start(shard, &directory, move || doorbells.ring(shard.into()))
        .map_err(|error| StartupError::system("start the thread of a log", error))?;
    Ok(Some(Box::new(Journal::new(
        journal_settings(config),
        end,
        logs.start().get(),
        executor,
        config.durability == Durability::Power,
    ))))
}

/// Lets every shard accept, and says what was restored and where the broker listens.
fn begin_accepting<'a>(shards: &Shards, is_of_file: bool, places: impl Iterator<Item = &'a String>) {
    let totals = shards.totals().shards;
    if is_of_file && totals.sessions > 0 {
        info!(sessions = totals.sessions, subscriptions = totals.subscriptions, "restored");
    }
    shards.request_all(|| Control::Accept);
    for place in places {
        info!("listening on {place}");
    }
}

/// The way to the side thread of authentication, if there is one, and the listeners of the start.
fn known(
    config: &Config,
    listeners: &[Listening],
    names: &[String],
    (shared, authenticator): (&Shared, &Authenticator),
) -> (Option<Side>, KnownListeners) {
    let layers = shared.layers.clone();
    let known = KnownListeners {
        sockets: listeners.iter().map(|listening| listening.number).collect(),
        tables: ListenerTables { layers, client_ids: ClientIds::of(config), names: names.to_vec() },
        methods: authenticator.listener_methods(),
        tally: shared.tally.clone(),
    };
    (authenticator.side(), known)
}

/// The name of each socket in the log of connections: of its listener, or its address if that is the only one.
fn names(config: &Config, listeners: &[Listening], places: &[String]) -> Vec<String> {
    let name = |(listening, place): (&Listening, &String)| match &config.listeners[listening.number.index()] {
        listener if listener.is_implied() => place.clone(),
        listener => listener.name.clone(),
    };
    listeners.iter().zip(places).map(name).collect()
}

/// Starts the thread of a shard.
fn spawn(
    backend: Backend,
    parts: Parts,
    core: Option<CoreId>,
    (control, gauges): (Sender<Control>, Gauges),
) -> Result<Starting, StartupError> {
    let (started, start) = bounded(1);
    let handle = thread::Builder::new()
        .name(format!("shard-{}", parts.number))
        .spawn(move || serve(backend, parts, core, started))
        .map_err(|error| StartupError::system("start the thread of a shard", error))?;
    Ok((control, gauges, handle, start))
}

/// The sessions of each shard. The number of shards can differ from that of the last run, so every session is assigned
/// anew.
fn distribute(sessions: Vec<SessionRecord>, topology: Topology) -> Vec<Vec<SessionRecord>> {
    let mut distributed: Vec<Vec<SessionRecord>> = (0..topology.shard_count).map(|_| Vec::new()).collect();
    for session in sessions {
        distributed[usize::from(topology.home_of_client(&session.client_id))].push(session);
    }
    distributed
}

/// Restores the sessions of the file. One that is imported into a log is there until the log has all of it, so it is read again after a
/// crash in between.
fn restore(begun: &mut Begun, clock: Clock, sessions: Vec<SessionRecord>) {
    for session in sessions {
        if let Err(reason) = begun.engine.restore(clock.now(), &session) {
            // This file belongs to the operator, so its text is logged whole.
            warn!(client_id = session.client_id, reason, "session not restored");
        }
    }
}

/// The shards once each has started its runtime, and knows the subscriptions of the others.
fn wait_until_all_started(
    starting: Vec<Starting>,
    all_settled: &Receiver<()>,
) -> Result<Vec<Thread>, StartupError> {
    let (mut threads, shard_count) = (Vec::new(), u16::try_from(starting.len()).unwrap_or(u16::MAX));
    for (shard, (control, gauges, handle, start)) in starting.into_iter().enumerate() {
        let started = wait_until_started(&start)?;
        log_started(shard, shard_count, &started);
        threads.push(Thread { control, gauges, id: started.id, handle });
    }
    for _ in 0..shard_count {
        all_settled.recv().expect("a shard settles or ends the process");
    }
    Ok(threads)
}

fn wait_until_started(start: &StartReport) -> Result<Started, StartupError> {
    start.recv().expect("a shard reports its start before it ends")
}

fn log_started(shard: usize, shard_count: u16, started: &Started) {
    let SelectedBackend { io, fallback } = &started.backend;
    match fallback {
        // All shards use the same backend, unless the system refuses io_uring to some of them.
        None if shard == 0 => info!(%io, shards = shard_count, "shards run"),
        Some(refused) if shard == 0 => info!(
            %io, shards = shard_count, reason = %refused, "shards run without io_uring, which this system refused"
        ),
        None => {}
        Some(refused) => debug!(shard, %io, reason = %refused, "shard runs without io_uring"),
    }
}

/// The thread of a shard.
fn serve(
    backend: Backend,
    parts: Parts,
    core: Option<CoreId>,
    started: Sender<Result<Started, StartupError>>,
) {
    let number = parts.number;
    if let Some(core) = core
        && !core_affinity::set_for_current(core)
    {
        warn!(shard = number, core = core.id, "the shard is not pinned to its core: the system refused");
    }
    let id = ThreadId::current();
    let report = move |selected: Result<SelectedBackend, StartupError>| {
        let _ = started.send(selected.map(|backend| Started { id, backend }));
    };
    if let Err(error) = backend.run(parts, report) {
        error!(shard = number, %error, "shard failed");
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_distributed_to_their_homes_for_any_number_of_shards() {
        let session = |number| SessionRecord {
            client_id: format!("client-{number}"),
            user: None,
            expiry: None,
            subscriptions: vec![],
        };
        for shard_count in [1, 2, 5] {
            let topology = Topology { own: 0, shard_count, key: Entropy(7) };
            let distributed = distribute((0..100).map(session).collect(), topology);
            assert_eq!(distributed.iter().map(Vec::len).sum::<usize>(), 100);
            for (home, sessions) in distributed.iter().enumerate() {
                assert!(!sessions.is_empty());
                let at_home = |session: &SessionRecord| {
                    usize::from(topology.home_of_client(&session.client_id)) == home
                };
                assert!(sessions.iter().all(at_home));
            }
        }
    }
}
