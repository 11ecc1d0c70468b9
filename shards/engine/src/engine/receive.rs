//! Received bytes: cut into packets, and each packet given to its handler.

use wire::frame::Mark;
use wire::packet::{Ack, AckKind, Connect, Packet, Publish};
use wire::{Assembler, Frame, Malformed, PacketType, ProtocolVersion};

use super::Rooms;
use crate::base::ids::{ConnectionId, SessionId};
use crate::cause::Cause;
use crate::connection::first_bytes::stranger;
use crate::connection::meter::Metered;
use crate::connection::receive::Shortage;
use crate::connection::{Admission, Close, Connection, Phase};
use crate::event::Consumed;
use crate::memory::Budget;
use crate::publish::awaited::Awaited;
use crate::session::Acknowledged;
use crate::turn::Turn;

/// Work of a packet, apart from what it brings about.
const PACKET_WORK: u32 = 1;
/// The only PINGREQ that is well-formed.
const PINGREQ: Frame<'_> = Frame { first_byte: 0xC0, body: &[] };
/// PINGRESP.
const PINGRESP: [u8; 2] = [0xD0, 0];

impl Rooms {
    /// Takes the packets of what arrived, as far as the connection has credit for them.
    pub(super) fn receive(&mut self, turn: &mut Turn<'_>, id: ConnectionId, bytes: &[u8]) -> Consumed {
        turn.counters.bytes_received += bytes.len() as u64;
        let Some(mut assembler) = self.delivery.connections.take_assembler(id) else {
            turn.counters.stale += 1;
            return Consumed::of(bytes.len());
        };
        if self.paused {
            self.delivery.connections.byte_received(turn, id);
        }
        let mut rest = bytes;
        let mut goes_on = false;
        loop {
            let connection = self.delivery.connections.get(id);
            let receive_bytes_max = connection.map_or(0, Connection::receive_bytes_max);
            let phase = match connection.map(Connection::phase) {
                None | Some(Phase::Closing) => {
                    let may_close_at_once = connection.is_some_and(Connection::may_close_at_once);
                    return Consumed { may_close_at_once, ..Consumed::of(bytes.len()) };
                }
                // The bytes behind CONNECT are for the shard that takes over.
                Some(Phase::HandingOver) => break,
                Some(phase) => phase,
            };
            let is_idle = assembler.is_idle();
            if is_idle && rest.is_empty() {
                break;
            }
            if let Some(&first_byte) = rest.first() {
                let begins = is_idle.then_some(first_byte);
                if begins.is_some_and(|first_byte| phase.is_wrong_first_packet(first_byte)) {
                    self.close(turn, id, &Close::Told(stranger(rest)));
                    continue;
                }
                if !self.has_credit(turn, id, begins) && !self.is_within_rate(turn, id, &assembler, rest) {
                    break;
                }
                if turn.is_spent() {
                    goes_on = turn.was_delivering();
                    self.delivery.connections.pause_for_others(id);
                    break;
                }
            }
            turn.spend(PACKET_WORK);
            // While memory is short, a packet may have to be put back.
            let mark = if is_idle { Mark::START } else { assembler.mark() };
            let before = rest;
            let outcome = match assembler.next(&mut rest, receive_bytes_max) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let version = self.delivery.connections.packet_received(turn, id);
                    self.frame(turn, id, (phase, version), frame)
                }
                Err(malformed) => Err(self.unreadable(turn, id, malformed, rest)),
            };
            match outcome {
                Ok(()) => {}
                Err(Close::Wait(wait)) => {
                    assembler.put_back(mark, before.len() - rest.len());
                    rest = before;
                    self.delivery.connections.delay(turn, id, wait);
                    break;
                }
                Err(close) => self.close(turn, id, &close),
            }
            self.settle(turn);
        }
        self.store_rest(turn, id, assembler, rest.len());
        Consumed { goes_on, ..Consumed::of(bytes.len() - rest.len()) }
    }

    /// Stores the part of a packet that has come, and closes a connection that holds too much. The host keeps `left_bytes`.
    fn store_rest(&mut self, turn: &mut Turn<'_>, id: ConnectionId, assembler: Assembler, left_bytes: usize) {
        turn.counters.bytes_received -= left_bytes as u64;
        let has_grown = self.delivery.connections.store_rest(id, assembler, left_bytes > 0);
        if has_grown && self.refuses(turn, Budget::Messages) {
            turn.counters.partial_packets_refused += 1;
            self.close(turn, id, &Close::Told(Cause::PartialPacket));
        }
        // Bounded: this step added to one connection, and the one that is closed holds at least as much.
        while let Some(debtor) = self.delivery.connections.unjudged_debtor(turn.limits) {
            self.close(turn, debtor, &Close::Authentication(Cause::UnjudgedBytes));
        }
    }

    /// Whether one more packet of a connection may be taken, without asking its meter.
    fn has_credit(&mut self, turn: &mut Turn<'_>, id: ConnectionId, first_byte: Option<u8>) -> bool {
        if self.is_quiet_for(id) {
            self.delivery.connections.pause(id);
            return false;
        }
        let shortage = self.shortage();
        self.delivery.connections.has_credit(turn, id, first_byte, shortage)
    }

    /// Whether nothing is taken from a connection until the stop.
    fn is_quiet_for(&self, id: ConnectionId) -> bool {
        let phase = || self.delivery.connections.get(id).map(Connection::phase);
        // While the stop closes the others, a new connection is told.
        self.quiet && !(self.refuses == Some(Cause::Stopping) && matches!(phase(), Some(Phase::Fresh(_))))
    }

    fn shortage(&self) -> Shortage {
        Shortage::new(!self.mesh.outbound().has_room(), self.backlog.hold())
    }

    /// Whether the next packet of a connection without credit is taken, because its meter agrees and nothing else is in its way. A
    /// client that may not exceed its rates is closed for it.
    #[cold]
    fn is_within_rate(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        assembler: &Assembler,
        rest: &[u8],
    ) -> bool {
        let (is_quiet, shortage) = (self.is_quiet_for(id), self.shortage());
        let connections = &mut self.delivery.connections;
        let metered = if is_quiet || !connections.awaits_meter_only(turn, id, shortage) {
            Metered::Wait
        } else {
            connections.meter(turn, id, assembler.is_idle(), assembler.packet_bytes(rest))
        };
        match metered {
            Metered::Go => {}
            Metered::Wait => connections.count_waiting(id, rest.len()),
            Metered::Exceeded => self.close(turn, id, &Close::Told(Cause::PublishRate)),
        }
        metered == Metered::Go
    }

    fn frame(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        (phase, version): (Phase, ProtocolVersion),
        frame: Frame<'_>,
    ) -> Result<(), Close> {
        // The packets of the hot path are decoded into types of their own, each a fraction of the size of any packet's, and by reference:
        // a move copies them.
        match (phase, PacketType::from_first_byte(frame.first_byte)) {
            (Phase::Open(session), Some(PacketType::Publish)) => {
                match &Publish::decode(version, frame.first_byte, frame.body) {
                    Ok(publish) => self.on_publish(turn, id, session, publish),
                    Err(malformed) => Err(self.malformed(turn, id, *malformed)),
                }
            }
            (Phase::Open(session), Some(PacketType::PubAck)) => {
                self.on_ack_frame(turn, (id, session), AckKind::PubAck, version, frame)
            }
            (Phase::Open(session), Some(PacketType::PubRec)) => {
                self.on_ack_frame(turn, (id, session), AckKind::PubRec, version, frame)
            }
            (Phase::Open(session), Some(PacketType::PubRel)) => {
                self.on_ack_frame(turn, (id, session), AckKind::PubRel, version, frame)
            }
            (Phase::Open(session), Some(PacketType::PubComp)) => {
                self.on_ack_frame(turn, (id, session), AckKind::PubComp, version, frame)
            }
            (Phase::Open(_), Some(PacketType::PingReq)) if frame == PINGREQ => {
                self.on_ping_req(turn, id);
                Ok(())
            }
            (Phase::Fresh(admission), Some(PacketType::Connect)) => match &Connect::decode(frame.body) {
                Ok(connect) => self.on_first_packet(turn, id, admission, connect, frame),
                Err(malformed) => Err(self.malformed(turn, id, *malformed)),
            },
            // A second CONNECT is refused for being there [MQTT-3.1.0-2], whatever it says: its possible faults have
            // codes that no DISCONNECT can carry.
            (Phase::Open(_), Some(PacketType::Connect)) => Err(Close::Told(Cause::SecondConnect)),
            _ => match &Packet::decode(version, frame) {
                Ok(packet) => self.packet(turn, id, phase, packet),
                Err(malformed) => Err(self.malformed(turn, id, *malformed)),
            },
        }
    }

    /// CONNECT, on the shard that accepted the connection: it goes to the shard of its session before anything is answered.
    fn on_first_packet(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        admission: Admission,
        connect: &Connect<'_>,
        frame: Frame<'_>,
    ) -> Result<(), Close> {
        let given = self.delivery.connections.given_client_id(turn.limits, id, connect);
        let client_id = given.as_ref().ok().and_then(Option::as_deref).unwrap_or(connect.client_id);
        let placement = self.mesh.placement();
        let home = placement.home_of_client(client_id);
        let may_leave = admission == Admission::Serve && !client_id.is_empty() && given.is_ok();
        if may_leave && home != placement.own() {
            self.delivery.connections.begin_hand_over(turn, id, home, frame);
            return Ok(());
        }
        self.delivery.connections.forget_identity(id);
        self.on_connect(turn, id, admission, (connect, frame.body), given)
    }

    fn packet(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        phase: Phase,
        packet: &Packet<'_>,
    ) -> Result<(), Close> {
        match (phase, packet) {
            (Phase::Open(session), _) => self.packet_of_session(turn, id, session, packet),
            // The first packet was not a CONNECT [MQTT-3.1.0-1].
            (Phase::Fresh(_), _) => Err(Close::Silently(Cause::NotConnect)),
            (Phase::Authenticating, Packet::Auth(auth)) => self.delivery.connections.on_auth(turn, id, auth),
            (Phase::Authenticating, Packet::Disconnect(_)) => Err(Close::Silently(Cause::Disconnected)),
            (Phase::Authenticating, _) => Err(Close::Authentication(Cause::UnexpectedAuth)),
            (Phase::Judging | Phase::Accepting(_) | Phase::HandingOver | Phase::Closing, _) => {
                unreachable!("not read in this phase")
            }
        }
    }

    fn packet_of_session(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        session: SessionId,
        packet: &Packet<'_>,
    ) -> Result<(), Close> {
        match packet {
            Packet::Publish(publish) => self.on_publish(turn, id, session, publish),
            Packet::PubAck(ack) => self.on_ack(turn, id, session, AckKind::PubAck, ack),
            Packet::PubRec(ack) => self.on_ack(turn, id, session, AckKind::PubRec, ack),
            Packet::PubRel(ack) => self.on_ack(turn, id, session, AckKind::PubRel, ack),
            Packet::PubComp(ack) => self.on_ack(turn, id, session, AckKind::PubComp, ack),
            Packet::Subscribe(subscribe) => self.on_subscribe(turn, id, session, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(turn, id, session, unsubscribe),
            Packet::PingReq => {
                self.on_ping_req(turn, id);
                Ok(())
            }
            Packet::Disconnect(disconnect) => Err(self.on_disconnect(turn, id, session, disconnect)),
            Packet::Auth(auth) => self.delivery.connections.on_auth(turn, id, auth),
            // A CONNECT comes no further than its frame [MQTT-3.1.0-2]; the others are a server's packets.
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => Err(Close::Told(Cause::ServerPacket)),
        }
    }

    /// PINGRESP promises nothing, so it does not pass the gate [MQTT-3.12.4-1].
    fn on_ping_req(&mut self, turn: &mut Turn<'_>, id: ConnectionId) {
        self.delivery.connections.write(turn, id, |out| out.extend_from_slice(&PINGRESP));
    }

    #[inline]
    fn on_ack_frame(
        &mut self,
        turn: &mut Turn<'_>,
        (id, session): (ConnectionId, SessionId),
        kind: AckKind,
        version: ProtocolVersion,
        frame: Frame<'_>,
    ) -> Result<(), Close> {
        match &Ack::decode_frame(kind, version, frame) {
            Ok(ack) => self.on_ack(turn, id, session, kind, ack),
            Err(malformed) => Err(self.malformed(turn, id, *malformed)),
        }
    }

    #[inline]
    fn on_ack(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        session_id: SessionId,
        kind: AckKind,
        ack: &Ack<'_>,
    ) -> Result<(), Close> {
        let session = self.delivery.sessions.of_connection(session_id);
        let messages = &mut self.delivery.messages;
        let outcome = match kind {
            AckKind::PubAck => session.on_puback(turn, messages, ack),
            AckKind::PubRec => session.on_pubrec(turn, messages, ack),
            AckKind::PubComp => session.on_pubcomp(turn, messages, ack.packet_id),
            AckKind::PubRel => {
                self.on_pubrel(turn, id, session_id, ack.packet_id);
                return Ok(());
            }
        };
        self.on_acknowledged(turn, id, session_id, ack.packet_id, outcome)
    }

    /// Carries on the effect of an acknowledgement of the client.
    fn on_acknowledged(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        session_id: SessionId,
        packet_id: wire::PacketId,
        outcome: Acknowledged,
    ) -> Result<(), Close> {
        let delivery = &mut self.delivery;
        match outcome {
            Acknowledged::Already => {}
            Acknowledged::OutOfStage => return Err(Close::Told(Cause::OutOfStage)),
            Acknowledged::Release(reason) => {
                delivery.connections.write_pubrel(turn, id, packet_id, reason);
            }
            Acknowledged::ReleaseLater { delivery: of } => {
                delivery.await_durable(session_id, Awaited::Release(of));
            }
            Acknowledged::Ended { held_quota } => {
                if held_quota {
                    delivery.connections.current(id).return_quota();
                }
                if delivery.sessions.of_connection(session_id).has_backlog() {
                    delivery.deliver_pending(turn, session_id);
                }
                self.retained.schedule(&mut delivery.sessions, session_id);
            }
        }
        Ok(())
    }

    /// How to close after a fixed header that is not accepted; `body` is the part of its packet that has come.
    #[cold]
    fn unreadable(
        &mut self,
        turn: &mut Turn<'_>,
        id: ConnectionId,
        malformed: Malformed,
        body: &[u8],
    ) -> Close {
        let phase = self.delivery.connections.current(id).phase();
        let is_unknown = matches!(phase, Phase::Fresh(_) | Phase::Authenticating);
        if !is_unknown || !matches!(malformed, Malformed::PacketTooLarge { .. }) {
            return self.malformed(turn, id, malformed);
        }
        if phase == Phase::Authenticating {
            return Close::Authentication(Cause::ConnectTooLong);
        }
        self.delivery.connections.refuse_long_connect(turn, id, body);
        Close::Silently(Cause::ConnectTooLong)
    }

    /// The close that a packet deserves which cannot be read. A first packet is answered here, if it can be.
    #[cold]
    fn malformed(&mut self, turn: &mut Turn<'_>, id: ConnectionId, malformed: Malformed) -> Close {
        let cause = Cause::Malformed(malformed);
        match self.delivery.connections.current(id).phase() {
            Phase::Fresh(_) => {
                self.delivery.connections.refuse_malformed_connect(turn, id, malformed);
                Close::Silently(cause)
            }
            Phase::Authenticating | Phase::Judging => Close::Authentication(cause),
            Phase::Accepting(_) | Phase::Open(_) | Phase::HandingOver | Phase::Closing => Close::Told(cause),
        }
    }
}
