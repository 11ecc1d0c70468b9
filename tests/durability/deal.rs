//! Another number of shards: the data is dealt anew at the start, and nothing that was acknowledged is lost, nor comes twice if it may not.

use std::cell::Cell;
use std::thread;
use std::time::Duration;

use crate::clients::Publisher;
use crate::harness::broker::{Broker, Directory, Io, command_in};
use crate::harness::time::{Deadline, now};
use crate::kill::{QUEUES, check_of};
use crate::setup;

/// Kills of a start that deals, before one that may end.
const KILLS: u64 = 3;

/// The longest wait for a deal to begin.
const DEAL_WITHIN: Duration = Duration::from_secs(5);

/// Starts in a directory, and is killed once this is so.
fn start_and_kill(directory: &Directory, flags: &[&str], is_due: impl Fn() -> bool) {
    let mut command = command_in(directory);
    command.args(["--bind", "127.0.0.1", "--port", "0", "--data-dir", "data"]).args(flags);
    let mut child = command.spawn().expect("the binary is there");
    let deadline = Deadline::after(DEAL_WITHIN);
    while !is_due() && deadline.remaining().is_some() {
        thread::sleep(Duration::from_micros(100));
    }
    child.kill().expect("it is the test's own");
    child.wait().expect("it has ended");
}

/// The folders of logs that a start has left.
fn generations(directory: &Directory) -> usize {
    let entries = std::fs::read_dir(directory.path().join("data/journal")).expect("there is a journal");
    entries.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_dir())).count()
}

#[test]
fn data_is_dealt_anew_among_another_number_of_shards_whatever_kills_the_start() {
    let publishers =
        [Publisher::new("one", 1), Publisher::new("two", 2), Publisher::new("kept", 1).retained()];
    let mut counts = [2, 4, 1, 3].iter().cycle();
    let (moment, unfinished) = (Cell::new(0), Cell::new(0));
    let mut deal = |directory: Directory| {
        let shards = counts.next().expect("it goes on").to_string();
        let flags = ["--durability", "process", "--shards", &shards];
        let flags: Vec<&str> = flags.iter().chain(&QUEUES).copied().collect();
        for kill in 0..KILLS {
            moment.set((moment.get() + 37) % 190);
            let due = now() + Duration::from_millis(10 + moment.get());
            // The first start deals. However fast or slow the machine is, it is killed when the next logs are there.
            let is_first = kill == 0;
            start_and_kill(&directory, &flags, || {
                if is_first { generations(&directory) > 1 } else { now() >= due }
            });
            unfinished.set(unfinished.get() + usize::from(generations(&directory) > 1));
        }
        let directory = Broker::start_in(directory, &setup(Io::Auto, &flags)).kill();
        assert_eq!(generations(&directory), 1, "the logs before are gone");
        directory
    };
    let (broker, counts) = check_of(Io::Auto, (12, 5), &[], publishers, &mut deal);
    println!("{counts}; {} starts were killed amid the deal", unfinished.get());
    assert!(unfinished.get() > 0, "some kill came amid the deal");
    broker.stop();
}
