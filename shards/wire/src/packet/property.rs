//! Property sections of MQTT 5.0: iteration over one, and the user properties and subscription identifiers in it. Each packet
//! decides which properties it may carry.

mod value;

use alloc::vec::Vec;
use core::fmt;

pub(crate) use value::{Property, identifier};

use crate::identifier::SubscriptionId;
use crate::malformed::Malformed;
use crate::protocol::ProtocolVersion;
use crate::read::Reader;

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
