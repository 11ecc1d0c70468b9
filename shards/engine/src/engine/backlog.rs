//! Work that outlives its step: what a step began and had no time to end.
//!
//! Invariants worth naming:
//! - While it holds anything, [`Event::Tick`](crate::Event::Tick) is due, and each tick gives it a share of work. So all of it ends.
//! - A session that has ended waits here once, until its last message and subscription are given up.
//! - A SUBSCRIBE or UNSUBSCRIBE waits here while its connection is held, so there is one of a connection at most. Its filters are done in
//!   order, and its acknowledgement leaves after the last one. Subscriptions that it has made stay if the connection ends before.
//! - After a fan-out nobody begins another before sessions that ended and packets had a whole tick, and then the other side, clients
//!   or lanes, comes first. So neither keeps the other waiting, nor both the rest.
//! - A session that came or went with many shared subscriptions waits here until other shards were told about each of its groups. Here
//!   all of them count it at once.
//! - Messages for which no client waits, and items of data lanes, are fanned out in the order in which they came.
//! - While many sessions wait here that have ended, no SUBSCRIBE is taken, so that clients cannot subscribe faster than the broker
//!   forgets.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::Rooms;
use super::fan_out::{Publisher, Source};
use super::long_packet::LongPacket;
use crate::base::heap;
use crate::base::ids::{MessageKey, SessionId};
use crate::base::long_queue::LongQueue;
use crate::cause::Cause;
use crate::connection::Connections;
use crate::connection::receive::TopicsHold;
use crate::mesh::message::ShardMessage;
use crate::mesh::outbound::OversizedItem;
use crate::message::borrowed::Message;
use crate::message::stored::StoredMessage;
use crate::publish::spread::Spread;
use crate::session::Session;
use crate::session::table::Sessions;
use crate::session::user::UserId;
use crate::topic::tree::Tree;
use crate::turn::{Ending, Turn};

/// Facts about a message for which no client waits.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Unasked {
    user: Option<UserId>,
    will: Option<u64>,
}

impl Unasked {
    /// The will of a user, with its number in the log.
    pub(super) const fn will_of(user: Option<UserId>, will: Option<u64>) -> Self {
        Self { user, will }
    }

    pub(super) const fn user(self) -> Option<UserId> {
        self.user
    }

    pub(super) const fn will(self) -> Option<u64> {
        self.will
    }
}

/// The two origins of publishes, which take turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// Clients of this shard, and the broker itself.
    Clients,
    /// Other shards.
    Lanes,
}

/// The side that may begin a fan-out.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Gate {
    #[default]
    Open,
    /// Nobody: one of this side has ended, and the rest of the backlog has the next tick.
    Rest(Side),
    /// This side, until the next tick.
    Only(Side),
}

/// An item of a data lane, or the rest of one.
#[derive(Debug)]
pub(super) enum Inbound {
    Block(Vec<u8>),
    Oversized(OversizedItem),
}

/// Sessions that have ended and wait here before no SUBSCRIBE is taken.
const ENDS_MAX: usize = 256;

/// **Lives on:** every shard.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Sessions that have ended and still hold something. Bounded by the sessions.
    ends: LongQueue<SessionId>,
    /// Sessions that a fan-out found to be at their end; each once, so bounded by the sessions.
    endings: LongQueue<(SessionId, Cause)>,
    /// Sessions of which other shards are not told yet that they came or went; each once, so bounded by the sessions.
    untold: LongQueue<SessionId>,
    /// Bounded by the connections.
    packets: LongQueue<LongPacket>,
    packet_bytes: u64,
    fan_out: Option<(Spread, Source)>,
    gate: Gate,
    /// Wills and messages of the broker and of operators that wait for the end of a fan-out. Bounded by the sessions that end meanwhile,
    /// and by the few operators, each of whom waits for its answer.
    messages: LongQueue<(StoredMessage, Unasked)>,
    message_bytes: u64,
    /// Items of data lanes, each with its source. At most a few, because the host asks before it takes one from a lane.
    inbound: VecDeque<(u16, Inbound)>,
    /// The sum of the lists. It is computed with each change, because each packet and each step asks for it.
    state: State,
}

/// The answers to the questions that are asked most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct State {
    is_empty: bool,
    hold: TopicsHold,
}

impl Default for State {
    fn default() -> Self {
        Self { is_empty: true, hold: TopicsHold::Nothing }
    }
}

impl Backlog {
    /// Whether nothing waits.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.state.is_empty
    }

    /// Packets of clients that wait for it.
    #[inline]
    pub(super) fn hold(&self) -> TopicsHold {
        self.state.hold
    }

    /// Computes the state from the lists. Each change ends with it.
    fn state(&self) -> State {
        let is_empty = self.has_no_packet_or_session()
            && self.fan_out.is_none()
            && self.gate == Gate::Open
            && self.messages.is_empty()
            && self.inbound.is_empty();
        let hold = if !self.may_publish(Side::Clients) {
            TopicsHold::All
        } else if self.ends.len() > ENDS_MAX {
            TopicsHold::Subscribe
        } else {
            TopicsHold::Nothing
        };
        State { is_empty, hold }
    }

    fn note(&mut self) {
        self.state = self.state();
        assert!(!self.state.is_empty || self.state.hold == TopicsHold::Nothing);
    }

    fn has_no_packet_or_session(&self) -> bool {
        self.ends.is_empty() && self.packets.is_empty() && self.endings.is_empty() && self.untold.is_empty()
    }

    /// Whether a fan-out is under way: no subscription may be added or removed.
    pub(super) fn has_fan_out(&self) -> bool {
        self.fan_out.is_some()
    }

    /// Whether a message of this side may be fanned out now.
    #[inline]
    pub(super) fn may_publish(&self, side: Side) -> bool {
        let is_open = self.gate == Gate::Open || self.gate == Gate::Only(side);
        is_open && self.fan_out.is_none() && self.messages.is_empty()
    }

    /// Whether an item of a data lane may be taken in.
    pub(super) fn takes_data(&self) -> bool {
        self.may_publish(Side::Lanes) && !self.has_inbound()
    }

    /// Whether items of data lanes wait.
    pub(super) fn has_inbound(&self) -> bool {
        !self.inbound.is_empty()
    }

    pub(super) fn begin_fan_out(&mut self, spread: Spread, source: Source) {
        assert!(self.fan_out.is_none());
        self.fan_out = Some((spread, source));
        self.note();
    }

    /// The client whose message is under way.
    pub(super) fn set_publisher(&mut self, of: Publisher) {
        match &mut self.fan_out {
            Some((_, Source::Client { publisher, .. })) => {
                assert!(publisher.is_none());
                *publisher = Some(of);
            }
            other => unreachable!("its fan-out has just begun, not {other:?}"),
        }
    }

    pub(super) fn take_fan_out(&mut self) -> Option<(Spread, Source)> {
        let fan_out = self.fan_out.take();
        self.note();
        fan_out
    }

    /// The fan-out that was taken out has ended.
    pub(super) fn end_fan_out(&mut self, side: Side) {
        assert!(self.fan_out.is_none());
        self.gate = Gate::Rest(side);
        self.note();
    }

    /// The rest of the backlog had its tick.
    fn open_gate(&mut self, is_meshed: bool) {
        self.gate = match self.gate {
            Gate::Rest(Side::Clients) if is_meshed => Gate::Only(Side::Lanes),
            Gate::Rest(Side::Lanes) => Gate::Only(Side::Clients),
            Gate::Rest(Side::Clients) | Gate::Only(_) | Gate::Open => Gate::Open,
        };
        self.note();
    }

    /// A will or a message of the broker waits, and holds its user.
    pub(super) fn push_message(&mut self, message: &Message<'_>, unasked: Unasked) {
        let mut stored = StoredMessage::EMPTY;
        stored.assign(message, None);
        self.message_bytes += stored.heap_bytes();
        self.messages.push_back((stored, unasked));
        self.note();
    }

    fn pop_message(&mut self) -> Option<(StoredMessage, Unasked)> {
        let (message, unasked) = self.messages.pop_front()?;
        assert!(self.message_bytes >= message.heap_bytes());
        self.message_bytes -= message.heap_bytes();
        self.note();
        Some((message, unasked))
    }

    /// Bytes of messages that wait.
    pub(super) fn message_bytes(&self) -> u64 {
        self.message_bytes
    }

    /// An item of a data lane, or the rest of one, waits.
    pub(super) fn push_inbound(&mut self, source: u16, item: Inbound) {
        self.inbound.push_back((source, item));
        self.note();
    }

    /// Takes the next item out; [`Backlog::put_back_inbound`] takes the rest of it.
    fn pop_inbound(&mut self) -> Option<(u16, Inbound)> {
        let inbound = self.inbound.pop_front();
        self.note();
        inbound
    }

    fn put_back_inbound(&mut self, source: u16, rest: Inbound) {
        self.inbound.push_front((source, rest));
        self.note();
    }

    /// Users of messages that wait, for an audit.
    pub(super) fn users(&self) -> impl Iterator<Item = UserId> {
        self.messages.iter().filter_map(|(_, unasked)| unasked.user())
    }

    /// Messages that it holds in the store, for an audit.
    pub(super) fn held_messages(&self) -> impl Iterator<Item = MessageKey> {
        self.fan_out.iter().map(|(spread, _)| spread.message())
    }

    /// Bytes of packets that are not done.
    pub(super) fn packet_bytes(&self) -> u64 {
        self.packet_bytes
    }

    /// Bytes of its lists, and of items of lanes that wait.
    pub(super) fn list_bytes(&self) -> u64 {
        let items = self.inbound.iter().map(|(_, item)| match item {
            Inbound::Block(block) => heap::block(block.capacity()),
            Inbound::Oversized(item) => item.memory_bytes(),
        });
        self.ends.bytes_held()
            + self.untold.bytes_held()
            + self.endings.bytes_held()
            + self.packets.bytes_held()
            + self.messages.bytes_held()
            + items.sum::<u64>()
    }

    /// A packet is not done, and its connection is held.
    pub(super) fn push_packet(&mut self, packet: LongPacket) {
        self.packet_bytes += packet.bytes_held();
        self.packets.push_back(packet);
        self.note();
    }

    fn pop_packet(&mut self) -> Option<LongPacket> {
        let packet = self.packets.pop_front()?;
        assert!(self.packet_bytes >= packet.bytes_held());
        self.packet_bytes -= packet.bytes_held();
        self.note();
        Some(packet)
    }

    /// A session has ended and still holds something.
    pub(super) fn push_end(&mut self, id: SessionId) {
        self.ends.push_back(id);
        self.note();
    }

    /// Takes the next session out that has ended; [`Backlog::put_back_end`] takes one that still holds something.
    fn pop_end(&mut self) -> Option<SessionId> {
        let id = self.ends.pop_front();
        self.note();
        id
    }

    fn put_back_end(&mut self, id: SessionId) {
        self.ends.push_front(id);
        self.note();
    }

    /// A fan-out found a session to be at its end, and the step has no time for that.
    pub(super) fn push_ending(&mut self, id: SessionId, cause: Cause) {
        self.endings.push_back((id, cause));
        self.note();
    }

    fn pop_ending(&mut self) -> Option<(SessionId, Cause)> {
        let ending = self.endings.pop_front();
        self.note();
        ending
    }

    /// Other shards are not told yet of a session that came or went.
    pub(super) fn push_untold(&mut self, id: SessionId) {
        self.untold.push_back(id);
        self.note();
    }

    fn pop_untold(&mut self) -> Option<SessionId> {
        let id = self.untold.pop_front();
        self.note();
        id
    }

    /// Compares its lists with the rooms, for an audit.
    ///
    /// # Panics
    /// If a session that has ended or a packet of a connection that is held is not here, or twice, or its state is wrong.
    pub(super) fn check(&self, (sessions, topics): (&Sessions, &Tree), connections: &Connections) {
        assert!(self.packets.iter().map(LongPacket::bytes_held).sum::<u64>() == self.packet_bytes);
        let messages = self.messages.iter().map(|(message, _)| message.heap_bytes());
        assert!(messages.sum::<u64>() == self.message_bytes);
        let of_packets = self.packets.iter().map(LongPacket::connection);
        let publisher = self.fan_out.iter().filter_map(|(_, source)| match source {
            Source::Client { publisher, .. } => publisher.map(|held| (held.connection, held.ordinal)),
            Source::Lane { .. } => None,
        });
        let alive = of_packets
            .chain(publisher)
            .filter(|&(connection, ordinal)| connections.session_of_held(connection, ordinal).is_some());
        assert!(alive.count() == connections.held_count());
        assert!(self.state == self.state());
        assert!(self.ends.len() == sessions.ended_count() as usize);
        assert!(self.ends.iter().all(|&id| sessions.get(id).is_some_and(Session::has_ended)));
        let listed = self.endings.iter().filter_map(|&(id, _)| sessions.get(id));
        let condemned = sessions.iter().filter(|(_, session)| session.is_condemned());
        assert!(listed.filter(|session| session.is_condemned()).count() == condemned.count());
        let untold = self.untold.iter().filter(|&&id| sessions.get(id).is_some());
        // One that left the last of its groups before others were told may be in the list once more.
        assert!(untold.filter(|id| topics.is_untold(id.index())).count() >= topics.untold_count());
    }
}

impl Rooms {
    /// Goes on with what earlier steps had no time to end, until the step has done its share of work.
    pub(super) fn run_backlog(&mut self, turn: &mut Turn<'_>) {
        if turn.is_spent() || self.backlog.is_empty() {
            return;
        }
        if self.backlog.has_fan_out() {
            self.go_on_with_fan_out(turn);
            self.settle(turn);
            return;
        }
        self.run_packets_and_sessions(turn);
        self.backlog.open_gate(self.mesh.placement().is_meshed());
        self.run_messages(turn);
        self.run_inbound(turn);
    }

    /// Clients that wait for their SUBACK and sessions that end, have ended, came or went take turns.
    fn run_packets_and_sessions(&mut self, turn: &mut Turn<'_>) {
        while !turn.is_spent() && !self.backlog.has_no_packet_or_session() {
            if let Some(packet) = self.backlog.pop_packet() {
                if let Some(rest) = self.go_on_with_packet(turn, packet) {
                    self.backlog.push_packet(rest);
                }
                self.settle(turn);
            }
            // A will that was published by this may have begun a fan-out.
            if !turn.is_spent()
                && !self.backlog.has_fan_out()
                && let Some(id) = self.backlog.pop_end()
                && !self.give_up(turn, id)
            {
                self.backlog.put_back_end(id);
            }
            if !turn.is_spent()
                && !self.backlog.has_fan_out()
                && let Some((id, cause)) = self.backlog.pop_ending()
            {
                self.end(turn, Ending::Session(id, cause));
                self.settle(turn);
            }
            if let Some(id) = self.backlog.pop_untold() {
                self.tell_groups(turn, id);
            }
            if self.backlog.has_fan_out() {
                return;
            }
        }
    }

    fn run_messages(&mut self, turn: &mut Turn<'_>) {
        while !turn.is_spent() && !self.backlog.has_fan_out() && self.backlog.gate == Gate::Open {
            let Some((message, unasked)) = self.backlog.pop_message() else { return };
            self.route_unasked(turn, &message.view(), unasked);
            self.delivery.sessions.users_mut().release(unasked.user());
            self.settle(turn);
        }
    }

    fn run_inbound(&mut self, turn: &mut Turn<'_>) {
        while !turn.is_spent() && self.backlog.may_publish(Side::Lanes) && self.mesh.is_whole() {
            let Some((source, item)) = self.backlog.pop_inbound() else { return };
            match item {
                Inbound::Oversized(item) => {
                    let (message, attached) = item.message();
                    self.on_message(turn, source, ShardMessage::decode(message, attached), attached);
                }
                Inbound::Block(block) => {
                    let rest = self.take_messages(turn, source, &block);
                    if !rest.is_empty() {
                        let rest = Inbound::Block(rest.to_vec());
                        self.backlog.put_back_inbound(source, rest);
                    }
                }
            }
            self.settle(turn);
        }
    }
}
