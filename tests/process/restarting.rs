//! A stop and the start after it: the expiry of sessions goes on, and messages that only memory has are counted.

use std::fs;
use std::time::Duration;

use crate::harness::broker::{Broker, MEMORY, Setup};
use crate::harness::packet::{Connect, Properties, Publish, Version, property};
use crate::harness::peer::Peer;

fn expiring(client_id: &str, expiry_s: u32) -> Connect<'_> {
    let mut connect = Connect::new(Version::V5, client_id);
    connect.clean_start = false;
    connect.properties = Properties::new().four(property::SESSION_EXPIRY_INTERVAL, expiry_s);
    connect
}

/// A session that never expires was gone 7 s after a restart, with `default_session_expiry_s` = 5.
#[test]
fn a_session_keeps_its_expiry_over_a_restart_and_over_a_kill() {
    let setup =
        Setup { flags: &["--default-session-expiry-s", "1", MEMORY[0], MEMORY[1]], ..Setup::default() };
    let broker = Broker::start_with(&setup);
    for (name, expiry_s) in [("ever", u32::MAX), ("hour", 3_600), ("second", 1)] {
        let mut peer = Peer::connect(broker.address(), &expiring(name, expiry_s));
        peer.subscribe("t", 1);
    }
    let mut older = Peer::connect(broker.address(), &Connect::persistent(Version::V3_1_1, "older"));
    older.subscribe("t", 1);
    let (_, directory) = broker.stop();
    let file = directory.path().join("data/subscriptions.json");
    let kept = fs::read_to_string(&file).expect("it was written");
    assert!(kept.contains("\"ever\": {\"expiry_s\": 4294967295}"), "{kept}");

    let mut broker = Broker::start_in(directory, &setup);
    // Two sessions end after a second; their end is seen by the file, which is written again.
    broker.process().wait_for(0, "restored", |line| line.contains("restored sessions=4"));
    let deadline = crate::harness::time::Deadline::after(crate::harness::time::PATIENCE);
    let kept = || fs::read_to_string(&file).expect("it was written");
    while ["\"older\"", "\"second\""].iter().any(|name| kept().contains(name)) {
        assert!(deadline.remaining().is_some(), "the sessions of a second do not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(kept().contains("\"ever\"") && kept().contains("\"hour\""), "{}", kept());
    let broker = Broker::start_in(broker.kill(), &setup);
    for (name, expected) in [("ever", true), ("hour", true), ("second", false), ("older", false)] {
        let peer = Peer::connect(broker.address(), &expiring(name, 3_600));
        assert_eq!(peer.session_present, expected, "{name}");
    }
    broker.stop();
}

#[test]
fn a_file_without_expiries_is_read_and_has_the_default() {
    let directory = crate::harness::broker::Directory::new();
    let founding = "{\"subscriptions\": {\"sensor\": [{\"topic_filter\": \"a/#\", \"qos\": 0, \"no_local\": false, \
                    \"retain_as_published\": false, \"retain_handling\": 0}]}}";
    directory.write("data/subscriptions.json", founding);
    let setup =
        Setup { flags: &["--default-session-expiry-s", "7", MEMORY[0], MEMORY[1]], ..Setup::default() };
    let (_, directory) = Broker::start_in(directory, &setup).stop();
    let kept = fs::read_to_string(directory.path().join("data/subscriptions.json")).expect("it was written");
    assert!(
        kept.contains("\"sensor\": [{\"topic_filter\": \"a/#\", ") && kept.contains("{\"expiry_s\": 7"),
        "{kept}"
    );
}

#[test]
fn a_stop_says_how_many_messages_end_with_it() {
    let flags = ["--shards", "2", MEMORY[0], MEMORY[1]];
    let broker = Broker::start_with(&Setup { flags: &flags, ..Setup::default() });
    for name in ["a", "b", "c"] {
        let mut peer = Peer::connect(broker.address(), &Connect::persistent(Version::V5, name));
        peer.subscribe("t", 1);
        peer.disconnect();
    }
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
    publisher.publish(&Publish::new("t", 1, b"1"));
    publisher.publish(&Publish::new("t", 1, b"2").retained());
    publisher.publish(&Publish::new("kept", 1, b"3").retained());
    let (finished, _directory) = broker.stop();
    let told = |line: &str| line.contains("WARN") && line.contains("messages end with the process");
    let line =
        finished.output.lines().find(|line| told(line)).unwrap_or_else(|| panic!("{}", finished.output));
    assert!(line.contains("queued=6") && line.contains("retained=2"), "{line}");

    let (finished, _directory) = Broker::start_with(&Setup::default()).stop();
    assert!(!finished.output.lines().any(told), "nothing was lost:\n{}", finished.output);
}

#[test]
fn credentials_that_nothing_checks_are_one_warning_without_their_text() {
    let mut broker = Broker::start_with(&Setup { flags: &["--log-level", "debug"], ..Setup::default() });
    let warns = |line: &str| line.contains("WARN") && line.contains("does not check");
    for _ in 0..3 {
        let mut peer = Peer::open(broker.address(), Version::V3_1_1);
        // Clean session, with the user name `alice` and the password `s3cret`.
        peer.send(b"\x10\x1C\0\x04MQTT\x04\xC2\0\x3C\0\x01u\0\x05alice\0\x06s3cret");
        assert_eq!(peer.await_connack(), 0);
        broker.process().wait_for(0, "warning", warns);
    }
    let (finished, _directory) = broker.stop();
    assert_eq!(finished.output.lines().filter(|line| warns(line)).count(), 1, "{}", finished.output);
    assert!(!finished.output.contains("s3cret") && !finished.output.contains("alice"), "{}", finished.output);
}
