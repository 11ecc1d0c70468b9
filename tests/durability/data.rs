//! `mqtt-broker data check`, and a start with data that is damaged, of another version or of another number of shards.

use std::fs;
use std::path::Path;

use crate::harness::broker::{Broker, Directory, Io, command_in};
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::process::{Finished, run};
use crate::{PROCESS, file_of, setup};

/// The data of a broker that was killed after some messages.
fn used() -> Directory {
    let broker = Broker::start_with(&setup(Io::Auto, &PROCESS));
    let mut peer = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "peer"));
    peer.subscribe("t", 1);
    for number in 0..40 {
        peer.publish(&Publish::new("t", 1, format!("{number}").as_bytes()));
    }
    broker.kill()
}

pub(crate) fn check(directory: &Directory) -> Finished {
    let mut command = command_in(directory);
    command.args(["data", "check", "data"]);
    run(command)
}

fn start(directory: &Directory, flags: &[&str]) -> Finished {
    let mut command = command_in(directory);
    command.args(["--bind", "127.0.0.1", "--port", "0", "--data-dir", "data"]).args(flags);
    run(command)
}

pub(crate) fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("the test's own file");
    bytes[at] ^= 1;
    fs::write(file, bytes).expect("the test's own file");
}

#[test]
fn a_log_that_is_whole_is_summed_up() {
    let directory = used();
    let finished = check(&directory);
    assert!(finished.status.success(), "{}", finished.output);
    let line =
        finished.output.lines().find(|line| line.starts_with("shard 0: whole, ")).expect("a line a shard");
    let records: u64 =
        line.split(' ').nth(3).and_then(|word| word.parse().ok()).expect("a number of records");
    assert!(records > 40, "{line}");
    let empty = Directory::new();
    empty.write("data/other", "");
    let finished = check(&empty);
    assert!(
        finished.status.success() && finished.output.contains("there is no journal"),
        "{}",
        finished.output
    );
}

#[test]
fn damage_is_told_with_file_offset_and_remedy_and_nothing_starts() {
    let directory = used();
    let segment = file_of(&directory, "log");
    let whole = fs::read(&segment).expect("the test's own file");
    // In the records of the first commit; many later ones know that it was durable.
    flip(&segment, 4_096 + 60);
    let damaged = fs::read(&segment).expect("the test's own file");
    for finished in [check(&directory), start(&directory, &PROCESS)] {
        assert_eq!(finished.status.code(), Some(1), "{}", finished.output);
        let name = segment.file_name().and_then(|name| name.to_str()).expect("a name of digits");
        for part in [name, "offset 4096", "durable", "put back a copy", "move"] {
            assert!(finished.output.contains(part), "{part} is missing in: {}", finished.output);
        }
    }
    assert!(damaged == fs::read(&segment).expect("it is still there"), "a start changed damaged data");
    fs::write(&segment, whole).expect("the test's own file");
    Broker::start_in(directory, &setup(Io::Auto, &PROCESS)).stop();
}

#[test]
fn data_of_a_later_version_is_refused() {
    let directory = used();
    let segment = file_of(&directory, "log");
    let identity = directory.path().join("data/journal/identity.a");
    for (file, at) in [(&segment, 13), (&identity, 13)] {
        flip(file, at);
        for finished in [check(&directory), start(&directory, &PROCESS)] {
            assert_eq!(finished.status.code(), Some(1), "{}", finished.output);
            assert!(finished.output.contains("a later version wrote it"), "{}", finished.output);
        }
        flip(file, at);
    }
    assert!(check(&directory).status.success());
}

#[test]
fn an_automatic_number_of_shards_is_that_of_the_log() {
    for shards in ["3", "5"] {
        let flags = ["--durability", "process", "--shards", shards];
        let (_, directory) = Broker::start_with(&setup(Io::Auto, &flags)).stop();
        let mut broker = Broker::start_in(directory, &setup(Io::Auto, &["--durability", "process"]));
        let is_automatic =
            std::thread::available_parallelism().is_ok_and(|cores| cores.get().to_string() == shards);
        let line = "the number of shards is that of the journal, not of the cores";
        assert_eq!(broker.process().output().contains(line), !is_automatic, "{shards}");
        broker.stop();
    }
}

#[test]
fn a_running_broker_keeps_its_data_to_itself() {
    let mut broker = Broker::start_with(&setup(Io::Auto, &PROCESS));
    let finished = check(broker.directory());
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.output.contains("is in use by another mqtt-broker"), "{}", finished.output);
    assert!(!broker.process().output().contains("ERROR"));
    broker.stop();
}
