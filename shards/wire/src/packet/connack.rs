//! CONNACK: the server's answer to CONNECT.

use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroU32};

use crate::malformed::Malformed;
use crate::packet::property::{Property, PropertyWalk, UserProperties};
use crate::packet::reason_in;
use crate::protocol::{PacketType, ProtocolVersion, QoS};
use crate::read::Reader;
use crate::reason::ReasonCode;
use crate::write;

/// The server's answer to CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Whether a session is resumed. 3.1 cannot express it.
    pub session_present: bool,
    /// The outcome; before 5.0 the return code that comes nearest ([`ReasonCode::connect_return_code`]).
    pub reason: ReasonCode,
    /// The properties; none before 5.0.
    pub properties: ConnAckProperties<'a>,
}

impl<'a> ConnAck<'a> {
    /// Reads the body of a CONNACK.
    ///
    /// # Errors
    /// If a reserved flag is set [MQTT-3.2.2-1], the reason code is not allowed in a CONNACK, a refusal has Session
    /// Present set [MQTT-3.2.2-6], or a property is invalid.
    pub fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let flags = reader.u8()?;
        // 3.1 reserves the whole byte without fixing its value.
        if flags & !1 != 0 && version != ProtocolVersion::V3_1 {
            return Err(Malformed::ConnAckFlagsReserved);
        }
        let session_present = flags & 1 != 0 && version != ProtocolVersion::V3_1;
        let code = reader.u8()?;
        let reason = if version.is_v5() {
            reason_in(PacketType::ConnAck, code)?
        } else {
            ReasonCode::from_connect_return_code(code).ok_or(Malformed::ReasonCodeNotAllowed { code })?
        };
        if session_present && reason != ReasonCode::Success {
            return Err(Malformed::SessionPresentWithError);
        }
        let properties = ConnAckProperties::decode(PropertyWalk::follow(version, &mut reader)?)?;
        reader.finish()?;
        Ok(Self { session_present, reason, properties })
    }

    /// Appends the packet in the format of `version`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        debug_assert!(!self.session_present || self.reason == ReasonCode::Success, "[MQTT-3.2.2-6]");
        let code = if version.is_v5() { self.reason.code() } else { self.reason.connect_return_code() };
        write::packet(out, PacketType::ConnAck.first_byte(), 0, |out| {
            out.push(u8::from(self.session_present && version != ProtocolVersion::V3_1));
            out.push(code);
            if version.is_v5() {
                write::section(out, |out| self.properties.encode(out));
            }
        });
    }
}

/// The properties of a CONNACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnAckProperties<'a> {
    /// How long the session outlives the connection, in seconds; absent: as requested by the client.
    pub session_expiry_interval_s: Option<u32>,
    /// How many QoS 1 and 2 messages the server accepts at once; absent: 65 535.
    pub receive_maximum: Option<NonZeroU16>,
    /// The highest QoS that the server accepts, 0 or 1. Absent means 2, and 2 is encoded as absent.
    pub maximum_qos: Option<QoS>,
    /// Whether messages can be retained; absent: yes.
    pub retain_available: Option<bool>,
    /// The largest packet that the server accepts, in bytes; absent: any.
    pub packet_bytes_max: Option<NonZeroU32>,
    /// The client identifier assigned by the server [MQTT-3.2.2-16].
    pub assigned_client_id: Option<&'a str>,
    /// The greatest topic alias that the server accepts; absent: none.
    pub topic_alias_maximum: Option<u16>,
    /// An explanation for people.
    pub reason_string: Option<&'a str>,
    /// The user properties.
    pub user_properties: UserProperties<'a>,
    /// Whether filters may contain wildcards; absent: yes.
    pub wildcard_available: Option<bool>,
    /// Whether subscriptions may have identifiers; absent: yes.
    pub subscription_ids_available: Option<bool>,
    /// Whether subscriptions can be shared; absent: yes.
    pub shared_available: Option<bool>,
    /// The keep alive the client must use instead of its own, in seconds [MQTT-3.1.2-21].
    pub server_keep_alive_s: Option<u16>,
    /// The basis for response topics.
    pub response_information: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// The method of enhanced authentication.
    pub authentication_method: Option<&'a str>,
    /// Data of that method.
    pub authentication_data: Option<&'a [u8]>,
}

impl<'a> ConnAckProperties<'a> {
    fn decode(mut properties: PropertyWalk<'a>) -> Result<Self, Malformed> {
        let mut decoded = Self::default();
        while let Some(property) = properties.next()? {
            match property {
                Property::SessionExpiryInterval(value) => {
                    properties.once(&mut decoded.session_expiry_interval_s, value)?;
                }
                Property::ReceiveMaximum(value) => properties.once(&mut decoded.receive_maximum, value)?,
                Property::MaximumQos(value) => properties.once(&mut decoded.maximum_qos, value)?,
                Property::RetainAvailable(value) => properties.once(&mut decoded.retain_available, value)?,
                Property::MaximumPacketSize(value) => {
                    properties.once(&mut decoded.packet_bytes_max, value)?;
                }
                Property::AssignedClientIdentifier(value) => {
                    properties.once(&mut decoded.assigned_client_id, value)?;
                }
                Property::TopicAliasMaximum(value) => {
                    properties.once(&mut decoded.topic_alias_maximum, value)?;
                }
                Property::ReasonString(value) => properties.once(&mut decoded.reason_string, value)?,
                Property::User(..) => {}
                Property::WildcardSubscriptionAvailable(value) => {
                    properties.once(&mut decoded.wildcard_available, value)?;
                }
                Property::SubscriptionIdentifierAvailable(value) => {
                    properties.once(&mut decoded.subscription_ids_available, value)?;
                }
                Property::SharedSubscriptionAvailable(value) => {
                    properties.once(&mut decoded.shared_available, value)?;
                }
                Property::ServerKeepAlive(value) => {
                    properties.once(&mut decoded.server_keep_alive_s, value)?;
                }
                Property::ResponseInformation(value) => {
                    properties.once(&mut decoded.response_information, value)?;
                }
                Property::ServerReference(value) => properties.once(&mut decoded.server_reference, value)?,
                Property::AuthenticationMethod(value) => {
                    properties.once(&mut decoded.authentication_method, value)?;
                }
                Property::AuthenticationData(value) => {
                    properties.once(&mut decoded.authentication_data, value)?;
                }
                _ => return Err(properties.not_allowed()),
            }
        }
        decoded.user_properties = properties.user_properties();
        Ok(decoded)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        Property::put(out, self.session_expiry_interval_s, Property::SessionExpiryInterval);
        Property::put(out, self.receive_maximum, Property::ReceiveMaximum);
        Property::put(out, self.maximum_qos, Property::MaximumQos);
        Property::put(out, self.retain_available, Property::RetainAvailable);
        Property::put(out, self.packet_bytes_max, Property::MaximumPacketSize);
        Property::put(out, self.assigned_client_id, Property::AssignedClientIdentifier);
        Property::put(out, self.topic_alias_maximum, Property::TopicAliasMaximum);
        Property::put(out, self.reason_string, Property::ReasonString);
        Property::put(out, self.wildcard_available, Property::WildcardSubscriptionAvailable);
        Property::put(out, self.subscription_ids_available, Property::SubscriptionIdentifierAvailable);
        Property::put(out, self.shared_available, Property::SharedSubscriptionAvailable);
        Property::put(out, self.server_keep_alive_s, Property::ServerKeepAlive);
        Property::put(out, self.response_information, Property::ResponseInformation);
        Property::put(out, self.server_reference, Property::ServerReference);
        Property::put(out, self.authentication_method, Property::AuthenticationMethod);
        Property::put(out, self.authentication_data, Property::AuthenticationData);
        self.user_properties.encode(out);
    }
}
