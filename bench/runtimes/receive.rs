//! The ways of receiving. Under a flood, each does at most one receive per connection and turn.

use std::cell::UnsafeCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use clap::ValueEnum;
use monoio::buf::IoBufMut;
use monoio::io::AsyncReadRent;

use crate::Shard;
use crate::connection::Connection;

/// Bytes of the buffer that a shard's connections share.
const SHARED_BUFFER_BYTES: usize = 8192;

/// The way of receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Receive {
    /// `readable(false)`, then `recv(2)` into the shard's buffer.
    Ready,
    /// `read` with a buffer that each connection owns.
    Own,
    /// epoll only: `read` through a handle on the shard's buffer, because this driver receives inside the poll.
    Lent,
}

/// The shard's receive buffer.
#[derive(Clone)]
pub(crate) struct SharedBuffer(Rc<UnsafeCell<[u8; SHARED_BUFFER_BYTES]>>);

impl SharedBuffer {
    pub(crate) fn new() -> Self {
        Self(Rc::new(UnsafeCell::new([0; SHARED_BUFFER_BYTES])))
    }

    /// Lends the buffer for one call.
    fn with<R>(&self, work: impl FnOnce(&mut [u8]) -> R) -> R {
        let buffer = self.0.get();
        #[expect(unsafe_code, reason = "the buffer is also lent to a driver as a pointer")]
        // SAFETY: one thread; `work` receives and handles bytes and never comes back here; the epoll driver writes
        // through its handle only inside a poll, which never happens inside `work`.
        let buffer = unsafe { &mut *buffer };
        work(buffer)
    }
}

#[expect(unsafe_code, reason = "monoio takes buffers through this unsafe trait alone")]
// SAFETY: the array never moves (it is behind an `Rc`) and is always initialised. The epoll driver writes to it only
// inside the poll that completes the read, so handles of several connections never write at once; `main` refuses this
// mode with `io_uring`, whose kernel would write at any time.
unsafe impl IoBufMut for SharedBuffer {
    fn write_ptr(&mut self) -> *mut u8 {
        self.0.get().cast()
    }

    fn bytes_total(&mut self) -> usize {
        SHARED_BUFFER_BYTES
    }

    unsafe fn set_init(&mut self, _: usize) {}
}

pub(crate) async fn when_ready(shard: &Shard, connection: &Rc<Connection>) {
    loop {
        let (ready, at_once) = observed(connection.stream().readable(false)).await;
        if ready.is_err() || connection.closed.get() {
            return;
        }
        if at_once {
            // This poll of the task has done its receive.
            shard.turn.yield_now().await;
        }
        let open = shard.shared.with(|buffer| match connection.receive(buffer) {
            Ok(0) => false,
            Ok(length) => {
                shard.handle(connection, &buffer[..length]);
                true
            }
            Err(error) => io::Error::from(error).kind() == io::ErrorKind::WouldBlock,
        });
        if !open {
            return;
        }
    }
}

pub(crate) async fn into_own_buffer(shard: &Shard, connection: &Rc<Connection>) {
    let mut half = connection.read_half();
    let mut buffer = vec![0; shard.own_buffer_bytes];
    loop {
        let ((result, returned), at_once) = observed(half.read(buffer)).await;
        buffer = returned;
        match result {
            Ok(0) | Err(_) => return,
            Ok(length) => shard.handle(connection, &buffer[..length]),
        }
        if at_once {
            shard.turn.yield_now().await;
        }
    }
}

pub(crate) async fn into_lent_buffer(shard: &Shard, connection: &Rc<Connection>) {
    let mut half = connection.read_half();
    loop {
        let ((result, _), at_once) = observed(half.read(shard.shared.clone())).await;
        match result {
            Ok(0) | Err(_) => return,
            Ok(length) => shard.shared.with(|buffer| shard.handle(connection, &buffer[..length])),
        }
        if at_once {
            shard.turn.yield_now().await;
        }
    }
}

/// The future's output, and whether its first poll completed it.
async fn observed<F: Future>(future: F) -> (F::Output, bool) {
    let mut future = pin!(future);
    let mut polled = false;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready((output, !polled)),
        Poll::Pending => {
            polled = true;
            Poll::Pending
        }
    })
    .await
}
