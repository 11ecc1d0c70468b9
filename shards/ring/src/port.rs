//! A shard's end of all its lanes.
//! Knows no thread and no clock: it never waits, and what blocks or sleeps is its user.

use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;

use crate::block::Block;
use crate::capacity::Capacity;
use crate::lane::{Inbound, Item, Lane, Lanes, Outbound, lane};
use crate::park::Signals;
use crate::sync::Shared;

/// All lanes of a process: one [`Port`] for each shard, in order, to be moved to its thread.
///
/// Allocates the slots of the rings, `shard_count * (shard_count - 1)` times two lanes, and no block: with
/// [`Capacity::DEFAULT`] and a `T` of one word, about 4 KiB a lane.
///
/// # Panics
/// If `shard_count` is 0 or `capacity` is not [valid](Capacity::is_valid).
#[must_use]
pub fn mesh<T>(shard_count: usize, capacity: Capacity) -> Vec<Port<T>> {
    assert!(shard_count > 0, "a process has a shard");
    assert!(capacity.is_valid(), "{capacity:?} is not valid");
    let signals = Shared::new(Signals::new(shard_count));
    let mut ports: Vec<Port<T>> = (0..shard_count)
        .map(|own| Port {
            own,
            peers: (0..shard_count).map(|_| None).collect(),
            signals: Shared::clone(&signals),
            fence_due: false,
            credit_wanted: false,
            asleep: false,
        })
        .collect();
    // Each pair once: both of its directions are made together.
    for first in 0..shard_count {
        for second in first + 1..shard_count {
            let (outbound, inbound) = lanes(capacity);
            let (reverse_outbound, reverse_inbound) = lanes(capacity);
            ports[first].peers[second] = Some(Peer::new(outbound, reverse_inbound));
            ports[second].peers[first] = Some(Peer::new(reverse_outbound, inbound));
        }
    }
    ports
}

fn lanes<T>(capacity: Capacity) -> (Lanes<Outbound<T>>, Lanes<Inbound<T>>) {
    let (data_outbound, data_inbound) = lane(capacity.data_items, capacity.block_bytes);
    let (control_outbound, control_inbound) = lane(capacity.control_items, capacity.block_bytes);
    (
        Lanes { data: data_outbound, control: control_outbound },
        Lanes { data: data_inbound, control: control_inbound },
    )
}

/// Whether a shard may sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "who sleeps on `Work` sleeps on what was just found"]
pub enum Parked {
    /// Nothing is there, and whoever makes work from now on will be told to ring.
    Sleep,
    /// Something is there: turn again.
    Work,
}

/// A shard's end of all its lanes. How a turn uses it stands in the [crate's documentation](crate#a-turn).
///
/// **Lives on:** one shard, which may be any thread's, one at a time. **Sees:** the lanes to and from every other shard.
///
/// # Panics
/// Every method that takes a `target` or a `source` panics if that is the port's own shard or none of the mesh.
pub struct Port<T> {
    own: usize,
    /// By shard; none at `own`.
    peers: Vec<Option<Peer<T>>>,
    signals: Shared<Signals>,
    /// Whether work was made for others since the last fence.
    fence_due: bool,
    /// Whether any outbound lane has `items_wanted`.
    credit_wanted: bool,
    /// Whether the last `park` said `Sleep` and no `unpark` came since.
    asleep: bool,
}

struct Peer<T> {
    outbound: Lanes<Outbound<T>>,
    inbound: Lanes<Inbound<T>>,
    /// What we last told this peer.
    acknowledged_by_us: u64,
    /// What our user has last seen of the peer's tellings, or was last woken for.
    acknowledged_seen: Cell<u64>,
    /// Whether something was pushed or told since the last `wake_needed`.
    pushed: bool,
    /// Whether something was popped since the last `wake_needed`.
    popped: bool,
}

impl<T> Peer<T> {
    fn new(outbound: Lanes<Outbound<T>>, inbound: Lanes<Inbound<T>>) -> Self {
        Self {
            outbound,
            inbound,
            acknowledged_by_us: 0,
            acknowledged_seen: Cell::new(0),
            pushed: false,
            popped: false,
        }
    }
}

/// Of the mesh.
impl<T> Port<T> {
    /// The shard this port belongs to.
    #[must_use]
    pub fn own(&self) -> usize {
        self.own
    }

    /// Shards in the mesh, this one included.
    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.peers.len()
    }

    /// Every shard but this one, in order.
    pub fn others(&self) -> impl Iterator<Item = usize> + use<T> {
        let own = self.own;
        (0..self.peers.len()).filter(move |&shard| shard != own)
    }

    /// Whether all inbound lanes are empty.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.peers.iter().flatten().all(|peer| Lane::ALL.iter().all(|&lane| peer.inbound.of(lane).is_empty()))
    }

    /// Frees all blocks that lie empty in this port's pools, and returns how many those were. For a shard that has
    /// nothing to do: a pool keeps what its lane's longest queue needed until it is told to let go.
    pub fn trim(&mut self) -> usize {
        let peers = self.peers.iter_mut().flatten();
        peers.map(|peer| peer.outbound.data.trim() + peer.outbound.control.trim()).sum()
    }

    fn peer(&self, shard: usize) -> &Peer<T> {
        self.peers[shard].as_ref().expect("a shard has no lane to itself")
    }

    fn peer_mut(&mut self, shard: usize) -> &mut Peer<T> {
        self.peers[shard].as_mut().expect("a shard has no lane to itself")
    }
}

/// The producer's side, towards a `target`.
impl<T> Port<T> {
    /// Items that can be pushed now. Only this port's own pushes make it less.
    ///
    /// Slots for replies are reserved with it. The shard that answers, the producer of the reply's lane, agrees with the
    /// one that asks on a number `n`; it pushes what is no reply only while more than `n` items are free, and the other
    /// has at most `n` requests open, each until it has popped the reply. Then a reply is never refused: those in the lane
    /// and those still to come are together at most `n`.
    #[must_use]
    pub fn free(&self, target: usize, lane: Lane) -> usize {
        self.peer(target).outbound.of(lane).free()
    }

    /// An empty block for that lane: one that returned, the last first, or a new one. It must be pushed, to the same lane,
    /// before the next is taken; with [`free`](Self::free) slots at that time, it can be.
    ///
    /// # Panics
    /// If the last one was not pushed.
    pub fn empty_block(&mut self, target: usize, lane: Lane) -> Block {
        self.peer_mut(target).outbound.of_mut(lane).empty_block()
    }

    /// Blocks of that outbound lane that exist, wherever they are: at most its items and two.
    #[must_use]
    pub fn blocks_alive(&self, target: usize, lane: Lane) -> usize {
        self.peer(target).outbound.of(lane).blocks_alive()
    }

    /// Appends `item` to the lane. The target may see it at once; it is woken for it only by way of
    /// [`wake_needed`](Self::wake_needed).
    ///
    /// # Errors
    /// Gives the item back if the lane is full.
    ///
    /// # Panics
    /// If a block was not taken from this lane's pool, or holds more bytes than the mesh's blocks may.
    pub fn push(&mut self, target: usize, lane: Lane, item: Item<T>) -> Result<(), Item<T>> {
        let peer = self.peer_mut(target);
        peer.outbound.of_mut(lane).push(item)?;
        peer.pushed = true;
        self.fence_due = true;
        Ok(())
    }

    /// The cumulative acknowledgement that `target` last published towards us.
    #[must_use]
    pub fn acknowledged(&self, target: usize) -> u64 {
        let peer = self.peer(target);
        self.see_acknowledged(target, peer);
        peer.acknowledged_seen.get()
    }

    /// Says that work waits until `items` items can be pushed to that lane: [`park`](Self::park) will not let the shard
    /// sleep if they can, and `target` will be told to wake it as soon as it has popped anything. Holds until the next
    /// [`unpark`](Self::unpark): who still waits in the next turn says so again. Of two for one lane the smaller counts.
    ///
    /// # Panics
    /// If `items` is 0.
    pub fn want_credit(&mut self, target: usize, lane: Lane, items: usize) {
        assert!(items > 0, "nothing need not be waited for");
        let wanted = &mut self.peer_mut(target).outbound.of_mut(lane).items_wanted;
        *wanted = if *wanted == 0 { items } else { items.min(*wanted) };
        self.credit_wanted = true;
    }

    /// Whether the caller must ring the doorbell of `target` now: it sleeps, and something was made for it (a push, a
    /// telling, a slot it waits for) since this was last asked. True at most once for each time that `target` slept,
    /// whoever asks. To be asked for every other shard at the end of each turn, before [`park`](Self::park); free of
    /// charge where nothing was made.
    #[must_use = "a shard that was found asleep is woken by nobody else"]
    pub fn wake_needed(&mut self, target: usize) -> bool {
        let peer = self.peer_mut(target);
        let (pushed, popped) = (core::mem::take(&mut peer.pushed), core::mem::take(&mut peer.popped));
        if !pushed && !popped {
            return false;
        }
        if core::mem::take(&mut self.fence_due) {
            self.signals.work_made();
        }
        (pushed || self.signals.wants_credit(target, self.own)) && self.signals.take_parked(target)
    }
}

/// The consumer's side, from a `source`.
impl<T> Port<T> {
    /// The next item of the lane, if there is one. A block must be [given back](Self::give_back) before the next pop.
    ///
    /// # Panics
    /// If the last block of this lane was not given back.
    pub fn pop(&mut self, source: usize, lane: Lane) -> Option<Item<T>> {
        let peer = self.peer_mut(source);
        let item = peer.inbound.of_mut(lane).pop()?;
        peer.popped = true;
        self.fence_due = true;
        Some(item)
    }

    /// Returns a block that was read to the shard that filled it. Its bytes are gone.
    ///
    /// # Panics
    /// If no block popped from this lane is out.
    pub fn give_back(&mut self, source: usize, lane: Lane, block: Block) {
        self.peer_mut(source).inbound.of_mut(lane).give_back(block);
    }

    /// Publishes our cumulative acknowledgement towards `source`: of what, those two agree on. To say the same again is
    /// nothing new and wakes nobody.
    ///
    /// # Panics
    /// If `count` is less than what was told before.
    pub fn acknowledge(&mut self, source: usize, count: u64) {
        let own = self.own;
        let peer = self.peer_mut(source);
        assert!(peer.acknowledged_by_us <= count, "an acknowledgement is never taken back");
        if peer.acknowledged_by_us == count {
            return;
        }
        peer.acknowledged_by_us = count;
        peer.pushed = true;
        self.fence_due = true;
        self.signals.acknowledge(source, own, count);
    }
}

/// The park protocol: wake only who sleeps, once per turn.
impl<T> Port<T> {
    /// The first thing of a turn: from here on nobody rings for this shard, which will look at its lanes anyway.
    pub fn unpark(&mut self) {
        if core::mem::take(&mut self.asleep) {
            self.signals.clear_parked(self.own);
        }
        if core::mem::take(&mut self.credit_wanted) {
            for (target, peer) in self.peers.iter_mut().enumerate() {
                let Some(Peer { outbound, .. }) = peer else { continue };
                outbound.data.items_wanted = 0;
                outbound.control.items_wanted = 0;
                self.signals.set_wants_credit(self.own, target, false);
            }
        }
    }

    /// The last thing of a turn. `Sleep`: no inbound lane holds an item, nothing was told that the user has not seen, no
    /// wanted credit is there, and whoever changes that will be told to ring; the doorbell must have been listened to
    /// since before this call. `Work`: turn again. A telling is reported once, whether or not [`acknowledged`](Self::acknowledged) is
    /// then called.
    ///
    /// # Panics
    /// If [`unpark`](Self::unpark) did not begin this turn, or [`wake_needed`](Self::wake_needed) was not asked about a
    /// shard that something was made for in it.
    pub fn park(&mut self) -> Parked {
        assert!(!self.asleep, "a turn begins with unpark");
        for peer in self.peers.iter().flatten() {
            assert!(
                !peer.pushed && !peer.popped,
                "who was given to or taken from is woken before one sleeps"
            );
        }
        // A first look without the fence: under load there is nearly always something.
        if self.work_arrived() {
            return Parked::Work;
        }
        if self.credit_wanted {
            for (target, peer) in self.peers.iter().enumerate() {
                let Some(Peer { outbound, .. }) = peer else { continue };
                let wants = outbound.data.items_wanted > 0 || outbound.control.items_wanted > 0;
                self.signals.set_wants_credit(self.own, target, wants);
            }
        }
        self.signals.announce_parked(self.own);
        if self.work_arrived() {
            self.signals.clear_parked(self.own);
            return Parked::Work;
        }
        self.asleep = true;
        Parked::Sleep
    }

    /// Whether anything is there to turn for. A telling counts once.
    fn work_arrived(&self) -> bool {
        self.peers.iter().enumerate().any(|(shard, peer)| {
            let Some(peer) = peer else { return false };
            Lane::ALL.iter().any(|&lane| {
                let outbound = peer.outbound.of(lane);
                let credit_arrived = 0 < outbound.items_wanted && outbound.items_wanted <= outbound.free();
                credit_arrived || !peer.inbound.of(lane).is_empty()
            }) || self.see_acknowledged(shard, peer)
        })
    }

    /// Looks at what `shard` last told us; whether that is more than was seen before.
    fn see_acknowledged(&self, shard: usize, peer: &Peer<T>) -> bool {
        let count = self.signals.acknowledged(self.own, shard);
        let seen = peer.acknowledged_seen.replace(count);
        assert!(seen <= count, "an acknowledgement is never taken back");
        seen < count
    }
}

impl<T> fmt::Debug for Port<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Port")
            .field("own", &self.own)
            .field("shard_count", &self.peers.len())
            .field("asleep", &self.asleep)
            .finish_non_exhaustive()
    }
}
