//! One connection of a client: its frames in, its frames out, and its end.

use alloc::boxed::Box;
use core::ops::Range;

use crate::control::Control;
use crate::header::{Header, HeaderBytes, Kind};
use crate::mask::{unmask, unmask_down};
use crate::outgoing::{Outgoing, Progress};
use crate::{CloseCode, Violation};

/// The first byte of a frame that is a whole binary message.
const LAST_BINARY: u8 = 0x82;
/// The header of a frame of less than 126 bytes, mask included.
const SHORT_HEADER_BYTES: usize = 6;

// Every idle connection has one.
const _: () = assert!(size_of::<WebSocket>() <= 32);

/// The rules of a server for what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Payload of one frame at most. A longer one is refused by its header.
    pub frame_bytes_max: u32,
    /// Whether text frames are accepted. Their payload is not checked to be UTF-8.
    pub text: bool,
}

impl Rules {
    /// Binary frames only, of any length below 256 MiB.
    pub const BINARY: Self = Self { frame_bytes_max: 1 << 28, text: false };
}

/// The kind of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Bytes.
    Binary,
    /// Text, not checked to be UTF-8.
    Text,
}

/// A part of the payload of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it stands in the buffer, without its mask.
    pub payload: Range<usize>,
    /// The kind of its message.
    pub message: Message,
    /// Whether the message ends with it.
    pub is_last: bool,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closes, perhaps with a code.
    Closed(Option<CloseCode>),
    /// The peer violated the protocol.
    Violated(Violation),
}

/// The next thing in a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Payload, or the empty end of a message.
    Payload(Piece),
    /// A ping: its pong is due.
    Ping,
    /// A Close or a violation: its answer is due, and everything that follows is ignored.
    End(End),
}

/// The content of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where the payload of all data frames stands in the buffer, as one slice.
    pub payload: Range<usize>,
    /// The end that came after it, told once.
    pub end: Option<End>,
}

/// The state of a connection, from the first byte after the opening handshake.
///
/// **Lives on:** the shard of its connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebSocket {
    incoming: Incoming,
    /// The message that has begun and not ended.
    unfinished: Option<Message>,
    stage: Stage,
    outgoing: Progress,
    /// There while a control frame is incomplete or unsent.
    control: Option<Box<Control>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// Our Close is due or was sent. Data of the peer is still taken in.
    Closing,
    /// The peer has closed or violated the protocol, and our Close is due or was sent.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Incoming {
    Header(HeaderBytes),
    Payload(Header),
}

impl Default for Incoming {
    fn default() -> Self {
        Self::Header(HeaderBytes::default())
    }
}

impl WebSocket {
    /// Takes in what the peer sent: unmasks the payload of data frames in place and joins it to one slice, in order. Pongs and
    /// the answer to a Close become due.
    pub fn receive(&mut self, rules: Rules, bytes: &mut [u8]) -> Received {
        let mut payload: Option<Range<usize>> = None;
        let mut at = 0;
        loop {
            if let Some((length, mask)) = self.short_message(rules, &bytes[at..]) {
                let from = at + SHORT_HEADER_BYTES;
                at = from + length;
                match &mut payload {
                    None => {
                        unmask(&mut bytes[from..at], mask);
                        payload = Some(from..at);
                    }
                    Some(joined) => {
                        unmask_down(bytes, from..at, joined.end, mask);
                        joined.end += length;
                    }
                }
                continue;
            }
            let Some(step) = self.next(rules, bytes, &mut at) else { break };
            match step {
                Step::Payload(piece) => match &mut payload {
                    // The first piece stays where it is, so a buffer with one frame is not copied.
                    None => payload = Some(piece.payload),
                    Some(joined) => {
                        let length = piece.payload.len();
                        bytes.copy_within(piece.payload, joined.end);
                        joined.end += length;
                    }
                },
                Step::Ping => {}
                Step::End(end) => return Received { payload: payload.unwrap_or(0..0), end: Some(end) },
            }
        }
        Received { payload: payload.unwrap_or(0..0), end: None }
    }

    /// The length and the mask of a message at the front of `bytes`, if it is binary, of one short frame and whole: as most packets
    /// come. [`WebSocket::next`] takes in the same, and everything else.
    fn short_message(&self, rules: Rules, bytes: &[u8]) -> Option<(usize, [u8; 4])> {
        let &[LAST_BINARY, marked @ 0x80..=0xfd, a, b, c, d, ref payload @ ..] = bytes else { return None };
        let length = u32::from(marked & 0x7f);
        let is_next = self.stage != Stage::Ended && !self.is_within_message();
        let is_whole = length as usize <= payload.len() && length <= rules.frame_bytes_max;
        (is_next && is_whole).then_some((length as usize, [a, b, c, d]))
    }

    /// Takes in bytes from `at` on, which it moves; `None` once all are taken in. An empty piece is returned only where a message ends.
    pub fn next(&mut self, rules: Rules, bytes: &mut [u8], at: &mut usize) -> Option<Step> {
        while !self.has_ended() {
            match self.incoming {
                Incoming::Header(mut header) => {
                    let mut rest = &bytes[*at..];
                    let taken = header.take(&mut rest, rules).and_then(|header| self.begin(header));
                    *at = bytes.len() - rest.len();
                    match taken {
                        Ok(true) => {}
                        Ok(false) => {
                            self.incoming = Incoming::Header(header);
                            return None;
                        }
                        Err(violation) => return Some(self.violated(violation)),
                    }
                }
                Incoming::Payload(header) => {
                    let from = *at;
                    let to = bytes.len().min(from.saturating_add(header.payload_bytes as usize));
                    *at = to;
                    // Both are at most `payload_bytes`.
                    let left = header.payload_bytes - u32::try_from(to - from).unwrap_or(u32::MAX);
                    let mask = unmask(&mut bytes[from..to], header.mask);
                    let is_whole = left == 0;
                    self.incoming = if is_whole {
                        Incoming::default()
                    } else {
                        Incoming::Payload(Header { payload_bytes: left, mask, ..header })
                    };
                    let step = if header.kind.is_control() {
                        self.control_payload(header.kind, &bytes[from..to], is_whole)
                    } else {
                        self.payload(header, from..to, is_whole)
                    };
                    if step.is_some() || !is_whole {
                        return step;
                    }
                }
            }
        }
        *at = bytes.len();
        None
    }

    /// A header is whole; `false` without one.
    fn begin(&mut self, header: Option<Header>) -> Result<bool, Violation> {
        let Some(header) = header else { return Ok(false) };
        match (header.kind, self.unfinished) {
            (Kind::Continuation, None) => return Err(Violation::NothingToContinue),
            (Kind::Text | Kind::Binary, Some(_)) => return Err(Violation::UnfinishedMessage),
            (Kind::Text, None) => self.unfinished = Some(Message::Text),
            (Kind::Binary, None) => self.unfinished = Some(Message::Binary),
            (Kind::Continuation, Some(_)) | (Kind::Close | Kind::Ping | Kind::Pong, _) => {}
        }
        self.incoming = Incoming::Payload(header);
        Ok(true)
    }

    fn payload(&mut self, header: Header, payload: Range<usize>, is_whole: bool) -> Option<Step> {
        let is_last = is_whole && header.is_last;
        let message = if is_last { self.unfinished.take() } else { self.unfinished };
        // `begin` has seen that there is one.
        let message = message.unwrap_or(Message::Binary);
        (is_last || !payload.is_empty()).then_some(Step::Payload(Piece { payload, message, is_last }))
    }

    fn control_payload(&mut self, kind: Kind, part: &[u8], is_whole: bool) -> Option<Step> {
        if kind == Kind::Pong {
            return None;
        }
        let control = self.control.get_or_insert_with(|| Box::new(Control::new()));
        control.arrive(part);
        if !is_whole {
            return None;
        }
        let (bytes, length) = control.arrived();
        let payload = &bytes[..length];
        if kind == Kind::Ping {
            if self.stage == Stage::Open {
                control.answer_ping(payload);
                return Some(Step::Ping);
            }
            self.drop_empty_control();
            return None;
        }
        match close_code(payload) {
            Ok(code) => {
                self.end(code);
                Some(Step::End(End::Closed(code)))
            }
            Err(violation) => Some(self.violated(violation)),
        }
    }

    fn violated(&mut self, violation: Violation) -> Step {
        self.end(Some(violation.close_code()));
        Step::End(End::Violated(violation))
    }

    /// The peer has closed or violated the protocol.
    fn end(&mut self, code: Option<CloseCode>) {
        if self.stage == Stage::Open {
            self.control.get_or_insert_with(|| Box::new(Control::new())).close(code);
        } else {
            self.drop_empty_control();
        }
        self.stage = Stage::Ended;
        self.incoming = Incoming::default();
        self.unfinished = None;
    }

    /// A Close frame with this code becomes due, unless there is or was one already. Nothing follows it but the rest of the frame
    /// that has begun, which goes out first.
    pub fn close(&mut self, code: CloseCode) {
        if self.stage == Stage::Open {
            self.stage = Stage::Closing;
            self.control.get_or_insert_with(|| Box::new(Control::new())).close(Some(code));
        }
    }

    /// The bytes to send next, where `piece` is the payload that waits: a control frame that is due, and one message with all of
    /// the piece, or the rest of the one that has begun. A later call begins with the same payload where this one's was not
    /// taken.
    #[must_use]
    pub fn outgoing(&self, message: Message, piece: &[u8]) -> Outgoing {
        let control = match &self.control {
            Some(control) if self.outgoing.is_between_frames() => control.unsent(),
            Some(_) | None => &[],
        };
        let may_begin = self.stage == Stage::Open || !self.outgoing.is_between_frames();
        let (header, payload_bytes) = self.outgoing.next(message, if may_begin { piece.len() } else { 0 });
        Outgoing::new(control, header, payload_bytes)
    }

    /// The transport took the first `taken` bytes of `outgoing`. Returns how many bytes of the piece are among them.
    pub fn sent(&mut self, outgoing: &Outgoing, taken: usize) -> usize {
        let of_control = taken.min(outgoing.control_bytes.into());
        if of_control > 0
            && let Some(control) = &mut self.control
        {
            control.sent(of_control);
            self.drop_empty_control();
        }
        self.outgoing.sent(outgoing.header_bytes.into(), outgoing.payload_bytes, taken - of_control)
    }

    fn drop_empty_control(&mut self) {
        if self.control.as_ref().is_some_and(|control| control.is_empty()) {
            self.control = None;
        }
    }

    /// Bytes of payload that the head of a frame has announced and that were not sent. They have to come next.
    #[must_use]
    pub fn announced_bytes(&self) -> u32 {
        self.outgoing.left()
    }

    /// Whether a control frame waits to be sent, or a part of it.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.control.as_ref().is_some_and(|control| !control.unsent().is_empty())
    }

    /// Whether the peer has closed, or violated the protocol.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Whether a part of a frame has arrived whose rest has not, or a message has not ended.
    #[must_use]
    pub fn is_within_message(&self) -> bool {
        let is_within_frame = match &self.incoming {
            Incoming::Header(bytes) => !bytes.is_empty(),
            Incoming::Payload(_) => true,
        };
        is_within_frame || self.unfinished.is_some()
    }

    /// Bytes that the connection holds beside itself.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        if self.control.is_some() { size_of::<Control>() } else { 0 }
    }
}

/// The code of a Close frame (RFC 6455, section 5.5.1).
fn close_code(payload: &[u8]) -> Result<Option<CloseCode>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => Err(Violation::MalformedClose),
        [a, b, reason @ ..] => {
            let code = CloseCode::received(u16::from_be_bytes([*a, *b])).ok_or(Violation::MalformedClose)?;
            if core::str::from_utf8(reason).is_err() {
                return Err(Violation::CloseReasonNotUtf8);
            }
            Ok(Some(code))
        }
    }
}
