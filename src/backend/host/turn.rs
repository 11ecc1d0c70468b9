//! What happens once a turn, after every task that was runnable: the flusher, and whoever yielded.
//! Knows no socket and no runtime; a shard that has no tasks uses its list of dirty connections alone.
//!
//! A task never wakes itself: monoio 0.2.4 puts such a task in front of the run queue, where it starves all
//! others and the driver. So a task that yields is woken by the flusher, which the run queue puts last.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use engine::ConnectionId;

/// **Lives on:** the shard. **Sees:** the connections made dirty in this turn.
#[derive(Default)]
pub(in crate::backend) struct Turn {
    /// Each connection at most once: the engine asks for a flush once until it is served.
    dirty: RefCell<Vec<ConnectionId>>,
    yielded: RefCell<Vec<Waker>>,
    /// The flusher, while it sleeps.
    flusher: Cell<Option<Waker>>,
    /// Another turn is asked for, and the partner has not begun to see to it.
    more: Cell<bool>,
    /// Who begins another turn, while nobody asks for one.
    partner: Cell<Option<Waker>>,
}

impl Turn {
    /// Says that the outbox of a connection has something for its peer.
    pub(in crate::backend) fn mark_dirty(&self, id: ConnectionId) {
        self.dirty.borrow_mut().push(id);
        self.wake_flusher();
    }

    /// Takes the dirty connections, leaving an empty list with `batch`'s allocation.
    pub(in crate::backend) fn take_dirty(&self, batch: &mut Vec<ConnectionId>) {
        batch.append(&mut self.dirty.borrow_mut());
    }

    /// Lets the flusher run once more, at the end of this turn.
    pub(in crate::backend) fn wake_flusher(&self) {
        if let Some(flusher) = self.flusher.take() {
            flusher.wake();
        }
    }

    /// Whether a connection was made dirty since the last [`Turn::take_dirty`].
    pub(in crate::backend) fn is_dirty(&self) -> bool {
        !self.dirty.borrow().is_empty()
    }

    /// Asked by the flusher for itself: another turn follows this one, whatever happens outside.
    pub(in crate::backend) fn go_on(&self) {
        self.more.set(true);
        if let Some(partner) = self.partner.take() {
            partner.wake();
        }
    }

    /// The partner, which begins another turn whenever the flusher has asked to go on, once `driver_turned`. So neither is
    /// ever woken by itself.
    pub(in crate::backend) async fn run_partner(&self, driver_turned: impl AsyncFn()) -> Infallible {
        // What was done before the flusher slept for the first time has woken nobody.
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
            for task in self.yielded.borrow_mut().drain(..) {
                task.wake();
            }
            self.wake_flusher();
        }
    }

    /// Lets every other runnable task, the flusher and the driver go first.
    pub(in crate::backend) async fn yield_now(&self) {
        let mut yielded = false;
        poll_fn(|context| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            self.yielded.borrow_mut().push(context.waker().clone());
            self.wake_flusher();
            Poll::Pending
        })
        .await;
    }

    /// The flusher's sleep: returns when somebody wakes the flusher, which is so at once after a turn in which a task yielded.
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
