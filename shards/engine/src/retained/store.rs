//! The retained messages of this shard, in the order of their topics.
//! Knows no subscriber; a look-up walks it in slices and remembers where it was.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::ops::Bound;

use wire::TopicFilter;

use crate::base::timer_wheel::TimerId;
use crate::message::stored::MessageKey;
use crate::publish::sys::is_sys;
use crate::retained::watermarks::Origin;

#[derive(Debug)]
pub(crate) struct Retained {
    pub(crate) message: MessageKey,
    /// Of the shard's publish counter: tells a look-up what is newer than its subscription.
    pub(crate) sequence: u64,
    /// Fingerprint of the publisher's client identifier, for No Local [MQTT-3.8.3-3]; none of a will.
    pub(crate) publisher: Option<NonZeroU64>,
    /// Where it was published: tells which of two updates of one shard is newer.
    pub(crate) origin: Origin,
    /// Takes it out when its Message Expiry Interval ends; cancelled if it goes before.
    pub(crate) timer: Option<TimerId>,
}

/// **Lives on:** the shard that owns the topic. Bounded by `Limits::retained_*_max`.
#[derive(Debug, Default)]
pub(crate) struct RetainedStore {
    by_topic: BTreeMap<Box<str>, Retained>,
    /// Bytes of the messages of clients.
    pub(crate) bytes_held: u64,
    /// Messages of the broker's own topics, which no limit counts.
    sys_count: usize,
}

/// Where the next slice of a look-up goes on.
#[derive(Debug)]
pub(crate) enum Cursor {
    Start,
    /// At this topic or the next one there is.
    At(Box<str>),
    After(Box<str>),
    Done,
}

impl Cursor {
    /// The topic where the next slice goes on, and whether that was looked at already.
    pub(crate) fn topic(&self) -> (Option<&str>, bool) {
        match self {
            Self::Start | Self::Done => (None, false),
            Self::At(topic) => (Some(topic), false),
            Self::After(topic) => (Some(topic), true),
        }
    }

    pub(crate) fn from_topic(topic: Option<&str>, is_seen: bool) -> Self {
        match topic {
            None => Self::Start,
            Some(topic) if is_seen => Self::After(topic.into()),
            Some(topic) => Self::At(topic.into()),
        }
    }
}

impl RetainedStore {
    pub(crate) fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// Messages that clients retained.
    pub(crate) fn count_of_clients(&self) -> usize {
        self.by_topic.len() - self.sys_count
    }

    /// Bytes of a message that comes, for the limit.
    pub(crate) fn count_in(&mut self, topic: &str, bytes: u64) {
        self.bytes_held += if is_sys(topic) { 0 } else { bytes };
    }

    /// Bytes of a message that goes, for the limit.
    pub(crate) fn count_out(&mut self, topic: &str, bytes: u64) {
        self.bytes_held -= if is_sys(topic) { 0 } else { bytes };
    }

    pub(crate) fn get(&self, topic: &str) -> Option<&Retained> {
        self.by_topic.get(topic)
    }

    /// Stores a message; returns the one it replaces, to be released by the caller.
    pub(crate) fn set(&mut self, topic: &str, retained: Retained) -> Option<Retained> {
        if let Some(known) = self.by_topic.get_mut(topic) {
            return Some(core::mem::replace(known, retained));
        }
        self.sys_count += usize::from(is_sys(topic));
        self.by_topic.insert(topic.into(), retained);
        None
    }

    /// Takes a message out, to be released by the caller.
    pub(crate) fn remove(&mut self, topic: &str) -> Option<Retained> {
        let removed = self.by_topic.remove(topic)?;
        self.sys_count -= usize::from(is_sys(topic));
        Some(removed)
    }

    /// Whether a filter without wildcards finds nothing.
    pub(crate) fn has_not(&self, filter: &TopicFilter<'_>) -> bool {
        !filter.has_wildcard() && self.get(filter.filter()).is_none()
    }

    /// What a subscription to `filter` is owed from `cursor` on: at most `topics_max` topics are looked at and
    /// `messages_max` messages taken.
    ///
    /// # Panics
    /// If `filter` is none.
    pub(crate) fn page_of(
        &self,
        filter: &str,
        cursor: &mut Cursor,
        topics_max: usize,
        messages_max: usize,
        is_wanted: impl Fn(&str, &Retained) -> bool,
    ) -> Vec<MessageKey> {
        let filter = TopicFilter::parse(filter).expect("it was parsed when it was subscribed to");
        let mut found = Vec::new();
        if !filter.has_wildcard() {
            let retained = self.get(filter.filter()).filter(|retained| is_wanted(filter.filter(), retained));
            found.extend(retained.map(|retained| retained.message));
            *cursor = Cursor::Done;
            return found;
        }
        self.page(&filter, cursor, topics_max, |topic, retained| {
            if found.len() == messages_max {
                return false;
            }
            if is_wanted(topic, retained) {
                found.push(retained.message);
            }
            true
        });
        found
    }

    /// Visits messages that match `filter` from `cursor` on, at most `visits_max` topics, until `visit`
    /// answers `false`; the topic it refused comes first in the next slice.
    fn page(
        &self,
        filter: &TopicFilter<'_>,
        cursor: &mut Cursor,
        visits_max: usize,
        mut visit: impl FnMut(&str, &Retained) -> bool,
    ) {
        let prefix = literal_prefix(filter.filter());
        let start = match cursor {
            Cursor::Start => Bound::Included(prefix),
            Cursor::At(topic) => Bound::Included(&**topic),
            Cursor::After(topic) => Bound::Excluded(&**topic),
            Cursor::Done => return,
        };
        let mut last: Option<&str> = None;
        let range = self.by_topic.range::<str, _>((start, Bound::Unbounded));
        for (visited, (topic, retained)) in range.enumerate() {
            // The prefix of "a/#" is "a", since that matches "a" itself: text after it may stray.
            if !topic.starts_with(prefix) {
                *cursor = Cursor::Done;
                return;
            }
            if visited == visits_max || (filter.matches(topic) && !visit(topic, retained)) {
                if let Some(topic) = last {
                    *cursor = Cursor::After(topic.into());
                }
                return;
            }
            last = Some(topic);
        }
        *cursor = Cursor::Done;
    }
}

/// What every topic matched by `filter` begins with.
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
    use crate::message::stored::{MessageStore, MessageView};
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;
    use wire::QoS;

    #[test]
    fn slices_of_any_size_visit_every_match_once_in_order() {
        let (mut store, mut messages) = (RetainedStore::default(), MessageStore::new());
        let topics = ["a", "a/b", "a/b/c", "a0", "a/x", "b/b", "$SYS/a", "/", "a/b/"];
        let origin = Origin { shard: 0, sequence: 1 };
        for topic in topics {
            let view = MessageView {
                topic,
                forwarded: &[],
                payload: b"p",
                qos: QoS::AtMostOnce,
                retain: true,
                expires_at: None,
                packet: None,
            };
            let message = messages.put(&view, None);
            store.set(topic, Retained { message, sequence: 1, publisher: None, origin, timer: None });
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
                    store.page(&filter, &mut cursor, visits_max, |topic, _| {
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
