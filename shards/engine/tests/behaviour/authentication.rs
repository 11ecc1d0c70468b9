//! Enhanced authentication: the exchange before CONNACK and on an open connection, with the test as the host's method.

use engine::{AuthenticationStep, Event, Limits, MemoryKind, UserGrant, Verdict};
use wire::{Auth, AuthProperties, Packet, QoS, ReasonCode, UserProperties};

use crate::client::{Client, Got, Hello, packet_id, plain, publish};
use crate::host::{Shard, run};

const METHOD: &str = "echo";

fn limits() -> Limits {
    Limits { authentication_methods: vec![METHOD.into(), "other".into()], ..Limits::default() }
}

fn auth<'a>(reason: ReasonCode, method: &'a str, data: &'a [u8]) -> Packet<'a> {
    let properties = AuthProperties {
        authentication_method: Some(method),
        authentication_data: Some(data),
        ..AuthProperties::default()
    };
    Packet::Auth(Auth { reason, properties })
}

/// Judges the oldest step that waits, which must equal `expected`: method, data, and whether it begins an exchange.
fn judge(shard: &mut Shard, expected: (&str, &[u8], bool), verdict: Verdict<'_>) {
    let (connection, step) = shard.asked.pop_front().expect("the host was asked");
    let asked = shard.engine.authentication_step(connection, step).expect("it was not judged yet");
    let AuthenticationStep::Exchange { method, data, begins, .. } = asked else { panic!("{asked:?}") };
    assert_eq!((method, data, begins), expected);
    shard.raw_step(Event::Authenticated { connection, step, verdict });
}

/// The client is let in as nobody, and sent this last.
pub(crate) fn success(data: &[u8]) -> Verdict<'_> {
    Verdict::Success { data, grant: &UserGrant::NOBODY }
}

/// The next packet of a client, which is CONNACK or AUTH: its reason, method and data.
fn answer(shard: &mut Shard, client: Client) -> (&'static str, u8, String, Vec<u8>) {
    match shard.next(client) {
        Some(Got::ConnAck { reason, fields, .. }) => {
            ("CONNACK", reason, fields.method.unwrap_or_default(), fields.data.unwrap_or_default())
        }
        Some(Got::Auth(reason, method, data)) => ("AUTH", reason, method, data),
        other => panic!("neither CONNACK nor AUTH but {other:?}"),
    }
}

fn expected_answer(kind: &'static str, reason: u8, data: &[u8]) -> (&'static str, u8, String, Vec<u8>) {
    (kind, reason, METHOD.to_owned(), data.to_vec())
}

/// A client that passed an exchange of one challenge.
fn authenticated(shard: &mut Shard, hello: &Hello<'_>) -> Client {
    let client = shard.dial(&hello.method(METHOD, b"first"));
    judge(shard, (METHOD, b"first", true), success(b"last"));
    assert_eq!(answer(shard, client), expected_answer("CONNACK", 0, b"last"));
    client
}

#[test]
fn mqtt_4_12_0_5_every_step_and_connack_carry_the_method_of_connect() {
    run(limits(), |shard| {
        let client = shard.dial(&Hello::v5("a").method(METHOD, b"first"));
        assert_eq!(shard.next(client), None, "nothing is answered before the host has judged");
        for round in 0..3u8 {
            let before: &[u8] = if round == 0 { b"first" } else { b"answer" };
            judge(shard, (METHOD, before, round == 0), Verdict::Continue(&[round]));
            assert_eq!(answer(shard, client), expected_answer("AUTH", 0x18, &[round]), "[MQTT-4.12.0-2]");
            shard.send(client, &auth(ReasonCode::ContinueAuthentication, METHOD, b"answer"));
        }
        assert_eq!(shard.engine.session_count(), 0);
        judge(shard, (METHOD, b"answer", false), success(b"last"));
        assert_eq!(answer(shard, client), expected_answer("CONNACK", 0, b"last"));
        shard.subscribe(client, "t", 1);
        shard.goodbye(client);
    });
}

#[test]
fn mqtt_4_12_0_1_an_unknown_method_is_refused_and_the_host_is_never_asked() {
    for limits in [Limits::default(), limits()] {
        run(limits, |shard| {
            let client = shard.dial(&Hello::v5("a").method("unknown", b""));
            assert_eq!(answer(shard, client).1, 0x8C);
            assert!(shard.is_closed(client) && shard.asked.is_empty());
        });
    }
}

#[test]
fn mqtt_4_12_0_4_a_client_that_fails_is_refused_in_connack_and_changes_nothing() {
    for (reason, connack_reason) in [
        (ReasonCode::NotAuthorized, 0x87),
        (ReasonCode::BadAuthenticationMethod, 0x8C),
        (ReasonCode::Success, 0x87),
        (ReasonCode::KeepAliveTimeout, 0x87),
    ] {
        run(limits(), |shard| {
            let watcher = shard.connect(&Hello::v5("watcher"));
            shard.subscribe(watcher, "will", 0);
            let owner = shard.connect(&Hello::v5("a").resume());
            shard.subscribe(owner, "t", 1);
            // Neither the clean start nor the will may take effect.
            let hello = Hello::v5("a").will("will", "never", 0).method(METHOD, b"first");
            let client = shard.dial(&hello);
            judge(shard, (METHOD, b"first", true), Verdict::Continue(b"challenge"));
            assert_eq!(answer(shard, client).0, "AUTH");
            assert!(!shard.is_closed(owner));
            shard.send(client, &auth(ReasonCode::ContinueAuthentication, METHOD, b"wrong"));
            judge(shard, (METHOD, b"wrong", false), Verdict::Failed(reason));
            assert_eq!(answer(shard, client).1, connack_reason);
            assert!(shard.is_closed(client));
            assert!(!shard.is_closed(owner), "a session is not taken over by who failed");
            shard.publish(owner, "t", b"still here", 1);
            assert_eq!(shard.texts(owner), ["still here"]);
            assert_eq!(shard.texts(watcher), [""; 0]);
            assert_eq!(shard.engine.counters().authentications_failed, 1);
        });
    }
}

#[test]
fn a_take_over_waits_until_the_authentication_succeeds() {
    run(limits(), |shard| {
        let owner = shard.connect(&Hello::v5("a").resume());
        let client = shard.dial(&Hello::v5("a").resume().method(METHOD, b""));
        assert!(!shard.is_closed(owner));
        judge(shard, (METHOD, b"", true), success(b""));
        assert_eq!(shard.ended(owner), Some(0x8E));
        let Some(Got::ConnAck { present: true, reason: 0, fields }) = shard.next(client) else {
            panic!("no session")
        };
        assert_eq!((fields.method.as_deref(), fields.data), (Some(METHOD), None));
    });
}

#[test]
fn mqtt_3_1_2_30_before_connack_nothing_but_auth_and_disconnect_may_come() {
    let filters = [(wire::TopicFilter::parse("t").unwrap(), plain(0))];
    let subscribe = wire::Subscribe {
        packet_id: packet_id(1),
        subscription_id: None,
        user_properties: UserProperties::default(),
        filters: wire::SubscribeFilters::from_slice(&filters),
    };
    let hello = Hello::v5("a");
    for packet in [
        Packet::PingReq,
        Packet::Publish(publish("t", b"never", 0, 0)),
        Packet::Subscribe(subscribe),
        Packet::Connect(hello.connect),
        // A step out of turn, of another method, or one that only an open connection or a server may send.
        auth(ReasonCode::ContinueAuthentication, "other", b""),
        auth(ReasonCode::ReAuthenticate, METHOD, b""),
        auth(ReasonCode::Success, METHOD, b""),
    ] {
        for is_challenged in [false, true] {
            run(limits(), |shard| {
                let watcher = shard.connect(&Hello::v5("watcher"));
                shard.subscribe(watcher, "#", 0);
                let client = shard.dial(&hello.method(METHOD, b""));
                if is_challenged {
                    judge(shard, (METHOD, b"", true), Verdict::Continue(b"challenge"));
                    assert_eq!(answer(shard, client).0, "AUTH");
                }
                shard.send(client, &packet);
                assert_eq!(answer(shard, client).1, 0x82, "{packet:?}");
                assert!(shard.is_closed(client));
                assert_eq!(shard.texts(watcher), [""; 0]);
                assert_eq!(shard.engine.session_count(), 1);
            });
        }
    }
}

#[test]
fn a_client_that_leaves_or_is_malformed_before_connack_leaves_nothing() {
    run(limits(), |shard| {
        let client = shard.dial(&Hello::v5("a").method(METHOD, b""));
        shard.disconnect(client, ReasonCode::DisconnectWithWill, None);
        assert!(shard.is_closed(client));
        assert_eq!(shard.take(client), []);
        let client = shard.dial(&Hello::v5("a").method(METHOD, b""));
        shard.send_bytes(client, &[0x00, 0x00]);
        assert_eq!(answer(shard, client).1, 0x81);
        assert!(shard.is_closed(client));
        // The host's answers come too late and are counted.
        let stale = shard.engine.counters().stale;
        for (connection, step) in core::mem::take(&mut shard.asked) {
            assert_eq!(shard.engine.authentication_step(connection, step), None);
            shard.raw_step(Event::Authenticated { connection, step, verdict: success(b"") });
        }
        assert_eq!(shard.engine.counters().stale, stale + 2);
        assert_eq!(shard.engine.session_count(), 0);
    });
}

#[test]
fn an_answer_for_an_earlier_connection_of_the_slot_or_a_second_answer_admits_nobody() {
    run(Limits { generation_bits: 2, ..limits() }, |shard| {
        let gone = shard.dial(&Hello::v5("gone").method(METHOD, b""));
        let late = shard.asked.pop_front().unwrap();
        shard.hang_up(gone);
        let mut last = gone;
        for _ in 0..4 {
            shard.hang_up(last);
            last = shard.dial(&Hello::v5("new").method(METHOD, b""));
            assert_eq!(shard.id(last).slot(), late.0.slot());
        }
        assert_eq!(shard.id(last), late.0, "the generations came round");
        let verdict = success(b"");
        shard.raw_step(Event::Authenticated { connection: late.0, step: late.1, verdict });
        assert_eq!(shard.next(last), None, "the answer was about another client");
        let (connection, step) = shard.asked.pop_back().unwrap();
        shard.raw_step(Event::Authenticated { connection, step, verdict });
        assert_eq!(answer(shard, last).0, "CONNACK");
        let verdict = Verdict::Failed(ReasonCode::NotAuthorized);
        shard.raw_step(Event::Authenticated { connection, step, verdict });
        assert!(!shard.is_closed(last), "a step is judged once");
        shard.asked.clear();
    });
}

#[test]
fn the_connect_time_out_bounds_the_whole_exchange() {
    run(limits(), |shard| {
        let client = shard.dial(&Hello::v5("a").method(METHOD, b""));
        judge(shard, (METHOD, b"", true), Verdict::Continue(b"challenge"));
        shard.advance_ms(6_000);
        shard.send(client, &auth(ReasonCode::ContinueAuthentication, METHOD, b"answer"));
        judge(shard, (METHOD, b"answer", false), Verdict::Continue(b"again"));
        shard.advance_ms(3_999);
        assert!(!shard.is_closed(client));
        shard.advance_ms(1);
        assert!(shard.is_closed(client));
    });
}

#[test]
fn authentication_data_is_bounded() {
    run(Limits { authentication_bytes_max: 10, ..limits() }, |shard| {
        for (data, expected) in [(&b"123456"[..], None), (b"1234567", Some(0x97))] {
            let client = shard.dial(&Hello::v5("a").method(METHOD, data));
            match expected {
                Some(reason) => assert_eq!(answer(shard, client).1, reason),
                None => judge(shard, (METHOD, data, true), Verdict::Continue(b"")),
            }
            shard.take(client);
            if expected.is_none() {
                shard.send(client, &auth(ReasonCode::ContinueAuthentication, METHOD, b"12345678901"));
                assert_eq!(answer(shard, client).1, 0x97);
            }
            assert!(shard.is_closed(client));
        }
        let client = authenticated(shard, &Hello::v5("a"));
        shard.send(client, &auth(ReasonCode::ReAuthenticate, METHOD, b"12345678901"));
        assert_eq!(shard.ended(client), Some(0x97));
    });
}

#[test]
fn mqtt_4_12_1_1_an_open_connection_authenticates_again_while_its_traffic_goes_on() {
    run(limits(), |shard| {
        let client = authenticated(shard, &Hello::v5("a"));
        shard.subscribe(client, "t", 1);
        for _ in 0..2 {
            shard.send(client, &auth(ReasonCode::ReAuthenticate, METHOD, b"again"));
            shard.publish(client, "t", b"asked", 1);
            judge(shard, (METHOD, b"again", true), Verdict::Continue(b"challenge"));
            shard.publish(client, "t", b"challenged", 2);
            let found = shard.find(client, |got| match got {
                Got::Auth(reason, method, data) => Some((*reason, method.clone(), data.clone())),
                _ => None,
            });
            assert_eq!(found, Some((0x18, METHOD.to_owned(), b"challenge".to_vec())));
            shard.send(client, &auth(ReasonCode::ContinueAuthentication, METHOD, b"answer"));
            judge(shard, (METHOD, b"answer", false), success(b"last"));
            let found = shard.find(client, |got| match got {
                Got::Auth(reason, method, data) => Some((*reason, method.clone(), data.clone())),
                _ => None,
            });
            assert_eq!(found, Some((0, METHOD.to_owned(), b"last".to_vec())));
            assert_eq!(shard.texts(client), ["asked", "challenged"]);
        }
        shard.goodbye(client);
    });
}

#[test]
fn mqtt_4_12_1_2_failing_again_ends_the_connection_with_its_reason() {
    run(limits(), |shard| {
        let watcher = shard.connect(&Hello::v5("watcher"));
        shard.subscribe(watcher, "will", 0);
        let client =
            authenticated(shard, &Hello::v5("a").will_with("will", "gone", QoS::AtMostOnce, false, 0));
        shard.send(client, &auth(ReasonCode::ReAuthenticate, METHOD, b"again"));
        judge(shard, (METHOD, b"again", true), Verdict::Failed(ReasonCode::NotAuthorized));
        assert_eq!(shard.ended(client), Some(0x87));
        assert_eq!(shard.texts(watcher), ["gone"]);
    });
}

#[test]
fn steps_out_of_turn_on_an_open_connection_are_protocol_errors() {
    let out_of_turn = [
        auth(ReasonCode::ContinueAuthentication, METHOD, b""),
        auth(ReasonCode::Success, METHOD, b""),
        auth(ReasonCode::ReAuthenticate, "other", b""),
    ];
    for packet in out_of_turn {
        run(limits(), |shard| {
            let client = authenticated(shard, &Hello::v5("a"));
            shard.send(client, &packet);
            assert_eq!(shard.ended(client), Some(0x82), "{packet:?}");
            // A client whose CONNECT named no method sends no AUTH at all [MQTT-4.12.0-7].
            let client = shard.connect(&Hello::v5("a"));
            shard.send(client, &packet);
            assert_eq!(shard.ended(client), Some(0x82), "{packet:?}");
        });
    }
    // A second request while the first is under way.
    run(limits(), |shard| {
        let client = authenticated(shard, &Hello::v5("a"));
        shard.send(client, &auth(ReasonCode::ReAuthenticate, METHOD, b""));
        shard.send(client, &auth(ReasonCode::ReAuthenticate, METHOD, b""));
        assert_eq!(shard.ended(client), Some(0x82));
        shard.asked.clear();
    });
}

#[test]
fn a_step_longer_than_the_client_accepts_is_a_refusal() {
    run(limits(), |shard| {
        let hello = Hello::v5("a").packet_bytes_max(200);
        let client = shard.dial(&hello.method(METHOD, b""));
        judge(shard, (METHOD, b"", true), Verdict::Continue(&[b'x'; 200]));
        assert_eq!(answer(shard, client).1, 0x95);
        assert!(shard.is_closed(client));
        let client = authenticated(shard, &hello);
        shard.send(client, &auth(ReasonCode::ReAuthenticate, METHOD, b""));
        judge(shard, (METHOD, b"", true), success(&[b'x'; 200]));
        assert_eq!(shard.ended(client), Some(0x95));
    });
}

#[test]
fn a_stop_closes_connections_that_are_not_authenticated_yet() {
    run(limits(), |shard| {
        let client = shard.dial(&Hello::v5("a").method(METHOD, b""));
        shard.stop();
        assert!(shard.is_closed(client));
        assert_eq!(shard.take(client), []);
        let (connection, step) = shard.asked.pop_front().unwrap();
        shard.raw_step(Event::Authenticated { connection, step, verdict: success(b"") });
        assert_eq!(shard.engine.session_count(), 0);
    });
}

#[test]
fn an_exchange_holds_its_method_its_data_and_the_body_of_connect() {
    run(limits(), |shard| {
        let data = [b'x'; 1_000];
        let client = shard.dial(&Hello::v5("a").method(METHOD, &data));
        let held = shard.engine.memory_use().of_kind(MemoryKind::Authentications);
        // The body of CONNECT has the method and the data as well, and some tens of bytes more.
        let twice = 2 * (METHOD.len() + data.len()) as u64;
        assert!((twice..twice + 200).contains(&held), "{held}");
        judge(shard, (METHOD, &data, true), success(b""));
        assert_eq!(answer(shard, client), expected_answer("CONNACK", 0, b""));
        let left = shard.engine.memory_use().of_kind(MemoryKind::Authentications);
        assert!((1..200).contains(&left), "its method: {left}");
    });
}
