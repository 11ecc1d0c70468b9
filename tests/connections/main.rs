//! Many connections at once. Each is subscribed, held, pinged, sent a message and closed, in several rounds; afterwards
//! the broker holds no more than before. `CONNECTIONS=10000` raises the number from the default thousand.
#![cfg(target_os = "linux")]

#[path = "../harness/mod.rs"]
mod harness;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use harness::broker::{Broker, Io, Setup};
use harness::machine::{
    descriptor_count_beside_the_log, print_notice, raise_descriptor_limit, resident_bytes,
};
use harness::packet::{Connect, PINGREQ, Properties, Publish, Version, disconnect, subscribe};
use harness::peer::Peer;
use harness::received::Received;
use harness::time::{Deadline, PATIENCE, now};

const COUNT_QUICK: usize = 1_000;
/// Descriptors of the test itself, in addition to its connections.
const RESERVED: u64 = 64;
/// Maximum memory of a connection with one subscription, if the connection is a task and its session lives on its shard.
/// Measured with so many connections that the broker's fixed memory does not matter.
const BYTES_MAX: u64 = 1_050;
const COUNT_WEIGHED: usize = 2 * COUNT_QUICK;
/// Memory that an allocator may keep elsewhere from one round to the next.
const SLACK_BYTES: u64 = 2 << 20;

#[test]
fn many_connections_leave_nothing_behind_on_io_uring() {
    judge(Io::Uring, "1", SLACK_BYTES);
}

#[test]
fn many_connections_leave_nothing_behind_on_epoll() {
    judge(Io::Epoll, "1", SLACK_BYTES);
}

#[test]
fn many_connections_leave_nothing_behind_on_tokio() {
    judge(Io::Tokio, "1", SLACK_BYTES);
}

#[test]
fn many_connections_leave_nothing_behind_on_threads() {
    // The system's library keeps some stacks of threads that ended.
    judge(Io::Blocking, "1", 4 * SLACK_BYTES);
}

#[test]
fn many_connections_leave_nothing_behind_on_two_shards() {
    // Each round distributes the connections anew, so a shard's tables may still grow in a later one.
    judge(Io::Auto, "2", 4 * SLACK_BYTES);
}

fn judge(io: Io, shards: &str, slack_bytes: u64) {
    let count = connection_count();
    let max = (count + 10).to_string();
    let flags = ["--max-connections", &max, "--stats-interval", "0", "--shards", shards];
    let mut broker = Broker::start_with(&Setup { io, flags: &flags, ..Setup::default() });
    let process = broker.process().id();
    // A small round before counting: memory allocated at first use is not a leak.
    round(broker.address(), 10, process);
    let descriptors = settled_descriptors(process, usize::MAX);
    let before = resident_bytes(process);
    let mut peaks = Vec::new();
    let mut after = Vec::new();
    for _ in 0..3 {
        peaks.push(round(broker.address(), count, process));
        assert_eq!(settled_descriptors(process, descriptors), descriptors, "descriptors are left open");
        after.push(resident_bytes(process));
    }
    let per_connection = peaks[0].saturating_sub(before) / u64::try_from(count).expect("it fits");
    print_notice(&format!(
        "{count} connections with a subscription each on {} with --shards {shards}: {per_connection} bytes of the broker each; \
         resident KiB before {}, held {:?}, after each round {:?}",
        io.flag(),
        before / 1024,
        peaks.iter().map(|bytes| bytes / 1024).collect::<Vec<_>>(),
        after.iter().map(|bytes| bytes / 1024).collect::<Vec<_>>()
    ));
    if count >= COUNT_WEIGHED && shards == "1" && matches!(io, Io::Uring | Io::Epoll) {
        assert!(per_connection <= BYTES_MAX, "an idle connection takes {per_connection} bytes");
    }
    // The first round may let pools grow, and the second may fill what the first left. Later growth is a leak.
    let growth = after[2].saturating_sub(after[1]);
    assert!(growth <= slack_bytes, "memory grew by {growth} bytes from the second round to the third");
    assert!(peaks[2] <= peaks[1] + slack_bytes, "the same connections need more memory each time: {peaks:?}");
    broker.stop();
}

/// All connections of one round; returns the broker's memory while all are held.
fn round(address: SocketAddr, count: usize, process: u32) -> u64 {
    let start = now();
    let mut peers: Vec<Peer> = (0..count).map(|number| open(address, number)).collect();
    // Everything is sent on all connections before anything is awaited, so that the broker serves them concurrently.
    for (number, peer) in peers.iter_mut().enumerate() {
        let version = version(number);
        let mut bytes = Connect::new(version, &format!("client{number}")).encode();
        bytes.extend(subscribe(version, 1, &[(&format!("topic/{number}"), 1)], &Properties::new()));
        peer.send(&bytes);
    }
    for peer in &mut peers {
        assert_eq!(peer.await_connack(), 0);
        peer.await_packet("SUBACK", |packet| matches!(packet, Received::SubAck { .. }));
    }
    let connected = now() - start;
    for peer in &mut peers {
        peer.send(&PINGREQ);
    }
    for peer in &mut peers {
        peer.await_packet("PINGRESP", |packet| *packet == Received::PingResp);
    }
    let held = resident_bytes(process);
    let mut publisher = Peer::connect(address, &Connect::new(Version::V5, "publisher"));
    for number in 0..count {
        let publish =
            Publish::new(&format!("topic/{number}"), 0, format!("{number}").as_bytes()).encode(Version::V5);
        publisher.send(&publish);
    }
    publisher.ping();
    for (number, peer) in peers.iter_mut().enumerate() {
        assert_eq!(peer.next_message().text(), number.to_string(), "each gets its own message");
        assert!(peer.waiting().is_empty(), "and no other: {:?}", peer.waiting());
    }
    publisher.disconnect();
    for (number, peer) in peers.iter_mut().enumerate() {
        // Half of them disconnect normally, half close without DISCONNECT.
        if number % 2 == 0 {
            peer.send(&disconnect(version(number), 0, &Properties::new()));
        }
    }
    drop(peers);
    if count > COUNT_QUICK {
        print_notice(&format!(
            "{count} connections: connected and subscribed in {connected:?}, all in {:?}",
            now() - start
        ));
    }
    held
}

fn version(number: usize) -> Version {
    Version::ALL[number % 3]
}

/// Connects from one of many loopback addresses, because one source has too few ports for consecutive rounds.
fn open(address: SocketAddr, number: usize) -> Peer {
    let source = u8::try_from(number % 200).expect("it is below 200") + 1;
    let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, source)), 0);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
    socket.bind(&source.into()).expect("all of 127.0.0.0/8 is this machine");
    socket
        .connect_timeout(&address.into(), PATIENCE)
        .unwrap_or_else(|error| panic!("connection {number} cannot be made: {error}"));
    Peer::over(TcpStream::from(socket), version(number))
}

/// The broker's descriptors, once there are at most `target` of them or the time is up.
fn settled_descriptors(process: u32, target: usize) -> usize {
    let deadline = Deadline::after(PATIENCE);
    let mut count = descriptor_count_beside_the_log(process);
    while (count > target || target == usize::MAX) && deadline.remaining().is_some() {
        // The kernel has no event for "the other side has closed its descriptor".
        std::thread::sleep(Duration::from_millis(50));
        let again = descriptor_count_beside_the_log(process);
        if target == usize::MAX && again == count {
            break;
        }
        count = again;
    }
    count
}

fn connection_count() -> usize {
    let possible = raise_descriptor_limit().saturating_sub(RESERVED);
    let wanted = std::env::var_os("CONNECTIONS").map_or(COUNT_QUICK, |value| {
        value.to_str().and_then(|text| text.parse().ok()).expect("CONNECTIONS is a number")
    });
    let possible = usize::try_from(possible).unwrap_or(usize::MAX);
    if wanted > possible {
        print_notice(&format!(
            "only {possible} descriptors are allowed here: {wanted} connections became {possible}"
        ));
    }
    wanted.min(possible)
}
