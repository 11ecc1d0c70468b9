//! Bounded work in a step: it ends between two pieces of work, the next one goes on, and nothing is lost, doubled or out of order.

use engine::{Event, Limits};
use wire::{AckKind, Packet};

use crate::client::{Got, Hello, Message, publish};
use crate::host::{Drain, Shard, run};

/// A limit so low that everything which may be cut is cut.
pub(crate) fn tiny() -> Limits {
    Limits { step_work_max: 4, ..Limits::default() }
}

#[test]
fn a_step_ends_between_two_packets_and_asks_to_go_on() {
    run(Limits { step_work_max: 10, ..Limits::default() }, |shard| {
        let client = shard.connect(&Hello::v5("a"));
        let pings = [0xC0, 0].repeat(35);
        let id = shard.id(client);
        let mut actions = engine::Actions::new();
        let mut from = 0;
        let mut counts = Vec::new();
        while from < pings.len() {
            let event = Event::Received { connection: id, bytes: &pings[from..] };
            let consumed = shard.engine.step(shard.now(), event, &mut actions).bytes;
            counts.push(consumed / 2);
            let is_resumed = actions.drain().any(|action| action == engine::Action::Resume(id));
            from += consumed;
            assert_eq!(is_resumed, from < pings.len());
        }
        assert_eq!(counts, [10, 10, 10, 5]);
        shard.hang_up(client);
    });
}

/// Redelivery and the queue of a resumed session take many steps; messages that come meanwhile queue behind them.
#[test]
fn a_full_session_is_resumed_in_slices_and_in_order() {
    for bits in [1, 2] {
        run(Limits { receive_maximum: 20_000, inflight_max: 20_000, ..tiny() }, |shard| {
            let publisher = shard.connect(&Hello::v5("p"));
            let client = shard.connect(&Hello::v5("a").resume());
            shard.subscribe(client, "t", 2);
            shard.drain(client, Drain::STALLED);
            for number in 0..100 {
                shard.publish(publisher, "t", number.to_string().as_bytes(), bits);
            }
            shard.hang_up(client);
            for number in 100..200 {
                shard.publish(publisher, "t", number.to_string().as_bytes(), bits);
            }
            shard.work_max = 10;
            let client = shard.connect(&Hello::v5("a").resume());
            shard.publish(publisher, "t", b"200", bits);
            shard.publish(publisher, "t", b"201", bits);
            let messages = shard.take(client);
            let messages: Vec<_> = messages
                .iter()
                .filter_map(|got| if let Got::Publish(message) = got { Some(message) } else { None })
                .collect();
            let texts: Vec<u32> = messages.iter().filter_map(|message| message.text().parse().ok()).collect();
            assert!(texts.is_sorted(), "{texts:?}");
            assert_eq!(texts.last(), Some(&201));
            for message in messages {
                acknowledge(shard, client, message);
            }
        });
    }
}

fn acknowledge(shard: &mut Shard, client: crate::client::Client, message: &Message) {
    if message.qos == 1 {
        shard.ack(client, AckKind::PubAck, message.id);
    } else {
        shard.ack(client, AckKind::PubRec, message.id);
        shard.ack(client, AckKind::PubComp, message.id);
    }
}

/// Two hundred connections wait for memory: they are resumed in the order in which they began to wait, some in each step.
#[test]
fn starved_connections_are_resumed_in_slices() {
    let limits = Limits { memory_bytes_max: 4_000, step_work_max: 4, ..Limits::default() };
    run(limits, |shard| {
        let reader = shard.connect(&Hello::v5("reader"));
        shard.subscribe(reader, "full", 0);
        shard.drain(reader, Drain::STALLED);
        let filler = shard.connect(&Hello::v5("filler"));
        let publishers: Vec<_> =
            (0..50).map(|number| shard.connect(&Hello::v3(&number.to_string()))).collect();
        for _ in 0..2 {
            shard.publish(filler, "full", &[b'x'; 3_900], 0);
        }
        for &publisher in &publishers {
            shard.send(publisher, &Packet::Publish(publish("t", b"x", 1, 1)));
        }
        let waiting = |shard: &Shard| {
            publishers.iter().filter(|&&publisher| shard.unconsumed_bytes(publisher) > 0).count()
        };
        assert_eq!(waiting(shard), 50);
        shard.work_max = 10;
        shard.drain(reader, Drain::ALL);
        assert_eq!(waiting(shard), 0);
    });
}
