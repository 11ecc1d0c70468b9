//! Bytes of a connection, cut into packets and handed to whoever deals with each; and whether it has credit to be read at all.
//! Knows no packet from within.

use alloc::boxed::Box;

use wire::packet::{Connect, Packet, Publish};
use wire::{Assembler, Frame, Malformed, PacketType, ReasonCode};

use crate::base::time::Instant;
use crate::connection::table::{Admission, ConnectionId, Phase};
use crate::engine::Engine;
use crate::event::{Actions, Consumed};

/// Type and flags of a CONNECT.
const CONNECT_FIRST_BYTE: u8 = 0x10;
/// Bytes of a packet that has not come whole which a connection may hold however short memory is.
const PARTIAL_PACKET_BYTES_FREE: u32 = 16 * 1024;

impl Engine {
    /// Takes the packets of what arrived, as far as the connection has credit for them.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        id: ConnectionId,
        bytes: &[u8],
        actions: &mut Actions,
    ) -> Consumed {
        self.delivery.counters.bytes_received += bytes.len() as u64;
        let Some(connection) = self.delivery.connections.get_mut(id.0) else {
            self.delivery.counters.stale += 1;
            return Consumed::of(bytes.len());
        };
        // It is put back below; meanwhile the frames it lends may be looked at while the engine changes.
        let mut assembler = connection.partial_packet.take().map_or_else(Assembler::new, |partial| *partial);
        let mut rest = bytes;
        let packet_bytes_max = self.delivery.limits.packet_bytes_max;
        loop {
            match self.delivery.connections.get(id.0).map(|connection| connection.phase) {
                None | Some(Phase::Closing) => {
                    return Consumed {
                        may_close_at_once: self.may_close_at_once(id),
                        ..Consumed::of(bytes.len())
                    };
                }
                // What follows CONNECT is for the shard that takes over.
                Some(Phase::HandingOver) => break,
                Some(Phase::Fresh(_) | Phase::Authenticating | Phase::Accepting(_) | Phase::Open(_)) => {}
            }
            if let Some(&first_byte) = rest.first() {
                let begins = assembler.is_idle().then_some(first_byte);
                // Whoever does not begin with CONNECT need not be waited for [MQTT-3.1.0-1].
                let fresh = matches!(self.connection(id).phase, Phase::Fresh(_));
                if fresh && begins.is_some_and(|first_byte| first_byte != CONNECT_FIRST_BYTE) {
                    self.protocol_error(now, id, ReasonCode::ProtocolError, actions);
                    return Consumed::of(bytes.len());
                }
                if !self.has_credit(id, begins) {
                    self.connection(id).paused = true;
                    break;
                }
            }
            match assembler.next(&mut rest, packet_bytes_max) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    self.delivery.counters.packets_received += 1;
                    let connection = self.connection(id);
                    connection.received_at = now;
                    if let Err(malformed) = self.frame(now, id, frame, actions) {
                        self.malformed(now, id, malformed, actions);
                    }
                }
                Err(malformed) => self.malformed(now, id, malformed, actions),
            }
            self.run_endings(now, actions);
        }
        self.store_partial_packet(now, id, assembler, actions);
        self.delivery.counters.bytes_received -= rest.len() as u64;
        Consumed::of(bytes.len() - rest.len())
    }

    /// Whether its peer said DISCONNECT and is owed nothing more.
    fn may_close_at_once(&self, id: ConnectionId) -> bool {
        self.delivery.connections.get(id.0).is_some_and(|connection| {
            connection.has_disconnected && connection.outbox.bytes() == 0 && !connection.outbox.is_lent()
        })
    }

    /// Persistent what the assembler holds of a packet that has not come whole. A long one may not grow while memory is short:
    /// its connection ends.
    fn store_partial_packet(
        &mut self,
        now: Instant,
        id: ConnectionId,
        assembler: Assembler,
        actions: &mut Actions,
    ) {
        // What is left in the buffer of an idle one is a packet that was taken in.
        let partial_packet = (!assembler.is_idle()).then(|| Box::new(assembler));
        let after = partial_packet.as_ref().map_or(0, |partial| partial.bytes_held());
        let after = u32::try_from(after).expect("no packet is longer than 268 435 460 bytes");
        let Some(connection) = self.delivery.connections.get_mut(id.0) else { return };
        connection.partial_packet = partial_packet;
        let before = core::mem::replace(&mut connection.partial_packet_bytes, after);
        self.delivery.held.partial_packets += u64::from(after);
        self.delivery.held.partial_packets -= u64::from(before);
        if after > before && after > PARTIAL_PACKET_BYTES_FREE && self.delivery.is_over_ceiling_in_all() {
            self.delivery.counters.partial_packets_refused += 1;
            self.close(now, id, Some(ReasonCode::QuotaExceeded), actions);
        }
    }

    /// Whether one more packet of this connection may be taken; `begins` is its first byte, unless some
    /// of it was taken before.
    fn has_credit(&mut self, id: ConnectionId, begins: Option<u8>) -> bool {
        let over_ceiling = self.delivery.is_over_memory_ceiling();
        let pending_ack_count_max = u32::from(self.delivery.limits.receive_maximum);
        let connection = self.delivery.connections.get_mut(id.0).expect("looked up at the start of the step");
        if let Some(first_byte) = begins {
            connection.publish_arrives = PacketType::from_first_byte(first_byte) == Some(PacketType::Publish);
        }
        if self.quiet {
            return false;
        }
        // One more than the receive maximum, so that a client that exceeds it is told so.
        if connection.pending_ack_count > pending_ack_count_max {
            return false;
        }
        match connection.phase {
            // Nothing may be answered before CONNACK [MQTT-3.2.0-1].
            Phase::Accepting(_) => return false,
            Phase::Fresh(_)
            | Phase::Authenticating
            | Phase::Open(_)
            | Phase::HandingOver
            | Phase::Closing => {}
        }
        // A 5.0 client is told 0x97; an older one can only be made to wait, and only with what it
        // publishes: what it acknowledges frees memory.
        let starves =
            over_ceiling && connection.publish_arrives && !connection.version.is_v5() && connection.is_open();
        if starves || !self.mesh.outbound.has_room() {
            if !connection.starved {
                connection.starved = true;
                self.starved.push(id);
            }
            return false;
        }
        true
    }

    fn frame(
        &mut self,
        now: Instant,
        id: ConnectionId,
        frame: Frame<'_>,
        actions: &mut Actions,
    ) -> Result<(), Malformed> {
        let connection = self.connection(id);
        let version = connection.version;
        match (connection.phase, PacketType::from_first_byte(frame.first_byte)) {
            (Phase::Fresh(admission), Some(PacketType::Connect)) => {
                let connect = Connect::decode(frame.body)?;
                let placement = &self.mesh.placement;
                let home = placement.home_of_client(connect.client_id);
                let may_leave = admission == Admission::Serve && !connect.client_id.is_empty();
                if may_leave && home != placement.own {
                    self.hand_over(id, home, frame, actions);
                } else {
                    self.on_connect(now, id, admission, &connect, frame.body, actions);
                }
            }
            // The hot path decodes into its own type, which is a fraction of the size of any packet's.
            (Phase::Open(session), Some(PacketType::Publish)) => {
                let publish = Publish::decode(version, frame.first_byte, frame.body)?;
                self.on_publish(now, id, session, &publish, actions);
            }
            // A second CONNECT is refused for being there [MQTT-3.1.0-2], whatever it says: what can be wrong with
            // one has codes that no DISCONNECT can carry.
            (Phase::Open(_), Some(PacketType::Connect)) => {
                self.protocol_error(now, id, ReasonCode::ProtocolError, actions);
            }
            _ => self.packet(now, id, &Packet::decode(version, frame)?, actions),
        }
        Ok(())
    }

    fn packet(&mut self, now: Instant, id: ConnectionId, packet: &Packet<'_>, actions: &mut Actions) {
        let phase = self.connection(id).phase;
        let session = match (phase, packet) {
            // The first packet was not a CONNECT [MQTT-3.1.0-1].
            (Phase::Fresh(_), _) => {
                self.delivery.counters.protocol_errors += 1;
                self.close(now, id, None, actions);
                return;
            }
            (Phase::Authenticating, Packet::Auth(auth)) => {
                self.on_auth(now, id, auth, actions);
                return;
            }
            (Phase::Authenticating, Packet::Disconnect(_)) => {
                self.close(now, id, None, actions);
                return;
            }
            (Phase::Authenticating, _) => {
                self.delivery.counters.protocol_errors += 1;
                self.fail_authentication(now, id, ReasonCode::ProtocolError, actions);
                return;
            }
            (Phase::Open(session), _) => session,
            (Phase::Accepting(_) | Phase::HandingOver | Phase::Closing, _) => {
                unreachable!("not read in this phase")
            }
        };
        match packet {
            Packet::Publish(publish) => self.on_publish(now, id, session, publish, actions),
            Packet::PubAck(ack) => self.on_puback(now, id, session, ack, actions),
            Packet::PubRec(ack) => self.on_pubrec(now, id, session, ack, actions),
            Packet::PubRel(ack) => self.on_pubrel(now, id, session, ack, actions),
            Packet::PubComp(ack) => self.on_pubcomp(now, id, session, ack, actions),
            Packet::Subscribe(subscribe) => self.on_subscribe(now, id, session, subscribe, actions),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(now, id, session, unsubscribe, actions),
            // PINGRESP promises nothing, so it does not pass the gate [MQTT-3.12.4-1].
            Packet::PingReq => self.delivery.write(id, actions, |out| out.extend_from_slice(&[0xD0, 0])),
            Packet::Disconnect(disconnect) => self.on_disconnect(now, id, session, disconnect, actions),
            Packet::Auth(auth) => self.on_auth(now, id, auth, actions),
            // A CONNECT comes no further than its frame [MQTT-3.1.0-2]; the others are a server's packets.
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => self.protocol_error(now, id, ReasonCode::ProtocolError, actions),
        }
    }

    fn malformed(&mut self, now: Instant, id: ConnectionId, malformed: Malformed, actions: &mut Actions) {
        self.delivery.counters.protocol_errors += 1;
        match self.connection(id).phase {
            Phase::Fresh(_) => self.refuse_malformed_connect(now, id, malformed, actions),
            Phase::Authenticating => self.fail_authentication(now, id, malformed.reason(), actions),
            Phase::Accepting(_) | Phase::Open(_) => {
                self.close_with_reason(now, id, malformed.reason(), Some(&malformed), actions);
            }
            Phase::HandingOver | Phase::Closing => {}
        }
    }
}
