//! UNSUBSCRIBE and UNSUBACK. Decoded filters are valid.

use alloc::vec::Vec;
use core::fmt;

use crate::identifier::PacketId;
use crate::malformed::Malformed;
use crate::packet::ack::{AckProperties, Reasons};
use crate::packet::property::{Property, PropertyWalk, UserProperties};
use crate::packet::read_packet_id;
use crate::protocol::{PacketType, ProtocolVersion};
use crate::read::Reader;
use crate::topic::TopicFilter;
use crate::write;

/// A client unsubscribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// The packet identifier of the UNSUBACK.
    pub packet_id: PacketId,
    /// The user properties; none before 5.0.
    pub user_properties: UserProperties<'a>,
    /// The topic filters, compared character by character [MQTT-3.10.4-1]; at least one [MQTT-3.10.3-2].
    pub filters: UnsubscribeFilters<'a>,
}

impl<'a> Unsubscribe<'a> {
    /// Reads the body of an UNSUBSCRIBE.
    ///
    /// # Errors
    /// If the packet identifier is 0 [MQTT-2.2.1-3], there is no topic filter [MQTT-3.10.3-2] or a malformed one, or a
    /// property is invalid.
    pub fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let packet_id = read_packet_id(&mut reader)?;
        let mut properties = PropertyWalk::follow(version, &mut reader)?;
        while let Some(property) = properties.next()? {
            match property {
                Property::User(..) => {}
                _ => return Err(properties.not_allowed()),
            }
        }
        let filters = UnsubscribeFilters::decode(reader)?;
        Ok(Self { packet_id, user_properties: properties.user_properties(), filters })
    }

    /// Appends the packet in the format of `version`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        debug_assert!(self.filters.iter().next().is_some(), "[MQTT-3.10.3-2]");
        write::packet(out, PacketType::Unsubscribe.first_byte(), 0, |out| {
            write::u16(out, self.packet_id.get());
            if version.is_v5() {
                write::section(out, |out| self.user_properties.encode(out));
            }
            for filter in self.filters.iter() {
                write::text(out, filter.as_str());
            }
        });
    }
}

/// The topic filters of an UNSUBSCRIBE, all validated.
#[derive(Clone, Copy)]
pub struct UnsubscribeFilters<'a>(FilterSource<'a>);

#[derive(Clone, Copy)]
enum FilterSource<'a> {
    /// Validated filters, as encoded in the packet.
    Payload(&'a [u8]),
    Filters(&'a [TopicFilter<'a>]),
}

impl<'a> UnsubscribeFilters<'a> {
    /// Filters to be sent.
    #[must_use]
    pub const fn from_slice(filters: &'a [TopicFilter<'a>]) -> Self {
        Self(FilterSource::Filters(filters))
    }

    /// The filters of a decoded packet from one of them on: the end of what [`Self::payload`] returned.
    #[must_use]
    pub const fn from_payload(payload: &'a [u8]) -> Self {
        Self(FilterSource::Payload(payload))
    }

    /// The filters of a decoded packet, as encoded there; empty for filters to be sent.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        match self.0 {
            FilterSource::Payload(payload) => payload,
            FilterSource::Filters(_) => &[],
        }
    }

    fn decode(mut reader: Reader<'a>) -> Result<Self, Malformed> {
        if reader.is_empty() {
            return Err(Malformed::TopicFiltersMissing);
        }
        let payload = reader.rest();
        while !reader.is_empty() {
            read_filter(&mut reader)?;
        }
        Ok(Self(FilterSource::Payload(payload)))
    }

    /// Each filter, in order.
    pub fn iter(&self) -> impl Iterator<Item = TopicFilter<'a>> + use<'a> {
        let (payload, filters): (&[u8], &[_]) = match self.0 {
            FilterSource::Payload(payload) => (payload, &[]),
            FilterSource::Filters(filters) => (&[], filters),
        };
        let mut reader = Reader::new(payload);
        let from_payload = core::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            let filter = read_filter(&mut reader);
            debug_assert!(filter.is_ok(), "a decoded UNSUBSCRIBE holds valid filters");
            filter.ok()
        });
        from_payload.chain(filters.iter().copied())
    }
}

fn read_filter<'a>(reader: &mut Reader<'a>) -> Result<TopicFilter<'a>, Malformed> {
    TopicFilter::parse(reader.topic_text()?)
}

impl PartialEq for UnsubscribeFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UnsubscribeFilters<'_> {}

impl fmt::Debug for UnsubscribeFilters<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

/// The answer to UNSUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// The identifier of the UNSUBSCRIBE [MQTT-2.2.1-6].
    pub packet_id: PacketId,
    /// The outcome for each filter in order [MQTT-3.11.3-1]; none before 5.0.
    pub reasons: Reasons<'a>,
    /// The properties; none before 5.0.
    pub properties: AckProperties<'a>,
}

impl<'a> UnsubAck<'a> {
    /// Reads the body of an UNSUBACK.
    ///
    /// # Errors
    /// If the packet identifier is 0, in 5.0 if there is no reason code or one that is not allowed in an UNSUBACK
    /// [MQTT-3.11.3-2], or a property is invalid.
    pub fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let packet_id = read_packet_id(&mut reader)?;
        if !version.is_v5() {
            reader.finish()?;
            return Ok(Self { packet_id, reasons: Reasons::default(), properties: AckProperties::default() });
        }
        let properties = AckProperties::decode(PropertyWalk::follow(version, &mut reader)?)?;
        let reasons = Reasons::decode(PacketType::UnsubAck, version, reader.rest())?;
        Ok(Self { packet_id, reasons, properties })
    }

    /// Appends the packet in the format of `version`; before 5.0 only the packet identifier.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        write::packet(out, PacketType::UnsubAck.first_byte(), 0, |out| {
            write::u16(out, self.packet_id.get());
            if version.is_v5() {
                write::section(out, |out| self.properties.encode(out));
                out.extend(self.reasons.iter().map(|reason| {
                    debug_assert!(
                        reason.is_allowed_in(PacketType::UnsubAck),
                        "UNSUBACK cannot carry {reason:?}"
                    );
                    reason.code()
                }));
            }
        });
    }
}
