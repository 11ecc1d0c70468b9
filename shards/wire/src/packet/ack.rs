//! PUBACK, PUBREC, PUBREL and PUBCOMP, which share one layout, and the properties and reason codes of all
//! acknowledgements.

use alloc::vec::Vec;
use core::fmt;

use crate::frame::Frame;
use crate::identifier::PacketId;
use crate::malformed::Malformed;
use crate::packet::property::{Property, PropertyWalk, UserProperties};
use crate::packet::{read_packet_id, reason_in, refuse_flags};
use crate::protocol::{PacketType, ProtocolVersion};
use crate::read::Reader;
use crate::reason::ReasonCode;
use crate::write;

/// Which of the four packets an [`Ack`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AckKind {
    /// QoS 1: the message is accepted.
    PubAck,
    /// QoS 2, step 1: the message is received.
    PubRec,
    /// QoS 2, step 2: its packet identifier may be released.
    PubRel,
    /// QoS 2, step 3: it has been released.
    PubComp,
}

impl AckKind {
    /// Its packet type.
    #[must_use]
    #[inline]
    pub const fn packet_type(self) -> PacketType {
        match self {
            Self::PubAck => PacketType::PubAck,
            Self::PubRec => PacketType::PubRec,
            Self::PubRel => PacketType::PubRel,
            Self::PubComp => PacketType::PubComp,
        }
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The identifier of the acknowledged PUBLISH [MQTT-2.2.1-5].
    pub packet_id: PacketId,
    /// The outcome; before 5.0 always success.
    pub reason: ReasonCode,
    /// The properties; none before 5.0.
    pub properties: AckProperties<'a>,
}

impl<'a> Ack<'a> {
    /// An acknowledgement of success without properties.
    #[must_use]
    #[inline]
    pub fn success(packet_id: PacketId) -> Self {
        Self { packet_id, reason: ReasonCode::Success, properties: AckProperties::default() }
    }

    /// Reads the body of an acknowledgement of this kind.
    ///
    /// # Errors
    /// If the packet identifier is 0 [MQTT-2.2.1-3], the reason code is not allowed in this packet [MQTT-3.4.2-1], or a
    /// property is invalid.
    #[inline]
    pub fn decode(kind: AckKind, version: ProtocolVersion, body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let mut ack = Self::success(read_packet_id(&mut reader)?);
        // The properties may be omitted, or the reason code and the properties.
        if version.is_v5() && !reader.is_empty() {
            ack.reason = reason_in(kind.packet_type(), reader.u8()?)?;
            if !reader.is_empty() {
                ack.properties = AckProperties::decode(PropertyWalk::follow(version, &mut reader)?)?;
            }
        }
        reader.finish()?;
        Ok(ack)
    }

    /// Decodes a frame that is an acknowledgement of this kind by its first byte: [`crate::packet::Packet::decode`] without the
    /// size of any packet.
    ///
    /// # Errors
    /// As [`Ack::decode`], or if its flags are not those of its type [MQTT-2.1.3-1].
    #[inline]
    pub fn decode_frame(
        kind: AckKind,
        version: ProtocolVersion,
        frame: Frame<'a>,
    ) -> Result<Self, Malformed> {
        refuse_flags(version, kind.packet_type(), frame.first_byte)?;
        Self::decode(kind, version, frame.body)
    }

    /// Appends the packet in the format of `version`: before 5.0 without a reason code, and always in its shortest form.
    pub fn encode(&self, kind: AckKind, version: ProtocolVersion, out: &mut Vec<u8>) {
        debug_assert!(
            self.reason.is_allowed_in(kind.packet_type()),
            "{kind:?} cannot carry {:?}",
            self.reason
        );
        let [high, low] = self.packet_id.get().to_be_bytes();
        let first_byte = kind.packet_type().first_byte();
        let has_properties = version.is_v5() && !self.properties.is_empty();
        if has_properties {
            write::packet(out, first_byte, 0, |out| {
                out.extend_from_slice(&[high, low, self.reason.code()]);
                write::section(out, |out| self.properties.encode(out));
            });
        } else if version.is_v5() && self.reason != ReasonCode::Success {
            out.extend_from_slice(&[first_byte, 3, high, low, self.reason.code()]);
        } else {
            out.extend_from_slice(&[first_byte, 2, high, low]);
        }
    }
}

/// The properties of an acknowledgement: of these four packets, of SUBACK and of UNSUBACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckProperties<'a> {
    /// An explanation for people.
    pub reason_string: Option<&'a str>,
    /// The user properties.
    pub user_properties: UserProperties<'a>,
}

impl<'a> AckProperties<'a> {
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.reason_string.is_none() && self.user_properties.is_empty()
    }

    pub(crate) fn decode(mut properties: PropertyWalk<'a>) -> Result<Self, Malformed> {
        let mut decoded = Self::default();
        while let Some(property) = properties.next()? {
            match property {
                Property::ReasonString(value) => properties.once(&mut decoded.reason_string, value)?,
                Property::User(..) => {}
                _ => return Err(properties.not_allowed()),
            }
        }
        decoded.user_properties = properties.user_properties();
        Ok(decoded)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        Property::put(out, self.reason_string, Property::ReasonString);
        self.user_properties.encode(out);
    }
}

/// The reason codes of a SUBACK or UNSUBACK, one for each topic filter, in their order [MQTT-3.9.3-1].
#[derive(Clone, Copy)]
pub struct Reasons<'a>(ReasonSource<'a>);

#[derive(Clone, Copy)]
enum ReasonSource<'a> {
    /// Validated codes.
    Bytes(&'a [u8]),
    Codes(&'a [ReasonCode]),
}

impl<'a> Reasons<'a> {
    /// Reason codes to be sent.
    #[must_use]
    pub const fn from_codes(codes: &'a [ReasonCode]) -> Self {
        Self(ReasonSource::Codes(codes))
    }

    /// Reads every byte as a reason code for a packet of this type.
    pub(crate) fn decode(
        packet_type: PacketType,
        version: ProtocolVersion,
        bytes: &'a [u8],
    ) -> Result<Self, Malformed> {
        if bytes.is_empty() {
            return Err(Malformed::ReasonCodesMissing);
        }
        for &code in bytes {
            let reason = reason_in(packet_type, code)?;
            // 3.1.1 has a single failure code [MQTT-3.9.3-2].
            if !version.is_v5() && reason.is_error() && reason != ReasonCode::UnspecifiedError {
                return Err(Malformed::ReasonCodeNotAllowed { code });
            }
        }
        Ok(Self(ReasonSource::Bytes(bytes)))
    }

    /// The number of reason codes.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            ReasonSource::Bytes(bytes) => bytes.len(),
            ReasonSource::Codes(codes) => codes.len(),
        }
    }

    /// Whether there are none, as in an UNSUBACK before 5.0.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each reason code, in the order of the topic filters.
    pub fn iter(&self) -> impl Iterator<Item = ReasonCode> + use<'a> {
        let (bytes, codes): (&[u8], &[_]) = match self.0 {
            ReasonSource::Bytes(bytes) => (bytes, &[]),
            ReasonSource::Codes(codes) => (&[], codes),
        };
        bytes.iter().filter_map(|code| ReasonCode::from_code(*code)).chain(codes.iter().copied())
    }
}

impl<'a> From<&'a [ReasonCode]> for Reasons<'a> {
    fn from(codes: &'a [ReasonCode]) -> Self {
        Self::from_codes(codes)
    }
}

impl Default for Reasons<'_> {
    fn default() -> Self {
        Self::from_codes(&[])
    }
}

impl PartialEq for Reasons<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Reasons<'_> {}

impl fmt::Debug for Reasons<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}
