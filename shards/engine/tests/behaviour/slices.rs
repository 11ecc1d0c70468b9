//! Bounded work in a step: it ends between two pieces of work, the next one goes on, and nothing is lost, doubled or out of order.

use engine::{DropReason, Event, Limits, MemoryKind, QueueFull};
use wire::{
    AckKind, Packet, Subscribe, SubscribeFilters, TopicFilter, Unsubscribe, UnsubscribeFilters,
    UserProperties,
};

use crate::client::{Client, Got, Hello, Message, packet_id, plain, publish};
use crate::host::{Drain, Shard, run};
use crate::two_shards::{Two, name_on};

/// A limit so low that everything which may be cut is cut.
pub(crate) fn tiny() -> Limits {
    Limits { step_work_max: 4, ..Limits::default() }
}

impl Shard {
    /// Sends one SUBSCRIBE of all filters, with QoS 1.
    pub(crate) fn send_subscribe(&mut self, client: Client, filters: &[String], id: u16) {
        let filters: Vec<_> = filters
            .iter()
            .map(|filter| (TopicFilter::parse(filter).expect("a topic filter"), plain(1)))
            .collect();
        self.send(
            client,
            &Packet::Subscribe(Subscribe {
                packet_id: packet_id(id),
                subscription_id: None,
                user_properties: UserProperties::default(),
                filters: SubscribeFilters::from_slice(&filters),
            }),
        );
    }

    /// Sends one UNSUBSCRIBE of all filters.
    pub(crate) fn send_unsubscribe(&mut self, client: Client, filters: &[String], id: u16) {
        let filters: Vec<_> =
            filters.iter().map(|filter| TopicFilter::parse(filter).expect("a topic filter")).collect();
        self.send(
            client,
            &Packet::Unsubscribe(Unsubscribe {
                packet_id: packet_id(id),
                user_properties: UserProperties::default(),
                filters: UnsubscribeFilters::from_slice(&filters),
            }),
        );
    }
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

fn acknowledge(shard: &mut Shard, client: Client, message: &Message) {
    if message.qos == 1 {
        shard.ack(client, AckKind::PubAck, message.id);
    } else {
        shard.ack(client, AckKind::PubRec, message.id);
        shard.ack(client, AckKind::PubComp, message.id);
    }
}

/// Connections whose publish waits for memory are resumed in the order in which they began to wait, some in each step.
#[test]
fn held_connections_are_resumed_in_slices() {
    let limits = Limits { memory_bytes_max: 4_000_000, step_work_max: 4, ..Limits::default() };
    run(limits, |shard| {
        let keeper = shard.connect(&Hello::v5("keeper").resume());
        shard.subscribe(keeper, "kept", 1);
        shard.hang_up(keeper);
        let filler = shard.connect(&Hello::v5("filler"));
        let publishers: Vec<_> =
            (0..50).map(|number| shard.connect(&Hello::v3(&number.to_string()))).collect();
        let payload = vec![b'x'; 40_000];
        while shard.publish(filler, "kept", &payload, 1) == 0 {}
        for &publisher in &publishers {
            shard.send(publisher, &Packet::Publish(publish("kept", b"x", 1, 1)));
        }
        let waiting = |shard: &Shard| {
            publishers.iter().filter(|&&publisher| shard.unconsumed_bytes(publisher) > 0).count()
        };
        assert_eq!(waiting(shard), 50);
        let keeper = shard.connect(&Hello::v5("keeper").resume());
        shard.work_max = 60;
        let texts = shard.texts(keeper);
        assert_eq!(texts.iter().filter(|text| *text == "x").count(), 50);
        assert_eq!(waiting(shard), 0);
    });
}

/// The filters of a packet are done in slices; SUBACK answers for all of them, in order, and packets behind it wait.
#[test]
fn a_subscribe_of_many_filters_is_done_in_slices_and_answered_once() {
    run(tiny(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        let publisher = shard.connect(&Hello::v5("p"));
        let filters: Vec<String> =
            (0..90).map(|number| format!("t/{number}/{}", ["+", "x"][number % 2])).collect();
        shard.work_max = 10;
        shard.ticks = false;
        shard.send_subscribe(client, &filters, 7);
        shard.send(client, &Packet::PingReq);
        assert_eq!(shard.take(client), []);
        assert!((1..90).contains(&shard.engine.subscription_count()));
        assert!(shard.engine.memory_use().of_kind(MemoryKind::PartialPackets) > 0);
        // A filter that is done has effect at once; a message may come before SUBACK.
        shard.publish(publisher, "t/0/y", b"early", 0);
        assert_eq!(shard.texts(client), ["early"]);
        shard.ticks = true;
        shard.tick();
        assert_eq!(shard.take(client), [Got::SubAck(7, vec![1; 90]), Got::PingResp]);
        assert_eq!(
            (
                shard.engine.subscription_count(),
                shard.engine.memory_use().of_kind(MemoryKind::PartialPackets)
            ),
            (90, 0)
        );

        shard.ticks = false;
        shard.send_unsubscribe(client, &filters, 8);
        assert!((1..90).contains(&shard.engine.subscription_count()));
        shard.ticks = true;
        shard.tick();
        assert_eq!(shard.take(client), [Got::UnsubAck(8, vec![0; 90])]);
        assert_eq!(shard.engine.subscription_count(), 0);
    });
}

/// The connection ends in the middle: its session keeps what was subscribed until then, and nobody is answered.
#[test]
fn a_connection_that_ends_in_the_middle_of_its_subscribe_leaves_a_part() {
    for take_over in [false, true] {
        run(tiny(), |shard| {
            let hello = Hello::v5("a").resume();
            let client = shard.connect(&hello);
            let filters: Vec<String> = (0..50).map(|number| format!("t/{number}")).collect();
            shard.ticks = false;
            shard.send_subscribe(client, &filters, 7);
            let before = shard.engine.subscription_count();
            let next = if take_over {
                shard.connect(&hello)
            } else {
                shard.hang_up(client);
                shard.connect(&hello)
            };
            shard.ticks = true;
            shard.tick();
            assert_eq!(shard.engine.subscription_count(), before);
            assert_eq!(shard.engine.memory_use().of_kind(MemoryKind::PartialPackets), 0);
            // The other connection subscribes to all of them.
            shard.send_subscribe(next, &filters, 8);
            assert_eq!(shard.take(next), [Got::SubAck(8, vec![1; 50])]);
            shard.publish(next, "t/49", b"x", 0);
            assert_eq!(shard.texts(next), ["x"]);
        });
    }
}

/// Retained messages come after SUBACK, however many steps that takes.
#[test]
fn retained_messages_follow_the_suback_of_a_long_subscribe() {
    run(tiny(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        for number in 0..20 {
            shard.publish_retained(client, &format!("t/{number}"), b"kept", 0);
        }
        let filters: Vec<String> = (0..20).map(|number| format!("t/{number}")).collect();
        shard.send_subscribe(client, &filters, 7);
        let got = shard.take(client);
        assert_eq!(got[0], Got::SubAck(7, vec![1; 20]));
        assert_eq!(got.len(), 21);
    });
}

/// A session that ends holds thousands of things. Its client identifier is free at once; the rest is given up in slices, and the
/// ledgers balance in every step, which the host checks.
#[test]
fn the_end_of_a_session_goes_in_slices_and_its_identifier_is_free_at_once() {
    run(Limits { step_work_max: 20, ..Limits::default() }, |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let hello = Hello::v5("a").resume().will("will", "gone", 1_000);
        let client = shard.connect(&hello);
        let filters: Vec<String> = (0..40).map(|number| format!("t/{number}")).collect();
        shard.send_subscribe(client, &filters, 1);
        let watcher = shard.connect(&Hello::v5("w"));
        shard.subscribe(watcher, "will", 0);
        shard.hang_up(client);
        for _ in 0..30 {
            shard.publish(publisher, "t/1", b"x", 1);
        }
        shard.ticks = false;
        shard.work_max = 40;
        // Clean start: the old session ends, a new one begins.
        let (client, present) = shard.connect_present(&Hello::v5("a"));
        assert!(!present);
        assert_eq!(shard.texts(watcher), ["gone"], "its will is published at once");
        assert_eq!(shard.engine.session_count(), 3);
        assert!(shard.engine.subscription_count() > 1);
        // The ended session is owed nothing more, and the new one is another.
        let matched = shard.engine.counters().matched;
        shard.publish(publisher, "t/2", b"x", 1);
        assert_eq!(shard.engine.counters().matched, matched);
        shard.subscribe(client, "t/2", 0);
        shard.ticks = true;
        shard.publish(publisher, "t/2", b"y", 1);
        assert_eq!(shard.texts(client), ["y"]);
        assert_eq!(shard.engine.subscription_count(), 2);
        assert_eq!(shard.engine.counters().dropped[DropReason::SessionEnded.index()], 30);
        assert_eq!(shard.engine.audit().sessions.len(), 3);
    });
}

/// The messages of a group go to its other members, in order, and no message is chosen for a session that has ended.
#[test]
fn the_queue_of_a_member_that_ends_in_slices_goes_to_the_others_in_order() {
    run(tiny(), |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        let member = shard.connect(&Hello::v5("m").resume());
        shard.subscribe(member, "$share/g/t", 1);
        shard.drain(member, Drain::STALLED);
        for number in 0..20 {
            shard.publish(publisher, "t", number.to_string().as_bytes(), 1);
        }
        shard.hang_up(member);
        for number in 20..40 {
            shard.publish(publisher, "t", number.to_string().as_bytes(), 1);
        }
        let other = shard.connect(&Hello::v5("o").resume());
        shard.subscribe(other, "$share/g/t", 1);
        shard.hang_up(other);
        shard.ticks = false;
        shard.connect(&Hello::v5("m"));
        shard.publish(publisher, "t", b"40", 1);
        shard.ticks = true;
        shard.tick();
        let other = shard.connect(&Hello::v5("o").resume());
        let mut texts: Vec<u32> = shard.texts(other).iter().map(|text| text.parse().unwrap()).collect();
        // The message that was published meanwhile may come before them.
        texts.retain(|&number| number != 40);
        assert_eq!(texts, (0..40).collect::<Vec<_>>());
    });
}

/// Sessions cannot end faster than the broker forgets them: SUBSCRIBE waits while too many are left, and everything else goes on.
#[test]
fn no_subscribe_is_taken_while_many_sessions_wait_to_be_forgotten() {
    run(tiny(), |shard| {
        let clients: Vec<_> = (0..300)
            .map(|number| {
                let client = shard.connect(&Hello::v5(&number.to_string()));
                shard.send_subscribe(client, &["a", "b", "c"].map(String::from), 1);
                client
            })
            .collect();
        let last = shard.connect(&Hello::v5("last"));
        shard.ticks = false;
        for client in clients {
            shard.hang_up(client);
        }
        shard.send_subscribe(last, &["d".to_owned()], 1);
        assert_eq!(shard.take(last), []);
        shard.ticks = true;
        shard.tick();
        assert_eq!(shard.take(last), [Got::SubAck(1, vec![1])]);
        assert_eq!(shard.engine.subscription_count(), 1);
    });
}

/// A fan-out finds all of its receivers full. They end in slices, each once, and each is told nothing more.
#[test]
fn the_sessions_that_a_fan_out_ends_end_in_slices() {
    const COUNT: u64 = 60;
    let limits = Limits {
        step_work_max: 10,
        queue_messages_max: 1,
        queue_full: QueueFull::EndSession,
        ..Limits::default()
    };
    run(limits, |shard| {
        shard.work_max = 40;
        for number in 0..COUNT {
            let client = shard.connect(&Hello::v5(&format!("a{number}")).resume());
            shard.subscribe(client, "t", 1);
            shard.hang_up(client);
        }
        let publisher = shard.connect(&Hello::v5("p"));
        for text in ["fits", "does not fit", "finds nobody"] {
            shard.publish(publisher, "t", text.as_bytes(), 1);
        }
        assert_eq!(shard.engine.session_count(), 1);
        let counters = shard.engine.counters();
        assert_eq!(counters.matched, 2 * COUNT, "the third finds no session");
        assert_eq!(counters.dropped[DropReason::QueueFull.index()], COUNT);
        assert_eq!(counters.dropped[DropReason::SessionEnded.index()], COUNT);
        assert_eq!(shard.engine.subscription_count(), 0);
    });
}

/// A client comes and goes that is a member of many groups. Other shards are told in slices, also if it leaves some meanwhile.
#[test]
fn a_member_of_many_groups_comes_and_goes_in_slices() {
    const COUNT: usize = 40;
    let filters: Vec<String> = (0..COUNT).map(|number| format!("$share/g/t/{number}")).collect();
    let mut two = Two::with(&Limits { step_work_max: 10, ..Limits::default() });
    let (here, there) = (name_on(0, 0), name_on(1, 0));
    let here = two.0[0].connect(&Hello::v5(&here));
    let there_hello = Hello::v5(&there).resume();
    for (shard, client) in [(0, here), (1, two.0[1].connect(&there_hello))] {
        two.0[shard].send_subscribe(client, &filters, 1);
        two.settle();
        assert!(matches!(two.0[shard].next(client), Some(Got::SubAck(..))));
    }
    let publisher = two.0[0].connect(&Hello::v5(&name_on(0, 1)));
    for is_online in [true, false, true] {
        let shard = &mut two.0[1];
        shard.work_max = 60;
        shard.ticks = false;
        let mut client = None;
        if is_online {
            client = Some(shard.connect_present(&there_hello).0);
        } else {
            shard.hang_up_all();
        }
        let is_due = shard.engine.next_deadline().is_some_and(|due| due <= shard.now());
        assert!(is_due, "a step has no time for all groups");
        if let Some(client) = client {
            // The packet waits behind the rest of the backlog.
            shard.send_unsubscribe(client, &filters[..4], 7);
        }
        shard.ticks = true;
        shard.tick();
        two.settle();
        let forwarded = two.0[0].engine.counters().messages_forwarded;
        for number in 4..COUNT {
            for _ in 0..2 {
                two.0[0].publish(publisher, &format!("t/{number}"), b"x", 1);
            }
        }
        two.settle();
        let forwarded = two.0[0].engine.counters().messages_forwarded - forwarded;
        let expected = if is_online { COUNT as u64 - 4 } else { 0 };
        assert_eq!(forwarded, expected, "each of two members that are online has its turn");
        for shard in &mut two.0 {
            let _audit = shard.engine.audit();
        }
    }
    two.finish();
}
