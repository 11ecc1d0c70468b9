//! The notice of each client that comes and goes, and the cause that it names. The host checks for every test
//! that each connection is noted and counted once.

use engine::{
    Admission, Cause, CauseGroup, ClosedBy, Event, Limits, NOTICE_TEXT_BYTES_MAX, Notice, Redirect, Refused,
};
use wire::{Malformed, Packet, ProtocolVersion, ReasonCode};

use crate::client::{Client, Hello, publish};
use crate::host::{Shard, run};

/// The last end that was noted: client identifier, whether it was let in, cause, packets.
fn last_end(shard: &Shard) -> (Option<&str>, bool, Cause, u32) {
    match shard.notices.last() {
        Some(Notice::Ended { client_id, was_let_in, cause, packets_received, .. }) => {
            (client_id.as_deref(), *was_let_in, *cause, *packets_received)
        }
        other => panic!("{other:?} is not an end"),
    }
}

type Case = (Cause, fn(&mut Limits), fn(&mut Shard, Client));

fn none(_: &mut Limits) {}

/// Ends of a client that was let in, except by the causes of `close_reasons`.
const CLOSED: &[Case] = &[
    (Cause::Disconnected, none, |shard, client| shard.disconnect(client, ReasonCode::Success, None)),
    (Cause::DisconnectedWithWill(ReasonCode::DisconnectWithWill), none, |shard, client| {
        shard.disconnect(client, ReasonCode::DisconnectWithWill, None);
    }),
    (Cause::PeerClosed, none, Shard::hang_up),
    (Cause::PeerReset, none, |shard, client| close(shard, client, ClosedBy::Reset)),
    (Cause::PeerUnreachable, none, |shard, client| close(shard, client, ClosedBy::Silence)),
    (Cause::HostFailed, none, |shard, client| close(shard, client, ClosedBy::Host)),
    (Cause::KeepAlive, none, |shard, _| shard.advance_ms(150_001)),
    (Cause::Operator, none, |shard, client| {
        let connection = shard.id(client);
        shard.raw_step(Event::Disconnect { connection });
    }),
    (Cause::Stopping, none, |shard, _| shard.stop()),
    (Cause::Drained, none, |shard, client| {
        shard.raw_step(Event::Drain { is_on: true, server_reference: "" });
        let connection = shard.id(client);
        shard.raw_step(Event::SendAway { connection });
    }),
    (Cause::Malformed(Malformed::PacketTypeReserved { packet_type: 0 }), none, |shard, client| {
        shard.send_bytes(client, &[0, 0]);
    }),
    (Cause::ServerPacket, none, |shard, client| shard.send_bytes(client, &[0xD0, 0])),
    (Cause::SecondConnect, none, |shard, client| shard.send_bytes(client, &[0x10, 0])),
    (
        Cause::TopicLevels,
        |limits| limits.topic_levels_max = 1,
        |shard, client| {
            shard.send(client, &Packet::Publish(publish("a/b", b"x", 0, 0)));
        },
    ),
];

fn close(shard: &mut Shard, client: Client, by: ClosedBy) {
    shard.lose(client, by);
}

#[test]
fn the_end_of_a_client_is_noted_with_its_cause() {
    for (cause, change, provoke) in CLOSED {
        let mut limits = Limits::default();
        change(&mut limits);
        run(limits, |shard| {
            let client = shard.connect(&Hello::v5("subject").keep_alive_s(100));
            provoke(shard, client);
            let (client_id, was_let_in, noted, _) = last_end(shard);
            assert_eq!((client_id, was_let_in, noted), (Some("subject"), true, *cause));
            let counters = shard.engine.counters();
            assert_eq!(counters.closed[cause.group().index()], 1, "{cause:?}");
        });
    }
}

#[test]
fn a_take_over_names_the_connection_that_takes_over() {
    run(Limits::default(), |shard| {
        let first = shard.connect(&Hello::v5("subject").resume().expiry_s(60));
        let second = shard.connect(&Hello::v3("subject").resume().keep_alive_s(7));
        let [before @ .., taken_over, connected] = &shard.notices[..] else { panic!("three notices") };
        assert!(matches!(before, [Notice::Connected { resumed: false, clean_start: false, .. }]));
        let expected = Notice::Ended {
            connection: shard.id(first),
            client_id: Some("subject".into()),
            user: None,
            was_let_in: true,
            cause: Cause::TakenOver(shard.id(second)),
            packets_received: 1,
        };
        assert_eq!(*taken_over, expected);
        let expected = Notice::Connected {
            connection: shard.id(second),
            client_id: "subject".into(),
            user: None,
            version: ProtocolVersion::V3_1_1,
            keep_alive_s: 7,
            clean_start: false,
            resumed: true,
        };
        assert_eq!(*connected, expected);
    });
}

#[test]
fn the_packets_of_a_connection_are_counted() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("subject"));
        shard.subscribe(client, "t", 1);
        for _ in 0..3 {
            shard.publish(client, "t", b"x", 0);
        }
        shard.hang_up(client);
        assert_eq!(last_end(shard).3, 5);
    });
}

#[test]
fn a_refusal_is_noted_with_its_cause() {
    type Change = fn(&mut Limits);
    let cases: &[(Cause, Change)] = &[
        (Cause::UseAnotherServer, |limits| limits.redirect = Redirect::UseAnother),
        (Cause::ServerMoved, |limits| limits.redirect = Redirect::Moved),
        (Cause::ClientIdTooLong, |limits| limits.client_id_bytes_max = 3),
        (Cause::TooManySessions, |limits| limits.sessions_max = 0),
    ];
    for (cause, change) in cases {
        let mut limits = Limits::default();
        change(&mut limits);
        let mut shard = Shard::new(limits, 7);
        shard.dial(&Hello::v5("subject"));
        assert_eq!(last_end(&shard), (Some("subject"), false, *cause, 1));
        assert_eq!(shard.engine.counters().refused[cause.group().index()], 1);
        shard.hang_up_all();
    }
}

#[test]
fn a_peer_that_does_not_speak_mqtt_is_noted_without_an_identifier() {
    let cases: &[(&[u8], Cause, CauseGroup)] = &[
        (&[0x16, 3, 1, 2, 0, 1, 0, 1], Cause::Tls, CauseGroup::Tls),
        (b"GET / HTTP/1.1\r\n\r\n", Cause::Http, CauseGroup::Http),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Cause::Proxy, CauseGroup::Proxy),
        (b"SSH-2.0-x\r\n", Cause::NotConnect, CauseGroup::ProtocolError),
    ];
    for (bytes, cause, group) in cases {
        run(Limits::default(), |shard| {
            let client = shard.open(ProtocolVersion::V5, Admission::Serve);
            shard.send_bytes(client, bytes);
            assert_eq!(last_end(shard), (None, false, *cause, 0));
            assert_eq!(shard.engine.counters().refused[group.index()], 1);
            assert_eq!(shard.engine.counters().protocol_errors, 1);
        });
    }
}

#[test]
fn connections_that_never_become_a_client_are_noted() {
    run(Limits::default(), |shard| {
        let silent = shard.open(ProtocolVersion::V5, Admission::Serve);
        shard.advance_ms(10_000);
        assert_eq!(last_end(shard), (None, false, Cause::ConnectTimeout, 0));
        shard.hang_up(silent);
        let probe = shard.open(ProtocolVersion::V5, Admission::Serve);
        shard.hang_up(probe);
        assert_eq!(last_end(shard), (None, false, Cause::PeerClosed, 0));
        let one_too_many = shard.open(ProtocolVersion::V5, Admission::TurnAway(Refused::Full));
        shard.send(one_too_many, &Packet::Connect(Hello::v5("late").connect));
        assert_eq!(last_end(shard), (Some("late"), false, Cause::TooManyConnections, 1));
    });
}

#[test]
fn an_exchange_that_fails_is_noted_with_the_identifier_of_its_connect() {
    let limits = Limits { authentication_methods: vec!["m".into()], ..Limits::default() };
    run(limits, |shard| {
        shard.dial(&Hello::v5("subject").method("m", b""));
        let (connection, step) = shard.asked.pop_front().unwrap();
        let verdict = engine::Verdict::Failed(ReasonCode::NotAuthorized);
        shard.raw_step(Event::Authenticated { connection, step, verdict });
        let cause = Cause::AuthenticationFailed(ReasonCode::NotAuthorized);
        assert_eq!(last_end(shard), (Some("subject"), false, cause, 1));
    });
}

#[test]
fn a_long_identifier_is_cut_between_two_characters() {
    let limits = Limits { client_id_bytes_max: u16::MAX, ..Limits::default() };
    run(limits, |shard| {
        let client_id = "x€".repeat(5_000);
        let client = shard.connect(&Hello::v5(&client_id));
        shard.hang_up(client);
        let noted = last_end(shard).0.unwrap();
        assert!(client_id.starts_with(noted));
        assert!(noted.len() <= NOTICE_TEXT_BYTES_MAX && noted.len() > NOTICE_TEXT_BYTES_MAX - 4);
    });
}

#[test]
fn without_the_wish_there_are_counts_but_no_notices() {
    let mut actions = engine::Actions::new();
    let now = engine::Instant::from_ms(5);
    let mut engine = engine::Engine::new(Limits::default(), engine::Entropy(1), now);
    let connection = engine.accept(now, Admission::Serve, engine::Arrival::new(1), 0);
    let _taken = engine.step(now, Event::Closed { connection, by: ClosedBy::Peer }, &mut actions);
    assert_eq!(actions.drain_notices().count(), 0);
    assert_eq!(engine.counters().refused[CauseGroup::PeerClosed.index()], 1);
}

#[test]
fn every_group_has_a_name_of_its_own() {
    for (index, group) in CauseGroup::ALL.iter().enumerate() {
        assert_eq!(group.index(), index);
        let same = CauseGroup::ALL.iter().filter(|other| other.name() == group.name());
        assert_eq!(same.count(), 1, "{}", group.name());
    }
}

#[test]
fn an_explanation_names_the_limit_and_its_value() {
    let limits = Limits { topic_levels_max: 7, ..Limits::default() };
    let text = |cause: Cause| cause.explained(&limits).to_string();
    assert!(text(Cause::TopicLevels).ends_with("(topic_levels_max = 7)"));
    assert!(text(Cause::Malformed(Malformed::TextHasNull)).contains("U+0000"));
    assert!(text(Cause::PublishRefused(ReasonCode::QuotaExceeded)).ends_with("(0x97)"));
}
