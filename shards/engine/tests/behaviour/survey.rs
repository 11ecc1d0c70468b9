//! The lists that an operator asks for, in parts: subscriptions, receivers of a topic, and retained messages.

use engine::{Event, Instant, Limits, ReceiverCursor, SurveyChanged};
use wire::{QoS, TopicFilter};

use crate::client::Hello;
use crate::host::{Shard, run};

/// Takes one row a part.
fn one<R>(rows: &mut Vec<R>) -> impl FnMut(R) -> bool + '_ {
    let end = rows.len() + 1;
    move |row| {
        let has_room = rows.len() < end;
        if has_room {
            rows.push(row);
        }
        has_room
    }
}

/// The receivers of a topic as client, share name and filter, one part for each.
fn receivers(shard: &mut Shard, topic: &str) -> Vec<(String, String, String)> {
    let (mut rows, mut place) = (Vec::new(), Some(ReceiverCursor::default()));
    while let Some(at) = place {
        let mut take = one(&mut rows);
        place = shard.engine.visit_receivers(topic, at, &mut |receiver| {
            let group = receiver.share_name.unwrap_or_default().to_owned();
            take((receiver.session.client_id.to_owned(), group, receiver.filter.to_owned()))
        });
    }
    rows.sort();
    rows
}

#[test]
fn receivers_are_listed_once_each_in_parts_of_one() {
    run(Limits::default(), |shard| {
        for (name, filter) in [
            ("a", "t/x"),
            ("b", "t/x"),
            ("c", "t/+"),
            ("d", "$share/g/t/x"),
            ("e", "$share/g/t/x"),
            ("f", "$share/h/t/#"),
        ] {
            let client = shard.connect(&Hello::v5(name).resume().expiry_s(60));
            shard.subscribe(client, filter, 1);
        }
        let of =
            |name: &str, group: &str, filter: &str| (name.to_owned(), group.to_owned(), filter.to_owned());
        let expected = [
            of("a", "", "t/x"),
            of("b", "", "t/x"),
            of("c", "", "t/+"),
            of("d", "g", "t/x"),
            of("e", "g", "t/x"),
            of("f", "h", "t/#"),
        ];
        assert_eq!(receivers(shard, "t/x"), expected);
        assert_eq!(receivers(shard, "other"), []);
        let _ledgers = shard.engine.audit();
    });
}

#[test]
fn a_list_of_subscriptions_goes_on_or_says_that_it_has_changed() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a").resume().expiry_s(60));
        for filter in ["1", "2/+", "$share/g/3"] {
            shard.subscribe(client, filter, 1);
        }
        let other = shard.connect(&Hello::v5("b"));
        shard.subscribe(other, "4", 0);
        let part = |shard: &Shard, from, rows: &mut Vec<String>| {
            let mut take = one(rows);
            shard
                .engine
                .visit_subscriptions_of("a", from, &mut |subscription| take(subscription.filter.to_owned()))
        };
        let mut rows = Vec::new();
        let second = part(shard, None, &mut rows).unwrap();
        assert!(second.is_some());
        let third = part(shard, second, &mut rows).unwrap();
        assert_eq!(part(shard, third, &mut rows), Ok(None));
        assert_eq!(rows, ["3", "2/+", "1"], "the last one comes first");
        shard.unsubscribe(client, &["2/+"]);
        assert_eq!(part(shard, second, &mut rows), Err(SurveyChanged));
        // Its slot is another client's now.
        shard.subscribe(other, "5", 0);
        assert_eq!(part(shard, second, &mut rows), Err(SurveyChanged));
        assert_eq!(part(shard, Some(u32::MAX), &mut rows), Err(SurveyChanged));

        let (mut all, mut place) = (Vec::new(), Some(0));
        while let Some(at) = place {
            place = shard.engine.visit_subscriptions(at, at + 1, &mut |subscription| {
                all.push(format!("{} {}", subscription.client_id, subscription.filter));
                true
            });
        }
        all.sort();
        assert_eq!(all, ["a 1", "a 3", "b 4", "b 5"]);
        let nobody = shard.engine.visit_subscriptions_of("nobody", None, &mut |_| true);
        assert_eq!(nobody, Ok(None));
    });
}

#[test]
fn retained_messages_are_listed_in_parts_whatever_the_filter_skips() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        for topic in ["a", "a/1", "a/2", "b/1", "b/2/c", "c"] {
            shard.publish_retained(client, topic, b"xyz", 1);
        }
        for (filter, expected) in [
            ("#", &["a", "a/1", "a/2", "b/1", "b/2/c", "c"][..]),
            ("+/1", &["a/1", "b/1"]),
            ("b/#", &["b/1", "b/2/c"]),
            ("d", &[]),
        ] {
            for topics_max in [1, 2, 100] {
                let (mut rows, mut after, mut is_first) = (Vec::new(), None, true);
                while is_first || after.is_some() {
                    is_first = false;
                    let filter = TopicFilter::parse(filter).unwrap();
                    let mut take = one(&mut rows);
                    let now = Instant::default();
                    let asked = (&filter, after.as_deref());
                    after = shard.engine.visit_retained(now, asked, topics_max, &mut |message| {
                        assert_eq!((message.payload, message.qos), (&b"xyz"[..], QoS::AtLeastOnce));
                        take(message.topic.to_owned())
                    });
                }
                assert_eq!(rows, expected, "{filter} {topics_max}");
            }
        }
    });
}

#[test]
fn the_operators_message_is_delivered_and_kept_like_any_other() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        shard.subscribe(client, "t", 1);
        let publish = |payload| Event::Publish { topic: "t", payload, qos: QoS::AtLeastOnce, retain: true };
        shard.raw_step(publish(b"kept"));
        assert_eq!(shard.texts(client), ["kept"]);
        assert_eq!(shard.engine.retained_of(Instant::default(), "t").unwrap().payload, b"kept");
        shard.raw_step(publish(b""));
        assert!(shard.engine.retained_of(Instant::default(), "t").is_none());
        let _ledgers = shard.engine.audit();
    });
}
