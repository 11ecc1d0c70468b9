//! A fan-out with more receivers than a step has time for: everybody is offered the message once and in order, whatever happens in
//! the middle of it.

use engine::{DropReason, Event, MemoryKind};
use wire::{AckKind, Packet, Publish, ReasonCode};

use crate::client::{Client, Got, Hello, Message, publish};
use crate::host::{Shard, run};
use crate::slices::tiny;

/// Subscribers, each of which is offered a message in a step of its own.
const COUNT: usize = 30;

fn subscribers(shard: &mut Shard, filter: &str) -> Vec<Client> {
    (0..COUNT)
        .map(|number| {
            let client = shard.connect(&Hello::v5(&format!("s{number}")).resume());
            shard.subscribe(client, filter, 2);
            client
        })
        .collect()
}

/// Sends a message of which the fan-out is cut: some have it and others have not.
fn begin(shard: &mut Shard, publisher: Client, publish: Publish<'_>) {
    shard.ticks = false;
    shard.send(publisher, &Packet::Publish(publish));
    assert_eq!(shard.take(publisher), [], "nobody is answered before the end");
    assert!(!shard.engine.takes_data());
    shard.tick();
}

fn finish(shard: &mut Shard) {
    shard.ticks = true;
    shard.tick();
    assert!(shard.engine.takes_data());
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(Message::text).collect()
}

#[test]
fn all_receive_it_in_order_and_the_publisher_is_answered_after_the_last() {
    for bits in [0, 1, 2] {
        run(tiny(), |shard| {
            let all = subscribers(shard, "t");
            let publisher = shard.connect(&Hello::v5("p"));
            let other = shard.connect(&Hello::v5("o"));
            shard.work_max = 16;
            begin(shard, publisher, publish("t", b"1", bits, 1));
            // Publishes of others wait, the rest of them is served; nothing of the publisher overtakes its message.
            shard.send(other, &Packet::Publish(publish("t", b"2", bits, 1)));
            shard.send(publisher, &Packet::PingReq);
            let third = shard.connect(&Hello::v5("x"));
            shard.send(third, &Packet::PingReq);
            assert_eq!(shard.take(third), [Got::PingResp]);
            assert_eq!((shard.take(publisher), shard.take(other)), (vec![], vec![]));
            finish(shard);
            let kind = if bits == 1 { AckKind::PubAck } else { AckKind::PubRec };
            let answers = if bits == 0 { vec![] } else { vec![Got::Ack(kind, 1, 0)] };
            assert_eq!(shard.take(other), answers);
            // PINGRESP promises nothing, so it does not wait for the journal as the acknowledgement does.
            let got = shard.take(publisher);
            assert_eq!(got.len(), answers.len() + 1);
            assert!(got.contains(&Got::PingResp) && answers.iter().all(|answer| got.contains(answer)));
            for client in all {
                assert_eq!(texts(&shard.messages(client)), ["1", "2"]);
            }
        });
    }
}

/// A publish that waited for the fan-out does not wait for sessions that have ended as well: only SUBSCRIBE does.
#[test]
fn a_publish_goes_on_while_many_sessions_that_have_ended_are_forgotten() {
    run(tiny(), |shard| {
        let all = subscribers(shard, "t");
        let leaving: Vec<Client> = (0..300)
            .map(|number| {
                let client = shard.connect(&Hello::v5(&format!("leaving-{number}")));
                shard.subscribe(client, "left", 0);
                client
            })
            .collect();
        let [publisher, other, late] = ["p", "o", "l"].map(|id| shard.connect(&Hello::v5(id)));
        begin(shard, publisher, publish("t", b"1", 1, 1));
        shard.send(other, &Packet::Publish(publish("elsewhere", b"2", 1, 7)));
        for client in leaving {
            shard.hang_up(client);
        }
        let left = |shard: &Shard| shard.engine.subscription_count() - COUNT;
        let acked = (0..1_000).find_map(|_| {
            shard.tick();
            // A tick spends its share on what is forgotten; the steps of others resume who waits.
            shard.send(late, &Packet::PingReq);
            shard.acked(other, AckKind::PubAck, 7).map(|_| left(shard))
        });
        assert!(acked.is_some_and(|left| left > 256), "{acked:?}");
        shard.take(late);
        shard.send_subscribe(late, &["late".to_owned()], 1);
        assert_eq!(shard.take(late), [], "SUBSCRIBE waits");
        finish(shard);
        assert_eq!(left(shard), 1);
        for client in all {
            assert_eq!(texts(&shard.messages(client)), ["1"]);
        }
    });
}

/// Members come, go, leave their sessions and take them over while a message is on its way.
#[test]
fn what_changes_in_the_middle_neither_loses_nor_doubles_a_message() {
    run(tiny(), |shard| {
        let all = subscribers(shard, "t");
        let publisher = shard.connect(&Hello::v5("p"));
        let late = shard.connect(&Hello::v5("late"));
        begin(shard, publisher, publish("t", b"1", 1, 1));
        // First members and last ones: on both sides of the cut.
        for at in [0, COUNT - 1] {
            shard.send_unsubscribe(all[at], &["t".to_owned()], 9);
        }
        for at in [1, COUNT - 2] {
            shard.disconnect(all[at], ReasonCode::Success, Some(0));
        }
        let taken = [2, COUNT - 3].map(|at| shard.connect(&Hello::v5(&format!("s{at}")).resume()));
        for at in [3, COUNT - 4] {
            // Clean start: the old session ends, and the new one is not subscribed.
            shard.connect(&Hello::v5(&format!("s{at}")));
        }
        shard.send_subscribe(late, &["t".to_owned()], 9);
        assert_eq!(shard.take(late), [], "it waits, and is owed nothing");
        finish(shard);
        assert_eq!(shard.take(late), [Got::SubAck(9, vec![1])]);
        assert_eq!(shard.take(publisher), [Got::Ack(AckKind::PubAck, 1, 0)]);
        for (at, &client) in all.iter().enumerate() {
            if at == 0 || at == COUNT - 1 {
                // UNSUBSCRIBE came after the message.
                assert!(matches!(shard.next(client), Some(Got::Publish(message)) if message.text() == "1"));
                assert_eq!(shard.next(client), Some(Got::UnsubAck(9, vec![0])));
                continue;
            }
            let got = shard.take(client).into_iter();
            let got: Vec<Message> = got
                .filter_map(|got| if let Got::Publish(message) = got { Some(message) } else { None })
                .collect();
            match at {
                1..=3 => assert!(got.len() <= 1),
                at if at >= COUNT - 4 => assert_eq!(got, []),
                _ => assert_eq!(texts(&got), ["1"]),
            }
        }
        // Redelivered to the first, which had it already, and sent to the second once.
        for client in taken {
            assert_eq!(texts(&shard.messages(client)), ["1"]);
        }
        shard.publish(publisher, "t", b"2", 1);
        assert_eq!(texts(&shard.messages(late)), ["2"]);
        assert_eq!(texts(&shard.messages(taken[1])), ["2"]);
        assert_eq!(shard.messages(all[0]), []);
    });
}

#[test]
fn a_publisher_that_leaves_in_the_middle_has_published() {
    for bits in [0, 1, 2] {
        for says_goodbye in [false, true] {
            run(tiny(), |shard| {
                let all = subscribers(shard, "t");
                let publisher = shard.connect(&Hello::v5("p").resume());
                begin(shard, publisher, publish("t", b"1", bits, 7));
                if says_goodbye {
                    // It waits behind the message, and the client closes without waiting.
                    shard.send_bytes(publisher, &[0xE0, 0]);
                }
                shard.hang_up(publisher);
                let again = shard.connect(&Hello::v5("p").resume());
                if bits == 2 {
                    // The client repeats the message that was not answered: it is taken once.
                    let repeated = Publish { dup: true, ..publish("t", b"1", bits, 7) };
                    shard.send(again, &Packet::Publish(repeated));
                }
                finish(shard);
                let answers = if bits == 2 { vec![Got::Ack(AckKind::PubRec, 7, 0)] } else { vec![] };
                assert_eq!(shard.take(again), answers);
                for client in all {
                    assert_eq!(texts(&shard.messages(client)), ["1"]);
                }
            });
        }
    }
}

#[test]
fn a_message_is_retained_once_and_before_its_fan_out_ends() {
    run(tiny(), |shard| {
        let all = subscribers(shard, "t");
        let publisher = shard.connect(&Hello::v5("p"));
        for text in ["1", "2"] {
            begin(shard, publisher, Publish { retain: true, ..publish("t", text.as_bytes(), 1, 1) });
            assert_eq!(shard.engine.retained_count(), 1);
            finish(shard);
            assert_eq!(shard.take(publisher), [Got::Ack(AckKind::PubAck, 1, 0)]);
        }
        for client in all {
            assert_eq!(texts(&shard.messages(client)), ["1", "2"]);
        }
        let late = shard.connect(&Hello::v5("late"));
        shard.subscribe(late, "t", 0);
        assert_eq!(texts(&shard.messages(late)), ["2"]);
    });
}

/// Overlapping subscriptions are joined in slices as well: one delivery each, at the highest QoS.
#[test]
fn overlapping_subscriptions_are_joined_over_many_steps() {
    run(tiny(), |shard| {
        let all = subscribers(shard, "t/+");
        for (number, &client) in all.iter().enumerate() {
            shard.subscribe(client, ["t/#", "#"][number % 2], 0);
        }
        let publisher = shard.connect(&Hello::v5("p"));
        begin(shard, publisher, publish("t/x", b"1", 2, 1));
        shard.hang_up(all[COUNT / 2]);
        finish(shard);
        for (number, &client) in all.iter().enumerate() {
            if number != COUNT / 2 {
                let got = shard.messages(client);
                assert_eq!((texts(&got), got[0].qos), (vec!["1"], 2));
            }
        }
        let back = shard.connect(&Hello::v5(&format!("s{}", COUNT / 2)).resume());
        assert_eq!(texts(&shard.messages(back)), ["1"]);
    });
}

/// Each group of a filter is offered a message once, however many groups there are.
#[test]
fn many_groups_of_one_filter_are_served_in_slices() {
    run(tiny(), |shard| {
        let members: Vec<_> = (0..COUNT)
            .map(|number| {
                let client = shard.connect(&Hello::v5(&format!("m{number}")));
                shard.subscribe(client, &format!("$share/g{number}/t"), 1);
                client
            })
            .collect();
        let plain = shard.connect(&Hello::v5("plain"));
        shard.subscribe(plain, "t", 1);
        let publisher = shard.connect(&Hello::v5("p"));
        begin(shard, publisher, publish("t", b"1", 1, 1));
        finish(shard);
        assert_eq!(shard.take(publisher), [Got::Ack(AckKind::PubAck, 1, 0)]);
        for client in members.into_iter().chain([plain]) {
            assert_eq!(texts(&shard.messages(client)), ["1"]);
        }
    });
}

/// Wills and the broker's own messages wait for the end of a fan-out, and come in their order.
#[test]
fn wills_that_are_due_in_the_middle_wait_and_come_in_order() {
    run(tiny(), |shard| {
        let all = subscribers(shard, "t");
        let watcher = shard.connect(&Hello::v5("w"));
        shard.subscribe(watcher, "will/+", 1);
        shard.subscribe(watcher, "$SYS/#", 0);
        let publisher = shard.connect(&Hello::v5("p"));
        let mortals = ["a", "b", "c"].map(|name| shard.connect(&Hello::v5(name).will("will/x", name, 0)));
        begin(shard, publisher, publish("t", b"1", 1, 1));
        for client in mortals {
            shard.hang_up(client);
        }
        let event = Event::Sys { topic: "$SYS/broker/x", payload: b"sys" };
        shard.raw_step(event);
        assert!(shard.engine.memory_use().of_kind(MemoryKind::Wills) > 0);
        assert_eq!(shard.messages(watcher), []);
        finish(shard);
        assert_eq!(texts(&shard.messages(watcher)), ["a", "b", "c", "sys"]);
        assert_eq!(shard.engine.memory_use().of_kind(MemoryKind::Wills), 0);
        shard.raw_step(Event::Sys { topic: "$SYS/broker/x", payload: b"" });
        for client in all {
            assert_eq!(texts(&shard.messages(client)), ["1"]);
        }
    });
}

/// No Local holds for the whole fan-out, and a session that begins in the middle is nobody's.
#[test]
fn the_publisher_s_own_subscription_is_left_out_in_every_slice() {
    run(tiny(), |shard| {
        let all = subscribers(shard, "t");
        let publisher = shard.connect(&Hello::v5("p"));
        let no_local = wire::SubscribeOptions { no_local: true, ..crate::client::plain(1) };
        shard.subscribe_with(publisher, &[("t", no_local)], None);
        begin(shard, publisher, publish("t", b"1", 1, 1));
        finish(shard);
        assert_eq!(shard.take(publisher), [Got::Ack(AckKind::PubAck, 1, 0)]);
        for client in all {
            assert_eq!(texts(&shard.messages(client)), ["1"]);
        }
    });
}

/// The stop closes some connections in each step, and the message on its way reaches the sessions that stay.
#[test]
fn a_stop_goes_in_slices_and_ends_a_fan_out() {
    run(tiny(), |shard| {
        subscribers(shard, "t");
        let publisher = shard.connect(&Hello::v5("p"));
        begin(shard, publisher, publish("t", b"1", 1, 1));
        shard.work_max = 20;
        shard.stop();
        assert!(shard.engine.attached_count() > 0);
        finish(shard);
        assert_eq!(shard.engine.attached_count(), 0);
        assert_eq!(shard.ended(publisher), Some(0x8B));
        let counters = shard.engine.counters();
        assert_eq!(counters.matched, COUNT as u64);
        assert_eq!(counters.dropped[DropReason::SessionEnded.index()], 0);
    });
}

/// Sessions that ended, subscriptions and fan-outs all go on while clients publish without a pause.
#[test]
fn fan_outs_one_after_the_other_leave_time_for_the_rest() {
    run(tiny(), |shard| {
        let all = subscribers(shard, "t");
        let publisher = shard.connect(&Hello::v5("p"));
        let client = shard.connect(&Hello::v5("c"));
        let filters: Vec<String> = (0..20).map(|number| format!("f/{number}")).collect();
        shard.ticks = false;
        let mut bytes = Vec::new();
        for number in 0..200u16 {
            Packet::Publish(publish("t", &number.to_be_bytes(), 0, 0)).encode(publisher.version, &mut bytes);
        }
        shard.send_bytes(publisher, &bytes);
        shard.send_subscribe(client, &filters, 5);
        let mut ticks = 0;
        while shard.take(client).is_empty() {
            shard.tick();
            ticks += 1;
        }
        assert!(shard.unconsumed_bytes(publisher) > bytes.len() / 2, "after {ticks} ticks");
        shard.ticks = true;
        shard.tick();
        for client in all {
            assert_eq!(shard.messages(client).len(), 200);
        }
    });
}
