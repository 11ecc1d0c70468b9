//! Hosts of one or more engines in one thread, following the engine's contract: virtual time, sockets that accept as many
//! bytes as the input allows, a journal that answers on request, bounded lanes. Every step is followed by a check of the
//! session ledgers. Nothing here depends on a rule of the protocol except the ones that every client relies on.

use std::collections::{BTreeMap, VecDeque};

use engine::{
    Action, Actions, Admission, Arrival, Audit, Batch, ClosedBy, ConnectionId, Engine, Entropy, Event,
    InboundItem, Instant, LaneKind, Lend, Limits, OutboundItem, Topology,
};
use wire::{ProtocolVersion, ReasonCode};

use crate::peer::Peer;

const START_MS: u64 = 1_000_000;
/// Longer than every finite time-out.
const AGES_MS: u64 = 10_000_000;
/// Maximum rounds until everything is at rest.
const ROUNDS_MAX: usize = 2_000;

pub(crate) const LANES: [LaneKind; 2] = [LaneKind::Data, LaneKind::Control];

/// One socket with its two ends.
pub(crate) struct Line {
    /// The shard that serves it and its identifier there; `None` if it is closed or in transit between shards.
    served: Option<(usize, ConnectionId)>,
    pub(crate) peer: Peer,
    /// Sent by the peer and not consumed.
    pub(crate) inbound: Vec<u8>,
    /// It waits for `Resume`.
    paused: bool,
    /// `Flush` was requested and is not finished.
    flushing: bool,
    /// How many more bytes the socket accepts.
    pub(crate) budget_bytes: usize,
}

impl Line {
    pub(crate) fn is_open(&self) -> bool {
        self.served.is_some()
    }
}

pub(crate) struct Shard {
    pub(crate) engine: Engine,
    actions: Actions,
    todo: VecDeque<Action>,
    persisting: VecDeque<Batch>,
    last_batch: Option<Batch>,
    by_name: BTreeMap<(u32, u32), usize>,
    /// By shard: the count last reported by `Announced`.
    announced: Vec<u64>,
    idle_audit: Audit,
}

pub(crate) struct World {
    pub(crate) shards: Vec<Shard>,
    pub(crate) lines: Vec<Line>,
    lanes: BTreeMap<(usize, usize, usize), VecDeque<OutboundItem>>,
    lane_items_max: usize,
    now_ms: u64,
    /// A shard no longer accepts bytes of clients, so sessions that never expire cannot be ended.
    pub(crate) stopped: bool,
    /// An expired connection identifier, to be used once more.
    pub(crate) stale: Option<(usize, ConnectionId)>,
}

impl World {
    pub(crate) fn new(limits: &Limits, shard_count: usize, lane_items_max: usize) -> Self {
        let now = Instant::from_ms(START_MS);
        let shards = (0..shard_count).map(|own| {
            let engine = Engine::new(limits.clone(), Entropy(own as u128 + 7), now);
            let engine = if shard_count > 1 {
                let (own, shard_count) = (number(own), number(shard_count));
                engine.in_mesh(Topology { own, shard_count, key: Entropy(11) })
            } else {
                engine
            };
            Shard {
                idle_audit: engine.audit(),
                engine,
                actions: Actions::new(),
                todo: VecDeque::new(),
                persisting: VecDeque::new(),
                last_batch: None,
                by_name: BTreeMap::new(),
                announced: vec![0; shard_count],
            }
        });
        Self {
            shards: shards.collect(),
            lines: Vec::new(),
            lanes: BTreeMap::new(),
            lane_items_max,
            now_ms: START_MS,
            stopped: false,
            stale: None,
        }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_ms(self.now_ms)
    }

    /// Accepts a socket whose peer uses `version`.
    pub(crate) fn open(&mut self, shard: usize, version: ProtocolVersion, admission: Admission) -> usize {
        let line = self.lines.len();
        self.lines.push(Line {
            served: None,
            peer: Peer::new(version),
            inbound: Vec::new(),
            paused: false,
            flushing: false,
            budget_bytes: usize::MAX,
        });
        self.accept(shard, line, admission);
        line
    }

    fn accept(&mut self, shard: usize, line: usize, admission: Admission) {
        let now = self.now();
        // Some connections come to listeners with rates. That takes no choice, so that the inputs of the corpus mean what they meant.
        let listener = [0, 0, 0, 1, 0, 0, 0, 2][line % 8];
        let arrival = Arrival::new(line as u64);
        let id = self.shards[shard].engine.accept(now, admission, arrival, listener);
        self.lines[line].served = Some((shard, id));
        self.lines[line].paused = false;
        let before = self.shards[shard].by_name.insert((id.slot(), id.generation()), line);
        assert_eq!(before, None, "a connection identifier is used once");
    }

    /// The first `count` of the peer's bytes reach the engine.
    pub(crate) fn receive(&mut self, line: usize, count: usize) {
        let Some((shard, connection)) = self.lines[line].served else { return };
        if self.lines[line].paused || self.lines[line].inbound.is_empty() {
            return;
        }
        let mut bytes = std::mem::take(&mut self.lines[line].inbound);
        let offered = &bytes[..count.clamp(1, bytes.len())];
        let offered_bytes = offered.len();
        let consumed = self.step(shard, Event::Received { connection, bytes: offered });
        assert!(consumed <= offered_bytes);
        self.lines[line].paused = consumed < offered_bytes;
        bytes.drain(..consumed);
        // No step in between added bytes.
        self.lines[line].inbound = bytes;
        self.carry_out(shard);
    }

    /// The socket accepts the available bytes, in pieces, up to its budget.
    pub(crate) fn flush(&mut self, line: usize, piece_bytes: usize) {
        let Some((shard, id)) = self.lines[line].served else { return };
        if !self.lines[line].flushing {
            return;
        }
        loop {
            let now = self.now();
            let Shard { engine, actions, todo, .. } = &mut self.shards[shard];
            match engine.lend(id) {
                Lend::Chunk(chunk) => {
                    let whole = chunk.as_bytes().len();
                    let this = &mut self.lines[line];
                    let sent = whole.min(piece_bytes).min(this.budget_bytes);
                    this.budget_bytes -= if this.budget_bytes == usize::MAX { 0 } else { sent };
                    let taken = chunk.as_bytes()[..sent].to_vec();
                    engine.give_back(now, id, chunk, sent, actions);
                    todo.extend(actions.drain());
                    this.peer.arrive(&taken);
                    self.check_ledgers(shard);
                    if sent < whole {
                        break;
                    }
                }
                Lend::Idle => {
                    self.lines[line].flushing = false;
                    break;
                }
                Lend::Close => {
                    self.close(line, ClosedBy::Host);
                    break;
                }
            }
        }
        self.carry_out(shard);
    }

    pub(crate) fn is_served(&self, shard: usize, id: ConnectionId) -> bool {
        self.line(shard, id).is_some()
    }

    pub(crate) fn close(&mut self, line: usize, by: ClosedBy) {
        let Some((shard, connection)) = self.lines[line].served.take() else { return };
        self.shards[shard].by_name.remove(&(connection.slot(), connection.generation()));
        self.lines[line].inbound.clear();
        self.stale = Some((shard, connection));
        self.step(shard, Event::Closed { connection, by });
        self.carry_out(shard);
    }

    /// The operator disconnects a client, in any state.
    pub(crate) fn evict(&mut self, line: usize) {
        if let Some((shard, connection)) = self.lines[line].served {
            self.event(shard, Event::Disconnect { connection });
        }
    }

    /// Answers the oldest `Persist`, or all of them through the newest.
    pub(crate) fn durable(&mut self, shard: usize, all: bool) {
        let persisting = &mut self.shards[shard].persisting;
        let batch = if all { persisting.drain(..).next_back() } else { persisting.pop_front() };
        if let Some(batch) = batch {
            self.step(shard, Event::durable(batch));
            self.carry_out(shard);
        }
    }

    pub(crate) fn event(&mut self, shard: usize, event: Event<'_>) {
        self.step(shard, event);
        self.carry_out(shard);
    }

    /// Advances the time, with a tick of each shard at its deadlines on the way. The number of ticks is bounded.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        for _ in 0..ROUNDS_MAX {
            let due = |shard: &Shard| shard.engine.next_deadline().filter(|due| due.as_ms() <= end_ms);
            let Some(next) = self.shards.iter().filter_map(due).min() else { break };
            self.now_ms = self.now_ms.max(next.as_ms());
            for shard in 0..self.shards.len() {
                if self.shards[shard].engine.next_deadline().is_some_and(|due| due <= self.now()) {
                    self.event(shard, Event::Tick);
                }
            }
        }
        self.now_ms = end_ms;
    }

    /// Moves up to `count` items from an engine into a lane that has room.
    pub(crate) fn push(&mut self, source: usize, target: usize, lane: LaneKind, count: usize) {
        if source == target {
            return;
        }
        let now = self.now();
        for _ in 0..count {
            let queue = self.lanes.entry((source, target, lane as usize)).or_default();
            if queue.len() >= self.lane_items_max {
                break;
            }
            let Shard { engine, actions, todo, .. } = &mut self.shards[source];
            let Some(outbound) = engine.take_outbound(now, number(target), lane, actions) else { break };
            todo.extend(actions.drain());
            queue.push_back(outbound);
            self.carry_out(source);
        }
    }

    /// Moves up to `count` items out of a lane.
    pub(crate) fn pull(&mut self, source: usize, target: usize, lane: LaneKind, count: usize) {
        for _ in 0..count {
            let queue = self.lanes.entry((source, target, lane as usize)).or_default();
            let Some(outbound) = queue.pop_front() else { break };
            let item = match &outbound {
                OutboundItem::Block(block) => InboundItem::Block(block),
                OutboundItem::Oversized(large) => InboundItem::Oversized(large),
            };
            self.event(target, Event::Inbox { source: number(source), item });
            if let OutboundItem::Block(block) = outbound {
                self.shards[source].engine.recycle(block);
            }
        }
    }

    /// Tells `target` how many of its announcements the others have applied.
    pub(crate) fn announce(&mut self, target: usize) {
        for other in (0..self.shards.len()).filter(|&other| other != target) {
            let count = self.shards[other].engine.announcements_seen(number(target));
            if self.shards[target].announced[other] < count {
                self.shards[target].announced[other] = count;
                self.event(target, Event::Announced { target: number(other), count });
            }
        }
    }

    /// Moves everything that can move: lanes, journals, sockets, bytes of peers.
    pub(crate) fn turn(&mut self) {
        let count = self.shards.len();
        for shard in 0..count {
            self.durable(shard, true);
            for other in 0..count {
                for lane in LANES {
                    self.push(shard, other, lane, usize::MAX);
                    self.pull(shard, other, lane, usize::MAX);
                }
            }
            self.announce(shard);
        }
        for line in 0..self.lines.len() {
            self.receive(line, usize::MAX);
            self.flush(line, usize::MAX);
        }
    }

    fn step(&mut self, shard: usize, event: Event<'_>) -> usize {
        let now = self.now();
        let Shard { engine, actions, todo, .. } = &mut self.shards[shard];
        let consumed = engine.step(now, event, actions);
        todo.extend(actions.drain());
        self.check_ledgers(shard);
        consumed.bytes
    }

    fn check_ledgers(&self, shard: usize) {
        for session in self.shards[shard].engine.ledgers() {
            assert!(session.balances(), "{session:?}");
        }
    }

    fn carry_out(&mut self, shard: usize) {
        while let Some(action) = self.shards[shard].todo.pop_front() {
            match action {
                Action::Flush(id) => {
                    let line = self.line(shard, id).expect("a live connection is flushed");
                    let before = std::mem::replace(&mut self.lines[line].flushing, true);
                    assert!(!before, "a flush is requested once until it is finished");
                }
                Action::Resume(id) => {
                    let line = self.line(shard, id).expect("a live connection is resumed");
                    let before = std::mem::replace(&mut self.lines[line].paused, false);
                    assert!(before, "resumed without being paused");
                }
                Action::Peek(id) => {
                    let line = self.line(shard, id).expect("a live connection is looked at");
                    let has_bytes = !self.lines[line].inbound.is_empty();
                    self.step(shard, Event::Peeked { connection: id, has_bytes });
                }
                Action::Abort(id) => {
                    let line = self.line(shard, id).expect("a live connection is aborted");
                    self.close(line, ClosedBy::Host);
                }
                Action::HandOver { connection, home } => self.hand_over(shard, connection, home),
                Action::Authenticate { .. } => unreachable!("no method is configured"),
                Action::Persist(batch) => {
                    let Shard { last_batch, persisting, .. } = &mut self.shards[shard];
                    assert!(last_batch.is_none_or(|last| last < batch), "batches grow");
                    *last_batch = Some(batch);
                    persisting.push_back(batch);
                }
            }
        }
    }

    fn hand_over(&mut self, shard: usize, id: ConnectionId, home: u16) {
        let Some(line) = self.line(shard, id) else { return };
        let mut bytes = self.shards[shard].engine.complete_hand_over(id).expect("just requested");
        self.shards[shard].by_name.remove(&(id.slot(), id.generation()));
        let this = &mut self.lines[line];
        bytes.append(&mut this.inbound);
        this.inbound = bytes;
        assert!(!this.flushing, "nothing was sent on a connection that is handed over");
        self.accept(usize::from(home), line, Admission::Serve);
    }

    fn line(&self, shard: usize, id: ConnectionId) -> Option<usize> {
        self.shards[shard].by_name.get(&(id.slot(), id.generation())).copied()
    }

    /// All clients leave, everything finite ends, and nothing is left behind.
    pub(crate) fn finish(&mut self) {
        for line in 0..self.lines.len() {
            self.lines[line].budget_bytes = usize::MAX;
        }
        self.rest();
        for line in 0..self.lines.len() {
            self.close(line, ClosedBy::Peer);
        }
        self.rest();
        self.grow_old();
        let immortal: Vec<(usize, String)> = (self.shards.iter().enumerate())
            .flat_map(|(at, shard)| {
                shard.engine.audit().sessions.into_iter().map(move |left| (at, left.client_id))
            })
            .collect();
        if self.stopped {
            return;
        }
        // These sessions never expire, so a clean start ends them.
        for (shard, client_id) in immortal {
            let line = self.open(shard, ProtocolVersion::V5, Admission::Serve);
            self.lines[line].inbound = crate::peer::clean_start(&client_id);
            self.rest();
            let greeted = self.lines[line].peer.connected;
            assert_eq!(greeted, Some(ReasonCode::Success), "an existing client is always accepted");
            self.close(line, ClosedBy::Peer);
            self.rest();
        }
        self.grow_old();
        for shard in &self.shards {
            shard.check_idle();
        }
    }

    fn grow_old(&mut self) {
        for _ in 0..8 {
            self.pass(AGES_MS / 8);
            self.rest();
        }
    }

    /// Runs turns until nothing waits for a host.
    fn rest(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.turn();
            self.pass(0);
            let busy = |shard: &Shard| !shard.persisting.is_empty() || !shard.engine.is_outbound_empty();
            let lanes = self.lanes.values().any(|lane| !lane.is_empty());
            let unread = |line: &Line| line.is_open() && !line.inbound.is_empty() && !line.paused;
            let unsent = |line: &Line| line.is_open() && line.flushing;
            if !lanes
                && !self.shards.iter().any(busy)
                && !self.lines.iter().any(|line| unread(line) || unsent(line))
                && self.shards.iter().all(|shard| shard.engine.is_settled())
            {
                return;
            }
        }
        panic!("the world does not come to rest");
    }
}

impl Shard {
    fn check_idle(&self) {
        let Self { engine, idle_audit, .. } = self;
        let audit = engine.audit();
        let retained = engine.retained_count();
        assert_eq!(audit.sessions, [], "sessions");
        assert_eq!((engine.connection_count(), engine.session_count()), (0, 0));
        assert_eq!(engine.subscription_count(), 0);
        assert_eq!(
            (
                audit.pending_acks,
                audit.tree,
                audit.outbox_bytes,
                audit.waiting_outbound,
                audit.interests,
                audit.page_requests
            ),
            (
                idle_audit.pending_acks,
                idle_audit.tree,
                idle_audit.outbox_bytes,
                idle_audit.waiting_outbound,
                idle_audit.interests,
                idle_audit.page_requests
            ),
            "gated, tree, outbox bytes, items, interests, questions"
        );
        assert_eq!(audit.messages as usize, retained, "messages that are not retained");
        if retained == 0 {
            assert_eq!((audit.owned_bytes, audit.timers), (0, idle_audit.timers), "memory, timers");
        }
        let counters = engine.counters();
        assert_eq!(counters.matched, counters.delivered + counters.dropped_total(), "the totals balance");
    }
}

pub(crate) fn number(shard: usize) -> u16 {
    u16::try_from(shard).expect("a few shards")
}
