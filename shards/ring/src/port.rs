//! A shard's end of all its lanes. A port never blocks, never sleeps and reads no clock; its user does.

use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;

use crate::block::Block;
use crate::capacity::Capacity;
use crate::lane::{Inbound, Item, Lane, Lanes, Outbound, lane};
use crate::park::Signals;
use crate::sync::Shared;

/// Makes all lanes of a process: one [`Port`] for each shard, in order, to be moved to that shard's thread.
///
/// Allocates the slots of the rings, `shard_count * (shard_count - 1)` times two lanes, and no block. With
/// [`Capacity::DEFAULT`] and a `T` of one word this is about 4 KiB a lane.
///
/// # Panics
/// If `shard_count` is 0 or `capacity` is not [valid](Capacity::is_valid).
#[must_use]
pub fn mesh<T>(shard_count: usize, capacity: Capacity) -> Vec<Port<T>> {
    assert!(shard_count > 0, "a process has at least one shard");
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
            blocks_alive: 0,
        })
        .collect();
    // Each pair is visited once and gets both of its directions.
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

/// The result of [`Port::park`]: whether the shard may sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "sleeping after `Work` would leave that work undone"]
pub enum Parked {
    /// No work is there. A shard that makes work from now on will ring the doorbell.
    Sleep,
    /// Work is there: run another turn.
    Work,
}

/// A shard's end of all its lanes. The [crate's documentation](crate#a-turn) lists the calls of a turn in order.
///
/// **Lives on:** one shard, which may be any thread's, one at a time. **Sees:** the lanes to and from every other shard.
///
/// # Panics
/// Every method that takes a `target` or a `source` panics if that is the port's own shard or none of the mesh.
pub struct Port<T> {
    own: usize,
    /// Indexed by shard; `None` at `own`.
    peers: Vec<Option<Peer<T>>>,
    signals: Shared<Signals>,
    /// Whether work was made for other shards since the last fence.
    fence_due: bool,
    /// Whether any outbound lane has `items_wanted`.
    credit_wanted: bool,
    /// Whether the last `park` returned `Sleep` and no `unpark` followed.
    asleep: bool,
    /// Blocks of all outbound lanes that exist.
    blocks_alive: usize,
}

struct Peer<T> {
    outbound: Lanes<Outbound<T>>,
    inbound: Lanes<Inbound<T>>,
    /// The count that we last acknowledged towards this peer.
    acknowledged_by_us: u64,
    /// The peer's acknowledgement that our user last read, or that last kept this shard awake.
    acknowledged_seen: Cell<u64>,
    /// Whether something was pushed or acknowledged since the last `wake_needed`.
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

/// The mesh.
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

    /// Frees all empty blocks in this port's pools and returns their number. Call it when the shard has nothing to do: a
    /// pool keeps the blocks of its lane's longest queue until it is trimmed.
    pub fn trim(&mut self) -> usize {
        let peers = self.peers.iter_mut().flatten();
        let freed = peers.map(|peer| peer.outbound.data.trim() + peer.outbound.control.trim()).sum();
        self.blocks_alive -= freed;
        freed
    }

    /// Blocks of all outbound lanes that exist, whichever shard has them now. It is a running count.
    #[must_use]
    pub fn blocks_alive_in_all(&self) -> usize {
        self.blocks_alive
    }

    /// Bytes of the slots of all outbound lanes, which never change.
    #[must_use]
    pub fn slot_bytes(&self) -> usize {
        let items = self.peers.iter().flatten();
        items.map(|peer| peer.outbound.data.slot_bytes() + peer.outbound.control.slot_bytes()).sum()
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
    /// Items that can be pushed now. Only this port's own pushes reduce it.
    ///
    /// Producers use this number to reserve slots for replies. The two shards agree on a number `n`. The shard that
    /// replies is the producer of the reply's lane; it pushes other items only while more than `n` items are free. The
    /// shard that requests has at most `n` requests open, each until it has popped the reply. A reply is then never
    /// refused: the replies in the lane and the replies still to come are together at most `n`.
    #[must_use]
    pub fn free(&self, target: usize, lane: Lane) -> usize {
        self.peer(target).outbound.of(lane).free()
    }

    /// Returns an empty block for that lane: the most recently returned one, or a new one. It must be pushed to the same
    /// lane before the next is taken. The push succeeds if [`free`](Self::free) was above 0 when the block was taken.
    ///
    ///
    /// # Panics
    /// If the previous block of this lane was not pushed.
    pub fn empty_block(&mut self, target: usize, lane: Lane) -> Block {
        let (block, is_new) = self.peer_mut(target).outbound.of_mut(lane).empty_block();
        self.blocks_alive += usize::from(is_new);
        block
    }

    /// Blocks of that outbound lane that exist, in the pool or elsewhere: at most its items plus two.
    #[must_use]
    pub fn blocks_alive(&self, target: usize, lane: Lane) -> usize {
        self.peer(target).outbound.of(lane).blocks_alive()
    }

    /// Appends `item` to the lane. The target may see it at once, but is woken for it only through
    /// [`wake_needed`](Self::wake_needed).
    ///
    /// # Errors
    /// Returns the item if the lane is full.
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

    /// The cumulative acknowledgement that `target` last published to us.
    #[must_use]
    pub fn acknowledged(&self, target: usize) -> u64 {
        let peer = self.peer(target);
        self.see_acknowledged(target, peer);
        peer.acknowledged_seen.get()
    }

    /// Declares that work waits until `items` items can be pushed to that lane. [`park`](Self::park) then returns `Work`
    /// if they can be, and `target` is asked to wake this shard as soon as it pops anything. The request lasts until the
    /// next [`unpark`](Self::unpark); repeat it in the next turn if the work still waits. Of two requests for one lane
    /// the smaller counts.
    ///
    /// # Panics
    /// If `items` is 0.
    pub fn want_credit(&mut self, target: usize, lane: Lane, items: usize) {
        assert!(items > 0, "waiting for zero items is pointless");
        let wanted = &mut self.peer_mut(target).outbound.of_mut(lane).items_wanted;
        *wanted = if *wanted == 0 { items } else { items.min(*wanted) };
        self.credit_wanted = true;
    }

    /// Whether the caller must ring the doorbell of `target` now: `target` sleeps, and since the last call something was
    /// made for it (a push, an acknowledgement, or a slot that it waits for). True at most once for each time that
    /// `target` slept, over all callers. Call it for every other shard at the end of each turn, before
    /// [`park`](Self::park). It costs nothing if nothing was made.
    #[must_use = "no other shard will wake this one"]
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
    /// Returns the next item of the lane, if there is one. A block must be [given back](Self::give_back) before the next
    /// pop.
    ///
    /// # Panics
    /// If the previous block of this lane was not given back.
    pub fn pop(&mut self, source: usize, lane: Lane) -> Option<Item<T>> {
        let peer = self.peer_mut(source);
        let item = peer.inbound.of_mut(lane).pop()?;
        peer.popped = true;
        self.fence_due = true;
        Some(item)
    }

    /// Returns a block to the shard that filled it, and clears it.
    ///
    /// # Panics
    /// If no block popped from this lane is outstanding.
    pub fn give_back(&mut self, source: usize, lane: Lane, block: Block) {
        self.peer_mut(source).inbound.of_mut(lane).give_back(block);
    }

    /// Publishes our cumulative acknowledgement to `source`. The two shards agree on the unit. Repeating the same count
    /// changes nothing and wakes nobody.
    ///
    /// # Panics
    /// If `count` is less than the last one.
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

/// The park protocol: wake a shard only if it sleeps, at most once per turn.
impl<T> Port<T> {
    /// Begins a turn. From here on nobody rings for this shard, since it will check its lanes anyway.
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

    /// Ends a turn. `Sleep`: no inbound lane holds an item, every acknowledgement was seen, the requested credit is not
    /// there, and a shard that changes any of this will ring. The doorbell must have been watched since before this call.
    /// `Work`: run another turn. An acknowledgement is reported once, whether or not [`acknowledged`](Self::acknowledged)
    /// is then called.
    ///
    /// # Panics
    /// If [`unpark`](Self::unpark) did not begin this turn, or [`wake_needed`](Self::wake_needed) was not called for a
    /// shard that this turn made work for.
    pub fn park(&mut self) -> Parked {
        assert!(!self.asleep, "a turn begins with unpark");
        for peer in self.peers.iter().flatten() {
            assert!(
                !peer.pushed && !peer.popped,
                "wake_needed must be called for every shard that work was made for"
            );
        }
        // A first check without the fence: under load it nearly always finds work.
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

    /// Whether there is a reason to run another turn. An acknowledgement counts once.
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

    /// Reads the latest acknowledgement of `shard`; returns whether it exceeds the one seen before.
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
