//! The server's half of WebSocket (RFC 6455) without I/O: frames of a client to payload, payload to frames, and the key of the
//! opening handshake. Knows no MQTT, no clock and no socket.
//!
//! The payload of data frames is one stream of bytes, as [MQTT-6.0.0-2] wants it: [`WebSocket::receive`] unmasks a buffer in place
//! and joins its payload to one slice, whatever frames it came in. [`WebSocket::next`] tells the frames apart for a user who
//! needs messages. [`WebSocket::outgoing`] says which bytes belong around a piece of payload, and
//! [`WebSocket::sent`] what the transport took of them.
//!
//! Invariants: A connection takes at most 32 bytes, and a box of 392 only while a control frame is incomplete or unsent, so idle
//! connections are small. Nothing is allocated for a length that a peer announces. Control frames go out between data frames,
//! and at most one pong and one close wait.
//!
//! ```
//! use websocket::{Message, Rules, WebSocket};
//!
//! // A client sends "Hello", masked, in a binary frame.
//! let mut bytes = [0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
//! let mut connection = WebSocket::default();
//! let received = connection.receive(Rules::BINARY, &mut bytes);
//! assert_eq!(&bytes[received.payload], b"Hello");
//!
//! // The answer leaves in one frame, of which the transport takes four bytes at first.
//! let outgoing = connection.outgoing(Message::Binary, b"Hello");
//! assert_eq!(outgoing.head(), [0x82, 5]);
//! assert_eq!(connection.sent(&outgoing, 4), 2);
//! let outgoing = connection.outgoing(Message::Binary, b"llo");
//! assert_eq!(outgoing.head(), []);
//! assert_eq!(connection.sent(&outgoing, 3), 3);
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod close;
mod connection;
mod control;
mod handshake;
mod header;
mod mask;
mod outgoing;

pub use close::{CloseCode, Violation};
pub use connection::{End, Message, Piece, Received, Rules, Step, WebSocket};
pub use handshake::{ACCEPT_BYTES, accept};
pub use outgoing::{HEAD_BYTES_MAX, Outgoing};
