//! PUBLISH from a client: refused, or routed to the retained store and to sessions.
//! Knows no encoding of what goes out, `send` does; and no acknowledgement of a client, `acks` does.

use alloc::vec::Vec;
use core::num::NonZeroU64;

use wire::packet::{AckKind, Publish};
use wire::{PacketId, QoS, ReasonCode};

use crate::base::time::Instant;
use crate::connection::ack_gate::PendingAck;
use crate::connection::table::ConnectionId;
use crate::engine::Engine;
use crate::event::Actions;
use crate::message::stored::{MessageView, PlainPacket};
use crate::publish::fan_out::{FanOut, LiveOrigin};
use crate::publish::sys::is_sys;
use crate::retained::store::Retained;
use crate::retained::watermarks::Origin;
use crate::session::inflight::{Grant, Identifiers};
use crate::session::table::SessionId;
use crate::timer::Timer;
use crate::topic::tree::Member;

/// Allocations that live across steps so that the steady state makes none.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) filters: Vec<u32>,
    matches: Vec<Match>,
    forwarded: Vec<u8>,
}

/// One session matched by several filters: one delivery at the highest QoS [MQTT-3.3.4-2], with all
/// Subscription Identifiers [MQTT-3.3.4-4].
#[derive(Debug)]
struct Match {
    session: u32,
    grant: Grant,
}

/// What became of a publish.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Routed {
    /// Sessions that were owed it, and whether the promise to one of them outlives its connection.
    Taken {
        offered_count: u32,
        must_persist: bool,
    },
    Refused(ReasonCode),
}

impl Engine {
    pub(crate) fn on_publish(
        &mut self,
        now: Instant,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
        actions: &mut Actions,
    ) {
        self.delivery.counters.messages_received += 1;
        self.delivery.counters.payload_bytes_received += publish.payload.len() as u64;
        if !publish.properties.subscription_ids.is_empty() {
            // A client's PUBLISH has none [MQTT-3.3.4-6].
            self.protocol_error(now, id, ReasonCode::ProtocolError, actions);
            return;
        }
        let limits = &self.delivery.limits;
        if publish.qos > limits.maximum_qos {
            // CONNACK said so [MQTT-3.2.2-11].
            self.protocol_error(now, id, ReasonCode::QoSNotSupported, actions);
            return;
        }
        if publish.retain && !limits.retain_available {
            // [MQTT-3.2.2-14]
            self.protocol_error(now, id, ReasonCode::RetainNotSupported, actions);
            return;
        }
        match (publish.topic, publish.properties.topic_alias) {
            (Some(topic), None) => self.publish_to(now, id, session, publish, topic.as_str(), actions),
            (None, None) => unreachable!("the codec refuses an empty topic without alias [MQTT-3.3.2-8]"),
            (_, Some(alias)) if alias.get() > self.delivery.limits.topic_alias_maximum => {
                self.protocol_error(now, id, ReasonCode::TopicAliasInvalid, actions);
            }
            (Some(topic), Some(alias)) => {
                self.connection(id).aliases_in.get_or_insert_default().set(alias, topic.as_str());
                self.publish_to(now, id, session, publish, topic.as_str(), actions);
            }
            (None, Some(alias)) => {
                let aliases = self.connection(id).aliases_in.get_or_insert_default();
                let Some(topic) = aliases.lend(alias) else {
                    self.protocol_error(now, id, ReasonCode::ProtocolError, actions);
                    return;
                };
                self.publish_to(now, id, session, publish, &topic, actions);
                // A close in between has thrown all of them away.
                let connection = self.delivery.connections.get_mut(id.0);
                if let Some(aliases) = connection.and_then(|connection| connection.aliases_in.as_mut()) {
                    aliases.give_back(alias, topic);
                }
            }
        }
    }

    fn publish_to(
        &mut self,
        now: Instant,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
        topic: &str,
        actions: &mut Actions,
    ) {
        if is_sys(topic) {
            self.deny_sys(now, id, publish, actions);
            return;
        }
        if !self.has_valid_payload_format(publish.properties.payload_format_utf8, publish.payload) {
            self.refuse_payload(now, id, publish, actions);
            return;
        }
        let mut forwarded = core::mem::take(&mut self.scratch.forwarded);
        forwarded.clear();
        if publish.properties.has_forwardable() {
            publish.properties.append_forwardable(&mut forwarded);
        }
        let view = MessageView {
            topic,
            forwarded: &forwarded,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            expires_at: publish.properties.message_expiry_interval_s.map(|interval_s| now.plus_s(interval_s)),
            packet: PlainPacket::of(self.connection(id).version, publish),
        };
        match (publish.qos, publish.packet_id) {
            (QoS::AtMostOnce, _) => {
                let routed = self.route(now, view, Some(session), actions);
                // Nothing answers QoS 0. Whoever names a topic that is never accepted has to be told all the same;
                // want of room passes, and what it cost is counted.
                if let Routed::Refused(reason @ ReasonCode::TopicNameInvalid) = routed {
                    self.close(now, id, Some(reason), actions);
                }
            }
            (QoS::AtLeastOnce, Some(packet_id)) => {
                if self.count_receiving(now, id, actions) {
                    let routed = self.route(now, view, Some(session), actions);
                    self.answer(now, id, AckKind::PubAck, packet_id, routed, actions);
                }
            }
            (QoS::ExactlyOnce, Some(packet_id)) => {
                self.publish_exactly_once(now, id, session, packet_id, view, actions);
            }
            (QoS::AtLeastOnce | QoS::ExactlyOnce, None) => {
                unreachable!("the codec refuses QoS 1 and 2 without Packet Identifier [MQTT-2.2.1-3]")
            }
        }
        self.scratch.forwarded = forwarded;
    }

    fn publish_exactly_once(
        &mut self,
        now: Instant,
        id: ConnectionId,
        session_id: SessionId,
        packet_id: PacketId,
        view: MessageView<'_>,
        actions: &mut Actions,
    ) {
        let session = self.delivery.sessions.get_mut(session_id.0).expect("an open connection has a session");
        if session.deliveries.as_ref().is_some_and(|deliveries| deliveries.has_received(packet_id)) {
            // A repetition: acknowledged again, not delivered again [MQTT-4.3.3-10].
            // What it repeats may still wait for the journal, on a connection that is gone.
            let must_persist = session.is_persistent();
            let ack = PendingAck::Ack(AckKind::PubRec, packet_id, ReasonCode::Success);
            self.acknowledge(now, id, ack, must_persist, actions);
            return;
        }
        if !self.count_receiving(now, id, actions) {
            return;
        }
        let routed = self.route(now, view, Some(session_id), actions);
        if matches!(routed, Routed::Taken { .. })
            && let Some(session) = self.delivery.sessions.get_mut(session_id.0)
        {
            session.deliveries.get_or_insert_default().receive(packet_id);
        }
        self.answer(now, id, AckKind::PubRec, packet_id, routed, actions);
    }

    /// Refuses a PUBLISH whose payload is not what it says; only 5.0 can say it.
    fn refuse_payload(
        &mut self,
        now: Instant,
        id: ConnectionId,
        publish: &Publish<'_>,
        actions: &mut Actions,
    ) {
        self.delivery.counters.publishes_refused += 1;
        let reason = ReasonCode::PayloadFormatInvalid;
        let kind = match publish.qos {
            QoS::AtMostOnce => return self.close(now, id, Some(reason), actions),
            QoS::AtLeastOnce => AckKind::PubAck,
            QoS::ExactlyOnce => AckKind::PubRec,
        };
        if let Some(packet_id) = publish.packet_id
            && self.count_receiving(now, id, actions)
        {
            self.acknowledge(now, id, PendingAck::Ack(kind, packet_id, reason), false, actions);
        }
    }

    /// Counts a QoS 1 or 2 message against our Receive Maximum; `false` if the client exceeds it.
    pub(crate) fn count_receiving(&mut self, now: Instant, id: ConnectionId, actions: &mut Actions) -> bool {
        let receive_maximum = self.delivery.limits.receive_maximum;
        let connection = self.connection(id);
        if connection.version.is_v5() && connection.receiving_count >= receive_maximum {
            self.protocol_error(now, id, ReasonCode::ReceiveMaximumExceeded, actions);
            return false;
        }
        connection.receiving_count = connection.receiving_count.saturating_add(1);
        true
    }

    /// Acknowledges a routed PUBLISH, or says why it was refused.
    fn answer(
        &mut self,
        now: Instant,
        id: ConnectionId,
        kind: AckKind,
        packet_id: PacketId,
        routed: Routed,
        actions: &mut Actions,
    ) {
        let v5 = self.connection(id).version.is_v5();
        let (reason, must_persist) = match routed {
            Routed::Taken { offered_count: 0, must_persist } if v5 => {
                (ReasonCode::NoMatchingSubscribers, must_persist)
            }
            Routed::Taken { must_persist, .. } => (ReasonCode::Success, must_persist),
            Routed::Refused(reason) if v5 => (reason, false),
            Routed::Refused(_) => {
                // 3.1.1 has no way to refuse but to close [MQTT-3.3.5-2].
                self.close(now, id, None, actions);
                return;
            }
        };
        self.acknowledge(now, id, PendingAck::Ack(kind, packet_id, reason), must_persist, actions);
    }

    /// Gives a message to the retained store and to every session that wants it.
    pub(crate) fn route(
        &mut self,
        now: Instant,
        view: MessageView<'_>,
        publisher: Option<SessionId>,
        actions: &mut Actions,
    ) -> Routed {
        if let Some(reason) = self.refuse_publish(&view) {
            self.delivery.counters.publishes_refused += 1;
            return Routed::Refused(reason);
        }
        self.publish_sequence += 1;
        let retained_by = publisher
            .filter(|_| view.retain)
            .and_then(|session| self.delivery.sessions.get(session.0))
            .and_then(|session| self.mesh.placement.publisher(&session.client_id));
        let publisher = publisher.map(|session| session.0.index());
        let origin = Origin { shard: self.mesh.placement.own, sequence: self.publish_sequence };
        let mut fan_out = self.delivery.fan_out(view, LiveOrigin { at: self.publish_sequence, origin });

        let mut filters = core::mem::take(&mut self.scratch.filters);
        let fingerprint = self.tree.matches(view.topic, &mut filters);
        self.offer_to_members(now, &filters, publisher, &mut fan_out, actions);
        let meshed = self.mesh.placement.is_meshed();
        let own_count = fan_out.offered_count;
        let other_count = if meshed {
            self.forward(now, &filters, fingerprint, retained_by, &mut fan_out, actions)
        } else {
            self.offer_to_groups(now, &filters, &mut fan_out, actions)
        };
        let taken_count = own_count + other_count;
        filters.clear();
        self.scratch.filters = filters;

        // Whether a session elsewhere outlives its connection is not known here, so it may.
        let promised = meshed && other_count > 0 && view.qos != QoS::AtMostOnce;
        if view.retain && self.mesh.placement.home(fingerprint) == self.mesh.placement.own {
            self.retain(&mut fan_out, retained_by, origin);
        }
        if taken_count == 0 && !is_sys(view.topic) {
            self.delivery.counters.publishes_unmatched += 1;
        }
        let must_persist = fan_out.must_persist || view.retain || promised;
        self.delivery.finish(&fan_out);
        Routed::Taken { offered_count: taken_count, must_persist }
    }

    /// Delivers to the subscribers of the filters that match and are in no group.
    pub(crate) fn offer_to_members(
        &mut self,
        now: Instant,
        filters: &[u32],
        publisher: Option<u32>,
        fan_out: &mut FanOut<'_>,
        actions: &mut Actions,
    ) {
        let view = fan_out.view;
        match filters {
            [] => {}
            [filter] => {
                for member in self.tree.members(*filter) {
                    if let Some(grant) = grant(member, &view, publisher) {
                        self.delivery.offer(now, member.session, grant, fan_out, actions);
                    }
                }
            }
            overlapping => {
                let mut matches = core::mem::take(&mut self.scratch.matches);
                self.merge(overlapping, &view, publisher, &mut matches);
                for Match { session, grant } in matches.drain(..) {
                    self.delivery.offer(now, session, grant, fan_out, actions);
                }
                self.scratch.matches = matches;
            }
        }
    }

    /// Why a publish is not taken, if it is not.
    fn refuse_publish(&self, view: &MessageView<'_>) -> Option<ReasonCode> {
        let limits = &self.delivery.limits;
        // The host's, not a client's: few and small.
        if is_sys(view.topic) {
            return None;
        }
        // As many levels take as many bytes less one.
        if view.topic.len() >= usize::from(limits.topic_levels_max)
            && view.topic.split('/').count() > usize::from(limits.topic_levels_max)
        {
            return Some(ReasonCode::TopicNameInvalid);
        }
        if self.delivery.is_over_memory_ceiling() {
            return Some(ReasonCode::QuotaExceeded);
        }
        if view.retain
            && self.mesh.placement.home_of_topic(view.topic) == self.mesh.placement.own
            && self.is_retained_store_full(view)
        {
            return Some(ReasonCode::QuotaExceeded);
        }
        None
    }

    /// Whether the store of this shard has no room for a retained message.
    pub(crate) fn is_retained_store_full(&self, view: &MessageView<'_>) -> bool {
        let limits = &self.delivery.limits;
        if !view.payload.is_empty() && !is_sys(view.topic) {
            let known = self.retained.get(view.topic);
            let bytes = (view.topic.len() + view.forwarded.len() + view.payload.len()) as u64;
            let replaced = known.map_or(0, |known| self.delivery.messages.bytes_of(known.message));
            let full =
                known.is_none() && self.retained.count_of_clients() >= limits.retained_messages_max as usize;
            if full || self.retained.bytes_held - replaced + bytes > limits.retained_bytes_max {
                return true;
            }
        }
        false
    }

    /// Replaces or, with an empty payload, removes the retained message of a topic [MQTT-3.3.1-5, -6].
    pub(crate) fn retain(&mut self, fan_out: &mut FanOut<'_>, publisher: Option<NonZeroU64>, origin: Origin) {
        let topic = fan_out.view.topic;
        let replaced = if fan_out.view.payload.is_empty() {
            self.retained.remove(topic)
        } else {
            let key = self.delivery.keep(fan_out);
            self.delivery.messages.hold(key);
            self.retained.count_in(topic, self.delivery.messages.bytes_of(key));
            let sequence = self.publish_sequence;
            let expires_at = fan_out.view.expires_at;
            let timer = expires_at.map(|deadline| self.wheel.insert(deadline, Timer::RetainedExpiry(key)));
            self.retained.set(topic, Retained { message: key, sequence, publisher, origin, timer })
        };
        if let Some(replaced) = replaced {
            self.release_removed(topic, &replaced);
        }
    }

    /// Lets a message go that was taken out of the retained store.
    pub(crate) fn release_removed(&mut self, topic: &str, retained: &Retained) {
        if let Some(timer) = retained.timer {
            // Where it was due a moment ago there is nothing to cancel.
            self.wheel.cancel(timer);
        }
        self.retained.count_out(topic, self.delivery.messages.bytes_of(retained.message));
        self.delivery.messages.release(retained.message);
    }

    /// Joins the members of several filters into one match for each session.
    fn merge(
        &mut self,
        filters: &[u32],
        view: &MessageView<'_>,
        publisher: Option<u32>,
        matches: &mut Vec<Match>,
    ) {
        let sequence = self.publish_sequence;
        for &filter in filters {
            for member in self.tree.members(filter) {
                let Some(grant) = grant(member, view, publisher) else { continue };
                let session = self
                    .delivery
                    .sessions
                    .at_mut(member.session)
                    .expect("a subscription ends before its session");
                if session.matched_sequence == sequence {
                    let known = &mut matches[session.matched_at as usize].grant;
                    known.qos = known.qos.max(grant.qos);
                    known.retain |= grant.retain;
                    known.identifiers.add(member.identifier);
                } else {
                    session.matched_sequence = sequence;
                    session.matched_at = u32::try_from(matches.len()).expect("at most one a session");
                    matches.push(Match { session: member.session, grant });
                }
            }
        }
    }
}

/// What a subscription grants a message; `None` if it does not want it from this publisher.
pub(crate) fn grant(member: &Member, view: &MessageView<'_>, publisher: Option<u32>) -> Option<Grant> {
    // [MQTT-3.8.3-3]
    if member.options.no_local && publisher == Some(member.session) {
        return None;
    }
    Some(Grant {
        qos: view.qos.min(member.options.qos),
        retain: view.retain && member.options.retain_as_published,
        group: None,
        identifiers: Identifiers::from(member.identifier),
    })
}
