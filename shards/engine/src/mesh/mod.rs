//! This shard among the others: its announcements, the interest of the others, and the messages on their way to them.
//!
//! Invariants: the same announcements go to every other shard, in one order, so that a count acknowledges them; and a
//! shard takes every item of its inbound lanes, whatever its outbound lanes are like. A transfer leaves once its record is durable, and
//! nothing of its publisher or of a retained store overtakes it.

pub(crate) mod codec;
pub(crate) mod interest;
pub(crate) mod message;
pub(crate) mod outbound;
pub(crate) mod topology;
pub(crate) mod transfers;

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::action::Batch;
use crate::base::hash::Entropy;
use crate::base::shard_set::ShardSet;
use crate::memory::tree_entry_bytes;
use crate::topic::tree::Tree;

use interest::Interests;
use message::{RemoteFilter, ShardMessage};
use outbound::{LaneKind, Outbound};
use topology::{Placement, Topology};
use transfers::Transfers;

/// The batch of a transfer whose fan-out was cut, until its last part is recorded.
pub(crate) const UNKNOWN: Batch = Batch(u64::MAX);

/// **Lives on:** every shard. **Sees:** the announcements of the other shards, and everything on its way to them.
#[derive(Debug)]
pub(crate) struct Mesh {
    placement: Placement,
    outbound: Outbound,
    interests: Interests,
    /// Announcements made, the same ones to every other shard.
    announced: u64,
    /// By shard: how many of them it has acknowledged.
    acknowledged: Vec<u64>,
    /// By shard: how many of its announcements were taken in here.
    seen: Vec<u64>,
    /// Shards that announced something since the last report of watermarks.
    unreported: ShardSet,
    /// By target: keys of the groups that it was chosen for, while a message is routed.
    group_keys: Vec<Vec<u8>>,
    transfers: Transfers,
    /// Slots of sessions that published a message which is held, each with the batch that it waits for.
    held_publishers: BTreeMap<u32, Batch>,
    /// The same of sessions that have ended, as one: their clients may have others by now.
    held_ended: Batch,
    /// The last retained message of this shard was recorded in this batch.
    stored_in: Batch,
    /// The last batch that is durable.
    synced: Batch,
    /// Shards that have not announced yet everything that their logs had.
    unrecovered: ShardSet,
    /// Nothing becomes durable any more, so no transfer leaves.
    has_failed: bool,
}

impl Mesh {
    pub(crate) fn new(topology: Topology) -> Self {
        let count = usize::from(topology.shard_count);
        let mut acknowledged = vec![0; count];
        // This shard knows its own subscriptions at once.
        acknowledged[usize::from(topology.own)] = u64::MAX;
        Self {
            placement: Placement::new(topology),
            outbound: Outbound::new(topology.shard_count),
            interests: Interests::default(),
            announced: 0,
            acknowledged,
            seen: vec![0; count],
            unreported: ShardSet::default(),
            group_keys: vec![Vec::new(); count],
            transfers: Transfers::new(topology.shard_count),
            held_publishers: BTreeMap::new(),
            held_ended: Batch(0),
            stored_in: Batch(0),
            synced: Batch(0),
            unrecovered: ShardSet::default(),
            has_failed: false,
        }
    }

    /// The only shard there is.
    pub(crate) fn alone() -> Self {
        Self::new(Topology { own: 0, shard_count: 1, key: Entropy(0) })
    }

    pub(crate) fn placement(&self) -> &Placement {
        &self.placement
    }

    pub(crate) fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    pub(crate) fn outbound_mut(&mut self) -> &mut Outbound {
        &mut self.outbound
    }

    pub(crate) fn interests(&self) -> &Interests {
        &self.interests
    }

    pub(crate) fn interests_mut(&mut self) -> &mut Interests {
        &mut self.interests
    }

    /// Announcements made so far.
    pub(crate) fn announced(&self) -> u64 {
        self.announced
    }

    /// How many of our announcements every other shard has acknowledged.
    pub(crate) fn acknowledged_by_all(&self) -> u64 {
        self.acknowledged.iter().copied().min().unwrap_or(u64::MAX)
    }

    /// Another shard has acknowledged `count` of our announcements.
    pub(crate) fn acknowledge(&mut self, target: u16, count: u64) {
        assert!(target != self.placement.own());
        let acknowledged = &mut self.acknowledged[usize::from(target)];
        assert!(count >= *acknowledged && count <= self.announced);
        *acknowledged = count;
    }

    /// Announcements of `source` taken in so far.
    pub(crate) fn seen(&self, source: u16) -> u64 {
        self.seen[usize::from(source)]
    }

    /// Counts an announcement of `source`. A report of watermarks is due to it: which retained updates it was not sent
    /// live.
    pub(crate) fn count_announcement(&mut self, source: u16) {
        assert!(source != self.placement.own());
        self.seen[usize::from(source)] += 1;
        self.unreported = self.unreported.with(source);
    }

    /// Takes the shards to which a report of watermarks is due.
    pub(crate) fn take_unreported(&mut self) -> ShardSet {
        core::mem::take(&mut self.unreported)
    }

    pub(crate) fn transfers(&self) -> &Transfers {
        &self.transfers
    }

    pub(crate) fn transfers_mut(&mut self) -> &mut Transfers {
        &mut self.transfers
    }

    /// The shards have logs: nothing is due before each has announced what its log had.
    pub(crate) fn await_recovery(&mut self) {
        self.unrecovered = self.placement.others().fold(ShardSet::default(), ShardSet::with);
    }

    /// A shard has announced everything that its log had.
    pub(crate) fn set_recovered(&mut self, source: u16) {
        assert!(self.unrecovered.contains(source));
        self.unrecovered = self.unrecovered.without(source);
    }

    /// Whether the interest of all shards is known that their logs had.
    #[inline]
    pub(crate) fn is_whole(&self) -> bool {
        self.unrecovered.is_empty()
    }

    /// Everything up to this batch is durable: what waited for it leaves.
    pub(crate) fn on_synced(&mut self, synced: Batch) {
        self.synced = self.synced.max(synced);
        self.transfers.on_synced(synced);
        self.outbound.release(synced);
        self.held_publishers.retain(|_, until| *until > synced);
    }

    /// The last part of a fan-out that was cut is recorded in this batch.
    pub(crate) fn end_cut(&mut self, until: Batch) {
        self.outbound.shorten(UNKNOWN, until);
        for waits in self.held_publishers.values_mut() {
            *waits = (*waits).min(until);
        }
        self.held_ended = self.held_ended.min(until);
    }

    /// A session has ended. The next one of its client overtakes nothing of it [MQTT-4.6.0-5].
    pub(crate) fn publisher_ended(&mut self, slot: u32) {
        if let Some(until) = self.held_publishers.remove(&slot) {
            self.held_ended = self.held_ended.max(until);
        }
    }

    /// Nothing becomes durable any more. Transfers that wait for that are not sent, by now or later: their publishers have no
    /// acknowledgement. Everything that waits behind them is.
    pub(crate) fn fail(&mut self) {
        self.has_failed = true;
        self.held_publishers.clear();
        self.held_ended = Batch(0);
        self.outbound.release_held(|message| !ShardMessage::decode(message, None).is_transfer());
    }

    /// A retained message was recorded in this batch.
    pub(crate) fn set_stored(&mut self, batch: Batch) {
        self.stored_in = batch;
    }

    /// The batch that an answer about the retained store has to wait for, if it has to: a shard must not record more than this one.
    pub(crate) fn stored_until(&self) -> Option<Batch> {
        (self.stored_in > self.synced && !self.has_failed).then_some(self.stored_in)
    }

    /// Sends a message to another shard. A payload that is `shared` is not copied. It overtakes none that is held.
    pub(crate) fn send(&mut self, target: u16, message: &ShardMessage<'_>, shared: Option<&Bytes>) {
        if self.outbound.holds_any()
            && message.lane() == LaneKind::Data
            && let Some(until) = self.outbound.held_until(target)
        {
            self.send_when(target, message, shared, (until, None));
        } else {
            self.send_now(target, message, shared);
        }
    }

    /// Sends a message to another shard, past everything that is held.
    #[inline]
    pub(crate) fn send_now(&mut self, target: u16, message: &ShardMessage<'_>, shared: Option<&Bytes>) {
        assert!(target != self.placement.own());
        let (lane, bytes_max) = (message.lane(), message.bytes_max());
        self.outbound.push(target, lane, bytes_max, shared, |out| message.encode(out, shared.is_some()));
    }

    /// Sends a message of a data lane once a batch is durable. One of a session's publishes names that: nothing else of it overtakes the
    /// message, which may wait for a later batch because of those before it.
    pub(crate) fn send_when(
        &mut self,
        target: u16,
        message: &ShardMessage<'_>,
        shared: Option<&Bytes>,
        (until, publisher): (Batch, Option<u32>),
    ) {
        assert!(target != self.placement.own());
        assert!(message.lane() == LaneKind::Data);
        if self.has_failed {
            if !message.is_transfer() {
                self.send_now(target, message, shared);
            }
            return;
        }
        let bytes_max = message.bytes_max();
        let until = self.outbound.push_held((target, until), bytes_max, shared, |out| {
            message.encode(out, shared.is_some());
        });
        if let Some(publisher) = publisher {
            let waits = self.held_publishers.entry(publisher).or_insert(until);
            *waits = (*waits).max(until);
        }
    }

    /// Sends a publish that is no transfer. It overtakes those that are held for the target, if its publisher is known and published none
    /// of them, nor did a session that has ended, and it is not to be retained.
    pub(crate) fn send_past(
        &mut self,
        target: u16,
        message: &ShardMessage<'_>,
        shared: Option<&Bytes>,
        (publisher, is_retained): (Option<u32>, bool),
    ) {
        let is_held = |publisher| self.held_publishers.contains_key(&publisher);
        let waits = is_retained || self.held_ended > self.synced || publisher.is_none_or(is_held);
        match self.outbound.held_until(target).filter(|_| waits) {
            Some(until) => self.send_when(target, message, shared, (until, publisher)),
            None => self.send_now(target, message, shared),
        }
    }

    /// Bytes of its tables of transfers and of their publishers.
    pub(crate) fn transfer_bytes(&self) -> u64 {
        let publishers = self.held_publishers.len() as u64;
        self.transfers.memory_bytes() + publishers * tree_entry_bytes(size_of::<(u32, Batch)>())
    }

    /// Sends an announcement to every other shard.
    pub(crate) fn announce(&mut self, message: &ShardMessage<'_>) {
        assert!(self.placement.is_meshed());
        self.announced += 1;
        for target in self.placement.others() {
            self.send(target, message, None);
        }
    }

    /// The name of a filter between shards.
    pub(crate) fn name_of<'a>(&self, filter: &'a str) -> RemoteFilter<'a> {
        if filter.contains(['+', '#']) {
            RemoteFilter::Wild(filter)
        } else {
            RemoteFilter::Exact(self.placement.fingerprint(filter))
        }
    }

    /// Chooses a shard for a group of the message that is being routed.
    pub(crate) fn add_group_key(&mut self, target: u16, key: u64) {
        assert!(target != self.placement.own());
        self.group_keys[usize::from(target)].extend_from_slice(&key.to_le_bytes());
    }

    /// Takes the group keys out that a target was chosen for; [`Mesh::return_group_keys`] gives the allocation back.
    pub(crate) fn take_group_keys(&mut self, target: u16) -> Vec<u8> {
        core::mem::take(&mut self.group_keys[usize::from(target)])
    }

    pub(crate) fn return_group_keys(&mut self, target: u16, mut keys: Vec<u8>) {
        keys.clear();
        let slot = &mut self.group_keys[usize::from(target)];
        assert!(slot.is_empty());
        *slot = keys;
    }

    /// Recomputes its counts, for an audit.
    ///
    /// # Panics
    /// If one of them is wrong.
    pub(crate) fn check(&self, tree: &Tree) {
        assert!(self.outbound.is_counted_right());
        assert!(self.outbound.is_memory_right());
        let own = self.placement.own();
        assert!(self.seen[usize::from(own)] == 0);
        let others = self.placement.others();
        assert!(others.into_iter().all(|other| self.acknowledged[usize::from(other)] <= self.announced));
        assert!(self.unreported.is_empty());
        self.interests.check(tree);
        // They are filled and emptied while one message is routed.
        assert!(self.group_keys.iter().all(Vec::is_empty));
        assert!(self.outbound.is_held_right());
        assert!(self.held_publishers.values().all(|&until| until > self.synced));
        assert!(self.outbound.holds_any() || self.held_publishers.is_empty());
        assert!(self.outbound.holds_any() || self.held_ended <= self.synced);
        self.transfers.check(own);
    }
}
