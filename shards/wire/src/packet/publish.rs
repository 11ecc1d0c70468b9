//! PUBLISH: decoded without copying, encoded from parts. Topic aliases are not resolved here.

use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU16;

use crate::frame;
use crate::identifier::{PacketId, SubscriptionId};
use crate::malformed::Malformed;
use crate::packet::property::{
    Property, PropertySection, PropertyWalk, SubscriptionIds, UserProperties, identifier,
};
use crate::packet::read_packet_id;
use crate::protocol::{PacketType, ProtocolVersion, QoS};
use crate::read::Reader;
use crate::topic::TopicName;
use crate::write;

const FLAG_RETAIN: u8 = 0b0001;
const FLAGS_QOS: u8 = 0b0110;
const FLAG_DUP: u8 = 0b1000;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Whether the packet may have been sent before [MQTT-3.3.1-1].
    pub dup: bool,
    /// The QoS of the delivery.
    pub qos: QoS,
    /// From a client: whether to retain the message. From a server: whether the message was retained.
    pub retain: bool,
    /// The topic; `None` if only a topic alias is given.
    pub topic: Option<TopicName<'a>>,
    /// The packet identifier; `Some` exactly for QoS 1 and 2 [MQTT-2.2.1-2].
    pub packet_id: Option<PacketId>,
    /// The message itself.
    pub payload: &'a [u8],
    /// The properties; none before 5.0.
    pub properties: PublishProperties<'a>,
    /// Everything after the fixed header, as it was received; empty in a packet built here.
    pub body: PublishBody<'a>,
}

impl<'a> Publish<'a> {
    /// Decodes the body of a PUBLISH. The first byte holds DUP, QoS and RETAIN.
    ///
    /// Subscription identifiers are accepted, because servers send them. The server checks that a client sends none
    /// [MQTT-3.3.4-6] and that a topic alias is not too large.
    ///
    /// # Errors
    /// If both QoS bits are set [MQTT-3.3.1-4], DUP is set with QoS 0 [MQTT-3.3.1-2], the topic name is malformed or
    /// missing without an alias, the packet identifier is 0 [MQTT-2.2.1-3], or a property is invalid.
    #[inline]
    pub fn decode(version: ProtocolVersion, first_byte: u8, body: &'a [u8]) -> Result<Self, Malformed> {
        let qos = QoS::from_bits((first_byte & FLAGS_QOS) >> 1).ok_or(Malformed::QosInvalid)?;
        let dup = first_byte & FLAG_DUP != 0;
        if dup && qos == QoS::AtMostOnce {
            return Err(Malformed::DupWithQos0);
        }
        let mut reader = Reader::new(body);
        let text = reader.topic_text()?;
        let topic = if text.is_empty() { None } else { Some(TopicName::parse(text)?) };
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Some(read_packet_id(&mut reader)?),
        };
        let section = PropertyWalk::follow(version, &mut reader)?;
        let properties = if section.is_empty() {
            PublishProperties::default()
        } else {
            PublishProperties::decode(section)?
        };
        if topic.is_none() && properties.topic_alias.is_none() {
            return Err(Malformed::TopicNameMissing);
        }
        Ok(Self {
            dup,
            qos,
            retain: first_byte & FLAG_RETAIN != 0,
            topic,
            packet_id,
            payload: reader.rest(),
            properties,
            body: PublishBody(body),
        })
    }

    /// Everything after the fixed header as it was received, if it contains no property; `None` in a packet built here.
    #[must_use]
    #[inline]
    pub fn plain_body(&self) -> Option<&'a [u8]> {
        let PublishBody(body) = self.body;
        (!body.is_empty() && self.properties.section.is_empty()).then_some(body)
    }

    /// Appends the packet in the format of `version`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        debug_assert_eq!(self.packet_id.is_some(), self.qos != QoS::AtMostOnce, "[MQTT-2.2.1-2]");
        let first_byte = first_byte(self.dup, self.qos, self.retain);
        write::packet(out, first_byte, self.payload.len(), |out| {
            write::text(out, self.topic.map_or("", TopicName::as_str));
            if let Some(packet_id) = self.packet_id {
                write::u16(out, packet_id.get());
            }
            if version.is_v5() {
                write::section(out, |out| self.properties.encode(out));
            }
        });
        out.extend_from_slice(self.payload);
    }
}

/// The body of a PUBLISH as it was received. It is ignored when packets are compared.
#[derive(Clone, Copy, Default)]
pub struct PublishBody<'a>(&'a [u8]);

impl PartialEq for PublishBody<'_> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for PublishBody<'_> {}

impl fmt::Debug for PublishBody<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublishBody({} bytes)", self.0.len())
    }
}

/// Size on the wire, in bytes, of a PUBLISH with this body.
#[must_use]
#[inline]
pub fn publish_bytes(body: &[u8]) -> usize {
    frame::packet_bytes(body.len())
}

/// Appends a PUBLISH with the body of another one: its topic, packet identifier, properties and payload. Returns the
/// position of the body in `out`.
///
/// # Panics
/// If the packet is longer than the maximum.
#[inline]
pub fn append_publish(first_byte: u8, body: &[u8], out: &mut Vec<u8>) -> usize {
    out.reserve(frame::packet_bytes(body.len()));
    out.push(first_byte);
    write::variable_byte_integer(out, write::length(body.len()));
    let start = out.len();
    out.extend_from_slice(body);
    start
}

#[inline]
const fn first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    let dup = if dup { FLAG_DUP } else { 0 };
    let retain = if retain { FLAG_RETAIN } else { 0 };
    PacketType::Publish.first_byte() | dup | (qos.bits() << 1) | retain
}

/// The properties of a PUBLISH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties<'a> {
    /// Whether the payload is text in UTF-8; absent: it is bytes.
    pub payload_format_utf8: Option<bool>,
    /// Lifetime of the message, in seconds; absent: unlimited.
    pub message_expiry_interval_s: Option<u32>,
    /// The topic alias, which is defined by this packet or was defined before.
    pub topic_alias: Option<NonZeroU16>,
    /// The topic for a response; without wildcards [MQTT-3.3.2-14].
    pub response_topic: Option<&'a str>,
    /// Identifies the request that a response belongs to.
    pub correlation_data: Option<&'a [u8]>,
    /// The type of the payload, defined by the application.
    pub content_type: Option<&'a str>,
    /// The user properties.
    pub user_properties: UserProperties<'a>,
    /// The subscriptions that a server sends the message for.
    pub subscription_ids: SubscriptionIds<'a>,
    /// The section as it was received; empty in a packet built here.
    pub section: PropertySection<'a>,
}

impl<'a> PublishProperties<'a> {
    fn decode(mut properties: PropertyWalk<'a>) -> Result<Self, Malformed> {
        let mut decoded = Self { section: properties.received(), ..Self::default() };
        while let Some(property) = properties.next()? {
            match property {
                Property::PayloadFormatIndicator(value) => {
                    properties.once(&mut decoded.payload_format_utf8, value)?;
                }
                Property::MessageExpiryInterval(value) => {
                    properties.once(&mut decoded.message_expiry_interval_s, value)?;
                }
                Property::TopicAlias(value) => properties.once(&mut decoded.topic_alias, value)?,
                Property::ResponseTopic(value) => properties.once(&mut decoded.response_topic, value)?,
                Property::CorrelationData(value) => properties.once(&mut decoded.correlation_data, value)?,
                Property::ContentType(value) => properties.once(&mut decoded.content_type, value)?,
                Property::User(..) | Property::SubscriptionIdentifier(_) => {}
                _ => return Err(properties.not_allowed()),
            }
        }
        decoded.user_properties = properties.user_properties();
        decoded.subscription_ids = properties.subscription_ids();
        Ok(decoded)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        Property::put(out, self.message_expiry_interval_s, Property::MessageExpiryInterval);
        Property::put(out, self.topic_alias, Property::TopicAlias);
        for id in self.subscription_ids.iter() {
            Property::SubscriptionIdentifier(id).encode(out);
        }
        self.forwardable().encode(out);
    }

    /// Whether any property is forwarded with the message.
    #[must_use]
    #[inline]
    pub fn has_forwardable(&self) -> bool {
        !self.forwardable().is_empty()
    }

    /// Appends, encoded, the properties that are forwarded unaltered, in the order in which they were received: payload
    /// format [MQTT-3.3.2-4], response topic [MQTT-3.3.2-15], correlation data [MQTT-3.3.2-16], user properties
    /// [MQTT-3.3.2-17] and content type [MQTT-3.3.2-20].
    #[inline]
    pub fn append_forwardable(&self, out: &mut Vec<u8>) {
        const LEFT_OUT: &[u32] = &[
            identifier::MESSAGE_EXPIRY_INTERVAL,
            identifier::TOPIC_ALIAS,
            identifier::SUBSCRIPTION_IDENTIFIER,
        ];
        let has_left_out = self.message_expiry_interval_s.is_some()
            || self.topic_alias.is_some()
            || !self.subscription_ids.is_empty();
        if !self.section.append_without(has_left_out, LEFT_OUT, out) {
            self.forwardable().encode(out);
        }
    }

    #[inline]
    const fn forwardable(&self) -> Forwardable<'a> {
        Forwardable {
            payload_format_utf8: self.payload_format_utf8,
            content_type: self.content_type,
            response_topic: self.response_topic,
            correlation_data: self.correlation_data,
            user_properties: self.user_properties,
        }
    }
}

/// The properties that a server must forward unaltered.
#[derive(Clone, Copy)]
pub(crate) struct Forwardable<'a> {
    pub(crate) payload_format_utf8: Option<bool>,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) response_topic: Option<&'a str>,
    pub(crate) correlation_data: Option<&'a [u8]>,
    pub(crate) user_properties: UserProperties<'a>,
}

impl Forwardable<'_> {
    pub(crate) const fn is_empty(&self) -> bool {
        self.payload_format_utf8.is_none()
            && self.content_type.is_none()
            && self.response_topic.is_none()
            && self.correlation_data.is_none()
            && self.user_properties.is_empty()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        Property::put(out, self.payload_format_utf8, Property::PayloadFormatIndicator);
        Property::put(out, self.content_type, Property::ContentType);
        Property::put(out, self.response_topic, Property::ResponseTopic);
        Property::put(out, self.correlation_data, Property::CorrelationData);
        self.user_properties.encode(out);
    }
}

/// A PUBLISH to be sent, given in parts: measured first, then written once.
#[derive(Clone, Copy, Debug)]
pub struct PublishParts<'a> {
    /// Whether the packet may have been sent before [MQTT-3.3.1-1].
    pub dup: bool,
    /// The QoS of the delivery.
    pub qos: QoS,
    /// The RETAIN flag.
    pub retain: bool,
    /// The topic; empty if only a topic alias is sent.
    pub topic: &'a str,
    /// The packet identifier; `Some` exactly for QoS 1 and 2 [MQTT-2.2.1-2].
    pub packet_id: Option<PacketId>,
    /// The remaining lifetime, in seconds [MQTT-3.3.2-6]; not written before 5.0.
    pub message_expiry_interval_s: Option<u32>,
    /// The topic alias; not written before 5.0.
    pub topic_alias: Option<NonZeroU16>,
    /// The subscriptions that the message is sent for [MQTT-3.3.4-3]; not written before 5.0.
    pub subscription_ids: &'a [SubscriptionId],
    /// Encoded properties, as written by `append_forwardable`; not written before 5.0.
    pub forwarded: &'a [u8],
    /// Size of the payload, which the caller writes after the head.
    pub payload_bytes: usize,
}

impl PublishParts<'_> {
    /// Size of the whole packet on the wire, payload included, in bytes. The packet can be sent if this is at most
    /// [`PACKET_BYTES_MAX`](crate::frame::PACKET_BYTES_MAX) and the receiver's maximum [MQTT-3.1.2-24].
    #[must_use]
    #[inline]
    pub fn packet_bytes(&self, version: ProtocolVersion) -> usize {
        frame::packet_bytes(self.remaining_length(version))
    }

    /// Position of the packet identifier in the packet, for callers that copy a packet and change only the identifier;
    /// `None` for QoS 0.
    #[must_use]
    #[inline]
    pub fn packet_id_offset(&self, version: ProtocolVersion) -> Option<usize> {
        self.packet_id?;
        let remaining_length = self.remaining_length(version);
        Some(frame::packet_bytes(remaining_length) - remaining_length + 2 + self.topic.len())
    }

    /// Appends everything but the payload.
    #[inline]
    pub fn encode_head(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        debug_assert_eq!(self.packet_id.is_some(), self.qos != QoS::AtMostOnce, "[MQTT-2.2.1-2]");
        let remaining_length = self.remaining_length(version);
        out.reserve(frame::packet_bytes(remaining_length) - self.payload_bytes);
        out.push(first_byte(self.dup, self.qos, self.retain));
        write::variable_byte_integer(out, write::length(remaining_length));
        write::text(out, self.topic);
        if let Some(packet_id) = self.packet_id {
            write::u16(out, packet_id.get());
        }
        if version.is_v5() {
            write::variable_byte_integer(out, write::length(self.properties_bytes()));
            Property::put(out, self.message_expiry_interval_s, Property::MessageExpiryInterval);
            Property::put(out, self.topic_alias, Property::TopicAlias);
            for id in self.subscription_ids {
                Property::SubscriptionIdentifier(*id).encode(out);
            }
            out.extend_from_slice(self.forwarded);
        }
    }

    #[inline]
    fn remaining_length(&self, version: ProtocolVersion) -> usize {
        let packet_id_bytes = if self.packet_id.is_some() { 2 } else { 0 };
        let section_bytes = if version.is_v5() {
            let properties_bytes = self.properties_bytes();
            write::variable_byte_integer_bytes(write::length(properties_bytes)) + properties_bytes
        } else {
            0
        };
        2 + self.topic.len() + packet_id_bytes + section_bytes + self.payload_bytes
    }

    #[inline]
    fn properties_bytes(&self) -> usize {
        let expiry_bytes = if self.message_expiry_interval_s.is_some() { 5 } else { 0 };
        let alias_bytes = if self.topic_alias.is_some() { 3 } else { 0 };
        let measure = |id: &SubscriptionId| 1 + write::variable_byte_integer_bytes(id.get());
        let ids_bytes: usize = self.subscription_ids.iter().map(measure).sum();
        expiry_bytes + alias_bytes + ids_bytes + self.forwarded.len()
    }
}
