//! The log of one shard, driven as the real host drives it: each turn appends the records of the engine, gives the disk what is due, tells
//! the engine what the disk has done, and adds a slice to a checkpoint.

use std::collections::VecDeque;

use engine::{CheckpointCursor, Event};
use journal::{
    Batch, CheckpointReader, Damage, DamageKind, File, LogIdentity, Progress, Recovered, Recovery,
    SECTOR_BYTES, Settings, Writer,
};

use crate::disk::{Crash, Disk};
use crate::shard::Shard;
use crate::world::World;

/// Bounds so small that everything turns over quickly.
pub(crate) const JOURNAL: Settings = Settings {
    segment_bytes: 16 * 1024,
    first_segment_bytes: 16 * 1024,
    commit_bytes: 6 * 1024,
    commit_delay_us: 500,
    unawaited_delay_us: 20_000,
    writes_max: 2,
    unsynced_bytes_max: 64 * 1024,
    retry_delay_us: 5_000,
    checkpoint_growth_bytes: 64 * 1024,
    checkpoint_retry_delay_us: 10_000,
};

/// Bytes of a slice of a checkpoint; one object at least.
const SLICE_BYTES_MAX: usize = 500;

/// The place of a record that is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// A slice of the checkpoint, as of this position.
    Checkpoint(u64),
    /// The log, at this position.
    Log(u64),
}

/// The log of a shard that runs. **Lives on:** that shard, from its start to the end of the process.
#[derive(Debug)]
pub(crate) struct ShardLog {
    pub(crate) writer: Writer,
    /// The progress that the engine was told.
    told: Progress,
    /// Where the checkpoint that is under way goes on, unless it has its last slice.
    cursor: Option<CheckpointCursor>,
    /// The ends of batches, oldest first, until they are durable.
    batches: VecDeque<(Batch, u64)>,
    /// For each turn, the end of the log and the moment. Everything that happened before it is durable with that end.
    ends: VecDeque<(u64, u64)>,
    /// Everything that happened before this moment is durable.
    pub(crate) firm_at: u64,
}

impl ShardLog {
    pub(crate) fn new(writer: Writer) -> Self {
        Self {
            writer,
            told: Progress::default(),
            cursor: None,
            batches: VecDeque::new(),
            ends: VecDeque::new(),
            firm_at: 0,
        }
    }

    fn news(&mut self) -> Option<Progress> {
        let progress = self.writer.progress();
        while self.batches.get(1).is_some_and(|(batch, _)| *batch <= progress.synced) {
            self.batches.pop_front();
        }
        let is_news = (progress.written, progress.synced) != (self.told.written, self.told.synced);
        self.told = progress;
        is_news.then_some(progress)
    }

    /// The part of the log that a crash leaves.
    pub(crate) fn promised_end(&self, crash: Crash) -> u64 {
        let progress = self.writer.progress();
        // A disk that failed may have dropped what was written.
        let is_synced = crash == Crash::Power || progress.poisoned.is_some();
        let batch = if is_synced { progress.synced } else { progress.written.max(progress.synced) };
        let promised = self.batches.iter().take_while(|(of, _)| *of <= batch).last();
        promised.map_or(0, |(_, end)| *end)
    }

    /// Whether the disk has everything, or has failed.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.is_poisoned() || (self.writer.unsynced_bytes() == 0 && !self.writer.is_checkpointing())
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.writer.progress().poisoned.is_some()
    }

    fn wants_slice(&self) -> bool {
        self.cursor.is_some() && self.writer.wants_slice() && !self.is_poisoned()
    }
}

impl World {
    /// The engine is told what is durable, and the disk is given what the engine recorded.
    pub(crate) fn serve_log(&mut self, shard: usize) {
        if self.shards[shard].log.is_none() {
            return;
        }
        self.let_disk_work(shard);
        loop {
            let log = self.shards[shard].log.as_mut().expect("it has one");
            let news = log.news();
            if let Some(progress) = news {
                let written = engine::Batch(progress.written.max(progress.synced).0);
                let synced = engine::Batch(progress.synced.0);
                self.trace.note(self.now_ms, "durable", [shard as u64, written.0, synced.0, 0]);
                self.step(shard, Event::Durable { written, synced });
            }
            if !self.append_records(shard) && news.is_none() {
                break;
            }
        }
        self.note_firm(shard);
        self.give_disk_work(shard);
    }

    fn let_disk_work(&mut self, shard: usize) {
        let Some(machine) = &mut self.machine else { return };
        // A turn may come before the disk has done all that it could have.
        while !(self.settings.random && machine.chance.percent(10)) {
            let disk = &mut machine.disks[shard];
            let Some(done) = disk.work(self.now_ms, &machine.disk_settings, &mut machine.chance) else {
                break;
            };
            let log = self.shards[shard].log.as_mut().expect("it has one");
            let before = log.writer.checkpoint();
            let (is_ok, bytes) = (done.result.is_ok(), done.result.unwrap_or(0));
            self.trace.note(self.now_ms, "disk", [shard as u64, u64::from(is_ok), bytes as u64, 0]);
            let was_poisoned = log.is_poisoned();
            log.writer.complete(done.id, done.result, done.block);
            machine.checkpoint_count += u64::from(log.writer.checkpoint() != before);
            machine.poison_count += u64::from(log.is_poisoned() && !was_poisoned);
        }
    }

    fn append_records(&mut self, shard: usize) -> bool {
        let (now_ms, wall_ms) = (self.now_ms, self.machine.as_ref().map_or(0, |machine| machine.wall_ms));
        let shard = &mut self.shards[shard];
        let Some(records) = shard.engine.records() else { return false };
        let log = shard.log.as_mut().expect("an engine with records has a log");
        log.writer.set_clocks(now_ms, wall_ms);
        let batch = Batch(records.batch.0);
        log.writer.append(now_ms * 1_000, batch, records.is_awaited, |out| {
            out.extend_from_slice(records.bytes);
        });
        log.batches.push_back((batch, log.writer.end()));
        true
    }

    fn note_firm(&mut self, shard: usize) {
        let stamp = self.trace.stamp();
        let log = self.shards[shard].log.as_mut().expect("it has one");
        if log.is_poisoned() {
            return;
        }
        log.ends.push_back((log.writer.end(), stamp));
        let synced_end = log.writer.synced_end();
        while let Some((_, stamp)) = log.ends.pop_front_if(|(end, _)| *end <= synced_end) {
            log.firm_at = stamp;
        }
    }

    fn give_disk_work(&mut self, shard: usize) {
        let now_ms = self.now_ms;
        let log = self.shards[shard].log.as_mut().expect("it has one");
        let Some(machine) = &mut self.machine else { return };
        while let Some(io) = log.writer.poll(now_ms * 1_000, true) {
            machine.disks[shard].begin(now_ms, io, &machine.disk_settings, &mut machine.chance);
        }
    }

    /// The end of a turn: the engine describes a part of what the log is about, if a checkpoint wants one.
    pub(crate) fn checkpoint_slice(&mut self, shard: usize) {
        let now = self.now();
        let Shard { engine, log, .. } = &mut self.shards[shard];
        let Some(log) = log else { return };
        if log.cursor.is_some() && !log.writer.is_checkpointing() {
            // It was given up.
            log.cursor = None;
        }
        let is_due = log.wants_slice() || log.writer.is_checkpoint_due(now.as_ms() * 1_000);
        if !is_due || !engine.may_checkpoint() {
            return;
        }
        let cursor = log.cursor.take().unwrap_or_else(|| {
            log.writer.begin_checkpoint();
            CheckpointCursor::default()
        });
        let mut slice = Vec::new();
        log.cursor = engine.checkpoint(now, cursor, SLICE_BYTES_MAX, &mut slice);
        log.writer.append_slice(&slice);
        if log.cursor.is_none() {
            log.writer.finish_checkpoint();
        }
        self.give_disk_work(shard);
    }
}

/// The reader of a record: its place, kind and body. The answer is the reason why it is not taken.
pub(crate) type Take<'a> = dyn FnMut(Place, u8, &[u8]) -> Result<(), String> + 'a;

/// Reads the newest checkpoint of a log and the log from there on. Returns its end, and each segment with the bytes of it that are used.
///
/// # Errors
/// The reason why a start refuses it.
pub(crate) fn read_log(
    disk: &Disk,
    identity: LogIdentity,
    take: &mut Take<'_>,
) -> Result<(Recovered, Vec<(u64, u64)>), String> {
    let files: Vec<(File, Vec<u8>)> = disk.files().collect();
    let (mut refused, mut checkpoint, mut unneeded) = (None, None, Vec::new());
    for (file, bytes) in files.iter().rev() {
        match *file {
            File::Checkpoint(position) if checkpoint.is_none() => {
                checkpoint = Some(read_checkpoint(&identity, position, bytes, take)?);
            }
            File::Checkpoint(_) | File::Draft => unneeded.push(*file),
            File::Segment(_) => {}
        }
    }
    let segments = files.iter().filter_map(|(file, bytes)| match file {
        File::Segment(number) => Some((*number, &bytes[..])),
        File::Checkpoint(_) | File::Draft => None,
    });
    let mut recovery = Recovery::new(identity, checkpoint);
    let beginning = |bytes: &'_ [u8]| bytes.len().min(SECTOR_BYTES);
    let beginnings = segments.clone().map(|(number, bytes)| (number, &bytes[..beginning(bytes)]));
    let first = recovery.skip(beginnings);
    let mut used = Vec::new();
    for (number, bytes) in segments.filter(|(number, _)| *number >= first) {
        let taken = recovery.segment(number, bytes, &mut |position, kind, body| {
            if refused.is_none() {
                refused = take(Place::Log(position), kind, body).err();
            }
        });
        taken.map_err(|damage| damage.to_string())?;
        used.extend(recovery.used_bytes().map(|used_bytes| (number, used_bytes)));
    }
    if let Some(reason) = refused {
        return Err(reason);
    }
    let mut end = recovery.finish().map_err(|damage| damage.to_string())?;
    end.unneeded.extend(unneeded);
    Ok((end, used))
}

fn read_checkpoint(
    identity: &LogIdentity,
    position: u64,
    bytes: &[u8],
    take: &mut Take<'_>,
) -> Result<journal::Checkpoint, String> {
    let text = |damage: Damage| damage.to_string();
    let first = &bytes[..bytes.len().min(SECTOR_BYTES)];
    let last = &bytes[bytes.len().saturating_sub(SECTOR_BYTES)..];
    let mut reader =
        CheckpointReader::open(identity, position, bytes.len() as u64, (first, last)).map_err(text)?;
    let mut refused = None;
    while !reader.is_read() {
        let offset = reader.offset();
        let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let is_whole = reader.slice(rest, &mut |as_of, kind, body| {
            if refused.is_none() {
                refused = take(Place::Checkpoint(as_of), kind, body).err();
            }
        });
        if let Some(reason) = refused.take() {
            return Err(reason);
        }
        if !is_whole.map_err(text)? {
            return Err(
                Damage { file: File::Checkpoint(position), offset, kind: DamageKind::Slice }.to_string()
            );
        }
    }
    Ok(reader.checkpoint())
}
