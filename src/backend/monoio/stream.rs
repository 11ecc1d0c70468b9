//! Sockets watched by monoio, and the system calls made on them directly.
//! Knows neither what the bytes mean nor when to send.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use crate::backend::{direct, tasks};

/// The `io_uring` driver leaves its socket in blocking mode. **Lives on:** the shard of its connection.
pub(super) struct Stream(monoio::net::TcpStream);

impl tasks::Stream for Stream {
    fn from_std(stream: TcpStream) -> io::Result<Self> {
        monoio::net::TcpStream::from_std(stream).map(Self)
    }

    fn into_std(self) -> io::Result<TcpStream> {
        let raw = self.0.into_raw_fd();
        #[expect(unsafe_code, reason = "monoio gives its descriptors away as numbers only")]
        // SAFETY: the stream owned the descriptor and gave it up without closing it; nobody else has it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(descriptor.into())
    }

    async fn readable(&self) -> io::Result<()> {
        // Not relaxed: asks the kernel each time.
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

    fn set_nodelay(&self) -> io::Result<()> {
        self.0.set_nodelay(true)
    }

    fn shut_down(&self, how: Shutdown) {
        let how = match how {
            Shutdown::Read => rustix::net::Shutdown::Read,
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        let _ = rustix::net::shutdown(self.descriptor(), how);
    }

    fn peer(&self) -> Option<SocketAddr> {
        rustix::net::getpeername(self.descriptor()).ok().flatten().and_then(|peer| peer.try_into().ok())
    }
}

impl Stream {
    fn descriptor(&self) -> BorrowedFd<'_> {
        let raw = self.0.as_raw_fd();
        #[expect(unsafe_code, reason = "monoio's TcpStream has no AsFd")]
        // SAFETY: the stream owns the descriptor, and `self` keeps the stream while the result is borrowed.
        unsafe {
            BorrowedFd::borrow_raw(raw)
        }
    }
}

/// **Lives on:** the shard that accepts on it.
pub(super) struct Listener {
    watched: monoio::net::TcpListener,
    /// The same socket, to be shut.
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

    async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (stream, peer) = self.watched.accept().await?;
        Ok((Stream(stream), peer))
    }

    fn close(&self) {
        // Closing does not do: accepts that are outstanding in io_uring keep the socket, and with it the port,
        // for a while beyond the end of the process, and the next broker would find it in use.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }
}
