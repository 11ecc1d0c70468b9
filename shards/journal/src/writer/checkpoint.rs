//! The checkpoint that is being written: its slices, its end, and the steps until it counts.
//!
//! Invariants: a checkpoint is given its name once its file is durable and the log is durable up to its last slice; else it would know
//! the effect of records that a crash then takes. The one before and the segments are deleted once the name is durable. A
//! checkpoint that fails costs the log nothing but room.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::Writer;
use crate::checkpoint::{self, Checkpoint};
use crate::io::{Block, Fault, File, Io, IoId};
use crate::settings::SECTOR_BYTES;

/// Slices that wait for the disk at the same time.
const SLICES_MAX: usize = 2;

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The file is to be created.
    Begun,
    Creating(IoId),
    /// Slices are taken and written.
    Open,
    Syncing(IoId),
    /// The file is durable; the log may not be durable far enough.
    Synced,
    Renaming(IoId),
    Renamed,
    Naming(IoId),
    /// It is given up, and its file is to be deleted.
    Failed,
    Deleting(IoId),
}

/// A piece of the file on its way.
#[derive(Debug)]
struct Piece {
    id: IoId,
    offset: u64,
    bytes: usize,
}

/// **Lives on:** the shard of its log. **Sees:** its own file.
#[derive(Debug)]
pub(super) struct Draft {
    stage: Stage,
    /// `bytes` is the length so far.
    checkpoint: Checkpoint,
    /// The blocks to be written.
    due: VecDeque<(IoId, u64, Block)>,
    /// The requests under way.
    writing: Vec<Piece>,
    /// It has its end.
    is_complete: bool,
}

impl Draft {
    /// Whether a request is one of its own.
    pub(super) fn has_asked(&self, id: IoId) -> bool {
        let step = match self.stage {
            Stage::Creating(id)
            | Stage::Syncing(id)
            | Stage::Renaming(id)
            | Stage::Naming(id)
            | Stage::Deleting(id) => Some(id),
            Stage::Begun | Stage::Open | Stage::Synced | Stage::Renamed | Stage::Failed => None,
        };
        step == Some(id) || self.writing.iter().any(|piece| piece.id == id)
    }

    /// Bytes of its blocks.
    pub(super) fn memory_bytes(&self) -> usize {
        let due: usize = self.due.iter().map(|(_, _, block)| block.bytes().len() + SECTOR_BYTES).sum();
        due + self.writing.iter().map(|piece| piece.bytes + SECTOR_BYTES).sum::<usize>()
    }

    fn add(&mut self, id: IoId, bytes_max: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut block = Block::default();
        block.fill(bytes_max, encode);
        let offset = self.checkpoint.bytes;
        self.checkpoint.bytes += block.bytes().len() as u64;
        self.due.push_back((id, offset, block));
    }
}

impl Writer {
    /// Whether it is time for another checkpoint: since the last one the log has grown by
    /// [`crate::Settings::checkpoint_growth_bytes`], or by the length of that checkpoint if it is longer. Records count, and so does the
    /// room that their segments take, which is more where commits are short.
    #[must_use]
    pub fn is_checkpoint_due(&self, now_us: u64) -> bool {
        let (position, bytes) = self.checkpoint.map_or((0, 0), |last| (last.position, last.bytes));
        let growth_bytes = self.settings.checkpoint_growth_bytes.max(bytes);
        (self.end() - position).max(self.segments_bytes()) >= growth_bytes
            && now_us >= self.checkpoint_retry_us
            && self.may_begin_checkpoint()
    }

    /// Whether a checkpoint may be begun: none is under way, and there is something that the last one does not have.
    #[must_use]
    pub fn may_begin_checkpoint(&self) -> bool {
        self.draft.is_none()
            && self.deletion.is_done()
            && self.recovered.is_empty()
            && self.progress.poisoned.is_none()
            && self.end() > self.checkpoint.map_or(0, |last| last.position)
    }

    /// Begins a checkpoint at the end of the log.
    ///
    /// # Panics
    /// If none may be begun.
    pub fn begin_checkpoint(&mut self) {
        assert!(self.may_begin_checkpoint());
        let position = self.end();
        let checkpoint = Checkpoint {
            position,
            as_of: position,
            slices: 0,
            bytes: 0,
            broker_ms: self.broker_ms,
            wall_ms: self.wall_ms,
        };
        let mut draft = Draft {
            stage: Stage::Begun,
            checkpoint,
            due: VecDeque::new(),
            writing: Vec::new(),
            is_complete: false,
        };
        let (id, identity) = (self.request(), self.identity);
        draft.add(id, SECTOR_BYTES, |out| checkpoint::encode_header(out, &identity, &checkpoint));
        self.draft = Some(draft);
    }

    /// Whether a checkpoint is under way that takes another slice now. One that fails takes none.
    #[must_use]
    pub fn wants_slice(&self) -> bool {
        self.draft.as_ref().is_some_and(|draft| {
            let is_open = matches!(draft.stage, Stage::Begun | Stage::Creating(_) | Stage::Open);
            is_open && !draft.is_complete && draft.due.len() + draft.writing.len() < SLICES_MAX
        })
    }

    /// Whether a checkpoint is under way: begun, and neither durable nor given up. Its caller gives up its cursor when not.
    #[must_use]
    pub fn is_checkpointing(&self) -> bool {
        self.draft.as_ref().is_some_and(|draft| !matches!(draft.stage, Stage::Failed | Stage::Deleting(_)))
    }

    /// Adds a slice: records that create objects as they are now. All that the log has to know of them is appended already.
    ///
    /// # Panics
    /// If no slice is wanted.
    pub fn append_slice(&mut self, records: &[u8]) {
        assert!(self.wants_slice());
        if records.is_empty() {
            return;
        }
        let (id, as_of) = (self.request(), self.end());
        let draft = self.draft.as_mut().expect("it wants a slice");
        assert!(as_of >= draft.checkpoint.as_of);
        let number = draft.checkpoint.slices;
        draft.checkpoint.slices += 1;
        draft.checkpoint.as_of = as_of;
        draft.add(id, checkpoint::slice_bytes(records.len()), |out| {
            checkpoint::encode_slice(out, number, as_of, records);
        });
    }

    /// Adds the end: every object is in a slice, or was created since.
    ///
    /// # Panics
    /// If no checkpoint is under way, or it has its end.
    pub fn finish_checkpoint(&mut self) {
        assert!(self.is_checkpointing());
        let id = self.request();
        let draft = self.draft.as_mut().expect("a checkpoint is under way");
        assert!(!draft.is_complete);
        draft.is_complete = true;
        let whole = Checkpoint { bytes: draft.checkpoint.bytes + SECTOR_BYTES as u64, ..draft.checkpoint };
        draft.add(id, SECTOR_BYTES, |out| checkpoint::encode_end(out, &whole));
        assert!(draft.checkpoint == whole);
    }

    /// The checkpoint that the log goes on from, once its name is durable.
    #[must_use]
    pub const fn checkpoint(&self) -> Option<Checkpoint> {
        self.checkpoint
    }

    /// The next request of the checkpoint.
    pub(super) fn draft_next(&mut self, now_us: u64) -> Option<Io> {
        self.draft.as_ref()?;
        let (id, synced_end) = (self.request(), self.synced_end);
        let draft = self.draft.as_mut()?;
        match draft.stage {
            Stage::Begun => {
                draft.stage = Stage::Creating(id);
                Some(Io::Create { id, file: File::Draft, bytes: 0 })
            }
            Stage::Open => {
                if let Some((id, offset, block)) = draft.due.pop_front() {
                    draft.writing.push(Piece { id, offset, bytes: block.bytes().len() });
                    return Some(Io::Write { id, file: File::Draft, offset, block });
                }
                if !draft.is_complete || !draft.writing.is_empty() {
                    return None;
                }
                draft.stage = Stage::Syncing(id);
                Some(Io::Sync { id, file: File::Draft })
            }
            Stage::Synced if synced_end >= draft.checkpoint.as_of => {
                draft.stage = Stage::Renaming(id);
                let to = File::Checkpoint(draft.checkpoint.position);
                Some(Io::Rename { id, from: File::Draft, to })
            }
            Stage::Renamed => {
                draft.stage = Stage::Naming(id);
                Some(Io::SyncDirectory { id })
            }
            Stage::Failed if draft.writing.is_empty() => {
                draft.stage = Stage::Deleting(id);
                self.checkpoint_retry_us = now_us + self.settings.checkpoint_retry_delay_us;
                Some(Io::Delete { id, file: File::Draft })
            }
            Stage::Creating(_)
            | Stage::Syncing(_)
            | Stage::Synced
            | Stage::Renaming(_)
            | Stage::Naming(_)
            | Stage::Failed
            | Stage::Deleting(_) => None,
        }
    }

    /// The result of a request of the checkpoint.
    pub(super) fn complete_draft(&mut self, id: IoId, result: Result<usize, Fault>, block: Option<Block>) {
        let draft = self.draft.as_mut().expect("it has asked");
        if let Some(at) = draft.writing.iter().position(|piece| piece.id == id) {
            let piece = draft.writing.swap_remove(at);
            let mut block = block.expect("the block of a write comes back");
            let before = block.written() as u64;
            match result {
                Ok(0) => self.give_up(Fault::NoSpace),
                Ok(bytes) => {
                    if block.advance(bytes) {
                        let offset = piece.offset + block.written() as u64 - before;
                        draft.due.push_front((id, offset, block));
                    }
                }
                Err(fault) => self.give_up(fault),
            }
            return;
        }
        if let Stage::Deleting(_) = draft.stage {
            self.draft = None;
            return;
        }
        if let Err(fault) = result {
            self.give_up(fault);
            return;
        }
        draft.stage = match draft.stage {
            Stage::Creating(_) => Stage::Open,
            Stage::Syncing(_) => Stage::Synced,
            Stage::Renaming(_) => Stage::Renamed,
            Stage::Naming(_) => {
                self.replace_checkpoint();
                return;
            }
            stage => unreachable!("no request is under way in {stage:?}"),
        };
    }

    /// The draft counts, so the one before it and the segments before it are not needed any more.
    fn replace_checkpoint(&mut self) {
        let draft = self.draft.take().expect("it was named");
        assert!(draft.is_complete && draft.checkpoint.as_of <= self.synced_end);
        if let Some(last) = self.checkpoint.replace(draft.checkpoint) {
            assert!(last.position < draft.checkpoint.position);
            self.deletion.add(File::Checkpoint(last.position));
        }
        self.progress.checkpoint_refused = None;
        self.release();
    }

    fn give_up(&mut self, fault: Fault) {
        let draft = self.draft.as_mut().expect("it has failed");
        draft.stage = Stage::Failed;
        draft.due.clear();
        self.progress.checkpoint_refused = Some(fault);
    }
}
