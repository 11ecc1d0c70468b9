//! Sessions belong to users: another user neither resumes, takes over nor cleans one.

use engine::{CauseGroup, Event, Limits, Notice, SessionOwner, SessionRecord, UserGrant, Verdict};
use wire::ReasonCode;

use crate::client::{Client, Got, Hello};
use crate::host::{Shard, run};
use crate::judging::{JUDGED, judge, limits};

/// A connection of `user` on the listener that judges, and the reason of its CONNACK.
fn connect_as(shard: &mut Shard, user: Option<&str>, hello: &Hello<'_>) -> (Client, u8, bool) {
    let client = shard.dial_on(JUDGED, hello);
    judge(shard, Verdict::Success { data: b"", grant: &UserGrant { user, ..UserGrant::NOBODY } });
    match shard.next(client) {
        Some(Got::ConnAck { reason, present, .. }) => (client, reason, present),
        other => panic!("no CONNACK but {other:?}"),
    }
}

/// Ends the session of a client identifier, which another than its user cannot.
fn end(shard: &mut Shard, client_id: &str) {
    shard.raw_step(Event::EndSession { client_id });
}

#[test]
fn another_user_neither_resumes_nor_kicks_nor_cleans_a_session() {
    run(limits(), |shard| {
        let (owner, ..) = connect_as(shard, Some("ann"), &Hello::v5("a").resume());
        shard.subscribe(owner, "t", 1);
        let publisher = shard.connect(&Hello::v5("publisher"));
        for is_online in [true, false] {
            for hello in [Hello::v5("a"), Hello::v5("a").resume(), Hello::v3("a"), Hello::v3("a").resume()] {
                for user in [Some("eve"), None] {
                    let (client, reason, _) = connect_as(shard, user, &hello);
                    assert_eq!(reason, 0x85);
                    assert!(shard.is_closed(client) && shard.is_closed(owner) != is_online);
                }
                // A listener that judges nobody is no way around it.
                let client = shard.dial(&hello);
                assert!(matches!(shard.next(client), Some(Got::ConnAck { reason: 0x85, .. })));
            }
            shard.publish(publisher, "t", b"for ann", 1);
            if is_online {
                assert_eq!(shard.texts(owner), ["for ann"]);
                shard.hang_up(owner);
            }
        }
        let (owner, reason, present) = connect_as(shard, Some("ann"), &Hello::v5("a").resume());
        assert_eq!((reason, present), (0, true));
        assert_eq!(shard.texts(owner), ["for ann"]);
        end(shard, "a");
        assert_eq!(shard.ended(owner), Some(0x98));
        let (_, reason, present) = connect_as(shard, Some("eve"), &Hello::v5("a"));
        assert_eq!((reason, present), (0, false));
    });
}

#[test]
fn a_session_of_nobody_passes_to_the_first_user_with_a_name_and_never_back() {
    run(limits(), |shard| {
        let nobody = shard.connect(&Hello::v5("a").resume());
        shard.subscribe(nobody, "t", 1);
        let anonymous = UserGrant { roles: &["operator"], ..UserGrant::NOBODY };
        let client = shard.dial_on(JUDGED, &Hello::v5("a").resume());
        judge(shard, Verdict::Success { data: b"", grant: &anonymous });
        assert!(matches!(shard.next(client), Some(Got::ConnAck { reason: 0, present: true, .. })));
        assert_eq!(shard.engine.owner_of("a"), Some(""));
        let (_, reason, present) = connect_as(shard, Some("ann"), &Hello::v5("a").resume());
        assert_eq!((reason, present), (0, true));
        assert_eq!(shard.engine.owner_of("a"), Some("ann"));
        for user in [None, Some("eve"), Some("Ann"), Some("")] {
            assert_eq!(connect_as(shard, user, &Hello::v5("a").resume()).1, 0x85);
        }
        end(shard, "a");
        assert_eq!(shard.engine.owner_of("a"), None);
    });
}

#[test]
fn sessions_belong_to_client_identifiers_alone_if_the_settings_say_so() {
    run(Limits { session_owner: SessionOwner::ClientId, ..limits() }, |shard| {
        let (owner, ..) = connect_as(shard, Some("ann"), &Hello::v5("a").resume());
        let (_, reason, present) = connect_as(shard, Some("eve"), &Hello::v5("a").resume());
        assert_eq!((reason, present), (0, true));
        assert_eq!(shard.ended(owner), Some(0x8E));
        assert_eq!(shard.engine.owner_of("a"), Some("eve"));
    });
}

#[test]
fn the_operator_gives_a_session_to_another_user_and_a_delayed_will_is_not_said_for_it() {
    run(limits(), |shard| {
        let watcher = shard.connect(&Hello::v5("watcher"));
        shard.subscribe(watcher, "will", 0);
        let hello = Hello::v5("a").resume().will("will", "of ann", 60);
        let (owner, ..) = connect_as(shard, Some("ann"), &hello);
        shard.subscribe(owner, "t", 1);
        let grant = UserGrant { user: Some("bob"), roles: &["operator"], ..UserGrant::NOBODY };
        shard.raw_step(Event::GiveSession { client_id: "a", grant: &grant });
        assert_eq!(shard.ended(owner), Some(0x98));
        assert_eq!(shard.engine.owner_of("a"), Some("bob"));
        assert_eq!(connect_as(shard, Some("ann"), &Hello::v5("a").resume()).1, 0x85);
        shard.advance_ms(61_000);
        assert_eq!(shard.texts(watcher), [""; 0]);
        let (_, reason, present) = connect_as(shard, Some("bob"), &Hello::v5("a").resume());
        assert_eq!((reason, present), (0, true));
        // A session that ends with its connection leaves nothing to give.
        let (client, ..) = connect_as(shard, Some("ann"), &Hello::v5("b"));
        shard.raw_step(Event::GiveSession { client_id: "b", grant: &grant });
        assert_eq!((shard.ended(client), shard.engine.owner_of("b")), (Some(0x98), None));
        shard.raw_step(Event::GiveSession { client_id: "nobody has it", grant: &grant });
        end(shard, "nobody has it");
        end(shard, "a");
    });
}

#[test]
fn an_owner_outlives_the_process_with_its_session() {
    run(limits(), |shard| {
        let (owner, ..) = connect_as(shard, Some("ann"), &Hello::v5("a").resume());
        shard.subscribe(owner, "t", 1);
        let nobody = shard.connect(&Hello::v5("b").resume());
        shard.subscribe(nobody, "t", 1);
        let mut records: Vec<SessionRecord> = Vec::new();
        shard.engine.export(shard.now(), 0, 100, &mut records);
        let users: Vec<_> = records.iter().map(|record| record.user.as_deref()).collect();
        assert_eq!(users, [Some("ann"), None]);
        for client_id in ["a", "b"] {
            end(shard, client_id);
        }
        for record in &records {
            shard.engine.restore(shard.now(), record).unwrap();
        }
        assert_eq!((shard.engine.owner_of("a"), shard.engine.owner_of("b")), (Some("ann"), Some("")));
        assert_eq!(connect_as(shard, Some("eve"), &Hello::v5("a").resume()).1, 0x85);
        assert_eq!(connect_as(shard, Some("eve"), &Hello::v5("b").resume()).1, 0);
        for client_id in ["a", "b"] {
            end(shard, client_id);
        }
    });
}

#[test]
fn a_change_of_the_owner_alone_is_a_change_of_the_records() {
    run(limits(), |shard| {
        let nobody = shard.connect(&Hello::v5("a").resume());
        shard.subscribe(nobody, "t", 1);
        shard.hang_up(nobody);
        let before = shard.engine.records_version();
        let grant = UserGrant { user: Some("ann"), ..UserGrant::NOBODY };
        shard.raw_step(Event::GiveSession { client_id: "a", grant: &grant });
        assert!(shard.engine.records_version() > before);
        end(shard, "a");
    });
}

#[test]
fn a_retained_message_and_a_will_that_waits_hold_their_user_and_let_go_of_it() {
    run(limits(), |shard| {
        let (ann, ..) = connect_as(
            shard,
            Some("ann"),
            &Hello::v5("a").will_with("w", "w", crate::client::qos(0), true, 0),
        );
        shard.publish_retained(ann, "t", b"1", 1);
        shard.publish_retained(ann, "t", b"2", 1);
        shard.hang_up(ann);
        // The audit at the end of each step compares every holder.
        let _ledgers = shard.engine.audit();
        let bob = UserGrant { user: Some("bob"), roles: &["operator"], ..UserGrant::NOBODY };
        let client = shard.dial_on(JUDGED, &Hello::v5("b"));
        judge(shard, Verdict::Success { data: b"", grant: &bob });
        assert!(matches!(shard.next(client), Some(Got::ConnAck { reason: 0, .. })));
        shard.publish_retained(client, "t", b"3", 1);
        let _ledgers = shard.engine.audit();
        shard.publish_retained(client, "t", b"", 1);
        shard.hang_up(client);
        let _ledgers = shard.engine.audit();
    });
}

#[test]
fn an_operator_sees_each_session_and_its_user_in_pieces() {
    run(limits(), |shard| {
        let (ann, ..) = connect_as(shard, Some("ann"), &Hello::v5("a").resume().expiry_s(60));
        shard.subscribe(ann, "t", 1);
        shard.hang_up(ann);
        let nobody = shard.connect(&Hello::v5("b"));
        shard.publish(nobody, "t", b"x", 1);
        let (mut seen, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            from = shard.engine.visit_sessions(at, at + 1, &mut |session| {
                seen.push((session.client_id.to_owned(), session.user.to_owned(), session.connection));
                true
            });
        }
        let expected = [
            ("a".to_owned(), "ann".to_owned(), None),
            ("b".to_owned(), String::new(), Some(shard.id(nobody))),
        ];
        assert_eq!(seen, expected);
        let session = shard.engine.session_of("a").unwrap();
        assert_eq!((session.subscription_count, session.queued_count), (1, 1));
        assert!(shard.engine.session_of("c").is_none());
    });
}

#[test]
fn notices_name_the_user_or_the_name_that_a_refused_client_sent() {
    let users = |shard: &Shard| -> Vec<(bool, Option<String>)> {
        let user = |notice: &Notice| match notice {
            Notice::Connected { user, .. } => (true, user.as_deref().map(str::to_owned)),
            Notice::Ended { user, .. } => (false, user.as_deref().map(str::to_owned)),
        };
        shard.notices.iter().map(user).collect()
    };
    run(limits(), |shard| {
        let (ann, ..) = connect_as(shard, Some("ann"), &Hello::v5("a"));
        shard.hang_up(ann);
        let ann = Some("ann".to_owned());
        assert_eq!(users(shard), [(true, ann.clone()), (false, ann)]);
        shard.dial_on(JUDGED, &Hello::v5("b").credentials("mallory", b"wrong"));
        judge(shard, Verdict::Failed(ReasonCode::BadUserNameOrPassword));
        assert_eq!(users(shard)[2..], [(false, Some("mallory".to_owned()))]);
    });
}

#[test]
fn a_client_that_the_host_says_is_banned_is_told_so_and_counted_as_that() {
    run(limits(), |shard| {
        for (hello, expected) in [(Hello::v5("a"), 0x8A), (Hello::v3("a"), 0x87)] {
            let client = shard.dial_on(JUDGED, &hello);
            judge(shard, Verdict::Failed(ReasonCode::Banned));
            assert!(matches!(shard.next(client), Some(Got::ConnAck { reason, .. }) if reason == expected));
        }
        let counters = shard.engine.counters();
        assert_eq!((counters.refused[CauseGroup::Banned.index()], counters.authentications_failed), (2, 0));
    });
}
