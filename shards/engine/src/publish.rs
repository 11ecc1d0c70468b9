//! PUBLISH from a client: refused, or routed to retained store and sessions; and the acknowledgements
//! of both directions.
//! Knows no encoding of what goes out; `deliver` does.

use alloc::vec::Vec;
use core::num::NonZeroU64;

use wire::packet::{Ack, AckKind, AckProperties, Publish};
use wire::{PacketId, QoS, ReasonCode};

use crate::connection::ConnectionId;
use crate::counters::DropReason;
use crate::deliver::{Live, Source};
use crate::engine::Engine;
use crate::event::Actions;
use crate::flow::{Grant, Identifiers, Stage};
use crate::gate::Earned;
use crate::message::{MessageView, PlainPacket};
use crate::retained::Retained;
use crate::session::SessionId;
use crate::stores::Origin;
use crate::sys::is_sys;
use crate::time::Instant;
use crate::timer::Timer;
use crate::tree::{GroupTag, Member};

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

/// Which member of a group is rather given a message, the best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Preference {
    Online,
    /// Offline, and its session lasts.
    Keeps,
    /// Connected, and its queue is full.
    OnlineFull,
    KeepsFull,
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
        if !self.is_payload_as_told(publish.properties.payload_format_utf8, publish.payload) {
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
        if session.flow.as_ref().is_some_and(|flow| flow.has_received(packet_id)) {
            // A repetition: acknowledged again, not delivered again [MQTT-4.3.3-10].
            // What it repeats may still wait for the journal, on a connection that is gone.
            let must_persist = session.is_persistent();
            let ack = Earned::Ack(AckKind::PubRec, packet_id, ReasonCode::Success);
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
            session.flow.get_or_insert_default().receive(packet_id);
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
            self.acknowledge(now, id, Earned::Ack(kind, packet_id, reason), false, actions);
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
        self.acknowledge(now, id, Earned::Ack(kind, packet_id, reason), must_persist, actions);
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
        let mut source = self.delivery.source(view, Live { at: self.publish_sequence, origin });

        let mut filters = core::mem::take(&mut self.scratch.filters);
        let fingerprint = self.tree.matches(view.topic, &mut filters);
        self.offer_to_members(now, &filters, publisher, &mut source, actions);
        let meshed = self.mesh.placement.is_meshed();
        let own_count = source.offered_count;
        let other_count = if meshed {
            self.cross(now, &filters, fingerprint, retained_by, &mut source, actions)
        } else {
            self.offer_to_groups(now, &filters, &mut source, actions)
        };
        let taken_count = own_count + other_count;
        filters.clear();
        self.scratch.filters = filters;

        // Whether a session elsewhere outlives its connection is not known here, so it may.
        let promised = meshed && other_count > 0 && view.qos != QoS::AtMostOnce;
        if view.retain && self.mesh.placement.home(fingerprint) == self.mesh.placement.own {
            self.retain(&mut source, retained_by, origin);
        }
        if taken_count == 0 && !is_sys(view.topic) {
            self.delivery.counters.publishes_unmatched += 1;
        }
        let must_persist = source.must_persist || view.retain || promised;
        self.delivery.finish(&source);
        Routed::Taken { offered_count: taken_count, must_persist }
    }

    /// Delivers to the subscribers of the filters that match and are in no group.
    pub(crate) fn offer_to_members(
        &mut self,
        now: Instant,
        filters: &[u32],
        publisher: Option<u32>,
        source: &mut Source<'_>,
        actions: &mut Actions,
    ) {
        let view = source.view;
        match filters {
            [] => {}
            [filter] => {
                for member in self.tree.members(*filter) {
                    if let Some(grant) = grant(member, &view, publisher) {
                        self.delivery.offer(now, member.session, grant, source, actions);
                    }
                }
            }
            overlapping => {
                let mut matches = core::mem::take(&mut self.scratch.matches);
                self.merge(overlapping, &view, publisher, &mut matches);
                for Match { session, grant } in matches.drain(..) {
                    self.delivery.offer(now, session, grant, source, actions);
                }
                self.scratch.matches = matches;
            }
        }
    }

    /// Delivers to one member of each group, where there is one shard. Returns how many groups matched.
    fn offer_to_groups(
        &mut self,
        now: Instant,
        filters: &[u32],
        source: &mut Source<'_>,
        actions: &mut Actions,
    ) -> u32 {
        let mut group_count = 0;
        for &filter in filters {
            for at in 0..self.tree.groups(filter).len() {
                group_count += 1;
                self.offer_to_group(now, self.tree.groups(filter)[at], source, actions);
            }
        }
        group_count
    }

    /// Delivers to the member of a group whose turn it is, or counts the drop.
    pub(crate) fn offer_to_group(
        &mut self,
        now: Instant,
        group: u32,
        source: &mut Source<'_>,
        actions: &mut Actions,
    ) {
        if let Some((session, mut grant)) = self.choose_member(group, &source.view) {
            // Nobody waits for QoS 0.
            grant.group = (grant.qos != QoS::AtMostOnce).then(|| GroupTag::of(group));
            self.delivery.offer(now, session, grant, source, actions);
        } else {
            self.drop_for_group(DropReason::NoMember);
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
    pub(crate) fn retain(&mut self, source: &mut Source<'_>, publisher: Option<NonZeroU64>, origin: Origin) {
        let topic = source.view.topic;
        let replaced = if source.view.payload.is_empty() {
            self.retained.remove(topic)
        } else {
            let key = self.delivery.keep(source);
            self.delivery.messages.hold(key);
            self.retained.count_in(topic, self.delivery.messages.bytes_of(key));
            let sequence = self.publish_sequence;
            let expires_at = source.view.expires_at;
            let timer = expires_at.map(|deadline| self.wheel.insert(deadline, Timer::RetainedExpiry(key)));
            self.retained.set(topic, Retained { message: key, sequence, publisher, origin, timer })
        };
        if let Some(replaced) = replaced {
            self.let_go(topic, &replaced);
        }
    }

    /// Lets a message go that was taken out of the retained store.
    pub(crate) fn let_go(&mut self, topic: &str, retained: &Retained) {
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

    /// Members of a group that are online, and those that are not but can keep a message.
    pub(crate) fn count_members(&mut self, group: u32) -> (u32, u32) {
        let group = self.tree.group_mut(group);
        if let Some(counts) = group.counts {
            return counts;
        }
        let (mut online_count, mut keeper_count) = (0, 0);
        for member in &group.members {
            let session = self.delivery.sessions.at(member.session);
            let session = session.expect("a subscription ends before its session");
            if self.delivery.is_online(session) {
                online_count += 1;
            } else if session.is_persistent() {
                keeper_count += 1;
            }
        }
        group.counts = Some((online_count, keeper_count));
        (online_count, keeper_count)
    }

    /// The member of a shared subscription whose turn it is: connected if any is, else one whose session
    /// can keep the message; of either, one whose queue is full only if there is no other.
    fn choose_member(&mut self, group: u32, view: &MessageView<'_>) -> Option<(u32, Grant)> {
        let group = self.tree.group_mut(group);
        let count = group.members.len();
        let mut second: Option<(Preference, u32, Grant, u32)> = None;
        for step in 0..count {
            let at = (group.cursor as usize + step) % count;
            let member = group.members[at];
            let Some(grant) = grant(&member, view, None) else { continue };
            let session =
                self.delivery.sessions.at(member.session).expect("a subscription ends before its session");
            let keeps = grant.qos != QoS::AtMostOnce || self.delivery.limits.queue_qos0_offline;
            // QoS 0 is not queued for who is connected.
            let has_room = grant.qos == QoS::AtMostOnce || self.delivery.has_queue_room(session);
            let preference = match (self.delivery.is_online(session), has_room) {
                (true, true) => Preference::Online,
                (true, false) => Preference::OnlineFull,
                (false, _) if !(keeps && session.is_persistent()) => continue,
                (false, true) => Preference::Keeps,
                (false, false) => Preference::KeepsFull,
            };
            let next = u32::try_from((at + 1) % count).expect("below the member count");
            if preference == Preference::Online {
                group.cursor = next;
                return Some((member.session, grant));
            }
            if second.as_ref().is_none_or(|(other, ..)| preference < *other) {
                second = Some((preference, member.session, grant, next));
            }
        }
        let (_, session, grant, next) = second?;
        group.cursor = next;
        Some((session, grant))
    }

    pub(crate) fn on_puback(
        &mut self,
        now: Instant,
        id: ConnectionId,
        session: SessionId,
        ack: &Ack<'_>,
        actions: &mut Actions,
    ) {
        match self.stage_of(session, ack.packet_id) {
            Some((Stage::Publish(_), QoS::AtLeastOnce)) => {
                self.finish_delivery(now, id, session, ack.packet_id, ack.reason, actions);
            }
            // Acknowledged before, perhaps on an earlier connection.
            None => {}
            Some((Stage::Publish(_) | Stage::Release, _)) => {
                self.protocol_error(now, id, ReasonCode::ProtocolError, actions);
            }
        }
    }

    pub(crate) fn on_pubrec(
        &mut self,
        now: Instant,
        id: ConnectionId,
        session_id: SessionId,
        ack: &Ack<'_>,
        actions: &mut Actions,
    ) {
        let reason = match self.stage_of(session_id, ack.packet_id) {
            Some((Stage::Publish(_), QoS::ExactlyOnce)) if ack.reason.is_error() => {
                self.finish_delivery(now, id, session_id, ack.packet_id, ack.reason, actions);
                return;
            }
            Some((Stage::Publish(message), QoS::ExactlyOnce)) => {
                let session = self.delivery.sessions.get_mut(session_id.0).expect("it has a stage");
                let inflight = session.flow.as_mut().and_then(|flow| flow.inflight(ack.packet_id));
                inflight.expect("it has a stage").stage = Stage::Release;
                self.delivery.messages.release(message);
                ReasonCode::Success
            }
            // A repetition of a PUBREC whose PUBREL is out already.
            Some((Stage::Release, _)) => ReasonCode::Success,
            Some((Stage::Publish(_), QoS::AtMostOnce | QoS::AtLeastOnce)) => {
                self.protocol_error(now, id, ReasonCode::ProtocolError, actions);
                return;
            }
            None => ReasonCode::PacketIdentifierNotFound,
        };
        let version = self.connection(id).version;
        let pubrel = Ack { packet_id: ack.packet_id, reason, properties: AckProperties::default() };
        self.delivery.write(id, actions, |out| pubrel.encode(AckKind::PubRel, version, out));
    }

    pub(crate) fn on_pubrel(
        &mut self,
        now: Instant,
        id: ConnectionId,
        session: SessionId,
        ack: &Ack<'_>,
        actions: &mut Actions,
    ) {
        let session = self.delivery.sessions.get_mut(session.0).expect("an open connection has a session");
        let known = session.flow.as_mut().is_some_and(|flow| flow.release_received(ack.packet_id));
        let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        // A repetition waits as well: the first may be on its way to the journal from a lost connection.
        let must_persist = session.is_persistent();
        let earned = Earned::Ack(AckKind::PubComp, ack.packet_id, reason);
        self.acknowledge(now, id, earned, must_persist, actions);
    }

    pub(crate) fn on_pubcomp(
        &mut self,
        now: Instant,
        id: ConnectionId,
        session: SessionId,
        ack: &Ack<'_>,
        actions: &mut Actions,
    ) {
        match self.stage_of(session, ack.packet_id) {
            Some((Stage::Release, _)) => {
                self.finish_delivery(now, id, session, ack.packet_id, ReasonCode::Success, actions);
            }
            None => {}
            Some((Stage::Publish(_), _)) => self.protocol_error(now, id, ReasonCode::ProtocolError, actions),
        }
    }

    fn stage_of(&mut self, session: SessionId, packet_id: PacketId) -> Option<(Stage, QoS)> {
        let session = self.delivery.sessions.get_mut(session.0).expect("an open connection has a session");
        let inflight = session.flow.as_mut()?.inflight(packet_id)?;
        Some((inflight.stage, inflight.grant.qos))
    }

    /// A delivery is acknowledged to its end: the quota it held serves the next [MQTT-4.9.0-2].
    fn finish_delivery(
        &mut self,
        now: Instant,
        id: ConnectionId,
        session_id: SessionId,
        packet_id: PacketId,
        reason: ReasonCode,
        actions: &mut Actions,
    ) {
        let delivery = &mut self.delivery;
        let session = delivery.sessions.get_mut(session_id.0).expect("it has a stage");
        let inflight = session.flow.as_mut().and_then(|flow| flow.finish(packet_id)).expect("it has a stage");
        match inflight.stage {
            Stage::Publish(message) => delivery.messages.release(message),
            Stage::Release => {}
        }
        if reason.is_error() {
            session.ledger.drop(&mut delivery.counters, DropReason::Refused, 1);
        } else {
            session.ledger.deliver(&mut delivery.counters, 1);
        }
        let backlog = session.flow.as_ref().is_some_and(|flow| !flow.has_no_backlog());
        if inflight.holds_quota {
            let connection = self.connection(id);
            connection.send_quota += 1;
            assert!(connection.send_quota <= connection.receive_maximum);
        }
        if backlog {
            self.delivery.pump(now, session_id, actions);
        }
        self.schedule_lookups(session_id);
    }
}

/// What a subscription grants a message; `None` if it does not want it from this publisher.
fn grant(member: &Member, view: &MessageView<'_>, publisher: Option<u32>) -> Option<Grant> {
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
