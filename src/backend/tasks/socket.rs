//! The stream of one connection with its layers, and the two waits of its task: for bytes and for credit.

use std::cell::{Cell, OnceCell};
use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use pin_project_lite::pin_project;

use super::Stream;
use super::layered::Layered;
use crate::backend::host::{self, Endpoint, Turn};
use crate::net::layers::Layers;
use crate::net::tls::PeerCertificate;

/// A connection of a shard whose connections are tasks.
pub(super) type Socket<S> = host::Socket<TaskSocket<S>>;

/// **Lives on:** the shard of its connection.
pub(in crate::backend) struct TaskSocket<S> {
    pub(super) stream: S,
    /// There from the first wait for credit on, or if the connection has layers.
    extra: OnceCell<Box<Extra>>,
}

/// The state that few connections have.
#[derive(Default)]
struct Extra {
    /// There while the connection waits for credit, or has regained some.
    credit: Cell<Option<Box<Credit>>>,
    layers: Option<Layered>,
}

/// Bytes of that state.
pub(super) const EXTRA_BYTES: usize = size_of::<Extra>();

// An idle connection with WebSocket has one, and this is what it takes more than a plain one.
const _: () = assert!(EXTRA_BYTES <= 64);

#[derive(Default)]
struct Credit {
    /// The engine has credit again for the unconsumed bytes.
    resumed: bool,
    /// The task of the connection, while it waits.
    task: Option<Waker>,
}

impl<S: Stream> TaskSocket<S> {
    pub(super) fn new(stream: S, layers: Option<Layered>) -> Self {
        let extra = OnceCell::new();
        if let Some(layers) = layers {
            let _is_new = extra.set(Box::new(Extra { credit: Cell::default(), layers: Some(layers) }));
        }
        Self { stream, extra }
    }

    /// The stream, and the layers of a connection that moves.
    pub(super) fn into_parts(self) -> (S, Option<Layers>) {
        let layers = self.extra.into_inner().and_then(|extra| extra.layers);
        (self.stream, layers.map(Layered::into_layers))
    }

    /// `None` for a plain connection.
    #[inline]
    pub(super) fn layers(&self) -> Option<&Layered> {
        self.extra.get()?.layers.as_ref()
    }

    /// Completes when bytes, an end or an error can be received, which is in the next turn if it need not wait: at most
    /// one receive a turn, so that a flooding peer does not delay the others. An error if it never will be.
    pub(super) fn readable(&self, turn: &Turn) -> impl Future<Output = io::Result<()>> {
        Readable { stream: self.stream.readable(), turn, progress: Progress::New }
    }

    /// Completes after [`Endpoint::resume`] was called since the last time.
    pub(super) async fn credit(&self) {
        let credit = &self.extra.get_or_init(Box::default).credit;
        poll_fn(|context| {
            let mut waiting = credit.take().unwrap_or_default();
            if waiting.resumed {
                return Poll::Ready(());
            }
            waiting.task = Some(context.waker().clone());
            credit.set(Some(waiting));
            Poll::Pending
        })
        .await;
    }
}

/// How far a wait for bytes has come.
#[derive(PartialEq)]
enum Progress {
    New,
    /// It has waited for the system.
    Waited,
    /// It waits for the next turn.
    Yielded,
}

pin_project! {
    /// A handwritten future. An async function would store its arguments twice, and every idle connection has this
    /// future.
    struct Readable<'a, F> {
        #[pin]
        stream: F,
        turn: &'a Turn,
        progress: Progress,
    }
}

impl<F: Future<Output = io::Result<()>>> Future for Readable<'_, F> {
    type Output = io::Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if *this.progress == Progress::Yielded {
            return Poll::Ready(Ok(()));
        }
        let before = mem::replace(this.progress, Progress::Waited);
        let ready = ready!(this.stream.poll(context));
        if ready.is_ok() && before == Progress::New {
            *this.progress = Progress::Yielded;
            this.turn.wake_in_next(context.waker());
            return Poll::Pending;
        }
        Poll::Ready(ready)
    }
}

/// Bytes of the counter that a socket stands behind.
const COUNTER_BYTES: usize = 2 * size_of::<usize>();

impl<S: Stream> Endpoint for TaskSocket<S> {
    const CONNECTION_BYTES: u64 = (size_of::<Socket<S>>() + COUNTER_BYTES + S::TASK_BYTES) as u64;

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.layers() {
            None => self.stream.send(bytes),
            Some(layers) => layers.send(&self.stream, bytes),
        }
    }

    fn begun_bytes(&self) -> usize {
        self.layers().map_or(0, Layered::begun_bytes)
    }

    fn flush_own(&self, ends: bool) -> io::Result<bool> {
        self.layers().map_or(Ok(true), |layers| layers.flush(&self.stream, ends))
    }

    fn shut_down(&self, how: Shutdown) {
        self.stream.shut_down(how);
    }

    fn resume(&self) {
        let place = &self.extra.get_or_init(Box::default).credit;
        let mut credit = place.take().unwrap_or_default();
        credit.resumed = true;
        if let Some(task) = credit.task.take() {
            task.wake();
        }
        place.set(Some(credit));
    }

    fn receive_now(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self.layers() {
            None => self.stream.receive_now(buffer),
            Some(layers) => layers.receive_now(&self.stream, buffer),
        }
    }

    fn peer_certificate(&self) -> Option<PeerCertificate> {
        self.layers().and_then(Layered::peer_certificate)
    }

    fn is_revoked(&self) -> bool {
        self.layers().is_some_and(Layered::are_revoked)
    }

    fn has_unread_bytes(&self) -> bool {
        self.stream.has_unread_bytes()
    }

    fn has_ended(&self) -> bool {
        self.stream.has_ended()
    }
}
