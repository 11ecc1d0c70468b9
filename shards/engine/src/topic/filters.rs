//! The topic filters of a shard, by number and by text, each with the members and groups attached to it.
//!
//! Invariant: a filter keeps its number and its text as long as it is held, so the trie keeps labels as ranges of these texts.

use alloc::boxed::Box;

use compact_str::CompactString;

use crate::base::hash::Keyed;
use crate::base::heap;
use crate::base::index::Index;
use crate::base::long_list::LongList;
use crate::base::pool::{NONE, Pool};

use super::members::Members;

/// The interest of subscribers in a filter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Wanted {
    Nothing,
    /// Nothing of it has to outlive the process.
    Volatile,
    /// Messages of QoS 1 and 2 have to outlive the process.
    Lasting,
}

/// The bit of a filter that is kept though no session of this shard may subscribe. Subscriptions are fewer.
const PINNED: u32 = 1 << 31;

#[derive(Debug)]
pub(super) struct Filter {
    text: CompactString,
    /// The node at which it ends in the trie; `NONE` without wildcards.
    node: u32,
    /// Members that are lasting, with [`PINNED`]: a word of its own for that would make each filter eight bytes longer.
    lasting: u32,
    members: Members,
    /// Few filters are shared, so the list is one word where there is none.
    groups: Option<Box<GroupList>>,
}

// A shard has one for nearly every client: a cache line.
const _: () = assert!(Pool::<Filter>::SLOT_BYTES == 64);

#[derive(Debug, Default)]
struct GroupList {
    groups: LongList<u32>,
}

static NO_GROUPS: LongList<u32> = LongList::new();

impl Filter {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The node at which it ends in the trie, if it has wildcards.
    pub(super) fn node(&self) -> Option<u32> {
        (self.node != NONE).then_some(self.node)
    }

    pub(super) fn set_node(&mut self, node: u32) {
        assert!(self.node == NONE && node != NONE);
        self.node = node;
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.lasting & PINNED != 0
    }

    pub(super) fn set_pinned(&mut self, is_pinned: bool) {
        self.lasting = self.lasting_count() | if is_pinned { PINNED } else { 0 };
    }

    pub(super) fn members(&self) -> &Members {
        &self.members
    }

    pub(super) fn members_mut(&mut self) -> &mut Members {
        &mut self.members
    }

    /// The interest of its members.
    pub(super) fn wanted(&self) -> Wanted {
        match (self.lasting_count(), self.members.is_empty()) {
            (0, true) => Wanted::Nothing,
            (0, false) => Wanted::Volatile,
            (_, is_empty) => {
                assert!(!is_empty);
                Wanted::Lasting
            }
        }
    }

    /// Counts a member that is lasting, was, or neither.
    pub(super) fn count_lasting(&mut self, was_lasting: bool, is_lasting: bool) {
        self.lasting += u32::from(is_lasting);
        assert!(self.lasting_count() >= u32::from(was_lasting));
        self.lasting -= u32::from(was_lasting);
    }

    /// Its members that are lasting, for an audit.
    pub(super) fn lasting_count(&self) -> u32 {
        self.lasting & !PINNED
    }

    pub(super) fn groups(&self) -> &LongList<u32> {
        self.groups.as_ref().map_or(&NO_GROUPS, |list| &list.groups)
    }

    pub(super) fn is_used(&self) -> bool {
        self.is_pinned() || !self.members.is_empty() || self.groups.is_some()
    }

    /// Heap bytes of the list of groups.
    pub(super) fn group_list_bytes(&self) -> u64 {
        self.groups.as_ref().map_or(0, |list| heap::block(size_of::<GroupList>()) + list.groups.bytes_held())
    }

    pub(super) fn add_group(&mut self, group: u32) {
        self.groups.get_or_insert_default().groups.push(group);
    }

    /// Removes the group at `position`. Returns the group that took the position.
    pub(super) fn remove_group(&mut self, position: u32, group: u32) -> Option<u32> {
        let list = self.groups.as_mut().expect("a group is listed at its filter");
        let removed = list.groups.swap_remove(position as usize);
        assert!(removed == group);
        let moved = list.groups.get(position as usize).copied();
        if list.groups.is_empty() {
            self.groups = None;
        }
        moved
    }
}

/// **Lives on:** every shard, inside its tree.
#[derive(Debug)]
pub(super) struct Filters {
    hasher: Keyed,
    slots: Pool<Filter>,
    by_text: Index,
    text_bytes: u64,
    /// Heap bytes of the texts that are too long to be in their slots.
    text_heap_bytes: u64,
}

impl Filters {
    pub(super) fn new(hasher: Keyed) -> Self {
        Self { hasher, slots: Pool::new(), by_text: Index::new(), text_bytes: 0, text_heap_bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn get(&self, filter: u32) -> &Filter {
        self.slots.get(filter)
    }

    pub(super) fn get_mut(&mut self, filter: u32) -> &mut Filter {
        self.slots.get_mut(filter)
    }

    pub(super) fn text(&self, filter: u32) -> &str {
        self.slots.get(filter).text()
    }

    /// The filter of this text, if it is held.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        self.by_text.find(self.hasher.bytes(text.as_bytes()), |filter| *self.slots.get(filter).text == *text)
    }

    /// Adds a filter that is not held yet, without members.
    pub(super) fn add(&mut self, text: &str) -> u32 {
        let text = CompactString::from(text);
        let hash = self.hasher.bytes(text.as_bytes());
        self.text_bytes += text.len() as u64;
        self.text_heap_bytes += heap::text(&text);
        let node = NONE;
        let filter = Filter { text, node, lasting: 0, members: Members::default(), groups: None };
        let filter = self.slots.insert(filter);
        self.by_text.insert(hash, filter);
        assert!(self.by_text.len() == self.slots.len());
        filter
    }

    /// Forgets a filter. The trie must have forgotten it before: its labels are ranges of the text.
    pub(super) fn remove(&mut self, filter: u32) -> Filter {
        let removed = self.slots.remove(filter);
        self.text_bytes -= removed.text.len() as u64;
        self.text_heap_bytes -= heap::text(&removed.text);
        self.by_text.remove(self.hasher.bytes(removed.text.as_bytes()), filter);
        assert!(self.by_text.len() == self.slots.len());
        removed
    }

    /// Bytes of the texts, wherever they are.
    pub(super) fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// Bytes of slots, texts and the table that finds them; members and groups are counted where they change.
    pub(super) fn bytes_held(&self) -> u64 {
        self.slots.bytes_held() + self.by_text.bytes_held() + self.text_heap_bytes
    }

    /// Whether the number is in use, for an audit.
    pub(super) fn holds(&self, filter: u32) -> bool {
        self.slots.holds(filter)
    }

    /// Filters in use, with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Filter)> {
        self.slots.iter()
    }

    /// # Panics
    /// If a count or a link is wrong.
    pub(super) fn check(&self) {
        self.slots.check();
        self.by_text.check();
        let (mut bytes, mut heap_bytes) = (0, 0);
        for (index, filter) in self.iter() {
            assert!(self.find(&filter.text) == Some(index));
            bytes += filter.text.len() as u64;
            heap_bytes += heap::text(&filter.text);
        }
        assert!(bytes == self.text_bytes && heap_bytes == self.text_heap_bytes);
    }
}

const _: () = assert!(size_of::<Filter>() <= 72);
