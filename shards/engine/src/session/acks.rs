//! PUBACK, PUBREC, PUBREL and PUBCOMP of the client: each moves one delivery on, or ends it.

use alloc::vec::Vec;

use wire::packet::Ack;
use wire::{PacketId, QoS, ReasonCode};

use super::inflight::Stage;
use super::{Received, Session};
use crate::counters::DropReason;
use crate::message::stored::MessageStore;
use crate::turn::Turn;

/// The effect of an acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Acknowledged {
    /// None: the delivery ended before, perhaps on an earlier connection.
    Already,
    /// The delivery has ended. The quota that it held serves the next one [MQTT-4.9.0-2].
    Ended { held_quota: bool },
    /// PUBREL has to be sent with this reason.
    Release(ReasonCode),
    /// PUBREL has to be sent once this is durable.
    ReleaseLater { delivery: u64 },
    /// The packet does not fit the stage of the delivery: a protocol error.
    OutOfStage,
}

impl Session {
    pub(crate) fn on_puback(
        &mut self,
        turn: &mut Turn<'_>,
        messages: &mut MessageStore,
        ack: &Ack<'_>,
    ) -> Acknowledged {
        match self.stage_of(ack.packet_id) {
            Some((at, Stage::Publish(_), QoS::AtLeastOnce)) => {
                self.end_delivery(turn, messages, at, ack.reason)
            }
            None => Acknowledged::Already,
            Some((_, Stage::Publish(_) | Stage::Release, _)) => Acknowledged::OutOfStage,
        }
    }

    pub(crate) fn on_pubrec(
        &mut self,
        turn: &mut Turn<'_>,
        messages: &mut MessageStore,
        ack: &Ack<'_>,
    ) -> Acknowledged {
        match self.stage_of(ack.packet_id) {
            Some((at, Stage::Publish(_), QoS::ExactlyOnce)) if ack.reason.is_error() => {
                self.end_delivery(turn, messages, at, ack.reason)
            }
            Some((at, Stage::Publish(message), QoS::ExactlyOnce)) => {
                messages.release(message);
                match self.record_pubrec(turn, at) {
                    Some(delivery) => Acknowledged::ReleaseLater { delivery },
                    None => Acknowledged::Release(ReasonCode::Success),
                }
            }
            // Only a PUBREC below 0x80 is answered by PUBREL [MQTT-4.3.3-4]. The PUBCOMP of a PUBREL that is out ends the
            // delivery.
            Some((_, Stage::Release, _)) | None if ack.reason.is_error() => Acknowledged::Already,
            // The PUBREL is on its way.
            Some((at, Stage::Release, _)) if self.is_release_held(at) => Acknowledged::Already,
            // The client repeats a PUBREC whose PUBREL is out already.
            Some((_, Stage::Release, _)) => Acknowledged::Release(ReasonCode::Success),
            Some((_, Stage::Publish(_), QoS::AtMostOnce | QoS::AtLeastOnce)) => Acknowledged::OutOfStage,
            None => Acknowledged::Release(ReasonCode::PacketIdentifierNotFound),
        }
    }

    pub(crate) fn on_pubcomp(
        &mut self,
        turn: &mut Turn<'_>,
        messages: &mut MessageStore,
        packet_id: PacketId,
    ) -> Acknowledged {
        match self.stage_of(packet_id) {
            Some((at, Stage::Release, _)) => self.end_delivery(turn, messages, at, ReasonCode::Success),
            None => Acknowledged::Already,
            Some((_, Stage::Publish(_), _)) => Acknowledged::OutOfStage,
        }
    }

    /// PUBREL frees the Packet Identifier for a new message of the client [MQTT-4.3.3-12]. Returns the reason that
    /// PUBCOMP carries, and whether the log may have the identifier.
    pub(crate) fn on_pubrel(&mut self, packet_id: PacketId) -> (ReasonCode, bool) {
        let received = self.deliveries.as_mut().map(|deliveries| &mut deliveries.received);
        let at = received.as_ref().and_then(|received| place_of(received, packet_id).ok());
        match (received, at) {
            (Some(received), Some(at)) => (ReasonCode::Success, received.remove(at).is_recorded),
            // The first one may be on its way to the log from a lost connection.
            _ => (ReasonCode::PacketIdentifierNotFound, true),
        }
    }

    /// Whether a QoS 2 PUBLISH with this Packet Identifier came before and is not released: a repetition.
    pub(crate) fn has_received(&self, packet_id: PacketId) -> bool {
        let received = self.deliveries.as_ref().map(|deliveries| &deliveries.received);
        received.is_some_and(|received| {
            let may_be_there = received.last().is_some_and(|last| last.packet_id >= packet_id.get());
            may_be_there && place_of(received, packet_id).is_ok()
        })
    }

    /// Notes a QoS 2 Packet Identifier of the client until PUBREL, and whether the log has it.
    pub(crate) fn record_received(&mut self, turn: &mut Turn<'_>, packet_id: PacketId, is_recorded: bool) {
        let received = Received { packet_id: packet_id.get(), is_recorded };
        match &mut self.deliveries {
            // Nothing grows that has to be noted.
            Some(deliveries) if deliveries.received.len() < deliveries.received.capacity() => {
                insert_received(&mut deliveries.received, received);
            }
            _ => self.change_deliveries(turn.held_mut(), |deliveries| {
                insert_received(&mut deliveries.received, received);
            }),
        }
    }

    /// The place of a delivery in the window, its stage and its QoS.
    #[inline]
    fn stage_of(&self, packet_id: PacketId) -> Option<(usize, Stage, QoS)> {
        let window = &self.deliveries.as_ref()?.window;
        let (at, inflight) = window.find(packet_id)?;
        Some((at, inflight.stage(), inflight.grant().qos))
    }

    fn end_delivery(
        &mut self,
        turn: &mut Turn<'_>,
        messages: &mut MessageStore,
        at: usize,
        reason: ReasonCode,
    ) -> Acknowledged {
        let ended = self.deliveries.as_mut().and_then(|deliveries| deliveries.window.finish_at(at));
        let Some(inflight) = ended else { return Acknowledged::Already };
        self.settle(turn, inflight.delivery());
        if inflight.grant().heap_bytes() > 0 {
            let after = self.delivery_bytes();
            turn.held_mut().note_deliveries(after + inflight.grant().heap_bytes(), after);
        }
        match inflight.stage() {
            Stage::Publish(message) => messages.release(message),
            Stage::Release => {}
        }
        if reason.is_error() {
            self.ledger.count_dropped(turn.counters, &self.client_id, DropReason::Refused, 1);
        } else {
            self.ledger.count_delivered(turn.counters, 1);
        }
        Acknowledged::Ended { held_quota: inflight.holds_quota() }
    }
}

/// The place of an identifier in a sorted list, or the one that it would have.
#[inline]
fn place_of(received: &[Received], packet_id: PacketId) -> Result<usize, usize> {
    // Most are released in the order in which they came.
    if received.first().is_some_and(|first| first.packet_id == packet_id.get()) {
        return Ok(0);
    }
    received.binary_search_by_key(&packet_id.get(), |received| received.packet_id)
}

/// Adds an identifier that is not there to a sorted list.
fn insert_received(received: &mut Vec<Received>, new: Received) {
    // Most clients number upwards.
    if received.last().is_none_or(|last| last.packet_id < new.packet_id) {
        received.push(new);
        return;
    }
    let at = received.partition_point(|received| received.packet_id < new.packet_id);
    assert!(received.get(at).is_none_or(|received| received.packet_id != new.packet_id));
    received.insert(at, new);
}
