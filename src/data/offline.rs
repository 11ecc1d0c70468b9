//! The state of a data directory that no broker uses: read into engines, and written as checkpoints.

use std::time::Duration;

use engine::{Actions, CheckpointCursor, Engine, Event};
use journal::{Batch, Progress, Recovered, Settings, Writer};

use super::Bar;
use crate::config::Config;
use crate::error::StartupError;
use crate::persist::journal::{Directory, Executor, Opened};
use crate::process::clock::{self, Clock};
use crate::shard::engines::{self, Begun};

/// Bytes of a slice.
const SLICE_BYTES_MAX: usize = 1024 * 1024;

/// Time after which a disk that does nothing is given up.
const DISK_PATIENCE: Duration = Duration::from_mins(10);

/// Steps in which an engine ends what recovery has begun, at most.
const STEPS_MAX: u32 = 10_000_000;

/// Reads all logs into engines, as a start does.
///
/// # Errors
/// Those of a start.
pub(super) fn read(config: &Config, logs: &Opened) -> Result<(Clock, Vec<Begun>), StartupError> {
    let bar = std::cell::RefCell::new(Bar::new());
    engines::begin(config, (logs.shard_count(), logs.key()), None, Some(logs), &|how_far| {
        let engines::HowFar { percent, records, sessions, retained, .. } = how_far;
        let line =
            format!("reading: {percent} %, {records} records, {sessions} sessions, {retained} retained");
        bar.borrow_mut().show(line);
    })
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

    /// Takes the records of an engine, until it has nothing more to end.
    fn take_records(&mut self, engine: &mut Engine, clock: Clock) -> Result<(), StartupError> {
        for _ in 0..STEPS_MAX {
            if let Some(records) = engine.records() {
                self.writer.set_clocks(clock.now().as_ms(), clock::unix_ms());
                let batch = Batch(records.batch.0);
                self.writer.append(0, batch, true, |out| out.extend_from_slice(records.bytes));
                self.settle()?;
                let synced = engine::Batch(self.writer.progress().synced.0);
                let _nothing = engine.step(clock.now(), Event::durable(synced), &mut Actions::new());
            } else if engine.may_checkpoint() {
                return Ok(());
            } else {
                let _nothing = engine.step(clock.now(), Event::Tick, &mut Actions::new());
            }
        }
        Err(self.failed(std::io::Error::other("the recovered state does not come to rest")))
    }
}

/// Writes the state of an engine as a checkpoint behind the end of a log, and waits until it is durable. Returns its length in bytes; 0
/// if the last one has everything.
///
/// # Errors
/// If the disk fails or has no room.
pub(super) fn write(
    engine: &mut Engine,
    clock: Clock,
    (directory, end, start): (Directory, Recovered, u32),
    settings: Settings,
) -> Result<u64, StartupError> {
    let is_new = end.segments.is_empty();
    let shard = end.identity.shard;
    let executor = Executor::start(shard, &directory, || {})
        .map_err(|error| StartupError::system("start the thread of a log", error))?;
    let mut log = Log { writer: Writer::new(settings, end, start), executor, requests: 0, directory };
    if is_new {
        engine.record_nothing();
    }
    log.take_records(engine, clock)?;
    log.settle()?;
    if !log.writer.may_begin_checkpoint() {
        return Ok(0);
    }
    log.writer.begin_checkpoint();
    let (mut bar, mut written) = (Bar::new(), 0);
    let mut cursor = Some(CheckpointCursor::default());
    while let Some(at) = cursor.take() {
        while !log.writer.wants_slice() {
            log.go_on()?;
        }
        let mut slice = Vec::new();
        cursor = engine.checkpoint(clock.now(), at, SLICE_BYTES_MAX, &mut slice);
        log.writer.append_slice(&slice);
        written += slice.len();
        bar.show(format!("shard {shard}: {} MiB written", written / 1024 / 1024));
    }
    log.writer.finish_checkpoint();
    log.settle()?;
    Ok(log.writer.checkpoint().map_or(0, |checkpoint| checkpoint.bytes))
}
