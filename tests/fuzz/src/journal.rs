//! The reader of a shard's log and its checkpoints. The input is a script: records that are appended in a few starts with checkpoints
//! between them, and then bytes of the files that change. The checksum keeps most changes from being read, so an input can make it right again.

use std::collections::BTreeMap;

use ::journal::{
    Batch, CheckpointReader, Damage, File, Io, LogIdentity, Recovered, Recovery, SECTOR_BYTES, Settings,
    Writer, encode_record,
};

const IDENTITY: LogIdentity = LogIdentity { log: [3; 16], shard: 0, shard_count: 1, generation: 1 };

/// Bytes of a segment's header that its checksum covers, and that of a commit whose records follow.
const SEGMENT_HEADER_BYTES: usize = 78;
const COMMIT_HEADER_BYTES: usize = 52;

/// Bytes of the header and of the end of a checkpoint.
const CHECKPOINT_HEADER_BYTES: usize = 66;
const CHECKPOINT_END_BYTES: usize = 36;

type Record = (u8, Vec<u8>);
type Files = BTreeMap<File, Vec<u8>>;

/// The result of a recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Every record came back.
    Whole,
    /// Fewer did.
    Shorter,
    /// The log was refused.
    Damaged,
}

/// # Panics
/// If the reader violates a guarantee.
pub fn check(input: &[u8]) -> Outcome {
    let mut bytes = input.iter().copied();
    let mut next = || bytes.next().unwrap_or(0);
    let mut files = Files::new();
    let mut records: Vec<Record> = Vec::new();
    let mut writer = Writer::new(settings(), Recovered::nothing(IDENTITY), 1);
    let mut start = 1;
    for _ in 0..next() % 64 {
        let choice = next();
        if choice == 0xfe {
            checkpoint(&mut writer, &records, &mut files);
            continue;
        }
        if choice == 0xff {
            let (found, end) = recover(&files).expect("nothing was changed");
            assert_eq!(found, records);
            start += 1;
            writer = Writer::new(settings(), end, start);
            continue;
        }
        let (kind, body) = (1 + choice % 15, vec![choice; usize::from(choice) * 40]);
        let batch = Batch(records.len() as u64 + 1);
        writer.append(0, batch, true, |out| encode_record(out, kind, &body));
        records.push((kind, body));
        settle(&mut writer, &mut files);
        assert_eq!(writer.progress().synced, batch);
    }
    assert_eq!(recover(&files).expect("nothing was changed").0, records);
    let mut is_sealed = false;
    for _ in 0..next() % 8 {
        let (which, high, low, value, seal) = (next(), next(), next(), next(), next() % 2 == 1);
        change(&mut files, which, usize::from(high) << 8 | usize::from(low), value, seal);
        is_sealed |= seal;
    }
    match recover(&files) {
        Err(damage) => {
            assert!(damage.to_string().contains(", offset "));
            Outcome::Damaged
        }
        Ok((found, _)) if found == records => Outcome::Whole,
        Ok((found, _)) => {
            assert!(is_sealed || records.starts_with(&found));
            Outcome::Shorter
        }
    }
}

fn settings() -> Settings {
    Settings { segment_bytes: 4 * SECTOR_BYTES as u64, ..Settings::default() }
}

/// Writes a checkpoint that holds all records so far, as its objects.
fn checkpoint(writer: &mut Writer, records: &[Record], files: &mut Files) {
    settle(writer, files);
    if !writer.may_begin_checkpoint() {
        return;
    }
    writer.begin_checkpoint();
    for records in records.chunks(7) {
        settle(writer, files);
        let mut slice = Vec::new();
        records.iter().for_each(|(kind, body)| encode_record(&mut slice, *kind, body));
        writer.append_slice(&slice);
    }
    settle(writer, files);
    writer.finish_checkpoint();
    settle(writer, files);
    assert!(writer.checkpoint().is_some() && !writer.is_checkpointing());
}

/// Does all I/O at once.
fn settle(writer: &mut Writer, files: &mut Files) {
    let length = |bytes: u64| usize::try_from(bytes).expect("a file is short");
    while let Some(io) = writer.poll(0, true) {
        let (id, result, block) = match io {
            Io::Create { id, file, bytes } => {
                files.insert(file, vec![0; length(bytes)]);
                (id, 0, None)
            }
            Io::Write { id, file, offset, block } => {
                let (at, bytes) = (length(offset), block.bytes());
                let content = files.get_mut(&file).expect("it was created");
                content.resize(content.len().max(at + bytes.len()), 0);
                content[at..at + bytes.len()].copy_from_slice(bytes);
                (id, bytes.len(), Some(block))
            }
            Io::Rename { id, from, to } => {
                let content = files.remove(&from).expect("it was created");
                files.insert(to, content);
                (id, 0, None)
            }
            Io::Delete { id, file } => {
                files.remove(&file);
                (id, 0, None)
            }
            Io::Sync { id, .. } | Io::SyncDirectory { id } => (id, 0, None),
        };
        writer.complete(id, Ok(result), block);
    }
}

/// The records of the newest checkpoint, and of the log behind it.
fn recover(files: &Files) -> Result<(Vec<Record>, Recovered), Damage> {
    let mut found = Vec::new();
    let mut checkpoint = None;
    let mut unneeded = Vec::new();
    for (&file, bytes) in files.iter().rev() {
        match file {
            File::Checkpoint(position) if checkpoint.is_none() => {
                let (first, last) = (SECTOR_BYTES.min(bytes.len()), bytes.len().saturating_sub(SECTOR_BYTES));
                let ends = (&bytes[..first], &bytes[last..]);
                let mut reader = CheckpointReader::open(&IDENTITY, position, bytes.len() as u64, ends)?;
                while !reader.is_read() {
                    let at = usize::try_from(reader.offset()).expect("it is within the file");
                    let is_taken =
                        reader.slice(&bytes[at..], &mut |_, kind, body| found.push((kind, body.to_vec())))?;
                    assert!(is_taken, "all of the file was offered");
                }
                checkpoint = Some(reader.checkpoint());
            }
            File::Checkpoint(_) | File::Draft => unneeded.push(file),
            File::Segment(_) => {}
        }
    }
    let mut recovery = Recovery::new(IDENTITY, checkpoint);
    let segments = || {
        files.iter().filter_map(|(file, bytes)| match file {
            File::Segment(number) => Some((*number, &bytes[..])),
            File::Checkpoint(_) | File::Draft => None,
        })
    };
    let first = recovery.skip(segments());
    for (number, bytes) in segments().filter(|&(number, _)| number >= first) {
        recovery.segment(number, bytes, &mut |_, kind, body| found.push((kind, body.to_vec())))?;
    }
    let mut end = recovery.finish()?;
    end.unneeded.extend(unneeded);
    Ok((found, end))
}

/// Changes a byte, or cuts the file off there, and makes the checksum of its sector right again if `seal` says so.
fn change(files: &mut Files, which: u8, offset: usize, value: u8, seal: bool) {
    let count = files.len();
    if count == 0 {
        return;
    }
    let (file, bytes) = files.iter_mut().nth(usize::from(which) % count).expect("it is below the count");
    if value == 0xff {
        bytes.truncate(offset);
        return;
    }
    let length = bytes.len();
    let Some(byte) = bytes.get_mut(offset) else { return };
    *byte ^= value;
    let begin = offset / SECTOR_BYTES * SECTOR_BYTES;
    let Some(sector) = bytes.get_mut(begin..).filter(|sector| seal && sector.len() >= COMMIT_HEADER_BYTES)
    else {
        return;
    };
    let size_bytes = match file {
        File::Segment(_) if begin == 0 => SEGMENT_HEADER_BYTES,
        File::Checkpoint(_) if begin == 0 => CHECKPOINT_HEADER_BYTES,
        File::Checkpoint(_) if begin + SECTOR_BYTES == length => CHECKPOINT_END_BYTES,
        File::Segment(_) | File::Checkpoint(_) | File::Draft => {
            u32::from_le_bytes([sector[4], sector[5], sector[6], sector[7]]) as usize
        }
    };
    if let Some(covered) = sector.get(4..size_bytes) {
        let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(covered);
        sector[..4].copy_from_slice(&checksum.to_le_bytes());
    }
}
