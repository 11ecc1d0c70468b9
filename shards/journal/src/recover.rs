//! The reading of a log after a crash: the records of its segments, up to the first commit that is not whole.
//!
//! Invariants: records come in the order in which they were appended, and each is whole. The end of the log is **torn** where
//! a commit is missing that was never durable, as far as the log itself knows. It is **damaged** where one is missing that was.

use alloc::vec::Vec;
use core::fmt;

use crate::checkpoint::Checkpoint;
use crate::commit;
use crate::io::File;
use crate::record::{self, Next};
use crate::segment::{Header, LogIdentity, Refusal};
use crate::settings::SECTOR_BYTES;

/// A log that cannot be recovered as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The file.
    pub file: File,
    /// Where in it, in bytes.
    pub offset: u64,
    /// The fault there.
    pub kind: DamageKind,
}

/// A way in which a log is not as it was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DamageKind {
    /// A commit that was durable is not there, or not whole. Later ones may depend on it.
    Commit,
    /// The segment before this one is not there.
    Segment,
    /// The log ends before the checkpoint that it was recovered from.
    Short,
    /// A checkpoint has no end, so it is not whole.
    End,
    /// A slice of a checkpoint is not whole.
    Slice,
    /// It continues what was not recovered the last time.
    Contradiction,
    /// A commit is whole, and a record in it has a length that no record has.
    Record,
    /// A later version wrote this format.
    Format(u16),
    /// The file belongs to another log.
    Foreign,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, offset {}: ", self.file, self.offset)?;
        match self.kind {
            DamageKind::Commit => formatter.write_str("a commit that was durable is not whole"),
            DamageKind::Segment => formatter.write_str("the segment before it is missing"),
            DamageKind::Short => formatter.write_str("the log ends before a checkpoint that was durable"),
            DamageKind::End => formatter.write_str("the checkpoint is not whole"),
            DamageKind::Slice => formatter.write_str("a slice of the checkpoint is not whole"),
            DamageKind::Contradiction => formatter.write_str("it continues a log that ended elsewhere"),
            DamageKind::Record => formatter.write_str("a record has an impossible length"),
            DamageKind::Format(format) => {
                write!(
                    formatter,
                    "a later version wrote it (format {format}; this one reads {})",
                    crate::FORMAT
                )
            }
            DamageKind::Foreign => formatter.write_str("it belongs to another log"),
        }
    }
}

impl core::error::Error for Damage {}

/// The end of a log, where a writer goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// The log.
    pub identity: LogIdentity,
    /// The highest number of a segment; 0: none.
    pub last_segment: u64,
    /// The segments that the log consists of, each with the position at which it begins.
    pub segments: Vec<(u64, u64)>,
    /// The checkpoint that the log goes on from.
    pub checkpoint: Option<Checkpoint>,
    /// Files that are no part of it any more, and which a writer deletes. The host adds drafts and other checkpoints.
    pub unneeded: Vec<File>,
    /// Segments whose content may not be durable. A writer makes it durable before it says that the log goes on behind it.
    pub unsynced_segments: Vec<u64>,
    /// The start that wrote last; 0: none.
    pub last_start: u32,
    /// The number of the next commit.
    pub next_sequence: u64,
    /// The end of the last whole record in the stream.
    pub position: u64,
    /// The broker's time and the wall clock's of the last commit, in milliseconds.
    pub broker_ms: u64,
    /// See `broker_ms`.
    pub wall_ms: u64,
}

impl Recovered {
    /// An empty log.
    #[must_use]
    pub const fn nothing(identity: LogIdentity) -> Self {
        Self {
            identity,
            last_segment: 0,
            segments: Vec::new(),
            checkpoint: None,
            unneeded: Vec::new(),
            unsynced_segments: Vec::new(),
            last_start: 0,
            next_sequence: 1,
            position: 0,
            broker_ms: 0,
            wall_ms: 0,
        }
    }
}

/// Is given a record: its position in the stream, its kind and its body.
type Visit<'a> = dyn FnMut(u64, u8, &[u8]) + 'a;

/// Reads the segments of a log, in the order of their numbers. Memory: the bytes of a record that goes on in the next commit.
#[derive(Debug)]
pub struct Recovery {
    end: Recovered,
    /// Records before this position are not handed out: a checkpoint has what they did.
    from: u64,
    is_first: bool,
    /// Where the stream goes on; `end.position` stays at the end of the last whole record.
    position: u64,
    /// The beginning of a record.
    partial: Vec<u8>,
    /// The place where the commit `end.next_sequence` should have been.
    hole: Option<(u64, u64)>,
    /// All commits below this number were durable.
    synced_below: u64,
    /// Segments with commits that may not be durable, and the last number in each.
    unsynced: Vec<(u64, u64)>,
}

impl Recovery {
    /// Reads the log `identity`, from the beginning of this checkpoint on if there is one.
    #[must_use]
    pub fn new(identity: LogIdentity, checkpoint: Option<Checkpoint>) -> Self {
        let (broker_ms, wall_ms) = checkpoint.map_or((0, 0), |begun| (begun.broker_ms, begun.wall_ms));
        Self {
            end: Recovered { checkpoint, broker_ms, wall_ms, ..Recovered::nothing(identity) },
            from: checkpoint.map_or(0, |checkpoint| checkpoint.position),
            is_first: true,
            position: 0,
            partial: Vec::new(),
            hole: None,
            synced_below: 0,
            unsynced: Vec::new(),
        }
    }

    /// Finds the segment in which the checkpoint began, by the first [`SECTOR_BYTES`] of each segment in the order of their
    /// numbers, and returns its number. Earlier segments are not to be read: the checkpoint has their records, some of them may be
    /// deleted already, and some may never have been a part of the log. Without a checkpoint all are to be read, from 0.
    pub fn skip<'a>(&mut self, beginnings: impl Iterator<Item = (u64, &'a [u8])>) -> u64 {
        if self.end.checkpoint.is_none() {
            return 0;
        }
        let (mut first, mut numbers) = (0, Vec::new());
        for (number, bytes) in beginnings {
            numbers.push(number);
            // A segment that was never durable lies behind the checkpoint, or before one of a later start.
            if let Ok(header) = Header::decode(bytes, &self.end.identity)
                && header.first_position <= self.from
            {
                first = number;
            }
        }
        let skipped = numbers.into_iter().filter(|&number| number < first);
        self.end.unneeded.extend(skipped.map(File::Segment));
        first
    }

    /// Reads the segment of this number, and hands its whole records out.
    ///
    /// # Errors
    /// The log is damaged. Records that were handed out are then to be given up.
    ///
    /// # Panics
    /// If the numbers do not grow.
    pub fn segment(&mut self, number: u64, bytes: &[u8], visit: &mut Visit<'_>) -> Result<(), Damage> {
        assert!(number > self.end.last_segment);
        self.end.last_segment = number;
        let damage = |kind| Damage { file: File::Segment(number), offset: 0, kind };
        let header = match Header::decode(bytes, &self.end.identity) {
            Ok(header) if header.number == number => header,
            // Segments are created before they are needed. This one was not needed, or its first write was torn.
            Err(Refusal::Torn) => {
                self.end.unneeded.push(File::Segment(number));
                return self.find_evidence(number, bytes, SECTOR_BYTES, None);
            }
            Err(Refusal::Format(format)) => return Err(damage(DamageKind::Format(format))),
            Ok(_) | Err(Refusal::Foreign) => return Err(damage(DamageKind::Foreign)),
        };
        self.begin_segment(&header)?;
        if self.hole.is_some() {
            self.end.unneeded.push(File::Segment(number));
            return self.find_evidence(number, bytes, SECTOR_BYTES, Some(header.start));
        }
        self.end.segments.push((number, header.first_position));
        let mut offset = SECTOR_BYTES;
        while let Some((found, records, size_bytes)) = bytes.get(offset..).and_then(commit::decode) {
            let is_next = (found.start, found.sequence, found.position)
                == (header.start, self.end.next_sequence, self.position);
            if !is_next {
                break;
            }
            self.take(number, &found);
            self.read(records, visit).map_err(|kind| Damage {
                file: File::Segment(number),
                offset: offset as u64,
                kind,
            })?;
            offset += size_bytes;
        }
        self.hole = Some((number, offset as u64));
        self.find_evidence(number, bytes, offset, Some(header.start))
    }

    /// Bytes of the segment that was read last that have commits of the log, its header included; `None` if it has none. The rest of it
    /// is of no use once the whole log was read, because a writer begins another segment.
    #[must_use]
    pub fn used_bytes(&self) -> Option<u64> {
        self.hole
            .filter(|&(segment, _)| segment == self.end.last_segment)
            .map(|(_, offset)| offset)
            .filter(|&offset| offset > 0)
    }

    /// The end of the log, after the last segment.
    ///
    /// # Errors
    /// It ends before the checkpoint does that it was read behind, which was durable.
    pub fn finish(mut self) -> Result<Recovered, Damage> {
        if let Some(checkpoint) = self.end.checkpoint
            && self.end.position < checkpoint.as_of
        {
            let file = File::Checkpoint(checkpoint.position);
            return Err(self.hole.map_or(
                Damage { file, offset: 0, kind: DamageKind::Short },
                |(segment, offset)| Damage { file: File::Segment(segment), offset, kind: DamageKind::Commit },
            ));
        }
        self.end.unsynced_segments = self.unsynced.iter().map(|&(segment, _)| segment).collect();
        Ok(self.end)
    }

    fn begin_segment(&mut self, header: &Header) -> Result<(), Damage> {
        let damage = |kind| Damage { file: File::Segment(header.number), offset: 0, kind };
        let end = &mut self.end;
        if self.is_first && header.first_position > self.from {
            // The first segment may be torn although the second one was begun, so long as nothing was durable.
            if header.synced_below > end.next_sequence || end.checkpoint.is_some() {
                return Err(damage(DamageKind::Segment));
            }
            self.hole = Some((header.number, 0));
        } else if self.is_first {
            self.is_first = false;
            self.hole = None;
            end.next_sequence = header.first_sequence;
            end.position = header.first_position;
            self.position = header.first_position;
        } else if header.start > end.last_start
            && (header.first_sequence, header.first_position) == (end.next_sequence, end.position)
        {
            // That start found the end of the log as it is found now.
            self.position = end.position;
            self.partial = Vec::new();
            self.hole = None;
        } else if header.start < end.last_start || header.first_sequence < end.next_sequence {
            return Err(damage(DamageKind::Contradiction));
        } else if (header.first_sequence, header.first_position) == (end.next_sequence, self.position) {
            self.hole = None;
        } else if header.synced_below > end.next_sequence {
            return Err(self.missing(header.number));
        }
        self.end.last_start = header.start;
        self.note_synced(header.synced_below);
        Ok(())
    }

    /// The commit that should come next was durable, and is not there.
    fn missing(&self, known_by: u64) -> Damage {
        match self.hole {
            Some((segment, offset)) => {
                Damage { file: File::Segment(segment), offset, kind: DamageKind::Commit }
            }
            None => Damage { file: File::Segment(known_by), offset: 0, kind: DamageKind::Segment },
        }
    }

    /// Looks for a commit that knows that the missing one was durable. Commits behind a hole are of no other use: what they
    /// say may depend on it.
    fn find_evidence(
        &self,
        number: u64,
        bytes: &[u8],
        from: usize,
        start: Option<u32>,
    ) -> Result<(), Damage> {
        for at in (from..bytes.len()).step_by(SECTOR_BYTES) {
            if let Some((found, _, _)) = commit::decode(&bytes[at..])
                && start.is_none_or(|start| start == found.start)
                && found.start >= self.end.last_start
                && found.sequence >= self.end.next_sequence
                && found.synced_below > self.end.next_sequence
            {
                return Err(self.missing(number));
            }
        }
        Ok(())
    }

    fn take(&mut self, number: u64, found: &commit::Header) {
        let end = &mut self.end;
        end.next_sequence += 1;
        end.broker_ms = end.broker_ms.max(found.broker_ms);
        end.wall_ms = found.wall_ms;
        match self.unsynced.last_mut() {
            Some((segment, last)) if *segment == number => *last = found.sequence,
            Some(_) | None => self.unsynced.push((number, found.sequence)),
        }
        self.note_synced(found.synced_below);
    }

    fn note_synced(&mut self, synced_below: u64) {
        self.synced_below = self.synced_below.max(synced_below);
        let synced_below = self.synced_below;
        self.unsynced.retain(|&(_, last)| last >= synced_below);
    }

    /// Hands out the records that are whole with these bytes of the stream.
    fn read(&mut self, bytes: &[u8], visit: &mut Visit<'_>) -> Result<(), DamageKind> {
        let begin = self.position;
        self.position += bytes.len() as u64;
        // A record that begins before a checkpoint may have its end here.
        let skipped = self.from.saturating_sub(begin).min(bytes.len() as u64);
        let bytes = &bytes[usize::try_from(skipped).expect("it is at most the length of a commit")..];
        if self.position <= self.from {
            self.end.position = self.position;
            return Ok(());
        }
        self.end.position = self.end.position.max(self.from);
        let mut joined = core::mem::take(&mut self.partial);
        let mut rest = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined[..]
        };
        loop {
            match record::next(rest) {
                Next::Record { kind, body, size_bytes } => {
                    visit(self.end.position, kind, body);
                    self.end.position += size_bytes as u64;
                    rest = &rest[size_bytes..];
                }
                Next::Partial => break,
                Next::Impossible => return Err(DamageKind::Record),
            }
        }
        self.partial = rest.to_vec();
        assert!(self.end.position + self.partial.len() as u64 == self.position);
        Ok(())
    }
}
