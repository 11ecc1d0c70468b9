//! Topic filters that were made to be dear: to match, and to keep.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::Scale;
use crate::figure::Figure;
use crate::harness::broker::{Broker, Setup};
use crate::harness::packet::{Connect, Properties, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::time::now;
use crate::meter::{cpu_time, ms, resident_bytes};
use crate::neighbour::{Neighbour, percentile};

/// Levels that are `a` or `+`.
const BRANCHING_LEVELS: u32 = 14;
const HOSTILE_FILTERS: u32 = 9_000;
/// Filters of one SUBSCRIBE.
const SUBSCRIBE_FILTERS: usize = 250;

/// `{a,+}^14/a/a/a/x`.
fn branching(number: u32) -> String {
    let levels: Vec<&str> =
        (0..BRANCHING_LEVELS).map(|bit| if number >> bit & 1 == 0 { "a" } else { "+" }).collect();
    format!("{}/a/a/a/x", levels.join("/"))
}

/// A topic that matches none of these filters and that no cache knows.
fn unmatched(number: u32) -> String {
    format!("{}/a/a/a/{number}", ["a"; BRANCHING_LEVELS as usize].join("/"))
}

fn subscribe_all(peer: &mut Peer, filters: &[String]) -> Vec<u8> {
    let packets = filters.chunks(SUBSCRIBE_FILTERS);
    let codes = packets.flat_map(|chunk| {
        let filters: Vec<(&str, u8)> = chunk.iter().map(|filter| (filter.as_str(), 0)).collect();
        peer.subscribe_with(&filters, &Properties::new())
    });
    codes.collect()
}

/// One client subscribes so that each publish visits as much of the topic tree as possible, and another one publishes.
pub(crate) fn hostile_filters(scale: Scale) -> Vec<Figure> {
    let flags = ["--shards", "1", "--stats-interval", "0"];
    let mut broker = Broker::start_with(&Setup { flags: &flags, ..Setup::default() });
    let (process, address) = (broker.process().id(), broker.address());
    let time = Duration::from_secs(scale.pick(2, 10));
    let quiet = Neighbour::measure(address, "quiet", time);

    let mut hostile = Peer::connect(address, &Connect::new(Version::V5, "hostile"));
    let filters: Vec<String> = (1..=HOSTILE_FILTERS).map(branching).collect();
    let codes = subscribe_all(&mut hostile, &filters);
    assert_eq!(codes.len(), filters.len());
    assert!(codes.iter().all(|&code| code == 0 || code == 0x97), "each is granted or refused with 0x97");
    let granted_count = codes.into_iter().filter(|&code| code == 0).count();

    let mut publisher = Peer::connect(address, &Connect::new(Version::V5, "publisher"));
    let mut times: Vec<Duration> = (0..scale.pick(100, 1_000))
        .map(|number| {
            let topic = unmatched(number);
            let before = cpu_time(process);
            publisher.publish(&Publish::new(&topic, 1, b"x"));
            cpu_time(process).saturating_sub(before)
        })
        .collect();
    times.sort_unstable();

    let mut kept = keep_alive_clients(address);
    let neighbour = Neighbour::start(address, "busy");
    let sent_count = publish_steadily(&mut publisher, time, &mut kept);
    let busy = neighbour.stop();
    for peer in &mut kept {
        peer.ping();
    }
    let (quiet_p99, busy_p99) = (percentile(&quiet, 99), percentile(&busy, 99));
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let [granted, sent_rate] = [granted_count as f64, f64::from(sent_count) / time.as_secs_f64()];
    vec![
        Figure::told("filters granted, of 9,000", granted, ""),
        Figure::told("CPU time of a publish that matches nothing, median", ms(percentile(&times, 50)), "ms"),
        Figure::at_most("CPU time of the worst", ms(percentile(&times, 100)), "ms", 1.0),
        Figure::at_least("hostile publishes a second", sent_rate, "", 950.0),
        Figure::told("p99 of a quiet neighbour", ms(quiet_p99), "ms"),
        Figure::told("p99 beside the hostile publishes", ms(busy_p99), "ms"),
        Figure::at_most(
            "p99 beside them over a quiet one, half a millisecond allowed for noise",
            ms(busy_p99) / (ms(quiet_p99) + 0.5),
            "",
            2.0,
        ),
    ]
}

/// The clients of the report: each has a keep alive of 2 seconds, and all answer at the end.
fn keep_alive_clients(address: SocketAddr) -> Vec<Peer> {
    let clients = (0..33).map(|number| {
        let name = format!("kept-{number}");
        Peer::connect(address, &Connect { keep_alive_s: 2, ..Connect::new(Version::V5, &name) })
    });
    clients.collect()
}

/// Publishes 1,000 topics a second, and lets one of the others ping every 20 ms. Returns how many it published.
fn publish_steadily(publisher: &mut Peer, time: Duration, kept: &mut [Peer]) -> u32 {
    let start = now();
    let mut sent_count = 0;
    while now() - start < time {
        let due = start + Duration::from_millis(u64::from(sent_count));
        if let Some(pause) = due.checked_duration_since(now()) {
            thread::sleep(pause);
        }
        let packet = Publish::new(&unmatched(1_000_000 + sent_count), 0, b"x").encode(Version::V5);
        publisher.send(&packet);
        sent_count += 1;
        if sent_count % 20 == 0 {
            let turn = sent_count as usize / 20 % kept.len();
            kept[turn].ping();
        }
    }
    // The broker has taken all of them.
    publisher.ping();
    sent_count
}

/// Filters of 127 levels, which differ at the first, in the middle or at the last.
pub(crate) fn deep_filters(scale: Scale) -> Vec<Figure> {
    let flags = ["--shards", "1", "--stats-interval", "0"];
    let mut broker = Broker::start_with(&Setup { flags: &flags, ..Setup::default() });
    let (process, address) = (broker.process().id(), broker.address());
    let half = ["7"; 62].join("/");
    let count: u32 = scale.pick(9_000, 30_000);
    let filter = |number: u32| match number % 3 {
        0 => format!("{number}/{half}/{half}/+/x"),
        1 => format!("{half}/{number}/+/{half}/x"),
        _ => format!("+/{half}/{half}/{number}/x"),
    };
    let mut peers: Vec<Peer> = Vec::new();
    let mut growth_bytes = 0;
    for first in (0..count).step_by(9_000) {
        let name = format!("deep-{first}");
        let mut peer = Peer::connect(address, &Connect::new(Version::V5, &name));
        let filters: Vec<String> = (first..count.min(first + 9_000)).map(filter).collect();
        assert!(filters.iter().all(|filter| filter.split('/').count() == 127));
        let before = resident_bytes(process);
        let codes = subscribe_all(&mut peer, &filters);
        assert!(codes.iter().all(|&code| code == 0), "all are granted");
        growth_bytes += resident_bytes(process).saturating_sub(before);
        peers.push(peer);
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let each_bytes = growth_bytes as f64 / f64::from(count);
    vec![Figure::at_most(
        "resident bytes of a filter of 127 levels, its text of 260 included",
        each_bytes,
        "",
        1_024.0,
    )]
}
