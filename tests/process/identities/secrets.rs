//! Secrets that the broker has loaded, and places where they could be left.

use std::fs;
#[cfg(target_os = "linux")]
use std::io::Write as _;
#[cfg(target_os = "linux")]
use std::net::TcpStream;
#[cfg(target_os = "linux")]
use std::os::unix::fs::FileExt as _;

use super::changes::passwords;
use crate::harness::broker::{Broker, Directory, Setup, configure, wrapped_command_in};
#[cfg(target_os = "linux")]
use crate::harness::packet::{Connect, Publish, Version};
#[cfg(target_os = "linux")]
use crate::harness::peer::Peer;

/// The soft limit of core dumps that a broker with this configuration has, in bytes.
fn core_dumps(config: &str) -> String {
    let directory = Directory::new();
    directory.write("passwords", &passwords(&["ann"]));
    // More than nothing, where the system allows it.
    let wrapper = ["sh", "-c", "ulimit -Sc 1; exec \"$0\" \"$@\""].map(str::to_owned);
    let mut command = wrapped_command_in(&directory, &wrapper);
    configure(&mut command, &directory, &Setup { config, ..Setup::default() });
    let mut broker = Broker::spawn(directory, command, 1);
    let limits = fs::read_to_string(format!("/proc/{}/limits", broker.process().id()));
    let limits = limits.expect("the broker runs");
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).expect("there is a limit");
    broker.stop();
    line.split_whitespace().nth(4).expect("it has a value").to_owned()
}

#[test]
fn core_dumps_are_off_where_there_are_secrets_unless_the_operator_wants_them() {
    const USERS: &str = "[auth.password]\nfile = \"passwords\"\n";
    let as_before = core_dumps("");
    assert_eq!(core_dumps(USERS), "0");
    assert_eq!(core_dumps(&format!("core_dumps = true\n{USERS}")), as_before);
}

/// How often some bytes are in the memory of a process that it can write.
#[cfg(target_os = "linux")]
fn occurrences(process: u32, needle: &[u8]) -> usize {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).expect("the broker runs");
    let memory = fs::File::open(format!("/proc/{process}/mem")).expect("a parent may read its child");
    let mut count = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (range, _) = line.split_once(' ').expect("a range comes first");
        let (from, to) = range.split_once('-').expect("it has two ends");
        let [from, to] = [from, to].map(|end| u64::from_str_radix(end, 16).expect("they are hex"));
        let mut bytes = vec![0; usize::try_from(to - from).expect("it fits")];
        // Some special ranges cannot be read.
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            count += bytes.windows(needle.len()).filter(|window| *window == needle).count();
        }
    }
    count
}

/// They were left in blocks that the allocator had taken back: of a CONNECT that came in parts, and of one that went to another shard.
#[test]
#[cfg(target_os = "linux")]
fn passwords_of_half_connects_and_of_hand_overs_are_overwritten() {
    let mut broker = Broker::start_with(&Setup { flags: &["--shards", "2"], ..Setup::default() });
    let process = broker.process().id();
    let (half, whole) = (b"half-secret-5d1c07e9".as_slice(), b"whole-secret-93ab44f2".as_slice());
    let mut halves = Vec::new();
    for number in 0..20 {
        let client_id = format!("half-{number}");
        let bytes = Connect::new(Version::V5, &client_id).with_credentials("ann", half).encode();
        let mut socket = TcpStream::connect(broker.address()).expect("the broker listens");
        // All but the last byte, of which the first part has no whole password.
        let cut = bytes.len() - half.len() / 2;
        socket.write_all(&bytes[..cut]).expect("the broker reads");
        halves.push((socket, bytes[cut..bytes.len() - 1].to_vec()));
    }
    for (number, (socket, rest)) in halves.iter_mut().enumerate() {
        let client_id = format!("whole-{number}");
        let connect = Connect::new(Version::V5, &client_id).with_credentials("ann", whole);
        Peer::connect(broker.address(), &connect).ping();
        socket.write_all(rest).expect("the broker reads");
    }
    // What follows lies over it in the buffers that receive.
    let overwrite = |broker: &Broker| {
        for number in 0..16 {
            let mut peer =
                Peer::connect(broker.address(), &Connect::new(Version::V5, &format!("over-{number}")));
            peer.send(&Publish::new("t", 0, &[b'.'; 8_000]).encode(Version::V5));
            peer.ping();
        }
    };
    overwrite(&broker);
    // The last byte has not come.
    let half = &half[..half.len() - 1];
    assert_ne!(occurrences(process, half), 0, "it waits for the rest, and is found here");
    drop(halves);
    overwrite(&broker);
    assert_eq!([half, whole].map(|secret| occurrences(process, secret)), [0, 0]);
    broker.stop();
}
