//! A session as its log left it.
//!
//! A delivery that may have been sent before stands in the window, and is sent again with the flag for it; the others wait in the
//! queue. The log has no record of sending: the first messages of a session that was attached since may have been sent, as many as
//! its window takes.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::num::NonZeroU64;

use wire::QoS;

use super::grant::{Grant, Identifiers};
use super::inflight::{Stage, Window, have_own_ids};
use super::{Received, Session, interval_end};
use crate::base::ids::{MessageKey, SessionId};
use crate::base::time::Instant;
use crate::message::stored::MessageStore;
use crate::timer::Timer;
use crate::topic::groups::GroupTag;
use crate::turn::Turn;

/// A start numbers deliveries on from so far behind the last, because those that were sent and not recorded are lost: a late
/// acknowledgement of one must not meet another message.
const DELIVERIES_SKIPPED_MAX: u16 = 32_767;

/// A delivery that has not ended.
#[derive(Debug)]
struct RecoveredDelivery {
    delivery: u64,
    /// `None` once PUBREC came. It is held.
    message: Option<MessageKey>,
    grant: Grant,
    /// The key of the group by which it came.
    group: Option<u64>,
}

/// Everything that a session has to deliver or to complete, while its log is read.
#[derive(Debug)]
pub(crate) struct RecoveredDeliveries {
    number: NonZeroU64,
    /// In the order of their numbers.
    deliveries: VecDeque<RecoveredDelivery>,
    next_delivery: u64,
    /// Deliveries below may have been sent.
    exposed_below: u64,
    /// QoS 2 Packet Identifiers of the client between PUBLISH and PUBREL.
    received: Vec<u16>,
}

impl RecoveredDeliveries {
    pub(crate) const fn new(number: NonZeroU64) -> Self {
        Self { number, deliveries: VecDeque::new(), next_delivery: 0, exposed_below: 0, received: Vec::new() }
    }

    /// Its client came: everything may be sent from now on.
    pub(crate) fn attach(&mut self) {
        self.exposed_below = u64::MAX;
    }

    /// Its client has gone.
    pub(crate) fn detach(&mut self) {
        self.exposed_below = self.next_delivery;
    }

    /// Adds a delivery, which takes over the hold of its message; `false` if it is not behind all others.
    pub(crate) fn add(
        &mut self,
        delivery: u64,
        message: MessageKey,
        (qos, retain, group): (QoS, bool, Option<u64>),
        identifiers: Identifiers,
    ) -> bool {
        if delivery < self.next_delivery || delivery == u64::MAX {
            return false;
        }
        self.next_delivery = delivery + 1;
        let grant = Grant { qos, retain, group: None, identifiers };
        self.deliveries.push_back(RecoveredDelivery { delivery, message: Some(message), grant, group });
        true
    }

    fn find(&self, delivery: u64) -> Option<usize> {
        self.deliveries.binary_search_by_key(&delivery, |left| left.delivery).ok()
    }

    /// Takes out a delivery that has ended: its message, which the caller holds then, and the key of the group by which it came.
    pub(crate) fn take(&mut self, delivery: u64) -> Option<(Option<MessageKey>, Option<u64>)> {
        let at = self.find(delivery)?;
        let left = self.deliveries.remove(at)?;
        Some((left.message, left.group))
    }

    /// PUBREC came for a delivery. Returns its message, which the caller holds then. An object of a checkpoint is the delivery itself.
    pub(crate) fn receive(&mut self, delivery: u64, is_object: bool) -> Option<MessageKey> {
        if is_object && delivery >= self.next_delivery && delivery < u64::MAX {
            self.next_delivery = delivery + 1;
            let identifiers = Identifiers::None;
            let grant = Grant { qos: QoS::ExactlyOnce, retain: false, group: None, identifiers };
            self.deliveries.push_back(RecoveredDelivery { delivery, message: None, grant, group: None });
            return None;
        }
        let at = self.find(delivery)?;
        self.deliveries.get_mut(at)?.message.take()
    }

    /// Its next delivery has this number at least.
    pub(crate) fn number_from(&mut self, next_delivery: u64) {
        self.next_delivery = self.next_delivery.max(next_delivery);
    }

    /// A QoS 2 message of the client came.
    pub(crate) fn record_received(&mut self, packet_id: u16) {
        self.received.push(packet_id);
    }

    /// PUBREL of the client came.
    pub(crate) fn release_received(&mut self, packet_id: u16) {
        self.received.retain(|&received| received != packet_id);
    }

    /// Messages that it holds.
    pub(crate) fn messages(&self) -> impl Iterator<Item = MessageKey> {
        self.deliveries.iter().filter_map(|left| left.message)
    }

    /// Keys of the groups by which its messages came.
    pub(crate) fn groups(&self) -> impl Iterator<Item = u64> {
        self.deliveries.iter().filter_map(|left| left.group)
    }
}

impl Session {
    /// Takes in everything that it had to deliver; `tag_of` names the groups that it is a member of, by their keys.
    pub(crate) fn recover_deliveries(
        &mut self,
        turn: &mut Turn<'_>,
        messages: &mut MessageStore,
        recovered: RecoveredDeliveries,
        tag_of: impl Fn(u64) -> Option<GroupTag>,
    ) {
        assert!(self.deliveries.is_none() && self.connection.is_none());
        let RecoveredDeliveries { number, mut deliveries, next_delivery, exposed_below, mut received } =
            recovered;
        self.ledger.count_matches(turn.counters, deliveries.len());
        received.sort_unstable();
        received.dedup();
        let window_count = window_count(&deliveries, exposed_below, turn.limits.inflight_max);
        let skipped = turn.limits.inflight_max.min(DELIVERIES_SKIPPED_MAX);
        self.change_deliveries(turn.held_mut(), |own| {
            own.number = Some(number);
            own.next_delivery = next_delivery + u64::from(skipped);
            // All of them are read from the log.
            own.durable_below = own.next_delivery;
            let received = received.into_iter();
            own.received = received.map(|packet_id| Received { packet_id, is_recorded: true }).collect();
            for delivery in deliveries.drain(..window_count) {
                recover_in_flight(&mut own.window, delivery, &tag_of);
            }
            for RecoveredDelivery { delivery, message, grant, group } in deliveries {
                let Some(message) = message else { continue };
                let group = group.and_then(&tag_of);
                own.queue.push(messages, message, Grant { group, ..grant }, delivery);
                // The queue holds it.
                messages.release(message);
            }
            own.window.rewind();
        });
    }

    /// It goes on offline as it has since a moment: its expiry runs, and the delay of its will. Returns whether that is due.
    pub(crate) fn resume_offline(&mut self, turn: &mut Turn<'_>, id: SessionId, since: Instant) -> bool {
        assert!(self.connection.is_none() && self.expiry_timer.is_none());
        let deadline = interval_end(since, self.expiry_interval_s);
        self.expiry_timer = deadline.map(|deadline| turn.timers.insert(deadline, Timer::SessionExpiry(id)));
        self.delay_will(turn, id, since)
    }

    /// The log has this interval.
    pub(crate) fn set_expiry_interval(&mut self, interval_s: u32) {
        assert!(self.connection.is_none() && self.expiry_timer.is_none());
        self.expiry_interval_s = interval_s;
    }
}

/// How many deliveries belong into the window: those that may have been sent, and everything before one that was. As in the process
/// that ended, no two of them have one packet identifier: later ones wait until the oldest is acknowledged.
fn window_count(deliveries: &VecDeque<RecoveredDelivery>, exposed_below: u64, inflight_max: u16) -> usize {
    let exposed = deliveries.partition_point(|delivery| delivery.delivery < exposed_below);
    let released = deliveries.iter().rposition(|delivery| delivery.message.is_none());
    let oldest = deliveries.front().map_or(0, |first| first.delivery);
    let unique = deliveries.partition_point(|delivery| have_own_ids(oldest, delivery.delivery));
    // A released one was sent, and so were those before it, in a window that was sound.
    exposed.min(usize::from(inflight_max)).min(unique).max(released.map_or(0, |last| last + 1))
}

fn recover_in_flight(
    window: &mut Window,
    recovered: RecoveredDelivery,
    tag_of: impl Fn(u64) -> Option<GroupTag>,
) {
    let RecoveredDelivery { delivery, message, grant, group: key } = recovered;
    let stage = message.map_or(Stage::Release, Stage::Publish);
    let (group, qos) = (key.and_then(tag_of), grant.qos);
    let packet_id = window.start(delivery, stage, Grant { group, ..grant });
    if let Some(key) = key.filter(|_| group.is_none() && qos == QoS::AtLeastOnce) {
        window.set_former_group(packet_id, key);
    }
}
