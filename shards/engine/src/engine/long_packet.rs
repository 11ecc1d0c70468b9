//! A SUBSCRIBE or UNSUBSCRIBE that has more filters than a step has time for.

use alloc::vec::Vec;

use wire::{PacketId, ReasonCode, SubscriptionId};

use crate::base::heap;
use crate::base::ids::ConnectionId;

/// The packets that may have thousands of filters.
#[derive(Clone, Copy, Debug)]
pub(super) enum LongPacketKind {
    Subscribe(Option<SubscriptionId>),
    Unsubscribe,
}

/// The answers to the filters of a packet that are done.
#[derive(Debug, Default)]
pub(super) struct Answers {
    codes: Vec<ReasonCode>,
    /// The reason string, if one of them was refused for a reason that its code does not name.
    text: Option<&'static str>,
}

impl Answers {
    /// Adds the answer to one more filter; `text` says more than its code, if that is so.
    pub(super) fn push(&mut self, code: ReasonCode, text: Option<&'static str>) {
        self.codes.push(code);
        self.text = self.text.or(text);
    }

    pub(super) fn codes(&self) -> &[ReasonCode] {
        &self.codes
    }

    pub(super) fn text(&self) -> Option<&'static str> {
        self.text
    }
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
    answers: Answers,
}

impl LongPacket {
    pub(super) fn new(
        (connection, ordinal): (ConnectionId, u64),
        (kind, packet_id): (LongPacketKind, PacketId),
        rest: &[u8],
        answers: Answers,
    ) -> Self {
        Self { connection, ordinal, kind, packet_id, payload: rest.to_vec(), done_bytes: 0, answers }
    }

    /// The connection that sent it, and the ordinal of that.
    pub(super) fn connection(&self) -> (ConnectionId, u64) {
        (self.connection, self.ordinal)
    }

    pub(super) fn kind(&self) -> (LongPacketKind, PacketId) {
        (self.kind, self.packet_id)
    }

    /// The filters that are not done, and the answers to the ones that are.
    pub(super) fn rest(&mut self) -> (&[u8], &mut Answers) {
        (&self.payload[self.done_bytes..], &mut self.answers)
    }

    /// So many more bytes are done. Returns whether some are left.
    pub(super) fn advance(&mut self, bytes: usize) -> bool {
        self.done_bytes += bytes;
        assert!(self.done_bytes <= self.payload.len());
        self.done_bytes < self.payload.len()
    }

    pub(super) fn into_answers(self) -> Answers {
        self.answers
    }

    pub(super) fn bytes_held(&self) -> u64 {
        heap::block(self.payload.capacity()) + heap::block(self.answers.codes.capacity())
    }
}
