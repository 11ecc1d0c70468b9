//! Session records: export and restoration.

use engine::{Limits, SessionRecord, SubscriptionRecord};
use wire::{RetainHandling, SubscribeOptions};

use crate::client::{Hello, plain};
use crate::host::{Shard, run};

fn export(shard: &Shard) -> Vec<SessionRecord> {
    let (mut records, mut from) = (Vec::new(), Some(0));
    while let Some(at) = from {
        from = shard.engine.export(at, 2, &mut records);
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
        assert_eq!(export(shard), records);
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
