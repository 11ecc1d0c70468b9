//! The subscriptions of a shard as lists, a part at a time.

use super::super::groups::GroupTag;
use super::super::members::Member;
use super::super::subscriptions::{SubscriptionList, Target};
use super::Tree;

/// A subscription in a list: its share name, its filter and its member.
pub(crate) type Listed<'a> = (Option<&'a str>, &'a str, &'a Member);

/// The subscription where a list was to go on belongs to this session no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ListChanged;

impl Tree {
    /// Visits the subscriptions in the slots from `from` up to `end`, until `visit` answers `false`. Returns the slot of the one that
    /// it refused, or else `end`; `None` once all slots are visited.
    pub(crate) fn visit_all(
        &self,
        from: u32,
        end: u32,
        mut visit: impl FnMut(Listed<'_>) -> bool,
    ) -> Option<u32> {
        let slot_count = self.subscriptions.slot_count();
        for slot in from..end.min(slot_count) {
            if let Some((session, target, position)) = self.subscriptions.at(slot) {
                let listed = self.listed(target, position);
                assert!(listed.2.session() == session);
                if !visit(listed) {
                    return Some(slot);
                }
            }
        }
        (end < slot_count).then_some(end)
    }

    /// Visits the subscriptions of a session from one of them on, or from the one that was added last, until `visit` answers `false`.
    /// Returns the subscription that it refused; `None` once all are visited.
    ///
    /// # Errors
    /// If the subscription to begin with is gone.
    pub(crate) fn visit_of(
        &self,
        (session, list): (u32, SubscriptionList),
        from: Option<u32>,
        mut visit: impl FnMut(Listed<'_>) -> bool,
    ) -> Result<Option<u32>, ListChanged> {
        let is_its_own = |&at: &u32| self.subscriptions.at(at).is_some_and(|(owner, ..)| owner == session);
        let mut at = match from {
            Some(from) => Some(Some(from).filter(is_its_own).ok_or(ListChanged)?),
            None => list.first(),
        };
        while let Some(subscription) = at {
            assert!(is_its_own(&subscription));
            let target = self.subscriptions.target(subscription);
            if !visit(self.listed(target, self.subscriptions.position(subscription))) {
                return Ok(at);
            }
            at = self.subscriptions.next(subscription);
        }
        Ok(None)
    }

    /// The text of a filter.
    pub(crate) fn filter_text(&self, filter: u32) -> &str {
        self.filters.text(filter)
    }

    /// The share name of a group.
    pub(crate) fn share_name(&self, group: GroupTag) -> &str {
        self.groups.get(group.group()).name()
    }

    pub(super) fn listed(&self, target: Target, position: u32) -> Listed<'_> {
        let position = position as usize;
        match target {
            Target::Filter(filter) => {
                let filter = self.filters.get(filter);
                (None, filter.text(), filter.members().at(position))
            }
            Target::Group(group) => {
                let group = self.groups.get(group);
                (Some(group.name()), self.filters.text(group.filter()), group.members().at(position))
            }
        }
    }
}
