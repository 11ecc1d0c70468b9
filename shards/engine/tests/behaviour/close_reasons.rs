//! Every reason with which the engine closes an open connection: each is provoked and sent in DISCONNECT.

use engine::{CLOSE_REASONS, Event, Limits, ListenerLimits, OnRate, Rates, UserGrant, Verdict};
use wire::{Packet, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode};

use core::num::NonZeroU16;

use crate::authentication::success;
use crate::client::{Client, Hello, packet_id, plain, publish};
use crate::host::{Drain, Shard, run};

/// A provocation: the change of the limits that it needs, and the act of the client or of the host.
type Provocation = (fn(&mut Limits), fn(&mut Shard, Client));

fn none(_: &mut Limits) {}

fn subscribe(shard: &mut Shard, client: Client, filter: &str, identifier: Option<u32>) {
    let filters = [(wire::TopicFilter::parse(filter).expect("tests use good filters"), plain(0))];
    let subscribe = wire::Subscribe {
        packet_id: packet_id(1),
        subscription_id: identifier.and_then(wire::SubscriptionId::new),
        user_properties: wire::UserProperties::default(),
        filters: wire::SubscribeFilters::from_slice(&filters),
    };
    shard.send(client, &Packet::Subscribe(subscribe));
}

fn with(shard: &mut Shard, client: Client, properties: PublishProperties<'_>, payload: &[u8]) {
    shard.send(client, &Packet::Publish(Publish { properties, ..publish("t", payload, 0, 0) }));
}

const PROVOCATIONS: &[(ReasonCode, Provocation)] = &[
    (ReasonCode::MalformedPacket, (none, |shard, client| shard.send_bytes(client, &[0x00, 0x00]))),
    (ReasonCode::ProtocolError, (none, |shard, client| shard.send_bytes(client, &[0xD0, 0x00]))),
    // A second CONNECT is an error of the protocol whatever version it names.
    (
        ReasonCode::ProtocolError,
        (none, |shard, client| {
            shard.send_bytes(client, &[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 9, 2, 0, 0, 0, 1, b'a']);
        }),
    ),
    (
        ReasonCode::NotAuthorized,
        (none, |shard, client| {
            let properties =
                wire::AuthProperties { authentication_method: Some("m"), ..wire::AuthProperties::default() };
            shard.send(client, &Packet::Auth(wire::Auth { reason: ReasonCode::ReAuthenticate, properties }));
            let (connection, step) = shard.asked.pop_front().expect("the host was asked");
            let verdict = Verdict::Failed(ReasonCode::NotAuthorized);
            shard.raw_step(Event::Authenticated { connection, step, verdict });
        }),
    ),
    (
        ReasonCode::MaximumConnectTime,
        (none, |shard, client| {
            let properties =
                wire::AuthProperties { authentication_method: Some("m"), ..wire::AuthProperties::default() };
            shard.send(client, &Packet::Auth(wire::Auth { reason: ReasonCode::ReAuthenticate, properties }));
            let (connection, step) = shard.asked.pop_front().expect("the host was asked");
            let grant = UserGrant { expires_at: Some(shard.now().plus_ms(1_000)), ..UserGrant::NOBODY };
            let verdict = Verdict::Success { data: b"", grant: &grant };
            shard.raw_step(Event::Authenticated { connection, step, verdict });
            shard.advance_ms(1_000);
        }),
    ),
    (ReasonCode::ServerShuttingDown, (none, |shard, _| shard.stop())),
    (
        ReasonCode::UseAnotherServer,
        (|limits| limits.server_reference = "other:1".into(), |shard, _| shard.stop()),
    ),
    (ReasonCode::KeepAliveTimeout, (none, |shard, _| shard.advance_ms(1_500_001))),
    (
        ReasonCode::SessionTakenOver,
        (none, |shard, _| {
            shard.connect(&Hello::v5("subject"));
        }),
    ),
    (
        ReasonCode::TopicNameInvalid,
        (
            |limits| limits.topic_levels_max = 2,
            |shard, client| {
                shard.send(client, &Packet::Publish(publish("a/b/c", b"x", 0, 0)));
            },
        ),
    ),
    (
        ReasonCode::ReceiveMaximumExceeded,
        (
            |limits| limits.receive_maximum = 1,
            |shard, client| {
                for id in 1..=2 {
                    shard.send(client, &Packet::Publish(publish("t", b"x", 2, id)));
                }
            },
        ),
    ),
    (
        ReasonCode::TopicAliasInvalid,
        (
            |limits| limits.topic_alias_maximum = 1,
            |shard, client| {
                let alias =
                    PublishProperties { topic_alias: NonZeroU16::new(2), ..PublishProperties::default() };
                with(shard, client, alias, b"x");
            },
        ),
    ),
    (
        ReasonCode::MessageRateTooHigh,
        (
            |limits| {
                let rates = Rates { messages: 1, bytes: 0, burst_s: 1, on_rate: OnRate::Disconnect };
                limits.listeners = vec![ListenerLimits { rates: Some(rates), ..ListenerLimits::default() }];
            },
            |shard, client| {
                for _ in 0..2 {
                    shard.send(client, &Packet::Publish(publish("t", b"x", 0, 0)));
                }
            },
        ),
    ),
    (
        ReasonCode::PacketTooLarge,
        (none, |shard, client| {
            shard.send_bytes(client, &[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
        }),
    ),
    (
        ReasonCode::QuotaExceeded,
        (
            |limits| {
                limits.queue_full = engine::QueueFull::EndSession;
                limits.queue_messages_max = 0;
                limits.inflight_max = 1;
            },
            |shard, client| {
                shard.subscribe(client, "t", 1);
                let publisher = shard.connect(&Hello::v5("publisher"));
                for _ in 0..2 {
                    shard.publish(publisher, "t", b"x", 1);
                }
            },
        ),
    ),
    (
        ReasonCode::AdministrativeAction,
        (none, |shard, client| {
            let connection = shard.engine.connection_of("subject").expect("it is connected");
            assert_eq!(connection, shard.id(client));
            shard.raw_step(Event::Disconnect { connection });
        }),
    ),
    (
        ReasonCode::PayloadFormatInvalid,
        (
            |limits| limits.check_payload_format = true,
            |shard, client| {
                let text =
                    PublishProperties { payload_format_utf8: Some(true), ..PublishProperties::default() };
                with(shard, client, text, b"\xff");
            },
        ),
    ),
    (
        ReasonCode::RetainNotSupported,
        (
            |limits| limits.retain_available = false,
            |shard, client| {
                shard.send(client, &Packet::Publish(Publish { retain: true, ..publish("t", b"x", 0, 0) }));
            },
        ),
    ),
    (
        ReasonCode::QoSNotSupported,
        (
            |limits| limits.maximum_qos = QoS::AtLeastOnce,
            |shard, client| {
                shard.send(client, &Packet::Publish(publish("t", b"x", 2, 1)));
            },
        ),
    ),
    (
        ReasonCode::SharedSubscriptionsNotSupported,
        (
            |limits| limits.shared_subscriptions = false,
            |shard, client| {
                subscribe(shard, client, "$share/g/t", None);
            },
        ),
    ),
    (
        ReasonCode::SubscriptionIdentifiersNotSupported,
        (
            |limits| limits.subscription_identifiers = false,
            |shard, client| subscribe(shard, client, "t", Some(1)),
        ),
    ),
    (
        ReasonCode::WildcardSubscriptionsNotSupported,
        (
            |limits| limits.wildcard_subscriptions = false,
            |shard, client| {
                subscribe(shard, client, "t/#", None);
            },
        ),
    ),
];

#[test]
fn every_close_reason_is_provoked_and_sent_before_the_close() {
    let mut seen = Vec::new();
    for (reason, (change, provoke)) in PROVOCATIONS {
        let mut limits = Limits { authentication_methods: vec!["m".into()], ..Limits::default() };
        change(&mut limits);
        run(limits, |shard| {
            let hello = Hello::v5("subject").keep_alive_s(1_000).method("m", b"");
            let client = shard.dial(&hello);
            let (connection, step) = shard.asked.pop_front().unwrap();
            shard.raw_step(Event::Authenticated { connection, step, verdict: success(b"") });
            assert!(shard.next(client).is_some());
            shard.drain(client, Drain::ALL);
            provoke(shard, client);
            assert_eq!(shard.ended(client), Some(reason.code()), "{reason:?}");
            assert_eq!(client.version, ProtocolVersion::V5);
        });
        seen.push(*reason);
    }
    let unseen: Vec<_> = CLOSE_REASONS.iter().filter(|reason| !seen.contains(reason)).collect();
    assert!(unseen.is_empty(), "no test provokes {unseen:?}");
}
