//! Tests of the cost: it bounds every walk, refuses the filters that would make it too high, and no ordinary ones.

use super::tests::{Numbers, filter, matched, tree};
use super::*;
use crate::topic::subscriptions::plain_options;
use alloc::format;
use alloc::string::String;
use wire::QoS;

/// As in the product.
const NODES_MAX: u32 = 2_048;

fn subscribe(tree: &mut Tree, list: &mut SubscriptionList, text: &str) {
    tree.subscribe(list, (0, false), &filter(text), plain_options(QoS::AtMostOnce), None);
}

/// Subscribes if it fits, as a client's SUBSCRIBE does.
fn offer(tree: &mut Tree, list: &mut SubscriptionList, text: &str) -> bool {
    let fits = tree.fits(&filter(text), NODES_MAX);
    if fits {
        subscribe(tree, list, text);
    }
    fits
}

/// Every topic of up to `depth` levels out of `levels`.
fn topics(levels: &[&str], depth: usize) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut longest = alloc::vec![String::new()];
    for at in 0..depth {
        let separator = if at == 0 { "" } else { "/" };
        let longer = longest
            .iter()
            .flat_map(|text| levels.iter().map(move |level| format!("{text}{separator}{level}")));
        longest = longer.collect();
        all.extend(longest.iter().filter(|text| !text.is_empty()).cloned());
    }
    all
}

fn visited_max(tree: &mut Tree, topics: &[String]) -> u32 {
    let visits = topics.iter().map(|topic| {
        // Without the cache, which holds fewer topics.
        tree.cache.invalidate_all();
        tree.matches(topic, &mut Vec::new()).visited_count()
    });
    visits.max().unwrap_or(0)
}

#[test]
fn no_topic_visits_more_nodes_than_the_cost() {
    let all = topics(&["a", "b", "c", "a longer level, so that labels count as several visits too 1234"], 5);
    let levels = ["a", "b", "+", "+", "a longer level, so that labels count as several visits too 1234", "#"];
    let mut exact_count = 0;
    for seed in 0..40 {
        let mut numbers = Numbers::new(seed);
        let (mut tree, mut list, mut held) = (tree(), SubscriptionList::EMPTY, Vec::new());
        for _ in 0..numbers.below(60) {
            let text = numbers.levels(&levels, 5);
            if TopicFilter::parse(&text).is_ok() {
                subscribe(&mut tree, &mut list, &text);
                held.push(text);
            }
        }
        for text in held.iter().step_by(3) {
            tree.unsubscribe(&mut list, 0, &filter(text));
        }
        tree.check();
        let visited = visited_max(&mut tree, &all);
        assert!(visited <= tree.cost(), "seed {seed}: {visited} visited, cost {}", tree.cost());
        exact_count += u32::from(visited == tree.cost());
    }
    assert!(exact_count > 10, "the cost is far above the worst walk: {exact_count}");
}

#[test]
fn the_worst_walk_of_branching_filters_visits_as_many_nodes_as_the_cost_says() {
    let (mut tree, mut list) = (tree(), SubscriptionList::EMPTY);
    for number in 0..1 << 6 {
        subscribe(&mut tree, &mut list, &branching(number, 6, "x"));
    }
    // Each level doubles the nodes, but the filter without `+` is not in the trie, so two nodes are not needed.
    assert_eq!(tree.cost(), (1 << 7) - 1 - 2);
    for topic in ["a/a/a/a/a/a/y", "a/a/a/a/a/a/x"] {
        assert_eq!(tree.matches(topic, &mut Vec::new()).visited_count(), tree.cost());
    }
}

/// `{a,+}^depth/last`, with `+` where `number` has a bit.
fn branching(number: u32, depth: u32, last: &str) -> String {
    let mut text = String::new();
    for bit in 0..depth {
        text += if number >> bit & 1 == 0 { "a/" } else { "+/" };
    }
    text + last
}

#[test]
fn filters_that_branch_too_often_are_refused_and_change_nothing() {
    let (mut tree, mut list) = (tree(), SubscriptionList::EMPTY);
    let mut refused = Vec::new();
    for number in 0..9_000 {
        let text = branching(number, 14, "a/a/a/x");
        if !offer(&mut tree, &mut list, &text) {
            refused.push(text);
        }
    }
    assert!(refused.len() > 7_000 && tree.cost() <= NODES_MAX && tree.cost() > NODES_MAX / 2);
    let topic = format!("{}a/a/a/x", "a/".repeat(14));
    let before = (tree.slot_counts(), tree.cost(), tree.text_bytes(), matched(&mut tree, &topic).len());
    for text in refused.iter().step_by(refused.len() / 20) {
        assert!(!tree.fits(&filter(text), NODES_MAX));
        tree.check();
    }
    let after = (tree.slot_counts(), tree.cost(), tree.text_bytes(), matched(&mut tree, &topic).len());
    assert_eq!(before, after);
    // Neighbours are not hindered, nor is a filter that is held already or has no wildcard.
    for text in ["dev/7/+/state", "+/7/cmd", "#", "+/+/+/+", "a/+", &branching(3, 14, "a/a/a/x"), &topic] {
        assert!(offer(&mut tree, &mut list, text), "{text}");
    }
    // With the hostile ones gone, a refused one fits.
    while tree.unsubscribe_one(&mut list) {}
    assert!(offer(&mut tree, &mut list, &refused[0]));
}

#[test]
fn ordinary_fleets_cost_little_however_large_they_are() {
    let (mut tree, mut list) = (tree(), SubscriptionList::EMPTY);
    for number in 0..10_000 {
        let site = number % 100;
        for text in [
            format!("dev/{number}/+/state"),
            format!("+/{number}/cmd"),
            format!("dev/{number}/#"),
            format!("site/{site}/+/{number}/+/value"),
            format!("site/+/{number}/#"),
            format!("+/+/{number}"),
            format!("+/+/+/+/{number}/+"),
        ] {
            assert!(offer(&mut tree, &mut list, &text), "{text}");
        }
    }
    for text in ["#", "+/#", "+/+/#", "dev/#", "dev/+/+/#", "$SYS/#", "+/+/+/+/+/+/+/+/+"] {
        assert!(offer(&mut tree, &mut list, text), "{text}");
    }
    assert!(tree.cost() < 64, "{}", tree.cost());
}

#[test]
fn the_filters_of_several_shards_cost_at_most_twice_the_sum_of_each() {
    let levels = ["a", "b", "+", "+", "#"];
    for seed in 0..60 {
        let mut numbers = Numbers::new(seed);
        let (mut all, mut lists) = (tree(), [SubscriptionList::EMPTY; 4]);
        let mut sum = 0;
        for _ in 0..3 {
            let mut one = tree();
            for _ in 0..numbers.below(40) {
                let text = numbers.levels(&levels, 7);
                if TopicFilter::parse(&text).is_ok() {
                    subscribe(&mut one, &mut lists[0], &text);
                    subscribe(&mut all, &mut lists[1], &text);
                }
            }
            lists[0] = SubscriptionList::EMPTY;
            sum += one.cost();
        }
        assert!(all.cost() <= 2 * sum, "seed {seed}: {} of {sum}", all.cost());
    }
}

#[test]
fn a_filter_of_many_levels_takes_less_than_a_kilobyte() {
    let deep: Vec<String> = (0..126).map(|level| format!("{}", level % 10)).collect();
    for (kind, text) in [
        ("apart at the first level", format!("NUMBER/{}/+", deep.join("/"))),
        ("apart in the middle", format!("{}/NUMBER/+/{}", deep[..60].join("/"), deep[60..].join("/"))),
        ("apart at the last level", format!("+/{}/NUMBER", deep.join("/"))),
    ] {
        let (mut tree, mut list) = (tree(), SubscriptionList::EMPTY);
        let empty_bytes = tree.bytes_held();
        for number in 0..10_000 {
            subscribe(&mut tree, &mut list, &text.replace("NUMBER", &format!("{number}")));
        }
        let each_bytes = (tree.bytes_held() - empty_bytes) / 10_000;
        assert!((300..1_000).contains(&each_bytes), "{kind}: {each_bytes}");
        tree.check();
        while tree.unsubscribe_one(&mut list) {}
        assert_eq!(tree.slot_counts(), (0, 0, 1));
    }
}
