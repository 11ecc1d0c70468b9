//! MQTT 3.1, 3.1.1 and 5.0 on the wire: bytes to packets and back.
//! Knows no session, no topic tree, no clock and no socket; whether a packet is welcome *now* is for the engine to say.
//!
//! Two steps, both borrowed from the bytes received: [`frame::Assembler`] cuts a stream into [`frame::Frame`]s and
//! refuses what is too long from its fixed header alone; [`packet::Packet::decode`] reads one frame, strictly. Whatever
//! a peer sends, the answer is a packet or one [`Malformed`], which names the fault and maps to one [`ReasonCode`].
//!
//! ```
//! use wire::{Assembler, Packet, ProtocolVersion, Publish, QoS, TopicName};
//!
//! # fn main() -> Result<(), wire::Malformed> {
//! let publish = Publish {
//!     dup: false,
//!     qos: QoS::AtMostOnce,
//!     retain: false,
//!     topic: Some(TopicName::parse("room/1/temperature")?),
//!     packet_id: None,
//!     payload: b"21.5",
//!     properties: Default::default(),
//!     body: Default::default(),
//! };
//! let mut bytes = Vec::new();
//! publish.encode(ProtocolVersion::V5, &mut bytes);
//!
//! // The bytes arrive in two pieces: the first is no packet yet, the second completes it.
//! let (mut first, mut second) = bytes.split_at(7);
//! let mut assembler = Assembler::new();
//! assert!(assembler.next(&mut first, 1024)?.is_none());
//! let frame = assembler.next(&mut second, 1024)?.expect("the packet is complete");
//! assert_eq!(frame.packet_bytes(), bytes.len());
//! assert_eq!(Packet::decode(ProtocolVersion::V5, frame)?, Packet::Publish(publish));
//! # Ok(())
//! # }
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod frame;
pub mod identifier;
pub mod malformed;
pub mod packet;
pub mod protocol;
mod read;
pub mod reason;
pub mod topic;
mod write;

pub use frame::{Assembler, Frame, PACKET_BYTES_MAX, REMAINING_LENGTH_MAX};
pub use identifier::{PacketId, SubscriptionId};
pub use malformed::Malformed;
pub use packet::{
    Ack, AckKind, AckProperties, Auth, AuthProperties, ConnAck, ConnAckProperties, Connect,
    ConnectProperties, Disconnect, DisconnectProperties, Packet, PropertySection, Publish, PublishBody,
    PublishParts, PublishProperties, Reasons, RetainHandling, SubAck, Subscribe, SubscribeFilters,
    SubscribeOptions, SubscriptionIds, UnsubAck, Unsubscribe, UnsubscribeFilters, UserProperties, Will,
    WillProperties,
};
pub use protocol::{PacketType, ProtocolVersion, QoS};
pub use reason::ReasonCode;
pub use topic::{TopicFilter, TopicName};
