//! The level of a listener: it decides when acknowledgements leave, and everybody is told it who asks.

use std::time::Duration;

use crate::faults::command_with_fault;
use crate::harness::broker::{Broker, Directory};
use crate::harness::packet::{Connect, Properties, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::received::Value;
use crate::harness::time::now;

/// A broker of `level` with a listener of each level and one without. A sync takes so many microseconds.
fn broker(level: &str, delay_us: u32) -> Option<Broker> {
    let directory = Directory::new();
    let config = format!(
        "durability = \"{level}\"\nshards = 1\n[[listener]]\nname = \"fast\"\nport = 0\nbind = [\"127.0.0.1\"]\n\
         durability = \"process\"\n[[listener]]\nname = \"safe/1\"\nport = 0\nbind = [\"127.0.0.1\"]\ndurability = \"power\"\n\
         [[listener]]\nname = \"plain\"\nport = 0\nbind = [\"127.0.0.1\"]\n"
    );
    let file = directory.write("test.conf", &config);
    let fault = format!("fdatasync:delay_enter={delay_us}");
    let mut command = command_with_fault(&directory, (&fault, &[]))?;
    command.arg("--config").arg(file).args(["--data-dir", "data", "--io", "epoll"]);
    Some(Broker::spawn(directory, command, 3))
}

#[test]
fn the_level_of_a_listener_decides_when_its_acknowledgements_leave() {
    let delay = Duration::from_millis(400);
    for level in ["process", "power"] {
        let Some(broker) = broker(level, 400_000) else { return };
        let keeper = Connect::persistent(Version::V5, "keeper");
        Peer::connect(broker.addresses()[0], &keeper).subscribe("t", 1);
        let mut published_count = 0;
        for (&address, waits) in broker.addresses().iter().zip([false, true, level == "power"]) {
            let mut publisher = Peer::connect(address, &Connect::new(Version::V5, "publisher"));
            let mut publish = || {
                // The syncs that other packets asked for end first.
                std::thread::sleep(3 * delay);
                let began = now();
                publisher.publish(&Publish::new("t", 1, b"x"));
                published_count += 1;
                began.elapsed()
            };
            let mut waited = publish();
            // A machine with other work may be late once or twice, but never early.
            for _ in 0..2 {
                if !waits && waited >= delay {
                    waited = publish();
                }
            }
            assert_eq!(waited >= delay, waits, "{level}: {waited:?}");
            publisher.disconnect();
        }
        // Everything is kept whatever the listener.
        let directory = broker.kill();
        let flags = ["--durability", level, "--shards", "1"];
        let broker = Broker::start_in(directory, &crate::setup(crate::harness::broker::Io::Epoll, &flags));
        let mut keeper = Peer::connect(broker.address(), &keeper);
        for _ in 0..published_count {
            assert_eq!(keeper.next_message().text(), "x");
        }
        broker.stop();
    }
}

#[test]
fn the_level_is_told_in_connack_to_a_client_that_asks_in_sys_and_in_the_log() {
    let Some(mut broker) = broker("process", 0) else { return };
    for (&address, level) in broker.addresses().iter().zip(["process", "power", "process"]) {
        let told = |name: &str| {
            let properties = Properties::new().pair(name, "durability");
            let peer = Peer::connect(address, &Connect { properties, ..Connect::new(Version::V5, "a") });
            let pairs = peer.properties.iter().filter_map(|(_, value)| match value {
                Value::Pair(name, value) => Some((name.clone(), value.clone())),
                Value::Number(_) | Value::Bytes(_) => None,
            });
            pairs.collect::<Vec<_>>()
        };
        assert_eq!(told("durability"), [("durability".to_owned(), level.to_owned())]);
        assert_eq!(told("other"), []);
    }
    let mut watcher = Peer::connect(broker.address(), &Connect::new(Version::V5, "watcher"));
    watcher.subscribe("$SYS/broker/durability/#", 0);
    let mut told: Vec<_> = (0..3)
        .map(|_| watcher.next_message())
        .map(|message| (message.topic.clone(), message.text()))
        .collect();
    told.sort();
    let expected = [("", "process"), ("/fast", "process"), ("/safe_1", "power")];
    assert_eq!(
        told,
        expected.map(|(name, level)| (format!("$SYS/broker/durability{name}"), level.to_owned()))
    );
    let output = broker.process().output();
    for line in [
        "what is acknowledged survives the end of the process",
        "on this listener, what is acknowledged survives the loss of power listener=\"safe/1\" durability=\"power\"",
    ] {
        assert!(output.contains(line), "{line} is missing in {output}");
    }
    broker.kill();
}
