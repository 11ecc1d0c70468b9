//! The loss of power: a broker works on a disk that is recorded, and many moments of the record are cuts. For each of them the directory
//! is built as the disk could have been, a broker starts on it, and the clients' own records up to that moment judge it. `CUTS` sets the
//! number of cuts.

use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::clients::{Publisher, Subscriber};
use crate::disk::{Chance, Draws, Recording};
use crate::harness::broker::{Broker, Directory, Io, Setup, command_in, configure};
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;
use crate::harness::time::{Deadline, PATIENCE, monotonic_ns};
use crate::kill::{QUEUES, judge};
use crate::setup;

/// Cuts of each test, if `CUTS` does not say another number.
const CUTS: usize = 10;

/// Cuts of one recording, at most.
const CUTS_OF_RECORDING: usize = 20;

/// Bytes of a payload, so that a second of traffic takes several checkpoints of the least length.
const PAYLOAD_BYTES: usize = 2_000;

/// Acknowledgements that a recording has.
const ACKNOWLEDGEMENTS: usize = 1_500;

/// The recorder, built from its source by the compiler that links the tests.
fn recorder() -> &'static str {
    static RECORDER: OnceLock<String> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/durability/recorder.c");
        let library = format!("{}/recorder-{}.so", env!("CARGO_TARGET_TMPDIR"), std::process::id());
        let status = Command::new("cc")
            .args(["-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", &library, source, "-ldl"])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "cc, which links Rust, builds {source}");
        library
    })
}

/// A run of a broker and its clients.
struct Run {
    recording: Recording,
    directory: Directory,
    publishers: [Publisher; 3],
    subscriber: Subscriber,
    /// When the first subscription was there.
    began_ns: u64,
}

/// The flags of all brokers here.
fn flags(shards: &str) -> Vec<&str> {
    ["--durability", "power", "--shards", shards, "--checkpoint-bytes", "1048576"]
        .iter()
        .chain(&QUEUES)
        .copied()
        .collect()
}

/// Records traffic of QoS 1 and 2 until there were enough acknowledgements, and a clean stop.
fn record(io: Io, shards: &str) -> Run {
    let directory = Directory::new();
    let [data, record] = ["data", "record"].map(|name| directory.path().join(name));
    let mut command = command_in(&directory);
    let flags = flags(shards);
    configure(&mut command, &directory, &Setup { io, flags: &flags, ..Setup::default() });
    command.env("LD_PRELOAD", recorder()).env("RECORDED", &data).env("RECORD", &record);
    let broker = Broker::spawn(directory, command, 1);
    let address = broker.address();
    let mut publishers =
        [Publisher::new("one", 1), Publisher::new("two", 2), Publisher::new("kept", 1).retained()]
            .map(|publisher| publisher.with_payload(PAYLOAD_BYTES));
    let mut subscriber = Subscriber::new("subscriber");
    subscriber.run(address, Some("t/#"), |subscriber| !subscriber.filters.is_empty());
    let began_ns = monotonic_ns();
    let progress = AtomicUsize::new(0);
    let directory = thread::scope(|scope| {
        for publisher in &mut publishers {
            scope.spawn(|| publisher.run(address, false, &progress));
        }
        scope.spawn(|| subscriber.run(address, Some("s/0"), |_| false));
        let deadline = Deadline::after(PATIENCE);
        while progress.load(Relaxed) < ACKNOWLEDGEMENTS && deadline.remaining().is_some() {
            thread::sleep(Duration::from_millis(1));
        }
        broker.stop().1
    });
    let recording = Recording::read(&record);
    let counts = recording.check(&data);
    for kind in ["opened", "written", "synchronised", "renamed", "removed", "directories made"] {
        assert!(counts.contains_key(kind), "nothing was {kind}: {counts:?}");
    }
    Run { recording, directory, publishers, subscriber, began_ns }
}

/// Judges one cut. Returns what the disk lost and how many acknowledgements counted.
fn check_cut(run: &Run, shards: &str, draws: &mut Draws) -> (Chance, usize) {
    // Right behind an acknowledgement that a client has read, or anywhere.
    let moments = if draws.below(2) == 0 {
        let publisher = usize::try_from(draws.below(3)).expect("there are three");
        run.publishers[publisher].moments()
    } else {
        run.recording.moments(run.began_ns)
    };
    let at = draws.below(moments.len() as u64);
    let cut_ns = moments[usize::try_from(at).expect("it is an index")];
    let mut publishers = run.publishers.each_ref().map(|publisher| publisher.at(cut_ns));
    let mut subscriber = run.subscriber.at(cut_ns);
    let acknowledged = publishers.iter().map(|publisher| publisher.acknowledged.len()).sum();
    let directory = Directory::new();
    let places = [&run.directory, &directory].map(|directory| directory.path().join("data"));
    let chance = run.recording.cut(cut_ns, draws, (&places[0], &places[1]));
    let flags = flags(shards);
    let broker = Broker::start_in(directory, &setup(Io::Auto, &flags));
    judge(&broker, &mut publishers, &mut subscriber);
    let mut reader = Peer::connect(broker.address(), &Connect::new(Version::V5, "reader"));
    let kept = &publishers[2];
    reader.subscribe("t/kept", 1);
    if kept.sent() > 0 {
        assert_eq!(reader.next_message().text().trim(), kept.sent().to_string(), "the last retained message");
    }
    broker.kill();
    (chance, acknowledged)
}

/// Cuts recordings of these numbers of shards. Returns the counts.
fn check(io: Io, shard_counts: [&str; 2], seed: u64) -> String {
    let number = std::env::var_os("CUTS").and_then(|text| text.to_str()?.parse().ok());
    let cuts: usize = number.unwrap_or(CUTS);
    let mut draws = Draws(seed);
    let (mut total, mut acknowledged, mut recordings) = (Chance::default(), 0, 0);
    let of_recording = CUTS_OF_RECORDING.min(cuts.div_ceil(shard_counts.len()));
    for (first, shards) in (0..cuts).step_by(of_recording).zip(shard_counts.iter().cycle()) {
        let run = record(io, shards);
        recordings += 1;
        for cut in first..cuts.min(first + of_recording) {
            let begun = draws.0;
            eprintln!("{io:?}, {shards} shards, cut {cut}, draws {begun:#x}");
            let (chance, count) = check_cut(&run, shards, &mut draws);
            total.add(chance);
            acknowledged += count;
        }
    }
    assert!(total.sectors_lost > 0 && total.sectors_kept > 0 && total.names_lost > 0, "{total:?}");
    format!("{cuts} cuts of {recordings} recordings: {acknowledged} acknowledgements judged, {total:?}")
}

#[test]
fn no_loss_of_power_loses_what_was_acknowledged_on_io_uring() {
    println!("{}", check(Io::Uring, ["1", "4"], 1));
}

#[test]
fn no_loss_of_power_loses_what_was_acknowledged_on_epoll() {
    println!("{}", check(Io::Epoll, ["2", "3"], 2));
}
