//! The encoding of one PUBLISH, without any connection: in the body it came in, by a template for all receivers of a
//! class, or from parts for one receiver alone.
//!
//! Invariants:
//! - A template lives within one fan-out: it holds the message's topic, properties and payload.
//! - The first byte and the packet identifier are all that differs between two packets of a class, so a packet of a
//!   template is one copy and at most two writes.

use alloc::vec::Vec;
use core::ops::Range;

use bytes::Bytes;
use wire::packet::{PublishParts, append_publish};
use wire::{PACKET_BYTES_MAX, PacketId, ProtocolVersion, QoS, SubscriptionId};

use crate::base::time::Instant;
use crate::message::borrowed::Message;

// The first byte of a PUBLISH [MQTT 3.3.1]; the QoS lies between the two flags.
const PUBLISH: u8 = 0x30;
const FLAG_DUP: u8 = 1 << 3;
const FLAG_RETAIN: u8 = 1;

/// The part of a PUBLISH that depends on its receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublishHead<'a> {
    /// The packet type and flags.
    first_byte: u8,
    qos: QoS,
    /// `Some` exactly for QoS 1 and 2 [MQTT-2.2.1-2].
    packet_id: Option<PacketId>,
    subscription_ids: &'a [SubscriptionId],
}

impl<'a> PublishHead<'a> {
    /// Of a packet that is sent for the first time.
    #[inline]
    pub(crate) fn new(
        qos: QoS,
        retain: bool,
        packet_id: Option<PacketId>,
        subscription_ids: &'a [SubscriptionId],
    ) -> Self {
        assert!(packet_id.is_some() == (qos != QoS::AtMostOnce));
        Self { first_byte: first_byte(false, qos, retain), qos, packet_id, subscription_ids }
    }

    /// Of the same packet sent again [MQTT-3.3.1-1].
    pub(crate) fn repeated(self) -> Self {
        assert!(self.packet_id.is_some());
        Self { first_byte: self.first_byte | FLAG_DUP, ..self }
    }

    pub(crate) const fn qos(&self) -> QoS {
        self.qos
    }

    /// Whether other receivers may be sent the same bytes but for the first byte and the packet identifier.
    pub(crate) const fn is_common(&self) -> bool {
        self.subscription_ids.is_empty()
    }

    /// The parts of the packet that carries `message`, without an alias for its topic.
    pub(crate) fn parts<'b>(&self, now: Instant, message: &Message<'b>) -> PublishParts<'b>
    where
        'a: 'b,
    {
        PublishParts {
            dup: self.first_byte & FLAG_DUP != 0,
            qos: self.qos,
            retain: self.first_byte & FLAG_RETAIN != 0,
            topic: message.topic,
            packet_id: self.packet_id,
            message_expiry_interval_s: message.expiry_left_s(now),
            topic_alias: None,
            subscription_ids: self.subscription_ids,
            forwarded: message.forwarded,
            payload_bytes: message.payload.len(),
        }
    }

    /// Appends the packet with the `body` of the packet that `message` came in.
    pub(crate) fn append_body(&self, message: &Message<'_>, body: &[u8], out: &mut Vec<u8>) {
        let start = append_publish(self.first_byte, body, out);
        self.write_packet_id(out, start + 2 + message.topic.len());
    }

    fn write_packet_id(&self, out: &mut [u8], at: usize) {
        if let Some(packet_id) = self.packet_id {
            out[at..at + 2].copy_from_slice(&packet_id.get().to_be_bytes());
        }
    }
}

/// The packet type and flags of a PUBLISH.
pub(crate) fn first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    let dup = if dup { FLAG_DUP } else { 0 };
    let retain = if retain { FLAG_RETAIN } else { 0 };
    PUBLISH | dup | qos.bits() << 1 | retain
}

/// A PUBLISH encoded once for all receivers of one class within a fan-out.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    bytes: Vec<u8>,
    /// By class: 3.x QoS 0, 3.x QoS 1 and 2, 5.0 QoS 0, 5.0 QoS 1 and 2.
    classes: [Option<Template>; 4],
}

#[derive(Clone, Debug)]
struct Template {
    span: Range<usize>,
    packet_id_at: usize,
    packet_bytes: usize,
}

/// A packet of a template.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoded<'a> {
    bytes: &'a [u8],
    packet_id_at: usize,
    packet_bytes: usize,
}

impl Templates {
    /// Forgets the message of the fan-out before.
    pub(crate) fn clear(&mut self) {
        if !self.bytes.is_empty() {
            self.bytes.clear();
            self.classes = [const { None }; 4];
        }
    }

    /// The packet for a class of receivers, encoded at its first use; without the payload if that is `shared`. `None` if
    /// this version cannot say it in [`PACKET_BYTES_MAX`] bytes, which is as much as any receiver takes.
    pub(crate) fn get(
        &mut self,
        now: Instant,
        version: ProtocolVersion,
        qos: QoS,
        message: &Message<'_>,
        shared: Option<&Bytes>,
    ) -> Option<Encoded<'_>> {
        let tracked = qos != QoS::AtMostOnce;
        let class = usize::from(version.is_v5()) * 2 + usize::from(tracked);
        let Self { bytes, classes } = self;
        let template = match &mut classes[class] {
            Some(template) => template,
            vacant @ None => {
                let head = if tracked {
                    PublishHead::new(QoS::AtLeastOnce, false, PacketId::new(1), &[])
                } else {
                    PublishHead::new(QoS::AtMostOnce, false, None, &[])
                };
                let parts = head.parts(now, message);
                vacant.insert(Template::encode(&parts, version, message, shared, bytes)?)
            }
        };
        Some(Encoded {
            bytes: &bytes[template.span.clone()],
            packet_id_at: template.packet_id_at,
            packet_bytes: template.packet_bytes,
        })
    }
}

impl Template {
    fn encode(
        parts: &PublishParts<'_>,
        version: ProtocolVersion,
        message: &Message<'_>,
        shared: Option<&Bytes>,
        out: &mut Vec<u8>,
    ) -> Option<Self> {
        let packet_bytes = parts.packet_bytes(version);
        if packet_bytes > PACKET_BYTES_MAX as usize {
            return None;
        }
        let start = out.len();
        parts.encode_head(version, out);
        if shared.is_none() {
            out.extend_from_slice(message.payload);
        }
        let span = start..out.len();
        assert!(span.len() + shared.map_or(0, Bytes::len) == packet_bytes);
        Some(Self { span, packet_id_at: parts.packet_id_offset(version).unwrap_or(0), packet_bytes })
    }
}

impl Encoded<'_> {
    /// Size on the wire, a shared payload included.
    pub(crate) const fn packet_bytes(&self) -> usize {
        self.packet_bytes
    }

    /// Appends the packet of a receiver of this class; a shared payload has to follow it.
    pub(crate) fn append(&self, head: &PublishHead<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.bytes);
        out[start] = head.first_byte;
        head.write_packet_id(out, start + self.packet_id_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_of_a_template_is_the_one_encoded_from_parts() {
        let message = Message {
            topic: "a/b",
            forwarded: &[],
            payload: b"payload",
            qos: QoS::ExactlyOnce,
            retain: true,
            expires_at: Some(Instant::from_ms(9_000)),
            packet: None,
        };
        let now = Instant::from_ms(1_000);
        let shared = Bytes::from_static(b"payload");
        for shared in [None, Some(&shared)] {
            let mut templates = Templates::default();
            for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
                for (qos, number) in [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 7), (QoS::ExactlyOnce, 8)] {
                    for retain in [false, true] {
                        let head = PublishHead::new(qos, retain, PacketId::new(number), &[]);
                        let parts = head.parts(now, &message);
                        let mut expected = Vec::new();
                        parts.encode_head(version, &mut expected);
                        if shared.is_none() {
                            expected.extend_from_slice(message.payload);
                        }
                        let encoded = templates.get(now, version, qos, &message, shared).unwrap();
                        let mut packet = alloc::vec![0xAA];
                        encoded.append(&head, &mut packet);
                        assert_eq!(packet[1..], expected, "{version:?} {head:?}");
                        assert_eq!(encoded.packet_bytes(), parts.packet_bytes(version));
                    }
                }
            }
        }
    }

    #[test]
    fn the_body_of_a_packet_is_sent_on_with_another_head() {
        let body = b"\0\x03a/b\0\x07payload";
        let message = Message {
            topic: "a/b",
            forwarded: &[],
            payload: b"payload",
            qos: QoS::ExactlyOnce,
            retain: false,
            expires_at: None,
            packet: None,
        };
        let head = PublishHead::new(QoS::AtLeastOnce, true, PacketId::new(0x0102), &[]).repeated();
        let mut packet = alloc::vec![0xAA];
        head.append_body(&message, body, &mut packet);
        assert_eq!(packet, b"\xAA\x3B\x0E\0\x03a/b\x01\x02payload");
    }
}
