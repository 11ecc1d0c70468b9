//! Frames that a server sends: the bytes around a piece of payload, and the progress through a frame that the transport took in
//! parts. A frame's header is computed anew until it has left, so nothing of it is stored.

use crate::Message;
use crate::control::CONTROL_FRAME_BYTES_MAX;

/// Bytes before the payload in [`Outgoing`] at most: a control frame and the header of a data frame.
pub const HEAD_BYTES_MAX: usize = CONTROL_FRAME_BYTES_MAX + HEADER_BYTES_MAX;

/// The longest header of a server, which masks nothing.
const HEADER_BYTES_MAX: usize = 10;

/// How far the data frame has come that is leaving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Payload that it announced and that has not left, as bytes, because a `u32` would pad each connection.
    left: [u8; 4],
    header: HeaderSent,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HeaderSent {
    /// No frame has begun.
    #[default]
    None,
    /// This many bytes of the header, and not all.
    Part(u8),
    All,
}

impl Progress {
    /// Whether control frames may go out here.
    pub(crate) fn is_between_frames(self) -> bool {
        self.header == HeaderSent::None
    }

    /// The header's unsent bytes and the payload bytes for a piece of this length.
    pub(crate) fn next(self, message: Message, piece_bytes: usize) -> (Header, usize) {
        match self.header {
            _ if piece_bytes == 0 => (Header::default(), 0),
            HeaderSent::None => {
                let length = u32::try_from(piece_bytes).unwrap_or(u32::MAX);
                (Header::new(message, length, 0), length as usize)
            }
            HeaderSent::Part(sent) => {
                (Header::new(message, self.left(), sent), piece_bytes.min(self.left() as usize))
            }
            HeaderSent::All => (Header::default(), piece_bytes.min(self.left() as usize)),
        }
    }

    pub(crate) fn left(self) -> u32 {
        u32::from_ne_bytes(self.left)
    }

    /// Of a header and payload that `next` gave, the transport took `taken` bytes. Returns how many of them are payload.
    pub(crate) fn sent(&mut self, header_bytes: usize, payload_bytes: usize, taken: usize) -> usize {
        if taken == 0 {
            return 0;
        }
        if self.header == HeaderSent::None {
            self.left = u32::try_from(payload_bytes).unwrap_or(u32::MAX).to_ne_bytes();
        }
        if taken < header_bytes {
            let before = if let HeaderSent::Part(sent) = self.header { sent } else { 0 };
            // A header has at most 10 bytes.
            self.header = HeaderSent::Part(before + u8::try_from(taken).unwrap_or(u8::MAX));
            return 0;
        }
        let payload = (taken - header_bytes).min(payload_bytes);
        let left = self.left().saturating_sub(u32::try_from(payload).unwrap_or(u32::MAX));
        self.left = left.to_ne_bytes();
        self.header = if left == 0 { HeaderSent::None } else { HeaderSent::All };
        payload
    }
}

/// The unsent part of a header.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Header {
    bytes: [u8; HEADER_BYTES_MAX],
    from: u8,
    to: u8,
}

impl Header {
    fn new(message: Message, length: u32, sent: u8) -> Self {
        let mut bytes = [0; HEADER_BYTES_MAX];
        bytes[0] = match message {
            Message::Binary => 0x82,
            Message::Text => 0x81,
        };
        let to = match length {
            0..126 => {
                bytes[1] = length.to_be_bytes()[3];
                2
            }
            126..0x1_0000 => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&length.to_be_bytes()[2..]);
                4
            }
            0x1_0000.. => {
                bytes[1] = 127;
                bytes[2..].copy_from_slice(&u64::from(length).to_be_bytes());
                10
            }
        };
        Self { bytes, from: sent.min(to), to }
    }

    fn unsent(&self) -> &[u8] {
        &self.bytes[usize::from(self.from)..usize::from(self.to)]
    }
}

/// The next bytes to send: [`head`](Self::head), and then so many bytes of the piece as [`payload_bytes`](Self::payload_bytes)
/// says. Valid until the connection receives or sends.
#[derive(Clone, Debug)]
pub struct Outgoing {
    head: [u8; HEAD_BYTES_MAX],
    pub(crate) control_bytes: u8,
    pub(crate) header_bytes: u8,
    pub(crate) payload_bytes: usize,
}

impl Outgoing {
    pub(crate) fn new(control: &[u8], header: Header, payload_bytes: usize) -> Self {
        let header = header.unsent();
        let mut head = [0; HEAD_BYTES_MAX];
        head[..control.len()].copy_from_slice(control);
        head[control.len()..control.len() + header.len()].copy_from_slice(header);
        // Both fit into HEAD_BYTES_MAX.
        let small = |length: usize| u8::try_from(length).unwrap_or(u8::MAX);
        Self { head, control_bytes: small(control.len()), header_bytes: small(header.len()), payload_bytes }
    }

    /// Bytes before the payload: a control frame that is due, and the header of a data frame, as far as they have not been sent.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.control_bytes) + usize::from(self.header_bytes)]
    }

    /// Bytes of the piece that follow, from its front.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head().is_empty() && self.payload_bytes == 0
    }
}
