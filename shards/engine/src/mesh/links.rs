//! This shard among the others: what it announces, what it sends across, what it does with what arrives.
//! Knows no ring and no thread; the host moves parcels both ways.

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
use crate::mesh::message::{Crossing, FilterName, GroupKeys, Origins, Said};
use crate::mesh::outbound::{Inbound, Lane, Outbound, Parcel, messages};
use crate::mesh::topology::{Placement, ShardSet, Topology};
use crate::publish::fan_out::{Live, Source};
use crate::retained::replay::{ASKS_MAX, Ask};
use crate::retained::store::Cursor;
use crate::retained::watermarks::{Origin, Stores};
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
    pub(crate) asks: VecDeque<(u16, Ask)>,
    /// Those of them whose answer has to count updates that have not come yet.
    pub(crate) early_asks: Vec<(u16, Ask)>,
    /// By target: questions of ours that are open.
    pub(crate) asked_count: Vec<u32>,
    pub(crate) stores: Stores,
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
            asks: VecDeque::new(),
            early_asks: Vec::new(),
            stores: Stores::new(topology.own, count),
            asked_count: alloc::vec![0; count],
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
    pub(crate) fn say(&mut self, target: u16, said: &Said<'_>, shared: Option<&Bytes>) {
        let (lane, bytes_max) = (said.lane(), said.bytes_max());
        self.outbound.push(target, lane, bytes_max, shared, |out| said.encode(out, shared.is_some()));
    }

    /// Questions of `source` that are not answered.
    fn open_asks(&self, source: u16) -> usize {
        let open = self.asks.iter().chain(&self.early_asks);
        open.filter(|(asking, _)| *asking == source).count()
    }

    /// Tells every other shard.
    fn announce(&mut self, said: &Said<'_>) {
        self.announced += 1;
        for target in self.placement.others() {
            self.say(target, said, None);
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
    pub fn depart(&mut self, id: ConnectionId) -> Option<Vec<u8>> {
        let at = self.departures.iter().position(|(departing, _)| *departing == id)?;
        let (_, bytes) = self.departures.swap_remove(at);
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
        self.connection(id).phase = Phase::Departing;
        self.departures.push((id, bytes));
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
    pub fn has_nothing_to_say(&self) -> bool {
        self.mesh.outbound.waiting_count() == 0 && self.mesh.asks.is_empty() && self.moves.is_empty()
    }

    /// The next parcel for a lane, which has room for it; the host pushes it and rings. Taking parcels may
    /// give connections credit again, so `actions` are to be carried out afterwards.
    pub fn parcel(&mut self, now: Instant, target: u16, lane: Lane, actions: &mut Actions) -> Option<Parcel> {
        let parcel = self.mesh.outbound.take(target, lane);
        if parcel.is_some() {
            self.resume_starved(now, actions);
        }
        parcel
    }

    /// Takes an empty block back, for the next parcel.
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
        self.on_known(now, actions);
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
                    self.mesh.announce(&Said::Interest(name, wanted));
                }
                Change::Group { filter, key } => {
                    let group = self.tree.group_by_key(key);
                    let (online_count, keeper_count) =
                        group.map_or((0, 0), |group| self.count_members(group));
                    let filter = self.filter_name(&filter);
                    self.mesh.announce(&Said::Group { filter, key, online_count, keeper_count });
                }
            }
        }
    }

    fn filter_name<'a>(&self, filter: &'a str) -> FilterName<'a> {
        if filter.contains(['+', '#']) {
            FilterName::Wild(filter)
        } else {
            FilterName::Exact(self.mesh.placement.fingerprint(filter))
        }
    }

    /// Sends a message to the shards that want it, and to the home of its topic if it is to be retained.
    /// `matched` are the filters of the tree that match, `fingerprint` the topic's. Returns to how many shards or members it went.
    pub(crate) fn cross(
        &mut self,
        now: Instant,
        matched: &[u32],
        fingerprint: u64,
        publisher: Option<NonZeroU64>,
        source: &mut Source<'_>,
        actions: &mut Actions,
    ) -> u32 {
        let view = source.view;
        let live = self.interested(fingerprint, matched).without(self.mesh.placement.own);
        let mut taken_count = live.len();
        if self.tree.has_groups() || self.mesh.groups.len() > 0 {
            for key in self.group_keys(fingerprint, matched) {
                taken_count += 1;
                self.choose_shard(now, key, source, actions);
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
            self.mesh.stores.send(home, origin);
        }
        let shared = source.shared.clone();
        for target in self.mesh.placement.others() {
            let keys = core::mem::take(&mut self.mesh.keys[usize::from(target)]);
            let stores = home == Some(target);
            if live.contains(target) || stores || !keys.is_empty() {
                let crossing = Crossing {
                    live: live.contains(target),
                    store: stores,
                    publisher,
                    groups: GroupKeys::from_bytes(&keys),
                    ..Crossing::of(view, origin)
                };
                self.mesh.say(target, &Said::Publish(crossing), shared.as_ref());
                self.delivery.counters.messages_crossed += 1;
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
    pub(crate) fn on_inbox(&mut self, now: Instant, source: u16, item: Inbound<'_>, actions: &mut Actions) {
        for (message, payload) in messages(item) {
            match Said::decode(message, payload) {
                Said::Publish(crossing) => self.on_crossing(now, source, &crossing, payload, actions),
                Said::Bounce(crossing) => self.on_bounce(now, source, &crossing, payload, actions),
                Said::Interest(filter, wanted) => {
                    self.take_announcement(source);
                    self.change_interest(filter, |interest| {
                        let shards = interest.shards;
                        interest.shards = if wanted { shards.with(source) } else { shards.without(source) };
                    });
                }
                Said::Group { filter, key, online_count, keeper_count } => {
                    self.take_announcement(source);
                    let known = self.mesh.groups.set(key, source, online_count, keeper_count);
                    self.change_interest(filter, |interest| {
                        interest.groups.retain(|&other| other != key);
                        if known {
                            interest.groups.push(key);
                        }
                    });
                }
                Said::Ask { lookup, filter, topic, is_seen, due } => {
                    let cursor = Cursor::from_topic(topic, is_seen);
                    let ask = Ask::new(lookup, filter, cursor, due.iter().collect());
                    // What the answers add to our lane is bounded because the questions are.
                    assert!(self.mesh.open_asks(source) < ASKS_MAX as usize);
                    if ask.may_be_answered(&self.mesh.stores) {
                        self.mesh.asks.push_back((source, ask));
                    } else {
                        self.mesh.early_asks.push((source, ask));
                    }
                }
                Said::Stores(seen, updates) => {
                    for sent in updates.iter() {
                        let update = Origin { shard: source, sequence: sent.sequence };
                        self.mesh.stores.hear(sent.shard, update);
                    }
                    self.mesh.stores.hear_all(source, seen);
                    self.unblock_lookups();
                }
                Said::Retained(lookup, crossing) => {
                    self.on_retained(now, lookup, &crossing, payload, actions);
                }
                Said::SliceEnd(lookup, cursor) => self.on_slice_end(source, lookup, cursor),
            }
        }
    }

    /// Counts an announcement: its shard is told, too, which retained updates it was not sent live.
    fn take_announcement(&mut self, source: u16) {
        self.mesh.seen[usize::from(source)] += 1;
        self.mesh.stores.owed = self.mesh.stores.owed.with(source);
    }

    /// Reports to the shards that announced something what was sent to the homes of topics until then.
    pub(crate) fn report_stores(&mut self) {
        for target in core::mem::take(&mut self.mesh.stores.owed).iter() {
            let seen = self.mesh.seen[usize::from(target)];
            let updates = self.mesh.stores.report(target);
            let said = Said::Stores(seen, Origins::List(&updates));
            self.mesh.say(target, &said, None);
        }
    }

    fn change_interest(&mut self, filter: FilterName<'_>, change: impl FnOnce(&mut Interest)) {
        match filter {
            FilterName::Exact(fingerprint) => self.mesh.exact.change(fingerprint, change),
            FilterName::Wild(text) => {
                let filter = TopicFilter::parse_unshared(text).expect("another shard parsed it");
                self.tree.change_interest(&filter, change);
            }
        }
    }

    /// A message of another shard's publisher.
    fn on_crossing(
        &mut self,
        now: Instant,
        from: u16,
        crossing: &Crossing<'_>,
        payload: Option<&Bytes>,
        actions: &mut Actions,
    ) {
        let view = crossing.view;
        self.publish_sequence += 1;
        let live = Live { at: self.publish_sequence, origin: crossing.origin };
        let live = (!crossing.origin.is_past()).then_some(live);
        let mut source = self.delivery.source_beside(view, payload, live);
        let mut filters = core::mem::take(&mut self.scratch.filters);
        let fingerprint = self.tree.matches(view.topic, &mut filters);
        // A message to be stored only may still find a subscriber: one that came after it was sent.
        if crossing.live || crossing.store {
            self.offer_to_members(now, &filters, None, &mut source, actions);
        }
        if crossing.live && source.offered_count == 0 {
            self.delivery.counters.crossed_for_nothing += 1;
        }
        self.take_for_groups(now, from, crossing, &mut source, actions);
        if crossing.store {
            self.mesh.stores.take(crossing.origin);
            let stores = &self.mesh.stores;
            let timely = self.mesh.early_asks.extract_if(.., |(_, ask)| ask.may_be_answered(stores));
            self.mesh.asks.extend(timely);
            // Its publisher was told that it is taken, so what has no room is at least counted.
            if self.is_retained_store_full(&view) {
                self.delivery.counters.retained_refused += 1;
            } else {
                self.retain(&mut source, crossing.publisher, crossing.origin);
            }
        } else if view.retain {
            // Its home takes it from its publisher's shard, unless that is the home itself.
            let home = self.mesh.placement.home(fingerprint);
            if home != from {
                self.mesh.stores.hear(home, crossing.origin);
            }
        }
        filters.clear();
        self.scratch.filters = filters;
        self.delivery.finish(&source);
    }
}
