//! What one shard says to another, and its bytes.
//! Knows no lane beyond which of the two it takes; `lane` packs the bytes.
//!
//! Between two shards these bytes are trusted: they come from this very code, so a wrong one is a bug and
//! panics. Numbers are little endian.

use alloc::vec::Vec;
use core::num::NonZeroU64;

use bytes::Bytes;
use wire::QoS;

use crate::base::slab::Key;
use crate::base::time::Instant;
use crate::mesh::outbound::LaneKind;
use crate::mesh::topology::ShardSet;
use crate::message::stored::{MessageView, PlainPacket};
use crate::retained::watermarks::Origin;
use crate::session::table::SessionId;

/// How a filter is called between shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RemoteFilter<'a> {
    /// The fingerprint of a filter without wildcards.
    Exact(u64),
    /// The text of one with wildcards.
    Wild(&'a str),
}

/// A message for another shard.
#[derive(Clone, Debug)]
pub(crate) struct ForwardedPublish<'a> {
    pub(crate) view: MessageView<'a>,
    /// The target has a subscriber that is in no group.
    pub(crate) deliver_here: bool,
    /// The target is the home of the topic and has to retain it.
    pub(crate) retain_here: bool,
    /// Where it was published.
    pub(crate) origin: Origin,
    /// Who published it, for No Local of retained messages [MQTT-3.8.3-3].
    pub(crate) publisher: Option<NonZeroU64>,
    /// The groups for which the target was chosen to find a member.
    pub(crate) groups: GroupKeys<'a>,
    /// Shards that were asked for these groups before and had no member online.
    pub(crate) tried: ShardSet,
    /// No shard is known to have a member online: a session that is away may keep it.
    pub(crate) accepts_offline: bool,
}

/// Group keys, encoded or as a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupKeys<'a>(&'a [u8]);

impl<'a> GroupKeys<'a> {
    pub(crate) const NONE: Self = Self(&[]);

    pub(crate) fn iter(self) -> impl Iterator<Item = u64> + use<'a> {
        self.0.as_chunks::<8>().0.iter().map(|key| u64::from_le_bytes(*key))
    }

    pub(crate) fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

/// Updates of several shards, or for several homes, encoded or as a list.
#[derive(Clone, Copy)]
pub(crate) enum Origins<'a> {
    Bytes(&'a [u8]),
    List(&'a [Origin]),
}

impl<'a> Origins<'a> {
    const ORIGIN_BYTES: usize = 10;

    pub(crate) fn iter(self) -> impl Iterator<Item = Origin> + use<'a> {
        let (bytes, list): (&[u8], &[Origin]) = match self {
            Self::Bytes(bytes) => (bytes, &[]),
            Self::List(list) => (&[], list),
        };
        let from_bytes =
            bytes.chunks_exact(Self::ORIGIN_BYTES).map(|origin| Origin::decode(&mut Reader(origin)));
        from_bytes.chain(list.iter().copied())
    }

    fn bytes(self) -> usize {
        self.iter().count() * Self::ORIGIN_BYTES
    }

    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&u32::try_from(self.bytes()).expect("at most one a shard").to_le_bytes());
        for origin in self.iter() {
            origin.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'a>) -> Self {
        Self::Bytes(reader.part())
    }
}

impl Origin {
    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.shard.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Self {
        Self { shard: reader.u16(), sequence: reader.u64() }
    }
}

impl core::fmt::Debug for Origins<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

/// Where an answer goes: a look-up of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RequestId {
    pub(crate) session: SessionId,
    pub(crate) number: u32,
}

/// Everything that one shard says to another.
#[derive(Debug)]
pub(crate) enum ShardMessage<'a> {
    Publish(ForwardedPublish<'a>),
    /// No member of this group is online here; it is offered to the next shard.
    Returned(ForwardedPublish<'a>),
    /// A retained message that was asked for.
    Retained(RequestId, ForwardedPublish<'a>),
    /// The end of a slice; the last topic looked at, or none if there are no more.
    PageEnd(RequestId, Option<&'a str>),
    Interest(RemoteFilter<'a>, bool),
    Group {
        filter: RemoteFilter<'a>,
        key: u64,
        online_count: u32,
        persistent_count: u32,
    },
    /// A question for a slice.
    PageRequest {
        replay: RequestId,
        filter: &'a str,
        /// Where to go on, if it is not the beginning.
        topic: Option<&'a str>,
        /// That topic was answered before; else it comes first.
        is_seen: bool,
        /// The updates that the answer has to count.
        required: Origins<'a>,
    },
    /// Announcements taken in, and the last update sent to each home until then.
    Watermarks(u64, Origins<'a>),
}

const PUBLISH: u8 = 1;
const RETURNED: u8 = 2;
const RETAINED: u8 = 3;
const PAGE_END: u8 = 4;
const INTEREST: u8 = 5;
const GROUP: u8 = 6;
const PAGE_REQUEST: u8 = 7;
const WATERMARKS: u8 = 8;

const RETAIN: u8 = 1 << 2;
const EXPIRES: u8 = 1 << 3;
const STORE: u8 = 1 << 4;
const ACCEPTS_OFFLINE: u8 = 1 << 5;
const LIVE: u8 = 1 << 6;
const TRIED: u8 = 1 << 7;

const PUBLISHER: u8 = 1;
const GROUPS: u8 = 1 << 1;
/// Topic and payload lie in the body of the packet they came in.
const PLAIN: u8 = 1 << 2;
const PLAIN_V5: u8 = 1 << 3;
const PLAIN_TRACKED: u8 = 1 << 4;

impl<'a> ShardMessage<'a> {
    pub(crate) fn lane(&self) -> LaneKind {
        match self {
            Self::Publish(_) | Self::Returned(_) | Self::Retained(..) | Self::PageEnd(..) => LaneKind::Data,
            Self::Interest(..) | Self::Group { .. } | Self::PageRequest { .. } | Self::Watermarks(..) => {
                LaneKind::Control
            }
        }
    }

    /// No more bytes than this are what [`ShardMessage::encode`] appends; fewer if a payload goes beside them.
    pub(crate) fn bytes_max(&self) -> usize {
        /// Of everything but texts, lists and payloads.
        const FIXED: usize = 96;
        FIXED
            + match self {
                Self::Publish(forwarded_publish)
                | Self::Returned(forwarded_publish)
                | Self::Retained(_, forwarded_publish) => forwarded_publish.variable_bytes(),
                Self::PageEnd(_, cursor) => cursor.map_or(0, str::len),
                Self::Interest(filter, _) | Self::Group { filter, .. } => filter.text_bytes(),
                Self::PageRequest { filter, topic, required, .. } => {
                    filter.len() + topic.map_or(0, str::len) + required.bytes()
                }
                Self::Watermarks(_, updates) => updates.bytes(),
            }
    }

    /// Appends its bytes; a payload that goes beside them is not among them.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, payload_attached: bool) {
        match self {
            Self::Publish(forwarded_publish) => {
                out.push(PUBLISH);
                forwarded_publish.encode(out, payload_attached);
            }
            Self::Returned(forwarded_publish) => {
                out.push(RETURNED);
                forwarded_publish.encode(out, payload_attached);
            }
            Self::Retained(replay, forwarded_publish) => {
                out.push(RETAINED);
                replay.encode(out);
                forwarded_publish.encode(out, payload_attached);
            }
            Self::PageEnd(replay, cursor) => {
                out.push(PAGE_END);
                replay.encode(out);
                write_text(out, *cursor);
            }
            Self::Interest(filter, wanted) => {
                out.push(INTEREST);
                out.push(u8::from(*wanted));
                filter.encode(out);
            }
            Self::Group { filter, key, online_count, persistent_count } => {
                out.push(GROUP);
                out.extend_from_slice(&key.to_le_bytes());
                out.extend_from_slice(&online_count.to_le_bytes());
                out.extend_from_slice(&persistent_count.to_le_bytes());
                filter.encode(out);
            }
            Self::PageRequest { replay, filter, topic, is_seen, required } => {
                out.push(PAGE_REQUEST);
                replay.encode(out);
                write_text(out, Some(filter));
                write_text(out, *topic);
                out.push(u8::from(*is_seen));
                required.encode(out);
            }
            Self::Watermarks(seen, counts) => {
                out.push(WATERMARKS);
                out.extend_from_slice(&seen.to_le_bytes());
                counts.encode(out);
            }
        }
    }

    /// Reads what [`ShardMessage::encode`] wrote.
    ///
    /// # Panics
    /// If it was not written by that.
    pub(crate) fn decode(message: &'a [u8], payload: Option<&'a Bytes>) -> Self {
        let mut reader = Reader(message);
        let message = match reader.u8() {
            PUBLISH => Self::Publish(ForwardedPublish::decode(&mut reader, payload)),
            RETURNED => Self::Returned(ForwardedPublish::decode(&mut reader, payload)),
            RETAINED => {
                let replay = RequestId::decode(&mut reader);
                Self::Retained(replay, ForwardedPublish::decode(&mut reader, payload))
            }
            PAGE_END => {
                let replay = RequestId::decode(&mut reader);
                Self::PageEnd(replay, reader.text())
            }
            INTEREST => {
                let wanted = reader.u8() == 1;
                Self::Interest(RemoteFilter::decode(&mut reader), wanted)
            }
            GROUP => Self::Group {
                key: reader.u64(),
                online_count: reader.u32(),
                persistent_count: reader.u32(),
                filter: RemoteFilter::decode(&mut reader),
            },
            PAGE_REQUEST => {
                let replay = RequestId::decode(&mut reader);
                let filter = reader.text().expect("an request has a filter");
                let topic = reader.text();
                let is_seen = reader.u8() == 1;
                Self::PageRequest { replay, filter, topic, is_seen, required: Origins::decode(&mut reader) }
            }
            WATERMARKS => {
                let seen = reader.u64();
                Self::Watermarks(seen, Origins::decode(&mut reader))
            }
            kind => panic!("a lane carried a message of kind {kind}"),
        };
        assert!(reader.0.is_empty());
        message
    }
}

impl<'a> ForwardedPublish<'a> {
    /// The message alone, for nobody yet.
    pub(crate) fn of(view: MessageView<'a>, origin: Origin) -> Self {
        Self {
            view,
            deliver_here: false,
            retain_here: false,
            origin,
            publisher: None,
            groups: GroupKeys::NONE,
            tried: ShardSet::default(),
            accepts_offline: false,
        }
    }

    fn encode(&self, out: &mut Vec<u8>, payload_attached: bool) {
        let view = &self.view;
        let mut flags = view.qos.bits();
        flags |= if view.retain { RETAIN } else { 0 };
        flags |= if view.expires_at.is_some() { EXPIRES } else { 0 };
        flags |= if self.retain_here { STORE } else { 0 };
        flags |= if self.accepts_offline { ACCEPTS_OFFLINE } else { 0 };
        flags |= if self.tried.is_empty() { 0 } else { TRIED };
        flags |= if self.deliver_here { LIVE } else { 0 };
        let plain = view.packet.filter(|_| !payload_attached);
        let mut form = 0;
        form |= if self.publisher.is_some() { PUBLISHER } else { 0 };
        form |= if self.groups.0.is_empty() { 0 } else { GROUPS };
        if let Some(plain) = plain {
            form |= PLAIN;
            form |= if plain.is_v5 { PLAIN_V5 } else { 0 };
            form |= if plain.is_tracked { PLAIN_TRACKED } else { 0 };
        }
        out.extend_from_slice(&[flags, form]);
        if let Some(expires_at) = view.expires_at {
            out.extend_from_slice(&expires_at.as_ms().to_le_bytes());
        }
        self.origin.encode(out);
        if !self.tried.is_empty() {
            out.extend_from_slice(&self.tried.0.to_le_bytes());
        }
        if let Some(publisher) = self.publisher {
            out.extend_from_slice(&publisher.get().to_le_bytes());
        }
        if !self.groups.0.is_empty() {
            write_part(out, self.groups.0);
        }
        if let Some(plain) = plain {
            out.extend_from_slice(&part_length(view.payload));
            write_part(out, plain.body);
        } else {
            let payload = if payload_attached { &[][..] } else { view.payload };
            for part in [view.topic.as_bytes(), view.forwarded, payload] {
                write_part(out, part);
            }
        }
    }

    /// Bytes of what has no length of its own.
    fn variable_bytes(&self) -> usize {
        let view = &self.view;
        // A body is topic and payload, and little that is fixed.
        self.groups.0.len() + view.topic.len() + view.forwarded.len() + view.payload.len()
    }

    fn decode(reader: &mut Reader<'a>, payload: Option<&'a Bytes>) -> Self {
        let (flags, form) = (reader.u8(), reader.u8());
        let expires_at = (flags & EXPIRES != 0).then(|| Instant::from_ms(reader.u64()));
        let origin = Origin::decode(reader);
        let tried = if flags & TRIED == 0 { ShardSet::default() } else { ShardSet(reader.u64()) };
        let publisher = if form & PUBLISHER == 0 { None } else { NonZeroU64::new(reader.u64()) };
        let groups = if form & GROUPS == 0 { GroupKeys::NONE } else { GroupKeys(reader.part()) };
        let (topic, forwarded, payload, packet) = if form & PLAIN == 0 {
            let (topic, forwarded, inside) = (reader.part(), reader.part(), reader.part());
            let payload = payload.map_or(inside, |beside| if beside.is_empty() { inside } else { beside });
            (topic, forwarded, payload, None)
        } else {
            let payload_bytes = reader.u32() as usize;
            let body = reader.part();
            let (_, payload) = body.split_at(body.len() - payload_bytes);
            let (length, rest) = body.split_first_chunk::<2>().expect("a body begins with its topic");
            let (topic, _) = rest.split_at(u16::from_be_bytes(*length).into());
            let (is_v5, is_tracked) = (form & PLAIN_V5 != 0, form & PLAIN_TRACKED != 0);
            (topic, &[][..], payload, Some(PlainPacket { body, is_v5, is_tracked }))
        };
        let topic = core::str::from_utf8(topic).expect("written from a str");
        let view = MessageView {
            topic,
            forwarded,
            payload,
            qos: QoS::from_bits(flags & 3).expect("written from a QoS"),
            retain: flags & RETAIN != 0,
            expires_at,
            packet,
        };
        Self {
            view,
            deliver_here: flags & LIVE != 0,
            retain_here: flags & STORE != 0,
            origin,
            publisher,
            groups,
            tried,
            accepts_offline: flags & ACCEPTS_OFFLINE != 0,
        }
    }
}

impl RemoteFilter<'_> {
    fn text_bytes(&self) -> usize {
        match self {
            Self::Exact(_) => 0,
            Self::Wild(text) => text.len(),
        }
    }

    fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Exact(fingerprint) => {
                out.push(0);
                out.extend_from_slice(&fingerprint.to_le_bytes());
            }
            Self::Wild(text) => {
                out.push(1);
                write_text(out, Some(text));
            }
        }
    }
}

impl<'a> RemoteFilter<'a> {
    fn decode(reader: &mut Reader<'a>) -> Self {
        match reader.u8() {
            0 => Self::Exact(reader.u64()),
            _ => Self::Wild(reader.text().expect("a filter with wildcards has text")),
        }
    }
}

impl RequestId {
    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.session.0.index().to_le_bytes());
        out.extend_from_slice(&self.session.0.generation.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Self {
        let session = SessionId(Key::new(reader.u32(), reader.u32()));
        Self { session, number: reader.u32() }
    }
}

fn write_text(out: &mut Vec<u8>, text: Option<&str>) {
    // A topic or filter is never empty, so an empty text says that there is none.
    write_part(out, text.unwrap_or_default().as_bytes());
}

fn write_part(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&part_length(part));
    out.extend_from_slice(part);
}

fn part_length(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).expect("a packet has at most 268 435 460 bytes").to_le_bytes()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take(2).try_into().expect("two bytes"))
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().expect("eight bytes"))
    }

    fn part(&mut self) -> &'a [u8] {
        let length = self.u32() as usize;
        self.take(length)
    }

    fn text(&mut self) -> Option<&'a str> {
        let text = core::str::from_utf8(self.part()).expect("written from a str");
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::outbound::{BLOCK_BYTES, InboundItem, Outbound, OutboundItem, messages};
    use alloc::string::String;
    use alloc::{format, vec};

    fn view(payload: &[u8]) -> MessageView<'_> {
        MessageView {
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
        RequestId { session: SessionId(Key::new(5, 6)), number: 7 }
    }

    #[test]
    fn everything_said_is_heard_in_order_whatever_its_size() {
        let mut outbound = Outbound::new(2);
        let keys = [3u64.to_le_bytes(), 4u64.to_le_bytes()].concat();
        let forwarded_publish = |payload| ForwardedPublish {
            view: view(payload),
            deliver_here: true,
            retain_here: true,
            origin: Origin { shard: 3, sequence: 5 },
            publisher: NonZeroU64::new(9),
            groups: GroupKeys::from_bytes(&keys),
            tried: ShardSet(6),
            accepts_offline: true,
        };
        let body = b"\0\x03a/b\0\x07plain";
        let packet = PlainPacket { body, is_v5: false, is_tracked: true };
        let plain = MessageView { forwarded: &[], packet: Some(packet), ..view(b"plain") };
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
            (ShardMessage::Interest(RemoteFilter::Exact(12), true), None),
            (ShardMessage::Interest(RemoteFilter::Wild(&long_filter), false), None),
            (
                ShardMessage::Group {
                    filter: RemoteFilter::Wild("a/+"),
                    key: 1,
                    online_count: 2,
                    persistent_count: 3,
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
                let item = match &sent {
                    OutboundItem::Block(block) => {
                        assert!(block.len() <= BLOCK_BYTES);
                        InboundItem::Block(block)
                    }
                    OutboundItem::Oversized(large) => InboundItem::Oversized(large),
                };
                received.extend(
                    messages(item)
                        .map(|(message, payload)| format!("{:?}", ShardMessage::decode(message, payload))),
                );
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
