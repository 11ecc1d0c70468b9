//! Enhanced authentication over the network, with the test method of `test_authentication`.

use crate::harness::broker::{Broker, Setup};
use crate::harness::packet::{Connect, Properties, Publish, Version, auth, property};
use crate::harness::peer::Peer;
use crate::harness::received::{Received, Value, text};

const METHOD: &str = "test-echo";

fn start(shards: &str) -> Broker {
    let flags = ["--shards", shards, "--tell-shard", "true", "--test-authentication", "true"];
    Broker::start_with(&Setup { flags: &flags, ..Setup::default() })
}

fn named(method: &str, data: &str) -> Properties {
    Properties::new().text(property::AUTHENTICATION_METHOD, method).text(property::AUTHENTICATION_DATA, data)
}

fn dial<'a>(broker: &Broker, client_id: &'a str, method: &str) -> (Peer, Connect<'a>) {
    let mut connect = Connect::persistent(Version::V5, client_id);
    connect.properties = named(method, "begin").four(property::SESSION_EXPIRY_INTERVAL, 3600);
    let mut peer = Peer::open(broker.address(), Version::V5);
    peer.send(&connect.encode());
    (peer, connect)
}

/// The data of the next AUTH packet.
fn next_auth(peer: &mut Peer, expected: u8) -> String {
    match peer.await_packet("AUTH", |packet| matches!(packet, Received::Auth { .. })) {
        Received::Auth { reason, properties } => {
            assert_eq!(reason, expected);
            let method = text(&properties, property::AUTHENTICATION_METHOD);
            assert_eq!(method.as_deref(), Some(METHOD), "[MQTT-4.12.0-5]");
            text(&properties, property::AUTHENTICATION_DATA).expect("the test method always sends data")
        }
        other => unreachable!("{other:?} is not an AUTH"),
    }
}

fn pass(broker: &Broker, client_id: &str) -> Peer {
    let (mut peer, _) = dial(broker, client_id, METHOD);
    let challenge = next_auth(&mut peer, 0x18);
    peer.send(&auth(0x18, &named(METHOD, &challenge)));
    assert_eq!(peer.await_connack(), 0);
    assert_eq!(peer.text(property::AUTHENTICATION_METHOD).as_deref(), Some(METHOD));
    assert_eq!(peer.text(property::AUTHENTICATION_DATA).as_deref(), Some("welcome"));
    peer
}

#[test]
fn a_client_is_let_in_by_its_answer_and_authenticates_again_amid_its_traffic() {
    // With several shards most exchanges take place after the connection was handed over.
    for shards in ["1", "4"] {
        let mut broker = start(shards);
        broker
            .process()
            .wait_for(0, "warning", |line| line.contains("WARN") && line.contains("test_authentication"));
        let mut seen = Vec::new();
        for number in 0..12 {
            let client_id = format!("client-{number}");
            let mut peer = pass(&broker, &client_id);
            let shard = peer.properties.iter().find_map(|(_, value)| match value {
                Value::Pair(key, value) if key == "shard" => Some(value.clone()),
                Value::Pair(..) | Value::Number(_) | Value::Bytes(_) => None,
            });
            seen.extend(shard);
            peer.subscribe(&client_id, 1);
            peer.send(&auth(0x19, &named(METHOD, "again")));
            assert_eq!(peer.publish(&Publish::new(&client_id, 1, b"meanwhile")), 0);
            let challenge = next_auth(&mut peer, 0x18);
            peer.send(&auth(0x18, &named(METHOD, &challenge)));
            assert_eq!(next_auth(&mut peer, 0x00), "welcome");
            assert_eq!(peer.next_message().text(), "meanwhile");
            peer.disconnect();
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len() > 1, shards != "1", "clients of more than one home, or of one: {seen:?}");
        broker.stop();
    }
}

#[test]
fn a_failed_authentication_is_reported_and_takes_no_session_over() {
    let broker = start("2");
    let mut owner = pass(&broker, "owner");
    owner.subscribe("t", 1);
    let (mut thief, _) = dial(&broker, "owner", METHOD);
    next_auth(&mut thief, 0x18);
    thief.send(&auth(0x18, &named(METHOD, "wrong")));
    assert_eq!(thief.await_connack(), 0x87);
    thief.await_close();
    owner.publish(&Publish::new("t", 1, b"undisturbed"));
    assert_eq!(owner.next_message().text(), "undisturbed");
    // In the second round the connection is open, so the failure arrives in DISCONNECT [MQTT-4.12.1-2].
    owner.send(&auth(0x19, &named(METHOD, "again")));
    next_auth(&mut owner, 0x18);
    owner.send(&auth(0x18, &named(METHOD, "wrong")));
    assert_eq!(owner.await_close(), Some(0x87));
    let heir = pass(&broker, "owner");
    assert!(heir.session_present, "the session outlived both");
    heir.disconnect();
    broker.stop();
}

#[test]
fn an_auth_packet_out_of_turn_is_a_protocol_error() {
    let broker = start("2");
    for bytes in [
        vec![0xC0, 0x00],
        Publish::new("t", 0, b"x").encode(Version::V5),
        auth(0x18, &named("other", "")),
        auth(0x19, &named(METHOD, "")),
    ] {
        let (mut peer, _) = dial(&broker, "hasty", METHOD);
        next_auth(&mut peer, 0x18);
        peer.send(&bytes);
        assert_eq!(peer.await_connack(), 0x82, "{bytes:02x?} [MQTT-3.1.2-30]");
        peer.await_close();
        let mut peer = pass(&broker, "hasty");
        if bytes[0] == 0xF0 && bytes[2] == 0x18 {
            peer.send(&bytes);
            assert_eq!(peer.await_close(), Some(0x82));
        }
    }
    // AUTH after a CONNECT without a method [MQTT-4.12.0-7].
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V5, "plain"));
    peer.send(&auth(0x19, &named(METHOD, "")));
    assert_eq!(peer.await_close(), Some(0x82));
    broker.stop();
}

#[test]
fn an_exchange_that_does_not_end_is_ended_with_the_time_for_connect() {
    let broker = Broker::start_with(&Setup {
        flags: &["--test-authentication", "true"],
        config: "connect_timeout_s = 1\n",
        ..Setup::default()
    });
    let (mut peer, _) = dial(&broker, "slow", METHOD);
    next_auth(&mut peer, 0x18);
    assert_eq!(peer.await_close(), None);
    broker.stop();
}

#[test]
fn without_the_setting_no_method_is_known() {
    let broker = Broker::start_with(&Setup::default());
    let (mut peer, _) = dial(&broker, "peer", METHOD);
    assert_eq!(peer.await_connack(), 0x8C, "[MQTT-4.12.0-1]");
    peer.await_close();
    broker.stop();
}
