//! A message on its way from the shard of its publisher to another one, and its bytes.
//!
//! Invariants:
//! - The bytes come from this code on the other shard, so they are trusted: a wrong one is a bug and panics.
//! - A payload that is attached travels beside the bytes and is not among them: large ones are never copied.
//! - Only a message that is to be retained is sent to be retained, which both sides assert.

use alloc::vec::Vec;
use core::num::NonZeroU64;

use bytes::Bytes;
use wire::QoS;

use crate::base::byte_reader::{Reader, part_length, write_part};
use crate::base::shard_set::ShardSet;
use crate::base::time::Instant;
use crate::message::borrowed::{Message, PlainPacket};
use crate::message::origin::Origin;
use crate::message::user_name::UserName;

// Bits of the first byte; the lowest two are the QoS.
const QOS: u8 = 3;
const RETAIN: u8 = 1 << 2;
const EXPIRES: u8 = 1 << 3;
const RETAIN_HERE: u8 = 1 << 4;
const ACCEPTS_OFFLINE: u8 = 1 << 5;
const DELIVER_HERE: u8 = 1 << 6;
const TRIED: u8 = 1 << 7;

// Bits of the second byte.
const PUBLISHER: u8 = 1;
const GROUPS: u8 = 1 << 1;
/// Topic and payload lie in the body of the packet they came in.
const PLAIN: u8 = 1 << 2;
const PLAIN_V5: u8 = 1 << 3;
const PLAIN_TRACKED: u8 = 1 << 4;
const USER: u8 = 1 << 5;
const TRANSFER: u8 = 1 << 6;

/// The publisher of a message that is to be retained.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PublisherName<'a> {
    client: Option<NonZeroU64>,
    user: UserName<'a>,
}

impl<'a> PublisherName<'a> {
    pub(crate) const NOBODY: Self = Self { client: None, user: UserName::NOBODY };

    pub(crate) const fn new(client: Option<NonZeroU64>, user: UserName<'a>) -> Self {
        Self { client, user }
    }

    /// The fingerprint of its client identifier, for No Local of retained messages [MQTT-3.8.3-3]; a will has none.
    pub(crate) fn client(self) -> Option<NonZeroU64> {
        self.client
    }

    /// Its user.
    pub(crate) fn user(self) -> UserName<'a> {
        self.user
    }
}

/// A message for another shard.
#[derive(Clone, Debug)]
pub(crate) struct ForwardedPublish<'a> {
    pub(crate) view: Message<'a>,
    /// The target has a subscriber that is in no group.
    pub(crate) deliver_here: bool,
    /// The target is the home of the topic and has to retain it.
    pub(crate) retain_here: bool,
    /// Where it was published.
    pub(crate) origin: Origin,
    /// The number of this transfer at the shard that sends it, if the log of that has it.
    pub(crate) transfer: Option<NonZeroU64>,
    /// Its publisher, if it is retained.
    pub(crate) publisher: PublisherName<'a>,
    /// The groups for which the target was chosen to find a member.
    pub(crate) groups: GroupKeys<'a>,
    /// Shards that were asked for these groups before and had no member online.
    pub(crate) tried: ShardSet,
    /// No shard is known to have a member online: a session that is away may keep it.
    pub(crate) accepts_offline: bool,
}

impl<'a> ForwardedPublish<'a> {
    /// The message alone: no subscriber, home or group of the target is named yet.
    pub(crate) fn of(view: Message<'a>, origin: Origin) -> Self {
        Self {
            view,
            deliver_here: false,
            retain_here: false,
            origin,
            transfer: None,
            publisher: PublisherName::NOBODY,
            groups: GroupKeys::NONE,
            tried: ShardSet::default(),
            accepts_offline: false,
        }
    }

    /// Bytes of topic, properties, payload, group keys and user; the rest has a fixed length.
    pub(crate) fn variable_bytes(&self) -> usize {
        let Message { topic, forwarded, payload, .. } = self.view;
        // A plain body is topic and payload, and little that is fixed.
        let user_bytes = self.publisher.user.variable_bytes();
        self.groups.0.len() + topic.len() + forwarded.len() + payload.len() + user_bytes
    }

    /// Appends its bytes; a payload that is attached is not among them.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, payload_attached: bool) {
        assert!(self.view.retain || !self.retain_here);
        let view = &self.view;
        let plain = view.packet.filter(|_| !payload_attached);
        out.extend_from_slice(&[self.flags(), self.form(plain)]);
        if let Some(expires_at) = view.expires_at {
            out.extend_from_slice(&expires_at.as_ms().to_le_bytes());
        }
        self.origin.encode(out);
        if let Some(transfer) = self.transfer {
            out.extend_from_slice(&transfer.get().to_le_bytes());
        }
        if !self.tried.is_empty() {
            out.extend_from_slice(&self.tried.bits().to_le_bytes());
        }
        if let Some(client) = self.publisher.client {
            out.extend_from_slice(&client.get().to_le_bytes());
        }
        if !self.publisher.user.is_nobody() {
            self.publisher.user.encode(out);
        }
        if !self.groups.0.is_empty() {
            write_part(out, self.groups.0);
        }
        if let Some(plain) = plain {
            out.extend_from_slice(&part_length(view.payload));
            write_part(out, plain.body());
        } else {
            let payload = if payload_attached { &[][..] } else { view.payload };
            for part in [view.topic.as_bytes(), view.forwarded, payload] {
                write_part(out, part);
            }
        }
    }

    /// Reads the bytes that [`ForwardedPublish::encode`] wrote.
    pub(crate) fn decode(reader: &mut Reader<'a>, attached: Option<&'a Bytes>) -> Self {
        let (flags, form) = (reader.u8(), reader.u8());
        let expires_at = (flags & EXPIRES != 0).then(|| Instant::from_ms(reader.u64()));
        let origin = Origin::decode(reader);
        let transfer = if form & TRANSFER == 0 { None } else { NonZeroU64::new(reader.u64()) };
        assert!(transfer.is_some() == (form & TRANSFER != 0));
        let tried = if flags & TRIED == 0 { 0 } else { reader.u64() };
        let client = if form & PUBLISHER == 0 { None } else { NonZeroU64::new(reader.u64()) };
        assert!(client.is_some() == (form & PUBLISHER != 0));
        let user = if form & USER == 0 { UserName::NOBODY } else { UserName::decode(reader) };
        assert!(user.is_nobody() == (form & USER == 0));
        let groups = if form & GROUPS == 0 { GroupKeys::NONE } else { GroupKeys::from_bytes(reader.part()) };
        let content = if form & PLAIN == 0 {
            Content::of_parts(reader, attached)
        } else {
            Content::of_body(reader, form)
        };
        let view = Message {
            topic: core::str::from_utf8(content.topic).expect("written from a str"),
            forwarded: content.forwarded,
            payload: content.payload,
            qos: QoS::from_bits(flags & QOS).expect("written from a QoS"),
            retain: flags & RETAIN != 0,
            expires_at,
            packet: content.packet,
        };
        let retain_here = flags & RETAIN_HERE != 0;
        assert!(view.retain || !retain_here);
        Self {
            view,
            deliver_here: flags & DELIVER_HERE != 0,
            retain_here,
            origin,
            transfer,
            publisher: PublisherName { client, user },
            groups,
            tried: ShardSet::from_bits(tried),
            accepts_offline: flags & ACCEPTS_OFFLINE != 0,
        }
    }

    fn flags(&self) -> u8 {
        let mut flags = self.view.qos.bits();
        flags |= if self.view.retain { RETAIN } else { 0 };
        flags |= if self.view.expires_at.is_some() { EXPIRES } else { 0 };
        flags |= if self.retain_here { RETAIN_HERE } else { 0 };
        flags |= if self.accepts_offline { ACCEPTS_OFFLINE } else { 0 };
        flags |= if self.tried.is_empty() { 0 } else { TRIED };
        flags | if self.deliver_here { DELIVER_HERE } else { 0 }
    }

    fn form(&self, plain: Option<PlainPacket<'_>>) -> u8 {
        let mut form = 0;
        form |= if self.publisher.client.is_some() { PUBLISHER } else { 0 };
        form |= if self.publisher.user.is_nobody() { 0 } else { USER };
        form |= if self.groups.0.is_empty() { 0 } else { GROUPS };
        form |= if self.transfer.is_some() { TRANSFER } else { 0 };
        if let Some(plain) = plain {
            form |= PLAIN;
            form |= if plain.is_v5() { PLAIN_V5 } else { 0 };
            form |= if plain.is_tracked() { PLAIN_TRACKED } else { 0 };
        }
        form
    }
}

/// The parts of a forwarded message that take the most bytes.
struct Content<'a> {
    topic: &'a [u8],
    forwarded: &'a [u8],
    payload: &'a [u8],
    packet: Option<PlainPacket<'a>>,
}

impl<'a> Content<'a> {
    fn of_parts(reader: &mut Reader<'a>, attached: Option<&'a Bytes>) -> Self {
        let (topic, forwarded, inline_payload) = (reader.part(), reader.part(), reader.part());
        let payload = match attached {
            Some(attached) if !attached.is_empty() => {
                assert!(inline_payload.is_empty());
                &attached[..]
            }
            Some(_) | None => inline_payload,
        };
        Self { topic, forwarded, payload, packet: None }
    }

    fn of_body(reader: &mut Reader<'a>, form: u8) -> Self {
        let payload_bytes = reader.u32() as usize;
        let body = reader.part();
        let (_, payload) = body.split_at(body.len() - payload_bytes);
        let (length, rest) = body.split_first_chunk::<2>().expect("a body begins with its topic");
        let (topic, after) = rest.split_at(u16::from_be_bytes(*length).into());
        assert!(after.len() >= payload.len());
        let packet = PlainPacket::new(body, form & PLAIN_V5 != 0, form & PLAIN_TRACKED != 0);
        Self { topic, forwarded: &[], payload, packet: Some(packet) }
    }
}

/// Keys of groups, one behind the other as they are encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupKeys<'a>(&'a [u8]);

impl<'a> GroupKeys<'a> {
    pub(crate) const NONE: Self = Self(&[]);

    /// Keys of eight bytes each.
    pub(crate) const fn from_bytes(bytes: &'a [u8]) -> Self {
        assert!(bytes.len().is_multiple_of(8));
        Self(bytes)
    }

    /// The keys, eight bytes each.
    pub(crate) const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = u64> + use<'a> {
        self.0.as_chunks::<8>().0.iter().map(|key| u64::from_le_bytes(*key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    #[should_panic(expected = "retain_here")]
    fn a_message_that_is_not_retained_is_not_sent_to_be_retained() {
        let view = Message {
            topic: "a",
            forwarded: &[],
            payload: b"p",
            qos: QoS::AtMostOnce,
            retain: false,
            expires_at: None,
            packet: None,
        };
        let forwarded = ForwardedPublish { retain_here: true, ..ForwardedPublish::of(view, Origin::past(1)) };
        forwarded.encode(&mut Vec::new(), false);
    }

    #[test]
    fn an_attached_payload_and_one_among_the_bytes_are_the_same_message() {
        let payload = Bytes::from_static(b"payload");
        let view = Message {
            topic: "a/b",
            forwarded: &[1, 2, 3],
            payload: &payload,
            qos: QoS::ExactlyOnce,
            retain: true,
            expires_at: Some(Instant::from_ms(77)),
            packet: None,
        };
        let publisher = PublisherName::new(NonZeroU64::new(9), UserName::new("ann"));
        let forwarded =
            ForwardedPublish { retain_here: true, publisher, ..ForwardedPublish::of(view, Origin::past(1)) };
        for attached in [None, Some(&payload)] {
            let mut bytes = Vec::new();
            forwarded.encode(&mut bytes, attached.is_some());
            let mut reader = Reader::new(&bytes);
            let decoded = ForwardedPublish::decode(&mut reader, attached);
            reader.finish();
            assert_eq!(format!("{decoded:?}"), format!("{forwarded:?}"));
        }
    }
}
