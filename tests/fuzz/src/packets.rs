//! Packets of every type from choices. They are well formed at first, with few names so that clients interact, and then
//! perhaps damaged.

use std::num::{NonZeroU16, NonZeroU32};

use wire::{
    Ack, AckProperties, Auth, AuthProperties, ConnAck, ConnAckProperties, Connect, ConnectProperties,
    Disconnect, DisconnectProperties, Packet, PacketId, PacketType, ProtocolVersion, Publish, PublishBody,
    PublishProperties, QoS, ReasonCode, Reasons, RetainHandling, SubAck, Subscribe, SubscribeFilters,
    SubscribeOptions, SubscriptionId, SubscriptionIds, TopicFilter, TopicName, UnsubAck, Unsubscribe,
    UnsubscribeFilters, UserProperties, Will, WillProperties,
};

use crate::choices::Choices;

const TOPICS: [&str; 8] = ["a", "a/b", "a/b/c", "b", "/", "$SYS/a", "$a/b", "\u{e4}/\u{1F980}"];

const FILTERS: [&str; 14] = [
    "a",
    "#",
    "+",
    "a/#",
    "a/+",
    "+/b/#",
    "b",
    "/",
    "$SYS/#",
    "$share/g/a/#",
    "$share/g/#",
    "$share/h/$share/+",
    "$a/+",
    "a/b/c",
];

pub(crate) const CLIENTS: [&str; 6] = ["c0", "c1", "c2", "c3", "", "c\u{e4}4"];

const TEXTS: [&str; 4] = ["", "x", "text/plain", "\u{1F980} or so"];

const PAIRS: [(&str, &str); 3] = [("k", "v"), ("k", "w"), ("", "")];

const INTERVALS_S: [u32; 6] = [0, 1, 2, 60, 3_600, u32::MAX];

/// Payloads are slices of this. The longest are shared between outboxes instead of copied, and too long for a block.
static PAYLOAD: [u8; 20_000] = [b'p'; 20_000];

const PAYLOAD_BYTES: [usize; 7] = [0, 1, 5, 40, 300, 4_096, 20_000];

/// The packets of a compliant client, the frequent ones more than once.
pub(crate) const OF_CLIENTS: [PacketType; 16] = [
    PacketType::Publish,
    PacketType::Publish,
    PacketType::Publish,
    PacketType::Publish,
    PacketType::Publish,
    PacketType::Subscribe,
    PacketType::Subscribe,
    PacketType::Subscribe,
    PacketType::Unsubscribe,
    PacketType::PubAck,
    PacketType::PubRec,
    PacketType::PubRel,
    PacketType::PubComp,
    PacketType::PingReq,
    PacketType::Disconnect,
    PacketType::Auth,
];

/// Appends a packet of this type in the format of `version`.
pub(crate) fn packet(version: ProtocolVersion, kind: PacketType, c: &mut Choices<'_>, out: &mut Vec<u8>) {
    let pairs = &PAIRS[..if version.is_v5() { c.index(PAIRS.len() + 1) } else { 0 }];
    let user_properties = UserProperties::from_pairs(pairs);
    let packet_id = PacketId::new(u16::from(c.byte() % 6) + 1).expect("from 1 on");
    let codes = reasons(version, kind, c);
    let ack_properties = AckProperties { reason_string: v5(version, c, text), user_properties };
    let reason = codes.first().copied().unwrap_or(ReasonCode::Success);
    let ack = Ack { packet_id, reason, properties: ack_properties };
    match kind {
        PacketType::Connect => {
            let connect = connect(version, c);
            Packet::Connect(Connect {
                properties: ConnectProperties { user_properties, ..connect.properties },
                ..connect
            })
            .encode(version, out);
        }
        PacketType::ConnAck => Packet::ConnAck(ConnAck {
            session_present: reason == ReasonCode::Success && version != ProtocolVersion::V3_1 && c.one_in(2),
            reason,
            properties: ConnAckProperties { user_properties, ..connack_properties(version, c) },
        })
        .encode(version, out),
        PacketType::Publish => publish(version, c, user_properties, out),
        PacketType::PubAck => Packet::PubAck(ack).encode(version, out),
        PacketType::PubRec => Packet::PubRec(ack).encode(version, out),
        PacketType::PubRel => Packet::PubRel(ack).encode(version, out),
        PacketType::PubComp => Packet::PubComp(ack).encode(version, out),
        PacketType::Subscribe => {
            let filters: Vec<_> = (0..=c.index(3)).map(|_| subscription(version, c)).collect();
            Packet::Subscribe(Subscribe {
                packet_id,
                subscription_id: v5(version, c, subscription_id),
                user_properties,
                filters: SubscribeFilters::from_slice(&filters),
            })
            .encode(version, out);
        }
        PacketType::SubAck => Packet::SubAck(SubAck {
            packet_id,
            reasons: Reasons::from(&codes[..]),
            properties: ack_properties,
        })
        .encode(version, out),
        PacketType::Unsubscribe => {
            let filters: Vec<_> = (0..=c.index(3)).map(|_| filter(c)).collect();
            Packet::Unsubscribe(Unsubscribe {
                packet_id,
                user_properties,
                filters: UnsubscribeFilters::from_slice(&filters),
            })
            .encode(version, out);
        }
        PacketType::UnsubAck => Packet::UnsubAck(UnsubAck {
            packet_id,
            reasons: if version.is_v5() { Reasons::from(&codes[..]) } else { Reasons::default() },
            properties: ack_properties,
        })
        .encode(version, out),
        PacketType::PingReq => Packet::PingReq.encode(version, out),
        PacketType::PingResp => Packet::PingResp.encode(version, out),
        PacketType::Disconnect => Packet::Disconnect(Disconnect {
            reason,
            properties: DisconnectProperties {
                session_expiry_interval_s: v5(version, c, |c| c.pick(&INTERVALS_S)),
                reason_string: v5(version, c, text),
                user_properties,
                server_reference: v5(version, c, text),
            },
        })
        .encode(version, out),
        PacketType::Auth => {
            // AUTH does not exist before 5.0; a client that sends it nevertheless sends these bytes.
            Packet::Auth(Auth {
                reason: if version.is_v5() { reason } else { ReasonCode::ReAuthenticate },
                properties: AuthProperties {
                    authentication_method: Some(text(c)),
                    authentication_data: c.maybe(|c| payload(c)),
                    reason_string: c.maybe(text),
                    user_properties,
                },
            })
            .encode(ProtocolVersion::V5, out);
        }
    }
}

/// Damages `packet`, which holds exactly one packet: bits, length, end.
pub(crate) fn damage(c: &mut Choices<'_>, packet: &mut Vec<u8>) {
    let at = usize::from(c.u16()) % packet.len();
    match c.index(5) {
        0 => packet[at] ^= 1 << c.index(8),
        1 => packet[at] = c.byte(),
        2 => packet.truncate(at + 1),
        3 => packet.insert(at, c.byte()),
        _ => packet[1] = packet[1].wrapping_add(c.byte()),
    }
}

/// The CONNECT of a compliant client.
pub(crate) fn connect<'a>(version: ProtocolVersion, c: &mut Choices<'_>) -> Connect<'a> {
    let user_name = c.maybe(text);
    let method = v5(version, c, |c| c.one_in(4)).unwrap_or_default().then_some("method");
    Connect {
        version,
        is_bridge: false,
        clean_start: c.one_in(3),
        keep_alive_s: c.pick(&[0, 1, 10, u16::MAX]),
        client_id: c.pick(&CLIENTS),
        will: c.maybe(|c| will(version, c)),
        user_name,
        password: (version.is_v5() || user_name.is_some()).then_some(&PAYLOAD[..3]).filter(|_| c.one_in(2)),
        properties: ConnectProperties {
            session_expiry_interval_s: v5(version, c, |c| c.pick(&INTERVALS_S)),
            receive_maximum: v5(version, c, |c| c.pick(&[1, 2, 3, u16::MAX])).and_then(NonZeroU16::new),
            packet_bytes_max: v5(version, c, |c| c.pick(&[1, 30, 100, 5_000, u32::MAX]))
                .and_then(NonZeroU32::new),
            topic_alias_maximum: v5(version, c, |c| c.pick(&[0, 1, 3, u16::MAX])),
            request_response_information: v5(version, c, |c| c.one_in(2)),
            request_problem_information: v5(version, c, |c| c.one_in(2)),
            authentication_method: method,
            authentication_data: method.map(|_| &PAYLOAD[..5]).filter(|_| c.one_in(2)),
            user_properties: UserProperties::default(),
        },
    }
}

fn will<'a>(version: ProtocolVersion, c: &mut Choices<'_>) -> Will<'a> {
    Will {
        topic: topic(c),
        payload: payload(c),
        qos: qos(c),
        retain: c.one_in(3),
        properties: WillProperties {
            delay_interval_s: v5(version, c, |c| c.pick(&INTERVALS_S)),
            message_expiry_interval_s: v5(version, c, |c| c.pick(&INTERVALS_S)),
            payload_format_utf8: v5(version, c, |c| c.one_in(2)),
            content_type: v5(version, c, text),
            response_topic: v5(version, c, |c| c.pick(&TOPICS)),
            correlation_data: v5(version, c, payload),
            ..WillProperties::default()
        },
    }
}

fn publish(
    version: ProtocolVersion,
    c: &mut Choices<'_>,
    user_properties: UserProperties<'_>,
    out: &mut Vec<u8>,
) {
    let qos = qos(c);
    let is_tracked = qos != QoS::AtMostOnce;
    let topic_alias = v5(version, c, |c| c.pick(&[1, 2, 3, 64, 65, u16::MAX])).and_then(NonZeroU16::new);
    let topic = topic(c);
    // Servers send them. From a client they are a protocol error, so they are rare.
    let ids = if version.is_v5() && c.one_in(16) { vec![subscription_id(c); c.index(3)] } else { Vec::new() };
    Packet::Publish(Publish {
        dup: is_tracked && c.one_in(4),
        qos,
        retain: c.one_in(4),
        topic: Some(topic).filter(|_| topic_alias.is_none() || c.one_in(2)),
        packet_id: is_tracked.then(|| PacketId::new(u16::from(c.byte() % 6) + 1).expect("from 1 on")),
        payload: payload(c),
        body: PublishBody::default(),
        properties: PublishProperties {
            payload_format_utf8: v5(version, c, |c| c.one_in(2)),
            message_expiry_interval_s: v5(version, c, |c| c.pick(&INTERVALS_S)),
            topic_alias,
            response_topic: v5(version, c, |c| c.pick(&TOPICS)),
            correlation_data: v5(version, c, payload),
            content_type: v5(version, c, text),
            user_properties,
            subscription_ids: SubscriptionIds::from_ids(&ids),
            ..PublishProperties::default()
        },
    })
    .encode(version, out);
}

fn connack_properties<'a>(version: ProtocolVersion, c: &mut Choices<'_>) -> ConnAckProperties<'a> {
    let flag = |c: &mut Choices<'_>| c.one_in(2);
    ConnAckProperties {
        session_expiry_interval_s: v5(version, c, |c| c.pick(&INTERVALS_S)),
        receive_maximum: v5(version, c, |c| c.u16()).and_then(NonZeroU16::new),
        maximum_qos: v5(version, c, |c| c.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce])),
        retain_available: v5(version, c, flag),
        packet_bytes_max: v5(version, c, |c| c.u32()).and_then(NonZeroU32::new),
        assigned_client_id: v5(version, c, text),
        topic_alias_maximum: v5(version, c, |c| c.u16()),
        reason_string: v5(version, c, text),
        user_properties: UserProperties::default(),
        wildcard_available: v5(version, c, flag),
        subscription_ids_available: v5(version, c, flag),
        shared_available: v5(version, c, flag),
        server_keep_alive_s: v5(version, c, |c| c.u16()),
        response_information: v5(version, c, text),
        server_reference: v5(version, c, text),
        authentication_method: v5(version, c, text),
        authentication_data: v5(version, c, payload),
    }
}

/// Reason codes that a packet of this type can carry in this version; at least one if it needs one.
fn reasons(version: ProtocolVersion, kind: PacketType, c: &mut Choices<'_>) -> Vec<ReasonCode> {
    let survives = |reason: ReasonCode| match kind {
        PacketType::ConnAck => {
            ReasonCode::from_connect_return_code(reason.connect_return_code()) == Some(reason)
        }
        PacketType::SubAck => !reason.is_error() || reason == ReasonCode::UnspecifiedError,
        _ => reason == ReasonCode::Success,
    };
    let can_say = |reason: &ReasonCode| reason.is_allowed_in(kind) && (version.is_v5() || survives(*reason));
    let sayable: Vec<_> = ReasonCode::ALL.iter().copied().filter(can_say).collect();
    if sayable.is_empty() {
        return Vec::new();
    }
    (0..=c.index(3)).map(|_| c.pick(&sayable)).collect()
}

fn subscription<'a>(version: ProtocolVersion, c: &mut Choices<'_>) -> (TopicFilter<'a>, SubscribeOptions) {
    let filter = filter(c);
    let handling = [RetainHandling::SendAtSubscribe, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
    let options = SubscribeOptions {
        qos: qos(c),
        no_local: v5(version, c, |c| c.one_in(2)).unwrap_or_default() && filter.share_name().is_none(),
        retain_as_published: v5(version, c, |c| c.one_in(2)).unwrap_or_default(),
        retain_handling: v5(version, c, |c| c.pick(&handling)).unwrap_or_default(),
    };
    (filter, options)
}

fn filter<'a>(c: &mut Choices<'_>) -> TopicFilter<'a> {
    TopicFilter::parse(c.pick(&FILTERS)).expect("the table holds good ones")
}

fn topic<'a>(c: &mut Choices<'_>) -> TopicName<'a> {
    TopicName::parse(c.pick(&TOPICS)).expect("the table holds good ones")
}

fn qos(c: &mut Choices<'_>) -> QoS {
    c.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn subscription_id(c: &mut Choices<'_>) -> SubscriptionId {
    c.pick(&[1, 127, 128, SubscriptionId::MAX].map(|number| SubscriptionId::new(number).expect("not 0")))
}

fn text<'a>(c: &mut Choices<'_>) -> &'a str {
    c.pick(&TEXTS)
}

fn payload<'a>(c: &mut Choices<'_>) -> &'a [u8] {
    &PAYLOAD[..c.pick(&PAYLOAD_BYTES)]
}

/// An optional value that exists only in some versions.
fn v5<'c, 'i, T>(
    version: ProtocolVersion,
    c: &'c mut Choices<'i>,
    value: impl FnOnce(&mut Choices<'i>) -> T,
) -> Option<T> {
    // Most packets have few properties, and leaving one out costs one byte of the input.
    if version.is_v5() && c.one_in(4) { Some(value(c)) } else { None }
}
