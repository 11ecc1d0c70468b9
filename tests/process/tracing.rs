//! `mqtt-broker trace` and `/v1/…/trace`: packets of a client and of a topic while they go by, bounded, and without what nobody asked for.

use serde_json::Value;

use crate::api::{READ, serve};
use crate::asking::{HOSTILE, is_plain};
use crate::harness::broker::{Broker, Io, Setup, command_in};
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::process::{Process, Stream};
use crate::harness::time::PATIENCE;
use crate::operators::operate;

/// A trace that has begun: `poke` makes packets that it shows, until it does.
fn begin(broker: &Broker, arguments: &[&str], mut poke: impl FnMut()) -> Process {
    let mut command = command_in(broker.directory());
    command.args(["--data-dir", "data", "trace"]).args(arguments);
    let mut process = Process::spawn(command);
    while process.lines().is_empty() {
        assert!(process.is_running(), "{}", process.output());
        poke();
    }
    process
}

/// The rows that a trace printed, once it has ended.
fn rows(mut process: Process) -> Vec<Value> {
    assert!(process.wait_for_exit(PATIENCE).success(), "{}", process.output());
    let lines = process.lines().iter().filter(|(stream, _)| *stream == Stream::Out);
    lines.map(|(_, line)| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn a_topic_is_followed_from_its_publisher_to_its_subscribers() {
    for io in [Io::Auto, Io::Tokio, Io::Blocking] {
        let broker = Broker::start_with(&Setup { io, flags: &["--shards", "2"], ..Setup::default() });
        let connect = |id: &str| Peer::connect(broker.address(), &Connect::new(Version::V5, id));
        let (mut publisher, mut reader, mut other) =
            (connect("publisher"), connect("reader"), connect(HOSTILE));
        reader.subscribe("a/b", 1);
        other.subscribe("#", 0);
        let mut beacon = connect("beacon");
        let arguments = ["--topic", "a/+", "--seconds", "2", "--payload=4", "--json"];
        let process = begin(&broker, &arguments, || {
            beacon.publish(&Publish::new("a/beacon", 1, b"").with_packet_id(1));
        });
        publisher.publish(&Publish::new("c/b", 1, b"").with_packet_id(2));
        publisher.publish(&Publish::new("a/b", 1, b"payload").with_packet_id(1));
        let message = reader.next_publish();
        reader.acknowledge(&message);
        reader.ping();
        let all = rows(process);
        let rows: Vec<&Value> = all.iter().filter(|row| row["topic"] != "a/beacon").collect();
        assert_eq!(rows.len(), 3, "{io:?}: {rows:?}");
        for (client, direction, qos) in [("publisher", "in", 1), ("reader", "out", 1), (HOSTILE, "out", 0)] {
            let row = rows.iter().find(|row| row["client"] == client).expect(client);
            assert_eq!((&row["direction"], &row["topic"]), (&direction.into(), &"a/b".into()), "{row}");
            assert_eq!((&row["qos"], &row["payload_bytes"]), (&qos.into(), &7.into()), "{row}");
            assert_eq!((&row["packet"], &row["payload"]), (&"PUBLISH".into(), &"cGF5bA==".into()), "{row}");
        }
        broker.stop();
    }
}

#[test]
fn a_client_is_followed_from_its_connect_to_its_end_and_no_secret_is_shown() {
    let served = serve();
    let broker = &served.broker;
    let mut other = Peer::connect(broker.address(), &Connect::new(Version::V5, "other"));
    let mut before = Peer::connect(broker.address(), &Connect::new(Version::V5, HOSTILE));
    let mut process = begin(broker, &[HOSTILE, "--seconds", "3"], || before.ping());
    // The API sees the same trace.
    let path = "/v1/clients/x%1B%5B2J%0A%3Cb%3E%E2%80%AE%C2%9B31m%22/trace";
    let begun = served.call(READ, "GET", path, "");
    assert!(begun.status == 200, "{}", begun.body);
    before.disconnect();
    let connect = Connect::new(Version::V5, HOSTILE).with_credentials("name", b"secret");
    let mut peer = Peer::connect(broker.address(), &connect);
    other.publish(&Publish::new("t", 1, b"secret").with_packet_id(1));
    peer.subscribe("t", 1);
    other.publish(&Publish::new("t", 1, b"secret").with_packet_id(2));
    let message = peer.next_publish();
    peer.acknowledge(&message);
    peer.ping();
    let (_, next) = begun.body.split_once("\"next\":\"").expect("a place");
    let next = next.split('"').next().expect("a text");
    let page = served.call(READ, "GET", &format!("{path}?next={next}"), "");
    assert!(page.body.contains("SUBSCRIBE") && page.body.contains("t qos=1"), "{}", page.body);
    assert!(process.wait_for_exit(PATIENCE).success(), "{}", process.output());
    let output = process.output();
    let lines: Vec<&str> = output.lines().skip_while(|line| line.contains(" PING")).collect();
    let packets = [
        "DISCONNECT",
        "CONNECT",
        "CONNACK",
        "SUBSCRIBE",
        "SUBACK",
        "PUBLISH",
        "PUBACK",
        "PINGREQ",
        "PINGRESP",
    ];
    assert_eq!(lines.len(), packets.len(), "{output}");
    for (line, packet) in lines.iter().zip(packets) {
        assert!(line.contains(&format!("\" {packet} ")), "{packet}: {output}");
    }
    assert!(lines[1].contains("user=name"), "{output}");
    // Neither a password nor a payload, nor anything that a terminal obeys.
    assert!(!output.contains("secret") && !page.body.contains("secret") && is_plain(&output), "{output:?}");
    let refused = operate(broker, &["trace", "--topic", "a/#/b"]);
    assert!(
        refused.status.code() == Some(1) && refused.output.contains("no topic filter"),
        "{}",
        refused.output
    );
    served.broker.stop();
}

#[test]
fn a_trace_that_cannot_keep_up_says_what_it_lost() {
    let broker = Broker::start_with(&Setup { flags: &["--shards", "1"], ..Setup::default() });
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V3_1_1, "fast"));
    let mut process = begin(&broker, &["fast", "--seconds", "2"], || peer.ping());
    let burst: Vec<u8> =
        (0..5_000).flat_map(|_| Publish::new("t", 0, b"x").encode(Version::V3_1_1)).collect();
    peer.send(&burst);
    peer.ping();
    assert!(process.wait_for_exit(PATIENCE).success(), "{}", process.output());
    let output = process.output();
    let lost =
        output.lines().find_map(|line| line.split_once(" packets came faster")?.0.parse::<usize>().ok());
    assert!(lost.is_some_and(|lost| lost > 1_000), "{output}");
    broker.stop();
}
