//! What shards tell each other without a slot: who sleeps, what was acknowledged, who waits for credit.
//! Knows no lane and no doorbell; holds every argument about memory order above the rings.
//!
//! # Why no wake-up is lost
//! A shard about to sleep stores `parked`, passes a fence, and looks again for work. A shard that made work (a push, a
//! telling, a slot freed that the other waits for) passes a fence and reads `parked`. Both fences are sequentially
//! consistent, hence one comes first: if the sleeper's, the other reads `parked` and wakes it; if the other's, the
//! sleeper's second look sees the work. Of several shards that read `parked`, the one whose swap took it rings. Who
//! finds it already taken may rely on that one, which rings before it sleeps itself.

use alloc::boxed::Box;

use crate::sync::{AtomicBool, AtomicU64, Ordering, fence};

/// Keeps what different shards write in different cache lines: two, for processors that fetch them in pairs.
#[repr(align(128))]
struct Line<V>(V);

/// What lies beside the lanes of one ordered pair of shards.
struct Link {
    /// Written by the consumer of the lanes: its cumulative acknowledgement. Never decreases.
    acknowledged: AtomicU64,
    /// Written by the producer alone: whether it sleeps for want of free slots.
    wants_credit: AtomicBool,
}

/// One for the process.
///
/// **Lives on:** every shard, shared. **Sees:** flags and counters only.
pub(crate) struct Signals {
    /// For each shard, whether it sleeps. Set by that shard; taken by whoever wakes it.
    parked: Box<[Line<AtomicBool>]>,
    /// For each producer, all consumers; the diagonal is unused.
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

    /// What `consumer` last acknowledged of the lanes from `producer`.
    pub(crate) fn acknowledged(&self, producer: usize, consumer: usize) -> u64 {
        self.link(producer, consumer).acknowledged.load(Ordering::Acquire)
    }

    pub(crate) fn acknowledge(&self, producer: usize, consumer: usize, count: u64) {
        self.link(producer, consumer).acknowledged.store(count, Ordering::Release);
    }

    /// Said before [`Signals::announce_parked`], whose fence covers it.
    pub(crate) fn set_wants_credit(&self, producer: usize, consumer: usize, wants: bool) {
        self.link(producer, consumer).wants_credit.store(wants, Ordering::Relaxed);
    }

    /// Only to be believed after [`Signals::work_made`].
    pub(crate) fn wants_credit(&self, producer: usize, consumer: usize) -> bool {
        self.link(producer, consumer).wants_credit.load(Ordering::Relaxed)
    }

    // `parked` is exchanged where a store would do: each change then follows directly on the one it replaces, an order
    // that loom can follow too. It costs nothing that counts beside the fence and the sleep.

    /// From here on whoever makes work for `shard` wakes it; work made before is seen by who looks now.
    pub(crate) fn announce_parked(&self, shard: usize) {
        self.parked[shard].0.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn clear_parked(&self, shard: usize) {
        self.parked[shard].0.swap(false, Ordering::Relaxed);
    }

    /// All work made so far comes before what is read of `parked` and `wants_credit` from here on.
    #[expect(clippy::unused_self, reason = "the fence belongs to this protocol and to no other")]
    pub(crate) fn work_made(&self) {
        fence(Ordering::SeqCst);
    }

    /// Whether `shard` slept and it is the caller who must ring. To be asked after [`Signals::work_made`].
    pub(crate) fn take_parked(&self, shard: usize) -> bool {
        let parked = &self.parked[shard].0;
        // Read first: a shard that is awake, the usual case under load, keeps its line undisturbed.
        parked.load(Ordering::Relaxed) && parked.swap(false, Ordering::Relaxed)
    }
}
