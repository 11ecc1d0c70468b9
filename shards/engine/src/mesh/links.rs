//! This shard among the others: what it announces, what it sends across, what it does with what arrives.
//! Knows no ring and no thread; the host moves items both ways.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::num::NonZeroU64;

use bytes::Bytes;
use wire::{Frame, TopicFilter};

use crate::base::hash::Entropy;
use crate::base::time::Instant;
use crate::connection::table::{ConnectionId, Phase};
use crate::engine::Engine;
use crate::event::{Action, Actions};
use crate::mesh::interest::{ExactInterests, Interest, SharedGroups};
use crate::mesh::message::{ForwardedPublish, GroupKeys, Origins, RemoteFilter, ShardMessage};
use crate::mesh::outbound::{InboundItem, LaneKind, Outbound, OutboundItem, messages};
use crate::mesh::topology::{Placement, ShardSet, Topology};
use crate::publish::fan_out::{FanOut, LiveOrigin};
use crate::retained::replay::{PageRequest, REQUESTS_MAX};
use crate::retained::store::Cursor;
use crate::retained::watermarks::{Origin, Watermarks};
use crate::topic::tree::Change;

/// **Lives on:** every shard. **Sees:** what the other shards announced, and what is on its way to them.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) placement: Placement,
    pub(crate) outbound: Outbound,
    pub(crate) exact: ExactInterests,
    pub(crate) groups: SharedGroups,
    /// Announcements made, the same ones to every other shard.
    pub(crate) announced: u64,
    /// By shard: how many of ours it has taken in.
    known: Vec<u64>,
    /// By shard: how many of its announcements were taken in here.
    seen: Vec<u64>,
    /// Questions of other shards for retained messages; each shard asks a bounded number at once.
    pub(crate) page_requests: VecDeque<(u16, PageRequest)>,
    /// Those of them whose answer has to count updates that have not come yet.
    pub(crate) early_page_requests: Vec<(u16, PageRequest)>,
    /// By target: questions of ours that are open.
    pub(crate) open_request_count: Vec<u32>,
    pub(crate) watermarks: Watermarks,
    /// By target: the groups that it is chosen for, while a message is routed.
    pub(crate) keys: Vec<Vec<u8>>,
}

impl Mesh {
    pub(crate) fn new(topology: Topology) -> Self {
        let placement = Placement::new(topology);
        let count = usize::from(topology.shard_count);
        let mut known = alloc::vec![0; count];
        // This shard knows its own subscriptions at once.
        known[usize::from(topology.own)] = u64::MAX;
        let mut keys = Vec::new();
        keys.resize_with(count, Vec::new);
        Self {
            placement,
            outbound: Outbound::new(topology.shard_count),
            exact: ExactInterests::default(),
            groups: SharedGroups::default(),
            announced: 0,
            known,
            seen: alloc::vec![0; count],
            page_requests: VecDeque::new(),
            early_page_requests: Vec::new(),
            watermarks: Watermarks::new(topology.own, count),
            open_request_count: alloc::vec![0; count],
            keys,
        }
    }

    pub(crate) fn alone() -> Self {
        Self::new(Topology { own: 0, shard_count: 1, key: Entropy(0) })
    }

    /// How many of our announcements every other shard has taken in.
    pub(crate) fn known_by_all(&self) -> u64 {
        self.known.iter().copied().min().unwrap_or(u64::MAX)
    }

    /// Says something to another shard. A payload that is `shared` is not copied.
    pub(crate) fn send(&mut self, target: u16, message: &ShardMessage<'_>, shared: Option<&Bytes>) {
        let (lane, bytes_max) = (message.lane(), message.bytes_max());
        self.outbound.push(target, lane, bytes_max, shared, |out| message.encode(out, shared.is_some()));
    }

    /// Questions of `source` that are not answered.
    fn open_page_requests(&self, source: u16) -> usize {
        let open = self.page_requests.iter().chain(&self.early_page_requests);
        open.filter(|(asking, _)| *asking == source).count()
    }

    /// Tells every other shard.
    fn announce(&mut self, message: &ShardMessage<'_>) {
        self.announced += 1;
        for target in self.placement.others() {
            self.send(target, message, None);
        }
    }
}

impl Engine {
    /// Makes this shard one of several. To be called before anything else.
    ///
    /// # Panics
    /// If the topology contradicts itself or the engine has seen something already.
    #[must_use]
    pub fn in_mesh(mut self, topology: Topology) -> Self {
        assert!(self.delivery.connections.len() == 0 && self.delivery.sessions.len() == 0);
        self.mesh = Mesh::new(topology);
        if self.mesh.placement.is_meshed() {
            self.tree.watch_changes(self.mesh.placement);
        }
        self
    }

    /// Gives up a connection whose [`Action::HandOver`] was asked for, and returns the bytes of its CONNECT,
    /// which the other shard receives first. Its identity ends here; `None` if it has ended already.
    pub fn complete_hand_over(&mut self, id: ConnectionId) -> Option<Vec<u8>> {
        let at = self.pending_hand_overs.iter().position(|(handing_over, _)| *handing_over == id)?;
        let (_, bytes) = self.pending_hand_overs.swap_remove(at);
        let connection = self.delivery.connections.remove(id.0)?;
        if let Some(timer) = connection.timer {
            self.wheel.cancel(timer);
        }
        let counters = &mut self.delivery.counters;
        counters.handed_over += 1;
        // The other shard counts the connection and its CONNECT once more.
        counters.connections_accepted -= 1;
        counters.packets_received -= 1;
        counters.bytes_received -= bytes.len() as u64;
        Some(bytes)
    }

    /// The session of this CONNECT lives elsewhere. Nothing was sent and nothing promised, so the other
    /// shard may begin from the same bytes.
    pub(crate) fn hand_over(&mut self, id: ConnectionId, home: u16, frame: Frame<'_>, actions: &mut Actions) {
        let mut bytes = Vec::with_capacity(frame.packet_bytes());
        frame.write_to(&mut bytes);
        self.connection(id).phase = Phase::HandingOver;
        self.pending_hand_overs.push((id, bytes));
        actions.push(Action::HandOver { connection: id, home });
    }

    /// Whether every other shard knows everything that this one announced. At start, connections are
    /// accepted once all shards are settled, so that no restored subscription misses a message.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.mesh.announced <= self.mesh.known_by_all()
    }

    /// Whether nothing is on its way from here to other shards. While all shards are quiet and all lanes are
    /// empty, everything that crossed has arrived.
    #[must_use]
    pub fn is_outbound_empty(&self) -> bool {
        self.mesh.outbound.waiting_count() == 0
            && self.mesh.page_requests.is_empty()
            && self.reassignments.is_empty()
    }

    /// The next outbound for a lane, which has room for it; the host pushes it and rings. Taking items may
    /// give connections credit again, so `actions` are to be carried out afterwards.
    pub fn take_outbound(
        &mut self,
        now: Instant,
        target: u16,
        lane: LaneKind,
        actions: &mut Actions,
    ) -> Option<OutboundItem> {
        let outbound = self.mesh.outbound.take(target, lane);
        if outbound.is_some() {
            self.resume_starved(now, actions);
        }
        outbound
    }

    /// Takes an empty block back, for the next outbound.
    pub fn recycle(&mut self, block: Vec<u8>) {
        self.mesh.outbound.recycle(block);
    }

    /// Announcements of `source` taken in so far: the host publishes the number towards it.
    #[must_use]
    pub fn announcements_seen(&self, source: u16) -> u64 {
        self.mesh.seen[usize::from(source)]
    }

    pub(crate) fn on_announced(&mut self, now: Instant, target: u16, count: u64, actions: &mut Actions) {
        let known = &mut self.mesh.known[usize::from(target)];
        assert!(count >= *known && count <= self.mesh.announced);
        *known = count;
        self.on_interest_acknowledged(now, actions);
    }

    /// Announces what changed in the tree since the last call.
    pub(crate) fn announce_changes(&mut self) {
        if !self.mesh.placement.is_meshed() {
            return;
        }
        while let Some(change) = self.tree.next_change() {
            match change {
                Change::Interest { filter, wanted } => {
                    let name = self.filter_name(&filter);
                    self.mesh.announce(&ShardMessage::Interest(name, wanted));
                }
                Change::Group { filter, key } => {
                    let group = self.tree.group_by_key(key);
                    let (online_count, persistent_count) =
                        group.map_or((0, 0), |group| self.count_members(group));
                    let filter = self.filter_name(&filter);
                    self.mesh.announce(&ShardMessage::Group { filter, key, online_count, persistent_count });
                }
            }
        }
    }

    fn filter_name<'a>(&self, filter: &'a str) -> RemoteFilter<'a> {
        if filter.contains(['+', '#']) {
            RemoteFilter::Wild(filter)
        } else {
            RemoteFilter::Exact(self.mesh.placement.fingerprint(filter))
        }
    }

    /// Sends a message to the shards that want it, and to the home of its topic if it is to be retained.
    /// `matched` are the filters of the tree that match, `fingerprint` the topic's. Returns to how many shards or members it went.
    pub(crate) fn forward(
        &mut self,
        now: Instant,
        matched: &[u32],
        fingerprint: u64,
        publisher: Option<NonZeroU64>,
        fan_out: &mut FanOut<'_>,
        actions: &mut Actions,
    ) -> u32 {
        let view = fan_out.view;
        let live = self.interested(fingerprint, matched).without(self.mesh.placement.own);
        let mut taken_count = live.len();
        if self.tree.has_groups() || self.mesh.groups.len() > 0 {
            for key in self.group_keys(fingerprint, matched) {
                taken_count += 1;
                self.choose_shard(now, key, fan_out, actions);
            }
        }
        if taken_count == 0 && !view.retain {
            return 0;
        }
        let own = self.mesh.placement.own;
        let home = view.retain.then(|| self.mesh.placement.home(fingerprint));
        let home = home.filter(|&home| home != own);
        let origin = Origin { shard: own, sequence: self.publish_sequence };
        if let Some(home) = home {
            self.mesh.watermarks.record_sent(home, origin);
        }
        let shared = fan_out.shared.clone();
        for target in self.mesh.placement.others() {
            let keys = core::mem::take(&mut self.mesh.keys[usize::from(target)]);
            let retains = home == Some(target);
            if live.contains(target) || retains || !keys.is_empty() {
                let forwarded_publish = ForwardedPublish {
                    deliver_here: live.contains(target),
                    retain_here: retains,
                    publisher,
                    groups: GroupKeys::from_bytes(&keys),
                    ..ForwardedPublish::of(view, origin)
                };
                self.mesh.send(target, &ShardMessage::Publish(forwarded_publish), shared.as_ref());
                self.delivery.counters.messages_forwarded += 1;
            }
            let slot = &mut self.mesh.keys[usize::from(target)];
            *slot = keys;
            slot.clear();
        }
        taken_count
    }

    fn interested(&self, fingerprint: u64, matched: &[u32]) -> ShardSet {
        let exact = self.mesh.exact.shards(fingerprint);
        matched
            .iter()
            .filter_map(|&filter| self.tree.interest(filter))
            .fold(exact, |shards, interest| shards.union(interest.shards))
    }

    /// Takes in one item of a lane. Always all of it: a shard drains its lanes whatever its own are like.
    pub(crate) fn on_inbox(
        &mut self,
        now: Instant,
        source: u16,
        item: InboundItem<'_>,
        actions: &mut Actions,
    ) {
        for (message, payload) in messages(item) {
            match ShardMessage::decode(message, payload) {
                ShardMessage::Publish(forwarded_publish) => {
                    self.on_forwarded(now, source, &forwarded_publish, payload, actions);
                }
                ShardMessage::Returned(forwarded_publish) => {
                    self.on_returned(now, source, &forwarded_publish, payload, actions);
                }
                ShardMessage::Interest(filter, wanted) => {
                    self.take_announcement(source);
                    self.change_interest(filter, |interest| {
                        let shards = interest.shards;
                        interest.shards = if wanted { shards.with(source) } else { shards.without(source) };
                    });
                }
                ShardMessage::Group { filter, key, online_count, persistent_count } => {
                    self.take_announcement(source);
                    let known = self.mesh.groups.set(key, source, online_count, persistent_count);
                    self.change_interest(filter, |interest| {
                        interest.groups.retain(|&other| other != key);
                        if known {
                            interest.groups.push(key);
                        }
                    });
                }
                ShardMessage::PageRequest { replay, filter, topic, is_seen, required } => {
                    let cursor = Cursor::from_topic(topic, is_seen);
                    let request = PageRequest::new(replay, filter, cursor, required.iter().collect());
                    // What the answers add to our lane is bounded because the questions are.
                    assert!(self.mesh.open_page_requests(source) < REQUESTS_MAX as usize);
                    if request.is_ready(&self.mesh.watermarks) {
                        self.mesh.page_requests.push_back((source, request));
                    } else {
                        self.mesh.early_page_requests.push((source, request));
                    }
                }
                ShardMessage::Watermarks(seen, updates) => {
                    for sent in updates.iter() {
                        let update = Origin { shard: source, sequence: sent.sequence };
                        self.mesh.watermarks.require(sent.shard, update);
                    }
                    self.mesh.watermarks.acknowledge(source, seen);
                    self.unblock_replays();
                }
                ShardMessage::Retained(replay, forwarded_publish) => {
                    self.on_retained(now, replay, &forwarded_publish, payload, actions);
                }
                ShardMessage::PageEnd(replay, cursor) => self.on_page_end(source, replay, cursor),
            }
        }
    }

    /// Counts an announcement: its shard is told, too, which retained updates it was not sent live.
    fn take_announcement(&mut self, source: u16) {
        self.mesh.seen[usize::from(source)] += 1;
        self.mesh.watermarks.pending = self.mesh.watermarks.pending.with(source);
    }

    /// Reports to the shards that announced something what was sent to the homes of topics until then.
    pub(crate) fn report_watermarks(&mut self) {
        for target in core::mem::take(&mut self.mesh.watermarks.pending).iter() {
            let seen = self.mesh.seen[usize::from(target)];
            let updates = self.mesh.watermarks.report(target);
            let message = ShardMessage::Watermarks(seen, Origins::List(&updates));
            self.mesh.send(target, &message, None);
        }
    }

    fn change_interest(&mut self, filter: RemoteFilter<'_>, change: impl FnOnce(&mut Interest)) {
        match filter {
            RemoteFilter::Exact(fingerprint) => self.mesh.exact.change(fingerprint, change),
            RemoteFilter::Wild(text) => {
                let filter = TopicFilter::parse_unshared(text).expect("another shard parsed it");
                self.tree.change_interest(&filter, change);
            }
        }
    }

    /// A message of another shard's publisher.
    fn on_forwarded(
        &mut self,
        now: Instant,
        from: u16,
        forwarded_publish: &ForwardedPublish<'_>,
        payload: Option<&Bytes>,
        actions: &mut Actions,
    ) {
        let view = forwarded_publish.view;
        self.publish_sequence += 1;
        let live = LiveOrigin { at: self.publish_sequence, origin: forwarded_publish.origin };
        let live = (!forwarded_publish.origin.is_past()).then_some(live);
        let mut fan_out = self.delivery.fan_out_attached(view, payload, live);
        let mut filters = core::mem::take(&mut self.scratch.filters);
        let fingerprint = self.tree.matches(view.topic, &mut filters);
        // A message to be stored only may still find a subscriber: one that came after it was sent.
        if forwarded_publish.deliver_here || forwarded_publish.retain_here {
            self.offer_to_members(now, &filters, None, &mut fan_out, actions);
        }
        if forwarded_publish.deliver_here && fan_out.offered_count == 0 {
            self.delivery.counters.forwarded_unmatched += 1;
        }
        self.deliver_to_groups(now, from, forwarded_publish, &mut fan_out, actions);
        if forwarded_publish.retain_here {
            self.mesh.watermarks.apply(forwarded_publish.origin);
            let watermarks = &self.mesh.watermarks;
            let timely =
                self.mesh.early_page_requests.extract_if(.., |(_, request)| request.is_ready(watermarks));
            self.mesh.page_requests.extend(timely);
            // Its publisher was told that it is taken, so what has no room is at least counted.
            if self.is_retained_store_full(&view) {
                self.delivery.counters.retained_refused += 1;
            } else {
                self.retain(&mut fan_out, forwarded_publish.publisher, forwarded_publish.origin);
            }
        } else if view.retain {
            // Its home takes it from its publisher's shard, unless that is the home itself.
            let home = self.mesh.placement.home(fingerprint);
            if home != from {
                self.mesh.watermarks.require(home, forwarded_publish.origin);
            }
        }
        filters.clear();
        self.scratch.filters = filters;
        self.delivery.finish(&fan_out);
    }
}
