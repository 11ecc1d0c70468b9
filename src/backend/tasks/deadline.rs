//! A deadline that others move, and a task that sleeps until it, with one timer for the whole shard. The deadline
//! comes from the timer wheel of the engine.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker, ready};
use std::time::{Duration, Instant};

use super::Runtime;
use crate::process::clock;

/// **Lives on:** the shard. **Sees:** the earliest deadline only.
#[derive(Default)]
pub(super) struct Deadline {
    at: Cell<Option<Instant>>,
    /// The task in `reached`, while it sleeps.
    sleeper: Cell<Option<Waker>>,
}

impl Deadline {
    /// Moves the deadline. Moving it to a later time wakes no task: the sleeper wakes at the old time and sleeps
    /// again.
    pub(super) fn set(&self, at: Option<Instant>) {
        let before = self.at.replace(at);
        let earlier = at.is_some_and(|at| before.is_none_or(|before| at < before));
        if earlier && let Some(sleeper) = self.sleeper.take() {
            sleeper.wake();
        }
    }

    /// Completes when the current deadline has passed, and clears it.
    pub(super) async fn reached<R: Runtime>(&self) {
        let mut timer = pin!(R::timer(clock::read() + Duration::from_hours(1)));
        let mut armed = None;
        poll_fn(|context| {
            loop {
                self.sleeper.set(Some(context.waker().clone()));
                let Some(at) = self.at.get() else { return Poll::Pending };
                if armed != Some(at) {
                    R::reset(timer.as_mut(), at);
                    armed = Some(at);
                }
                ready!(timer.as_mut().poll(context));
                // The deadline may have been moved to a later time.
                if self.at.get() == armed {
                    self.at.set(None);
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }
}
