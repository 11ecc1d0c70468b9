//! Back-pressure: a subscriber that does not read, and shards that send each other more than a lane holds.

use std::thread;
use std::time::Duration;

use crate::cluster::{await_shards, peer_at_home, start, sum};
use crate::harness::broker::Io;
use crate::harness::machine::print_notice;
use crate::harness::packet::{Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::time::now;

/// Maximum latency of 99 of 100 messages while other clients stall. It is generous, because all tests share the
/// machine.
const P99_MAX: Duration = Duration::from_millis(250);

pub(crate) fn a_stalled_subscriber_does_not_slow_the_others(io: Io) {
    const ROUND_TRIPS: usize = 400;
    const FLOOD: usize = 8_000;
    let mut broker = start(io, 2, &[]);
    // Its outbox and its queue fill up with QoS 0 and QoS 1, and it reads nothing.
    let mut stalled = peer_at_home(&broker, 1, Version::V5, "stalled");
    stalled.subscribe("flood/#", 1);
    let mut flooder = peer_at_home(&broker, 0, Version::V5, "flooder");
    let mut asker = peer_at_home(&broker, 0, Version::V5, "asker");
    let mut answerer = peer_at_home(&broker, 1, Version::V3_1_1, "answerer");
    asker.subscribe("answer", 1);
    answerer.subscribe("question", 1);

    let flood = thread::spawn(move || {
        let payload = vec![b'x'; 2_048];
        for number in 0..FLOOD {
            if number % 16 == 0 {
                assert_eq!(flooder.publish(&Publish::new("flood/1", 1, &payload)), 0);
            } else {
                flooder.send(&Publish::new("flood/0", 0, &payload).encode(Version::V5));
            }
        }
        flooder.ping();
        flooder
    });
    let mut times: Vec<Duration> = (0..ROUND_TRIPS)
        .map(|_| {
            let begun = now();
            asker.publish(&Publish::new("question", 1, b"?"));
            answerer.next_message();
            answerer.publish(&Publish::new("answer", 1, b"!"));
            asker.next_message();
            now() - begun
        })
        .collect();
    let flooder = flood.join().expect("the flooder was held up");
    times.sort();
    let p99 = times[ROUND_TRIPS * 99 / 100];
    assert!(p99 <= P99_MAX, "p99 of a question and its answer is {p99:?}");
    // Requests and the flood go one way, answers the other.
    let there = (ROUND_TRIPS + FLOOD) as u64;
    let shards = await_shards(&mut broker, 2, |shards| shards[0].count("crossed") == there);
    assert_eq!(shards[1].count("crossed"), ROUND_TRIPS as u64);
    print_notice(&format!("a question and its answer beside a stalled subscriber ({io:?}): p99 {p99:?}"));
    drop((stalled, flooder, asker, answerer));
    broker.stop();
}

/// More messages than both lanes between two shards hold, at once and in both directions.
pub(crate) fn two_shards_that_flood_each_other_lose_nothing(io: Io) {
    const MESSAGES: usize = 3_000;
    let mut broker = start(io, 2, &["--outbox-bytes-max", "67108864"]);
    let flood = |own: u16| {
        let topic = ["to/1", "to/0"][usize::from(own)];
        let mut subscriber = peer_at_home(&broker, own, Version::V5, "subscriber");
        subscriber.subscribe(["to/0", "to/1"][usize::from(own)], 2);
        let mut publisher = peer_at_home(&broker, own, Version::V5, "publisher");
        let publish = move || {
            let mut window = std::collections::VecDeque::new();
            for number in 0..MESSAGES {
                let id = u16::try_from(number % 1_000 + 1).expect("at most 1000");
                // As many messages in flight as the broker permits a client, so that the lanes fill.
                if window.len() == 1_000 {
                    let id = window.pop_front().expect("it is full");
                    assert_eq!(publisher.complete(1, id), 0);
                }
                let payload = [number.to_string().as_bytes(), &[b' '; 2_000]].concat();
                publisher.send(&Publish::new(topic, 1, &payload).with_packet_id(id).encode(Version::V5));
                window.push_back(id);
            }
            for id in window {
                assert_eq!(publisher.complete(1, id), 0);
            }
        };
        (subscriber, publish)
    };
    let receive = |mut subscriber: Peer| {
        move || {
            for number in 0..MESSAGES {
                let text = subscriber.next_message().text();
                assert_eq!(text.trim_end(), number.to_string());
            }
            subscriber.ping();
            assert!(subscriber.waiting().is_empty());
        }
    };
    let [(first, publish_first), (second, publish_second)] = [flood(0), flood(1)];
    let threads = [
        thread::spawn(publish_first),
        thread::spawn(publish_second),
        thread::spawn(receive(first)),
        thread::spawn(receive(second)),
    ];
    for thread in threads {
        thread.join().expect("messages were lost, or nobody was answered");
    }
    let shards = await_shards(&mut broker, 2, |shards| sum(shards, "crossed") == 2 * MESSAGES as u64);
    assert_eq!(sum(&shards, "crossed_for_nothing"), 0);
    broker.stop();
}
