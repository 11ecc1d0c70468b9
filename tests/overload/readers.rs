//! Readers that subscribe and never read.

use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::Scale;
use crate::figure::Figure;
use crate::harness::broker::{Broker, Setup};
use crate::harness::machine::raise_descriptor_limit;
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::time::now;
use crate::meter::{cpu_time, mib, ms, resident_bytes};
use crate::neighbour::{Neighbour, percentile};

/// Readers never read while a publisher sends them as much as it can.
pub(crate) fn stalled_readers(scale: Scale) -> Vec<Figure> {
    let flags = ["--shards", "1", "--stats-interval", "0"];
    let mut broker = Broker::start_with(&Setup { flags: &flags, ..Setup::default() });
    let process = broker.process().id();
    let address = broker.address();
    let time = Duration::from_secs(scale.pick(1, 5));
    let quiet = Neighbour::measure(address, "quiet", time);
    let idle_bytes = resident_bytes(process);

    let readers: Vec<Peer> = (0..50)
        .map(|number| {
            let mut peer = Peer::connect(address, &Connect::new(Version::V5, &format!("reader-{number}")));
            peer.subscribe("flood", 0);
            peer
        })
        .collect();
    let mut publisher = Peer::connect(address, &Connect::new(Version::V5, "publisher"));
    let packet = Publish::new("flood", 0, &[0; 1_024]).encode(Version::V5);
    let cpu_before = cpu_time(process);
    // Each reader falls behind by the bound of its outbox and the buffers of its socket.
    for _ in 0..scale.pick(4_000, 20_000) {
        publisher.send(&packet);
    }
    publisher.ping();
    let cpu = cpu_time(process).saturating_sub(cpu_before);
    let busy = Neighbour::measure(address, "busy", time);
    let growth = resident_bytes(process).saturating_sub(idle_bytes);
    drop(readers);
    vec![
        Figure::told("p99 of a quiet neighbour", ms(percentile(&quiet, 99)), "ms"),
        Figure::told("p99 beside the readers", ms(percentile(&busy, 99)), "ms"),
        Figure::at_most(
            "p99 beside the readers over a quiet one, half a millisecond allowed for noise",
            ms(percentile(&busy, 99)) / (ms(percentile(&quiet, 99)) + 0.5),
            "",
            2.0,
        ),
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        Figure::at_least(
            "messages of the neighbour over a quiet one",
            busy.len() as f64 / quiet.len() as f64,
            "",
            0.5,
        ),
        Figure::told("CPU time of the flood", ms(cpu), "ms"),
        // The bound of an outbox, and half of it for the buffer that is filled and for the allocator.
        Figure::at_most("growth for each reader", mib(growth) / 50.0, "MiB", 1.5),
    ]
}

/// The kernel's memory of a stalled reader's socket, for small, middle and large messages.
pub(crate) fn stalled_sockets(scale: Scale) -> Vec<Figure> {
    let flags = ["--shards", "1", "--stats-interval", "0"];
    let broker = Broker::start_with(&Setup { flags: &flags, ..Setup::default() });
    let address = broker.address();
    let mut figures = Vec::new();
    for payload_bytes in [64, 1_024, 60_000] {
        let topic = format!("flood/{payload_bytes}");
        let readers = stall(address, scale.pick(5, 50), &topic);
        flood(address, &topic, payload_bytes, 4 << 20);
        let name = format!("largest socket of a stalled reader, messages of {payload_bytes} bytes");
        figures.push(Figure::at_most(
            name,
            mib(largest_socket_bytes(address.port())) * 1_024.0,
            "KiB",
            512.0,
        ));
        drop(readers);
    }
    figures
}

/// Readers come, stall and leave, again and again.
pub(crate) fn given_back(scale: Scale) -> Vec<Figure> {
    raise_descriptor_limit();
    let flags = ["--shards", "2", "--stats-interval", "0"];
    let mut broker = Broker::start_with(&Setup { flags: &flags, ..Setup::default() });
    let process = broker.process().id();
    let address = broker.address();
    let idle = resident_bytes(process);
    let mut peak = idle;
    for round in 0..scale.pick(2, 4) {
        let readers = stall(address, scale.pick(150, 600), &format!("flood/{round}"));
        flood(address, &format!("flood/{round}"), 1_024, 2 << 20);
        peak = peak.max(resident_bytes(process));
        drop(readers);
    }
    let left = now();
    let neighbour = Neighbour::start(address, "neighbour");
    let mut resident = resident_bytes(process);
    let mut below_after = None;
    while now() - left < scale.pick(Duration::from_secs(30), Duration::from_mins(1)) {
        thread::sleep(Duration::from_millis(100));
        resident = resident_bytes(process);
        if resident <= peak / 4 && below_after.is_none() {
            below_after = Some((now() - left).as_secs_f64());
            if scale == Scale::Short {
                break;
            }
        }
    }
    let latencies = neighbour.stop();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let share = resident as f64 / peak as f64;
    vec![
        Figure::told("resident before the first reader", mib(idle), "MiB"),
        Figure::told("highest resident", mib(peak), "MiB"),
        Figure::told("resident at the end", mib(resident), "MiB"),
        Figure::at_most("share of the highest that stays", share, "", 0.25),
        Figure::at_most("time until a quarter is left", below_after.unwrap_or(f64::INFINITY), "s", 60.0),
        Figure::told("p99 of a neighbour meanwhile", ms(percentile(&latencies, 99)), "ms"),
        Figure::told("its longest", ms(percentile(&latencies, 100)), "ms"),
    ]
}

/// Clients that subscribe to a topic and never read.
fn stall(address: SocketAddr, count: usize, topic: &str) -> Vec<Peer> {
    let reader = |number| {
        let mut peer = Peer::connect(address, &Connect::new(Version::V5, &format!("{topic}-{number}")));
        peer.subscribe(topic, 0);
        peer
    };
    (0..count).map(reader).collect()
}

/// Sends at least `bytes` of payload to a topic, and waits until they are in the outboxes.
fn flood(address: SocketAddr, topic: &str, payload_bytes: usize, bytes: usize) {
    let mut publisher = Peer::connect(address, &Connect::new(Version::V5, "publisher"));
    let packet = Publish::new(topic, 0, &vec![b'x'; payload_bytes]).encode(Version::V5);
    for _ in 0..bytes.div_ceil(payload_bytes) {
        publisher.send(&packet);
    }
    publisher.ping();
    // Those of another shard follow.
    thread::sleep(Duration::from_millis(300));
    publisher.disconnect();
}

/// The kernel's memory of the largest socket with this local port: of what was received, of what waits to be sent, and allocated
/// ahead.
fn largest_socket_bytes(port: u16) -> u64 {
    let output = Command::new("ss").args(["-tmnH", "sport", "=", &format!(":{port}")]).output();
    let output = output.expect("ss of iproute2 is installed");
    let text = String::from_utf8(output.stdout).expect("ss prints text");
    let largest = text.lines().filter_map(|line| line.split_once("skmem:(")).map(|(_, memory)| {
        let fields = memory.split([',', ')']).filter_map(|field| {
            let digits = field.strip_prefix('r').or(field.strip_prefix('w')).or(field.strip_prefix('f'))?;
            digits.parse::<u64>().ok()
        });
        fields.sum()
    });
    largest.max().expect("the broker has sockets")
}
