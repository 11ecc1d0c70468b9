//! The state of a data directory that no broker uses: read into engines, and written as checkpoints.

use std::time::Duration;

use engine::{CheckpointCursor, Engine, Records};
use journal::{Batch, Progress, Recovered, Settings, Writer};

use super::{Bar, print};
use crate::config::Config;
use crate::error::StartupError;
use crate::persist::journal::{Directory, Executor, Opened};
use crate::process::clock::{self, Clock};
use crate::shard::engines::{self, Begun};
use crate::shard::rest;

/// Bytes of a slice.
const SLICE_BYTES_MAX: usize = 1024 * 1024;

/// Time after which a disk that does nothing is given up.
const DISK_PATIENCE: Duration = Duration::from_mins(10);

/// Reads all logs into engines, as a start does. Returns the end of each as well.
///
/// # Errors
/// Those of a start.
pub(super) fn read(
    config: &Config,
    logs: &Opened,
) -> Result<(Clock, Vec<Engine>, Vec<Recovered>), StartupError> {
    let bar = std::cell::RefCell::new(Bar::new());
    let (clock, begun) =
        engines::begin(config, (logs.shard_count(), logs.key()), None, Some(logs), &|how_far| {
            let engines::HowFar { percent, records, sessions, retained, .. } = how_far;
            let line =
                format!("reading: {percent} %, {records} records, {sessions} sessions, {retained} retained");
            bar.borrow_mut().show(line);
        })?;
    let shards = begun.into_iter().filter_map(|Begun { engine, log }| Some((engine, log?.0)));
    let (engines, ends) = shards.unzip();
    Ok((clock, engines, ends))
}

/// A log that is written, and the threads that do so.
struct Log {
    writer: Writer,
    executor: Executor,
    requests: usize,
    directory: Directory,
}

impl Log {
    /// Gives the disk everything that is due, and waits for one result.
    fn go_on(&mut self) -> Result<(), StartupError> {
        self.writer.hurry();
        while let Some(io) = self.writer.poll(0, true) {
            self.requests += 1;
            self.executor.begin(io);
        }
        if self.requests == 0 {
            return Ok(());
        }
        let Some(done) = self.executor.wait(DISK_PATIENCE) else {
            return Err(self.failed(std::io::ErrorKind::TimedOut.into()));
        };
        self.requests -= 1;
        self.writer.complete(done.id, done.result, done.block);
        let Progress { poisoned, degraded, checkpoint_refused, .. } = self.writer.progress();
        if poisoned.or(degraded).or(checkpoint_refused).is_some() {
            let error =
                done.failure.map_or_else(|| std::io::Error::other("the disk has failed"), |it| it.error);
            return Err(self.failed(error));
        }
        Ok(())
    }

    fn failed(&self, error: std::io::Error) -> StartupError {
        StartupError::system(format!("write the journal in {}", self.directory.path().display()), error)
    }

    /// Waits until nothing is under way.
    fn settle(&mut self) -> Result<(), StartupError> {
        loop {
            self.go_on()?;
            if self.requests == 0 && self.writer.unsynced_bytes() == 0 && !self.writer.is_checkpointing() {
                return Ok(());
            }
        }
    }

    /// Writes records, and waits until they are durable.
    fn keep(&mut self, records: Records<'_>, clock: Clock) -> Result<engine::Batch, StartupError> {
        self.writer.set_clocks(clock.now().as_ms(), clock::unix_ms());
        self.writer.append(0, Batch(records.batch.0), true, |out| out.extend_from_slice(records.bytes));
        self.settle()?;
        Ok(engine::Batch(self.writer.progress().synced.0))
    }
}

/// The log that the state of a shard goes into: its directory, its end, and the number of the start.
pub(super) type Target = (Directory, Recovered, u32);

/// Brings the engines of all shards to rest, and writes their state as checkpoints behind the ends of logs, which are durable then.
/// `tell` is called with each engine and the length of its checkpoint in bytes; 0 if the last one has everything.
///
/// # Errors
/// If the disk fails or has no room.
pub(super) fn write(
    mut engines: Vec<Engine>,
    targets: Vec<Target>,
    (clock, settings): (Clock, Settings),
    tell: impl Fn(u16, &Engine, u64),
) -> Result<(), StartupError> {
    let mut logs = Vec::new();
    for ((directory, end, start), engine) in targets.into_iter().zip(&mut engines) {
        if end.segments.is_empty() {
            engine.record_nothing();
        }
        let executor = Executor::start(end.identity.shard, &directory, || {})
            .map_err(|error| StartupError::system("start the thread of a log", error))?;
        logs.push(Log { writer: Writer::new(settings, end, start), executor, requests: 0, directory });
    }
    // A shard has taken in what another one no longer has, so no checkpoint is written before this is durable everywhere.
    rest::come_to_rest(clock, &mut engines, |shard, records| logs[usize::from(shard)].keep(records, clock))?;
    for (shard, (mut log, engine)) in (0..).zip(logs.into_iter().zip(&engines)) {
        log.settle()?;
        let bytes = log.write_checkpoint(shard, engine, clock)?;
        tell(shard, engine, bytes);
    }
    Ok(())
}

/// Prints the counts of a shard that was written.
pub(super) fn tell_written(shard: u16, engine: &Engine, _bytes: u64) {
    let (sessions, retained) = (engine.session_count(), engine.retained_count());
    print(&format!("shard {shard}: {sessions} sessions, {retained} retained messages"));
}

impl Log {
    /// Writes the state of an engine behind the end of the log. Returns its length in bytes; 0 if the last checkpoint has everything.
    fn write_checkpoint(&mut self, shard: u16, engine: &Engine, clock: Clock) -> Result<u64, StartupError> {
        if !self.writer.may_begin_checkpoint() {
            return Ok(0);
        }
        self.writer.begin_checkpoint();
        let (mut bar, mut written) = (Bar::new(), 0);
        let mut cursor = Some(CheckpointCursor::default());
        while let Some(at) = cursor.take() {
            while !self.writer.wants_slice() {
                self.go_on()?;
            }
            let mut slice = Vec::new();
            cursor = engine.checkpoint(clock.now(), at, SLICE_BYTES_MAX, &mut slice);
            self.writer.append_slice(&slice);
            written += slice.len();
            bar.show(format!("shard {shard}: {} MiB written", written / 1024 / 1024));
        }
        self.writer.finish_checkpoint();
        self.settle()?;
        Ok(self.writer.checkpoint().map_or(0, |checkpoint| checkpoint.bytes))
    }
}
