//! Encoding and decoding of MQTT 3.1, 3.1.1 and 5.0 packets. Knows no session, no topic tree, no clock and no socket. The
//! engine decides whether a packet is valid in the connection's state.
//!
//! Decoding has two steps, and both borrow from the received bytes. [`frame::Assembler`] cuts a stream into
//! [`frame::Frame`]s and refuses a packet that is too long from its fixed header alone. [`packet::Packet::decode`] reads
//! one frame strictly. The result of any input is a packet or one [`Malformed`], which names the error and maps to one
//! [`ReasonCode`].
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

pub use frame::{Assembler, Frame, Mark, PACKET_BYTES_MAX, REMAINING_LENGTH_MAX};
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
