//! The header of a client's frame: read from as many pieces as it comes in, and refused by its first bytes where these suffice.

use crate::{Rules, Violation};

/// Bytes of the longest header: two, a length of eight, and a mask of four.
pub(crate) const HEADER_BYTES_MAX: usize = 14;

/// Bytes of payload that a control frame has at most.
pub(crate) const CONTROL_BYTES_MAX: usize = 125;

/// The marks in the second byte of a header for a length that follows it.
const LENGTH_OF_2_BYTES: u8 = 126;
const LENGTH_OF_8_BYTES: u8 = 127;

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Kind {
    fn read(first_byte: u8) -> Result<Self, Violation> {
        match first_byte & 0x0f {
            0 => Ok(Self::Continuation),
            1 => Ok(Self::Text),
            2 => Ok(Self::Binary),
            8 => Ok(Self::Close),
            9 => Ok(Self::Ping),
            10 => Ok(Self::Pong),
            _ => Err(Violation::ReservedType),
        }
    }

    pub(crate) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Whether it ends its message.
    pub(crate) is_last: bool,
    pub(crate) payload_bytes: u32,
    pub(crate) mask: [u8; 4],
}

/// The part of a header that has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeaderBytes {
    bytes: [u8; HEADER_BYTES_MAX],
    length: u8,
}

impl HeaderBytes {
    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes bytes from the front of `input`, no more than the header needs; a header once it is whole.
    ///
    /// # Errors
    /// As soon as the bytes so far violate the standard or the rules.
    pub(crate) fn take(&mut self, input: &mut &[u8], rules: Rules) -> Result<Option<Header>, Violation> {
        if !self.fill(input, 2) {
            return Ok(None);
        }
        let [first, second, ..] = self.bytes;
        let kind = check_start(first, second, rules)?;
        let length_bytes = match second & 0x7f {
            LENGTH_OF_2_BYTES => 2,
            LENGTH_OF_8_BYTES => 8,
            _ => 0,
        };
        if !self.fill(input, 2 + length_bytes) {
            return Ok(None);
        }
        // Refused before a byte of the payload is looked at.
        let payload_bytes = self.payload_bytes(rules)?;
        if !self.fill(input, 2 + length_bytes + 4) {
            return Ok(None);
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.bytes[2 + length_bytes..][..4]);
        *self = Self::default();
        Ok(Some(Header { kind, is_last: first & 0x80 != 0, payload_bytes, mask }))
    }

    /// Takes bytes until `count` are there; whether they are.
    fn fill(&mut self, input: &mut &[u8], count: usize) -> bool {
        let from = usize::from(self.length);
        let taken = count.saturating_sub(from).min(input.len());
        let (bytes, rest) = input.split_at(taken);
        self.bytes[from..from + taken].copy_from_slice(bytes);
        *input = rest;
        // At most HEADER_BYTES_MAX.
        self.length += u8::try_from(taken).unwrap_or(u8::MAX);
        usize::from(self.length) >= count
    }

    fn payload_bytes(&self, rules: Rules) -> Result<u32, Violation> {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let (length, shortest) = match self.bytes[1] & 0x7f {
            LENGTH_OF_2_BYTES => (number(&self.bytes[2..4]), 126),
            LENGTH_OF_8_BYTES => (number(&self.bytes[2..10]), 1 << 16),
            length => (u64::from(length), 0),
        };
        if length < shortest || length >= 1 << 63 {
            return Err(Violation::MalformedLength);
        }
        match u32::try_from(length) {
            Ok(length) if length <= rules.frame_bytes_max => Ok(length),
            _ => Err(Violation::LongFrame),
        }
    }
}

/// Checks the first two bytes alone.
fn check_start(first: u8, second: u8, rules: Rules) -> Result<Kind, Violation> {
    if first & 0x70 != 0 {
        return Err(Violation::ReservedBits);
    }
    let kind = Kind::read(first)?;
    if second & 0x80 == 0 {
        return Err(Violation::Unmasked);
    }
    if kind.is_control() {
        if first & 0x80 == 0 {
            return Err(Violation::FragmentedControl);
        }
        if usize::from(second & 0x7f) > CONTROL_BYTES_MAX {
            return Err(Violation::LongControl);
        }
    }
    if kind == Kind::Text && !rules.text {
        return Err(Violation::Text);
    }
    Ok(kind)
}
