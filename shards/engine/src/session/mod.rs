//! The state that outlives a network connection: one session for each client identifier.
//!
//! Invariants: a session has at most one connection; while it has none and expires, its expiry timer runs; its will is
//! there until it is published or the client disconnects normally.

pub(crate) mod access;
mod acks;
mod checkpoint;
mod end;
mod enqueue;
pub(crate) mod grant;
pub(crate) mod inflight;
mod ledger;
mod owing;
mod portable;
mod queue;
mod recorded;
pub(crate) mod recovered;
mod redeliver;
pub(crate) mod replays;
pub(crate) mod snapshot;
pub(crate) mod table;
pub(crate) mod user;
pub(crate) mod user_changes;
pub(crate) mod will;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU64;

use compact_str::CompactString;
use wire::{PacketId, QoS};

use crate::base::heap;
use crate::base::ids::{ConnectionId, MessageKey};
use crate::base::time::Instant;
use crate::base::timer_wheel::TimerId;
use crate::counters::{Counters, DropReason};
use crate::limits::Limits;
use crate::memory::Held;
use crate::message::stored::MessageStore;
use crate::timer::Timers;
use crate::topic::groups::GroupTag;
use crate::topic::subscriptions::SubscriptionList;
use crate::turn::Turn;

use access::Access;
use grant::Grant;
use inflight::{Stage, Window};
use ledger::Ledger;
use queue::Queue;
use replays::Replays;
use snapshot::SessionExpiry;
use will::Will;

pub(crate) use acks::Acknowledged;

/// The Session Expiry Interval of a session that never expires [MQTT-3.1.2.11.2].
pub(crate) const NEVER_S: u32 = u32::MAX;

/// Everything that a session still has to deliver or to complete.
#[derive(Debug, Default)]
struct Deliveries {
    /// The queue is full, for which the session ends as soon as a step has time.
    is_condemned: bool,
    window: Window,
    queue: Queue,
    /// QoS 2 Packet Identifiers of the client between PUBLISH and PUBREL, sorted [MQTT-4.3.3-10].
    received: Vec<Received>,
    /// The number of the next delivery of QoS 1 or 2.
    next_delivery: u64,
    /// The number of the session in the log; `None` if it is not there.
    number: Option<NonZeroU64>,
    /// Deliveries of QoS 2 below are durable, or need not be.
    durable_below: u64,
    /// It ends with its connection, and the log owes messages that it has to groups.
    owing: Option<Box<Owing>>,
}

/// The owed messages that a session has. Deliveries are named by their place in its sequence.
#[derive(Debug)]
struct Owing {
    /// Names the session in the log, where nothing else is known of it.
    number: NonZeroU64,
    /// Messages of the deliveries below are durable.
    recorded_below: u64,
    /// Of the deliveries of QoS 2 below, SETTLED is recorded.
    cleared_below: u64,
}

/// A QoS 2 Packet Identifier of the client between PUBLISH and PUBREL.
#[derive(Clone, Copy, Debug)]
struct Received {
    packet_id: u16,
    /// The log has it.
    is_recorded: bool,
}

impl Deliveries {
    /// Nothing waits to be sent: the next message may go out at once without overtaking one.
    fn has_no_backlog(&self) -> bool {
        self.queue.is_empty() && !self.window.has_resend()
    }

    /// Bytes that it takes, without its messages.
    fn heap_bytes(&self) -> u64 {
        heap::block(size_of::<Self>())
            + self.window.heap_bytes()
            + self.queue.heap_bytes()
            + heap::block(self.received.capacity() * size_of::<Received>())
            + self.owing_bytes()
    }

    /// No state is left, so all of it can be forgotten.
    fn is_empty(&self) -> bool {
        self.log_number().is_none()
            && self.window.count() == 0
            && self.has_no_backlog()
            && self.received.is_empty()
    }

    /// Numbers one more delivery.
    fn number_delivery(&mut self) -> u64 {
        let delivery = self.next_delivery;
        self.next_delivery += 1;
        delivery
    }

    fn start(&mut self, stage: Stage, grant: Grant) -> PacketId {
        let delivery = self.number_delivery();
        self.window.start(delivery, stage, grant)
    }
}

/// **Lives on:** the shard of its client identifier. **Sees:** nothing of other sessions.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
pub(crate) struct Session {
    client_id: CompactString,
    /// The connection that serves it; `None` while offline.
    connection: Option<ConnectionId>,
    subscriptions: SubscriptionList,
    /// Seconds it outlives its connection; 0 ends with it, [`NEVER_S`] never.
    expiry_interval_s: u32,
    /// Set while offline, unless it never expires.
    expiry_timer: Option<TimerId>,
    will: Option<Box<Will>>,
    /// From the first QoS 1 or 2 message on, until nothing is left of it.
    deliveries: Option<Box<Deliveries>>,
    replays: Option<Box<Replays>>,
    access: Option<Box<Access>>,
    /// Nothing is delivered to it any more, and what it holds is being given up.
    has_ended: bool,
    /// Rules may keep messages of its subscriptions from it, so each is looked at.
    is_checked: bool,
    /// It waits in the list of sessions whose replays go on.
    replay_scheduled: bool,
    /// It waits in the list of sessions whose pending messages a step had no time for.
    pending_deferred: bool,
    ledger: Ledger,
    /// The publish that matched it last, and its position in the list of matches: overlapping subscriptions become
    /// one delivery.
    matched_sequence: u64,
    matched_at: u32,
}

// Two cache lines without its slot: a message passes the sessions of its publisher and of each receiver.
const _: () = assert!(size_of::<Session>() <= 128);

impl Session {
    fn new(client_id: CompactString) -> Self {
        Self {
            client_id,
            connection: None,
            subscriptions: SubscriptionList::EMPTY,
            expiry_interval_s: 0,
            expiry_timer: None,
            will: None,
            deliveries: None,
            replays: None,
            access: None,
            has_ended: false,
            is_checked: false,
            replay_scheduled: false,
            pending_deferred: false,
            ledger: Ledger::default(),
            matched_sequence: 0,
            matched_at: 0,
        }
    }

    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(crate) fn connection(&self) -> Option<ConnectionId> {
        self.connection
    }

    /// It outlives its connection, so its pending messages survive too.
    pub(crate) fn is_persistent(&self) -> bool {
        self.expiry_interval_s > 0
    }

    /// Its expiry at `now`. Time that has begun and not ended does not count as passed.
    pub(crate) fn expiry(&self, timers: &Timers, now: Instant) -> SessionExpiry {
        let interval_s = self.expiry_interval_s;
        let deadline = self.expiry_timer.and_then(|timer| timers.deadline(timer));
        assert!(deadline.is_some() == self.expiry_timer.is_some());
        let left_s = deadline.map_or(interval_s, |deadline| now.seconds_until(deadline));
        assert!(self.connection.is_none() || left_s == interval_s);
        SessionExpiry { interval_s, passed_s: interval_s.saturating_sub(left_s) }
    }

    pub(crate) fn subscriptions(&self) -> SubscriptionList {
        self.subscriptions
    }

    pub(crate) fn subscriptions_mut(&mut self) -> &mut SubscriptionList {
        &mut self.subscriptions
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// A message matched one of its subscriptions.
    pub(crate) fn count_match(&mut self, totals: &mut Counters) {
        self.ledger.count_match(totals);
    }

    pub(crate) fn count_delivered(&mut self, totals: &mut Counters, count: u32) {
        self.ledger.count_delivered(totals, count);
    }

    pub(crate) fn count_dropped(&mut self, totals: &mut Counters, reason: DropReason, count: u32) {
        self.ledger.count_dropped(totals, &self.client_id, reason, count);
    }

    /// Bytes of its queued messages, of what names them and those in flight, and of its will.
    pub(crate) fn debt_bytes(&self) -> u64 {
        let queued = self.deliveries.as_ref().map_or(0, |deliveries| deliveries.queue.message_bytes());
        queued + self.delivery_bytes() + self.will.as_ref().map_or(0, |will| will.bytes_held())
    }

    /// Its position among the matches of publish `sequence`, if it is one of them already.
    pub(crate) fn match_of(&self, sequence: u64) -> Option<usize> {
        (self.matched_sequence == sequence).then_some(self.matched_at as usize)
    }

    /// It is the match at position `at` of publish `sequence`.
    pub(crate) fn set_match(&mut self, sequence: u64, at: u32) {
        self.matched_sequence = sequence;
        self.matched_at = at;
    }

    pub(crate) fn queued_count(&self) -> usize {
        self.deliveries.as_ref().map_or(0, |deliveries| deliveries.queue.len())
    }

    pub(crate) fn inflight_count(&self) -> u16 {
        self.deliveries.as_ref().map_or(0, |deliveries| deliveries.window.count())
    }

    /// Whether a QoS 0 message would overtake another one that was queued while the client was absent [MQTT-4.6.0-5].
    pub(crate) fn has_queued_qos0(&self) -> bool {
        self.deliveries.as_ref().is_some_and(|deliveries| deliveries.queue.qos0_count() > 0)
    }

    /// Whether a QoS 1 or 2 message may go out at once: nothing waits before it and the window has room.
    pub(crate) fn may_send_now(&self, limits: &Limits) -> bool {
        self.deliveries.as_ref().is_none_or(|deliveries| {
            deliveries.has_no_backlog()
                && deliveries.window.has_room_for(deliveries.next_delivery, limits.inflight_max)
        })
    }

    pub(crate) fn has_backlog(&self) -> bool {
        self.deliveries.as_ref().is_some_and(|deliveries| !deliveries.has_no_backlog())
    }

    /// Whether one more message may be queued, unless it is a very large one.
    pub(crate) fn has_queue_room(&self, limits: &Limits) -> bool {
        self.deliveries.as_ref().is_none_or(|deliveries| deliveries.queue.has_room(limits))
    }

    /// Takes a Packet Identifier for a message that is sent now; the window has room. The window does not hold the
    /// message: the caller does so on its behalf.
    pub(crate) fn start_inflight(
        &mut self,
        turn: &mut Turn<'_>,
        message: MessageKey,
        grant: Grant,
    ) -> PacketId {
        assert!(self.inflight_count() < turn.limits.inflight_max);
        let stage = Stage::Publish(message);
        if let Some(deliveries) = &mut self.deliveries
            && deliveries.window.has_slot_for(&grant)
        {
            return deliveries.start(stage, grant);
        }
        self.change_deliveries(turn.held_mut(), |deliveries| deliveries.start(stage, grant))
    }

    /// Gives a Packet Identifier back whose message could not be sent.
    pub(crate) fn cancel_inflight(&mut self, turn: &mut Turn<'_>, packet_id: PacketId) {
        let cancelled =
            self.change_deliveries(turn.held_mut(), |deliveries| deliveries.window.finish(packet_id));
        assert!(cancelled.is_some());
    }

    /// Changes the deliveries, which begin with the first change, and notes by how much they grow or shrink.
    fn change_deliveries<R>(&mut self, held: &mut Held, change: impl FnOnce(&mut Deliveries) -> R) -> R {
        let before = self.delivery_bytes();
        let deliveries = self.deliveries.get_or_insert_default();
        let result = change(deliveries);
        let after = deliveries.heap_bytes();
        if before != after {
            held.note_deliveries(before, after);
        }
        result
    }

    /// Bytes of its deliveries, without their messages.
    fn delivery_bytes(&self) -> u64 {
        self.deliveries.as_ref().map_or(0, |deliveries| deliveries.heap_bytes())
    }

    /// Notes by how much its replays have grown or shrunk, and forgets them if nothing is left of them.
    pub(crate) fn note_replays(&mut self, held: &mut Held) {
        if let Some(replays) = &mut self.replays {
            let (before, after) = replays.note();
            held.note_replays(before, after);
            if replays.is_done() {
                self.forget_replays(held);
            }
        }
    }

    /// Forgets its replays, whatever is left of them.
    fn forget_replays(&mut self, held: &mut Held) {
        if let Some(replays) = self.replays.take() {
            held.note_replays(replays.noted_bytes(), 0);
        }
    }

    /// Bytes that it takes beside its slot: its identifier, if that is a long one.
    fn identifier_bytes(&self) -> u64 {
        heap::text(&self.client_id)
    }

    /// The retained replays under way.
    pub(crate) fn replays(&self) -> Option<&Replays> {
        self.replays.as_deref()
    }

    pub(crate) fn replays_mut(&mut self) -> Option<&mut Replays> {
        self.replays.as_deref_mut()
    }

    pub(crate) fn replays_or_new(&mut self) -> &mut Replays {
        self.replays.get_or_insert_default()
    }

    /// Notes that its replays are in a list of those that go on; `false` if they are in one already.
    pub(crate) fn schedule_replays(&mut self) -> bool {
        !core::mem::replace(&mut self.replay_scheduled, true)
    }

    /// Whether its replays are in a list of those that go on.
    pub(crate) fn is_replay_scheduled(&self) -> bool {
        self.replay_scheduled
    }

    /// Its replays were taken out of that list.
    pub(crate) fn unschedule_replays(&mut self) {
        assert!(self.replay_scheduled);
        self.replay_scheduled = false;
    }

    /// Notes that its pending messages wait for the next step; `false` if they do already.
    pub(crate) fn defer_pending(&mut self) -> bool {
        !core::mem::replace(&mut self.pending_deferred, true)
    }

    /// Its pending messages are served again.
    pub(crate) fn resume_pending(&mut self) {
        assert!(self.pending_deferred);
        self.pending_deferred = false;
    }

    /// Whether its pending messages wait for the next step, for an audit.
    pub(crate) fn is_pending_deferred(&self) -> bool {
        self.pending_deferred
    }

    /// Messages in flight that hold send quota of the connection, for an audit.
    pub(crate) fn quota_held(&self) -> usize {
        self.deliveries.as_ref().map_or(0, |deliveries| deliveries.window.quota_held())
    }

    /// Groups by which it holds something, for an audit.
    pub(crate) fn groups(&self) -> impl Iterator<Item = GroupTag> + '_ {
        let deliveries = self.deliveries.iter();
        deliveries.flat_map(|deliveries| {
            let inflight = deliveries.window.iter().filter_map(|inflight| inflight.grant().group);
            inflight.chain(deliveries.queue.iter().filter_map(|queued| queued.grant.group))
        })
    }

    /// Messages it holds, in flight and queued.
    pub(crate) fn messages(&self) -> impl Iterator<Item = MessageKey> + '_ {
        let deliveries = self.deliveries.iter();
        deliveries.flat_map(|deliveries| {
            let inflight = deliveries.window.iter().filter_map(|inflight| match inflight.stage() {
                Stage::Publish(message) => Some(message),
                Stage::Release => None,
            });
            inflight.chain(deliveries.queue.iter().map(|queued| queued.message))
        })
    }

    /// Timers it has set, for an audit.
    pub(crate) fn timer_count(&self) -> u32 {
        let will_timer = self.will.as_ref().and_then(|will| will.timer());
        u32::from(self.expiry_timer.is_some()) + u32::from(will_timer.is_some())
    }

    /// Recomputes its own counts, for an audit.
    ///
    /// # Panics
    /// If one of them is wrong, or the ledger does not allow for what it holds.
    pub(crate) fn check(&self, messages: &MessageStore) {
        if let Some(deliveries) = &self.deliveries {
            deliveries.queue.check(messages);
            deliveries.window.check(deliveries.next_delivery);
            deliveries.queue.check_deliveries(deliveries.next_delivery, &deliveries.window);
            self.check_owing();
            assert!(deliveries.received.is_sorted_by_key(|received| received.packet_id));
        }
        assert!(self.connection.is_none() || self.expiry_timer.is_none());
        if self.has_ended {
            assert!(self.connection.is_none() && self.expiry_timer.is_none() && self.will.is_none());
        } else {
            let expires = self.expiry_interval_s != NEVER_S;
            assert!(self.connection.is_some() || self.expiry_timer.is_some() == expires);
        }
        let will_timer = self.will.as_ref().and_then(|will| will.timer());
        assert!(self.connection.is_none() || will_timer.is_none());
        if let Some(replays) = &self.replays {
            replays.check();
        }
    }
}

/// The moment an interval of the protocol ends; `None` if it never does.
fn interval_end(now: Instant, interval_s: u32) -> Option<Instant> {
    (interval_s != NEVER_S).then(|| now.plus_s(interval_s))
}

/// Whether a delivery of this QoS is tracked until it is acknowledged.
pub(crate) fn is_tracked(qos: QoS) -> bool {
    qos != QoS::AtMostOnce
}
