//! The retained replays of one session: subscriptions that have not been sent all their retained messages yet.
//!
//! Invariants: a filter has one replay at a time, so their number is bounded by the subscriptions; one request to
//! another shard is open at a time, so a session's answers are bounded; and the live messages that are remembered are
//! bounded by `Limits::replay_topics_max`, see [`Replays::record_live`].

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use wire::SubscriptionId;
use wire::packet::SubscribeOptions;

use crate::base::heap;
use crate::base::ids::SessionId;
use crate::memory::tree_entry_bytes;
use crate::message::origin::Origin;

/// A position in a retained store, which is ordered by topic.
#[derive(Debug)]
pub(crate) enum Cursor {
    Start,
    /// At this topic or the next one there is.
    At(Box<str>),
    After(Box<str>),
    Done,
}

impl Cursor {
    /// The topic where the next page begins, and whether that topic was answered already.
    pub(crate) fn topic(&self) -> (Option<&str>, bool) {
        match self {
            Self::Start | Self::Done => (None, false),
            Self::At(topic) => (Some(topic), false),
            Self::After(topic) => (Some(topic), true),
        }
    }

    fn heap_bytes(&self) -> u64 {
        self.topic().0.map_or(0, |topic| heap::block(topic.len()))
    }

    pub(crate) fn from_topic(topic: Option<&str>, is_seen: bool) -> Self {
        match topic {
            None => Self::Start,
            Some(topic) if is_seen => Self::After(topic.into()),
            Some(topic) => Self::At(topic.into()),
        }
    }
}

/// A request of a page, by the session whose replay wants it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RequestId {
    session: SessionId,
    number: u32,
}

impl RequestId {
    pub(crate) const fn new(session: SessionId, number: u32) -> Self {
        Self { session, number }
    }

    pub(crate) const fn session(self) -> SessionId {
        self.session
    }

    pub(crate) const fn number(self) -> u32 {
        self.number
    }
}

/// A message that was published a moment ago.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveOrigin {
    /// Of this shard's publish counter.
    at: u64,
    /// Where it was published.
    origin: Origin,
}

impl LiveOrigin {
    pub(crate) const fn new(at: u64, origin: Origin) -> Self {
        Self { at, origin }
    }
}

/// The moment at which a client subscribed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    /// The last publish before. A later one may have reached the session live.
    publish: u64,
    /// Interest announced until then. Other shards are asked once all of them have acknowledged it.
    announced: u64,
}

impl Since {
    pub(crate) const fn new(publish: u64, announced: u64) -> Self {
        Self { publish, announced }
    }

    pub(crate) const fn publish(self) -> u64 {
        self.publish
    }

    pub(crate) const fn announced(self) -> u64 {
        self.announced
    }
}

/// The terms under which a subscription is sent retained messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplayTerms {
    pub(crate) options: SubscribeOptions,
    pub(crate) identifier: Option<SubscriptionId>,
}

/// The shards whose stores a replay reads, in this order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplayShards {
    first: u16,
    last: u16,
}

impl ReplayShards {
    /// All shards: a filter with wildcards.
    pub(crate) const fn all(shard_count: u16) -> Self {
        Self { first: 0, last: shard_count - 1 }
    }

    /// The home of the one topic that a filter matches.
    pub(crate) const fn only(home: u16) -> Self {
        Self { first: home, last: home }
    }

    /// Whether that is this shard alone.
    pub(crate) const fn is_only(self, own: u16) -> bool {
        self.first == own && self.last == own
    }
}

/// A subscription that is sent retained messages.
#[derive(Debug)]
pub(crate) struct Replay {
    terms: ReplayTerms,
    cursor: Cursor,
    since: Since,
    /// How often everything is to be sent once more, because the client subscribed to the same filter meanwhile
    /// [MQTT-3.8.4-4]. Saturates at 255.
    repeats: u8,
    /// The last of these subscriptions.
    repeat_since: Since,
    /// The shard whose store is read now.
    target: u16,
    shards: ReplayShards,
    /// The open request belongs to this replay, not to an ended one of the same filter.
    is_requested: bool,
}

impl Replay {
    pub(crate) fn terms(&self) -> ReplayTerms {
        self.terms
    }

    pub(crate) fn since(&self) -> Since {
        self.since
    }

    pub(crate) fn target(&self) -> u16 {
        self.target
    }

    pub(crate) fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    pub(crate) fn cursor_mut(&mut self) -> &mut Cursor {
        &mut self.cursor
    }

    /// Moves on once a store is done: to the next store, or back to the first for a repetition. `false` if nothing is
    /// left.
    fn advance(&mut self) -> bool {
        match self.cursor {
            Cursor::Start | Cursor::At(_) | Cursor::After(_) => return true,
            Cursor::Done => {}
        }
        assert!((self.shards.first..=self.shards.last).contains(&self.target));
        self.cursor = Cursor::Start;
        self.target += 1;
        if self.target > self.shards.last && self.repeats > 0 {
            self.repeats -= 1;
            self.since = self.repeat_since;
            self.target = self.shards.first;
        }
        self.target <= self.shards.last
    }
}

/// Bytes of a replay in its place among the others.
fn entry_bytes(filter: &str, replay: &Replay) -> u64 {
    let entry = tree_entry_bytes(size_of::<(Box<str>, Replay)>());
    entry + heap::block(filter.len()) + replay.cursor.heap_bytes()
}

/// A request for a page of another shard's store.
#[derive(Debug)]
struct OpenRequest {
    number: u32,
    filter: Box<str>,
    /// More came live meanwhile than can be remembered, so the rest of the answer may be older than that.
    is_overtaken: bool,
    /// The first topic of the answer that was discarded for that reason.
    discarded: Option<Box<str>>,
}

/// **Lives on:** the session's shard, while a subscription is sent retained messages.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    /// By filter, so that subscribing again finds the replay under way.
    waiting: BTreeMap<Box<str>, Replay>,
    /// By hash of a topic and shard of a publisher: the last live message of both that the session was sent meanwhile. A
    /// retained message published before it on that shard must not follow it [MQTT-4.6.0-5]. Messages of different
    /// shards have no order, so a live message of one shard says nothing about those of another.
    live: BTreeMap<(u64, u16), LiveOrigin>,
    /// Some were forgotten: a message that this shard retained later than a subscription counts as sent.
    has_overflowed: bool,
    open_request: Option<OpenRequest>,
    /// Bytes of `waiting`.
    waiting_bytes: u64,
    /// Bytes of everything when they were noted last.
    noted_bytes: u64,
}

impl Replays {
    /// Bytes of everything when they were noted last.
    pub(super) fn noted_bytes(&self) -> u64 {
        self.noted_bytes
    }

    /// Notes its bytes. Returns those of the last time and those of now.
    pub(super) fn note(&mut self) -> (u64, u64) {
        let after = self.heap_bytes();
        (core::mem::replace(&mut self.noted_bytes, after), after)
    }

    /// Bytes that it takes. The one topic that an open request may remember beside them does not count: few requests are open.
    fn heap_bytes(&self) -> u64 {
        let request = self.open_request.as_ref().map_or(0, |request| heap::block(request.filter.len()));
        let live = self.live.len() as u64 * tree_entry_bytes(size_of::<((u64, u16), LiveOrigin)>());
        heap::block(size_of::<Self>()) + self.waiting_bytes + live + request
    }

    /// Starts a replay, or repeats the one of the same filter that is under way.
    pub(crate) fn start(&mut self, filter: &str, terms: ReplayTerms, shards: ReplayShards, since: Since) {
        if let Some(replay) = self.waiting.get_mut(filter) {
            replay.repeats = replay.repeats.saturating_add(1);
            replay.repeat_since = since;
            return;
        }
        let replay = Replay {
            terms,
            cursor: Cursor::Start,
            since,
            repeats: 0,
            repeat_since: since,
            target: shards.first,
            shards,
            is_requested: false,
        };
        self.put_back(filter.into(), replay);
    }

    /// Since when the replay of a filter is owed once more, if it is.
    pub(crate) fn repeat_since(&self, filter: &str) -> Option<u64> {
        let replay = self.waiting.get(filter).filter(|replay| replay.repeats > 0)?;
        Some(replay.repeat_since.publish())
    }

    /// Replaces the terms of a replay under way: the subscription that it began with was replaced.
    pub(crate) fn update(&mut self, filter: &str, terms: ReplayTerms) {
        if let Some(replay) = self.waiting.get_mut(filter) {
            replay.terms = terms;
        }
    }

    /// Cancels the replay of a filter that is not subscribed to any more.
    pub(crate) fn cancel(&mut self, filter: &str) {
        self.take(filter);
    }

    /// Forgets the first replay, because the session has ended; `false` if there is none.
    pub(crate) fn forget_one(&mut self) -> bool {
        let Some((filter, replay)) = self.waiting.pop_first() else { return false };
        self.waiting_bytes -= entry_bytes(&filter, &replay);
        true
    }

    pub(crate) fn has_open_request(&self) -> bool {
        self.open_request.is_some()
    }

    /// The shard whose store the next page is from; `None` if none is next.
    pub(crate) fn next_target(&self) -> Option<u16> {
        let next = self.waiting.first_key_value().filter(|_| self.open_request.is_none());
        next.map(|(_, replay)| replay.target)
    }

    /// Takes the next replay out; [`Replays::put_back`] or [`Replays::finish_page`] follows.
    pub(crate) fn take_next(&mut self) -> Option<(Box<str>, Replay)> {
        assert!(self.open_request.is_none());
        let (filter, replay) = self.waiting.pop_first()?;
        self.waiting_bytes -= entry_bytes(&filter, &replay);
        Some((filter, replay))
    }

    fn take(&mut self, filter: &str) -> Option<Replay> {
        let replay = self.waiting.remove(filter)?;
        let bytes = entry_bytes(filter, &replay);
        assert!(self.waiting_bytes >= bytes);
        self.waiting_bytes -= bytes;
        Some(replay)
    }

    /// Puts a replay back that made no progress.
    pub(crate) fn put_back(&mut self, filter: Box<str>, replay: Replay) {
        self.waiting_bytes += entry_bytes(&filter, &replay);
        let other = self.waiting.insert(filter, replay);
        assert!(other.is_none());
    }

    /// Ends a page: the replay goes on with its store, with the next one, or is done.
    pub(crate) fn finish_page(&mut self, filter: Box<str>, mut replay: Replay) {
        if replay.advance() {
            self.put_back(filter, replay);
        }
    }

    /// Goes on with a replay where it was before the process started anew.
    pub(crate) fn resume(&mut self, filter: &str, shard: u16, cursor: Cursor) {
        if let Some(mut replay) = self.take(filter) {
            assert!(!replay.is_requested);
            (replay.target, replay.cursor) = (shard, cursor);
            self.finish_page(filter.into(), replay);
        }
    }

    /// The state of the replay of a filter: the publish since which it is owed; the first shard that it reads, and the one that it
    /// reads now; and where.
    pub(super) fn progress(&self, filter: &str) -> Option<(u64, (u16, u16), &Cursor)> {
        let replay = self.waiting.get(filter)?;
        Some((replay.since.publish, (replay.shards.first, replay.target), &replay.cursor))
    }

    /// The live messages before this start of the process are not known: each that was retained after a subscription counts as sent.
    pub(crate) fn forget_live(&mut self) {
        self.has_overflowed = true;
    }

    /// Whether nothing is left to replay.
    pub(crate) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.open_request.is_none()
    }

    /// Puts a replay back whose next page was requested from another shard.
    pub(crate) fn open_request(&mut self, number: u32, filter: Box<str>, mut replay: Replay) {
        assert!(self.open_request.is_none() && !replay.is_requested);
        replay.is_requested = true;
        self.open_request =
            Some(OpenRequest { number, filter: filter.clone(), is_overtaken: false, discarded: None });
        self.put_back(filter, replay);
    }

    /// The replay that a retained message answers; `None` if the message is to be discarded.
    pub(crate) fn answered(&mut self, number: u32, topic: &str) -> Option<&Replay> {
        let request = self.open_request.as_mut().filter(|request| request.number == number)?;
        if request.is_overtaken {
            request.discarded.get_or_insert_with(|| topic.into());
            return None;
        }
        self.waiting.get(&request.filter).filter(|replay| replay.is_requested)
    }

    /// The filter of an open request, as long as its replay waits for the answer.
    pub(crate) fn requested(&self, number: u32) -> Option<&str> {
        let request = self.open_request.as_ref().filter(|request| request.number == number)?;
        let replay = self.waiting.get(&request.filter).filter(|replay| replay.is_requested);
        replay.map(|_| &*request.filter)
    }

    /// Where the replay of an open request goes on after an answer that is complete up to `cursor`, or to the end of the store.
    pub(crate) fn place_after(&self, number: u32, cursor: Option<&str>) -> Option<(Box<str>, Cursor)> {
        let filter = self.requested(number)?.into();
        let discarded = self.open_request.as_ref().and_then(|request| request.discarded.clone());
        let cursor = match (discarded, cursor) {
            (Some(topic), _) => Cursor::At(topic),
            (None, Some(topic)) => Cursor::After(topic.into()),
            (None, None) => Cursor::Done,
        };
        Some((filter, cursor))
    }

    /// Shards are asked once all of them have acknowledged so many announcements.
    pub(crate) fn await_announced(&mut self, announced: u64) {
        for replay in self.waiting.values_mut() {
            replay.since.announced = announced;
            replay.repeat_since.announced = announced;
        }
    }

    /// The answer to a request is complete up to `cursor`, or to the end of the store. `false` if the request is not the
    /// open one.
    pub(crate) fn end_request(&mut self, number: u32, cursor: Option<&str>) -> bool {
        let Some(request) = self.open_request.take_if(|request| request.number == number) else {
            return false;
        };
        if let Some(mut replay) = self.take(&request.filter) {
            if replay.is_requested {
                replay.is_requested = false;
                replay.cursor = match (request.discarded, cursor) {
                    (Some(topic), _) => Cursor::At(topic),
                    (None, Some(topic)) => Cursor::After(topic.into()),
                    (None, None) => Cursor::Done,
                };
                self.finish_page(request.filter, replay);
            } else {
                self.put_back(request.filter, replay);
            }
        }
        true
    }

    /// Remembers a live message on its way to the session.
    ///
    /// At the bound all of them are forgotten. Without an open request nothing is lost: the next request requires every
    /// update that passed live before it. During a request, the rest of its answer is discarded and requested again. This
    /// ends: a session that is sent thousands of topics within one round trip soon has no room for replays, and they wait.
    pub(crate) fn record_live(&mut self, topic_hash: u64, live: LiveOrigin, topics_max: u32) {
        let key = (topic_hash, live.origin.shard);
        if let Some(known) = self.live.get_mut(&key) {
            // A message for a shared subscription may come late, by way of a second shard.
            if known.origin.sequence <= live.origin.sequence {
                *known = live;
            }
            return;
        }
        if self.live.len() >= topics_max as usize {
            self.live.clear();
            self.has_overflowed = true;
            if let Some(request) = &mut self.open_request {
                request.is_overtaken = true;
            }
        }
        self.live.insert(key, live);
    }

    /// The replay that an open request belongs to, and no other, waits for its answer: for an audit.
    ///
    /// # Panics
    /// If that is not so.
    pub(crate) fn check(&self) {
        let requested = self.waiting.iter().filter(|(_, replay)| replay.is_requested);
        let open = self.open_request.as_ref();
        let bytes = self.waiting.iter().map(|(filter, replay)| entry_bytes(filter, replay));
        assert!(bytes.sum::<u64>() == self.waiting_bytes);
        assert!(self.noted_bytes == self.heap_bytes());
        for (filter, _) in requested {
            assert!(open.is_some_and(|request| request.filter == *filter));
        }
    }

    /// Whether the session was sent this retained message live, or a newer one. `retained_at` is of this shard's
    /// publish counter; `None` if another shard retains the message.
    pub(crate) fn was_delivered_live(
        &self,
        topic_hash: u64,
        subscribed_at: u64,
        origin: Origin,
        retained_at: Option<u64>,
    ) -> bool {
        match self.live.get(&(topic_hash, origin.shard)) {
            Some(live) => live.at > subscribed_at && live.origin.sequence >= origin.sequence,
            None => self.has_overflowed && retained_at.is_some_and(|at| at > subscribed_at),
        }
    }
}
