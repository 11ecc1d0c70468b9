//! `mqtt-broker disconnect`: the operator closes a client of the running broker, and receives the result.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::broker::{Broker, Directory, Io, Setup, command_in};
use crate::harness::packet::{Connect, Properties, Publish, Version, property};
use crate::harness::peer::Peer;
use crate::harness::process::{Finished, run};
use crate::harness::time::PATIENCE;

/// Runs the command of the operator.
pub(crate) fn disconnect(broker: &Broker, client_id: &str) -> Finished {
    disconnect_in(broker.directory(), Path::new("data"), client_id)
}

fn disconnect_in(directory: &Directory, data_dir: &Path, client_id: &str) -> Finished {
    let mut command = command_in(directory);
    command.arg("disconnect").arg("--data-dir").arg(data_dir).args(["--", client_id]);
    run(command)
}

/// The command failed with one sentence that gives the reason.
fn refused(finished: &Finished, parts: &[&str]) {
    assert_eq!(finished.status.code(), Some(1), "{}", finished.output);
    assert_eq!(finished.output.lines().count(), 1, "{}", finished.output);
    for part in parts {
        assert!(finished.output.contains(part), "{part:?} is missing in: {}", finished.output);
    }
}

fn socket(broker: &Broker) -> PathBuf {
    broker.directory().path().join("data/control.sock")
}

#[test]
fn a_client_is_closed_with_its_will_and_its_session_goes_on() {
    for io in Io::EACH {
        for (version, expected) in [(Version::V5, Some(0x98)), (Version::V3_1_1, None)] {
            let setup = Setup { io, flags: &["--shards", "3", "--sys-interval-s", "1"], ..Setup::default() };
            let mut broker = Broker::start_with(&setup);
            let mut watcher = Peer::connect(broker.address(), &Connect::new(Version::V5, "watcher"));
            watcher.subscribe("will/#", 1);
            // Enough clients that some live on another shard than the one that accepted them.
            for number in 0..4 {
                let id = format!("client {number} \"ü\"");
                let will = format!("will/{number}");
                let connect = Connect::persistent(version, &id);
                let mut client = Peer::connect(
                    broker.address(),
                    &connect.clone().with_will(&will, b"gone", Properties::new()),
                );
                client.subscribe("t", 1);
                let finished = disconnect(&broker, &id);
                assert_eq!(finished.status.code(), Some(0), "{}", finished.output);
                assert_eq!(finished.output, format!("client {id:?} was disconnected"));
                assert_eq!(client.await_close(), expected, "{version:?} on {io:?}");
                assert_eq!(watcher.next_message().topic, will);
                // The second attempt finds no client.
                refused(&disconnect(&broker, &id), &["client 0".replace('0', &number.to_string()).as_str()]);
                watcher.publish(&Publish::new("t", 1, b"meanwhile"));
                let mut client = Peer::connect(broker.address(), &connect);
                assert!(client.session_present);
                assert_eq!(client.next_message().text(), "meanwhile");
                client.disconnect();
            }
            broker
                .process()
                .wait_for(0, "line about it", |line| line.contains("disconnected by the operator"));
            watcher.subscribe("$SYS/broker/clients/closed_by_operator", 0);
            while watcher.next_message().text() != "4" {}
            broker.stop();
        }
    }
}

#[test]
fn a_session_without_an_expiry_ends() {
    let broker = Broker::start_with(&Setup::default());
    for (version, expected) in [(Version::V5, Some(0x98)), (Version::V3_1_1, None)] {
        let mut client = Peer::connect(broker.address(), &Connect::new(version, "brief"));
        client.subscribe("t", 1);
        assert!(disconnect(&broker, "brief").status.success());
        assert_eq!(client.await_close(), expected);
        let client = Peer::connect(broker.address(), &Connect::persistent(version, "brief"));
        assert!(!client.session_present, "{version:?}");
        client.disconnect();
        let clean = Peer::connect(broker.address(), &Connect::new(version, "brief"));
        clean.disconnect();
    }
    broker.stop();
}

#[test]
fn an_identifier_that_the_broker_assigned_is_found_wherever_it_lives() {
    let broker = Broker::start_with(&Setup { flags: &["--shards", "3"], ..Setup::default() });
    for _ in 0..6 {
        let mut client = Peer::connect(broker.address(), &Connect::new(Version::V5, ""));
        let id = client.text(property::ASSIGNED_CLIENT_ID).expect("the broker assigns one");
        assert!(disconnect(&broker, &id).status.success());
        assert_eq!(client.await_close(), Some(0x98));
    }
    broker.stop();
}

#[test]
fn an_unknown_client_is_reported_and_no_other_is_closed() {
    let broker = Broker::start_with(&Setup::default());
    let mut other = Peer::connect(broker.address(), &Connect::new(Version::V5, "other"));
    let absent = Connect::persistent(Version::V5, "absent");
    Peer::connect(broker.address(), &absent).disconnect();
    // A connection without CONNECT is not a client.
    let stranger = Peer::open(broker.address(), Version::V5);
    let long = "x".repeat(100_000);
    for id in ["nobody", "absent", "", "oth", "other ", "-h", "a\nb", &long] {
        let shown: String = format!("{id:?}").chars().take(20).collect();
        refused(&disconnect(&broker, id), &["error: no client", &shown, "connected"]);
    }
    other.ping();
    stranger.vanish();
    broker.stop();
}

#[test]
fn without_a_broker_the_data_directory_is_named() {
    let directory = Directory::new();
    let nowhere = Path::new("nowhere/data");
    refused(&disconnect_in(&directory, nowhere, "a"), &["no broker runs", "nowhere/data", "--data-dir"]);
    // After a clean stop and after a crash, which leaves the socket behind.
    let setup = Setup::default();
    let broker = Broker::start_with(&setup);
    let path = socket(&broker);
    let (_, directory) = broker.stop();
    assert!(!path.exists());
    refused(&disconnect_in(&directory, Path::new("data"), "a"), &["no broker runs"]);
    let directory = Broker::start_in(directory, &setup).kill();
    assert!(path.exists());
    refused(&disconnect_in(&directory, Path::new("data"), "a"), &["no broker runs"]);
    let broker = Broker::start_in(directory, &setup);
    let mut client = Peer::connect(broker.address(), &Connect::new(Version::V5, "a"));
    assert!(disconnect(&broker, "a").status.success());
    assert_eq!(client.await_close(), Some(0x98));
    broker.stop();
}

#[test]
fn the_socket_belongs_to_its_owner_alone_and_survives_invalid_requests() {
    let broker = Broker::start_with(&Setup::default());
    let path = socket(&broker);
    let mode = fs::metadata(&path).expect("a broker that serves has its socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let say = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(&path).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option of sockets");
        // The broker may close before it has read everything.
        let _ = stream.write_all(bytes);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    assert_eq!(say(b"disconnect a\n"), "\"not_understood\"\n");
    assert_eq!(say(b"{\"disconnect\":{\"client_id\":\"\xff\"}}\n"), "\"not_understood\"\n");
    assert_eq!(say(&vec![b' '; 4_000_000]), "\"not_understood\"\n");
    assert_eq!(say(b"{\"disconnect\":{\"client_id\":\"nobody\"}}\nmore\n"), "\"not_connected\"\n");
    // A connection that sends nothing, or half a line, blocks the others only for a bounded time.
    let silent = UnixStream::connect(&path).expect("it listens");
    let mut half = UnixStream::connect(&path).expect("it listens");
    half.write_all(b"{\"disconnect\":").expect("it has room");
    let mut client = Peer::connect(broker.address(), &Connect::new(Version::V5, "a"));
    assert!(disconnect(&broker, "a").status.success());
    assert_eq!(client.await_close(), Some(0x98));
    drop((silent, half));
    broker.stop();
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_warned_about_and_survived() {
    let directory = Directory::new();
    let deep = directory.path().join("deep".repeat(30));
    let mut command = command_in(&directory);
    command.args(["--bind", "127.0.0.1", "--port", "0", "--data-dir"]).arg(&deep);
    let mut broker = Broker::spawn(directory, command, 1);
    broker.process().wait_for(0, "warning", |line| {
        ["WARN", "control.sock", "disconnect", "too long"].iter().all(|part| line.contains(part))
    });
    let mut client = Peer::connect(broker.address(), &Connect::new(Version::V5, "a"));
    client.ping();
    refused(&disconnect_in(broker.directory(), &deep, "a"), &["control.sock", "too long", "log"]);
    client.disconnect();
    broker.process().signal(Signal::TERM);
    assert!(broker.process().wait_for_exit(PATIENCE).success());
}

#[test]
fn a_broker_that_does_not_answer_is_waited_for_within_a_bound() {
    let mut broker = Broker::start_with(&Setup::default());
    broker.process().signal(Signal::STOP);
    let finished = disconnect(&broker, "a");
    broker.process().signal(Signal::CONT);
    refused(&finished, &["cannot be reached", "control.sock"]);
    broker.stop();
}
