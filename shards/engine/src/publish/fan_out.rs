//! From a matched message to one session: send, queue or drop, and count which.

use core::cell::OnceCell;

use bytes::Bytes;
use wire::{PacketId, QoS};

use super::Delivery;
use super::awaited::Awaited;
use crate::base::ids::{ConnectionId, MessageKey, SessionId};
use crate::connection::Connection;
use crate::connection::send::Outgoing;
use crate::counters::DropReason;
use crate::message::borrowed::Message;
use crate::message::stored::SHARED_PAYLOAD_BYTES_MIN;
use crate::session::Session;
use crate::session::grant::Grant;
use crate::session::replays::LiveOrigin;
use crate::turn::Turn;

/// A message on its way to the sessions that it matched.
#[derive(Debug)]
pub(crate) struct FanOut<'a> {
    message: &'a Message<'a>,
    /// The payload, if it is large enough to be shared instead of copied.
    shared: Option<Bytes>,
    /// The message's place in the store, once a first session has to keep it.
    key: Option<MessageKey>,
    /// `None` if it comes out of a retained store, or was live before.
    live: Option<LiveOrigin>,
    /// The session that published it, by its slot, for No Local [MQTT-3.8.3-3].
    publisher: Option<u32>,
    /// Hash of the topic, once an alias or a replay has asked for it: a topic is hashed once for each publish.
    topic_hash: OnceCell<u64>,
    /// A session that outlives its connection keeps it: its acknowledgement is a promise.
    must_persist: bool,
    /// It came from another shard whose log does not have it: it was published before the subscriptions were acknowledged that are in
    /// the log of this one.
    is_unpromised: bool,
    /// Sessions it was offered to.
    offered_count: u32,
}

impl<'a> FanOut<'a> {
    pub(crate) fn message(&self) -> &'a Message<'a> {
        self.message
    }

    pub(crate) fn shared(&self) -> Option<&Bytes> {
        self.shared.as_ref()
    }

    pub(crate) fn publisher(&self) -> Option<u32> {
        self.publisher
    }

    pub(crate) fn must_persist(&self) -> bool {
        self.must_persist
    }

    pub(crate) fn offered_count(&self) -> u32 {
        self.offered_count
    }

    /// No session of the log receives it. The messages of its turn have to be [looked at](Turn::set_checks_all).
    pub(crate) fn set_unpromised(&mut self, is_unpromised: bool) {
        self.is_unpromised = is_unpromised;
    }

    /// Whether it reaches no subscription whose messages of QoS 1 and 2 have to outlive the process.
    pub(crate) fn is_unpromised(&self) -> bool {
        self.is_unpromised
    }

    /// Whether a session may not have it with this QoS because its subscription was not acknowledged when it was published. One of QoS 0
    /// is not told from an earlier one, and its messages need not survive on their way.
    pub(crate) fn is_too_early_for(&self, session: &Session, granted: QoS) -> bool {
        self.is_unpromised && granted != QoS::AtMostOnce && session.recorded_number().is_some()
    }

    pub(crate) fn live(&self) -> Option<LiveOrigin> {
        self.live
    }

    fn outgoing<'b>(&'b self, grant: &'b Grant, packet_id: Option<PacketId>) -> Outgoing<'b> {
        Outgoing::new(self.message, self.shared.as_ref(), &self.topic_hash, grant, packet_id)
    }

    /// It goes on: by whom it was published, how many sessions were offered it before, and whether one of them keeps it.
    pub(crate) fn gone_on(
        self,
        live: Option<LiveOrigin>,
        publisher: Option<u32>,
        (offered_count, must_persist): (u32, bool),
    ) -> Self {
        Self { live, publisher, must_persist, offered_count, ..self }
    }
}

/// The decision about a message for one session.
enum Plan {
    Send(ConnectionId),
    Queue,
    Drop(DropReason),
}

impl Delivery {
    /// Begins the fan-out of a message that is not in the store. A large payload may come `attached`, and is shared
    /// with it then. It is not `live` if it comes out of a retained store. `publisher` is the session of this shard that published it.
    #[inline]
    pub(crate) fn begin<'a>(
        &mut self,
        message: &'a Message<'a>,
        attached: Option<&Bytes>,
        live: Option<LiveOrigin>,
        publisher: Option<u32>,
    ) -> FanOut<'a> {
        self.connections.begin_fan_out();
        let shared = (message.payload.len() >= SHARED_PAYLOAD_BYTES_MIN).then(|| {
            let attached = attached.filter(|attached| !attached.is_empty());
            assert!(attached.is_none_or(|attached| attached.len() == message.payload.len()));
            attached.cloned().unwrap_or_else(|| Bytes::copy_from_slice(message.payload))
        });
        FanOut {
            message,
            shared,
            key: None,
            live,
            publisher,
            topic_hash: OnceCell::new(),
            must_persist: false,
            is_unpromised: false,
            offered_count: 0,
        }
    }

    /// Begins the delivery of a stored message, which is seen through a copy of it.
    pub(crate) fn begin_stored<'a>(
        &mut self,
        key: MessageKey,
        message: &'a Message<'a>,
        shared: Option<&Bytes>,
    ) -> FanOut<'a> {
        self.connections.begin_fan_out();
        self.messages.hold(key);
        FanOut {
            message,
            shared: shared.cloned(),
            key: Some(key),
            live: None,
            publisher: None,
            topic_hash: OnceCell::new(),
            must_persist: false,
            is_unpromised: false,
            offered_count: 0,
        }
    }

    /// Ends a fan-out and records it. Every holder of the message has counted itself.
    #[inline]
    pub(crate) fn finish(&mut self, turn: &mut Turn<'_>, fan_out: &FanOut<'_>) {
        if turn.is_recording() {
            self.record_message(turn, fan_out);
        }
        self.let_go(fan_out);
    }

    #[cold]
    fn record_message(&mut self, turn: &mut Turn<'_>, fan_out: &FanOut<'_>) {
        if let Some(recorder) = turn.recorder() {
            recorder.end_message(self.publish_sequence, &fan_out.message.content());
        }
        self.fan_out_waits = 0;
    }

    /// The fan-out needs its message no more.
    #[inline]
    pub(super) fn let_go(&mut self, fan_out: &FanOut<'_>) {
        if let Some(key) = fan_out.key {
            self.messages.release(key);
        }
    }

    /// The message's place in the store. The first call puts it there.
    pub(crate) fn keep(&mut self, fan_out: &mut FanOut<'_>) -> MessageKey {
        let FanOut { message, shared, key, .. } = fan_out;
        *key.get_or_insert_with(|| self.messages.put(message, shared.as_ref()))
    }

    /// Delivers to one session: sends, queues or drops, and counts which.
    pub(crate) fn offer(&mut self, turn: &mut Turn<'_>, index: u32, grant: Grant, fan_out: &mut FanOut<'_>) {
        turn.spend_delivery();
        let Self { sessions, connections, hasher, .. } = self;
        let session = sessions.of_member_mut(index);
        if session.is_watched(turn) {
            if session.has_ended() || fan_out.is_too_early_for(session, grant.qos) {
                return;
            }
            if !session.may_read(turn, fan_out.message.topic) {
                // It is not owed, so no ledger has it.
                turn.counters.reads_denied += 1;
                return;
            }
        }
        fan_out.offered_count += 1;
        session.count_match(turn.counters);
        // It may have become too old on its way from another shard [MQTT-3.3.2-5].
        let plan = if fan_out.message.expires_at.is_some_and(|deadline| deadline < turn.now) {
            Plan::Drop(DropReason::Expired)
        } else {
            let connection = session.connection().and_then(|id| Some((id, connections.get(id)?)));
            plan(turn, session, connection, grant.qos, fan_out.live.is_some())
        };
        if let (Plan::Send(_) | Plan::Queue, Some(live)) = (&plan, fan_out.live)
            && let Some(replays) = session.replays_mut()
        {
            let topic = fan_out.message.topic;
            let topic_hash = *fan_out.topic_hash.get_or_init(|| hasher.bytes(topic.as_bytes()));
            replays.record_live(topic_hash, live, turn.limits.replay_topics_max);
            session.note_replays(turn.held_mut());
        }
        match plan {
            Plan::Send(connection) => self.offer_now(turn, index, connection, &grant, fan_out),
            Plan::Queue => {
                let key = self.keep(fan_out);
                let Self { sessions, messages, group, .. } = self;
                let Some(id) = sessions.id_at(index) else { return };
                let session = sessions.of_member_mut(index);
                let recorded = record_delivery(turn, session, &grant, *group);
                let delivery = session.next_delivery();
                let qos = grant.qos;
                let queued = session.enqueue(turn, id, messages, key, grant);
                fan_out.must_persist |= queued && (session.is_persistent() || recorded.is_some());
                if recorded.is_some() || (qos == QoS::ExactlyOnce && session.is_owing()) {
                    self.end_recorded_delivery(turn, recorded, queued, (id, qos, delivery));
                }
            }
            Plan::Drop(reason) => session.count_dropped(turn.counters, reason, 1),
        }
    }

    /// A delivery that was added to the record of its message, or goes behind those that were, was queued or dropped.
    #[cold]
    fn end_recorded_delivery(
        &mut self,
        turn: &mut Turn<'_>,
        recorded: Option<usize>,
        is_queued: bool,
        (id, qos, delivery): (SessionId, QoS, u64),
    ) {
        if !is_queued {
            if let (Some(at), Some(recorder)) = (recorded, turn.recorder()) {
                recorder.take_back(at);
            }
        } else if qos == QoS::ExactlyOnce {
            self.fan_out_waits += 1;
            self.await_durable(id, Awaited::Publish(delivery));
        }
    }

    fn offer_now(
        &mut self,
        turn: &mut Turn<'_>,
        index: u32,
        to: ConnectionId,
        grant: &Grant,
        fan_out: &mut FanOut<'_>,
    ) {
        let is_only = fan_out.offered_count == 1;
        if grant.qos == QoS::AtMostOnce {
            let outgoing = fan_out.outgoing(grant, None);
            if !self.connections.send(turn, to, &outgoing, is_only) {
                let session = self.sessions.of_member_mut(index);
                session.count_dropped(turn.counters, DropReason::PacketTooLarge, 1);
            }
            return;
        }
        let key = self.keep(fan_out);
        let session = self.sessions.of_member_mut(index);
        let recorded = record_delivery(turn, session, grant, self.group);
        let packet_id = session.start_inflight(turn, key, grant.clone());
        let outgoing = fan_out.outgoing(grant, Some(packet_id));
        if self.connections.send(turn, to, &outgoing, is_only) {
            self.messages.hold(key);
            fan_out.must_persist |= session.is_persistent() || recorded.is_some();
        } else {
            if let Some(at) = recorded
                && let Some(recorder) = turn.recorder()
            {
                recorder.take_back(at);
            }
            session.cancel_inflight(turn, packet_id);
            session.count_dropped(turn.counters, DropReason::PacketTooLarge, 1);
        }
    }
}

/// Adds the next delivery of a session to the record of the message, if the log has that session's. Returns its place there.
#[inline]
fn record_delivery(
    turn: &mut Turn<'_>,
    session: &Session,
    grant: &Grant,
    group: (u64, bool),
) -> Option<usize> {
    if turn.is_recording() { record_next_delivery(turn, session, grant, group) } else { None }
}

#[cold]
fn record_next_delivery(
    turn: &mut Turn<'_>,
    session: &Session,
    grant: &Grant,
    (key, is_owed): (u64, bool),
) -> Option<usize> {
    let recorder = turn.recorder()?;
    let is_owed = is_owed && grant.group.is_some();
    let number = if is_owed { session.owing_number() } else { session.recorded_number() };
    let number = number.filter(|_| grant.qos != QoS::AtMostOnce)?;
    let group = grant.group.map(|_| (key, is_owed));
    let terms = (grant.retain, group, grant.identifiers.as_slice());
    Some(recorder.add_delivery(number, session.next_delivery(), grant.qos, terms))
}

fn plan(
    turn: &Turn<'_>,
    session: &Session,
    connection: Option<(ConnectionId, &Connection)>,
    qos: QoS,
    is_live: bool,
) -> Plan {
    let open = connection.filter(|(_, connection)| connection.is_open());
    match (qos, open) {
        (QoS::AtMostOnce, Some((id, connection))) => {
            // Messages that were queued while the client was absent come first [MQTT-4.6.0-5].
            if session.has_queued_qos0() {
                Plan::Queue
            } else if connection.has_outbox_room(turn.outbox_bytes_max()) {
                Plan::Send(id)
            } else if is_live {
                Plan::Drop(DropReason::OutboxFull)
            } else {
                // It was requested while there was room, and its store would have kept it.
                Plan::Queue
            }
        }
        (QoS::AtMostOnce, None) if turn.limits.queue_qos0_offline && session.is_persistent() => Plan::Queue,
        (QoS::AtMostOnce, None) => Plan::Drop(DropReason::Offline),
        (QoS::AtLeastOnce | QoS::ExactlyOnce, Some((id, connection))) => {
            // QoS 2 is sent once it is durable.
            let is_held = qos == QoS::ExactlyOnce && session.holds_exactly_once();
            let may_send = session.may_send_now(turn.limits)
                && !is_held
                && connection.send_quota() > 0
                && connection.has_outbox_room(turn.outbox_bytes_max());
            if may_send { Plan::Send(id) } else { Plan::Queue }
        }
        (QoS::AtLeastOnce | QoS::ExactlyOnce, None) => Plan::Queue,
    }
}
