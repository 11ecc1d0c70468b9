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
    /// Who wakes the flusher for one more turn, while nobody asks for that.
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
        if let Some(partner) = self.partner.take() {
            partner.wake();
        }
    }

    /// The partner, which wakes the flusher whenever that has asked to go on, and so is never woken by itself either.
    pub(in crate::backend) async fn accompany(&self) -> Infallible {
        poll_fn(|context| {
            // The first time nobody has asked yet, and one turn more does no harm.
            self.partner.set(Some(context.waker().clone()));
            self.wake_flusher();
            Poll::Pending
        })
        .await
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

    /// The flusher's sleep: wakes whoever yielded, and returns when somebody wakes the flusher.
    pub(in crate::backend) async fn next(&self) {
        let mut slept = false;
        poll_fn(|context| {
            for task in self.yielded.borrow_mut().drain(..) {
                task.wake();
            }
            if slept {
                return Poll::Ready(());
            }
            slept = true;
            self.flusher.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
