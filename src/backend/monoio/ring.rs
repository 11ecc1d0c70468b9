//! The connections of a shard on io_uring: accepted by monoio's ring, watched by the [`Watcher`], received and sent by
//! system calls.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::ManuallyDrop;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use monoio::net::UnixStream;
use monoio::time::Sleep;
use socket2::{Domain, SockRef, Socket};

use super::ACCEPT_TASKS;
use super::doorbell::DoorbellReceiver;
use super::stream::{self, owned};
use super::watcher::{PLACE_BYTES, Watcher};
use crate::backend::{direct, tasks};
use crate::net::listen::set_connection_options;

/// monoio on io_uring as a runtime for tasks.
pub(super) struct Ring {
    watcher: Rc<Watcher>,
    /// A socket that is always writable. On a ring that defers its work, waiting for it completes after a turn of the
    /// driver.
    writable: Option<monoio::net::TcpStream>,
}

impl Ring {
    /// Starts the tasks of the watcher. Must run inside the shard's runtime.
    ///
    /// # Errors
    /// If its descriptor cannot be watched.
    pub(super) fn start(watcher: Watcher, writable: Option<monoio::net::TcpStream>) -> io::Result<Self> {
        let watcher = Rc::new(watcher);
        // Disguised as a socket, as the doorbell is.
        let events = monoio::net::TcpStream::from_std(TcpStream::from(watcher.descriptor()?))?;
        drop(monoio::spawn(run_watcher(Rc::clone(&watcher), events)));
        let submitting = Rc::clone(&watcher);
        drop(monoio::spawn(async move { match submitting.run_submitter().await {} }));
        Ok(Self { watcher, writable })
    }
}

async fn run_watcher(watcher: Rc<Watcher>, events: monoio::net::TcpStream) {
    loop {
        events.readable(false).await.expect("the descriptor of a ring can be watched");
        watcher.dispatch();
    }
}

impl tasks::Runtime for Ring {
    type Stream = Stream;
    type Listener = Listener;
    type DoorbellReceiver = DoorbellReceiver;
    type Timer = Sleep;

    fn watch(&self, socket: Socket) -> io::Result<Stream> {
        Ok(Stream::watched_by(&self.watcher, socket.into()))
    }

    fn listen(&self, socket: Socket, shared: bool) -> io::Result<Listener> {
        Listener::attach(socket, shared, &self.watcher)
    }

    fn accept_tasks(&self) -> usize {
        ACCEPT_TASKS
    }

    async fn driver_turned(&self) {
        if let Some(writable) = &self.writable {
            // This wait cannot fail.
            let _ = writable.writable(false).await;
        }
        // Its system call has brought the events of the watcher along, which the task that waits for them is told one turn later.
        self.watcher.dispatch();
    }

    fn spawn(task: impl Future<Output = ()> + 'static) {
        drop(monoio::spawn(task));
    }

    fn timer(at: Instant) -> Sleep {
        monoio::time::sleep_until(at.into())
    }

    fn reset(timer: Pin<&mut Sleep>, at: Instant) {
        timer.reset(at.into());
    }
}

/// A socket in blocking mode; the calls on it return at once in any mode. **Lives on:** the shard of its connection.
pub(super) struct Stream {
    /// There until it is closed or taken out.
    socket: Option<OwnedFd>,
    place: u32,
    watcher: Rc<Watcher>,
}

// A shard has one for each connection.
const _: () = assert!(size_of::<Stream>() == 16);

impl Stream {
    pub(super) fn watched_by(watcher: &Rc<Watcher>, socket: OwnedFd) -> Self {
        let place = watcher.watch(&socket);
        Self { socket: Some(socket), place, watcher: Rc::clone(watcher) }
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("a stream has its socket until it is dropped").as_fd()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.watcher.forget(self.place);
        if let Some(socket) = self.socket.take() {
            self.watcher.close(socket);
        }
    }
}

impl tasks::Stream for Stream {
    /// A task, and a place at the watcher.
    const TASK_BYTES: usize = 96 + PLACE_BYTES;

    fn into_socket(mut self) -> io::Result<Socket> {
        Ok(self.socket.take().expect("a stream has its socket until it is dropped").into())
    }

    fn readable(&self) -> impl Future<Output = io::Result<()>> {
        poll_fn(|context| self.watcher.poll_readable(self.place, self.socket(), context))
    }

    /// Few connections ever wait for this, so monoio's own ring does it. It borrows the descriptor: a duplicate for each stalled
    /// reader would take the descriptors that are kept for files.
    async fn writable(&self) -> io::Result<()> {
        #[expect(unsafe_code, reason = "monoio has no wait for a borrowed descriptor")]
        // SAFETY: `self` keeps the descriptor open across the wait. It is not closed here: monoio's ring takes it without
        // a call that can fail, and the result is never dropped.
        let borrowed = unsafe { unix::net::UnixStream::from_raw_fd(self.socket().as_raw_fd()) };
        let borrowed = ManuallyDrop::new(UnixStream::from_std(borrowed)?);
        let writable = borrowed.writable(false).await;
        // Frees what monoio keeps of it. Without this, a wait that is given up at the end of the shard leaks a few bytes.
        let _still_open = ManuallyDrop::into_inner(borrowed).into_raw_fd();
        writable
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = direct::receive(self.socket(), buffer);
        let may_have_more = match &received {
            Ok(length) => *length == buffer.len(),
            Err(refused) => refused.kind() != io::ErrorKind::WouldBlock,
        };
        if may_have_more {
            self.watcher.keep_readable(self.place);
        }
        received
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        direct::send(self.socket(), bytes)
    }

    fn set_options(&self) -> io::Result<()> {
        set_connection_options(&SockRef::from(&self.socket()))
    }

    fn shut_down(&self, how: Shutdown) {
        stream::shut_down(self.socket(), how);
    }

    fn receive_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer)
    }

    fn has_unread_bytes(&self) -> bool {
        direct::is_readable(self.socket())
    }

    fn has_ended(&self) -> bool {
        direct::has_ended(self.socket())
    }
}

/// **Lives on:** the shard that accepts on it.
pub(super) struct Listener {
    accepting: Accepting,
    watcher: Rc<Watcher>,
}

/// The way in which a listener accepts.
enum Accepting {
    /// By the ring, which several accepts wait in.
    Ring {
        accepting: monoio::net::TcpListener,
        /// A duplicate of the socket, to shut it down.
        socket: Socket,
        shared: bool,
    },
    /// By a system call once the socket is readable: monoio accepts addresses of the network alone.
    Call(stream::Listener),
}

impl Listener {
    pub(super) fn attach(socket: Socket, shared: bool, watcher: &Rc<Watcher>) -> io::Result<Self> {
        let accepting = if matches!(socket.domain()?, Domain::IPV4 | Domain::IPV6) {
            // io_uring would answer EAGAIN on a non-blocking socket instead of waiting.
            socket.set_nonblocking(false)?;
            Accepting::Ring { accepting: stream::watched(socket.try_clone()?)?, socket, shared }
        } else {
            Accepting::Call(stream::Listener::attach(socket, shared)?)
        };
        Ok(Self { accepting, watcher: Rc::clone(watcher) })
    }
}

impl tasks::Listener for Listener {
    type Stream = Stream;

    async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        let (accepted, peer) = match &self.accepting {
            Accepting::Ring { accepting, .. } => {
                let (accepted, peer) = accepting.accept().await?;
                (owned(accepted), Some(peer))
            }
            Accepting::Call(listener) => listener.accept_socket().await?,
        };
        Ok((Stream::watched_by(&self.watcher, accepted), peer))
    }

    fn close(&self) {
        match &self.accepting {
            Accepting::Ring { socket, shared, .. } => stream::close_listener(socket, *shared),
            Accepting::Call(listener) => listener.close(),
        }
    }
}
