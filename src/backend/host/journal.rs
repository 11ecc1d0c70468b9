//! The log of a shard, run by its host: each turn appends the records of the engine, gives the disk what is due, and tells the
//! engine what the disk has done. A shard without a log pays one look for it in a turn. Once the log is long, turns add a slice each to
//! a checkpoint, which takes its place.
//!
//! Invariants: the shard never waits for the disk, except for its last records at its end. A slice is taken when the log has every
//! record of the engine, and after a turn has sent what it acknowledges.

use std::time::{Duration, Instant};

use engine::{CheckpointCursor, Engine, Event, LogRoom};
use journal::{Batch, Extent, Fault, Progress, Recovered, Settings, Writer};
use tracing::{debug, error, info, warn};

use super::{Endpoint, Host};
use crate::admin::operator::{LogAction, LogRow};
use crate::persist::journal::{Done, Executor};
use crate::process::clock::{self, Clock};
use crate::shard::gauges::JournalState;

/// Time that the last records have to become durable when the broker stops.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// Time until a log is looked at again that is late, in microseconds.
const LATE_US: u64 = 50_000;

/// Time in which the operator is not told again that publishers wait, in microseconds.
const SHORTAGE_SILENCE_US: u64 = 60_000_000;

/// Time for which files are kept after the operator has asked for it, in microseconds.
const FREEZE_US: u64 = 30_000_000;

/// Bytes of a checkpoint that one turn describes; one object at least.
const SLICE_BYTES_MAX: usize = 64 * 1024;

/// Time until a slice is tried again that the engine could not give, in microseconds.
const SLICE_RETRY_US: u64 = 1_000;

/// The log of one shard. **Lives on:** its shard, after it was recovered.
pub(crate) struct Journal {
    writer: Writer,
    executor: Executor,
    /// Requests that the disk was given and has not done.
    requests: usize,
    /// The progress that the engine was told.
    told: Progress,
    state: JournalState,
    /// The room that the engine was told.
    room: LogRoom,
    /// When the operator was told that publishers wait.
    shortage_told_us: Option<u64>,
    /// The operator asked for a checkpoint.
    is_checkpoint_asked: bool,
    /// Until when files are kept, because the operator copies them.
    frozen_until_us: Option<u64>,
    /// Where the checkpoint that is under way goes on, unless it has its last slice.
    cursor: Option<CheckpointCursor>,
}

impl Journal {
    /// Goes on behind the end of a log.
    pub(crate) fn new(settings: Settings, recovered: Recovered, start: u32, executor: Executor) -> Self {
        let writer = Writer::new(settings, recovered, start);
        Self {
            writer,
            executor,
            requests: 0,
            told: Progress::default(),
            state: JournalState::None,
            room: LogRoom::Free,
            shortage_told_us: None,
            is_checkpoint_asked: false,
            frozen_until_us: None,
            cursor: None,
        }
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
        let (before, checkpoint) = (self.writer.progress(), self.writer.checkpoint());
        self.writer.complete(done.id, done.result, done.block);
        let after = self.writer.progress();
        if self.writer.checkpoint() != checkpoint {
            let bytes = self.writer.checkpoint().map(|checkpoint| checkpoint.bytes);
            debug!(shard, bytes, "a checkpoint takes the place of the log before it");
        }
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
        if before.checkpoint_refused.is_none() && after.checkpoint_refused.is_some() {
            warn!(
                shard,
                file,
                operation,
                reason,
                "a checkpoint could not be written: the log stays long, and another one is tried in a minute"
            );
        }
    }

    /// Adds a slice to the checkpoint that is under way, or begins one if it is time. News of the disk go first: acknowledgements may
    /// wait for them.
    fn checkpoint(&mut self, clock: Clock, engine: &Engine) {
        if self.cursor.is_some() && !self.writer.is_checkpointing() {
            // It was given up.
            self.cursor = None;
        }
        let may_begin = self.cursor.is_none() && self.writer.may_begin_checkpoint();
        let is_due = self.wants_slice()
            || self.writer.is_checkpoint_due(clock.now_us())
            || (self.is_checkpoint_asked && may_begin);
        if !is_due || !engine.may_checkpoint() || self.executor.has_done() {
            return;
        }
        let cursor = self.cursor.take().unwrap_or_else(|| {
            self.writer.begin_checkpoint();
            self.is_checkpoint_asked = false;
            CheckpointCursor::default()
        });
        let mut slice = Vec::new();
        self.cursor = engine.checkpoint(clock.now(), cursor, SLICE_BYTES_MAX, &mut slice);
        self.writer.append_slice(&slice);
        if self.cursor.is_none() {
            self.writer.finish_checkpoint();
        }
        self.work(clock);
    }

    /// Whether the checkpoint that is under way takes another slice now.
    fn wants_slice(&self) -> bool {
        self.cursor.is_some() && self.writer.wants_slice() && self.writer.progress().poisoned.is_none()
    }

    /// Gives the disk what is due.
    fn work(&mut self, clock: Clock) {
        if self.frozen_until_us.is_some_and(|until_us| clock.now_us() >= until_us) {
            self.act(LogAction::Thaw, clock.now_us());
        }
        while let Some(io) = self.writer.poll(clock.now_us(), true) {
            self.requests += 1;
            self.executor.begin(io);
        }
    }

    /// Does what the operator asks. Returns whether files were kept before.
    fn act(&mut self, action: LogAction, now_us: u64) -> bool {
        let was_frozen = self.frozen_until_us.is_some();
        match action {
            LogAction::Look => {}
            // There is nothing to do if the last one has everything.
            LogAction::Checkpoint => {
                let position = self.writer.checkpoint().map_or(0, |checkpoint| checkpoint.position);
                self.is_checkpoint_asked = self.writer.end() > position;
            }
            LogAction::Freeze => {
                self.frozen_until_us = Some(now_us + FREEZE_US);
                self.writer.freeze(true);
            }
            LogAction::Thaw => {
                self.frozen_until_us = None;
                self.writer.freeze(false);
            }
        }
        was_frozen
    }

    fn row(&self, shard: u16, was_frozen: bool) -> LogRow {
        let Extent { checkpoint, segments, last_bytes } = self.writer.extent();
        let Progress { poisoned, checkpoint_refused, .. } = self.writer.progress();
        LogRow {
            shard,
            checkpoint,
            checkpoint_bytes: self.writer.checkpoint().map_or(0, |checkpoint| checkpoint.bytes),
            is_checkpointing: self.is_checkpoint_asked || self.writer.is_checkpointing(),
            has_refused: poisoned.or(checkpoint_refused).is_some(),
            segments,
            last_bytes,
            was_frozen,
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

    /// How much the log takes from now on, if that has changed.
    fn new_room(&mut self, shard: u16, now_us: u64) -> Option<LogRoom> {
        let room = if self.writer.progress().poisoned.is_some() {
            LogRoom::Failed
        } else if self.writer.is_full(now_us) {
            LogRoom::Full
        } else if self.writer.has_room() {
            LogRoom::Free
        } else {
            LogRoom::Short
        };
        let is_short = matches!(room, LogRoom::Short | LogRoom::Full);
        if is_short && self.shortage_told_us.is_none_or(|told_us| now_us >= told_us + SHORTAGE_SILENCE_US) {
            self.shortage_told_us = Some(now_us);
            let unsynced_bytes = self.writer.unsynced_bytes();
            warn!(
                shard,
                unsynced_bytes,
                "the disk takes less than is to be kept: publishers of messages that have to survive wait for it"
            );
        }
        let is_news = room != self.room;
        self.room = room;
        is_news.then_some(room)
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
        let room = {
            let mut journal = journal.borrow_mut();
            journal.work(self.clock);
            journal.new_room(self.number, self.clock.now_us())
        };
        if let Some(room) = room {
            let _nothing = self.step(Event::LogRoom(room));
        }
        let mut journal = journal.borrow_mut();
        let state = journal.state();
        if state != journal.state {
            journal.state = state;
            self.gauges.set_journal(state);
        }
        if journal.writer.unsynced_bytes() == 0 || journal.told.synced > Batch(0) {
            self.gauges.set_journal_begun();
        }
    }

    /// The end of a turn: the engine describes a part of what the log is about, if a checkpoint wants one.
    pub(super) fn checkpoint_slice(&self) {
        let Some(journal) = &self.journal else { return };
        journal.borrow_mut().checkpoint(self.clock, &self.engine.borrow());
    }

    /// Does what the operator asks of the log, and tells how it is; `None` without one.
    pub(super) fn act_on_log(&self, action: LogAction) -> Option<LogRow> {
        let mut journal = self.journal.as_ref()?.borrow_mut();
        let was_frozen = journal.act(action, self.clock.now_us());
        Some(journal.row(self.number, was_frozen))
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
        if journal.wants_slice() {
            let is_refused = !self.engine.borrow().may_checkpoint();
            let wait_us = if is_refused { SLICE_RETRY_US } else { 0 };
            return Some(clock::read() + Duration::from_micros(wait_us));
        }
        // A checkpoint may take long, and no result of it says that a commit is due.
        let is_told = journal.requests > 0 && !journal.writer.is_checkpointing();
        let due_us = journal.writer.next_deadline_us().filter(|_| !is_told)?;
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
