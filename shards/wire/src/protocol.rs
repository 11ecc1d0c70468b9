//! The closed enumerations of the protocol: versions, packet types and qualities of service.

/// The protocol version of a connection. CONNECT selects it, and it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3.
    V3_1,
    /// MQTT 3.1.1: protocol name `MQTT`, level 4.
    V3_1_1,
    /// MQTT 5.0: protocol name `MQTT`, level 5.
    V5,
}

impl ProtocolVersion {
    /// The protocol level byte of CONNECT.
    #[must_use]
    pub const fn level(self) -> u8 {
        match self {
            Self::V3_1 => 3,
            Self::V3_1_1 => 4,
            Self::V5 => 5,
        }
    }

    /// Whether packets carry properties and reason codes.
    #[must_use]
    #[inline]
    pub const fn is_v5(self) -> bool {
        matches!(self, Self::V5)
    }

    /// The protocol name of CONNECT [MQTT-3.1.2-1].
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V3_1 => "MQIsdp",
            Self::V3_1_1 | Self::V5 => "MQTT",
        }
    }
}

/// Quality of service: how often a message is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: sent once, never acknowledged.
    AtMostOnce = 0,
    /// QoS 1: sent until acknowledged; may arrive twice.
    AtLeastOnce = 1,
    /// QoS 2: arrives once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The quality of service with this number; `None` above 2.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The number on the wire: 0, 1 or 2.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u8 {
        self as u8
    }
}

/// The packet type in the upper half of a packet's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// A client requests a connection.
    Connect = 1,
    /// The server's answer to CONNECT.
    ConnAck = 2,
    /// A message.
    Publish = 3,
    /// QoS 1: the message is accepted.
    PubAck = 4,
    /// QoS 2, step 1: the message is received.
    PubRec = 5,
    /// QoS 2, step 2: its packet identifier may be released.
    PubRel = 6,
    /// QoS 2, step 3: it has been released.
    PubComp = 7,
    /// A client subscribes.
    Subscribe = 8,
    /// The answer to SUBSCRIBE.
    SubAck = 9,
    /// A client unsubscribes.
    Unsubscribe = 10,
    /// The answer to UNSUBSCRIBE.
    UnsubAck = 11,
    /// A client shows that it is alive.
    PingReq = 12,
    /// The answer to PINGREQ.
    PingResp = 13,
    /// The sender is about to close.
    Disconnect = 14,
    /// A step of extended authentication, 5.0 only.
    Auth = 15,
}

impl PacketType {
    /// Every type, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Connect,
        Self::ConnAck,
        Self::Publish,
        Self::PubAck,
        Self::PubRec,
        Self::PubRel,
        Self::PubComp,
        Self::Subscribe,
        Self::SubAck,
        Self::Unsubscribe,
        Self::UnsubAck,
        Self::PingReq,
        Self::PingResp,
        Self::Disconnect,
        Self::Auth,
    ];

    /// The type in the upper half of a first byte; `None` for the reserved type 0.
    #[must_use]
    #[inline]
    pub const fn from_first_byte(first_byte: u8) -> Option<Self> {
        match first_byte >> 4 {
            1 => Some(Self::Connect),
            2 => Some(Self::ConnAck),
            3 => Some(Self::Publish),
            4 => Some(Self::PubAck),
            5 => Some(Self::PubRec),
            6 => Some(Self::PubRel),
            7 => Some(Self::PubComp),
            8 => Some(Self::Subscribe),
            9 => Some(Self::SubAck),
            10 => Some(Self::Unsubscribe),
            11 => Some(Self::UnsubAck),
            12 => Some(Self::PingReq),
            13 => Some(Self::PingResp),
            14 => Some(Self::Disconnect),
            15 => Some(Self::Auth),
            _ => None,
        }
    }

    /// The first byte of a packet of this type, with the flags that the standard fixes [MQTT-2.1.3-1]. The flags of
    /// PUBLISH carry information and are returned as 0.
    #[must_use]
    #[inline]
    pub const fn first_byte(self) -> u8 {
        let flags = match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            Self::Connect
            | Self::ConnAck
            | Self::Publish
            | Self::PubAck
            | Self::PubRec
            | Self::PubComp
            | Self::SubAck
            | Self::UnsubAck
            | Self::PingReq
            | Self::PingResp
            | Self::Disconnect
            | Self::Auth => 0,
        };
        ((self as u8) << 4) | flags
    }

    /// The bit of this type in a set of types.
    pub(crate) const fn bit(self) -> u16 {
        1 << (self as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_type_survives_its_first_byte() {
        for packet_type in PacketType::ALL {
            assert_eq!(PacketType::from_first_byte(packet_type.first_byte()), Some(packet_type));
        }
        assert_eq!(PacketType::from_first_byte(0x0F), None);
    }

    #[test]
    fn mqtt_3_3_1_4_three_is_not_a_valid_qos() {
        for bits in 0..=2 {
            assert_eq!(QoS::from_bits(bits).map(QoS::bits), Some(bits));
        }
        for bits in 3..=u8::MAX {
            assert_eq!(QoS::from_bits(bits), None);
        }
    }

    #[test]
    fn versions_are_ordered_by_their_level() {
        assert!(
            ProtocolVersion::V3_1 < ProtocolVersion::V3_1_1 && ProtocolVersion::V3_1_1 < ProtocolVersion::V5
        );
        assert_eq!(
            [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5].map(ProtocolVersion::level),
            [3, 4, 5]
        );
    }
}
