//! From a matched message to one session: send, queue or drop, and count which.
//! Knows no topic tree and no packet of a client; `publish` and `lookup` bring the matches.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use bytes::Bytes;
use wire::packet::{PublishParts, append_publish, publish_bytes};
use wire::{PacketId, ProtocolVersion, QoS, ReasonCode};

use crate::alias::AliasUse;
use crate::connection::{Connection, ConnectionId};
use crate::counters::{Counters, DropReason};
use crate::event::{Action, Actions};
use crate::flow::{Flow, Grant, Queued, Stage};
use crate::hash::Keyed;
use crate::limits::{Limits, QueueFull};
use crate::message::{MessageKey, MessageStore, MessageView, SHARED_PAYLOAD_BYTES_MIN};
use crate::outbox::BufferPool;
use crate::session::{Session, SessionId};
use crate::slab::Slab;
use crate::stores::Origin;
use crate::time::Instant;
use crate::will::Will;

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
    pub(crate) outlet: Outlet,
    pub(crate) held: Held,
    /// Bounded by the sessions and connections; emptied at the end of each step.
    pub(crate) endings: Vec<Ending>,
}

/// Bytes held beside messages and outboxes, for the ceiling.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) wills: u64,
    /// Texts of filters and names of groups.
    pub(crate) filters: u64,
    /// Of clients that are being authenticated.
    pub(crate) authentications: u64,
    /// Packets of which a part has come.
    pub(crate) half_packets: u64,
}

/// What every write to an outbox needs besides the connection.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    pub(crate) pool: BufferPool,
    /// Bytes in all outboxes.
    pub(crate) bytes_held: u64,
    templates: Templates,
}

impl Outlet {
    /// Appends what `write` writes and asks the host, once, to flush.
    pub(crate) fn append(
        &mut self,
        connection: &mut Connection,
        id: ConnectionId,
        actions: &mut Actions,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        append(&mut self.pool, &mut self.bytes_held, connection, id, actions, write);
    }

    fn append_shared(&mut self, connection: &mut Connection, bytes: Bytes) {
        self.bytes_held += bytes.len() as u64;
        connection.outbox.append_shared(bytes);
    }
}

fn append(
    pool: &mut BufferPool,
    bytes_held: &mut u64,
    connection: &mut Connection,
    id: ConnectionId,
    actions: &mut Actions,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let before = connection.outbox.bytes();
    connection.outbox.append(pool, write);
    *bytes_held += connection.outbox.bytes() - before;
    if !connection.flush_asked {
        connection.flush_asked = true;
        actions.push(Action::Flush(id));
    }
}

/// A PUBLISH encoded once for all receivers of one class within a fan-out, but for the first: most messages have one alone.
#[derive(Debug, Default)]
struct Templates {
    bytes: Vec<u8>,
    /// By class: 3.x QoS 0, 3.x QoS 1 and 2, 5.0 QoS 0, 5.0 QoS 1 and 2.
    classes: [Option<Template>; 4],
}

#[derive(Clone, Debug)]
struct Template {
    span: Range<usize>,
    packet_id_at: usize,
    packet_bytes: usize,
}

impl Templates {
    fn clear(&mut self) {
        if !self.bytes.is_empty() {
            self.bytes.clear();
            self.classes = [const { None }; 4];
        }
    }

    fn get(
        &mut self,
        now: Instant,
        version: ProtocolVersion,
        qos: QoS,
        source: &Source<'_>,
    ) -> (&[u8], Template) {
        let tracked = qos != QoS::AtMostOnce;
        let class = usize::from(version.is_v5()) * 2 + usize::from(tracked);
        if self.classes[class].is_none() {
            let placeholder = if tracked { PacketId::new(1) } else { None };
            let parts = PublishParts {
                dup: false,
                qos: if tracked { QoS::AtLeastOnce } else { QoS::AtMostOnce },
                retain: false,
                topic: source.view.topic,
                packet_id: placeholder,
                message_expiry_interval_s: source.view.expiry_left_s(now),
                topic_alias: None,
                subscription_ids: &[],
                forwarded: source.view.forwarded,
                payload_bytes: source.view.payload.len(),
            };
            let start = self.bytes.len();
            parts.encode_head(version, &mut self.bytes);
            if source.shared.is_none() {
                self.bytes.extend_from_slice(source.view.payload);
            }
            self.classes[class] = Some(Template {
                span: start..self.bytes.len(),
                packet_id_at: parts.packet_id_offset(version).unwrap_or(0),
                packet_bytes: parts.packet_bytes(version),
            });
        }
        let template = self.classes[class].clone().expect("made above");
        (&self.bytes[template.span.clone()], template)
    }
}

/// A message that was published a moment ago.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    /// Of this shard's publish counter.
    pub(crate) at: u64,
    /// Where it was published.
    pub(crate) origin: Origin,
}

/// A message on its way to the sessions that it matched.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub(crate) view: MessageView<'a>,
    /// The payload, if it is large enough to be shared instead of copied.
    pub(crate) shared: Option<Bytes>,
    /// Its place in the store, once a first session has to keep it.
    key: Option<MessageKey>,
    /// `None` if it comes out of a retained store, or was live before.
    live: Option<Live>,
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
    pub(crate) fn source_beside<'a>(
        &mut self,
        view: MessageView<'a>,
        payload: Option<&Bytes>,
        live: Option<Live>,
    ) -> Source<'a> {
        self.outlet.templates.clear();
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
        Source { view, shared, key: None, live, must_persist: false, offered_count: 0 }
    }

    /// Begins the fan-out of a message that is not in the store.
    pub(crate) fn source<'a>(&mut self, view: MessageView<'a>, live: Live) -> Source<'a> {
        self.source_beside(view, None, Some(live))
    }

    /// Begins the delivery of a stored message, of which `scratch` receives what is not shared.
    pub(crate) fn stored_source<'a>(&mut self, key: MessageKey, scratch: &'a mut StoredCopy) -> Source<'a> {
        self.outlet.templates.clear();
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
        Source { view, shared, key: Some(key), live: None, must_persist: false, offered_count: 0 }
    }

    /// Ends a fan-out: whoever keeps the message has counted itself.
    pub(crate) fn finish(&mut self, source: &Source<'_>) {
        if let Some(key) = source.key {
            self.messages.release(key);
        }
    }

    /// The message's place in the store, put there at the first call.
    pub(crate) fn keep(&mut self, source: &mut Source<'_>) -> MessageKey {
        *source.key.get_or_insert_with(|| self.messages.put(&source.view, source.shared.as_ref()))
    }

    /// Delivers to one session: sends, queues or drops, and counts which.
    pub(crate) fn offer(
        &mut self,
        now: Instant,
        session: u32,
        grant: Grant,
        source: &mut Source<'_>,
        actions: &mut Actions,
    ) {
        source.offered_count += 1;
        let owed = self.sessions.at_mut(session).expect("a subscription ends before its session");
        owed.ledger.match_one(&mut self.counters);
        let plan = self.plan(session, grant.qos, source.live.is_some());
        if let (Plan::Send(_) | Plan::Queue, Some(live)) = (&plan, source.live) {
            let session = self.sessions.at_mut(session).expect("looked up above");
            if let Some(lookups) = &mut session.lookups {
                let topic_hash = self.hasher.bytes(source.view.topic.as_bytes());
                lookups.note_live(topic_hash, live, self.limits.lookup_topics_max);
            }
        }
        match plan {
            Plan::Send(connection) => self.offer_send(now, session, connection, &grant, source, actions),
            Plan::Queue => {
                let key = self.keep(source);
                self.enqueue(now, session, key, grant, source);
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
        session.flow.as_ref().is_none_or(|flow| {
            flow.queue.len() < self.limits.queue_messages_max as usize
                && flow.queue_bytes < self.limits.queue_bytes_max
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
                if session.flow.as_ref().is_some_and(|flow| flow.queued_qos0_count > 0) {
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
                let no_backlog = session.flow.as_ref().is_none_or(|flow| {
                    flow.has_no_backlog() && flow.inflight_count() < self.limits.inflight_max
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
        source: &mut Source<'_>,
        actions: &mut Actions,
    ) {
        if grant.qos == QoS::AtMostOnce {
            let Self { connections, sessions, counters, outlet, hasher, .. } = self;
            let connection = connections.get_mut(id.0).expect("planned a moment ago");
            if !send(now, connection, id, grant, None, false, source, outlet, hasher, counters, actions) {
                let session = sessions.at_mut(index).expect("planned a moment ago");
                session.ledger.drop(counters, DropReason::PacketTooLarge, 1);
            }
            return;
        }
        let key = self.keep(source);
        let Self { limits, connections, sessions, counters, messages, outlet, hasher, .. } = self;
        let session = sessions.at_mut(index).expect("planned a moment ago");
        let connection = connections.get_mut(id.0).expect("planned a moment ago");
        let flow = session.flow.get_or_insert_default();
        let packet_id = flow
            .start(limits.inflight_max, Stage::Publish(key), grant.clone())
            .expect("planned with a window that has room");
        if send(now, connection, id, grant, Some(packet_id), false, source, outlet, hasher, counters, actions)
        {
            messages.hold(key);
            assert!(connection.send_quota > 0);
            connection.send_quota -= 1;
            source.must_persist |= session.is_persistent();
        } else {
            flow.finish(packet_id);
            session.ledger.drop(counters, DropReason::PacketTooLarge, 1);
        }
    }

    fn enqueue(&mut self, now: Instant, index: u32, key: MessageKey, grant: Grant, source: &mut Source<'_>) {
        let Self { limits, sessions, counters, messages, endings, .. } = self;
        let id = SessionId(sessions.key_at(index).expect("planned a moment ago"));
        let session = sessions.at_mut(index).expect("planned a moment ago");
        let bytes = messages.bytes_of(key);
        loop {
            let flow = session.flow.get_or_insert_default();
            let full = flow.queue.len() >= limits.queue_messages_max as usize
                || flow.queue_bytes + bytes > limits.queue_bytes_max;
            if !full {
                flow.queued_qos0_count += u32::from(grant.qos == QoS::AtMostOnce);
                flow.queue.push_back(Queued { message: key, grant });
                flow.queue_bytes += bytes;
                messages.hold(key);
                source.must_persist |= session.is_persistent();
                return;
            }
            // What is too old to be sent makes room before anybody loses a message that is not.
            let is_stale =
                flow.queue.front().is_some_and(|first| messages.view(first.message).is_expired(now));
            if is_stale && let Some(stale) = dequeue(flow, messages) {
                messages.release(stale.message);
                session.ledger.drop(counters, DropReason::Expired, 1);
                continue;
            }
            match limits.queue_full {
                // No room is made for what would not fit into an empty queue.
                QueueFull::DropOldest if bytes > limits.queue_bytes_max => {}
                QueueFull::DropOldest => {
                    if let Some(oldest) = dequeue(flow, messages) {
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
        self.outlet.append(connection, id, actions, write);
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
        let Held { wills, filters, authentications, half_packets: _ } = self.held;
        let messages = self.messages.bytes_held() + self.outlet.bytes_held;
        messages + wills + filters + authentications
    }

    /// Bytes held, for the ceiling.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.settled_bytes() + self.held.half_packets
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

/// What `Delivery::stored_source` copies out of the store.
#[derive(Debug, Default)]
pub(crate) struct StoredCopy {
    bytes: Vec<u8>,
    shared: Option<Bytes>,
}

/// Takes the oldest queued message out; the caller takes over its hold.
pub(crate) fn dequeue(flow: &mut Flow, messages: &MessageStore) -> Option<Queued> {
    let queued = flow.queue.pop_front()?;
    flow.queue_bytes -= messages.bytes_of(queued.message);
    flow.queued_qos0_count -= u32::from(queued.grant.qos == QoS::AtMostOnce);
    Some(queued)
}

/// Puts one PUBLISH of a fan-out into an outbox. `false`: longer than the client accepts
/// [MQTT-3.1.2-24].
#[expect(clippy::too_many_arguments, reason = "the disjoint parts of `Delivery`, borrowed one by one")]
fn send(
    now: Instant,
    connection: &mut Connection,
    id: ConnectionId,
    grant: &Grant,
    packet_id: Option<PacketId>,
    dup: bool,
    source: &Source<'_>,
    outlet: &mut Outlet,
    hasher: &Keyed,
    counters: &mut Counters,
    actions: &mut Actions,
) -> bool {
    let alike = grant.identifiers.as_slice().is_empty() && connection.aliases_out.is_none();
    if alike
        && source.shared.is_none()
        && let Some(body) =
            source.view.packet.and_then(|packet| packet.body_for(connection.version, grant.qos))
    {
        let fits = publish_bytes(body) <= connection.packet_bytes_max as usize;
        if fits {
            outlet.append(connection, id, actions, |out| {
                let start = append_publish(first_byte(dup, grant.qos, grant.retain), body, out);
                if let Some(packet_id) = packet_id {
                    let at = start + 2 + source.view.topic.len();
                    out[at..at + 2].copy_from_slice(&packet_id.get().to_be_bytes());
                }
            });
            end_publish(connection, grant.qos, &source.view, None, outlet, counters);
        }
        return fits;
    }
    if !alike || source.offered_count == 1 {
        let shared = source.shared.as_ref();
        return send_one(
            now,
            connection,
            id,
            grant,
            packet_id,
            dup,
            &source.view,
            shared,
            outlet,
            hasher,
            counters,
            actions,
        );
    }
    let Outlet { pool, bytes_held, templates } = outlet;
    let (bytes, template) = templates.get(now, connection.version, grant.qos, source);
    let fits = template.packet_bytes <= connection.packet_bytes_max as usize;
    if fits {
        append(pool, bytes_held, connection, id, actions, |out| {
            let start = out.len();
            out.extend_from_slice(bytes);
            out[start] = first_byte(dup, grant.qos, grant.retain);
            if let Some(packet_id) = packet_id {
                let at = start + template.packet_id_at;
                out[at..at + 2].copy_from_slice(&packet_id.get().to_be_bytes());
            }
        });
        end_publish(connection, grant.qos, &source.view, source.shared.as_ref(), outlet, counters);
    }
    fits
}

/// Puts one PUBLISH into an outbox, encoded for this connection alone: with an alias, with
/// Subscription Identifiers, or out of the queue.
#[expect(clippy::too_many_arguments, reason = "the disjoint parts of `Delivery`, borrowed one by one")]
pub(crate) fn send_one(
    now: Instant,
    connection: &mut Connection,
    id: ConnectionId,
    grant: &Grant,
    packet_id: Option<PacketId>,
    dup: bool,
    view: &MessageView<'_>,
    shared: Option<&Bytes>,
    outlet: &mut Outlet,
    hasher: &Keyed,
    counters: &mut Counters,
    actions: &mut Actions,
) -> bool {
    let mut alias =
        connection.aliases_out.as_ref().map_or(AliasUse::Plain, |aliases| aliases.choose(hasher, view.topic));
    let (topic, topic_alias) = match alias {
        AliasUse::Plain => (view.topic, None),
        AliasUse::First(alias) => (view.topic, Some(alias)),
        AliasUse::Known(alias) => ("", Some(alias)),
    };
    let mut parts = PublishParts {
        dup,
        qos: grant.qos,
        retain: grant.retain,
        topic,
        packet_id,
        message_expiry_interval_s: view.expiry_left_s(now),
        topic_alias,
        subscription_ids: grant.identifiers.as_slice(),
        forwarded: view.forwarded,
        payload_bytes: view.payload.len(),
    };
    let version = connection.version;
    let packet_bytes_max = connection.packet_bytes_max as usize;
    if matches!(alias, AliasUse::First(_)) && parts.packet_bytes(version) > packet_bytes_max {
        // It may fit without what would make later ones shorter.
        alias = AliasUse::Plain;
        parts.topic_alias = None;
    }
    if parts.packet_bytes(version) > packet_bytes_max {
        return false;
    }
    outlet.append(connection, id, actions, |out| {
        parts.encode_head(version, out);
        if shared.is_none() {
            out.extend_from_slice(view.payload);
        }
    });
    end_publish(connection, grant.qos, view, shared, outlet, counters);
    match alias {
        AliasUse::First(_) => {
            let aliases: &mut Box<_> = connection.aliases_out.as_mut().expect("it chose the alias");
            aliases.learned(hasher, view.topic);
        }
        AliasUse::Plain | AliasUse::Known(_) => {}
    }
    true
}

fn end_publish(
    connection: &mut Connection,
    qos: QoS,
    view: &MessageView<'_>,
    shared: Option<&Bytes>,
    outlet: &mut Outlet,
    counters: &mut Counters,
) {
    if let Some(payload) = shared {
        outlet.append_shared(connection, payload.clone());
    }
    if qos == QoS::AtMostOnce {
        connection.outbox.count_qos0();
    }
    counters.messages_sent += 1;
    counters.payload_bytes_sent += view.payload.len() as u64;
}

fn first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    0x30 | u8::from(dup) << 3 | qos.bits() << 1 | u8::from(retain)
}
