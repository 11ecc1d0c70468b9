//! Disks that fail, by faults that strace injects into the system calls of the broker.

use std::process::Command;
use std::time::Duration;

use crate::file_of;
use crate::harness::broker::{Broker, Directory, command_in, wrapped_command_in};
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::process::run;
use crate::harness::received::Received;
use crate::harness::time::{Deadline, PATIENCE, now};

/// The binary, whose calls are changed so, on these files or on all, or `None` where strace does not work.
pub(crate) fn command_with_fault(
    directory: &Directory,
    (inject, files): (&str, &[String]),
) -> Option<Command> {
    let works = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .status()
        .is_ok_and(|status| status.success());
    if !works {
        crate::harness::machine::print_notice(
            "strace does not work here: no fault was injected (apt-get install strace)",
        );
        return None;
    }
    let call = inject.split(':').next().expect("a call comes first");
    let (trace, inject) = (format!("trace={call}"), format!("inject={inject}"));
    let mut wrapper: Vec<&str> =
        vec!["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    wrapper.extend(files.iter().flat_map(|file| ["-P", file]));
    let wrapper: Vec<String> = wrapper.into_iter().map(str::to_owned).collect();
    Some(wrapped_command_in(directory, &wrapper))
}

/// A broker whose calls are changed so, on these files or on all, or `None` where strace does not work. Flags may follow the durability.
fn with_fault(directory: Directory, fault: (&str, &[String]), durability: &str) -> Option<Broker> {
    let mut command = command_with_fault(&directory, fault)?;
    command.args([
        "--bind",
        "127.0.0.1",
        "--port",
        "0",
        "--data-dir",
        "data",
        "--shards",
        "1",
        "--io",
        "epoll",
    ]);
    command.args(["--durability"]).args(durability.split(' '));
    Some(Broker::spawn(directory, command, 1))
}

/// A directory whose log exists, so that the start has little to do.
fn used() -> Directory {
    let flags = ["--durability", "power", "--shards", "1"];
    let broker = Broker::start_with(&crate::setup(crate::harness::broker::Io::Epoll, &flags));
    let mut subscriber = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "subscriber"));
    subscriber.subscribe("t", 1);
    subscriber.disconnect();
    let (_, directory) = broker.stop();
    directory
}

/// A publish that has to survive is not acknowledged, and everything else is served.
fn check_withheld(broker: &mut Broker, expected: &str) {
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
    let mut id = 0;
    // The acknowledgements that came, after another message and some time for the disk.
    let mut acknowledgements_after_another = || {
        id += 1;
        publisher.send(&Publish::new("t", 1, b"x").with_packet_id(id).encode(Version::V5));
        std::thread::sleep(Duration::from_millis(20));
        publisher.ping();
        let acknowledgements = publisher.waiting().iter();
        acknowledgements.filter(|packet| matches!(packet, Received::PubAck { .. })).count()
    };
    let deadline = Deadline::after(PATIENCE);
    while !broker.process().output().contains(expected) {
        assert!(deadline.remaining().is_some(), "nothing has failed:\n{}", broker.process().output());
        acknowledgements_after_another();
    }
    let before = acknowledgements_after_another();
    assert!(before > 0, "the disk worked at first");
    for _ in 0..5 {
        assert_eq!(before, acknowledgements_after_another(), "acknowledged after the log had failed");
    }
    // Volatile traffic goes on.
    let mut other = Peer::connect(broker.address(), &Connect::new(Version::V5, "other"));
    other.subscribe("volatile", 1);
    other.publish(&Publish::new("volatile", 1, b"1"));
    assert_eq!(other.next_message().text(), "1");
}

#[test]
fn a_sync_that_fails_ends_every_acknowledgement_and_is_not_repeated() {
    for durability in ["power", "process"] {
        let Some(mut broker) = with_fault(used(), ("fdatasync:error=EIO:when=6+", &[]), durability) else {
            return;
        };
        check_withheld(&mut broker, "the journal has failed");
        let mut health = command_in(broker.directory());
        health.args(["health", "--data-dir", "data"]);
        let health = run(health);
        assert_eq!(health.status.code(), Some(1));
        assert!(health.output.contains("the journal is stopped"), "{}", health.output);
        let output = broker.process().output();
        assert_eq!(output.matches("the journal has failed").count(), 1, "{output}");
        // A client that would wait for the log for ever is told so, and nobody else.
        for (version, refusal) in [(Version::V5, 0x88), (Version::V3_1_1, 3)] {
            for name in ["subscriber", "another"] {
                let connect = Connect::persistent(version, name);
                assert_eq!(Peer::try_connect(broker.address(), &connect).1, refusal, "{name}");
            }
            Peer::connect(broker.address(), &Connect::new(version, "volatile")).disconnect();
        }
        for part in ["ERROR", "operation=\"synchronise\"", ".log", "restart the broker"] {
            assert!(output.contains(part), "{part} is missing in {output}");
        }
        // A disk that works has everything that was acknowledged before.
        let directory = broker.kill();
        let flags = ["--durability", "power", "--shards", "1"];
        let broker = Broker::start_in(directory, &crate::setup(crate::harness::broker::Io::Epoll, &flags));
        let subscriber = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "subscriber"));
        assert!(subscriber.session_present);
        broker.stop();
    }
}

#[test]
fn a_write_that_fails_ends_every_acknowledgement() {
    for error in ["EIO", "ENOSPC"] {
        let inject = format!("pwrite64:error={error}:when=5+");
        let Some(mut broker) = with_fault(used(), (&inject, &[]), "power") else { return };
        check_withheld(&mut broker, "the journal has failed");
        assert!(broker.process().output().contains("operation=\"write\""));
        broker.kill();
    }
}

/// Publishes one message after the other until the log has failed. Returns how many were acknowledged.
fn publish_until_failure(broker: &mut Broker) -> u16 {
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
    let deadline = Deadline::after(PATIENCE);
    for id in 1..=1_000 {
        let payload = id.to_string();
        let publish = Publish::new("t", 1, payload.as_bytes()).with_packet_id(id);
        publisher.send(&publish.encode(Version::V5));
        loop {
            publisher.ping();
            let packets = publisher.waiting().iter();
            let acknowledged = packets.filter(|packet| matches!(packet, Received::PubAck { .. })).count();
            if acknowledged == usize::from(id) {
                break;
            }
            if broker.process().output().contains("the journal has failed") {
                return u16::try_from(acknowledged).expect("there are few");
            }
            assert!(deadline.remaining().is_some(), "nothing has failed:\n{}", broker.process().output());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    panic!("nothing has failed");
}

/// `FAULTS` tries each call up to that one.
#[test]
fn a_fault_from_any_call_on_loses_nothing_that_was_acknowledged() {
    let number = std::env::var_os("FAULTS").and_then(|text| text.to_str()?.parse::<u32>().ok());
    let calls = number.map_or_else(|| vec![9], |number| (1..=number).collect());
    let faults =
        ["fdatasync:error=EIO", "fdatasync:error=ENOSPC", "pwrite64:error=EIO", "pwrite64:error=ENOSPC"];
    for fault in faults {
        for call in &calls {
            let inject = format!("{fault}:when={call}+");
            let Some(mut broker) = with_fault(used(), (&inject, &[]), "power") else { return };
            let acknowledged = publish_until_failure(&mut broker);
            let directory = broker.kill();
            let flags = ["--durability", "power", "--shards", "1"];
            let broker =
                Broker::start_in(directory, &crate::setup(crate::harness::broker::Io::Epoll, &flags));
            let mut subscriber =
                Peer::connect(broker.address(), &Connect::persistent(Version::V5, "subscriber"));
            for number in 1..=acknowledged {
                assert_eq!(subscriber.next_message().text(), number.to_string(), "{inject}");
            }
            broker.kill();
        }
    }
    println!("{faults:?} from each of the calls {calls:?} on");
}

/// A disk without room for the next segment: what is prepared is used, and the log says so until there is room.
#[test]
fn a_full_disk_is_told_and_tried_again_and_acknowledges_while_it_can() {
    let directory = used();
    let log =
        |number| directory.path().join(format!("data/journal/1/0/{number:016}.log")).display().to_string();
    let next: Vec<String> = (3..20).map(log).collect();
    let fault = ("write:error=ENOSPC:when=1..2", &next[..]);
    let Some(mut broker) = with_fault(directory, fault, "process") else { return };
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
    let payload = vec![0; 200_000];
    let deadline = Deadline::after(PATIENCE);
    let is_told = |broker: &mut Broker, text: &str| broker.process().output().contains(text);
    while !is_told(&mut broker, "the journal is degraded") {
        assert!(deadline.remaining().is_some(), "{}", broker.process().output());
        publisher.publish(&Publish::new("t", 1, &payload));
    }
    assert!(is_told(&mut broker, "is_full=true"));
    let mut health = command_in(broker.directory());
    health.args(["health", "--data-dir", "data"]);
    let health = run(health);
    assert!(health.output.contains("the journal is degraded"), "{}", health.output);
    publisher.publish(&Publish::new("t", 1, b"there is room in the segment"));
    broker.process().wait_for(0, "room", |line| line.contains("the journal has room again"));
    // More than the rest of the segment.
    for _ in 0..60 {
        publisher.publish(&Publish::new("t", 1, &payload));
    }
    assert!(!is_told(&mut broker, "has failed"));
    broker.kill();
}

/// A full disk whose last segment is used up: publishers wait and clients whose session lasts are refused, until there is room.
#[test]
fn a_disk_without_any_room_refuses_sessions_that_last_and_serves_everybody_else() {
    let directory = used();
    let log =
        |number| directory.path().join(format!("data/journal/1/0/{number:016}.log")).display().to_string();
    let next: Vec<String> = (3..40).map(log).collect();
    let fault = ("write:error=ENOSPC:when=1..6", &next[..]);
    let Some(mut broker) = with_fault(directory, fault, "process --checkpoint-bytes 1048576") else { return };
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
    let deadline = Deadline::after(PATIENCE);
    while !broker.process().output().contains("the journal is degraded") {
        assert!(deadline.remaining().is_some(), "{}", broker.process().output());
        publisher.publish(&Publish::new("t", 1, &[b'x'; 10_000]));
    }
    // More than the rest of the segment.
    for id in 1_001..1_101 {
        publisher.send(&Publish::new("t", 1, &[b'x'; 10_000]).with_packet_id(id).encode(Version::V5));
    }
    broker.process().wait_for(0, "the shortage", |line| line.contains("publishers of messages"));
    let lasting = Connect::persistent(Version::V5, "lasting");
    assert_eq!(Peer::try_connect(broker.address(), &lasting).1, 0x88);
    let mut other = Peer::connect(broker.address(), &Connect::new(Version::V5, "other"));
    other.subscribe("volatile", 1);
    other.publish(&Publish::new("volatile", 1, b"1"));
    assert_eq!(other.next_message().text(), "1");
    broker.process().wait_for(0, "room", |line| line.contains("the journal has room again"));
    for id in 1_001..1_101 {
        publisher.complete(1, id);
    }
    Peer::connect(broker.address(), &lasting).disconnect();
    broker.kill();
}

/// A disk that takes less than is published: what waits for it is bounded, publishers wait, and everybody else is served.
#[test]
fn a_slow_disk_holds_the_publishers_of_messages_that_it_is_to_keep() {
    let fault = ("fdatasync:delay_enter=1500000", &[][..]);
    let Some(mut broker) = with_fault(used(), fault, "process") else { return };
    let (address, count) = (broker.address(), 400);
    let publisher = std::thread::spawn(move || {
        let mut peer = Peer::connect(address, &Connect::new(Version::V3_1_1, "publisher"));
        let payload = vec![b'x'; 64 * 1024];
        for id in 1..=count {
            peer.send(&Publish::new("t", 1, &payload).with_packet_id(id).encode(Version::V3_1_1));
        }
        for id in 1..=count {
            peer.complete(1, id);
        }
    });
    let line = broker.process().wait_for(0, "the shortage", |line| line.contains("publishers of messages"));
    let unsynced = line.split_once("unsynced_bytes=").expect("it says how much").1;
    let unsynced: u64 = unsynced.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
    assert!((8 << 20..10 << 20).contains(&unsynced), "{unsynced}");
    let mut other = Peer::connect(address, &Connect::new(Version::V5, "other"));
    other.subscribe("volatile", 2);
    for qos in [0, 1, 2] {
        let began = now();
        other.publish(&Publish::new("volatile", qos, b"1"));
        other.next_message();
        other.ping();
        assert!(began.elapsed() < Duration::from_secs(1), "{qos}: {:?}", began.elapsed());
    }
    publisher.join().expect("every message is acknowledged in the end");
    other.subscribe("$SYS/broker/publish/journal_waits", 0);
    let waits = other.next_message().text();
    assert!(waits.parse::<u64>().is_ok_and(|waits| waits > 0), "{waits}");
    broker.kill();
}

/// A checkpoint that finds no room is given up, and everything else goes on; a start reads the log that it would have replaced.
#[test]
fn a_checkpoint_without_room_costs_no_acknowledgement() {
    let directory = used();
    let draft = directory.path().join("data/journal/1/0/checkpoint.new").display().to_string();
    let fault = ("pwrite64:error=ENOSPC", &[draft][..]);
    let Some(mut broker) = with_fault(directory, fault, "process --checkpoint-bytes 1048576") else { return };
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
    let deadline = Deadline::after(PATIENCE);
    let mut count = 0;
    while !broker.process().output().contains("a checkpoint could not be written") {
        assert!(deadline.remaining().is_some(), "{}", broker.process().output());
        publisher.publish(&Publish::new("t", 1, &[b'x'; 10_000]));
        count += 1;
    }
    publisher.publish(&Publish::new("t", 1, b"last"));
    let output = broker.process().output();
    assert!(output.contains("operation=\"write\"") && output.contains("checkpoint.new"), "{output}");
    assert!(!output.contains("degraded") && !output.contains("has failed"), "{output}");
    let directory = broker.kill();
    let flags = ["--durability", "process", "--shards", "1"];
    let broker = Broker::start_in(directory, &crate::setup(crate::harness::broker::Io::Epoll, &flags));
    let mut subscriber = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "subscriber"));
    for _ in 0..count {
        assert_eq!(subscriber.next_message().payload.len(), 10_000);
    }
    assert_eq!(subscriber.next_message().text(), "last");
    broker.stop();
}

/// A disk takes its time for a sync: "power" waits for it, "process" does not.
#[test]
fn an_acknowledgement_waits_for_the_disk_at_power_and_not_at_process() {
    let delay = Duration::from_millis(300);
    for (durability, waits) in [("power", true), ("process", false)] {
        let fault = ("fdatasync:delay_enter=300000", &[][..]);
        let Some(broker) = with_fault(used(), fault, durability) else { return };
        let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"));
        // The first one waits for the segment that the start makes.
        publisher.publish(&Publish::new("t", 1, b"x"));
        std::thread::sleep(2 * delay);
        let began = now();
        publisher.publish(&Publish::new("t", 1, b"x"));
        let waited = began.elapsed();
        assert_eq!(waited >= delay, waits, "{durability}: {waited:?}");
        // Volatile traffic waits at neither.
        let began = now();
        publisher.publish(&Publish::new("nobody", 1, b"x"));
        assert!(began.elapsed() < delay, "{durability}: {:?}", began.elapsed());
        broker.kill();
    }
}

/// A start that takes long says how far it is, each second, and has the service manager wait. It is ready only afterwards.
#[test]
fn the_reading_of_a_long_log_is_told() {
    let directory = used();
    // As the broker names it.
    let segment = file_of(&directory, "log");
    let segment = segment.strip_prefix(directory.path()).expect("it is below").display().to_string();
    let fault = ("openat:delay_enter=1300000", &[segment][..]);
    let manager = directory.path().join("notify.sock");
    let socket = std::os::unix::net::UnixDatagram::bind(&manager).expect("a socket in the test's directory");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time that is not zero");
    let Some(mut command) = command_with_fault(&directory, fault) else { return };
    command.env("NOTIFY_SOCKET", &manager);
    command.args(["--bind", "127.0.0.1", "--port", "0", "--data-dir", "data", "--shards", "1"]);
    command.args(["--io", "epoll", "--durability", "process"]);
    let mut broker = Broker::spawn(directory, command, 1);
    let output = broker.process().output();
    for part in [
        "reading the journal percent=0 bytes=",
        " records=0 sessions=0 retained=0 seconds=1",
        "recovered from the journal",
    ] {
        assert!(output.contains(part), "{part} is missing in {output}");
    }
    let mut told = Vec::new();
    while told.last().is_none_or(|last: &String| !last.contains("READY=1")) {
        let mut bytes = [0; 4_096];
        let length = socket.recv(&mut bytes).expect("the broker tells when it is ready");
        told.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
    }
    assert!(told[0].contains("EXTEND_TIMEOUT_USEC=60000000"), "{told:?}");
    assert!(told[0].contains("STATUS=reading the journal: 0 %, 0 records"), "{told:?}");
    broker.kill();
}
