//! A disk that loses what was not made durable: sectors of 512 bytes that are kept, lost or torn by a crash, and names that are
//! durable only after their directory was.

use std::collections::{BTreeMap, BTreeSet};

use journal::{Block, Fault, Io, IoId};

use crate::dice::Dice;

const SECTOR_BYTES: usize = 512;

/// A request that is not done yet.
struct Pending {
    io: Io,
}

#[derive(Default, Clone)]
struct File {
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
    /// No segment can be created.
    Full,
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

#[derive(Default)]
pub(crate) struct Disk {
    files: BTreeMap<u64, File>,
    /// Names as they are after a crash, if the directory was not made durable since.
    durable_names: BTreeSet<u64>,
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
            Io::Create { id, segment, bytes } => {
                let zeros = vec![0; usize::try_from(bytes).expect("a segment fits into memory")];
                assert!(!self.files.contains_key(&segment), "the number {segment} is used twice");
                self.files
                    .insert(segment, File { durable: zeros.clone(), current: zeros, dirty: BTreeSet::new() });
                Done { id, result: Ok(0), block: None }
            }
            Io::Write { id, block, .. } if failure == Failure::Writes => {
                Done { id, result: Err(Fault::Failed(5)), block: Some(block) }
            }
            Io::Write { id, segment, offset, block } => {
                // Direct I/O demands it.
                assert_eq!(block.bytes().as_ptr().addr() as u64 % 4096, offset % 4096);
                let short = dice.one_in(8);
                let length = if short { 1 + dice.below(block.bytes().len()) } else { block.bytes().len() };
                self.write(segment, offset, &block.bytes()[..length]);
                Done { id, result: Ok(length), block: Some(block) }
            }
            Io::Sync { id, .. } if failure == Failure::Syncs => {
                assert!(!self.has_failed_sync, "a sync that failed is repeated");
                self.has_failed_sync = true;
                Done { id, result: Err(Fault::Failed(5)), block: None }
            }
            Io::Sync { id, segment } => {
                let file = self.files.get_mut(&segment).expect("a segment that exists is made durable");
                file.durable.clone_from(&file.current);
                file.dirty.clear();
                Done { id, result: Ok(0), block: None }
            }
            Io::SyncDirectory { id } => {
                self.durable_names = self.files.keys().copied().collect();
                Done { id, result: Ok(0), block: None }
            }
            Io::Delete { id, segment } => {
                self.files.remove(&segment);
                self.deleted += 1;
                Done { id, result: Ok(0), block: None }
            }
        };
        Some(done)
    }

    fn write(&mut self, segment: u64, offset: u64, bytes: &[u8]) {
        let file = self.files.get_mut(&segment).expect("a segment is created before it is written");
        let at = usize::try_from(offset).expect("a segment fits into memory");
        file.current[at..at + bytes.len()].copy_from_slice(bytes);
        file.dirty.extend(at / SECTOR_BYTES..=(at + bytes.len() - 1) / SECTOR_BYTES);
    }

    /// The process ends, or the power is cut. Requests under way are done in part.
    pub(crate) fn crash(&mut self, dice: &mut Dice, crash: Crash) {
        for Pending { io } in std::mem::take(&mut self.pending) {
            if let Io::Write { segment, offset, block, .. } = io {
                // Any part of it may have been written, sector by sector.
                for (index, sector) in block.bytes().chunks(SECTOR_BYTES).enumerate() {
                    if dice.one_in(2) {
                        self.write(segment, offset + (index * SECTOR_BYTES) as u64, sector);
                    }
                }
            }
        }
        if crash == Crash::Process {
            return;
        }
        let names: Vec<u64> = self.files.keys().copied().collect();
        for name in names {
            if !self.durable_names.contains(&name) && dice.one_in(2) {
                self.files.remove(&name);
            }
        }
        for file in self.files.values_mut() {
            for &sector in &file.dirty {
                let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
                match dice.below(3) {
                    0 => {}
                    1 => file.durable[range.clone()].copy_from_slice(&file.current[range]),
                    _ => {
                        let torn = range.start..range.start + dice.below(SECTOR_BYTES);
                        file.durable[torn.clone()].copy_from_slice(&file.current[torn]);
                    }
                }
            }
            file.dirty.clear();
            file.current.clone_from(&file.durable);
        }
        self.durable_names = self.files.keys().copied().collect();
        self.has_failed_sync = false;
    }

    /// The segments as a start finds them.
    pub(crate) fn segments(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.files.iter().map(|(&number, file)| (number, &file.current[..]))
    }

    /// Inverts a bit.
    pub(crate) fn flip(&mut self, segment: u64, byte: usize, bit: u8) {
        self.files.get_mut(&segment).expect("the segment exists").current[byte] ^= 1 << bit;
    }
}
