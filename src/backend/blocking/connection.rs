//! The threads of one connection, and what the shard holds of it.
//! Knows neither what the bytes mean nor when to send.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;

use crossbeam_channel::{Receiver, Sender, bounded};
use engine::{Admission, Chunk, ConnectionId};

use super::inbox::InboxSender;
use super::spawn;
use crate::backend::host::{self, Endpoint};
use crate::net::listen::ListenerNumber;

/// What a thread tells its shard.
pub(super) enum ThreadEvent {
    Accepted {
        stream: TcpStream,
        listener: ListenerNumber,
        peer: SocketAddr,
        admission: Admission,
    },
    /// So many bytes of the buffer, which is awaited back.
    Received {
        connection: ConnectionId,
        buffer: Vec<u8>,
        length: usize,
    },
    /// Nothing more will be received.
    Ended(ConnectionId),
    /// All of the piece was written, or as much as could be before the peer was gone.
    Written {
        connection: ConnectionId,
        chunk: Chunk,
        sent_bytes: usize,
    },
}

/// Bytes that the engine has not consumed yet.
pub(super) struct Unconsumed {
    pub(super) buffer: Vec<u8>,
    pub(super) from: usize,
    pub(super) to: usize,
}

/// A connection of a shard on threads.
pub(super) type Socket = host::Socket<Threaded>;

/// Connections that have credit again, each at most once. **Lives on:** the shard.
pub(super) type Resumed = Rc<RefCell<Vec<ConnectionId>>>;

#[expect(clippy::disallowed_types, reason = "a socket that its threads and its shard hold at once")]
type Shared<T> = std::sync::Arc<T>;

/// **Lives on:** the shard of its connection.
pub(super) struct Threaded {
    id: ConnectionId,
    stream: Shared<TcpStream>,
    /// Where who receives awaits its buffer: there is one, so there is always room.
    buffers: Sender<Vec<u8>>,
    /// Where it does so before it is started.
    awaited: Cell<Option<Receiver<Vec<u8>>>>,
    pub(super) unconsumed: Cell<Option<Unconsumed>>,
    is_resumed: Cell<bool>,
    resumed: Resumed,
    /// Who writes what the socket did not take, once that was needed. One piece is lent at a time, so there is always room.
    writer: RefCell<Option<Sender<Chunk>>>,
    /// Nothing more will be received, and it is closed once the piece that is lent comes back.
    pub(super) ended: Cell<bool>,
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
            ended: Cell::new(false),
        }
    }

    /// Starts the thread that receives, which waits for its buffer.
    pub(super) fn start(&self, inbox: &InboxSender) -> io::Result<()> {
        let awaited = self.awaited.take().expect("it is started once");
        let (id, stream, inbox) = (self.id, Shared::clone(&self.stream), inbox.clone());
        spawn("receive", move || receive(id, &stream, &awaited, &inbox))
    }

    /// Has more received.
    pub(super) fn receive_into(&self, buffer: Vec<u8>) {
        // Who receives is gone only if nobody asks any more.
        let _ = self.buffers.try_send(buffer);
    }

    /// Has a lent piece written by a thread.
    ///
    /// # Errors
    /// Gives it back if the system refuses the thread.
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
        let pieces = writer.as_ref().expect("it was just made");
        pieces.try_send(chunk).expect("a writer waits for the next piece as long as its connection lives");
        Ok(())
    }

    /// What was offered has been looked at since there was credit.
    pub(super) fn take_unconsumed(&self) -> Option<Unconsumed> {
        self.is_resumed.set(false);
        self.unconsumed.take()
    }

    /// The socket, for another shard. Who receives awaits its buffer, and ends when this value does.
    pub(super) fn try_clone_socket(&self) -> io::Result<TcpStream> {
        self.stream.try_clone()
    }
}

impl Endpoint for Threaded {
    #[cfg(unix)]
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        crate::backend::direct::send(&*self.stream, bytes)
    }

    /// Here a socket that is received from with waiting cannot be sent to without: each piece is the writer's.
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

    fn peer(&self) -> Option<SocketAddr> {
        self.stream.peer_addr().ok()
    }
}

/// The thread that receives.
fn receive(
    connection: ConnectionId,
    mut stream: &TcpStream,
    awaited: &Receiver<Vec<u8>>,
    inbox: &InboxSender,
) {
    // It is not awaited any more when the connection has left for another shard, or the shard has ended.
    while let Ok(mut buffer) = awaited.recv() {
        let event = loop {
            match stream.read(&mut buffer) {
                Ok(0) => break ThreadEvent::Ended(connection),
                Ok(length) => break ThreadEvent::Received { connection, buffer, length },
                Err(refused) if refused.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break ThreadEvent::Ended(connection),
            }
        };
        let ended = matches!(event, ThreadEvent::Ended(_));
        if inbox.send(event).is_err() || ended {
            return;
        }
    }
}

/// The thread that writes.
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
