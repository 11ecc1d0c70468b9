//! CONNECT and the will it may carry. The engine decides whether a client identifier, user name or password is accepted.

use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroU32};

use crate::malformed::Malformed;
use crate::packet::property::{Property, PropertySection, PropertyWalk, UserProperties, identifier};
use crate::packet::publish::Forwardable;
use crate::protocol::{PacketType, ProtocolVersion, QoS};
use crate::read::Reader;
use crate::topic::TopicName;
use crate::write;

const FLAG_RESERVED: u8 = 0b0000_0001;
const FLAG_CLEAN_START: u8 = 0b0000_0010;
const FLAG_WILL: u8 = 0b0000_0100;
const FLAGS_WILL_QOS: u8 = 0b0001_1000;
const FLAG_WILL_RETAIN: u8 = 0b0010_0000;
const FLAG_PASSWORD: u8 = 0b0100_0000;
const FLAG_USER_NAME: u8 = 0b1000_0000;

/// The bit of the protocol level by which a bridge of mosquitto names itself. 5.0 has options for what it means.
const BRIDGE: u8 = 0b1000_0000;

/// A client requests a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The protocol version of the connection.
    pub version: ProtocolVersion,
    /// Whether the client is a bridge of mosquitto, which says so before 5.0 by the upper bit of the protocol level.
    pub is_bridge: bool,
    /// Whether to discard an existing session. Before 5.0 this is "clean session", which also ends the session with the
    /// connection.
    pub clean_start: bool,
    /// The longest silence that the client promises, in seconds; 0: no promise.
    pub keep_alive_s: u16,
    /// The client identifier; empty: the server assigns one [MQTT-3.1.3-6].
    pub client_id: &'a str,
    /// The message to publish if the connection ends without a DISCONNECT.
    pub will: Option<Will<'a>>,
    /// The user name.
    pub user_name: Option<&'a str>,
    /// The password; any bytes.
    pub password: Option<&'a [u8]>,
    /// The properties; none before 5.0.
    pub properties: ConnectProperties<'a>,
}

impl<'a> Connect<'a> {
    /// The version that the body of a CONNECT begins with, if that much of it has come and the version is known.
    #[must_use]
    pub fn version_of(body: &[u8]) -> Option<ProtocolVersion> {
        read_version(&mut Reader::new(body)).ok().map(|(version, _)| version)
    }

    /// Reads the body of a CONNECT.
    ///
    /// # Errors
    /// If the protocol name or level is not supported, a reserved flag is set, the will's flags contradict each other,
    /// the fields differ from those that the flags announce, or a property is invalid.
    pub fn decode(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let (version, is_bridge) = read_version(&mut reader)?;
        let flags = reader.u8()?;
        if flags & FLAG_RESERVED != 0 {
            return Err(Malformed::ConnectFlagReserved);
        }
        let will_qos = QoS::from_bits((flags & FLAGS_WILL_QOS) >> 3).ok_or(Malformed::WillQosInvalid)?;
        let will_retain = flags & FLAG_WILL_RETAIN != 0;
        let has_will = flags & FLAG_WILL != 0;
        if !has_will && (will_qos != QoS::AtMostOnce || will_retain) {
            return Err(Malformed::WillFlagsWithoutWill);
        }
        let has_user_name = flags & FLAG_USER_NAME != 0;
        let has_password = flags & FLAG_PASSWORD != 0;
        if has_password && !has_user_name && !version.is_v5() {
            return Err(Malformed::PasswordWithoutUserName);
        }
        let keep_alive_s = reader.u16()?;
        let properties = ConnectProperties::decode(PropertyWalk::follow(version, &mut reader)?)?;

        // The order of the payload fields is fixed [MQTT-3.1.3-1].
        let client_id = reader.text()?;
        let will = if has_will {
            let properties = WillProperties::decode(PropertyWalk::follow(version, &mut reader)?)?;
            let topic = TopicName::parse(reader.topic_text()?)?;
            let payload = reader.binary()?;
            Some(Will { topic, payload, qos: will_qos, retain: will_retain, properties })
        } else {
            None
        };
        let user_name = if has_user_name { Some(reader.text()?) } else { None };
        let password = if has_password { Some(reader.binary()?) } else { None };
        reader.finish()?;
        Ok(Self {
            version,
            is_bridge,
            clean_start: flags & FLAG_CLEAN_START != 0,
            keep_alive_s,
            client_id,
            will,
            user_name,
            password,
            properties,
        })
    }

    /// Appends the packet in its own version. The parameter only keeps the signature uniform.
    pub fn encode(&self, _: ProtocolVersion, out: &mut Vec<u8>) {
        write::packet(out, PacketType::Connect.first_byte(), 0, |out| self.encode_body(out));
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        write::text(out, self.version.name());
        out.push(self.version.level() | if self.is_bridge { BRIDGE } else { 0 });
        out.push(self.flags());
        write::u16(out, self.keep_alive_s);
        if self.version.is_v5() {
            write::section(out, |out| self.properties.encode(out));
        }
        write::text(out, self.client_id);
        if let Some(will) = &self.will {
            if self.version.is_v5() {
                write::section(out, |out| will.properties.encode(out));
            }
            write::text(out, will.topic.as_str());
            write::binary(out, will.payload);
        }
        if let Some(user_name) = self.user_name {
            write::text(out, user_name);
        }
        if let Some(password) = self.password {
            write::binary(out, password);
        }
    }

    fn flags(&self) -> u8 {
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let will = self
            .will
            .as_ref()
            .map_or(0, |will| FLAG_WILL | (will.qos.bits() << 3) | flag(will.retain, FLAG_WILL_RETAIN));
        will | flag(self.clean_start, FLAG_CLEAN_START)
            | flag(self.user_name.is_some(), FLAG_USER_NAME)
            | flag(self.password.is_some(), FLAG_PASSWORD)
    }
}

/// Reads protocol name and level; together they select the standard of the rest. Also returns whether the bit of a bridge is
/// set.
fn read_version(reader: &mut Reader<'_>) -> Result<(ProtocolVersion, bool), Malformed> {
    let name = reader.text()?;
    let versions: &[_] = match name {
        "MQTT" => &[ProtocolVersion::V3_1_1, ProtocolVersion::V5],
        "MQIsdp" => &[ProtocolVersion::V3_1],
        _ => return Err(Malformed::ProtocolNameUnknown),
    };
    let level = reader.u8()?;
    for &version in versions {
        if version.level() == level {
            return Ok((version, false));
        }
        if version.level() | BRIDGE == level && !version.is_v5() {
            return Ok((version, true));
        }
    }
    Err(Malformed::UnsupportedProtocolVersion { level })
}

/// The properties of a CONNECT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    /// How long the session outlives the connection, in seconds; absent: not at all; `u32::MAX`: for ever.
    pub session_expiry_interval_s: Option<u32>,
    /// How many QoS 1 and 2 messages the client accepts at once; absent: 65 535.
    pub receive_maximum: Option<NonZeroU16>,
    /// The largest packet that the client accepts, in bytes; absent: any [MQTT-3.1.2-24].
    pub packet_bytes_max: Option<NonZeroU32>,
    /// The greatest topic alias that the client accepts; absent: none [MQTT-3.1.2-27].
    pub topic_alias_maximum: Option<u16>,
    /// Whether CONNACK may carry response information; absent: no.
    pub request_response_information: Option<bool>,
    /// Whether any packet may carry a reason string or user properties; absent: yes [MQTT-3.1.2-29].
    pub request_problem_information: Option<bool>,
    /// The method of enhanced authentication.
    pub authentication_method: Option<&'a str>,
    /// Data of that method.
    pub authentication_data: Option<&'a [u8]>,
    /// The user properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> ConnectProperties<'a> {
    fn decode(mut properties: PropertyWalk<'a>) -> Result<Self, Malformed> {
        let mut decoded = Self::default();
        while let Some(property) = properties.next()? {
            match property {
                Property::SessionExpiryInterval(value) => {
                    properties.once(&mut decoded.session_expiry_interval_s, value)?;
                }
                Property::ReceiveMaximum(value) => properties.once(&mut decoded.receive_maximum, value)?,
                Property::MaximumPacketSize(value) => {
                    properties.once(&mut decoded.packet_bytes_max, value)?;
                }
                Property::TopicAliasMaximum(value) => {
                    properties.once(&mut decoded.topic_alias_maximum, value)?;
                }
                Property::RequestResponseInformation(value) => {
                    properties.once(&mut decoded.request_response_information, value)?;
                }
                Property::RequestProblemInformation(value) => {
                    properties.once(&mut decoded.request_problem_information, value)?;
                }
                Property::AuthenticationMethod(value) => {
                    properties.once(&mut decoded.authentication_method, value)?;
                }
                Property::AuthenticationData(value) => {
                    properties.once(&mut decoded.authentication_data, value)?;
                }
                Property::User(..) => {}
                _ => return Err(properties.not_allowed()),
            }
        }
        if decoded.authentication_data.is_some() && decoded.authentication_method.is_none() {
            return Err(Malformed::AuthenticationDataWithoutMethod);
        }
        decoded.user_properties = properties.user_properties();
        Ok(decoded)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        Property::put(out, self.session_expiry_interval_s, Property::SessionExpiryInterval);
        Property::put(out, self.receive_maximum, Property::ReceiveMaximum);
        Property::put(out, self.packet_bytes_max, Property::MaximumPacketSize);
        Property::put(out, self.topic_alias_maximum, Property::TopicAliasMaximum);
        Property::put(out, self.request_response_information, Property::RequestResponseInformation);
        Property::put(out, self.request_problem_information, Property::RequestProblemInformation);
        Property::put(out, self.authentication_method, Property::AuthenticationMethod);
        Property::put(out, self.authentication_data, Property::AuthenticationData);
        self.user_properties.encode(out);
    }
}

/// The message that is published if the connection ends without a DISCONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// The topic it is published to.
    pub topic: TopicName<'a>,
    /// The message itself.
    pub payload: &'a [u8],
    /// The QoS it is published with.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// The properties; none before 5.0.
    pub properties: WillProperties<'a>,
}

/// The properties of a will.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WillProperties<'a> {
    /// How long to wait for the client to reconnect, in seconds; absent: not at all.
    pub delay_interval_s: Option<u32>,
    /// Lifetime of the message after it is published, in seconds; absent: unlimited.
    pub message_expiry_interval_s: Option<u32>,
    /// Whether the payload is text in UTF-8; absent: it is bytes.
    pub payload_format_utf8: Option<bool>,
    /// The type of the payload, defined by the application.
    pub content_type: Option<&'a str>,
    /// The topic for a response; without wildcards [MQTT-3.3.2-14].
    pub response_topic: Option<&'a str>,
    /// Identifies the request that a response belongs to.
    pub correlation_data: Option<&'a [u8]>,
    /// The user properties.
    pub user_properties: UserProperties<'a>,
    /// The section as it was received; empty in a will built here.
    pub section: PropertySection<'a>,
}

impl<'a> WillProperties<'a> {
    fn decode(mut properties: PropertyWalk<'a>) -> Result<Self, Malformed> {
        let mut decoded = Self { section: properties.received(), ..Self::default() };
        while let Some(property) = properties.next()? {
            match property {
                Property::WillDelayInterval(value) => {
                    properties.once(&mut decoded.delay_interval_s, value)?;
                }
                Property::MessageExpiryInterval(value) => {
                    properties.once(&mut decoded.message_expiry_interval_s, value)?;
                }
                Property::PayloadFormatIndicator(value) => {
                    properties.once(&mut decoded.payload_format_utf8, value)?;
                }
                Property::ContentType(value) => properties.once(&mut decoded.content_type, value)?,
                Property::ResponseTopic(value) => properties.once(&mut decoded.response_topic, value)?,
                Property::CorrelationData(value) => properties.once(&mut decoded.correlation_data, value)?,
                Property::User(..) => {}
                _ => return Err(properties.not_allowed()),
            }
        }
        decoded.user_properties = properties.user_properties();
        Ok(decoded)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        Property::put(out, self.delay_interval_s, Property::WillDelayInterval);
        Property::put(out, self.message_expiry_interval_s, Property::MessageExpiryInterval);
        self.forwardable().encode(out);
    }

    /// Whether any property is forwarded with the message.
    #[must_use]
    pub fn has_forwardable(&self) -> bool {
        !self.forwardable().is_empty()
    }

    /// Appends, encoded, the properties that are forwarded unaltered, in the order in which they were received: payload
    /// format, content type, response topic, correlation data, user properties.
    pub fn append_forwardable(&self, out: &mut Vec<u8>) {
        const LEFT_OUT: &[u32] = &[identifier::WILL_DELAY_INTERVAL, identifier::MESSAGE_EXPIRY_INTERVAL];
        let has_left_out = self.delay_interval_s.is_some() || self.message_expiry_interval_s.is_some();
        if !self.section.append_without(has_left_out, LEFT_OUT, out) {
            self.forwardable().encode(out);
        }
    }

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
