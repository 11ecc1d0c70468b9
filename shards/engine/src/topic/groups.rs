//! The groups of shared subscriptions: a share name and a filter, with the members that share its messages [MQTT-4.8.2-1].
//!
//! Invariants worth naming:
//! - A group exists while it has a member.
//! - A version is given out once in the life of the tree. So a count that was cached with a version is not mistaken for that of a later
//!   group with the same number.

use alloc::boxed::Box;
use core::num::NonZeroU32;

use crate::base::hash::Keyed;
use crate::base::heap;
use crate::base::index::Index;
use crate::base::pool::Pool;

use super::members::Members;

/// The number of a group as one nonzero word, so that `Option` of it is one word too. Valid while the group has a member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct GroupTag(NonZeroU32);

impl GroupTag {
    pub(crate) fn of(group: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(group))
    }

    pub(crate) fn group(self) -> u32 {
        self.0.get() - 1
    }
}

#[derive(Debug)]
pub(super) struct Group {
    name: Box<str>,
    filter: u32,
    /// Index in the group list of its filter.
    position: u32,
    /// The fingerprint that names it between shards, also after it is gone here.
    key: u64,
    /// Changes with the members, and with whether they are online.
    version: u64,
    /// The member whose turn is next.
    cursor: u32,
    members: Members,
}

impl Group {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn filter(&self) -> u32 {
        self.filter
    }

    pub(super) fn position(&self) -> u32 {
        self.position
    }

    pub(super) fn key(&self) -> u64 {
        self.key
    }

    pub(super) fn cursor(&self) -> u32 {
        self.cursor
    }

    pub(super) fn members(&self) -> &Members {
        &self.members
    }
}

/// All groups of a shard.
#[derive(Debug)]
pub(super) struct Groups {
    hasher: Keyed,
    slots: Pool<Group>,
    by_name: Index,
    by_key: Index,
    name_bytes: u64,
    /// Heap bytes of the share names.
    name_heap_bytes: u64,
    /// The version given out last.
    version: u64,
    /// The version that all groups have got together; those that changed since have a later one.
    common_version: u64,
}

impl Groups {
    pub(super) fn new(hasher: Keyed) -> Self {
        Self {
            hasher,
            slots: Pool::new(),
            by_name: Index::new(),
            by_key: Index::new(),
            name_bytes: 0,
            name_heap_bytes: 0,
            version: 0,
            common_version: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of the share names.
    pub(super) fn name_bytes(&self) -> u64 {
        self.name_bytes
    }

    /// Bytes of slots, names and tables; members are counted where they change.
    pub(super) fn bytes_held(&self) -> u64 {
        self.slots.bytes_held() + self.by_name.bytes_held() + self.by_key.bytes_held() + self.name_heap_bytes
    }

    pub(super) fn get(&self, group: u32) -> &Group {
        self.slots.get(group)
    }

    pub(super) fn members_mut(&mut self, group: u32) -> &mut Members {
        &mut self.slots.get_mut(group).members
    }

    pub(super) fn set_cursor(&mut self, group: u32, cursor: u32) {
        let group = self.slots.get_mut(group);
        assert!((cursor as usize) < group.members.len());
        group.cursor = cursor;
    }

    pub(super) fn by_key(&self, key: u64) -> Option<u32> {
        self.by_key.find(key, |group| self.slots.get(group).key == key)
    }

    pub(super) fn find(&self, filter: u32, name: &str) -> Option<u32> {
        self.by_name.find(self.hasher.below(filter, name.as_bytes()), |group| {
            let group = self.slots.get(group);
            group.filter == filter && *group.name == *name
        })
    }

    /// Adds a group without members, which stands at `position` in the group list of its filter.
    pub(super) fn add(&mut self, filter: u32, name: &str, position: u32, key: u64) -> u32 {
        self.version += 1;
        self.name_bytes += name.len() as u64;
        self.name_heap_bytes += heap::block(name.len());
        let group = self.slots.insert(Group {
            name: name.into(),
            filter,
            position,
            key,
            version: self.version,
            cursor: 0,
            members: Members::default(),
        });
        self.by_key.insert(key, group);
        self.by_name.insert(self.hasher.below(filter, name.as_bytes()), group);
        assert!(self.by_name.len() == self.slots.len());
        assert!(self.by_key.len() == self.slots.len());
        group
    }

    /// Removes a group whose last member has left.
    pub(super) fn remove(&mut self, group: u32) -> Group {
        let removed = self.slots.remove(group);
        assert!(removed.members.is_empty());
        self.name_bytes -= removed.name.len() as u64;
        self.name_heap_bytes -= heap::block(removed.name.len());
        self.by_name.remove(self.hasher.below(removed.filter, removed.name.as_bytes()), group);
        self.by_key.remove(removed.key, group);
        assert!(self.by_name.len() == self.slots.len());
        assert!(self.by_key.len() == self.slots.len());
        removed
    }

    /// # Panics
    /// If a count of bytes is wrong.
    pub(super) fn check(&self) {
        self.slots.check();
        self.by_name.check();
        self.by_key.check();
        let names = || self.slots.iter().map(|(_, group)| group.name.len());
        assert!(names().sum::<usize>() as u64 == self.name_bytes);
        assert!(names().map(heap::block).sum::<u64>() == self.name_heap_bytes);
    }

    /// A removal moved this group from the end of its filter's group list to `position`.
    pub(super) fn reposition(&mut self, group: u32, filter: u32, position: u32) {
        let moved = self.slots.get_mut(group);
        assert!(moved.filter == filter);
        assert!(moved.position > position);
        moved.position = position;
    }

    /// The version of a group.
    pub(super) fn version(&self, group: u32) -> u64 {
        self.get(group).version.max(self.common_version)
    }

    /// The members of any group, or whether they are online, may have changed.
    pub(super) fn touch_all(&mut self) {
        self.version += 1;
        self.common_version = self.version;
    }

    /// The members of the group, or whether they are online, may have changed.
    pub(super) fn touch(&mut self, group: u32) -> &Group {
        self.version += 1;
        let group = self.slots.get_mut(group);
        group.version = self.version;
        group
    }
}
