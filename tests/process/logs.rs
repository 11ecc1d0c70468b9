//! The outputs of the log: text or JSON, standard output and files; and warnings that are told when they begin and when they
//! are over.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::broker::{Broker, Directory, MEMORY, Setup, address_in, command_in, configure};
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::time::{Deadline, PATIENCE};

#[test]
fn with_json_each_line_is_an_object_and_statistics_are_lines() {
    let mut broker = Broker::start_with(&Setup {
        flags: &["--log-format", "json", "--stats-interval", "1", "--shards", "1"],
        ..Setup::default()
    });
    let hostile = "a\"}\n{\"level\":\"ERROR\u{1b}[31m";
    let (peer, _reason) = Peer::try_connect(broker.address(), &Connect::new(Version::V5, hostile));
    broker.process().wait_for(0, "statistics", |line| line.contains("\"message\":\"statistics\""));
    peer.disconnect();
    let (finished, _directory) = broker.stop();
    let mut clients = Vec::new();
    for line in finished.output.lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"));
        for key in ["timestamp", "level", "message"] {
            assert!(object[key].is_string(), "{line}");
        }
        assert!(line.chars().all(|character| !character.is_control()), "{line:?}");
        clients.extend(object["client"].as_str().map(str::to_owned));
        if object["message"] == "client connected" {
            assert!(object["keep_alive_s"].is_u64() && object["clean"].is_boolean(), "{line}");
            assert!(object["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{line}");
        }
    }
    assert_eq!(clients, [hostile, hostile], "connected and closed");
}

/// The text of all log files.
fn log_files(directory: &std::path::Path) -> String {
    let files = fs::read_dir(directory).expect("the broker made the directory");
    let read = |file: std::io::Result<fs::DirEntry>| fs::read_to_string(file?.path());
    files.map(|file| read(file).expect("the test may read the files")).collect()
}

#[test]
fn the_log_files_have_the_statistics_and_standard_output_the_block() {
    let directory = Directory::new();
    let logs = directory.path().join("logs");
    let config = format!("log_dir = {:?}\n", logs.display().to_string());
    let mut broker = Broker::start_with(&Setup { config: &config, ..Setup::default() });
    broker.process().signal(Signal::USR1);
    broker.process().wait_for(0, "the block", |line| line.starts_with("[STATS] Subscriptions: "));
    Peer::connect(broker.address(), &Connect::new(Version::V5, "client")).disconnect();
    let (finished, _directory) = broker.stop();
    let files = log_files(&logs);
    let statistics = files.lines().filter(|line| line.contains("INFO statistics connections=0")).count();
    assert_eq!(statistics, 2, "on the signal and at the end: {files}");
    assert!(!files.contains("[STATS]") && !finished.output.contains("INFO statistics"));
    // Everything else is in both.
    for text in ["client connected", "client closed", "stopping"] {
        assert!(files.contains(text) && finished.output.contains(text), "{text}");
    }
}

#[test]
fn dropped_messages_are_told_with_the_reason_and_the_client_that_lost_the_most() {
    let mut broker = Broker::start_with(&Setup {
        flags: &["--shards", "1", "--stats-interval", "0", "--queue-messages-max", "1"],
        ..Setup::default()
    });
    for (client_id, filters) in [("one", &["a"][..]), ("three", &["a", "b", "c"])] {
        let mut peer = Peer::connect(broker.address(), &Connect::persistent(Version::V3_1_1, client_id));
        for filter in filters {
            peer.subscribe(filter, 1);
        }
        peer.disconnect();
    }
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
    // In one piece, so that no line about a part of them is due in between.
    let topics = ["a", "b", "c"].repeat(10);
    let packets: Vec<u8> =
        topics.iter().flat_map(|topic| Publish::new(topic, 0, b"x").encode(Version::V5)).collect();
    publisher.send(&packets);
    publisher.ping();
    let line = broker.process().wait_for(0, "warning", |line| line.contains("WARN messages dropped"));
    for part in
        ["since_last=40", "reasons=\"offline=40\"", "worst_client=\"three\"", "worst_client_dropped=30"]
    {
        assert!(line.contains(part), "{line}");
    }
    assert!(line.contains("worst_client_reason=offline"), "{line}");
    // Drops that go on are not told each second.
    for _ in 0..10 {
        publisher.publish(&Publish::new("b", 1, b"x"));
    }
    let over = broker.process().wait_for(0, "end", |line| line.contains("WARN no more messages dropped"));
    assert!(over.contains("since_last=9 total=49") && over.contains("reasons=\"queue_full=9\""), "{over}");
    let lines = broker.process().lines().iter().filter(|(_, line)| line.contains("messages dropped")).count();
    assert_eq!(lines, 2);
    broker.stop();
}

#[test]
fn short_memory_is_told_once_for_each_mark_with_the_clients_that_hold_the_most() {
    let mut broker = Broker::start_with(&Setup {
        flags: &["--shards", "2", "--stats-interval", "0", "--memory-bytes-max", "4000000"],
        ..Setup::default()
    });
    for client_id in ["large \u{202e}", "small"] {
        let mut keeper = Peer::connect(broker.address(), &Connect::persistent(Version::V5, client_id));
        keeper.subscribe(client_id, 1);
        keeper.disconnect();
    }
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
    let payload = [b'x'; 10_000];
    publisher.publish(&Publish::new("small", 1, &payload));
    while publisher.publish(&Publish::new("large \u{202e}", 1, &payload)) < 0x80 {}
    let line = broker
        .process()
        .wait_for(0, "first mark", |line| line.contains("WARN memory is above its first mark"));
    let (large, small) = line
        .split_once("largest=\"large \u{fffd}=")
        .and_then(|(_, holders)| holders.split_once(" small="))
        .expect(&line);
    let bytes: u64 = large.parse().expect("a number");
    assert!((1_000_000..4_000_000).contains(&bytes) && small.starts_with("10"), "{line}");
    assert!(line.contains("limit=4000000 kinds=\"queues="), "{line}");
    broker.process().wait_for(0, "second mark", |line| line.contains("WARN memory is above its second mark"));
    let mut reader = Peer::connect(broker.address(), &Connect::new(Version::V5, "reader"));
    reader.subscribe("$SYS/broker/memory/limit", 0);
    assert_eq!(reader.next_publish().text(), "4000000");
    Peer::connect(broker.address(), &Connect::new(Version::V5, "large \u{202e}")).disconnect();
    broker.process().wait_for(0, "end", |line| line.contains("WARN memory is below its first mark"));
    let (finished, _directory) = broker.stop();
    let lines = finished.output.lines().filter(|line| line.contains("WARN memory is")).count();
    assert_eq!(lines, 4, "each mark, both ways: {}", finished.output);
}

#[test]
fn a_write_that_fails_is_told_once_and_so_is_its_end() {
    let mut broker = Broker::start_with(&Setup { flags: &MEMORY, ..Setup::default() });
    let obstacle = broker.directory().path().join("data/subscriptions.json.new");
    fs::create_dir(&obstacle).unwrap();
    let mut peer = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "keeper"));
    peer.subscribe("a", 1);
    broker.process().wait_for(0, "error", |line| line.contains("ERROR subscriptions not written"));
    // Each subscription is one more reason to write, and one more failure.
    let mut number = 0;
    let deadline = Deadline::after(std::time::Duration::from_secs(3));
    while deadline.remaining().is_some() {
        number += 1;
        peer.subscribe(&format!("b/{number}"), 1);
    }
    fs::remove_dir(&obstacle).unwrap();
    broker.process().wait_for(0, "end", |line| line.contains("INFO subscriptions are written again"));
    let told = broker.process().lines().iter().filter(|(_, line)| line.contains("not written")).count();
    assert_eq!(told, 1);
    peer.disconnect();
    broker.stop();
}

/// A terminal or a collector of logs that stops reading fills a pipe. Clients do not notice, and a stop does not wait for it.
#[test]
fn a_reader_of_the_log_that_stalls_delays_nobody() {
    let directory = Directory::new();
    let mut command = command_in(&directory);
    let flags = ["--shards", "1", "--log-level", "debug", "--stats-interval", "1"];
    configure(&mut command, &directory, &Setup { flags: &flags, ..Setup::default() });
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the binary under test starts");
    let mut output = BufReader::new(child.stdout.take().expect("standard output is piped"));
    let mut line = String::new();
    let address = loop {
        line.clear();
        assert!(output.read_line(&mut line).expect("the broker starts") > 0);
        if let Some(address) = address_in(&line) {
            break address;
        }
    };
    // Nobody reads any more. Each connection has lines at debug level without a budget, so the pipe is full soon.
    let mut beside = Peer::connect(address, &Connect::new(Version::V5, "beside"));
    let mut longest = std::time::Duration::ZERO;
    for number in 0..4_000 {
        drop(std::net::TcpStream::connect(address).expect("the broker accepts"));
        if number % 40 == 0 {
            let sent = crate::harness::time::now();
            beside.ping();
            longest = longest.max(crate::harness::time::now() - sent);
        }
    }
    assert!(longest < std::time::Duration::from_secs(2), "a ping took {longest:?}");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let deadline = Deadline::after(PATIENCE);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(deadline.remaining().is_some(), "the stop waits for the reader of the log");
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    assert!(status.success(), "{status}");
}
