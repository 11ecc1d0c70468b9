//! SUBSCRIBE and UNSUBSCRIBE: the topic tree changes, other shards are told, and retained messages are replayed.

use alloc::vec::Vec;

use rules::Coverage;
use wire::packet::{
    AckProperties, Reasons, SubAck, Subscribe, SubscribeFilters, SubscribeOptions, UnsubAck, Unsubscribe,
    UnsubscribeFilters,
};
use wire::{PacketId, QoS, ReasonCode, RetainHandling, TopicFilter};

use super::Rooms;
use super::close::SUBSCRIPTION_WORK;
use super::long_packet::{Answers, LongPacket, LongPacketKind};
use crate::base::ids::{ConnectionId, SessionId};
use crate::cause::Cause;
use crate::connection::ack_gate::PendingAck;
use crate::connection::bounded_write::append_bounded;
use crate::connection::disconnect::Wait;
use crate::connection::reason_string::{MATCH_NODES, reason_string};
use crate::connection::{Close, Connection};
use crate::limits::Limits;
use crate::memory::Budget;
use crate::session::replays::{ReplayShards, ReplayTerms, Since};
use crate::shared::reassignment::Leaving;
use crate::turn::Turn;

/// Bytes of a subscription to a new filter beside the text, about.
const FILTER_BYTES: u64 = 512;
/// Bytes before the text of a filter, and of its options behind it.
const TEXT_LENGTH_BYTES: usize = 2;
const OPTIONS_BYTES: usize = 1;
/// Bytes of a short SUBACK or UNSUBACK before its reasons; 3.1.1 needs one less.
const HEAD_BYTES: usize = 5;

impl Rooms {
    pub(super) fn on_subscribe(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        session: SessionId,
        subscribe: &Subscribe<'_>,
    ) -> Result<(), Close> {
        let version = self.delivery.connections.current(id).version();
        if version.is_v5()
            && let Some(cause) = unsupported(turn.limits, subscribe)
        {
            // CONNACK said so, so it is a protocol error [3.2.2.3.11 to 3.2.2.3.13].
            return Err(Close::Told(cause));
        }
        if self.pressure.log_room().holds()
            && self.delivery.sessions.of_connection(session).recorded_number().is_some()
        {
            return Err(Close::Wait(Wait::Log));
        }
        let Subscribe { packet_id, subscription_id, filters, .. } = *subscribe;
        let kind = LongPacketKind::Subscribe(subscription_id);
        self.begin_packet(turn, (id, session), (kind, packet_id), filters.payload())
    }

    pub(super) fn on_unsubscribe(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        session: SessionId,
        unsubscribe: &Unsubscribe<'_>,
    ) -> Result<(), Close> {
        let payload = unsubscribe.filters.payload();
        let kind = LongPacketKind::Unsubscribe;
        self.begin_packet(turn, (id, session), (kind, unsubscribe.packet_id), payload)
    }

    /// Takes as many filters of a packet as the step's share of work allows. The rest goes on in later steps, and its
    /// connection is held meanwhile.
    fn begin_packet(
        &mut self,
        turn: &mut Turn<'_>,
        (id, session): (ConnectionId, SessionId),
        (kind, packet_id): (LongPacketKind, PacketId),
        payload: &[u8],
    ) -> Result<(), Close> {
        let mut answers = Answers::default();
        let done_bytes = self.take_filters(turn, session, kind, payload, &mut answers);
        if let Some(rest) = payload.get(done_bytes..).filter(|rest| !rest.is_empty()) {
            let ordinal = self.delivery.connections.hold(id);
            let packet = LongPacket::new((id, ordinal), (kind, packet_id), rest, answers);
            self.backlog.push_packet(packet);
            return Ok(());
        }
        self.acknowledge_packet(turn, (id, session), (kind, packet_id), &answers)
    }

    /// Goes on with a packet; `Some` if not all of it is done.
    pub(super) fn go_on_with_packet(
        &mut self,
        turn: &mut Turn<'_>,
        mut packet: LongPacket,
    ) -> Option<LongPacket> {
        let (id, ordinal) = packet.connection();
        // A connection that has ended forgets what it began.
        let session = self.delivery.connections.session_of_held(id, ordinal)?;
        let (kind, packet_id) = packet.kind();
        let (payload, answers) = packet.rest();
        let done_bytes = self.take_filters(turn, session, kind, payload, answers);
        if packet.advance(done_bytes) {
            return Some(packet);
        }
        self.delivery.connections.end_hold(turn, id);
        let answers = packet.into_answers();
        if let Err(close) = self.acknowledge_packet(turn, (id, session), (kind, packet_id), &answers) {
            self.close(turn, id, &close);
        }
        None
    }

    /// Takes filters until the step has done its share of work, one at least. Returns how many bytes of `payload` they were.
    fn take_filters(
        &mut self,
        turn: &mut Turn<'_>,
        session: SessionId,
        kind: LongPacketKind,
        payload: &[u8],
        answers: &mut Answers,
    ) -> usize {
        assert!(!payload.is_empty());
        assert!(!self.backlog.has_fan_out());
        let mut done_bytes = 0;
        match kind {
            LongPacketKind::Subscribe(identifier) => {
                for (filter, options) in SubscribeFilters::from_payload(payload).iter() {
                    if done_bytes > 0 && turn.is_spent() {
                        break;
                    }
                    done_bytes += TEXT_LENGTH_BYTES + filter.as_str().len() + OPTIONS_BYTES;
                    let terms = ReplayTerms { options, identifier };
                    let mut text = None;
                    let code = self.subscribe(turn, session, &filter, terms, &mut text);
                    answers.push(code, text);
                }
            }
            LongPacketKind::Unsubscribe => {
                let mut leaving = Leaving::default();
                for filter in UnsubscribeFilters::from_payload(payload).iter() {
                    if done_bytes > 0 && turn.is_spent() {
                        break;
                    }
                    done_bytes += TEXT_LENGTH_BYTES + filter.as_str().len();
                    answers.push(self.unsubscribe(turn, session, &filter, &mut leaving), None);
                }
                // Its queue and its groups change in one step.
                self.shared.leave_groups(turn, &mut self.delivery, session, leaving);
            }
        }
        self.delivery.sessions.subscriptions_changed(session);
        done_bytes
    }

    fn acknowledge_packet(
        &mut self,
        turn: &mut Turn<'_>,
        (id, session): (ConnectionId, SessionId),
        (kind, packet_id): (LongPacketKind, PacketId),
        answers: &Answers,
    ) -> Result<(), Close> {
        match kind {
            LongPacketKind::Subscribe(_) => self.acknowledge_subscribe(turn, id, session, packet_id, answers),
            LongPacketKind::Unsubscribe => {
                self.acknowledge_unsubscribe(turn, id, session, packet_id, answers.codes())
            }
        }
    }

    fn acknowledge_subscribe(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        session: SessionId,
        packet_id: PacketId,
        answers: &Answers,
    ) -> Result<(), Close> {
        let connection = self.delivery.connections.current(id);
        let (version, bytes_max) = (connection.version(), connection.packet_bytes_max());
        let wants_reason_string = connection.problem_information();
        let must_persist = self.delivery.sessions.of_connection(session).is_persistent();
        let (codes, text) = (answers.codes(), answers.text());
        let text = text.or_else(|| codes.iter().find_map(|&code| reason_string(code)));
        let text = text.filter(|_| wants_reason_string);
        let variants = [text, None];
        let variants = if text.is_some() { &variants[..] } else { &variants[1..] };
        let mut bytes = Vec::with_capacity(HEAD_BYTES + codes.len());
        // A reason string goes along where it fits. A client that asked about more filters than it can be answered for is
        // told that [MQTT-3.1.2-24].
        let fits = append_bounded(&mut bytes, bytes_max, variants, |&reason_string, out| {
            let properties = AckProperties { reason_string, ..AckProperties::default() };
            let reasons = Reasons::from_codes(codes);
            SubAck { packet_id, reasons, properties }.encode(version, out);
        });
        if !fits {
            return Err(Close::Told(Cause::AnswerTooLong));
        }
        // First, every shard has to know the interest that was announced until now.
        self.announce_changes();
        let ack = PendingAck::Encoded(bytes.into_boxed_slice());
        let (announced, known) = (self.mesh.announced(), self.mesh.acknowledged_by_all());
        let connections = &mut self.delivery.connections;
        if announced <= known {
            connections.acknowledge(turn, id, ack, must_persist);
        } else {
            connections.acknowledge_after_interest(id, ack, must_persist, announced);
        }
        self.retained.begin(turn, &mut self.delivery, session);
        self.retained.schedule(&mut self.delivery.sessions, session);
        Ok(())
    }

    /// One filter of a SUBSCRIBE, as if it had come alone [MQTT-3.8.4-5]. Sets `text` where it says more than the code.
    fn subscribe(
        &mut self,
        turn: &mut Turn<'_>,
        id: SessionId,
        filter: &TopicFilter<'_>,
        terms: ReplayTerms,
        text: &mut Option<&'static str>,
    ) -> ReasonCode {
        turn.spend(SUBSCRIPTION_WORK);
        // CONNACK did not say so to a 3.1.1 client, so SUBACK does, filter by filter.
        if let Some(cause) = unsupported_filter(turn.limits, filter) {
            return cause.reason();
        }
        let connection = self.connection_of(id);
        let maximum_qos = connection.map_or(QoS::AtMostOnce, Connection::maximum_qos);
        let is_bridge = connection.is_some_and(Connection::is_bridge);
        let mut options = SubscribeOptions { qos: terms.options.qos.min(maximum_qos), ..terms.options };
        if is_bridge {
            options = options_of_bridge(filter, options);
        }
        let terms = ReplayTerms { options, ..terms };
        if filter.levels().count() > usize::from(turn.limits.topic_levels_max) {
            return ReasonCode::TopicFilterInvalid;
        }
        // The broker's own topics are always there to be read: they say what is wrong.
        let is_refused =
            self.refuses_more(turn, Budget::Subscriptions, FILTER_BYTES + filter.filter().len() as u64)
                && !self.may_read_sys(turn, filter);
        let Self { topics, delivery, .. } = self;
        let session = delivery.sessions.of_connection(id);
        match session.coverage(turn, filter.share_name(), filter) {
            Coverage::Covered => {}
            Coverage::Disjoint if !turn.limits.denied_subscribe_accepted => {
                turn.counters.subscriptions_forbidden += 1;
                return ReasonCode::NotAuthorized;
            }
            Coverage::Disjoint | Coverage::Partial => session.set_checked(true),
        }
        let is_full = session.subscriptions().count() >= turn.limits.subscriptions_per_session_max;
        if (is_full || is_refused) && !topics.holds(id.index(), filter) {
            return ReasonCode::QuotaExceeded;
        }
        if !topics.fits(filter, turn.limits.match_nodes_max) {
            turn.counters.filters_refused += 1;
            *text = Some(MATCH_NODES);
            return ReasonCode::QuotaExceeded;
        }
        let is_lasting = turn.is_recording() && session.is_lasting(options.qos);
        let list = session.subscriptions_mut();
        let is_new = topics.subscribe(list, (id.index(), is_lasting), filter, options, terms.identifier);
        let wants_retained = match options.retain_handling {
            RetainHandling::SendAtSubscribe => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        // A shared subscription is sent no retained messages [4.8.2].
        let looks_up = filter.share_name().is_none() && {
            if let Some(replays) = session.replays_mut() {
                replays.update(filter.filter(), terms);
            }
            wants_retained && self.start_replay(turn, id, filter, terms)
        };
        self.record_subscribed(turn, id, filter, terms, looks_up);
        match options.qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        }
    }

    /// The connection of a session that has one.
    fn connection_of(&mut self, id: SessionId) -> Option<&Connection> {
        let connection = self.delivery.sessions.of_connection(id).connection()?;
        self.delivery.connections.get(connection)
    }

    /// Starts to send the retained messages of a filter to a session. Returns whether there may be any.
    fn start_replay(
        &mut self,
        turn: &mut Turn<'_>,
        id: SessionId,
        filter: &TopicFilter<'_>,
        terms: ReplayTerms,
    ) -> bool {
        assert!(filter.share_name().is_none());
        let placement = self.mesh.placement();
        let shards = if filter.has_wildcard() {
            ReplayShards::all(placement.shard_count())
        } else {
            ReplayShards::only(placement.home_of_topic(filter.filter()))
        };
        if self.retained.has_nothing_for(filter, shards) {
            return false;
        }
        self.announce_changes();
        let since = Since::new(self.delivery.publish_sequence(), self.mesh.announced());
        let session = self.delivery.sessions.of_connection(id);
        session.replays_or_new().start(filter.filter(), terms, shards, since);
        session.note_replays(turn.held_mut());
        true
    }

    /// One filter of an UNSUBSCRIBE. A group that the session leaves is noted in `leaving`.
    fn unsubscribe(
        &mut self,
        turn: &mut Turn<'_>,
        id: SessionId,
        filter: &TopicFilter<'_>,
        leaving: &mut Leaving,
    ) -> ReasonCode {
        turn.spend(SUBSCRIPTION_WORK);
        let Self { topics, delivery, .. } = self;
        let session = delivery.sessions.of_connection(id);
        if let Some(replays) = session.replays_mut()
            && filter.share_name().is_none()
        {
            replays.cancel(filter.filter());
            session.note_replays(turn.held_mut());
        }
        leaving.record(topics, filter);
        if turn.is_recording() {
            self.record_unsubscribed(turn, id, filter);
        }
        let Self { topics, delivery, .. } = self;
        let session = delivery.sessions.of_connection(id);
        if topics.unsubscribe(session.subscriptions_mut(), id.index(), filter) {
            ReasonCode::Success
        } else {
            ReasonCode::NoSubscriptionExisted
        }
    }

    fn acknowledge_unsubscribe(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        session: SessionId,
        packet_id: PacketId,
        codes: &[ReasonCode],
    ) -> Result<(), Close> {
        let delivery = &mut self.delivery;
        let must_persist = delivery.sessions.of_connection(session).is_persistent();
        let connection = delivery.connections.current(id);
        let (version, bytes_max) = (connection.version(), connection.packet_bytes_max());
        let mut bytes = Vec::with_capacity(HEAD_BYTES + codes.len());
        let fits = append_bounded(&mut bytes, bytes_max, &[()], |(), out| {
            let (reasons, properties) = (Reasons::from_codes(codes), AckProperties::default());
            UnsubAck { packet_id, reasons, properties }.encode(version, out);
        });
        if !fits {
            return Err(Close::Told(Cause::AnswerTooLong));
        }
        let ack = PendingAck::Encoded(bytes.into_boxed_slice());
        delivery.connections.acknowledge(turn, id, ack, must_persist);
        Ok(())
    }
}

/// The options that mosquitto gives to each subscription of a bridge before 5.0: no message comes back to it, and the retain
/// flag stays as it is. No Local cannot be set on a shared subscription [MQTT-3.8.3-4].
fn options_of_bridge(filter: &TopicFilter<'_>, options: SubscribeOptions) -> SubscribeOptions {
    SubscribeOptions { no_local: filter.share_name().is_none(), retain_as_published: true, ..options }
}

/// The reason why a SUBSCRIBE asks for more than CONNACK offered, if it does.
fn unsupported(limits: &Limits, subscribe: &Subscribe<'_>) -> Option<Cause> {
    if subscribe.subscription_id.is_some() && !limits.subscription_identifiers {
        return Some(Cause::SubscriptionIdUnavailable);
    }
    if limits.wildcard_subscriptions && limits.shared_subscriptions {
        return None;
    }
    subscribe.filters.iter().find_map(|(filter, _)| unsupported_filter(limits, &filter))
}

fn unsupported_filter(limits: &Limits, filter: &TopicFilter<'_>) -> Option<Cause> {
    if filter.share_name().is_some() && !limits.shared_subscriptions {
        return Some(Cause::SharedUnavailable);
    }
    if filter.has_wildcard() && !limits.wildcard_subscriptions {
        return Some(Cause::WildcardUnavailable);
    }
    None
}
