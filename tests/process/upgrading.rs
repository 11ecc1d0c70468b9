//! Starts on data directories that earlier versions have written, and on those of later ones.
//!
//! `earlier/` has one of each form that there was, and keeps them for good: `subscriptions-1` is that of the product that this one
//! replaces, `-2` has the expiry of sessions, `-3` their users and the files beside it, and `journal-1` is a log of two shards with a
//! checkpoint. The part of a segment that nothing was written to is left out there.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use crate::harness::broker::{Broker, Directory, Setup, command_in};
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;
use crate::harness::process::run;
use crate::harness::received::Message;
use crate::operators::operate;

/// Bytes of a segment from its beginning, written or not.
const SEGMENT_BYTES: u64 = 2_097_152;

/// The place of the format in the header of each file of a log: behind a checksum and a name.
const FORMAT_AT: usize = 12;

/// A copy of a data directory.
fn earlier(name: &str) -> Directory {
    let directory = Directory::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process/earlier").join(name);
    copy(&from, &directory.path().join("data"));
    directory
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the test's directory is writable");
    for entry in fs::read_dir(from).expect("the fixture is there") {
        let path = entry.expect("the fixture is readable").path();
        let to = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy(&path, &to);
            continue;
        }
        fs::copy(&path, &to).expect("the test's directory is writable");
        if path.ends_with("0000000000000002.log") {
            let segment = OpenOptions::new().write(true).open(&to).expect("it was just written");
            segment.set_len(SEGMENT_BYTES).expect("the test's directory is writable");
        }
    }
}

const LOGGED: Setup<'_> = Setup {
    io: crate::harness::broker::Io::Auto,
    flags: &["--shards", "2", "--durability", "process"],
    config: "",
};

/// The lines of `mqtt-broker sessions`, sorted.
fn sessions(broker: &Broker) -> Vec<String> {
    let mut lines: Vec<String> = operate(broker, &["sessions"]).output.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn sessions_of_every_earlier_subscriptions_json_come_back() {
    let setup = Setup {
        flags: &["--shards", "2"],
        config: "session_owner = \"client_id\"\n[bans]\nfailures_max = 5\n",
        ..Setup::default()
    };
    for (name, user, counts) in [
        ("subscriptions-1", "", [1, 2]),
        ("subscriptions-2", "", [1, 1]),
        ("subscriptions-3", "pumps", [1, 1]),
    ] {
        let broker = Broker::start_in(earlier(name), &setup);
        let lines = sessions(&broker);
        assert_eq!(lines.len(), 2, "{name}: {lines:?}");
        for (line, (client, count)) in lines.iter().zip(["sensor-7", "sensor-8"].into_iter().zip(counts)) {
            let wanted = format!("client=\"{client}\"");
            assert!(line.contains(&wanted) && line.contains(&format!("subscriptions={count} ")), "{line}");
        }
        assert!(user.is_empty() || lines[0].contains("user=\"pumps\""), "{lines:?}");
        let (peer, reason) =
            Peer::try_connect(broker.address(), &Connect::persistent(Version::V5, "sensor-7"));
        assert!(reason == 0 && peer.session_present, "{name}");
        if name == "subscriptions-3" {
            assert!(operate(&broker, &["bans"]).output.contains("192.0.2.7"));
            assert!(operate(&broker, &["token", "list"]).output.contains("board"));
        }
        broker.stop();
    }
}

#[test]
fn the_log_of_every_earlier_format_is_recovered() {
    let mut directory = earlier("journal-1");
    // The second start reads what the first one has written.
    for _ in 0..2 {
        let broker = Broker::start_in(directory, &LOGGED);
        let lines = sessions(&broker);
        let [first, second] = &lines[..] else { panic!("{lines:?}") };
        assert!(first.contains("sensor-7") && first.contains("queued=3"), "{first}");
        assert!(second.contains("sensor-8") && second.contains("queued=1"), "{second}");
        let retained = operate(&broker, &["retained", "list"]).output;
        assert!(retained.contains("a/kept") && retained.contains("c/kept"), "{retained}");
        directory = broker.stop().1;
    }
    let broker = Broker::start_in(directory, &LOGGED);
    let mut peer = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "sensor-7"));
    let messages: Vec<_> = (0..3).map(|_| peer.next_publish()).collect();
    let payloads: Vec<String> = messages.iter().map(Message::text).collect();
    assert_eq!(payloads, ["before", "one", "second-start"]);
    assert_eq!(messages[0].properties.len(), 1, "its user property");
    broker.stop();
}

#[test]
fn a_directory_of_a_later_version_is_refused_and_left_alone() {
    let first = ["identity.a", "1/0/0000000000000001.log", "1/1/0000000000000146.checkpoint"];
    for name in first {
        let directory = earlier("journal-1");
        let file = directory.path().join("data/journal").join(name);
        let mut bytes = fs::read(&file).expect("it was just copied");
        assert_eq!(bytes[FORMAT_AT..][..2], [1, 0], "{name}");
        bytes[FORMAT_AT] = 2;
        fs::write(&file, &bytes).expect("the test's directory is writable");
        let said = refused(&directory, &["--shards", "2", "--durability", "process"]);
        assert!(said.contains("a later version wrote it (format 2; this one reads 1)"), "{name}: {said}");
        assert_eq!(fs::read(&file).expect("it is still there"), bytes);
    }
    let directory = Directory::new();
    let later = "{\"subscriptions\": {}, \"sessions\": {}, \"wills\": {}}\n";
    let file: PathBuf = directory.write("data/subscriptions.json", later);
    let said = refused(&directory, &[]);
    assert!(said.contains("subscriptions.json") && said.contains("wills"), "{said}");
    assert_eq!(fs::read_to_string(file).expect("it is still there"), later);
}

/// The standard error of a broker that does not start with this data directory.
fn refused(directory: &Directory, flags: &[&str]) -> String {
    let mut command = command_in(directory);
    directory.write("test.conf", "[admin]\nbind = \"off\"\n");
    command.args(["--config", "test.conf", "--data-dir", "data", "--port", "0"]).args(flags);
    let finished = run(command);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.output);
    finished.output
}
