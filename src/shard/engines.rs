//! The engines of all shards as they begin: empty, or with the state that the logs lead to.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use engine::{Actions, Engine, Entropy, Event, Instant, Limits, SharedRules, Topology};
use journal::Recovered;
use tracing::info;

use super::placement_key;
use crate::config::Config;
use crate::error::StartupError;
use crate::persist::journal::{Opened, Place, Read, read_log};
use crate::process::clock::{self, Clock};
use crate::process::systemd;

/// Interval at which the reading of long logs is told.
const SECOND: Duration = Duration::from_secs(1);

/// Time that the service manager waits for the next time that it is told.
const LONGER: Duration = Duration::from_mins(1);

/// Records of a log after which the reading is counted.
const COUNTED_RECORDS: u64 = 1_024;

/// The engine of a shard before its thread runs.
pub(crate) struct Begun {
    pub(crate) engine: Engine,
    /// The end of its log, if there are logs.
    pub(crate) log: Option<EndOfLog>,
}

/// The end of a log, and the counts of what was read.
pub(crate) type EndOfLog = (Recovered, Read);

/// How far the reading of all logs has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HowFar {
    pub(crate) percent: u64,
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    pub(crate) sessions: u64,
    pub(crate) retained: u64,
    pub(crate) seconds: u64,
}

/// The counts of what was read, of all shards.
#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    records: AtomicU64,
    sessions: AtomicU64,
    retained: AtomicU64,
}

/// The counts that a shard has added.
#[derive(Clone, Copy, Debug, Default)]
struct Added {
    records: u64,
    sessions: u64,
    retained: u64,
}

impl Counts {
    /// Adds a record of a shard. The state that it led to is looked at now and then.
    fn add_record(&self, engine: &Engine, added: &mut Added) {
        added.records += 1;
        if added.records.is_multiple_of(COUNTED_RECORDS) {
            self.records.fetch_add(COUNTED_RECORDS, Relaxed);
            let now = (u64::from(engine.session_count()), engine.retained_count() as u64);
            // Sessions may end and messages be removed: the difference wraps around, and so does the sum.
            self.sessions.fetch_add(now.0.wrapping_sub(added.sessions), Relaxed);
            self.retained.fetch_add(now.1.wrapping_sub(added.retained), Relaxed);
            (added.sessions, added.retained) = now;
        }
    }

    fn how_far(&self, total_bytes: u64, since: std::time::Instant) -> HowFar {
        HowFar {
            percent: (self.bytes.load(Relaxed) * 100 / total_bytes.max(1)).min(100),
            bytes: total_bytes,
            records: self.records.load(Relaxed),
            sessions: self.sessions.load(Relaxed),
            retained: self.retained.load(Relaxed),
            seconds: since.elapsed().as_secs(),
        }
    }
}

/// Tells the log and the service manager how far a start has come.
fn tell_start(how_far: HowFar) {
    let HowFar { percent, bytes, records, sessions, retained, seconds } = how_far;
    info!(percent, bytes, records, sessions, retained, seconds, "reading the journal");
    systemd::still_starting(LONGER, &format!("reading the journal: {percent} %, {records} records"));
}

/// [`begin`] for a start of the broker.
///
/// # Errors
/// Those of [`begin`].
pub(crate) fn start(
    config: &Config,
    placement: (u16, Entropy),
    rules: Option<&SharedRules>,
    logs: Option<&Opened>,
) -> Result<(Clock, Vec<Begun>), StartupError> {
    begin(config, placement, rules, logs, &tell_start)
}

/// Makes the engines of all shards and the clock that they go by. With logs, each reads its own, all at the same time, and `tell` is
/// called each second.
///
/// # Errors
/// If the system has no random numbers, or a log is damaged.
pub(crate) fn begin(
    config: &Config,
    (shard_count, key): (u16, Entropy),
    rules: Option<&SharedRules>,
    logs: Option<&Opened>,
    tell: &dyn Fn(HowFar),
) -> Result<(Clock, Vec<Begun>), StartupError> {
    let clock = Clock::start();
    let mut begun = make(config, (shard_count, key), rules, logs, clock)?;
    let Some(logs) = logs else { return Ok((clock, begun)) };
    let since = clock::read();
    recover(logs, &mut begun, tell)?;
    tell_settled(&mut begun);
    let clock =
        Clock::start_at(begun.iter().filter_map(|shard| shard.log.as_ref()).map(time_of).max().unwrap_or(0));
    for shard in &mut begun {
        // There is no connection that an action could be about.
        shard.engine.recovered(clock.now(), &mut Actions::new());
    }
    log_recovered(&begun, since.elapsed().as_secs_f32());
    Ok((clock, begun))
}

/// Makes the engines of all shards, which have nothing. With logs, what is in them has to be read next.
///
/// # Errors
/// If the system has no random numbers.
pub(crate) fn make(
    config: &Config,
    (shard_count, key): (u16, Entropy),
    rules: Option<&SharedRules>,
    logs: Option<&Opened>,
    clock: Clock,
) -> Result<Vec<Begun>, StartupError> {
    let mut begun = Vec::new();
    for own in 0..shard_count {
        // The time of a log goes on from its end, which is not known yet.
        let now = if logs.is_some() { Instant::default() } else { clock.now() };
        let limits = limits(config, shard_count, logs);
        let topology = Topology { own, shard_count, key };
        let mut engine = Engine::new(limits, placement_key::draw()?, now).in_mesh(topology);
        engine.reserve_connections(config.initial_pool_size / u32::from(shard_count));
        if rules.is_some() {
            // They are in force before sessions are restored.
            let _nothing = engine.step(now, Event::Rules(rules), &mut Actions::new());
        }
        begun.push(Begun { engine, log: None });
    }
    Ok(begun)
}

/// The limits of the engines.
pub(super) fn limits(config: &Config, shard_count: u16, logs: Option<&Opened>) -> Limits {
    Limits {
        // The last refusals are remembered, whatever lines are logged.
        connection_notices: true,
        journal_start: logs.map(Opened::start),
        ..config.engine_limits(shard_count)
    }
}

/// Reads the logs, each by a thread of its own. `tell` is called each second.
fn recover(logs: &Opened, begun: &mut [Begun], tell: &dyn Fn(HowFar)) -> Result<(), StartupError> {
    let total_bytes: u64 = (0..).zip(begun.iter()).map(|(shard, _)| logs.bytes_of(shard)).sum();
    let (since, counts) = (clock::read(), &Counts::default());
    thread::scope(|scope| {
        let (working, ended) = bounded::<()>(0);
        let readers: Vec<_> = (0..)
            .zip(begun.iter_mut())
            .map(|(shard, begun)| {
                let working = working.clone();
                scope.spawn(move || {
                    let (engine, mut added) = (&mut begun.engine, Added::default());
                    let mut take = |place: Place, kind: u8, body: &[u8]| {
                        let taken = match place {
                            Place::Checkpoint { as_of } => engine.recover_object(as_of, kind, body),
                            Place::Log { position } => engine.recover_at(position, kind, body),
                        };
                        counts.add_record(engine, &mut added);
                        taken.map_err(|fault| fault.to_string())
                    };
                    let mut progress = |bytes: u64| {
                        counts.bytes.fetch_add(bytes, Relaxed);
                    };
                    begun.log = Some(read_log(logs, shard, &mut take, &mut progress)?);
                    drop(working);
                    Ok(())
                })
            })
            .collect();
        drop(working);
        while ended.recv_timeout(SECOND) == Err(RecvTimeoutError::Timeout) {
            tell(counts.how_far(total_bytes, since));
        }
        readers.into_iter().try_for_each(|reader| reader.join().expect("a panic ends the process"))
    })
}

/// Tells each engine which of its transfers the logs of the others have, so that it sends the rest alone.
fn tell_settled(begun: &mut [Begun]) {
    for (source, at) in (0u16..).zip(0..begun.len()) {
        for (target, other) in (0u16..).zip(0..begun.len()).filter(|&(target, _)| target != source) {
            let upto = begun[other].engine.recovered_transfer(source);
            begun[at].engine.recover_settled(target, upto);
        }
    }
}

/// The time of the engines now: it goes on from the last commit, by what the wall clock says has passed since. A wall clock that was
/// set back lets no time pass.
fn time_of((end, _): &EndOfLog) -> u64 {
    let passed_ms = if end.wall_ms == 0 { 0 } else { clock::unix_ms().saturating_sub(end.wall_ms) };
    end.broker_ms.saturating_add(passed_ms)
}

fn log_recovered(begun: &[Begun], seconds: f32) {
    let sum = |of: &dyn Fn(&Begun) -> u64| begun.iter().map(of).sum::<u64>();
    let records = sum(&|shard| shard.log.as_ref().map_or(0, |(_, read)| read.records));
    let checkpoint_of = |shard: &Begun| shard.log.as_ref().and_then(|(end, _)| end.checkpoint);
    let checkpoint_bytes = sum(&|shard| checkpoint_of(shard).map_or(0, |checkpoint| checkpoint.bytes));
    let sessions = sum(&|shard| shard.engine.session_count().into());
    let subscriptions = sum(&|shard| shard.engine.subscription_count() as u64);
    let retained = sum(&|shard| shard.engine.retained_count() as u64);
    let queued = sum(&|shard| shard.engine.pending_count());
    info!(
        records,
        checkpoint_bytes, sessions, subscriptions, retained, queued, seconds, "recovered from the journal"
    );
}
