//! SUBSCRIBE and SUBACK. Decoded filters and options are valid.

use alloc::vec::Vec;
use core::fmt;

use crate::identifier::{PacketId, SubscriptionId};
use crate::malformed::Malformed;
use crate::packet::ack::{AckProperties, Reasons};
use crate::packet::property::{Property, PropertyWalk, UserProperties};
use crate::packet::read_packet_id;
use crate::protocol::{PacketType, ProtocolVersion, QoS};
use crate::read::Reader;
use crate::reason::ReasonCode;
use crate::topic::TopicFilter;
use crate::write;

const OPTIONS_QOS: u8 = 0b0000_0011;
const OPTION_NO_LOCAL: u8 = 0b0000_0100;
const OPTION_RETAIN_AS_PUBLISHED: u8 = 0b0000_1000;
const OPTIONS_RETAIN_HANDLING: u8 = 0b0011_0000;
const OPTIONS_RESERVED_V5: u8 = 0b1100_0000;

/// A client subscribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The packet identifier of the SUBACK.
    pub packet_id: PacketId,
    /// The identifier that messages of these subscriptions carry; none before 5.0.
    pub subscription_id: Option<SubscriptionId>,
    /// The user properties; none before 5.0.
    pub user_properties: UserProperties<'a>,
    /// The topic filters with their options; at least one [MQTT-3.8.3-2].
    pub filters: SubscribeFilters<'a>,
}

impl<'a> Subscribe<'a> {
    /// Reads the body of a SUBSCRIBE.
    ///
    /// # Errors
    /// If the packet identifier is 0 [MQTT-2.2.1-3], there is no topic filter [MQTT-3.8.3-2], a filter or its options are
    /// malformed [MQTT-3.8.3-5], No Local is set on a shared subscription [MQTT-3.8.3-4], or a property is invalid.
    pub fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let packet_id = read_packet_id(&mut reader)?;
        let mut properties = PropertyWalk::follow(version, &mut reader)?;
        let mut subscription_id = None;
        while let Some(property) = properties.next()? {
            match property {
                Property::SubscriptionIdentifier(value) => properties.once(&mut subscription_id, value)?,
                Property::User(..) => {}
                _ => return Err(properties.not_allowed()),
            }
        }
        let filters = SubscribeFilters::decode(version, reader)?;
        Ok(Self { packet_id, subscription_id, user_properties: properties.user_properties(), filters })
    }

    /// Appends the packet in the format of `version`; before 5.0 a filter's only option is its QoS.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        debug_assert!(self.filters.iter().next().is_some(), "[MQTT-3.8.3-2]");
        write::packet(out, PacketType::Subscribe.first_byte(), 0, |out| {
            write::u16(out, self.packet_id.get());
            if version.is_v5() {
                write::section(out, |out| {
                    Property::put(out, self.subscription_id, Property::SubscriptionIdentifier);
                    self.user_properties.encode(out);
                });
            }
            for (filter, options) in self.filters.iter() {
                write::text(out, filter.as_str());
                out.push(if version.is_v5() { options.bits() } else { options.qos.bits() });
            }
        });
    }
}

/// The topic filters of a SUBSCRIBE with their options, all validated.
#[derive(Clone, Copy)]
pub struct SubscribeFilters<'a>(FilterSource<'a>);

#[derive(Clone, Copy)]
enum FilterSource<'a> {
    /// Validated pairs, as encoded in the packet.
    Payload(&'a [u8]),
    Filters(&'a [(TopicFilter<'a>, SubscribeOptions)]),
}

impl<'a> SubscribeFilters<'a> {
    /// Filters to be sent.
    #[must_use]
    pub const fn from_slice(filters: &'a [(TopicFilter<'a>, SubscribeOptions)]) -> Self {
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

    fn decode(version: ProtocolVersion, mut reader: Reader<'a>) -> Result<Self, Malformed> {
        if reader.is_empty() {
            return Err(Malformed::TopicFiltersMissing);
        }
        let payload = reader.rest();
        while !reader.is_empty() {
            read_filter(version, &mut reader)?;
        }
        Ok(Self(FilterSource::Payload(payload)))
    }

    /// Each filter with its options, in order.
    pub fn iter(&self) -> impl Iterator<Item = (TopicFilter<'a>, SubscribeOptions)> + use<'a> {
        let (payload, filters): (&[u8], &[_]) = match self.0 {
            FilterSource::Payload(payload) => (payload, &[]),
            FilterSource::Filters(filters) => (&[], filters),
        };
        let mut reader = Reader::new(payload);
        let from_payload = core::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            // A filter that is valid before 5.0 has the same meaning in 5.0.
            let filter = read_filter(ProtocolVersion::V5, &mut reader);
            debug_assert!(filter.is_ok(), "a decoded SUBSCRIBE holds valid filters");
            filter.ok()
        });
        from_payload.chain(filters.iter().copied())
    }
}

fn read_filter<'a>(
    version: ProtocolVersion,
    reader: &mut Reader<'a>,
) -> Result<(TopicFilter<'a>, SubscribeOptions), Malformed> {
    let filter = TopicFilter::parse(reader.topic_text()?)?;
    let options = SubscribeOptions::decode(version, reader.u8()?)?;
    if options.no_local && filter.share_name().is_some() {
        return Err(Malformed::SharedNoLocal);
    }
    Ok((filter, options))
}

impl PartialEq for SubscribeFilters<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SubscribeFilters<'_> {}

impl fmt::Debug for SubscribeFilters<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

/// The options of one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscribeOptions {
    /// The maximum QoS of a delivery.
    pub qos: QoS,
    /// No Local: the client does not receive its own messages [MQTT-3.8.3-3]; false before 5.0.
    pub no_local: bool,
    /// Retain As Published: messages keep the RETAIN flag they were published with [MQTT-3.3.1-13]; false before 5.0.
    pub retain_as_published: bool,
    /// When retained messages are sent; before 5.0 on every SUBSCRIBE.
    pub retain_handling: RetainHandling,
}

impl SubscribeOptions {
    fn decode(version: ProtocolVersion, bits: u8) -> Result<Self, Malformed> {
        let reserved = if version.is_v5() { OPTIONS_RESERVED_V5 } else { !OPTIONS_QOS };
        if bits & reserved != 0 {
            return Err(Malformed::SubscribeOptionsReserved);
        }
        Ok(Self {
            qos: QoS::from_bits(bits & OPTIONS_QOS).ok_or(Malformed::SubscribeQosInvalid)?,
            no_local: bits & OPTION_NO_LOCAL != 0,
            retain_as_published: bits & OPTION_RETAIN_AS_PUBLISHED != 0,
            retain_handling: match (bits & OPTIONS_RETAIN_HANDLING) >> 4 {
                0 => RetainHandling::SendAtSubscribe,
                1 => RetainHandling::SendIfNew,
                2 => RetainHandling::DoNotSend,
                _ => return Err(Malformed::RetainHandlingInvalid),
            },
        })
    }

    const fn bits(self) -> u8 {
        let no_local = if self.no_local { OPTION_NO_LOCAL } else { 0 };
        let retain_as_published = if self.retain_as_published { OPTION_RETAIN_AS_PUBLISHED } else { 0 };
        self.qos.bits() | no_local | retain_as_published | ((self.retain_handling as u8) << 4)
    }
}

/// Whether a new subscription receives the retained messages that match it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// Always [MQTT-3.3.1-9].
    #[default]
    SendAtSubscribe = 0,
    /// Only if the subscription did not exist [MQTT-3.3.1-10].
    SendIfNew = 1,
    /// Never [MQTT-3.3.1-11].
    DoNotSend = 2,
}

/// The answer to SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// The identifier of the SUBSCRIBE [MQTT-2.2.1-6].
    pub packet_id: PacketId,
    /// The granted QoS or the refusal, for each filter in order [MQTT-3.9.3-1].
    pub reasons: Reasons<'a>,
    /// The properties; none before 5.0.
    pub properties: AckProperties<'a>,
}

impl<'a> SubAck<'a> {
    /// Reads the body of a SUBACK.
    ///
    /// # Errors
    /// If the packet identifier is 0, there is no reason code or one that is not allowed in a SUBACK [MQTT-3.9.3-2], or a
    /// property is invalid.
    pub fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let packet_id = read_packet_id(&mut reader)?;
        let properties = AckProperties::decode(PropertyWalk::follow(version, &mut reader)?)?;
        let reasons = Reasons::decode(PacketType::SubAck, version, reader.rest())?;
        Ok(Self { packet_id, reasons, properties })
    }

    /// Appends the packet in the format of `version`; before 5.0 every refusal is 0x80.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        write::packet(out, PacketType::SubAck.first_byte(), 0, |out| {
            write::u16(out, self.packet_id.get());
            if version.is_v5() {
                write::section(out, |out| self.properties.encode(out));
            }
            out.extend(self.reasons.iter().map(|reason| {
                debug_assert!(reason.is_allowed_in(PacketType::SubAck), "SUBACK cannot carry {reason:?}");
                let is_named = version.is_v5() || !reason.is_error();
                if is_named { reason.code() } else { ReasonCode::UnspecifiedError.code() }
            }));
        });
    }
}
