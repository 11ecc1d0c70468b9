//! A host for one engine: virtual time, sockets that accept as much as a test allows, a journal that answers at once or on request.
//! After every step it checks the ledgers. The tests alone have expectations about the protocol.

use core::num::NonZeroU32;
use std::collections::{BTreeMap, VecDeque};

use engine::{
    Action, Actions, Admission, Arrival, Batch, ClosedBy, ConnectionId, Consumed, Engine, Entropy, Event,
    Instant, LaneKind, Lend, Limits, Notice, OutboundItem,
};
use wire::{Assembler, Packet, ProtocolVersion};

use crate::client::{Client, Got, Hello};
use crate::log::Log;

/// Messages up to which a shard is audited in whole after every step.
const AUDITED_MESSAGES_MAX: u32 = 64;
/// Subscriptions up to which a shard is audited in whole after every step.
const AUDITED_SUBSCRIPTIONS_MAX: usize = 100;
/// Units of work of the largest piece of a step that is not cut: an item of a lane.
const PIECE_WORK_MAX: u32 = 100_000;
/// Virtual time at which every shard starts. It is not 0, so that a value relative to the origin is noticed.
const START_MS: u64 = 1_000_000;
/// Longer than every expiry interval of these tests. Sessions that never expire are ended by a clean start.
const AGES_MS: u64 = 1_000_000_000;

/// Actions and ticks that one event may cause.
const ACTIONS_MAX: usize = 200_000;

/// How a peer's socket takes what is sent to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    /// Bytes accepted by one send.
    pub(crate) piece_bytes: usize,
    /// Bytes accepted before it stalls.
    pub(crate) budget_bytes: usize,
}

impl Drain {
    pub(crate) const ALL: Self = Self { piece_bytes: usize::MAX, budget_bytes: usize::MAX };
    pub(crate) const STALLED: Self = Self { piece_bytes: usize::MAX, budget_bytes: 0 };
}

/// One socket, as its host sees it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
struct Line {
    id: ConnectionId,
    version: ProtocolVersion,
    drain: Drain,
    /// The bytes that the engine did not consume yet.
    unconsumed: Vec<u8>,
    /// The bytes that the host has not received from the socket.
    unread: Vec<u8>,
    /// The engine has to send `Resume` before more is offered.
    paused: bool,
    /// `Flush` came, and neither `Idle` nor `Close` was returned since.
    flushing: bool,
    closed: bool,
    /// The engine allows the host to close it at once.
    may_close_at_once: bool,
    assembler: Assembler,
    inbox: VecDeque<Got>,
}

/// The engine and its host.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) engine: Engine,
    now_ms: u64,
    actions: Actions,
    todo: VecDeque<Action>,
    lines: Vec<Line>,
    by_connection: BTreeMap<(u32, u32), usize>,
    /// `Persist` is answered at once; otherwise [`Shard::durable`] answers it.
    pub(crate) durable_at_once: bool,
    persisting: VecDeque<Batch>,
    /// `Tick` comes by itself as soon as it is due.
    pub(crate) ticks: bool,
    /// Steps of authentication that the test has to judge.
    pub(crate) asked: VecDeque<(ConnectionId, u64)>,
    /// Connections whose hand-over was asked for, each with the shard of its session.
    pub(crate) hand_overs: VecDeque<(ConnectionId, u16)>,
    /// Looks at sockets that were asked for.
    pub(crate) peek_count: u64,
    /// Every notice of the engine.
    pub(crate) notices: Vec<Notice>,
    /// The reason string of each acknowledgement that came, of all clients.
    pub(crate) reason_strings: Vec<Option<String>>,
    next_packet_id: u16,
    /// Units of work that no step may exceed.
    pub(crate) work_max: u32,
    pub(crate) log: Log,
}

/// Runs a test on a fresh shard and checks at its end that nothing is left behind.
pub(crate) fn run(limits: Limits, test: impl FnOnce(&mut Shard)) {
    let mut shard = Shard::new(limits, 7);
    test(&mut shard);
    if crate::LOGGED {
        shard.check_log();
    }
    shard.finish();
}

/// [`run`] without a log in every case: the test connects clients of persistent sessions while nothing becomes durable.
pub(crate) fn run_unlogged(limits: Limits, test: impl FnOnce(&mut Shard)) {
    let mut shard = Shard::with_log(limits, 7, false);
    test(&mut shard);
    shard.finish();
}

impl Shard {
    pub(crate) fn new(limits: Limits, seed: u64) -> Self {
        Self::with_log(limits, seed, crate::LOGGED)
    }

    pub(crate) fn with_log(limits: Limits, seed: u64, is_logged: bool) -> Self {
        let mut limits = Limits { connection_notices: true, ..limits };
        if is_logged && limits.journal_start.is_none() {
            limits.journal_start = Some(NonZeroU32::MIN);
        }
        Self {
            log: Log::new(&limits, seed),
            work_max: limits.step_work_max + PIECE_WORK_MAX,
            engine: Engine::new(limits, Entropy(u128::from(seed)), Instant::from_ms(START_MS)),
            now_ms: START_MS,
            actions: Actions::new(),
            todo: VecDeque::new(),
            lines: Vec::new(),
            by_connection: BTreeMap::new(),
            durable_at_once: true,
            persisting: VecDeque::new(),
            ticks: true,
            asked: VecDeque::new(),
            hand_overs: VecDeque::new(),
            peek_count: 0,
            notices: Vec::new(),
            reason_strings: Vec::new(),
            next_packet_id: 1,
        }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_ms(self.now_ms)
    }

    /// A Packet Identifier that was not used recently.
    pub(crate) fn packet_id(&mut self) -> u16 {
        self.next_packet_id = self.next_packet_id % 60_000 + 1;
        self.next_packet_id
    }

    /// A socket without a CONNECT.
    pub(crate) fn open(&mut self, version: ProtocolVersion, admission: Admission) -> Client {
        self.open_on(0, version, admission)
    }

    /// A socket that a listener accepted, without a CONNECT.
    pub(crate) fn open_on(
        &mut self,
        listener: u16,
        version: ProtocolVersion,
        admission: Admission,
    ) -> Client {
        let arrival = Arrival::new(self.lines.len() as u64);
        let id = self.engine.accept(self.now(), admission, arrival, listener);
        let line = Line {
            id,
            version,
            drain: Drain::ALL,
            unconsumed: Vec::new(),
            unread: Vec::new(),
            paused: false,
            flushing: false,
            closed: false,
            may_close_at_once: false,
            assembler: Assembler::new(),
            inbox: VecDeque::new(),
        };
        self.lines.push(line);
        let line = self.lines.len() - 1;
        assert_eq!(
            self.by_connection.insert((id.slot(), id.generation()), line),
            None,
            "an identity is used once at a time"
        );
        Client { line, version }
    }

    /// A socket on which CONNECT was sent.
    pub(crate) fn dial(&mut self, hello: &Hello<'_>) -> Client {
        let client = self.open(hello.connect.version, Admission::Serve);
        self.send(client, &Packet::Connect(hello.connect));
        client
    }

    /// A socket that a listener accepted, on which CONNECT was sent.
    pub(crate) fn dial_on(&mut self, listener: u16, hello: &Hello<'_>) -> Client {
        let client = self.open_on(listener, hello.connect.version, Admission::Serve);
        self.send(client, &Packet::Connect(hello.connect));
        client
    }

    /// A connection whose CONNACK has success, and whether a session was present.
    pub(crate) fn connect_present(&mut self, hello: &Hello<'_>) -> (Client, bool) {
        let client = self.dial(hello);
        match self.next(client) {
            Some(Got::ConnAck { present, reason: 0, .. }) => (client, present),
            other => panic!("no CONNACK but {other:?}"),
        }
    }

    pub(crate) fn connect(&mut self, hello: &Hello<'_>) -> Client {
        self.connect_present(hello).0
    }

    /// The engine's identity of a connection.
    pub(crate) fn id(&self, client: Client) -> ConnectionId {
        self.lines[client.line].id
    }

    pub(crate) fn send(&mut self, client: Client, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(client.version, &mut bytes);
        self.send_bytes(client, &bytes);
    }

    pub(crate) fn send_bytes(&mut self, client: Client, bytes: &[u8]) {
        let line = &mut self.lines[client.line];
        if line.closed {
            return;
        }
        line.unconsumed.extend_from_slice(bytes);
        if !line.paused {
            self.offer(client.line);
        }
        self.settle();
    }

    /// Bytes of a client come that the host does not receive until [`Shard::read`].
    pub(crate) fn arrive_unread(&mut self, client: Client, bytes: &[u8]) {
        self.lines[client.line].unread.extend_from_slice(bytes);
    }

    /// Receives the bytes that wait in the socket of a client.
    pub(crate) fn read(&mut self, client: Client) {
        let bytes = core::mem::take(&mut self.lines[client.line].unread);
        self.send_bytes(client, &bytes);
    }

    /// The host notices that it was paused.
    pub(crate) fn pause(&mut self, was_suspended: bool) {
        self.step(Event::Paused { was_suspended });
        self.settle();
    }

    /// The host has received what came during a pause.
    pub(crate) fn catch_up(&mut self) {
        self.step(Event::CaughtUp);
        self.settle();
    }

    /// Whether the engine allows the host to close a client's connection at once.
    pub(crate) fn may_close_at_once(&self, client: Client) -> bool {
        self.lines[client.line].may_close_at_once
    }

    /// Bytes of a client that the engine has not consumed.
    pub(crate) fn unconsumed_bytes(&self, client: Client) -> usize {
        self.lines[client.line].unconsumed.len()
    }

    /// The next packet a client was sent.
    pub(crate) fn next(&mut self, client: Client) -> Option<Got> {
        self.lines[client.line].inbox.pop_front()
    }

    /// All packets a client was sent.
    pub(crate) fn take(&mut self, client: Client) -> Vec<Got> {
        self.lines[client.line].inbox.drain(..).collect()
    }

    /// Takes out the first packet that `wanted` accepts; packets before it stay.
    pub(crate) fn find<T>(&mut self, client: Client, wanted: impl Fn(&Got) -> Option<T>) -> Option<T> {
        let inbox = &mut self.lines[client.line].inbox;
        let (at, found) = inbox.iter().enumerate().find_map(|(at, got)| Some((at, wanted(got)?)))?;
        inbox.remove(at);
        Some(found)
    }

    /// Whether the host has closed the socket, or the peer did.
    pub(crate) fn is_closed(&self, client: Client) -> bool {
        self.lines[client.line].closed
    }

    /// Changes how a peer reads, and sends the waiting bytes as far as that allows.
    pub(crate) fn drain(&mut self, client: Client, drain: Drain) {
        self.lines[client.line].drain = drain;
        if self.lines[client.line].flushing {
            self.flush(client.line);
        }
        self.settle();
    }

    /// The peer closes without DISCONNECT.
    pub(crate) fn hang_up(&mut self, client: Client) {
        self.lose(client, ClosedBy::Peer);
    }

    /// The network connection of a client ends.
    pub(crate) fn lose(&mut self, client: Client, by: ClosedBy) {
        self.close_line(client.line, by);
        self.settle();
    }

    /// Takes a client's connection for another shard: the bytes of its CONNECT, or `None` if it has ended.
    pub(crate) fn complete_hand_over(&mut self, client: Client) -> Option<Vec<u8>> {
        let id = self.lines[client.line].id;
        let bytes = self.engine.complete_hand_over(id)?;
        self.lines[client.line].closed = true;
        self.by_connection.remove(&(id.slot(), id.generation()));
        Some(bytes)
    }

    /// Every peer closes without DISCONNECT.
    pub(crate) fn hang_up_all(&mut self) {
        for line in 0..self.lines.len() {
            self.close_line(line, ClosedBy::Peer);
            self.settle();
        }
    }

    /// Answers every `Persist` asked for so far.
    pub(crate) fn durable(&mut self) {
        let last = self.persisting.drain(..).next_back();
        if let Some(batch) = last {
            self.step(Event::durable(batch));
        }
        self.settle();
    }

    /// Answers the oldest `Persist` alone; whether there was one.
    pub(crate) fn durable_oldest(&mut self) -> bool {
        let Some(batch) = self.persisting.pop_front() else { return false };
        self.step(Event::durable(batch));
        self.settle();
        true
    }

    pub(crate) fn tick(&mut self) {
        self.step(Event::Tick);
        self.settle();
    }

    pub(crate) fn stop(&mut self) {
        self.step(Event::Stop);
        self.settle();
    }

    /// An event that no method of the host sends, such as one with a stale identity.
    pub(crate) fn raw_step(&mut self, event: Event<'_>) -> usize {
        let consumed = self.step(event);
        self.settle();
        consumed
    }

    /// The next item for another shard.
    pub(crate) fn take_outbound(&mut self, target: u16, lane: LaneKind) -> Option<OutboundItem> {
        let outbound = self.engine.take_outbound(self.now(), target, lane, &mut self.actions);
        self.gather();
        self.settle();
        outbound
    }

    /// Lets time pass and nothing else.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    /// Lets time pass, with every tick that is due on the way.
    pub(crate) fn advance_ms(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while let Some(due) = self.engine.next_deadline().filter(|due| due.as_ms() <= end_ms) {
            self.now_ms = self.now_ms.max(due.as_ms());
            self.tick();
        }
        self.now_ms = end_ms;
    }

    /// Asserts that the ledger of every session balances.
    pub(crate) fn check_ledgers(&self) {
        // The whole audit walks every message and every filter: it is for shards that hold few.
        let few = self.engine.store().0 <= AUDITED_MESSAGES_MAX
            && self.engine.subscription_count() <= AUDITED_SUBSCRIPTIONS_MAX;
        let sessions = if few { self.engine.audit().sessions } else { self.engine.ledgers() };
        for session in sessions {
            assert!(session.balances(), "{session:?}");
        }
    }

    /// Ends everything and checks that nothing is left.
    pub(crate) fn finish(&mut self) {
        self.ticks = true;
        self.durable_at_once = true;
        self.durable();
        self.hang_up_all();
        self.forget_retained();
        self.advance_ms(AGES_MS);
        for session in self.engine.audit().sessions {
            // A session that never expires ends by a clean start.
            let client = self.connect(&Hello::v5(&session.client_id));
            self.hang_up(client);
        }
        self.forget_retained();
        self.durable();
        let audit = self.engine.audit();
        assert_eq!(audit.sessions, [], "sessions");
        assert_eq!(
            (
                audit.messages,
                audit.reassignments,
                audit.timers,
                audit.pending_acks,
                audit.tree,
                audit.outbox_bytes
            ),
            (0, 0, 0, 0, (0, 0, 1), 0),
            "messages, reassignments, timers, pending acknowledgements, tree, outbox bytes"
        );
        let engine = &self.engine;
        assert_eq!((engine.connection_count(), engine.session_count()), (0, 0));
        assert_eq!((engine.subscription_count(), engine.retained_count()), (0, 0));
        assert_eq!((engine.store(), audit.owned_bytes), ((0, 0), 0));
        self.check_notices();
        let counters = engine.counters();
        assert_eq!(counters.matched, counters.delivered + counters.dropped_total(), "the totals balance");
    }

    /// Publishes an empty payload to every topic that retains a message.
    fn forget_retained(&mut self) {
        if self.engine.retained_count() == 0 {
            return;
        }
        let janitor = self.connect(&Hello::v5("janitor"));
        for filter in ["#", "$SYS/#"] {
            self.subscribe(janitor, filter, 0);
        }
        self.advance_ms(10);
        for got in self.take(janitor) {
            if let Got::Publish(message) = got {
                self.publish_retained(janitor, &message.topic, b"", 0);
            }
        }
        self.hang_up(janitor);
    }

    /// Takes the actions and notices of a call.
    fn gather(&mut self) {
        self.todo.extend(self.actions.drain());
        self.notices.extend(self.actions.drain_notices());
    }

    /// Every connection that has ended was noted and counted once, and so was every client that was let in.
    fn check_notices(&self) {
        let (mut connected, mut let_in, mut noted) = (0, 0, 0);
        for notice in &self.notices {
            match notice {
                Notice::Connected { .. } => connected += 1,
                Notice::Ended { was_let_in, .. } => {
                    let_in += u64::from(*was_let_in);
                    noted += 1;
                }
            }
        }
        assert_eq!(connected, let_in, "every client that was let in has ended");
        let counters = self.engine.counters();
        assert_eq!(noted, counters.connections_accepted + counters.connections_refused);
        let (closed, refused) = (counters.closed.iter().sum::<u64>(), counters.refused.iter().sum::<u64>());
        assert_eq!((closed, closed + refused, counters.ended), (let_in, noted, noted));
    }

    pub(crate) fn step(&mut self, event: Event<'_>) -> usize {
        self.step_and_see(event).bytes
    }

    fn step_and_see(&mut self, event: Event<'_>) -> Consumed {
        if let Event::Durable { synced, .. } = event {
            self.log.set_synced(synced);
        }
        let consumed = self.engine.step(Instant::from_ms(self.now_ms), event, &mut self.actions);
        self.gather();
        self.check_work();
        self.check_ledgers();
        consumed
    }

    /// No step does more than its share of work, and one piece of it that cannot be cut.
    fn check_work(&self) {
        let work = self.engine.step_work();
        assert!(work <= self.work_max, "{work}");
    }

    fn offer(&mut self, line: usize) {
        let bytes = core::mem::take(&mut self.lines[line].unconsumed);
        let connection = self.lines[line].id;
        let consumed = self.step_and_see(Event::Received { connection, bytes: &bytes });
        let number = line;
        let line = &mut self.lines[number];
        line.unconsumed = bytes[consumed.bytes..].to_vec();
        line.paused = consumed.bytes < bytes.len();
        line.may_close_at_once = consumed.may_close_at_once;
        if consumed.may_close_at_once && number.is_multiple_of(2) {
            // A host may close at once or wait for the peer: every second connection is closed here.
            self.close_line(number, ClosedBy::Peer);
        }
    }

    /// Carries out actions until there are none, and ticks that are due.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ACTIONS_MAX {
            if let Some(action) = self.todo.pop_front() {
                self.carry_out(action);
                continue;
            }
            if self.take_records() {
                continue;
            }
            let due = self.engine.next_deadline().is_some_and(|due| due <= self.now());
            if !(self.ticks && due) {
                return;
            }
            self.step(Event::Tick);
        }
        panic!("it never rests");
    }

    /// Appends what the engine has for its log. Whether it had anything.
    fn take_records(&mut self) -> bool {
        let Some(records) = self.engine.records() else { return false };
        let (batch, is_awaited) = (records.batch, records.is_awaited);
        self.log.append(records.bytes, batch);
        let now = Instant::from_ms(self.now_ms);
        self.log.take_slice(&self.engine, now);
        if self.durable_at_once && self.persisting.is_empty() {
            self.step(Event::durable(batch));
        } else if is_awaited {
            self.persisting.push_back(batch);
        }
        true
    }

    /// Recovers this shard from its log, from this record on, at the same moment, in the next start.
    pub(crate) fn recover(&mut self, from: u64, records: &[(u8, Vec<u8>)]) {
        for (position, (kind, body)) in (0..).zip(records).filter(|(position, _)| *position >= from) {
            let taken = self.engine.recover_at(position, *kind, body);
            taken.unwrap_or_else(|fault| panic!("{fault}"));
        }
        let now = self.now();
        self.engine.recovered(now, &mut self.actions);
        self.gather();
        self.settle();
        self.check_ledgers();
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Authenticate { connection, step } => self.asked.push_back((connection, step)),
            Action::HandOver { connection, home } => self.hand_overs.push_back((connection, home)),
            Action::Flush(id) => {
                if let Some(line) = self.line(id) {
                    assert!(!self.lines[line].flushing, "asked to flush once until served");
                    self.lines[line].flushing = true;
                    self.flush(line);
                }
            }
            Action::Resume(id) => {
                if let Some(line) = self.line(id) {
                    assert!(self.lines[line].paused, "resumed although it does not wait");
                    self.lines[line].paused = false;
                    self.offer(line);
                }
            }
            Action::Peek(id) => {
                self.peek_count += 1;
                let line = self.line(id).expect("a live connection is looked at");
                let has_bytes = !self.lines[line].unread.is_empty();
                self.step(Event::Peeked { connection: id, has_bytes });
            }
            Action::Abort(id) => {
                if let Some(line) = self.line(id) {
                    self.close_line(line, ClosedBy::Host);
                }
            }
            Action::Persist(batch) => {
                assert!(self.persisting.back().is_none_or(|last| *last < batch), "batches grow");
                if self.durable_at_once && self.persisting.is_empty() {
                    self.step(Event::durable(batch));
                } else {
                    self.persisting.push_back(batch);
                }
            }
        }
    }

    fn line(&self, id: ConnectionId) -> Option<usize> {
        self.by_connection.get(&(id.slot(), id.generation())).copied()
    }

    fn flush(&mut self, line: usize) {
        loop {
            let Line { id, drain, .. } = self.lines[line];
            match self.engine.lend(id) {
                Lend::Chunk(chunk) => {
                    let length = chunk.as_bytes().len();
                    let sent = length.min(drain.piece_bytes).min(drain.budget_bytes);
                    let taken = chunk.as_bytes()[..sent].to_vec();
                    let now = self.now();
                    self.engine.give_back(now, id, chunk, sent, &mut self.actions);
                    self.gather();
                    self.check_work();
                    self.check_ledgers();
                    if drain.budget_bytes != usize::MAX {
                        self.lines[line].drain.budget_bytes -= sent;
                    }
                    self.lines[line].arrive(&taken, &mut self.reason_strings);
                    if sent < length && self.lines[line].drain.budget_bytes == 0 {
                        return;
                    }
                }
                Lend::Idle => {
                    self.lines[line].flushing = false;
                    return;
                }
                Lend::Close => {
                    self.close_line(line, ClosedBy::Host);
                    return;
                }
            }
        }
    }

    fn close_line(&mut self, line: usize, by: ClosedBy) {
        if core::mem::replace(&mut self.lines[line].closed, true) {
            return;
        }
        let connection = self.lines[line].id;
        self.by_connection.remove(&(connection.slot(), connection.generation()));
        self.step(Event::Closed { connection, by });
    }
}

impl Line {
    /// Bytes reach the client, which must be able to read them.
    fn arrive(&mut self, mut bytes: &[u8], reason_strings: &mut Vec<Option<String>>) {
        let packets = self.assembler.next(&mut bytes, u32::MAX);
        let mut next = packets.expect("the engine frames its packets");
        while let Some(frame) = next {
            let bytes_on_the_wire = frame.packet_bytes();
            let packet =
                Packet::decode(self.version, frame).expect("the engine writes what a client can read");
            let acknowledgement = match &packet {
                Packet::PubAck(ack) | Packet::PubRec(ack) => Some(ack.properties),
                Packet::SubAck(suback) => Some(suback.properties),
                Packet::UnsubAck(unsuback) => Some(unsuback.properties),
                _ => None,
            };
            reason_strings
                .extend(acknowledgement.map(|properties| properties.reason_string.map(str::to_owned)));
            self.inbox.push_back(Got::of(&packet, bytes_on_the_wire));
            next = self.assembler.next(&mut bytes, u32::MAX).expect("the engine frames its packets");
        }
    }
}
