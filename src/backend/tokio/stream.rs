//! Sockets watched by tokio.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::pin;
use std::task::{Context, Poll};

use socket2::{SockRef, Socket};
use tokio::sync::Notify;

use crate::backend::{direct, tasks};
use crate::net::listen::set_connection_options;

/// **Lives on:** the shard of its connection.
pub(super) struct Stream(tokio::net::TcpStream);

impl Stream {
    /// Registers a socket from any runtime.
    pub(super) fn from_socket(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(socket.into()).map(Self)
    }
}

impl tasks::Stream for Stream {
    const TASK_BYTES: usize = 304;

    fn into_socket(self) -> io::Result<Socket> {
        self.0.into_std().map(Socket::from)
    }

    async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    async fn writable(&self) -> io::Result<()> {
        self.0.writable().await
    }

    /// tokio receives from a socket that it considers ready until the system refuses. With edge-triggered readiness, a
    /// receive that does not fill the buffer has emptied the socket, so a second call that would be refused is not
    /// necessary.
    #[cfg(unix)]
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut drained = 0;
        let received = self.0.try_io(tokio::io::Interest::READABLE, || {
            let received = direct::receive(&self.0, buffer)?;
            if 0 < received && received < buffer.len() {
                drained = received;
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(received)
        });
        if drained > 0 { Ok(drained) } else { received }
    }

    #[cfg(not(unix))]
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn set_options(&self) -> io::Result<()> {
        set_connection_options(&SockRef::from(&self.0))
    }

    fn shut_down(&self, how: Shutdown) {
        let _ = SockRef::from(&self.0).shutdown(how);
    }

    fn receive_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        direct::receive(&self.0, buffer)
    }

    fn has_unread_bytes(&self) -> bool {
        direct::is_readable(&self.0)
    }

    fn has_ended(&self) -> bool {
        direct::has_ended(&self.0)
    }
}

/// **Lives on:** the shard that accepts on it. The port is released when the accepting task ends.
pub(super) struct Listener {
    watched: Watched,
    closed: Notify,
}

/// A listening socket as tokio watches it.
enum Watched {
    /// Of the network.
    Tcp(tokio::net::TcpListener),
    /// In the file system.
    #[cfg(unix)]
    Local(tokio::net::UnixListener),
}

impl Listener {
    pub(super) fn attach(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        #[cfg(unix)]
        if socket.local_addr()?.as_socket().is_none() {
            let watched = Watched::Local(tokio::net::UnixListener::from_std(socket.into())?);
            return Ok(Self { watched, closed: Notify::new() });
        }
        let watched = Watched::Tcp(tokio::net::TcpListener::from_std(socket.into())?);
        Ok(Self { watched, closed: Notify::new() })
    }
}

impl Watched {
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(Stream, Option<SocketAddr>)>> {
        match self {
            Self::Tcp(listener) => {
                listener.poll_accept(context).map_ok(|(stream, peer)| (Stream(stream), Some(peer)))
            }
            #[cfg(unix)]
            Self::Local(listener) => listener.poll_accept(context).map(|accepted| {
                let socket = accepted?.0.into_std()?;
                Ok((Stream::from_socket(Socket::from(socket))?, None))
            }),
        }
    }
}

impl tasks::Listener for Listener {
    type Stream = Stream;

    async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        let mut closed = pin!(self.closed.notified());
        poll_fn(|context| {
            if closed.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            }
            self.watched.poll_accept(context)
        })
        .await
    }

    fn close(&self) {
        self.closed.notify_one();
    }
}
