//! The part of a session that its log has: its number there, the deliveries and identifiers that are recorded, and the ones that
//! wait until they are durable.
//!
//! Invariants: a session has a number from the first CONNECT by which it outlives its connection, until it ends; a delivery of
//! QoS 2 is sent, and PUBREL for it, only once the record of the step before is durable.

use alloc::vec::Vec;
use core::num::NonZeroU64;

use wire::{PacketId, QoS};

use super::inflight::{Inflight, Stage};
use super::queue::Queued;
use super::{Deliveries, Session, is_tracked};
use crate::memory::Held;
use crate::record::{Body, put_number};
use crate::topic::groups::GroupTag;
use crate::turn::Turn;

impl Deliveries {
    /// Gives up the allocations of a session whose number alone is left.
    pub(super) fn shrink_if_idle(&mut self) {
        let is_idle = self.window.count() == 0 && self.has_no_backlog() && self.received.is_empty();
        if self.log_number().is_some() && is_idle {
            let Self { next_delivery, number, durable_below, .. } = *self;
            let owing = self.owing.take();
            *self = Self { next_delivery, number, durable_below, owing, ..Self::default() };
        }
    }

    /// Whether a message of the queue waits until its record is durable.
    pub(super) fn is_held(&self, qos: QoS, delivery: u64) -> bool {
        self.log_number().is_some() && qos == QoS::ExactlyOnce && delivery >= self.durable_below
    }
}

impl Session {
    /// Its number in the log.
    #[inline]
    pub(crate) fn number(&self) -> Option<NonZeroU64> {
        self.deliveries.as_ref()?.number
    }

    /// Its number in the log, if that has its deliveries: one that ends with its connection ends with the process as well.
    #[inline]
    pub(crate) fn recorded_number(&self) -> Option<NonZeroU64> {
        self.number().filter(|_| self.is_persistent())
    }

    /// Whether the messages of a subscription with this QoS have to outlive the process.
    pub(crate) fn is_lasting(&self, qos: QoS) -> bool {
        self.is_persistent() && is_tracked(qos)
    }

    /// The log knows it from now on.
    pub(crate) fn set_number(&mut self, held: &mut Held, number: NonZeroU64) {
        assert!(self.number().is_none());
        self.change_deliveries(held, |deliveries| {
            deliveries.number = Some(number);
            deliveries.durable_below = deliveries.next_delivery;
        });
    }

    /// Seconds it outlives its connection.
    pub(crate) fn expiry_interval_s(&self) -> u32 {
        self.expiry_interval_s
    }

    /// Whether it has a will.
    pub(crate) fn has_will(&self) -> bool {
        self.will.is_some()
    }

    /// The number of its will in the log; 0 for none.
    pub(crate) fn will_number(&self) -> u64 {
        self.will.as_ref().and_then(|will| will.number()).unwrap_or(0)
    }

    /// Records its will, which `user` wrote. Returns whether there is one.
    pub(crate) fn record_will(&mut self, turn: &mut Turn<'_>, user: &str) -> bool {
        let Some(will) = &mut self.will else { return false };
        will.record(turn, user);
        true
    }

    /// The number of its next delivery of QoS 1 or 2.
    pub(crate) fn next_delivery(&self) -> u64 {
        self.deliveries.as_ref().map_or(0, |deliveries| deliveries.next_delivery)
    }

    /// Records the end of a delivery.
    #[inline]
    pub(super) fn settle(&self, turn: &mut Turn<'_>, delivery: u64) {
        if turn.is_recording() {
            self.settle_recorded(turn, delivery);
        }
    }

    #[cold]
    fn settle_recorded(&self, turn: &mut Turn<'_>, delivery: u64) {
        let number = self.deliveries.as_ref().and_then(|deliveries| deliveries.log_number());
        if let (Some(recorder), Some(number)) = (turn.recorder(), number) {
            recorder.settled(number, delivery);
        }
    }

    /// Gives a Packet Identifier back whose message will not be sent again.
    pub(crate) fn give_up_inflight(&mut self, turn: &mut Turn<'_>, packet_id: PacketId) {
        let window = self.deliveries.as_ref().map(|deliveries| &deliveries.window);
        let inflight = window.and_then(|window| window.get(packet_id));
        assert!(inflight.is_some());
        if let Some(delivery) = inflight.map(Inflight::delivery) {
            self.settle(turn, delivery);
        }
        self.cancel_inflight(turn, packet_id);
    }

    /// PUBREC came for the message at this place of the window. Returns its delivery if PUBREL has to wait until that is durable.
    #[inline]
    pub(super) fn record_pubrec(&mut self, turn: &mut Turn<'_>, at: usize) -> Option<u64> {
        let deliveries = self.deliveries.as_mut()?;
        let is_recorded = deliveries.number.is_some();
        let inflight = deliveries.window.at_mut(at)?;
        inflight.release(is_recorded);
        let delivery = inflight.delivery();
        if is_recorded { self.record_receipt(turn, delivery) } else { None }
    }

    #[cold]
    fn record_receipt(&self, turn: &mut Turn<'_>, delivery: u64) -> Option<u64> {
        let session = self.number()?.get();
        turn.recorder()?.write(&Body::Received { session, delivery });
        Some(delivery)
    }

    /// Records that the client may use a Packet Identifier for another message.
    #[cold]
    pub(crate) fn record_pubrel(&self, turn: &mut Turn<'_>, packet_id: PacketId) {
        if let (Some(recorder), Some(number)) = (turn.recorder(), self.number()) {
            recorder.write(&Body::Released { session: number.get(), packet_id: packet_id.get() });
        }
    }

    /// Whether PUBREL waits until PUBREC is durable.
    pub(super) fn is_release_held(&self, at: usize) -> bool {
        let window = self.deliveries.as_ref().map(|deliveries| &deliveries.window);
        window.and_then(|window| window.at(at)).is_some_and(Inflight::is_release_held)
    }

    /// The record of a delivery of QoS 2 is durable: it may be sent, or cleared.
    pub(crate) fn publish_is_durable(&mut self, delivery: u64) {
        if self.is_owing() && self.recorded_number().is_none() {
            self.owed_is_durable(delivery);
        } else if let Some(deliveries) = &mut self.deliveries {
            deliveries.durable_below = deliveries.durable_below.max(delivery + 1);
        }
    }

    /// The PUBREC of a delivery is durable. Returns the identifier of the PUBREL that may be sent now.
    pub(crate) fn pubrec_is_durable(&mut self, delivery: u64) -> Option<PacketId> {
        let window = &mut self.deliveries.as_mut()?.window;
        let packet_id = super::inflight::packet_id_of(delivery);
        let inflight = window.get_mut(packet_id).filter(|inflight| inflight.delivery() == delivery)?;
        inflight.let_release_go();
        Some(packet_id)
    }

    /// A PUBREL that waits until its PUBREC is durable is sent then, and not with those that are sent again.
    pub(super) fn pass_over_held_releases(&mut self) {
        let Some(deliveries) = &mut self.deliveries else { return };
        while let Some(packet_id) = deliveries.window.next_resend()
            && deliveries.window.get(packet_id).is_some_and(Inflight::is_release_held)
        {
            deliveries.window.pop_resend(packet_id);
        }
    }

    /// Appends the deliveries that its groups get back when it ends.
    pub(crate) fn append_owed(&self, out: &mut Vec<u8>) {
        let Some(deliveries) = &self.deliveries else { return };
        let Deliveries { window, queue, next_delivery, .. } = &**deliveries;
        let in_flight = window.iter().filter(|inflight| {
            let was_in_group = window.former_group(inflight.packet_id()).is_some();
            inflight.stage() != Stage::Release && (inflight.grant().group.is_some() || was_in_group)
        });
        in_flight.for_each(|inflight| put_number(out, inflight.delivery()));
        let queued = queue.iter().filter(|queued| queued.grant.group.is_some());
        queued.for_each(|queued| put_number(out, queued.delivery(*next_delivery)));
    }

    /// Appends the deliveries that wait in its queue because of a group.
    pub(crate) fn append_queued_of(&self, group: GroupTag, out: &mut Vec<u8>) {
        let Some(deliveries) = &self.deliveries else { return };
        let queued = deliveries.queue.iter().filter(|queued| queued.grant.group == Some(group));
        queued.for_each(|queued| put_number(out, queued.delivery(deliveries.next_delivery)));
    }
}

/// Records the end of a delivery that was taken out of the queue of a session.
pub(super) fn settle_queued(turn: &mut Turn<'_>, number: Option<NonZeroU64>, queued: &Queued, next: u64) {
    if let Some(recorder) = turn.recorder()
        && let Some(number) = number
        && is_tracked(queued.grant.qos)
    {
        recorder.settled(number, queued.delivery(next));
    }
}
