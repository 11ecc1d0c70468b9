//! Numbers, texts and byte strings as shards exchange them: little endian, with their length before them.
//! Invariant: both sides are this code, so the bytes are trusted and a wrong one is a bug that panics. Bytes of
//! peers are read by the crate `wire` instead, which returns errors.

use alloc::vec::Vec;

/// Reads the front of a byte string that this module's functions wrote.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn u8(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    /// A byte that says yes or no.
    pub(crate) fn bool(&mut self) -> bool {
        let byte = self.u8();
        assert!(byte <= 1);
        byte == 1
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A byte string of [`write_part`].
    pub(crate) fn part(&mut self) -> &'a [u8] {
        let length = self.u32() as usize;
        let (part, rest) = self.0.split_at(length);
        self.0 = rest;
        part
    }

    /// A text of [`write_text`].
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let text = core::str::from_utf8(self.part()).expect("written from a str");
        (!text.is_empty()).then_some(text)
    }

    /// Ends the reading: the writer wrote nothing that was not read.
    ///
    /// # Panics
    /// If bytes are left.
    pub(crate) fn finish(self) {
        assert!(self.0.is_empty());
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (array, rest) = self.0.split_first_chunk().expect("written whole by the other side");
        self.0 = rest;
        *array
    }
}

/// Appends a text, or none. A topic or filter is never empty, so the empty text stands for none.
pub(crate) fn write_text(out: &mut Vec<u8>, text: Option<&str>) {
    assert!(text != Some(""));
    write_part(out, text.unwrap_or_default().as_bytes());
}

/// Appends a byte string and its length before it.
pub(crate) fn write_part(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&part_length(part));
    out.extend_from_slice(part);
}

/// The length of a byte string as [`write_part`] writes it.
pub(crate) fn part_length(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).expect("a packet has at most 268 435 460 bytes").to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_returns_what_was_written_in_the_same_order() {
        let mut bytes = Vec::new();
        bytes.push(1);
        bytes.extend_from_slice(&2u16.to_le_bytes());
        bytes.extend_from_slice(&3u32.to_le_bytes());
        bytes.extend_from_slice(&u64::MAX.to_le_bytes());
        write_part(&mut bytes, b"part");
        write_text(&mut bytes, Some("text"));
        write_text(&mut bytes, None);
        let mut reader = Reader::new(&bytes);
        assert_eq!((reader.u8(), reader.u16(), reader.u32(), reader.u64()), (1, 2, 3, u64::MAX));
        assert_eq!((reader.part(), reader.text(), reader.text()), (&b"part"[..], Some("text"), None));
        reader.finish();
    }

    #[test]
    #[should_panic(expected = "is_empty")]
    fn bytes_that_nobody_read_are_a_bug() {
        Reader::new(&[0]).finish();
    }
}
