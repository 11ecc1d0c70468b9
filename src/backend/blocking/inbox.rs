//! What the threads of a shard tell it, and how it sleeps until they do.
//! Knows not what is done about it.
//!
//! It is a lock and a condition, because who finds them taken sleeps in the kernel. The queue of `crossbeam_channel` has its
//! threads spin and yield while another is in the middle of it, and ten thousand that do starve that one for ever: all of
//! them share its core.

use std::mem;
use std::sync::{Condvar, PoisonError};
use std::time::Instant;

use super::connection::ThreadEvent;
use crate::process::clock;

#[expect(clippy::disallowed_types, reason = "the threads of a shard and the shard hold the queue at once")]
type Shared<T> = std::sync::Arc<T>;
#[expect(
    clippy::disallowed_types,
    reason = "threads that block may also wait for each other's hold of a queue"
)]
type Lock<T> = std::sync::Mutex<T>;

/// The shard's end.
pub(crate) struct Inbox {
    queue: Shared<Queue>,
}

/// The other end. **Lives on:** any thread.
#[derive(Clone)]
pub(super) struct InboxSender {
    queue: Shared<Queue>,
}

/// Wakes the shard. **Lives on:** any thread.
pub(in crate::backend) struct Doorbell {
    queue: Shared<Queue>,
}

#[derive(Default)]
struct Queue {
    state: Lock<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// At most one thing of each thread, and a connection has two of them; what was accepted has its place. So it has the
    /// bound that connections have, and nobody who tells something waits for room.
    events: Vec<ThreadEvent>,
    is_rung: bool,
    /// The shard has ended.
    is_closed: bool,
}

/// When the shard looks again, if nothing is told before.
pub(super) enum Wake {
    Now,
    At(Instant),
    Never,
}

impl Wake {
    pub(super) fn at_latest(self, last: Instant) -> Self {
        match self {
            Self::Now => Self::Now,
            Self::At(at) => Self::At(at.min(last)),
            Self::Never => Self::At(last),
        }
    }
}

impl Queue {
    /// Changes the state and wakes the shard if it sleeps.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let changed = change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
        changed
    }
}

impl Inbox {
    /// Both ends.
    pub(in crate::backend) fn new() -> (Self, Doorbell) {
        let queue = Shared::<Queue>::default();
        (Self { queue: Shared::clone(&queue) }, Doorbell { queue })
    }

    /// For a thread of the shard.
    pub(super) fn sender(&self) -> InboxSender {
        InboxSender { queue: Shared::clone(&self.queue) }
    }

    /// Sleeps until something is told, the bell rings or `wake` says so. Puts what was told into `events`, which is empty, and
    /// returns whether the bell rang.
    pub(super) fn wait(&self, wake: &Wake, events: &mut Vec<ThreadEvent>) -> bool {
        let mut state = self.queue.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.events.is_empty() && !state.is_rung {
            state = match wake {
                Wake::Now => break,
                Wake::Never => self.queue.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Wake::At(at) => {
                    let left = at.saturating_duration_since(clock::read());
                    if left.is_zero() {
                        break;
                    }
                    self.queue.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        mem::swap(&mut state.events, events);
        mem::take(&mut state.is_rung)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let unhandled = self.queue.change(|state| {
            state.is_closed = true;
            mem::take(&mut state.events)
        });
        // Outside the lock: a socket may be closed by this.
        drop(unhandled);
    }
}

impl InboxSender {
    /// Tells the shard something. Never waits longer than for another who does.
    ///
    /// # Errors
    /// Gives it back if the shard has ended.
    pub(super) fn send(&self, event: ThreadEvent) -> Result<(), ThreadEvent> {
        self.queue.change(|state| {
            if state.is_closed {
                return Err(event);
            }
            state.events.push(event);
            Ok(())
        })
    }
}

impl Doorbell {
    pub(in crate::backend) fn ring(&self) {
        self.queue.change(|state| state.is_rung = true);
    }
}

impl std::fmt::Debug for Doorbell {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Doorbell").finish_non_exhaustive()
    }
}
