//! The queue of events from the threads of a shard, and the sleep of the shard until an event arrives.
//!
//! It is a mutex with a condition variable, because a thread that finds them taken sleeps in the kernel. A thread that
//! waits for `crossbeam_channel` spins and yields while another thread is in the middle of an operation. With ten
//! thousand spinning threads on the core of the shard, that other thread never ran again.

use std::mem;
use std::sync::{Condvar, PoisonError};
use std::time::Instant;

use super::connection::ThreadEvent;
use crate::process::clock;

#[expect(clippy::disallowed_types, reason = "the shard and its threads share the queue")]
type Shared<T> = std::sync::Arc<T>;
#[expect(clippy::disallowed_types, reason = "blocking threads may also wait for the lock of a queue")]
type Lock<T> = std::sync::Mutex<T>;

/// The receiving end. **Lives on:** the shard.
pub(crate) struct Inbox {
    queue: Shared<Queue>,
}

/// The sending end. **Lives on:** any thread.
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
    /// At most one event of each thread. A connection has two threads, and an accepted connection holds a permit, so
    /// the number of connections bounds the queue and no sender waits for room.
    events: Vec<ThreadEvent>,
    is_rung: bool,
    /// The shard has ended.
    is_closed: bool,
}

/// The time at which the shard wakes if no event arrives.
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
    /// Creates the inbox and its doorbell.
    pub(in crate::backend) fn new() -> (Self, Doorbell) {
        let queue = Shared::<Queue>::default();
        (Self { queue: Shared::clone(&queue) }, Doorbell { queue })
    }

    /// A sending end for a thread of the shard.
    pub(super) fn sender(&self) -> InboxSender {
        InboxSender { queue: Shared::clone(&self.queue) }
    }

    /// Sleeps until an event arrives, the doorbell rings or the time of `wake` has come. Moves the events into
    /// `events`, which must be empty, and returns whether the doorbell rang.
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
        // Outside the lock, because this can close a socket.
        drop(unhandled);
    }
}

impl InboxSender {
    /// Sends an event to the shard. It waits only for other threads that hold the lock.
    ///
    /// # Errors
    /// Returns the event if the shard has ended.
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
