//! The layers of one connection on the shard that drives them: the two calls on the socket are given to them here, and what they
//! hold is counted.

use std::cell::Cell;
use std::io;
use std::mem;
use std::rc::Rc;

use super::Stream;
use crate::net::layers::{Client, Layers, Scratch};
use crate::net::tls::{ListenerTls, PeerCertificate, Shared, Tls};

/// Everything that the layers of a shard share. **Lives on:** the shard.
pub(super) struct LayersOfShard {
    scratch: Scratch,
    /// Bytes that all layers hold, as the host counts them.
    held_bytes: Rc<Cell<usize>>,
}

impl LayersOfShard {
    pub(super) fn new(read_bytes: usize, held_bytes: Rc<Cell<usize>>) -> Rc<Self> {
        Rc::new(Self { scratch: Scratch::new(read_bytes), held_bytes })
    }

    /// The buffer for what peers say.
    pub(super) fn take_plain(&self) -> Vec<u8> {
        self.scratch.take_plain()
    }

    /// Takes that buffer back.
    pub(super) fn give_back_plain(&self, plain: Vec<u8>) {
        self.scratch.give_back_plain(plain);
    }

    /// The client that a trusted proxy has named in the receive that has just ended.
    pub(super) fn take_client(&self) -> Option<Client> {
        self.scratch.take_client()
    }

    fn note(&self, before: usize, after: usize) {
        self.held_bytes.set(self.held_bytes.get() + after - before);
    }
}

/// **Lives on:** the shard of its connection.
pub(super) struct Layered {
    layers: Cell<Layers>,
    shard: Rc<LayersOfShard>,
}

/// Bytes of a connection with layers beside those of a plain one, before its layers hold anything.
const LAYERED_BYTES: usize = super::socket::EXTRA_BYTES;

impl Layered {
    pub(super) fn new(layers: Layers, shard: &Rc<LayersOfShard>) -> Self {
        shard.note(0, LAYERED_BYTES + layers.held_bytes());
        Self { layers: Cell::new(layers), shard: Rc::clone(shard) }
    }

    /// The layers of a connection that moves.
    pub(super) fn into_layers(self) -> Layers {
        self.change(mem::take)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Layers) -> R) -> R {
        let mut layers = self.layers.take();
        let before = layers.held_bytes();
        let result = change(&mut layers);
        self.shard.note(before, layers.held_bytes());
        self.layers.set(layers);
        result
    }

    fn look<R>(&self, look: impl FnOnce(&Layers) -> R) -> R {
        let layers = self.layers.take();
        let seen = look(&layers);
        self.layers.set(layers);
        seen
    }

    /// Receives once, and appends what the peer says to `plain`.
    pub(super) fn receive(&self, stream: &impl Stream, plain: &mut Vec<u8>) -> io::Result<()> {
        self.change(|layers| layers.receive(&self.shard.scratch, plain, |buffer| stream.receive(buffer)))
    }

    /// The same, whatever the runtime knows of these bytes. They stand in front of `buffer`, whose length stays.
    pub(super) fn receive_now(&self, stream: &impl Stream, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let buffer_bytes = buffer.len();
        buffer.clear();
        let received = self.change(|layers| {
            layers.receive(&self.shard.scratch, buffer, |buffer| stream.receive_now(buffer))
        });
        let length = buffer.len();
        buffer.resize(buffer_bytes.max(length), 0);
        received.map(|()| length)
    }

    pub(super) fn send(&self, stream: &impl Stream, bytes: &[u8]) -> io::Result<usize> {
        self.change(|layers| layers.send(&self.shard.scratch, bytes, |bytes| stream.send(bytes)))
    }

    /// Sends what the layers have to say, with their farewell if the connection ends. Returns whether the kernel has all of it.
    pub(super) fn flush(&self, stream: &impl Stream, ends: bool) -> io::Result<bool> {
        self.change(|layers| {
            if ends {
                layers.say_goodbye();
            }
            layers.flush(|bytes| stream.send(bytes))
        })
    }

    /// Bytes that are encrypted and not counted as sent.
    pub(super) fn begun_bytes(&self) -> usize {
        self.look(Layers::begun_bytes)
    }

    /// Bytes that they hold beside themselves.
    pub(super) fn held_bytes(&self) -> usize {
        self.look(Layers::held_bytes)
    }

    pub(super) fn are_open(&self) -> bool {
        self.look(Layers::are_open)
    }

    /// The names in the certificate of the client; `None` without one.
    pub(super) fn peer_certificate(&self) -> Option<PeerCertificate> {
        self.look(|layers| layers.tls()?.peer_certificate())
    }

    /// Whether a certificate of the client is revoked now.
    pub(super) fn are_revoked(&self) -> bool {
        self.look(|layers| layers.tls().is_some_and(Tls::is_revoked))
    }

    /// The listener whose handshake of TLS is not over.
    pub(super) fn handshaking_listener(&self) -> Option<Shared<ListenerTls>> {
        self.look(|layers| layers.tls().filter(|tls| tls.is_handshaking()).map(Tls::listener))
    }

    pub(super) fn need_permit(&self) -> bool {
        self.look(Layers::needs_permit)
    }

    pub(super) fn have_ended(&self) -> bool {
        self.look(Layers::have_ended)
    }

    pub(super) fn are_pending(&self) -> bool {
        self.look(Layers::are_pending)
    }
}

impl Drop for Layered {
    fn drop(&mut self) {
        self.shard.note(LAYERED_BYTES + self.layers.get_mut().held_bytes(), 0);
    }
}
