//! Look-ups of retained messages for new subscriptions, in slices: a million retained messages and a
//! `#` must not hold up a turn. A slice of another shard's store is asked for and answered over lanes.
//! Knows no SUBSCRIBE; it is told the filter and the options.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use bytes::Bytes;
use wire::packet::SubscribeOptions;
use wire::{SubscriptionId, TopicFilter};

use crate::base::hash::Keyed;
use crate::base::time::Instant;
use crate::engine::Engine;
use crate::event::Actions;
use crate::mesh::message::{ForwardedPublish, Origins, RequestId, ShardMessage};
use crate::message::stored::MessageKey;
use crate::publish::fan_out::{FanOut, LiveOrigin};
use crate::retained::store::Cursor;
use crate::retained::watermarks::{Origin, Watermarks};
use crate::session::inflight::{Grant, Identifiers};
use crate::session::table::SessionId;

/// Topics looked at in one slice.
const PAGE_TOPICS_MAX: usize = 1024;
/// Messages delivered in one slice.
pub(crate) const PAGE_MESSAGES_MAX: usize = 128;
/// Slices in one step, over all sessions.
const PAGES_PER_STEP_MAX: usize = 4;
/// Questions open at once towards one shard: each is answered by one slice, so what the answers add to
/// its lane towards us is bounded, too.
pub(crate) const REQUESTS_MAX: u32 = 8;

/// What a session's subscriptions are still owed of the retained stores.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    /// By filter, so that subscribing again finds what is under way; bounded by the subscriptions.
    waiting: BTreeMap<Box<str>, Replay>,
    /// Hash of a topic and shard of a publisher to the last live message of both that the session was sent
    /// meanwhile: what was published there before may not follow it [MQTT-4.6.0-5]. Messages of different
    /// shards have no order; and that one came live does not mean that an earlier one did. At most
    /// `Limits::replay_topics_max`, see [`Replays::record_live`].
    live: BTreeMap<(u64, u16), LiveOrigin>,
    /// Some were forgotten: what this shard retained later than a subscription counts as sent.
    has_overflowed: bool,
    /// The question to another shard that is open; one at a time.
    open_request: Option<OpenRequest>,
}

/// An open question.
#[derive(Debug)]
struct OpenRequest {
    number: u32,
    filter: Box<str>,
    /// More came live meanwhile than can be remembered: what is still to be answered may be older than that.
    is_overtaken: bool,
    /// The first topic of the answer that was discarded for that.
    discarded: Option<Box<str>>,
}

/// A subscription that is owed retained messages.
#[derive(Debug)]
struct Replay {
    options: SubscribeOptions,
    identifier: Option<SubscriptionId>,
    cursor: Cursor,
    since: Since,
    /// How often all is to be sent once more, since the client subscribed to the same filter meanwhile: each time
    /// everything is to be re-sent [MQTT-3.8.4-4]. Bounded: as many as 256 at once are owed what 255 are.
    again: u8,
    /// The last of these.
    repeat_since: Since,
    /// The shard whose store is looked at, the first one and the last.
    target: u16,
    first: u16,
    last: u16,
    /// The open question is about this look-up, not about one of the same filter that ended.
    is_requested: bool,
}

/// When a client subscribed.
#[derive(Clone, Copy, Debug)]
struct Since {
    /// The last publish before: later ones may have reached the session live.
    publish: u64,
    /// Announcements made until then: other stores are asked once all shards have taken them in.
    announced: u64,
}

/// A question of another shard.
#[derive(Debug)]
pub(crate) struct PageRequest {
    replay: RequestId,
    filter: Box<str>,
    cursor: Cursor,
    /// Updates that the answer has to count.
    required: Box<[Origin]>,
}

impl PageRequest {
    pub(crate) fn new(replay: RequestId, filter: &str, cursor: Cursor, required: Box<[Origin]>) -> Self {
        Self { replay, filter: filter.into(), cursor, required }
    }

    /// Whether everything that the answer has to count was taken in.
    pub(crate) fn is_ready(&self, watermarks: &Watermarks) -> bool {
        watermarks.has_applied(&self.required)
    }
}

impl Replays {
    /// Remembers a live message on its way to the session.
    ///
    /// At the bound all are forgotten. Without a question under way nothing is lost: the next question counts,
    /// by what it says is required, everything that came live before it. During one, the rest of the answer is
    /// discarded and asked for again. That ends: who is sent thousands of topics within the way of a question
    /// has no room for look-ups for long, and they wait until it has.
    pub(crate) fn record_live(&mut self, topic_hash: u64, live: LiveOrigin, topics_max: u32) {
        let key = (topic_hash, live.origin.shard);
        if let Some(known) = self.live.get_mut(&key) {
            // A message of a group may come late: it found its member on a second way.
            if known.origin.sequence <= live.origin.sequence {
                *known = live;
            }
            return;
        }
        if self.live.len() >= topics_max as usize {
            self.live.clear();
            self.has_overflowed = true;
            if let Some(open_request) = &mut self.open_request {
                open_request.is_overtaken = true;
            }
        }
        self.live.insert(key, live);
    }

    /// Whether the session was sent this retained message live, or a newer one. `retained_at` is of this
    /// shard's publish counter, none if another shard retains it.
    fn was_delivered_live(
        &self,
        hasher: &Keyed,
        topic: &str,
        subscribed_at: u64,
        origin: Origin,
        retained_at: Option<u64>,
    ) -> bool {
        match self.live.get(&(hasher.bytes(topic.as_bytes()), origin.shard)) {
            Some(live) => live.at > subscribed_at && live.origin.sequence >= origin.sequence,
            None => self.has_overflowed && retained_at.is_some_and(|at| at > subscribed_at),
        }
    }
}

impl Replay {
    /// One store is done: the next one's turn, or the first one's once more. `false` if nothing is left to do.
    fn advance(&mut self) -> bool {
        self.cursor = Cursor::Start;
        self.target += 1;
        if self.target > self.last && self.again > 0 {
            self.again -= 1;
            self.since = self.repeat_since;
            self.target = self.first;
        }
        self.target <= self.last
    }
}

impl Engine {
    pub(crate) fn start_replay(
        &mut self,
        id: SessionId,
        filter: &TopicFilter<'_>,
        options: SubscribeOptions,
        identifier: Option<SubscriptionId>,
    ) {
        let placement = self.mesh.placement;
        let (first, last) = if filter.has_wildcard() {
            (0, placement.shard_count - 1)
        } else {
            let home = placement.home_of_topic(filter.filter());
            (home, home)
        };
        let own_only = first == last && first == placement.own;
        if own_only && (self.retained.len() == 0 || self.retained.has_not(filter)) {
            return;
        }
        self.announce_changes();
        let since = Since { publish: self.publish_sequence, announced: self.mesh.announced };
        let session = self.delivery.sessions.get_mut(id.0).expect("the caller found it");
        let waiting = &mut session.replays.get_or_insert_default().waiting;
        if let Some(replay) = waiting.get_mut(filter.filter()) {
            replay.again = replay.again.saturating_add(1);
            replay.repeat_since = since;
            return;
        }
        let replay = Replay {
            options,
            identifier,
            cursor: Cursor::Start,
            since,
            again: 0,
            repeat_since: since,
            target: first,
            first,
            last,
            is_requested: false,
        };
        waiting.insert(filter.filter().into(), replay);
    }

    /// What is still to be sent for a filter is sent as the subscription says that replaced the one it began with.
    pub(crate) fn update_replay(
        &mut self,
        id: SessionId,
        filter: &TopicFilter<'_>,
        options: SubscribeOptions,
        identifier: Option<SubscriptionId>,
    ) {
        let session = self.delivery.sessions.get_mut(id.0).expect("the caller found it");
        let Some(replays) = &mut session.replays else { return };
        if let Some(replay) = replays.waiting.get_mut(filter.filter()) {
            replay.options = options;
            replay.identifier = identifier;
        }
    }

    /// Forgets the look-up of a filter that is subscribed to no more.
    pub(crate) fn cancel_replay(&mut self, id: SessionId, filter: &TopicFilter<'_>) {
        let session = self.delivery.sessions.get_mut(id.0).expect("the caller found it");
        if let Some(replays) = &mut session.replays
            && filter.share_name().is_none()
        {
            replays.waiting.remove(filter.filter());
        }
    }

    /// Lets the look-ups of a session go on if there is something to do and room for it.
    pub(crate) fn schedule_replays(&mut self, id: SessionId) {
        let Some(session) = self.delivery.sessions.get_mut(id.0) else { return };
        let may_go_on = session.replays.as_ref().is_some_and(|replays| replays.open_request.is_none());
        if may_go_on && !session.replay_scheduled {
            session.replay_scheduled = true;
            self.replays.push_back(id);
        }
    }

    /// Does a few slices, for the sessions in turn.
    pub(crate) fn run_replays(&mut self, now: Instant, actions: &mut Actions) {
        for _ in 0..PAGES_PER_STEP_MAX {
            let Some(id) = self.replays.pop_front() else { return };
            let Some(session) = self.delivery.sessions.get_mut(id.0) else { continue };
            session.replay_scheduled = false;
            if !self.has_replay_room(id) {
                // An acknowledgement, a sent outbox or a new connection schedules it again.
                continue;
            }
            self.replay_page(now, id, actions);
            self.schedule_replays(id);
        }
    }

    /// Retained messages come from a store that can wait, so they never fill a queue: half a box and all
    /// of the queue belong to what is published meanwhile.
    fn has_replay_room(&self, id: SessionId) -> bool {
        let limits = &self.delivery.limits;
        let session = self.delivery.sessions.get(id.0).expect("the caller found it");
        let Some(connection) = session.connection.and_then(|id| self.delivery.connections.get(id.0)) else {
            return false;
        };
        // Clients may take a retained message before SUBACK, and yet some are surprised by it.
        connection.is_open()
            && connection.awaiting_interest_count == 0
            && connection.outbox.bytes() * 2 < u64::from(limits.outbox_bytes_max)
            && session.queued_count() == 0
    }

    fn replay_page(&mut self, now: Instant, id: SessionId, actions: &mut Actions) {
        let session = self.delivery.sessions.get_mut(id.0).expect("the caller found it");
        let Some(replays) = &mut session.replays else { return };
        let Some((text, mut replay)) = replays.waiting.pop_first() else {
            session.replays = None;
            return;
        };
        if replay.target != self.mesh.placement.own {
            self.request(id, text, replay);
            return;
        }
        let Replay { options, identifier, since, .. } = replay;
        let hasher = self.delivery.hasher;
        let own = options.no_local.then(|| self.mesh.placement.publisher(&session.client_id)).flatten();
        let found = self.retained.page_of(
            &text,
            &mut replay.cursor,
            PAGE_TOPICS_MAX,
            PAGE_MESSAGES_MAX,
            |topic, retained| {
                !replays.was_delivered_live(
                    &hasher,
                    topic,
                    since.publish,
                    retained.origin,
                    Some(retained.sequence),
                ) && (own.is_none() || retained.publisher != own)
            },
        );
        for message in found {
            if !self.has_replay_room(id) {
                // This one and the rest come when there is room.
                replay.cursor = Cursor::At(self.delivery.messages.view(message).topic.into());
                break;
            }
            self.deliver_stored(now, id, message, options, identifier, actions);
        }
        self.finish_page(id, text, replay);
    }

    /// Ends a slice: the look-up goes on with its store, with the next one, or is done.
    fn finish_page(&mut self, id: SessionId, text: Box<str>, mut replay: Replay) {
        let session = self.delivery.sessions.get_mut(id.0).expect("a delivery ends no session");
        let replays = session.replays.as_mut().expect("a page was done for it");
        let advance = match replay.cursor {
            Cursor::Done => replay.advance(),
            Cursor::Start | Cursor::At(_) | Cursor::After(_) => true,
        };
        if advance {
            let other = replays.waiting.insert(text, replay);
            assert!(other.is_none());
        } else if replays.waiting.is_empty() {
            session.replays = None;
        }
    }

    /// Asks another shard for a slice; or waits until every shard knows the subscription and has told what it
    /// sent before, or until one of our questions is answered.
    fn request(&mut self, id: SessionId, text: Box<str>, mut replay: Replay) {
        let session = self.delivery.sessions.get_mut(id.0).expect("the caller found it");
        let replays = session.replays.as_mut().expect("the caller found it");
        let open_request_count = &mut self.mesh.open_request_count[usize::from(replay.target)];
        let is_early = replay.since.announced > self.mesh.watermarks.acknowledged_by_all();
        if is_early || *open_request_count >= REQUESTS_MAX {
            replays.waiting.insert(text, replay);
            // It counts as scheduled, so that it waits there once.
            session.replay_scheduled = true;
            self.blocked_replays.push(id);
            return;
        }
        *open_request_count += 1;
        self.requests_made = self.requests_made.wrapping_add(1);
        let (topic, is_seen) = replay.cursor.topic();
        let required = self.mesh.watermarks.required(replay.target);
        let number = RequestId { session: id, number: self.requests_made };
        let request = ShardMessage::PageRequest {
            replay: number,
            filter: &text,
            topic,
            is_seen,
            required: Origins::List(&required),
        };
        self.mesh.send(replay.target, &request, None);
        replay.is_requested = true;
        replays.open_request = Some(OpenRequest {
            number: self.requests_made,
            filter: text.clone(),
            is_overtaken: false,
            discarded: None,
        });
        replays.waiting.insert(text, replay);
    }

    /// Answers questions of other shards, each with one slice.
    pub(crate) fn answer_page_requests(&mut self, now: Instant) {
        for _ in 0..PAGES_PER_STEP_MAX {
            let Some((source, mut request)) = self.mesh.page_requests.pop_front() else { return };
            let (filter, cursor) = (&request.filter, &mut request.cursor);
            let found =
                self.retained.page_of(filter, cursor, PAGE_TOPICS_MAX, PAGE_MESSAGES_MAX, |_, _| true);
            for message in found {
                if self.remove_if_expired(now, message) {
                    continue;
                }
                let messages = &self.delivery.messages;
                let view = messages.view(message);
                let retained = self.retained.get(view.topic).expect("found a moment ago");
                let forwarded_publish = ForwardedPublish {
                    publisher: retained.publisher,
                    ..ForwardedPublish::of(view, retained.origin)
                };
                let answer = ShardMessage::Retained(request.replay, forwarded_publish);
                self.mesh.send(source, &answer, messages.shared_payload(message));
            }
            let cursor = match &request.cursor {
                Cursor::After(topic) => Some(&**topic),
                Cursor::Start | Cursor::At(_) | Cursor::Done => None,
            };
            self.mesh.send(source, &ShardMessage::PageEnd(request.replay, cursor), None);
        }
    }

    /// A retained message that this shard asked for.
    pub(crate) fn on_retained(
        &mut self,
        now: Instant,
        id: RequestId,
        forwarded_publish: &ForwardedPublish<'_>,
        payload: Option<&Bytes>,
        actions: &mut Actions,
    ) {
        let Some(session) = self.delivery.sessions.get_mut(id.session.0) else { return };
        let Some(replays) = &mut session.replays else { return };
        let Some(open_request) =
            replays.open_request.as_mut().filter(|open_request| open_request.number == id.number)
        else {
            return;
        };
        let ForwardedPublish { view, publisher, origin, .. } = *forwarded_publish;
        if open_request.is_overtaken {
            open_request.discarded.get_or_insert_with(|| view.topic.into());
            return;
        }
        let replay = replays.waiting.get(&open_request.filter).filter(|replay| replay.is_requested);
        let Some(replay) = replay else { return };
        let since = replay.since.publish;
        let was_delivered_live =
            replays.was_delivered_live(&self.delivery.hasher, view.topic, since, origin, None);
        let (options, identifier) = (replay.options, replay.identifier);
        let local = options.no_local
            && publisher.is_some()
            && publisher == self.mesh.placement.publisher(&session.client_id);
        if was_delivered_live || local || view.is_expired(now) {
            return;
        }
        let mut fan_out = self.delivery.fan_out_attached(view, payload, None);
        self.deliver_retained(now, id.session, &mut fan_out, options, identifier, actions);
    }

    /// The end of a slice that this shard asked for: the next one's turn.
    pub(crate) fn on_page_end(&mut self, source: u16, id: RequestId, cursor: Option<&str>) {
        let open_request_count = &mut self.mesh.open_request_count[usize::from(source)];
        assert!(*open_request_count > 0);
        *open_request_count -= 1;
        self.unblock_replays();
        let Some(session) = self.delivery.sessions.get_mut(id.session.0) else { return };
        let Some(replays) = &mut session.replays else { return };
        let Some(open_request) =
            replays.open_request.take_if(|open_request| open_request.number == id.number)
        else {
            return;
        };
        if replays.waiting.get(&open_request.filter).is_some_and(|replay| replay.is_requested) {
            let mut replay = replays.waiting.remove(&open_request.filter).expect("seen a moment ago");
            replay.is_requested = false;
            replay.cursor = match (open_request.discarded, cursor) {
                (Some(topic), _) => Cursor::At(topic),
                (None, Some(topic)) => Cursor::After(topic.into()),
                (None, None) => Cursor::Done,
            };
            self.finish_page(id.session, open_request.filter, replay);
        }
        self.schedule_replays(id.session);
    }

    /// Lets look-ups go on that waited for something from another shard.
    pub(crate) fn unblock_replays(&mut self) {
        for blocked in core::mem::take(&mut self.blocked_replays) {
            if let Some(session) = self.delivery.sessions.get_mut(blocked.0) {
                session.replay_scheduled = false;
                self.schedule_replays(blocked);
            }
        }
    }

    fn deliver_stored(
        &mut self,
        now: Instant,
        id: SessionId,
        message: MessageKey,
        options: SubscribeOptions,
        identifier: Option<SubscriptionId>,
        actions: &mut Actions,
    ) {
        if self.remove_if_expired(now, message) {
            return;
        }
        let mut copy = core::mem::take(&mut self.stored_copy);
        let mut fan_out = self.delivery.fan_out_stored(message, &mut copy);
        self.deliver_retained(now, id, &mut fan_out, options, identifier, actions);
        self.stored_copy = copy;
    }

    fn deliver_retained(
        &mut self,
        now: Instant,
        id: SessionId,
        fan_out: &mut FanOut<'_>,
        options: SubscribeOptions,
        identifier: Option<SubscriptionId>,
        actions: &mut Actions,
    ) {
        let grant = Grant {
            qos: fan_out.view.qos.min(options.qos),
            // Sent because of the subscription, so the flag is set [3.3.1.3].
            retain: true,
            group: None,
            identifiers: Identifiers::from(identifier),
        };
        self.delivery.offer(now, id.0.index(), grant, fan_out, actions);
        self.delivery.finish(fan_out);
    }

    /// Takes an expired message out of the store: it is no longer there for anyone [MQTT-3.3.2-5].
    pub(crate) fn remove_if_expired(&mut self, now: Instant, message: MessageKey) -> bool {
        let view = self.delivery.messages.view(message);
        if !view.is_expired(now) {
            return false;
        }
        let topic: Box<str> = view.topic.into();
        if let Some(expired) = self.retained.remove(&topic) {
            self.release_removed(&topic, &expired);
            self.delivery.counters.retained_expired += 1;
        }
        true
    }
}
