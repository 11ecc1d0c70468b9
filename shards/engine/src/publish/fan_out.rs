//! From a matched message to one session: send, queue or drop, and count which.
//! Knows no topic tree and no packet of a client; `publish` and `replay` bring the matches.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;
use wire::{QoS, ReasonCode};

use crate::base::hash::Keyed;
use crate::base::slab::Slab;
use crate::base::time::Instant;
use crate::connection::table::{Connection, ConnectionId};
use crate::counters::{Counters, DropReason};
use crate::event::Actions;
use crate::limits::{Limits, QueueFull};
use crate::message::stored::{MessageKey, MessageStore, MessageView, SHARED_PAYLOAD_BYTES_MIN};
use crate::publish::send::{OutboxWriter, send};
use crate::retained::watermarks::Origin;
use crate::session::inflight::{DeliveryState, Grant, Queued, Stage};
use crate::session::table::{Session, SessionId};
use crate::session::will::Will;

/// Acknowledgements and other control packets may use this much beyond `outbox_bytes_max`; a peer that
/// lets even that fill up does not read and is closed.
const OUTBOX_CONTROL_BYTES: u64 = 64 * 1024;

/// Something that has to end, but not while a fan-out walks over it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Session(SessionId, ReasonCode),
    Connection(ConnectionId, ReasonCode),
}

/// What delivering one message to one session touches.
///
/// **Lives on:** every shard. **Sees:** connections and sessions owned here.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) limits: Limits,
    pub(crate) hasher: Keyed,
    pub(crate) counters: Counters,
    pub(crate) connections: Slab<Connection>,
    pub(crate) sessions: Slab<Session>,
    pub(crate) messages: MessageStore,
    pub(crate) outbox_writer: OutboxWriter,
    pub(crate) held: MemoryLedger,
    /// Bounded by the sessions and connections; emptied at the end of each step.
    pub(crate) endings: Vec<Ending>,
}

/// Bytes held beside messages and outboxes, for the ceiling.
#[derive(Debug, Default)]
pub(crate) struct MemoryLedger {
    pub(crate) wills: u64,
    /// Texts of filters and names of groups.
    pub(crate) filters: u64,
    /// Of clients that are being authenticated.
    pub(crate) authentications: u64,
    /// Packets of which a part has come.
    pub(crate) partial_packets: u64,
}

/// A message that was published a moment ago.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveOrigin {
    /// Of this shard's publish counter.
    pub(crate) at: u64,
    /// Where it was published.
    pub(crate) origin: Origin,
}

/// A message on its way to the sessions that it matched.
#[derive(Debug)]
pub(crate) struct FanOut<'a> {
    pub(crate) view: MessageView<'a>,
    /// The payload, if it is large enough to be shared instead of copied.
    pub(crate) shared: Option<Bytes>,
    /// Its place in the store, once a first session has to keep it.
    key: Option<MessageKey>,
    /// `None` if it comes out of a retained store, or was live before.
    live: Option<LiveOrigin>,
    /// A session that outlives its connection keeps it: its acknowledgement is a promise.
    pub(crate) must_persist: bool,
    /// Sessions it was offered to.
    pub(crate) offered_count: u32,
}

/// What to do with a message for one session.
enum Plan {
    Send(ConnectionId),
    Queue,
    Drop(DropReason),
}

impl Delivery {
    /// Begins the fan-out of a message of another shard, whose payload may lie beside it; it is not `live` if it
    /// comes out of a retained store.
    pub(crate) fn fan_out_attached<'a>(
        &mut self,
        view: MessageView<'a>,
        payload: Option<&Bytes>,
        live: Option<LiveOrigin>,
    ) -> FanOut<'a> {
        self.outbox_writer.templates.clear();
        let shared = if view.payload.len() < SHARED_PAYLOAD_BYTES_MIN {
            None
        } else {
            Some(
                payload
                    .filter(|beside| !beside.is_empty())
                    .cloned()
                    .unwrap_or_else(|| Bytes::copy_from_slice(view.payload)),
            )
        };
        FanOut { view, shared, key: None, live, must_persist: false, offered_count: 0 }
    }

    /// Begins the fan-out of a message that is not in the store.
    pub(crate) fn fan_out<'a>(&mut self, view: MessageView<'a>, live: LiveOrigin) -> FanOut<'a> {
        self.fan_out_attached(view, None, Some(live))
    }

    /// Begins the delivery of a stored message, of which `scratch` receives what is not shared.
    pub(crate) fn fan_out_stored<'a>(&mut self, key: MessageKey, scratch: &'a mut StoredCopy) -> FanOut<'a> {
        self.outbox_writer.templates.clear();
        self.messages.hold(key);
        let view = self.messages.view(key);
        scratch.shared = self.messages.shared_payload(key).cloned();
        scratch.bytes.clear();
        scratch.bytes.extend_from_slice(view.topic.as_bytes());
        scratch.bytes.extend_from_slice(view.forwarded);
        if scratch.shared.is_none() {
            scratch.bytes.extend_from_slice(view.payload);
        }
        let (topic_bytes, forwarded_bytes) = (view.topic.len(), view.forwarded.len());
        let (qos, retain, expires_at) = (view.qos, view.retain, view.expires_at);
        let (topic, rest) = scratch.bytes.split_at(topic_bytes);
        let (forwarded, inline_payload) = rest.split_at(forwarded_bytes);
        let view = MessageView {
            topic: core::str::from_utf8(topic).expect("stored from a str"),
            forwarded,
            payload: scratch.shared.as_deref().unwrap_or(inline_payload),
            qos,
            retain,
            expires_at,
            packet: None,
        };
        let shared = scratch.shared.clone();
        FanOut { view, shared, key: Some(key), live: None, must_persist: false, offered_count: 0 }
    }

    /// Ends a fan-out: whoever keeps the message has counted itself.
    pub(crate) fn finish(&mut self, fan_out: &FanOut<'_>) {
        if let Some(key) = fan_out.key {
            self.messages.release(key);
        }
    }

    /// The message's place in the store, put there at the first call.
    pub(crate) fn keep(&mut self, fan_out: &mut FanOut<'_>) -> MessageKey {
        *fan_out.key.get_or_insert_with(|| self.messages.put(&fan_out.view, fan_out.shared.as_ref()))
    }

    /// Delivers to one session: sends, queues or drops, and counts which.
    pub(crate) fn offer(
        &mut self,
        now: Instant,
        session: u32,
        grant: Grant,
        fan_out: &mut FanOut<'_>,
        actions: &mut Actions,
    ) {
        fan_out.offered_count += 1;
        let pending = self.sessions.at_mut(session).expect("a subscription ends before its session");
        pending.ledger.match_one(&mut self.counters);
        // On its way from another shard it may have become too old [MQTT-3.3.2-5].
        let plan = if fan_out.view.expires_at.is_some_and(|deadline| deadline < now) {
            Plan::Drop(DropReason::Expired)
        } else {
            self.plan(session, grant.qos, fan_out.live.is_some())
        };
        if let (Plan::Send(_) | Plan::Queue, Some(live)) = (&plan, fan_out.live) {
            let session = self.sessions.at_mut(session).expect("looked up above");
            if let Some(replays) = &mut session.replays {
                let topic_hash = self.hasher.bytes(fan_out.view.topic.as_bytes());
                replays.record_live(topic_hash, live, self.limits.replay_topics_max);
            }
        }
        match plan {
            Plan::Send(connection) => self.offer_send(now, session, connection, &grant, fan_out, actions),
            Plan::Queue => {
                let key = self.keep(fan_out);
                self.enqueue(now, session, key, grant, fan_out);
            }
            Plan::Drop(reason) => {
                let session = self.sessions.at_mut(session).expect("looked up above");
                session.ledger.drop(&mut self.counters, reason, 1);
            }
        }
    }

    /// Whether a session has a connection that may be sent to.
    pub(crate) fn is_online(&self, session: &Session) -> bool {
        session.connection.and_then(|id| self.connections.get(id.0)).is_some_and(Connection::is_open)
    }

    /// Whether one more message may be queued, if that is not a very large one.
    pub(crate) fn has_queue_room(&self, session: &Session) -> bool {
        session.deliveries.as_ref().is_none_or(|deliveries| {
            deliveries.queue.len() < self.limits.queue_messages_max as usize
                && deliveries.queue_bytes < self.limits.queue_bytes_max
        })
    }

    fn plan(&self, index: u32, qos: QoS, is_live: bool) -> Plan {
        let session = self.sessions.at(index).expect("a subscription ends before its session");
        let open = session
            .connection
            .and_then(|id| self.connections.get(id.0).map(|connection| (id, connection)))
            .filter(|(_, connection)| connection.is_open());
        let outbox_bytes_max = u64::from(self.limits.outbox_bytes_max);
        match (qos, open) {
            (QoS::AtMostOnce, Some((id, connection))) => {
                // What was queued while it was absent comes first [MQTT-4.6.0-5].
                if session.deliveries.as_ref().is_some_and(|deliveries| deliveries.queued_qos0_count > 0) {
                    Plan::Queue
                } else if connection.outbox.bytes() < outbox_bytes_max {
                    Plan::Send(id)
                } else if is_live {
                    Plan::Drop(DropReason::OutboxFull)
                } else {
                    // It was asked for when there was room, and its store would have kept it.
                    Plan::Queue
                }
            }
            (QoS::AtMostOnce, None) if self.limits.queue_qos0_offline && session.is_persistent() => {
                Plan::Queue
            }
            (QoS::AtMostOnce, None) => Plan::Drop(DropReason::Offline),
            (QoS::AtLeastOnce | QoS::ExactlyOnce, Some((id, connection))) => {
                let no_backlog = session.deliveries.as_ref().is_none_or(|deliveries| {
                    deliveries.has_no_backlog() && deliveries.inflight_count() < self.limits.inflight_max
                });
                if no_backlog && connection.send_quota > 0 && connection.outbox.bytes() < outbox_bytes_max {
                    Plan::Send(id)
                } else {
                    Plan::Queue
                }
            }
            (QoS::AtLeastOnce | QoS::ExactlyOnce, None) => Plan::Queue,
        }
    }

    fn offer_send(
        &mut self,
        now: Instant,
        index: u32,
        id: ConnectionId,
        grant: &Grant,
        fan_out: &mut FanOut<'_>,
        actions: &mut Actions,
    ) {
        if grant.qos == QoS::AtMostOnce {
            let Self { connections, sessions, counters, outbox_writer, hasher, .. } = self;
            let connection = connections.get_mut(id.0).expect("planned a moment ago");
            if !send(
                now,
                connection,
                id,
                grant,
                None,
                false,
                fan_out,
                outbox_writer,
                hasher,
                counters,
                actions,
            ) {
                let session = sessions.at_mut(index).expect("planned a moment ago");
                session.ledger.drop(counters, DropReason::PacketTooLarge, 1);
            }
            return;
        }
        let key = self.keep(fan_out);
        let Self { limits, connections, sessions, counters, messages, outbox_writer, hasher, .. } = self;
        let session = sessions.at_mut(index).expect("planned a moment ago");
        let connection = connections.get_mut(id.0).expect("planned a moment ago");
        let deliveries = session.deliveries.get_or_insert_default();
        let packet_id = deliveries
            .start(limits.inflight_max, Stage::Publish(key), grant.clone())
            .expect("planned with a window that has room");
        if send(
            now,
            connection,
            id,
            grant,
            Some(packet_id),
            false,
            fan_out,
            outbox_writer,
            hasher,
            counters,
            actions,
        ) {
            messages.hold(key);
            assert!(connection.send_quota > 0);
            connection.send_quota -= 1;
            fan_out.must_persist |= session.is_persistent();
        } else {
            deliveries.finish(packet_id);
            session.ledger.drop(counters, DropReason::PacketTooLarge, 1);
        }
    }

    fn enqueue(&mut self, now: Instant, index: u32, key: MessageKey, grant: Grant, fan_out: &mut FanOut<'_>) {
        let Self { limits, sessions, counters, messages, endings, .. } = self;
        let id = SessionId(sessions.key_at(index).expect("planned a moment ago"));
        let session = sessions.at_mut(index).expect("planned a moment ago");
        let bytes = messages.bytes_of(key);
        loop {
            let deliveries = session.deliveries.get_or_insert_default();
            let full = deliveries.queue.len() >= limits.queue_messages_max as usize
                || deliveries.queue_bytes + bytes > limits.queue_bytes_max;
            if !full {
                deliveries.queued_qos0_count += u32::from(grant.qos == QoS::AtMostOnce);
                deliveries.queue.push_back(Queued { message: key, grant });
                deliveries.queue_bytes += bytes;
                messages.hold(key);
                fan_out.must_persist |= session.is_persistent();
                return;
            }
            // What is too old to be sent makes room before anybody loses a message that is not.
            let is_stale =
                deliveries.queue.front().is_some_and(|first| messages.view(first.message).is_expired(now));
            if is_stale && let Some(stale) = dequeue(deliveries, messages) {
                messages.release(stale.message);
                session.ledger.drop(counters, DropReason::Expired, 1);
                continue;
            }
            match limits.queue_full {
                // No room is made for what would not fit into an empty queue.
                QueueFull::DropOldest if bytes > limits.queue_bytes_max => {}
                QueueFull::DropOldest => {
                    if let Some(oldest) = dequeue(deliveries, messages) {
                        messages.release(oldest.message);
                        session.ledger.drop(counters, DropReason::QueueFull, 1);
                        continue;
                    }
                }
                QueueFull::EndSession => endings.push(Ending::Session(id, ReasonCode::QuotaExceeded)),
                QueueFull::DropNewest => {}
            }
            session.ledger.drop(counters, DropReason::QueueFull, 1);
            return;
        }
    }

    /// Appends a control packet to an outbox; a peer that does not read is closed past the bound.
    pub(crate) fn write(
        &mut self,
        id: ConnectionId,
        actions: &mut Actions,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(connection) = self.connections.get_mut(id.0) else {
            self.counters.stale += 1;
            return;
        };
        let before = connection.outbox.bytes();
        self.outbox_writer.append(connection, id, actions, write);
        self.counters.control_packets_sent += u64::from(connection.outbox.bytes() > before);
        // What a fan-out may add at most to a box below its bound is one message.
        let bytes_max = u64::from(self.limits.outbox_bytes_max)
            + u64::from(self.limits.packet_bytes_max)
            + OUTBOX_CONTROL_BYTES;
        if connection.outbox.bytes() > bytes_max && connection.session().is_some() {
            self.endings.push(Ending::Connection(id, ReasonCode::QuotaExceeded));
        }
    }

    /// Bytes held, for the ceiling, but for packets that have not come whole: who waits until this is less must not
    /// wait for others that wait in the middle of theirs.
    fn settled_bytes(&self) -> u64 {
        let MemoryLedger { wills, filters, authentications, partial_packets: _ } = self.held;
        let messages = self.messages.bytes_held() + self.outbox_writer.bytes_held;
        messages + wills + filters + authentications
    }

    /// Bytes held, for the ceiling.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.settled_bytes() + self.held.partial_packets
    }

    /// Whether new work is refused, or waits.
    pub(crate) fn is_over_memory_ceiling(&self) -> bool {
        self.limits.memory_bytes_max > 0 && self.settled_bytes() >= self.limits.memory_bytes_max
    }

    /// Whether a long packet that has not come whole may grow no more.
    pub(crate) fn is_over_ceiling_in_all(&self) -> bool {
        self.limits.memory_bytes_max > 0 && self.memory_bytes() >= self.limits.memory_bytes_max
    }

    /// Replaces the will of a session; returns the one it had.
    pub(crate) fn set_will(&mut self, id: SessionId, will: Option<Box<Will>>) -> Option<Box<Will>> {
        let session = self.sessions.get_mut(id.0)?;
        let bytes = |will: &Option<Box<Will>>| will.as_ref().map_or(0, |will| will.message.bytes());
        self.held.wills += bytes(&will);
        let before = core::mem::replace(&mut session.will, will);
        self.held.wills -= bytes(&before);
        before
    }
}

/// What `Delivery::fan_out_stored` copies out of the store.
#[derive(Debug, Default)]
pub(crate) struct StoredCopy {
    bytes: Vec<u8>,
    shared: Option<Bytes>,
}

/// Takes the oldest queued message out; the caller takes over its hold.
pub(crate) fn dequeue(deliveries: &mut DeliveryState, messages: &MessageStore) -> Option<Queued> {
    let queued = deliveries.queue.pop_front()?;
    deliveries.queue_bytes -= messages.bytes_of(queued.message);
    deliveries.queued_qos0_count -= u32::from(queued.grant.qos == QoS::AtMostOnce);
    Some(queued)
}
