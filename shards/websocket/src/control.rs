//! The control frames of a connection: the payload of one that arrives, and the answer that leaves. Held only while there is one of
//! either, because a box for each idle connection would be too much.
//! Invariants: one pong waits at most, for the latest ping (RFC 6455, section 5.5.3). Nothing follows a Close.

use crate::CloseCode;
use crate::header::CONTROL_BYTES_MAX;

/// A control frame with the longest payload.
pub(crate) const CONTROL_FRAME_BYTES_MAX: usize = 2 + CONTROL_BYTES_MAX;

const PONG: u8 = 0x8a;
const CLOSE: u8 = 0x88;

/// **Lives on:** the connection, boxed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Control {
    /// The payload of the control frame that arrives.
    arriving: Payload,
    /// The answer that leaves.
    leaving: Frame,
    /// Bytes of it that the transport took.
    leaving_sent: u8,
    /// The answer behind it. A pong there is replaced by a later one, and by a close.
    waiting: Frame,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Payload {
    bytes: [u8; CONTROL_BYTES_MAX],
    length: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    bytes: [u8; CONTROL_FRAME_BYTES_MAX],
    /// 0: there is none.
    length: u8,
}

impl Frame {
    const NONE: Self = Self { bytes: [0; CONTROL_FRAME_BYTES_MAX], length: 0 };

    fn new(first_byte: u8, payload: &[u8]) -> Self {
        let mut frame = Self::NONE;
        let payload = &payload[..payload.len().min(CONTROL_BYTES_MAX)];
        frame.bytes[0] = first_byte;
        frame.bytes[1] = small(payload.len());
        frame.bytes[2..2 + payload.len()].copy_from_slice(payload);
        frame.length = small(2 + payload.len());
        frame
    }

    fn is_close(&self) -> bool {
        self.length > 0 && self.bytes[0] == CLOSE
    }
}

impl Control {
    pub(crate) fn new() -> Self {
        Self {
            arriving: Payload { bytes: [0; CONTROL_BYTES_MAX], length: 0 },
            leaving: Frame::NONE,
            leaving_sent: 0,
            waiting: Frame::NONE,
        }
    }

    /// Keeps a part of the payload of an arriving frame, whose header has checked the length.
    pub(crate) fn arrive(&mut self, part: &[u8]) {
        let from = usize::from(self.arriving.length);
        let to = (from + part.len()).min(CONTROL_BYTES_MAX);
        debug_assert_eq!(to, from + part.len());
        self.arriving.bytes[from..to].copy_from_slice(&part[..to - from]);
        self.arriving.length = small(to);
    }

    /// The whole payload of the frame that arrived; the next begins empty.
    pub(crate) fn arrived(&mut self) -> ([u8; CONTROL_BYTES_MAX], usize) {
        let length = usize::from(core::mem::take(&mut self.arriving.length));
        (self.arriving.bytes, length)
    }

    pub(crate) fn answer_ping(&mut self, payload: &[u8]) {
        self.put(Frame::new(PONG, payload));
    }

    /// A Close without a code answers one without.
    pub(crate) fn close(&mut self, code: Option<CloseCode>) {
        let bytes = code.map(|code| code.get().to_be_bytes());
        self.put(Frame::new(CLOSE, bytes.as_ref().map_or(&[], |bytes| &bytes[..])));
    }

    fn put(&mut self, frame: Frame) {
        debug_assert!(!self.leaving.is_close() && !self.waiting.is_close());
        if self.leaving_sent == 0 {
            self.leaving = frame;
        } else {
            self.waiting = frame;
        }
    }

    /// Bytes of the answer that have not left.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.leaving.bytes[usize::from(self.leaving_sent)..usize::from(self.leaving.length)]
    }

    pub(crate) fn sent(&mut self, count: usize) {
        debug_assert!(count <= self.unsent().len());
        self.leaving_sent = self.leaving.length.min(self.leaving_sent + small(count));
        if self.leaving_sent == self.leaving.length {
            self.leaving_sent = 0;
            self.leaving = core::mem::replace(&mut self.waiting, Frame::NONE);
        }
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.arriving.length == 0 && self.leaving.length == 0
    }
}

/// Lengths here are at most 127.
fn small(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}
