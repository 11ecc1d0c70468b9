//! The disk of one shard's log, in memory. It does what a [`journal::Writer`] asks for, late and in any order, and a crash takes what it did
//! not promise: each sector of 512 bytes that was not synchronised is kept, lost or torn, and each name that its directory was not
//! synchronised for is there or not.
//!
//! Invariants: a request takes effect when it is reported, or in part by a crash before; a sync covers what was written before it was asked for;
//! after a failed sync the disk has forgotten what it could not write, and the next sync succeeds without it.

use std::collections::BTreeMap;

use journal::{Block, Fault, File, Io, IoId};

use crate::chance::Chance;

/// The unit that a disk writes whole, or tears.
const SECTOR_BYTES: usize = 512;

/// The error of a disk that fails (EIO).
const BROKEN: Fault = Fault::Failed(5);

/// The way in which a process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// The process is killed: the system has what was written.
    Process,
    /// The power is cut: the disk has what was synchronised, and any part of the rest.
    Power,
}

/// How a disk behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DiskSettings {
    /// Longest time until a request is done, in milliseconds.
    pub delay_ms_max: u64,
    /// Of 100 writes, how many are short.
    pub short_percent: u64,
    /// Of 1000 writes and syncs, how many fail.
    pub fail_permille: u64,
    /// Of 100 requests that need room, how many are refused for want of it.
    pub full_percent: u64,
}

impl DiskSettings {
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        Self {
            delay_ms_max: chance.pick(&[0, 1, 3, 10, 60]),
            short_percent: chance.pick(&[0, 10]),
            fail_permille: chance.pick(&[0, 0, 0, 1, 5]),
            full_percent: chance.pick(&[0, 0, 20, 60]),
        }
    }

    /// The same disk without faults.
    pub(crate) const fn healed(self) -> Self {
        Self { fail_permille: 0, full_percent: 0, ..self }
    }
}

/// The end of a request, as the writer is told.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) id: IoId,
    pub(crate) result: Result<usize, Fault>,
    pub(crate) block: Option<Block>,
}

#[derive(Debug)]
struct Pending {
    due_ms: u64,
    io: Io,
    /// For a sync: the edits before it.
    covered: usize,
}

/// A change of a file that is not synchronised.
#[derive(Clone, Debug)]
enum Edit {
    Write { at: usize, bytes: Vec<u8> },
    Cut { length: usize },
}

#[derive(Clone, Default, Debug)]
struct Content {
    durable: Vec<u8>,
    edits: Vec<Edit>,
}

/// A change of names that the directory was not synchronised for; the number is that of the content.
#[derive(Clone, Copy, Debug)]
enum Change {
    Create(File, u64),
    Rename(File, File, u64),
    Delete(File),
}

/// The part of unsynchronised edits that a power cut leaves.
#[derive(Clone, Copy, Debug)]
enum Rest {
    All,
    Nothing,
    Sectors,
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    contents: BTreeMap<u64, Content>,
    content_count: u64,
    names: BTreeMap<File, u64>,
    /// Names as they are after a crash that loses every change since the directory was synchronised.
    durable_names: BTreeMap<File, u64>,
    changes: Vec<Change>,
    pending: Vec<Pending>,
    /// Something was not done that was asked for.
    pub(crate) has_failed: bool,
}

impl Disk {
    /// Begins a request.
    pub(crate) fn begin(&mut self, now_ms: u64, io: Io, settings: &DiskSettings, chance: &mut Chance) {
        let covered = match io {
            Io::Sync { file, .. } => self.content(file).edits.len(),
            _ => 0,
        };
        let due_ms = now_ms + chance.below(settings.delay_ms_max + 1);
        self.pending.push(Pending { due_ms, io, covered });
    }

    /// Whether nothing is asked for.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Does one of the requests that are due; which one is drawn.
    pub(crate) fn work(&mut self, now_ms: u64, settings: &DiskSettings, chance: &mut Chance) -> Option<Done> {
        let due: Vec<usize> =
            (0..self.pending.len()).filter(|&at| self.pending[at].due_ms <= now_ms).collect();
        if due.is_empty() {
            return None;
        }
        let Pending { io, covered, .. } = self.pending.swap_remove(chance.pick(&due));
        let fault = fault_of(&io, settings, chance);
        self.has_failed |= fault.is_some();
        Some(match fault {
            Some(fault) => self.fail(io, covered, fault, chance),
            None => self.perform(io, covered, settings, chance),
        })
    }

    fn perform(&mut self, io: Io, covered: usize, settings: &DiskSettings, chance: &mut Chance) -> Done {
        let done = |id| Done { id, result: Ok(0), block: None };
        match io {
            Io::Create { id, file, bytes } => {
                self.create(file, usize::try_from(bytes).expect("a segment fits into memory"));
                done(id)
            }
            Io::Write { id, file, offset, block } => {
                let whole = block.bytes().len();
                let is_short = chance.percent(settings.short_percent);
                let length = if is_short { 1 + chance.index(whole) } else { whole };
                self.write(file, offset, &block.bytes()[..length]);
                Done { id, result: Ok(length), block: Some(block) }
            }
            Io::Sync { id, file } => {
                let content = self.content(file);
                for edit in content.edits.drain(..covered) {
                    apply(&mut content.durable, &edit);
                }
                done(id)
            }
            Io::SyncDirectory { id } => {
                self.durable_names.clone_from(&self.names);
                self.changes.clear();
                let names = &self.names;
                self.contents.retain(|number, _| names.values().any(|name| name == number));
                done(id)
            }
            Io::Rename { id, from, to } => {
                self.change(Change::Rename(from, to, self.names[&from]));
                done(id)
            }
            Io::Delete { id, file } => {
                self.change(Change::Delete(file));
                done(id)
            }
        }
    }

    /// A request fails, after some of it was done.
    fn fail(&mut self, io: Io, covered: usize, fault: Fault, chance: &mut Chance) -> Done {
        let result = Err(fault);
        match io {
            Io::Create { id, file, bytes } => {
                if chance.percent(50) {
                    let length = usize::try_from(chance.below(bytes + 1)).expect("a part of a segment");
                    self.create(file, length);
                }
                Done { id, result, block: None }
            }
            Io::Write { id, file, offset, block } => {
                let length = chance.index(block.bytes().len() + 1);
                self.write(file, offset, &block.bytes()[..length]);
                Done { id, result, block: Some(block) }
            }
            Io::Sync { id, file } => {
                let content = self.content(file);
                let edits: Vec<Edit> = content.edits.drain(..covered).collect();
                for edit in edits {
                    keep_some(&mut content.durable, &edit, Rest::Sectors, chance);
                }
                Done { id, result, block: None }
            }
            Io::SyncDirectory { id } | Io::Rename { id, .. } | Io::Delete { id, .. } => {
                Done { id, result, block: None }
            }
        }
    }

    fn create(&mut self, file: File, length: usize) {
        let is_used = self.names.contains_key(&file);
        assert!(!is_used || file == File::Draft, "the name {file} is used twice");
        self.content_count += 1;
        let number = self.content_count;
        self.contents.insert(number, Content { durable: vec![0; length], edits: Vec::new() });
        self.change(Change::Create(file, number));
    }

    fn change(&mut self, change: Change) {
        rename(&mut self.names, change);
        self.changes.push(change);
    }

    fn content(&mut self, file: File) -> &mut Content {
        let number = self.names.get(&file).expect("a file is created before it is used");
        self.contents.get_mut(number).expect("a name has a content")
    }

    fn write(&mut self, file: File, offset: u64, bytes: &[u8]) {
        let at = usize::try_from(offset).expect("a file fits into memory");
        self.content(file).edits.push(Edit::Write { at, bytes: bytes.to_vec() });
    }

    /// Cuts a file off. It is not synchronised.
    pub(crate) fn cut(&mut self, file: File, length: u64) {
        let length = usize::try_from(length).expect("a file fits into memory");
        self.content(file).edits.push(Edit::Cut { length });
    }

    /// The process ends, or the power is cut. Requests under way are done, done in part, or not done.
    pub(crate) fn crash(&mut self, crash: Crash, chance: &mut Chance) {
        for Pending { io, .. } in std::mem::take(&mut self.pending) {
            match io {
                Io::Write { file, offset, block, .. } => {
                    for (index, sector) in block.bytes().chunks(SECTOR_BYTES).enumerate() {
                        if chance.percent(50) {
                            self.write(file, offset + (index * SECTOR_BYTES) as u64, sector);
                        }
                    }
                }
                Io::Create { file, bytes, .. } if chance.percent(50) => {
                    let length = usize::try_from(chance.below(bytes + 1)).expect("a part of a segment");
                    self.create(file, length);
                }
                Io::Rename { from, to, .. } if chance.percent(50) => {
                    self.change(Change::Rename(from, to, self.names[&from]));
                }
                Io::Delete { file, .. } if chance.percent(50) => self.change(Change::Delete(file)),
                Io::Create { .. }
                | Io::Rename { .. }
                | Io::Delete { .. }
                | Io::Sync { .. }
                | Io::SyncDirectory { .. } => {}
            }
        }
        if crash == Crash::Power {
            self.lose(chance);
        }
        self.has_failed = false;
    }

    fn lose(&mut self, chance: &mut Chance) {
        let rest = chance.pick(&[Rest::All, Rest::Nothing, Rest::Sectors, Rest::Sectors]);
        // Any of the changes of names may be lost, whatever came after it.
        self.names.clone_from(&self.durable_names);
        for change in std::mem::take(&mut self.changes) {
            let is_kept = match rest {
                Rest::All => true,
                Rest::Nothing => false,
                Rest::Sectors => chance.percent(50),
            };
            if is_kept {
                rename(&mut self.names, change);
            }
        }
        self.durable_names.clone_from(&self.names);
        for content in self.contents.values_mut() {
            for edit in std::mem::take(&mut content.edits) {
                keep_some(&mut content.durable, &edit, rest, chance);
            }
        }
    }

    /// The files as a start finds them, in the order of their names.
    pub(crate) fn files(&self) -> impl Iterator<Item = (File, Vec<u8>)> {
        self.names.iter().map(|(&file, number)| {
            let content = &self.contents[number];
            let mut bytes = content.durable.clone();
            for edit in &content.edits {
                apply(&mut bytes, edit);
            }
            (file, bytes)
        })
    }

    /// Bytes of all segments, and the number of other files that have a name.
    pub(crate) fn used(&self) -> (u64, usize) {
        let segments = self.files().filter(|(file, _)| matches!(file, File::Segment(_)));
        let (bytes, count) =
            segments.fold((0, 0), |(bytes, count), (_, content)| (bytes + content.len(), count + 1));
        (bytes as u64, self.names.len() - count)
    }
}

/// Whether a request fails, and how.
fn fault_of(io: &Io, settings: &DiskSettings, chance: &mut Chance) -> Option<Fault> {
    let needs_room = match io {
        Io::Create { .. } | Io::Write { file: File::Draft, .. } => chance.percent(settings.full_percent),
        Io::Write { .. }
        | Io::Sync { .. }
        | Io::SyncDirectory { .. }
        | Io::Rename { .. }
        | Io::Delete { .. } => false,
    };
    if needs_room {
        return Some(Fault::NoSpace);
    }
    (settings.fail_permille > 0 && chance.below(1_000) < settings.fail_permille).then_some(BROKEN)
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit) {
    match edit {
        Edit::Write { at, bytes: written } => {
            let end = at + written.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*at..end].copy_from_slice(written);
        }
        Edit::Cut { length } => bytes.truncate(*length),
    }
}

/// Applies the part of an edit that is left of it.
fn keep_some(bytes: &mut Vec<u8>, edit: &Edit, rest: Rest, chance: &mut Chance) {
    match (rest, edit) {
        (Rest::All, _) => apply(bytes, edit),
        (Rest::Nothing, _) => {}
        (Rest::Sectors, Edit::Cut { .. }) => {
            if chance.percent(50) {
                apply(bytes, edit);
            }
        }
        (Rest::Sectors, Edit::Write { at, bytes: written }) => {
            let mut begin = *at;
            while begin < at + written.len() {
                let sector_end = (begin / SECTOR_BYTES + 1) * SECTOR_BYTES;
                let end = sector_end.min(at + written.len());
                let kept = match chance.below(3) {
                    0 => 0,
                    1 => end - begin,
                    _ => chance.index(end - begin),
                };
                if kept > 0 {
                    let bytes_kept = written[begin - at..begin - at + kept].to_vec();
                    apply(bytes, &Edit::Write { at: begin, bytes: bytes_kept });
                }
                begin = end;
            }
        }
    }
}

fn rename(names: &mut BTreeMap<File, u64>, change: Change) {
    match change {
        Change::Create(file, number) => {
            names.insert(file, number);
        }
        Change::Rename(from, to, number) => {
            if names.get(&from) == Some(&number) {
                names.remove(&from);
            }
            names.insert(to, number);
        }
        Change::Delete(file) => {
            names.remove(&file);
        }
    }
}
