//! `mqtt-broker data backup`, `restore` and `checkpoint`, of brokers that run and of directories, judged by clients before and after.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::data::{check, flip};
use crate::harness::broker::{Broker, Directory, Io, command_in};
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::process::{Finished, run};
use crate::{PROCESS, file_of, setup};

/// `mqtt-broker data` with these arguments, in the directory of a broker.
pub(crate) fn data(directory: &Directory, arguments: &[&str]) -> Finished {
    let mut command = command_in(directory);
    command.arg("data").args(arguments);
    run(command)
}

/// [`data`], which succeeds.
pub(crate) fn done(directory: &Directory, arguments: &[&str]) -> String {
    let finished = data(directory, arguments);
    assert!(finished.status.success(), "{arguments:?}: {}", finished.output);
    finished.output
}

/// A broker in the data directory "restored" below another one's.
fn start_restored(directory: Directory) -> Broker {
    fs::rename(directory.path().join("data"), directory.path().join("former"))
        .expect("the test's own directory");
    fs::rename(directory.path().join("restored"), directory.path().join("data")).expect("it is restored");
    Broker::start_in(directory, &setup(Io::Auto, &PROCESS))
}

/// A broker with a session, a message for it, a retained message and a will that is due.
pub(crate) fn used(flags: &[&str]) -> Broker {
    let broker = Broker::start_with(&setup(Io::Auto, flags));
    let connect = Connect::persistent(Version::V5, "keeper");
    let mut keeper = Peer::connect(
        broker.address(),
        &connect.with_will("will", b"gone", crate::harness::packet::Properties::new()),
    );
    keeper.subscribe("t/#", 2);
    keeper.vanish();
    let mut publisher = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "publisher"));
    for qos in [1, 2] {
        publisher.publish(&Publish::new("t/queued", qos, format!("{qos}").as_bytes()));
    }
    publisher.publish(&Publish::new("kept/1", 1, &[7, 0, 255]).retained());
    publisher.publish(&Publish::new("kept/2", 1, b"two").retained());
    publisher.ping();
    publisher.disconnect();
    broker
}

/// Everything of [`used`] is there.
pub(crate) fn check_used(broker: &Broker) {
    let mut keeper = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "keeper"));
    assert!(keeper.session_present);
    let texts: Vec<_> = (0..2).map(|_| keeper.next_message().text()).collect();
    assert_eq!(texts, ["1", "2"]);
    let mut reader = Peer::connect(broker.address(), &Connect::new(Version::V5, "reader"));
    reader.subscribe("kept/#", 1);
    let mut kept: Vec<_> = (0..2).map(|_| reader.next_message()).collect();
    kept.sort_by(|one, other| one.topic.cmp(&other.topic));
    let kept: Vec<_> = kept.iter().map(|message| (&*message.topic, &*message.payload)).collect();
    assert_eq!(kept, [("kept/1", &[7_u8, 0, 255][..]), ("kept/2", b"two")]);
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "another"));
    publisher.publish(&Publish::new("t/new", 1, b"new"));
    assert_eq!(keeper.next_message().text(), "new", "its subscription is there");
}

#[test]
fn a_backup_of_a_directory_is_restored_whole_and_only_where_nothing_is() {
    let directory = used(&PROCESS).kill();
    let output = done(&directory, &["backup", "copy", "--data-dir", "data"]);
    assert!(output.contains(" files of "), "{output}");
    assert!(done(&directory, &["check", "copy"]).contains("shard 0: whole"));
    // Into a directory that has something.
    for (arguments, parts) in [
        (["backup", "data", "--data-dir", "copy"], ["data", "not empty"]),
        (["restore", "copy", "--data-dir", "data"], ["data", "not empty"]),
        (["restore", "nothing", "--data-dir", "restored"], ["nothing", "no such directory"]),
    ] {
        let finished = data(&directory, &arguments);
        assert_eq!(finished.status.code(), Some(1), "{arguments:?}: {}", finished.output);
        assert!(parts.iter().all(|part| finished.output.contains(part)), "{}", finished.output);
    }
    let output = done(&directory, &["restore", "copy", "--data-dir", "restored"]);
    assert!(output.contains("shard 0: 2 sessions, 2 retained messages"), "{output}");
    // A file of the one is none of the other.
    let foreign = file_of(&directory, "log");
    let name = foreign.file_name().expect("it has a name");
    let place = directory.path().join("restored/journal/1/0").join(format!("9{}", name.to_string_lossy()));
    fs::copy(&foreign, &place).expect("the test's own file");
    let refused = data(&directory, &["check", "restored"]);
    assert!(!refused.status.success() && refused.output.contains("another log"), "{}", refused.output);
    fs::remove_file(place).expect("the test's own file");
    let broker = start_restored(directory);
    check_used(&broker);
    let (_, directory) = broker.stop();
    assert!(check(&directory).status.success());
}

#[test]
fn a_damaged_backup_restores_nothing() {
    let directory = used(&PROCESS).kill();
    done(&directory, &["backup", "copy", "--data-dir", "data"]);
    let segment = file_of(&directory, "log");
    let copied = directory.path().join("copy/journal/1/0").join(segment.file_name().expect("it has a name"));
    flip(&copied, 4_096 + 60);
    let finished = data(&directory, &["restore", "copy", "--data-dir", "restored"]);
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.output.contains("copy/journal/1/0"), "{}", finished.output);
    assert!(!directory.path().join("restored/journal").exists());
}

/// Publishes numbers from 1 on, and counts those that are acknowledged, until the broker is gone.
fn count_up(address: std::net::SocketAddr, acknowledged: &AtomicU64) {
    let mut peer = Peer::connect(address, &Connect::new(Version::V5, "publisher"));
    let padding = "x".repeat(2_000);
    for number in 1_u64.. {
        let id = u16::try_from(number % 60_000).expect("it is below 65,536") + 1;
        let payload = format!("{number} {padding}");
        peer.send_ignoring_errors(
            &Publish::new("t/n", 1, payload.as_bytes()).with_packet_id(id).encode(Version::V5),
        );
        match peer.next_or_close() {
            None | Some(crate::harness::received::Received::Disconnect { .. }) => return,
            Some(_) => acknowledged.store(number, SeqCst),
        }
    }
}

#[test]
fn a_backup_of_a_running_broker_has_everything_that_was_acknowledged_before_and_a_prefix_of_the_rest() {
    let flags = [
        "--durability",
        "process",
        "--shards",
        "1",
        "--checkpoint-bytes",
        "1048576",
        "--queue-bytes-max",
        "1000000000",
        "--queue-messages-max",
        "1000000",
    ];
    let broker = Broker::start_with(&setup(Io::Auto, &flags));
    let mut keeper = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "keeper"));
    keeper.subscribe("t/#", 1);
    keeper.disconnect();
    let (acknowledged, address) = (AtomicU64::new(0), broker.address());
    std::thread::scope(|scope| {
        scope.spawn(|| count_up(address, &acknowledged));
        let mut counts = Vec::new();
        for copy in ["copy0", "copy1", "copy2", "copy3"] {
            let enough = acknowledged.load(SeqCst) + 300;
            while acknowledged.load(SeqCst) < enough {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let before = acknowledged.load(SeqCst);
            done(broker.directory(), &["backup", copy, "--data-dir", "data"]);
            counts.push((copy, before, acknowledged.load(SeqCst)));
        }
        // Files are deleted again afterwards, so the log stays short.
        done(broker.directory(), &["checkpoint", "--data-dir", "data"]);
        let mut directory = broker.kill();
        for (copy, before, after) in counts {
            assert!(after > before, "the broker worked meanwhile");
            assert!(done(&directory, &["check", copy]).contains("whole"));
            let mut command = command_in(&directory);
            command.args(["data", "restore", copy, "--data-dir", "restored"]).args(&flags[6..]);
            let finished = run(command);
            assert!(finished.status.success(), "{}", finished.output);
            let _ = fs::remove_dir_all(directory.path().join("former"));
            fs::rename(directory.path().join("data"), directory.path().join("former")).expect("its own");
            fs::rename(directory.path().join("restored"), directory.path().join("data"))
                .expect("it is there");
            let broker = Broker::start_in(directory, &setup(Io::Auto, &flags));
            let mut keeper = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "keeper"));
            assert!(keeper.session_present);
            for number in 1..=before {
                let text = keeper.next_message().text();
                assert_eq!(text.split(' ').next(), Some(&*number.to_string()), "{copy} of {before}");
            }
            directory = broker.kill();
        }
    });
}

#[test]
fn a_checkpoint_on_request_takes_the_place_of_the_log() {
    let broker = used(&PROCESS);
    let output = done(broker.directory(), &["checkpoint", "--data-dir", "data"]);
    assert!(output.contains("shard 0: a checkpoint of "), "{output}");
    let output = done(broker.directory(), &["checkpoint", "--data-dir", "data"]);
    assert!(output.contains("shard 0: the last checkpoint has everything"), "{output}");
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "p"));
    publisher.publish(&Publish::new("kept/2", 1, b"two").retained());
    let directory = broker.kill();
    let output = done(&directory, &["checkpoint", "--data-dir", "data"]);
    assert!(output.contains("shard 0: a checkpoint of "), "{output}");
    let finished = check(&directory);
    assert!(finished.output.contains("behind a checkpoint of"), "{}", finished.output);
    let broker = Broker::start_in(directory, &setup(Io::Auto, &PROCESS));
    check_used(&broker);
    broker.stop();
    let empty = Directory::new();
    empty.write("data/other", "");
    let finished = data(&empty, &["checkpoint", "--data-dir", "data"]);
    assert!(!finished.status.success() && finished.output.contains("no journal"), "{}", finished.output);
}

#[test]
fn a_broker_without_a_log_is_backed_up_with_its_subscriptions() {
    let broker = Broker::start_with(&setup(Io::Auto, &[]));
    let mut keeper = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "keeper"));
    keeper.subscribe("t", 1);
    keeper.disconnect();
    let (_, directory) = broker.stop();
    let broker = Broker::start_in(directory, &setup(Io::Auto, &[]));
    done(broker.directory(), &["backup", "copy", "--data-dir", "data"]);
    let (_, directory) = broker.stop();
    done(&directory, &["restore", "copy", "--data-dir", "restored"]);
    fs::rename(directory.path().join("data"), directory.path().join("former"))
        .expect("the test's own directory");
    fs::rename(directory.path().join("restored"), directory.path().join("data")).expect("it is restored");
    let broker = Broker::start_in(directory, &setup(Io::Auto, &[]));
    assert!(Peer::connect(broker.address(), &Connect::persistent(Version::V5, "keeper")).session_present);
    broker.stop();
}
