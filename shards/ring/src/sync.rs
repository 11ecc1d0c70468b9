//! The one place where loom takes over: atomics, and the ring under a lane.
//! Nothing else in this crate may name an atomic, a fence or a ring.
//!
//! loom cannot look into `rtrb`, whose atomics are the processor's. A build with `--cfg loom` therefore puts a stand-in
//! with the same positions and the same orderings under the lanes; all that stands above it is the code that is shipped.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

pub(crate) use rtrb::PushError;
#[cfg(not(loom))]
pub(crate) use rtrb::{Consumer, Producer};
#[cfg(loom)]
pub(crate) use stand_in::{Consumer, Producer};

/// What all shards hold: the flags and counters that they signal by, and nothing else.
#[cfg_attr(
    any(test, loom),
    expect(clippy::disallowed_types, reason = "without it no shard could wake another")
)]
pub(crate) type Shared<V> = alloc::sync::Arc<V>;

/// A ring of `capacity` slots, all allocated now and none ever again.
#[cfg(not(loom))]
pub(crate) fn ring<V>(capacity: usize) -> (Producer<V>, Consumer<V>) {
    rtrb::RingBuffer::new(capacity)
}

#[cfg(loom)]
pub(crate) use stand_in::ring;

#[cfg(loom)]
mod stand_in {
    //! A ring for loom, without unsafe code: `rtrb`'s positions, caches and orderings over slots behind mutexes. A slot's
    //! mutex is locked only after its position allowed it, so it orders nothing that a position did not order before;
    //! that it is never found locked or in the wrong state is asserted, which checks the positions.

    use alloc::vec::Vec;

    use loom::sync::Mutex;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use rtrb::{PopError, PushError};

    use super::Shared;

    struct Ring<V> {
        head: AtomicUsize,
        tail: AtomicUsize,
        slots: Vec<Mutex<Option<V>>>,
    }

    pub(crate) struct Producer<V> {
        ring: Shared<Ring<V>>,
        cached_head: core::cell::Cell<usize>,
        tail: usize,
    }

    pub(crate) struct Consumer<V> {
        ring: Shared<Ring<V>>,
        head: usize,
        cached_tail: core::cell::Cell<usize>,
    }

    pub(crate) fn ring<V>(capacity: usize) -> (Producer<V>, Consumer<V>) {
        let slots = (0..capacity).map(|_| Mutex::new(None)).collect();
        let ring = Shared::new(Ring { head: AtomicUsize::new(0), tail: AtomicUsize::new(0), slots });
        let producer = Producer { ring: Shared::clone(&ring), cached_head: 0.into(), tail: 0 };
        (producer, Consumer { ring, head: 0, cached_tail: 0.into() })
    }

    impl<V> Ring<V> {
        fn exchange(&self, position: usize, value: Option<V>) -> Option<V> {
            let mut slot =
                self.slots[position % self.slots.len()].try_lock().expect("one side at a time owns a slot");
            core::mem::replace(&mut slot, value)
        }
    }

    impl<V> Producer<V> {
        pub(crate) fn slots(&self) -> usize {
            self.cached_head.set(self.ring.head.load(Ordering::Acquire));
            self.ring.slots.len() - (self.tail - self.cached_head.get())
        }

        pub(crate) fn push(&mut self, value: V) -> Result<(), PushError<V>> {
            if self.tail - self.cached_head.get() == self.ring.slots.len() && self.slots() == 0 {
                return Err(PushError::Full(value));
            }
            assert!(self.ring.exchange(self.tail, Some(value)).is_none(), "a free slot is empty");
            self.tail += 1;
            self.ring.tail.store(self.tail, Ordering::Release);
            Ok(())
        }
    }

    impl<V> Consumer<V> {
        pub(crate) fn is_empty(&self) -> bool {
            if self.head == self.cached_tail.get() {
                self.cached_tail.set(self.ring.tail.load(Ordering::Acquire));
            }
            self.head == self.cached_tail.get()
        }

        pub(crate) fn pop(&mut self) -> Result<V, PopError> {
            if self.is_empty() {
                return Err(PopError::Empty);
            }
            let value = self.ring.exchange(self.head, None).expect("a pushed slot is filled");
            self.head += 1;
            self.ring.head.store(self.head, Ordering::Release);
            Ok(value)
        }
    }
}
