//! Shared subscriptions: each message goes to one member of each group.

use engine::Limits;
use wire::{AckKind, ReasonCode, SubscribeOptions};

use crate::client::{Hello, ack, plain};
use crate::host::run;

#[test]
fn the_members_of_a_group_share_the_messages_evenly_and_in_order() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let members: Vec<_> = (0..3).map(|n| shard.connect(&Hello::v5(&format!("m{n}")))).collect();
        for member in &members {
            shard.subscribe(*member, "$share/g/t/+", 1);
        }
        let alone = shard.connect(&Hello::v3("alone"));
        shard.subscribe(alone, "$share/h/t/+", 0);
        shard.subscribe(publisher, "t/1", 0);
        for number in 0..9 {
            shard.publish(publisher, "t/1", number.to_string().as_bytes(), 1);
        }
        let mut all = Vec::new();
        for member in &members {
            let texts = shard.texts(*member);
            assert_eq!(texts.len(), 3);
            assert!(texts.is_sorted());
            all.extend(texts);
        }
        all.sort();
        let expected: Vec<String> = (0..9).map(|n: i32| n.to_string()).collect();
        assert_eq!(all, expected);
        assert_eq!(shard.texts(alone), expected);
        assert_eq!(shard.texts(publisher), expected);
    });
}

#[test]
fn a_member_online_is_preferred_and_one_offline_keeps_what_nobody_else_can() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let kept = shard.connect(&Hello::v5("kept").resume());
        let live = shard.connect(&Hello::v5("live"));
        for member in [kept, live] {
            shard.subscribe(member, "$share/g/t", 1);
        }
        shard.hang_up(kept);
        for text in ["1", "2"] {
            shard.publish(publisher, "t", text.as_bytes(), 1);
        }
        assert_eq!(shard.texts(live), ["1", "2"]);
        shard.hang_up(live);
        assert_eq!(shard.publish(publisher, "t", b"3", 1), 0);
        shard.publish(publisher, "t", b"nobody", 0);
        let kept = shard.connect(&Hello::v5("kept").resume());
        assert_eq!(shard.texts(kept), ["3"]);
        assert_eq!(shard.engine.counters().dropped[engine::DropReason::NoMember.index()], 1);
    });
}

#[test]
fn mqtt_4_8_2_3_every_member_keeps_its_own_granted_quality() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let members: Vec<_> = (0..3u8)
            .map(|bits| {
                let member = shard.connect(&Hello::v5(&format!("m{bits}")));
                shard.subscribe(member, "$share/g/t", bits);
                member
            })
            .collect();
        for _ in 0..3 {
            shard.publish(publisher, "t", b"x", 2);
        }
        for (member, bits) in members.into_iter().zip(0..) {
            let messages = shard.messages(member);
            assert_eq!((messages.len(), messages[0].qos), (1, bits));
        }
    });
}

#[test]
fn mqtt_4_8_2_4_qos_2_in_flight_waits_for_its_member_and_5_dies_with_it() {
    for returns in [true, false] {
        run(Limits::default(), |shard| {
            let publisher = shard.connect(&Hello::v5("p"));
            let hello = Hello::v5("m").expiry_s(10);
            let member = shard.connect(&hello);
            shard.subscribe(member, "$share/g/t", 2);
            shard.publish(publisher, "t", b"x", 2);
            assert_eq!(shard.messages(member).len(), 1);
            let other = shard.connect(&Hello::v5("o"));
            shard.subscribe(other, "$share/g/t", 2);
            shard.hang_up(member);
            if returns {
                let mut hello = hello;
                hello.connect.clean_start = false;
                let member = shard.connect(&hello);
                assert_eq!(shard.texts(member), ["x"]);
            }
            shard.advance_ms(10_000);
            assert_eq!(shard.messages(other), []);
        });
    }
}

#[test]
fn mqtt_4_8_2_6_a_message_a_member_refuses_goes_to_nobody_else() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let members = ["m", "o"].map(|name| shard.connect(&Hello::v5(name)));
        for member in members {
            shard.subscribe(member, "$share/g/t", 1);
        }
        shard.publish(publisher, "t", b"x", 1);
        let id = shard.messages(members[0])[0].id;
        shard.send(members[0], &ack(AckKind::PubAck, id, ReasonCode::NotAuthorized));
        assert_eq!(shard.messages(members[1]), []);
    });
}

#[test]
fn groups_appear_and_vanish_with_their_members_in_any_order() {
    run(Limits::default(), |shard| {
        let clients: Vec<_> = (0..4).map(|n| shard.connect(&Hello::v5(&format!("c{n}")))).collect();
        let names: Vec<String> = (0..50).map(|n| format!("$share/g{n}/a/+")).collect();
        for client in &clients {
            let filters: Vec<_> = names.iter().map(|name| (name.as_str(), plain(0))).collect();
            shard.subscribe_with(*client, &filters, None);
        }
        assert_eq!(shard.engine.audit().tree.1, 50);
        shard.publish(clients[0], "a/b", b"x", 0);
        let counts: usize = clients.iter().map(|client| shard.messages(*client).len()).sum();
        assert_eq!(counts, 50, "one for each group");
        // Half of the groups lose a member, some all of them.
        for (n, name) in names.iter().enumerate() {
            for client in &clients[..n % 5] {
                assert_eq!(shard.unsubscribe(*client, &[name]), [0]);
                assert_eq!(shard.unsubscribe(*client, &[name]), [0x11]);
            }
        }
        assert_eq!(shard.engine.audit().tree.1, 40);
        shard.publish(clients[0], "a/b", b"y", 0);
        let counts: usize = clients.iter().map(|client| shard.messages(*client).len()).sum();
        assert_eq!(counts, 40);
    });
}

#[test]
fn a_shared_subscription_is_sent_no_retained_messages_and_no_local_is_refused_on_it() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        shard.publish_retained(client, "t", b"old", 1);
        shard.subscribe(client, "$share/g/t", 1);
        shard.advance_ms(10);
        assert_eq!(shard.messages(client), []);
        // [MQTT-3.8.3-4]; written by hand, since no client would.
        let mut bytes = vec![0x82, 16, 0, 1, 0, 0, 10];
        bytes.extend(b"$share/g/t");
        bytes.push(SubscribeOptions { no_local: true, ..plain(0) }.no_local.into());
        *bytes.last_mut().unwrap() = 0b100;
        shard.send_bytes(client, &bytes);
        assert_eq!(shard.ended(client), Some(0x82));
    });
}
