//! The limit on connections: one more is refused with a reason code, and the other clients are not affected.

use crate::harness::broker::{Broker, Io, Setup};
use crate::harness::packet::{Connect, Properties, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::time::{Deadline, PATIENCE};

#[test]
fn one_connection_too_many_is_refused_with_a_reason() {
    for io in Io::EACH {
        let broker =
            Broker::start_with(&Setup { io, flags: &["--max-connections", "3"], ..Setup::default() });
        let mut admitted: Vec<Peer> = (0..3)
            .map(|number| {
                Peer::connect(broker.address(), &Connect::new(Version::V5, &format!("peer{number}")))
            })
            .collect();
        for round in 0..10 {
            let id = format!("late{round}");
            let (mut peer, reason) = Peer::try_connect(broker.address(), &Connect::new(Version::V5, &id));
            assert_eq!(reason, 0x97, "version 5 receives Quota exceeded");
            peer.await_close();
            let (mut peer, reason) = Peer::try_connect(broker.address(), &Connect::new(Version::V3_1_1, &id));
            assert_eq!(reason, 0x03, "3.1.1 receives Server unavailable");
            peer.await_close();
        }
        for peer in &mut admitted {
            peer.ping();
        }
        // A permit that is released goes to the next connection.
        admitted.remove(0).disconnect();
        admitted.push(connect_when_free(&broker));
        for peer in admitted {
            peer.disconnect();
        }
        broker.stop();
    }
}

/// Retained messages and partial packets take what is left, and nothing of what other kinds have reserved.
#[test]
fn past_the_ceiling_of_memory_what_takes_more_is_refused_with_a_reason() {
    for io in Io::EACH {
        let config = "memory_bytes_max = 16000000\npacket_bytes_max = 16000000\n";
        // The `$SYS` messages take memory as well.
        let flags = &["--shards", "1", "--sys-interval-s", "0"];
        let broker = Broker::start_with(&Setup { io, flags, config });
        let half = Publish::new("t", 0, &vec![0; 15_500_000]).encode(Version::V5);
        let mut greedy = Peer::connect(broker.address(), &Connect::new(Version::V5, "greedy"));
        greedy.send_ignoring_errors(&half[..15_000_000]);
        assert_eq!(greedy.await_close(), Some(0x97), "half a packet of more than there is");
        let mut keeper = Peer::connect(broker.address(), &Connect::new(Version::V5, "keeper"));
        let payload = vec![b'x'; 100_000];
        let refused_at = (0..200).find(|number| {
            let topic = format!("kept/{number}");
            keeper.publish(&Publish::new(&topic, 1, &payload).retained()) == 0x97
        });
        assert!(refused_at.is_some_and(|taken| (110..130).contains(&taken)), "{refused_at:?}: 75 %");
        keeper.subscribe("t", 1);
        assert_eq!(keeper.publish(&Publish::new("t", 1, b"x")), 0, "a message on its way");
        let mortal = Connect::new(Version::V5, "mortal").with_will("w", b"x", Properties::new());
        Peer::connect(broker.address(), &mortal).disconnect();
        // A version without reason codes may delete all the same, and its PINGREQ is answered.
        let mut old = Peer::connect(broker.address(), &Connect::new(Version::V3_1_1, "old"));
        old.publish(&Publish::new("kept/0", 1, b"").retained());
        old.publish(&Publish::new("kept/1", 1, b"").retained());
        old.ping();
        assert_eq!(keeper.publish(&Publish::new("kept/new", 1, &payload).retained()), 0x10);
        old.disconnect();
        keeper.disconnect();
        broker.stop();
    }
}

/// A peer that was disconnected and never closes its side must not keep its permit.
#[test]
fn a_client_that_ignores_the_end_does_not_keep_its_permit() {
    for io in Io::EACH {
        let (flags, config) = (["--max-connections", "1"], "connect_timeout_s = 1\n");
        let broker = Broker::start_with(&Setup { io, flags: &flags, config });
        let mut mute = Peer::open(broker.address(), Version::V5);
        mute.await_close();
        connect_when_free(&broker).disconnect();
        mute.vanish();
        broker.stop();
    }
}

/// A client that leaves sees the end before its permit is released, so the next CONNECT can be refused for a moment.
fn connect_when_free(broker: &Broker) -> Peer {
    let deadline = Deadline::after(PATIENCE);
    loop {
        let (mut peer, reason) = Peer::try_connect(broker.address(), &Connect::new(Version::V5, "next"));
        if reason == 0 {
            return peer;
        }
        assert_eq!(reason, 0x97);
        peer.await_close();
        assert!(deadline.remaining().is_some(), "a place that is free is not given to anybody");
    }
}

/// Filters with `+` at ten levels, and a client that publishes 200 messages which visit hundreds of nodes of the topic tree each.
#[test]
fn a_client_whose_publishes_are_dear_to_match_is_named_at_most_once_a_second() {
    for io in Io::EACH {
        let flags = &["--shards", "1", "--sys-interval-s", "0"];
        let mut broker = Broker::start_with(&Setup { io, flags, ..Setup::default() });
        let mut subscriber = Peer::connect(broker.address(), &Connect::new(Version::V5, "subscriber"));
        let level = |number: u32, bit: u32| if number >> bit & 1 == 0 { "a" } else { "+" };
        let filters: Vec<String> = (1..1 << 9)
            .map(|number| (0..9).map(|bit| level(number, bit)).collect::<Vec<_>>().join("/") + "/x")
            .collect();
        let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 0)).collect();
        assert!(subscriber.subscribe_with(&filters, &Properties::new()).iter().all(|&code| code == 0));
        let mark = broker.process().mark();
        let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "dear\u{1b}[31m"));
        for number in 0..200 {
            let topic = format!("{}{number}\"", "a/".repeat(9));
            publisher.send(&Publish::new(&topic, 0, b"x").encode(Version::V5));
        }
        publisher.ping();
        let line = broker
            .process()
            .wait_for(mark, "the name of the client", |line| line.contains("visit many nodes"));
        for part in
            [" WARN ", "client=\"dear\\u{1b}[31m\"", "topic=\"a/a/a/a/a/a/a/a/a/0\\\"\"", "nodes_visited="]
        {
            assert!(line.contains(part), "{part}: {line}");
        }
        publisher.ping();
        let (finished, _directory) = broker.stop();
        let count = finished.output.matches("visit many nodes").count();
        assert!(count <= 2, "{count} lines");
    }
}
