//! Health, readiness and metrics over HTTP, as an orchestrator and Prometheus ask for them.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::broker::{Broker, Directory, Setup, command_in};
use crate::harness::http::{Answer, address, ask, get};
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::process::{Process, run};
use crate::harness::time::{Deadline, PATIENCE};
use crate::operators::{WITH_PASSWORDS, as_user, with_users};

/// Both services on free ports.
const SERVED: &str = "[admin]\nbind = \"127.0.0.1:0\"\n[probes]\nbind = \"127.0.0.1:0\"\n";

fn start(flags: &[&str]) -> (Broker, SocketAddr, SocketAddr) {
    let mut broker = Broker::start_with(&Setup { flags, config: SERVED, ..Setup::default() });
    let [admin, probes] = ["admin serves", "probes serve"].map(|what| address(broker.process(), what));
    (broker, admin, probes)
}

/// Asks for the metrics until they are as they should be: a shard publishes its counts at the end of a turn.
fn becomes(address: SocketAddr, is_it: impl Fn(&Answer) -> bool) -> Answer {
    let deadline = Deadline::after(PATIENCE);
    loop {
        let answer = get(address, "/metrics");
        if is_it(&answer) {
            return answer;
        }
        assert!(deadline.remaining().is_some(), "the metrics stay at\n{}", answer.body);
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn metrics_count_what_clients_do_on_every_shard() {
    let (broker, admin, probes) = start(&["--shards", "3"]);
    let mut peers: Vec<Peer> = (0..9)
        .map(|number| Peer::connect(broker.address(), &Connect::new(Version::V5, &format!("peer-{number}"))))
        .collect();
    for peer in &mut peers {
        peer.subscribe("t/#", 1);
    }
    for _ in 0..4 {
        assert_eq!(peers[0].publish(&Publish::new("t/1", 1, b"12345")), 0);
        for peer in &mut peers {
            peer.next_message();
        }
    }
    peers[0].publish(&Publish::new("kept", 1, b"x").retained());
    for peer in &mut peers {
        peer.ping();
    }
    let is_complete = |answer: &Answer| {
        answer.sum("mqtt_messages_sent_total", &[]) == 36
            && answer.sum("mqtt_packets_sent_total", &[]) >= 9 + 9 + 9 + 5 + 36
            // The retained message is on the disk.
            && answer.sum("mqtt_persist_seconds_count", &[]) > 0
    };
    for surface in [admin, probes] {
        let metrics = becomes(surface, is_complete);
        assert_eq!(metrics.status, 200);
        assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
        let sum = |family: &str, labels: &[&str]| metrics.sum(family, labels);
        assert_eq!(sum("mqtt_messages_received_total", &[]), 5);
        assert_eq!(sum("mqtt_payload_bytes_received_total", &[]), 21);
        assert_eq!(sum("mqtt_connections", &[]), 9);
        assert_eq!(sum("mqtt_sessions", &[]), 9);
        assert_eq!(sum("mqtt_subscriptions", &[]), 9);
        assert_eq!(sum("mqtt_retained_messages", &[]), 1);
        assert_eq!(sum("mqtt_connects_total", &["listener=\"default\"", "result=\"accepted\""]), 9);
        assert!(sum("mqtt_memory_bytes", &["kind=\"sessions\""]) > 0);
        assert_eq!(sum("mqtt_journal_state", &["state=\"serving\""]), 1);
        assert_eq!(metrics.sample("mqtt_config_generation"), Some(1));
        assert_eq!(
            metrics.sample(&format!("mqtt_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"))),
            Some(1)
        );
        for shard in 0..3 {
            assert!(
                metrics
                    .sample(&format!("mqtt_shard_turns_total{{shard=\"{shard}\"}}"))
                    .is_some_and(|turns| turns > 0)
            );
        }
        assert_eq!(metrics.sample("mqtt_sessions{shard=\"3\"}"), None);
        assert_eq!(sum("mqtt_publish_to_flush_seconds_count", &[]), 5, "each message has a time");
        assert_eq!(sum("mqtt_publish_to_flush_seconds_bucket", &["le=\"+Inf\""]), 5);
        assert!(sum("mqtt_turn_seconds_count", &[]) >= 3);
    }
    peers.pop().expect("there are nine").disconnect();
    let closed =
        |answer: &Answer| answer.sum("mqtt_connections_closed_total", &["reason=\"disconnect\""]) == 1;
    assert_eq!(becomes(admin, closed).sum("mqtt_connections", &[]), 8);
    broker.stop();
}

#[test]
fn drops_refusals_and_verdicts_have_their_reasons() {
    let config = format!("queue_messages_max = 1\n{WITH_PASSWORDS}{SERVED}");
    let mut broker = with_users(crate::harness::broker::Io::Auto, &["ann"], &config);
    let admin = address(broker.process(), "admin serves");
    let mut away = Peer::connect(broker.address(), &as_user("away", "ann"));
    away.subscribe("t", 1);
    away.disconnect();
    let wrong = Connect::new(Version::V5, "x").with_credentials("ann", b"wrong");
    assert_eq!(Peer::try_connect(broker.address(), &wrong).1, 0x86);
    let mut ann = Peer::connect(broker.address(), &as_user("pump", "ann"));
    for _ in 0..4 {
        ann.publish(&Publish::new("t", 1, b"x"));
    }
    ann.ping();
    let is_counted = |answer: &Answer| {
        answer.sum("mqtt_messages_dropped_total", &["reason=\"queue_full\""]) == 3
            && answer.sum("mqtt_connections_refused_total", &["reason=\"authentication\""]) == 1
            && answer.sum("mqtt_auth_total", &["method=\"password\"", "result=\"refused\""]) == 1
            && answer.sum("mqtt_auth_total", &["method=\"password\"", "result=\"accepted\""]) == 2
    };
    let metrics = becomes(admin, is_counted);
    assert_eq!(metrics.sum("mqtt_auth_seconds_count", &[]), 3);
    assert!(
        !metrics.body.contains("\"pump\"") && !metrics.body.contains("\"ann\""),
        "no client or user is a label"
    );
    broker.stop();
}

/// Prometheus refuses a scrape in which one series stands twice, or a family without its type before it.
#[test]
fn every_series_is_there_once_below_its_help_and_type() {
    let (broker, admin, _) = start(&["--shards", "2"]);
    let body = get(admin, "/metrics").body;
    let (mut families, mut series, mut current) = (BTreeSet::new(), BTreeSet::new(), "");
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("there is a help");
            assert!(families.insert(name) && help.ends_with('.'), "{line}");
            current = name;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("there is a type");
            assert_eq!(name, current);
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').expect("there is a value");
            assert!(value.parse::<f64>().is_ok() && series.insert(name), "{line}");
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .fold(name.to_owned(), |name, part| name.replace(&format!("{current}{part}"), current));
            assert!(
                name.strip_prefix(current).is_some_and(|rest| rest.is_empty() || rest.starts_with('{')),
                "{line}"
            );
        }
    }
    assert!(
        families.len() > 50 && series.len() > 250,
        "{} families, {} series",
        families.len(),
        series.len()
    );
    broker.stop();
}

#[test]
fn probes_tell_health_and_whether_clients_can_connect() {
    let (mut broker, admin, probes) = start(&["--shards", "2"]);
    for surface in [admin, probes] {
        for (path, status, body) in [
            ("/healthz", 200, "ok\n"),
            ("/readyz", 200, "ready\n"),
            ("/none", 404, "there is nothing here\n"),
        ] {
            let answer = get(surface, path);
            assert_eq!((answer.status, answer.body.as_str()), (status, body), "{path}");
            assert!(
                answer.head.contains("cache-control: no-store") && answer.head.contains("nosniff"),
                "{}",
                answer.head
            );
        }
        assert!(get(surface, "/").body.contains("/metrics"));
        let host = |name: &str| {
            ask(surface, &format!("GET /metrics HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"))
                .status
        };
        assert_eq!(host("localhost"), 200);
        // A page of another name that resolves to this address reads nothing. Probes come by any name.
        assert_eq!(host("evil.example"), if surface == admin { 421 } else { 200 });
        let posted = ask(
            surface,
            "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(posted.status, 405);
        assert_eq!(ask(surface, "\u{1}\r\n\r\n").status, 400);
    }
    // A client that does not close holds the stop up, and for so long the broker is not ready.
    let _lingering = Peer::connect(broker.address(), &Connect::new(Version::V5, "lingering"));
    broker.process().signal(Signal::TERM);
    let deadline = Deadline::after(PATIENCE);
    let stopping = loop {
        let answer = get(probes, "/readyz");
        if answer.status != 200 {
            break answer;
        }
        assert!(deadline.remaining().is_some(), "it stays ready");
    };
    assert_eq!((stopping.status, stopping.body.as_str()), (503, "the broker stops\n"));
    broker.stop();
}

#[test]
fn silent_connections_take_nobody_elses_answer() {
    let (broker, admin, probes) = start(&[]);
    let silent: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(admin).expect("it listens")).collect();
    assert_eq!(get(probes, "/readyz").status, 200, "the services have places of their own");
    // One more is closed without an answer.
    assert_eq!(get(admin, "/readyz").status, 0);
    drop(silent);
    let deadline = Deadline::after(PATIENCE);
    while get(admin, "/readyz").status != 200 {
        assert!(deadline.remaining().is_some(), "the places are not free again");
    }
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V5, "peer"));
    peer.ping();
    broker.stop();
}

#[test]
fn an_address_that_is_taken_or_open_to_others_is_an_error_with_its_remedy() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    for (config, parts) in [
        (
            format!("port = 0\n[admin]\nbind = \"{address}\"\n"),
            ["[admin] cannot listen on", "write another bind"],
        ),
        (
            format!("port = 0\n[probes]\nbind = \"{address}\"\n"),
            ["[probes] cannot listen on", "write another bind"],
        ),
        ("[admin]\nbind = \"0.0.0.0:0\"\n".to_owned(), ["admin.bind", "needs [admin.tls]"]),
        ("[admin]\nbind = \"9883\"\n".to_owned(), ["admin.bind", "\"off\""]),
        ("[probes]\n".to_owned(), ["probes needs bind", "0.0.0.0:9884"]),
        ("[admin.tls]\n".to_owned(), ["admin.tls needs certificates", "chain"]),
    ] {
        let directory = Directory::new();
        directory.write("config/broker.conf", &config);
        let mut command = command_in(&directory);
        command.args(["--data-dir", "data"]);
        let refused = run(command);
        assert_eq!(refused.status.code(), Some(2), "{}", refused.output);
        assert!(parts.iter().all(|part| refused.output.contains(part)), "{}", refused.output);
    }
}

/// Without `[admin]` the usual port is used, and this is the one test that does so. Whoever has it already, every broker starts.
#[test]
fn two_brokers_on_one_machine_start_without_a_configuration() {
    let start = |directory: &Directory| {
        let mut command = command_in(directory);
        command.args(["--port", "0", "--data-dir", "data"]);
        let mut process = Process::spawn(command);
        process.wait_for(0, "`listening on`", |line| line.contains("listening on 127.0.0.1"));
        process
    };
    let directories = [Directory::new(), Directory::new()];
    let _first = start(&directories[0]);
    let mut second = start(&directories[1]);
    let line = second.wait_for(0, "warning", |line| line.contains("metrics and health are not served"));
    assert!(line.contains("WARN") && line.contains("127.0.0.1:9883") && line.contains("[admin]"), "{line}");
}
