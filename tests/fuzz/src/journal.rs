//! The reader of a shard's log. The input is a script: records that are appended in a few starts, and then bytes of the segments
//! that change. The checksum keeps most changes from being read, so an input can make it right again.

use std::collections::BTreeMap;

use ::journal::{
    Batch, Damage, Io, LogIdentity, Recovered, Recovery, SECTOR_BYTES, Settings, Writer, encode_record,
};

const IDENTITY: LogIdentity = LogIdentity { log: [3; 16], shard: 0, shard_count: 1, generation: 1 };

/// Bytes of a segment's header that its checksum covers, and that of a commit whose records follow.
const SEGMENT_HEADER_BYTES: usize = 78;
const COMMIT_HEADER_BYTES: usize = 52;

type Record = (u8, Vec<u8>);
type Segments = BTreeMap<u64, Vec<u8>>;

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
    let mut segments = Segments::new();
    let mut records: Vec<Record> = Vec::new();
    let mut writer = Writer::new(settings(), Recovered::nothing(IDENTITY), 1);
    let mut start = 1;
    for _ in 0..next() % 64 {
        let choice = next();
        if choice == 0xff {
            let (found, end) = recover(&segments).expect("nothing was changed");
            assert_eq!(found, records);
            start += 1;
            writer = Writer::new(settings(), end, start);
            continue;
        }
        let (kind, body) = (1 + choice % 15, vec![choice; usize::from(choice) * 40]);
        let batch = Batch(records.len() as u64 + 1);
        writer.append(0, batch, true, |out| encode_record(out, kind, &body));
        records.push((kind, body));
        settle(&mut writer, &mut segments);
        assert_eq!(writer.progress().synced, batch);
    }
    assert_eq!(recover(&segments).expect("nothing was changed").0, records);
    let mut is_sealed = false;
    for _ in 0..next() % 8 {
        let (which, high, low, value, seal) = (next(), next(), next(), next(), next() % 2 == 1);
        change(&mut segments, which, usize::from(high) << 8 | usize::from(low), value, seal);
        is_sealed |= seal;
    }
    match recover(&segments) {
        Err(damage) => {
            assert!(damage.to_string().contains("segment"));
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

/// Does all I/O at once.
fn settle(writer: &mut Writer, segments: &mut Segments) {
    let length = |bytes: u64| usize::try_from(bytes).expect("a segment is short");
    while let Some(io) = writer.poll(0, true) {
        let (id, result, block) = match io {
            Io::Create { id, segment, bytes } => {
                segments.insert(segment, vec![0; length(bytes)]);
                (id, 0, None)
            }
            Io::Write { id, segment, offset, block } => {
                let (at, bytes) = (length(offset), block.bytes());
                let segment = segments.get_mut(&segment).expect("it was created");
                segment[at..at + bytes.len()].copy_from_slice(bytes);
                (id, bytes.len(), Some(block))
            }
            Io::Sync { id, .. } | Io::SyncDirectory { id } | Io::Delete { id, .. } => (id, 0, None),
        };
        writer.complete(id, Ok(result), block);
    }
}

fn recover(segments: &Segments) -> Result<(Vec<Record>, Recovered), Damage> {
    let mut recovery = Recovery::new(IDENTITY, 0);
    let mut found = Vec::new();
    for (&number, bytes) in segments {
        recovery.segment(number, bytes, &mut |_, kind, body| found.push((kind, body.to_vec())))?;
    }
    Ok((found, recovery.finish()))
}

/// Changes a byte, or cuts the segment off there, and makes the checksum of its sector right again if `seal` says so.
fn change(segments: &mut Segments, which: u8, offset: usize, value: u8, seal: bool) {
    let count = segments.len();
    if count == 0 {
        return;
    }
    let segment = segments.values_mut().nth(usize::from(which) % count).expect("it is below the count");
    if value == 0xff {
        segment.truncate(offset);
        return;
    }
    let Some(byte) = segment.get_mut(offset) else { return };
    *byte ^= value;
    let begin = offset / SECTOR_BYTES * SECTOR_BYTES;
    let Some(sector) = segment.get_mut(begin..).filter(|sector| seal && sector.len() >= COMMIT_HEADER_BYTES)
    else {
        return;
    };
    let size_bytes = if begin == 0 {
        SEGMENT_HEADER_BYTES
    } else {
        u32::from_le_bytes([sector[4], sector[5], sector[6], sector[7]]) as usize
    };
    if let Some(covered) = sector.get(4..size_bytes) {
        let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(covered);
        sector[..4].copy_from_slice(&checksum.to_le_bytes());
    }
}
