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
use crate::mesh::message::{Crossing, LookupId, Origins, Said};
use crate::message::stored::MessageKey;
use crate::publish::fan_out::{Live, Source};
use crate::retained::store::Cursor;
use crate::retained::watermarks::{Origin, Stores};
use crate::session::inflight::{Grant, Identifiers};
use crate::session::table::SessionId;

/// Topics looked at in one slice.
const SLICE_TOPICS_MAX: usize = 1024;
/// Messages delivered in one slice.
pub(crate) const SLICE_MESSAGES_MAX: usize = 128;
/// Slices in one step, over all sessions.
const SLICES_PER_STEP_MAX: usize = 4;
/// Questions open at once towards one shard: each is answered by one slice, so what the answers add to
/// its lane towards us is bounded, too.
pub(crate) const ASKS_MAX: u32 = 8;

/// What a session's subscriptions are still owed of the retained stores.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    /// By filter, so that subscribing again finds what is under way; bounded by the subscriptions.
    waiting: BTreeMap<Box<str>, Lookup>,
    /// Hash of a topic and shard of a publisher to the last live message of both that the session was sent
    /// meanwhile: what was published there before may not follow it [MQTT-4.6.0-5]. Messages of different
    /// shards have no order; and that one came live does not mean that an earlier one did. At most
    /// `Limits::lookup_topics_max`, see [`Lookups::note_live`].
    live: BTreeMap<(u64, u16), Live>,
    /// Some were forgotten: what this shard retained later than a subscription counts as sent.
    has_forgotten: bool,
    /// The question to another shard that is open; one at a time.
    asked: Option<Asked>,
}

/// An open question.
#[derive(Debug)]
struct Asked {
    number: u32,
    filter: Box<str>,
    /// More came live meanwhile than can be remembered: what is still to be answered may be older than that.
    is_overtaken: bool,
    /// The first topic of the answer that was discarded for that.
    discarded: Option<Box<str>>,
}

/// A subscription that is owed retained messages.
#[derive(Debug)]
struct Lookup {
    options: SubscribeOptions,
    identifier: Option<SubscriptionId>,
    cursor: Cursor,
    since: Since,
    /// How often all is to be sent once more, since the client subscribed to the same filter meanwhile: each time
    /// everything is to be re-sent [MQTT-3.8.4-4]. Bounded: as many as 256 at once are owed what 255 are.
    again: u8,
    /// The last of these.
    again_since: Since,
    /// The shard whose store is looked at, the first one and the last.
    target: u16,
    first: u16,
    last: u16,
    /// The open question is about this look-up, not about one of the same filter that ended.
    is_asked: bool,
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
pub(crate) struct Ask {
    lookup: LookupId,
    filter: Box<str>,
    cursor: Cursor,
    /// Updates that the answer has to count.
    due: Box<[Origin]>,
}

impl Ask {
    pub(crate) fn new(lookup: LookupId, filter: &str, cursor: Cursor, due: Box<[Origin]>) -> Self {
        Self { lookup, filter: filter.into(), cursor, due }
    }

    /// Whether everything that the answer has to count was taken in.
    pub(crate) fn may_be_answered(&self, stores: &Stores) -> bool {
        stores.has_taken(&self.due)
    }
}

impl Lookups {
    /// Remembers a live message on its way to the session.
    ///
    /// At the bound all are forgotten. Without a question under way nothing is lost: the next question counts,
    /// by what it says is due, everything that came live before it. During one, the rest of the answer is
    /// discarded and asked for again. That ends: who is sent thousands of topics within the way of a question
    /// has no room for look-ups for long, and they wait until it has.
    pub(crate) fn note_live(&mut self, topic_hash: u64, live: Live, topics_max: u32) {
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
            self.has_forgotten = true;
            if let Some(asked) = &mut self.asked {
                asked.is_overtaken = true;
            }
        }
        self.live.insert(key, live);
    }

    /// Whether the session was sent this retained message live, or a newer one. `retained_at` is of this
    /// shard's publish counter, none if another shard retains it.
    fn was_sent(
        &self,
        hasher: &Keyed,
        topic: &str,
        subscribed_at: u64,
        origin: Origin,
        retained_at: Option<u64>,
    ) -> bool {
        match self.live.get(&(hasher.bytes(topic.as_bytes()), origin.shard)) {
            Some(live) => live.at > subscribed_at && live.origin.sequence >= origin.sequence,
            None => self.has_forgotten && retained_at.is_some_and(|at| at > subscribed_at),
        }
    }
}

impl Lookup {
    /// One store is done: the next one's turn, or the first one's once more. `false` if nothing is left to do.
    fn goes_on(&mut self) -> bool {
        self.cursor = Cursor::Start;
        self.target += 1;
        if self.target > self.last && self.again > 0 {
            self.again -= 1;
            self.since = self.again_since;
            self.target = self.first;
        }
        self.target <= self.last
    }
}

impl Engine {
    pub(crate) fn open_lookup(
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
        let waiting = &mut session.lookups.get_or_insert_default().waiting;
        if let Some(lookup) = waiting.get_mut(filter.filter()) {
            lookup.again = lookup.again.saturating_add(1);
            lookup.again_since = since;
            return;
        }
        let lookup = Lookup {
            options,
            identifier,
            cursor: Cursor::Start,
            since,
            again: 0,
            again_since: since,
            target: first,
            first,
            last,
            is_asked: false,
        };
        waiting.insert(filter.filter().into(), lookup);
    }

    /// What is still to be sent for a filter is sent as the subscription says that replaced the one it began with.
    pub(crate) fn amend_lookup(
        &mut self,
        id: SessionId,
        filter: &TopicFilter<'_>,
        options: SubscribeOptions,
        identifier: Option<SubscriptionId>,
    ) {
        let session = self.delivery.sessions.get_mut(id.0).expect("the caller found it");
        let Some(lookups) = &mut session.lookups else { return };
        if let Some(lookup) = lookups.waiting.get_mut(filter.filter()) {
            lookup.options = options;
            lookup.identifier = identifier;
        }
    }

    /// Forgets the look-up of a filter that is subscribed to no more.
    pub(crate) fn close_lookup(&mut self, id: SessionId, filter: &TopicFilter<'_>) {
        let session = self.delivery.sessions.get_mut(id.0).expect("the caller found it");
        if let Some(lookups) = &mut session.lookups
            && filter.share_name().is_none()
        {
            lookups.waiting.remove(filter.filter());
        }
    }

    /// Lets the look-ups of a session go on if there is something to do and room for it.
    pub(crate) fn schedule_lookups(&mut self, id: SessionId) {
        let Some(session) = self.delivery.sessions.get_mut(id.0) else { return };
        let may_go_on = session.lookups.as_ref().is_some_and(|lookups| lookups.asked.is_none());
        if may_go_on && !session.lookup_scheduled {
            session.lookup_scheduled = true;
            self.lookups.push_back(id);
        }
    }

    /// Does a few slices, for the sessions in turn.
    pub(crate) fn run_lookups(&mut self, now: Instant, actions: &mut Actions) {
        for _ in 0..SLICES_PER_STEP_MAX {
            let Some(id) = self.lookups.pop_front() else { return };
            let Some(session) = self.delivery.sessions.get_mut(id.0) else { continue };
            session.lookup_scheduled = false;
            if !self.has_lookup_room(id) {
                // An acknowledgement, a sent outbox or a new connection schedules it again.
                continue;
            }
            self.lookup_slice(now, id, actions);
            self.schedule_lookups(id);
        }
    }

    /// Retained messages come from a store that can wait, so they never fill a queue: half a box and all
    /// of the queue belong to what is published meanwhile.
    fn has_lookup_room(&self, id: SessionId) -> bool {
        let limits = &self.delivery.limits;
        let session = self.delivery.sessions.get(id.0).expect("the caller found it");
        let Some(connection) = session.connection.and_then(|id| self.delivery.connections.get(id.0)) else {
            return false;
        };
        // Clients may take a retained message before SUBACK, and yet some are surprised by it.
        connection.is_open()
            && connection.announcing_count == 0
            && connection.outbox.bytes() * 2 < u64::from(limits.outbox_bytes_max)
            && session.queued_count() == 0
    }

    fn lookup_slice(&mut self, now: Instant, id: SessionId, actions: &mut Actions) {
        let session = self.delivery.sessions.get_mut(id.0).expect("the caller found it");
        let Some(lookups) = &mut session.lookups else { return };
        let Some((text, mut lookup)) = lookups.waiting.pop_first() else {
            session.lookups = None;
            return;
        };
        if lookup.target != self.mesh.placement.own {
            self.ask(id, text, lookup);
            return;
        }
        let Lookup { options, identifier, since, .. } = lookup;
        let hasher = self.delivery.hasher;
        let own = options.no_local.then(|| self.mesh.placement.publisher(&session.client_id)).flatten();
        let found = self.retained.slice_of(
            &text,
            &mut lookup.cursor,
            SLICE_TOPICS_MAX,
            SLICE_MESSAGES_MAX,
            |topic, retained| {
                !lookups.was_sent(&hasher, topic, since.publish, retained.origin, Some(retained.sequence))
                    && (own.is_none() || retained.publisher != own)
            },
        );
        for message in found {
            if !self.has_lookup_room(id) {
                // This one and the rest come when there is room.
                lookup.cursor = Cursor::At(self.delivery.messages.view(message).topic.into());
                break;
            }
            self.deliver_stored(now, id, message, options, identifier, actions);
        }
        self.put_back(id, text, lookup);
    }

    /// Ends a slice: the look-up goes on with its store, with the next one, or is done.
    fn put_back(&mut self, id: SessionId, text: Box<str>, mut lookup: Lookup) {
        let session = self.delivery.sessions.get_mut(id.0).expect("a delivery ends no session");
        let lookups = session.lookups.as_mut().expect("a slice was done for it");
        let goes_on = match lookup.cursor {
            Cursor::Done => lookup.goes_on(),
            Cursor::Start | Cursor::At(_) | Cursor::After(_) => true,
        };
        if goes_on {
            let other = lookups.waiting.insert(text, lookup);
            assert!(other.is_none());
        } else if lookups.waiting.is_empty() {
            session.lookups = None;
        }
    }

    /// Asks another shard for a slice; or waits until every shard knows the subscription and has told what it
    /// sent before, or until one of our questions is answered.
    fn ask(&mut self, id: SessionId, text: Box<str>, mut lookup: Lookup) {
        let session = self.delivery.sessions.get_mut(id.0).expect("the caller found it");
        let lookups = session.lookups.as_mut().expect("the caller found it");
        let asked_count = &mut self.mesh.asked_count[usize::from(lookup.target)];
        let is_early = lookup.since.announced > self.mesh.stores.heard_from_all();
        if is_early || *asked_count >= ASKS_MAX {
            lookups.waiting.insert(text, lookup);
            // It counts as scheduled, so that it waits there once.
            session.lookup_scheduled = true;
            self.blocked_lookups.push(id);
            return;
        }
        *asked_count += 1;
        self.asks_made = self.asks_made.wrapping_add(1);
        let (topic, is_seen) = lookup.cursor.topic();
        let due = self.mesh.stores.due(lookup.target);
        let number = LookupId { session: id, number: self.asks_made };
        let said = Said::Ask { lookup: number, filter: &text, topic, is_seen, due: Origins::List(&due) };
        self.mesh.say(lookup.target, &said, None);
        lookup.is_asked = true;
        lookups.asked = Some(Asked {
            number: self.asks_made,
            filter: text.clone(),
            is_overtaken: false,
            discarded: None,
        });
        lookups.waiting.insert(text, lookup);
    }

    /// Answers questions of other shards, each with one slice.
    pub(crate) fn answer_asks(&mut self, now: Instant) {
        for _ in 0..SLICES_PER_STEP_MAX {
            let Some((source, mut ask)) = self.mesh.asks.pop_front() else { return };
            let (filter, cursor) = (&ask.filter, &mut ask.cursor);
            let found =
                self.retained.slice_of(filter, cursor, SLICE_TOPICS_MAX, SLICE_MESSAGES_MAX, |_, _| true);
            for message in found {
                if self.forget_if_expired(now, message) {
                    continue;
                }
                let messages = &self.delivery.messages;
                let view = messages.view(message);
                let retained = self.retained.get(view.topic).expect("found a moment ago");
                let crossing =
                    Crossing { publisher: retained.publisher, ..Crossing::of(view, retained.origin) };
                let said = Said::Retained(ask.lookup, crossing);
                self.mesh.say(source, &said, messages.shared_payload(message));
            }
            let cursor = match &ask.cursor {
                Cursor::After(topic) => Some(&**topic),
                Cursor::Start | Cursor::At(_) | Cursor::Done => None,
            };
            self.mesh.say(source, &Said::SliceEnd(ask.lookup, cursor), None);
        }
    }

    /// A retained message that this shard asked for.
    pub(crate) fn on_retained(
        &mut self,
        now: Instant,
        id: LookupId,
        crossing: &Crossing<'_>,
        payload: Option<&Bytes>,
        actions: &mut Actions,
    ) {
        let Some(session) = self.delivery.sessions.get_mut(id.session.0) else { return };
        let Some(lookups) = &mut session.lookups else { return };
        let Some(asked) = lookups.asked.as_mut().filter(|asked| asked.number == id.number) else {
            return;
        };
        let Crossing { view, publisher, origin, .. } = *crossing;
        if asked.is_overtaken {
            asked.discarded.get_or_insert_with(|| view.topic.into());
            return;
        }
        let lookup = lookups.waiting.get(&asked.filter).filter(|lookup| lookup.is_asked);
        let Some(lookup) = lookup else { return };
        let since = lookup.since.publish;
        let was_sent = lookups.was_sent(&self.delivery.hasher, view.topic, since, origin, None);
        let (options, identifier) = (lookup.options, lookup.identifier);
        let local = options.no_local
            && publisher.is_some()
            && publisher == self.mesh.placement.publisher(&session.client_id);
        if was_sent || local || view.is_expired(now) {
            return;
        }
        let mut source = self.delivery.source_beside(view, payload, None);
        self.deliver_retained(now, id.session, &mut source, options, identifier, actions);
    }

    /// The end of a slice that this shard asked for: the next one's turn.
    pub(crate) fn on_slice_end(&mut self, source: u16, id: LookupId, cursor: Option<&str>) {
        let asked_count = &mut self.mesh.asked_count[usize::from(source)];
        assert!(*asked_count > 0);
        *asked_count -= 1;
        self.unblock_lookups();
        let Some(session) = self.delivery.sessions.get_mut(id.session.0) else { return };
        let Some(lookups) = &mut session.lookups else { return };
        let Some(asked) = lookups.asked.take_if(|asked| asked.number == id.number) else { return };
        if lookups.waiting.get(&asked.filter).is_some_and(|lookup| lookup.is_asked) {
            let mut lookup = lookups.waiting.remove(&asked.filter).expect("seen a moment ago");
            lookup.is_asked = false;
            lookup.cursor = match (asked.discarded, cursor) {
                (Some(topic), _) => Cursor::At(topic),
                (None, Some(topic)) => Cursor::After(topic.into()),
                (None, None) => Cursor::Done,
            };
            self.put_back(id.session, asked.filter, lookup);
        }
        self.schedule_lookups(id.session);
    }

    /// Lets look-ups go on that waited for something from another shard.
    pub(crate) fn unblock_lookups(&mut self) {
        for blocked in core::mem::take(&mut self.blocked_lookups) {
            if let Some(session) = self.delivery.sessions.get_mut(blocked.0) {
                session.lookup_scheduled = false;
                self.schedule_lookups(blocked);
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
        if self.forget_if_expired(now, message) {
            return;
        }
        let mut copy = core::mem::take(&mut self.stored_copy);
        let mut source = self.delivery.stored_source(message, &mut copy);
        self.deliver_retained(now, id, &mut source, options, identifier, actions);
        self.stored_copy = copy;
    }

    fn deliver_retained(
        &mut self,
        now: Instant,
        id: SessionId,
        source: &mut Source<'_>,
        options: SubscribeOptions,
        identifier: Option<SubscriptionId>,
        actions: &mut Actions,
    ) {
        let grant = Grant {
            qos: source.view.qos.min(options.qos),
            // Sent because of the subscription, so the flag is set [3.3.1.3].
            retain: true,
            group: None,
            identifiers: Identifiers::from(identifier),
        };
        self.delivery.offer(now, id.0.index(), grant, source, actions);
        self.delivery.finish(source);
    }

    /// Takes an expired message out of the store: it is no longer there for anyone [MQTT-3.3.2-5].
    pub(crate) fn forget_if_expired(&mut self, now: Instant, message: MessageKey) -> bool {
        let view = self.delivery.messages.view(message);
        if !view.is_expired(now) {
            return false;
        }
        let topic: Box<str> = view.topic.into();
        if let Some(expired) = self.retained.remove(&topic) {
            self.let_go(&topic, &expired);
            self.delivery.counters.retained_expired += 1;
        }
        true
    }
}
