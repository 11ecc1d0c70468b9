//! The bytes of all rooms, added up and weighed against the ceiling.

use wire::{QoS, ReasonCode, TopicFilter};

use super::{Engine, Rooms};
use crate::base::ids::SessionId;
use crate::connection::disconnect::Wait;
use crate::limits::Limits;
use crate::memory::{Budget, Held, MemoryKind, MemoryLevel, MemoryUse};
use crate::message::borrowed::Message;
use crate::publish::Delivery;
use crate::publish::admission::Routed;
use crate::publish::matches::grant;
use crate::timer::Timers;
use crate::topic::sys::is_sys;
use crate::turn::Turn;

impl Engine {
    /// Makes slots for `count` connections ready, so that accepting them allocates none.
    pub fn reserve_connections(&mut self, count: u32) {
        self.rooms.delivery.connections.reserve(count);
    }

    /// Gives back buffers that a burst took and nobody needed since the last call. To be called about once a second.
    pub fn trim(&mut self) {
        self.rooms.delivery.connections.trim();
    }
}

impl Rooms {
    /// Bytes held, by kind. `held` is what sessions noted.
    pub(super) fn memory_use(&self, timers: &Timers, held: &Held) -> MemoryUse {
        let Self { topics, delivery, retained, shared, mesh, .. } = self;
        let Delivery { sessions, connections, messages, .. } = delivery;
        let waiting = retained.list_bytes();
        let (entries, retained) = retained.store().memory_bytes();
        // A message that is retained counts as that, also while a session has it queued or in flight.
        let messages = messages.memory_bytes();
        assert!(messages >= retained);
        let (aliases_in, aliases_out) = connections.alias_bytes();
        let subscriptions = topics.bytes_held() + mesh.interests().memory_bytes() + shared.member_bytes();
        let user_changes = self.user_changes.memory_bytes();
        MemoryUse::of([
            (
                MemoryKind::Connections,
                connections.memory_bytes() + timers.bytes_held() + self.host.connections,
            ),
            (MemoryKind::Outboxes, connections.outbox_memory_bytes()),
            (MemoryKind::PartialPackets, connections.partial_packet_bytes() + self.backlog.packet_bytes()),
            (MemoryKind::Authentications, connections.authentication_bytes() + self.host.authentications),
            (MemoryKind::AliasesIn, aliases_in),
            (MemoryKind::AliasesOut, aliases_out),
            (
                MemoryKind::Sessions,
                sessions.memory_bytes() + delivery.list_bytes() + waiting + held.replays() + user_changes,
            ),
            (MemoryKind::Wills, sessions.will_bytes() + self.backlog.message_bytes()),
            (MemoryKind::Queues, messages - retained + held.deliveries() + shared.reassignment_bytes()),
            (MemoryKind::Retained, entries + retained),
            (MemoryKind::Subscriptions, subscriptions),
            (
                MemoryKind::Lanes,
                mesh.outbound().memory_bytes()
                    + mesh.transfer_bytes()
                    + self.backlog.list_bytes()
                    + self.record_bytes
                    + self.host.lanes,
            ),
        ])
    }

    /// Weighs memory, which decides what may grow until it is weighed again.
    pub(super) fn weigh(&mut self, turn: &mut Turn<'_>) {
        self.weigh_outside(turn.limits, turn.timers, turn.held());
        turn.set_outbox_bytes_max(self.pressure.outbox_bytes_max());
    }

    /// Weighs memory outside of a step.
    pub(super) fn weigh_outside(&mut self, limits: &Limits, timers: &Timers, held: &Held) {
        let used = self.memory_use(timers, held);
        let message_bytes = self.message_bytes(held);
        self.pressure.weigh(limits, &used, self.delivery.connections.len());
        self.pressure.set_message_bytes(message_bytes);
    }

    /// Whether a budget may not grow by about so many bytes. Memory is weighed once enough came in, and each time while it is short.
    pub(super) fn refuses_more(&mut self, turn: &mut Turn<'_>, budget: Budget, bytes: u64) -> bool {
        if self.pressure.count(bytes) || self.pressure.level() != MemoryLevel::Normal {
            self.weigh(turn);
        }
        self.pressure.refuses(budget)
    }

    /// Whether a budget may not grow at this moment.
    pub(super) fn refuses(&mut self, turn: &mut Turn<'_>, budget: Budget) -> bool {
        self.weigh(turn);
        self.pressure.refuses(budget)
    }

    /// Counts bytes that [`Rooms::weigh_growth`] does not see. Memory is weighed once enough of them came in.
    pub(super) fn count_unweighed(&mut self, turn: &mut Turn<'_>, bytes: u64) {
        if self.pressure.count(bytes) {
            self.weigh(turn);
        }
    }

    /// Weighs memory if messages have grown by enough since it was weighed last. Each message asks, so it is one comparison.
    #[inline]
    pub(super) fn weigh_growth(&mut self, turn: &mut Turn<'_>) {
        if self.message_bytes(turn.held()) > self.pressure.message_bytes_unweighed() {
            self.weigh(turn);
        }
    }

    /// Bytes of outboxes, stored messages and the entries that name them: what grows on the way of a message.
    #[inline]
    fn message_bytes(&self, held: &Held) -> u64 {
        let Delivery { connections, messages, .. } = &self.delivery;
        connections.outbox_buffer_bytes() + messages.heap_bytes() + held.deliveries()
    }

    /// The answer to a publish for which memory or the log is short; `None` if there is room. A publish that neither is retained nor has
    /// to be kept for a receiver is always taken, and so are the broker's own, which are few and small. The log waits for no will.
    #[inline]
    pub(super) fn shortage_refusal(
        &self,
        message: &Message<'_>,
        publisher: Option<SessionId>,
        filters: &[u32],
        fingerprint: u64,
    ) -> Option<Routed> {
        if !self.pressure.holds_messages() || is_sys(message.topic) {
            return None;
        }
        if publisher.is_some()
            && self.pressure.holds_recorded()
            && self.awaits_room(message, publisher.map(SessionId::index), filters, fingerprint)
        {
            return Some(Routed::Delayed { payload_bytes: message.payload.len() as u64, wait: Wait::Log });
        }
        let retains = message.retain && !message.payload.is_empty();
        if retains && self.pressure.refuses(Budget::Retained) {
            return Some(Routed::Refused(ReasonCode::QuotaExceeded));
        }
        let keeps = self.pressure.refuses(Budget::Messages) && self.is_kept(message, filters, fingerprint);
        let payload_bytes = message.payload.len() as u64;
        keeps.then_some(Routed::Delayed { payload_bytes, wait: Wait::Memory })
    }

    /// Whether a filter of the broker's own topics is accepted while others are refused: until the ceiling itself is reached.
    pub(super) fn may_read_sys(&self, turn: &Turn<'_>, filter: &TopicFilter<'_>) -> bool {
        is_sys(filter.filter()) && self.pressure.used_bytes() < turn.limits.memory_bytes_max
    }

    /// Whether a message would be queued or in flight for somebody, here or on another shard.
    fn is_kept(&self, message: &Message<'_>, filters: &[u32], fingerprint: u64) -> bool {
        if message.qos == QoS::AtMostOnce {
            return false;
        }
        let Self { topics, mesh, .. } = self;
        let is_tracked =
            |member| grant(member, message, None).is_some_and(|grant| crate::session::is_tracked(grant.qos));
        filters
            .iter()
            .any(|&filter| !topics.groups(filter).is_empty() || topics.members(filter).iter().any(is_tracked))
            || !mesh.interests().interested(fingerprint, filters).is_empty()
    }
}
