//! The stream of one connection, and the two waits of its task: for bytes and for credit.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use pin_project_lite::pin_project;

use super::Stream;
use crate::backend::host::{self, Endpoint};

/// A connection of a shard whose connections are tasks.
pub(super) type Socket<S> = host::Socket<TaskSocket<S>>;

/// **Lives on:** the shard of its connection.
pub(in crate::backend) struct TaskSocket<S> {
    pub(super) stream: S,
    /// The engine has credit again for the unconsumed bytes.
    resumed: Cell<bool>,
    /// The task of the connection, while it waits for credit.
    waiting_for_credit: Cell<Option<Waker>>,
}

impl<S: Stream> TaskSocket<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, resumed: Cell::new(false), waiting_for_credit: Cell::new(None) }
    }

    /// Completes when bytes, an end or an error can be received.
    ///
    /// Returns whether this was so without waiting; an error if it never will be.
    pub(super) fn readable(&self) -> impl Future<Output = io::Result<bool>> {
        Readable { stream: self.stream.readable(), waited: false }
    }

    /// Completes after [`Endpoint::resume`] was called since the last time.
    pub(super) async fn credit(&self) {
        poll_fn(|context| {
            if self.resumed.take() {
                return Poll::Ready(());
            }
            self.waiting_for_credit.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

pin_project! {
    /// A handwritten future. An async function would store its arguments twice, and every idle connection has this
    /// future.
    struct Readable<F> {
        #[pin]
        stream: F,
        waited: bool,
    }
}

impl<F: Future<Output = io::Result<()>>> Future for Readable<F> {
    type Output = io::Result<bool>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let waited = std::mem::replace(this.waited, true);
        let ready = ready!(this.stream.poll(context));
        Poll::Ready(ready.map(|()| !waited))
    }
}

/// Bytes of the task of a connection and of its registration with the driver, as measured with 10,000 idle ones.
const TASK_BYTES: usize = 320;

impl<S: Stream> Endpoint for TaskSocket<S> {
    const CONNECTION_BYTES: u64 = (size_of::<Socket<S>>() + TASK_BYTES) as u64;

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.send(bytes)
    }

    fn shut_down(&self, how: Shutdown) {
        self.stream.shut_down(how);
    }

    fn resume(&self) {
        self.resumed.set(true);
        if let Some(task) = self.waiting_for_credit.take() {
            task.wake();
        }
    }

    fn has_unread_bytes(&self) -> bool {
        self.stream.has_unread_bytes()
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.stream.peer()
    }
}
