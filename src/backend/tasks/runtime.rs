//! What a shard of tasks needs of a runtime; `monoio` and `tokio` are the two there are.
//! Knows no connection.

use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::time::Instant;

/// A runtime of one thread.
pub(in crate::backend) trait Runtime: 'static {
    type Stream: Stream;
    type Listener: Listener<Stream = Self::Stream>;
    type DoorbellReceiver: DoorbellReceiver;
    type Timer: Future<Output = ()>;

    /// Takes a listening socket in.
    fn listen(&self, listener: TcpListener) -> io::Result<Self::Listener>;

    /// Tasks that accept on each listener.
    fn accept_tasks(&self) -> usize;

    /// Completes at once where the driver turns while tasks are runnable, too; else after the driver has turned.
    fn driver_turned(&self) -> impl Future<Output = ()>;

    /// Runs a task beside the others.
    fn spawn(task: impl Future<Output = ()> + 'static);

    /// Completes at a moment.
    fn timer(at: Instant) -> Self::Timer;

    /// Moves that moment.
    fn reset(timer: Pin<&mut Self::Timer>, at: Instant);
}

/// A connection's socket, watched by the runtime; every call but the two waits returns at once.
pub(in crate::backend) trait Stream: Sized + 'static {
    /// Takes a socket in, whichever runtime it comes from.
    fn from_std(stream: TcpStream) -> io::Result<Self>;

    /// Takes it out of this shard's runtime. Nothing may be in flight on it.
    fn into_std(self) -> io::Result<TcpStream>;

    /// Completes when a receive has something to say; an error if it never will again.
    fn readable(&self) -> impl Future<Output = io::Result<()>>;

    /// Completes when the socket takes bytes; an error if it never will again.
    fn writable(&self) -> impl Future<Output = io::Result<()>>;

    /// Takes what has arrived, at most `buffer`'s length.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Sends what the kernel takes of `bytes`.
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Sends without waiting for more to send with it.
    fn set_nodelay(&self) -> io::Result<()>;

    /// Ends one direction or both. A peer that is gone already needs no end.
    fn shut_down(&self, how: Shutdown);

    /// `None` if the peer is gone.
    fn peer(&self) -> Option<SocketAddr>;
}

/// A listening socket, watched by the runtime.
pub(in crate::backend) trait Listener: 'static {
    type Stream;

    /// The next connection; after `close`, anything.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>>;

    /// Accepts no more, and lets the port go.
    fn close(&self);
}

/// The shard's end of its doorbell.
pub(in crate::backend) trait DoorbellReceiver {
    /// Completes after at least one ring since the last time.
    fn rung(&self) -> impl Future<Output = io::Result<()>>;
}
