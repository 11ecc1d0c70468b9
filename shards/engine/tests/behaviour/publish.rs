//! PUBLISH and its acknowledgements, on the publisher's and on the subscriber's side.

use engine::Limits;
use wire::{
    AckKind, Packet, Publish, PublishProperties, ReasonCode, SubscriptionId, SubscriptionIds, UserProperties,
};

use crate::client::{Got, Hello, ack, publish};
use crate::host::{Drain, run};

#[test]
fn a_message_arrives_with_the_lower_qos_in_every_pair_of_versions() {
    for publisher_version in [Hello::v3("p"), Hello::v5("p")] {
        for subscriber_version in [Hello::v3("s"), Hello::v5("s")] {
            for published in 0..3 {
                for granted in 0..3 {
                    run(Limits::default(), |shard| {
                        let subscriber = shard.connect(&subscriber_version);
                        let publisher = shard.connect(&publisher_version);
                        shard.subscribe(subscriber, "a/b", granted);
                        assert_eq!(shard.publish(publisher, "a/b", b"x", published), 0);
                        let messages = shard.messages(subscriber);
                        assert_eq!(messages.len(), 1);
                        let message = &messages[0];
                        assert_eq!((message.topic.as_str(), message.text()), ("a/b", "x"));
                        assert_eq!(
                            (message.qos, message.retain, message.dup),
                            (published.min(granted), false, false)
                        );
                        assert_eq!(message.id == 0, message.qos == 0);
                    });
                }
            }
        }
    }
}

#[test]
fn a_publish_without_a_subscriber_is_acknowledged_and_5_0_is_sent_0x10() {
    run(Limits::default(), |shard| {
        let new = shard.connect(&Hello::v5("new"));
        let old = shard.connect(&Hello::v3("old"));
        for bits in [1, 2] {
            assert_eq!(shard.publish(new, "t", b"x", bits), 0x10);
            assert_eq!(shard.publish(old, "t", b"x", bits), 0);
        }
        assert_eq!(shard.engine.counters().publishes_unmatched, 4);
    });
}

#[test]
fn properties_travel_unaltered_and_in_order() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        let old = shard.connect(&Hello::v3("b"));
        shard.subscribe(client, "t", 1);
        shard.subscribe(old, "t", 1);
        let pairs = [("b", "1"), ("a", "2"), ("b", "1")];
        let properties = PublishProperties {
            message_expiry_interval_s: Some(60),
            user_properties: UserProperties::from_pairs(&pairs),
            ..PublishProperties::default()
        };
        let packet = Publish { properties, ..publish("t", b"x", 1, 5) };
        assert_eq!(shard.publish_packet(client, &packet), 0);
        let messages = shard.messages(client);
        assert_eq!(messages[0].expiry_s, Some(60));
        let user: Vec<(&str, &str)> =
            messages[0].user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(user, pairs);
        assert_eq!(shard.messages(old)[0].text(), "x");
    });
}

#[test]
fn mqtt_3_3_4_6_a_subscription_identifier_from_a_client_is_a_protocol_error() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        let ids = [SubscriptionId::new(1).unwrap()];
        let properties = PublishProperties {
            subscription_ids: SubscriptionIds::from_ids(&ids),
            ..PublishProperties::default()
        };
        shard.send(client, &Packet::Publish(Publish { properties, ..publish("t", b"x", 0, 0) }));
        assert_eq!(shard.ended(client), Some(0x82));
    });
}

#[test]
fn mqtt_4_6_0_5_one_publisher_s_messages_arrive_in_order_however_the_socket_takes_them() {
    for piece_bytes in [1, 2, 7, 4_000] {
        run(Limits::default(), |shard| {
            let subscriber = shard.connect(&Hello::v5("s"));
            let publisher = shard.connect(&Hello::v5("p"));
            shard.subscribe(subscriber, "t", 2);
            shard.drain(subscriber, Drain { piece_bytes, budget_bytes: 0 });
            let large = "x".repeat(5_000);
            let texts: Vec<String> =
                (0..12).map(|n| if n % 3 == 2 { format!("{n}{large}") } else { n.to_string() }).collect();
            for (n, text) in texts.iter().enumerate() {
                shard.publish(publisher, "t", text.as_bytes(), u8::try_from(n % 3).unwrap());
            }
            shard.drain(subscriber, Drain { piece_bytes, budget_bytes: usize::MAX });
            assert_eq!(shard.texts(subscriber), texts);
        });
    }
}

#[test]
fn mqtt_4_3_3_4_the_four_steps_of_qos_2_leave_nothing_behind() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a").resume());
        shard.subscribe(client, "t", 2);
        shard.publish(client, "t", b"x", 2);
        let id = shard.messages(client)[0].id;
        for _ in 0..2 {
            // A repeated PUBREC is answered again.
            shard.ack(client, AckKind::PubRec, id);
            assert_eq!(shard.acked(client, AckKind::PubRel, id), Some(0));
        }
        shard.ack(client, AckKind::PubComp, id);
        shard.ack(client, AckKind::PubComp, id);
        assert_eq!(shard.take(client), []);
        shard.ack(client, AckKind::PubRec, id);
        assert_eq!(shard.acked(client, AckKind::PubRel, id), Some(0x92));
    });
}

#[test]
fn mqtt_4_3_3_4_a_pubrec_with_an_error_is_never_answered_by_pubrel() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a").resume());
        shard.subscribe(client, "t", 2);
        // Of no delivery, of one whose PUBREL is out, and of one that has ended by it.
        shard.send(client, &ack(AckKind::PubRec, 60_000, ReasonCode::QuotaExceeded));
        assert_eq!(shard.take(client), []);
        shard.publish(client, "t", b"x", 2);
        let id = shard.messages(client)[0].id;
        shard.ack(client, AckKind::PubRec, id);
        assert_eq!(shard.acked(client, AckKind::PubRel, id), Some(0));
        shard.send(client, &ack(AckKind::PubRec, id, ReasonCode::UnspecifiedError));
        assert_eq!(shard.take(client), []);
        shard.ack(client, AckKind::PubComp, id);
        shard.send(client, &ack(AckKind::PubRec, id, ReasonCode::UnspecifiedError));
        assert_eq!(shard.take(client), []);
        assert_eq!(shard.engine.audit().sessions[0].delivered, 1);
    });
}

#[test]
fn mqtt_4_4_0_2_a_negative_acknowledgement_ends_the_delivery() {
    for (bits, kind) in [(1, AckKind::PubAck), (2, AckKind::PubRec)] {
        run(Limits::default(), |shard| {
            let hello = Hello::v5("a").resume().receive_maximum(1);
            let client = shard.connect(&hello);
            shard.subscribe(client, "t", 2);
            shard.publish(client, "t", b"1", bits);
            shard.publish(client, "t", b"2", bits);
            let id = shard.messages(client)[0].id;
            shard.send(client, &ack(kind, id, ReasonCode::QuotaExceeded));
            assert_eq!(shard.texts(client), ["2"], "the quota it held serves the next");
            shard.hang_up(client);
            let client = shard.connect(&hello);
            assert_eq!(shard.take(client), []);
            let audit = shard.engine.audit();
            assert_eq!((audit.sessions[0].delivered, audit.sessions[0].dropped.iter().sum::<u64>()), (1, 1));
        });
    }
}

#[test]
fn an_acknowledgement_of_the_wrong_kind_is_a_protocol_error_and_an_unknown_one_is_not() {
    for (bits, kind) in
        [(1, AckKind::PubRec), (1, AckKind::PubComp), (2, AckKind::PubAck), (2, AckKind::PubComp)]
    {
        run(Limits::default(), |shard| {
            let client = shard.connect(&Hello::v5("a"));
            shard.subscribe(client, "t", 2);
            shard.publish(client, "t", b"x", bits);
            let id = shard.messages(client)[0].id;
            for unknown in [AckKind::PubAck, AckKind::PubComp] {
                shard.ack(client, unknown, 60_000);
            }
            assert!(!shard.is_closed(client));
            shard.ack(client, kind, id);
            assert_eq!(shard.ended(client), Some(0x82), "{bits} {kind:?}");
        });
    }
}

#[test]
fn a_topic_too_deep_is_refused_without_ending_a_5_0_client() {
    let limits = Limits { topic_levels_max: 4, ..Limits::default() };
    run(limits, |shard| {
        let watcher = shard.connect(&Hello::v5("w"));
        shard.subscribe(watcher, "#", 0);
        let new = shard.connect(&Hello::v5("new"));
        for (topic, reason) in [("a/b/c/d", 0), ("a/b/c/d/e", 0x90), ("////", 0x90), ("///", 0)] {
            for bits in [1, 2] {
                assert_eq!(shard.publish(new, topic, b"x", bits), reason, "{topic}");
            }
        }
        assert_eq!(shard.texts(watcher).len(), 4);
        // [MQTT-3.3.5-2] of 3.1.1: a server acknowledges a refused PUBLISH or closes.
        let old = shard.connect(&Hello::v3("old"));
        shard.send(old, &Packet::Publish(publish("a/b/c/d/e", b"x", 1, 1)));
        assert_eq!(shard.ended(old), None);
        assert_eq!(shard.engine.counters().publishes_refused, 5);
    });
}

#[test]
fn pings_are_answered_and_publishing_to_oneself_works_while_the_window_is_full() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a").receive_maximum(1));
        shard.subscribe(client, "t", 1);
        for number in 0..5u8 {
            assert_eq!(shard.publish(client, "t", &[b'0' + number], 1), 0);
        }
        shard.send(client, &Packet::PingReq);
        assert!(shard.find(client, |got| (*got == Got::PingResp).then_some(())).is_some());
        assert_eq!(shard.texts(client), ["0", "1", "2", "3", "4"]);
    });
}
