//! Filters with `+` at many levels: those that would let a publish visit too many nodes are refused, and nothing else is.

use engine::{Limits, SessionRecord, SubscriptionRecord};

use crate::client::{Hello, plain};
use crate::host::{Shard, run};

const NODES_MAX: u32 = 64;

fn limits() -> Limits {
    Limits { match_nodes_max: NODES_MAX, ..Limits::default() }
}

/// `{a,+}^8/x` without the one that has no wildcard.
fn branching() -> Vec<String> {
    let filters = (1..1 << 8).map(|number: u32| {
        let levels: Vec<&str> = (0..8).map(|bit| if number >> bit & 1 == 0 { "a" } else { "+" }).collect();
        format!("{}/x", levels.join("/"))
    });
    filters.collect()
}

/// Subscribes to each, and returns those that were granted and those that were refused with `refusal`.
fn offer(shard: &mut Shard, hello: &Hello<'_>, refusal: u8) -> (Vec<String>, Vec<String>) {
    let client = shard.connect(hello);
    let (mut granted, mut refused) = (Vec::new(), Vec::new());
    for filter in branching() {
        let codes = shard.subscribe_with(client, &[(&filter, plain(0))], None);
        match codes[..] {
            [0] => granted.push(filter),
            [code] if code == refusal => refused.push(filter),
            _ => panic!("{filter}: {codes:?}"),
        }
    }
    (granted, refused)
}

#[test]
fn filters_that_branch_too_often_are_refused_with_the_name_of_the_limit() {
    run(limits(), |shard| {
        let (granted, refused) = offer(shard, &Hello::v5("hostile"), 0x97);
        assert!(granted.len() > 16 && refused.len() > 128, "{} {}", granted.len(), refused.len());
        assert_eq!(shard.engine.subscription_count(), granted.len());
        assert_eq!(shard.engine.counters().filters_refused, refused.len() as u64);
        let texts = shard.reason_strings.iter().flatten();
        assert_eq!(texts.filter(|text| text.contains("match_nodes_max")).count(), refused.len());

        // A neighbour is granted filters that are held, and such as branch elsewhere.
        let neighbour = shard.connect(&Hello::v5("neighbour"));
        for filter in [granted[3].as_str(), "dev/7/+/state", "+/7/cmd", "#", "+/+/+", "a/a/a/a"] {
            assert_eq!(shard.subscribe_with(neighbour, &[(filter, plain(0))], None), [0], "{filter}");
        }
        // One SUBSCRIBE is answered filter by filter.
        let pairs = [(refused[0].as_str(), plain(1)), ("b/+", plain(1)), (refused[1].as_str(), plain(1))];
        assert_eq!(shard.subscribe_with(neighbour, &pairs, None), [0x97, 1, 0x97]);
    });
}

#[test]
fn a_client_of_mqtt_3_1_1_is_refused_with_0x80_and_no_text() {
    run(limits(), |shard| {
        let (granted, refused) = offer(shard, &Hello::v3("hostile"), 0x80);
        assert!(!granted.is_empty() && !refused.is_empty());
        assert!(shard.reason_strings.iter().all(Option::is_none));
    });
}

#[test]
fn no_publish_visits_more_nodes_than_the_limit() {
    run(Limits { match_nodes_max: 100, ..Limits::default() }, |shard| {
        let (granted, _) = offer(shard, &Hello::v5("hostile"), 0x97);
        let publisher = shard.connect(&Hello::v5("publisher"));
        for last in ["x", "y", "z/z"] {
            let before = shard.engine.counters().topic_nodes_visited;
            shard.publish(publisher, &format!("a/a/a/a/a/a/a/a/{last}"), b"1", 0);
            let visited = shard.engine.counters().topic_nodes_visited - before;
            assert!((50..=100).contains(&visited), "{visited}, {} filters", granted.len());
        }
        assert_eq!(shard.engine.counters().long_matches, 0);
    });
    run(Limits { match_nodes_max: 1_024, ..Limits::default() }, |shard| {
        let (_, refused) = offer(shard, &Hello::v5("hostile"), 0x97);
        assert_eq!(refused, [""; 0]);
        let publisher = shard.connect(&Hello::v5("publisher"));
        shard.publish(publisher, "a/a/a/a/a/a/a/a/y", b"1", 0);
        assert_eq!(shard.engine.counters().long_matches, 0);
        assert!(shard.engine.counters().topic_nodes_visited > 500);
    });
}

#[test]
fn a_restored_session_keeps_its_subscriptions_whatever_they_cost() {
    run(limits(), |shard| {
        let filters = branching();
        let subscriptions = filters.iter().map(|filter| SubscriptionRecord {
            topic_filter: filter.clone(),
            qos: 1,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
            subscription_identifier: None,
        });
        let record = SessionRecord {
            client_id: "kept".into(),
            user: None,
            expiry: None,
            subscriptions: subscriptions.collect(),
        };
        shard.engine.restore(shard.now(), &record).unwrap();
        assert_eq!(shard.engine.subscription_count(), filters.len());
        // Past the limit, a filter that changes nothing for the worst walk is still granted.
        let client = shard.connect(&Hello::v5("other"));
        assert_eq!(shard.subscribe_with(client, &[("dev/+/state", plain(0))], None), [0]);
        assert_eq!(shard.subscribe_with(client, &[("a/+/a/a/a/a/a/a/a/x", plain(0))], None), [0x97]);
    });
}
