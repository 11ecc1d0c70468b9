//! The way of one PUBLISH: checked, matched, delivered here, forwarded to other shards, and retained at its home.

use alloc::vec::Vec;
use core::num::NonZeroU64;

use wire::packet::{AckKind, Publish};
use wire::{PacketId, QoS, ReasonCode};

use super::Rooms;
use super::fan_out::Source;
use crate::base::ids::{ConnectionId, SessionId};
use crate::cause::Cause;
use crate::connection::Close;
use crate::connection::ack_gate::PendingAck;
use crate::connection::connect::has_valid_payload_format;
use crate::connection::disconnect::Wait;
use crate::memory::Budget;
use crate::message::borrowed::{Message, PlainPacket};
use crate::message::origin::Origin;
use crate::publish::admission::{Routed, refusal};
use crate::publish::fan_out::FanOut;
use crate::publish::matches::Position;
use crate::publish::spread::Stage;
use crate::record::Recorder;
use crate::retained::store::RetainedEntry;
use crate::session::replays::LiveOrigin;
use crate::session::user::UserId;
use crate::shared::Shared;
use crate::topic::sys::is_sys;
use crate::topic::tree::Matched;
use crate::turn::Turn;

/// Nodes of the topic tree that are visited for one unit of work.
const NODES_PER_WORK: u32 = 8;

/// Bytes of a retained message beside the message and its topic, about.
const RETAINED_ENTRY_BYTES: u64 = 128;

/// From so many visited nodes on, a publish is counted as one that took long: about a quarter of the usual bound.
const LONG_MATCH_NODES: u32 = 512;

/// The author of a retained message: the fingerprint of its client identifier, and its user.
pub(super) type Author = (Option<NonZeroU64>, Option<UserId>);

/// Counts the work of finding the filters that match a topic. Returns whether it took long.
pub(super) fn spend_match(turn: &mut Turn<'_>, found: Matched, filters: &[u32]) -> bool {
    let visited_count = found.visited_count();
    // For a cached topic with one filter the work of its packet stands.
    if visited_count == 0 && filters.len() <= 1 {
        return false;
    }
    let filter_count = u32::try_from(filters.len()).unwrap_or(u32::MAX);
    turn.spend(filter_count.saturating_add(1 + visited_count / NODES_PER_WORK));
    turn.counters.topic_nodes_visited += u64::from(visited_count);
    let is_long = visited_count >= LONG_MATCH_NODES;
    turn.counters.long_matches += u64::from(is_long);
    is_long
}

impl Rooms {
    pub(super) fn on_publish(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
    ) -> Result<(), Close> {
        turn.counters.messages_received += 1;
        turn.counters.payload_bytes_received += publish.payload.len() as u64;
        if !publish.properties.subscription_ids.is_empty() {
            // A client's PUBLISH has none [MQTT-3.3.4-6].
            return Err(Close::Told(Cause::SubscriptionIdFromClient));
        }
        if publish.retain && !turn.limits.retain_available {
            // [MQTT-3.2.2-14]
            return Err(Close::Told(Cause::RetainUnavailable));
        }
        match (publish.topic, publish.properties.topic_alias) {
            (Some(topic), None) => self.publish_to(turn, id, session, publish, topic.as_str()),
            (None, None) => unreachable!("the codec refuses an empty topic without alias [MQTT-3.3.2-8]"),
            (_, Some(alias)) if alias.get() > turn.limits.topic_alias_maximum => {
                Err(Close::Told(Cause::AliasAboveMaximum))
            }
            (Some(topic), Some(alias)) => {
                if self.pressure.refuses(Budget::Subscriptions) {
                    return Err(Close::Told(Cause::AliasMemory));
                }
                if !self.delivery.connections.set_alias(turn.limits, id, alias, topic.as_str()) {
                    // Not 0x94: an alias within the announced maximum is never invalid [MQTT-3.3.2-9].
                    return Err(Close::Told(Cause::AliasBytes));
                }
                self.publish_to(turn, id, session, publish, topic.as_str())
            }
            (None, Some(alias)) => {
                let Some(topic) = self.delivery.connections.lend_alias(id, alias) else {
                    return Err(Close::Told(Cause::UnknownAlias));
                };
                let outcome = self.publish_to(turn, id, session, publish, &topic);
                self.delivery.connections.give_back_alias(id, alias, topic);
                outcome
            }
        }
    }

    fn publish_to(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
        topic: &str,
    ) -> Result<(), Close> {
        let connection = self.delivery.connections.current(id);
        let version = connection.version();
        if publish.qos > connection.maximum_qos() {
            // CONNACK said so [MQTT-3.2.2-11].
            return Err(Close::Told(Cause::QosAboveMaximum));
        }
        if is_sys(topic) {
            return self.deny_sys(turn, id, publish);
        }
        let is_utf8 = publish.properties.payload_format_utf8;
        if !has_valid_payload_format(turn.limits, is_utf8, publish.payload) {
            return self.refuse_payload(turn, id, publish);
        }
        let mut forwarded = core::mem::take(&mut self.forwarded);
        forwarded.clear();
        if publish.properties.has_forwardable() {
            publish.properties.append_forwardable(&mut forwarded);
        }
        let expiry_interval_s = publish.properties.message_expiry_interval_s;
        let message = Message {
            topic,
            forwarded: &forwarded,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            expires_at: expiry_interval_s.map(|interval_s| turn.now.plus_s(interval_s)),
            packet: PlainPacket::of(version, publish),
        };
        let outcome = match (publish.qos, publish.packet_id) {
            (QoS::AtMostOnce, _) => match self.route(turn, &message, Some(session), None) {
                Routed::UnderWay => {
                    self.hold_publisher(id, None);
                    Ok(())
                }
                // Nothing answers QoS 0. A client that names a topic which is never accepted has to be told all the same;
                // want of room passes, and its cost is counted.
                Routed::Refused(ReasonCode::TopicNameInvalid) => Err(Close::Told(Cause::TopicLevels)),
                Routed::Denied => Self::forbid(turn),
                Routed::Delayed { payload_bytes, wait: Wait::Log } => {
                    Err(Self::put_back(turn, payload_bytes, Wait::Log))
                }
                Routed::Refused(_) | Routed::Delayed { .. } | Routed::Taken { .. } => Ok(()),
            },
            (QoS::AtLeastOnce, Some(packet_id)) => self.count_receiving(turn, id).and_then(|()| {
                let routed = self.route(turn, &message, Some(session), None);
                self.answer(turn, id, AckKind::PubAck, packet_id, routed)
            }),
            (QoS::ExactlyOnce, Some(packet_id)) => {
                self.publish_exactly_once(turn, id, session, packet_id, &message)
            }
            (QoS::AtLeastOnce | QoS::ExactlyOnce, None) => {
                unreachable!("the codec refuses QoS 1 and 2 without Packet Identifier [MQTT-2.2.1-3]")
            }
        };
        self.forwarded = forwarded;
        outcome
    }

    fn publish_exactly_once(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        session_id: SessionId,
        packet_id: PacketId,
        message: &Message<'_>,
    ) -> Result<(), Close> {
        let session = self.delivery.sessions.of_connection(session_id);
        if session.has_received(packet_id) {
            // A repetition is acknowledged again, not delivered again [MQTT-4.3.3-10]. The first one may still wait for
            // the journal, on a connection that is gone.
            let must_persist = session.is_persistent();
            let ack = PendingAck::Ack(AckKind::PubRec, packet_id, ReasonCode::Success);
            self.delivery.connections.acknowledge(turn, id, ack, must_persist);
            return Ok(());
        }
        let number = if turn.is_recording() { session.recorded_number() } else { None };
        self.count_receiving(turn, id)?;
        if let (Some(recorder), Some(number)) = (turn.recorder(), number) {
            recorder.set_sender(number, packet_id.get());
        }
        let routed = self.route(turn, message, Some(session_id), None);
        let is_recorded = number.is_some() && turn.recorder().is_some_and(Recorder::end_sender);
        let is_kept = match routed {
            Routed::Taken { .. } | Routed::UnderWay => true,
            // Before 5.0 it is taken to its end, as if it had been delivered.
            Routed::Denied => {
                !turn.limits.denied_publish_closes && !self.delivery.connections.current(id).version().is_v5()
            }
            Routed::Refused(_) | Routed::Delayed { .. } => false,
        };
        if is_kept {
            self.delivery.sessions.of_connection(session_id).record_received(turn, packet_id, is_recorded);
        }
        self.answer(turn, id, AckKind::PubRec, packet_id, routed)
    }

    /// PUBREL of the client.
    pub(super) fn on_pubrel(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        session: SessionId,
        packet_id: PacketId,
    ) {
        let session = self.delivery.sessions.of_connection(session);
        let (reason, may_be_recorded) = session.on_pubrel(packet_id);
        // A repetition waits as well: the first may be on its way to the log from a lost connection.
        let mut must_persist = session.is_persistent();
        if turn.is_recording() {
            must_persist &= may_be_recorded;
            if reason == ReasonCode::Success && may_be_recorded {
                session.record_pubrel(turn, packet_id);
            }
        }
        let ack = PendingAck::Ack(AckKind::PubComp, packet_id, reason);
        self.delivery.connections.acknowledge(turn, id, ack, must_persist);
    }

    /// Refuses a PUBLISH whose payload does not have the format that it says; only 5.0 can say it.
    fn refuse_payload(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        publish: &Publish<'_>,
    ) -> Result<(), Close> {
        turn.counters.publishes_refused += 1;
        let reason = ReasonCode::PayloadFormatInvalid;
        match publish.packet_id {
            None => Err(Close::Told(Cause::PayloadFormat)),
            Some(packet_id) => self.answer_unrouted(turn, id, publish.qos, packet_id, reason),
        }
    }

    /// A client's PUBLISH to a topic of the broker's own goes nowhere. A 5.0 client is told so; an older one, which
    /// could only be closed, is acknowledged as other brokers do it. Either is counted.
    fn deny_sys(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        publish: &Publish<'_>,
    ) -> Result<(), Close> {
        turn.counters.publishes_denied += 1;
        let Some(packet_id) = publish.packet_id else { return Ok(()) };
        let is_v5 = self.delivery.connections.current(id).version().is_v5();
        let reason = if is_v5 { ReasonCode::NotAuthorized } else { ReasonCode::Success };
        self.answer_unrouted(turn, id, publish.qos, packet_id, reason)
    }

    fn answer_unrouted(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        qos: QoS,
        packet_id: PacketId,
        reason: ReasonCode,
    ) -> Result<(), Close> {
        self.count_receiving(turn, id)?;
        let kind = if qos == QoS::ExactlyOnce { AckKind::PubRec } else { AckKind::PubAck };
        let ack = PendingAck::Ack(kind, packet_id, reason);
        self.delivery.connections.acknowledge(turn, id, ack, false);
        Ok(())
    }

    /// A client has published what it may not: its connection ends if the limits say so.
    fn forbid(turn: &Turn<'_>) -> Result<(), Close> {
        if turn.limits.denied_publish_closes { Err(Close::Told(Cause::PublishForbidden)) } else { Ok(()) }
    }

    /// Counts a QoS 1 or 2 message against our Receive Maximum [MQTT-3.3.4-9].
    fn count_receiving(&mut self, turn: &Turn<'_>, id: ConnectionId) -> Result<(), Close> {
        let has_room = self.delivery.connections.current(id).count_receiving(turn.limits);
        if has_room { Ok(()) } else { Err(Close::Told(Cause::ReceiveMaximum)) }
    }

    /// Acknowledges a routed PUBLISH, or says why it was refused.
    pub(super) fn answer(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        kind: AckKind,
        packet_id: PacketId,
        routed: Routed,
    ) -> Result<(), Close> {
        let is_v5 = self.delivery.connections.current(id).version().is_v5();
        let (reason, must_persist) = match routed {
            Routed::Taken { offered_count: 0, must_persist } if is_v5 => {
                (ReasonCode::NoMatchingSubscribers, must_persist)
            }
            Routed::Taken { must_persist, .. } => (ReasonCode::Success, must_persist),
            Routed::UnderWay => {
                self.hold_publisher(id, Some((kind, packet_id)));
                return Ok(());
            }
            Routed::Denied => {
                Self::forbid(turn)?;
                (if is_v5 { ReasonCode::NotAuthorized } else { ReasonCode::Success }, false)
            }
            Routed::Refused(reason) if is_v5 => (reason, false),
            // 3.1.1 has no way to refuse but to close [MQTT-3.3.5-2].
            Routed::Refused(reason) => return Err(Close::Silently(Cause::PublishRefused(reason))),
            Routed::Delayed { wait: Wait::Memory, .. } if is_v5 => (ReasonCode::QuotaExceeded, false),
            Routed::Delayed { payload_bytes, wait } => {
                self.delivery.connections.current(id).uncount_receiving();
                return Err(Self::put_back(turn, payload_bytes, wait));
            }
        };
        let ack = PendingAck::Ack(kind, packet_id, reason);
        self.delivery.connections.acknowledge(turn, id, ack, must_persist);
        Ok(())
    }

    /// Counts a PUBLISH as if it had not come yet.
    #[cold]
    fn put_back(turn: &mut Turn<'_>, payload_bytes: u64, wait: Wait) -> Close {
        turn.counters.messages_received -= 1;
        turn.counters.payload_bytes_received -= payload_bytes;
        turn.counters.publishes_refused -= 1;
        Close::Wait(wait)
    }

    /// Gives a message to every session that wants it, here and on other shards, and to the retained store. It is from the session
    /// `publisher`, or a will of `user`.
    pub(super) fn route(
        &mut self,
        turn: &mut Turn<'_>,
        message: &Message<'_>,
        publisher: Option<SessionId>,
        user: Option<UserId>,
    ) -> Routed {
        if let Some(reason) = refusal(turn.limits, message) {
            turn.counters.publishes_refused += 1;
            return Routed::Refused(reason);
        }
        let mut filters = core::mem::take(&mut self.filters);
        let found = self.topics.matches(message.topic, &mut filters);
        let fingerprint = found.fingerprint();
        if spend_match(turn, found, &filters) {
            self.keep_long_match(publisher, message.topic, found);
        }
        if let Some(refused) = self.refusal_before_delivery(turn, (message, publisher), &filters, found) {
            self.return_filters(filters);
            return refused;
        }
        let sequence = self.delivery.next_publish();
        let retained_by = if message.retain { self.hold_author(turn, publisher, user) } else { (None, None) };
        let origin = Origin { shard: self.mesh.placement().own(), sequence };
        let live = Some(LiveOrigin::new(sequence, origin));
        let mut fan_out = self.delivery.begin(message, None, live, publisher.map(SessionId::index));

        let start = Position::start(filters.len());
        let cut = self.delivery.offer_to_subscribers(turn, &self.topics, &filters, start, &mut fan_out);
        let mut stage = cut.map(Stage::Subscribers);
        let own_count = fan_out.offered_count();
        let is_meshed = self.mesh.placement().is_meshed();
        let (mut other_count, mut is_promised) = (0, false);
        if is_meshed {
            let found = (fingerprint, stage.is_some());
            (other_count, is_promised) = self.forward(turn, &filters, found, retained_by, &mut fan_out);
        } else if self.topics.has_groups() {
            other_count = Shared::count_groups(&self.topics, &filters);
            if stage.is_none() {
                let Self { topics, delivery, shared, .. } = self;
                let cut = shared.offer_to_groups(turn, (topics, delivery), &filters, (0, 0), &mut fan_out);
                stage = cut.map(|(filter, group)| Stage::Groups(filter, group));
            }
        }
        if message.retain && self.mesh.placement().home(fingerprint) == origin.shard {
            self.retain(turn, &mut fan_out, retained_by, origin);
        }
        self.delivery.sessions.users_mut().release(retained_by.1);
        let must_persist = message.retain || is_promised;
        self.weigh_growth(turn);
        if let Some(stage) = stage {
            let spread = self.delivery.suspend(turn, fan_out, &self.topics, &filters, stage);
            self.return_filters(filters);
            let is_counted = !is_sys(message.topic);
            let source = Source::Client { other_count, must_persist, is_counted, publisher: None };
            self.backlog.begin_fan_out(spread, source);
            return Routed::UnderWay;
        }
        self.return_filters(filters);
        let offered_count = own_count + other_count;
        if offered_count == 0 && !is_sys(message.topic) {
            turn.counters.publishes_unmatched += 1;
        }
        let must_persist = fan_out.must_persist() || must_persist;
        self.delivery.finish(turn, &fan_out);
        Routed::Taken { offered_count, must_persist }
    }

    /// The answer to a publish that the rules forbid, or for which there is no room, and which is counted; `None` if it is taken.
    fn refusal_before_delivery(
        &mut self,
        turn: &mut Turn<'_>,
        (message, publisher): (&Message<'_>, Option<SessionId>),
        filters: &[u32],
        found: Matched,
    ) -> Option<Routed> {
        if turn.rules().is_some()
            && let Some(id) = publisher
            && !self.delivery.sessions.of_connection(id).may_publish(turn, found.serial(), message.topic)
        {
            turn.counters.publishes_forbidden += 1;
            return Some(Routed::Denied);
        }
        let fingerprint = found.fingerprint();
        let refused = self.shortage_refusal(message, publisher, filters, fingerprint).or_else(|| {
            let is_full = self.has_no_room_to_retain(turn, message, fingerprint);
            is_full.then_some(Routed::Refused(ReasonCode::QuotaExceeded))
        })?;
        turn.counters.publishes_refused += 1;
        Some(refused)
    }

    /// Replaces or, with an empty payload, removes the retained message of a topic [MQTT-3.3.1-5, -6].
    pub(super) fn retain(
        &mut self,
        turn: &mut Turn<'_>,
        fan_out: &mut FanOut<'_>,
        author: Author,
        origin: Origin,
    ) {
        let Self { delivery, retained, mesh, .. } = &mut *self;
        let message = fan_out.message();
        assert!(message.retain);
        if let Some(recorder) = turn.recorder()
            && !is_sys(message.topic)
        {
            let user = delivery.sessions.users().name_of(author.1).name();
            recorder.set_stored(author.0, user, (origin.shard, origin.sequence));
            mesh.set_stored(delivery.connections.gathering());
        }
        if message.payload.is_empty() {
            retained.store_mut().remove(turn, delivery.retention(), message.topic);
        } else {
            let key = delivery.keep(fan_out);
            let entry = RetainedEntry::new(key, delivery.publish_sequence(), author, origin);
            retained.store_mut().set(turn, delivery.retention(), message, entry);
            self.count_unweighed(turn, message.topic.len() as u64 + RETAINED_ENTRY_BYTES);
        }
    }

    /// Takes the list of filters back.
    pub(super) fn return_filters(&mut self, mut filters: Vec<u32>) {
        filters.clear();
        self.filters = filters;
    }

    /// The author of a message that is to be retained: of a session, or of a will of `user`. Its user is held.
    fn hold_author(&mut self, turn: &Turn<'_>, publisher: Option<SessionId>, user: Option<UserId>) -> Author {
        let known = publisher.and_then(|id| Some((id, self.delivery.sessions.get(id)?)));
        let Some((id, session)) = known else {
            self.delivery.sessions.users_mut().hold(user);
            return (None, user);
        };
        assert!(user.is_none());
        let client = self.mesh.placement().publisher(session.client_id());
        (client, self.delivery.sessions.hold_source(turn, id))
    }

    /// Whether a message is to be retained here and the store has no room for it.
    fn has_no_room_to_retain(&self, turn: &Turn<'_>, message: &Message<'_>, fingerprint: u64) -> bool {
        let placement = self.mesh.placement();
        message.retain
            && placement.home(fingerprint) == placement.own()
            && self.retained.store().is_full_for(turn.limits, &self.delivery.messages, message)
    }
}
