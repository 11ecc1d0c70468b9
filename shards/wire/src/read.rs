//! A cursor over the fields of one packet. Every read checks the remaining length, and nothing is copied.

use crate::malformed::Malformed;

/// The unread rest of a packet's body or of one section of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The unread bytes, without reading them.
    #[inline]
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn take(&mut self, size_bytes: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(size_bytes).ok_or(Malformed::FieldTruncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.rest.split_first().ok_or(Malformed::FieldTruncated)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed::FieldTruncated)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed::FieldTruncated)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// A variable byte integer: at most four bytes, and no more than its value needs [MQTT-1.5.5-1].
    #[inline]
    pub(crate) fn variable_byte_integer(&mut self) -> Result<u32, Malformed> {
        let (mut value, mut size_bytes) = (0, 0);
        while !push_variable_byte(&mut value, &mut size_bytes, self.u8()?)? {}
        Ok(value)
    }

    /// Binary data: a two byte length, then that many bytes.
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], Malformed> {
        let size_bytes = self.u16()?;
        self.take(usize::from(size_bytes))
    }

    /// A UTF-8 encoded string, without U+0000 [MQTT-1.5.4-1] [MQTT-1.5.4-2].
    #[inline]
    pub(crate) fn text(&mut self) -> Result<&'a str, Malformed> {
        let text = self.topic_text()?;
        if text.as_bytes().contains(&0) { Err(Malformed::TextHasNull) } else { Ok(text) }
    }

    /// Well-formed UTF-8 that may still contain U+0000. Topics search for it and for wildcards in one pass.
    #[inline]
    pub(crate) fn topic_text(&mut self) -> Result<&'a str, Malformed> {
        core::str::from_utf8(self.binary()?).map_err(|_| Malformed::TextNotUtf8)
    }

    /// A property section: its length as a variable byte integer, then that many bytes.
    #[inline]
    pub(crate) fn section(&mut self) -> Result<&'a [u8], Malformed> {
        let size_bytes = self.variable_byte_integer()?;
        // 28 bits fit in a 32-bit usize. On smaller targets no packet could hold the section either.
        self.take(usize::try_from(size_bytes).unwrap_or(usize::MAX))
    }

    /// Checks that the packet ends here.
    #[inline]
    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::TrailingBytes { size_bytes: u32::try_from(self.rest.len()).unwrap_or(u32::MAX) })
        }
    }
}

/// Adds the next byte of a variable byte integer to `value`, which `size_bytes` bytes have formed so far. Returns whether
/// it was the last byte.
#[inline]
pub(crate) const fn push_variable_byte(
    value: &mut u32,
    size_bytes: &mut u8,
    byte: u8,
) -> Result<bool, Malformed> {
    *value |= ((byte & 0x7F) as u32) << (7 * *size_bytes);
    *size_bytes += 1;
    if byte & 0x80 != 0 {
        return if *size_bytes == 4 { Err(Malformed::VariableByteIntegerTooLong) } else { Ok(false) };
    }
    if byte == 0 && *size_bytes > 1 {
        return Err(Malformed::VariableByteIntegerNotMinimal);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::write;

    fn check(bytes: &[u8], expected: Result<u32, Malformed>) {
        assert_eq!(Reader::new(bytes).variable_byte_integer(), expected, "{bytes:x?}");
    }

    #[test]
    fn variable_byte_integers_survive_at_every_change_of_length() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455] {
            let mut bytes = Vec::new();
            write::variable_byte_integer(&mut bytes, value);
            assert_eq!(bytes.len(), write::variable_byte_integer_bytes(value));
            check(&bytes, Ok(value));
        }
    }

    #[test]
    fn mqtt_1_5_5_1_longer_than_needed_is_malformed() {
        check(&[0x80, 0x00], Err(Malformed::VariableByteIntegerNotMinimal));
        check(&[0xFF, 0x80, 0x00], Err(Malformed::VariableByteIntegerNotMinimal));
        check(&[0xFF, 0xFF, 0xFF, 0xFF, 0x01], Err(Malformed::VariableByteIntegerTooLong));
        check(&[0x80, 0x80, 0x80, 0x80], Err(Malformed::VariableByteIntegerTooLong));
        check(&[0xFF, 0xFF], Err(Malformed::FieldTruncated));
    }

    #[test]
    fn text_must_be_utf_8_without_null() {
        let check = |bytes: &[u8], expected| assert_eq!(Reader::new(bytes).text(), expected, "{bytes:x?}");
        check(&[0, 0], Ok(""));
        check(&[0, 3, 0xEF, 0xBB, 0xBF], Ok("\u{FEFF}")); // kept, not stripped [MQTT-1.5.4-3]
        check(&[0, 4, 0xF0, 0xAA, 0x9B, 0x94], Ok("\u{2A6D4}"));
        check(&[0, 3, 0xED, 0xA0, 0x80], Err(Malformed::TextNotUtf8)); // a surrogate
        check(&[0, 2, 0xC0, 0x80], Err(Malformed::TextNotUtf8)); // U+0000, overlong
        check(&[0, 1, 0x00], Err(Malformed::TextHasNull));
        check(&[0, 2, b'a'], Err(Malformed::FieldTruncated));
        check(&[0], Err(Malformed::FieldTruncated));
    }
}
