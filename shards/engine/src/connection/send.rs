//! Packets into outboxes: control packets, and each PUBLISH encoded once for all receivers that are sent the same, or
//! for one alone.

use alloc::vec::Vec;
use core::cell::OnceCell;

use bytes::Bytes;
use wire::packet::{Ack, AckKind, publish_bytes};
use wire::{PacketId, QoS, ReasonCode};

use super::topic_alias::AliasUse;
use super::{Connection, Connections, Outboxes};
use crate::base::ids::ConnectionId;
use crate::cause::Cause;
use crate::message::borrowed::Message;
use crate::message::encode::PublishHead;
use crate::session::grant::Grant;
use crate::turn::{Ending, Turn};

/// Acknowledgements and other control packets may use this much beyond `outbox_bytes_max`. A peer that lets even that fill
/// up does not read, and is closed.
const OUTBOX_CONTROL_BYTES: u64 = 64 * 1024;

/// A PUBLISH for one receiver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    head: PublishHead<'a>,
    message: &'a Message<'a>,
    /// The payload, if it is large enough to be shared instead of copied.
    shared: Option<&'a Bytes>,
    /// Hash of the topic, once an alias has asked for it.
    topic_hash: &'a OnceCell<u64>,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn new(
        message: &'a Message<'a>,
        shared: Option<&'a Bytes>,
        topic_hash: &'a OnceCell<u64>,
        grant: &'a Grant,
        packet_id: Option<PacketId>,
    ) -> Self {
        let head = PublishHead::new(grant.qos, grant.retain, packet_id, grant.identifiers.as_slice());
        Self { head, message, shared, topic_hash }
    }

    /// It is sent again [MQTT-3.3.1-1].
    pub(crate) fn again(self) -> Self {
        Self { head: self.head.repeated(), ..self }
    }
}

impl Connections {
    /// Appends a control packet to an outbox; a peer that does not read is closed past the bound.
    pub(crate) fn write(&mut self, turn: &mut Turn<'_>, id: ConnectionId, write: impl FnOnce(&mut Vec<u8>)) {
        let Self { slab, outboxes, .. } = self;
        let Some(connection) = slab.get_mut(id.key()) else {
            turn.counters.stale += 1;
            return;
        };
        outboxes.write(turn, connection, id, write);
    }

    /// Writes PUBREL.
    pub(crate) fn write_pubrel(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        packet_id: PacketId,
        reason: ReasonCode,
    ) {
        let Self { slab, outboxes, .. } = self;
        let Some(connection) = slab.get_mut(id.key()) else { return };
        let version = connection.version;
        let pubrel = Ack { reason, ..Ack::success(packet_id) };
        outboxes.write(turn, connection, id, |out| pubrel.encode(AckKind::PubRel, version, out));
    }

    /// Bytes that all outboxes take, without the list of the buffers kept.
    #[inline]
    pub(crate) fn outbox_buffer_bytes(&self) -> u64 {
        self.outboxes.pool.buffer_bytes()
    }

    /// Begins the fan-out of another message.
    pub(crate) fn begin_fan_out(&mut self) {
        self.templates.clear();
    }

    /// Puts one PUBLISH of a fan-out into an outbox; `is_only` as long as no second receiver is known. `false` if it is
    /// longer than the client accepts [MQTT-3.1.2-24].
    pub(crate) fn send(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        outgoing: &Outgoing<'_>,
        is_only: bool,
    ) -> bool {
        let Self { slab, outboxes, templates, .. } = self;
        let Some(connection) = slab.get_mut(id.key()) else { return false };
        let Outgoing { head, message, shared, .. } = *outgoing;
        let is_common = head.is_common() && connection.aliases_out().is_none();
        let version = connection.version;
        let packet_bytes_max = connection.packet_bytes_max as usize;
        let body = message.packet.and_then(|packet| packet.body_for(version, head.qos()));
        if let Some(body) = body
            && is_common
            && shared.is_none()
        {
            let fits = publish_bytes(body) <= packet_bytes_max;
            if fits {
                outboxes.append(connection, id, turn.actions, |out| head.append_body(message, body, out));
                outboxes.end_publish(turn, connection, outgoing);
            }
            return fits;
        }
        if !is_common || is_only {
            return self.send_alone(turn, id, outgoing);
        }
        let encoded = templates.get(turn.now, version, head.qos(), message, shared);
        let Some(encoded) = encoded.filter(|encoded| encoded.packet_bytes() <= packet_bytes_max) else {
            return false;
        };
        outboxes.append(connection, id, turn.actions, |out| encoded.append(&head, out));
        outboxes.end_publish(turn, connection, outgoing);
        true
    }

    /// Puts one PUBLISH into an outbox, encoded for this connection alone: with an alias, with Subscription Identifiers, or
    /// out of the queue. `false` if it is longer than the client accepts.
    pub(crate) fn send_alone(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        outgoing: &Outgoing<'_>,
    ) -> bool {
        let Self { slab, outboxes, hasher, alias_out_bytes, .. } = self;
        let Some(connection) = slab.get_mut(id.key()) else { return false };
        assert!(connection.is_open());
        let Outgoing { head, message, shared, topic_hash } = *outgoing;
        let topic_hash = || *topic_hash.get_or_init(|| hasher.bytes(message.topic.as_bytes()));
        // None on QoS 2: widely used clients lose the topic of such a message.
        let aliases = connection.aliases_out().filter(|_| head.qos() != QoS::ExactlyOnce);
        let bytes_max = turn.limits.alias_bytes_max;
        let mut alias =
            aliases.map_or(AliasUse::Plain, |aliases| aliases.choose(message.topic, bytes_max, topic_hash));
        let mut parts = head.parts(turn.now, message);
        match alias {
            AliasUse::Plain => {}
            AliasUse::First(alias) => parts.topic_alias = Some(alias),
            AliasUse::Known(alias) => (parts.topic, parts.topic_alias) = ("", Some(alias)),
        }
        let version = connection.version;
        let packet_bytes_max = connection.packet_bytes_max as usize;
        if matches!(alias, AliasUse::First(_)) && parts.packet_bytes(version) > packet_bytes_max {
            // It may fit without the alias, which only makes later ones shorter.
            alias = AliasUse::Plain;
            parts.topic_alias = None;
        }
        if parts.packet_bytes(version) > packet_bytes_max {
            return false;
        }
        outboxes.append(connection, id, turn.actions, |out| {
            parts.encode_head(version, out);
            if shared.is_none() {
                out.extend_from_slice(message.payload);
            }
        });
        if let (AliasUse::First(_), Some(aliases)) = (alias, connection.aliases_out_mut()) {
            *alias_out_bytes += aliases.learned(hasher, message.topic, topic_hash());
        }
        outboxes.end_publish(turn, connection, outgoing);
        true
    }
}

impl Outboxes {
    /// See [`Connections::write`].
    pub(super) fn write(
        &mut self,
        turn: &mut Turn<'_>,
        connection: &mut Connection,
        id: ConnectionId,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let appended = self.append(connection, id, turn.actions, write);
        turn.counters.control_packets_sent += u64::from(appended > 0);
        // A fan-out adds at most one message to an outbox below its bound.
        let bytes_max = u64::from(turn.limits.outbox_bytes_max)
            + u64::from(turn.limits.packet_bytes_max)
            + OUTBOX_CONTROL_BYTES;
        if connection.outbox.bytes() > bytes_max && connection.session().is_some() {
            turn.endings.push(Ending::Connection(id, Cause::OutboxFull));
        }
    }

    /// The head of a PUBLISH was appended: its shared payload follows, and it is counted.
    fn end_publish(&mut self, turn: &mut Turn<'_>, connection: &mut Connection, outgoing: &Outgoing<'_>) {
        if let Some(payload) = outgoing.shared {
            assert!(payload.len() == outgoing.message.payload.len());
            self.bytes_held += payload.len() as u64;
            connection.outbox.append_shared(&mut self.spare, &mut self.pool, payload.clone());
        }
        if outgoing.head.qos() == QoS::AtMostOnce {
            connection.outbox.count_qos0(connection.session());
        } else {
            connection.spend_quota();
        }
        turn.counters.messages_sent += 1;
        turn.counters.payload_bytes_sent += outgoing.message.payload.len() as u64;
    }
}
