//! Cuts a byte stream into packets, independent of how the stream is split on arrival. Only the fixed header is
//! interpreted: first byte and length.

use alloc::vec::Vec;

use zeroize::Zeroize;

use crate::malformed::Malformed;
use crate::protocol::PacketType;
use crate::read::push_variable_byte;
use crate::write;

/// The largest remaining length that a fixed header can announce.
pub const REMAINING_LENGTH_MAX: u32 = 268_435_455;

/// The size of the largest possible packet: fixed header and body.
pub const PACKET_BYTES_MAX: u32 = 1 + 4 + REMAINING_LENGTH_MAX;

/// A buffer larger than this is freed after one packet, so that no connection keeps the memory of its largest packet.
const BUFFER_KEPT_BYTES_MAX: usize = 8 * 1024;

/// One complete packet, not yet decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Packet type and flags.
    pub first_byte: u8,
    /// The bytes counted by the remaining length.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// Size of the whole packet on the wire, in bytes.
    #[must_use]
    #[inline]
    pub fn packet_bytes(&self) -> usize {
        packet_bytes(self.body.len())
    }

    /// Appends the whole packet, as it was on the wire.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.push(self.first_byte);
        write::variable_byte_integer(out, u32::try_from(self.body.len()).unwrap_or(u32::MAX));
        out.extend_from_slice(self.body);
    }
}

/// Size of a packet with this remaining length.
#[inline]
pub(crate) fn packet_bytes(remaining_length: usize) -> usize {
    let length = u32::try_from(remaining_length).unwrap_or(u32::MAX);
    1 + write::variable_byte_integer_bytes(length) + remaining_length
}

/// Reassembles the packet that is arriving.
///
/// **Lives in:** every connection. 32 bytes, and no heap memory unless a packet is incomplete.
#[derive(Debug, Default)]
pub struct Assembler {
    /// In state `Body`, the bytes of the body received so far; in state `Start`, the packet returned last.
    buffer: Vec<u8>,
    state: State,
}

/// A position in a stream, between two calls of [`Assembler::next`].
#[derive(Clone, Copy, Debug)]
pub struct Mark(State);

impl Mark {
    /// Between two packets.
    pub const START: Self = Self(State::START);
}

#[derive(Clone, Copy, Debug)]
enum State {
    Start {
        /// The packet before may name a secret, and lies in the buffer.
        has_secret: bool,
    },
    Length {
        first_byte: u8,
        length_bytes: u8,
        length: u32,
    },
    Body {
        first_byte: u8,
        remaining_length: u32,
    },
}

impl State {
    const START: Self = Self::Start { has_secret: false };

    /// Behind the last byte of a packet that the buffer has.
    fn behind(first_byte: u8) -> Self {
        Self::Start { has_secret: may_have_secret(first_byte) }
    }

    /// Whether the buffer may have a secret.
    fn has_secret(self) -> bool {
        match self {
            Self::Start { has_secret } => has_secret,
            Self::Length { .. } => false,
            Self::Body { first_byte, .. } => may_have_secret(first_byte),
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self::START
    }
}

/// Whether packets of this type may have a password, or a proof of one.
fn may_have_secret(first_byte: u8) -> bool {
    matches!(PacketType::from_first_byte(first_byte), Some(PacketType::Connect | PacketType::Auth))
}

impl Drop for Assembler {
    #[inline]
    fn drop(&mut self) {
        self.wipe();
    }
}

impl Assembler {
    /// An assembler at the start of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self { buffer: Vec::new(), state: State::START }
    }

    /// Bytes allocated for a packet that has not arrived completely.
    #[must_use]
    pub fn bytes_held(&self) -> usize {
        self.buffer.capacity()
    }

    /// Returns the next complete packet of the stream that continues with `input`, and advances `input` past the bytes
    /// taken.
    ///
    /// The packet is borrowed from `input` if its whole body is there. Otherwise it is borrowed from a buffer that grows
    /// as bytes arrive, never beyond the announced size. `None` means that `input` is used up; the start of the next
    /// packet is kept. Call until `None`: that call also frees the buffer.
    ///
    /// The packet keeps the assembler borrowed. A connection that must change meanwhile takes the assembler out
    /// ([`core::mem::take`]) and puts it back after the last packet.
    ///
    /// # Errors
    /// If the packet's type is reserved, its length is malformed [MQTT-1.5.5-1], or the whole packet is longer than
    /// `packet_bytes_max`. Each error is found in the fixed header, before anything is stored. The stream cannot be read
    /// further: close it.
    #[inline]
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        packet_bytes_max: u32,
    ) -> Result<Option<Frame<'a>>, Malformed> {
        if self.is_idle()
            && let Some((frame, rest)) = whole_packet(input)
            && input.len() - rest.len() <= packet_bytes_max as usize
        {
            *input = rest;
            return Ok(Some(frame));
        }
        self.next_in_parts(input, packet_bytes_max)
    }

    /// Like [`Assembler::next`], for any packet.
    #[inline(never)]
    fn next_in_parts<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        packet_bytes_max: u32,
    ) -> Result<Option<Frame<'a>>, Malformed> {
        if let State::Start { .. } = self.state {
            self.wipe();
            self.state = State::START;
            self.buffer.clear();
            let Some((&first_byte, rest)) = input.split_first() else {
                self.buffer = Vec::new();
                return Ok(None);
            };
            *input = rest;
            if PacketType::from_first_byte(first_byte).is_none() {
                return Err(Malformed::PacketTypeReserved { packet_type: first_byte >> 4 });
            }
            self.state = State::Length { first_byte, length_bytes: 0, length: 0 };
        }
        if let State::Length { first_byte, mut length_bytes, mut length } = self.state {
            let mut is_complete = false;
            while !is_complete {
                let Some((&byte, rest)) = input.split_first() else {
                    self.state = State::Length { first_byte, length_bytes, length };
                    return Ok(None);
                };
                *input = rest;
                is_complete = push_variable_byte(&mut length, &mut length_bytes, byte)?;
            }
            let size_bytes = 1 + u32::from(length_bytes) + length;
            if size_bytes > packet_bytes_max {
                return Err(Malformed::PacketTooLarge { size_bytes, size_bytes_max: packet_bytes_max });
            }
            self.state = State::Body { first_byte, remaining_length: length };
        }
        let State::Body { first_byte, remaining_length } = self.state else {
            debug_assert!(false, "the fixed header is complete here");
            return Ok(None);
        };
        let body_bytes = remaining_length as usize;
        if self.buffer.is_empty()
            && let Some((body, rest)) = input.split_at_checked(body_bytes)
        {
            *input = rest;
            self.state = State::START;
            return Ok(Some(Frame { first_byte, body }));
        }
        if self.store(input, body_bytes) {
            self.state = State::behind(first_byte);
            return Ok(Some(Frame { first_byte, body: &self.buffer }));
        }
        Ok(None)
    }

    /// Where the stream stands, for [`Assembler::put_back`].
    #[must_use]
    pub const fn mark(&self) -> Mark {
        Mark(self.state)
    }

    /// Puts the packet back that the last call returned: that call's `input`, of which it took `taken_bytes`, is to be offered again.
    /// `mark` was taken before that call.
    pub fn put_back(&mut self, mark: Mark, taken_bytes: usize) {
        self.state = mark.0;
        // A body that lies here began in an earlier input, and all that was taken of this one is its end.
        self.buffer.truncate(self.buffer.len().saturating_sub(taken_bytes));
    }

    /// Takes the bytes that belong to a body of `body_bytes`; returns whether the body is complete.
    fn store(&mut self, input: &mut &[u8], body_bytes: usize) -> bool {
        let missing_bytes = body_bytes - self.buffer.len();
        let (taken, rest) = input.split_at(missing_bytes.min(input.len()));
        *input = rest;
        if self.buffer.is_empty() && self.buffer.capacity() > BUFFER_KEPT_BYTES_MAX.max(body_bytes) {
            self.buffer = Vec::new();
        }
        let needed_bytes = self.buffer.len() + taken.len();
        if needed_bytes > self.buffer.capacity() {
            // Doubling keeps the copying linear. Memory is otherwise not allocated before bytes arrive.
            let capacity_bytes = (2 * self.buffer.capacity()).clamp(needed_bytes, body_bytes);
            self.grow(capacity_bytes);
        }
        self.buffer.extend_from_slice(taken);
        self.buffer.len() == body_bytes
    }

    fn grow(&mut self, capacity_bytes: usize) {
        if !self.state.has_secret() {
            self.buffer.reserve_exact(capacity_bytes - self.buffer.len());
            return;
        }
        // The allocator would leave the bytes in the block that it takes back.
        let mut larger = Vec::with_capacity(capacity_bytes);
        larger.extend_from_slice(&self.buffer);
        self.buffer.zeroize();
        self.buffer = larger;
    }

    /// Overwrites a secret in the buffer, and empties it.
    #[inline]
    fn wipe(&mut self) {
        if self.state.has_secret() && self.buffer.capacity() > 0 {
            self.buffer.zeroize();
        }
    }

    /// Size of the packet that is arriving, as far as the bytes before and `input` tell it; `None` if its length has not come whole,
    /// or is malformed.
    #[must_use]
    pub fn packet_bytes(&self, input: &[u8]) -> Option<u32> {
        let (mut length_bytes, mut length, rest) = match self.state {
            State::Start { .. } => (0, 0, input.split_first()?.1),
            State::Length { length_bytes, length, .. } => (length_bytes, length, input),
            State::Body { remaining_length, .. } => {
                return u32::try_from(packet_bytes(remaining_length as usize)).ok();
            }
        };
        for &byte in rest {
            if push_variable_byte(&mut length, &mut length_bytes, byte).ok()? {
                return Some(1 + u32::from(length_bytes) + length);
            }
        }
        None
    }

    /// Whether no packet is incomplete.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, State::Start { .. })
    }

    /// Heap memory held for packets that arrived in pieces, in bytes.
    #[must_use]
    pub const fn buffered_bytes(&self) -> usize {
        self.buffer.capacity()
    }
}

/// The packet at the start of `input` and the bytes after it, if all of it is there and its length takes one byte or two. Most
/// packets are received like this.
#[inline]
fn whole_packet(input: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let (&[first_byte, low], rest) = input.split_first_chunk()?;
    PacketType::from_first_byte(first_byte)?;
    let (body_bytes, rest) = if low & 0x80 == 0 {
        (usize::from(low), rest)
    } else {
        let (&high, rest) = rest.split_first()?;
        // More bytes follow, or more were used than the length needs.
        if high & 0x80 != 0 || high == 0 {
            return None;
        }
        (usize::from(low & 0x7F) | usize::from(high) << 7, rest)
    };
    let (body, rest) = rest.split_at_checked(body_bytes)?;
    Some((Frame { first_byte, body }, rest))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn the_size_of_a_packet_is_known_with_its_length_however_it_was_cut() {
        for body_bytes in [0_usize, 1, 127, 128, 20_000, 3_000_000] {
            let mut stream = Vec::new();
            Frame { first_byte: 0x30, body: &vec![7; body_bytes] }.write_to(&mut stream);
            let header_bytes = stream.len() - body_bytes;
            for cut in 0..stream.len().min(9) {
                let mut assembler = Assembler::new();
                let mut input = &stream[..cut];
                assert_eq!(assembler.packet_bytes(input).is_some(), cut >= header_bytes);
                assert!(cut == stream.len() || assembler.next(&mut input, u32::MAX) == Ok(None));
                assert_eq!(assembler.packet_bytes(&stream[cut..]), u32::try_from(stream.len()).ok());
            }
        }
        assert_eq!(Assembler::new().packet_bytes(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1]), None);
    }

    #[test]
    fn a_packet_that_is_put_back_comes_again_however_it_was_cut() {
        let stream = [0x30, 3, b'a', b'b', b'c', 0xC0, 0];
        for cut in 0..stream.len() {
            let mut assembler = Assembler::new();
            let mut frames = Vec::new();
            for mut input in [&stream[..cut], &stream[cut..]] {
                let mut was_put_back = false;
                loop {
                    let (mark, before) = (assembler.mark(), input);
                    let Some(frame) = assembler.next(&mut input, 1000).unwrap() else { break };
                    let frame = (frame.first_byte, frame.body.to_vec());
                    was_put_back = !was_put_back;
                    if was_put_back {
                        assembler.put_back(mark, before.len() - input.len());
                        input = before;
                    } else {
                        frames.push(frame);
                    }
                }
            }
            assert_eq!(frames, [(0x30, b"abc".to_vec()), (0xC0, vec![])], "cut at {cut}");
        }
    }

    /// Assembles `stream`, cut into pieces of `piece_bytes`; returns the bodies or the error.
    fn assemble(stream: &[u8], piece_bytes: usize) -> Result<Vec<(u8, Vec<u8>)>, Malformed> {
        let mut assembler = Assembler::new();
        let mut frames = Vec::new();
        for mut piece in stream.chunks(piece_bytes) {
            while let Some(frame) = assembler.next(&mut piece, 1000)? {
                frames.push((frame.first_byte, frame.body.to_vec()));
            }
            assert!(piece.is_empty());
        }
        Ok(frames)
    }

    #[test]
    fn packets_do_not_depend_on_how_the_stream_is_cut() {
        let mut stream = vec![0xC0, 0x00, 0x30, 0x03, 1, 2, 3, 0x40, 0x02, 0, 7];
        stream.extend([0x30, 0xC8, 0x01]);
        stream.extend([9; 200]);
        stream.extend([0xD0, 0x00]);
        let whole = assemble(&stream, stream.len()).unwrap();
        assert_eq!(
            whole.iter().map(|(first_byte, _)| *first_byte).collect::<Vec<_>>(),
            [0xC0, 0x30, 0x40, 0x30, 0xD0]
        );
        assert_eq!(whole[3].1, [9; 200]);
        for piece_bytes in 1..stream.len() {
            assert_eq!(assemble(&stream, piece_bytes).as_ref(), Ok(&whole), "{piece_bytes}");
        }
    }

    #[test]
    fn a_packet_too_long_is_refused_from_its_fixed_header_alone() {
        let refusal = Malformed::PacketTooLarge { size_bytes: 1001, size_bytes_max: 1000 };
        assert_eq!(assemble(&[0x30, 0xE6, 0x07], 1), Err(refusal)); // 998 + 3 bytes, no body needed
        assert_eq!(assemble(&[0x30, 0xE5, 0x07], 1), Ok(vec![])); // 997 + 3 bytes fit
        let largest = Malformed::PacketTooLarge { size_bytes: PACKET_BYTES_MAX, size_bytes_max: 1000 };
        assert_eq!(assemble(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 5), Err(largest));
    }

    #[test]
    fn malformed_fixed_headers_are_refused() {
        assert_eq!(assemble(&[0x00], 1), Err(Malformed::PacketTypeReserved { packet_type: 0 }));
        assert_eq!(assemble(&[0x0F, 0x00], 1), Err(Malformed::PacketTypeReserved { packet_type: 0 }));
        assert_eq!(assemble(&[0x30, 0x80, 0x00], 1), Err(Malformed::VariableByteIntegerNotMinimal));
        assert_eq!(assemble(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], 1), Err(Malformed::VariableByteIntegerTooLong));
    }

    #[test]
    fn memory_grows_with_arriving_bytes_and_is_freed() {
        let mut assembler = Assembler::new();
        assert!(size_of::<Assembler>() <= 32);
        assert!(assembler.is_idle() && assembler.buffered_bytes() == 0);

        // Announced: 200,000,000 bytes. Arrived: one.
        let mut input = &[0x30, 0x80, 0x84, 0xAF, 0x5F, 0xAA][..];
        assert_eq!(assembler.next(&mut input, PACKET_BYTES_MAX), Ok(None));
        assert!(!assembler.is_idle() && assembler.buffered_bytes() < 64, "{}", assembler.buffered_bytes());

        let mut assembler = Assembler::new();
        let packet: Vec<u8> =
            [0x30, 0xA0, 0x8D, 0x06].into_iter().chain(core::iter::repeat_n(1, 100_000)).collect();
        for mut piece in packet.chunks(1000) {
            match assembler.next(&mut piece, PACKET_BYTES_MAX).unwrap() {
                Some(frame) => assert_eq!(frame.body, &packet[4..]),
                None => assert!(!assembler.is_idle()),
            }
            assert!(assembler.buffered_bytes() <= 100_000);
        }
        assert!(assembler.is_idle());
        // A short packet does not inherit a long one's buffer, and between packets there is no buffer.
        assert_eq!(assembler.next(&mut &[0x30, 0x05, 1][..], PACKET_BYTES_MAX), Ok(None));
        assert!(assembler.buffered_bytes() <= BUFFER_KEPT_BYTES_MAX);
        let mut rest = &[2, 3, 4, 5][..];
        assert!(assembler.next(&mut rest, PACKET_BYTES_MAX).unwrap().is_some());
        assert_eq!(assembler.next(&mut rest, PACKET_BYTES_MAX), Ok(None));
        assert!(assembler.is_idle() && assembler.buffered_bytes() == 0);
    }

    #[test]
    fn packet_bytes_counts_the_fixed_header() {
        for (body_bytes, expected) in [(0, 2), (127, 129), (128, 131), (16_383, 16_386), (16_384, 16_388)] {
            assert_eq!(Frame { first_byte: 0x30, body: &vec![0; body_bytes] }.packet_bytes(), expected);
        }
    }
}
