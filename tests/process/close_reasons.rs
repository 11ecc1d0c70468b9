//! Every reason for which the broker closes a connection, provoked and received in DISCONNECT.

use engine::CLOSE_REASONS;
use rustix::process::Signal;
use wire::ReasonCode;

use crate::harness::broker::{Broker, Setup};
use crate::harness::packet::{Connect, Properties, Publish, Version, auth, property, subscribe};
use crate::harness::peer::Peer;
use crate::harness::received::Received;

/// The reason, the setting that it requires, and the action of the client or of the operator.
type Case = (u8, &'static str, fn(&mut Broker, &mut Peer));

fn properties() -> Properties {
    Properties::new()
}

const CASES: &[Case] = &[
    (0x81, "", |_, peer| peer.send(&[0x00, 0x00])),
    (0x82, "", |_, peer| peer.send(&[0xD0, 0x00])),
    // A second CONNECT, of an unknown protocol version.
    (0x82, "", |_, peer| peer.send(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 9, 2, 0, 0, 0, 1, b'a'])),
    (0x87, "", |_, peer| {
        let method = || properties().text(property::AUTHENTICATION_METHOD, "test-echo");
        peer.send(&auth(0x19, &method()));
        peer.await_packet("AUTH", |packet| matches!(packet, Received::Auth { reason: 0x18, .. }));
        peer.send(&auth(0x18, &method()));
    }),
    (0x8B, "", |broker, _| broker.process().signal(Signal::TERM)),
    (0x9C, "server_reference = \"other:1\"", |broker, _| broker.process().signal(Signal::TERM)),
    // The keep alive is limited to one second, and the client is silent for longer.
    (0x8D, "keep_alive_s_max = 1", |_, _| {}),
    (0x8E, "", |broker, _| {
        Peer::connect(broker.address(), &Connect::new(Version::V5, "subject"));
    }),
    (0x90, "topic_levels_max = 2", |_, peer| peer.send(&Publish::new("a/b/c", 0, b"x").encode(Version::V5))),
    (0x93, "receive_maximum = 1", |_, peer| {
        let publish = Publish::new("t", 2, b"x");
        let mut bytes = publish.clone().with_packet_id(1).encode(Version::V5);
        bytes.extend(publish.with_packet_id(2).encode(Version::V5));
        peer.send(&bytes);
    }),
    (0x94, "topic_alias_maximum = 1", |_, peer| {
        let alias = properties().two(property::TOPIC_ALIAS, 2);
        peer.send(&Publish::new("t", 0, b"x").with(alias).encode(Version::V5));
    }),
    (0x95, "packet_bytes_max = 2000", |_, peer| peer.send(&[0x30, 0xFF, 0x7F])),
    (0x96, "publish_rate = 1\nburst_s = 1\non_rate = \"disconnect\"", |_, peer| {
        let publish = Publish::new("t", 0, b"x").encode(Version::V5);
        peer.send(&[publish.clone(), publish].concat());
    }),
    (0x97, "queue_full = \"end_session\"\nqueue_messages_max = 0\ninflight_max = 1", |_, peer| {
        peer.subscribe("t", 1);
        for id in [1, 2] {
            peer.send(&Publish::new("t", 1, b"x").with_packet_id(id).encode(Version::V5));
        }
    }),
    (0x98, "", |broker, _| assert!(crate::disconnect::disconnect(broker, "subject").status.success())),
    (0x99, "check_payload_format = true", |_, peer| {
        let utf8 = properties().byte(property::PAYLOAD_FORMAT, 1);
        peer.send(&Publish::new("t", 0, b"\xff").with(utf8).encode(Version::V5));
    }),
    (0x9A, "retain_available = false", |_, peer| {
        peer.send(&Publish::new("t", 0, b"x").retained().encode(Version::V5));
    }),
    (0x9B, "maximum_qos = 1", |_, peer| {
        peer.send(&Publish::new("t", 2, b"x").with_packet_id(1).encode(Version::V5));
    }),
    (0x9E, "shared_subscriptions = false", |_, peer| {
        peer.send(&subscribe(Version::V5, 1, &[("$share/g/t", 0)], &properties()));
    }),
    (0xA1, "subscription_identifiers = false", |_, peer| {
        let id = properties().variable(property::SUBSCRIPTION_ID, 1);
        peer.send(&subscribe(Version::V5, 1, &[("t", 0)], &id));
    }),
    (0xA2, "wildcard_subscriptions = false", |_, peer| {
        peer.send(&subscribe(Version::V5, 1, &[("t/#", 0)], &properties()));
    }),
];

#[test]
fn every_close_reason_is_sent_before_the_end() {
    for (reason, config, provoke) in CASES {
        let flags = ["--shards", "1", "--test-authentication", "true"];
        let mut broker = Broker::start_with(&Setup { flags: &flags, config, ..Setup::default() });
        let mut connect = Connect::new(Version::V5, "subject");
        connect.properties = properties().text(property::AUTHENTICATION_METHOD, "test-echo");
        let mut peer = Peer::open(broker.address(), Version::V5);
        peer.send(&connect.encode());
        let challenge = match peer.next() {
            Received::Auth { properties, .. } => {
                crate::harness::received::text(&properties, property::AUTHENTICATION_DATA)
            }
            other => panic!("{other:?} answers CONNECT"),
        };
        let answer = properties()
            .text(property::AUTHENTICATION_METHOD, "test-echo")
            .text(property::AUTHENTICATION_DATA, &challenge.unwrap_or_default());
        peer.send(&auth(0x18, &answer));
        assert_eq!(peer.await_connack(), 0);
        provoke(&mut broker, &mut peer);
        assert_eq!(peer.await_close(), Some(*reason), "with {config:?}");
        broker.stop();
    }
    // The list of the engine, so that every new reason must be provoked here. Time that a method of authentication grants ends in
    // identities::service, whose service says when.
    for reason in CLOSE_REASONS.into_iter().filter(|reason| *reason != ReasonCode::MaximumConnectTime) {
        assert!(CASES.iter().any(|(seen, ..)| *seen == reason.code()), "nothing provokes {reason:?}");
    }
}
