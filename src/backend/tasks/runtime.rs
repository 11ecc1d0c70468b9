//! The operations of a runtime that a shard with tasks needs. `monoio` and `tokio` implement them.

use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::time::Instant;

use socket2::Socket;

/// A single-threaded runtime.
pub(in crate::backend) trait Runtime: 'static {
    type Stream: Stream;
    type Listener: Listener<Stream = Self::Stream>;
    type DoorbellReceiver: DoorbellReceiver;
    type Timer: Future<Output = ()>;

    /// Registers a socket from any runtime.
    fn watch(&self, socket: Socket) -> io::Result<Self::Stream>;

    /// Registers a listening socket. One that is `shared` by others goes on listening when it is closed here.
    fn listen(&self, socket: Socket, shared: bool) -> io::Result<Self::Listener>;

    /// Number of tasks that accept on each listener.
    fn accept_tasks(&self) -> usize;

    /// Completes after the driver has turned, or at once if the driver also turns while tasks are runnable.
    fn driver_turned(&self) -> impl Future<Output = ()>;

    /// Starts a task.
    fn spawn(task: impl Future<Output = ()> + 'static);

    /// A future that completes at the given time.
    fn timer(at: Instant) -> Self::Timer;

    /// Moves the time of a timer.
    fn reset(timer: Pin<&mut Self::Timer>, at: Instant);
}

/// The socket of a connection, registered with the runtime. All calls but the two waits return at once.
pub(in crate::backend) trait Stream: Sized + 'static {
    /// Bytes of the task of an idle connection and of its registration with the driver, as measured with 10,000 of them.
    const TASK_BYTES: usize;

    /// Takes the socket out of this runtime. No operation may be outstanding on it.
    fn into_socket(self) -> io::Result<Socket>;

    /// Completes when bytes, an end or an error can be received; an error if none will ever be.
    fn readable(&self) -> impl Future<Output = io::Result<()>>;

    /// Completes when the socket takes bytes; an error if it never will.
    fn writable(&self) -> impl Future<Output = io::Result<()>>;

    /// Receives the bytes that have arrived, at most the length of `buffer`.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Sends as many of `bytes` as the kernel takes.
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Sets the options of a connection, where a socket does not inherit them.
    fn set_options(&self) -> io::Result<()>;

    /// Ends one direction or both. Errors are ignored: a peer that is gone needs no end.
    fn shut_down(&self, how: Shutdown);

    /// Receives the bytes that have arrived, whether the runtime knows of them or not. Nothing where that could wait.
    fn receive_now(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Whether bytes of the peer, or its end, wait in the socket.
    fn has_unread_bytes(&self) -> bool;

    /// Whether the peer has left, whatever waits in the socket before its end.
    fn has_ended(&self) -> bool;
}

/// A listening socket, registered with the runtime.
pub(in crate::backend) trait Listener: 'static {
    type Stream;

    /// The next connection, with the address of its peer if it came over the network. The result after `close` is unspecified.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<SocketAddr>)>>;

    /// Stops accepting, and releases the port unless the socket is shared.
    fn close(&self);
}

/// The receiving end of a shard's doorbell.
pub(in crate::backend) trait DoorbellReceiver {
    /// Completes after at least one ring since the last call.
    fn rung(&self) -> impl Future<Output = io::Result<()>>;
}
