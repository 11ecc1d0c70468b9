//! A session as an object of a checkpoint: the records that bring it back as it is.

use alloc::vec::Vec;
use core::num::NonZeroU64;

use super::grant::Grant;
use super::inflight::Stage;
use super::replays::{Cursor, Replays};
use super::{Deliveries, Session, is_tracked};
use crate::base::time::Instant;
use crate::message::stored::MessageStore;
use crate::record::{Body, DeliveryBody, LookedUp, Numbers, Objects, Terms, put_number};
use crate::timer::Timers;
use crate::topic::groups::GroupTag;

impl Session {
    /// Appends the record of the session itself. It is attached by that.
    pub(crate) fn append_session(&self, objects: &mut Objects<'_>, number: NonZeroU64, user: &str) {
        objects.write(&Body::Session {
            number: number.get(),
            client_id: &self.client_id,
            user,
            expiry_interval_s: self.expiry_interval_s,
            will: self.will_number(),
        });
    }

    /// Appends its will.
    pub(crate) fn append_will(&self, objects: &mut Objects<'_>, user: &str) {
        if let Some(body) = self.will.as_ref().and_then(|will| will.body(user)) {
            objects.write(&body);
        }
    }

    /// Appends everything that it has to deliver or to complete, and that it has no connection if that is so. `key_of` returns the
    /// key of a group.
    pub(crate) fn append_deliveries(
        &self,
        objects: &mut Objects<'_>,
        messages: &MessageStore,
        (timers, now): (&Timers, Instant),
        key_of: impl Fn(GroupTag) -> u64,
    ) {
        let Some(deliveries) = self.deliveries.as_deref() else { return };
        let Some(number) = deliveries.number else { return };
        let Deliveries { window, queue, received, next_delivery, .. } = deliveries;
        let session = number.get();
        let is_owed = |grant: &Grant, delivery| {
            deliveries.owing.as_ref().is_some_and(|owing| owing.owes(grant, delivery))
        };
        for inflight in window.iter() {
            let (delivery, grant) = (inflight.delivery(), inflight.grant());
            match inflight.stage() {
                Stage::Release => objects.write(&Body::Received { session, delivery }),
                // A group is owed it.
                Stage::Publish(_) if is_owed(grant, delivery) => {}
                Stage::Publish(message) => {
                    let former = window.former_group(inflight.packet_id());
                    let group = former.or_else(|| grant.group.map(&key_of));
                    let content = messages.view(message).content();
                    with_body((session, delivery), grant, group, |body| {
                        objects.write_delivery(body, content);
                    });
                }
            }
        }
        // Only those before may have been sent.
        if self.connection.is_none() {
            let at_ms = self.detached_at(timers, now).as_ms();
            objects.write(&Body::Detached { session, at_ms });
        }
        for queued in queue.iter().filter(|queued| is_tracked(queued.grant.qos)) {
            if is_owed(&queued.grant, queued.delivery(*next_delivery)) {
                continue;
            }
            let group = queued.grant.group.map(&key_of);
            let content = messages.view(queued.message).content();
            let of = (session, queued.delivery(*next_delivery));
            with_body(of, &queued.grant, group, |body| {
                objects.write_delivery(body, content);
            });
        }
        for received in received.iter().filter(|received| received.is_recorded) {
            objects.write(&Body::Accepted { session, packet_id: received.packet_id });
        }
        objects.write(&Body::Numbered { session, next_delivery: *next_delivery });
    }

    /// The publish since which retained messages are owed to a subscription, if there are any.
    pub(crate) fn look_up_of(&self, filter: &str) -> Option<u64> {
        self.replays().and_then(|replays| replays.progress(filter)).map(|(since, ..)| since)
    }

    /// The publish since which retained messages are owed to a subscription once more.
    pub(crate) fn repeated_look_up_of(&self, filter: &str) -> Option<u64> {
        self.replays().and_then(|replays| replays.repeat_since(filter))
    }

    /// Appends how far the retained messages of a subscription were delivered.
    pub(crate) fn append_look_up(&self, objects: &mut Objects<'_>, number: NonZeroU64, filter: &str) {
        let progress = self.replays().and_then(|replays: &Replays| replays.progress(filter));
        let Some((_, shards, cursor)) = progress else { return };
        let (first, target) = shards;
        let session = number.get();
        let (shard, cursor) = match cursor {
            Cursor::Start if target == first => return,
            // The store before is done.
            Cursor::Start => (target - 1, LookedUp::Done),
            Cursor::At(topic) => (target, LookedUp::At(topic)),
            Cursor::After(topic) => (target, LookedUp::After(topic)),
            Cursor::Done => (target, LookedUp::Done),
        };
        objects.write(&Body::LookedUp { session, filter, shard, cursor });
    }

    /// When it lost its connection, as far as anything depends on that.
    fn detached_at(&self, timers: &Timers, now: Instant) -> Instant {
        let began = |deadline: Instant, interval_s: u32| {
            Instant::from_ms(deadline.as_ms().saturating_sub(u64::from(interval_s) * 1_000))
        };
        let expiry = self.expiry_timer.and_then(|timer| timers.deadline(timer));
        let will = self.will.as_ref().and_then(|will| Some((will.timer()?, will.delay_interval_s())));
        let will = will.and_then(|(timer, delay_s)| Some(began(timers.deadline(timer)?, delay_s)));
        expiry.map(|deadline| began(deadline, self.expiry_interval_s)).or(will).unwrap_or(now)
    }
}

/// Calls `write` with the record of a delivery.
fn with_body(of: (u64, u64), grant: &Grant, group: Option<u64>, write: impl FnOnce(&DeliveryBody<'_>)) {
    let mut identifiers = Vec::new();
    for identifier in grant.identifiers.as_slice() {
        put_number(&mut identifiers, identifier.get().into());
    }
    let terms = Terms::new(grant.retain, group, Numbers::of(&identifiers));
    write(&DeliveryBody::new(of, grant.qos, terms));
}
