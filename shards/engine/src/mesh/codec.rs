//! The bytes of the messages that shards send each other.
//!
//! Invariants:
//! - The bytes come from this code on the other shard, so they are trusted: a wrong one is a bug and panics. Numbers are
//!   little endian.
//! - A message never encodes to more than [`ShardMessage::bytes_max`], by which it is packed into blocks.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::base::byte_reader::{Reader, write_text};
use crate::base::ids::SessionId;
use crate::base::slab::Key;
use crate::mesh::message::{RemoteFilter, ShardMessage};
use crate::message::forwarded::ForwardedPublish;
use crate::message::origin::Origins;
use crate::session::replays::RequestId;
use crate::topic::tree::Wanted;

/// The most bytes of a message, without its texts, lists and payload.
const FIXED_BYTES_MAX: usize = 112;

const PUBLISH: u8 = 1;
const RETURNED: u8 = 2;
const RETAINED: u8 = 3;
const PAGE_END: u8 = 4;
const INTEREST: u8 = 5;
const GROUP: u8 = 6;
const PAGE_REQUEST: u8 = 7;
const WATERMARKS: u8 = 8;
const RECOVERED: u8 = 9;
const SETTLED: u8 = 10;

const EXACT: u8 = 0;
const WILD: u8 = 1;

impl<'a> ShardMessage<'a> {
    /// The most bytes that [`ShardMessage::encode`] appends; fewer if a payload is attached.
    pub(crate) fn bytes_max(&self) -> usize {
        FIXED_BYTES_MAX
            + match self {
                Self::Publish(forwarded) | Self::Returned(forwarded) | Self::Retained(_, forwarded) => {
                    forwarded.variable_bytes()
                }
                Self::PageEnd(_, cursor) => cursor.map_or(0, str::len),
                Self::Interest(filter, _) | Self::Group { filter, .. } => filter.text_bytes(),
                Self::PageRequest { filter, topic, required, .. } => {
                    filter.len() + topic.map_or(0, str::len) + required.encoded_bytes()
                }
                Self::Watermarks(_, updates) => updates.encoded_bytes(),
                Self::Recovered | Self::Settled(_) => 0,
            }
    }

    /// Appends its bytes; a payload that is attached is not among them.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, payload_attached: bool) {
        match self {
            Self::Publish(forwarded) => {
                out.push(PUBLISH);
                forwarded.encode(out, payload_attached);
            }
            Self::Returned(forwarded) => {
                out.push(RETURNED);
                forwarded.encode(out, payload_attached);
            }
            Self::Retained(replay, forwarded) => {
                out.push(RETAINED);
                replay.encode(out);
                forwarded.encode(out, payload_attached);
            }
            Self::PageEnd(replay, cursor) => {
                out.push(PAGE_END);
                replay.encode(out);
                write_text(out, *cursor);
            }
            Self::Interest(filter, wanted) => {
                out.extend_from_slice(&[INTEREST, *wanted as u8]);
                filter.encode(out);
            }
            Self::Group { filter, key, online_count, persistent_count, is_lasting } => {
                out.extend_from_slice(&[GROUP, u8::from(*is_lasting)]);
                out.extend_from_slice(&key.to_le_bytes());
                out.extend_from_slice(&online_count.to_le_bytes());
                out.extend_from_slice(&persistent_count.to_le_bytes());
                filter.encode(out);
            }
            Self::PageRequest { replay, filter, topic, is_seen, required } => {
                out.push(PAGE_REQUEST);
                replay.encode(out);
                write_text(out, Some(filter));
                assert!(topic.is_some() || !is_seen);
                write_text(out, *topic);
                out.push(u8::from(*is_seen));
                required.encode(out);
            }
            Self::Watermarks(seen, updates) => {
                out.push(WATERMARKS);
                out.extend_from_slice(&seen.to_le_bytes());
                updates.encode(out);
            }
            Self::Recovered => out.push(RECOVERED),
            Self::Settled(sequence) => {
                out.push(SETTLED);
                out.extend_from_slice(&sequence.to_le_bytes());
            }
        }
    }

    /// Reads the bytes that [`ShardMessage::encode`] wrote.
    ///
    /// # Panics
    /// If [`ShardMessage::encode`] did not write them.
    pub(crate) fn decode(bytes: &'a [u8], attached: Option<&'a Bytes>) -> Self {
        let mut reader = Reader::new(bytes);
        let message = match reader.u8() {
            PUBLISH => Self::Publish(ForwardedPublish::decode(&mut reader, attached)),
            RETURNED => Self::Returned(ForwardedPublish::decode(&mut reader, attached)),
            RETAINED => {
                let replay = RequestId::decode(&mut reader);
                Self::Retained(replay, ForwardedPublish::decode(&mut reader, attached))
            }
            PAGE_END => {
                let replay = RequestId::decode(&mut reader);
                Self::PageEnd(replay, reader.text())
            }
            INTEREST => {
                let wanted = wanted_of(reader.u8());
                Self::Interest(RemoteFilter::decode(&mut reader), wanted)
            }
            GROUP => Self::Group {
                is_lasting: reader.bool(),
                key: reader.u64(),
                online_count: reader.u32(),
                persistent_count: reader.u32(),
                filter: RemoteFilter::decode(&mut reader),
            },
            PAGE_REQUEST => Self::PageRequest {
                replay: RequestId::decode(&mut reader),
                filter: reader.text().expect("a request has a filter"),
                topic: reader.text(),
                is_seen: reader.bool(),
                required: Origins::decode(&mut reader),
            },
            WATERMARKS => {
                let seen = reader.u64();
                Self::Watermarks(seen, Origins::decode(&mut reader))
            }
            RECOVERED => Self::Recovered,
            SETTLED => Self::Settled(reader.u64()),
            kind => panic!("a lane carried a message of kind {kind}"),
        };
        reader.finish();
        message
    }
}

fn wanted_of(byte: u8) -> Wanted {
    match byte {
        0 => Wanted::Nothing,
        1 => Wanted::Volatile,
        2 => Wanted::Lasting,
        grade => panic!("a lane carried an interest of grade {grade}"),
    }
}

impl<'a> RemoteFilter<'a> {
    fn text_bytes(&self) -> usize {
        match self {
            Self::Exact(_) => 0,
            Self::Wild(text) => text.len(),
        }
    }

    fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Exact(fingerprint) => {
                out.push(EXACT);
                out.extend_from_slice(&fingerprint.to_le_bytes());
            }
            Self::Wild(text) => {
                assert!(text.contains(['+', '#']));
                out.push(WILD);
                write_text(out, Some(text));
            }
        }
    }

    fn decode(reader: &mut Reader<'a>) -> Self {
        match reader.u8() {
            EXACT => Self::Exact(reader.u64()),
            WILD => Self::Wild(reader.text().expect("a filter with wildcards has text")),
            kind => panic!("a lane carried a filter of kind {kind}"),
        }
    }
}

impl RequestId {
    fn encode(self, out: &mut Vec<u8>) {
        let key = self.session().key();
        out.extend_from_slice(&key.index().to_le_bytes());
        out.extend_from_slice(&key.generation().to_le_bytes());
        out.extend_from_slice(&self.number().to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Self {
        let session = SessionId::new(Key::new(reader.u32(), reader.u32()));
        Self::new(session, reader.u32())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::num::NonZeroU64;

    use wire::QoS;

    use crate::base::shard_set::ShardSet;
    use crate::base::time::Instant;
    use crate::mesh::outbound::{BLOCK_BYTES, LaneKind, Outbound, OutboundItem, split_message};
    use crate::message::borrowed::{Message, PlainPacket};
    use crate::message::forwarded::{GroupKeys, PublisherName};
    use crate::message::origin::Origin;
    use crate::message::user_name::UserName;
    use alloc::string::String;
    use alloc::{format, vec};

    fn view(payload: &[u8]) -> Message<'_> {
        Message {
            topic: "a/b",
            forwarded: &[1, 2, 3],
            payload,
            qos: QoS::ExactlyOnce,
            retain: true,
            expires_at: Some(Instant::from_ms(77)),
            packet: None,
        }
    }

    fn replay() -> RequestId {
        RequestId::new(SessionId::new(Key::new(5, 6)), 7)
    }

    #[test]
    fn every_message_arrives_in_the_order_of_its_lane_whatever_its_size() {
        let mut outbound = Outbound::new(2);
        let keys = [3u64.to_le_bytes(), 4u64.to_le_bytes()].concat();
        let forwarded_publish = |payload| ForwardedPublish {
            view: view(payload),
            deliver_here: true,
            retain_here: true,
            origin: Origin { shard: 3, sequence: 5 },
            transfer: NonZeroU64::new(9),
            publisher: PublisherName::new(NonZeroU64::new(9), UserName::new("user")),
            groups: GroupKeys::from_bytes(&keys),
            tried: ShardSet::from_bits(6),
            accepts_offline: true,
        };
        let body = b"\0\x03a/b\0\x07plain";
        let packet = PlainPacket::new(body, false, true);
        let plain = Message { forwarded: &[], packet: Some(packet), ..view(b"plain") };
        let plain = ForwardedPublish::of(plain, Origin { shard: 1, sequence: 2 });
        let large = vec![9; 100_000];
        let shared = Bytes::from(large.clone());
        let counts = [Origin { shard: 1, sequence: 7 }, Origin { shard: 63, sequence: u64::MAX }];
        let long_filter = "x/".repeat(20_000) + "#";
        let all = [
            (ShardMessage::Publish(forwarded_publish(b"small")), None),
            (ShardMessage::Publish(forwarded_publish(&large)), Some(&shared)),
            (ShardMessage::Publish(plain), None),
            (ShardMessage::Returned(forwarded_publish(b"")), None),
            (ShardMessage::Retained(replay(), ForwardedPublish::of(view(b"kept"), counts[0])), None),
            (ShardMessage::PageEnd(replay(), Some("a/z")), None),
            (ShardMessage::PageEnd(replay(), None), None),
            (ShardMessage::Interest(RemoteFilter::Exact(12), Wanted::Lasting), None),
            (ShardMessage::Interest(RemoteFilter::Wild(&long_filter), Wanted::Nothing), None),
            (
                ShardMessage::Group {
                    filter: RemoteFilter::Wild("a/+"),
                    key: 1,
                    online_count: 2,
                    persistent_count: 3,
                    is_lasting: true,
                },
                None,
            ),
            (
                ShardMessage::PageRequest {
                    replay: replay(),
                    filter: "a/#",
                    topic: Some("a/b"),
                    is_seen: true,
                    required: Origins::List(&counts),
                },
                None,
            ),
            (ShardMessage::Watermarks(3, Origins::List(&counts)), None),
            (ShardMessage::Recovered, None),
            (ShardMessage::Settled(u64::MAX), None),
        ];
        let mut expected: [Vec<String>; 2] = [vec![], vec![]];
        for _ in 0..200 {
            for (message, shared) in &all {
                outbound.push(1, message.lane(), message.bytes_max(), *shared, |out| {
                    message.encode(out, shared.is_some());
                });
                expected[message.lane() as usize].push(format!("{message:?}"));
            }
        }
        assert!(!outbound.has_room());
        for lane in [LaneKind::Data, LaneKind::Control] {
            let mut received = Vec::new();
            while let Some(sent) = outbound.take(1, lane) {
                let mut read = |message, payload| {
                    received.push(format!("{:?}", ShardMessage::decode(message, payload)));
                };
                match &sent {
                    OutboundItem::Block(block) => {
                        assert!(block.len() <= BLOCK_BYTES);
                        let mut block = &block[..];
                        while let Some((message, rest)) = split_message(block) {
                            read(message, None);
                            block = rest;
                        }
                    }
                    OutboundItem::Oversized(large) => {
                        let (message, payload) = large.message();
                        read(message, payload);
                    }
                }
                if let OutboundItem::Block(block) = sent {
                    outbound.recycle(block);
                }
            }
            assert_eq!(received, expected[lane as usize]);
        }
        assert!(outbound.has_room());
        assert_eq!(outbound.waiting_count(), 0);
    }
}
