//! Recomputes what the tree keeps beside its filters, for an audit.

use wire::TopicFilter;

use super::super::members::Member;
use super::super::pool::{NONE, number};
use super::super::subscriptions::Target;
use super::Tree;

impl Tree {
    /// # Panics
    /// If a count, a link between two tables or a cached result is wrong.
    pub(crate) fn check(&self) {
        self.filters.check();
        let (mut bytes, mut exact_count, mut group_count) = (0, 0, 0);
        for (index, filter) in self.filters.iter() {
            assert!(filter.is_used());
            assert!(self.filter_of(&filter.text) == Some(index));
            bytes += filter.text.len() as u64;
            exact_count += usize::from(filter.node == NONE);
            self.check_members(Target::Filter(index), filter.members.as_slice());
            for (position, &group) in filter.groups().iter().enumerate() {
                let shared = self.groups.get(group);
                assert!(shared.filter() == index && shared.position() == number(position));
                assert!(!shared.members().is_empty());
                self.check_members(Target::Group(group), shared.members().as_slice());
                group_count += 1;
            }
        }
        assert!(bytes == self.filter_bytes);
        assert!(exact_count == self.exact_count);
        assert!(group_count == self.groups.len());
        for (topic, filters) in self.cache.entries() {
            assert!(self.filter_of(topic).is_none_or(|filter| filters.contains(&filter)));
            for &filter in filters {
                assert!(self.filters.holds(filter));
                let filter = TopicFilter::parse_unshared(&self.filters.get(filter).text);
                assert!(filter.is_ok_and(|filter| filter.matches(topic)));
            }
        }
    }

    /// Filters with wildcards that are held for others, for an audit.
    pub(crate) fn pinned_count(&self) -> usize {
        self.filters.iter().filter(|(_, filter)| filter.is_pinned).count()
    }

    /// Numbers of the groups in use, for an audit.
    pub(crate) fn group_numbers(&self) -> impl Iterator<Item = u32> {
        self.filters.iter().flat_map(|(_, filter)| filter.groups().iter().copied())
    }

    fn check_members(&self, target: Target, members: &[Member]) {
        for (position, member) in members.iter().enumerate() {
            let subscription = self.subscriptions.find(member.session(), target);
            assert!(subscription.is_some_and(|known| self.subscriptions.position(known) == number(position)));
        }
    }
}
