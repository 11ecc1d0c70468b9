//! Short forms of the packets that clients send and receive. `Shard` carries them to the engine and back.

use core::num::{NonZeroU16, NonZeroU32};

use wire::{
    Ack, AckKind, Connect, ConnectProperties, Disconnect, DisconnectProperties, Packet, PacketId,
    ProtocolVersion, Publish, PublishBody, PublishProperties, QoS, ReasonCode, RetainHandling, Subscribe,
    SubscribeFilters, SubscribeOptions, SubscriptionId, TopicFilter, TopicName, Unsubscribe,
    UnsubscribeFilters, UserProperties, Will, WillProperties,
};

use crate::host::Shard;

/// A client's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) line: usize,
    pub(crate) version: ProtocolVersion,
}

/// A message as it reached a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) id: u16,
    pub(crate) expiry_s: Option<u32>,
    pub(crate) alias: Option<u16>,
    pub(crate) subscription_ids: Vec<u32>,
    pub(crate) user: Vec<(String, String)>,
    /// The whole packet on the wire.
    pub(crate) packet_bytes: usize,
}

impl Message {
    pub(crate) fn text(&self) -> &str {
        core::str::from_utf8(&self.payload).expect("tests send text")
    }
}

/// A packet that a client was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    ConnAck {
        present: bool,
        reason: u8,
        fields: Box<ConnAckFields>,
    },
    Publish(Message),
    Ack(AckKind, u16, u8),
    SubAck(u16, Vec<u8>),
    UnsubAck(u16, Vec<u8>),
    PingResp,
    Disconnect(u8, Option<String>),
    /// Reason, method, data.
    Auth(u8, String, Vec<u8>),
}

/// The properties of a CONNACK that the engine uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnAckFields {
    pub(crate) expiry_s: Option<u32>,
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) packet_bytes_max: Option<u32>,
    pub(crate) alias_maximum: Option<u16>,
    pub(crate) assigned: Option<String>,
    pub(crate) keep_alive_s: Option<u16>,
    pub(crate) response_information: Option<String>,
    pub(crate) server_reference: Option<String>,
    pub(crate) maximum_qos: Option<u8>,
    /// Whether each is available: retain, wildcards, subscription identifiers, sharing.
    pub(crate) available: [Option<bool>; 4],
    pub(crate) method: Option<String>,
    pub(crate) data: Option<Vec<u8>>,
    pub(crate) packet_bytes: usize,
}

impl Got {
    pub(crate) fn of(packet: &Packet<'_>, packet_bytes: usize) -> Self {
        let ack = |kind, ack: &Ack<'_>| Self::Ack(kind, ack.packet_id.get(), ack.reason.code());
        match packet {
            Packet::ConnAck(connack) => {
                let properties = &connack.properties;
                let reason = connack.reason.code();
                let fields = ConnAckFields {
                    expiry_s: properties.session_expiry_interval_s,
                    receive_maximum: properties.receive_maximum.map(NonZeroU16::get),
                    packet_bytes_max: properties.packet_bytes_max.map(NonZeroU32::get),
                    alias_maximum: properties.topic_alias_maximum,
                    assigned: properties.assigned_client_id.map(str::to_owned),
                    keep_alive_s: properties.server_keep_alive_s,
                    response_information: properties.response_information.map(str::to_owned),
                    server_reference: properties.server_reference.map(str::to_owned),
                    maximum_qos: properties.maximum_qos.map(QoS::bits),
                    available: [
                        properties.retain_available,
                        properties.wildcard_available,
                        properties.subscription_ids_available,
                        properties.shared_available,
                    ],
                    method: properties.authentication_method.map(str::to_owned),
                    data: properties.authentication_data.map(<[u8]>::to_vec),
                    packet_bytes,
                };
                Self::ConnAck { present: connack.session_present, reason, fields: Box::new(fields) }
            }
            Packet::Publish(publish) => Self::Publish(Message {
                topic: publish.topic.map_or("", TopicName::as_str).to_owned(),
                payload: publish.payload.to_vec(),
                qos: publish.qos.bits(),
                retain: publish.retain,
                dup: publish.dup,
                id: publish.packet_id.map_or(0, PacketId::get),
                expiry_s: publish.properties.message_expiry_interval_s,
                alias: publish.properties.topic_alias.map(NonZeroU16::get),
                subscription_ids: publish
                    .properties
                    .subscription_ids
                    .iter()
                    .map(SubscriptionId::get)
                    .collect(),
                user: owned(publish.properties.user_properties),
                packet_bytes,
            }),
            Packet::PubAck(packet) => ack(AckKind::PubAck, packet),
            Packet::PubRec(packet) => ack(AckKind::PubRec, packet),
            Packet::PubRel(packet) => ack(AckKind::PubRel, packet),
            Packet::PubComp(packet) => ack(AckKind::PubComp, packet),
            Packet::SubAck(suback) => {
                Self::SubAck(suback.packet_id.get(), suback.reasons.iter().map(ReasonCode::code).collect())
            }
            Packet::UnsubAck(unsuback) => Self::UnsubAck(
                unsuback.packet_id.get(),
                unsuback.reasons.iter().map(ReasonCode::code).collect(),
            ),
            Packet::PingResp => Self::PingResp,
            Packet::Disconnect(disconnect) => Self::Disconnect(
                disconnect.reason.code(),
                disconnect.properties.reason_string.map(str::to_owned),
            ),
            Packet::Auth(auth) => Self::Auth(
                auth.reason.code(),
                auth.properties.authentication_method.unwrap_or_default().to_owned(),
                auth.properties.authentication_data.unwrap_or_default().to_vec(),
            ),
            Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::PingReq => {
                panic!("a server sent {packet:?}")
            }
        }
    }
}

fn owned(properties: UserProperties<'_>) -> Vec<(String, String)> {
    properties.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A CONNECT to be changed and sent: with clean start, without keep alive and will.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hello<'a> {
    pub(crate) connect: Connect<'a>,
}

impl<'a> Hello<'a> {
    pub(crate) fn new(version: ProtocolVersion, client_id: &'a str) -> Self {
        Self {
            connect: Connect {
                version,
                is_bridge: false,
                clean_start: true,
                keep_alive_s: 0,
                client_id,
                will: None,
                user_name: None,
                password: None,
                properties: ConnectProperties::default(),
            },
        }
    }

    pub(crate) fn v3(client_id: &'a str) -> Self {
        Self::new(ProtocolVersion::V3_1_1, client_id)
    }

    pub(crate) fn v5(client_id: &'a str) -> Self {
        Self::new(ProtocolVersion::V5, client_id)
    }

    /// Resumes a session, and keeps it for an hour in 5.0.
    pub(crate) fn resume(mut self) -> Self {
        self.connect.clean_start = false;
        self.expiry_s(3_600)
    }

    /// Names itself a bridge of mosquitto.
    pub(crate) fn bridge(mut self) -> Self {
        self.connect.is_bridge = true;
        self
    }

    pub(crate) fn expiry_s(mut self, expiry_s: u32) -> Self {
        self.connect.properties.session_expiry_interval_s = Some(expiry_s);
        self
    }

    pub(crate) fn keep_alive_s(mut self, keep_alive_s: u16) -> Self {
        self.connect.keep_alive_s = keep_alive_s;
        self
    }

    pub(crate) fn receive_maximum(mut self, receive_maximum: u16) -> Self {
        self.connect.properties.receive_maximum = NonZeroU16::new(receive_maximum);
        self
    }

    pub(crate) fn packet_bytes_max(mut self, packet_bytes_max: u32) -> Self {
        self.connect.properties.packet_bytes_max = NonZeroU32::new(packet_bytes_max);
        self
    }

    pub(crate) fn aliases(mut self, alias_maximum: u16) -> Self {
        self.connect.properties.topic_alias_maximum = Some(alias_maximum);
        self
    }

    pub(crate) fn credentials(mut self, username: &'a str, password: &'a [u8]) -> Self {
        self.connect.user_name = Some(username);
        self.connect.password = Some(password);
        self
    }

    pub(crate) fn method(mut self, method: &'a str, data: &'a [u8]) -> Self {
        self.connect.properties.authentication_method = Some(method);
        self.connect.properties.authentication_data = Some(data);
        self
    }

    pub(crate) fn will(self, topic: &'a str, payload: &'a str, delay_s: u32) -> Self {
        self.will_with(topic, payload, QoS::AtMostOnce, false, delay_s)
    }

    pub(crate) fn will_with(
        mut self,
        topic: &'a str,
        payload: &'a str,
        qos: QoS,
        retain: bool,
        delay_s: u32,
    ) -> Self {
        self.connect.will = Some(Will {
            topic: TopicName::parse(topic).expect("tests use good topics"),
            payload: payload.as_bytes(),
            qos,
            retain,
            properties: WillProperties { delay_interval_s: Some(delay_s), ..Default::default() },
        });
        self
    }
}

pub(crate) fn qos(bits: u8) -> QoS {
    QoS::from_bits(bits).expect("0, 1 or 2")
}

pub(crate) fn packet_id(number: u16) -> PacketId {
    PacketId::new(number).expect("tests count from 1")
}

/// Subscription options: QoS and nothing else.
pub(crate) fn plain(bits: u8) -> SubscribeOptions {
    SubscribeOptions {
        qos: qos(bits),
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    }
}

/// A PUBLISH to be changed and sent.
pub(crate) fn publish<'a>(topic: &'a str, payload: &'a [u8], bits: u8, id: u16) -> Publish<'a> {
    Publish {
        dup: false,
        qos: qos(bits),
        retain: false,
        topic: Some(TopicName::parse(topic).expect("tests use good topics")),
        packet_id: (bits > 0).then(|| packet_id(id)),
        payload,
        properties: PublishProperties::default(),
        body: PublishBody::default(),
    }
}

pub(crate) fn ack(kind: AckKind, id: u16, reason: ReasonCode) -> Packet<'static> {
    let ack = Ack { reason, ..Ack::success(packet_id(id)) };
    match kind {
        AckKind::PubAck => Packet::PubAck(ack),
        AckKind::PubRec => Packet::PubRec(ack),
        AckKind::PubRel => Packet::PubRel(ack),
        AckKind::PubComp => Packet::PubComp(ack),
    }
}

impl Shard {
    pub(crate) fn ack(&mut self, client: Client, kind: AckKind, id: u16) {
        self.send(client, &ack(kind, id, ReasonCode::Success));
    }

    /// Subscribes and returns the reason codes of SUBACK.
    pub(crate) fn subscribe_with(
        &mut self,
        client: Client,
        filters: &[(&str, SubscribeOptions)],
        subscription_id: Option<u32>,
    ) -> Vec<u8> {
        let id = self.begin_subscribe(client, filters, subscription_id);
        self.find(client, |got| match got {
            Got::SubAck(found, codes) if *found == id => Some(codes.clone()),
            _ => None,
        })
        .expect("SUBACK")
    }

    /// Sends a SUBSCRIBE without looking for its SUBACK. Returns its Packet Identifier.
    pub(crate) fn begin_subscribe(
        &mut self,
        client: Client,
        filters: &[(&str, SubscribeOptions)],
        subscription_id: Option<u32>,
    ) -> u16 {
        let mut bytes = Vec::new();
        let id = self.append_subscribe(client, filters, subscription_id, &mut bytes);
        self.send_bytes(client, &bytes);
        id
    }

    /// Appends a SUBSCRIBE, to be sent with what follows it. Returns its Packet Identifier.
    pub(crate) fn append_subscribe(
        &mut self,
        client: Client,
        filters: &[(&str, SubscribeOptions)],
        subscription_id: Option<u32>,
        out: &mut Vec<u8>,
    ) -> u16 {
        let id = self.packet_id();
        let filters: Vec<_> = filters
            .iter()
            .map(|(filter, options)| (TopicFilter::parse(filter).expect("tests use good filters"), *options))
            .collect();
        let subscribe = Subscribe {
            packet_id: packet_id(id),
            subscription_id: subscription_id.and_then(SubscriptionId::new),
            user_properties: UserProperties::default(),
            filters: SubscribeFilters::from_slice(&filters),
        };
        Packet::Subscribe(subscribe).encode(client.version, out);
        id
    }

    pub(crate) fn subscribe(&mut self, client: Client, filter: &str, bits: u8) {
        assert_eq!(self.subscribe_with(client, &[(filter, plain(bits))], None), [bits], "{filter}");
    }

    /// Unsubscribes and returns the reason codes of UNSUBACK, of which 3.1.1 has none.
    pub(crate) fn unsubscribe(&mut self, client: Client, filters: &[&str]) -> Vec<u8> {
        let id = self.begin_unsubscribe(client, filters);
        self.find(client, |got| match got {
            Got::UnsubAck(found, codes) if *found == id => Some(codes.clone()),
            _ => None,
        })
        .expect("UNSUBACK")
    }

    /// Sends an UNSUBSCRIBE without looking for its UNSUBACK. Returns its Packet Identifier.
    pub(crate) fn begin_unsubscribe(&mut self, client: Client, filters: &[&str]) -> u16 {
        let id = self.packet_id();
        let filters: Vec<_> = filters
            .iter()
            .map(|filter| TopicFilter::parse(filter).expect("tests use good filters"))
            .collect();
        let unsubscribe = Unsubscribe {
            packet_id: packet_id(id),
            user_properties: UserProperties::default(),
            filters: UnsubscribeFilters::from_slice(&filters),
        };
        self.send(client, &Packet::Unsubscribe(unsubscribe));
        id
    }

    /// The acknowledgement of one kind and identifier that a client was sent: its reason code.
    pub(crate) fn acked(&mut self, client: Client, kind: AckKind, id: u16) -> Option<u8> {
        self.find(client, |got| match got {
            Got::Ack(found, found_id, reason) if *found == kind && *found_id == id => Some(*reason),
            _ => None,
        })
    }

    /// Publishes and completes the acknowledgements; returns the reason code of the first one.
    pub(crate) fn publish(&mut self, client: Client, topic: &str, payload: &[u8], bits: u8) -> u8 {
        let id = self.packet_id();
        self.publish_packet(client, &publish(topic, payload, bits, id))
    }

    pub(crate) fn publish_retained(&mut self, client: Client, topic: &str, payload: &[u8], bits: u8) -> u8 {
        let id = self.packet_id();
        self.publish_packet(client, &Publish { retain: true, ..publish(topic, payload, bits, id) })
    }

    pub(crate) fn publish_packet(&mut self, client: Client, publish: &Publish<'_>) -> u8 {
        self.send(client, &Packet::Publish(*publish));
        let Some(id) = publish.packet_id.map(PacketId::get) else { return 0 };
        if publish.qos == QoS::AtLeastOnce {
            return self.acked(client, AckKind::PubAck, id).expect("PUBACK");
        }
        let reason = self.acked(client, AckKind::PubRec, id).expect("PUBREC");
        if reason < 0x80 {
            self.ack(client, AckKind::PubRel, id);
            assert_eq!(self.acked(client, AckKind::PubComp, id), Some(0), "PUBCOMP");
        }
        reason
    }

    pub(crate) fn disconnect(&mut self, client: Client, reason: ReasonCode, expiry_s: Option<u32>) {
        let properties =
            DisconnectProperties { session_expiry_interval_s: expiry_s, ..DisconnectProperties::default() };
        self.send(client, &Packet::Disconnect(Disconnect { reason, properties }));
    }

    pub(crate) fn goodbye(&mut self, client: Client) {
        self.disconnect(client, ReasonCode::Success, None);
        assert!(self.is_closed(client));
    }

    /// The messages a client was sent and nothing else.
    pub(crate) fn messages(&mut self, client: Client) -> Vec<Message> {
        self.take(client)
            .into_iter()
            .map(|got| match got {
                Got::Publish(message) => message,
                other => panic!("not a message: {other:?}"),
            })
            .collect()
    }

    /// The payloads of the messages a client was sent, acknowledged to their end.
    pub(crate) fn texts(&mut self, client: Client) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(got) = self.next(client) {
            match got {
                Got::Publish(message) => {
                    texts.push(message.text().to_owned());
                    match message.qos {
                        1 => self.ack(client, AckKind::PubAck, message.id),
                        2 => self.ack(client, AckKind::PubRec, message.id),
                        _ => {}
                    }
                }
                Got::Ack(AckKind::PubRel, id, 0) => self.ack(client, AckKind::PubComp, id),
                other => panic!("not a message: {other:?}"),
            }
        }
        texts
    }

    /// The reason of the DISCONNECT that a client was sent last. Asserts that it was closed.
    pub(crate) fn ended(&mut self, client: Client) -> Option<u8> {
        assert!(self.is_closed(client));
        match self.take(client).pop() {
            Some(Got::Disconnect(reason, _)) => Some(reason),
            _ => None,
        }
    }
}
