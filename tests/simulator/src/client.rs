//! The clients: they write packets and answer the packets they read, by the standard's rules for a client. Bytes go into
//! a link and come out of one; no engine is visible here.

use std::num::NonZeroU16;

use wire::packet::{
    Connect, ConnectProperties, Disconnect, DisconnectProperties, Publish, PublishBody, PublishProperties,
    Subscribe, SubscribeFilters, SubscribeOptions, Unsubscribe, UnsubscribeFilters, UserProperties, Will,
    WillProperties,
};
use wire::{Ack, Packet, PacketId, ProtocolVersion, QoS, ReasonCode, RetainHandling, TopicFilter, TopicName};

use crate::identity::{ConnectOptions, Identity, Outgoing, PendingFilter, Phase, Stage};
use crate::link::{ClientEnd, Link, Served};
use crate::oracle::{Copy, Kind, payload};
use crate::session::{Interval, NEVER, Session};
use crate::verdicts::owner_of;
use crate::world::World;

/// Bytes of a will's payload.
const WILL_BYTES: usize = 24;
/// Time until a session has ended whose time is over, in milliseconds.
const ENDS_MS_MAX: u64 = 500;
/// Greatest topic alias that a 5.0 client accepts.
const TOPIC_ALIAS_MAX: u16 = 8;

/// A subscription to request.
#[derive(Clone, Copy, Debug)]
pub struct Subscribing<'a> {
    /// The filter.
    pub filter: &'a str,
    /// The maximum QoS requested.
    pub qos: QoS,
    /// When retained messages are sent (5.0).
    pub retain_handling: RetainHandling,
}

impl World {
    /// Adds a client and returns its number.
    pub fn add(&mut self, identity: Identity) -> usize {
        if !identity.group.is_empty() && !self.oracle.groups.contains(&identity.group) {
            self.oracle.groups.push(identity.group.clone());
        }
        self.oracle.group_of.push(identity.group.clone());
        self.oracle.is_volatile.push(identity.expiry_s == 0);
        self.identities.push(identity);
        self.oracle.sessions.push(Session::default());
        self.identities.len() - 1
    }

    /// Opens a connection that shard `shard` accepts, and writes CONNECT.
    ///
    /// # Panics
    /// If the client has a connection.
    pub fn connect(&mut self, client: usize, shard: usize, options: ConnectOptions) {
        assert!(self.identities[client].phase == Phase::Offline);
        let link = self.links.len();
        let mut earlier = self.links.iter().filter(|link| link.client == Some(client));
        let is_detached = earlier.all(|link| link.served == Served::Gone);
        // A shard that has no turn meanwhile ends nothing, and one with many sessions to end takes a few turns.
        let turned_ms = self.shards.iter().map(|shard| shard.turned_ms).min().unwrap_or(0);
        let identity = &mut self.identities[client];
        identity.must_have_expired = is_detached
            && turned_ms > identity.detached_ms + u64::from(identity.expiry_s) * 1_000 + ENDS_MS_MAX;
        self.links.push(Link::new(Some(client), &self.identities[client].name));
        self.shards[shard].accepts.push_back(link);
        let at = self.note("connect", [client, shard, link, usize::from(options.clean_start)]);
        // The broker may notice the end of the last connection only after this one is opened.
        if let Some((will, link)) = self.identities[client].withdrawn.take()
            && self.links[link].served != Served::Gone
        {
            self.oracle.message(will).forbidden = false;
        }
        let will = options.will.map(|(qos, retain, delay_s)| {
            let topic = format!("w/{client}/will");
            let id = self.oracle.publishing(Kind::Will, &topic, qos, retain, WILL_BYTES);
            self.oracle.wrote(id, at);
            (id, delay_s)
        });
        let identity = &mut self.identities[client];
        assert!(options.clean_start || !identity.must_clean_start);
        identity.must_clean_start = false;
        // CONNACK will show whether the session still exists. A new session begins now.
        if options.clean_start || !identity.session_kept {
            self.oracle.sessions[client] = Session::default();
            identity.forget_session();
        }
        self.oracle.sessions[client].unbroken_since = NEVER;
        identity.phase = Phase::Connecting;
        identity.link = Some(link);
        identity.will = will;
        identity.connected_clean = options.clean_start;
        let version = identity.version;
        let will_payload = will.map(|(id, _)| payload(id, WILL_BYTES));
        let user = owner_of(&identity.name);
        let topic = format!("w/{client}/will");
        let will = will.zip(will_payload.as_deref()).map(|((_, delay_s), payload)| Will {
            topic: TopicName::parse(&topic).expect("a valid topic"),
            payload,
            qos: options.will.map_or(QoS::AtMostOnce, |(qos, _, _)| qos),
            retain: options.will.is_some_and(|(_, retain, _)| retain),
            properties: WillProperties { delay_interval_s: Some(delay_s), ..Default::default() },
        });
        let connect = Connect {
            version,
            is_bridge: false,
            clean_start: options.clean_start,
            keep_alive_s: 0,
            client_id: &identity.name,
            will,
            user_name: self.settings.judges.then_some(&*user),
            password: None,
            properties: ConnectProperties {
                session_expiry_interval_s: Some(identity.expiry_s),
                receive_maximum: NonZeroU16::new(identity.receive_maximum),
                topic_alias_maximum: Some(TOPIC_ALIAS_MAX),
                ..Default::default()
            },
        };
        let mut bytes = Vec::new();
        connect.encode(version, &mut bytes);
        self.links[link].inbound.extend(bytes);
    }

    fn write(&mut self, client: usize, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.identities[client].version, &mut bytes);
        if let Some(link) = self.identities[client].link
            && self.links[link].served != Served::Gone
        {
            self.links[link].inbound.extend(bytes);
        }
    }

    /// Whether the client may publish with QoS 1 or 2 now [MQTT-4.9.0-2].
    #[must_use]
    pub fn has_quota(&self, client: usize) -> bool {
        let identity = &self.identities[client];
        identity.outgoing.len() < usize::from(identity.server_receive_maximum)
    }

    /// Publishes a new message on topic `topic`, whose only publisher is this client. `bytes` is 0, which removes the
    /// retained message, or large enough for the message's number.
    pub fn publish(&mut self, client: usize, topic: &str, qos: QoS, retain: bool, bytes: usize) -> u32 {
        let kind = if topic.starts_with("g/") { Kind::Group } else { Kind::Plain };
        let id = self.oracle.publishing(kind, topic, qos, retain, bytes);
        let identity = &mut self.identities[client];
        let packet_id = (qos != QoS::AtMostOnce).then(|| identity.packet_id());
        match packet_id {
            None => identity.unconfirmed.push(id),
            Some(packet_id) => {
                identity.outgoing.push_back(Outgoing { packet_id, message: id, qos, stage: Stage::Publish });
            }
        }
        self.write_publish(client, id, packet_id, false);
        id
    }

    fn write_publish(&mut self, client: usize, id: u32, packet_id: Option<PacketId>, dup: bool) {
        let at = self.note("publish", [client, id as usize, usize::from(dup), 0]);
        self.oracle.wrote(id, at);
        let message = self.oracle.messages[id as usize].clone();
        let publish = Publish {
            dup,
            qos: message.qos,
            retain: message.retain,
            topic: Some(TopicName::parse(&message.topic).expect("a valid topic")),
            packet_id,
            payload: &payload(id, message.payload_bytes),
            properties: PublishProperties::default(),
            body: PublishBody::default(),
        };
        self.write(client, &Packet::Publish(publish));
    }

    /// Subscribes to some filters with one SUBSCRIBE.
    ///
    /// # Panics
    /// If a filter is malformed.
    pub fn subscribe(&mut self, client: usize, filters: &[Subscribing<'_>]) {
        let at = self.note("subscribe", [client, filters.len(), 0, 0]);
        let packet_id = self.identities[client].packet_id();
        let v5 = self.identities[client].version.is_v5();
        let mut requested = Vec::new();
        let mut pairs = Vec::new();
        for &Subscribing { filter, qos, retain_handling } in filters {
            self.oracle.sessions[client].subscribing(filter, qos, at);
            let wants_retained = !v5 || retain_handling == RetainHandling::SendAtSubscribe;
            requested.push(PendingFilter { filter: filter.into(), qos, at, wants_retained });
            let options =
                SubscribeOptions { qos, no_local: false, retain_as_published: false, retain_handling };
            pairs.push((TopicFilter::parse(filter).expect("a valid filter"), options));
        }
        self.identities[client].subscribing.insert(packet_id, requested);
        let subscribe = Subscribe {
            packet_id,
            subscription_id: None,
            user_properties: UserProperties::default(),
            filters: SubscribeFilters::from_slice(&pairs),
        };
        self.write(client, &Packet::Subscribe(subscribe));
    }

    /// Unsubscribes from one filter.
    ///
    /// # Panics
    /// If the filter is malformed.
    pub fn unsubscribe(&mut self, client: usize, filter: &str) {
        let at = self.note("unsubscribe", [client, 0, 0, 0]);
        let packet_id = self.identities[client].packet_id();
        self.oracle.sessions[client].unsubscribing(filter, at);
        self.identities[client].unsubscribing.insert(packet_id, (vec![filter.into()], at));
        let filters = [TopicFilter::parse(filter).expect("a valid filter")];
        let unsubscribe = Unsubscribe {
            packet_id,
            user_properties: UserProperties::default(),
            filters: UnsubscribeFilters::from_slice(&filters),
        };
        self.write(client, &Packet::Unsubscribe(unsubscribe));
    }

    /// Sends a PINGREQ. Its PINGRESP shows that earlier QoS 0 messages were accepted.
    pub fn ping(&mut self, client: usize) {
        self.note("ping", [client, 0, 0, 0]);
        let unconfirmed = std::mem::take(&mut self.identities[client].unconfirmed);
        self.identities[client].pinged.push_back(unconfirmed);
        self.write(client, &Packet::PingReq);
    }

    /// Disconnects normally. `forget`: the session ends with the connection (5.0).
    pub fn disconnect(&mut self, client: usize, forget: bool) {
        self.note("disconnect", [client, usize::from(forget), 0, 0]);
        let ends = forget && self.identities[client].version.is_v5() && self.identities[client].expiry_s > 0;
        let properties = DisconnectProperties {
            session_expiry_interval_s: ends.then_some(0),
            ..DisconnectProperties::default()
        };
        self.write(client, &Packet::Disconnect(Disconnect { reason: ReasonCode::Success, properties }));
        let identity = &mut self.identities[client];
        if identity.rivals.is_empty()
            && identity.phase == Phase::Online
            && let Some((will, _)) = identity.will
        {
            self.oracle.message(will).forbidden = true;
            identity.withdrawn = identity.link.map(|link| (will, link));
            if let (Some(machine), Some(link)) = (&mut self.machine, identity.link) {
                machine.withdraw(will, link);
            }
        }
        self.leave(client, ClientEnd::Finished);
        if ends {
            self.session_ends(client);
            // The next CONNECT may overtake this DISCONNECT.
            self.identities[client].must_clean_start = true;
        }
    }

    /// Drops the connection without DISCONNECT. The network notices, or does not.
    pub fn vanish(&mut self, client: usize, noticed: bool) {
        let at = self.note("vanish", [client, usize::from(noticed), 0, 0]);
        let identity = &self.identities[client];
        if identity.phase == Phase::Online
            && let Some((will, 0)) = identity.will
        {
            // The will is due now, whenever the broker notices. Existing subscribers must receive it.
            let message = self.oracle.message(will);
            message.written_at = at;
            message.taken_at = at;
        }
        self.leave(client, if noticed { ClientEnd::Reset } else { ClientEnd::Abandoned });
    }

    fn leave(&mut self, client: usize, end: ClientEnd) {
        let identity = &mut self.identities[client];
        let link = identity.link.expect("only a client with a connection leaves it");
        // The connection may still be accepted after the next one, and take the session over.
        if identity.phase == Phase::Connecting {
            identity.rivals.push(link);
            identity.had_rivals = true;
        }
        let known = identity.phase == Phase::Online;
        self.links[link].client_end = end;
        if end != ClientEnd::Finished {
            self.links[link].outbound.clear();
        }
        self.connection_lost(client, known);
    }

    /// The connection is over. `known`: CONNACK had been read.
    fn connection_lost(&mut self, client: usize, known: bool) {
        let now_ms = self.now_ms;
        let is_logged = self.is_logged();
        let identity = &mut self.identities[client];
        identity.forget_connection();
        if is_logged && !known && identity.expiry_s > 0 {
            // Whether CONNECT counted is for the next CONNACK to tell.
            identity.may_exist = true;
            // If the session had ended by then, CONNECT began another one, which nothing would tell from the first.
            let is_doubtful = identity.connected_clean || identity.may_have_expired(now_ms);
            identity.must_clean_start |= is_doubtful && identity.is_v5();
        }
        if known {
            identity.offline_since_ms = now_ms;
        }
        identity.session_kept = identity.expiry_s > 0 && (identity.session_kept || known);
        self.oracle.sessions[client].unbroken_since = NEVER;
        if identity.expiry_s == 0 {
            self.session_ends(client);
        }
    }

    fn session_ends(&mut self, client: usize) {
        self.identities[client].session_kept = false;
        self.identities[client].forget_session();
        self.oracle.sessions[client] = Session::default();
    }

    /// Reads at most `bytes_max` of the arrived bytes, and answers.
    pub fn read(&mut self, client: usize, bytes_max: usize) {
        let Some(at) = self.identities[client].link else { return };
        let link = &mut self.links[at];
        let count = link.outbound.len().min(bytes_max);
        let bytes: Vec<u8> = link.outbound.drain(..count).collect();
        let is_over = link.served == Served::Gone && link.outbound.is_empty();
        // Draining the link makes room for the broker to send more.
        let mut assembler = std::mem::take(&mut self.identities[client].assembler);
        let version = self.identities[client].version;
        let mut rest = &bytes[..];
        loop {
            match assembler.next(&mut rest, u32::MAX) {
                Ok(None) => break,
                Ok(Some(frame)) => match Packet::decode(version, frame) {
                    Ok(packet) => self.on_packet(client, &packet),
                    Err(malformed) => {
                        self.oracle.fail(format!("client {client} received a malformed packet: {malformed}"));
                    }
                },
                Err(malformed) => {
                    self.oracle.fail(format!("client {client} received malformed bytes: {malformed}"));
                    break;
                }
            }
        }
        self.identities[client].assembler = assembler;
        if is_over && self.identities[client].link == Some(at) {
            self.note("ended by broker", [client, at, 0, 0]);
            let has_crashed = self.links[at].has_crashed;
            let identity = &mut self.identities[client];
            if has_crashed && identity.phase == Phase::Online {
                identity.crash_will =
                    identity.will.filter(|(_, delay_s)| *delay_s == 0).map(|(will, _)| will);
            } else if identity.phase == Phase::Online && identity.rivals.is_empty() {
                self.oracle.fail(format!("the broker ended the connection of client {client}"));
            }
            let known = self.identities[client].phase == Phase::Online;
            self.connection_lost(client, known);
        }
    }

    fn on_packet(&mut self, client: usize, packet: &Packet<'_>) {
        let online = self.identities[client].phase == Phase::Online;
        match packet {
            Packet::ConnAck(connack) if !online => {
                let maximum = connack.properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
                self.on_connack(client, connack.session_present, connack.reason, maximum);
            }
            _ if !online => {
                self.oracle
                    .fail(format!("client {client} was sent {:?} before CONNACK", packet.packet_type()));
            }
            Packet::Publish(publish) => self.on_publish(client, publish),
            Packet::PubAck(ack) => self.on_acknowledged(client, ack, Stage::Publish, QoS::AtLeastOnce),
            Packet::PubRec(ack) => self.on_pubrec(client, ack),
            Packet::PubRel(ack) => {
                self.note("pubrel", [client, usize::from(ack.packet_id.get()), 0, 0]);
                self.identities[client].received.remove(&ack.packet_id);
                self.identities[client].doubtful.remove(&ack.packet_id);
                self.write(client, &Packet::PubComp(Ack::success(ack.packet_id)));
            }
            Packet::PubComp(ack) => self.on_acknowledged(client, ack, Stage::Release, QoS::ExactlyOnce),
            Packet::SubAck(suback) => {
                let refused = suback.reasons.iter().any(ReasonCode::is_error);
                self.on_suback(client, suback.packet_id, refused);
            }
            Packet::UnsubAck(unsuback) => self.on_unsuback(client, unsuback.packet_id),
            Packet::PingResp => {
                let at = self.note("pingresp", [client, 0, 0, 0]);
                match self.identities[client].pinged.pop_front() {
                    Some(sure) => sure.into_iter().for_each(|id| self.oracle.taken(id, at)),
                    None => {
                        self.oracle.fail(format!("client {client} received a PINGRESP without a request"));
                    }
                }
            }
            Packet::Disconnect(disconnect) => {
                self.note("disconnected by broker", [client, usize::from(disconnect.reason.code()), 0, 0]);
                let rivals = !self.identities[client].rivals.is_empty();
                if !(disconnect.reason == ReasonCode::SessionTakenOver && rivals) {
                    self.oracle
                        .fail(format!("client {client} was disconnected with {:?}", disconnect.reason));
                }
            }
            _ => self.oracle.fail(format!("client {client} was sent {:?}", packet.packet_type())),
        }
    }

    fn on_connack(&mut self, client: usize, present: bool, reason: ReasonCode, maximum: u16) {
        let at = self.note("connack", [client, usize::from(present), 0, 0]);
        let now_ms = self.now_ms;
        let identity = &mut self.identities[client];
        if reason != ReasonCode::Success {
            self.oracle.fail(format!("client {client} was refused: {reason:?}"));
            return;
        }
        let may_have_expired = identity.may_have_expired(now_ms);
        // A connection whose CONNACK was not read may have begun a session.
        let may_exist = identity.session_kept || !identity.rivals.is_empty() || identity.may_exist;
        identity.may_exist = false;
        let must_exist = identity.session_kept && !may_have_expired;
        if present && (identity.connected_clean || !may_exist) {
            self.oracle.fail(format!("client {client} resumed a session that it did not have"));
        }
        if present && identity.must_have_expired {
            self.oracle.fail(format!("client {client} resumed a session that had ended"));
        }
        if !present && !identity.connected_clean && must_exist {
            self.oracle.fail(format!("client {client} lost its session"));
        }
        if !present {
            self.oracle.sessions[client] = Session::default();
            identity.forget_session();
        }
        self.oracle.sessions[client].unbroken_since = at;
        identity.phase = Phase::Online;
        identity.session_kept = identity.expiry_s > 0;
        if identity.version.is_v5() {
            identity.server_receive_maximum = maximum;
        }
        // Every unacknowledged packet is sent again, in the original order [MQTT-4.4.0-1].
        for outgoing in identity.outgoing.clone() {
            match outgoing.stage {
                Stage::Publish => {
                    self.write_publish(client, outgoing.message, Some(outgoing.packet_id), true);
                }
                Stage::Release => self.write(client, &Packet::PubRel(Ack::success(outgoing.packet_id))),
            }
        }
    }

    fn on_publish(&mut self, client: usize, publish: &Publish<'_>) {
        let identity = &mut self.identities[client];
        let topic = match (publish.topic, publish.properties.topic_alias) {
            (Some(topic), None) => topic.as_str().to_owned(),
            (Some(topic), Some(alias)) if alias.get() <= TOPIC_ALIAS_MAX => {
                identity.aliases.insert(alias.get(), topic.as_str().to_owned());
                topic.as_str().to_owned()
            }
            (None, Some(alias)) if identity.aliases.contains_key(&alias.get()) => {
                identity.aliases[&alias.get()].clone()
            }
            _ => {
                self.oracle.fail(format!("client {client} was sent an unknown topic alias"));
                return;
            }
        };
        let Publish { qos, dup, retain, payload, packet_id, .. } = *publish;
        let repeated = match (qos, packet_id) {
            (QoS::ExactlyOnce, Some(packet_id)) => identity.received.insert(packet_id, NEVER).is_some(),
            _ => false,
        };
        let is_doubtful = packet_id.is_some_and(|packet_id| identity.doubtful.remove(&packet_id));
        if repeated && !dup && !is_doubtful {
            self.oracle.fail(format!("client {client} was sent {packet_id:?} before it was released"));
        }
        let numbers = [usize::from(qos.bits()), usize::from(dup), usize::from(retain)];
        let first = payload.first_chunk::<4>().map_or(u32::MAX, |id| u32::from_le_bytes(*id));
        let at = self.note(
            if repeated { "repeated" } else { "received" },
            [
                client,
                first as usize,
                numbers[0] * 4 + numbers[1] * 2 + numbers[2],
                packet_id.map_or(0, |id| usize::from(id.get())),
            ],
        );
        if let Some(received) =
            packet_id.and_then(|packet_id| self.identities[client].received.get_mut(&packet_id))
        {
            *received = at;
        }
        if !repeated {
            let copy = Copy { topic: &topic, payload, qos, dup, retain };
            let id = self.oracle.received(client, copy, at);
            if let Some(id) = id {
                self.identities[client].delivered.push((id, retain));
                if retain {
                    self.identities[client].found.insert(topic, id);
                }
            }
        }
        match (qos, packet_id) {
            (QoS::AtLeastOnce, Some(id)) => self.write(client, &Packet::PubAck(Ack::success(id))),
            (QoS::ExactlyOnce, Some(id)) => self.write(client, &Packet::PubRec(Ack::success(id))),
            _ => {}
        }
    }

    fn on_pubrec(&mut self, client: usize, ack: &Ack<'_>) {
        let at = self.note("pubrec", [client, usize::from(ack.packet_id.get()), 0, 0]);
        let identity = &mut self.identities[client];
        let position = identity
            .outgoing
            .iter()
            .position(|outgoing| outgoing.packet_id == ack.packet_id && outgoing.qos == QoS::ExactlyOnce);
        let Some(position) = position.filter(|_| !ack.reason.is_error()) else {
            self.oracle.fail(format!("client {client} was sent {ack:?}"));
            return;
        };
        identity.outgoing[position].stage = Stage::Release;
        let message = identity.outgoing[position].message;
        self.oracle.taken(message, at);
        self.write(client, &Packet::PubRel(Ack::success(ack.packet_id)));
    }

    /// PUBACK or PUBCOMP: the message is complete.
    fn on_acknowledged(&mut self, client: usize, ack: &Ack<'_>, stage: Stage, qos: QoS) {
        let at = self.note("acknowledged", [client, usize::from(ack.packet_id.get()), 0, 0]);
        let identity = &mut self.identities[client];
        let position = identity.outgoing.iter().position(|outgoing| {
            outgoing.packet_id == ack.packet_id && outgoing.stage == stage && outgoing.qos == qos
        });
        let Some(outgoing) = position.and_then(|position| identity.outgoing.remove(position)) else {
            self.oracle.fail(format!("client {client} was sent {ack:?} without a request"));
            return;
        };
        if ack.reason.is_error() && ack.reason != ReasonCode::PacketIdentifierNotFound {
            self.oracle.fail(format!("client {client} was refused: {ack:?}"));
        }
        self.oracle.taken(outgoing.message, at);
    }

    fn on_suback(&mut self, client: usize, packet_id: PacketId, refused: bool) {
        let from = self.note("suback", [client, usize::from(packet_id.get()), 0, 0]);
        let requested = self.identities[client].subscribing.remove(&packet_id);
        let Some(requested) = requested.filter(|_| !refused) else {
            self.oracle
                .fail(format!("client {client} was sent a SUBACK with a failure or without a request"));
            return;
        };
        for PendingFilter { filter, qos, at, wants_retained } in requested {
            let requested_again = self.oracle.sessions[client].requested_again(&filter, at);
            self.oracle.sessions[client].intervals.push(Interval {
                filter,
                qos,
                requested_at: at,
                from,
                until: requested_again.unwrap_or(NEVER),
                waived: requested_again.is_some(),
                wants_retained,
            });
        }
    }

    fn on_unsuback(&mut self, client: usize, packet_id: PacketId) {
        let at = self.note("unsuback", [client, usize::from(packet_id.get()), 0, 0]);
        let Some((filters, requested_at)) = self.identities[client].unsubscribing.remove(&packet_id) else {
            self.oracle.fail(format!("client {client} was sent an UNSUBACK without a request"));
            return;
        };
        for filter in filters {
            self.oracle.sessions[client].unsubscribed(&filter, requested_at, at);
        }
    }
}

impl Identity {
    /// Whether the client uses 5.0.
    #[must_use]
    pub fn is_v5(&self) -> bool {
        self.version == ProtocolVersion::V5
    }
}
