//! One connection's socket and the system calls made on it directly.
//! Knows neither what the bytes mean nor when to send.

use std::cell::Cell;
use std::future::poll_fn;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::task::{Poll, Waker};

use engine::{Admission, ConnectionId};
use monoio::net::TcpStream;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

/// **Lives on:** the shard of its connection.
pub(super) struct Socket {
    pub(super) id: ConnectionId,
    pub(super) admission: Admission,
    stream: TcpStream,
    /// Somebody waits until the socket takes bytes again: nobody else sends.
    pub(super) blocked: Cell<bool>,
    /// The engine has credit again for what it left unconsumed.
    resumed: Cell<bool>,
    /// The connection's task, while it waits for credit.
    starving: Cell<Option<Waker>>,
    aborted: Cell<bool>,
}

impl Socket {
    pub(super) fn new(id: ConnectionId, stream: TcpStream, admission: Admission) -> Self {
        Self {
            id,
            admission,
            stream,
            blocked: Cell::new(false),
            resumed: Cell::new(false),
            starving: Cell::new(None),
            aborted: Cell::new(false),
        }
    }

    /// Completes when bytes, an end or an error can be received; asks the kernel each time.
    pub(super) async fn readable(&self) -> bool {
        self.stream.readable(false).await.is_ok()
    }

    pub(super) async fn writable(&self) -> bool {
        self.stream.writable(false).await.is_ok()
    }

    /// Takes what has arrived, at most `buffer`'s length, and never waits.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        // DONTWAIT: the io_uring driver leaves sockets in blocking mode.
        rustix::net::recv(self.descriptor(), buffer, RecvFlags::DONTWAIT).map(|(length, _)| length)
    }

    /// Sends what the kernel takes of `bytes`, and never waits.
    pub(super) fn send(&self, bytes: &[u8]) -> Result<usize, Errno> {
        rustix::net::send(self.descriptor(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
    }

    /// Nothing follows what was sent; what still arrives is read, so that no reset overtakes it.
    pub(super) fn end_sending(&self) {
        // A peer that is gone already needs no farewell.
        let _ = rustix::net::shutdown(self.descriptor(), Shutdown::Write);
    }

    /// Ends both directions, which wakes the connection's task.
    pub(super) fn abort(&self) {
        self.aborted.set(true);
        let _ = rustix::net::shutdown(self.descriptor(), Shutdown::Both);
        self.resume();
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.aborted.get()
    }

    /// There is credit for what was not consumed.
    pub(super) fn resume(&self) {
        self.resumed.set(true);
        if let Some(task) = self.starving.take() {
            task.wake();
        }
    }

    /// Completes once [`Socket::resume`] was called since the last time.
    pub(super) async fn credit(&self) {
        poll_fn(|context| {
            if self.resumed.take() {
                return Poll::Ready(());
            }
            self.starving.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        let raw = self.stream.as_raw_fd();
        #[expect(unsafe_code, reason = "monoio's TcpStream has no AsFd")]
        // SAFETY: the stream owns the descriptor, and `self` keeps the stream while the result is borrowed.
        unsafe {
            BorrowedFd::borrow_raw(raw)
        }
    }
}
