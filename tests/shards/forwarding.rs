//! Messages between shards: in order, exactly once, to their subscribers and to no other shard.

use rustix::process::Signal;

use crate::cluster::{await_shards, client_at_home, peer_at_home, shards, start, sum};
use crate::harness::broker::Io;
use crate::harness::packet::{Connect, Properties, Publish, Version, property};
use crate::harness::peer::Peer;
use crate::harness::time::PATIENCE;

const PER_QOS: usize = 100;

pub(crate) fn every_qos_is_forwarded_in_order_and_once(io: Io) {
    let mut broker = start(io, 3, &[]);
    let (mut forwarded, mut sent) = (0, 0);
    for version in Version::BOTH {
        let mut publisher = peer_at_home(&broker, 0, version, "publisher");
        let mut subscribers = [1, 2].map(|shard| peer_at_home(&broker, shard, version, "subscriber"));
        for (subscriber, filter) in subscribers.iter_mut().zip(["a/b", "a/+"]) {
            subscriber.subscribe(filter, 2);
        }
        for qos in 0..3 {
            for number in 0..PER_QOS {
                let payload = format!("{qos} {number}");
                assert_eq!(publisher.publish(&Publish::new("a/b", qos, payload.as_bytes())), 0);
            }
        }
        for subscriber in &mut subscribers {
            for qos in 0..3 {
                for number in 0..PER_QOS {
                    let message = subscriber.next_message();
                    assert_eq!((message.text(), message.qos), (format!("{qos} {number}"), qos));
                }
            }
            subscriber.ping();
            assert!(subscriber.waiting().is_empty(), "a message came twice: {:?}", subscriber.waiting());
        }
        sent += 3 * PER_QOS as u64;
        forwarded += 2 * 3 * PER_QOS as u64;
    }
    let shards = await_shards(&mut broker, 3, |shards| sum(shards, "crossed") >= forwarded);
    assert_eq!(
        shards[0].count("crossed"),
        forwarded,
        "each message is forwarded once to each shard that wants it"
    );
    assert_eq!(shards[0].count("received"), sent);
    assert_eq!(sum(&shards, "crossed_for_nothing"), 0);
    broker.stop();
}

pub(crate) fn an_oversized_message_is_forwarded_in_order(io: Io) {
    let mut broker = start(io, 2, &[]);
    let mut publisher = peer_at_home(&broker, 0, Version::V5, "publisher");
    let mut subscriber = peer_at_home(&broker, 1, Version::V5, "subscriber");
    subscriber.subscribe("#", 1);
    let sizes = [10, 100_000, 20, 1_048_576, 8_192, 30, 8_150, 40];
    for size in sizes {
        publisher.publish(&Publish::new("large", 1, &vec![b'x'; size]));
    }
    for size in sizes {
        assert_eq!(subscriber.next_message().payload.len(), size);
    }
    let forwarded = sizes.len() as u64;
    await_shards(&mut broker, 2, |shards| shards[0].count("crossed") == forwarded);
    drop((publisher, subscriber));
    broker.stop();
}

pub(crate) fn nothing_is_forwarded_without_a_remote_subscriber(io: Io) {
    let mut broker = start(io, 2, &[]);
    let mut publisher = peer_at_home(&broker, 0, Version::V5, "publisher");
    let mut local = peer_at_home(&broker, 0, Version::V5, "local");
    let mut remote = peer_at_home(&broker, 1, Version::V5, "remote");
    local.subscribe("a/b", 1);
    for filter in ["a/c", "b/#", "+/x", "$share/group/a/d"] {
        remote.subscribe(filter, 1);
    }
    let publish = |publisher: &mut Peer, local: &mut Peer| {
        for _ in 0..20 {
            publisher.publish(&Publish::new("a/b", 1, b"local"));
            assert_eq!(local.next_message().text(), "local");
        }
        // When the next packet is answered, the turn that processed the message has ended.
        publisher.ping();
    };
    publish(&mut publisher, &mut local);
    assert_eq!(sum(&shards(&mut broker, 2), "crossed"), 0, "nobody there wants it");

    remote.subscribe("a/b", 1);
    publish(&mut publisher, &mut local);
    for _ in 0..20 {
        remote.next_message();
    }
    assert_eq!(sum(&await_shards(&mut broker, 2, |s| sum(s, "crossed") >= 20), "crossed"), 20);

    remote.unsubscribe(&["a/b"]);
    // No packet waits for the withdrawal of the interest. Once it is known, nothing is forwarded any more.
    let deadline_count = 1_000;
    let mut before = 20;
    let quiet = (0..deadline_count).any(|_| {
        publish(&mut publisher, &mut local);
        let after = sum(&shards(&mut broker, 2), "crossed");
        std::mem::replace(&mut before, after) == after
    });
    assert!(quiet, "messages were still forwarded after UNSUBSCRIBE");
    remote.ping();
    assert!(remote.waiting().is_empty());
    drop((publisher, local, remote));
    broker.stop();
}

pub(crate) fn retained_messages_are_found_from_every_shard(io: Io) {
    const TOPICS: usize = 24;
    let mut broker = start(io, 4, &[]);
    let mut publisher = peer_at_home(&broker, 0, Version::V5, "publisher");
    let topics: Vec<String> = (0..TOPICS).map(|number| format!("kept/{number:02}")).collect();
    for topic in &topics {
        publisher.publish(&Publish::new(topic, 1, b"old").retained());
    }
    for topic in &topics {
        publisher.publish(&Publish::new(topic, 1, topic.as_bytes()).retained());
    }
    let shards = await_shards(&mut broker, 4, |shards| sum(shards, "crossed") > 0);
    // Three of four homes are on other shards, so at least one of 24 is.
    assert!(shards[0].count("crossed") < 2 * TOPICS as u64, "the home of a topic alone keeps it: {shards:?}");
    for shard in 0..4 {
        let mut wildcard = peer_at_home(&broker, shard, Version::V5, "wildcard");
        wildcard.subscribe("kept/#", 1);
        let mut found: Vec<String> = topics
            .iter()
            .map(|_| wildcard.next_message())
            .map(|message| {
                assert!(message.retain);
                assert_eq!(message.text(), message.topic, "an older message was kept");
                message.topic
            })
            .collect();
        found.sort();
        assert_eq!(found, topics);
        let mut exact = peer_at_home(&broker, shard, Version::V5, "exact");
        for topic in &topics {
            exact.subscribe(topic, 0);
            assert_eq!(exact.next_message().topic, *topic);
        }
        wildcard.disconnect();
        exact.disconnect();
    }
    for topic in &topics {
        publisher.publish(&Publish::new(topic, 1, b"").retained());
    }
    // A cleared message is cleared at its home in the order of the lane. A marker that follows on the same lane shows
    // when.
    for shard in 0..4 {
        let mut late = peer_at_home(&broker, shard, Version::V5, "late");
        late.subscribe("mark", 1);
        publisher.publish(&Publish::new("mark", 1, b"mark"));
        late.next_message();
        late.subscribe("kept/#", 1);
        late.subscribe("kept/00", 1);
        publisher.publish(&Publish::new("kept/none", 1, b"live"));
        let message = late.next_message();
        assert!(message.text() == "live" && !message.retain, "it was cleared: {message:?}");
        late.disconnect();
    }
    publisher.disconnect();
    broker.stop();
}

pub(crate) fn a_shared_subscription_spreads_over_all_shards(io: Io) {
    const MESSAGES: usize = 400;
    let mut broker = start(io, 4, &[]);
    let mut publisher = peer_at_home(&broker, 0, Version::V5, "publisher");
    let mut members: Vec<Peer> = (0..4)
        .map(|shard| {
            let mut member = peer_at_home(&broker, shard, Version::V5, "member");
            member.subscribe("$share/group/work/+", 1);
            member
        })
        .collect();
    for number in 0..MESSAGES {
        publisher.publish(&Publish::new("work/item", 1, number.to_string().as_bytes()));
    }
    // Each member receives the end marker by its own subscription, on the lane of the shared messages.
    let mut seen = vec![0; MESSAGES];
    for (shard, member) in members.iter_mut().enumerate() {
        member.subscribe("end", 1);
        publisher.publish(&Publish::new("end", 1, b"end"));
        let mut count = 0;
        loop {
            let message = member.next_message();
            if message.topic == "end" {
                break;
            }
            seen[message.text().parse::<usize>().expect("a number was published")] += 1;
            count += 1;
        }
        assert!((50..=150).contains(&count), "the member on shard {shard} had {count} of {MESSAGES}");
        member.unsubscribe(&["end"]);
    }
    assert!(seen.iter().all(|&times| times == 1), "each message goes to one member: {seen:?}");
    let shards = await_shards(&mut broker, 4, |shards| sum(shards, "crossed") >= 200);
    assert_eq!(sum(&shards, "crossed_for_nothing"), 0);
    drop((publisher, members));
    broker.stop();
}

/// The first member receives as many messages as it accepts and acknowledges none; the second lives on the other
/// shard.
pub(crate) fn the_queue_of_a_departed_group_member_is_reassigned_to_another_shard(io: Io) {
    for qos in [1, 2] {
        let mut broker = start(io, 2, &[]);
        let mut publisher = peer_at_home(&broker, 0, Version::V5, "publisher");
        let client_id = client_at_home(&broker, 0, "leaving");
        let connect = Connect {
            properties: Properties::new().two(property::RECEIVE_MAXIMUM, 3),
            ..Connect::new(Version::V5, &client_id)
        };
        let mut leaving = Peer::connect(broker.address(), &connect);
        leaving.subscribe("$share/group/work", qos);
        for number in 0..10 {
            publisher.publish(&Publish::new("work", qos, number.to_string().as_bytes()));
        }
        let sent: Vec<String> = (0..3).map(|_| leaving.next_publish().text()).collect();
        assert_eq!(sent, ["0", "1", "2"]);
        let mut staying = peer_at_home(&broker, 1, Version::V5, "staying");
        staying.subscribe("$share/group/work", qos);
        leaving.vanish();
        // QoS 2 messages that were sent are not given to another member [MQTT-4.8.2-5].
        for number in if qos == 2 { 3 } else { 0 }..10 {
            let message = staying.next_message();
            assert_eq!((message.text(), message.qos), (number.to_string(), qos));
        }
        staying.ping();
        assert!(staying.waiting().is_empty(), "one came twice: {:?}", staying.waiting());
        let forwarded = if qos == 2 { 7 } else { 10 };
        await_shards(&mut broker, 2, |shards| shards[0].count("crossed") == forwarded);
        drop((publisher, staying));
        broker.stop();
    }
}

/// Shards used to stop one by one. The shard of the subscriber disconnected its clients while messages that the shard
/// of the publisher had acknowledged were still in flight.
pub(crate) fn acknowledged_messages_are_forwarded_before_the_end(io: Io) {
    for _ in 0..10 {
        let mut broker = start(io, 3, &[]);
        let mut publisher = peer_at_home(&broker, 0, Version::V5, "publisher");
        let mut subscribers = [1, 2].map(|shard| peer_at_home(&broker, shard, Version::V5, "subscriber"));
        for subscriber in &mut subscribers {
            subscriber.subscribe("last", 0);
        }
        let mut burst = Vec::new();
        for number in 1..=500_u16 {
            let payload = number.to_string();
            burst.extend(
                Publish::new("last", 1, payload.as_bytes()).with_packet_id(number).encode(Version::V5),
            );
        }
        publisher.send(&burst);
        assert_eq!(publisher.complete(1, 500), 0);
        broker.process().signal(Signal::TERM);
        for subscriber in &mut subscribers {
            for number in 1..=500_u16 {
                assert_eq!(subscriber.next_publish().text(), number.to_string());
            }
            assert_eq!(subscriber.await_close(), Some(0x8B));
        }
        drop((publisher, subscribers));
        assert!(broker.process().wait_for_exit(PATIENCE).success());
    }
}
