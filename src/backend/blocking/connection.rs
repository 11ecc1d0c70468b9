//! The receiving and the writing thread of one connection, and the shard's handle on them. They only move bytes; the
//! engine decides what to send and when.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;

use crossbeam_channel::{Receiver, Sender, bounded};
use engine::{Chunk, ClosedBy, ConnectionId};

use super::inbox::InboxSender;
use super::spawn;
use crate::backend::host::{self, Endpoint, lost_by};
use crate::net::listen::ListenerNumber;
use crate::net::permits::Permit;

/// An event from a thread of the shard.
pub(super) enum ThreadEvent {
    Accepted {
        stream: TcpStream,
        listener: ListenerNumber,
        peer: Option<SocketAddr>,
        permit: Permit,
    },
    /// The first `length` bytes of the buffer were received. The thread waits for the buffer to come back.
    Received {
        connection: ConnectionId,
        buffer: Vec<u8>,
        length: usize,
    },
    /// No more bytes will be received.
    Ended {
        connection: ConnectionId,
        by: ClosedBy,
    },
    /// The whole chunk was written, or as much as the peer took before it was gone.
    Written {
        connection: ConnectionId,
        chunk: Chunk,
        sent_bytes: usize,
    },
}

/// Bytes that the engine has not consumed.
pub(super) struct Unconsumed {
    pub(super) buffer: Vec<u8>,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// A connection of a shard on threads.
pub(super) type Socket = host::Socket<Threaded>;

/// Connections that have regained credit, each at most once. **Lives on:** the shard.
pub(super) type Resumed = Rc<RefCell<Vec<ConnectionId>>>;

#[expect(clippy::disallowed_types, reason = "a socket that the shard and two threads share")]
type Shared<T> = std::sync::Arc<T>;

/// **Lives on:** the shard of its connection.
pub(super) struct Threaded {
    id: ConnectionId,
    stream: Shared<TcpStream>,
    /// Returns the buffer to the receiving thread. There is only one buffer, so the channel always has room.
    buffers: Sender<Vec<u8>>,
    /// The thread's end of that channel, until the thread is started.
    awaited: Cell<Option<Receiver<Vec<u8>>>>,
    pub(super) unconsumed: Cell<Option<Unconsumed>>,
    is_resumed: Cell<bool>,
    resumed: Resumed,
    /// Passes chunks to the writing thread, after that was first needed. One chunk is lent at a time, so the channel
    /// always has room.
    writer: RefCell<Option<Sender<Chunk>>>,
    /// Set once no more bytes will be received, with the side that ended it. The connection is closed when the lent chunk comes back.
    pub(super) ended: Cell<Option<ClosedBy>>,
}

impl Threaded {
    pub(super) fn new(id: ConnectionId, stream: TcpStream, resumed: &Resumed) -> Self {
        let (buffers, awaited) = bounded(1);
        Self {
            id,
            stream: Shared::new(stream),
            buffers,
            awaited: Cell::new(Some(awaited)),
            unconsumed: Cell::new(None),
            is_resumed: Cell::new(false),
            resumed: Rc::clone(resumed),
            writer: RefCell::default(),
            ended: Cell::new(None),
        }
    }

    /// Starts the receiving thread, which waits for its buffer.
    pub(super) fn start(&self, inbox: &InboxSender) -> io::Result<()> {
        let awaited = self.awaited.take().expect("the thread is started once");
        let (id, stream, inbox) = (self.id, Shared::clone(&self.stream), inbox.clone());
        spawn("receive", move || receive(id, &stream, &awaited, &inbox))
    }

    /// Passes the buffer to the receiving thread.
    pub(super) fn receive_into(&self, buffer: Vec<u8>) {
        // The thread has ended only if the connection is closed, and then nothing more is to be received.
        let _ = self.buffers.try_send(buffer);
    }

    /// Passes a lent chunk to the writing thread, and starts that thread if necessary.
    ///
    /// # Errors
    /// Returns the chunk if the system refuses the thread.
    pub(super) fn write(&self, chunk: Chunk, inbox: &InboxSender) -> Result<(), (Chunk, io::Error)> {
        let mut writer = self.writer.borrow_mut();
        if writer.is_none() {
            let (pieces, lent) = bounded(1);
            let (id, stream, inbox) = (self.id, Shared::clone(&self.stream), inbox.clone());
            match spawn("write", move || write(id, &stream, &lent, &inbox)) {
                Ok(()) => *writer = Some(pieces),
                Err(refused) => return Err((chunk, refused)),
            }
        }
        let pieces = writer.as_ref().expect("the writer was started above");
        pieces.try_send(chunk).expect("the writer waits for chunks as long as its connection lives");
        Ok(())
    }

    /// Takes the unconsumed bytes, to offer them to the engine again.
    pub(super) fn take_unconsumed(&self) -> Option<Unconsumed> {
        self.is_resumed.set(false);
        self.unconsumed.take()
    }

    /// The socket, for another shard. The receiving thread waits for its buffer, and ends when this value is dropped.
    pub(super) fn try_clone_socket(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }
}

/// Bytes of a thread that waits: the pages of its stack that it has touched, and its buffer of the default size.
const THREAD_BYTES: usize = 20 * 1024 + 64 * 1024;

impl Endpoint for Threaded {
    const CONNECTION_BYTES: u64 = (size_of::<Socket>() + THREAD_BYTES) as u64;

    #[cfg(unix)]
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        crate::backend::direct::send(&*self.stream, bytes)
    }

    /// A Windows socket with a blocking receive has no non-blocking send, so the writing thread sends every chunk.
    #[cfg(not(unix))]
    fn send(&self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn shut_down(&self, how: Shutdown) {
        let _ = self.stream.shutdown(how);
    }

    fn resume(&self) {
        if !self.is_resumed.replace(true) {
            self.resumed.borrow_mut().push(self.id);
        }
    }

    /// The receiving thread may hold older bytes.
    fn receive_now(&self, _: &mut Vec<u8>) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn has_unread_bytes(&self) -> bool {
        crate::backend::direct::is_readable(&*self.stream)
    }

    fn has_ended(&self) -> bool {
        crate::backend::direct::has_ended(&*self.stream)
    }
}

/// The receiving thread.
fn receive(
    connection: ConnectionId,
    mut stream: &TcpStream,
    awaited: &Receiver<Vec<u8>>,
    inbox: &InboxSender,
) {
    // The channel closes when the connection has moved to another shard, or the shard has ended.
    while let Ok(mut buffer) = awaited.recv() {
        let event = loop {
            match stream.read(&mut buffer) {
                Ok(0) => break ThreadEvent::Ended { connection, by: ClosedBy::Peer },
                Ok(length) => break ThreadEvent::Received { connection, buffer, length },
                Err(refused) if refused.kind() == io::ErrorKind::Interrupted => {}
                Err(refused) => break ThreadEvent::Ended { connection, by: lost_by(&refused) },
            }
        };
        let ended = matches!(event, ThreadEvent::Ended { .. });
        if inbox.send(event).is_err() || ended {
            return;
        }
    }
}

/// The writing thread.
fn write(connection: ConnectionId, mut stream: &TcpStream, lent: &Receiver<Chunk>, inbox: &InboxSender) {
    while let Ok(chunk) = lent.recv() {
        let bytes = chunk.as_bytes();
        let mut sent_bytes = 0;
        while sent_bytes < bytes.len() {
            match stream.write(&bytes[sent_bytes..]) {
                Ok(0) => break,
                Ok(length) => sent_bytes += length,
                Err(refused) if refused.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if inbox.send(ThreadEvent::Written { connection, chunk, sent_bytes }).is_err() {
            return;
        }
    }
}
