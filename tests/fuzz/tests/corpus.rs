//! Runs every input of the corpus through its check, without libFuzzer and on the broker's own toolchain.

use std::fs;
use std::path::Path;

use engine::{Counters, DropReason};

fn replay(name: &str, mut check: impl FnMut(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("every target has a corpus") {
        let path = entry.expect("our own folder can be listed").path();
        println!("{}", path.display());
        check(&fs::read(&path).expect("a kept input can be read"));
        count += 1;
    }
    assert!((10..=200).contains(&count), "{count} inputs in {}", folder.display());
}

#[test]
fn wire_decode() {
    replay("wire_decode", fuzz::stream::check);
}

#[test]
fn passwords() {
    replay("passwords", fuzz::passwords::check);
}

#[test]
fn tokens() {
    replay("tokens", fuzz::tokens::check);
}

#[test]
fn differential() {
    replay("differential", fuzz::differential::check);
}

#[test]
fn engine_packets() {
    let mut counted = Vec::new();
    replay("engine_packets", |input| counted.extend(fuzz::operations::check_alone(input)));
    check_reach(&counted, &[DropReason::Denied]);
}

#[test]
fn engine_mesh() {
    let mut counted = Vec::new();
    replay("engine_mesh", |input| counted.extend(fuzz::operations::check_mesh(input)));
    // Memory runs short in the inputs of one engine.
    check_reach(&counted, &[DropReason::Denied, DropReason::Memory]);
    let sum = |of: fn(&Counters) -> u64| counted.iter().map(of).sum::<u64>();
    assert!(sum(|counters| counters.messages_forwarded) > 0 && sum(|counters| counters.handed_over) > 0);
}

#[test]
fn rules() {
    replay("rules", fuzz::rules::check);
}

#[test]
fn configuration() {
    replay("configuration", fuzz::configuration::check);
}

#[test]
fn opening() {
    replay("opening", fuzz::opening::check);
}

#[test]
fn websocket_frames() {
    replay("websocket_frames", fuzz::websocket::check);
}

#[test]
fn journal() {
    let mut outcomes = [0; 3];
    replay("journal", |input| outcomes[fuzz::journal::check(input) as usize] += 1);
    assert!(outcomes.iter().all(|&count| count > 0), "whole, shorter, damaged: {outcomes:?}");
}

/// The inputs of the corpus must reach all of this to be useful as seeds, but for some reasons to drop: the engines of these targets
/// have no rules.
fn check_reach(counted: &[Counters], unreached: &[DropReason]) {
    let sum = |of: &dyn Fn(&Counters) -> u64| counted.iter().map(of).sum::<u64>();
    for reason in DropReason::ALL.iter().filter(|reason| !unreached.contains(reason)) {
        assert!(sum(&|counters| counters.dropped[reason.index()]) > 0, "nothing dropped: {reason:?}");
    }
    assert!(sum(&|counters| counters.delivered) > 0);
    assert!(sum(&|counters| counters.take_overs) > 0);
    assert!(sum(&|counters| counters.publishes_refused) > 0);
    assert!(sum(&|counters| counters.publishes_unmatched) > 0);
    assert!(sum(&|counters| counters.connections_refused) > 0);
    assert!(sum(&|counters| counters.protocol_errors) > 0);
    assert!(sum(&|counters| counters.stale) > 0);
}
