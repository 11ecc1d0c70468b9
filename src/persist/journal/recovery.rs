//! The reading of the logs at a start: each shard's by a thread of its own, into the engine of that shard.

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use journal::{CheckpointReader, Damage, DamageKind, File, Recovered, Recovery, SECTOR_BYTES};

use super::files::Directory;
use super::start::Opened;
use crate::error::StartupError;

/// The counts of what was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// The segments, each with the bytes of it that are used.
    pub(crate) segments: Vec<(u64, u64)>,
}

/// A record to be taken in: its kind and body. The answer is the reason why it is not.
pub(crate) type Take<'a> = dyn FnMut(u8, &[u8]) -> Result<(), String> + 'a;

/// Reads the log of a shard, and passes its records on in their order. `progress` is told the bytes that are read.
///
/// # Errors
/// If a file is damaged, cannot be read, or has a record that is not taken.
pub(crate) fn read_log(
    opened: &Opened,
    shard: u16,
    take: &mut Take<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<(Recovered, Read), StartupError> {
    let directory = opened.directory(shard);
    let files = directory.files().map_err(|error| StartupError::JournalDamaged {
        file: directory.path().to_owned(),
        reason: format!("cannot be read: {error}"),
    })?;
    let mut log = Log { directory, read: Read::default(), refused: None };
    let identity = opened.log_identity(shard);
    let mut unneeded = Vec::new();
    let mut checkpoint = None;
    for &file in files.iter().rev() {
        match file {
            File::Checkpoint(position) if checkpoint.is_none() => {
                let reader = log.open_checkpoint(&identity, position)?;
                let found = reader.checkpoint();
                log.read_checkpoint(reader, take)?;
                checkpoint = Some(found);
            }
            File::Checkpoint(_) | File::Draft => unneeded.push(file),
            File::Segment(_) => {}
        }
    }
    let segments: Vec<u64> = files
        .iter()
        .filter_map(|file| match file {
            File::Segment(number) => Some(*number),
            File::Checkpoint(_) | File::Draft => None,
        })
        .collect();
    let mut recovery = Recovery::new(identity, checkpoint);
    let mut beginnings = Vec::new();
    for &segment in &segments {
        beginnings.push((segment, log.read_part(File::Segment(segment), 0, SECTOR_BYTES)?));
    }
    let first = recovery.skip(beginnings.iter().map(|(number, bytes)| (*number, &bytes[..])));
    drop(beginnings);
    for segment in segments.into_iter().filter(|&segment| segment >= first) {
        let bytes = log.read_whole(File::Segment(segment))?;
        let Log { read, refused, .. } = &mut log;
        let taken = recovery.segment(segment, &bytes, &mut |_, kind, body| {
            if refused.is_none() {
                *refused = take(kind, body).err();
            }
            read.records += 1;
        });
        taken.map_err(|damage| log.damaged(damage))?;
        log.check_refused(File::Segment(segment))?;
        log.read.segments.extend(recovery.used_bytes().map(|used_bytes| (segment, used_bytes)));
        log.read.bytes += bytes.len() as u64;
        progress(bytes.len() as u64);
    }
    let mut end = recovery.finish().map_err(|damage| log.damaged(damage))?;
    end.unneeded.extend(unneeded);
    opened.check_age(&end)?;
    Ok((end, log.read))
}

struct Log {
    directory: Directory,
    read: Read,
    /// The reason why a record was not taken.
    refused: Option<String>,
}

impl Log {
    fn open_checkpoint(
        &self,
        identity: &journal::LogIdentity,
        position: u64,
    ) -> Result<CheckpointReader, StartupError> {
        let file = File::Checkpoint(position);
        let path = self.directory.path_of(file);
        let bytes = fs::metadata(&path).map_err(|error| unreadable(path, &error))?.len();
        let first = self.read_part(file, 0, SECTOR_BYTES)?;
        let last = self.read_part(file, bytes.saturating_sub(SECTOR_BYTES as u64), SECTOR_BYTES)?;
        CheckpointReader::open(identity, position, bytes, (&first, &last))
            .map_err(|damage| self.damaged(damage))
    }

    fn read_checkpoint(
        &mut self,
        mut reader: CheckpointReader,
        take: &mut Take<'_>,
    ) -> Result<(), StartupError> {
        let file = File::Checkpoint(reader.checkpoint().position);
        let mut offered = 64 * SECTOR_BYTES;
        while !reader.is_read() {
            let bytes = self.read_part(file, reader.offset(), offered)?;
            let is_all = bytes.len() < offered;
            let Self { read, refused, .. } = self;
            let taken = reader.slice(&bytes, &mut |_, kind, body| {
                if refused.is_none() {
                    *refused = take(kind, body).err();
                }
                read.records += 1;
            });
            self.check_refused(file)?;
            match taken.map_err(|damage| self.damaged(damage))? {
                true => offered = 64 * SECTOR_BYTES,
                false if is_all => {
                    let offset = reader.offset();
                    return Err(self.damaged(Damage { file, offset, kind: DamageKind::Slice }));
                }
                false => offered *= 2,
            }
        }
        Ok(())
    }

    fn read_part(&self, file: File, offset: u64, length: usize) -> Result<Vec<u8>, StartupError> {
        let path = self.directory.path_of(file);
        let read = || -> io::Result<Vec<u8>> {
            let mut source = fs::File::open(&path)?;
            source.seek(SeekFrom::Start(offset))?;
            let mut bytes = Vec::new();
            source.take(length as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|error| unreadable(path.clone(), &error))
    }

    fn read_whole(&self, file: File) -> Result<Vec<u8>, StartupError> {
        let path = self.directory.path_of(file);
        fs::read(&path).map_err(|error| unreadable(path, &error))
    }

    fn check_refused(&mut self, file: File) -> Result<(), StartupError> {
        match self.refused.take() {
            Some(reason) => Err(StartupError::JournalDamaged { file: self.directory.path_of(file), reason }),
            None => Ok(()),
        }
    }

    fn damaged(&self, damage: Damage) -> StartupError {
        let reason = damage.to_string();
        // The name of the file says which one it is.
        let reason = reason.split_once(", ").map_or(reason.clone(), |(_, rest)| rest.to_owned());
        StartupError::JournalDamaged { file: self.directory.path_of(damage.file), reason }
    }
}

fn unreadable(file: PathBuf, error: &io::Error) -> StartupError {
    StartupError::JournalDamaged { file, reason: format!("cannot be read: {error}") }
}
