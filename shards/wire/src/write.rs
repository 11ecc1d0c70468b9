//! Appends fields to a packet that we send. Lengths are ours to keep valid: a debug assertion reports a value that does
//! not fit, and a release build truncates it.

use alloc::vec::Vec;

/// Appends a packet: its first byte, its remaining length, and the body that `body` writes. The caller appends the
/// `payload_bytes` that follow.
///
/// The length field starts as one byte and is widened only if the body needs it. Most packets are short, so nothing has
/// to be measured before it is written.
pub(crate) fn packet(
    out: &mut Vec<u8>,
    first_byte: u8,
    payload_bytes: usize,
    body: impl FnOnce(&mut Vec<u8>),
) {
    out.push(first_byte);
    prefixed(out, payload_bytes, body);
}

/// Appends a property section: its length, then the properties that `properties` writes.
pub(crate) fn section(out: &mut Vec<u8>, properties: impl FnOnce(&mut Vec<u8>)) {
    prefixed(out, 0, properties);
}

fn prefixed(out: &mut Vec<u8>, payload_bytes: usize, content: impl FnOnce(&mut Vec<u8>)) {
    let length_at = out.len();
    out.push(0);
    content(out);
    let content_bytes = out.len() - length_at - 1;
    let size_bytes = length(content_bytes.saturating_add(payload_bytes));
    let (field, field_bytes) = encoded(size_bytes);
    if field_bytes > 1 {
        let end = out.len();
        out.resize(end + field_bytes - 1, 0);
        out.copy_within(length_at + 1..end, length_at + field_bytes);
    }
    out[length_at..length_at + field_bytes].copy_from_slice(&field[..field_bytes]);
}

/// A number of bytes as the value of a length field. A larger number is a bug of the caller.
#[inline]
pub(crate) fn length(size_bytes: usize) -> u32 {
    debug_assert!(
        size_bytes <= crate::frame::REMAINING_LENGTH_MAX as usize,
        "{size_bytes} bytes exceed every length field"
    );
    u32::try_from(size_bytes).unwrap_or(u32::MAX).min(crate::frame::REMAINING_LENGTH_MAX)
}

#[inline]
pub(crate) fn variable_byte_integer(out: &mut Vec<u8>, value: u32) {
    let (field, field_bytes) = encoded(value);
    out.extend_from_slice(&field[..field_bytes]);
}

/// The size of a variable byte integer with this value: 1 to 4 bytes.
#[inline]
pub(crate) const fn variable_byte_integer_bytes(value: u32) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

#[inline]
const fn encoded(value: u32) -> ([u8; 4], usize) {
    let field_bytes = variable_byte_integer_bytes(value);
    let mut field = [0; 4];
    let mut index = 0;
    while index < field_bytes {
        let more = if index + 1 < field_bytes { 0x80 } else { 0 };
        field[index] = ((value >> (7 * index)) & 0x7F) as u8 | more;
        index += 1;
    }
    (field, field_bytes)
}

#[inline]
pub(crate) fn u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[inline]
pub(crate) fn u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends binary data. Bytes beyond the range of the length field are cut off, so that the stream stays in step.
#[inline]
pub(crate) fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(u16::try_from(bytes.len()).is_ok(), "binary data of {} bytes", bytes.len());
    let size_bytes = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    u16(out, size_bytes);
    out.extend_from_slice(&bytes[..usize::from(size_bytes)]);
}

/// Appends text. Text beyond the range of the length field is cut off at a character boundary, so that it stays well
/// formed.
#[inline]
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    let end = text.floor_char_boundary(usize::from(u16::MAX));
    binary(out, &text.as_bytes()[..end]);
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    #[test]
    fn the_length_field_widens_with_the_body() {
        for (body_bytes, header) in [
            (0, &[0x10, 0x00][..]),
            (127, &[0x10, 0x7F]),
            (128, &[0x10, 0x80, 0x01]),
            (16_384, &[0x10, 0x80, 0x80, 0x01]),
        ] {
            let mut out = Vec::new();
            packet(&mut out, 0x10, 0, |out| out.extend(core::iter::repeat_n(0xAB, body_bytes)));
            assert_eq!(&out[..header.len()], header);
            assert_eq!(out.len(), header.len() + body_bytes);
            assert!(out[header.len()..].iter().all(|&byte| byte == 0xAB));
        }
    }

    #[test]
    fn text_too_long_is_cut_at_a_character() {
        let long: String = core::iter::repeat_n('ä', 40_000).collect();
        let mut out = Vec::new();
        text(&mut out, &long);
        assert_eq!(out.len(), 2 + 65_534);
        assert!(core::str::from_utf8(&out[2..]).is_ok());
    }
}
