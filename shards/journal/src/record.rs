//! Records in the stream of a log: a length, a kind, a body. Their meaning is the engine's.
//! Invariant: a record is handed out whole or not at all, and a length that no record has is damage.

use alloc::vec::Vec;

/// The longest record: the longest packet of MQTT with everything that a broker notes about it.
pub(crate) const RECORD_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Bytes of the longest length field.
const LENGTH_BYTES_MAX: usize = 5;

/// Appends a record to a stream.
///
/// # Panics
/// If it is longer than 1 GiB.
pub fn encode_record(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let mut length = body.len() as u64 + 1;
    assert!(length <= RECORD_BYTES_MAX);
    loop {
        let [low, ..] = length.to_le_bytes();
        length >>= 7;
        if length == 0 {
            out.extend_from_slice(&[low, kind]);
            break;
        }
        out.push(low | 0x80);
    }
    out.extend_from_slice(body);
}

/// The beginning of a stream, as far as it has been read.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Next<'a> {
    /// A record, and the bytes that it takes in the stream.
    Record { kind: u8, body: &'a [u8], size_bytes: usize },
    /// The rest of it is not there.
    Partial,
    /// No record has such a length.
    Impossible,
}

/// The record at the beginning of `stream`.
pub(crate) fn next(stream: &[u8]) -> Next<'_> {
    let mut length = 0_u64;
    for (at, &byte) in stream.iter().enumerate().take(LENGTH_BYTES_MAX) {
        length |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            let Ok(length) = usize::try_from(length) else { return Next::Impossible };
            if length == 0 || length as u64 > RECORD_BYTES_MAX {
                return Next::Impossible;
            }
            let size_bytes = at + 1 + length;
            return match stream.get(at + 1..size_bytes) {
                Some(record) => Next::Record { kind: record[0], body: &record[1..], size_bytes },
                None => Next::Partial,
            };
        }
    }
    if stream.len() < LENGTH_BYTES_MAX { Next::Partial } else { Next::Impossible }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_only_whole() {
        for length in [0, 1, 126, 127, 128, 16_382, 16_383, 70_000] {
            let body = alloc::vec![0xab; length];
            let mut stream = Vec::new();
            encode_record(&mut stream, 3, &body);
            let size_bytes = stream.len();
            assert_eq!(next(&stream), Next::Record { kind: 3, body: &body, size_bytes });
            for end in [0, 1, size_bytes / 2, size_bytes - 1].into_iter().filter(|&end| end < size_bytes) {
                assert_eq!(next(&stream[..end]), Next::Partial, "{length} {end}");
            }
        }
    }

    #[test]
    fn a_length_that_no_record_has_is_impossible() {
        for stream in [&[0_u8, 1][..], &[0x80, 0x80, 0x80, 0x80, 0x80], &[0xff, 0xff, 0xff, 0xff, 0x7f]] {
            assert_eq!(next(stream), Next::Impossible, "{stream:?}");
        }
        assert_eq!(next(&[0xff, 0xff]), Next::Partial);
    }
}
