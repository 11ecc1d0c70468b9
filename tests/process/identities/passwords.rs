//! Passwords and device keys.

use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use super::{bad_credentials, login, start, stop_without};
use crate::harness::broker::Directory;
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;

/// Passwords in every form: `mosquitto_passwd` wrote the first two, argon2's reference implementation the third.
const PASSWORDS: &str = "\
# users of the tests
pbkdf2:$7$101$KNkWVh3eHJJ3nOqt$lX5ZysIijJYMMc8ARfiOp2v1o57+bIBXTrDu+sgHtDFm9cspl4xdPNBgGGt8Pn7WGLa+11FjxFdKBhYPZTckMQ==
sha512:$6$h3ovC3NdbCWQzv0m$iOxdYnzNRj6uvHRigXID98S//cyPuW+7K+hyVXYDDzFHDx47hhcAYMR5m3PAUDxNaPn5xaxK6o3ulinvgI9JxA==
argon2:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4
device:$device$yuxg0r6fKoX6w3Kg3a4Vm0xD3eYjwSvAsrJzlTbJ1GQ=
";

/// SHA-256 of the key of `device`.
fn passwords() -> String {
    use base64::Engine as _;
    let hash = crypto::digest::digest(&crypto::digest::SHA256, b"key-of-the-device");
    let hash = base64::engine::general_purpose::STANDARD.encode(hash);
    PASSWORDS.replace("yuxg0r6fKoX6w3Kg3a4Vm0xD3eYjwSvAsrJzlTbJ1GQ=", &hash)
}

const RIGHT: [(&str, &str); 4] = [
    ("pbkdf2", "correct horse"),
    ("sha512", "correct horse"),
    ("argon2", "password"),
    ("device", "key-of-the-device"),
];

#[test]
fn users_of_every_kind_of_hash_are_let_in_and_others_are_refused() {
    let directory = Directory::new();
    directory.write("passwords", &passwords());
    let broker = start(directory, "sys_interval_s = 1\n[auth.password]\nfile = \"passwords\"\n");
    for version in [Version::V3_1_1, Version::V5] {
        let login = |username, password| login(broker.address(), version, username, password);
        for round in 0..2 {
            // The second round is answered by what is remembered.
            for (user, password) in RIGHT {
                assert_eq!(login(Some(user), Some(password.as_bytes())), 0, "{user} {round}");
                assert_eq!(
                    login(Some(user), Some(b"hunter2-wrong")),
                    bad_credentials(version),
                    "{user} {round}"
                );
            }
            assert_eq!(login(Some("nobody"), Some(b"password")), bad_credentials(version), "{round}");
        }
        assert_eq!(login(Some("argon2"), Some(b"")), bad_credentials(version));
        assert_eq!(login(Some("argon2"), None), bad_credentials(version));
        // On loopback a client that names nobody is anonymous, unless the operator forbids it.
        assert_eq!(login(None, None), 0);
    }
    // The memory of the slow hash is kept for the next one, and there are lanes between two shards.
    for (kind, bytes_min) in [("authentications", 256 * 1024), ("lanes", 8 * 1024)] {
        let mut reader = Peer::connect(broker.address(), &Connect::new(Version::V5, "reader"));
        reader.subscribe(&format!("$SYS/broker/memory/{kind}"), 0);
        // A value comes each second, and the first one may be from before.
        let counted = (0..10).any(|_| reader.next_publish().text().parse::<u64>().unwrap() >= bytes_min);
        assert!(counted, "{kind}");
    }
    stop_without(broker, &["correct horse", "key-of-the-device", "hunter2"]);
}

#[test]
fn nobody_is_anonymous_where_the_operator_forbids_it_and_names_are_bounded() {
    let directory = Directory::new();
    directory.write("passwords", &passwords());
    let config = "anonymous = false\n[auth.password]\nfile = \"passwords\"\nnames = [\"dev*\"]\n";
    let broker = start(directory, config);
    assert_eq!(login(broker.address(), Version::V5, None, None), 0x86);
    assert_eq!(login(broker.address(), Version::V5, Some("device"), Some(b"key-of-the-device")), 0);
    assert_eq!(
        login(broker.address(), Version::V5, Some("argon2"), Some(b"password")),
        0x86,
        "no name for this method"
    );
    broker.stop();
}

#[test]
fn packets_behind_connect_wait_for_the_verdict() {
    let directory = Directory::new();
    directory.write("passwords", &passwords());
    let broker = start(directory, "[auth.password]\nfile = \"passwords\"\nremember_s = 0\n");
    let mut subscriber = Peer::connect(broker.address(), &Connect::new(Version::V5, "subscriber"));
    subscriber.subscribe("t", 1);
    for (password, expected) in [("wrong", 0x86), ("password", 0)] {
        let connect = Connect::new(Version::V5, "hasty").with_credentials("argon2", password.as_bytes());
        let mut hasty = Peer::open(broker.address(), Version::V5);
        let publish = Publish::new("t", 0, password.as_bytes()).encode(Version::V5);
        hasty.send_ignoring_errors(&[connect.encode(), publish].concat());
        assert_eq!(hasty.await_connack(), expected);
    }
    // The first message is the one of the client that was let in.
    assert_eq!(subscriber.next_message().text(), "password");
    broker.stop();
}

#[test]
fn sighup_reads_the_users_again_and_a_damaged_file_changes_nothing() {
    let directory = Directory::new();
    let file = directory.write("passwords", &passwords());
    let mut broker = start(directory, "[auth.password]\nfile = \"passwords\"\n");
    let mut reread = |content: &str, line: &str| {
        std::fs::write(&file, content).expect("the test's directory is writable");
        let mark = broker.process().mark();
        let id = i32::try_from(broker.process().id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process has a number");
        kill_process(id, Signal::HUP).expect("the broker runs");
        broker.process().wait_for(mark, "the file to be read", |found| found.contains(line));
        let device = login(broker.address(), Version::V5, Some("device"), Some(b"key-of-the-device"));
        let argon2 = login(broker.address(), Version::V5, Some("argon2"), Some(b"password"));
        (device, argon2)
    };
    let without = passwords().replace("argon2:", "# argon2:");
    assert_eq!(reread(&without, "read the users or keys"), (0, 0x86));
    assert_eq!(reread("argon2:secret\n", "SIGHUP: everything stays as it is"), (0, 0x86));
    assert_eq!(reread(&passwords(), "read the users or keys"), (0, 0));
    broker.stop();
}

#[test]
fn a_storm_of_slow_hashes_is_bounded_and_refused_clients_come_again() {
    let directory = Directory::new();
    directory.write("passwords", &passwords());
    let config = "[auth.password]\nfile = \"passwords\"\nqueue_max = 2\nremember_s = 0\n";
    let broker = start(directory, config);
    let address = broker.address();
    let codes: Vec<u8> = thread::scope(|scope| {
        let login = |number: usize| {
            let client_id = format!("client-{number}");
            let connect = Connect::new(Version::V5, &client_id).with_credentials("argon2", b"password");
            Peer::try_connect(address, &connect).1
        };
        let clients: Vec<_> = (0..24).map(|number| scope.spawn(move || login(number))).collect();
        clients.into_iter().map(|client| client.join().expect("a client ends")).collect()
    });
    assert!(codes.iter().all(|code| [0, 0x89].contains(code)), "{codes:02x?}");
    assert!(codes.contains(&0), "{codes:02x?}");
    assert_eq!(login(broker.address(), Version::V5, Some("argon2"), Some(b"password")), 0);
    broker.stop();
}

#[test]
fn a_password_file_with_a_fault_keeps_the_broker_from_starting() {
    use crate::harness::broker::{Setup, command_in, configure};
    use crate::harness::process::run;
    let directory = Directory::new();
    directory.write("passwords", "alice:hunter2\n");
    let mut command = command_in(&directory);
    let setup = Setup { config: "[auth.password]\nfile = \"passwords\"\n", ..Setup::default() };
    configure(&mut command, &directory, &setup);
    let finished = run(command);
    assert!(!finished.status.success());
    let expected =
        finished.output.lines().any(|line| line.contains("passwords: line 1: ") && line.contains("error"));
    assert!(expected && !finished.output.contains("hunter2"), "{}", finished.output);
}
