//! Transfers between two shards with logs: what is recorded, what waits for which disk, and what a crash leaves.

use engine::{Event, LaneKind, Limits, LogRoom};
use wire::{AckKind, Packet, TopicFilter, Unsubscribe, UnsubscribeFilters, UserProperties};

use crate::client::{Client, Got, Hello, packet_id, plain, publish};
use crate::two_shards::{Two, name_on};

fn two() -> Two {
    Two::logged(&Limits::default())
}

/// A client of a shard whose session lasts.
fn lasting(two: &mut Two, shard: u16, nth: usize) -> Client {
    two.0[usize::from(shard)].connect(&Hello::v5(&name_on(shard, nth)).resume())
}

/// A client of a shard whose session ends with its connection.
fn passing(two: &mut Two, shard: u16, nth: usize) -> Client {
    two.0[usize::from(shard)].connect(&Hello::v5(&name_on(shard, nth)))
}

fn send(two: &mut Two, shard: usize, client: Client, payload: &[u8], qos: u8, id: u16) {
    two.0[shard].send(client, &Packet::Publish(publish("t", payload, qos, id)));
}

/// The texts of the messages that came, which are acknowledged.
fn texts(two: &mut Two, shard: usize, client: Client) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(got) = two.0[shard].next(client) {
        match got {
            Got::Publish(message) => {
                texts.push(message.text().to_owned());
                match message.qos {
                    0 => {}
                    1 => two.0[shard].ack(client, AckKind::PubAck, message.id),
                    _ => two.0[shard].ack(client, AckKind::PubRec, message.id),
                }
            }
            Got::Ack(AckKind::PubRel, id, _) => two.0[shard].ack(client, AckKind::PubComp, id),
            other => panic!("{other:?}"),
        }
    }
    texts
}

#[test]
fn a_message_crosses_once_its_own_log_has_it_and_is_acknowledged_then() {
    for qos in [1, 2] {
        let mut two = two();
        let (publisher, subscriber) = (passing(&mut two, 0, 0), lasting(&mut two, 1, 0));
        two.subscribe_with(1, subscriber, "t", plain(1));
        two.0[0].durable_at_once = false;
        send(&mut two, 0, publisher, b"x", qos, 7);
        two.carry(0, LaneKind::Data, usize::MAX);
        assert!(texts(&mut two, 1, subscriber).is_empty());
        assert_eq!(two.0[0].take(publisher), []);
        // The disk of the other shard does not matter.
        two.0[1].durable_at_once = false;
        two.0[0].durable();
        two.carry(0, LaneKind::Data, usize::MAX);
        assert_eq!(texts(&mut two, 1, subscriber), ["x"]);
        let kind = if qos == 1 { AckKind::PubAck } else { AckKind::PubRec };
        assert_eq!(two.0[0].take(publisher), [Got::Ack(kind, 7, 0)]);
        // It is open until the other log has it as well.
        two.settle();
        assert_eq!(two.0[0].engine.audit().open_transfers, 1);
        two.0[1].sync();
        two.settle();
        assert_eq!(two.0[0].engine.audit().open_transfers, 0);
    }
}

#[test]
fn volatile_messages_are_in_no_log_and_wait_for_none() {
    let mut two = two();
    let (publisher, subscriber) = (passing(&mut two, 0, 0), passing(&mut two, 1, 0));
    two.subscribe_with(1, subscriber, "t", plain(1));
    let before = [0, 1].map(|at| two.0[at].log.batch_count());
    two.0[0].durable_at_once = false;
    send(&mut two, 0, publisher, b"x", 1, 7);
    assert_eq!(two.0[0].take(publisher), [Got::Ack(AckKind::PubAck, 7, 0)]);
    two.settle();
    assert_eq!(texts(&mut two, 1, subscriber), ["x"]);
    assert_eq!([0, 1].map(|at| two.0[at].log.batch_count()), before);
}

#[test]
fn nothing_of_a_publisher_overtakes_its_transfer_and_others_do() {
    let mut two = two();
    let (publisher, other) = (passing(&mut two, 0, 0), passing(&mut two, 0, 1));
    let (subscriber, volatile) = (lasting(&mut two, 1, 0), passing(&mut two, 1, 1));
    two.subscribe_with(1, subscriber, "t", plain(1));
    two.subscribe_with(1, volatile, "t", plain(1));
    two.0[0].durable_at_once = false;
    send(&mut two, 0, publisher, b"1", 1, 7);
    send(&mut two, 0, publisher, b"2", 0, 0);
    send(&mut two, 0, other, b"3", 0, 0);
    two.carry(0, LaneKind::Data, usize::MAX);
    assert_eq!(texts(&mut two, 1, volatile), ["3"]);
    two.0[0].durable();
    two.carry(0, LaneKind::Data, usize::MAX);
    assert_eq!(texts(&mut two, 1, volatile), ["1", "2"]);
    assert_eq!(texts(&mut two, 1, subscriber), ["3", "1", "2"]);
}

#[test]
fn the_next_session_of_a_client_overtakes_nothing_of_the_one_before() {
    let mut two = two();
    let (publisher, other) = (passing(&mut two, 0, 0), passing(&mut two, 0, 1));
    let (subscriber, volatile) = (lasting(&mut two, 1, 0), passing(&mut two, 1, 1));
    two.subscribe_with(1, subscriber, "t", plain(1));
    two.subscribe_with(1, volatile, "t", plain(0));
    two.0[0].durable_at_once = false;
    send(&mut two, 0, publisher, b"1", 1, 7);
    // Its session ends with this connection, and another client takes the place of that among the sessions.
    two.0[0].hang_up(publisher);
    let third = passing(&mut two, 0, 2);
    let publisher = passing(&mut two, 0, 0);
    for (client, payload) in [(publisher, b"2"), (third, b"3"), (other, b"4")] {
        send(&mut two, 0, client, payload, 0, 0);
    }
    two.0[0].durable();
    send(&mut two, 0, publisher, b"5", 0, 0);
    two.carry(0, LaneKind::Data, usize::MAX);
    let got = texts(&mut two, 1, volatile);
    let of_publisher: Vec<_> = got.iter().filter(|text| ["1", "2", "5"].contains(&text.as_str())).collect();
    assert_eq!(of_publisher, ["1", "2", "5"]);
    assert_eq!(got.len(), 5);
}

#[test]
fn a_message_that_left_before_a_subscription_was_known_reaches_no_session_of_the_log() {
    let mut two = two();
    let (publisher, volatile) = (passing(&mut two, 0, 0), passing(&mut two, 1, 1));
    let subscriber = lasting(&mut two, 1, 0);
    two.subscribe_with(1, volatile, "t", plain(2));
    // The other shard does not know it yet, so SUBACK waits.
    two.send_subscribe(1, subscriber, "t", plain(2));
    send(&mut two, 0, publisher, b"x", 2, 7);
    two.carry(0, LaneKind::Data, usize::MAX);
    assert_eq!(texts(&mut two, 1, volatile), ["x"]);
    assert_eq!(two.0[1].take(subscriber), []);
    two.settle();
    assert!(matches!(two.0[1].take(subscriber)[..], [Got::SubAck(..)]));
}

#[test]
fn a_transfer_that_is_sent_again_meets_the_subscriptions_that_it_met() {
    let mut two = two();
    let (publisher, first) = (passing(&mut two, 0, 0), lasting(&mut two, 1, 0));
    let second = lasting(&mut two, 1, 1);
    two.subscribe_with(1, first, "t", plain(1));
    let filters = [TopicFilter::parse("t").expect("a good filter")];
    let filters = UnsubscribeFilters::from_slice(&filters);
    let (packet_id, user_properties) = (packet_id(3), UserProperties::default());
    two.0[1].send(first, &Packet::Unsubscribe(Unsubscribe { packet_id, user_properties, filters }));
    // The publisher's shard does not know that yet, and nobody is left.
    send(&mut two, 0, publisher, b"old", 1, 7);
    two.carry(0, LaneKind::Data, usize::MAX);
    two.send_subscribe(1, second, "t", plain(1));
    // The source does not get to know that it is settled.
    two.crash();
    let second = lasting(&mut two, 1, 1);
    let publisher = passing(&mut two, 0, 0);
    send(&mut two, 0, publisher, b"new", 1, 8);
    two.settle();
    assert_eq!(texts(&mut two, 1, second), ["new"]);
}

#[test]
fn a_transfer_of_which_nothing_was_recorded_is_taken_in_once_as_well() {
    let mut two = two();
    let (publisher, subscriber) = (passing(&mut two, 0, 0), lasting(&mut two, 1, 0));
    two.subscribe_with(1, subscriber, "t", plain(1));
    // The publisher's shard does not know yet that nobody wants more than QoS 0.
    two.send_subscribe(1, subscriber, "t", plain(0));
    send(&mut two, 0, publisher, b"x", 2, 7);
    two.carry(0, LaneKind::Data, usize::MAX);
    assert_eq!(texts(&mut two, 1, subscriber), ["x"]);
    two.crash();
    let subscriber = lasting(&mut two, 1, 0);
    assert_eq!(two.0[1].engine.counters().transfers_repeated, 1);
    assert!(texts(&mut two, 1, subscriber).is_empty());
}

#[test]
fn what_was_open_at_a_crash_is_sent_again_and_taken_in_once() {
    let mut two = two();
    let (publisher, subscriber) = (passing(&mut two, 0, 0), lasting(&mut two, 1, 0));
    two.subscribe_with(1, subscriber, "t", plain(2));
    two.0[1].hang_up(subscriber);
    send(&mut two, 0, publisher, b"arrived", 2, 7);
    two.carry(0, LaneKind::Data, usize::MAX);
    send(&mut two, 0, publisher, b"lost on its way", 2, 8);
    two.crash();
    assert_eq!(two.0[1].engine.counters().transfers_repeated, 1);
    let subscriber = lasting(&mut two, 1, 0);
    assert_eq!(texts(&mut two, 1, subscriber), ["arrived", "lost on its way"]);
    two.settle();
    assert_eq!(two.0[0].engine.audit().open_transfers, 0);
}

#[test]
fn a_failed_disk_drops_transfers_and_nothing_else() {
    let mut two = two();
    let (publisher, subscriber) = (passing(&mut two, 0, 0), lasting(&mut two, 1, 0));
    two.subscribe_with(1, subscriber, "t", plain(1));
    two.0[0].durable_at_once = false;
    for (payload, qos, id) in [(b"1", 1, 7), (b"2", 0, 0), (b"3", 1, 8)] {
        send(&mut two, 0, publisher, payload, qos, id);
    }
    two.0[0].raw_step(Event::LogRoom(LogRoom::Failed));
    send(&mut two, 0, publisher, b"4", 1, 9);
    send(&mut two, 0, publisher, b"5", 0, 0);
    two.carry(0, LaneKind::Data, usize::MAX);
    assert_eq!(texts(&mut two, 1, subscriber), ["2", "5"]);
    assert_eq!(two.0[0].take(publisher), []);
    drop(two.0[0].engine.audit());
}

#[test]
fn a_publisher_waits_while_too_much_is_open_towards_a_shard() {
    let mut two = two();
    let (publisher, subscriber) = (passing(&mut two, 0, 0), lasting(&mut two, 1, 0));
    two.subscribe_with(1, subscriber, "t", plain(1));
    let payload = vec![b'x'; 1024 * 1024];
    let mut id = 0;
    while two.0[0].unconsumed_bytes(publisher) == 0 {
        id += 1;
        assert!(id < 20, "it was never too much");
        send(&mut two, 0, publisher, &payload, 1, id);
    }
    assert!(id > 16);
    // Everybody else is served.
    let other = passing(&mut two, 0, 1);
    send(&mut two, 0, other, b"y", 0, 0);
    assert_eq!(two.0[0].unconsumed_bytes(other), 0);
    for _ in 0..4 {
        two.settle();
        two.0.iter_mut().for_each(crate::host::Shard::sync);
    }
    assert_eq!(two.0[0].unconsumed_bytes(publisher), 0);
    assert_eq!(two.0[0].take(publisher).len(), usize::from(id));
    assert_eq!(two.0[0].engine.audit().open_transfers, 0);
}

#[test]
fn what_waits_behind_a_transfer_is_not_overtaken_by_its_own_publisher_either() {
    let mut two = two();
    let (first, second) = (passing(&mut two, 0, 0), passing(&mut two, 0, 1));
    let (subscriber, volatile) = (lasting(&mut two, 1, 0), passing(&mut two, 1, 1));
    two.subscribe_with(1, subscriber, "t", plain(1));
    two.subscribe_with(1, volatile, "t", plain(0));
    two.0[0].durable_at_once = false;
    send(&mut two, 0, first, b"1", 1, 7);
    send(&mut two, 0, second, b"2", 1, 7);
    // It waits for the log behind the second transfer, longer than the first one.
    send(&mut two, 0, first, b"3", 0, 0);
    assert!(two.0[0].durable_oldest());
    send(&mut two, 0, first, b"4", 0, 0);
    // A retained message waits, and with it what its publisher sends next.
    let third = passing(&mut two, 0, 2);
    let kept = Packet::Publish(wire::Publish { retain: true, ..publish("t", b"5", 0, 0) });
    two.0[0].send(third, &kept);
    send(&mut two, 0, third, b"6", 0, 0);
    two.0[0].durable();
    two.carry(0, LaneKind::Data, usize::MAX);
    let got = texts(&mut two, 1, volatile);
    let of = |texts: &[&str]| -> Vec<String> {
        got.iter().filter(|text| texts.contains(&text.as_str())).cloned().collect()
    };
    assert_eq!(of(&["1", "3", "4"]), ["1", "3", "4"]);
    assert_eq!(of(&["5", "6"]), ["5", "6"]);
}
