//! Session records: export and restoration.

use engine::{Limits, SessionExpiry, SessionRecord, SubscriptionRecord};
use wire::{RetainHandling, SubscribeOptions};

use crate::client::{Hello, plain};
use crate::host::{Shard, run};

fn export(shard: &Shard) -> Vec<SessionRecord> {
    let (mut records, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        from = shard.engine.export(shard.now(), at, 2, &mut records);
    }
    records.sort_by(|a, b| a.client_id.cmp(&b.client_id));
    for record in &mut records {
        record.subscriptions.sort_by(|a, b| a.topic_filter.cmp(&b.topic_filter));
    }
    records
}

#[test]
fn an_exported_session_is_restored_and_receives_messages() {
    let mut records = Vec::new();
    run(Limits::default(), |shard| {
        let options = SubscribeOptions {
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::DoNotSend,
            ..plain(2)
        };
        for name in ["a", "b", "c", "d"] {
            let client = shard.connect(&Hello::v5(name).resume());
            shard.subscribe_with(client, &[("t/#", options)], Some(9));
            shard.subscribe(client, "$share/g/u", 1);
        }
        let short = shard.connect(&Hello::v5("short"));
        shard.subscribe(short, "t", 0);
        shard.connect(&Hello::v5("bare").resume());
        records = export(shard);
        assert_eq!(
            records.len(),
            4,
            "sessions that end with their connection, or want nothing, are left out"
        );
        let first = &records[0].subscriptions;
        assert_eq!((first[0].topic_filter.as_str(), first[0].qos), ("$share/g/u", 1));
        assert_eq!(
            (first[1].topic_filter.as_str(), first[1].qos, first[1].subscription_identifier),
            ("t/#", 2, Some(9))
        );
        assert!(first[1].no_local && first[1].retain_as_published);
        assert_eq!(first[1].retain_handling, 2);
    });
    run(Limits::default(), |shard| {
        let now = shard.now();
        for record in &records {
            shard.engine.restore(now, record).unwrap();
            shard.engine.restore(now, record).unwrap();
        }
        assert_eq!((shard.engine.session_count(), shard.engine.subscription_count()), (4, 8));
        assert_eq!(export(shard), records, "restored");
        let publisher = shard.connect(&Hello::v5("p"));
        shard.publish(publisher, "t/1", b"x", 1);
        shard.publish(publisher, "u", b"shared", 1);
        let mut count = 0;
        for name in ["a", "b", "c", "d"] {
            let (client, present) = shard.connect_present(&Hello::v5(name).resume());
            assert!(present);
            count += shard.texts(client).len();
        }
        assert_eq!(count, 5);
        // Sessions without a client that comes back end after the default interval: `finish` lets it pass.
    });
}

#[test]
fn a_restored_session_ends_after_the_default_interval_unless_its_client_comes_back() {
    let record = |client_id: &str| SessionRecord {
        client_id: client_id.to_owned(),
        user: None,
        expiry: None,
        subscriptions: vec![SubscriptionRecord {
            topic_filter: "t".to_owned(),
            qos: 1,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
            subscription_identifier: None,
        }],
    };
    run(Limits { default_session_expiry_s: 10, ..Limits::default() }, |shard| {
        let now = shard.now();
        for name in ["gone", "back"] {
            shard.engine.restore(now, &record(name)).unwrap();
        }
        shard.advance_ms(9_999);
        assert_eq!((shard.engine.session_count(), shard.engine.subscription_count()), (2, 2));
        let (_, present) = shard.connect_present(&Hello::v5("back").resume());
        assert!(present);
        shard.advance_ms(1);
        assert_eq!((shard.engine.session_count(), shard.engine.subscription_count()), (1, 1));
        assert_eq!(shard.engine.counters().sessions_expired, 1);
        shard.advance_ms(1_000_000);
        assert!(shard.engine.connection_of("back").is_some());
    });
}

/// A record with the only subscription `t`.
fn record_of(client_id: &str, expiry: Option<SessionExpiry>) -> SessionRecord {
    let subscription = SubscriptionRecord {
        topic_filter: "t".to_owned(),
        qos: 1,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
        subscription_identifier: None,
    };
    SessionRecord { client_id: client_id.to_owned(), user: None, expiry, subscriptions: vec![subscription] }
}

/// A session that never expires came back with the default interval of an hour, and was gone then.
#[test]
fn a_record_keeps_the_interval_and_the_part_of_it_that_has_passed() {
    let expiry = |records: &[SessionRecord]| -> Vec<(String, u32, u32)> {
        let expiry =
            |record: &SessionRecord| record.expiry.map(|expiry| (expiry.interval_s, expiry.passed_s));
        records
            .iter()
            .map(|record| (record.client_id.clone(), expiry(record).unwrap().0, expiry(record).unwrap().1))
            .collect()
    };
    let mut records = Vec::new();
    run(Limits::default(), |shard| {
        for (name, interval_s) in [("ever", u32::MAX), ("gone", 100), ("here", 100)] {
            let client = shard.connect(&Hello::v5(name).expiry_s(interval_s));
            shard.subscribe(client, "t", 1);
            if name != "here" {
                shard.hang_up(client);
            }
        }
        shard.advance_ms(30_999);
        records = export(shard);
        let owned = |name: &str, interval_s, passed_s| (name.to_owned(), interval_s, passed_s);
        assert_eq!(
            expiry(&records),
            [owned("ever", u32::MAX, 0), owned("gone", 100, 30), owned("here", 100, 0)],
            "a second that has not ended has not passed"
        );
    });
    run(Limits::default(), |shard| {
        for record in &records {
            shard.engine.restore(shard.now(), record).unwrap();
        }
        assert_eq!(expiry(&export(shard)), expiry(&records));
        shard.advance_ms(69_999);
        assert_eq!(shard.engine.session_count(), 3);
        shard.advance_ms(1);
        assert_eq!(shard.engine.session_count(), 2, "70 of 100 seconds were left");
        shard.advance_ms(30_000);
        assert_eq!(shard.engine.session_count(), 1);
        shard.advance_ms(1_000_000_000);
        assert_eq!(shard.engine.session_count(), 1, "this one never ends");
        let (client, present) = shard.connect_present(&Hello::v5("ever"));
        assert!(!present, "a clean start ends it");
        shard.hang_up(client);
    });
}

#[test]
fn the_maximum_of_today_bounds_a_restored_interval_and_a_second_is_always_left() {
    run(Limits { session_expiry_s_max: 60, default_session_expiry_s: 10, ..Limits::default() }, |shard| {
        let expiry = |interval_s, passed_s| Some(SessionExpiry { interval_s, passed_s });
        shard.engine.restore(shard.now(), &record_of("never", expiry(u32::MAX, 0))).unwrap();
        shard.engine.restore(shard.now(), &record_of("over", expiry(50, 1_000))).unwrap();
        shard.engine.restore(shard.now(), &record_of("zero", expiry(0, 0))).unwrap();
        shard.advance_ms(999);
        assert_eq!(shard.engine.session_count(), 3);
        shard.advance_ms(1);
        assert_eq!(shard.engine.session_count(), 1);
        shard.advance_ms(59_000);
        assert_eq!(shard.engine.session_count(), 0);
    });
}

#[test]
fn pending_messages_are_counted_once_for_each_session() {
    run(Limits::default(), |shard| {
        for name in ["a", "b"] {
            let client = shard.connect(&Hello::v5(name).resume());
            shard.subscribe(client, "t", 1);
            if name == "a" {
                shard.hang_up(client);
            }
        }
        let publisher = shard.connect(&Hello::v5("p"));
        assert_eq!(shard.engine.pending_count(), 0);
        shard.publish(publisher, "t", b"x", 1);
        shard.publish(publisher, "t", b"y", 0);
        assert_eq!(shard.engine.pending_count(), 2, "queued for one, in flight to the other");
    });
}

#[test]
fn credentials_that_nothing_checks_are_counted() {
    run(Limits::default(), |shard| {
        shard.connect(&Hello::v5("without"));
        assert_eq!(shard.engine.counters().credentials_ignored, 0);
        let mut with = Hello::v5("with");
        (with.connect.user_name, with.connect.password) = (Some("name"), Some(&b"secret"[..]));
        shard.connect(&with);
        assert_eq!(shard.engine.counters().credentials_ignored, 1);
    });
}

#[test]
fn the_version_of_the_records_grows_with_every_change_of_a_record() {
    run(Limits::default(), |shard| {
        let mut last = shard.engine.records_version();
        let mut grew = |shard: &Shard, expected: bool, what: &str| {
            let version = shard.engine.records_version();
            assert_eq!(version > last, expected, "{what}");
            last = version;
        };
        let client = shard.connect(&Hello::v5("a").resume());
        grew(shard, false, "a session without subscriptions");
        shard.subscribe(client, "t", 1);
        grew(shard, true, "subscribe");
        shard.subscribe(client, "t", 2);
        grew(shard, true, "other options");
        shard.publish(client, "t", b"x", 0);
        grew(shard, false, "publish");
        shard.unsubscribe(client, &["t"]);
        grew(shard, true, "unsubscribe");
        shard.subscribe(client, "t", 1);
        grew(shard, true, "subscribe");
        shard.disconnect(client, wire::ReasonCode::Success, Some(5));
        grew(shard, true, "another interval");
        shard.advance_ms(5_000);
        grew(shard, true, "expired");
        let client = shard.connect(&Hello::v5("a"));
        shard.subscribe(client, "t", 1);
        shard.hang_up(client);
        grew(shard, false, "a session that ends with its connection");
    });
}

#[test]
fn an_invalid_record_is_named_by_its_filter_and_leaves_nothing() {
    let record = |topic_filter: &str, qos, retain_handling| SessionRecord {
        client_id: "a".to_owned(),
        user: None,
        expiry: None,
        subscriptions: vec![SubscriptionRecord {
            topic_filter: topic_filter.to_owned(),
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling,
            subscription_identifier: None,
        }],
    };
    run(Limits::default(), |shard| {
        for bad in [record("a/#/b", 0, 0), record("t", 3, 0), record("t", 0, 3), record("", 0, 0)] {
            let error = shard.engine.restore(shard.now(), &bad).unwrap_err();
            assert!(error.contains(&bad.subscriptions[0].topic_filter), "{error}");
            assert_eq!(shard.engine.session_count(), 0);
        }
    });
}
