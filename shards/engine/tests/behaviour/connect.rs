//! CONNECT and CONNACK: accepted clients, the fields that they are sent, refused clients.

use engine::{Admission, Event, Limits, Refused};
use wire::{ConnectProperties, Packet, ProtocolVersion, QoS, TopicName, Will, WillProperties};

use crate::client::{Client, ConnAckFields, Got, Hello, publish};
use crate::host::{Shard, run};

fn connack(shard: &mut Shard, client: Client) -> (bool, u8, ConnAckFields) {
    match shard.next(client) {
        Some(Got::ConnAck { present, reason, fields }) => (present, reason, *fields),
        other => panic!("no CONNACK but {other:?}"),
    }
}

/// A CONNECT that must be refused with `reason` and nothing else.
fn refused(limits: Limits, hello: &Hello<'_>, reason: u8) {
    run(limits, |shard| {
        let client = shard.dial(hello);
        assert_eq!(connack(shard, client).1, reason, "{hello:?}");
        assert!(shard.is_closed(client));
        assert_eq!(shard.next(client), None);
        assert_eq!(shard.engine.session_count(), 0);
    });
}

#[test]
fn every_version_is_accepted_and_sent_the_limits() {
    for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        run(Limits::default(), |shard| {
            let client = shard.dial(&Hello::new(version, "a"));
            let (present, reason, fields) = connack(shard, client);
            assert_eq!((present, reason), (false, 0));
            if version == ProtocolVersion::V5 {
                let limits = Limits::default();
                assert_eq!(fields.receive_maximum, Some(limits.receive_maximum));
                assert_eq!(fields.packet_bytes_max, Some(limits.packet_bytes_max));
                assert_eq!(fields.alias_maximum, Some(limits.topic_alias_maximum));
                assert_eq!((fields.expiry_s, fields.keep_alive_s, fields.assigned), (None, None, None));
            }
            shard.goodbye(client);
            assert_eq!(shard.engine.session_count(), 0);
        });
    }
}

#[test]
fn mqtt_3_1_0_1_a_first_packet_other_than_connect_closes_without_an_answer() {
    run(Limits::default(), |shard| {
        for packet in [Packet::PingReq, Packet::Publish(publish("a", b"x", 0, 0))] {
            let client = shard.open(ProtocolVersion::V3_1_1, Admission::Serve);
            shard.send(client, &packet);
            assert!(shard.is_closed(client));
            assert_eq!(shard.next(client), None);
        }
    });
}

#[test]
fn mqtt_3_1_0_2_a_second_connect_is_a_protocol_error() {
    run(Limits::default(), |shard| {
        let hello = Hello::v5("a");
        let client = shard.connect(&hello);
        shard.send(client, &Packet::Connect(hello.connect));
        assert_eq!(shard.ended(client), Some(0x82));
    });
}

/// A second CONNECT of an unknown version was answered with 0x84, which DISCONNECT does not have.
#[test]
fn mqtt_3_1_0_2_a_second_connect_is_a_protocol_error_in_any_version() {
    for second in [
        &b"\x10\x0C\0\x04MQTT\x06\x02\0\0\0\0"[..],
        b"\x10\x0A\0\x02QT\x05\x02\0\0\0\0",
        b"\x10\x0D\0\x04MQTT\x05\x02\0\0\0\0\0",
        b"\x10\0",
    ] {
        run(Limits::default(), |shard| {
            let client = shard.connect(&Hello::v5("a"));
            shard.send_bytes(client, second);
            assert_eq!(shard.ended(client), Some(0x82), "{second:x?}");
        });
    }
}

#[test]
fn mqtt_3_1_2_2_an_unknown_level_is_answered_in_the_nearest_form() {
    for (level, version, reason) in [(6u8, ProtocolVersion::V5, 0x84), (2, ProtocolVersion::V3_1_1, 1)] {
        run(Limits::default(), |shard| {
            let client = shard.open(version, Admission::Serve);
            shard.send_bytes(client, &[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 0, 0, 1, b'a']);
            let reason_of_wire = wire::ReasonCode::UnsupportedProtocolVersion.code();
            let expected = if version.is_v5() { reason } else { reason_of_wire };
            assert_eq!(connack(shard, client).1, expected);
            assert!(shard.is_closed(client));
        });
    }
}

#[test]
fn refused_connects_are_answered_with_their_reason() {
    let limits = || Limits { client_id_bytes_max: 4, topic_levels_max: 3, ..Limits::default() };
    refused(limits(), &Hello::v5("abcde"), 0x85);
    refused(limits(), &Hello::v5("a").will("a/b/c/d", "gone", 0), 0x90);
    let mut hello = Hello::v5("a");
    hello.connect.properties =
        ConnectProperties { authentication_method: Some("SCRAM"), ..ConnectProperties::default() };
    refused(limits(), &hello, 0x8C);
    let mut hello = Hello::v3("");
    hello.connect.clean_start = false;
    refused(limits(), &hello, 0x85);
    refused(limits(), &Hello::new(ProtocolVersion::V3_1, ""), 0x85);
}

#[test]
fn mqtt_3_2_2_16_an_empty_client_identifier_is_replaced_by_a_new_one_each_time() {
    run(Limits::default(), |shard| {
        let clients = [shard.dial(&Hello::v5("")), shard.dial(&Hello::v5(""))];
        let names =
            clients.map(|client| connack(shard, client).2.assigned.expect("CONNACK has the identifier"));
        assert_ne!(names[0], names[1]);
        let client = shard.dial(&Hello::v3(""));
        assert_eq!(connack(shard, client).1, 0);
        assert_eq!(shard.engine.session_count(), 3);
    });
}

#[test]
fn a_full_process_refuses_with_the_code_of_the_version() {
    for (version, reason) in [(ProtocolVersion::V5, 0x97), (ProtocolVersion::V3_1_1, 0x88)] {
        run(Limits::default(), |shard| {
            let client = shard.open(version, Admission::TurnAway(Refused::Full));
            assert_eq!(shard.next(client), None, "its version is not known yet");
            shard.send(client, &Packet::Connect(Hello::new(version, "a").connect));
            assert_eq!(connack(shard, client).1, reason);
            assert!(shard.is_closed(client));
            assert_eq!(shard.engine.counters().connections_refused, 1);
        });
    }
}

#[test]
fn a_session_expiry_interval_that_was_shortened_is_sent_in_connack() {
    let limits = Limits { session_expiry_s_max: 100, keep_alive_s_max: 60, ..Limits::default() };
    run(limits, |shard| {
        for (asked_s, granted_s) in [(100, None), (101, Some(100)), (u32::MAX, Some(100))] {
            let client = shard.dial(&Hello::v5("a").expiry_s(asked_s).keep_alive_s(60));
            let (_, _, fields) = connack(shard, client);
            assert_eq!((fields.expiry_s, fields.keep_alive_s), (granted_s, None));
        }
        for asked_s in [0, 61] {
            let client = shard.dial(&Hello::v5("a").keep_alive_s(asked_s));
            assert_eq!(connack(shard, client).2.keep_alive_s, Some(60));
        }
    });
}

#[test]
fn mqtt_3_1_2_24_a_connack_the_client_cannot_take_is_a_refusal_and_takes_nothing_over() {
    run(Limits::default(), |shard| {
        let first = shard.connect(&Hello::v5("a"));
        let size = {
            let client = shard.dial(&Hello::v5("b"));
            connack(shard, client).2.packet_bytes
        };
        let size = u32::try_from(size).unwrap();
        for (packet_bytes_max, reason) in
            [(size, Some(0)), (size - 1, Some(0x83)), (5, Some(0x83)), (4, None)]
        {
            let name = if reason == Some(0) { "c" } else { "a" };
            let client = shard.dial(&Hello::v5(name).packet_bytes_max(packet_bytes_max));
            let sent = shard.take(client);
            let reasons: Vec<u8> = sent
                .iter()
                .map(|got| match got {
                    Got::ConnAck { reason, .. } => *reason,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(reasons, Vec::from_iter(reason), "{packet_bytes_max}");
            assert_eq!(shard.is_closed(client), reason != Some(0));
        }
        assert!(!shard.is_closed(first));
    });
}

#[test]
fn mqtt_3_2_2_20_user_properties_are_left_out_where_the_client_cannot_take_them() {
    let size_of_connack = |tell_shard: bool, packet_bytes_max: u32| {
        let mut size = 0;
        run(Limits { tell_shard, ..Limits::default() }, |shard| {
            let client = shard.dial(&Hello::v5("a").packet_bytes_max(packet_bytes_max));
            let (_, reason, fields) = connack(shard, client);
            assert_eq!(reason, 0);
            assert!(!shard.is_closed(client));
            size = u32::try_from(fields.packet_bytes).unwrap();
        });
        size
    };
    let (without, with) = (size_of_connack(false, 1_000), size_of_connack(true, 1_000));
    assert!(without < with);
    for (packet_bytes_max, expected) in [(with, with), (with - 1, without), (without, without)] {
        assert_eq!(size_of_connack(true, packet_bytes_max), expected, "{packet_bytes_max}");
    }
}

#[test]
fn mqtt_3_1_4_6_nothing_after_a_refused_connect_is_processed() {
    run(Limits::default(), |shard| {
        let watcher = shard.connect(&Hello::v5("watcher"));
        shard.subscribe(watcher, "#", 0);
        let mut bytes = Vec::new();
        let mut hello = Hello::v5("a");
        hello.connect.properties.authentication_method = Some("none");
        hello.connect.will = Some(Will {
            topic: TopicName::parse("will").unwrap(),
            payload: b"never",
            qos: QoS::AtMostOnce,
            retain: false,
            properties: WillProperties::default(),
        });
        Packet::Connect(hello.connect).encode(ProtocolVersion::V5, &mut bytes);
        Packet::Publish(publish("t", b"never", 0, 0)).encode(ProtocolVersion::V5, &mut bytes);
        let client = shard.open(ProtocolVersion::V5, Admission::Serve);
        shard.send_bytes(client, &bytes);
        assert_eq!(connack(shard, client).1, 0x8C);
        assert!(shard.is_closed(client));
        assert_eq!(shard.messages(watcher), []);
    });
}

#[test]
fn a_connect_in_single_bytes_with_packets_behind_it_is_served() {
    run(Limits::default(), |shard| {
        let mut bytes = Vec::new();
        Packet::Connect(Hello::v5("a").connect).encode(ProtocolVersion::V5, &mut bytes);
        bytes.extend_from_slice(&[0xC0, 0, 0xC0, 0]);
        let client = shard.open(ProtocolVersion::V5, Admission::Serve);
        for byte in bytes {
            shard.send_bytes(client, &[byte]);
        }
        assert_eq!(connack(shard, client).1, 0);
        assert_eq!(shard.take(client), [Got::PingResp, Got::PingResp]);
    });
}

#[test]
fn packets_only_a_server_sends_and_auth_without_a_method_are_protocol_errors() {
    let bad: [&[u8]; 5] =
        [&[0x20, 3, 0, 0, 0], &[0x90, 4, 0, 1, 0, 0], &[0xB0, 4, 0, 1, 0, 0], &[0xD0, 0], &[0xF0, 0]];
    for bytes in bad {
        run(Limits::default(), |shard| {
            let client = shard.connect(&Hello::v5("a"));
            shard.send_bytes(client, bytes);
            assert_eq!(shard.ended(client), Some(0x82), "{bytes:x?}");
        });
    }
}

#[test]
fn mqtt_4_13_1_1_a_malformed_packet_is_answered_with_its_reason_before_the_close() {
    for (bytes, reason) in [
        (&[0x36, 3, 0, 1, b'a'][..], 0x81),
        (&[0x30, 0xFF, 0xFF, 0xFF, 0x7F][..], 0x95),
        (&[0x30, 6, 0, 1, b'a', 2, 0x23, 0][..], 0x81),
    ] {
        run(Limits::default(), |shard| {
            let client = shard.connect(&Hello::v5("a"));
            shard.send_bytes(client, bytes);
            let got = shard.take(client);
            let [Got::Disconnect(sent, Some(reason_string))] = got.as_slice() else { panic!("{got:?}") };
            assert!(*sent == reason || *sent == 0x94 || *sent == 0x82, "{bytes:x?}: {sent:#x}");
            assert!(!reason_string.is_empty());
            // The reason string is sent only where it fits [MQTT-3.14.2-3].
            let client = shard.connect(&Hello::v5("a").packet_bytes_max(24));
            shard.send_bytes(client, bytes);
            assert!(matches!(shard.take(client).as_slice(), [Got::Disconnect(_, None)]));
        });
    }
}

#[test]
fn an_older_client_is_closed_without_disconnect() {
    run(Limits::default(), |shard| {
        for bytes in [&[0x36, 3, 0, 1, b'a'][..], &[0x30, 0xFF, 0xFF, 0xFF, 0x7F], &[0xF0, 0], &[0x10, 0]] {
            let client = shard.connect(&Hello::v3("a"));
            shard.send_bytes(client, bytes);
            assert_eq!(shard.ended(client), None, "{bytes:x?}");
        }
        assert_eq!(shard.engine.counters().protocol_errors, 4);
    });
}

#[test]
fn a_full_shard_refuses_new_sessions_and_accepts_existing_ones() {
    for (hello, reason) in [(Hello::v5("new"), 0x97), (Hello::v3("new"), 0x88)] {
        run(Limits { sessions_max: 2, ..Limits::default() }, |shard| {
            let first = shard.connect(&Hello::v5("a").expiry_s(100));
            shard.hang_up(first);
            shard.connect(&Hello::v5("b"));
            let refused = shard.dial(&hello);
            assert_eq!(connack(shard, refused).1, reason);
            assert!(shard.is_closed(refused));
            let (_, present) = shard.connect_present(&Hello::v5("a").resume());
            assert!(present);
            shard.connect(&Hello::v5("b"));
            // `finish` cannot connect a new client: these two sessions end with their connections.
            let last = shard.connect(&Hello::v5("a"));
            shard.goodbye(last);
        });
    }
}

#[test]
fn a_shard_that_stops_refuses_every_connect() {
    run(Limits::default(), |shard| {
        let new = shard.connect(&Hello::v5("new").resume());
        let old = shard.connect(&Hello::v3("old"));
        let fresh = shard.open(ProtocolVersion::V5, Admission::Serve);
        shard.stop();
        assert_eq!(shard.ended(new), Some(0x8B));
        assert_eq!(shard.ended(old), None);
        assert_eq!(shard.ended(fresh), None);
        // CONNACK has no 0x8B.
        let late = shard.dial(&Hello::v5("late"));
        assert_eq!(connack(shard, late).1, 0x88);
        assert!(shard.is_closed(late));
        // Only its expiry ends the session that outlives its connection, since every CONNECT is refused.
        shard.advance_ms(3_600_000);
        assert_eq!(shard.engine.session_count(), 0);
    });
}

#[test]
fn each_reason_to_turn_a_connection_away_has_its_code() {
    // The return codes 3 and 5 of 3.1.1 are read as 0x88 and 0x87.
    for (refused, v5, v3) in [
        (Refused::Full, 0x97, 0x88),
        (Refused::AddressConnections, 0x9F, 0x88),
        (Refused::AddressRate, 0x9F, 0x88),
        (Refused::AddressBanned, 0x8A, 0x87),
    ] {
        for (hello, code) in [(Hello::v5("a"), v5), (Hello::v3("a"), v3)] {
            // Known when it is accepted, or only when a proxy has named its peer.
            for is_late in [false, true] {
                run(Limits::default(), |shard| {
                    let version = hello.connect.version;
                    let client = if is_late {
                        let client = shard.open(version, Admission::Serve);
                        let connection = shard.id(client);
                        shard.raw_step(Event::TurnAway { connection, refused });
                        client
                    } else {
                        shard.open(version, Admission::TurnAway(refused))
                    };
                    shard.send(client, &Packet::Connect(hello.connect));
                    assert!(
                        matches!(shard.next(client), Some(Got::ConnAck { reason, .. }) if reason == code)
                    );
                    assert!(shard.is_closed(client));
                    let counters = shard.engine.counters();
                    assert_eq!(counters.refused[refused.cause().group().index()], 1);
                    assert_eq!(counters.connections_refused, 1);
                });
            }
        }
    }
}
