//! The start of several shards: the key that assigns clients to shards, and the port that all shards share.

use std::net::TcpListener;
use std::process::Command;

use crate::harness::broker::{Broker, Directory, Setup, command_in, configure};
use crate::harness::process::run;

fn prepared(directory: &Directory) -> Command {
    let mut command = command_in(directory);
    configure(&mut command, directory, &Setup::default());
    command
}

#[test]
fn a_damaged_key_is_reported_and_kept() {
    let directory = Directory::new();
    let file = directory.write("data/placement.key", "not a key");
    let finished = run(prepared(&directory));
    assert_eq!(finished.status.code(), Some(1), "{}", finished.output);
    for part in ["placement.key", "damaged", "put back a copy", "remove it"] {
        assert!(finished.output.contains(part), "{part:?} is missing in:\n{}", finished.output);
    }
    assert_eq!(std::fs::read_to_string(file).expect("it is still there"), "not a key");
}

#[test]
fn more_shards_than_the_limit_are_refused() {
    let directory = Directory::new();
    let mut command = prepared(&directory);
    command.args(["--shards", "65"]);
    let finished = run(command);
    assert_eq!(finished.status.code(), Some(2), "{}", finished.output);
    assert!(finished.output.contains("--shards must be from 0 to 64, not 65"), "{}", finished.output);
}

/// An ended broker still held its port: `io_uring` keeps a listener with outstanding accepts for some milliseconds,
/// and longer with more shards. The next start failed because the port was in use.
#[test]
fn a_port_is_free_as_soon_as_a_broker_has_ended() {
    let port = quiet_port().to_string();
    let start = |directory: Directory| {
        let mut command = command_in(&directory);
        command.args(["--bind", "127.0.0.1", "--port", &port, "--shards", "4"]);
        Broker::spawn(directory, command, 1)
    };
    let mut directory = Directory::new();
    for _ in 0..5 {
        directory = start(directory).stop().1;
    }
    for _ in 0..5 {
        directory = start(directory).kill();
    }
}

/// A free port outside the range from which the system assigns ports, as for `--port 0`.
fn quiet_port() -> u16 {
    let first = u16::try_from(20_000 + std::process::id() % 10_000).expect("it is below 30 000");
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..32_768).find(is_free).expect("of thousands of ports one is free")
}
