//! The turnstile of clients that come and go: a step of a TLS handshake, a first packet and the end of a connection wait for a permit, so
//! that a storm of them leaves time for the clients that are there.
//!
//! Invariants: permits are given in the order in which they were asked for; and each turn gives one at least, after the traffic of
//! that turn was sent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::process::clock;

/// Time of a turn for who comes and goes. A step is not interrupted, so the last one goes beyond it.
const TURN: Duration = Duration::from_micros(500);
/// Connections of a shard that may wait for a permit. While there are as many, none is accepted: they wait in the system's queue.
/// Connections that wait for their peer do not count, or silent peers would keep others from connecting.
const WAITING_MAX: usize = 1_024;

/// **Lives on:** the shard. **Sees:** the tasks of connections that begin or end.
#[derive(Default)]
pub(super) struct Turnstile {
    waiting: RefCell<VecDeque<Waker>>,
    /// Permits that were asked for and given, in all.
    asked_count: Cell<u64>,
    given_count: Cell<u64>,
    /// Time of this turn that was taken so far.
    spent: Cell<Duration>,
}

impl Turnstile {
    /// Completes when it is the caller's turn for one step, which [`Turnstile::measure`] then runs.
    pub(super) async fn permit(&self) {
        let number = self.asked_count.get();
        self.asked_count.set(number + 1);
        let mut is_queued = false;
        poll_fn(|context| {
            if self.given_count.get() > number {
                return Poll::Ready(());
            }
            if !is_queued && self.is_open() {
                self.given_count.set(number + 1);
                return Poll::Ready(());
            }
            if !is_queued {
                is_queued = true;
                self.waiting.borrow_mut().push_back(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Whether a step would get its permit at once.
    pub(super) fn is_open(&self) -> bool {
        self.waiting.borrow().is_empty() && self.spent.get() < TURN
    }

    /// Runs a step that has a permit, and gives the next one if this turn has time left.
    pub(super) fn measure<T>(&self, step: impl FnOnce() -> T) -> T {
        let began = clock::read();
        let result = step();
        self.spent.set(self.spent.get() + (clock::read() - began));
        if self.spent.get() < TURN {
            self.give();
        }
        result
    }

    /// Begins the next turn, after everything of the last was sent. Returns whether a permit was given, so that the turn has
    /// something to do.
    pub(super) fn begin_turn(&self) -> bool {
        self.spent.set(Duration::ZERO);
        self.give()
    }

    /// Whether so many connections wait that no more are to be accepted.
    pub(super) fn are_too_many(&self) -> bool {
        self.waiting.borrow().len() >= WAITING_MAX
    }

    fn give(&self) -> bool {
        let next = self.waiting.borrow_mut().pop_front();
        if let Some(task) = &next {
            self.given_count.set(self.given_count.get() + 1);
            task.wake_by_ref();
        }
        assert!(self.given_count.get() <= self.asked_count.get());
        next.is_some()
    }
}
