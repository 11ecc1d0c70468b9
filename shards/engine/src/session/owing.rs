//! Deliveries to a session that ends with its connection, of messages that the log owes to a group: another member has a session that
//! lasts, and gets them if this one has not had them when the process ends.
//!
//! Invariants: with the acknowledgement of QoS 1 it is owed no more. QoS 2 may not go to a second member once it was sent [MQTT-4.8.2-5],
//! so it is **cleared** before: SETTLED is durable when its PUBLISH leaves.

use alloc::boxed::Box;
use core::num::NonZeroU64;

use wire::QoS;

use super::grant::Grant;
use super::inflight::Stage;
use super::{Deliveries, Owing, Session, is_tracked};
use crate::base::heap;
use crate::message::stored::MessageStore;
use crate::record::{DeliveryBody, Numbers, Objects, Terms};
use crate::topic::groups::GroupTag;
use crate::turn::Turn;

impl Owing {
    /// Whether a delivery with these terms is owed to a group.
    pub(super) fn owes(&self, grant: &Grant, delivery: u64) -> bool {
        let is_cleared = grant.qos == QoS::ExactlyOnce && delivery < self.cleared_below;
        grant.group.is_some() && !is_cleared
    }
}

impl Deliveries {
    /// The number by which the log knows deliveries of the session.
    pub(super) fn log_number(&self) -> Option<NonZeroU64> {
        self.number.or_else(|| self.owing.as_ref().map(|owing| owing.number))
    }

    pub(super) fn owing_bytes(&self) -> u64 {
        self.owing.as_ref().map_or(0, |_| heap::block(size_of::<Owing>()))
    }
}

impl Session {
    /// The log owes the next message of a group that it has to the group. With the first one it gets a number for that.
    pub(crate) fn begin_owing(&mut self, turn: &mut Turn<'_>) {
        assert!(self.recorded_number().is_none());
        if self.is_owing() {
            return;
        }
        let number = self.number().or_else(|| Some(turn.recorder()?.next_number()));
        let Some(number) = number else { return };
        self.change_deliveries(turn.held_mut(), |deliveries| {
            let next = deliveries.next_delivery;
            deliveries.durable_below = next;
            deliveries.owing = Some(Box::new(Owing { number, recorded_below: next, cleared_below: next }));
        });
    }

    /// Whether the log owes its messages to groups.
    #[inline]
    pub(crate) fn is_owing(&self) -> bool {
        self.deliveries.as_ref().is_some_and(|deliveries| deliveries.owing.is_some())
    }

    /// The number by which the log knows its deliveries that are owed to groups.
    pub(crate) fn owing_number(&self) -> Option<NonZeroU64> {
        Some(self.deliveries.as_ref()?.owing.as_ref()?.number)
    }

    /// Whether QoS 2 is sent to it only once a record is durable.
    #[inline]
    pub(crate) fn holds_exactly_once(&self) -> bool {
        self.recorded_number().is_some() || self.is_owing()
    }

    /// The messages of its deliveries up to this one are durable.
    pub(super) fn owed_is_durable(&mut self, delivery: u64) {
        if let Some(owing) = self.deliveries.as_mut().and_then(|deliveries| deliveries.owing.as_mut()) {
            owing.recorded_below = owing.recorded_below.max(delivery + 1);
        }
    }

    /// Records that the next deliveries of QoS 2 are owed to nobody else, as many as may be sent. Returns the last one: up to it they are
    /// sent once that is durable.
    pub(crate) fn clear_next(&mut self, turn: &mut Turn<'_>, send_quota: u16) -> Option<u64> {
        let Deliveries { queue, next_delivery, owing, .. } = &mut **self.deliveries.as_mut()?;
        let owing = owing.as_mut()?;
        let mut last = None;
        for queued in queue.iter().take(send_quota.into()) {
            if queued.grant.qos != QoS::ExactlyOnce {
                continue;
            }
            let delivery = queued.delivery(*next_delivery);
            if delivery >= owing.recorded_below {
                break;
            }
            if delivery >= owing.cleared_below {
                owing.cleared_below = delivery + 1;
                last = Some(delivery);
                turn.recorder()?.settled(owing.number, delivery);
            }
        }
        assert!(owing.cleared_below <= owing.recorded_below);
        last
    }

    /// Everything up to this delivery is cleared for certain: it may be sent.
    pub(crate) fn clearing_is_durable(&mut self, delivery: u64) {
        if let Some(deliveries) = self.deliveries.as_mut().filter(|deliveries| deliveries.owing.is_some()) {
            deliveries.durable_below = deliveries.durable_below.max(delivery + 1);
        }
    }

    /// Appends the deliveries that are owed to groups, as objects of a checkpoint. `key_of` returns the key of a group.
    pub(crate) fn append_owed_deliveries(
        &self,
        objects: &mut Objects<'_>,
        messages: &MessageStore,
        key_of: impl Fn(GroupTag) -> u64,
    ) {
        let Some(deliveries) = self.deliveries.as_deref() else { return };
        let Deliveries { window, queue, next_delivery, owing: Some(owing), .. } = deliveries else { return };
        let mut write = |delivery, message, qos, key| {
            let content = messages.view(message).content();
            let terms = Terms::new(false, Some(key), Numbers::default()).owed();
            objects.write_delivery(&DeliveryBody::new((owing.number.get(), delivery), qos, terms), content);
        };
        for inflight in window.iter() {
            let former = window.former_group(inflight.packet_id());
            if let (Stage::Publish(message), Some(key)) =
                (inflight.stage(), former.or_else(|| inflight.grant().group.map(&key_of)))
            {
                write(inflight.delivery(), message, inflight.grant().qos, key);
            }
        }
        for queued in queue.iter().filter(|queued| is_tracked(queued.grant.qos)) {
            let (delivery, grant) = (queued.delivery(*next_delivery), &queued.grant);
            if let Some(group) = grant.group.filter(|_| owing.owes(grant, delivery)) {
                write(delivery, queued.message, grant.qos, key_of(group));
            }
        }
    }

    /// Checks what is known of its owed messages, for an audit.
    ///
    /// # Panics
    /// If some of it is wrong.
    pub(super) fn check_owing(&self) {
        let Some(Deliveries { durable_below, next_delivery, owing: Some(owing), .. }) =
            self.deliveries.as_deref()
        else {
            return;
        };
        assert!(*durable_below <= owing.cleared_below && owing.cleared_below <= owing.recorded_below);
        assert!(owing.recorded_below <= *next_delivery);
    }
}
