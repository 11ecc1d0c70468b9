//! Sleeps until a deadline that others move, with one timer for the whole shard.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker, ready};
use std::time::Duration;

use monoio::time::{Instant, sleep};

/// **Lives on:** the shard. **Sees:** only the earliest deadline.
#[derive(Default)]
pub(crate) struct Deadline {
    at: Cell<Option<Instant>>,
    /// The task in `reached`, while it sleeps.
    sleeper: Cell<Option<Waker>>,
}

impl Deadline {
    /// Moves the deadline. Moving it later costs nothing: the sleeper wakes at the old one and sleeps again.
    pub(crate) fn set(&self, at: Option<Instant>) {
        let before = self.at.replace(at);
        let earlier = at.is_some_and(|at| before.is_none_or(|before| at < before));
        if earlier && let Some(sleeper) = self.sleeper.take() {
            sleeper.wake();
        }
    }

    /// Completes when the current deadline has passed, and clears it.
    pub(crate) async fn reached(&self) {
        let mut timer = pin!(sleep(Duration::from_hours(1)));
        let mut armed = None;
        poll_fn(|context| {
            loop {
                self.sleeper.set(Some(context.waker().clone()));
                let Some(at) = self.at.get() else { return Poll::Pending };
                if armed != Some(at) {
                    timer.as_mut().reset(at);
                    armed = Some(at);
                }
                ready!(timer.as_mut().poll(context));
                // The deadline may have been moved later meanwhile.
                if self.at.get() == armed {
                    self.at.set(None);
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }
}
