//! Optional features: named in CONNACK if they are not available, refused with their reason code, and explained by reason strings.

use engine::{Limits, Redirect};
use wire::{Packet, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode};

use crate::client::{Client, ConnAckFields, Got, Hello, plain, publish};
use crate::host::{Shard, run};

fn connack(shard: &mut Shard, client: Client) -> (u8, ConnAckFields) {
    match shard.next(client) {
        Some(Got::ConnAck { reason, fields, .. }) => (reason, *fields),
        other => panic!("no CONNACK but {other:?}"),
    }
}

/// A CONNECT that must be refused: with `reason` in 5.0, and with `reason_v3` before.
fn refused(shard: &mut Shard, hello: &Hello<'_>, reason: u8, reason_v3: u8) {
    let client = shard.dial(hello);
    let expected = if hello.connect.version.is_v5() { reason } else { reason_v3 };
    assert_eq!(connack(shard, client).0, expected, "{hello:?}");
    assert!(shard.is_closed(client));
}

#[test]
fn connack_names_the_unavailable_features_and_no_others() {
    run(Limits::default(), |shard| {
        let client = shard.dial(&Hello::v5("a"));
        let fields = connack(shard, client).1;
        assert_eq!((fields.maximum_qos, fields.available), (None, [None; 4]));
        assert_eq!((fields.response_information, fields.server_reference), (None, None));
    });
    let limits = Limits {
        retain_available: false,
        wildcard_subscriptions: false,
        subscription_identifiers: false,
        shared_subscriptions: false,
        maximum_qos: QoS::AtMostOnce,
        ..Limits::default()
    };
    run(limits, |shard| {
        let client = shard.dial(&Hello::v5("a"));
        let fields = connack(shard, client).1;
        assert_eq!((fields.maximum_qos, fields.available), (Some(0), [Some(false); 4]));
    });
}

#[test]
fn mqtt_3_2_2_10_a_subscription_is_granted_the_maximum_qos_at_most() {
    for (maximum, granted) in [(QoS::AtMostOnce, [0, 0, 0]), (QoS::AtLeastOnce, [0, 1, 1])] {
        for hello in [Hello::v5("a"), Hello::v3("a")] {
            run(Limits { maximum_qos: maximum, ..Limits::default() }, |shard| {
                let client = shard.connect(&hello);
                let filters = [("a", plain(0)), ("b", plain(1)), ("c", plain(2))];
                assert_eq!(shard.subscribe_with(client, &filters, None), granted);
                shard.publish(client, "c", b"x", maximum.bits());
                assert_eq!(shard.texts(client), ["x"]);
                shard.send(client, &Packet::Publish(publish("c", b"x", 2, 7)));
                assert_eq!(shard.ended(client), hello.connect.version.is_v5().then_some(0x9B));
            });
        }
    }
}

#[test]
fn mqtt_3_2_2_12_a_will_that_needs_an_unavailable_feature_is_refused_with_its_connect() {
    for hello in [Hello::v5("a"), Hello::v3("a")] {
        run(Limits { maximum_qos: QoS::AtLeastOnce, ..Limits::default() }, |shard| {
            refused(shard, &hello.will_with("w", "x", QoS::ExactlyOnce, false, 0), 0x9B, 0x88);
            shard.connect(&hello.will_with("w", "x", QoS::AtLeastOnce, false, 0));
        });
        run(Limits { retain_available: false, ..Limits::default() }, |shard| {
            refused(shard, &hello.will_with("w", "x", QoS::AtMostOnce, true, 0), 0x9A, 0x88);
            let client = shard.connect(&hello.will_with("w", "x", QoS::AtMostOnce, false, 0));
            shard.send(client, &Packet::Publish(Publish { retain: true, ..publish("t", b"x", 0, 0) }));
            assert_eq!(shard.ended(client), hello.connect.version.is_v5().then_some(0x9A));
            assert_eq!(shard.engine.retained_count(), 0);
        });
    }
}

#[test]
fn an_older_client_is_refused_filter_by_filter() {
    let limits = Limits { wildcard_subscriptions: false, shared_subscriptions: false, ..Limits::default() };
    run(limits, |shard| {
        let client = shard.connect(&Hello::v3("a"));
        let filters = [("a/#", plain(1)), ("a", plain(1)), ("$share/g/a", plain(1)), ("+", plain(0))];
        assert_eq!(shard.subscribe_with(client, &filters, None), [0x80, 1, 0x80, 0x80]);
        assert_eq!(shard.engine.subscription_count(), 1);
    });
}

#[test]
fn an_empty_client_identifier_is_refused_where_none_is_assigned() {
    run(Limits { assigned_client_ids: false, ..Limits::default() }, |shard| {
        refused(shard, &Hello::v5(""), 0x85, 0x85);
        refused(shard, &Hello::v3(""), 0x85, 0x85);
        refused(shard, &Hello::new(ProtocolVersion::V3_1, ""), 0x85, 0x85);
        shard.connect(&Hello::v5("a"));
    });
}

#[test]
fn mqtt_3_1_2_28_response_information_is_sent_only_to_clients_that_request_it() {
    let limits = Limits { response_topic_prefix: "answers".into(), ..Limits::default() };
    run(limits, |shard| {
        for (id, asks, expected) in [
            ("a", None, None),
            ("a", Some(false), None),
            ("a", Some(true), Some("answers/a")),
            ("a/b", Some(true), Some("answers/a/b")),
            ("a+", Some(true), None),
            ("#", Some(true), None),
        ] {
            let mut hello = Hello::v5(id);
            hello.connect.properties.request_response_information = asks;
            let client = shard.dial(&hello);
            assert_eq!(connack(shard, client).1.response_information.as_deref(), expected, "{id} {asks:?}");
        }
        let mut hello = Hello::v5("");
        hello.connect.properties.request_response_information = Some(true);
        let client = shard.dial(&hello);
        let fields = connack(shard, client).1;
        let expected = fields.assigned.map(|assigned| format!("answers/{assigned}"));
        assert_eq!(fields.response_information, expected);
    });
    run(Limits::default(), |shard| {
        let mut hello = Hello::v5("a");
        hello.connect.properties.request_response_information = Some(true);
        let client = shard.dial(&hello);
        assert_eq!(connack(shard, client).1.response_information, None);
    });
}

#[test]
fn new_clients_are_redirected_to_another_server() {
    for (redirect, reason) in [(Redirect::UseAnother, 0x9C), (Redirect::Moved, 0x9D)] {
        let limits = Limits { redirect, server_reference: "other:1883".into(), ..Limits::default() };
        run(limits, |shard| {
            refused(shard, &Hello::v3("a"), reason, 0x88);
            // CONNACK has the reference, the reason alone, or is not sent: as much as fits.
            for (packet_bytes_max, expected) in
                [(None, Some(true)), (Some(18), Some(true)), (Some(17), Some(false)), (Some(4), None)]
            {
                let hello = Hello::v5("a");
                let hello = packet_bytes_max.map_or(hello, |bytes| hello.packet_bytes_max(bytes));
                let client = shard.dial(&hello);
                assert!(shard.is_closed(client));
                match expected {
                    Some(has_reference) => {
                        let (sent, fields) = connack(shard, client);
                        assert_eq!(sent, reason);
                        let expected = has_reference.then_some("other:1883");
                        assert_eq!(fields.server_reference.as_deref(), expected, "{packet_bytes_max:?}");
                    }
                    None => assert_eq!(shard.next(client), None),
                }
            }
            assert_eq!(shard.engine.session_count(), 0);
        });
    }
}

#[test]
fn a_stop_refers_to_the_other_server_as_far_as_it_fits() {
    run(Limits { server_reference: "other:1883".into(), ..Limits::default() }, |shard| {
        let large = shard.connect(&Hello::v5("large"));
        let small = shard.connect(&Hello::v5("small").packet_bytes_max(40));
        let old = shard.connect(&Hello::v3("old"));
        shard.stop();
        assert_eq!(shard.ended(old), None);
        for client in [large, small] {
            let sent = shard.take(client);
            assert!(matches!(sent.as_slice(), [Got::Disconnect(0x9C, _)]), "{sent:?}");
        }
        refused(shard, &Hello::v5("late"), 0x9C, 0x88);
        refused(shard, &Hello::v3("late"), 0x9C, 0x88);
    });
}

fn text<'a>() -> PublishProperties<'a> {
    PublishProperties { payload_format_utf8: Some(true), ..PublishProperties::default() }
}

#[test]
fn a_payload_matches_its_format_indicator_where_that_is_checked() {
    for is_checked in [false, true] {
        run(Limits { check_payload_format: is_checked, receive_maximum: 1, ..Limits::default() }, |shard| {
            let watcher = shard.connect(&Hello::v5("w"));
            shard.subscribe(watcher, "#", 0);
            let client = shard.connect(&Hello::v5("a"));
            let bad = if is_checked { 0x99 } else { 0 };
            for (qos, payload, reason) in [
                (1, &b"gr\xc3\xbc\xc3\x9fe"[..], 0),
                (1, b"\xff", bad),
                (2, b"\xed\xa0\x80", bad),
                (1, b"", 0),
                (2, b"\xc3", bad),
            ] {
                let id = shard.packet_id();
                let publish = Publish { properties: text(), ..publish("t", payload, qos, id) };
                assert_eq!(shard.publish_packet(client, &publish), reason, "{payload:x?}");
            }
            // Without the indicator the payload is bytes.
            shard.publish(client, "t", b"\xff", 1);
            assert_eq!(shard.messages(watcher).len(), if is_checked { 3 } else { 6 });
            let mut hello = Hello::v5("will").will("w", "x", 0);
            let will = hello.connect.will.as_mut().unwrap();
            will.payload = b"\xff";
            will.properties.payload_format_utf8 = Some(true);
            let mortal = shard.dial(&hello);
            assert_eq!(connack(shard, mortal).0, bad);
            assert_eq!(shard.engine.counters().publishes_refused, if is_checked { 3 } else { 0 });
        });
    }
}

#[test]
fn mqtt_3_1_2_29_refusals_carry_a_reason_string_where_it_is_wanted_and_fits() {
    let limits = || Limits { topic_levels_max: 2, subscriptions_per_session_max: 1, ..Limits::default() };
    for (wanted, packet_bytes_max, has_reason_string) in
        [(None, None, true), (Some(true), None, true), (Some(false), None, false), (None, Some(30), false)]
    {
        run(limits(), |shard| {
            let mut hello = Hello::v5("a");
            hello.connect.properties.request_problem_information = wanted;
            if let Some(bytes) = packet_bytes_max {
                hello = hello.packet_bytes_max(bytes);
            }
            let client = shard.connect(&hello);
            shard.reason_strings.clear();
            assert_eq!(shard.publish(client, "a/b/c", b"x", 1), 0x90);
            assert_eq!(shard.publish(client, "a/b/c", b"x", 2), 0x90);
            assert_eq!(shard.publish(client, "$SYS/a", b"x", 1), 0x87);
            let filters = [("a", plain(0)), ("a/b/c", plain(0)), ("b", plain(0))];
            assert_eq!(shard.subscribe_with(client, &filters, None), [0, 0x8F, 0x97]);
            let sent: Vec<bool> = shard.reason_strings.iter().map(Option::is_some).collect();
            assert_eq!(sent, [has_reason_string; 4]);
            // A success has no reason string.
            shard.reason_strings.clear();
            shard.publish(client, "a", b"x", 1);
            shard.subscribe(client, "a", 0);
            shard.unsubscribe(client, &["a", "b"]);
            assert!(shard.reason_strings.iter().all(Option::is_none));
        });
    }
}

#[test]
fn an_older_client_is_closed_where_5_0_is_sent_a_reason() {
    run(Limits { topic_levels_max: 2, ..Limits::default() }, |shard| {
        for (hello, reason) in
            [(Hello::v5("a"), Some(ReasonCode::TopicNameInvalid.code())), (Hello::v3("a"), None)]
        {
            let client = shard.connect(&hello);
            shard.send(client, &Packet::Publish(publish("a/b/c", b"x", 0, 0)));
            assert_eq!(shard.ended(client), reason);
        }
        assert_eq!(shard.engine.counters().publishes_refused, 2);
    });
}
