//! Topic aliases of one network connection, in both directions. They end with it [MQTT-3.3.2-7].
//!
//! Invariant: an outgoing alias keeps its topic until the connection ends, so the client learns each at most once.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU16;

use hashbrown::HashTable;

use crate::base::hash::Keyed;

/// A shorter topic is sent without an alias, which costs three bytes itself.
const TOPIC_BYTES_MIN: usize = 8;

/// Aliases that the client set. The table grows to the highest alias in use, at most `Limits::topic_alias_maximum`.
#[derive(Debug, Default)]
pub(crate) struct IncomingAliases {
    topics: Vec<Box<str>>,
}

impl IncomingAliases {
    pub(crate) fn set(&mut self, alias: NonZeroU16, topic: &str) {
        let index = usize::from(alias.get()) - 1;
        if self.topics.len() <= index {
            self.topics.resize_with(index + 1, Box::default);
        }
        if *self.topics[index] != *topic {
            self.topics[index] = topic.into();
        }
    }

    /// Takes the topic of an alias out, to be put back once the message is routed; `None` if not set.
    pub(crate) fn lend(&mut self, alias: NonZeroU16) -> Option<Box<str>> {
        let topic = core::mem::take(self.topics.get_mut(usize::from(alias.get()) - 1)?);
        (!topic.is_empty()).then_some(topic)
    }

    pub(crate) fn give_back(&mut self, alias: NonZeroU16, topic: Box<str>) {
        let lent = &mut self.topics[usize::from(alias.get()) - 1];
        assert!(lent.is_empty() && !topic.is_empty());
        *lent = topic;
    }
}

/// Aliases we set towards the client: the first topics that are long enough keep theirs.
#[derive(Debug)]
pub(crate) struct OutgoingAliases {
    topics: Vec<Box<str>>,
    by_topic: HashTable<u16>,
    alias_max: u16,
}

/// How a topic goes out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AliasUse {
    Plain,
    /// Topic and alias: the client learns it.
    First(NonZeroU16),
    /// The alias alone.
    Known(NonZeroU16),
}

impl OutgoingAliases {
    pub(crate) fn new(alias_max: u16) -> Self {
        Self { topics: Vec::new(), by_topic: HashTable::new(), alias_max }
    }

    /// How the topic goes out. `hash` is asked for only where the topic is long enough for an alias.
    pub(crate) fn choose(&self, topic: &str, hash: impl FnOnce() -> u64) -> AliasUse {
        if topic.len() < TOPIC_BYTES_MIN {
            return AliasUse::Plain;
        }
        let known = self.by_topic.find(hash(), |&index| *self.topics[usize::from(index)] == *topic);
        if let Some(alias) = known.and_then(|&index| NonZeroU16::new(index + 1)) {
            return AliasUse::Known(alias);
        }
        let next = u16::try_from(self.topics.len() + 1).ok().filter(|&next| next <= self.alias_max);
        next.and_then(NonZeroU16::new).map_or(AliasUse::Plain, AliasUse::First)
    }

    /// Records the next alias: the PUBLISH that sets it is in the outbox. `hash` is that of its topic.
    pub(crate) fn learned(&mut self, hasher: &Keyed, topic: &str, hash: u64) {
        assert!(self.by_topic.len() == self.topics.len());
        let index = u16::try_from(self.topics.len()).expect("at most `alias_max`");
        assert!(index < self.alias_max);
        self.topics.push(topic.into());
        let topics = &self.topics;
        self.by_topic
            .insert_unique(hash, index, |&other| hasher.bytes(topics[usize::from(other)].as_bytes()));
        assert!(self.by_topic.len() == self.topics.len());
    }
}
