//! Tests of the tree: it agrees with the codec's own matcher, and removals leave nothing behind.

use super::*;
use crate::base::hash::Entropy;
use crate::topic::subscriptions::plain_options;
use alloc::string::{String, ToString};
use wire::QoS;

pub(super) fn tree() -> Tree {
    Tree::new(Keyed::new(Entropy(7)))
}

pub(super) fn matched(tree: &mut Tree, topic: &str) -> Vec<String> {
    let mut filters = Vec::new();
    let visited_count = tree.matches(topic, &mut filters).visited_count();
    assert!(visited_count <= tree.cost());
    let mut texts: Vec<String> =
        filters.iter().map(|&filter| tree.filters.text(filter).to_string()).collect();
    texts.sort();
    texts
}

pub(super) fn filter(text: &str) -> TopicFilter<'_> {
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
        assert!(tree.subscribe(&mut list, (0, false), &filter(text), plain_options(QoS::AtMostOnce), None));
    }
    let mut check = |topic: &str, expected: &[&str]| {
        let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
        expected.sort();
        assert_eq!(matched(&mut tree, topic), expected, "{topic}");
    };
    check("a", &["a", "a/#", "#", "+"]);
    check("a/b", &["a/b", "a/+", "a/#", "+/b", "#", "+/+"]);
    check("a/", &["a/+", "a/#", "#", "+/+", "+/"]);
    check("/", &["/", "/+", "+/+", "+/", "#"]);
    check("a//b", &["a//b", "a/+/b", "a/#", "#"]);
    check("$SYS/x", &["$SYS/#", "$SYS/+"]);
    check("$SYS", &["$SYS/#"]);
    check("b", &["#", "+"]);
    while tree.unsubscribe_one(&mut list) {}
    assert_eq!(tree.slot_counts(), (0, 0, 1));
    assert_eq!(tree.subscription_count(), 0);
}

/// Numbers that look random and are the same in every run.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    /// Levels joined by separators. A few long runs are likely, so that labels are long and part in their middle.
    pub(super) fn levels(&mut self, levels: &[&str], count_max: usize) -> String {
        let count = 1 + self.below(count_max);
        let mut text = String::new();
        for at in 0..count {
            if at > 0 {
                text.push('/');
            }
            text += levels[self.below(levels.len())];
        }
        text
    }
}

#[test]
fn the_tree_agrees_with_the_matcher_of_the_codec_on_random_filters() {
    let all = ["a", "b", "", "$x", "+", "#"];
    let long = ["a", "a", "a", "a level that is longer than others", "", "+", "+", "#"];
    let words = ["a", "ab", "abc", "b", "é", "è", "+", "#"];
    let plain = ["+", "a", "+", "a", "+", "a", "+", "#"];
    let kinds: [(&[&str], usize); 6] =
        [(&all, 4), (&all, 9), (&long, 12), (&words, 5), (&plain, 8), (&["", "+", "#"], 5)];
    for (seed, (levels, depth)) in (1..).zip(kinds.iter().cycle().take(36)) {
        agrees_with_the_codec(&mut Numbers::new(seed), levels, *depth);
    }
}

/// Subscribes and unsubscribes at random; after each change, one topic matches what the codec says.
fn agrees_with_the_codec(numbers: &mut Numbers, levels: &[&str], depth: usize) {
    let in_topics: Vec<&str> = levels.iter().copied().filter(|level| !["+", "#"].contains(level)).collect();
    let mut tree = tree();
    let mut lists = [SubscriptionList::EMPTY; 8];
    let mut held: Vec<(u32, String)> = Vec::new();
    for round in 0..500 {
        let text = numbers.levels(levels, depth);
        let Ok(parsed) = TopicFilter::parse(&text) else { continue };
        let session = u32::try_from(numbers.below(8)).unwrap();
        // Filters gather at first and go at last.
        if numbers.below(500) > round {
            let known = held.iter().any(|(who, what)| *who == session && *what == text);
            let list = &mut lists[session as usize];
            let new = tree.subscribe(list, (session, false), &parsed, plain_options(QoS::AtMostOnce), None);
            assert_eq!(new, !known);
            if new {
                held.push((session, text));
            }
        } else if !held.is_empty() {
            let (session, text) = held.swap_remove(numbers.below(held.len()));
            assert!(tree.unsubscribe(&mut lists[session as usize], session, &filter(&text)));
            assert!(!tree.unsubscribe(&mut lists[session as usize], session, &filter(&text)));
        }
        assert_eq!(tree.subscription_count(), held.len());
        if round % 16 == 0 {
            tree.check();
        }
        let topic = numbers.levels(&in_topics, depth + 1);
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
        assert_eq!(matched(&mut tree, &topic), expected, "{topic}");
    }
    for list in &mut lists {
        while tree.unsubscribe_one(list) {}
    }
    tree.check();
    assert_eq!((tree.slot_counts(), tree.text_bytes(), tree.cost()), ((0, 0, 1), 0, 1));
}

#[test]
fn groups_share_a_filter_and_leave_nothing_behind() {
    let mut tree = tree();
    let mut lists = [SubscriptionList::EMPTY; 3];
    for session in 0..3u32 {
        for text in ["$share/g/a/+", "$share/h/a/+", "a/+"] {
            let list = &mut lists[session as usize];
            tree.subscribe(list, (session, false), &filter(text), plain_options(QoS::AtLeastOnce), None);
        }
    }
    let mut filters = Vec::new();
    tree.matches("a/x", &mut filters);
    assert_eq!(filters.len(), 1);
    assert_eq!(tree.members(filters[0]).len(), 3);
    assert_eq!(tree.groups(filters[0]).len(), 2);
    assert!(tree.unsubscribe(&mut lists[1], 1, &filter("$share/g/a/+")));
    assert!(!tree.unsubscribe(&mut lists[1], 1, &filter("$share/g/a/+")));
    assert_eq!(tree.group_members(tree.groups(filters[0])[0]).len(), 2);
    for list in &mut lists {
        while tree.unsubscribe_one(list) {}
    }
    assert_eq!(tree.slot_counts(), (0, 0, 1));
}

#[test]
fn a_pinned_filter_is_held_without_a_subscriber_and_dropped_with_the_last_use() {
    let mut tree = tree();
    let mut list = SubscriptionList::EMPTY;
    let text = filter("a/+");
    let pinned = tree.pin(&text);
    assert_eq!((tree.pin(&text), tree.filter_named(&text)), (pinned, Some(pinned)));
    assert_eq!(matched(&mut tree, "a/b"), ["a/+"]);
    assert_eq!((tree.members(pinned).len(), tree.text_bytes(), tree.subscription_count()), (0, 3, 0));
    tree.subscribe(&mut list, (0, false), &text, plain_options(QoS::AtMostOnce), None);
    tree.unpin(pinned);
    assert_eq!(tree.filter_named(&text), Some(pinned));
    assert_eq!(tree.pin(&text), pinned);
    while tree.unsubscribe_one(&mut list) {}
    assert_eq!(matched(&mut tree, "a/b"), ["a/+"]);
    tree.unpin(pinned);
    assert_eq!((tree.filter_named(&text), tree.slot_counts(), tree.text_bytes()), (None, (0, 0, 1), 0));
    assert_eq!(matched(&mut tree, "a/b"), [""; 0]);
}

#[test]
fn the_version_of_a_group_grows_with_each_change_and_never_comes_back() {
    let mut tree = tree();
    let mut lists = [SubscriptionList::EMPTY; 2];
    let text = filter("$share/g/a/+");
    let mut versions = Vec::new();
    for _ in 0..2 {
        for session in 0..2u32 {
            let list = &mut lists[session as usize];
            tree.subscribe(list, (session, false), &text, plain_options(QoS::AtLeastOnce), None);
            versions.push(tree.group_version(tree.group_named(&text).unwrap()));
        }
        let group = tree.group_named(&text).unwrap();
        tree.members_changed(lists[0]);
        versions.push(tree.group_version(group));
        tree.unsubscribe(&mut lists[0], 0, &text);
        versions.push(tree.group_version(group));
        while tree.unsubscribe_one(&mut lists[1]) {}
    }
    assert!(versions.is_sorted_by(|before, after| before < after), "{versions:?}");
}

#[test]
fn changes_and_fingerprints_begin_when_names_are_shared() {
    let mut list = SubscriptionList::EMPTY;
    let options = plain_options(QoS::AtMostOnce);
    let mut alone = tree();
    alone.subscribe(&mut list, (0, false), &filter("a"), options, None);
    assert_eq!(alone.matches("a", &mut Vec::new()).fingerprint(), 0);
    assert!(alone.next_change().is_none());

    let fingerprints = Fingerprints::new(Keyed::new(Entropy(9)));
    let (mut list, mut tree) = (SubscriptionList::EMPTY, tree());
    tree.matches("a", &mut Vec::new());
    tree.share_names(fingerprints);
    let group = filter("$share/g/a");
    tree.subscribe(&mut list, (0, false), &filter("a"), options, None);
    tree.subscribe(&mut list, (0, false), &group, options, None);
    tree.members_changed(list);
    assert!(tree.is_untold(0));
    assert_eq!([0; 3].map(|_| tree.tell_next(0)), [Some(true), Some(false), None]);
    assert!(!tree.is_untold(0));
    assert_eq!(tree.matches("a", &mut Vec::new()).fingerprint(), fingerprints.of_topic("a"));
    assert_eq!(tree.matches("a", &mut Vec::new()).fingerprint(), fingerprints.of_topic("a"));
    while tree.unsubscribe_one(&mut list) {}
    let key = fingerprints.of_group("g", &group);
    let mut changes = String::new();
    while let Some(change) = tree.next_change() {
        changes += match change {
            Change::Interest { wanted: Wanted::Volatile, .. } => "+",
            Change::Interest { wanted: Wanted::Lasting, .. } => "*",
            Change::Interest { wanted: Wanted::Nothing, .. } => "-",
            Change::Group { key: named, .. } if named == key => "g",
            Change::Group { .. } => "another group",
        };
    }
    assert_eq!(changes, "+ggg-");
}

#[test]
fn interest_is_lasting_while_a_member_is() {
    let mut lists = [SubscriptionList::EMPTY; 3];
    let options = plain_options(QoS::AtLeastOnce);
    let mut tree = tree();
    tree.share_names(Fingerprints::new(Keyed::new(Entropy(9))));
    let text = filter("a/+");
    let mut changes = Vec::new();
    let mut note = |tree: &mut Tree| {
        tree.check();
        while let Some(change) = tree.next_change() {
            let Change::Interest { wanted, .. } = change else { panic!("{change:?}") };
            changes.push(wanted);
        }
    };
    for (at, is_lasting) in [(0, false), (1, true), (2, true), (1, false), (2, false), (0, true)] {
        let list = &mut lists[at as usize];
        tree.subscribe(list, (at, is_lasting), &text, options, None);
        note(&mut tree);
    }
    for at in [0, 1, 2] {
        assert!(tree.unsubscribe(&mut lists[at as usize], at, &text));
        note(&mut tree);
    }
    let (lasting, volatile) = (Wanted::Lasting, Wanted::Volatile);
    assert_eq!(changes, [volatile, lasting, volatile, lasting, volatile, Wanted::Nothing]);
}
