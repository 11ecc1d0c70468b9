//! Topic aliases of one network connection, in both directions. They end with it [MQTT-3.3.2-7].
//!
//! Invariants: an outgoing alias keeps its topic until the connection ends, so the client learns each at most once. The aliases of
//! one direction hold at most `Limits::alias_bytes_max` bytes: one more from the client ends its connection, one more towards it
//! is not set.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::num::NonZeroU16;

use hashbrown::HashTable;

use crate::base::hash::Keyed;
use crate::base::heap;

/// A shorter topic is sent without an alias, which costs three bytes itself.
const TOPIC_BYTES_MIN: usize = 8;

/// Aliases that the client set. The table grows to the highest alias in use, at most `Limits::topic_alias_maximum`.
#[derive(Debug, Default)]
pub(super) struct IncomingAliases {
    topics: Vec<Box<str>>,
    /// Of the topics, a lent one included.
    text_bytes: usize,
    /// Bytes that they take on the heap.
    heap_bytes: u64,
}

impl IncomingAliases {
    /// Bytes held: the table and its topics.
    pub(super) fn bytes_held(&self) -> u64 {
        heap::block(size_of::<Self>())
            + heap::block(self.topics.capacity() * size_of::<Box<str>>())
            + self.heap_bytes
    }

    /// Sets an alias, unless the topics would be longer than `bytes_max` together.
    pub(super) fn set(&mut self, alias: NonZeroU16, topic: &str, bytes_max: u32) -> bool {
        let index = usize::from(alias.get()) - 1;
        let replaced = self.topics.get(index).map_or("", |topic| topic);
        if *replaced == *topic {
            return true;
        }
        let text_bytes = self.text_bytes - replaced.len() + topic.len();
        if text_bytes > bytes_max as usize {
            return false;
        }
        self.heap_bytes = self.heap_bytes - heap::block(replaced.len()) + heap::block(topic.len());
        if self.topics.len() <= index {
            self.topics.resize_with(index + 1, Box::default);
        }
        self.topics[index] = topic.into();
        self.text_bytes = text_bytes;
        true
    }

    /// Takes the topic of an alias out, to be put back once the message is routed; `None` if not set.
    pub(super) fn lend(&mut self, alias: NonZeroU16) -> Option<Box<str>> {
        let topic = core::mem::take(self.topics.get_mut(usize::from(alias.get()) - 1)?);
        (!topic.is_empty()).then_some(topic)
    }

    pub(super) fn give_back(&mut self, alias: NonZeroU16, topic: Box<str>) {
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
    text_bytes: usize,
    heap_bytes: u64,
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
        Self { topics: Vec::new(), by_topic: HashTable::new(), alias_max, text_bytes: 0, heap_bytes: 0 }
    }

    /// Bytes held: the table and its topics.
    pub(super) fn bytes_held(&self) -> u64 {
        let table = self.topics.capacity() * size_of::<Box<str>>();
        let own = heap::block(size_of::<Self>()) + self.by_topic.allocation_size() as u64;
        own + heap::block(table) + self.heap_bytes
    }

    /// How the topic goes out: without an alias where the topics would be longer than `bytes_max` together. `hash` is asked for
    /// only where the topic is long enough for an alias.
    pub(crate) fn choose(&self, topic: &str, bytes_max: u32, hash: impl FnOnce() -> u64) -> AliasUse {
        if topic.len() < TOPIC_BYTES_MIN {
            return AliasUse::Plain;
        }
        let known = self.by_topic.find(hash(), |&index| *self.topics[usize::from(index)] == *topic);
        if let Some(alias) = known.and_then(|&index| NonZeroU16::new(index + 1)) {
            return AliasUse::Known(alias);
        }
        let has_room = self.text_bytes + topic.len() <= bytes_max as usize;
        let next =
            u16::try_from(self.topics.len() + 1).ok().filter(|&next| has_room && next <= self.alias_max);
        next.and_then(NonZeroU16::new).map_or(AliasUse::Plain, AliasUse::First)
    }

    /// Records the next alias: the PUBLISH that sets it is in the outbox. `hash` is that of its topic. Returns the bytes that this
    /// took.
    pub(crate) fn learned(&mut self, hasher: &Keyed, topic: &str, hash: u64) -> u64 {
        let before = self.bytes_held();
        assert!(self.by_topic.len() == self.topics.len());
        let index = u16::try_from(self.topics.len()).expect("at most `alias_max`");
        assert!(index < self.alias_max);
        self.text_bytes += topic.len();
        self.heap_bytes += heap::block(topic.len());
        self.topics.push(topic.into());
        let topics = &self.topics;
        self.by_topic
            .insert_unique(hash, index, |&other| hasher.bytes(topics[usize::from(other)].as_bytes()));
        assert!(self.by_topic.len() == self.topics.len());
        self.bytes_held() - before
    }
}
/// The aliases of a connection, in both directions. Most connections have none, and a pointer for them.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    incoming: Option<IncomingAliases>,
    outgoing: Option<OutgoingAliases>,
}

impl Aliases {
    pub(super) fn incoming(&self) -> Option<&IncomingAliases> {
        self.incoming.as_ref()
    }

    pub(super) fn incoming_mut(&mut self) -> &mut Option<IncomingAliases> {
        &mut self.incoming
    }

    pub(super) fn outgoing(&self) -> Option<&OutgoingAliases> {
        self.outgoing.as_ref()
    }

    pub(super) fn outgoing_mut(&mut self) -> &mut Option<OutgoingAliases> {
        &mut self.outgoing
    }
}
