//! The turnstile of clients that come and go: a step of a TLS handshake, a first packet, a connection that another shard hands over and
//! the end of a connection wait for a permit, so that a storm of them leaves time for the clients that are there.
//!
//! Invariants: permits are given in the order in which they were asked for; between two looks at the sockets all steps together take
//! [`TURN`], and the last of them longer; and each turn gives a permit at least, after the traffic of that turn was sent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::process::clock;

/// Time of a turn for who comes and goes. A step is not interrupted, so the last one goes beyond it.
const TURN: Duration = Duration::from_micros(125);
/// Time that a step is charged for its work that follows later in its turn: an answer that is sent, a socket that is closed.
const BEHIND: Duration = Duration::from_micros(10);
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
    /// The turn that the time below belongs to, as the partner of the flusher counts turns.
    turn: Cell<u64>,
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
        self.spent.set(self.spent.get() + (clock::read() - began) + BEHIND);
        if self.spent.get() < TURN {
            self.give();
        }
        result
    }

    /// Called at each end of a turn, after everything of it was sent. The time of steps begins anew only once the partner of the
    /// flusher has begun another turn, so that no steps follow each other while nobody looks at the sockets. Returns whether there
    /// has to be another turn.
    pub(super) fn end_turn(&self, turn: u64) -> bool {
        if self.turn.replace(turn) != turn {
            self.spent.set(Duration::ZERO);
            self.give();
        }
        !self.is_open()
    }

    /// Whether so many connections wait that no more are to be accepted.
    pub(super) fn are_too_many(&self) -> bool {
        self.waiting.borrow().len() >= WAITING_MAX
    }

    fn give(&self) {
        let next = self.waiting.borrow_mut().pop_front();
        if let Some(task) = &next {
            self.given_count.set(self.given_count.get() + 1);
            task.wake_by_ref();
        }
        assert!(self.given_count.get() <= self.asked_count.get());
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;
    use std::thread;

    use super::*;

    fn take_the_turn(turnstile: &Turnstile) {
        turnstile.measure(|| thread::sleep(TURN));
        assert!(!turnstile.is_open());
    }

    /// A turn that ended by itself gave the next permit, and it ended again right after that step. So nobody looked at the sockets until
    /// all steps were done, which was up to 20 ms later.
    #[test]
    fn steps_wait_until_the_sockets_were_looked_at() {
        let turnstile = Turnstile::default();
        let mut context = Context::from_waker(Waker::noop());
        take_the_turn(&turnstile);
        let (mut first, mut second) = (pin!(turnstile.permit()), pin!(turnstile.permit()));
        assert!(first.as_mut().poll(&mut context).is_pending());
        for _ in 0..3 {
            assert!(turnstile.end_turn(0), "another turn is asked for");
            assert!(first.as_mut().poll(&mut context).is_pending());
        }
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(turnstile.end_turn(1));
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(first.as_mut().poll(&mut context).is_ready());
        // The step of the first leaves no time.
        take_the_turn(&turnstile);
        assert!(turnstile.end_turn(1) && second.as_mut().poll(&mut context).is_pending());
        assert!(!turnstile.end_turn(2), "nobody waits any more");
        assert!(second.as_mut().poll(&mut context).is_ready());
        assert!(turnstile.is_open());
    }

    #[test]
    fn a_turn_has_time_for_a_few_steps_whatever_they_take_themselves() {
        let turnstile = Turnstile::default();
        let steps = (1..).take_while(|_| {
            turnstile.measure(|| ());
            turnstile.is_open()
        });
        assert!((3..=12).contains(&steps.count()));
        assert!(turnstile.end_turn(0) && !turnstile.end_turn(1) && turnstile.is_open());
    }
}
