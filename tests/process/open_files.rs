//! The limit of open files: connections stay within it, and never take the descriptors that the broker needs for its files.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::harness::broker::{Broker, Directory, Io, MEMORY, Setup, wrapped_command_in};
use crate::harness::machine::descriptor_count;
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;
use crate::harness::time::{Deadline, PATIENCE};

/// The limit of the broker under test.
const OPEN_FILES_MAX: usize = 176;

fn start(directory: Directory, io: Io) -> Broker {
    let script = format!("ulimit -n {OPEN_FILES_MAX}; exec \"$0\" \"$@\"");
    let limited = ["sh", "-c", &script].map(str::to_owned);
    let data_dir = directory.path().join("data");
    let mut command = wrapped_command_in(&directory, &limited);
    command.args(["--bind", "127.0.0.1", "--port", "0", "--shards", "2", "--sys-interval-s", "1"]);
    command.args(["--io", io.flag(), "--data-dir"]).arg(data_dir).args(MEMORY);
    Broker::spawn(directory, command, 1)
}

/// Waits until the file of subscriptions has this text.
fn await_saved(data_dir: &Path, text: &str) {
    let deadline = Deadline::after(PATIENCE);
    let file = data_dir.join("subscriptions.json");
    while !fs::read_to_string(&file).is_ok_and(|json| json.contains(text)) {
        assert!(deadline.remaining().is_some(), "{text} is not in {}", file.display());
        thread::sleep(Duration::from_millis(20));
    }
}

/// The number behind `name=` in a line of the log.
fn number(line: &str, name: &str) -> usize {
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line}"))
}

/// The kernel's table of descriptors grew with the connections, and each time the shard that accepted stood still for 10 to 25 ms.
#[test]
#[cfg(target_os = "linux")]
fn the_table_of_descriptors_has_room_for_all_connections_from_the_start() {
    let mut broker = Broker::start_with(&Setup { flags: &["--max-connections", "5000"], ..Setup::default() });
    let status = fs::read_to_string(format!("/proc/{}/status", broker.process().id()));
    let status = status.expect("the broker runs");
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
    let size: usize = size.and_then(|size| size.trim().parse().ok()).expect("Linux tells it");
    assert!((5_000..=16_384).contains(&size), "{size}");
}

/// A crowd took every descriptor, the writer of subscriptions found none, and a subscription that had been acknowledged was lost
/// with the next power failure.
#[test]
fn a_crowd_is_refused_with_a_reason_and_a_subscription_is_saved_in_the_midst_of_it() {
    for io in Io::EACH {
        let mut broker = start(Directory::new(), io);
        let data_dir = broker.directory().path().join("data");
        let process = broker.process().id();
        let warning = broker.process().wait_for(0, "warning", |line| line.contains("connections_possible="));
        let possible = number(&warning, "connections_possible");
        assert!((40..OPEN_FILES_MAX).contains(&possible), "{warning}");

        let mut keeper = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "keeper"));
        let mut watcher = Peer::connect(broker.address(), &Connect::new(Version::V5, "watcher"));
        let mut crowd: Vec<Peer> = Vec::new();
        let mut refused = 0;
        for number in 0..OPEN_FILES_MAX + 10 {
            let id = format!("crowd-{number}");
            let (peer, reason) = Peer::try_connect(broker.address(), &Connect::new(Version::V5, &id));
            match reason {
                0 => crowd.push(peer),
                0x97 => refused += 1,
                other => panic!("{other:#04x}"),
            }
        }
        assert_eq!(crowd.len() + 2, possible, "{io:?}: as many as the warning says");
        assert_eq!(refused, OPEN_FILES_MAX + 10 - crowd.len(), "{io:?}");
        // Sockets that never say a word, so that no descriptor is left to the crowd at all.
        let silent: Vec<Peer> =
            (0..OPEN_FILES_MAX).map(|_| Peer::open(broker.address(), Version::V5)).collect();
        thread::sleep(Duration::from_millis(200));
        let open = descriptor_count(process);
        assert!(open < OPEN_FILES_MAX - 8, "{io:?}: {open} descriptors are open");

        keeper.subscribe("made/at/the/brink", 1);
        await_saved(&data_dir, "made/at/the/brink");
        watcher.subscribe("$SYS/broker/clients/refused/too_many_connections", 0);
        let counted: usize = loop {
            let told = watcher.next_publish().payload;
            let told = String::from_utf8(told).ok().and_then(|digits| digits.parse().ok()).expect("a number");
            if told > refused {
                break told;
            }
        };
        assert!(counted <= refused + silent.len(), "{io:?}: {counted}");
        for peer in &mut crowd {
            peer.ping();
        }
        keeper.subscribe("made/before/the/stop", 1);
        keeper.ping();
        drop((silent, crowd, watcher));
        let (finished, directory) = broker.stop();
        for complaint in ["subscriptions not written", "accepting paused", "connection lost"] {
            assert!(!finished.output.contains(complaint), "{io:?}:\n{}", finished.output);
        }

        let broker = start(directory, io);
        let (mut keeper, _) =
            Peer::try_connect(broker.address(), &Connect::persistent(Version::V5, "keeper"));
        assert_eq!(
            keeper.unsubscribe(&["made/at/the/brink", "made/before/the/stop"]),
            [0, 0],
            "both are known"
        );
        keeper.disconnect();
        broker.stop();
    }
}

#[test]
fn a_limit_without_room_for_a_connection_is_an_error() {
    let directory = Directory::new();
    let limited = ["sh", "-c", "ulimit -n 30; exec \"$0\" \"$@\""].map(str::to_owned);
    let mut command = wrapped_command_in(&directory, &limited);
    command.args(["--bind", "127.0.0.1", "--port", "0", "--shards", "1"]);
    let finished = crate::harness::process::run(command);
    assert!(!finished.status.success(), "{}", finished.output);
    for part in ["cannot serve any connection", "30", "ulimit -n"] {
        assert!(finished.output.contains(part), "{part:?} is missing in:\n{}", finished.output);
    }
}
