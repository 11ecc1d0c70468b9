//! The host of one engine. Its turn has the same steps as that of the real host.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;

use engine::{
    Action, Actions, Admission, Arrival, Batch, ClosedBy, ConnectionId, Engine, Entropy, Event, InboundItem,
    Instant, LaneKind, Lend, OutboundItem, SharedRules, Topology,
};

use crate::lanes::BOTH;
use crate::link::{ClientEnd, Served};
use crate::log::ShardLog;
use crate::verdicts::Question;
use crate::world::World;

/// Units of work of the largest piece that is not cut, in a world of so few sessions and topics: a page of retained messages.
const PIECE_WORK_MAX: u32 = 200;
/// Maximum bytes of one receive.
const RECEIVE_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) engine: Engine,
    /// Its log, if it has one, once it was recovered.
    pub(crate) log: Option<ShardLog>,
    actions: Actions,
    /// Batches being persisted, and when each is durable.
    pub(crate) persists: VecDeque<(u64, Batch)>,
    /// By shard: the count last reported by `Announced`.
    announced: Vec<u64>,
    /// Empty blocks to be returned.
    returns: Vec<Vec<u8>>,
    /// Links that the listener has not accepted.
    pub(crate) accepts: VecDeque<usize>,
    /// Links that other shards handed over, with the bytes read.
    pub(crate) arrivals: VecDeque<(usize, Vec<u8>)>,
    by_slot: BTreeMap<u32, usize>,
    /// When its last turn ended, in milliseconds; 0: it had none.
    pub(crate) turned_ms: u64,
    /// Clients that wait for their verdict.
    pub(crate) questions: Vec<Question>,
}

impl Shard {
    pub(crate) fn new(world_key: u64, own: u16, settings: &crate::Settings, now: Instant) -> Self {
        let start = settings.limits.journal_start.map_or(0, NonZeroU32::get);
        let entropy = Entropy(u128::from(world_key) << 64 | u128::from(start) << 16 | u128::from(own));
        let topology =
            Topology { own, shard_count: settings.shard_count, key: Entropy(u128::from(world_key)) };
        let mut engine = Engine::new(settings.limits.clone(), entropy, now).in_mesh(topology);
        engine.set_elsewhere(crate::settings::elsewhere(settings));
        Self {
            engine,
            log: None,
            actions: Actions::new(),
            persists: VecDeque::new(),
            announced: vec![0; usize::from(settings.shard_count)],
            returns: Vec::new(),
            accepts: VecDeque::new(),
            arrivals: VecDeque::new(),
            by_slot: BTreeMap::new(),
            turned_ms: 0,
            questions: Vec::new(),
        }
    }
}

impl World {
    /// One turn of a shard: receives everything that has arrived and sends everything that can leave.
    ///
    /// # Panics
    /// If the engine refers to a connection that is gone, or an assertion of the engine fails.
    pub fn turn(&mut self, shard: usize) {
        self.drain_lanes(shard);
        self.deliver_announced(shard);
        self.deliver_durable(shard);
        self.take_links(shard);
        self.deliver_verdicts(shard);
        self.receive_all(shard);
        let now = self.now();
        let due = self.shards[shard].engine.next_deadline().is_some_and(|deadline| deadline <= now);
        if due {
            self.step(shard, Event::Tick);
        }
        self.push_outbound(shard);
        self.serve_log(shard);
        self.flush_all(shard);
        self.serve_log(shard);
        self.checkpoint_slice(shard);
        self.shards[shard].turned_ms = self.now_ms;
    }

    /// Puts other rules about topics into force on one shard.
    pub fn change_rules(&mut self, shard: usize, rules: Option<&SharedRules>) {
        self.note("rules", [shard, 0, 0, 0]);
        self.step(shard, Event::Rules(rules));
    }

    pub(crate) fn step(&mut self, shard: usize, event: Event<'_>) -> usize {
        let now = self.now();
        let Shard { engine, actions, .. } = &mut self.shards[shard];
        let consumed = engine.step(now, event, actions).bytes;
        self.judge_work(shard);
        self.carry_out(shard);
        consumed
    }

    /// No step does more than its share of work, and one piece of it that cannot be cut.
    fn judge_work(&mut self, shard: usize) {
        let work = self.shards[shard].engine.step_work();
        let work_max = self.settings.limits.step_work_max * 2 + PIECE_WORK_MAX;
        if work > work_max {
            self.oracle.fail(format!("a step of shard {shard} did {work} units of work, not {work_max}"));
        }
    }

    fn drain_lanes(&mut self, shard: usize) {
        for block in std::mem::take(&mut self.shards[shard].returns) {
            self.shards[shard].engine.recycle(block);
        }
        let mut order: Vec<_> = (0..self.shards.len())
            .filter(|&source| source != shard)
            .flat_map(|source| BOTH.map(|lane| (source, lane)))
            .collect();
        if self.settings.random {
            self.schedule.shuffle(&mut order);
        }
        for (source, lane) in order {
            if self.held.contains(&(source, shard, lane)) {
                continue;
            }
            let mut count = self.lanes.len(source, shard, lane);
            // Items that other shards push during the drain are seen or not, lane by lane.
            if self.settings.random && count > 0 && self.schedule.percent(25) {
                count = self.schedule.index(count + 1);
            }
            for _ in 0..count {
                if lane == LaneKind::Data && !self.shards[shard].engine.takes_data() {
                    break;
                }
                let outbound = self.lanes.pop(source, shard, lane).expect("counted above");
                let (from, own) = (source as u64, shard as u64);
                self.trace.note(self.now_ms, "inbox", [own, from, lane as u64, item_bytes(&outbound)]);
                let id = u16::try_from(source).expect("a few shards");
                let item = match &outbound {
                    OutboundItem::Block(block) => InboundItem::Block(block),
                    OutboundItem::Oversized(large) => InboundItem::Oversized(large),
                };
                self.step(shard, Event::Inbox { source: id, item });
                if let OutboundItem::Block(block) = outbound {
                    self.shards[source].returns.push(block);
                }
            }
        }
        for source in 0..self.shards.len() {
            let id = u16::try_from(source).expect("a few shards");
            self.board[shard][source] = self.shards[shard].engine.announcements_seen(id);
        }
    }

    fn deliver_announced(&mut self, shard: usize) {
        for target in (0..self.shards.len()).filter(|&target| target != shard) {
            let count = self.board[target][shard];
            if self.shards[shard].announced[target] < count {
                self.shards[shard].announced[target] = count;
                self.trace.note(self.now_ms, "announced", [shard as u64, target as u64, count, 0]);
                let target = u16::try_from(target).expect("a few shards");
                self.step(shard, Event::Announced { target, count });
            }
        }
    }

    fn deliver_durable(&mut self, shard: usize) {
        let mut durable = None;
        while let Some((_, batch)) = self.shards[shard].persists.pop_front_if(|(due, _)| *due <= self.now_ms)
        {
            durable = Some(batch);
        }
        if let Some(batch) = durable {
            self.trace.note(self.now_ms, "durable", [shard as u64, batch.0, 0, 0]);
            self.step(shard, Event::durable(batch));
        }
    }

    fn take_links(&mut self, shard: usize) {
        while let Some((link, bytes)) = self.shards[shard].arrivals.pop_front() {
            self.accept(shard, link);
            self.links[link].unconsumed = bytes;
            self.receive(shard, link);
        }
        while let Some(link) = self.shards[shard].accepts.pop_front() {
            self.accept(shard, link);
        }
    }

    fn accept(&mut self, shard: usize, link: usize) {
        let now = self.now();
        let id = self.shards[shard].engine.accept(now, Admission::Serve, Arrival::new(link as u64), 0);
        self.trace.note(self.now_ms, "accept", [shard as u64, link as u64, u64::from(id.slot()), 0]);
        self.links[link].served = Served::By(shard, id);
        self.links[link].paused = false;
        let before = self.shards[shard].by_slot.insert(id.slot(), link);
        assert!(before.is_none(), "a slot has one tenant");
    }

    fn receive_all(&mut self, shard: usize) {
        let mut links: Vec<usize> = self.shards[shard].by_slot.values().copied().collect();
        if self.settings.random {
            self.schedule.shuffle(&mut links);
        }
        for link in links {
            self.receive(shard, link);
        }
    }

    /// At most one receive of a link, and its end after all bytes were consumed.
    fn receive(&mut self, shard: usize, at: usize) {
        let link = &mut self.links[at];
        let Served::By(by, connection) = link.served else { return };
        assert!(by == shard);
        if link.client_end == ClientEnd::Reset {
            self.end_link(shard, at, ClosedBy::Peer);
            return;
        }
        if link.paused {
            return;
        }
        let mut bytes = std::mem::take(&mut link.unconsumed);
        let room = RECEIVE_BYTES_MAX.saturating_sub(bytes.len()).min(link.inbound.len());
        let mut count = room;
        if self.settings.random && room > 0 {
            count = match self.network.below(4) {
                0 => 0,
                1 => self.network.index(room) + 1,
                _ => room,
            };
        }
        bytes.extend(link.inbound.drain(..count));
        if bytes.is_empty() {
            if link.client_end == ClientEnd::Finished && link.inbound.is_empty() {
                self.end_link(shard, at, ClosedBy::Peer);
            }
            return;
        }
        let now = self.now();
        let Shard { engine, actions, .. } = &mut self.shards[shard];
        let consumed = engine.step(now, Event::Received { connection, bytes: &bytes }, actions).bytes;
        self.judge_work(shard);
        let (offered, taken) = (bytes.len() as u64, consumed as u64);
        self.trace.note(self.now_ms, "receive", [shard as u64, at as u64, offered, taken]);
        bytes.drain(..consumed);
        let link = &mut self.links[at];
        link.paused = !bytes.is_empty();
        link.unconsumed = bytes;
        self.carry_out(shard);
    }

    /// The network connection is gone on the broker's side.
    fn end_link(&mut self, shard: usize, at: usize, by: ClosedBy) {
        let Served::By(_, connection) = self.links[at].served else { return };
        let numbers = [shard as u64, at as u64, u64::from(by == ClosedBy::Host), 0];
        self.links[at].gone_at = self.trace.note(self.now_ms, "closed", numbers);
        if let Some(client) = self.links[at].client {
            self.identities[client].detached_ms = self.now_ms;
        }
        self.links[at].served = Served::Gone;
        self.links[at].inbound.clear();
        self.links[at].unconsumed.clear();
        self.links[at].dirty = false;
        self.shards[shard].by_slot.remove(&connection.slot());
        self.step(shard, Event::Closed { connection, by });
    }

    pub(crate) fn link_of(&self, shard: usize, connection: ConnectionId) -> Option<usize> {
        let link = *self.shards[shard].by_slot.get(&connection.slot())?;
        (self.links[link].served == Served::By(shard, connection)).then_some(link)
    }

    /// Carries out the engine's actions.
    fn carry_out(&mut self, shard: usize) {
        let actions: Vec<Action> = self.shards[shard].actions.drain().collect();
        for action in actions {
            match action {
                Action::Flush(connection) => {
                    let link = self.link_of(shard, connection).expect("a live connection is flushed");
                    self.links[link].dirty = true;
                }
                Action::Resume(connection) => {
                    let link = self.link_of(shard, connection).expect("a live connection is resumed");
                    self.links[link].paused = false;
                }
                Action::Peek(connection) => {
                    let link = self.link_of(shard, connection).expect("a live connection is looked at");
                    let link = &self.links[link];
                    let has_ended = matches!(link.client_end, ClientEnd::Finished | ClientEnd::Reset);
                    let has_bytes = has_ended || !link.inbound.is_empty();
                    self.step(shard, Event::Peeked { connection, has_bytes });
                }
                Action::Abort(connection) => {
                    let link = self.link_of(shard, connection).expect("a live connection is aborted");
                    self.end_link(shard, link, ClosedBy::Host);
                }
                Action::Authenticate { connection, step } => self.ask(shard, connection, step),
                Action::HandOver { connection, home } => self.hand_over(shard, connection, home),
                Action::Persist(batch) => {
                    let delay_ms = self.schedule.below(self.settings.persist_ms_max + 1);
                    let before = self.shards[shard].persists.back().map_or(0, |(due, _)| *due);
                    let due = before.max(self.now_ms + delay_ms);
                    self.shards[shard].persists.push_back((due, batch));
                }
            }
        }
    }

    fn hand_over(&mut self, shard: usize, connection: ConnectionId, home: u16) {
        let Some(at) = self.link_of(shard, connection) else { return };
        let Some(mut bytes) = self.shards[shard].engine.complete_hand_over(connection) else { return };
        self.trace.note(self.now_ms, "hand over", [shard as u64, at as u64, u64::from(home), 0]);
        self.shards[shard].by_slot.remove(&connection.slot());
        let link = &mut self.links[at];
        bytes.append(&mut link.unconsumed);
        link.served = Served::Travelling;
        link.dirty = false;
        self.shards[usize::from(home)].arrivals.push_back((at, bytes));
    }

    fn push_outbound(&mut self, shard: usize) {
        let mut order: Vec<_> = (0..self.shards.len())
            .filter(|&target| target != shard)
            .flat_map(|target| BOTH.map(|lane| (target, lane)))
            .collect();
        if self.settings.random {
            self.schedule.shuffle(&mut order);
        }
        let now = self.now();
        for (target, lane) in order {
            let id = u16::try_from(target).expect("a few shards");
            while self.lanes.has_room(shard, target, lane) {
                let Shard { engine, actions, .. } = &mut self.shards[shard];
                let Some(outbound) = engine.take_outbound(now, id, lane, actions) else { break };
                let (from, to) = (shard as u64, target as u64);
                self.trace.note(self.now_ms, "push", [from, to, lane as u64, item_bytes(&outbound)]);
                self.lanes.push(shard, target, lane, outbound);
                self.carry_out(shard);
            }
        }
    }

    fn flush_all(&mut self, shard: usize) {
        let links: Vec<usize> = self.shards[shard].by_slot.values().copied().collect();
        for link in links {
            if self.links[link].dirty {
                self.flush(shard, link);
            }
        }
    }

    fn flush(&mut self, shard: usize, at: usize) {
        let Served::By(_, connection) = self.links[at].served else { return };
        loop {
            let link = &self.links[at];
            let room = self.settings.link_bytes_max.saturating_sub(link.outbound.len());
            if link.client_end == ClientEnd::Reset {
                self.end_link(shard, at, ClosedBy::Peer);
                return;
            }
            let chunk = match self.shards[shard].engine.lend(connection) {
                Lend::Chunk(chunk) => chunk,
                Lend::Idle => {
                    self.links[at].dirty = false;
                    return;
                }
                Lend::Close => {
                    self.end_link(shard, at, ClosedBy::Host);
                    return;
                }
            };
            let whole = chunk.as_bytes().len();
            let mut count = whole.min(room);
            if self.settings.random && count > 0 && self.network.percent(20) {
                count = self.network.index(count + 1);
            }
            self.judge_sent(at, &chunk.as_bytes()[..count]);
            self.links[at].outbound.extend(&chunk.as_bytes()[..count]);
            self.trace.note(self.now_ms, "send", [shard as u64, at as u64, whole as u64, count as u64]);
            let now = self.now();
            let Shard { engine, actions, .. } = &mut self.shards[shard];
            engine.give_back(now, connection, chunk, count, actions);
            self.judge_work(shard);
            self.carry_out(shard);
            if count < whole {
                return;
            }
        }
    }
}

fn item_bytes(outbound: &OutboundItem) -> u64 {
    match outbound {
        OutboundItem::Block(block) => block.len() as u64,
        OutboundItem::Oversized(_) => u64::MAX,
    }
}
