//! The data directory while the broker runs: a lock belongs to a file, so a directory that is deleted takes it along.

use std::fs;

use crate::harness::broker::{Broker, MEMORY, Setup, command_in};
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;

#[test]
fn a_deleted_directory_is_told_once_and_another_brokers_files_are_left_alone() {
    let mut first = Broker::start_with(&Setup { flags: &MEMORY, ..Setup::default() });
    let data = first.directory().path().join("data");
    let aside = first.directory().path().join("aside");
    fs::rename(&data, &aside).expect("the test's own directory");
    let deleted = |line: &str| line.contains("ERROR") && line.contains("was deleted");
    first.process().wait_for(0, "deletion", deleted);

    let mut command = command_in(first.directory());
    command.args(["--bind", "127.0.0.1", "--port", "0", "--data-dir", "data"]).args(MEMORY);
    let mut second = crate::harness::process::Process::spawn(command);
    second.wait_for(0, "start", |line| line.contains("listening on"));
    let line = first.process().wait_for(0, "second broker", |line| line.contains("was replaced"));
    assert!(
        line.contains("ERROR") && line.contains("another broker") && line.contains("--data-dir"),
        "{line}"
    );

    // Subscriptions of the first broker do not reach the file of the second one.
    let mut peer = Peer::connect(first.address(), &Connect::persistent(Version::V5, "first"));
    peer.subscribe("a", 1);
    first.process().wait_for(0, "refusal", |line| line.contains("another broker has taken"));
    assert!(!fs::read_to_string(data.join("subscriptions.json")).is_ok_and(|text| text.contains("first")));
    second.signal(rustix::process::Signal::TERM);
    assert!(second.wait_for_exit(crate::harness::time::PATIENCE).success());

    fs::remove_dir_all(&data).expect("the test's own directory");
    fs::rename(&aside, &data).expect("the test's own directory");
    first.process().wait_for(0, "return", |line| line.contains("is back in its place"));
    let told = first.process().output().lines().filter(|line| deleted(line)).count();
    assert_eq!(told, 1);
    let (_, directory) = first.stop();
    let kept = fs::read_to_string(directory.path().join("data/subscriptions.json")).expect("it was written");
    assert!(kept.contains("\"first\""), "{kept}");
}
