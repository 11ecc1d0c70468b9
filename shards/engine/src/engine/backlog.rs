//! Work that outlives its step: what a step began and had no time to end.
//!
//! Invariants worth naming:
//! - While it holds anything, [`Event::Tick`](crate::Event::Tick) is due, and each tick gives it a share of work. So all of it ends.
//! - A session that has ended waits here once, until its last message and subscription are given up.
//! - A SUBSCRIBE or UNSUBSCRIBE waits here while its connection is held, so there is one of a connection at most. Its filters are done in
//!   order, and its acknowledgement leaves after the last one. Subscriptions that it has made stay if the connection ends before.
//! - While many sessions wait here that have ended, no SUBSCRIBE is taken, so that clients cannot subscribe faster than the broker
//!   forgets.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use wire::{PacketId, ReasonCode, SubscriptionId};

use super::Rooms;
use crate::base::ids::{ConnectionId, SessionId};
use crate::connection::Connections;
use crate::session::Session;
use crate::session::table::Sessions;
use crate::turn::Turn;

/// The packets that may have thousands of filters.
#[derive(Clone, Copy, Debug)]
pub(super) enum LongPacketKind {
    Subscribe(Option<SubscriptionId>),
    Unsubscribe,
}

/// A SUBSCRIBE or UNSUBSCRIBE of which some filters are done.
#[derive(Debug)]
pub(super) struct LongPacket {
    connection: ConnectionId,
    /// Of the connection: it may end before the packet is done, and its slot be used again.
    ordinal: u64,
    kind: LongPacketKind,
    packet_id: PacketId,
    /// Filters as the packet has them, of which the first `done_bytes` bytes are done.
    payload: Vec<u8>,
    done_bytes: usize,
    codes: Vec<ReasonCode>,
}

impl LongPacket {
    pub(super) fn new(
        (connection, ordinal): (ConnectionId, u64),
        (kind, packet_id): (LongPacketKind, PacketId),
        rest: &[u8],
        codes: Vec<ReasonCode>,
    ) -> Self {
        Self { connection, ordinal, kind, packet_id, payload: rest.to_vec(), done_bytes: 0, codes }
    }

    /// The connection that sent it, and the ordinal of that.
    pub(super) fn connection(&self) -> (ConnectionId, u64) {
        (self.connection, self.ordinal)
    }

    pub(super) fn kind(&self) -> (LongPacketKind, PacketId) {
        (self.kind, self.packet_id)
    }

    /// The filters that are not done, and the reason codes of those that are.
    pub(super) fn rest(&mut self) -> (&[u8], &mut Vec<ReasonCode>) {
        (&self.payload[self.done_bytes..], &mut self.codes)
    }

    /// So many more bytes are done. Returns whether some are left.
    pub(super) fn advance(&mut self, bytes: usize) -> bool {
        self.done_bytes += bytes;
        assert!(self.done_bytes <= self.payload.len());
        self.done_bytes < self.payload.len()
    }

    pub(super) fn into_codes(self) -> Vec<ReasonCode> {
        self.codes
    }

    fn bytes_held(&self) -> u64 {
        (self.payload.capacity() + self.codes.capacity()) as u64
    }
}

/// Sessions that have ended and wait here before no SUBSCRIBE is taken.
const ENDS_MAX: usize = 256;

/// **Lives on:** every shard.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Sessions that have ended and still hold something. Bounded by the sessions.
    ends: VecDeque<SessionId>,
    /// Bounded by the connections.
    packets: VecDeque<LongPacket>,
    packet_bytes: u64,
}

impl Backlog {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.packets.is_empty()
    }

    /// Whether so many sessions wait that no SUBSCRIBE is to be taken.
    pub(super) fn is_deep(&self) -> bool {
        self.ends.len() > ENDS_MAX
    }

    /// Bytes of packets that are not done.
    pub(super) fn packet_bytes(&self) -> u64 {
        self.packet_bytes
    }

    /// A packet is not done, and its connection is held.
    pub(super) fn push_packet(&mut self, packet: LongPacket) {
        self.packet_bytes += packet.bytes_held();
        self.packets.push_back(packet);
    }

    fn pop_packet(&mut self) -> Option<LongPacket> {
        let packet = self.packets.pop_front()?;
        assert!(self.packet_bytes >= packet.bytes_held());
        self.packet_bytes -= packet.bytes_held();
        Some(packet)
    }

    /// A session has ended and still holds something.
    pub(super) fn push_end(&mut self, id: SessionId) {
        self.ends.push_back(id);
    }

    /// Compares its lists with the rooms, for an audit.
    ///
    /// # Panics
    /// If a session that has ended or a packet of a connection that is held is not here, or twice.
    pub(super) fn check(&self, sessions: &Sessions, connections: &Connections) {
        assert!(self.packets.iter().map(LongPacket::bytes_held).sum::<u64>() == self.packet_bytes);
        let alive = self
            .packets
            .iter()
            .filter(|packet| connections.session_of_held(packet.connection, packet.ordinal).is_some());
        assert!(alive.count() == connections.held_count());
        assert!(self.ends.len() == sessions.ended_count() as usize);
        assert!(self.ends.iter().all(|&id| sessions.get(id).is_some_and(Session::has_ended)));
    }
}

impl Rooms {
    /// Goes on with what earlier steps had no time to end, until the step has done its share of work.
    pub(super) fn run_backlog(&mut self, turn: &mut Turn<'_>) {
        // Clients that wait for their SUBACK and sessions that have ended take turns.
        while !turn.is_spent() && !self.backlog.is_empty() {
            if let Some(packet) = self.backlog.pop_packet() {
                if let Some(rest) = self.go_on_with_packet(turn, packet) {
                    self.backlog.push_packet(rest);
                }
                self.settle(turn);
            }
            if !turn.is_spent()
                && let Some(id) = self.backlog.ends.pop_front()
                && !self.give_up(turn, id)
            {
                self.backlog.ends.push_front(id);
            }
        }
    }
}
