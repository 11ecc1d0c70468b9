//! Packets byte by byte, written by hand from the standards, to find errors that encoder and decoder share.

use std::num::{NonZeroU16, NonZeroU32};

use wire::ProtocolVersion::{V3_1, V3_1_1, V5};
use wire::{
    Ack, AckProperties, Auth, AuthProperties, ConnAck, ConnAckProperties, Connect, ConnectProperties,
    Disconnect, DisconnectProperties, Packet, PacketId, ProtocolVersion, Publish, PublishBody,
    PublishProperties, QoS, ReasonCode, Reasons, RetainHandling, SubAck, Subscribe, SubscribeFilters,
    SubscribeOptions, SubscriptionId, SubscriptionIds, TopicFilter, TopicName, UnsubAck, Unsubscribe,
    UnsubscribeFilters, UserProperties, Will, WillProperties,
};

use crate::{decode, encode};

/// Checks that the packet is encoded as these bytes and that these bytes are decoded as the packet.
fn check(version: ProtocolVersion, packet: &Packet<'_>, bytes: &[u8]) {
    assert_eq!(encode(version, packet), bytes, "{packet:?}");
    decode(version, bytes, |decoded| assert_eq!(decoded, Ok(*packet)));
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn connect(version: ProtocolVersion) -> Connect<'static> {
    Connect {
        version,
        is_bridge: false,
        clean_start: true,
        keep_alive_s: 60,
        client_id: "c",
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    }
}

#[test]
fn connect_has_its_layout_in_every_version() {
    check(V3_1, &Packet::Connect(connect(V3_1)), b"\x10\x0F\0\x06MQIsdp\x03\x02\0\x3C\0\x01c");
    check(V3_1_1, &Packet::Connect(connect(V3_1_1)), b"\x10\x0D\0\x04MQTT\x04\x02\0\x3C\0\x01c");
    check(V5, &Packet::Connect(connect(V5)), b"\x10\x0E\0\x04MQTT\x05\x02\0\x3C\0\0\x01c");
    let bridge = |version| Packet::Connect(Connect { is_bridge: true, ..connect(version) });
    check(V3_1, &bridge(V3_1), b"\x10\x0F\0\x06MQIsdp\x83\x02\0\x3C\0\x01c");
    check(V3_1_1, &bridge(V3_1_1), b"\x10\x0D\0\x04MQTT\x84\x02\0\x3C\0\x01c");
}

#[test]
fn connect_with_every_field_has_its_layout() {
    let pairs = [("k", "v")];
    let user_properties = UserProperties::from_pairs(&pairs);
    let packet = Connect {
        clean_start: false,
        will: Some(Will {
            topic: TopicName::parse("w").unwrap(),
            payload: &[0xFF],
            qos: QoS::ExactlyOnce,
            retain: true,
            properties: WillProperties {
                delay_interval_s: Some(1),
                message_expiry_interval_s: Some(2),
                payload_format_utf8: Some(true),
                content_type: Some("t"),
                response_topic: Some("r"),
                correlation_data: Some(&[9]),
                user_properties,
                ..WillProperties::default()
            },
        }),
        user_name: Some("u"),
        password: Some(&[0]),
        properties: ConnectProperties {
            session_expiry_interval_s: Some(u32::MAX),
            receive_maximum: NonZeroU16::new(10),
            packet_bytes_max: NonZeroU32::new(256),
            topic_alias_maximum: Some(0),
            request_response_information: Some(true),
            request_problem_information: Some(false),
            authentication_method: Some("m"),
            authentication_data: Some(&[1, 2]),
            user_properties,
        },
        ..connect(V5)
    };
    let expected = [
        &b"\x10\x5E\0\x04MQTT\x05\xF4\0\x3C"[..],
        b"\x24\x11\xFF\xFF\xFF\xFF\x21\0\x0A\x27\0\0\x01\0\x22\0\0\x19\x01\x17\0",
        b"\x15\0\x01m\x16\0\x02\x01\x02\x26\0\x01k\0\x01v",
        b"\0\x01c",
        b"\x1F\x18\0\0\0\x01\x02\0\0\0\x02\x01\x01\x03\0\x01t\x08\0\x01r\x09\0\x01\x09\x26\0\x01k\0\x01v",
        b"\0\x01w\0\x01\xFF\0\x01u\0\x01\0",
    ];
    check(V5, &Packet::Connect(packet), &expected.concat());

    let packet = Connect {
        will: packet.will.map(|will| Will { properties: WillProperties::default(), ..will }),
        properties: ConnectProperties::default(),
        version: V3_1_1,
        ..packet
    };
    check(
        V3_1_1,
        &Packet::Connect(packet),
        b"\x10\x19\0\x04MQTT\x04\xF4\0\x3C\0\x01c\0\x01w\0\x01\xFF\0\x01u\0\x01\0",
    );
}

#[test]
fn connack_has_its_layout_in_every_version() {
    let accepted = ConnAck {
        session_present: true,
        reason: ReasonCode::Success,
        properties: ConnAckProperties::default(),
    };
    check(V3_1_1, &Packet::ConnAck(accepted), b"\x20\x02\x01\0");
    check(V5, &Packet::ConnAck(accepted), b"\x20\x03\x01\0\0");
    assert_eq!(encode(V3_1, &Packet::ConnAck(accepted)), b"\x20\x02\0\0"); // 3.1 has no Session Present flag

    let refused = ConnAck { session_present: false, reason: ReasonCode::NotAuthorized, ..accepted };
    check(V3_1_1, &Packet::ConnAck(refused), b"\x20\x02\0\x05");
    check(V5, &Packet::ConnAck(refused), b"\x20\x03\0\x87\0");
    let busy = ConnAck { reason: ReasonCode::ServerBusy, ..refused };
    assert_eq!(encode(V3_1_1, &Packet::ConnAck(busy)), b"\x20\x02\0\x03"); // the nearest return code

    let pairs = [("k", "v")];
    let full = ConnAck {
        properties: ConnAckProperties {
            session_expiry_interval_s: Some(1),
            receive_maximum: NonZeroU16::new(2),
            maximum_qos: Some(QoS::AtLeastOnce),
            retain_available: Some(false),
            packet_bytes_max: NonZeroU32::new(3),
            assigned_client_id: Some("a"),
            topic_alias_maximum: Some(4),
            reason_string: Some("s"),
            user_properties: UserProperties::from_pairs(&pairs),
            wildcard_available: Some(true),
            subscription_ids_available: Some(false),
            shared_available: Some(true),
            server_keep_alive_s: Some(5),
            response_information: Some("i"),
            server_reference: Some("r"),
            authentication_method: Some("m"),
            authentication_data: Some(&[6]),
        },
        ..accepted
    };
    let expected = [
        &b"\x20\x3F\x01\0\x3C"[..],
        b"\x11\0\0\0\x01\x21\0\x02\x24\x01\x25\0\x27\0\0\0\x03\x12\0\x01a\x22\0\x04\x1F\0\x01s",
        b"\x28\x01\x29\0\x2A\x01\x13\0\x05\x1A\0\x01i\x1C\0\x01r\x15\0\x01m\x16\0\x01\x06\x26\0\x01k\0\x01v",
    ];
    check(V5, &Packet::ConnAck(full), &expected.concat());

    let all = ConnAckProperties { maximum_qos: Some(QoS::ExactlyOnce), ..ConnAckProperties::default() };
    assert_eq!(encode(V5, &Packet::ConnAck(ConnAck { properties: all, ..accepted })), b"\x20\x03\x01\0\0");
}

#[test]
fn publish_has_its_layout_in_every_version() {
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: TopicName::parse("a/b").ok(),
        packet_id: None,
        payload: b"hi",
        properties: PublishProperties::default(),
        body: PublishBody::default(),
    };
    check(V3_1, &Packet::Publish(publish), b"\x30\x07\0\x03a/bhi");
    check(V5, &Packet::Publish(publish), b"\x30\x08\0\x03a/b\0hi");
    let tracked =
        Publish { dup: true, qos: QoS::AtLeastOnce, retain: true, packet_id: Some(id(10)), ..publish };
    check(V3_1_1, &Packet::Publish(tracked), b"\x3B\x09\0\x03a/b\0\x0Ahi");
    let ids = [SubscriptionId::new(1).unwrap(), SubscriptionId::new(128).unwrap()];
    let pairs = [("k", "1"), ("k", "2")];
    let full = Publish {
        qos: QoS::ExactlyOnce,
        dup: false,
        topic: None,
        properties: PublishProperties {
            payload_format_utf8: Some(true),
            message_expiry_interval_s: Some(3600),
            topic_alias: NonZeroU16::new(7),
            response_topic: Some("r"),
            correlation_data: Some(&[0]),
            content_type: Some("t"),
            user_properties: UserProperties::from_pairs(&pairs),
            subscription_ids: SubscriptionIds::from_ids(&ids),
            ..PublishProperties::default()
        },
        ..tracked
    };
    let expected = [
        &b"\x35\x30\0\0\0\x0A\x29"[..],
        b"\x02\0\0\x0E\x10\x23\0\x07\x0B\x01\x0B\x80\x01",
        b"\x01\x01\x03\0\x01t\x08\0\x01r\x09\0\x01\0\x26\0\x01k\0\x011\x26\0\x01k\0\x012hi",
    ];
    check(V5, &Packet::Publish(full), &expected.concat());
}

#[test]
fn acknowledgements_are_encoded_in_their_shortest_form() {
    let ack = Ack::success(id(0x1234));
    let pairs = [("k", "v")];
    let explained = Ack {
        properties: AckProperties {
            reason_string: Some("s"),
            user_properties: UserProperties::from_pairs(&pairs),
        },
        ..ack
    };
    for version in [V3_1, V3_1_1, V5] {
        check(version, &Packet::PubAck(ack), b"\x40\x02\x12\x34");
        check(version, &Packet::PubRec(ack), b"\x50\x02\x12\x34");
        check(version, &Packet::PubRel(ack), b"\x62\x02\x12\x34");
        check(version, &Packet::PubComp(ack), b"\x70\x02\x12\x34");
    }
    let nobody = Ack { reason: ReasonCode::NoMatchingSubscribers, ..ack };
    check(V5, &Packet::PubAck(nobody), b"\x40\x03\x12\x34\x10");
    assert_eq!(encode(V3_1_1, &Packet::PubAck(nobody)), b"\x40\x02\x12\x34");
    check(V5, &Packet::PubComp(explained), b"\x70\x0F\x12\x34\0\x0B\x1F\0\x01s\x26\0\x01k\0\x01v");
    assert_eq!(encode(V3_1_1, &Packet::PubComp(explained)), b"\x70\x02\x12\x34");
    // The long form means the same: a reason code of success, an empty property section.
    for bytes in [&b"\x40\x03\x12\x34\0"[..], b"\x40\x04\x12\x34\0\0"] {
        decode(V5, bytes, |decoded| assert_eq!(decoded, Ok(Packet::PubAck(ack))));
    }
}

#[test]
fn subscribe_and_suback_have_their_layout_in_every_version() {
    let options = |qos| SubscribeOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::default(),
    };
    let filter = |text| TopicFilter::parse(text).unwrap();
    let filters = [(filter("a/b"), options(QoS::AtLeastOnce)), (filter("c/d"), options(QoS::ExactlyOnce))];
    let subscribe = Subscribe {
        packet_id: id(10),
        subscription_id: None,
        user_properties: UserProperties::default(),
        filters: SubscribeFilters::from_slice(&filters),
    };
    check(V3_1_1, &Packet::Subscribe(subscribe), b"\x82\x0E\0\x0A\0\x03a/b\x01\0\x03c/d\x02");
    check(V5, &Packet::Subscribe(subscribe), b"\x82\x0F\0\x0A\0\0\x03a/b\x01\0\x03c/d\x02");

    let every_option = SubscribeOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    let if_new = SubscribeOptions { retain_handling: RetainHandling::SendIfNew, ..options(QoS::AtMostOnce) };
    let filters = [(filter("#"), every_option), (filter("$share/g/+"), if_new)];
    let pairs = [("k", "v")];
    let full = Subscribe {
        subscription_id: SubscriptionId::new(300),
        user_properties: UserProperties::from_pairs(&pairs),
        filters: SubscribeFilters::from_slice(&filters),
        ..subscribe
    };
    let bytes = b"\x82\x1E\0\x0A\x0A\x0B\xAC\x02\x26\0\x01k\0\x01v\0\x01#\x2E\0\x0A$share/g/+\x10";
    check(V5, &Packet::Subscribe(full), bytes);

    let reasons = [ReasonCode::GrantedQoS1, ReasonCode::Success, ReasonCode::NotAuthorized];
    let suback = SubAck {
        packet_id: id(10),
        reasons: Reasons::from(&reasons[..]),
        properties: AckProperties { reason_string: Some("s"), ..AckProperties::default() },
    };
    check(V5, &Packet::SubAck(suback), b"\x90\x0A\0\x0A\x04\x1F\0\x01s\x01\0\x87");
    assert_eq!(encode(V3_1_1, &Packet::SubAck(suback)), b"\x90\x05\0\x0A\x01\0\x80");
    assert_eq!((suback.reasons.len(), suback.reasons.is_empty()), (3, false));
}

#[test]
fn unsubscribe_and_unsuback_have_their_layout_in_every_version() {
    let filters = [TopicFilter::parse("a/b").unwrap(), TopicFilter::parse("$share/g/#").unwrap()];
    let unsubscribe = Unsubscribe {
        packet_id: id(10),
        user_properties: UserProperties::default(),
        filters: UnsubscribeFilters::from_slice(&filters),
    };
    check(V3_1_1, &Packet::Unsubscribe(unsubscribe), b"\xA2\x13\0\x0A\0\x03a/b\0\x0A$share/g/#");
    check(V5, &Packet::Unsubscribe(unsubscribe), b"\xA2\x14\0\x0A\0\0\x03a/b\0\x0A$share/g/#");

    let reasons = [ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
    let unsuback = UnsubAck {
        packet_id: id(10),
        reasons: Reasons::from(&reasons[..]),
        properties: AckProperties::default(),
    };
    check(V5, &Packet::UnsubAck(unsuback), b"\xB0\x05\0\x0A\0\0\x11");
    check(V3_1_1, &Packet::UnsubAck(UnsubAck { reasons: Reasons::default(), ..unsuback }), b"\xB0\x02\0\x0A");
}

#[test]
fn pings_and_short_disconnects_and_auths() {
    for version in [V3_1, V3_1_1, V5] {
        check(version, &Packet::PingReq, b"\xC0\0");
        check(version, &Packet::PingResp, b"\xD0\0");
        let leave = Disconnect { reason: ReasonCode::Success, properties: DisconnectProperties::default() };
        check(version, &Packet::Disconnect(leave), b"\xE0\0");
    }
    let stop =
        Disconnect { reason: ReasonCode::ServerShuttingDown, properties: DisconnectProperties::default() };
    check(V5, &Packet::Disconnect(stop), b"\xE0\x01\x8B");
    assert_eq!(encode(V3_1_1, &Packet::Disconnect(stop)), b"\xE0\0");
    let pairs = [("k", "v")];
    let moved = Disconnect {
        reason: ReasonCode::ServerMoved,
        properties: DisconnectProperties {
            session_expiry_interval_s: Some(1),
            reason_string: Some("s"),
            user_properties: UserProperties::from_pairs(&pairs),
            server_reference: Some("r"),
        },
    };
    let bytes = b"\xE0\x16\x9D\x14\x11\0\0\0\x01\x1F\0\x01s\x1C\0\x01r\x26\0\x01k\0\x01v";
    check(V5, &Packet::Disconnect(moved), bytes);

    check(
        V5,
        &Packet::Auth(Auth { reason: ReasonCode::Success, properties: AuthProperties::default() }),
        b"\xF0\0",
    );
    let again = Auth {
        reason: ReasonCode::ReAuthenticate,
        properties: AuthProperties {
            authentication_method: Some("m"),
            authentication_data: Some(&[1]),
            reason_string: Some("s"),
            user_properties: UserProperties::from_pairs(&pairs),
        },
    };
    let bytes = b"\xF0\x15\x19\x13\x15\0\x01m\x16\0\x01\x01\x1F\0\x01s\x26\0\x01k\0\x01v";
    check(V5, &Packet::Auth(again), bytes);
}

/// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-20] and, in order, [MQTT-3.3.2-18].
#[test]
fn forwarded_properties_are_copied_without_the_per_hop_ones() {
    let kept: [&[u8]; 6] = [
        b"\x26\0\x01k\0\x012",
        b"\x03\0\x01t",
        b"\x09\0\x01\xFF",
        b"\x26\0\x01k\0\x011",
        b"\x01\x01",
        b"\x08\0\x01r",
    ];
    let check_shifted =
        |first_byte: u8, before: &[u8], removed: &[&[u8]], after: &[u8], shift: usize| {
            let mut places = vec![Vec::new(); kept.len() + 1];
            for (index, property) in removed.iter().enumerate() {
                places[(2 * index + shift) % (kept.len() + 1)].extend_from_slice(property);
            }
            for (place, property) in places.iter_mut().zip(kept) {
                place.extend_from_slice(property);
            }
            let properties = places.concat();
            let mut forwarded = vec![0xAA];
            let section = [&[properties.len().to_le_bytes()[0]], &properties[..]].concat();
            decode(V5, &crate::packet(first_byte, &[before, &section, after].concat()), |decoded| {
                match decoded {
                    Ok(Packet::Publish(publish)) => {
                        assert_eq!(publish.properties.section.as_bytes(), properties);
                        assert!(publish.properties.has_forwardable());
                        publish.properties.append_forwardable(&mut forwarded);
                    }
                    Ok(Packet::Connect(Connect { will: Some(will), .. })) => {
                        assert!(will.properties.has_forwardable());
                        will.properties.append_forwardable(&mut forwarded);
                    }
                    other => panic!("{other:?}"),
                }
            });
            assert_eq!(forwarded, [&[0xAA], &kept.concat()[..]].concat());
        };
    // Removed properties before, between and after the forwarded ones.
    let check = |first_byte: u8, before: &[u8], removed: &[&[u8]], after: &[u8]| {
        for shift in 0..=kept.len() {
            check_shifted(first_byte, before, removed, after, shift);
        }
    };
    check(0x30, b"\0\x01a", &[], b"payload");
    check(0x30, b"\0\x01a", &[b"\x23\0\x01"], b"");
    check(0x30, b"\0\x01a", &[b"\x0B\x01", b"\x02\0\0\0\x01", b"\x23\0\x01", b"\x0B\x80\x01"], b"");
    let connect = b"\0\x04MQTT\x05\x04\0\0\0\0\0";
    check(0x10, connect, &[], b"\0\x01a\0\0");
    check(0x10, connect, &[b"\x18\0\0\0\x01", b"\x02\0\0\0\x01"], b"\0\x01a\0\0");

    // Only removed properties: nothing to forward.
    decode(V5, b"\x30\x07\0\x01a\x03\x23\0\x01", |decoded| {
        let Ok(Packet::Publish(publish)) = decoded else { panic!("{decoded:?}") };
        let mut forwarded = Vec::new();
        publish.properties.append_forwardable(&mut forwarded);
        assert!(forwarded.is_empty() && !publish.properties.has_forwardable());
    });
}
