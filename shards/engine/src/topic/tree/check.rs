//! Recomputes what the tree keeps beside its filters, for an audit.

use wire::TopicFilter;

use crate::base::pool::number;

use super::super::members::Members;
use super::super::subscriptions::Target;
use super::Tree;

impl Tree {
    /// # Panics
    /// If a count, a link between two tables or a cached result is wrong.
    pub(crate) fn check(&self) {
        self.filters.check();
        self.wild.check(&self.filters);
        self.cache.check();
        self.groups.check();
        self.subscriptions.check();
        let (mut exact_count, mut group_count, mut list_bytes) = (0, 0, 0);
        for (index, filter) in self.filters.iter() {
            assert!(filter.is_used());
            exact_count += usize::from(filter.node().is_none());
            list_bytes += filter.members().heap_bytes() + filter.group_list_bytes();
            let lasting = filter.members().iter().filter(|member| member.is_lasting());
            assert!(lasting.count() == filter.lasting_count() as usize);
            self.check_members(Target::Filter(index), filter.members());
            for (position, &group) in filter.groups().iter().enumerate() {
                let shared = self.groups.get(group);
                assert!(shared.filter() == index && shared.position() == number(position));
                assert!(!shared.members().is_empty());
                list_bytes += shared.members().heap_bytes();
                self.check_members(Target::Group(group), shared.members());
                group_count += 1;
            }
        }
        assert!(exact_count == self.exact_count);
        assert!(group_count == self.groups.len());
        assert!(list_bytes == self.list_bytes);
        for (topic, filters) in self.cache.entries() {
            assert!(self.filters.find(topic).is_none_or(|filter| filters.contains(&filter)));
            for &filter in filters {
                assert!(self.filters.holds(filter));
                let filter = TopicFilter::parse_unshared(self.filters.text(filter));
                assert!(filter.is_ok_and(|filter| filter.matches(topic)));
            }
        }
    }

    /// Filters with wildcards that are held for others, for an audit.
    pub(crate) fn pinned_count(&self) -> usize {
        self.filters.iter().filter(|(_, filter)| filter.is_pinned()).count()
    }

    /// Numbers of the groups in use, for an audit.
    pub(crate) fn group_numbers(&self) -> impl Iterator<Item = u32> {
        self.filters.iter().flat_map(|(_, filter)| filter.groups().iter().copied())
    }

    fn check_members(&self, target: Target, members: &Members) {
        for (position, member) in members.iter().enumerate() {
            let subscription = self.subscriptions.find(member.session(), target);
            assert!(subscription.is_some_and(|known| self.subscriptions.position(known) == number(position)));
        }
    }
}
