//! The changes of the tree that concern other shards: the interest in a filter, and the members of a group.

use alloc::boxed::Box;

use super::super::filters::Wanted;
use super::super::subscriptions::Target;
use super::Tree;

/// A change that concerns those with whom names are shared.
#[derive(Debug)]
pub(crate) enum Change {
    /// The first member of a filter, or the first lasting one, subscribed, or the last one left. Groups are not counted.
    Interest { filter: Box<str>, wanted: Wanted },
    /// The members of a group changed, or whether they are online.
    Group { filter: Box<str>, key: u64 },
}

impl Tree {
    /// Whether a change waits for [`Tree::next_change`].
    #[inline]
    pub(crate) fn has_change(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Takes the oldest change that was recorded.
    pub(crate) fn next_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    pub(super) fn record_group(&mut self, group: u32) {
        let group = self.groups.touch(group);
        if self.shares_names {
            let filter = self.filters.text(group.filter()).into();
            self.changes.push_back(Change::Group { filter, key: group.key() });
        }
    }

    /// The members of a filter or a group have changed by one, which was lasting or is.
    pub(super) fn record_change(
        &mut self,
        target: Target,
        before: Wanted,
        (was_lasting, is_lasting): (bool, bool),
    ) {
        match target {
            Target::Filter(filter) => {
                let changed = self.filters.get_mut(filter);
                changed.count_lasting(was_lasting, is_lasting);
                let wanted = changed.wanted();
                if self.shares_names && wanted != before {
                    let filter = changed.text().into();
                    self.changes.push_back(Change::Interest { filter, wanted });
                }
            }
            Target::Group(group) => self.record_group(group),
        }
    }
}
