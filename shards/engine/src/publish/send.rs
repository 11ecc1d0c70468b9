//! One PUBLISH into an outbox: encoded once for all receivers that are sent the same, or for one alone.
//! Knows no session; `deliver` has decided that it is to be sent.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;

use bytes::Bytes;
use wire::packet::{PublishParts, append_publish, publish_bytes};
use wire::{PACKET_BYTES_MAX, PacketId, ProtocolVersion, QoS};

use crate::base::hash::Keyed;
use crate::base::time::Instant;
use crate::connection::outbox::BufferPool;
use crate::connection::table::{Connection, ConnectionId};
use crate::connection::topic_alias::AliasUse;
use crate::counters::Counters;
use crate::event::{Action, Actions};
use crate::message::stored::MessageView;
use crate::publish::fan_out::FanOut;
use crate::session::inflight::Grant;

/// What every write to an outbox needs besides the connection.
#[derive(Debug, Default)]
pub(crate) struct OutboxWriter {
    pub(crate) pool: BufferPool,
    /// Bytes in all outboxes.
    pub(crate) bytes_held: u64,
    pub(crate) templates: Templates,
}

impl OutboxWriter {
    /// Appends what `write` writes and asks the host, once, to flush.
    pub(crate) fn append(
        &mut self,
        connection: &mut Connection,
        id: ConnectionId,
        actions: &mut Actions,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        append(&mut self.pool, &mut self.bytes_held, connection, id, actions, write);
    }

    fn append_shared(&mut self, connection: &mut Connection, bytes: Bytes) {
        self.bytes_held += bytes.len() as u64;
        connection.outbox.append_shared(bytes);
    }
}

fn append(
    pool: &mut BufferPool,
    bytes_held: &mut u64,
    connection: &mut Connection,
    id: ConnectionId,
    actions: &mut Actions,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let before = connection.outbox.bytes();
    connection.outbox.append(pool, write);
    *bytes_held += connection.outbox.bytes() - before;
    if !connection.flush_asked {
        connection.flush_asked = true;
        actions.push(Action::Flush(id));
    }
}

/// A PUBLISH encoded once for all receivers of one class within a fan-out, but for the first: most messages have one alone.
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

impl Templates {
    pub(crate) fn clear(&mut self) {
        if !self.bytes.is_empty() {
            self.bytes.clear();
            self.classes = [const { None }; 4];
        }
    }

    fn get(
        &mut self,
        now: Instant,
        version: ProtocolVersion,
        qos: QoS,
        fan_out: &FanOut<'_>,
    ) -> (&[u8], Template) {
        let tracked = qos != QoS::AtMostOnce;
        let class = usize::from(version.is_v5()) * 2 + usize::from(tracked);
        if self.classes[class].is_none() {
            let placeholder = if tracked { PacketId::new(1) } else { None };
            let parts = PublishParts {
                dup: false,
                qos: if tracked { QoS::AtLeastOnce } else { QoS::AtMostOnce },
                retain: false,
                topic: fan_out.view.topic,
                packet_id: placeholder,
                message_expiry_interval_s: fan_out.view.expiry_left_s(now),
                topic_alias: None,
                subscription_ids: &[],
                forwarded: fan_out.view.forwarded,
                payload_bytes: fan_out.view.payload.len(),
            };
            let packet_bytes = parts.packet_bytes(version);
            if packet_bytes > PACKET_BYTES_MAX as usize {
                // A version with longer packets cannot say it; nobody takes as much.
                return (&[], Template { span: 0..0, packet_id_at: 0, packet_bytes });
            }
            let start = self.bytes.len();
            parts.encode_head(version, &mut self.bytes);
            if fan_out.shared.is_none() {
                self.bytes.extend_from_slice(fan_out.view.payload);
            }
            self.classes[class] = Some(Template {
                span: start..self.bytes.len(),
                packet_id_at: parts.packet_id_offset(version).unwrap_or(0),
                packet_bytes,
            });
        }
        let template = self.classes[class].clone().expect("made above");
        (&self.bytes[template.span.clone()], template)
    }
}

/// Puts one PUBLISH of a fan-out into an outbox. `false`: longer than the client accepts
/// [MQTT-3.1.2-24].
#[expect(clippy::too_many_arguments, reason = "the disjoint parts of `Delivery`, borrowed one by one")]
pub(crate) fn send(
    now: Instant,
    connection: &mut Connection,
    id: ConnectionId,
    grant: &Grant,
    packet_id: Option<PacketId>,
    dup: bool,
    fan_out: &FanOut<'_>,
    outbox_writer: &mut OutboxWriter,
    hasher: &Keyed,
    counters: &mut Counters,
    actions: &mut Actions,
) -> bool {
    let alike = grant.identifiers.as_slice().is_empty() && connection.aliases_out.is_none();
    if alike
        && fan_out.shared.is_none()
        && let Some(body) =
            fan_out.view.packet.and_then(|packet| packet.body_for(connection.version, grant.qos))
    {
        let fits = publish_bytes(body) <= connection.packet_bytes_max as usize;
        if fits {
            outbox_writer.append(connection, id, actions, |out| {
                let start = append_publish(first_byte(dup, grant.qos, grant.retain), body, out);
                if let Some(packet_id) = packet_id {
                    let at = start + 2 + fan_out.view.topic.len();
                    out[at..at + 2].copy_from_slice(&packet_id.get().to_be_bytes());
                }
            });
            end_publish(connection, grant.qos, &fan_out.view, None, outbox_writer, counters);
        }
        return fits;
    }
    if !alike || fan_out.offered_count == 1 {
        let shared = fan_out.shared.as_ref();
        return send_one(
            now,
            connection,
            id,
            grant,
            packet_id,
            dup,
            &fan_out.view,
            shared,
            outbox_writer,
            hasher,
            counters,
            actions,
        );
    }
    let OutboxWriter { pool, bytes_held, templates } = outbox_writer;
    let (bytes, template) = templates.get(now, connection.version, grant.qos, fan_out);
    let fits = template.packet_bytes <= connection.packet_bytes_max as usize;
    if fits {
        append(pool, bytes_held, connection, id, actions, |out| {
            let start = out.len();
            out.extend_from_slice(bytes);
            out[start] = first_byte(dup, grant.qos, grant.retain);
            if let Some(packet_id) = packet_id {
                let at = start + template.packet_id_at;
                out[at..at + 2].copy_from_slice(&packet_id.get().to_be_bytes());
            }
        });
        end_publish(connection, grant.qos, &fan_out.view, fan_out.shared.as_ref(), outbox_writer, counters);
    }
    fits
}

/// Puts one PUBLISH into an outbox, encoded for this connection alone: with an alias, with
/// Subscription Identifiers, or out of the queue.
#[expect(clippy::too_many_arguments, reason = "the disjoint parts of `Delivery`, borrowed one by one")]
pub(crate) fn send_one(
    now: Instant,
    connection: &mut Connection,
    id: ConnectionId,
    grant: &Grant,
    packet_id: Option<PacketId>,
    dup: bool,
    view: &MessageView<'_>,
    shared: Option<&Bytes>,
    outbox_writer: &mut OutboxWriter,
    hasher: &Keyed,
    counters: &mut Counters,
    actions: &mut Actions,
) -> bool {
    let mut alias =
        connection.aliases_out.as_ref().map_or(AliasUse::Plain, |aliases| aliases.choose(hasher, view.topic));
    let (topic, topic_alias) = match alias {
        AliasUse::Plain => (view.topic, None),
        AliasUse::First(alias) => (view.topic, Some(alias)),
        AliasUse::Known(alias) => ("", Some(alias)),
    };
    let mut parts = PublishParts {
        dup,
        qos: grant.qos,
        retain: grant.retain,
        topic,
        packet_id,
        message_expiry_interval_s: view.expiry_left_s(now),
        topic_alias,
        subscription_ids: grant.identifiers.as_slice(),
        forwarded: view.forwarded,
        payload_bytes: view.payload.len(),
    };
    let version = connection.version;
    let packet_bytes_max = connection.packet_bytes_max as usize;
    if matches!(alias, AliasUse::First(_)) && parts.packet_bytes(version) > packet_bytes_max {
        // It may fit without what would make later ones shorter.
        alias = AliasUse::Plain;
        parts.topic_alias = None;
    }
    if parts.packet_bytes(version) > packet_bytes_max {
        return false;
    }
    outbox_writer.append(connection, id, actions, |out| {
        parts.encode_head(version, out);
        if shared.is_none() {
            out.extend_from_slice(view.payload);
        }
    });
    end_publish(connection, grant.qos, view, shared, outbox_writer, counters);
    match alias {
        AliasUse::First(_) => {
            let aliases: &mut Box<_> = connection.aliases_out.as_mut().expect("it chose the alias");
            aliases.learned(hasher, view.topic);
        }
        AliasUse::Plain | AliasUse::Known(_) => {}
    }
    true
}

fn end_publish(
    connection: &mut Connection,
    qos: QoS,
    view: &MessageView<'_>,
    shared: Option<&Bytes>,
    outbox_writer: &mut OutboxWriter,
    counters: &mut Counters,
) {
    if let Some(payload) = shared {
        outbox_writer.append_shared(connection, payload.clone());
    }
    if qos == QoS::AtMostOnce {
        connection.outbox.count_qos0();
    }
    counters.messages_sent += 1;
    counters.payload_bytes_sent += view.payload.len() as u64;
}

fn first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    0x30 | u8::from(dup) << 3 | qos.bits() << 1 | u8::from(retain)
}
