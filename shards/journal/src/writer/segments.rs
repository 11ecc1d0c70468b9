//! The segments of a log: the next one is prepared before it is needed, and those that nobody needs are deleted.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::{Active, InUse, Sync, Writer};
use crate::commit::HEADER_BYTES;
use crate::io::{Fault, File, Io, IoId};
use crate::segment::Header;
use crate::settings::SECTOR_BYTES;

/// How far the next segment is prepared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Preparation {
    /// It is not.
    None,
    /// It could not be created; tried again at this time.
    Refused {
        retry_us: Option<u64>,
    },
    Creating {
        id: IoId,
        segment: u64,
    },
    /// It exists, and its name is not durable.
    Created {
        segment: u64,
    },
    Naming {
        id: IoId,
        segment: u64,
    },
    Ready {
        segment: u64,
    },
}

impl Preparation {
    /// When it is tried again.
    pub(super) fn retry_us(self) -> Option<u64> {
        match self {
            Self::Refused { retry_us } => retry_us,
            Self::None
            | Self::Creating { .. }
            | Self::Created { .. }
            | Self::Naming { .. }
            | Self::Ready { .. } => None,
        }
    }
}

/// The deletion of files, and of their names.
#[derive(Debug, Default)]
pub(super) struct Deletion {
    due: VecDeque<File>,
    under_way: Option<IoId>,
    /// Names have changed, and the directory does not know it durably.
    is_unnamed: bool,
    /// Files are to stay for a while, because somebody copies them.
    is_frozen: bool,
    /// The recovered names that make the others unneeded may not be durable.
    is_recovered: bool,
    naming: Option<IoId>,
}

impl Deletion {
    /// The deletion of files that a start found and does not need.
    pub(super) fn of(unneeded: Vec<File>) -> Self {
        Self { is_recovered: !unneeded.is_empty(), due: unneeded.into(), ..Self::default() }
    }

    pub(super) fn add(&mut self, file: File) {
        self.due.push_back(file);
    }

    /// Whether nothing is to be deleted.
    pub(super) fn is_done(&self) -> bool {
        self.due.is_empty() && self.under_way.is_none() && self.naming.is_none()
    }
}

/// The files of a log that are a whole log in a copy, at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extent {
    /// The position of the checkpoint that the log goes on from.
    pub checkpoint: Option<u64>,
    /// The segments: the first and the last number; 0 and 0: none.
    pub segments: (u64, u64),
    /// Bytes of the last one that belong to it; the rest is under way.
    pub last_bytes: u64,
}

impl Writer {
    /// Deletes nothing from now on, or deletes what is due again. Checkpoints go on until files wait to be deleted.
    pub fn freeze(&mut self, is_frozen: bool) {
        self.deletion.is_frozen = is_frozen;
    }

    /// The part of the log that is written: a copy of it is the log at this moment, so long as nothing is deleted.
    #[must_use]
    pub fn extent(&self) -> Extent {
        let unwritten = self.flights.iter().find(|flight| flight.writing.is_some());
        let unwritten = unwritten.map(|flight| (flight.segment, flight.offset));
        let end = unwritten.or(self.active.map(|active| (active.segment, active.offset)));
        let is_within =
            |segment: u64| end.is_none_or(|(last, bytes)| segment < last || (segment == last && bytes > 0));
        let mut within = self.segments.iter().map(|used| used.segment).filter(|&segment| is_within(segment));
        let first = within.next().unwrap_or(0);
        let last = within.next_back().unwrap_or(first);
        let last_bytes = end.filter(|&(segment, _)| segment == last).map_or(u64::MAX, |(_, bytes)| bytes);
        let checkpoint = self.checkpoint.map(|checkpoint| checkpoint.position);
        Extent { checkpoint, segments: (first, last), last_bytes }
    }

    /// The segment and the offset for a commit of that many bytes, and the header if it is the first one of its segment. `None`
    /// while the next segment is not ready.
    pub(super) fn place(&mut self, commit_bytes: usize) -> Option<(u64, u64, Option<Header>)> {
        let size_bytes = commit_bytes as u64;
        if let Some(active) = &mut self.active
            && active.offset + size_bytes <= active.bytes
        {
            let offset = active.offset;
            active.offset += size_bytes;
            return Some((active.segment, offset, None));
        }
        let Preparation::Ready { segment } = self.preparation else { return None };
        self.preparation = Preparation::None;
        let first_bytes = SECTOR_BYTES as u64 + size_bytes;
        let bytes = self.next_segment_bytes;
        assert!(first_bytes <= bytes);
        self.next_segment_bytes = (bytes * 2).min(self.settings.segment_bytes);
        self.active = Some(Active { segment, offset: first_bytes, bytes });
        self.segments.push_back(InUse { segment, position: self.position, bytes });
        let header = Header {
            identity: self.identity,
            number: segment,
            start: self.start,
            first_sequence: self.next_sequence,
            first_position: self.position,
            synced_below: self.synced_below,
        };
        Some((segment, 0, Some(header)))
    }

    /// Makes recovered segments durable, and prepares the next one once half of this one is used.
    pub(super) fn prepare(&mut self, now_us: u64) -> Option<Io> {
        if let Some(&segment) = self.recovered.first() {
            // Until then the next header must not say that the log goes on behind them.
            if self.sync.is_some() {
                return None;
            }
            let id = self.request();
            self.sync = Some(Sync { id, segment, covers_below: self.synced_below });
            return Some(Io::Sync { id, file: File::Segment(segment) });
        }
        match self.preparation {
            Preparation::None => {
                let open_bytes = self.open.len() + HEADER_BYTES;
                let is_needed = self.active.is_none_or(|active| {
                    let rest_bytes = active.bytes - active.offset;
                    rest_bytes * 2 <= active.bytes || rest_bytes < open_bytes as u64
                });
                if is_needed { Some(self.create()) } else { None }
            }
            Preparation::Refused { retry_us: None } => {
                let retry_us = Some(now_us + self.settings.retry_delay_us);
                self.preparation = Preparation::Refused { retry_us };
                None
            }
            Preparation::Refused { retry_us: Some(retry_us) } if now_us >= retry_us => Some(self.create()),
            Preparation::Created { segment } => {
                let id = self.request();
                self.preparation = Preparation::Naming { id, segment };
                Some(Io::SyncDirectory { id })
            }
            Preparation::Refused { .. }
            | Preparation::Creating { .. }
            | Preparation::Naming { .. }
            | Preparation::Ready { .. } => None,
        }
    }

    /// A number is never used twice, so that whatever a refused creation left is not taken for a segment.
    fn create(&mut self) -> Io {
        let id = self.request();
        self.last_segment += 1;
        let segment = self.last_segment;
        self.preparation = Preparation::Creating { id, segment };
        Io::Create { id, file: File::Segment(segment), bytes: self.next_segment_bytes }
    }

    /// Returns whether the request was one of the preparation.
    pub(super) fn complete_preparation(&mut self, id: IoId, result: Result<usize, Fault>) -> bool {
        let (due, next) = match self.preparation {
            Preparation::Creating { id, segment } => (id, Preparation::Created { segment }),
            Preparation::Naming { id, segment } => (id, Preparation::Ready { segment }),
            Preparation::None
            | Preparation::Refused { .. }
            | Preparation::Created { .. }
            | Preparation::Ready { .. } => return false,
        };
        if due != id {
            return false;
        }
        match result {
            Ok(_) => {
                self.preparation = next;
                if matches!(next, Preparation::Ready { .. }) {
                    self.progress.degraded = None;
                }
            }
            Err(fault) => {
                self.progress.degraded = Some(fault);
                self.preparation = Preparation::Refused { retry_us: None };
                // Zeros that found no room take some all the same.
                self.deletion.add(File::Segment(self.last_segment));
            }
        }
        true
    }

    /// Bytes that the segments of the log take on the disk, at most.
    pub(super) fn segments_bytes(&self) -> u64 {
        let unused = self.active.map_or(0, |active| active.bytes - active.offset);
        self.segments.iter().map(|segment| segment.bytes).sum::<u64>() - unused
    }

    /// Has the segments deleted that nobody needs any more: a durable checkpoint began behind them, and a segment after them has durable
    /// commits.
    pub(super) fn release(&mut self) {
        let Some(checkpoint) = self.checkpoint else { return };
        // One that a crash left behind the end of the log begins later than the ones after it.
        while let Some(next) = self.segments.iter().skip(1).map(|segment| segment.position).min()
            && next <= checkpoint.position
            && next < self.synced_end
        {
            let InUse { segment, .. } = self.segments.pop_front().expect("there are two");
            self.deletion.add(File::Segment(segment));
        }
    }

    pub(super) fn delete_next(&mut self) -> Option<Io> {
        if self.deletion.under_way.is_some() || self.deletion.naming.is_some() || !self.recovered.is_empty() {
            return None;
        }
        if self.deletion.is_frozen {
            return None;
        }
        if self.deletion.is_recovered {
            let id = self.request();
            self.deletion.naming = Some(id);
            return Some(Io::SyncDirectory { id });
        }
        if let Some(file) = self.deletion.due.pop_front() {
            let id = self.request();
            self.deletion.under_way = Some(id);
            return Some(Io::Delete { id, file });
        }
        if !self.deletion.is_unnamed {
            return None;
        }
        let id = self.request();
        self.deletion.is_unnamed = false;
        self.deletion.naming = Some(id);
        Some(Io::SyncDirectory { id })
    }

    /// Returns whether the request was one of the deletion. A file that could not be deleted only takes room, and the next
    /// start finds it. If the names cannot be made durable, nothing is deleted.
    pub(super) fn complete_deletion(&mut self, id: IoId, result: Result<usize, Fault>) -> bool {
        if self.deletion.under_way == Some(id) {
            self.deletion.under_way = None;
            self.deletion.is_unnamed = true;
        } else if self.deletion.naming == Some(id) {
            self.deletion.naming = None;
            if core::mem::take(&mut self.deletion.is_recovered) && result.is_err() {
                self.deletion.due.clear();
            }
        } else {
            return false;
        }
        true
    }
}
