//! The layers between a socket and the packets of MQTT: today TLS. A plain connection has none.
//!
//! Invariants:
//! - Bytes count as sent once the kernel has all that they became. Until then they are offered again, in front of the others, and
//!   are not encrypted again.
//! - At most one record waits for the kernel, beside the answers of the layers themselves.
//! - No socket is here: the caller gives the two calls on it, and drives everything.

use std::cell::Cell;
use std::io;
use std::mem;

use rustls::server::ServerConfig;

use crate::net::listen::ListenerNumber;
use crate::net::tls::{KEPT_BYTES_MAX, Opened, PLAIN_BYTES_MAX, RECORD_BYTES_MAX, Shared, Tls};

/// Bytes that may wait for the kernel after a receive: a record, and all that a handshake has to say.
const PENDING_BYTES_MAX: usize = 2 * KEPT_BYTES_MAX;

/// **Lives on:** the shard of its connection. It moves with it.
#[derive(Default)]
pub(crate) struct Layers {
    tls: Option<Tls>,
    /// Bytes for the socket that the kernel has not taken.
    pending: Vec<u8>,
    /// The first of them, which it has taken.
    pending_sent: usize,
    /// Bytes of the caller that are in `pending`. They are told as sent once it is empty.
    pending_piece_bytes: usize,
    /// The peer has said that it sends no more.
    has_ended: bool,
}

// A connection with layers has one, on the heap.
const _: () = assert!(size_of::<Layers>() <= 112);

/// The layers that each listener begins its connections with.
#[derive(Clone, Default)]
pub(crate) struct ListenerLayers {
    tls: Vec<Option<Shared<ServerConfig>>>,
}

impl ListenerLayers {
    /// Those of a connection from which nothing was received; `None` for a plain one.
    pub(crate) fn begin(&self, listener: ListenerNumber) -> Option<Layers> {
        let config = self.tls.get(listener.index())?.as_ref()?;
        Some(Layers::new(Some(Tls::new(Shared::clone(config)))))
    }
}

/// Buffers that all connections of a shard share. **Lives on:** the shard.
pub(crate) struct Scratch {
    incoming: Cell<Vec<u8>>,
    plain: Cell<Vec<u8>>,
    outgoing: Cell<Vec<u8>>,
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
}

impl Layers {
    /// TLS over a socket from which nothing was received.
    pub(crate) fn new(tls: Option<Tls>) -> Self {
        Self { tls, ..Self::default() }
    }

    /// Whether packets of MQTT can pass.
    pub(crate) fn are_open(&self) -> bool {
        !self.needs_permit()
    }

    /// Whether the next bytes belong to a handshake of TLS, whose cost has a budget.
    pub(crate) fn needs_permit(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::is_handshaking)
    }

    /// Whether the peer has said that it sends no more.
    pub(crate) fn have_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether something waits for the kernel.
    pub(crate) fn are_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Bytes that they hold beside themselves.
    pub(crate) fn held_bytes(&self) -> usize {
        self.tls.as_ref().map_or(0, Tls::held_bytes) + self.pending.capacity()
    }

    /// Receives once by `receive`, which is given a buffer, and appends what the peer says to `plain`.
    ///
    /// # Errors
    /// Those of `receive`, where 0 bytes are `UnexpectedEof`; `InvalidData` if the peer breaks the rules of a layer. There may be
    /// something to send in any case.
    pub(crate) fn receive(
        &mut self,
        scratch: &Scratch,
        plain: &mut Vec<u8>,
        receive: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut incoming = scratch.incoming.take();
        incoming.resize(KEPT_BYTES_MAX + scratch.read_bytes, 0);
        let result = self.receive_into(&mut incoming, scratch.read_bytes, plain, receive);
        scratch.incoming.set(incoming);
        result
    }

    fn receive_into(
        &mut self,
        incoming: &mut [u8],
        read_bytes: usize,
        plain: &mut Vec<u8>,
        receive: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let kept = self.tls.as_ref().map_or(0, |tls| tls.begin_receive(incoming));
        let length = match receive(&mut incoming[kept..kept + read_bytes])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => length,
        };
        let Some(tls) = &mut self.tls else {
            plain.extend_from_slice(&incoming[..length]);
            return Ok(());
        };
        let opened = tls
            .receive(&mut incoming[..kept + length], plain, &mut self.pending)
            .map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?;
        self.has_ended |= opened == Opened::Ended;
        if self.pending.len() > PENDING_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the peer reads no answer"));
        }
        Ok(())
    }

    /// Sends as many of `bytes` as the kernel takes through `socket`. Returns those of which it has all that they became.
    ///
    /// # Errors
    /// Those of `socket`, if no byte is to be told as sent.
    pub(crate) fn send(
        &mut self,
        scratch: &Scratch,
        bytes: &[u8],
        socket: impl Fn(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut outgoing = scratch.outgoing.take();
        let mut sent = 0;
        let result = loop {
            match self.flush(&socket) {
                Ok(true) => sent += mem::take(&mut self.pending_piece_bytes),
                Ok(false) => break Ok(()),
                Err(refused) => break Err(refused),
            }
            if sent == bytes.len() {
                break Ok(());
            }
            let made = self.send_record(&mut outgoing, &bytes[sent..], &socket);
            if made.is_err() || !self.pending.is_empty() {
                break made;
            }
        };
        scratch.outgoing.set(outgoing);
        match result {
            Err(refused) if sent == 0 => Err(refused),
            // The next call meets it again.
            Err(_) | Ok(()) => Ok(sent),
        }
    }

    /// Makes one record of the first bytes, and sends as much of it as the kernel takes.
    fn send_record(
        &mut self,
        outgoing: &mut Vec<u8>,
        bytes: &[u8],
        socket: impl Fn(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let bytes = &bytes[..bytes.len().min(PLAIN_BYTES_MAX)];
        outgoing.clear();
        match &mut self.tls {
            Some(tls) => tls.encrypt(bytes, outgoing).map_err(io::Error::other)?,
            None => outgoing.extend_from_slice(bytes),
        }
        self.pending_piece_bytes = bytes.len();
        let sent = socket(outgoing);
        let sent_bytes = *sent.as_ref().unwrap_or(&0);
        self.pending.extend_from_slice(&outgoing[sent_bytes..]);
        sent.map(drop)
    }

    /// Sends what waits for the kernel. Returns whether it has everything.
    ///
    /// # Errors
    /// Those of `socket`.
    pub(crate) fn flush(&mut self, socket: impl Fn(&[u8]) -> io::Result<usize>) -> io::Result<bool> {
        if self.pending.is_empty() {
            return Ok(true);
        }
        self.pending_sent += socket(&self.pending[self.pending_sent..])?;
        if self.pending_sent < self.pending.len() {
            return Ok(false);
        }
        (self.pending, self.pending_sent) = (Vec::new(), 0);
        Ok(true)
    }

    /// Says to the peer that nothing more is sent. What it has to be told waits for [`Layers::flush`].
    pub(crate) fn say_goodbye(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.say_goodbye(&mut self.pending);
        }
    }
}

#[cfg(test)]
mod tests;
