//! The log of a shard, run by its host: each turn appends the records of the engine, gives the disk what is due, and tells the
//! engine what the disk has done. A shard without a log pays one look for it in a turn.
//!
//! Invariant: the shard never waits for the disk, except for its last records at its end.

use std::time::{Duration, Instant};

use engine::{Engine, Event};
use journal::{Batch, Fault, Progress, Recovered, Settings, Writer};
use tracing::{error, info, warn};

use super::{Endpoint, Host};
use crate::persist::journal::{Done, Executor};
use crate::process::clock::{self, Clock};
use crate::shard::gauges::JournalState;

/// Time that the last records have to become durable when the broker stops.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// Time until a log is looked at again that is late, in microseconds.
const LATE_US: u64 = 50_000;

/// The log of one shard. **Lives on:** its shard, after it was recovered.
pub(crate) struct Journal {
    writer: Writer,
    executor: Executor,
    /// Requests that the disk was given and has not done.
    requests: usize,
    /// The progress that the engine was told.
    told: Progress,
    state: JournalState,
}

impl Journal {
    /// Goes on behind the end of a log.
    pub(crate) fn new(settings: Settings, recovered: Recovered, start: u32, executor: Executor) -> Self {
        let writer = Writer::new(settings, recovered, start);
        Self { writer, executor, requests: 0, told: Progress::default(), state: JournalState::None }
    }

    /// The progress that the engine is to be told now.
    fn news(&mut self, shard: u16) -> Option<Progress> {
        while let Some(done) = self.executor.take_done() {
            self.complete(shard, done);
        }
        self.untold()
    }

    fn untold(&mut self) -> Option<Progress> {
        let progress = self.writer.progress();
        let is_news = (progress.written, progress.synced) != (self.told.written, self.told.synced);
        self.told = progress;
        is_news.then_some(progress)
    }

    fn complete(&mut self, shard: u16, done: Done) {
        self.requests -= 1;
        let before = self.writer.progress();
        self.writer.complete(done.id, done.result, done.block);
        let after = self.writer.progress();
        let failure = done.failure.as_ref();
        let file = failure.map(|failure| failure.path.display().to_string()).unwrap_or_default();
        let operation = failure.map_or("use", |failure| failure.operation);
        let reason = failure.map(|failure| failure.error.to_string()).unwrap_or_default();
        if before.poisoned.is_none() && after.poisoned.is_some() {
            error!(
                shard,
                file,
                operation,
                reason,
                "the journal has failed: nothing more is acknowledged that has to survive; correct the disk, then restart the broker"
            );
        } else if before.degraded.is_none() && after.degraded.is_some() {
            let is_full = after.degraded == Some(Fault::NoSpace);
            warn!(
                shard,
                file,
                operation,
                reason,
                is_full,
                "the journal is degraded: it has no room for what follows, and tries again; make room"
            );
        } else if before.degraded.is_some() && after.degraded.is_none() {
            info!(shard, "the journal has room again");
        }
    }

    /// Gives the disk what is due.
    fn work(&mut self, clock: Clock) {
        while let Some(io) = self.writer.poll(clock.now_us(), true) {
            self.requests += 1;
            self.executor.begin(io);
        }
    }

    fn append(&mut self, clock: Clock, engine: &mut Engine) -> bool {
        let Some(records) = engine.records() else { return false };
        self.writer.set_clocks(clock.now().as_ms(), clock::unix_ms());
        let batch = Batch(records.batch.0);
        self.writer
            .append(clock.now_us(), batch, records.is_awaited, |out| out.extend_from_slice(records.bytes));
        true
    }

    fn state(&self) -> JournalState {
        let Progress { poisoned, degraded, .. } = self.writer.progress();
        match (poisoned, degraded) {
            (Some(_), _) => JournalState::Failed,
            (None, Some(_)) => JournalState::Degraded,
            (None, None) => JournalState::Serving,
        }
    }
}

impl<T: Endpoint> Host<T> {
    /// Serves the log, if there is one: the engine is told what is durable, and the disk is given what the engine recorded.
    pub(in crate::backend) fn serve_journal(&self) {
        let Some(journal) = &self.journal else { return };
        loop {
            let news = journal.borrow_mut().news(self.number);
            if let Some(progress) = news {
                self.tell_durable(progress);
            }
            let has_records = journal.borrow_mut().append(self.clock, &mut self.engine.borrow_mut());
            if !has_records && news.is_none() {
                break;
            }
        }
        let mut journal = journal.borrow_mut();
        journal.work(self.clock);
        let state = journal.state();
        if state != journal.state {
            journal.state = state;
            self.gauges.set_journal(state);
        }
        if journal.writer.unsynced_bytes() == 0 || journal.told.synced > Batch(0) {
            self.gauges.set_journal_begun();
        }
    }

    fn tell_durable(&self, progress: Progress) {
        let (written, synced) = (engine::Batch(progress.written.0), engine::Batch(progress.synced.0));
        let _nothing = self.step(Event::Durable { written: written.max(synced), synced });
    }

    /// Whether the disk has done nothing that the shard does not know.
    pub(in crate::backend) fn has_no_news_of_disk(&self) -> bool {
        self.journal.as_ref().is_none_or(|journal| !journal.borrow().executor.has_done())
    }

    /// When the log has something to do although the disk has nothing to say.
    pub(super) fn journal_deadline(&self) -> Option<Instant> {
        let journal = self.journal.as_ref()?.borrow();
        let due_us = journal.writer.next_deadline_us().filter(|_| journal.requests == 0)?;
        let now_us = self.clock.now_us();
        let wait_us = if due_us > now_us { due_us - now_us } else { LATE_US };
        Some(clock::read() + Duration::from_micros(wait_us))
    }

    /// Bytes that the log holds in memory.
    pub(super) fn journal_bytes(&self) -> u64 {
        self.journal.as_ref().map_or(0, |journal| journal.borrow().writer.memory_bytes())
    }

    /// The end of the log: waits until everything is durable.
    pub(super) fn end_journal(&self) {
        let Some(journal) = &self.journal else { return };
        let deadline = clock::read() + END_DEADLINE;
        loop {
            self.serve_journal();
            let mut journal = journal.borrow_mut();
            journal.writer.hurry();
            journal.work(self.clock);
            let progress = journal.writer.progress();
            if journal.writer.unsynced_bytes() == 0 || progress.poisoned.is_some() {
                return;
            }
            let rest = deadline.saturating_duration_since(clock::read());
            if rest.is_zero() || progress.degraded.is_some() {
                warn!(shard = self.number, "the last records did not become durable in time");
                return;
            }
            if let Some(done) = journal.executor.wait(rest) {
                journal.complete(self.number, done);
            }
        }
    }
}
