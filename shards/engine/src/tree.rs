//! The subscription tree: which sessions of this shard want a topic.
//! Knows no connection, no delivery and no other shard; `deliver` joins those.
//!
//! A filter without wildcards is found by one look-up of the whole topic. Filters with wildcards hang
//! in a trie by level, whose edges are one table for the whole tree: a node costs its text and a few
//! words, however many children it has.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use hashbrown::HashTable;
use wire::{QoS, RetainHandling, SubscribeOptions, SubscriptionId, TopicFilter};

use crate::hash::Keyed;
use crate::interest::Interest;
use crate::topology::Placement;

const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;

/// A session that subscribes to a filter, as the fan-out reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    /// Slot of the session; its generation is not needed, a session unsubscribes before it ends.
    pub(crate) session: u32,
    subscription: u32,
    pub(crate) identifier: Option<SubscriptionId>,
    pub(crate) options: SubscribeOptions,
}

/// Where a subscription hangs: at a filter, or in a group that shares the filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Filter(u32),
    Group(u32),
}

impl Place {
    fn as_u64(self) -> u64 {
        match self {
            Self::Filter(filter) => u64::from(filter),
            Self::Group(group) => 1 << 32 | u64::from(group),
        }
    }
}

#[derive(Debug)]
struct Subscription {
    session: u32,
    place: Place,
    /// Index in the member list of its place.
    position: u32,
    /// Neighbours in the list of its session.
    next: u32,
    previous: u32,
}

#[derive(Debug)]
struct Filter {
    text: Box<str>,
    /// Where it ends in the trie; `NONE` without wildcards.
    node: u32,
    members: Vec<Member>,
    groups: Vec<u32>,
    /// What the other shards want of it, if it has wildcards and they want anything.
    interest: Option<Box<Interest>>,
}

/// A change that the other shards have to know.
#[derive(Debug)]
pub(crate) enum Change {
    /// The first subscriber that is in no group came, or the last one went.
    Interest { filter: Box<str>, wanted: bool },
    /// The members of a group changed.
    Group { filter: Box<str>, key: u64 },
}

/// A group of a shared subscription: each message goes to one of its members [MQTT-4.8.2-1].
#[derive(Debug)]
pub(crate) struct Group {
    name: Box<str>,
    filter: u32,
    /// Index in the group list of its filter.
    position: u32,
    pub(crate) members: Vec<Member>,
    /// The member whose turn is next.
    pub(crate) cursor: u32,
    /// What stands for it between shards.
    pub(crate) key: u64,
    /// Members online, and offline ones that can keep a message, since they were counted last.
    pub(crate) counts: Option<(u32, u32)>,
}

#[derive(Debug)]
struct Node {
    parent: u32,
    level: Box<str>,
    /// The filter that ends here.
    filter: u32,
    /// The filter that ends with `#` below here.
    filter_multi: u32,
    /// The child for `+`.
    single: u32,
    /// Children for levels without wildcards, found through the edges.
    literal_count: u32,
}

/// Slots of plain values that are reused, without generations: nothing outside keeps these numbers.
#[derive(Debug)]
struct Pool<T> {
    slots: Vec<Option<T>>,
    vacant: Vec<u32>,
}

impl<T> Pool<T> {
    const fn new() -> Self {
        Self { slots: Vec::new(), vacant: Vec::new() }
    }

    fn insert(&mut self, value: T) -> u32 {
        if let Some(index) = self.vacant.pop() {
            self.slots[index as usize] = Some(value);
            return index;
        }
        self.slots.push(Some(value));
        u32::try_from(self.slots.len() - 1).expect("bounded by sessions × subscriptions")
    }

    fn remove(&mut self, index: u32) -> T {
        let value = self.slots[index as usize].take().expect("only live slots are removed");
        self.vacant.push(index);
        value
    }

    fn get(&self, index: u32) -> &T {
        self.slots[index as usize].as_ref().expect("only live slots are linked")
    }

    fn get_mut(&mut self, index: u32) -> &mut T {
        self.slots[index as usize].as_mut().expect("only live slots are linked")
    }

    fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }
}

/// The list of a session's subscriptions: its first one, how many, and how many of them are shared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SubscriptionList {
    first: u32,
    pub(crate) count: u32,
    shared_count: u32,
}

impl SubscriptionList {
    pub(crate) const EMPTY: Self = Self { first: NONE, count: 0, shared_count: 0 };
}

/// **Lives on:** every shard. **Sees:** subscriptions of sessions owned here.
#[derive(Debug)]
pub(crate) struct Tree {
    hasher: Keyed,
    filters: Pool<Filter>,
    groups: Pool<Group>,
    nodes: Pool<Node>,
    subscriptions: Pool<Subscription>,
    by_text: HashTable<u32>,
    by_group: HashTable<u32>,
    by_edge: HashTable<u32>,
    by_session: HashTable<u32>,
    by_key: HashTable<u32>,
    exact_count: usize,
    /// How groups are called between shards; `None` where there is one shard and nobody to tell.
    placement: Option<Placement>,
    changes: VecDeque<Change>,
}

impl Tree {
    pub(crate) fn new(hasher: Keyed) -> Self {
        let mut nodes = Pool::new();
        let root = nodes.insert(Node {
            parent: NONE,
            level: Box::default(),
            filter: NONE,
            filter_multi: NONE,
            single: NONE,
            literal_count: 0,
        });
        assert!(root == ROOT);
        Self {
            hasher,
            filters: Pool::new(),
            groups: Pool::new(),
            nodes,
            subscriptions: Pool::new(),
            by_text: HashTable::new(),
            by_group: HashTable::new(),
            by_edge: HashTable::new(),
            by_session: HashTable::new(),
            by_key: HashTable::new(),
            exact_count: 0,
            placement: None,
            changes: VecDeque::new(),
        }
    }

    /// From now on, notes what the other shards have to know.
    pub(crate) fn watch_changes(&mut self, placement: Placement) {
        self.placement = Some(placement);
    }

    /// The oldest change not yet told. Bounded by what one step changes.
    pub(crate) fn next_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// The group that other shards call `key`.
    pub(crate) fn group_by_key(&self, key: u64) -> Option<u32> {
        self.by_key.find(key, |&group| self.groups.get(group).key == key).copied()
    }

    pub(crate) fn group(&self, group: u32) -> &Group {
        self.groups.get(group)
    }

    /// What the other shards want of a filter with wildcards.
    pub(crate) fn interest(&self, filter: u32) -> Option<&Interest> {
        self.filters.get(filter).interest.as_deref()
    }

    /// Changes what the other shards want of a filter with wildcards.
    pub(crate) fn change_interest(&mut self, text: &TopicFilter<'_>, change: impl FnOnce(&mut Interest)) {
        assert!(text.has_wildcard());
        let filter = self.filter_or_new(text);
        let interest = &mut self.filters.get_mut(filter).interest;
        change(interest.get_or_insert_default());
        if interest.as_ref().is_some_and(|interest| interest.is_empty()) {
            *interest = None;
        }
        self.drop_filter_if_unused(filter);
    }

    /// A session came online, went offline or changed whether it keeps messages: its groups count anew.
    pub(crate) fn member_changed(&mut self, list: SubscriptionList) {
        if self.placement.is_none() || list.shared_count == 0 {
            return;
        }
        let mut at = list.first;
        while at != NONE {
            let Subscription { place, next, .. } = *self.subscriptions.get(at);
            match place {
                Place::Filter(_) => {}
                Place::Group(group) => self.group_changed(group),
            }
            at = next;
        }
    }

    fn group_changed(&mut self, group: u32) {
        if self.placement.is_some() {
            let group = self.groups.get_mut(group);
            group.counts = None;
            let filter = self.filters.get(group.filter).text.clone();
            self.changes.push_back(Change::Group { filter, key: group.key });
        }
    }

    fn interest_changed(&mut self, filter: u32, wanted: bool) {
        if self.placement.is_some() {
            let filter = self.filters.get(filter).text.clone();
            self.changes.push_back(Change::Interest { filter, wanted });
        }
    }

    /// Subscriptions held.
    pub(crate) fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    /// Slots in use for filters, groups and trie nodes: all back at their baseline (0, 0, 1) once
    /// nobody subscribes.
    pub(crate) fn slot_counts(&self) -> (usize, usize, usize) {
        (self.filters.len(), self.groups.len(), self.nodes.len())
    }

    pub(crate) fn members(&self, filter: u32) -> &[Member] {
        &self.filters.get(filter).members
    }

    pub(crate) fn groups(&self, filter: u32) -> &[u32] {
        &self.filters.get(filter).groups
    }

    pub(crate) fn group_mut(&mut self, group: u32) -> &mut Group {
        self.groups.get_mut(group)
    }

    /// Adds a subscription or replaces its options [MQTT-3.8.4-3]. Returns whether it is new.
    pub(crate) fn subscribe(
        &mut self,
        list: &mut SubscriptionList,
        session: u32,
        text: &TopicFilter<'_>,
        options: SubscribeOptions,
        identifier: Option<SubscriptionId>,
    ) -> bool {
        let filter = self.filter_or_new(text);
        let place = match text.share_name() {
            None => Place::Filter(filter),
            Some(name) => Place::Group(self.group_or_new(filter, name, text)),
        };
        if let Some(subscription) = self.find(session, place) {
            let position = self.subscriptions.get(subscription).position as usize;
            let member = &mut self.members_mut(place)[position];
            member.options = options;
            member.identifier = identifier;
            return false;
        }
        let members = self.members_mut(place);
        let position = u32::try_from(members.len()).expect("at most one member a session");
        members.push(Member { session, subscription: NONE, identifier, options });
        let subscription = self.subscriptions.insert(Subscription {
            session,
            place,
            position,
            next: list.first,
            previous: NONE,
        });
        self.members_mut(place)[position as usize].subscription = subscription;
        if list.first != NONE {
            self.subscriptions.get_mut(list.first).previous = subscription;
        }
        *list = SubscriptionList { first: subscription, count: list.count + 1, ..*list };
        match place {
            Place::Filter(filter) if position == 0 => self.interest_changed(filter, true),
            Place::Filter(_) => {}
            Place::Group(group) => {
                list.shared_count += 1;
                self.group_changed(group);
            }
        }
        let hash = self.hasher.pair(session, place.as_u64());
        let (subscriptions, hasher) = (&self.subscriptions, self.hasher);
        self.by_session.insert_unique(hash, subscription, |&other| {
            let other = subscriptions.get(other);
            hasher.pair(other.session, other.place.as_u64())
        });
        true
    }

    /// Whether `session` holds this very filter.
    pub(crate) fn holds(&self, session: u32, text: &TopicFilter<'_>) -> bool {
        self.place_of(text).and_then(|place| self.find(session, place)).is_some()
    }

    /// Removes a subscription; `false` if there was none [MQTT-3.10.4-1].
    pub(crate) fn unsubscribe(
        &mut self,
        list: &mut SubscriptionList,
        session: u32,
        text: &TopicFilter<'_>,
    ) -> bool {
        let Some(subscription) = self.place_of(text).and_then(|place| self.find(session, place)) else {
            return false;
        };
        self.remove(list, subscription);
        true
    }

    /// Removes all subscriptions of a session.
    pub(crate) fn unsubscribe_all(&mut self, list: &mut SubscriptionList) {
        while list.first != NONE {
            self.remove(list, list.first);
        }
        assert!(list.count == 0);
    }

    /// Visits the subscriptions of a session: share name, filter, options, identifier.
    pub(crate) fn for_each(
        &self,
        list: SubscriptionList,
        mut visit: impl FnMut(Option<&str>, &str, &Member),
    ) {
        let mut at = list.first;
        while at != NONE {
            let subscription = self.subscriptions.get(at);
            let position = subscription.position as usize;
            match subscription.place {
                Place::Filter(filter) => {
                    let filter = self.filters.get(filter);
                    visit(None, &filter.text, &filter.members[position]);
                }
                Place::Group(group) => {
                    let group = self.groups.get(group);
                    let filter = self.filters.get(group.filter);
                    visit(Some(&group.name), &filter.text, &group.members[position]);
                }
            }
            at = subscription.next;
        }
    }

    /// Appends every filter that matches `topic` to `matched`.
    ///
    /// Bounded by the nodes of the trie; the trie is at most as deep as the deepest filter.
    pub(crate) fn matches(&self, topic: &str, matched: &mut Vec<u32>, stack: &mut Vec<(u32, usize)>) {
        if self.exact_count > 0
            && let Some(&filter) = self
                .by_text
                .find(self.hasher.bytes(topic.as_bytes()), |&filter| *self.filters.get(filter).text == *topic)
        {
            matched.push(filter);
        }
        if self.nodes.len() == 1 && self.nodes.get(ROOT).filter_multi == NONE {
            return;
        }
        // A position past the end says that no level is left: "a/" has an empty last level, "a" has not.
        let end = topic.len() + 1;
        let wild_at_root = !topic.starts_with('$');
        stack.push((ROOT, 0));
        while let Some((index, at)) = stack.pop() {
            let node = self.nodes.get(index);
            let wild = index != ROOT || wild_at_root;
            if wild && node.filter_multi != NONE {
                matched.push(node.filter_multi);
            }
            if at == end {
                if node.filter != NONE {
                    matched.push(node.filter);
                }
                continue;
            }
            let rest = &topic[at..];
            let level = rest.split_once('/').map_or(rest, |(level, _)| level);
            let after = at + level.len() + 1;
            if wild && node.single != NONE {
                stack.push((node.single, after));
            }
            if node.literal_count > 0
                && let Some(child) = self.child(index, level)
            {
                stack.push((child, after));
            }
        }
    }

    fn members_mut(&mut self, place: Place) -> &mut Vec<Member> {
        match place {
            Place::Filter(filter) => &mut self.filters.get_mut(filter).members,
            Place::Group(group) => &mut self.groups.get_mut(group).members,
        }
    }

    fn find(&self, session: u32, place: Place) -> Option<u32> {
        let hash = self.hasher.pair(session, place.as_u64());
        self.by_session
            .find(hash, |&subscription| {
                let subscription = self.subscriptions.get(subscription);
                subscription.session == session && subscription.place == place
            })
            .copied()
    }

    fn place_of(&self, text: &TopicFilter<'_>) -> Option<Place> {
        let filter = self.filter_of(text.filter())?;
        match text.share_name() {
            None => Some(Place::Filter(filter)),
            Some(name) => self.group_of(filter, name).map(Place::Group),
        }
    }

    fn filter_of(&self, text: &str) -> Option<u32> {
        self.by_text
            .find(self.hasher.bytes(text.as_bytes()), |&filter| *self.filters.get(filter).text == *text)
            .copied()
    }

    fn group_of(&self, filter: u32, name: &str) -> Option<u32> {
        self.by_group
            .find(self.hasher.below(filter, name.as_bytes()), |&group| {
                let group = self.groups.get(group);
                group.filter == filter && *group.name == *name
            })
            .copied()
    }

    fn child(&self, parent: u32, level: &str) -> Option<u32> {
        self.by_edge
            .find(self.hasher.below(parent, level.as_bytes()), |&node| {
                let node = self.nodes.get(node);
                node.parent == parent && *node.level == *level
            })
            .copied()
    }

    fn filter_or_new(&mut self, text: &TopicFilter<'_>) -> u32 {
        if let Some(filter) = self.filter_of(text.filter()) {
            return filter;
        }
        let filter = self.filters.insert(Filter {
            text: text.filter().into(),
            node: NONE,
            members: Vec::new(),
            groups: Vec::new(),
            interest: None,
        });
        if text.has_wildcard() {
            self.hang(filter, text.filter());
        } else {
            self.exact_count += 1;
        }
        let (filters, hasher) = (&self.filters, self.hasher);
        self.by_text.insert_unique(self.hasher.bytes(text.filter().as_bytes()), filter, |&other| {
            hasher.bytes(filters.get(other).text.as_bytes())
        });
        filter
    }

    fn group_or_new(&mut self, filter: u32, name: &str, text: &TopicFilter<'_>) -> u32 {
        if let Some(group) = self.group_of(filter, name) {
            return group;
        }
        let position = u32::try_from(self.groups(filter).len()).expect("at most one group a subscription");
        let key = self.placement.map_or(0, |placement| placement.group_key(name, text));
        let group = self.groups.insert(Group {
            name: name.into(),
            filter,
            position,
            members: Vec::new(),
            cursor: 0,
            key,
            counts: None,
        });
        if self.placement.is_some() {
            let groups = &self.groups;
            self.by_key.insert_unique(key, group, |&other| groups.get(other).key);
        }
        self.filters.get_mut(filter).groups.push(group);
        let (groups, hasher) = (&self.groups, self.hasher);
        self.by_group.insert_unique(self.hasher.below(filter, name.as_bytes()), group, |&other| {
            let other = groups.get(other);
            hasher.below(other.filter, other.name.as_bytes())
        });
        group
    }

    /// Hangs a filter with wildcards into the trie.
    fn hang(&mut self, filter: u32, text: &str) {
        let mut at = ROOT;
        for level in text.split('/') {
            if level == "#" {
                let node = self.nodes.get_mut(at);
                assert!(node.filter_multi == NONE);
                node.filter_multi = filter;
                self.filters.get_mut(filter).node = at;
                return;
            }
            at = self.child_or_new(at, level);
        }
        let node = self.nodes.get_mut(at);
        assert!(node.filter == NONE);
        node.filter = filter;
        self.filters.get_mut(filter).node = at;
    }

    fn child_or_new(&mut self, parent: u32, level: &str) -> u32 {
        let single = level == "+";
        if single && self.nodes.get(parent).single != NONE {
            return self.nodes.get(parent).single;
        }
        if !single && let Some(child) = self.child(parent, level) {
            return child;
        }
        let child = self.nodes.insert(Node {
            parent,
            level: level.into(),
            filter: NONE,
            filter_multi: NONE,
            single: NONE,
            literal_count: 0,
        });
        if single {
            self.nodes.get_mut(parent).single = child;
            return child;
        }
        self.nodes.get_mut(parent).literal_count += 1;
        let (nodes, hasher) = (&self.nodes, self.hasher);
        self.by_edge.insert_unique(self.hasher.below(parent, level.as_bytes()), child, |&other| {
            let other = nodes.get(other);
            hasher.below(other.parent, other.level.as_bytes())
        });
        child
    }

    fn remove(&mut self, list: &mut SubscriptionList, subscription: u32) {
        let Subscription { session, place, position, next, previous } =
            self.subscriptions.remove(subscription);
        let hash = self.hasher.pair(session, place.as_u64());
        self.by_session
            .find_entry(hash, |&other| other == subscription)
            .expect("every subscription is in the table")
            .remove();
        if previous == NONE {
            assert!(list.first == subscription);
            list.first = next;
        } else {
            self.subscriptions.get_mut(previous).next = next;
        }
        if next != NONE {
            self.subscriptions.get_mut(next).previous = previous;
        }
        list.count -= 1;
        match place {
            Place::Filter(_) => {}
            Place::Group(group) => {
                list.shared_count -= 1;
                self.group_changed(group);
            }
        }

        let members = self.members_mut(place);
        members.swap_remove(position as usize);
        if let Some(moved) = members.get(position as usize).map(|member| member.subscription) {
            self.subscriptions.get_mut(moved).position = position;
        } else if members.is_empty() {
            *members = Vec::new();
            match place {
                Place::Filter(filter) => {
                    self.interest_changed(filter, false);
                    self.drop_filter_if_unused(filter);
                }
                Place::Group(group) => self.drop_group(group),
            }
        }
    }

    fn drop_group(&mut self, group: u32) {
        let Group { name, filter, position, members, key, .. } = self.groups.remove(group);
        assert!(members.is_empty());
        self.by_group
            .find_entry(self.hasher.below(filter, name.as_bytes()), |&other| other == group)
            .expect("every group is in the table")
            .remove();
        if let Ok(entry) = self.by_key.find_entry(key, |&other| other == group) {
            entry.remove();
        }
        let groups = &mut self.filters.get_mut(filter).groups;
        groups.swap_remove(position as usize);
        if let Some(&moved) = groups.get(position as usize) {
            self.groups.get_mut(moved).position = position;
        }
        self.drop_filter_if_unused(filter);
    }

    fn drop_filter_if_unused(&mut self, index: u32) {
        let filter = self.filters.get(index);
        if !filter.members.is_empty() || !filter.groups.is_empty() || filter.interest.is_some() {
            return;
        }
        let filter = self.filters.remove(index);
        self.by_text
            .find_entry(self.hasher.bytes(filter.text.as_bytes()), |&other| other == index)
            .expect("every filter is in the table")
            .remove();
        if filter.node == NONE {
            self.exact_count -= 1;
            return;
        }
        let node = self.nodes.get_mut(filter.node);
        if node.filter == index {
            node.filter = NONE;
        } else {
            assert!(node.filter_multi == index);
            node.filter_multi = NONE;
        }
        self.prune(filter.node);
    }

    /// Frees a node that leads nowhere, and its parents that then lead nowhere.
    fn prune(&mut self, mut at: u32) {
        while at != ROOT {
            let node = self.nodes.get(at);
            let used = node.filter != NONE
                || node.filter_multi != NONE
                || node.single != NONE
                || node.literal_count > 0;
            if used {
                return;
            }
            let Node { parent, level, .. } = self.nodes.remove(at);
            let above = self.nodes.get_mut(parent);
            if above.single == at {
                above.single = NONE;
            } else {
                above.literal_count -= 1;
                self.by_edge
                    .find_entry(self.hasher.below(parent, level.as_bytes()), |&other| other == at)
                    .expect("every literal node is an edge")
                    .remove();
            }
            at = parent;
        }
    }
}

/// The options a subscription has when nothing says otherwise: 3.1.1, and restored ones.
pub(crate) const fn plain_options(qos: QoS) -> SubscribeOptions {
    SubscribeOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Entropy;
    use alloc::string::{String, ToString};

    fn tree() -> Tree {
        Tree::new(Keyed::new(Entropy(7)))
    }

    fn matched(tree: &Tree, topic: &str) -> Vec<String> {
        let (mut filters, mut stack) = (Vec::new(), Vec::new());
        tree.matches(topic, &mut filters, &mut stack);
        let mut texts: Vec<String> =
            filters.iter().map(|&filter| tree.filters.get(filter).text.to_string()).collect();
        texts.sort();
        texts
    }

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::parse(text).unwrap()
    }

    #[test]
    fn every_matching_filter_is_found_and_no_other() {
        let mut tree = tree();
        let mut list = SubscriptionList::EMPTY;
        for text in [
            "a", "a/b", "a/+", "a/#", "+/b", "#", "+", "+/+", "/", "/+", "+/", "a//b", "a/+/b", "$SYS/#",
            "$SYS/+",
        ] {
            assert!(tree.subscribe(&mut list, 0, &filter(text), plain_options(QoS::AtMostOnce), None));
        }
        let check = |topic: &str, expected: &[&str]| {
            let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            expected.sort();
            assert_eq!(matched(&tree, topic), expected, "{topic}");
        };
        check("a", &["a", "a/#", "#", "+"]);
        check("a/b", &["a/b", "a/+", "a/#", "+/b", "#", "+/+"]);
        check("a/", &["a/+", "a/#", "#", "+/+", "+/"]);
        check("/", &["/", "/+", "+/+", "+/", "#"]);
        check("a//b", &["a//b", "a/+/b", "a/#", "#"]);
        check("$SYS/x", &["$SYS/#", "$SYS/+"]);
        check("$SYS", &["$SYS/#"]);
        check("b", &["#", "+"]);
        tree.unsubscribe_all(&mut list);
        assert_eq!(tree.slot_counts(), (0, 0, 1));
        assert_eq!(tree.subscription_count(), 0);
    }

    #[test]
    fn the_tree_agrees_with_the_matcher_of_the_codec_on_random_filters() {
        let levels = ["a", "b", "", "$x", "+", "#"];
        let mut seed = 3u64;
        let mut next = |bound: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % bound
        };
        let mut tree = tree();
        let mut lists = [SubscriptionList::EMPTY; 8];
        let mut held: Vec<(u32, String)> = Vec::new();
        for _ in 0..3_000 {
            let depth = 1 + next(4);
            let text: Vec<&str> = (0..depth).map(|_| levels[next(6)]).collect();
            let text = text.join("/");
            let Ok(parsed) = TopicFilter::parse(&text) else { continue };
            let session = u32::try_from(next(8)).unwrap();
            let known = held.iter().position(|(who, what)| *who == session && *what == text);
            let list = &mut lists[session as usize];
            if next(2) == 0 {
                let new = tree.subscribe(list, session, &parsed, plain_options(QoS::AtMostOnce), None);
                assert_eq!(new, known.is_none());
                if new {
                    held.push((session, text));
                }
            } else {
                assert_eq!(tree.unsubscribe(list, session, &parsed), known.is_some());
                known.map(|at| held.swap_remove(at));
            }
            assert_eq!(tree.subscription_count(), held.len());
            let topic: Vec<&str> = (0..=next(4)).map(|_| levels[next(4)]).collect();
            let topic = topic.join("/");
            if topic.is_empty() {
                continue;
            }
            let mut expected: Vec<String> = held
                .iter()
                .filter(|(_, what)| TopicFilter::parse(what).unwrap().matches(&topic))
                .map(|(_, what)| what.clone())
                .collect();
            expected.sort();
            expected.dedup();
            assert_eq!(matched(&tree, &topic), expected, "{topic}");
        }
    }

    #[test]
    fn groups_share_a_filter_and_leave_nothing_behind() {
        let mut tree = tree();
        let mut lists = [SubscriptionList::EMPTY; 3];
        for session in 0..3u32 {
            for text in ["$share/g/a/+", "$share/h/a/+", "a/+"] {
                let list = &mut lists[session as usize];
                tree.subscribe(list, session, &filter(text), plain_options(QoS::AtLeastOnce), None);
            }
        }
        let (mut filters, mut stack) = (Vec::new(), Vec::new());
        tree.matches("a/x", &mut filters, &mut stack);
        assert_eq!(filters.len(), 1);
        assert_eq!(tree.members(filters[0]).len(), 3);
        assert_eq!(tree.groups(filters[0]).len(), 2);
        assert!(tree.unsubscribe(&mut lists[1], 1, &filter("$share/g/a/+")));
        assert!(!tree.unsubscribe(&mut lists[1], 1, &filter("$share/g/a/+")));
        assert_eq!(tree.groups.get(tree.groups(filters[0])[0]).members.len(), 2);
        for list in &mut lists {
            tree.unsubscribe_all(list);
        }
        assert_eq!(tree.slot_counts(), (0, 0, 1));
    }
}
