//! The connections of a shard on epoll or kqueue: sockets watched by monoio, and the system calls that are made on them
//! directly.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
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

/// **Lives on:** the shard that accepts on it.
pub(super) struct Listener {
    watched: monoio::net::TcpListener,
    /// A duplicate of the socket, to shut it down and to accept from it.
    socket: TcpListener,
}

impl Listener {
    pub(super) fn attach(listener: TcpListener) -> io::Result<Self> {
        let socket = listener.try_clone()?;
        Ok(Self { watched: monoio::net::TcpListener::from_std(listener)?, socket })
    }
}

impl tasks::Listener for Listener {
    type Stream = Stream;

    /// monoio registers an accepted socket as a `TcpStream`; we keep a `UnixStream`. Re-registering costs two system
    /// calls on epoll, so accept(2) is called directly.
    async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        loop {
            self.watched.readable(false).await?;
            match self.socket.accept() {
                Ok((stream, peer)) => return Ok((Stream::from_socket(stream.into())?, peer)),
                // The peer has closed the connection before it was accepted.
                Err(refused) if refused.kind() == io::ErrorKind::WouldBlock => {}
                Err(refused) => return Err(refused),
            }
        }
    }

    fn close(&self) {
        close_listener(&self.socket);
    }
}

/// Closing a listener is not enough. Outstanding accepts in io_uring keep it, and with it the port, for some milliseconds
/// after the end of the process, so that the next broker would find the port in use.
pub(super) fn close_listener(socket: &TcpListener) {
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
}
