//! Groups with a member whose session lasts and one whose session ends with its connection: a crash leaves the group what the second one
//! had not acknowledged, and QoS 2 goes to nobody else once it was sent.

use engine::{Batch, Event, Limits};
use wire::{AckKind, Packet};

use crate::client::{Client, Got, Hello, publish};
use crate::host::Shard;

const GROUP: &str = "$share/g/t";

/// A shard with a log, a member that is absent and whose session lasts, one that is there, and a publisher.
fn group() -> (Shard, Client, Client) {
    let mut shard = Shard::with_log(Limits::default(), 7, true);
    let lasting = shard.connect(&Hello::v5("lasting").resume());
    shard.subscribe(lasting, GROUP, 2);
    shard.hang_up(lasting);
    let volatile = shard.connect(&Hello::v5("volatile"));
    shard.subscribe(volatile, GROUP, 2);
    let publisher = shard.connect(&Hello::v5("publisher"));
    (shard, volatile, publisher)
}

fn send(shard: &mut Shard, publisher: Client, payload: &[u8], qos: u8, id: u16) {
    shard.send(publisher, &Packet::Publish(publish("t", payload, qos, id)));
}

/// The texts that the lasting member is sent after a crash that leaves so many batches of the log.
fn left_after(shard: &Shard, batch_count: usize) -> Vec<String> {
    let mut shard = shard.log.recovered(batch_count, shard.now().as_ms());
    let lasting = shard.connect(&Hello::v5("lasting").resume());
    let texts = shard.texts(lasting);
    // A message is passed on once.
    let mut again = shard.log.recovered(shard.log.batch_count(), shard.now().as_ms());
    let lasting = again.connect(&Hello::v5("lasting").resume());
    assert!(again.texts(lasting).is_empty());
    again.finish();
    shard.finish();
    texts
}

/// The same, of everything that was recorded.
fn left(shard: &Shard) -> Vec<String> {
    left_after(shard, shard.log.batch_count())
}

#[test]
fn qos_1_is_owed_to_the_group_until_it_is_acknowledged() {
    let (mut shard, volatile, publisher) = group();
    shard.durable_at_once = false;
    send(&mut shard, publisher, b"1", 1, 7);
    assert_eq!(shard.take(publisher), [], "it waits for the log");
    let [first] = &shard.messages(volatile)[..] else { panic!("it is sent at once") };
    shard.durable();
    assert_eq!(shard.take(publisher), [Got::Ack(AckKind::PubAck, 7, 0)]);
    send(&mut shard, publisher, b"2", 1, 8);
    let [second] = &shard.messages(volatile)[..] else { panic!("it is sent at once") };
    assert_eq!(left(&shard), ["1", "2"]);
    shard.ack(volatile, AckKind::PubAck, first.id);
    assert_eq!(left(&shard), ["2"]);
    shard.ack(volatile, AckKind::PubAck, second.id);
    assert!(left(&shard).is_empty());
    shard.durable();
    shard.finish();
}

#[test]
fn qos_2_is_sent_once_the_log_owes_it_to_nobody_else() {
    let (mut shard, volatile, publisher) = group();
    shard.durable_at_once = false;
    send(&mut shard, publisher, b"1", 2, 7);
    assert_eq!((shard.take(volatile), shard.take(publisher)), (vec![], vec![]));
    assert!(shard.durable_oldest());
    assert_eq!(shard.take(publisher), [Got::Ack(AckKind::PubRec, 7, 0)]);
    assert_eq!(shard.take(volatile), [], "the group is owed it as long as SETTLED is not durable");
    let owed_count = shard.log.batch_count() - 1;
    assert_eq!(left_after(&shard, owed_count), ["1"]);
    shard.raw_step(Event::Durable { written: Batch(u64::MAX >> 1), synced: Batch(0) });
    assert_eq!(shard.take(volatile), [], "nor if it is written and not synced");
    shard.durable();
    let [message] = &shard.messages(volatile)[..] else { panic!("nothing was sent") };
    assert!(left(&shard).is_empty());
    shard.ack(volatile, AckKind::PubRec, message.id);
    assert_eq!(shard.take(volatile), [Got::Ack(AckKind::PubRel, message.id, 0)], "PUBREL waits for nothing");
    shard.ack(volatile, AckKind::PubComp, message.id);
    shard.durable();
    shard.finish();
}

#[test]
fn qos_2_is_cleared_as_far_as_the_member_takes_more() {
    let (mut shard, volatile, publisher) = group();
    shard.hang_up(volatile);
    let mut hello = Hello::v5("narrow");
    hello.connect.properties.receive_maximum = core::num::NonZeroU16::new(2);
    let narrow = shard.connect(&hello);
    shard.subscribe(narrow, GROUP, 2);
    for (payload, id) in [(b"1", 7), (b"2", 8), (b"3", 9), (b"4", 10)] {
        send(&mut shard, publisher, payload, 2, id);
    }
    let sent = shard.messages(narrow);
    assert_eq!(sent.len(), 2);
    assert_eq!(left(&shard), ["3", "4"]);
    shard.ack(narrow, AckKind::PubRec, sent[0].id);
    shard.ack(narrow, AckKind::PubComp, sent[0].id);
    assert_eq!(left(&shard), ["4"]);
    // A message that was not sent goes to the other member while the process runs, too.
    shard.hang_up(narrow);
    assert_eq!(left(&shard), ["4"]);
    shard.finish();
}

#[test]
fn a_checkpoint_has_what_is_owed() {
    let (mut shard, volatile, publisher) = group();
    send(&mut shard, publisher, b"1", 1, 7);
    send(&mut shard, publisher, b"2", 1, 8);
    let sent = shard.messages(volatile);
    // Slices are taken between batches, until a checkpoint has begun and ended behind all of that.
    for _ in 0..20 {
        let other = shard.connect(&Hello::v3("other").resume());
        shard.hang_up(other);
    }
    assert_eq!(left(&shard), ["1", "2"]);
    shard.ack(volatile, AckKind::PubAck, sent[0].id);
    assert_eq!(left(&shard), ["2"]);
    shard.finish();
}

#[test]
fn a_group_without_a_lasting_member_is_owed_nothing() {
    let mut shard = Shard::with_log(Limits::default(), 7, true);
    let volatile = shard.connect(&Hello::v5("volatile"));
    shard.subscribe(volatile, GROUP, 2);
    let publisher = shard.connect(&Hello::v5("publisher"));
    shard.durable_at_once = false;
    for qos in [1, 2] {
        shard.publish(publisher, "t", b"x", qos);
    }
    assert_eq!(shard.texts(volatile), ["x", "x"]);
    assert_eq!(shard.log.records(shard.log.batch_count()), []);
    shard.finish();
}
