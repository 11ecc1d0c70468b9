//! The log lines that answer "why is my device offline?": one for each client that connects, is closed or is refused,
//! with the reason.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::broker::{Broker, Io, Setup};
use crate::harness::packet::{Connect, Properties, Publish, Version};
use crate::harness::peer::Peer;

/// A broker with one shard, so that one budget of lines counts, and with a configuration.
fn start(io: Io, config: &str) -> Broker {
    let flags = ["--shards", "1", "--stats-interval", "0"];
    Broker::start_with(&Setup { io, flags: &flags, config })
}

/// The first line after `mark` that contains all of `parts`.
fn line(broker: &mut Broker, mark: usize, parts: &[&str]) -> String {
    let what = format!("line with {parts:?}");
    broker.process().wait_for(mark, &what, |line| parts.iter().all(|part| line.contains(part)))
}

/// Lines so far that contain `part`.
fn count(broker: &mut Broker, part: &str) -> usize {
    broker.process().lines().iter().filter(|(_, line)| line.contains(part)).count()
}

/// A socket, and its own address as the log shows it.
fn dial(address: SocketAddr) -> (TcpStream, String) {
    let stream = TcpStream::connect(address).expect("the broker listens");
    let own = stream.local_addr().expect("the socket is connected");
    (stream, format!("peer={own}"))
}

/// Sends bytes that are no MQTT and waits for the end.
fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let (mut stream, peer) = dial(address);
    stream.write_all(bytes).expect("the first bytes of a connection are taken");
    // A reset is as good an end.
    let _ = stream.read_to_end(&mut Vec::new());
    peer
}

#[test]
fn a_client_is_named_when_it_connects_and_when_it_leaves() {
    for io in Io::EACH {
        let mut broker = start(io, "");
        let (stream, peer) = dial(broker.address());
        let listener = format!("listener={}", broker.address());
        let mut client = Peer::over(stream, Version::V5);
        let mut connect = Connect::persistent(Version::V5, "sensor-1");
        connect.keep_alive_s = 60;
        client.send(&connect.encode());
        assert_eq!(client.await_connack(), 0);
        let expected = ["INFO client connected", "client=\"sensor-1\"", &peer, &listener, "version=5.0"];
        line(&mut broker, 0, &expected);
        let again = line(&mut broker, 0, &["client connected", "keep_alive_s=60", "resumed=false"]);
        assert!(again.contains("clean=false"), "{again}");
        client.publish(&Publish::new("t", 1, b"x"));
        client.disconnect();
        let closed = ["INFO client closed", "client=\"sensor-1\"", &peer, "by=client", "reason=disconnect "];
        let closed = line(&mut broker, 0, &closed);
        // CONNECT, PUBLISH and DISCONNECT.
        assert!(closed.contains("seconds=0.") && closed.ends_with("packets=3"), "{closed}");
        Peer::connect(broker.address(), &Connect::persistent(Version::V3_1_1, "sensor-1")).vanish();
        line(&mut broker, 0, &["client connected", "version=3.1.1", "clean=false", "resumed=true"]);
        line(&mut broker, 0, &["client closed", "client=\"sensor-1\"", "by=client", "reason=peer_closed"]);
        broker.stop();
    }
}

type Provocation = (&'static str, fn(&mut Broker, Peer));

/// The end of a line, and the act that brings it about.
const CLOSED: &[Provocation] = &[
    ("by=client reason=disconnect_with_will", |_, peer| peer.disconnect_with(4, &Properties::new())),
    ("by=broker reason=keep_alive", |_, mut peer| {
        peer.await_close();
    }),
    ("by=broker reason=malformed", |_, mut peer| {
        peer.send(&[0, 0]);
        peer.await_close();
    }),
    ("by=broker reason=protocol_error", |_, mut peer| {
        peer.send(&[0xD0, 0]);
        peer.await_close();
    }),
    ("by=broker reason=limit", |_, mut peer| {
        peer.send(&Publish::new("a/b/c", 0, b"x").encode(Version::V5));
        peer.await_close();
    }),
    ("by=operator reason=operator", |broker, mut peer| {
        assert!(crate::disconnect::disconnect(broker, "subject").status.success());
        peer.await_close();
    }),
];

#[test]
fn the_line_of_a_close_says_who_and_why() {
    for io in Io::EACH {
        let mut broker = start(io, "topic_levels_max = 2\nkeep_alive_s_max = 1\n");
        for (expected, provoke) in CLOSED {
            let mark = broker.process().mark();
            let peer = Peer::connect(broker.address(), &Connect::new(Version::V5, "subject"));
            provoke(&mut broker, peer);
            line(&mut broker, mark, &["client closed", "client=\"subject\"", expected]);
        }
        let mut last = Peer::connect(broker.address(), &Connect::new(Version::V5, "last"));
        last.ping();
        let (finished, _directory) = broker.stop();
        assert!(
            finished
                .output
                .lines()
                .any(|line| line.contains("client=\"last\"") && line.contains("reason=stop")),
            "{}",
            finished.output
        );
    }
}

#[test]
fn a_reset_is_told_apart_from_an_orderly_end() {
    for io in Io::EACH {
        let mut broker = start(io, "");
        let (mut stream, peer) = dial(broker.address());
        stream.write_all(&Connect::new(Version::V5, "reset").encode()).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        // This option makes the end a reset.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        line(&mut broker, 0, &["client closed", &peer, "by=network reason=reset"]);
        broker.stop();
    }
}

/// Twenty take-overs, of which each names the connection that took over.
#[test]
fn each_take_over_names_both_peers() {
    for io in Io::EACH {
        let mut broker = start(io, "");
        let mut peers = Vec::new();
        let mut clients = Vec::new();
        for _ in 0..=20 {
            let (stream, peer) = dial(broker.address());
            let mut client = Peer::over(stream, Version::V5);
            client.send(&Connect::new(Version::V5, "twin").encode());
            assert_eq!(client.await_connack(), 0);
            peers.push(peer);
            clients.push(client);
        }
        for pair in peers.windows(2) {
            let by = pair[1].replace("peer=", "taken_over_by=");
            line(&mut broker, 0, &["client closed", "client=\"twin\"", &pair[0], "reason=taken_over", &by]);
        }
        broker.stop();
    }
}

#[test]
fn each_refusal_leaves_its_line() {
    for io in Io::EACH {
        let mut broker = start(io, "connect_timeout_s = 1\nclient_id_bytes_max = 23\n");
        let address = broker.address();
        let refused = |broker: &mut Broker, peer: &str, expected: &str| {
            line(broker, 0, &["INFO connection refused", peer, expected])
        };
        for (bytes, reason, hint) in [
            (&[0x16, 3, 1, 2, 0, 1][..], "reason=tls", "turn TLS off"),
            (b"GET / HTTP/1.1\r\n\r\n", "reason=http", "plain TCP"),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "reason=proxy", "load balancer"),
            (b"SSH-2.0-x\r\n", "reason=protocol_error", "not CONNECT"),
            (&[0x10, 2, 0, 9], "reason=malformed", "beyond"),
        ] {
            let peer = send(address, bytes);
            let line = refused(&mut broker, &peer, reason);
            assert!(line.contains(hint), "{line}");
        }
        let (_silent, peer) = dial(address);
        let line = refused(&mut broker, &peer, "reason=connect_timeout");
        assert!(line.contains("connect_timeout_s = 1"), "{line}");
        let long = "x".repeat(24);
        let (mut peer, reason) = Peer::try_connect(address, &Connect::new(Version::V5, &long));
        assert_eq!(reason, 0x85);
        peer.await_close();
        self::line(
            &mut broker,
            0,
            &["INFO client refused", &format!("client=\"{long}\""), "reason=client_id"],
        );
        broker.stop();
    }
}

/// Thirty connections that are one too many, whether they can be answered or not.
#[test]
fn each_connection_too_many_leaves_its_line() {
    for io in Io::EACH {
        let mut broker = start(io, "max_connections = 1\n");
        let mut keeper = Peer::connect(broker.address(), &Connect::new(Version::V5, "keeper"));
        let late: Vec<_> = (0..100)
            .map(|number| {
                let (stream, peer) = dial(broker.address());
                let mut client = Peer::over(stream, Version::V5);
                client.send_ignoring_errors(&Connect::new(Version::V5, &format!("late-{number}")).encode());
                (client, peer)
            })
            .collect();
        for (_client, peer) in &late {
            let expected = [" refused", &format!("{peer} "), "reason=too_many_connections"];
            line(&mut broker, 0, &expected);
        }
        keeper.ping();
        broker.stop();
    }
}

#[test]
fn text_of_a_peer_cannot_forge_a_line_or_reach_the_terminal() {
    let mut broker = start(Io::Auto, "");
    let forged =
        "x\" peer=1.2.3.4:5\n2026-01-01T00:00:00Z  INFO client connected \u{1b}[31m\u{9b}31m\u{202e}";
    let long = "y".repeat(1_000);
    for client_id in [forged, &long] {
        // The broker may refuse control characters; the line is what counts.
        let (_peer, _reason) = Peer::try_connect(broker.address(), &Connect::new(Version::V5, client_id));
    }
    let line = line(&mut broker, 0, &["client=\"yyy"]);
    let shown = line.split("client=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(shown.len() <= 256 && shown.ends_with('…'), "{} bytes", shown.len());
    broker.stop();
    let mut broker = start(Io::Auto, "");
    let (_peer, _reason) = Peer::try_connect(broker.address(), &Connect::new(Version::V5, forged));
    let line = self::line(&mut broker, 0, &["client=\"x\\\" peer=1.2.3.4:5\\n2026"]);
    assert!(line.chars().all(|character| !character.is_control() && character != '\u{202e}'), "{line}");
    assert_eq!(count(&mut broker, "client connected"), 1);
    broker.stop();
}

#[test]
fn a_storm_is_held_back_and_its_lines_are_counted() {
    let mut broker = start(Io::Auto, "");
    for _ in 0..500 {
        send(broker.address(), &[0x16, 3, 1, 2, 0, 1]);
    }
    let told = line(&mut broker, 0, &["log lines held back", "connection refused", "reason=tls"]);
    let suppressed = told.split("suppressed=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let suppressed: usize = suppressed.parse().unwrap();
    let written = count(&mut broker, "INFO connection refused");
    assert_eq!(written + suppressed, 500);
    // Two hundred at once and twenty a second: the peers take some seconds at most.
    assert!((200..400).contains(&written), "{written}");
    // Another reason has a budget of its own.
    let peer = send(broker.address(), b"GET / HTTP/1.1\r\n\r\n");
    line(&mut broker, 0, &["connection refused", &peer, "reason=http"]);
    broker.stop();
}

#[test]
fn the_setting_selects_the_lines() {
    for (setting, comes, refused) in [("all", true, true), ("refusals", false, true), ("none", false, false)]
    {
        let broker = start(Io::Auto, &format!("connection_log = \"{setting}\"\n"));
        Peer::connect(broker.address(), &Connect::new(Version::V5, "client")).disconnect();
        send(broker.address(), b"GET / HTTP/1.1\r\n\r\n");
        let (finished, _directory) = broker.stop();
        let has = |text: &str| finished.output.contains(text);
        assert_eq!((has("client connected"), has("client closed")), (comes, comes), "{}", finished.output);
        assert_eq!(has("connection refused"), refused, "{}", finished.output);
    }
}
