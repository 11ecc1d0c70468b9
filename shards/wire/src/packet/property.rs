//! Properties of MQTT 5.0: identifier, type and domain of each, and iteration over a property section. Each packet
//! decides which properties it may carry.

use alloc::vec::Vec;
use core::fmt;
use core::num::{NonZeroU16, NonZeroU32};

use crate::identifier::SubscriptionId;
use crate::malformed::Malformed;
use crate::protocol::{ProtocolVersion, QoS};
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
    fn read(identifier: u32, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
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

/// A cursor over one property section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PropertyWalk<'a> {
    section: &'a [u8],
    reader: Reader<'a>,
    last_identifier: u32,
    last_at: usize,
    user_properties: Span,
    subscription_ids: Span,
}

/// The range from the first to the last property of a repeatable kind; other properties may stand between.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    fn include(&mut self, start: usize, end: usize) {
        if self.end == 0 {
            self.start = start;
        }
        self.end = end;
    }

    fn of(self, section: &[u8]) -> &[u8] {
        section.get(self.start..self.end).unwrap_or_default()
    }
}

impl<'a> PropertyWalk<'a> {
    /// Reads the section that follows in the packet. Before 5.0 the section is empty.
    #[inline]
    pub(crate) fn follow(version: ProtocolVersion, reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Self::of(if version.is_v5() { reader.section()? } else { &[] }))
    }

    #[inline]
    pub(crate) const fn of(section: &'a [u8]) -> Self {
        Self {
            section,
            reader: Reader::new(section),
            last_identifier: 0,
            last_at: 0,
            user_properties: Span { start: 0, end: 0 },
            subscription_ids: Span { start: 0, end: 0 },
        }
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.section.is_empty()
    }

    /// Returns the next property, or `None` at the end of the section.
    pub(crate) fn next(&mut self) -> Result<Option<Property<'a>>, Malformed> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        self.last_at = self.at();
        self.last_identifier = self.reader.variable_byte_integer()?;
        let property = Property::read(self.last_identifier, &mut self.reader)?;
        let (start, end) = (self.last_at, self.at());
        match self.last_identifier {
            identifier::USER_PROPERTY => self.user_properties.include(start, end),
            identifier::SUBSCRIPTION_IDENTIFIER => self.subscription_ids.include(start, end),
            _ => {}
        }
        Ok(Some(property))
    }

    const fn at(&self) -> usize {
        self.section.len() - self.reader.rest().len()
    }

    /// Stores the value of the property just read, which must be the first of its kind.
    pub(crate) const fn once<T: Copy>(&self, slot: &mut Option<T>, value: T) -> Result<(), Malformed> {
        if slot.is_some() {
            return Err(Malformed::PropertyDuplicate { identifier: self.last_identifier });
        }
        *slot = Some(value);
        Ok(())
    }

    /// The error for the property just read: it is not allowed in this packet.
    pub(crate) const fn not_allowed(&self) -> Malformed {
        Malformed::PropertyNotAllowed { identifier: self.last_identifier }
    }

    /// The whole section as it was received.
    pub(crate) const fn received(&self) -> PropertySection<'a> {
        PropertySection(self.section)
    }

    /// The user properties read so far.
    pub(crate) fn user_properties(&self) -> UserProperties<'a> {
        UserProperties(UserPropertySource::Section(self.user_properties.of(self.section)))
    }

    /// The subscription identifiers read so far.
    pub(crate) fn subscription_ids(&self) -> SubscriptionIds<'a> {
        SubscriptionIds(SubscriptionIdSource::Section(self.subscription_ids.of(self.section)))
    }

    /// Returns the next property of a section that was validated when its packet was decoded.
    fn next_validated(&mut self) -> Option<Property<'a>> {
        let property = self.next();
        debug_assert!(property.is_ok(), "a decoded packet's section is valid");
        property.ok().flatten()
    }
}

/// The property section of a PUBLISH or a will as it was received, so that unaltered properties can be copied.
///
/// Empty in a packet that was built here. All sections compare equal, because the encoding of properties is not part of
/// their meaning.
#[derive(Clone, Copy, Default)]
pub struct PropertySection<'a>(&'a [u8]);

impl<'a> PropertySection<'a> {
    /// Whether there is no section, as in a packet built here.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the section without `left_out`. Returns false if there is no section; the fields must then be encoded.
    pub(crate) fn append_without(self, has_left_out: bool, left_out: &[u32], out: &mut Vec<u8>) -> bool {
        if !has_left_out {
            out.extend_from_slice(self.0);
            return !self.0.is_empty();
        }
        let mut properties = PropertyWalk::of(self.0);
        while properties.next_validated().is_some() {
            if !left_out.contains(&properties.last_identifier) {
                out.extend_from_slice(&self.0[properties.last_at..properties.at()]);
            }
        }
        !self.0.is_empty()
    }

    /// The bytes of the section, without its length.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

impl PartialEq for PropertySection<'_> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for PropertySection<'_> {}

impl fmt::Debug for PropertySection<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PropertySection({} bytes)", self.0.len())
    }
}

/// The user properties of a packet: pairs of name and value, in order; a name may occur several times.
#[derive(Clone, Copy)]
pub struct UserProperties<'a>(UserPropertySource<'a>);

#[derive(Clone, Copy)]
enum UserPropertySource<'a> {
    /// Validated properties, including properties of other kinds.
    Section(&'a [u8]),
    Pairs(&'a [(&'a str, &'a str)]),
}

impl<'a> UserProperties<'a> {
    /// User properties to be sent, in this order.
    #[must_use]
    pub const fn from_pairs(pairs: &'a [(&'a str, &'a str)]) -> Self {
        Self(UserPropertySource::Pairs(pairs))
    }

    /// Whether there are none.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        match self.0 {
            UserPropertySource::Section(section) => section.is_empty(),
            UserPropertySource::Pairs(pairs) => pairs.is_empty(),
        }
    }

    /// Name and value of each, in the order of the packet [MQTT-3.3.2-18].
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let (section, pairs): (&[u8], &[_]) = match self.0 {
            UserPropertySource::Section(section) => (section, &[]),
            UserPropertySource::Pairs(pairs) => (&[], pairs),
        };
        let mut properties = PropertyWalk::of(section);
        let from_section = core::iter::from_fn(move || properties.next_validated());
        let from_section = from_section.filter_map(|property| match property {
            Property::User(name, value) => Some((name, value)),
            _ => None,
        });
        from_section.chain(pairs.iter().copied())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            Property::User(name, value).encode(out);
        }
    }
}

impl Default for UserProperties<'_> {
    fn default() -> Self {
        Self::from_pairs(&[])
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UserProperties<'_> {}

impl fmt::Debug for UserProperties<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

/// The subscription identifiers of a PUBLISH, in order.
#[derive(Clone, Copy)]
pub struct SubscriptionIds<'a>(SubscriptionIdSource<'a>);

#[derive(Clone, Copy)]
enum SubscriptionIdSource<'a> {
    /// Validated properties, including properties of other kinds.
    Section(&'a [u8]),
    Ids(&'a [SubscriptionId]),
}

impl<'a> SubscriptionIds<'a> {
    /// Subscription identifiers to be sent.
    #[must_use]
    pub const fn from_ids(ids: &'a [SubscriptionId]) -> Self {
        Self(SubscriptionIdSource::Ids(ids))
    }

    /// Whether there are none.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        match self.0 {
            SubscriptionIdSource::Section(section) => section.is_empty(),
            SubscriptionIdSource::Ids(ids) => ids.is_empty(),
        }
    }

    /// Each identifier, in the order of the packet.
    pub fn iter(&self) -> impl Iterator<Item = SubscriptionId> + use<'a> {
        let (section, ids): (&[u8], &[_]) = match self.0 {
            SubscriptionIdSource::Section(section) => (section, &[]),
            SubscriptionIdSource::Ids(ids) => (&[], ids),
        };
        let mut properties = PropertyWalk::of(section);
        let from_section = core::iter::from_fn(move || properties.next_validated());
        let from_section = from_section.filter_map(|property| match property {
            Property::SubscriptionIdentifier(id) => Some(id),
            _ => None,
        });
        from_section.chain(ids.iter().copied())
    }
}

impl Default for SubscriptionIds<'_> {
    fn default() -> Self {
        Self::from_ids(&[])
    }
}

impl PartialEq for SubscriptionIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SubscriptionIds<'_> {}

impl fmt::Debug for SubscriptionIds<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_properties_are_found_between_others() {
        let mut section = Vec::new();
        let id = |number| SubscriptionId::new(number).unwrap();
        Property::ContentType("x").encode(&mut section);
        Property::User("a", "1").encode(&mut section);
        Property::SubscriptionIdentifier(id(1)).encode(&mut section);
        Property::MessageExpiryInterval(5).encode(&mut section);
        Property::User("a", "2").encode(&mut section);
        Property::SubscriptionIdentifier(id(268_435_455)).encode(&mut section);
        let mut properties = PropertyWalk::of(&section);
        while properties.next().unwrap().is_some() {}
        assert_eq!(properties.user_properties(), UserProperties::from_pairs(&[("a", "1"), ("a", "2")]));
        assert_eq!(properties.subscription_ids(), SubscriptionIds::from_ids(&[id(1), id(268_435_455)]));
        assert!(!properties.user_properties().is_empty() && !properties.subscription_ids().is_empty());
        assert!(UserProperties::default().is_empty() && SubscriptionIds::default().is_empty());
    }

    #[test]
    fn values_outside_of_their_domain_are_refused() {
        let check = |section: &[u8], expected| {
            assert_eq!(
                PropertyWalk::of(section).next().map(|property| property.is_some()),
                Err(expected),
                "{section:x?}"
            );
        };
        for identifier in [0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A] {
            check(
                &[identifier, 2],
                Malformed::PropertyValueInvalid { identifier: identifier.into(), value: 2 },
            );
        }
        check(&[0x0B, 0], Malformed::PropertyValueInvalid { identifier: 0x0B, value: 0 });
        check(&[0x21, 0, 0], Malformed::PropertyValueInvalid { identifier: 0x21, value: 0 });
        check(&[0x27, 0, 0, 0, 0], Malformed::PropertyValueInvalid { identifier: 0x27, value: 0 });
        check(&[0x23, 0, 0], Malformed::TopicAliasZero);
        check(&[0x08, 0, 1, b'#'], Malformed::ResponseTopicHasWildcard);
        check(&[0x00], Malformed::PropertyUnknown { identifier: 0 });
        check(&[0xFF, 0x01], Malformed::PropertyUnknown { identifier: 255 });
        check(&[0x26, 0, 1, b'a'], Malformed::FieldTruncated);
    }
}
