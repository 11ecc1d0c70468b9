//! Shared subscriptions: each message goes to one member of each group.

use engine::{DropReason, Limits, QueueFull};
use wire::{AckKind, Publish, PublishProperties, ReasonCode, SubscribeOptions};

use crate::client::{Client, Hello, Message, ack, plain, publish};
use crate::host::{Shard, run};

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
fn an_online_member_is_preferred_and_an_offline_one_keeps_the_message_if_nobody_is_online() {
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
        assert_eq!(shard.engine.counters().dropped[DropReason::NoMember.index()], 1);
    });
}

#[test]
fn offline_members_have_their_turns_while_nobody_is_online() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let hellos = ["a", "b", "c"].map(|name| Hello::v5(name).resume());
        for hello in &hellos {
            let member = shard.connect(hello);
            shard.subscribe(member, "$share/g/t", 1);
            shard.hang_up(member);
        }
        publish_numbers(shard, publisher, 9, 1);
        let mut members = Vec::new();
        for hello in &hellos {
            // Each member leaves before the next one comes back.
            let member = shard.connect(hello);
            members.push(shard.texts(member));
            shard.hang_up(member);
        }
        assert_eq!(members, [["0", "3", "6"], ["1", "4", "7"], ["2", "5", "8"]]);
    });
}

#[test]
fn mqtt_4_8_2_3_every_member_keeps_its_own_granted_qos() {
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
fn mqtt_4_8_2_4_qos_2_in_flight_waits_for_its_member_and_ends_with_its_session() {
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
        // Most groups lose some of their members, some lose all.
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
        // [MQTT-3.8.3-4]. The invalid packet is written by hand.
        let mut bytes = vec![0x82, 16, 0, 1, 0, 0, 10];
        bytes.extend(b"$share/g/t");
        bytes.push(SubscribeOptions { no_local: true, ..plain(0) }.no_local.into());
        *bytes.last_mut().unwrap() = 0b100;
        shard.send_bytes(client, &bytes);
        assert_eq!(shard.ended(client), Some(0x82));
    });
}

/// Publishes `count` messages, numbered, to the group of `$share/g/t`.
fn publish_numbers(shard: &mut Shard, publisher: Client, count: u32, qos: u8) {
    for number in 0..count {
        shard.publish(publisher, "t", number.to_string().as_bytes(), qos);
    }
}

fn numbers(range: core::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn dropped(shard: &Shard, reason: DropReason) -> u64 {
    shard.engine.counters().dropped[reason.index()]
}

#[test]
fn queued_and_unacknowledged_messages_are_reassigned_when_the_session_of_a_member_ends() {
    for ending in ["hang up", "expire", "clean start", "take over"] {
        run(Limits::default(), |shard| {
            let publisher = shard.connect(&Hello::v5("p"));
            let hello = Hello::v5("m").expiry_s(if ending == "hang up" { 0 } else { 10 }).receive_maximum(3);
            let member = shard.connect(&hello);
            shard.subscribe(member, "$share/g/t", 1);
            publish_numbers(shard, publisher, 8, 1);
            // The member was sent three messages and acknowledges one.
            let first = shard.messages(member);
            assert_eq!(first.len(), 3);
            shard.send(member, &ack(AckKind::PubAck, first[0].id, ReasonCode::Success));
            let other = shard.connect(&Hello::v5("o"));
            shard.subscribe(other, "$share/g/t", 1);
            match ending {
                "hang up" => shard.hang_up(member),
                "expire" => {
                    shard.hang_up(member);
                    assert_eq!(shard.messages(other), [], "its session waits for it");
                    shard.advance_ms(10_000);
                }
                "clean start" => {
                    shard.hang_up(member);
                    shard.connect(&Hello::v5("m"));
                }
                _ => {
                    shard.connect(&Hello::v5("m"));
                }
            }
            let moved = shard.messages(other);
            let texts: Vec<&str> = moved.iter().map(Message::text).collect();
            assert_eq!(texts, numbers(1..8), "{ending}");
            assert!(moved.iter().all(|message| !message.dup && message.qos == 1), "new to their receiver");
            assert_eq!(
                (dropped(shard, DropReason::Reassigned), dropped(shard, DropReason::SessionEnded)),
                (7, 0)
            );
        });
    }
}

#[test]
fn mqtt_4_8_2_5_qos_2_is_reassigned_only_before_it_was_sent() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let hello = Hello::v5("m").receive_maximum(2);
        let member = shard.connect(&hello);
        shard.subscribe(member, "$share/g/t", 2);
        publish_numbers(shard, publisher, 5, 2);
        let sent = shard.messages(member);
        assert_eq!(sent.len(), 2);
        // The member has sent PUBREC for one of the two messages.
        shard.send(member, &ack(AckKind::PubRec, sent[0].id, ReasonCode::Success));
        let other = shard.connect(&Hello::v5("o"));
        shard.subscribe(other, "$share/g/t", 2);
        shard.hang_up(member);
        assert_eq!(shard.texts(other), numbers(2..5));
        assert_eq!(
            (dropped(shard, DropReason::Reassigned), dropped(shard, DropReason::SessionEnded)),
            (3, 2)
        );
    });
}

/// Messages that it was sent are completed [MQTT-3.10.4-3]. If it leaves without an answer, they are reassigned.
#[test]
fn a_member_that_unsubscribes_gives_up_its_queue_and_completes_its_deliveries() {
    for answers in [true, false] {
        run(Limits::default(), |shard| {
            let publisher = shard.connect(&Hello::v5("p"));
            let hello = Hello::v5("m").receive_maximum(2);
            let member = shard.connect(&hello);
            shard.subscribe(member, "$share/g/t", 1);
            shard.subscribe(member, "u", 1);
            publish_numbers(shard, publisher, 5, 1);
            shard.publish(publisher, "u", b"own", 1);
            let sent = shard.messages(member);
            assert_eq!(sent.len(), 2);
            let other = shard.connect(&Hello::v5("o"));
            shard.subscribe(other, "$share/g/t", 1);
            shard.unsubscribe(member, &["$share/g/t"]);
            assert_eq!(shard.texts(other), numbers(2..5));
            if answers {
                for message in &sent {
                    shard.send(member, &ack(AckKind::PubAck, message.id, ReasonCode::Success));
                }
                assert_eq!(shard.texts(member), ["own"]);
            }
            // The group that it left is gone and another one has its slot. The two must not be confused.
            shard.unsubscribe(other, &["$share/g/t"]);
            shard.subscribe(other, "$share/x/x", 1);
            let third = shard.connect(&Hello::v5("o3"));
            shard.subscribe(third, "$share/g/t", 1);
            shard.hang_up(member);
            let expected = if answers { Vec::new() } else { numbers(0..2) };
            assert_eq!(shard.texts(third), expected);
            assert_eq!(shard.messages(other), []);
        });
    }
}

#[test]
fn messages_are_reassigned_in_the_order_they_were_sent() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let member = shard.connect(&Hello::v5("m"));
        shard.subscribe(member, "$share/g/t", 1);
        publish_numbers(shard, publisher, 10, 1);
        assert_eq!(shard.texts(member).len(), 10);
        publish_numbers(shard, publisher, 10, 1);
        assert_eq!(shard.messages(member).len(), 10);
        let other = shard.connect(&Hello::v5("o"));
        shard.subscribe(other, "$share/g/t", 1);
        shard.hang_up(member);
        assert_eq!(shard.texts(other), numbers(0..10));
    });
}

#[test]
fn reassigned_messages_free_their_room_in_the_queue() {
    let limits = Limits { queue_bytes_max: 10, ..Limits::default() };
    run(limits, |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let hello = Hello::v5("m").resume();
        let member = shard.connect(&hello);
        shard.subscribe(member, "$share/g/t", 1);
        shard.subscribe(member, "u", 1);
        // Five messages of two bytes fill the queue.
        shard.hang_up(member);
        publish_numbers(shard, publisher, 5, 1);
        let member = shard.connect(&hello.receive_maximum(1));
        shard.unsubscribe(member, &["$share/g/t"]);
        shard.hang_up(member);
        for _ in 0..5 {
            shard.publish(publisher, "u", b"x", 1);
        }
        assert_eq!(dropped(shard, DropReason::QueueFull), 0);
        let member = shard.connect(&hello);
        assert_eq!(shard.texts(member), ["0", "x", "x", "x", "x", "x"]);
    });
}

#[test]
fn qos_0_that_is_queued_for_a_member_ends_with_its_session() {
    run(Limits { queue_qos0_offline: true, ..Limits::default() }, |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let member = shard.connect(&Hello::v5("m").expiry_s(10));
        shard.subscribe(member, "$share/g/t", 1);
        shard.hang_up(member);
        shard.publish(publisher, "t", b"x", 0);
        let other = shard.connect(&Hello::v5("o"));
        shard.subscribe(other, "$share/g/t", 1);
        shard.advance_ms(10_000);
        assert_eq!(shard.messages(other), []);
        assert_eq!(
            (dropped(shard, DropReason::Reassigned), dropped(shard, DropReason::SessionEnded)),
            (0, 1)
        );
    });
}

#[test]
fn a_message_whose_last_member_goes_is_counted_as_a_drop() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let member = shard.connect(&Hello::v5("m"));
        shard.subscribe(member, "$share/g/t", 1);
        shard.publish(publisher, "t", b"x", 1);
        assert_eq!(shard.messages(member).len(), 1);
        shard.hang_up(member);
        assert_eq!((dropped(shard, DropReason::Reassigned), dropped(shard, DropReason::NoMember)), (1, 1));
        assert_eq!(shard.engine.counters().matched, 2);
    });
}

#[test]
fn a_reassigned_message_prefers_an_online_member_and_keeps_its_expiry() {
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let hello = Hello::v5("m").expiry_s(10);
        let members = [Hello::v5("keeps").resume(), hello, Hello::v5("online")].map(|hello| {
            let member = shard.connect(&hello);
            shard.subscribe(member, "$share/g/t", 1);
            member
        });
        shard.hang_up(members[0]);
        shard.unsubscribe(members[2], &["$share/g/t"]);
        for (text, expiry_s) in [("short", 5), ("just now", 10), ("long", 100)] {
            let properties =
                PublishProperties { message_expiry_interval_s: Some(expiry_s), ..Default::default() };
            shard.publish_packet(publisher, &Publish { properties, ..publish("t", text.as_bytes(), 1, 9) });
        }
        assert_eq!(shard.messages(members[1]).len(), 3);
        shard.subscribe(members[2], "$share/g/t", 1);
        shard.hang_up(members[1]);
        shard.advance_ms(10_000);
        let moved = shard.messages(members[2]);
        assert_eq!(moved.len(), 1);
        assert_eq!((moved[0].text(), moved[0].expiry_s), ("long", Some(90)));
        assert_eq!(dropped(shard, DropReason::Expired), 2);
    });
}

/// A session may hold 10 000 messages. One step reassigns some of them, and other events are served between two steps.
#[test]
fn a_long_queue_is_reassigned_in_steps_of_bounded_length_and_in_order() {
    let count = 2_000;
    run(Limits::default(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let member = shard.connect(&Hello::v5("m").expiry_s(10));
        shard.subscribe(member, "$share/g/t", 1);
        shard.hang_up(member);
        publish_numbers(shard, publisher, count, 1);
        let other = shard.connect(&Hello::v5("o"));
        shard.subscribe(other, "$share/g/t", 1);
        shard.ticks = false;
        shard.connect(&Hello::v5("m"));
        let mut steps = 0;
        while !shard.engine.is_outbound_empty() {
            assert!(shard.engine.next_deadline().is_some_and(|due| due <= shard.now()));
            shard.tick();
            steps += 1;
        }
        shard.ticks = true;
        shard.tick();
        assert!(steps > 1);
        assert_eq!(shard.texts(other), numbers(0..count));
    });
}

/// A full queue ends its session. Its messages go to the next member, whose queue is full as well, and so on.
#[test]
fn a_cascade_of_full_queues_ends_with_the_last_member_and_everything_counted() {
    let limits = Limits { queue_messages_max: 2, queue_full: QueueFull::EndSession, ..Limits::default() };
    run(limits, |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        for name in ["a", "b", "c", "d"] {
            let member = shard.connect(&Hello::v5(name).resume());
            shard.subscribe(member, "$share/g/t", 1);
            shard.hang_up(member);
        }
        publish_numbers(shard, publisher, 9, 1);
        assert_eq!(shard.engine.session_count(), 1, "the publisher's");
        assert!(dropped(shard, DropReason::NoMember) > 0 && dropped(shard, DropReason::QueueFull) > 0);
    });
}

/// A slow reader takes its turns while its queue has room; then the other members take them.
#[test]
fn a_member_whose_queue_is_full_is_passed_over_while_another_has_room() {
    // Topic and payload of the first ten are two bytes.
    let by_count = Limits { queue_messages_max: 2, ..Limits::default() };
    let by_bytes = Limits { queue_bytes_max: 4, ..Limits::default() };
    for limits in [by_count, by_bytes] {
        run(limits, |shard| {
            let publisher = shard.connect(&Hello::v5("p"));
            let slow = shard.connect(&Hello::v5("slow").receive_maximum(1));
            let fast = shard.connect(&Hello::v5("fast"));
            let away = shard.connect(&Hello::v5("away").resume());
            for member in [slow, fast, away] {
                shard.subscribe(member, "$share/g/t", 1);
            }
            shard.hang_up(away);
            publish_numbers(shard, publisher, 20, 1);
            assert_eq!(shard.messages(slow).len(), 1, "and two are queued");
            assert_eq!(shard.texts(fast).len(), 17);
            shard.unsubscribe(fast, &["$share/g/t"]);
            publish_numbers(shard, publisher, 2, 1);
            assert_eq!(dropped(shard, DropReason::QueueFull), 0, "who is away keeps two");
            shard.publish(publisher, "t", b"too much", 1);
            assert_eq!(dropped(shard, DropReason::QueueFull), 1);
        });
    }
}

#[test]
fn subscriptions_are_counted_and_the_shared_ones_among_them() {
    run(Limits::default(), |shard| {
        let counts =
            |shard: &Shard| (shard.engine.subscription_count(), shard.engine.shared_subscription_count());
        let client = shard.connect(&Hello::v5("a"));
        assert_eq!(counts(shard), (0, 0));
        for (filter, expected) in [("t", (1, 0)), ("$share/g/t", (2, 1)), ("$share/h/+", (3, 2))] {
            shard.subscribe(client, filter, 1);
            assert_eq!(counts(shard), expected);
        }
        shard.hang_up(client);
        assert_eq!(counts(shard), (0, 0));
    });
}
