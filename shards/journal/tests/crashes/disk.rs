//! A disk that loses what was not made durable: sectors of 512 bytes that are kept, lost or torn by a crash, and names that are
//! durable only after their directory was.

use std::collections::{BTreeMap, BTreeSet};

use journal::{Block, Fault, File, Io, IoId};

use crate::dice::Dice;

const SECTOR_BYTES: usize = 512;

/// A request that is not done yet.
struct Pending {
    io: Io,
}

#[derive(Default, Clone)]
struct Content {
    durable: Vec<u8>,
    current: Vec<u8>,
    dirty: BTreeSet<usize>,
}

/// A way in which a disk fails.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Failure {
    None,
    /// Each write fails from some moment on.
    Writes,
    /// Each sync does.
    Syncs,
    /// No file can be created.
    Full,
    /// Each write and sync of a checkpoint fails.
    Drafts,
}

/// The end of a request, as the writer is told.
pub(crate) struct Done {
    pub(crate) id: IoId,
    pub(crate) result: Result<usize, Fault>,
    pub(crate) block: Option<Block>,
}

/// The loss in a crash.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Crash {
    /// The process ends: what was written stays.
    Process,
    /// The power is cut: what was not durable may stay or not.
    Power,
}

/// A change of names that the directory may not know durably; the number is that of the content.
#[derive(Clone, Copy)]
enum Change {
    Create(File, u64),
    Rename(File, File, u64),
    Delete(File),
}

#[derive(Default)]
pub(crate) struct Disk {
    contents: BTreeMap<u64, Content>,
    names: BTreeMap<File, u64>,
    /// Names as they are after a crash that loses every change since the directory was made durable.
    durable_names: BTreeMap<File, u64>,
    changes: Vec<Change>,
    pending: Vec<Pending>,
    has_failed_sync: bool,
    pub(crate) deleted: u64,
}

impl Disk {
    pub(crate) fn ask(&mut self, io: Io) {
        self.pending.push(Pending { io });
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Does one of the requests, in any order.
    pub(crate) fn work(&mut self, dice: &mut Dice, failure: Failure) -> Option<Done> {
        if self.pending.is_empty() {
            return None;
        }
        let Pending { io } = self.pending.swap_remove(dice.below(self.pending.len()));
        let done = match io {
            Io::Create { id, .. } if failure == Failure::Full => {
                Done { id, result: Err(Fault::NoSpace), block: None }
            }
            Io::Create { id, file, bytes } => {
                let zeros = vec![0; usize::try_from(bytes).expect("a segment fits into memory")];
                let is_used = self.names.contains_key(&file);
                assert!(!is_used || file == File::Draft, "the name {file} is used twice");
                let number = self.contents.len() as u64;
                let content = Content { durable: zeros.clone(), current: zeros, dirty: BTreeSet::new() };
                self.contents.insert(number, content);
                self.change(Change::Create(file, number));
                Done { id, result: Ok(0), block: None }
            }
            Io::Write { id, file: File::Draft, block, .. } if failure == Failure::Drafts => {
                Done { id, result: Err(Fault::Failed(5)), block: Some(block) }
            }
            Io::Sync { id, file: File::Draft } if failure == Failure::Drafts => {
                Done { id, result: Err(Fault::Failed(5)), block: None }
            }
            Io::Write { id, block, .. } if failure == Failure::Writes => {
                Done { id, result: Err(Fault::Failed(5)), block: Some(block) }
            }
            Io::Write { id, file, offset, block } => {
                // Direct I/O demands it.
                assert_eq!(block.bytes().as_ptr().addr() as u64 % 4096, offset % 4096);
                let short = dice.one_in(8);
                let length = if short { 1 + dice.below(block.bytes().len()) } else { block.bytes().len() };
                self.write(file, offset, &block.bytes()[..length]);
                Done { id, result: Ok(length), block: Some(block) }
            }
            Io::Sync { id, .. } if failure == Failure::Syncs => {
                assert!(!self.has_failed_sync, "a sync that failed is repeated");
                self.has_failed_sync = true;
                Done { id, result: Err(Fault::Failed(5)), block: None }
            }
            Io::Sync { id, file } => {
                let content = self.content(file);
                content.durable.clone_from(&content.current);
                content.dirty.clear();
                Done { id, result: Ok(0), block: None }
            }
            Io::SyncDirectory { id } => {
                self.durable_names.clone_from(&self.names);
                self.changes.clear();
                for (number, content) in &mut self.contents {
                    if !self.names.values().any(|name| name == number) {
                        *content = Content::default();
                    }
                }
                Done { id, result: Ok(0), block: None }
            }
            Io::Rename { id, from, to } => {
                let number = self.names[&from];
                self.change(Change::Rename(from, to, number));
                Done { id, result: Ok(0), block: None }
            }
            Io::Delete { id, file } => {
                self.change(Change::Delete(file));
                self.deleted += u64::from(matches!(file, File::Segment(_)));
                Done { id, result: Ok(0), block: None }
            }
        };
        Some(done)
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, change);
        self.changes.push(change);
    }

    fn content(&mut self, file: File) -> &mut Content {
        let number = self.names.get(&file).expect("a file is created before it is used");
        self.contents.get_mut(number).expect("a name has a content")
    }

    fn write(&mut self, file: File, offset: u64, bytes: &[u8]) {
        let content = self.content(file);
        let at = usize::try_from(offset).expect("a file fits into memory");
        let end = at + bytes.len();
        if content.current.len() < end {
            // A file that grows has zeros where a crash keeps nothing.
            content.current.resize(end, 0);
        }
        content.current[at..end].copy_from_slice(bytes);
        content.dirty.extend(at / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES);
    }

    /// The process ends, or the power is cut. Requests under way are done in part or not at all.
    pub(crate) fn crash(&mut self, dice: &mut Dice, crash: Crash) {
        for Pending { io } in std::mem::take(&mut self.pending) {
            match io {
                // Any part of it may have been written, sector by sector.
                Io::Write { file, offset, block, .. } => {
                    for (index, sector) in block.bytes().chunks(SECTOR_BYTES).enumerate() {
                        if dice.one_in(2) {
                            self.write(file, offset + (index * SECTOR_BYTES) as u64, sector);
                        }
                    }
                }
                Io::Rename { from, to, .. } if dice.one_in(2) => {
                    let number = self.names[&from];
                    self.change(Change::Rename(from, to, number));
                }
                Io::Delete { file, .. } if dice.one_in(2) => self.change(Change::Delete(file)),
                Io::Rename { .. }
                | Io::Delete { .. }
                | Io::Create { .. }
                | Io::Sync { .. }
                | Io::SyncDirectory { .. } => {}
            }
        }
        if crash == Crash::Process {
            return;
        }
        // Any of the changes of names may be lost, whatever came after it.
        self.names.clone_from(&self.durable_names);
        for change in std::mem::take(&mut self.changes) {
            if dice.one_in(2) {
                apply(&mut self.names, change);
            }
        }
        self.durable_names.clone_from(&self.names);
        for content in self.contents.values_mut() {
            if dice.one_in(2) {
                // Otherwise the length is lost as well.
                content.durable.resize(content.current.len().max(content.durable.len()), 0);
            }
            for &sector in &content.dirty {
                let begin = sector * SECTOR_BYTES;
                let end = (begin + SECTOR_BYTES).min(content.durable.len());
                if end <= begin {
                    continue;
                }
                match dice.below(3) {
                    0 => {}
                    1 => content.durable[begin..end].copy_from_slice(&content.current[begin..end]),
                    _ => {
                        let torn = begin..begin + dice.below(end - begin);
                        content.durable[torn.clone()].copy_from_slice(&content.current[torn]);
                    }
                }
            }
            content.dirty.clear();
            content.current.clone_from(&content.durable);
        }
        self.has_failed_sync = false;
    }

    /// The files as a start finds them.
    pub(crate) fn files(&self) -> impl Iterator<Item = (File, &[u8])> {
        self.names.iter().map(|(&file, number)| (file, &self.contents[number].current[..]))
    }

    /// The segments among them.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.files().filter_map(|(file, bytes)| match file {
            File::Segment(number) => Some((number, bytes)),
            File::Checkpoint(_) | File::Draft => None,
        })
    }

    /// Inverts a bit.
    pub(crate) fn flip(&mut self, file: File, byte: usize, bit: u8) {
        self.content(file).current[byte] ^= 1 << bit;
    }

    /// Cuts a file off.
    pub(crate) fn truncate(&mut self, file: File, length: usize) {
        self.content(file).current.truncate(length);
    }

    /// Takes a file away.
    pub(crate) fn remove(&mut self, file: File) {
        self.names.remove(&file).expect("the file exists");
    }
}

fn apply(names: &mut BTreeMap<File, u64>, change: Change) {
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
