//! The layers between a socket and the packets of MQTT: a PROXY header first, TLS within, WebSocket within that. A plain connection
//! has none.
//!
//! Invariants:
//! - Bytes count as sent once the kernel has all that they became. Until then they are offered again, in front of the others, and
//!   are not encrypted again.
//! - At most one record waits for the kernel, beside the answers of the layers themselves. Of a frame without TLS none waits: its rest
//!   is offered again like other bytes.
//! - No socket is here: the caller gives the two calls on it, and drives everything.

mod front;
mod listener;

use std::cell::Cell;
use std::io;

use websocket::{CloseCode, Message};

pub(crate) use self::front::Client;
use self::front::{Front, Understood};
pub(crate) use self::listener::ListenerLayers;
use crate::net::tls::{KEPT_BYTES_MAX, Opened, PLAIN_BYTES_MAX, RECORD_BYTES_MAX, Tls};

/// Bytes that may wait for the kernel after a receive: a record, and all that a handshake has to say.
const PENDING_BYTES_MAX: usize = 2 * KEPT_BYTES_MAX;

/// Payload of one frame, where no TLS is around it.
const FRAME_BYTES_MAX: usize = 64 * 1024;
/// The longest that stands before the payload of a frame.
const FRAME_HEAD_BYTES_MAX: usize = websocket::HEAD_BYTES_MAX;

/// **Lives on:** the shard of its connection. It moves with it.
#[derive(Default)]
pub(crate) struct Layers {
    front: Front,
    secure: Option<Box<Secure>>,
    pending: Pending,
}

/// TLS of one connection.
struct Secure {
    tls: Tls,
    /// The peer has said that it sends no more.
    has_ended: bool,
}

/// Bytes for the socket that the kernel has not taken.
#[derive(Default)]
struct Pending(Option<Box<Waiting>>);

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// The first of them, which the kernel has taken.
    sent: usize,
    /// Bytes of the caller that are among them. They are told as sent once all are.
    piece_bytes: usize,
}

// A connection with layers has one, on the heap.
const _: () = assert!(size_of::<Layers>() <= 48);

/// Buffers that all connections of a shard share. **Lives on:** the shard.
pub(crate) struct Scratch {
    incoming: Cell<Vec<u8>>,
    plain: Cell<Vec<u8>>,
    outgoing: Cell<Vec<u8>>,
    frame: Cell<Vec<u8>>,
    /// The client that a proxy has named in the last receive.
    client: Cell<Option<Client>>,
    /// Bytes received at once.
    read_bytes: usize,
}

impl Scratch {
    /// Buffers for receives of `read_bytes` and at least one record.
    pub(crate) fn new(read_bytes: usize) -> Self {
        Self {
            incoming: Cell::default(),
            plain: Cell::default(),
            outgoing: Cell::default(),
            frame: Cell::default(),
            client: Cell::default(),
            read_bytes: read_bytes.max(RECORD_BYTES_MAX),
        }
    }

    /// The buffer for what peers say.
    pub(crate) fn take_plain(&self) -> Vec<u8> {
        let mut plain = self.plain.take();
        plain.clear();
        plain
    }

    /// Takes that buffer back.
    pub(crate) fn give_back_plain(&self, plain: Vec<u8>) {
        self.plain.set(plain);
    }

    /// The client that a trusted proxy has named in the receive that has just ended.
    pub(crate) fn take_client(&self) -> Option<Client> {
        self.client.take()
    }
}

impl Layers {
    /// Layers over a socket from which nothing was received.
    pub(crate) fn new(tls: Option<Tls>) -> Self {
        let secure = tls.map(|tls| Box::new(Secure { tls, has_ended: false }));
        Self { secure, ..Self::default() }
    }

    /// Whether packets of MQTT can pass.
    pub(crate) fn are_open(&self) -> bool {
        !self.needs_permit() && self.front.is_open()
    }

    /// Whether the next bytes belong to a handshake of TLS, whose cost has a budget.
    pub(crate) fn needs_permit(&self) -> bool {
        self.secure.as_ref().is_some_and(|secure| secure.tls.is_handshaking())
    }

    /// TLS, if there is any.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.secure.as_ref().map(|secure| &secure.tls)
    }

    /// Bytes of the caller that are encrypted or announced in a frame, and not counted as sent: they must come again as they were.
    pub(crate) fn begun_bytes(&self) -> usize {
        let announced = match &self.front {
            Front::Open(connection) => connection.announced_bytes() as usize,
            _ => 0,
        };
        announced + self.pending.0.as_ref().map_or(0, |waiting| waiting.piece_bytes)
    }

    /// Whether the peer has said that it sends no more.
    pub(crate) fn have_ended(&self) -> bool {
        self.secure.as_ref().is_some_and(|secure| secure.has_ended) || self.front.has_ended()
    }

    /// Whether something waits for the kernel.
    pub(crate) fn are_pending(&self) -> bool {
        !self.pending.is_empty() || self.front.is_due()
    }

    /// Bytes that they hold beside themselves.
    pub(crate) fn held_bytes(&self) -> usize {
        let secure_bytes =
            self.secure.as_ref().map_or(0, |secure| size_of::<Secure>() + secure.tls.held_bytes());
        secure_bytes + self.front.held_bytes() + self.pending.held_bytes()
    }

    /// Receives once by `receive`, which is given a buffer, and appends what the peer says to `plain`.
    ///
    /// # Errors
    /// The errors of `receive`, where 0 bytes are `UnexpectedEof`; `InvalidData` if the peer breaks the rules of a layer. There may be
    /// something to send in any case.
    pub(crate) fn receive(
        &mut self,
        scratch: &Scratch,
        plain: &mut Vec<u8>,
        receive: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut incoming = scratch.incoming.take();
        incoming.resize(KEPT_BYTES_MAX + scratch.read_bytes, 0);
        let result = self.receive_into(scratch, &mut incoming, plain, receive);
        scratch.incoming.set(incoming);
        result
    }

    fn receive_into(
        &mut self,
        scratch: &Scratch,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        receive: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let kept = self.secure.as_ref().map_or(0, |secure| secure.tls.begin_receive(incoming));
        let length = match receive(&mut incoming[kept..kept + scratch.read_bytes])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => length,
        };
        let mut start = 0;
        if self.front.awaits_proxy() {
            // Nothing was given to TLS, so it has kept nothing.
            let Some((header_bytes, client)) = self.front.take_proxy(&incoming[..length])? else {
                return Ok(());
            };
            scratch.client.set(Some(client));
            start = header_bytes;
        }
        self.understand(scratch, &mut incoming[start..kept + length], plain)
    }

    /// Takes in bytes behind a PROXY header, and appends what the peer says to `plain`.
    fn understand(&mut self, scratch: &Scratch, bytes: &mut [u8], plain: &mut Vec<u8>) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let Some(secure) = &mut self.secure else {
            let understood = self.front.receive(bytes);
            plain.extend_from_slice(&bytes[understood.payload.clone()]);
            return self.answer(scratch, understood);
        };
        let from = plain.len();
        let opened = self.pending.append(|own| secure.tls.receive(bytes, plain, own));
        let opened = opened.map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault));
        secure.has_ended |= matches!(opened, Ok(Opened::Ended));
        // Also what came before a fault of TLS.
        let understood = self.front.receive(&mut plain[from..]);
        let payload = understood.payload.clone();
        if payload.start > 0 {
            plain.copy_within(from + payload.start..from + payload.end, from);
        }
        plain.truncate(from + payload.len());
        self.answer(scratch, understood)?;
        opened?;
        if self.pending.len() > PENDING_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer reads no answer"));
        }
        Ok(())
    }

    /// Answers the opening request of a WebSocket.
    fn answer(&mut self, scratch: &Scratch, understood: Understood) -> io::Result<()> {
        if let Some(client) = understood.client {
            scratch.client.set(Some(client));
        }
        if !understood.answer.is_empty() {
            match &mut self.secure {
                None => self.pending.append(|own| own.extend_from_slice(&understood.answer)),
                Some(secure) => self
                    .pending
                    .append(|own| secure.tls.encrypt(&understood.answer, own))
                    .map_err(io::Error::other)?,
            }
        }
        understood.fault.map_or(Ok(()), Err)
    }

    /// Sends as many of `bytes` as the kernel takes through `socket`. Returns those of which it has all that they became.
    ///
    /// # Errors
    /// The errors of `socket`, if no byte is to be told as sent.
    pub(crate) fn send(
        &mut self,
        scratch: &Scratch,
        bytes: &[u8],
        socket: impl Fn(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.front.has_ended() {
            // A kernel as well takes bytes for a peer that has closed, and they go nowhere.
            return Ok(bytes.len());
        }
        let mut outgoing = scratch.outgoing.take();
        let mut frame = scratch.frame.take();
        let mut sent = 0;
        let result = loop {
            match self.pending.flush(&socket) {
                Ok(Some(piece_bytes)) => sent += piece_bytes,
                Ok(None) => break Ok(()),
                Err(refused) => break Err(refused),
            }
            if sent == bytes.len() {
                break Ok(());
            }
            match self.send_piece((&mut outgoing, &mut frame), &bytes[sent..], &socket) {
                Ok(piece_bytes) => sent += piece_bytes,
                Err(refused) => break Err(refused),
            }
            if !self.pending.is_empty() {
                break Ok(());
            }
        };
        scratch.outgoing.set(outgoing);
        scratch.frame.set(frame);
        match result {
            Err(refused) if sent == 0 => Err(refused),
            // The next call meets it again.
            Err(_) | Ok(()) => Ok(sent),
        }
    }

    /// Makes one frame and one record of the first bytes, and sends as much of it as the kernel takes. Returns how many of the bytes
    /// are to be told as sent; others may be in `pending`.
    fn send_piece(
        &mut self,
        (outgoing, frame): (&mut Vec<u8>, &mut Vec<u8>),
        bytes: &[u8],
        socket: impl Fn(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let Front::Open(connection) = &mut self.front else {
            let bytes = &bytes[..bytes.len().min(PLAIN_BYTES_MAX)];
            return self.send_record(outgoing, bytes, bytes.len(), socket);
        };
        let payload_bytes_max = match &self.secure {
            None => FRAME_BYTES_MAX,
            Some(_) => PLAIN_BYTES_MAX - FRAME_HEAD_BYTES_MAX,
        };
        let made = connection.outgoing(Message::Binary, &bytes[..bytes.len().min(payload_bytes_max)]);
        if made.payload_bytes() == 0 && made.head().is_empty() {
            // Nothing follows our own Close.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        frame.clear();
        frame.extend_from_slice(made.head());
        frame.extend_from_slice(&bytes[..made.payload_bytes()]);
        if self.secure.is_none() {
            let taken = socket(frame)?;
            return Ok(connection.sent(&made, taken));
        }
        let piece_bytes = connection.sent(&made, frame.len());
        self.send_record(outgoing, frame, piece_bytes, socket)
    }

    /// Makes one record of `bytes`, in which `piece_bytes` are the caller's.
    fn send_record(
        &mut self,
        outgoing: &mut Vec<u8>,
        bytes: &[u8],
        piece_bytes: usize,
        socket: impl Fn(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        outgoing.clear();
        match &mut self.secure {
            Some(secure) => secure.tls.encrypt(bytes, outgoing).map_err(io::Error::other)?,
            None => outgoing.extend_from_slice(bytes),
        }
        let taken = socket(outgoing);
        let taken_bytes = *taken.as_ref().unwrap_or(&0);
        if taken_bytes == outgoing.len() {
            return Ok(piece_bytes);
        }
        self.pending.keep(&outgoing[taken_bytes..], piece_bytes);
        taken.map(|_| 0)
    }

    /// Sends what waits for the kernel. Returns whether it has everything.
    ///
    /// # Errors
    /// The errors of `socket`.
    pub(crate) fn flush(&mut self, socket: impl Fn(&[u8]) -> io::Result<usize>) -> io::Result<bool> {
        loop {
            if !self.pending.flush_own(&socket)? {
                return Ok(false);
            }
            let Front::Open(connection) = &mut self.front else { return Ok(true) };
            let made = connection.outgoing(Message::Binary, &[]);
            let head = made.head();
            if head.is_empty() {
                return Ok(true);
            }
            match &mut self.secure {
                None => {
                    let taken = socket(head)?;
                    connection.sent(&made, taken);
                    if taken < head.len() {
                        return Ok(false);
                    }
                }
                Some(secure) => {
                    self.pending.append(|own| secure.tls.encrypt(head, own)).map_err(io::Error::other)?;
                    connection.sent(&made, head.len());
                }
            }
        }
    }

    /// Says to the peer that nothing more is sent. The bytes that tell it wait for [`Layers::flush`].
    pub(crate) fn say_goodbye(&mut self) {
        if let Front::Open(connection) = &mut self.front {
            connection.close(CloseCode::NORMAL);
        }
        let Some(secure) = &mut self.secure else { return };
        if let Front::Open(connection) = &mut self.front {
            let made = connection.outgoing(Message::Binary, &[]);
            // A record that cannot be made is no farewell, and nothing waits for it.
            let encrypted = self.pending.append(|own| secure.tls.encrypt(made.head(), own));
            if encrypted.is_ok() {
                connection.sent(&made, made.head().len());
            }
        }
        self.pending.append(|own| secure.tls.say_goodbye(own));
    }
}

impl Pending {
    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.bytes.len())
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn held_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| size_of::<Waiting>() + waiting.bytes.capacity())
    }

    /// Lets `write` append bytes that are no caller's.
    fn append<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let mut waiting = self.0.take().unwrap_or_default();
        let result = write(&mut waiting.bytes);
        if !waiting.bytes.is_empty() || waiting.piece_bytes > 0 {
            self.0 = Some(waiting);
        }
        result
    }

    /// Keeps the rest of a record, in which `piece_bytes` are the caller's.
    fn keep(&mut self, rest: &[u8], piece_bytes: usize) {
        assert!(self.0.is_none());
        self.0 = Some(Box::new(Waiting { bytes: rest.to_vec(), sent: 0, piece_bytes }));
    }

    /// Sends what waits. Returns how many of the caller's bytes have left, or nothing while some wait.
    fn flush(&mut self, socket: impl Fn(&[u8]) -> io::Result<usize>) -> io::Result<Option<usize>> {
        let Some(waiting) = &mut self.0 else { return Ok(Some(0)) };
        if waiting.sent < waiting.bytes.len() {
            waiting.sent += socket(&waiting.bytes[waiting.sent..])?;
        }
        if waiting.sent < waiting.bytes.len() {
            return Ok(None);
        }
        let piece_bytes = waiting.piece_bytes;
        self.0 = None;
        Ok(Some(piece_bytes))
    }

    /// The same while no caller asks: its bytes stay to be told. Returns whether nothing else waits.
    fn flush_own(&mut self, socket: impl Fn(&[u8]) -> io::Result<usize>) -> io::Result<bool> {
        let Some(waiting) = &mut self.0 else { return Ok(true) };
        let piece_bytes = waiting.piece_bytes;
        Ok(match self.flush(socket)? {
            None => false,
            Some(_) if piece_bytes > 0 => {
                self.0 = Some(Box::new(Waiting { piece_bytes, ..Waiting::default() }));
                true
            }
            Some(_) => true,
        })
    }
}

#[cfg(test)]
mod tests;
