//! The signals between shards that need no slot: parked flags, cumulative acknowledgements and credit requests. All
//! reasoning about memory order above the rings is here.
//!
//! # Why no wake-up is lost
//! A shard that is about to sleep stores `parked`, passes a fence and checks for work again. A shard that made work (a
//! push, an acknowledgement, or a freed slot that the other one waits for) passes a fence and reads `parked`. Both fences
//! are sequentially consistent, so one of them comes first. If the sleeper's fence is first, the other shard reads
//! `parked` and wakes it. If the other shard's fence is first, the sleeper's second check finds the work. If several
//! shards read `parked`, the one whose swap cleared it rings. The others can rely on that one, because it rings before it
//! sleeps itself.

use alloc::boxed::Box;

use crate::sync::{AtomicBool, AtomicU64, Ordering, fence};

/// Aligned so that values written by different shards are in different cache lines: two lines, since some processors
/// fetch pairs.
#[repr(align(128))]
struct Line<V>(V);

/// The signals of one ordered pair of shards.
struct Link {
    /// The cumulative acknowledgement, written by the consumer of the lanes. Never decreases.
    acknowledged: AtomicU64,
    /// Whether the producer sleeps because slots are missing. Written by the producer only.
    wants_credit: AtomicBool,
}

/// One for each process.
///
/// **Lives on:** every shard, shared. **Sees:** flags and counters only.
pub(crate) struct Signals {
    /// For each shard, whether it sleeps. The shard itself sets it; the shard that wakes it clears it.
    parked: Box<[Line<AtomicBool>]>,
    /// Every consumer for each producer; the diagonal is unused.
    links: Box<[Line<Link>]>,
}

impl Signals {
    pub(crate) fn new(shard_count: usize) -> Self {
        let parked = || Line(AtomicBool::new(false));
        let link = || Line(Link { acknowledged: AtomicU64::new(0), wants_credit: AtomicBool::new(false) });
        Self {
            parked: (0..shard_count).map(|_| parked()).collect(),
            links: (0..shard_count * shard_count).map(|_| link()).collect(),
        }
    }

    fn link(&self, producer: usize, consumer: usize) -> &Link {
        &self.links[producer * self.parked.len() + consumer].0
    }

    /// The count that `consumer` last acknowledged on the lanes from `producer`.
    pub(crate) fn acknowledged(&self, producer: usize, consumer: usize) -> u64 {
        self.link(producer, consumer).acknowledged.load(Ordering::Acquire)
    }

    pub(crate) fn acknowledge(&self, producer: usize, consumer: usize, count: u64) {
        self.link(producer, consumer).acknowledged.store(count, Ordering::Release);
    }

    /// Must be called before [`Signals::announce_parked`], whose fence covers this store.
    pub(crate) fn set_wants_credit(&self, producer: usize, consumer: usize, wants: bool) {
        self.link(producer, consumer).wants_credit.store(wants, Ordering::Relaxed);
    }

    /// Valid only after [`Signals::work_made`].
    pub(crate) fn wants_credit(&self, producer: usize, consumer: usize) -> bool {
        self.link(producer, consumer).wants_credit.load(Ordering::Relaxed)
    }

    // `parked` is swapped where a store would be enough: each change then follows directly on the value it replaces, an
    // order that loom can follow too. The cost is negligible next to the fence and the sleep.

    /// After this call, a shard that makes work for `shard` wakes it. Work made earlier is visible to a check that
    /// follows.
    pub(crate) fn announce_parked(&self, shard: usize) {
        self.parked[shard].0.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn clear_parked(&self, shard: usize) {
        self.parked[shard].0.swap(false, Ordering::Relaxed);
    }

    /// Orders all work made so far before later reads of `parked` and `wants_credit`.
    #[expect(clippy::unused_self, reason = "the fence is part of this protocol")]
    pub(crate) fn work_made(&self) {
        fence(Ordering::SeqCst);
    }

    /// Whether `shard` slept and the caller must ring. Must be called after [`Signals::work_made`].
    pub(crate) fn take_parked(&self, shard: usize) -> bool {
        let parked = &self.parked[shard].0;
        // Read first: under load the shard is usually awake, and a read leaves its cache line shared.
        parked.load(Ordering::Relaxed) && parked.swap(false, Ordering::Relaxed)
    }
}
