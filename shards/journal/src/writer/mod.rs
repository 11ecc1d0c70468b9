//! The writer of a log: gathers records, makes commits of them, and says which I/O is due.
//!
//! Invariants: commits are written in the order of their numbers, at most [`Settings::writes_max`] at the same time; and
//! [`Progress`] only ever covers a prefix. A segment is used once its name and its zeros are durable, so a commit never needs
//! more than its own write and one sync.

mod checkpoint;
mod segments;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::checkpoint::Checkpoint;
use crate::commit::{self, HEADER_BYTES, PAYLOAD_BYTES_MAX};
use crate::io::{Block, Fault, File, Io, IoId};
use crate::recover::Recovered;
use crate::segment::LogIdentity;
use crate::settings::{SECTOR_BYTES, Settings};

use checkpoint::Draft;
pub use segments::Extent;
use segments::{Deletion, Preparation};

/// Room for records that wait, in bytes, which is never given back.
const OPEN_BYTES_KEPT: usize = 4 << 20;

/// Everything that was appended up to some moment. The numbers of the caller never fall.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Batch(pub u64);

/// How far a log has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Everything up to here was written: it survives the end of the process.
    pub written: Batch,
    /// Everything up to here is durable: it survives the loss of power.
    pub synced: Batch,
    /// A write or a sync failed: there is no further progress, and what is appended is dropped.
    pub poisoned: Option<Fault>,
    /// The next segment could not be created. It is tried again.
    pub degraded: Option<Fault>,
    /// The last checkpoint could not be written. The one before and its log stay, and it is tried again.
    pub checkpoint_refused: Option<Fault>,
}

/// A commit on its way.
#[derive(Debug)]
struct Flight {
    sequence: u64,
    segment: u64,
    /// Where its block stands in the segment.
    offset: u64,
    /// The end of its records in the stream.
    end: u64,
    /// The request, until it is written.
    writing: Option<IoId>,
}

/// The segment that is written to.
#[derive(Clone, Copy, Debug)]
struct Active {
    segment: u64,
    offset: u64,
    bytes: u64,
}

/// A segment that is in use.
#[derive(Clone, Copy, Debug)]
struct InUse {
    segment: u64,
    /// The position at which it begins.
    position: u64,
    /// Its length; of one that was recovered, at least what it has.
    bytes: u64,
}

/// A sync on its way.
#[derive(Clone, Copy, Debug)]
struct Sync {
    id: IoId,
    segment: u64,
    /// The commits below this number are durable once it is done; of a segment that was recovered, none of ours are.
    covers_below: u64,
}

/// **Lives on:** the shard of its log. **Sees:** that log.
#[derive(Debug)]
pub struct Writer {
    settings: Settings,
    identity: LogIdentity,
    start: u32,
    /// Records that are in no commit yet. It begins in the middle of one that was too long.
    open: Vec<u8>,
    open_since_us: u64,
    /// Somebody waits for what is open.
    is_awaited: bool,
    /// Where `open` begins in the stream.
    position: u64,
    /// The ends of what was appended in the stream, until it is durable; bounded by the bytes that may wait for the disk.
    marks: VecDeque<(u64, Batch)>,
    next_sequence: u64,
    synced_below: u64,
    /// Commits that are not durable, oldest first.
    flights: VecDeque<Flight>,
    /// The rest of writes that were short.
    rests: VecDeque<(IoId, u64, u64, Block)>,
    written_end: u64,
    synced_end: u64,
    active: Option<Active>,
    preparation: Preparation,
    last_segment: u64,
    segments: VecDeque<InUse>,
    /// The length of the segment that is prepared, or is to be.
    next_segment_bytes: u64,
    /// The checkpoint that the log goes on from.
    checkpoint: Option<Checkpoint>,
    /// The one that is being written.
    draft: Option<Draft>,
    /// When another checkpoint may be begun, after one failed.
    checkpoint_retry_us: u64,
    /// Recovered segments that are to be made durable before the log goes on.
    recovered: Vec<u64>,
    sync: Option<Sync>,
    deletion: Deletion,
    write_began_us: Option<u64>,
    broker_ms: u64,
    wall_ms: u64,
    blocks: Vec<Block>,
    requests: u64,
    progress: Progress,
}

impl Writer {
    /// Goes on behind the end of a log, in a start with this number, which is durable.
    ///
    /// # Panics
    /// If the start is not newer than those in the log, or a segment has no room for a commit.
    #[must_use]
    pub fn new(settings: Settings, log: Recovered, start: u32) -> Self {
        assert!(start > log.last_start);
        assert!(settings.writes_max > 0);
        assert!(settings.segment_bytes >= 2 * SECTOR_BYTES as u64);
        assert!(settings.segment_bytes.is_multiple_of(SECTOR_BYTES as u64));
        assert!(settings.first_segment_bytes >= 2 * SECTOR_BYTES as u64);
        assert!(settings.first_segment_bytes.is_multiple_of(SECTOR_BYTES as u64));
        let first_bytes = settings.first_segment_bytes.min(settings.segment_bytes);
        let settings = Settings { first_segment_bytes: first_bytes, ..settings };
        let ends = log.segments.iter().skip(1).map(|&(_, position)| position).chain([log.position]);
        let segments = log.segments.iter().zip(ends).map(|(&(segment, position), end)| InUse {
            segment,
            position,
            bytes: end.saturating_sub(position).max(first_bytes),
        });
        let segments = segments.collect();
        Self {
            settings,
            identity: log.identity,
            start,
            open: Vec::new(),
            open_since_us: 0,
            is_awaited: false,
            position: log.position,
            marks: VecDeque::new(),
            next_sequence: log.next_sequence,
            // Everything that was recovered is made durable before anything is written.
            synced_below: log.next_sequence,
            flights: VecDeque::new(),
            rests: VecDeque::new(),
            written_end: log.position,
            synced_end: log.position,
            active: None,
            preparation: Preparation::None,
            last_segment: log.last_segment,
            segments,
            next_segment_bytes: first_bytes,
            checkpoint: log.checkpoint,
            draft: None,
            checkpoint_retry_us: 0,
            recovered: log.unsynced_segments,
            sync: None,
            deletion: Deletion::of(log.unneeded),
            write_began_us: None,
            broker_ms: log.broker_ms,
            wall_ms: log.wall_ms,
            blocks: Vec::new(),
            requests: 0,
            progress: Progress::default(),
        }
    }

    /// Sets the clocks that the next commits carry, in milliseconds.
    ///
    /// # Panics
    /// If the broker's time falls.
    pub fn set_clocks(&mut self, broker_ms: u64, wall_ms: u64) {
        assert!(broker_ms >= self.broker_ms, "the broker's time never falls");
        (self.broker_ms, self.wall_ms) = (broker_ms, wall_ms);
    }

    /// Appends the records that `encode` writes, as the end of `batch`. If nobody waits for them (`is_awaited`), they may
    /// stay in memory for [`Settings::unawaited_delay_us`]. A log that is poisoned drops them.
    ///
    /// # Panics
    /// If the number of the batch falls.
    pub fn append(&mut self, now_us: u64, batch: Batch, is_awaited: bool, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.progress.poisoned.is_some() {
            return;
        }
        if self.open.is_empty() {
            self.open_since_us = now_us;
        }
        encode(&mut self.open);
        self.is_awaited |= is_awaited;
        let end = self.end();
        match self.marks.back_mut() {
            Some((last_end, last)) if *last_end == end || *last == batch => {
                assert!(*last <= batch);
                (*last_end, *last) = (end, batch);
            }
            Some(&mut (_, last)) => {
                assert!(last < batch);
                self.marks.push_back((end, batch));
            }
            None => self.marks.push_back((end, batch)),
        }
        self.note_progress();
    }

    /// Lets nothing that was appended stay in memory: somebody waits for all of it.
    pub fn hurry(&mut self) {
        self.is_awaited |= !self.open.is_empty();
    }

    /// How far the log has come.
    #[must_use]
    pub const fn progress(&self) -> Progress {
        self.progress
    }

    /// The end of the stream: the position of the next record.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.position + self.open.len() as u64
    }

    /// The end of the durable part of the stream.
    #[must_use]
    pub const fn synced_end(&self) -> u64 {
        self.synced_end
    }

    /// Bytes that wait for the disk.
    #[must_use]
    pub fn unsynced_bytes(&self) -> u64 {
        self.end() - self.synced_end
    }

    /// Whether more may be appended by whoever can wait. Always, once the log is poisoned: then it holds nothing.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.progress.poisoned.is_some() || self.unsynced_bytes() < self.settings.unsynced_bytes_max
    }

    /// Whether not even what comes rarely may be appended: twice as much waits as [`Writer::has_room`] allows, or the disk has refused a
    /// segment for so long that what is open has waited for [`Settings::retry_delay_us`].
    #[must_use]
    pub fn is_full(&self, now_us: u64) -> bool {
        let is_stuck = self.progress.degraded.is_some()
            && !self.open.is_empty()
            && now_us >= self.open_since_us.saturating_add(self.settings.retry_delay_us);
        let is_long = self.unsynced_bytes() >= self.settings.unsynced_bytes_max.saturating_mul(2);
        self.progress.poisoned.is_none() && (is_stuck || is_long)
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let in_flight = self.flights.iter().filter(|flight| flight.writing.is_some()).count();
        let blocks = (self.blocks.len() + in_flight) * (2 * SECTOR_BYTES + self.settings.commit_bytes);
        let marks = self.marks.capacity() * size_of::<(u64, Batch)>();
        let flights = self.flights.capacity() * size_of::<Flight>();
        let draft = self.draft.as_ref().map_or(0, Draft::memory_bytes);
        (size_of::<Self>() + self.open.capacity() + blocks + marks + flights + draft) as u64
    }

    /// When [`Writer::poll`] has something to say although nothing is completed or appended; `None` if never.
    #[must_use]
    pub fn next_deadline_us(&self) -> Option<u64> {
        let retry = self.preparation.retry_us();
        let commit = (!self.open.is_empty()).then(|| {
            let unawaited = self.open_since_us + self.settings.unawaited_delay_us;
            if self.is_awaited { self.commit_due_us().min(unawaited) } else { unawaited }
        });
        [retry, commit].into_iter().flatten().min()
    }

    /// The next I/O that is due, if there is some. `would_sleep` says that the shard has nothing else to do, so that waiting for
    /// more records gains nothing. To be called until it returns `None`, after whatever was appended or completed.
    pub fn poll(&mut self, now_us: u64, would_sleep: bool) -> Option<Io> {
        if self.progress.poisoned.is_some() {
            return None;
        }
        if let Some((id, segment, offset, block)) = self.rests.pop_front() {
            return Some(Io::Write { id, file: File::Segment(segment), offset, block });
        }
        if let Some(io) = self.prepare(now_us) {
            return Some(io);
        }
        if let Some(io) = self.commit(now_us, would_sleep) {
            return Some(io);
        }
        self.sync_next().or_else(|| self.draft_next(now_us)).or_else(|| self.delete_next())
    }

    /// The result of a request: the bytes that were written, or 0 for all but a write. `block` is that of a write.
    ///
    /// # Panics
    /// If there is no such request.
    pub fn complete(&mut self, id: IoId, result: Result<usize, Fault>, block: Option<Block>) {
        if self.complete_preparation(id, result) || self.complete_deletion(id, result) {
            return;
        }
        if self.draft.as_ref().is_some_and(|draft| draft.has_asked(id)) {
            self.complete_draft(id, result, block);
            return;
        }
        if self.sync.is_some_and(|sync| sync.id == id) {
            let sync = self.sync.take().expect("it was just found");
            match result {
                Ok(_) => self.synced(sync),
                Err(fault) => self.poison(fault),
            }
            return;
        }
        let at = self.flights.iter().position(|flight| flight.writing == Some(id));
        let at = at.expect("every other request is a write");
        let mut block = block.expect("the block of a write comes back");
        match result {
            Ok(bytes) if bytes > 0 => {
                let flight = &mut self.flights[at];
                if block.advance(bytes) {
                    let offset = flight.offset + block.written() as u64;
                    self.rests.push_back((id, flight.segment, offset, block));
                    return;
                }
                flight.writing = None;
                self.blocks.push(block);
                self.note_written();
            }
            // A write that takes nothing would be repeated for ever.
            Ok(_) => self.poison(Fault::NoSpace),
            Err(fault) => self.poison(fault),
        }
    }

    fn commit_due_us(&self) -> u64 {
        self.write_began_us.map_or(0, |began| began + self.settings.commit_delay_us)
    }

    /// Begins to write what is open, if it is due and there is a place for it.
    fn commit(&mut self, now_us: u64, would_sleep: bool) -> Option<Io> {
        let writing = self.flights.iter().filter(|flight| flight.writing.is_some()).count();
        let is_due = self.open.len() >= self.settings.commit_bytes
            || (self.is_awaited && (would_sleep || now_us >= self.commit_due_us()))
            || now_us >= self.open_since_us.saturating_add(self.settings.unawaited_delay_us);
        if self.open.is_empty() || !is_due || writing >= self.settings.writes_max {
            return None;
        }
        let length = self.open.len().min(PAYLOAD_BYTES_MAX).min(self.longest_payload());
        let commit_bytes = (HEADER_BYTES + length).next_multiple_of(SECTOR_BYTES);
        let (segment, offset, header) = self.place(commit_bytes)?;
        let id = self.request();
        let mut block = self.blocks.pop().unwrap_or_default();
        let head = commit::Header {
            sequence: self.next_sequence,
            start: self.start,
            synced_below: self.synced_below,
            position: self.position,
            broker_ms: self.broker_ms,
            wall_ms: self.wall_ms,
        };
        block.fill(SECTOR_BYTES + commit_bytes, |out| {
            if let Some(header) = &header {
                header.encode(out);
            }
            commit::encode(out, &head, &self.open[..length]);
        });
        self.open.drain(..length);
        // The memory of records that waited for a slow or full disk is given back.
        if self.open.capacity() > OPEN_BYTES_KEPT && self.open.capacity() / 4 > self.open.len() {
            self.open.shrink_to(OPEN_BYTES_KEPT.max(2 * self.open.len()));
        }
        self.is_awaited &= !self.open.is_empty();
        self.open_since_us = now_us;
        self.position += length as u64;
        self.next_sequence += 1;
        self.write_began_us = Some(now_us);
        let (sequence, end) = (head.sequence, self.position);
        self.flights.push_back(Flight { sequence, segment, offset, end, writing: Some(id) });
        Some(Io::Write { id, file: File::Segment(segment), offset, block })
    }

    /// Bytes of records that fit into any empty segment.
    fn longest_payload(&self) -> usize {
        let bytes = usize::try_from(self.settings.first_segment_bytes).unwrap_or(usize::MAX);
        bytes - SECTOR_BYTES - HEADER_BYTES
    }

    /// Asks for a sync of the oldest commits that are written and not durable.
    fn sync_next(&mut self) -> Option<Io> {
        if self.sync.is_some() {
            return None;
        }
        let oldest = self.flights.front()?;
        let segment = oldest.segment;
        let written = |flight: &&Flight| flight.segment == segment && flight.writing.is_none();
        let covers_below = self.flights.iter().take_while(written).last()?.sequence + 1;
        let id = self.request();
        self.sync = Some(Sync { id, segment, covers_below });
        Some(Io::Sync { id, file: File::Segment(segment) })
    }

    fn synced(&mut self, sync: Sync) {
        if self.recovered.first() == Some(&sync.segment) {
            self.recovered.remove(0);
            return;
        }
        while self.flights.front().is_some_and(|flight| flight.sequence < sync.covers_below) {
            let flight = self.flights.pop_front().expect("there is a first one");
            assert!(flight.writing.is_none() && flight.segment == sync.segment);
            self.synced_end = flight.end;
        }
        assert!(self.synced_below <= sync.covers_below);
        self.synced_below = sync.covers_below;
        self.note_written();
        self.release();
    }

    fn note_written(&mut self) {
        let written = self.flights.iter().take_while(|flight| flight.writing.is_none()).last();
        self.written_end = written.map_or(self.synced_end, |flight| flight.end).max(self.written_end);
        self.note_progress();
    }

    /// Finds out what of the caller's batches is written and durable.
    fn note_progress(&mut self) {
        assert!(self.synced_end <= self.written_end && self.written_end <= self.position);
        while let Some(&(_, batch)) = self.marks.front().filter(|&&(end, _)| end <= self.synced_end) {
            self.progress.synced = batch;
            self.marks.pop_front();
        }
        let written = self.marks.iter().take_while(|&&(end, _)| end <= self.written_end).last();
        let written = written.map_or(self.progress.synced, |&(_, batch)| batch);
        assert!(written >= self.progress.written || written >= self.progress.synced);
        self.progress.written = self.progress.written.max(written);
    }

    fn poison(&mut self, fault: Fault) {
        self.progress.poisoned = Some(self.progress.poisoned.unwrap_or(fault));
        self.open = Vec::new();
        self.marks = VecDeque::new();
        self.rests = VecDeque::new();
    }

    fn request(&mut self) -> IoId {
        self.requests += 1;
        IoId(self.requests)
    }
}
