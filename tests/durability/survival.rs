//! Everything acknowledged is there after the broker was killed, and after a clean stop.

use std::collections::BTreeMap;

use crate::harness::broker::{Broker, Directory, Io, MEMORY, Setup};
use crate::harness::packet::{Connect, PUBREC, Properties, Publish, Version, acknowledgement, property};
use crate::harness::peer::Peer;
use crate::harness::received::Received;
use crate::{MESHED, POWER, PROCESS, setup};

/// Ends a broker and starts another one with its data.
type Restart = fn(Broker, &[&str]) -> Broker;

fn killed(broker: Broker, flags: &[&str]) -> Broker {
    Broker::start_in(broker.kill(), &setup(Io::Auto, flags))
}

fn stopped(broker: Broker, flags: &[&str]) -> Broker {
    let (_, directory) = broker.stop();
    Broker::start_in(directory, &setup(Io::Auto, flags))
}

/// The data is dealt anew.
fn dealt(broker: Broker, _flags: &[&str]) -> Broker {
    Broker::start_in(broker.kill(), &setup(Io::Auto, &["--durability", "process", "--shards", "3"]))
}

/// Both levels, and several shards, each ended in both ways; and other numbers of shards.
const WAYS: [(&[&str], Restart); 8] = [
    (&PROCESS, dealt),
    (&MESHED, dealt),
    (&PROCESS, killed),
    (&POWER, killed),
    (&MESHED, killed),
    (&PROCESS, stopped),
    (&POWER, stopped),
    (&MESHED, stopped),
];

fn lasting(name: &str) -> Connect<'_> {
    Connect::persistent(Version::V5, name)
}

#[test]
fn a_log_is_read_under_rules() {
    const RULES: &str =
        "[rules]\nroles_anonymous = [\"plain\"]\n[role.plain]\npublish = [\"q\"]\nsubscribe = [\"q\"]\n";
    let start = |directory: Directory| {
        Broker::start_in(directory, &Setup { config: RULES, ..setup(Io::Auto, &PROCESS) })
    };
    let mut directory = Directory::new();
    for round in ["1", "2", "3"] {
        let broker = start(directory);
        let mut subscriber = Peer::connect(broker.address(), &lasting("subscriber"));
        assert_eq!(subscriber.subscribe("q", 1), 1);
        if round != "1" {
            assert!(subscriber.session_present);
            assert_eq!(subscriber.next_message().text(), "queued");
        }
        subscriber.disconnect_with(0, &Properties::new());
        let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
        assert_eq!(publisher.publish(&Publish::new("q", 1, b"queued")), 0);
        assert_eq!(publisher.publish(&Publish::new("other", 1, b"refused")), 0x87);
        directory = broker.kill();
    }
}

#[test]
fn queued_messages_subscriptions_and_retained_ones_are_there_afterwards() {
    for (flags, restart) in WAYS {
        let broker = Broker::start_with(&setup(Io::Auto, flags));
        let mut subscriber = Peer::connect(broker.address(), &lasting("subscriber"));
        subscriber.subscribe("q/#", 2);
        subscriber.subscribe("gone", 2);
        subscriber.unsubscribe(&["gone"]);
        subscriber.disconnect_with(0, &Properties::new());
        let mut publisher = Peer::connect(broker.address(), &lasting("publisher"));
        for (number, qos) in [(1, 1), (2, 2), (3, 1), (4, 2)] {
            let payload = format!("{number}");
            assert_eq!(publisher.publish(&Publish::new("q/a", qos, payload.as_bytes())), 0);
        }
        publisher.publish(&Publish::new("kept", 1, b"old").retained());
        publisher.publish(&Publish::new("kept", 1, b"new").retained());
        publisher.publish(&Publish::new("deleted", 1, b"old").retained());
        publisher.publish(&Publish::new("deleted", 1, b"").retained());

        let broker = restart(broker, flags);
        let mut other = Peer::connect(broker.address(), &Connect::new(Version::V5, "other"));
        other.publish(&Publish::new("gone", 1, b"5"));
        other.publish(&Publish::new("q/b", 1, b"6"));
        let mut subscriber = Peer::connect(broker.address(), &lasting("subscriber"));
        assert!(subscriber.session_present);
        for (number, qos) in [("1", 1), ("2", 2), ("3", 1), ("4", 2), ("6", 1)] {
            let message = subscriber.next_message();
            assert_eq!((&message.text()[..], message.qos), (number, qos), "{flags:?}");
        }
        other.subscribe("#", 1);
        let message = other.next_message();
        assert_eq!((&message.topic[..], &message.text()[..], message.retain), ("kept", "new", true));
        other.ping();
        subscriber.ping();
        assert!(other.waiting().is_empty() && subscriber.waiting().is_empty());
        broker.stop();
    }
}

#[test]
fn a_message_in_flight_is_sent_again_under_its_identifier() {
    for (flags, restart) in WAYS {
        let broker = Broker::start_with(&setup(Io::Auto, flags));
        let mut subscriber = Peer::connect(broker.address(), &lasting("subscriber"));
        subscriber.subscribe("t", 2);
        let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
        for qos in [1, 2, 2] {
            publisher.publish(&Publish::new("t", qos, b"x"));
        }
        let [first, second, third] = [(); 3].map(|()| subscriber.next_publish());
        // The third one is half way: the broker knows that it arrived.
        subscriber.send(&acknowledgement(PUBREC, third.packet_id));
        let released = |received: &Received| matches!(received, Received::PubRel { packet_id, .. } if *packet_id == third.packet_id);
        subscriber.await_packet("PUBREL", released);

        let broker = restart(broker, flags);
        let mut subscriber = Peer::connect(broker.address(), &lasting("subscriber"));
        assert!(subscriber.session_present);
        let mut again = BTreeMap::new();
        let mut is_released = false;
        while again.len() < 2 || !is_released {
            match subscriber.next() {
                Received::Publish(message) => {
                    assert!(message.dup, "{message:?}");
                    again.insert(message.packet_id, message.qos);
                }
                received if released(&received) => is_released = true,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(again, BTreeMap::from([(first.packet_id, 1), (second.packet_id, 2)]), "{flags:?}");
        broker.stop();
    }
}

#[test]
fn a_handshake_of_qos_2_goes_on_and_its_message_arrives_once() {
    for (flags, restart) in WAYS {
        let broker = Broker::start_with(&setup(Io::Auto, flags));
        let mut subscriber = Peer::connect(broker.address(), &lasting("subscriber"));
        subscriber.subscribe("t", 2);
        subscriber.disconnect();
        let mut publisher = Peer::connect(broker.address(), &lasting("publisher"));
        let publish = Publish::new("t", 2, b"once").with_packet_id(77);
        publisher.send(&publish.encode(Version::V5));
        assert_eq!(publisher.await_pubrec(77), 0);

        let broker = restart(broker, flags);
        let mut publisher = Peer::connect(broker.address(), &lasting("publisher"));
        assert!(publisher.session_present);
        let mut repeated = publish;
        repeated.dup = true;
        publisher.send(&repeated.encode(Version::V5));
        assert_eq!(publisher.complete(2, 77), 0);
        let mut subscriber = Peer::connect(broker.address(), &lasting("subscriber"));
        let message = subscriber.next_message();
        assert_eq!(message.text(), "once");
        subscriber.ping();
        assert!(subscriber.waiting().is_empty(), "{flags:?}");
        broker.stop();
    }
}

/// A will of a client that was connected when the broker was killed is due when it is back.
#[test]
fn a_will_is_published_although_the_broker_was_killed() {
    let broker = Broker::start_with(&setup(Io::Auto, &PROCESS));
    let mut subscriber = Peer::connect(broker.address(), &lasting("subscriber"));
    subscriber.subscribe("will", 1);
    let connect = Connect::new(Version::V5, "volatile").with_will("will", b"gone", Properties::new());
    let _volatile = Peer::connect(broker.address(), &connect);
    let broker = killed(broker, &PROCESS);
    let mut subscriber = Peer::connect(broker.address(), &lasting("subscriber"));
    assert_eq!(subscriber.next_message().text(), "gone");
    broker.stop();
}

/// The expiry of a session goes on while the broker does not run.
#[test]
fn a_session_whose_time_is_over_is_gone() {
    let broker = Broker::start_with(&setup(Io::Auto, &PROCESS));
    for (name, expiry_s) in [("short", 1), ("long", 3_600)] {
        let mut connect = Connect::new(Version::V5, name);
        connect.clean_start = false;
        connect.properties = Properties::new().four(property::SESSION_EXPIRY_INTERVAL, expiry_s);
        Peer::connect(broker.address(), &connect).subscribe("t", 1);
    }
    let directory = broker.kill();
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let broker = Broker::start_in(directory, &setup(Io::Auto, &PROCESS));
    // The connections were lost when the broker was: their time begins where the log ends.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    for (name, expected) in [("short", false), ("long", true)] {
        let peer = Peer::connect(broker.address(), &lasting(name));
        assert_eq!(peer.session_present, expected, "{name}");
    }
    broker.stop();
}

#[test]
fn subscriptions_of_the_file_are_taken_over_once() {
    let directory = Directory::new();
    let founding = "{\"subscriptions\": {\"sensor\": [{\"topic_filter\": \"a/#\", \"qos\": 1, \"no_local\": false, \
                    \"retain_as_published\": false, \"retain_handling\": 0}]}}";
    let file = directory.write("data/subscriptions.json", founding);
    // As an existing installation is upgraded: by nothing but the program.
    let flags = ["--default-session-expiry-s", "3600"];
    let mut broker = Broker::start_in(directory, &setup(Io::Auto, &flags));
    broker.process().wait_for(0, "import", |line| line.contains("subscriptions.json.imported"));
    assert!(!file.exists() && file.with_file_name("subscriptions.json.imported").exists());
    let mut broker = killed(broker, &flags);
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
    publisher.publish(&Publish::new("a/b", 1, b"1"));
    let mut sensor = Peer::connect(broker.address(), &lasting("sensor"));
    assert!(sensor.session_present);
    assert_eq!(sensor.next_message().text(), "1");
    assert!(!broker.process().output().contains(".imported"));
    assert!(!file.exists());
    broker.stop();
}

/// Every start begins another segment, and gives back the room that the last one did not use.
#[test]
fn starts_take_no_room_for_nothing() {
    let mut broker = Broker::start_with(&setup(Io::Auto, &PROCESS));
    for _ in 0..6 {
        let mut peer = Peer::connect(broker.address(), &lasting("peer"));
        peer.subscribe("t", 1);
        broker = killed(broker, &PROCESS);
    }
    let shard = broker.directory().path().join("data/journal/1/0");
    let entries = std::fs::read_dir(shard).expect("the log has a directory");
    let bytes: u64 =
        entries.map(|entry| entry.expect("it can be listed").metadata().expect("it exists").len()).sum();
    assert!(bytes < 2 * 16 * 1024 * 1024, "{bytes}");
    broker.stop();
}

#[test]
fn without_durability_no_file_of_a_log_is_written_and_none_is_read() {
    let broker = Broker::start_with(&setup(Io::Auto, &MEMORY));
    let mut peer = Peer::connect(broker.address(), &lasting("peer"));
    peer.subscribe("t", 1);
    peer.publish(&Publish::new("t", 1, b"1").retained());
    let (_, directory) = broker.stop();
    assert!(!directory.path().join("data/journal").exists());
    assert!(directory.path().join("data/subscriptions.json").exists());

    // A log that is there is told, and not used.
    let broker = Broker::start_in(directory, &setup(Io::Auto, &PROCESS));
    let (_, directory) = broker.stop();
    let (finished, _directory) = Broker::start_in(directory, &setup(Io::Auto, &MEMORY)).stop();
    let told = finished.output.lines().any(|line| line.contains("WARN the data directory has a journal"));
    assert!(told, "{}", finished.output);
}

/// Every way of doing I/O hears of its disk.
#[test]
fn each_backend_acknowledges_with_a_log() {
    for io in Io::EACH {
        let broker = Broker::start_with(&setup(io, &POWER));
        let mut peer = Peer::connect(broker.address(), &lasting("peer"));
        peer.subscribe("t", 2);
        for qos in [1, 2] {
            peer.publish(&Publish::new("t", qos, b"1"));
            peer.next_message();
        }
        let broker = Broker::start_in(broker.kill(), &setup(io, &POWER));
        let peer = Peer::connect(broker.address(), &lasting("peer"));
        assert!(peer.session_present, "{io:?}");
        broker.stop();
    }
}
