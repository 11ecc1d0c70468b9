//! Recipes for packets: owned values that proptest can generate and shrink, and the packet built from them.

use std::num::{NonZeroU16, NonZeroU32};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use wire::{
    Ack, AckKind, AckProperties, Auth, AuthProperties, ConnAck, ConnAckProperties, Connect,
    ConnectProperties, Disconnect, DisconnectProperties, Packet, PacketId, PacketType, ProtocolVersion,
    Publish, PublishBody, PublishProperties, QoS, ReasonCode, Reasons, RetainHandling, SubAck, Subscribe,
    SubscribeFilters, SubscribeOptions, SubscriptionId, SubscriptionIds, TopicFilter, TopicName, UnsubAck,
    Unsubscribe, UnsubscribeFilters, UserProperties, Will, WillProperties,
};

use crate::VERSIONS;

/// The ingredients of a packet. Each packet type uses those that it has fields for.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) version: ProtocolVersion,
    pub(crate) packet_type: PacketType,
    /// One bit each for the presence of an optional field or the value of a boolean.
    choices: u64,
    packet_id: PacketId,
    numbers: [u32; 3],
    texts: [String; 6],
    topic: String,
    filters: Vec<(String, SubscribeOptions)>,
    user_properties: Vec<(String, String)>,
    subscription_ids: Vec<SubscriptionId>,
    reasons: Vec<Index>,
    payload: Vec<u8>,
}

/// Any packet in any version that has it.
pub(crate) fn any_recipe() -> impl Strategy<Value = Recipe> {
    recipe(&PacketType::ALL, payload())
}

/// Any PUBLISH.
pub(crate) fn publish_recipe() -> impl Strategy<Value = Recipe> {
    recipe(&[PacketType::Publish], payload())
}

/// Packets of at most a few hundred bytes.
pub(crate) fn short_recipe() -> impl Strategy<Value = Recipe> {
    recipe(&PacketType::ALL, vec(any::<u8>(), 0..40).boxed())
}

fn recipe(
    packet_types: &'static [PacketType],
    payload: BoxedStrategy<Vec<u8>>,
) -> impl Strategy<Value = Recipe> {
    let kind = (proptest::sample::select(&VERSIONS), proptest::sample::select(packet_types))
        .prop_filter("AUTH is 5.0's", |(version, packet_type)| {
            version.is_v5() || *packet_type != PacketType::Auth
        });
    let texts = prop::array::uniform6(text());
    let pairs = vec((text(), text()), 0..3);
    let ids = vec((1..=SubscriptionId::MAX).prop_map(|number| SubscriptionId::new(number).unwrap()), 0..3);
    let filters = vec(filter(), 1..5);
    (
        (kind, any::<u64>(), 1..=u16::MAX, any::<[u32; 3]>()),
        (texts, topic(), filters, pairs, ids, vec(any::<Index>(), 1..5), payload),
    )
        .prop_map(
            |(
                ((version, packet_type), choices, packet_id, numbers),
                (texts, topic, filters, user_properties, subscription_ids, reasons, payload),
            )| Recipe {
                version,
                packet_type,
                choices,
                packet_id: PacketId::new(packet_id).unwrap(),
                numbers,
                texts,
                topic,
                filters,
                user_properties,
                subscription_ids,
                reasons,
                payload,
            },
        )
}

fn text() -> impl Strategy<Value = String> {
    "[^\0]{0,8}"
}

/// Includes lengths at which a packet's length field grows.
fn payload() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![8 => vec(any::<u8>(), 0..300), 1 => vec(any::<u8>(), 16_300..16_400)].boxed()
}

pub(crate) fn topic() -> impl Strategy<Value = String> {
    "[^\0+#]{1,24}"
}

/// A topic filter and options that are allowed with it.
fn filter() -> impl Strategy<Value = (String, SubscribeOptions)> {
    let level = prop_oneof![Just("+".to_owned()), "[^\0+#/]{0,6}"];
    let share_name = proptest::option::of("[^\0+#/]{1,6}");
    (share_name, vec(level, 1..4), any::<bool>(), options())
        .prop_filter("a filter has a character", |(_, levels, multi, _)| {
            *multi || levels.concat() != "" || levels.len() > 1
        })
        .prop_map(|(share_name, levels, multi, mut options)| {
            let mut filter = levels.join("/");
            if multi {
                filter.push_str("/#");
            }
            if filter.starts_with("$share/") {
                filter.insert(0, '/');
            }
            if let Some(share_name) = share_name {
                filter = format!("$share/{share_name}/{filter}");
                options.no_local = false;
            }
            (filter, options)
        })
}

fn options() -> impl Strategy<Value = SubscribeOptions> {
    let handling = prop_oneof![
        Just(RetainHandling::SendAtSubscribe),
        Just(RetainHandling::SendIfNew),
        Just(RetainHandling::DoNotSend)
    ];
    (0..=2_u8, any::<bool>(), any::<bool>(), handling).prop_map(
        |(qos, no_local, retain_as_published, retain_handling)| SubscribeOptions {
            qos: QoS::from_bits(qos).unwrap(),
            no_local,
            retain_as_published,
            retain_handling,
        },
    )
}

impl Recipe {
    /// Builds the packet and passes it to `look`.
    pub(crate) fn with_packet<R>(&self, look: impl FnOnce(Packet<'_>) -> R) -> R {
        let pairs: Vec<_> =
            self.user_properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let filters: Vec<_> = self
            .filters
            .iter()
            .map(|(filter, options)| (TopicFilter::parse(filter).unwrap(), self.options(*options)))
            .collect();
        let names: Vec<_> = filters.iter().map(|(filter, _)| *filter).collect();
        let reasons = self.reasons();
        let user_properties =
            if self.version.is_v5() { UserProperties::from_pairs(&pairs) } else { UserProperties::default() };
        let packet = match self.packet_type {
            PacketType::Connect => Packet::Connect(self.connect(user_properties)),
            PacketType::ConnAck => Packet::ConnAck(self.connack(user_properties)),
            PacketType::Publish => Packet::Publish(self.publish(user_properties)),
            PacketType::PubAck => Packet::PubAck(self.ack(AckKind::PubAck, user_properties)),
            PacketType::PubRec => Packet::PubRec(self.ack(AckKind::PubRec, user_properties)),
            PacketType::PubRel => Packet::PubRel(self.ack(AckKind::PubRel, user_properties)),
            PacketType::PubComp => Packet::PubComp(self.ack(AckKind::PubComp, user_properties)),
            PacketType::Subscribe => Packet::Subscribe(Subscribe {
                packet_id: self.packet_id,
                subscription_id: self.v5(0, self.subscription_ids.first().copied()).flatten(),
                user_properties,
                filters: SubscribeFilters::from_slice(&filters),
            }),
            PacketType::SubAck => Packet::SubAck(SubAck {
                packet_id: self.packet_id,
                reasons: Reasons::from(&reasons[..]),
                properties: self.ack_properties(user_properties),
            }),
            PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe {
                packet_id: self.packet_id,
                user_properties,
                filters: UnsubscribeFilters::from_slice(&names),
            }),
            PacketType::UnsubAck => Packet::UnsubAck(UnsubAck {
                packet_id: self.packet_id,
                reasons: if self.version.is_v5() { Reasons::from(&reasons[..]) } else { Reasons::default() },
                properties: self.ack_properties(user_properties),
            }),
            PacketType::PingReq => Packet::PingReq,
            PacketType::PingResp => Packet::PingResp,
            PacketType::Disconnect => Packet::Disconnect(Disconnect {
                reason: self.reason(),
                properties: DisconnectProperties {
                    session_expiry_interval_s: self.v5(0, self.numbers[0]),
                    reason_string: self.v5(1, &self.texts[0]),
                    user_properties,
                    server_reference: self.v5(2, &self.texts[1]),
                },
            }),
            PacketType::Auth => Packet::Auth(Auth {
                reason: self.reason(),
                properties: AuthProperties {
                    authentication_method: Some(&self.texts[0]),
                    authentication_data: self.v5(0, &self.payload),
                    reason_string: self.v5(1, &self.texts[1]),
                    user_properties,
                },
            }),
        };
        look(packet)
    }

    fn choice(&self, bit: u32) -> bool {
        self.choices & (1 << bit) != 0
    }

    /// An optional value.
    fn maybe<T>(&self, bit: u32, value: T) -> Option<T> {
        self.choice(bit).then_some(value)
    }

    /// An optional value that exists only in 5.0.
    fn v5<T>(&self, bit: u32, value: T) -> Option<T> {
        self.maybe(bit, value).filter(|_| self.version.is_v5())
    }

    fn short(&self, index: usize) -> u16 {
        let [high, low, ..] = self.numbers[index].to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    fn qos(&self) -> QoS {
        QoS::from_bits(self.numbers[2].to_le_bytes()[0] % 3).unwrap()
    }

    fn connect<'a>(&'a self, user_properties: UserProperties<'a>) -> Connect<'a> {
        let user_name = self.maybe(1, self.texts[1].as_str());
        Connect {
            version: self.version,
            is_bridge: !self.version.is_v5() && self.choice(1),
            clean_start: self.choice(0),
            keep_alive_s: self.short(1),
            client_id: &self.texts[0],
            will: self.maybe(10, self.will(user_properties)),
            user_name,
            password: self
                .maybe(2, &self.payload[..])
                .filter(|_| self.version.is_v5() || user_name.is_some()),
            properties: ConnectProperties {
                session_expiry_interval_s: self.v5(3, self.numbers[0]),
                receive_maximum: self.v5(4, NonZeroU16::new(self.short(0))).flatten(),
                packet_bytes_max: self.v5(5, NonZeroU32::new(self.numbers[1])).flatten(),
                topic_alias_maximum: self.v5(6, self.short(2)),
                request_response_information: self.v5(7, self.choice(20)),
                request_problem_information: self.v5(8, self.choice(21)),
                authentication_method: self.v5(9, &self.texts[2]),
                authentication_data: self.v5(9, &self.payload[..]).filter(|_| self.choice(22)),
                user_properties,
            },
        }
    }

    fn will<'a>(&'a self, user_properties: UserProperties<'a>) -> Will<'a> {
        Will {
            topic: TopicName::parse(&self.topic).unwrap(),
            payload: &self.payload,
            qos: self.qos(),
            retain: self.choice(11),
            properties: WillProperties {
                delay_interval_s: self.v5(12, self.numbers[0]),
                message_expiry_interval_s: self.v5(13, self.numbers[1]),
                payload_format_utf8: self.v5(14, self.choice(23)),
                content_type: self.v5(15, &self.texts[3]),
                response_topic: self.v5(16, &self.topic),
                correlation_data: self.v5(17, &self.payload),
                user_properties,
                ..WillProperties::default()
            },
        }
    }

    fn connack<'a>(&'a self, user_properties: UserProperties<'a>) -> ConnAck<'a> {
        let reason = self.reason();
        ConnAck {
            session_present: self.choice(0)
                && reason == ReasonCode::Success
                && self.version != ProtocolVersion::V3_1,
            reason,
            properties: ConnAckProperties {
                session_expiry_interval_s: self.v5(1, self.numbers[0]),
                receive_maximum: self.v5(2, NonZeroU16::new(self.short(0))).flatten(),
                maximum_qos: self.v5(3, self.qos()).filter(|qos| *qos != QoS::ExactlyOnce),
                retain_available: self.v5(4, self.choice(20)),
                packet_bytes_max: self.v5(5, NonZeroU32::new(self.numbers[1])).flatten(),
                assigned_client_id: self.v5(6, &self.texts[0]),
                topic_alias_maximum: self.v5(7, self.short(1)),
                reason_string: self.v5(8, &self.texts[1]),
                user_properties,
                wildcard_available: self.v5(9, self.choice(21)),
                subscription_ids_available: self.v5(10, self.choice(22)),
                shared_available: self.v5(11, self.choice(23)),
                server_keep_alive_s: self.v5(12, self.short(2)),
                response_information: self.v5(13, &self.texts[2]),
                server_reference: self.v5(14, &self.texts[3]),
                authentication_method: self.v5(15, &self.texts[4]),
                authentication_data: self.v5(16, &self.payload),
            },
        }
    }

    fn publish<'a>(&'a self, user_properties: UserProperties<'a>) -> Publish<'a> {
        let qos = self.qos();
        let topic_alias = self.v5(1, NonZeroU16::new(self.short(0))).flatten();
        let is_tracked = qos != QoS::AtMostOnce;
        Publish {
            dup: is_tracked && self.choice(0),
            qos,
            retain: self.choice(2),
            topic: Some(TopicName::parse(&self.topic).unwrap())
                .filter(|_| topic_alias.is_none() || self.choice(3)),
            packet_id: is_tracked.then_some(self.packet_id),
            payload: &self.payload,
            body: PublishBody::default(),
            properties: PublishProperties {
                payload_format_utf8: self.v5(4, self.choice(20)),
                message_expiry_interval_s: self.v5(5, self.numbers[0]),
                topic_alias,
                response_topic: self.v5(6, &self.topic),
                correlation_data: self.v5(7, self.texts[0].as_bytes()),
                content_type: self.v5(8, &self.texts[1]),
                user_properties,
                subscription_ids: if self.version.is_v5() {
                    SubscriptionIds::from_ids(&self.subscription_ids)
                } else {
                    SubscriptionIds::default()
                },
                ..PublishProperties::default()
            },
        }
    }

    fn ack<'a>(&'a self, kind: AckKind, user_properties: UserProperties<'a>) -> Ack<'a> {
        assert_eq!(kind.packet_type(), self.packet_type);
        let reason = if self.version.is_v5() { self.reason() } else { ReasonCode::Success };
        Ack { packet_id: self.packet_id, reason, properties: self.ack_properties(user_properties) }
    }

    fn ack_properties<'a>(&'a self, user_properties: UserProperties<'a>) -> AckProperties<'a> {
        AckProperties { reason_string: self.v5(0, &self.texts[0]), user_properties }
    }

    fn options(&self, options: SubscribeOptions) -> SubscribeOptions {
        if self.version.is_v5() {
            options
        } else {
            SubscribeOptions {
                qos: options.qos,
                no_local: false,
                retain_as_published: false,
                retain_handling: RetainHandling::SendAtSubscribe,
            }
        }
    }

    fn reason(&self) -> ReasonCode {
        self.reasons()[0]
    }

    /// The recipe's reason codes that this packet can carry in this version.
    fn reasons(&self) -> Vec<ReasonCode> {
        let can_say = |reason: ReasonCode| {
            let survives = match self.packet_type {
                PacketType::ConnAck => {
                    ReasonCode::from_connect_return_code(reason.connect_return_code()) == Some(reason)
                }
                PacketType::SubAck => !reason.is_error() || reason == ReasonCode::UnspecifiedError,
                _ => reason == ReasonCode::Success,
            };
            reason.is_allowed_in(self.packet_type) && (self.version.is_v5() || survives)
        };
        let sayable: Vec<_> = ReasonCode::ALL.iter().copied().filter(|reason| can_say(*reason)).collect();
        if sayable.is_empty() {
            return Vec::new();
        }
        self.reasons.iter().map(|index| *index.get(&sayable)).collect()
    }
}
