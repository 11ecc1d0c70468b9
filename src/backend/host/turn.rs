//! The turns of a shard with tasks: the flusher, which ends each turn, and the tasks that yield until the next one. A
//! shard without tasks uses only the list of dirty connections.
//!
//! Invariant: a task never wakes itself. monoio 0.2.4 puts such a task in front of the run queue, where it starves all
//! other tasks and the driver. A task that yields is woken by the partner of the flusher, and the flusher is last in
//! the run queue.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use engine::ConnectionId;

/// **Lives on:** the shard. **Sees:** the connections that became dirty in this turn.
#[derive(Default)]
pub(in crate::backend) struct Turn {
    /// Each connection at most once: the engine requests a flush only once until it is served.
    dirty: RefCell<Vec<ConnectionId>>,
    yielded: RefCell<Vec<Waker>>,
    /// The flusher, while it sleeps.
    flusher: Cell<Option<Waker>>,
    /// Another turn was requested, and the partner has not started it.
    more: Cell<bool>,
    /// The partner, while no turn is requested.
    partner: Cell<Option<Waker>>,
    /// Turns that the partner has begun.
    begun_count: Cell<u64>,
}

impl Turn {
    /// Records that the outbox of a connection has bytes to send.
    pub(in crate::backend) fn mark_dirty(&self, id: ConnectionId) {
        self.dirty.borrow_mut().push(id);
        self.wake_flusher();
    }

    /// Moves the dirty connections into `batch`.
    pub(in crate::backend) fn take_dirty(&self, batch: &mut Vec<ConnectionId>) {
        batch.append(&mut self.dirty.borrow_mut());
    }

    /// Wakes the flusher for the end of this turn.
    pub(in crate::backend) fn wake_flusher(&self) {
        if let Some(flusher) = self.flusher.take() {
            flusher.wake();
        }
    }

    /// Whether a connection became dirty since the last [`Turn::take_dirty`].
    pub(in crate::backend) fn is_dirty(&self) -> bool {
        !self.dirty.borrow().is_empty()
    }

    /// Called by the flusher: another turn follows this one, without any external event.
    pub(in crate::backend) fn go_on(&self) {
        self.more.set(true);
        if let Some(partner) = self.partner.take() {
            partner.wake();
        }
    }

    /// The partner of the flusher. After `driver_turned` it starts each turn that the flusher requests. So neither of
    /// them ever wakes itself.
    pub(in crate::backend) async fn run_partner(&self, driver_turned: impl AsyncFn()) -> Infallible {
        // Actions before the first sleep of the flusher woke no task.
        self.more.set(true);
        loop {
            poll_fn(|context| {
                if self.more.take() {
                    return Poll::Ready(());
                }
                self.partner.set(Some(context.waker().clone()));
                Poll::Pending
            })
            .await;
            driver_turned().await;
            self.begun_count.set(self.begun_count.get() + 1);
            for task in self.yielded.borrow_mut().drain(..) {
                task.wake();
            }
            self.wake_flusher();
        }
    }

    /// The turns that the partner has begun, each after a turn of the driver.
    pub(in crate::backend) fn begun_count(&self) -> u64 {
        self.begun_count.get()
    }

    /// Wakes a task after every other runnable task, the flusher and the driver have run.
    pub(in crate::backend) fn wake_in_next(&self, task: &Waker) {
        self.yielded.borrow_mut().push(task.clone());
        self.wake_flusher();
    }

    /// Lets every other runnable task, the flusher and the driver run first.
    pub(in crate::backend) async fn yield_now(&self) {
        let mut yielded = false;
        poll_fn(|context| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            self.wake_in_next(context.waker());
            Poll::Pending
        })
        .await;
    }

    /// The sleep of the flusher until a task wakes it. After a turn in which a task yielded, the partner wakes it at
    /// once.
    pub(in crate::backend) async fn next(&self) {
        let mut slept = false;
        poll_fn(|context| {
            if slept {
                return Poll::Ready(());
            }
            slept = true;
            if !self.yielded.borrow().is_empty() {
                self.go_on();
            }
            self.flusher.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
