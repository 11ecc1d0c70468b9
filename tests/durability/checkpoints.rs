//! Checkpoints take the place of the log before them: kills at any moment, also while one is written, lose nothing, and the log stays
//! short.

use std::fs;

use crate::clients::Publisher;
use crate::data::{check, flip};
use crate::file_of;
use crate::harness::broker::{Broker, Directory, Io};
use crate::harness::packet::{Connect, Properties, Publish, Version};
use crate::harness::peer::Peer;
use crate::kill;

/// As many checkpoints as a setting can ask for.
const OFTEN: [&str; 2] = ["--checkpoint-bytes", "1048576"];

const MIB: u64 = 1024 * 1024;

/// Sessions that are away, each with a few messages of both levels: more than a slice of a checkpoint, so that the log goes on before
/// the sessions of those who publish are described.
const SESSIONS: usize = 30;
const QUEUED: usize = 6;

/// A payload of a kilobyte.
fn payload(queued: usize) -> String {
    format!("{queued:01000}")
}

/// Retained messages of a kilobyte, so that a checkpoint has several slices.
const RETAINED: usize = 300;
const RETAINED_BYTES: usize = 1_000;

/// The state that the broker has before the first kill, and must have after the last.
pub(crate) struct State;

impl State {
    pub(crate) fn make(broker: &Broker) {
        let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "state"));
        for number in 0..SESSIONS {
            let name = format!("away-{number}");
            let mut peer = Peer::connect(broker.address(), &Connect::persistent(Version::V5, &name));
            peer.subscribe(&format!("q/{number}"), 2);
            peer.disconnect_with(0, &Properties::new());
            for queued in 0..QUEUED {
                let (topic, payload) = (format!("q/{number}"), payload(queued));
                let qos = if queued % 2 == 0 { 1 } else { 2 };
                publisher.publish(&Publish::new(&topic, qos, payload.as_bytes()));
            }
        }
        for number in 0..RETAINED {
            let (topic, payload) = (format!("r/{number}"), vec![b'x'; RETAINED_BYTES + number]);
            publisher.publish(&Publish::new(&topic, 1, &payload).retained());
            if number % 3 == 0 {
                publisher.publish(&Publish::new(&topic, 1, b"").retained());
            }
        }
    }

    /// `kept` is a publisher with one retained message.
    pub(crate) fn judge(broker: &Broker, kept: &Publisher) {
        for number in 0..SESSIONS {
            let name = format!("away-{number}");
            let mut peer = Peer::connect(broker.address(), &Connect::persistent(Version::V5, &name));
            assert!(peer.session_present, "{name}");
            for queued in 0..QUEUED {
                let message = peer.next_message();
                let qos = if queued % 2 == 0 { 1 } else { 2 };
                assert_eq!((message.text(), message.qos), (payload(queued), qos), "{name}");
            }
            peer.publish(&Publish::new(&format!("q/{number}"), 1, b"live"));
            assert_eq!(peer.next_message().text(), "live", "the subscription of {name} is there");
        }
        let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V5, "reader"));
        peer.subscribe("r/#", 1);
        let mut found: Vec<(usize, usize)> = (0..RETAINED)
            .filter(|number| number % 3 != 0)
            .map(|_| {
                let message = peer.next_message();
                let number = message.topic.trim_start_matches("r/").parse().expect("a topic has a number");
                (number, message.payload.len())
            })
            .collect();
        found.sort_unstable();
        let expected: Vec<(usize, usize)> = (0..RETAINED)
            .filter(|number| number % 3 != 0)
            .map(|number| (number, RETAINED_BYTES + number))
            .collect();
        assert!(found == expected, "{found:?}");
        peer.subscribe(&format!("t/{}", kept.name()), 1);
        let message = peer.next_message();
        assert_eq!((message.text(), message.retain), (kept.sent().to_string(), true));
        peer.ping();
        assert!(peer.waiting().is_empty());
    }
}

/// Names and lengths of the files of the log.
fn files(directory: &Directory) -> Vec<(String, u64)> {
    let entries = fs::read_dir(directory.path().join("data/journal/1/0")).expect("the log has a directory");
    entries
        .map(|entry| {
            let entry = entry.expect("it can be listed");
            let name = entry.file_name().into_string().expect("names are digits");
            (name, entry.metadata().expect("nothing runs that deletes it").len())
        })
        .collect()
}

/// Returns the counts.
fn check_kills(io: Io, seed: u64) -> String {
    let (mut positions, mut drafts, mut longest_bytes) = (Vec::new(), 0, 0);
    let flags: Vec<&str> = ["--shards", "1"].into_iter().chain(OFTEN).collect();
    let mut look = |directory: &Directory| {
        let files = files(directory);
        longest_bytes = longest_bytes.max(files.iter().map(|(_, bytes)| bytes).sum());
        drafts += u32::from(files.iter().any(|(name, _)| name == "checkpoint.new"));
        let checkpoints = files.iter().filter_map(|(name, _)| name.strip_suffix(".checkpoint"));
        positions.extend(checkpoints.max().map(str::to_owned));
    };
    let (mut broker, counts) = kill::check(io, (kill::kills(), seed), &flags, &mut look);
    let last = broker.process().output();
    let recovered = last.lines().find(|line| line.contains("recovered from the journal")).expect("a line");
    assert!(
        recovered.contains("checkpoint_bytes=") && !recovered.contains("checkpoint_bytes=0"),
        "{recovered}"
    );
    assert!(positions.is_sorted());
    positions.dedup();
    let directory = broker.kill();
    assert!(positions.len() >= kill::kills() as usize / 50, "{positions:?}");
    // The log since the checkpoint, what came while the next one was made, both of them, and a segment that is prepared.
    assert!(longest_bytes < 8 * MIB, "{longest_bytes}");
    let first = file_of(&directory, "log");
    assert!(!first.ends_with("0000000000000001.log"), "the first segment is still there");
    let finished = check(&directory);
    assert!(finished.status.success(), "{}", finished.output);
    assert!(finished.output.contains(" behind a checkpoint of "), "{}", finished.output);
    let count = positions.len();
    format!("{counts}; {count} checkpoints seen, {drafts} unfinished, {longest_bytes} bytes at most")
}

#[test]
fn no_kill_loses_what_a_checkpoint_has_on_io_uring() {
    println!("{}", check_kills(Io::Uring, 3));
}

#[test]
fn no_kill_loses_what_a_checkpoint_has_on_epoll() {
    println!("{}", check_kills(Io::Epoll, 4));
}

#[test]
fn a_damaged_checkpoint_is_told_with_file_offset_and_remedy() {
    let flags: Vec<&str> = crate::POWER.iter().chain(&OFTEN).copied().collect();
    let broker = Broker::start_with(&crate::setup(Io::Auto, &flags));
    State::make(&broker);
    let (_, directory) = broker.stop();
    let checkpoint = file_of(&directory, "checkpoint");
    flip(&checkpoint, 4_096 + 60);
    let finished = check(&directory);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.output);
    let name = checkpoint.file_name().and_then(|name| name.to_str()).expect("a name of digits");
    for part in [name, "offset 4096", "a slice of the checkpoint is not whole", "put back a copy"] {
        assert!(finished.output.contains(part), "{part} is missing in: {}", finished.output);
    }
    flip(&checkpoint, 4_096 + 60);
    assert!(check(&directory).status.success());
}
