//! Handshakes that a test drives byte by byte, or by the hundred.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::broker::serve;
use crate::client::Client;
use crate::harness::broker::Io;
use crate::harness::packet::{Connect, Properties, Publish, Version, subscribe};

/// The bytes of a client that wants to know everything at once.
fn everything(client_id: &str) -> Vec<u8> {
    let mut bytes = Connect::new(Version::V5, client_id).encode();
    bytes.extend(subscribe(Version::V5, 1, &[(client_id, 0)], &Properties::new()));
    bytes.extend(Publish::new(client_id, 0, client_id.as_bytes()).encode(Version::V5));
    bytes
}

/// Whether the answers to `everything` came: they end with the client's own message.
fn hears_itself(client: &mut Client, client_id: &str) {
    let mut heard = Vec::new();
    while !heard.ends_with(client_id.as_bytes()) {
        let more = client.hear(1).expect("the broker keeps to the rules");
        assert!(!more.is_empty(), "{client_id} was closed after {heard:x?}");
        heard.extend(more);
    }
    assert_eq!(heard[0], 0x20, "CONNACK comes first");
}

/// In TLS 1.3 the tickets wait for the kernel just when CONNECT comes. They move with the connection.
pub(crate) fn connect_in_the_flight_of_the_handshakes_end_reaches_its_shard(io: Io) {
    let served = serve(io, &["--shards", "3", "--log-level", "debug"]);
    let trust = served.trust();
    for number in 0..30 {
        let client_id = format!("flight-{number}");
        let mut client = Client::open(served.address(), &trust, "localhost");
        client.shake_hands(&everything(&client_id)).expect("the certificate is good");
        hears_itself(&mut client, &client_id);
    }
    let (finished, _directory) = served.broker.stop();
    let handed_over = finished.output.lines().filter(|line| line.contains("handed over")).count();
    assert!(handed_over >= 5, "{handed_over} of 30 connections were handed over");
}

pub(crate) fn bytes_that_come_one_by_one_are_understood(io: Io) {
    let served = serve(io, &["--shards", "2"]);
    let trust = served.trust();
    for number in 0..4 {
        let client_id = format!("slowly-{number}");
        let mut client = Client::open(served.address(), &trust, "localhost");
        client.tls.writer().write_all(&everything(&client_id)).expect("there is room for so few bytes");
        loop {
            for byte in client.flight() {
                client.socket.write_all(&[byte]).expect("the broker reads");
            }
            if !client.tls.is_handshaking() {
                break;
            }
            client.receive().expect("the certificate is good");
        }
        hears_itself(&mut client, &client_id);
    }
    served.broker.stop();
}

pub(crate) fn peers_that_break_the_rules_are_refused_with_a_reason(io: Io) {
    let mut served = serve(io, &["--shards", "1"]);
    let connect = Connect::new(Version::V3_1_1, "plain").encode();
    // A record of the handshake with a message that says that it has 64 KiB, again and again.
    let mut long = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0xFF, 0xFF];
    long.resize(5 + 0x4000, 0);
    for bytes in
        [&connect, &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), &long.repeat(8), &vec![0xFF; 100_000]]
    {
        let mark = served.broker.process().mark();
        let mut socket = TcpStream::connect(served.address()).expect("the broker listens");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("the time-out is not zero");
        // The broker may close before it has read everything.
        let _ = socket.write_all(bytes);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.len() < 100, "an alert at most: {} bytes", answer.len());
        served.broker.process().wait_for(mark, "the reason", |line| {
            line.contains("connection refused") && line.contains("by=client reason=tls_failed")
        });
    }
    // Others are served all the while.
    let mut client = Client::open(served.address(), &served.trust(), "localhost");
    client.shake_hands(&everything("other")).expect("the certificate is good");
    hears_itself(&mut client, "other");
    served.broker.stop();
}

pub(crate) fn silent_peers_keep_nobody_from_connecting(io: Io) {
    let served = serve(io, &["--shards", "1"]);
    let trust = served.trust();
    // Some say nothing, and some stop in the midst of the handshake.
    let mut silent: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(served.address()).expect("the broker listens")).collect();
    for socket in silent.iter_mut().skip(100) {
        let mut half = Client::open(served.address(), &trust, "localhost");
        half.send_flight();
        assert!(half.receive().expect("the certificate is good") > 0);
        *socket = half.socket;
    }
    let mut client = Client::open(served.address(), &trust, "localhost");
    client.shake_hands(&everything("loud")).expect("the certificate is good");
    hears_itself(&mut client, "loud");
    served.broker.stop();
}

/// Past `unjudged_bytes_max` the oldest of those that hold the same is closed, and others get in.
pub(crate) fn half_handshakes_share_a_bound(io: Io) {
    let mut served = serve(io, &["--shards", "1", "--unjudged-bytes-max", "65536"]);
    let trust = served.trust();
    let half = |_| {
        let mut client = Client::open(served.address(), &trust, "localhost");
        client.send_flight();
        assert!(client.receive().expect("the certificate is good") > 0);
        client
    };
    let mut halves: Vec<Client> = (0..40).map(half).collect();
    served.broker.process().wait_for(0, "the reason", |line| line.contains("unjudged_bytes_max"));
    let mut rest = Vec::new();
    let end = halves[0].socket.read_to_end(&mut rest);
    assert!(end.is_ok() || rest.len() < 100_000, "the oldest is closed");
    // The newest goes on where it was.
    let newest = halves.last_mut().expect("there are forty");
    newest.shake_hands(&everything("newest")).expect("it is in time");
    hears_itself(newest, "newest");
    served.broker.stop();
}

pub(crate) fn many_handshakes_at_once_all_succeed(io: Io) {
    const COUNT: usize = 300;
    let served = serve(io, &["--shards", "2"]);
    let trust = served.trust().forgetful();
    let clients = (0..COUNT).map(|_| Client::open(served.address(), &trust, "localhost"));
    let mut clients: Vec<Client> = clients.collect();
    // All first flights are there before any answer is read.
    for client in &mut clients {
        client.send_flight();
    }
    let parts = clients.chunks_mut(COUNT / 4).enumerate();
    thread::scope(|scope| {
        for (part, clients) in parts {
            scope.spawn(move || {
                for (number, client) in clients.iter_mut().enumerate() {
                    let client_id = format!("storm-{part}-{number}");
                    client.shake_hands(&everything(&client_id)).expect("the certificate is good");
                    hears_itself(client, &client_id);
                }
            });
        }
    });
    served.broker.stop();
}

pub(crate) fn handshakes_are_counted_by_their_results(io: Io) {
    let served = serve(io, &["--shards", "2", "--sys-interval-s", "1"]);
    let trust = served.trust();
    // All but the first one of each client's settings have a ticket; two clients share theirs.
    for number in 0..4 {
        let client_id = format!("counted-{number}");
        let trust = if number % 2 == 0 { served.trust() } else { trust.clone() };
        for _ in 0..2 {
            let mut client = Client::open(served.address(), &trust, "localhost");
            client.shake_hands(&everything(&client_id)).expect("the certificate is good");
            hears_itself(&mut client, &client_id);
        }
    }
    for _ in 0..3 {
        let mut socket = TcpStream::connect(served.address()).expect("the broker listens");
        socket.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("the broker reads");
        let _alert = socket.read_to_end(&mut Vec::new());
    }
    drop(TcpStream::connect(served.address()).expect("the broker listens"));
    let mut half = Client::open(served.address(), &trust, "localhost");
    half.send_flight();
    assert!(half.receive().expect("the certificate is good") > 0);
    drop(half);
    let mut reader = Client::open(served.address(), &trust.forgetful(), "localhost");
    let mut bytes = Connect::new(Version::V3_1_1, "reader").encode();
    bytes.extend(subscribe(Version::V3_1_1, 1, &[("$SYS/broker/tls/handshakes/+", 0)], &Properties::new()));
    reader.shake_hands(&bytes).expect("the certificate is good");
    let mut heard = Vec::new();
    let expected: [&[u8]; 4] = [b"/full4", b"/resumed5", b"/failed3", b"/unfinished2"];
    while !expected.iter().all(|part| heard.windows(part.len()).any(|window| window == *part)) {
        let more = reader.hear(1).expect("the broker keeps to the rules");
        assert!(!more.is_empty(), "closed after {:?}", String::from_utf8_lossy(&heard));
        heard.extend(more);
    }
    served.broker.stop();
}
