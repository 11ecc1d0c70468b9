//! A ceiling that is no outage: readers that never read, and a store of retained messages that is full.

use std::thread;
use std::time::Duration;

use crate::Scale;
use crate::figure::Figure;
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::received::Received;
use crate::memory::{Measured, stalled_readers};
use crate::meter::{mib, ms};
use crate::neighbour::{Neighbour, percentile};

const MB: u64 = 1_000_000;

/// 300 readers that never read, under a ceiling of 100 MB: they lose what waits for them, and nobody else anything.
pub(crate) fn shed_readers(scale: Scale) -> Vec<Figure> {
    let mut broker = Measured::start("memory_bytes_max = 100000000\n");
    let quiet = Neighbour::measure(broker.address(), "quiet", Duration::from_secs(1));
    let readers = stalled_readers(&broker, 300, "flood");
    let mut flood = Flood::start(&broker);
    let beside = Neighbour::start(broker.address(), "beside");
    let rounds = scale.pick(6_000, 20_000);
    flood.run(&broker, rounds);
    // Readers that take nothing for ten seconds are closed, once memory is short again.
    thread::sleep(Duration::from_secs(10));
    flood.run(&broker, rounds / 2);
    let beside = beside.stop();
    let dropped = broker.sys("messages/dropped");
    let clients = broker.sys("clients");
    let warnings = broker.warnings();
    let named = warnings.iter().filter(|line| line.contains("largest=\"reader-")).count();
    drop(readers);
    vec![
        Figure::told("messages for each reader", count(rounds + rounds / 2), ""),
        Figure::at_most("largest growth of the process", mib(flood.growth), "MiB", mib(125 * MB)),
        Figure::at_most("refused publishes to an unrelated topic", count(flood.refused), "", 0.0),
        Figure::at_least("such publishes", count(flood.published), "", 90.0),
        Figure::at_least("messages of QoS 0 taken back", mib(dropped["memory"] << 20), "", 1.0),
        // Only as many as it takes until memory is not short any more.
        Figure::at_least("readers closed", mib(clients["closed/slow_reader"] << 20), "", 10.0),
        Figure::at_least("warnings that name a reader", count(named), "", 1.0),
        Figure::at_most("warnings about memory, of two marks both ways", count(warnings.len()), "", 8.0),
        Figure::told("p99 of a quiet neighbour", ms(percentile(&quiet, 99)), "ms"),
        Figure::told("p99 beside the readers", ms(percentile(&beside, 99)), "ms"),
        Figure::at_least("messages of the neighbour", count(beside.len()), "", 100.0),
    ]
}

/// A publisher to the readers, and beside it one with QoS 1 to somebody who reads.
struct Flood {
    publisher: Peer,
    keeper: Peer,
    growth: u64,
    published: usize,
    refused: usize,
}

impl Flood {
    fn start(broker: &Measured) -> Self {
        let mut keeper = broker.connect("keeper");
        keeper.subscribe("kept", 1);
        Self { publisher: broker.connect("publisher"), keeper, growth: 0, published: 0, refused: 0 }
    }

    fn run(&mut self, broker: &Measured, rounds: usize) {
        let packet = Publish::new("flood", 0, &[b'x'; 1_000]).encode(Version::V5);
        for round in 0..rounds {
            self.publisher.send(&packet);
            if round % 100 == 0 {
                self.publisher.ping();
                self.growth = self.growth.max(broker.growth());
                self.published += 1;
                let reason = self.publisher.publish(&Publish::new("kept", 1, b"x"));
                if reason == 0 {
                    assert_eq!(self.keeper.next_message().text(), "x");
                } else {
                    self.refused += 1;
                }
            }
        }
    }
}

/// A store of retained messages at the ceiling: one can be deleted, nobody hangs, and there is room afterwards.
pub(crate) fn full_store(scale: Scale) -> Vec<Figure> {
    let ceiling = scale.pick(30, 100) * MB;
    let broker = Measured::start(&format!("memory_bytes_max = {ceiling}\n"));
    let mut keeper = broker.connect("keeper");
    let payload = [b'x'; 10_000];
    let retain = |peer: &mut Peer, topic: &str| peer.publish(&Publish::new(topic, 1, &payload).retained());
    let taken =
        (0..100_000).take_while(|number| retain(&mut keeper, &format!("kept/{number}")) < 0x80).count();
    let growth = mib(broker.growth());

    // It cannot be told, so its connection is closed, and it does not hang.
    let old_client = || Peer::connect(broker.address(), &Connect::new(Version::V3_1_1, "old"));
    let mut old = old_client();
    old.send(&Publish::new("kept/more", 1, &payload).retained().with_packet_id(1).encode(Version::V3_1_1));
    old.send(b"\xC0\x00");
    let answer = old.next_or_close();
    let is_answered = answer.is_none() || matches!(answer, Some(Received::PingResp));

    // Neither stored nor queued.
    let mut old = old_client();
    let mut reader = broker.connect("reader");
    let is_subscribed = reader.subscribe("live", 0) == 0;
    let is_served = old.publish(&Publish::new("live", 1, b"x")) == 0 && reader.next_publish().text() == "x";
    old.ping();
    let is_unmatched_served = keeper.publish(&Publish::new("nobody", 1, b"x")) < 0x80;
    let is_deleted = old.publish(&Publish::new("kept/0", 1, b"").retained()) == 0;
    old.publish(&Publish::new("kept/1", 1, b"").retained());
    let is_taken_again = retain(&mut keeper, "kept/new") < 0x80;
    let yes = |is: bool| f64::from(u8::from(is));
    vec![
        Figure::told("ceiling", mib(ceiling), "MiB"),
        Figure::told("messages of 10 KB taken", count(taken), ""),
        Figure::at_most("growth of the process over the ceiling", growth / mib(ceiling), "", 1.25),
        Figure::at_least(
            "a retained publish of 3.1.1 is answered or closed, and no PINGREQ hangs",
            yes(is_answered),
            "",
            1.0,
        ),
        Figure::at_least("a new client subscribes", yes(is_subscribed), "", 1.0),
        Figure::at_least("a publish that is neither stored nor queued is delivered", yes(is_served), "", 1.0),
        Figure::at_least("and one that nobody wants is acknowledged", yes(is_unmatched_served), "", 1.0),
        Figure::at_least("a deletion is taken", yes(is_deleted), "", 1.0),
        Figure::at_least("and a new message is retained after it", yes(is_taken_again), "", 1.0),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn count(number: usize) -> f64 {
    number as f64
}
