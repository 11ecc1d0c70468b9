//! The fifteen packet types: their contents, strict decoding and encoding. Every error found here is a property of the
//! packet alone; the receiver decides whether the packet is allowed in its state.

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod property;
mod publish;
mod subscribe;
mod unsubscribe;

use alloc::vec::Vec;

pub use ack::{Ack, AckKind, AckProperties, Reasons};
pub use auth::{Auth, AuthProperties};
pub use connack::{ConnAck, ConnAckProperties};
pub use connect::{Connect, ConnectProperties, Will, WillProperties};
pub use disconnect::{Disconnect, DisconnectProperties};
pub use property::{PropertySection, SubscriptionIds, UserProperties};
pub use publish::{Publish, PublishBody, PublishParts, PublishProperties, append_publish, publish_bytes};
pub use subscribe::{RetainHandling, SubAck, Subscribe, SubscribeFilters, SubscribeOptions};
pub use unsubscribe::{UnsubAck, Unsubscribe, UnsubscribeFilters};

use crate::frame::Frame;
use crate::identifier::PacketId;
use crate::malformed::Malformed;
use crate::protocol::{PacketType, ProtocolVersion};
use crate::read::Reader;
use crate::reason::ReasonCode;
use crate::write;

/// Any packet, borrowed from the bytes it was decoded from.
///
/// Packets of both directions are decoded. The receiver decides which of them a peer may send, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A client requests a connection.
    Connect(Connect<'a>),
    /// The server's answer to CONNECT.
    ConnAck(ConnAck<'a>),
    /// A message.
    Publish(Publish<'a>),
    /// QoS 1: the message is accepted.
    PubAck(Ack<'a>),
    /// QoS 2, step 1: the message is received.
    PubRec(Ack<'a>),
    /// QoS 2, step 2: its packet identifier may be released.
    PubRel(Ack<'a>),
    /// QoS 2, step 3: it has been released.
    PubComp(Ack<'a>),
    /// A client subscribes.
    Subscribe(Subscribe<'a>),
    /// The answer to SUBSCRIBE.
    SubAck(SubAck<'a>),
    /// A client unsubscribes.
    Unsubscribe(Unsubscribe<'a>),
    /// The answer to UNSUBSCRIBE.
    UnsubAck(UnsubAck<'a>),
    /// A client shows that it is alive.
    PingReq,
    /// The answer to PINGREQ.
    PingResp,
    /// The sender is about to close.
    Disconnect(Disconnect<'a>),
    /// A step of enhanced authentication, 5.0 only.
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Decodes a frame in `version`. CONNECT contains its own version and ignores the argument.
    ///
    /// # Errors
    /// For every violation of the standard that is visible in the packet alone; [`Malformed`] lists them.
    pub fn decode(version: ProtocolVersion, frame: Frame<'a>) -> Result<Self, Malformed> {
        let Frame { first_byte, body } = frame;
        let reserved = Malformed::PacketTypeReserved { packet_type: first_byte >> 4 };
        let packet_type = PacketType::from_first_byte(first_byte).ok_or(reserved)?;
        refuse_flags(version, packet_type, first_byte)?;
        Ok(match packet_type {
            PacketType::Connect => Self::Connect(Connect::decode(body)?),
            PacketType::ConnAck => Self::ConnAck(ConnAck::decode(version, body)?),
            PacketType::Publish => Self::Publish(Publish::decode(version, first_byte, body)?),
            PacketType::PubAck => Self::PubAck(Ack::decode(AckKind::PubAck, version, body)?),
            PacketType::PubRec => Self::PubRec(Ack::decode(AckKind::PubRec, version, body)?),
            PacketType::PubRel => Self::PubRel(Ack::decode(AckKind::PubRel, version, body)?),
            PacketType::PubComp => Self::PubComp(Ack::decode(AckKind::PubComp, version, body)?),
            PacketType::Subscribe => Self::Subscribe(Subscribe::decode(version, body)?),
            PacketType::SubAck => Self::SubAck(SubAck::decode(version, body)?),
            PacketType::Unsubscribe => Self::Unsubscribe(Unsubscribe::decode(version, body)?),
            PacketType::UnsubAck => Self::UnsubAck(UnsubAck::decode(version, body)?),
            PacketType::PingReq => {
                Reader::new(body).finish()?;
                Self::PingReq
            }
            PacketType::PingResp => {
                Reader::new(body).finish()?;
                Self::PingResp
            }
            PacketType::Disconnect => Self::Disconnect(Disconnect::decode(version, body)?),
            PacketType::Auth => {
                if !version.is_v5() {
                    return Err(reserved);
                }
                Self::Auth(Auth::decode(body)?)
            }
        })
    }

    /// Appends the packet in the format of `version`, without the fields that this version does not have. CONNECT is
    /// encoded in its own version. AUTH before 5.0 appends nothing.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        match self {
            Self::Connect(packet) => packet.encode(version, out),
            Self::ConnAck(packet) => packet.encode(version, out),
            Self::Publish(packet) => packet.encode(version, out),
            Self::PubAck(packet) => packet.encode(AckKind::PubAck, version, out),
            Self::PubRec(packet) => packet.encode(AckKind::PubRec, version, out),
            Self::PubRel(packet) => packet.encode(AckKind::PubRel, version, out),
            Self::PubComp(packet) => packet.encode(AckKind::PubComp, version, out),
            Self::Subscribe(packet) => packet.encode(version, out),
            Self::SubAck(packet) => packet.encode(version, out),
            Self::Unsubscribe(packet) => packet.encode(version, out),
            Self::UnsubAck(packet) => packet.encode(version, out),
            Self::PingReq => write::packet(out, PacketType::PingReq.first_byte(), 0, |_| ()),
            Self::PingResp => write::packet(out, PacketType::PingResp.first_byte(), 0, |_| ()),
            Self::Disconnect(packet) => packet.encode(version, out),
            Self::Auth(packet) => packet.encode(version, out),
        }
    }

    /// The type of the packet.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

/// Refuses flags that differ from those of the packet type [MQTT-2.1.3-1]. PUBLISH decodes its own flags.
#[inline]
fn refuse_flags(version: ProtocolVersion, packet_type: PacketType, first_byte: u8) -> Result<(), Malformed> {
    // 3.1 repeats these three packets with the DUP flag set; 3.1.1 removed that.
    let is_repeatable =
        matches!(packet_type, PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe);
    let ignored = if is_repeatable && version == ProtocolVersion::V3_1 { 0b1000 } else { 0 };
    if packet_type == PacketType::Publish || first_byte & !ignored == packet_type.first_byte() {
        Ok(())
    } else {
        Err(Malformed::FixedHeaderFlags { first_byte })
    }
}

/// Reads a packet identifier, which is never 0 [MQTT-2.2.1-3].
#[inline]
fn read_packet_id(reader: &mut Reader<'_>) -> Result<PacketId, Malformed> {
    PacketId::new(reader.u16()?).ok_or(Malformed::PacketIdZero)
}

/// Reads `code` as a reason code that a packet of this type may carry.
#[inline]
fn reason_in(packet_type: PacketType, code: u8) -> Result<ReasonCode, Malformed> {
    match ReasonCode::from_code(code) {
        Some(reason) if reason.is_allowed_in(packet_type) => Ok(reason),
        Some(_) | None => Err(Malformed::ReasonCodeNotAllowed { code }),
    }
}
