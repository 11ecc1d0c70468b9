//! The connections of a shard on epoll or kqueue: sockets watched by monoio, and the system calls that are made on them
//! directly.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix;

use monoio::net::UnixStream;
use socket2::{SockRef, Socket};

use crate::backend::{direct, tasks};
use crate::net::listen::set_connection_options;

/// A socket in blocking mode; the calls on it return at once in any mode. **Lives on:** the shard of its connection.
///
/// monoio only watches it, and watches any descriptor in the same way. Its TCP type has fields for two addresses
/// beside the descriptor, 72 bytes for each connection; a `UnixStream` has none.
pub(super) struct Stream(UnixStream);

impl tasks::Stream for Stream {
    const TASK_BYTES: usize = 304;

    fn into_socket(self) -> io::Result<Socket> {
        Ok(owned(self.0).into())
    }

    async fn readable(&self) -> io::Result<()> {
        // Not relaxed: this asks the kernel every time.
        self.0.readable(false).await
    }

    async fn writable(&self) -> io::Result<()> {
        self.0.writable(false).await
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        direct::receive(self.descriptor(), buffer)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        direct::send(self.descriptor(), bytes)
    }

    fn set_options(&self) -> io::Result<()> {
        set_connection_options(&SockRef::from(&self.descriptor()))
    }

    fn shut_down(&self, how: Shutdown) {
        shut_down(self.descriptor(), how);
    }

    fn receive_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        direct::receive(self.descriptor(), buffer)
    }

    fn has_unread_bytes(&self) -> bool {
        direct::is_readable(self.descriptor())
    }

    fn has_ended(&self) -> bool {
        direct::has_ended(self.descriptor())
    }
}

impl Stream {
    /// Registers a socket from any runtime.
    pub(super) fn from_socket(socket: OwnedFd) -> io::Result<Self> {
        UnixStream::from_std(unix::net::UnixStream::from(socket)).map(Self)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        let raw = self.0.as_raw_fd();
        #[expect(unsafe_code, reason = "monoio's UnixStream has no AsFd")]
        // SAFETY: the stream owns the descriptor, and `self` keeps the stream while the result is borrowed.
        unsafe {
            BorrowedFd::borrow_raw(raw)
        }
    }
}

/// Takes the descriptor out of a stream of monoio. The driver then stops watching it.
pub(super) fn owned(stream: impl IntoRawFd) -> OwnedFd {
    let raw = stream.into_raw_fd();
    #[expect(unsafe_code, reason = "monoio returns its descriptors only as numbers")]
    // SAFETY: the stream owned the descriptor and gave it up without closing it; nobody else has it.
    unsafe {
        OwnedFd::from_raw_fd(raw)
    }
}

pub(super) fn shut_down(socket: BorrowedFd<'_>, how: Shutdown) {
    let how = match how {
        Shutdown::Read => rustix::net::Shutdown::Read,
        Shutdown::Write => rustix::net::Shutdown::Write,
        Shutdown::Both => rustix::net::Shutdown::Both,
    };
    let _ = rustix::net::shutdown(socket, how);
}

/// A listening socket that is watched, and accepted from by a system call. **Lives on:** the shard that accepts on it.
pub(super) struct Listener {
    watched: monoio::net::TcpListener,
    /// A duplicate of the socket, to shut it down and to accept from it.
    socket: Socket,
    shared: bool,
}

impl Listener {
    /// Watches `socket`, which then is in non-blocking mode.
    pub(super) fn attach(socket: Socket, shared: bool) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let watched = watched(socket.try_clone()?)?;
        Ok(Self { watched, socket, shared })
    }

    /// The next socket. monoio would register it as a `TcpStream`; we keep a `UnixStream`. Re-registering costs two system
    /// calls on epoll, so accept(2) is called directly.
    pub(super) async fn accept_socket(&self) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
        loop {
            self.watched.readable(false).await?;
            match self.socket.accept() {
                Ok((accepted, peer)) => return Ok((accepted.into(), peer.as_socket())),
                // The peer has closed the connection before it was accepted, or another shard was faster.
                Err(refused) if refused.kind() == io::ErrorKind::WouldBlock => {}
                Err(refused) => return Err(refused),
            }
        }
    }

    pub(super) fn close(&self) {
        close_listener(&self.socket, self.shared);
    }
}

impl tasks::Listener for Listener {
    type Stream = Stream;

    async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        let (accepted, peer) = self.accept_socket().await?;
        Ok((Stream::from_socket(accepted)?, peer))
    }

    fn close(&self) {
        self.close();
    }
}

/// A listening socket of any kind as monoio watches it.
pub(super) fn watched(socket: Socket) -> io::Result<monoio::net::TcpListener> {
    monoio::net::TcpListener::from_std(socket.into())
}

/// Closing a listener is not enough. Outstanding accepts in io_uring keep it, and with it the port, for some milliseconds
/// after the end of the process, so that the next broker would find the port in use. A shared socket goes on listening: for
/// systemd, and because a unix socket that was shut down stays readable and has nothing to accept.
pub(super) fn close_listener(socket: &Socket, shared: bool) {
    if !shared {
        let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
    }
}
