//! Messages that must outlive the step in which they arrived: queued, in flight, retained, wills.
//! Knows no session; holders count themselves.

use alloc::vec::Vec;

use bytes::Bytes;
use wire::packet::Publish;
use wire::{ProtocolVersion, QoS};

use crate::base::time::Instant;

/// A payload longer than this is shared between outboxes; a shorter one is copied, which is cheaper.
pub(crate) const SHARED_PAYLOAD_BYTES_MIN: usize = 4096;
/// A freed slot keeps its buffer for the next message up to this size.
const BUFFER_BYTES_KEPT: usize = 1024;
const NONE: u32 = u32::MAX;

/// A message in the store; valid while its holder counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MessageKey(u32);

/// A message as it came in, borrowed from wherever it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageView<'a> {
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

/// The body of a PUBLISH without properties: whoever is owed the message by the same version of the protocol and with a
/// packet identifier, or without, as it had, is sent the very same body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainPacket<'a> {
    /// Begins with the topic and ends with the payload.
    pub(crate) body: &'a [u8],
    pub(crate) is_v5: bool,
    pub(crate) is_tracked: bool,
}

impl<'a> PlainPacket<'a> {
    /// `None` if it has properties or an alias for its topic, or was not read from the wire.
    pub(crate) fn of(version: ProtocolVersion, publish: &Publish<'a>) -> Option<Self> {
        Some(Self {
            body: publish.plain_body()?,
            is_v5: version.is_v5(),
            is_tracked: publish.qos != QoS::AtMostOnce,
        })
    }

    /// The body for a receiver, if it is the same.
    pub(crate) fn body_for(&self, version: ProtocolVersion, qos: QoS) -> Option<&'a [u8]> {
        let same = self.is_v5 == version.is_v5() && self.is_tracked == (qos != QoS::AtMostOnce);
        same.then_some(self.body)
    }
}

impl MessageView<'_> {
    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|deadline| deadline <= now)
    }

    /// Seconds of its Message Expiry Interval that are left [MQTT-3.3.2-6].
    pub(crate) fn expiry_left_s(&self, now: Instant) -> Option<u32> {
        self.expires_at.map(|deadline| now.seconds_until(deadline))
    }
}

#[derive(Debug)]
struct Stored {
    /// Topic, forwarded properties and, unless shared, the payload.
    bytes: Vec<u8>,
    payload: Option<Bytes>,
    topic_bytes: u32,
    forwarded_bytes: u32,
    expires_at: Option<Instant>,
    qos: QoS,
    retain: bool,
    /// Holders. A free slot has none and links to the next one.
    holders: u32,
    vacant_next: u32,
}

impl Stored {
    fn bytes_held(&self) -> u64 {
        (self.bytes.len() + self.payload.as_ref().map_or(0, Bytes::len)) as u64
    }
}

/// **Lives on:** every shard. **Sees:** messages of sessions owned here.
///
/// Bounded by its holders: queues, windows and the retained store each have a bound of their own.
#[derive(Debug)]
pub(crate) struct MessageStore {
    slots: Vec<Stored>,
    vacant: u32,
    len: u32,
    bytes_held: u64,
}

impl MessageStore {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), vacant: NONE, len: 0, bytes_held: 0 }
    }

    /// Messages held.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Bytes of topics, properties and payloads held.
    pub(crate) fn bytes_held(&self) -> u64 {
        self.bytes_held
    }

    /// Copies a message in, held once. A payload that is shared already stays shared.
    pub(crate) fn put(&mut self, view: &MessageView<'_>, shared: Option<&Bytes>) -> MessageKey {
        let index = if self.vacant == NONE {
            self.slots.push(Stored {
                bytes: Vec::new(),
                payload: None,
                topic_bytes: 0,
                forwarded_bytes: 0,
                expires_at: None,
                qos: QoS::AtMostOnce,
                retain: false,
                holders: 0,
                vacant_next: NONE,
            });
            u32::try_from(self.slots.len() - 1).expect("bounded by the holders' bounds")
        } else {
            self.vacant
        };
        let stored = &mut self.slots[index as usize];
        assert!(stored.holders == 0);
        if self.vacant == index {
            self.vacant = stored.vacant_next;
        }
        stored.topic_bytes = u32::try_from(view.topic.len()).expect("a topic has at most 65 535 bytes");
        stored.forwarded_bytes =
            u32::try_from(view.forwarded.len()).expect("a packet has at most 268 435 460 bytes");
        let inline_payload = if shared.is_some() { &[][..] } else { view.payload };
        stored.bytes.reserve(view.topic.len() + view.forwarded.len() + inline_payload.len());
        stored.bytes.extend_from_slice(view.topic.as_bytes());
        stored.bytes.extend_from_slice(view.forwarded);
        stored.bytes.extend_from_slice(inline_payload);
        stored.payload = shared.cloned();
        stored.expires_at = view.expires_at;
        stored.qos = view.qos;
        stored.retain = view.retain;
        stored.holders = 1;
        self.bytes_held += stored.bytes_held();
        self.len += 1;
        MessageKey(index)
    }

    /// Counts one more holder.
    pub(crate) fn hold(&mut self, key: MessageKey) {
        let stored = &mut self.slots[key.0 as usize];
        assert!(stored.holders > 0);
        stored.holders += 1;
    }

    /// Counts one holder less; the last one frees the message.
    pub(crate) fn release(&mut self, key: MessageKey) {
        let stored = &mut self.slots[key.0 as usize];
        assert!(stored.holders > 0);
        stored.holders -= 1;
        if stored.holders > 0 {
            return;
        }
        self.bytes_held -= stored.bytes_held();
        self.len -= 1;
        stored.payload = None;
        stored.bytes.clear();
        stored.bytes.shrink_to(BUFFER_BYTES_KEPT);
        stored.vacant_next = self.vacant;
        self.vacant = key.0;
    }

    /// The message. A shared payload is seen through the same slice.
    pub(crate) fn view(&self, key: MessageKey) -> MessageView<'_> {
        let stored = &self.slots[key.0 as usize];
        assert!(stored.holders > 0);
        let (topic, rest) = stored.bytes.split_at(stored.topic_bytes as usize);
        let (forwarded, inline_payload) = rest.split_at(stored.forwarded_bytes as usize);
        MessageView {
            topic: core::str::from_utf8(topic).expect("stored from a str"),
            forwarded,
            payload: stored.payload.as_deref().unwrap_or(inline_payload),
            qos: stored.qos,
            retain: stored.retain,
            expires_at: stored.expires_at,
            packet: None,
        }
    }

    /// The payload, if it is shared rather than copied.
    pub(crate) fn shared_payload(&self, key: MessageKey) -> Option<&Bytes> {
        self.slots[key.0 as usize].payload.as_ref()
    }

    /// Bytes this message holds.
    pub(crate) fn bytes_of(&self, key: MessageKey) -> u64 {
        self.slots[key.0 as usize].bytes_held()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn the_last_holder_frees_and_the_slot_is_used_again() {
        let mut store = MessageStore::new();
        let payload = vec![7u8; SHARED_PAYLOAD_BYTES_MIN];
        let view = MessageView {
            topic: "a/b",
            forwarded: &[1, 2],
            payload: &payload,
            qos: QoS::AtLeastOnce,
            retain: true,
            expires_at: None,
            packet: None,
        };
        let key = store.put(&view, Some(&Bytes::copy_from_slice(&payload)));
        store.hold(key);
        store.release(key);
        assert_eq!(store.view(key).payload, &payload[..]);
        assert!(store.shared_payload(key).is_some());
        store.release(key);
        assert_eq!((store.len(), store.bytes_held()), (0, 0));
        let small = store.put(&MessageView { payload: b"x", ..view }, None);
        assert_eq!(small, key);
        assert_eq!(store.view(small).payload, b"x");
        assert_eq!(store.bytes_held(), 6);
    }
}
