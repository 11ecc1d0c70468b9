//! Memory: what is counted beside what the process takes, and ceilings that hold.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::Scale;
use crate::figure::Figure;
use crate::harness::broker::{Broker, Setup};
use crate::harness::machine::raise_descriptor_limit;
use crate::harness::packet::{Connect, Properties, Publish, Version, property};
use crate::harness::peer::Peer;
use crate::harness::received::Received;
use crate::harness::time::now;
use crate::meter::{mib, resident_bytes};

const MB: u64 = 1_000_000;
/// Publishes of QoS 1 that are sent before their acknowledgements are read.
const WINDOW: u16 = 500;
/// Limits that would end a load too early.
const UNLIMITED: &str = "queue_messages_max = 100000000\nqueue_bytes_max = 1000000000000\n\
    retained_messages_max = 100000000\nretained_bytes_max = 1000000000000\n\
    subscriptions_per_session_max = 100000000\n";

/// A broker with one shard, and what it took before anybody did anything.
pub(crate) struct Measured {
    broker: Broker,
    process: u32,
    idle_bytes: u64,
    idle_used: u64,
}

impl Measured {
    pub(crate) fn start(config: &str) -> Self {
        raise_descriptor_limit();
        let flags = ["--shards", "1", "--stats-interval", "0", "--sys-interval-s", "1"];
        let mut broker = Broker::start_with(&Setup { flags: &flags, config, ..Setup::default() });
        let process = broker.process().id();
        let idle_used = first_used(broker.address());
        Self { idle_bytes: resident_bytes(process), broker, process, idle_used }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.broker.address()
    }

    pub(crate) fn connect(&self, name: &str) -> Peer {
        Peer::connect(self.address(), &Connect::new(Version::V5, name))
    }

    pub(crate) fn growth(&self) -> u64 {
        resident_bytes(self.process).saturating_sub(self.idle_bytes)
    }

    /// The numbers below `$SYS/broker/PART`, published after this call.
    pub(crate) fn sys(&self, part: &str) -> BTreeMap<String, u64> {
        thread::sleep(Duration::from_millis(1_300));
        sys(self.address(), part)
    }

    /// The warnings about memory.
    pub(crate) fn warnings(&mut self) -> Vec<String> {
        let lines = self.broker.process().lines().iter();
        lines.map(|(_, line)| line).filter(|line| line.contains("WARN memory is")).cloned().collect()
    }
}

/// The bytes that the broker counts once its topics below `$SYS` exist, which is soon after it listens.
fn first_used(address: SocketAddr) -> u64 {
    let deadline = now() + Duration::from_secs(10);
    loop {
        if let Some(used) = sys(address, "memory").get("used") {
            return *used;
        }
        assert!(now() < deadline, "nothing below $SYS/broker/memory after ten seconds");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The retained numbers below `$SYS/broker/PART`.
fn sys(address: SocketAddr, part: &str) -> BTreeMap<String, u64> {
    let mut peer = Peer::connect(address, &Connect::new(Version::V5, "meter"));
    let below = format!("$SYS/broker/{part}/");
    peer.subscribe(&format!("{below}#"), 0);
    peer.settle();
    let mut values = BTreeMap::new();
    while !peer.waiting().is_empty() {
        let message = peer.next_publish();
        if let (Some(name), Ok(value)) = (message.topic.strip_prefix(&below), message.text().parse()) {
            values.insert(name.to_owned(), value);
        }
    }
    peer.disconnect();
    values
}

/// Publishes with QoS 1 until `count` are taken or one is refused. Returns how many were taken.
pub(crate) fn publish_many(peer: &mut Peer, topic: &str, payload: &[u8], count: usize) -> usize {
    let packets: Vec<u8> = (1..=WINDOW)
        .flat_map(|id| Publish::new(topic, 1, payload).with_packet_id(id).encode(Version::V5))
        .collect();
    let mut taken = 0;
    while taken < count {
        peer.send(&packets);
        let mut is_refused = false;
        for _ in 0..WINDOW {
            match peer.next() {
                Received::PubAck { reason, .. } if reason < 0x80 => taken += 1,
                Received::PubAck { .. } => is_refused = true,
                other => panic!("no PUBACK but {other:?}"),
            }
        }
        if is_refused {
            break;
        }
    }
    taken
}

/// Fills the broker with about `bytes` of one kind. Its clients have to live until memory was read.
type Load = fn(&Measured, u64) -> Vec<Peer>;

const LOADS: [(&str, Load); 6] = [
    ("outboxes", fill_outboxes),
    ("queues", fill_queues),
    ("retained", fill_retained),
    ("subscriptions", fill_subscriptions),
    ("aliases_in", fill_aliases),
    ("wills", fill_wills),
];

/// The sum of what is counted against the growth of the process, under six loads.
pub(crate) fn counted_memory(scale: Scale) -> Vec<Figure> {
    let bytes = scale.pick(50, 220) * MB;
    let mut figures = Vec::new();
    for (kind, load) in LOADS {
        let config = format!(
            "memory_bytes_max = 0\noutbox_bytes_max = 4194304\nalias_bytes_max = 8000000\n{UNLIMITED}"
        );
        let broker = Measured::start(&config);
        let peers = load(&broker, bytes);
        let memory = broker.sys("memory");
        let growth = broker.growth();
        drop(peers);
        let counted = memory["used"] - broker.idle_used;
        let least = mib(scale.pick(40, 200) * MB);
        figures.push(Figure::at_least(format!("{kind}: growth of the process"), mib(growth), "MiB", least));
        let ratio = mib(counted) / mib(growth);
        figures.push(Figure::at_most(format!("{kind}: counted over grown"), ratio, "", 1.25));
        figures.push(Figure::at_least(format!("{kind}: the same"), ratio, "", 0.75));
        let share = 100.0 * mib(memory[kind]) / mib(counted);
        figures.push(Figure::told(format!("{kind}: its share of what is counted"), share, "%"));
    }
    figures
}

/// Readers of QoS 0 that never read.
fn fill_outboxes(broker: &Measured, bytes: u64) -> Vec<Peer> {
    let count = usize::try_from(bytes / 4_194_304 + 1).expect("few");
    let readers = stalled_readers(broker, count, "flood");
    let mut publisher = broker.connect("publisher");
    let packet = Publish::new("flood", 0, &[b'x'; 3_000]).encode(Version::V5);
    for _ in 0..1_700 {
        publisher.send(&packet);
    }
    publisher.ping();
    readers
}

pub(crate) fn stalled_readers(broker: &Measured, count: usize, filter: &str) -> Vec<Peer> {
    let reader = |number| {
        let mut peer = broker.connect(&format!("reader-{number}"));
        peer.subscribe(filter, 0);
        peer
    };
    (0..count).map(reader).collect()
}

/// Sessions without a connection that keep what is published to `q`.
fn keepers(broker: &Measured) {
    for number in 0..10 {
        let id = format!("keeper-{number}");
        let mut keeper = Peer::connect(broker.address(), &Connect::persistent(Version::V5, &id));
        keeper.subscribe("q", 1);
        keeper.disconnect();
    }
}

/// Small messages for sessions without a connection: an entry for each of them, and the message once.
fn fill_queues(broker: &Measured, bytes: u64) -> Vec<Peer> {
    keepers(broker);
    let mut publisher = broker.connect("publisher");
    publish_many(&mut publisher, "q", b"small", usize::try_from(bytes / 500).expect("few"));
    vec![publisher]
}

fn fill_retained(broker: &Measured, bytes: u64) -> Vec<Peer> {
    let mut publisher = broker.connect("publisher");
    for number in 0..bytes / 1_150 {
        let topic = format!("site/{number}/state");
        publisher.send(&Publish::new(&topic, 0, &[b'x'; 1_000]).retained().encode(Version::V5));
    }
    publisher.ping();
    vec![publisher]
}

/// Filters of one level and of 127, half of the bytes each.
fn fill_subscriptions(broker: &Measured, bytes: u64) -> Vec<Peer> {
    let mut client = broker.connect("subscriber");
    let short = |number: u64| format!("filter-number-{number:09}");
    for (count, filter) in
        [(bytes / 2 / 165, &short as &dyn Fn(u64) -> String), (bytes / 2 / 400, &deep_filter)]
    {
        for first in (0..count).step_by(100) {
            let reasons = subscribe_many(&mut client, first, filter);
            assert!(reasons.iter().all(|&reason| reason == 0));
        }
    }
    vec![client]
}

/// A filter of 127 levels.
fn deep_filter(number: u64) -> String {
    format!("{number:09}{}", "/l".repeat(126))
}

fn subscribe_many(client: &mut Peer, first: u64, filter: &dyn Fn(u64) -> String) -> Vec<u8> {
    let filters: Vec<String> = (first..first + 100).map(filter).collect();
    let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 0)).collect();
    client.subscribe_with(&filters, &Properties::new())
}

fn fill_aliases(broker: &Measured, bytes: u64) -> Vec<Peer> {
    let client = |number: u64| {
        let mut peer = broker.connect(&format!("aliases-{number}"));
        for alias in 1..=64 {
            peer.send(&set_alias(number, alias, 60_000));
        }
        peer.ping();
        peer
    };
    (0..=bytes / (64 * 60_000)).map(client).collect()
}

/// A PUBLISH that sets an alias.
fn set_alias(client: u64, alias: u16, topic_bytes: usize) -> Vec<u8> {
    let topic = format!("{client}/{alias}/{}", "x".repeat(topic_bytes));
    let properties = Properties::new().two(property::TOPIC_ALIAS, alias);
    Publish { properties, ..Publish::new(&topic, 0, b"") }.encode(Version::V5)
}

/// Sessions that are offline, each with a will that waits for its delay.
fn fill_wills(broker: &Measured, bytes: u64) -> Vec<Peer> {
    let payload = vec![b'x'; 60_000];
    for number in 0..=bytes / 60_000 {
        let id = format!("mortal-{number}");
        let delay = Properties::new().four(property::WILL_DELAY_INTERVAL, 3_600);
        let mut connect = Connect::persistent(Version::V5, &id).with_will("will", &payload, delay);
        connect.keep_alive_s = 0;
        Peer::connect(broker.address(), &connect).vanish();
    }
    Vec::new()
}

/// The ceiling holds against what was not counted once.
pub(crate) fn held_ceiling(_: Scale) -> Vec<Figure> {
    let mut figures = Vec::new();
    let mut add = |name: &str, broker: &Measured, ceiling: u64| {
        let growth = mib(broker.growth());
        figures.push(Figure::at_most(format!("growth by {name}"), growth, "MiB", 1.25 * mib(ceiling)));
        figures.push(Figure::at_least(format!("growth by {name}, used"), growth, "MiB", 0.4 * mib(ceiling)));
    };
    let broker = Measured::start(&format!("memory_bytes_max = 50000000\n{UNLIMITED}"));
    let mut client = broker.connect("filters");
    for first in (0..1_000_000).step_by(100) {
        if subscribe_many(&mut client, first, &deep_filter).contains(&0x97) {
            break;
        }
    }
    add("filters of 127 levels, under a ceiling of 50 MB", &broker, 50 * MB);

    let broker = Measured::start("memory_bytes_max = 50000000\n");
    let mut clients = Vec::new();
    for number in 0..2_000 {
        let hello = format!("aliases-{number}");
        let (mut peer, reason) = Peer::try_connect(broker.address(), &Connect::new(Version::V5, &hello));
        if reason != 0 {
            break;
        }
        for alias in 1..=60 {
            // Past the ceiling the broker closes.
            peer.send_ignoring_errors(&set_alias(number, alias, 1_000));
        }
        clients.push(peer);
    }
    add("topic aliases, under a ceiling of 50 MB", &broker, 50 * MB);
    drop(clients);

    let broker = Measured::start(&format!("memory_bytes_max = 20000000\n{UNLIMITED}"));
    keepers(&broker);
    publish_many(&mut broker.connect("publisher"), "q", b"small", 10_000_000);
    add("queue entries, under a ceiling of 20 MB", &broker, 20 * MB);
    figures
}
