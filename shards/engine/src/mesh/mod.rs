//! This shard among the others: its announcements, the interest of the others, and the messages on their way to them.
//!
//! Invariants: the same announcements go to every other shard, in one order, so that a count acknowledges them; and a
//! shard takes every item of its inbound lanes, whatever its outbound lanes are like.

pub(crate) mod codec;
pub(crate) mod interest;
pub(crate) mod message;
pub(crate) mod outbound;
pub(crate) mod topology;

use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::base::hash::Entropy;
use crate::base::shard_set::ShardSet;
use crate::topic::tree::Tree;

use interest::Interests;
use message::{RemoteFilter, ShardMessage};
use outbound::Outbound;
use topology::{Placement, Topology};

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

    /// Sends a message to another shard. A payload that is `shared` is not copied.
    pub(crate) fn send(&mut self, target: u16, message: &ShardMessage<'_>, shared: Option<&Bytes>) {
        assert!(target != self.placement.own());
        let (lane, bytes_max) = (message.lane(), message.bytes_max());
        self.outbound.push(target, lane, bytes_max, shared, |out| message.encode(out, shared.is_some()));
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
    }
}
