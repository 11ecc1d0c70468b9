//! A state that records lead to, small enough to compare: some objects, each with a number that depends on all records about
//! it and their order. And the start that finds it again, with the records that were read for it.

use std::collections::BTreeMap;

use journal::{
    Checkpoint, CheckpointReader, Damage, DamageKind, File, LogIdentity, Recovered, Recovery, SECTOR_BYTES,
    encode_record,
};

use crate::Record;
use crate::disk::Disk;

/// The kind of an object in a slice.
const OBJECT: u8 = 99;

const OBJECTS: u64 = 11;

#[derive(Default, PartialEq, Debug)]
pub(crate) struct State {
    objects: BTreeMap<u64, u64>,
}

/// The next object of a checkpoint.
#[derive(Default)]
pub(crate) struct Cursor(u64);

/// A state that a start found.
pub(crate) struct Found {
    pub(crate) state: State,
    /// The records of the log, behind the checkpoint.
    pub(crate) records: Vec<Record>,
    pub(crate) checkpoint: Option<Checkpoint>,
}

impl State {
    pub(crate) fn apply(&mut self, kind: u8, body: &[u8]) {
        let number = u64::from_le_bytes(body[..8].try_into().expect("a body begins with a number"));
        // The eleventh is there from the first record on, the others come with their first one.
        let value = self.objects.entry(object_of(number)).or_default();
        *value = (value.wrapping_mul(31) ^ number ^ u64::from(kind)).rotate_left(7);
    }

    /// Appends some objects; returns whether none is left.
    pub(crate) fn slice(&self, cursor: &mut Cursor, count: usize, out: &mut Vec<u8>) -> bool {
        let objects = self.objects.range(cursor.0..).take(count);
        for (&object, value) in objects {
            let mut body = object.to_le_bytes().to_vec();
            body.extend_from_slice(&value.to_le_bytes());
            // Slices of several lengths, over a few sectors.
            body.resize(16 + usize::try_from(object).expect("it is small") * 900, 0);
            encode_record(out, OBJECT, &body);
            cursor.0 = object + 1;
        }
        self.objects.range(cursor.0..).next().is_none()
    }
}

fn object_of(number: u64) -> u64 {
    (number / 3) % OBJECTS
}

/// Starts from the newest checkpoint that is whole, and the log behind it.
pub(crate) fn start(identity: LogIdentity, disk: &Disk) -> Result<(Found, Recovered), Damage> {
    let mut state = State::default();
    let mut as_of = BTreeMap::new();
    let mut unneeded = Vec::new();
    let mut checkpoint = None;
    let mut broken = None;
    let files: Vec<(File, &[u8])> = disk.files().collect();
    for &(file, bytes) in files.iter().rev() {
        match file {
            File::Segment(_) => {}
            File::Checkpoint(position) if checkpoint.is_none() => match open(identity, position, bytes) {
                Ok(mut reader) => {
                    read(&mut reader, bytes, &mut state, &mut as_of)?;
                    checkpoint = Some(reader.checkpoint());
                }
                Err(damage) if damage.kind == DamageKind::End => {
                    broken = Some(damage);
                    unneeded.push(file);
                }
                Err(damage) => return Err(damage),
            },
            File::Checkpoint(_) | File::Draft => unneeded.push(file),
        }
    }
    let mut recovery = Recovery::new(identity, checkpoint);
    let first = recovery.skip(disk.segments());
    let mut records = Vec::new();
    for (number, bytes) in disk.segments().filter(|&(number, _)| number >= first) {
        let result = recovery.segment(number, bytes, &mut |position, kind, body| {
            let number = u64::from_le_bytes(body[..8].try_into().expect("a body begins with a number"));
            if as_of.get(&object_of(number)).is_none_or(|&as_of| position >= as_of) {
                state.apply(kind, body);
            }
            records.push((kind, body.to_vec()));
        });
        result.map_err(|damage| broken.unwrap_or(damage))?;
    }
    let mut end = recovery.finish().map_err(|damage| broken.unwrap_or(damage))?;
    end.unneeded.extend(unneeded);
    Ok((Found { state, records, checkpoint }, end))
}

fn open(identity: LogIdentity, position: u64, bytes: &[u8]) -> Result<CheckpointReader, Damage> {
    let first = &bytes[..SECTOR_BYTES.min(bytes.len())];
    let last = &bytes[bytes.len().saturating_sub(SECTOR_BYTES)..];
    CheckpointReader::open(&identity, position, bytes.len() as u64, (first, last))
}

fn read(
    reader: &mut CheckpointReader,
    bytes: &[u8],
    state: &mut State,
    as_of: &mut BTreeMap<u64, u64>,
) -> Result<(), Damage> {
    let mut offered = SECTOR_BYTES;
    while !reader.is_read() {
        let begin = usize::try_from(reader.offset()).expect("a file fits into memory");
        let is_taken =
            reader.slice(&bytes[begin..(begin + offered).min(bytes.len())], &mut |at, kind, body| {
                assert!(kind == OBJECT);
                let field = |range: std::ops::Range<usize>| {
                    u64::from_le_bytes(body[range].try_into().expect("an object has two fields"))
                };
                state.objects.insert(field(0..8), field(8..16));
                as_of.insert(field(0..8), at);
            })?;
        offered = if is_taken { SECTOR_BYTES } else { offered * 2 };
    }
    Ok(())
}
