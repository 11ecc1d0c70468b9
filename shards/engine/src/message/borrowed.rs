//! A message that lies in somebody else's bytes: a packet, a stored message or a block of another shard.
//! Invariant: it is made and used within one step, so nothing is copied before a holder decides to keep it.

use wire::packet::Publish;
use wire::{ProtocolVersion, QoS};

use crate::base::time::Instant;
use crate::record::Content;

/// The parts of a message, borrowed from the bytes that hold it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) topic: &'a str,
    /// Encoded 5.0 properties that travel with it unaltered.
    pub(crate) forwarded: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// When its Message Expiry Interval ends.
    pub(crate) expires_at: Option<Instant>,
    /// The packet it came in, if others can be sent the same.
    pub(crate) packet: Option<PlainPacket<'a>>,
}

impl<'a> From<Content<'a>> for Message<'a> {
    fn from(content: Content<'a>) -> Self {
        let ((topic, forwarded, payload), (qos, retain)) = (content.texts(), content.flags());
        Self { topic, forwarded, payload, qos, retain, expires_at: content.expires_at(), packet: None }
    }
}

impl<'a> Message<'a> {
    /// The part of it that a record has.
    pub(crate) const fn content(&self) -> Content<'a> {
        Content::new((self.topic, self.forwarded, self.payload), (self.qos, self.retain), self.expires_at)
    }

    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|deadline| deadline <= now)
    }

    /// Seconds of its Message Expiry Interval that are left [MQTT-3.3.2-6].
    pub(crate) fn expiry_left_s(&self, now: Instant) -> Option<u32> {
        self.expires_at.map(|deadline| now.seconds_until(deadline))
    }

    /// Bytes that it takes when it is stored.
    pub(crate) fn bytes(&self) -> u64 {
        (self.topic.len() + self.forwarded.len() + self.payload.len()) as u64
    }
}

/// The body of a PUBLISH without properties. A receiver of the same protocol version, with a packet identifier exactly
/// if the publisher's packet had one, is sent the very same body: nothing is encoded for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainPacket<'a> {
    /// Begins with the topic and ends with the payload.
    body: &'a [u8],
    layout: Layout,
}

/// Everything that makes bodies of the same topic and payload differ, in one byte, because each delivery compares it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Layout(u8);

impl Layout {
    const V5: u8 = 1;
    const TRACKED: u8 = 2;

    const fn new(is_v5: bool, is_tracked: bool) -> Self {
        Self((is_v5 as u8 * Self::V5) | (is_tracked as u8 * Self::TRACKED))
    }

    #[inline]
    fn of(version: ProtocolVersion, qos: QoS) -> Self {
        Self::new(version.is_v5(), qos != QoS::AtMostOnce)
    }
}

impl<'a> PlainPacket<'a> {
    /// A body of version 5.0 or an earlier one, tracked by a packet identifier or not.
    pub(crate) const fn new(body: &'a [u8], is_v5: bool, is_tracked: bool) -> Self {
        // The length of the topic and, if tracked, the packet identifier.
        assert!(body.len() >= if is_tracked { 4 } else { 2 });
        Self { body, layout: Layout::new(is_v5, is_tracked) }
    }

    /// The body of a packet that was received. `None` if it has properties or an alias for its topic, or was not read
    /// from the wire.
    pub(crate) fn of(version: ProtocolVersion, publish: &Publish<'a>) -> Option<Self> {
        let body = publish.plain_body()?;
        Some(Self { body, layout: Layout::of(version, publish.qos) })
    }

    pub(crate) const fn body(&self) -> &'a [u8] {
        self.body
    }

    pub(crate) const fn is_v5(&self) -> bool {
        self.layout.0 & Layout::V5 != 0
    }

    /// Whether the body has a packet identifier.
    pub(crate) const fn is_tracked(&self) -> bool {
        self.layout.0 & Layout::TRACKED != 0
    }

    /// The body for a receiver, if it is the same.
    pub(crate) fn body_for(&self, version: ProtocolVersion, qos: QoS) -> Option<&'a [u8]> {
        (self.layout == Layout::of(version, qos)).then_some(self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_serves_receivers_of_its_version_and_tracking_alone() {
        let packet = PlainPacket::new(b"\0\x01t\0\x07payload", false, true);
        for (version, qos, is_same) in [
            (ProtocolVersion::V3_1_1, QoS::AtLeastOnce, true),
            (ProtocolVersion::V3_1_1, QoS::ExactlyOnce, true),
            (ProtocolVersion::V3_1_1, QoS::AtMostOnce, false),
            (ProtocolVersion::V5, QoS::AtLeastOnce, false),
        ] {
            assert_eq!(packet.body_for(version, qos).is_some(), is_same, "{version:?} {qos:?}");
        }
    }
}
