//! One connection's socket and the system calls made on it directly.
//! Knows neither what the bytes mean nor when to send.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::pin;
use std::task::{Poll, Waker};

use engine::{Admission, ConnectionId};
use monoio::net::TcpStream;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use crate::listen::ListenerNumber;

/// Apple's systems have no such flag; SIGPIPE is ignored by the process there as elsewhere.
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT;
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// **Lives on:** the shard of its connection.
pub(super) struct Socket {
    pub(super) id: ConnectionId,
    pub(super) admission: Admission,
    /// By which it came.
    pub(super) listener: ListenerNumber,
    stream: TcpStream,
    /// Somebody waits until the socket takes bytes again: nobody else sends.
    pub(super) blocked: Cell<bool>,
    /// The engine has credit again for what it left unconsumed.
    resumed: Cell<bool>,
    /// The connection's task, while it waits for credit.
    starving: Cell<Option<Waker>>,
    aborted: Cell<bool>,
    /// `end_sending` was called.
    told: Cell<bool>,
    /// The shard for which it has to leave this one.
    home: Cell<Option<u16>>,
}

impl Socket {
    pub(super) fn new(
        id: ConnectionId,
        stream: TcpStream,
        admission: Admission,
        listener: ListenerNumber,
    ) -> Self {
        Self {
            id,
            admission,
            listener,
            stream,
            blocked: Cell::new(false),
            resumed: Cell::new(false),
            starving: Cell::new(None),
            aborted: Cell::new(false),
            told: Cell::new(false),
            home: Cell::new(None),
        }
    }

    /// Completes when bytes, an end or an error can be received; asks the kernel each time.
    ///
    /// Returns whether that was so without waiting, and an error if it will never be again.
    pub(super) async fn readable(&self) -> io::Result<bool> {
        let mut readable = pin!(self.stream.readable(false));
        let mut waited = false;
        poll_fn(|context| match readable.as_mut().poll(context) {
            Poll::Ready(ready) => Poll::Ready(ready.map(|()| !waited)),
            Poll::Pending => {
                waited = true;
                Poll::Pending
            }
        })
        .await
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
        rustix::net::send(self.descriptor(), bytes, SEND_FLAGS)
    }

    /// Nothing follows what was sent; what still arrives is read, so that no reset overtakes it. Returns whether this is
    /// the first time.
    pub(super) fn end_sending(&self) -> bool {
        // A peer that is gone already needs no farewell.
        let _ = rustix::net::shutdown(self.descriptor(), Shutdown::Write);
        !self.told.replace(true)
    }

    /// Ends both directions, which wakes the connection's task.
    pub(super) fn abort(&self) {
        self.aborted.set(true);
        let _ = rustix::net::shutdown(self.descriptor(), Shutdown::Both);
        self.resume();
    }

    pub(super) fn is_told(&self) -> bool {
        self.told.get()
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.aborted.get()
    }

    /// Its session lives on shard `home`: its own task sends it there, and nothing else happens on it any more.
    pub(super) fn leave_for(&self, home: u16) {
        self.home.set(Some(home));
    }

    pub(super) fn home(&self) -> Option<u16> {
        self.home.get()
    }

    /// `None` if the peer is gone.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        rustix::net::getpeername(self.descriptor()).ok().flatten().and_then(|peer| peer.try_into().ok())
    }

    /// Takes the descriptor out of this shard's runtime. Nothing may be in flight on it.
    pub(super) fn into_descriptor(self) -> OwnedFd {
        let raw = self.stream.into_raw_fd();
        #[expect(unsafe_code, reason = "monoio gives its descriptors away as numbers only")]
        // SAFETY: the stream owned the descriptor and gave it up without closing it; nobody else has it.
        unsafe {
            OwnedFd::from_raw_fd(raw)
        }
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
