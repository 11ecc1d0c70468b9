//! The retained messages of this shard, in the order of their topics, so that a replay reads them page by page.
//!
//! Invariants: the store holds each of its messages once; `bytes_held` and `sys_count` tell the broker's own topics from
//! those of clients, because the limits count only the latter; and an expiry timer is set exactly as long as its message
//! is here.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::ops::Bound;

use wire::TopicFilter;

use crate::base::heap;
use crate::base::ids::MessageKey;
use crate::base::timer_wheel::TimerId;
use crate::limits::Limits;
use crate::memory::tree_entry_bytes;
use crate::message::borrowed::Message;
use crate::message::origin::Origin;
use crate::message::stored::MessageStore;
use crate::session::replays::Cursor;
use crate::session::user::{UserId, Users};
use crate::timer::Timer;
use crate::topic::sys::is_sys;
use crate::turn::Turn;

/// Topics that one page reads at most: it must not hold up a turn. A long topic counts as several.
const PAGE_TOPICS_MAX: usize = 1024;
/// Bytes of a topic that count as one more topic.
const TOPIC_BYTES: usize = 128;
/// Topics that are read for one unit of work.
const TOPICS_PER_WORK: usize = 8;
/// Messages that one page takes at most: its answer must not fill a lane.
pub(crate) const PAGE_MESSAGES_MAX: usize = 128;

/// A retained message.
#[derive(Debug)]
pub(crate) struct RetainedEntry {
    message: MessageKey,
    /// Of the shard's publish counter: tells a replay which messages are newer than its subscription.
    sequence: u64,
    /// Fingerprint of the publisher's client identifier, for No Local [MQTT-3.8.3-3]; a will has none.
    publisher: Option<NonZeroU64>,
    /// The publisher's user, or the will's.
    user: Option<UserId>,
    /// Where it was published: tells which of two updates of one shard is newer.
    origin: Origin,
    /// Removes it when its Message Expiry Interval ends; cancelled if it goes before.
    timer: Option<TimerId>,
}

const _: () = assert!(size_of::<RetainedEntry>() <= 56);

impl RetainedEntry {
    pub(crate) fn new(
        message: MessageKey,
        sequence: u64,
        (publisher, user): (Option<NonZeroU64>, Option<UserId>),
        origin: Origin,
    ) -> Self {
        Self { message, sequence, publisher, user, origin, timer: None }
    }

    pub(crate) fn message(&self) -> MessageKey {
        self.message
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(crate) fn publisher(&self) -> Option<NonZeroU64> {
        self.publisher
    }

    /// The user who published it.
    pub(crate) fn user(&self) -> Option<UserId> {
        self.user
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }
}

/// **Lives on:** the shard that owns the topic. Bounded by `Limits::retained_*_max`.
#[derive(Debug, Default)]
pub(crate) struct RetainedStore {
    by_topic: BTreeMap<Box<str>, RetainedEntry>,
    /// Bytes of the messages of clients.
    bytes_held: u64,
    /// Messages of the broker's own topics, which no limit counts.
    sys_count: usize,
    /// Bytes of entries and topics.
    entry_bytes: u64,
    /// Bytes that its messages take in the store of messages.
    message_bytes: u64,
}

impl RetainedStore {
    pub(crate) fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// Bytes of entries and topics, and those that its messages take in the store of messages.
    pub(crate) fn memory_bytes(&self) -> (u64, u64) {
        (self.entry_bytes, self.message_bytes)
    }

    /// Messages that clients retained.
    pub(crate) fn count_of_clients(&self) -> usize {
        self.by_topic.len() - self.sys_count
    }

    pub(crate) fn get(&self, topic: &str) -> Option<&RetainedEntry> {
        self.by_topic.get(topic)
    }

    /// The messages behind a topic, in the order of their topics; all of them behind `None`.
    pub(crate) fn after(&self, topic: Option<&str>) -> impl Iterator<Item = (&str, &RetainedEntry)> {
        let start = topic.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.by_topic.range::<str, _>((start, Bound::Unbounded));
        entries.map(|(topic, entry)| (&**topic, entry))
    }

    /// Whether there is no room for a message.
    pub(crate) fn is_full_for(
        &self,
        limits: &Limits,
        messages: &MessageStore,
        message: &Message<'_>,
    ) -> bool {
        if message.payload.is_empty() || is_sys(message.topic) {
            return false;
        }
        let known = self.get(message.topic);
        let replaced = known.map_or(0, |known| messages.bytes_of(known.message));
        let is_count_full =
            known.is_none() && self.count_of_clients() >= limits.retained_messages_max as usize;
        assert!(self.bytes_held >= replaced);
        is_count_full || self.bytes_held - replaced + message.bytes() > limits.retained_bytes_max
    }

    /// Holds a message and its user as the retained one of its topic; the one that it replaces is released [MQTT-3.3.1-5].
    pub(crate) fn set(
        &mut self,
        turn: &mut Turn<'_>,
        (messages, users): (&mut MessageStore, &mut Users),
        message: &Message<'_>,
        mut retained: RetainedEntry,
    ) {
        let (topic, key) = (message.topic, retained.message);
        assert!(!message.payload.is_empty());
        assert!(messages.bytes_of(key) == message.bytes());
        messages.hold(key);
        users.hold(retained.user);
        let is_sys = is_sys(topic);
        self.bytes_held += if is_sys { 0 } else { messages.bytes_of(key) };
        self.entry_bytes += entry_bytes(topic);
        self.message_bytes += messages.memory_bytes_of(key);
        let timer = |deadline| turn.timers.insert(deadline, Timer::RetainedExpiry(key));
        retained.timer = message.expires_at.map(timer);
        if let Some(known) = self.by_topic.get_mut(topic) {
            assert!(known.sequence < retained.sequence);
            let replaced = core::mem::replace(known, retained);
            self.release(turn, (messages, users), topic, &replaced);
        } else {
            self.sys_count += usize::from(is_sys);
            self.by_topic.insert(topic.into(), retained);
        }
    }

    /// Removes the retained message of a topic [MQTT-3.3.1-6]. Returns whether there was one.
    pub(crate) fn remove(
        &mut self,
        turn: &mut Turn<'_>,
        (messages, users): (&mut MessageStore, &mut Users),
        topic: &str,
    ) -> bool {
        let Some(removed) = self.by_topic.remove(topic) else { return false };
        self.sys_count -= usize::from(is_sys(topic));
        assert!(self.sys_count <= self.by_topic.len());
        self.release(turn, (messages, users), topic, &removed);
        true
    }

    /// Whether a filter without wildcards finds nothing.
    pub(crate) fn has_not(&self, filter: &TopicFilter<'_>) -> bool {
        !filter.has_wildcard() && self.get(filter.filter()).is_none()
    }

    /// The messages for a subscription to `filter` from `cursor` on, one page of them; and the work of reading it.
    ///
    /// # Panics
    /// If `filter` is no topic filter.
    pub(crate) fn page_of(
        &self,
        filter: &str,
        cursor: &mut Cursor,
        is_wanted: impl Fn(&str, &RetainedEntry) -> bool,
    ) -> (Vec<MessageKey>, u32) {
        let filter = TopicFilter::parse(filter).expect("it was parsed when it was subscribed to");
        let mut found = Vec::new();
        if !filter.has_wildcard() {
            let retained = self.get(filter.filter()).filter(|retained| is_wanted(filter.filter(), retained));
            found.extend(retained.map(|retained| retained.message));
            *cursor = Cursor::Done;
            return (found, 1);
        }
        let visited = self.visit(&filter, cursor, PAGE_TOPICS_MAX, |topic, retained| {
            if found.len() == PAGE_MESSAGES_MAX {
                return false;
            }
            if is_wanted(topic, retained) {
                found.push(retained.message);
            }
            true
        });
        (found, u32::try_from(visited / TOPICS_PER_WORK).unwrap_or(u32::MAX).saturating_add(1))
    }

    /// Messages it holds, for an audit.
    pub(crate) fn messages(&self) -> impl Iterator<Item = MessageKey> + '_ {
        self.by_topic.values().map(|retained| retained.message)
    }

    /// Users it names, for an audit.
    pub(crate) fn users(&self) -> impl Iterator<Item = UserId> + '_ {
        self.by_topic.values().filter_map(RetainedEntry::user)
    }

    /// Timers it has set, for an audit.
    pub(crate) fn timer_count(&self) -> u32 {
        self.by_topic.values().map(|retained| u32::from(retained.timer.is_some())).sum()
    }

    /// Recomputes both counts, for an audit.
    ///
    /// # Panics
    /// If one of them is wrong.
    pub(crate) fn check(&self, messages: &MessageStore) {
        let (sys, clients): (Vec<_>, Vec<_>) = self.by_topic.iter().partition(|(topic, _)| is_sys(topic));
        assert!(sys.len() == self.sys_count);
        let bytes = clients.iter().map(|(_, retained)| messages.bytes_of(retained.message));
        assert!(bytes.sum::<u64>() == self.bytes_held);
        assert!(self.by_topic.keys().map(|topic| entry_bytes(topic)).sum::<u64>() == self.entry_bytes);
        let memory = self.by_topic.values().map(|retained| messages.memory_bytes_of(retained.message));
        assert!(memory.sum::<u64>() == self.message_bytes);
        for (topic, retained) in &self.by_topic {
            let message = messages.view(retained.message);
            assert!(message.topic == &**topic);
            assert!(message.expires_at.is_some() == retained.timer.is_some());
        }
    }

    /// Releases a message that was taken out.
    fn release(
        &mut self,
        turn: &mut Turn<'_>,
        (messages, users): (&mut MessageStore, &mut Users),
        topic: &str,
        retained: &RetainedEntry,
    ) {
        if let Some(timer) = retained.timer {
            // A timer that was due a moment ago is gone already.
            turn.timers.cancel(timer);
        }
        let bytes = if is_sys(topic) { 0 } else { messages.bytes_of(retained.message) };
        assert!(self.bytes_held >= bytes);
        self.bytes_held -= bytes;
        assert!(self.entry_bytes >= entry_bytes(topic));
        self.entry_bytes -= entry_bytes(topic);
        let message_bytes = messages.memory_bytes_of(retained.message);
        assert!(self.message_bytes >= message_bytes);
        self.message_bytes -= message_bytes;
        messages.release(retained.message);
        users.release(retained.user);
    }

    /// Visits messages that match `filter` from `cursor` on, at most `visits_max` topics, until `visit`
    /// answers `false`; the topic it refused comes first in the next page. Returns how many were visited, as the bound counts
    /// them.
    pub(crate) fn visit(
        &self,
        filter: &TopicFilter<'_>,
        cursor: &mut Cursor,
        visits_max: usize,
        mut visit: impl FnMut(&str, &RetainedEntry) -> bool,
    ) -> usize {
        let prefix = literal_prefix(filter.filter());
        let start = match cursor {
            Cursor::Start => Bound::Included(prefix),
            Cursor::At(topic) => Bound::Included(&**topic),
            Cursor::After(topic) => Bound::Excluded(&**topic),
            Cursor::Done => return 0,
        };
        let mut last: Option<&str> = None;
        let mut visited = 0;
        for (topic, retained) in self.by_topic.range::<str, _>((start, Bound::Unbounded)) {
            // The prefix of "a/#" is "a", since that matches "a" itself: text after it may stray.
            if !topic.starts_with(prefix) {
                *cursor = Cursor::Done;
                return visited;
            }
            if visited >= visits_max || (filter.matches(topic) && !visit(topic, retained)) {
                if let Some(topic) = last {
                    *cursor = Cursor::After(topic.into());
                }
                return visited;
            }
            last = Some(topic);
            visited += 1 + topic.len() / TOPIC_BYTES;
        }
        *cursor = Cursor::Done;
        visited
    }
}

/// Bytes of a message's entry, beside those of the message itself.
fn entry_bytes(topic: &str) -> u64 {
    tree_entry_bytes(size_of::<(Box<str>, RetainedEntry)>()) + heap::block(topic.len())
}

/// The text with which every topic begins that `filter` matches.
fn literal_prefix(filter: &str) -> &str {
    let end = filter.find(['+', '#']).unwrap_or(filter.len());
    match &filter[end..] {
        "#" => filter[..end].strip_suffix('/').unwrap_or(&filter[..end]),
        _ => &filter[..end],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Actions;
    use crate::base::time::Instant;
    use crate::counters::Counters;
    use crate::timer::Timers;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;
    use wire::QoS;

    #[test]
    fn slices_of_any_size_visit_every_match_once_in_order() {
        let (mut store, mut messages) = (RetainedStore::default(), MessageStore::new(&Limits::default()));
        let topics = ["a", "a/b", "a/b/c", "a0", "a/x", "b/b", "$SYS/a", "/", "a/b/"];
        let origin = Origin { shard: 0, sequence: 1 };
        let mut users = Users::new(crate::base::hash::Keyed::new(crate::base::hash::Entropy(1)));
        let (limits, mut actions, mut counters) = (Limits::default(), Actions::new(), Counters::default());
        let (mut timers, mut endings) = (Timers::new(Instant::default(), 32), Vec::new());
        let mut held = crate::memory::Held::default();
        let now = Instant::default();
        let mut turn =
            Turn::new(now, &limits, &mut actions, (&mut counters, &mut held), &mut timers, &mut endings);
        for topic in topics {
            let view = Message {
                topic,
                forwarded: &[],
                payload: b"p",
                qos: QoS::AtMostOnce,
                retain: true,
                expires_at: None,
                packet: None,
            };
            let message = messages.put(&view, None);
            let entry = RetainedEntry::new(message, 1, (None, None), origin);
            store.set(&mut turn, (&mut messages, &mut users), &view, entry);
        }
        for text in ["#", "a/#", "a/+", "+/b", "a/b", "+/+/+", "nothing/#", "$SYS/#", "+"] {
            let filter = TopicFilter::parse(text).unwrap();
            let mut expected: Vec<String> =
                topics.iter().filter(|topic| filter.matches(topic)).map(ToString::to_string).collect();
            expected.sort();
            for (visits_max, takes_max) in [(1, 1), (2, 1), (3, 2), (100, 1), (100, 100)] {
                let mut cursor = Cursor::Start;
                let mut seen = Vec::new();
                for _ in 0..100 {
                    let mut taken = 0;
                    store.visit(&filter, &mut cursor, visits_max, |topic, _| {
                        if taken == takes_max {
                            return false;
                        }
                        taken += 1;
                        seen.push(topic.to_string());
                        true
                    });
                }
                assert!(matches!(cursor, Cursor::Done), "{text}");
                assert_eq!(seen, expected, "{text} {visits_max} {takes_max}");
            }
        }
    }
}
