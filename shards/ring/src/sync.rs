//! The atomics, and the ring beneath a lane. This is the only module that differs under loom. Invariant: no other module
//! of this crate names an atomic, a fence or a ring.
//!
//! loom cannot see into `rtrb`, which uses the processor's atomics. A build with `--cfg loom` therefore replaces it by a
//! stand-in with the same positions and orderings; everything above the ring is the shipped code.

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

pub(crate) use rtrb::PushError;
#[cfg(not(loom))]
pub(crate) use rtrb::{Consumer, Producer};
#[cfg(loom)]
pub(crate) use stand_in::{Consumer, Producer};

/// The type in which all shards hold the signals: flags and counters, nothing else.
#[expect(clippy::disallowed_types, reason = "shards need shared signals to wake each other")]
pub(crate) type Shared<V> = alloc::sync::Arc<V>;

/// A ring of `capacity` slots. Allocates them all now, and never again.
#[cfg(not(loom))]
pub(crate) fn ring<V>(capacity: usize) -> (Producer<V>, Consumer<V>) {
    rtrb::RingBuffer::new(capacity)
}

#[cfg(loom)]
pub(crate) use stand_in::ring;

#[cfg(loom)]
mod stand_in {
    //! A ring for loom, without unsafe code: `rtrb`'s positions, caches and orderings over slots behind mutexes. A slot's
    //! mutex is locked only after the slot's position allows it, so it orders nothing that the positions do not.
    //! Assertions that it is never locked or in the wrong state check the positions.

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
