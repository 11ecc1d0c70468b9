//! A CONNECT that the host judges: nothing of it counts before the verdict, and nothing behind it is read.

use engine::{AuthenticationStep, CauseGroup, Event, Limits, ListenerLimits, MemoryKind, UserGrant, Verdict};
use wire::{AckKind, Packet, ReasonCode};

use crate::authentication::success;
use crate::client::{Client, Got, Hello, publish};
use crate::host::{Shard, run};

/// The listener of these tests that judges its clients; 0 does not.
pub(crate) const JUDGED: u16 = 1;

pub(crate) fn limits() -> Limits {
    let listeners =
        vec![ListenerLimits::default(), ListenerLimits { judged: true, ..ListenerLimits::default() }];
    Limits { listeners, ..Limits::default() }
}

/// Judges the oldest CONNECT that waits.
pub(crate) fn judge(shard: &mut Shard, verdict: Verdict<'_>) {
    let (connection, step) = shard.asked.pop_front().expect("the host was asked");
    shard.raw_step(Event::Authenticated { connection, step, verdict });
}

fn connack(shard: &mut Shard, client: Client) -> Option<u8> {
    shard.next(client).map(|got| match got {
        Got::ConnAck { reason, .. } => reason,
        other => panic!("no CONNACK but {other:?}"),
    })
}

#[test]
fn a_connect_waits_for_its_verdict_and_what_comes_behind_it_waits_with_it() {
    run(limits(), |shard| {
        let watcher = shard.connect(&Hello::v5("watcher"));
        shard.subscribe(watcher, "t", 1);
        for hello in [Hello::v5("a"), Hello::v3("a")] {
            let client = shard.dial_on(JUDGED, &hello.credentials("ann", b"secret"));
            shard.send(client, &Packet::Publish(publish("t", b"behind", 1, 7)));
            assert!(shard.unconsumed_bytes(client) > 0);
            assert_eq!(shard.take(client), []);
            assert_eq!(shard.texts(watcher), [""; 0]);
            assert_eq!(shard.engine.session_count(), 1);
            let (connection, step) = shard.asked[0];
            let asked = shard.engine.authentication_step(connection, step).unwrap();
            let expected = AuthenticationStep::Basic {
                client_id: "a",
                username: Some("ann"),
                password: Some(b"secret"),
                listener: JUDGED,
            };
            assert_eq!(asked, expected);
            assert!(!format!("{asked:?}").contains("secret"), "{asked:?}");
            judge(shard, success(b""));
            assert_eq!(connack(shard, client), Some(0));
            assert_eq!(shard.acked(client, AckKind::PubAck, 7), Some(0));
            assert_eq!(shard.texts(watcher), ["behind"]);
            assert_eq!(shard.unconsumed_bytes(client), 0);
            shard.goodbye(client);
        }
        assert_eq!(shard.engine.counters().credentials_ignored, 0);
    });
}

#[test]
fn a_listener_that_judges_nobody_asks_nothing() {
    run(limits(), |shard| {
        for listener in [0, 2, u16::MAX] {
            let client = shard.dial_on(listener, &Hello::v5("a").credentials("ann", b"secret"));
            assert!(shard.asked.is_empty());
            assert_eq!(connack(shard, client), Some(0));
        }
        assert_eq!(shard.engine.counters().credentials_ignored, 3);
    });
}

#[test]
fn a_refused_client_is_told_why_and_changes_nothing() {
    let refusals = [
        // The return codes of 3.1.1 are read as the reasons that they stand for.
        (ReasonCode::BadUserNameOrPassword, 0x86, 0x86),
        (ReasonCode::NotAuthorized, 0x87, 0x87),
        (ReasonCode::ClientIdentifierNotValid, 0x85, 0x85),
        (ReasonCode::Banned, 0x8A, 0x87),
        (ReasonCode::ServerUnavailable, 0x88, 0x88),
        (ReasonCode::ServerBusy, 0x89, 0x88),
        (ReasonCode::ConnectionRateExceeded, 0x9F, 0x88),
        // Reasons that CONNACK does not know.
        (ReasonCode::Success, 0x87, 0x87),
        (ReasonCode::MaximumConnectTime, 0x87, 0x87),
    ];
    for (reason, v5, v3) in refusals {
        run(limits(), |shard| {
            let owner = shard.connect(&Hello::v5("a").resume());
            for (hello, told) in [(Hello::v5("a"), v5), (Hello::v3("a"), v3)] {
                let client = shard.dial_on(JUDGED, &hello.credentials("ann", b"wrong"));
                judge(shard, Verdict::Failed(reason));
                assert_eq!(connack(shard, client), Some(told), "{reason:?}");
                assert!(shard.is_closed(client) && !shard.is_closed(owner));
            }
            // A ban is told before anything is judged, so it is no failure to authenticate.
            let is_ban = reason == ReasonCode::Banned;
            assert_eq!(shard.engine.counters().authentications_failed, if is_ban { 0 } else { 2 });
            let group = if is_ban { CauseGroup::Banned } else { CauseGroup::Authentication };
            assert_eq!(shard.engine.counters().refused[group.index()], 2);
        });
    }
}

#[test]
fn a_challenge_without_a_method_is_a_refusal() {
    run(limits(), |shard| {
        let client = shard.dial_on(JUDGED, &Hello::v5("a"));
        judge(shard, Verdict::Continue(b"challenge"));
        assert_eq!(connack(shard, client), Some(0x87));
        assert!(shard.is_closed(client));
    });
}

#[test]
fn an_empty_client_identifier_is_assigned_before_the_verdict() {
    run(limits(), |shard| {
        let client = shard.dial_on(JUDGED, &Hello::v5(""));
        let (connection, step) = shard.asked[0];
        let asked = shard.engine.authentication_step(connection, step).unwrap();
        let AuthenticationStep::Basic { client_id, .. } = asked else { panic!("{asked:?}") };
        let drawn = client_id.to_owned();
        assert!(drawn.starts_with("auto-"), "{drawn}");
        judge(shard, success(b""));
        let Some(Got::ConnAck { reason: 0, fields, .. }) = shard.next(client) else { panic!("no CONNACK") };
        assert_eq!(fields.assigned, Some(drawn));
        shard.goodbye(client);
    });
}

#[test]
fn a_user_that_is_bound_to_a_client_identifier_is_refused_with_another() {
    run(limits(), |shard| {
        for (client_id, reason) in [("ann", 0), ("eve", 0x85)] {
            let client = shard.dial_on(JUDGED, &Hello::v5(client_id));
            let grant = UserGrant { client_id_must_be: Some("ann"), ..UserGrant::NOBODY };
            judge(shard, Verdict::Success { data: b"", grant: &grant });
            assert_eq!(connack(shard, client), Some(reason));
        }
        assert_eq!(shard.engine.counters().refused[CauseGroup::ClientId.index()], 1);
    });
}

#[test]
fn the_connect_time_out_runs_on_while_the_verdict_is_due_and_the_client_is_told() {
    run(limits(), |shard| {
        for (hello, told) in [(Hello::v5("a"), 0x88), (Hello::v3("a"), 0x88)] {
            let client = shard.dial_on(JUDGED, &hello);
            shard.advance_ms(9_999);
            assert!(!shard.is_closed(client));
            shard.advance_ms(1);
            assert_eq!(connack(shard, client), Some(told));
            assert!(shard.is_closed(client));
            let stale = shard.engine.counters().stale;
            judge(shard, success(b""));
            assert_eq!(shard.engine.counters().stale, stale + 1);
            assert_eq!(shard.engine.session_count(), 0);
        }
    });
}

#[test]
fn a_verdict_for_a_client_that_has_left_admits_nobody() {
    run(Limits { generation_bits: 2, ..limits() }, |shard| {
        let mut last = shard.dial_on(JUDGED, &Hello::v5("gone"));
        let late = shard.asked.pop_front().unwrap();
        for _ in 0..4 {
            shard.hang_up(last);
            last = shard.dial_on(JUDGED, &Hello::v5("new"));
        }
        assert_eq!(shard.id(last), late.0, "the generations came round");
        let verdict = success(b"");
        shard.raw_step(Event::Authenticated { connection: late.0, step: late.1, verdict });
        assert_eq!(shard.next(last), None, "the verdict was about another client");
        shard.asked.clear();
    });
}

#[test]
fn what_waits_for_a_verdict_counts_as_unjudged_and_is_bounded() {
    run(Limits { unjudged_bytes_max: 20_000, ..limits() }, |shard| {
        let small = shard.dial_on(JUDGED, &Hello::v5("small"));
        let large = shard.dial_on(JUDGED, &Hello::v5("large"));
        shard.send_bytes(large, &vec![0xC0; 15_000]);
        assert_eq!(shard.unconsumed_bytes(large), 15_000);
        assert!(!shard.is_closed(large));
        let will = "w".repeat(6_000);
        let other = shard.dial_on(JUDGED, &Hello::v5("other").will("will", &will, 0));
        // Of all, the one whose bytes the host keeps holds most.
        assert_eq!(connack(shard, large), Some(0x97));
        assert!(shard.is_closed(large) && !shard.is_closed(other) && !shard.is_closed(small));
        assert_eq!(shard.engine.counters().refused[CauseGroup::UnjudgedBytes.index()], 1);
        let held = shard.engine.memory_use().of_kind(MemoryKind::Authentications);
        assert!((6_000..7_000).contains(&held), "{held}");
        // Verdicts in another order than the questions; the one for `large` is stale.
        for (connection, step) in core::mem::take(&mut shard.asked).into_iter().rev() {
            shard.raw_step(Event::Authenticated { connection, step, verdict: success(b"") });
        }
        assert_eq!(connack(shard, small), Some(0));
        assert_eq!(connack(shard, other), Some(0));
        assert_eq!(shard.engine.memory_use().of_kind(MemoryKind::Authentications), 0);
        shard.goodbye(other);
    });
}

#[test]
fn a_take_over_waits_for_the_verdict() {
    run(limits(), |shard| {
        let owner = shard.connect(&Hello::v5("a").resume());
        let client = shard.dial_on(JUDGED, &Hello::v5("a").resume());
        assert!(!shard.is_closed(owner));
        judge(shard, success(b""));
        assert_eq!(shard.ended(owner), Some(0x8E));
        assert!(matches!(shard.next(client), Some(Got::ConnAck { present: true, reason: 0, .. })));
        shard.goodbye(client);
    });
}

#[test]
fn a_grant_that_ends_closes_its_client_unless_it_is_renewed() {
    run(Limits { authentication_methods: vec!["m".into()], ..limits() }, |shard| {
        for (hello, told) in [(Hello::v5("a"), Some(0xA0)), (Hello::v3("a"), None)] {
            let client = shard.dial_on(JUDGED, &hello);
            let grant = UserGrant { expires_at: Some(shard.now().plus_ms(5_000)), ..UserGrant::NOBODY };
            judge(shard, Verdict::Success { data: b"", grant: &grant });
            assert_eq!(connack(shard, client), Some(0));
            shard.advance_ms(4_999);
            assert!(!shard.is_closed(client));
            shard.advance_ms(1);
            assert!(shard.is_closed(client));
            assert_eq!(shard.ended(client), told);
        }
        // A client that leaves in time leaves no timer.
        let client = shard.dial_on(JUDGED, &Hello::v5("a"));
        let grant = UserGrant { expires_at: Some(shard.now().plus_ms(5_000)), ..UserGrant::NOBODY };
        judge(shard, Verdict::Success { data: b"", grant: &grant });
        shard.goodbye(client);
        let client = shard.dial_on(JUDGED, &Hello::v5("a").method("m", b""));
        judge(shard, Verdict::Success { data: b"", grant: &grant });
        shard.take(client);
        let again = || {
            let properties =
                wire::AuthProperties { authentication_method: Some("m"), ..wire::AuthProperties::default() };
            Packet::Auth(wire::Auth { reason: ReasonCode::ReAuthenticate, properties })
        };
        shard.send(client, &again());
        let grant = UserGrant { expires_at: Some(shard.now().plus_ms(60_000)), ..UserGrant::NOBODY };
        judge(shard, Verdict::Success { data: b"", grant: &grant });
        shard.advance_ms(59_999);
        assert!(!shard.is_closed(client), "it was renewed");
        shard.send(client, &again());
        judge(shard, Verdict::Success { data: b"", grant: &UserGrant { user: Some("eve"), ..grant } });
        assert_eq!(shard.ended(client), Some(0x87), "authenticating again never changes the user");
    });
}
