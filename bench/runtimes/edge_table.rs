//! The connections and subscriptions of the broker of `edge.rs`, and the bytes that each connection is owed.

use std::hash::BuildHasherDefault;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use hashbrown::HashMap;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use siphasher::sip::SipHasher13;

use crate::mqtt::{self, Request};

/// Bytes of the buffer that all connections receive into.
const RECEIVE_BYTES: usize = 16 * 1024;

/// Result of one receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Everything that had arrived.
    Some,
    /// As much as the buffer holds, so there may be more.
    Full,
    /// The connection is closed.
    End,
}

struct Connection {
    socket: OwnedFd,
    /// Bytes to send.
    out: Vec<u8>,
    /// The part of a packet that has come.
    partial: Vec<u8>,
    is_dirty: bool,
    is_connected: bool,
    /// Submitted to be sent; empty if nothing is.
    sending: Vec<u8>,
}

/// **Lives on:** the one thread.
pub(crate) struct Table {
    /// A number is not used again.
    connections: Vec<Option<Connection>>,
    subscribers: HashMap<Box<[u8]>, Vec<u32>, BuildHasherDefault<SipHasher13>>,
    dirty: Vec<u32>,
    /// Empty buffers.
    pool: Vec<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            connections: Vec::new(),
            subscribers: HashMap::default(),
            dirty: Vec::new(),
            pool: Vec::new(),
            buffer: vec![0; RECEIVE_BYTES],
        }
    }
}

impl Table {
    pub(crate) fn insert(&mut self, socket: OwnedFd) -> u32 {
        let number = u32::try_from(self.connections.len()).expect("fewer connections than that");
        let connection = Connection {
            socket,
            out: Vec::new(),
            partial: Vec::new(),
            is_dirty: false,
            is_connected: false,
            sending: Vec::new(),
        };
        self.connections.push(Some(connection));
        number
    }

    /// # Panics
    /// If the connection is closed.
    pub(crate) fn socket(&self, number: u32) -> BorrowedFd<'_> {
        self.connections[number as usize].as_ref().expect("an open connection").socket.as_fd()
    }

    pub(crate) fn is_open(&self, number: u32) -> bool {
        self.connections[number as usize].is_some()
    }

    pub(crate) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Receives once and takes the packets.
    pub(crate) fn receive(&mut self, number: u32) -> Received {
        let Some(connection) = &self.connections[number as usize] else { return Received::End };
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = match rustix::net::recv(&connection.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((length @ 1.., _)) => match self.take(number, &buffer[..length]) {
                Received::Some if length == buffer.len() => Received::Full,
                taken => taken,
            },
            Err(Errno::AGAIN | Errno::INTR) => Received::Some,
            Ok((0, _)) | Err(_) => self.remove(number),
        };
        self.buffer = buffer;
        received
    }

    /// Takes the packets of received bytes.
    pub(crate) fn take(&mut self, number: u32, bytes: &[u8]) -> Received {
        let Some(connection) = &mut self.connections[number as usize] else { return Received::End };
        if !connection.is_connected {
            // CONNECT and SUBSCRIBE come in one piece from the generator.
            return self.open(number, bytes);
        }
        if connection.partial.is_empty() {
            let rest = self.publish_all(bytes);
            if let (Some(rest @ [_, ..]), Some(connection)) = (rest, &mut self.connections[number as usize]) {
                connection.partial.extend_from_slice(rest);
            }
            return if rest.is_none() { self.remove(number) } else { Received::Some };
        }
        let mut whole = std::mem::take(&mut connection.partial);
        whole.extend_from_slice(bytes);
        let Some(rest) = self.publish_all(&whole).map(<[u8]>::len) else { return self.remove(number) };
        whole.drain(..whole.len() - rest);
        if let (Some(connection), false) = (&mut self.connections[number as usize], whole.is_empty()) {
            connection.partial = whole;
        }
        Received::Some
    }

    fn open(&mut self, number: u32, bytes: &[u8]) -> Received {
        match mqtt::parse(bytes) {
            Some(Request::Connects) => self.append(number, &mqtt::CONNACK),
            Some(Request::Subscribes { topic, packet_id }) => {
                self.subscribers.entry(topic.into_boxed_slice()).or_default().push(number);
                self.append(number, &mqtt::acknowledged(packet_id));
            }
            Some(Request::Publishes { .. }) | None => return self.remove(number),
        }
        if let Some(connection) = &mut self.connections[number as usize] {
            connection.is_connected = true;
        }
        Received::Some
    }

    /// Gives each whole PUBLISH to its subscribers, and returns the rest; `None` for another packet.
    fn publish_all<'a>(&mut self, mut bytes: &'a [u8]) -> Option<&'a [u8]> {
        while let Some((first, body, rest)) = mqtt::packet(bytes) {
            if first != 0x30 {
                return None;
            }
            let packet = &bytes[..bytes.len() - rest.len()];
            let subscribers =
                std::mem::take(self.subscribers.get_mut(mqtt::string(body)?.0).unwrap_or(&mut Vec::new()));
            for &subscriber in &subscribers {
                self.append(subscriber, packet);
            }
            if let Some(place) = self.subscribers.get_mut(mqtt::string(body)?.0) {
                *place = subscribers;
            }
            bytes = rest;
        }
        Some(bytes)
    }

    fn append(&mut self, number: u32, bytes: &[u8]) {
        let Some(connection) = &mut self.connections[number as usize] else { return };
        if connection.out.capacity() == 0 {
            connection.out = self.pool.pop().unwrap_or_default();
        }
        connection.out.extend_from_slice(bytes);
        if !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(number);
        }
    }

    /// Sends to each connection that is owed something; those whose socket is full stay dirty.
    pub(crate) fn flush(&mut self) {
        let Self { connections, dirty, pool, .. } = self;
        dirty.retain(|&number| {
            let Some(connection) = &mut connections[number as usize] else { return false };
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            // The receiver notices a peer that is gone.
            let sent = rustix::net::send(&connection.socket, &connection.out, flags).unwrap_or(0);
            if sent < connection.out.len() {
                connection.out.drain(..sent);
                return true;
            }
            let mut out = std::mem::take(&mut connection.out);
            out.clear();
            pool.push(out);
            connection.is_dirty = false;
            false
        });
    }

    /// The next connection with bytes to submit, and the bytes: they stay in place until [`Table::sent`].
    pub(crate) fn next_send(&mut self) -> Option<(u32, (*const u8, usize))> {
        loop {
            let number = self.dirty.pop()?;
            let Some(connection) = &mut self.connections[number as usize] else { continue };
            connection.is_dirty = false;
            if !connection.sending.is_empty() {
                // `sent` makes it dirty again.
                continue;
            }
            let bytes = std::mem::take(&mut connection.out);
            let place = (bytes.as_ptr(), bytes.len());
            connection.sending = bytes;
            return Some((number, place));
        }
    }

    /// A submitted send is complete. `MSG_WAITALL` sends everything, unless the peer is gone.
    pub(crate) fn sent(&mut self, number: u32) {
        let Some(connection) = &mut self.connections[number as usize] else { return };
        let mut sent = std::mem::take(&mut connection.sending);
        sent.clear();
        self.pool.push(sent);
        if !connection.out.is_empty() && !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(number);
        }
    }

    /// Closes a connection.
    pub(crate) fn remove(&mut self, number: u32) -> Received {
        if let Some(connection) = self.connections[number as usize].take() {
            // The kernel may still read them, and a load closes its connections only at its end.
            std::mem::forget(connection.sending);
        }
        Received::End
    }
}
