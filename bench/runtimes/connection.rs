//! One connection: its socket, the bytes to be sent on it, and the two system calls made on it directly.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::task::Waker;

use monoio::io::{OwnedReadHalf, OwnedWriteHalf};
use monoio::net::TcpStream;
use rustix::net::{RecvFlags, SendFlags};

/// The result of a direct send.
pub(crate) enum Sent {
    /// The outbox is empty.
    All,
    /// The socket is full; the rest waits for writability.
    Blocked,
    /// The peer is gone.
    Failed,
}

/// **Lives on:** the shard's thread. **Sees:** its own socket.
pub(crate) struct Connection {
    stream: Rc<UnsafeCell<TcpStream>>,
    /// Writes owned buffers; absent while a write is in flight. Kept because dropping it shuts the socket down.
    pub(crate) write_half: Cell<Option<OwnedWriteHalf<TcpStream>>>,
    /// Bytes to send. Unbounded here because the client's window bounds them.
    pub(crate) outbox: RefCell<Vec<u8>>,
    /// The buffer returned by a submitted send, kept so that the steady state allocates nothing.
    pub(crate) spare: RefCell<Vec<u8>>,
    /// It is on the flusher's list, or its writer task has been woken.
    pub(crate) dirty: Cell<bool>,
    /// A send is in flight, or a task waits for writability: no other task may send.
    pub(crate) sending: Cell<bool>,
    /// The writer task, if there is one and it sleeps.
    pub(crate) writer: Cell<Option<Waker>>,
    pub(crate) closed: Cell<bool>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let stream = Rc::new(UnsafeCell::new(stream));
        Self {
            write_half: Cell::new(Some(OwnedWriteHalf(Rc::clone(&stream)))),
            stream,
            outbox: RefCell::default(),
            spare: RefCell::default(),
            dirty: Cell::new(false),
            sending: Cell::new(false),
            writer: Cell::new(None),
            closed: Cell::new(false),
        }
    }

    /// The half whose `read` keeps a buffer with the driver until bytes arrive.
    pub(crate) fn read_half(&self) -> OwnedReadHalf<TcpStream> {
        OwnedReadHalf(Rc::clone(&self.stream))
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        let stream = self.stream.get();
        #[expect(unsafe_code, reason = "monoio's owned halves have no `readable`")]
        // SAFETY: `TcpStream: Split` promises that reading and writing are independent; the halves borrow it mutably
        // only while they clone its descriptor, never across a poll, and everything runs on one thread.
        unsafe {
            &*stream
        }
    }

    /// Receives available bytes, at most `buffer`'s length, and never waits.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        // DONTWAIT: monoio's io_uring driver leaves sockets in blocking mode.
        rustix::net::recv(self.descriptor(), buffer, RecvFlags::DONTWAIT).map(|(length, _)| length)
    }

    /// Sends the outbox with one system call and never waits.
    pub(crate) fn send(&self) -> Sent {
        let mut outbox = self.outbox.borrow_mut();
        match rustix::net::send(self.descriptor(), &outbox, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(length) if length == outbox.len() => {
                outbox.clear();
                Sent::All
            }
            Ok(length) => {
                outbox.drain(..length);
                Sent::Blocked
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Sent::Blocked,
            Err(_) => Sent::Failed,
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        let raw = self.stream().as_raw_fd();
        #[expect(unsafe_code, reason = "monoio's TcpStream has no AsFd")]
        // SAFETY: the stream owns the descriptor and `self` keeps the stream for as long as the result is borrowed.
        unsafe {
            BorrowedFd::borrow_raw(raw)
        }
    }
}
