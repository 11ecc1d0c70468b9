//! Properties of MQTT 5.0: identifier, type and domain of each.

use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroU32};

use crate::identifier::SubscriptionId;
use crate::malformed::Malformed;
use crate::protocol::QoS;
use crate::read::Reader;
use crate::write;

/// The identifiers of table 2-4.
pub(crate) mod identifier {
    pub(crate) const PAYLOAD_FORMAT_INDICATOR: u32 = 0x01;
    pub(crate) const MESSAGE_EXPIRY_INTERVAL: u32 = 0x02;
    pub(crate) const CONTENT_TYPE: u32 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u32 = 0x08;
    pub(crate) const CORRELATION_DATA: u32 = 0x09;
    pub(crate) const SUBSCRIPTION_IDENTIFIER: u32 = 0x0B;
    pub(crate) const SESSION_EXPIRY_INTERVAL: u32 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_IDENTIFIER: u32 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u32 = 0x13;
    pub(crate) const AUTHENTICATION_METHOD: u32 = 0x15;
    pub(crate) const AUTHENTICATION_DATA: u32 = 0x16;
    pub(crate) const REQUEST_PROBLEM_INFORMATION: u32 = 0x17;
    pub(crate) const WILL_DELAY_INTERVAL: u32 = 0x18;
    pub(crate) const REQUEST_RESPONSE_INFORMATION: u32 = 0x19;
    pub(crate) const RESPONSE_INFORMATION: u32 = 0x1A;
    pub(crate) const SERVER_REFERENCE: u32 = 0x1C;
    pub(crate) const REASON_STRING: u32 = 0x1F;
    pub(crate) const RECEIVE_MAXIMUM: u32 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u32 = 0x22;
    pub(crate) const TOPIC_ALIAS: u32 = 0x23;
    pub(crate) const MAXIMUM_QOS: u32 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u32 = 0x25;
    pub(crate) const USER_PROPERTY: u32 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u32 = 0x27;
    pub(crate) const WILDCARD_SUBSCRIPTION_AVAILABLE: u32 = 0x28;
    pub(crate) const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u32 = 0x29;
    pub(crate) const SHARED_SUBSCRIPTION_AVAILABLE: u32 = 0x2A;
}

/// One property with its value. Only values within the property's domain are constructed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Property<'a> {
    PayloadFormatIndicator(bool),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(SubscriptionId),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(NonZeroU16),
    TopicAliasMaximum(u16),
    TopicAlias(NonZeroU16),
    MaximumQos(QoS),
    RetainAvailable(bool),
    User(&'a str, &'a str),
    MaximumPacketSize(NonZeroU32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifierAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

impl<'a> Property<'a> {
    pub(super) fn read(identifier: u32, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let boolean = |reader: &mut Reader<'a>| match reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(Malformed::PropertyValueInvalid { identifier, value: value.into() }),
        };
        let zero = Malformed::PropertyValueInvalid { identifier, value: 0 };
        Ok(match identifier {
            identifier::PAYLOAD_FORMAT_INDICATOR => Self::PayloadFormatIndicator(boolean(reader)?),
            identifier::MESSAGE_EXPIRY_INTERVAL => Self::MessageExpiryInterval(reader.u32()?),
            identifier::CONTENT_TYPE => Self::ContentType(reader.text()?),
            identifier::RESPONSE_TOPIC => {
                let topic = reader.text()?;
                // It is the Topic Name of the response.
                if topic.is_empty() {
                    return Err(Malformed::ResponseTopicEmpty);
                }
                if topic.contains(['+', '#']) {
                    return Err(Malformed::ResponseTopicHasWildcard);
                }
                Self::ResponseTopic(topic)
            }
            identifier::CORRELATION_DATA => Self::CorrelationData(reader.binary()?),
            identifier::SUBSCRIPTION_IDENTIFIER => Self::SubscriptionIdentifier(
                SubscriptionId::new(reader.variable_byte_integer()?).ok_or(zero)?,
            ),
            identifier::SESSION_EXPIRY_INTERVAL => Self::SessionExpiryInterval(reader.u32()?),
            identifier::ASSIGNED_CLIENT_IDENTIFIER => Self::AssignedClientIdentifier(reader.text()?),
            identifier::SERVER_KEEP_ALIVE => Self::ServerKeepAlive(reader.u16()?),
            identifier::AUTHENTICATION_METHOD => Self::AuthenticationMethod(reader.text()?),
            identifier::AUTHENTICATION_DATA => Self::AuthenticationData(reader.binary()?),
            identifier::REQUEST_PROBLEM_INFORMATION => Self::RequestProblemInformation(boolean(reader)?),
            identifier::WILL_DELAY_INTERVAL => Self::WillDelayInterval(reader.u32()?),
            identifier::REQUEST_RESPONSE_INFORMATION => Self::RequestResponseInformation(boolean(reader)?),
            identifier::RESPONSE_INFORMATION => Self::ResponseInformation(reader.text()?),
            identifier::SERVER_REFERENCE => Self::ServerReference(reader.text()?),
            identifier::REASON_STRING => Self::ReasonString(reader.text()?),
            identifier::RECEIVE_MAXIMUM => Self::ReceiveMaximum(NonZeroU16::new(reader.u16()?).ok_or(zero)?),
            identifier::TOPIC_ALIAS_MAXIMUM => Self::TopicAliasMaximum(reader.u16()?),
            identifier::TOPIC_ALIAS => {
                Self::TopicAlias(NonZeroU16::new(reader.u16()?).ok_or(Malformed::TopicAliasZero)?)
            }
            identifier::MAXIMUM_QOS => {
                Self::MaximumQos(if boolean(reader)? { QoS::AtLeastOnce } else { QoS::AtMostOnce })
            }
            identifier::RETAIN_AVAILABLE => Self::RetainAvailable(boolean(reader)?),
            identifier::USER_PROPERTY => Self::User(reader.text()?, reader.text()?),
            identifier::MAXIMUM_PACKET_SIZE => {
                Self::MaximumPacketSize(NonZeroU32::new(reader.u32()?).ok_or(zero)?)
            }
            identifier::WILDCARD_SUBSCRIPTION_AVAILABLE => {
                Self::WildcardSubscriptionAvailable(boolean(reader)?)
            }
            identifier::SUBSCRIPTION_IDENTIFIER_AVAILABLE => {
                Self::SubscriptionIdentifierAvailable(boolean(reader)?)
            }
            identifier::SHARED_SUBSCRIPTION_AVAILABLE => Self::SharedSubscriptionAvailable(boolean(reader)?),
            _ => return Err(Malformed::PropertyUnknown { identifier }),
        })
    }

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::PayloadFormatIndicator(value) => {
                byte(out, identifier::PAYLOAD_FORMAT_INDICATOR, value.into());
            }
            Self::MessageExpiryInterval(value) => four(out, identifier::MESSAGE_EXPIRY_INTERVAL, value),
            Self::ContentType(value) => text(out, identifier::CONTENT_TYPE, value),
            Self::ResponseTopic(value) => text(out, identifier::RESPONSE_TOPIC, value),
            Self::CorrelationData(value) => binary(out, identifier::CORRELATION_DATA, value),
            Self::SubscriptionIdentifier(value) => {
                write::variable_byte_integer(out, identifier::SUBSCRIPTION_IDENTIFIER);
                write::variable_byte_integer(out, value.get());
            }
            Self::SessionExpiryInterval(value) => four(out, identifier::SESSION_EXPIRY_INTERVAL, value),
            Self::AssignedClientIdentifier(value) => text(out, identifier::ASSIGNED_CLIENT_IDENTIFIER, value),
            Self::ServerKeepAlive(value) => two(out, identifier::SERVER_KEEP_ALIVE, value),
            Self::AuthenticationMethod(value) => text(out, identifier::AUTHENTICATION_METHOD, value),
            Self::AuthenticationData(value) => binary(out, identifier::AUTHENTICATION_DATA, value),
            Self::RequestProblemInformation(value) => {
                byte(out, identifier::REQUEST_PROBLEM_INFORMATION, value.into());
            }
            Self::WillDelayInterval(value) => four(out, identifier::WILL_DELAY_INTERVAL, value),
            Self::RequestResponseInformation(value) => {
                byte(out, identifier::REQUEST_RESPONSE_INFORMATION, value.into());
            }
            Self::ResponseInformation(value) => text(out, identifier::RESPONSE_INFORMATION, value),
            Self::ServerReference(value) => text(out, identifier::SERVER_REFERENCE, value),
            Self::ReasonString(value) => text(out, identifier::REASON_STRING, value),
            Self::ReceiveMaximum(value) => two(out, identifier::RECEIVE_MAXIMUM, value.get()),
            Self::TopicAliasMaximum(value) => two(out, identifier::TOPIC_ALIAS_MAXIMUM, value),
            Self::TopicAlias(value) => two(out, identifier::TOPIC_ALIAS, value.get()),
            Self::MaximumQos(QoS::AtMostOnce) => byte(out, identifier::MAXIMUM_QOS, 0),
            Self::MaximumQos(QoS::AtLeastOnce) => byte(out, identifier::MAXIMUM_QOS, 1),
            // The value 2 is encoded by leaving the property out; the property cannot carry it.
            Self::MaximumQos(QoS::ExactlyOnce) => {}
            Self::RetainAvailable(value) => byte(out, identifier::RETAIN_AVAILABLE, value.into()),
            Self::User(name, value) => {
                text(out, identifier::USER_PROPERTY, name);
                write::text(out, value);
            }
            Self::MaximumPacketSize(value) => four(out, identifier::MAXIMUM_PACKET_SIZE, value.get()),
            Self::WildcardSubscriptionAvailable(value) => {
                byte(out, identifier::WILDCARD_SUBSCRIPTION_AVAILABLE, value.into());
            }
            Self::SubscriptionIdentifierAvailable(value) => {
                byte(out, identifier::SUBSCRIPTION_IDENTIFIER_AVAILABLE, value.into());
            }
            Self::SharedSubscriptionAvailable(value) => {
                byte(out, identifier::SHARED_SUBSCRIPTION_AVAILABLE, value.into());
            }
        }
    }

    /// Appends a property if it has a value.
    pub(crate) fn put<T>(out: &mut Vec<u8>, value: Option<T>, property: impl FnOnce(T) -> Self) {
        if let Some(value) = value {
            property(value).encode(out);
        }
    }
}

fn byte(out: &mut Vec<u8>, identifier: u32, value: u8) {
    write::variable_byte_integer(out, identifier);
    out.push(value);
}

fn two(out: &mut Vec<u8>, identifier: u32, value: u16) {
    write::variable_byte_integer(out, identifier);
    write::u16(out, value);
}

fn four(out: &mut Vec<u8>, identifier: u32, value: u32) {
    write::variable_byte_integer(out, identifier);
    write::u32(out, value);
}

fn binary(out: &mut Vec<u8>, identifier: u32, value: &[u8]) {
    write::variable_byte_integer(out, identifier);
    write::binary(out, value);
}

fn text(out: &mut Vec<u8>, identifier: u32, value: &str) {
    write::variable_byte_integer(out, identifier);
    write::text(out, value);
}
