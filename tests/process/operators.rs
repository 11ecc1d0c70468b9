//! `mqtt-broker sessions` and `mqtt-broker refusals`: the operator sees sessions and refusals of the running broker, ends a session and
//! gives one to another user.

use std::io::Write as _;
use std::process::Stdio;

use crate::harness::broker::{Broker, Directory, Io, Setup, command_in};
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::process::{Finished, run};

/// Passwords that one listener asks for.
pub(crate) const WITH_PASSWORDS: &str = "anonymous = false\n[auth.password]\nfile = \"passwords\"\n";

/// Runs a command of the operator.
pub(crate) fn operate(broker: &Broker, arguments: &[&str]) -> Finished {
    let mut command = command_in(broker.directory());
    command.args(["--data-dir", "data"]).args(arguments);
    run(command)
}

/// Adds a user, whose password is the name, to the file `passwords`.
pub(crate) fn add_user(directory: &Directory, user: &str) {
    let mut command = command_in(directory);
    command.args(["user", "--file", "passwords", "add", user]).stdin(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let input = child.stdin.as_mut().expect("standard input is piped");
    input.write_all(format!("{user}\n").as_bytes()).expect("the command reads a password");
    assert!(child.wait().expect("the command ends").success());
}

/// A broker for users who have their name as password.
pub(crate) fn with_users(io: Io, users: &[&str], config: &str) -> Broker {
    let directory = Directory::new();
    for user in users {
        add_user(&directory, user);
    }
    let flags = ["--shards", "3", "--stats-interval", "0"];
    Broker::start_in(directory, &Setup { io, flags: &flags, config })
}

/// A client that is its user's.
pub(crate) fn as_user<'a>(client_id: &'a str, user: &'a str) -> Connect<'a> {
    Connect::persistent(Version::V5, client_id).with_credentials(user, user.as_bytes())
}

#[test]
fn the_operator_sees_sessions_ends_one_and_gives_one_away() {
    for io in [Io::Auto, Io::Blocking] {
        let broker = with_users(io, &["ann", "bob"], WITH_PASSWORDS);
        let mut ann = Peer::connect(broker.address(), &as_user("pump", "ann"));
        ann.subscribe("t", 1);
        for number in 0..20 {
            Peer::connect(broker.address(), &as_user(&format!("sensor {number}"), "ann")).disconnect();
        }
        let listed = operate(&broker, &["sessions"]);
        assert!(listed.status.success(), "{}", listed.output);
        assert_eq!(listed.output.lines().count(), 21, "{}", listed.output);
        let sensor = "client=\"sensor 7\" user=\"ann\" connected=false subscriptions=0 queued=0";
        assert!(listed.output.lines().any(|line| line == sensor), "{}", listed.output);
        let shown = operate(&broker, &["sessions", "pump"]).output;
        assert!(shown.starts_with("client=\"pump\" user=\"ann\" connected=true peer=127.0.0.1:"), "{shown}");
        assert!(shown.ends_with(" subscriptions=1 queued=0"), "{shown}");

        let given = operate(&broker, &["sessions", "give", "pump", "bob"]);
        assert_eq!(given.output, "session \"pump\" belongs to user \"bob\" now");
        assert_eq!(ann.await_close(), Some(0x98));
        assert_eq!(Peer::try_connect(broker.address(), &as_user("pump", "ann")).1, 0x85);
        let mut publisher = Peer::connect(broker.address(), &as_user("publisher", "ann"));
        publisher.publish(&Publish::new("t", 1, b"for whoever owns it"));
        let mut bob = Peer::connect(broker.address(), &as_user("pump", "bob"));
        assert!(bob.session_present);
        assert_eq!(bob.next_message().text(), "for whoever owns it");

        let ended = operate(&broker, &["sessions", "end", "pump"]);
        assert_eq!(ended.output, "session \"pump\" was ended");
        assert_eq!(bob.await_close(), Some(0x98));
        assert!(!Peer::connect(broker.address(), &as_user("pump", "ann")).session_present);
        let long = "x".repeat(100_000);
        for arguments in
            [&["sessions", "none"][..], &["sessions", "end", "none"], &["sessions", "give", &long, "bob"]]
        {
            let refused = operate(&broker, arguments);
            assert_eq!(refused.status.code(), Some(1));
            assert!(refused.output.contains("there is no session of the client"), "{}", refused.output);
        }
        broker.stop();
    }
}

#[test]
fn a_refusal_names_the_client_its_user_its_place_and_the_method() {
    for io in [Io::Auto, Io::Blocking] {
        let config = format!("connection_log = \"none\"\n{WITH_PASSWORDS}");
        let broker = with_users(io, &["ann"], &config);
        assert_eq!(operate(&broker, &["refusals"]).output, "");
        let forged = "x\" peer=1.2.3.4:5\n\u{1b}[31m";
        for (client_id, user, password) in
            [("pump", Some("ann"), "wrong"), ("stranger", Some("eve"), "eve"), (forged, None, "")]
        {
            let mut connect = Connect::new(Version::V5, client_id);
            if let Some(user) = user {
                connect = connect.with_credentials(user, password.as_bytes());
            }
            let (mut peer, reason) = Peer::try_connect(broker.address(), &connect);
            assert_ne!(reason, 0);
            peer.await_close();
        }
        let listed = operate(&broker, &["refusals"]).output;
        let lines: Vec<&str> = listed.lines().collect();
        assert_eq!(lines.len(), 3, "{listed}");
        for (line, named, method) in [
            (lines[0], "client=\"pump\" user=\"ann\" peer=127.0.0.1:", "method=password"),
            (lines[1], "client=\"stranger\" user=\"eve\" peer=127.0.0.1:", "method=none"),
            (lines[2], "client=\"x\\\" peer=1.2.3.4:5\\n\\u{1b}[31m\" peer=127.0.0.1:", "reason="),
        ] {
            assert!(line.contains(named) && line.contains(method), "{line}");
        }
        assert!(lines[0].contains(&format!(" listener={} ", broker.address())), "{listed}");
        assert!(lines[0].contains("reason=authentication why=\""), "{listed}");
        let own = operate(&broker, &["refusals", "pump"]).output;
        assert_eq!(own, lines[0]);
        assert_eq!(operate(&broker, &["refusals", "calm"]).status.code(), Some(1));
        let (finished, _directory) = broker.stop();
        assert!(!finished.output.contains("client refused"), "no line was asked for: {}", finished.output);
    }
}

#[test]
fn lines_about_clients_name_user_and_method() {
    let mut broker = with_users(Io::Auto, &["ann"], WITH_PASSWORDS);
    Peer::connect(broker.address(), &as_user("pump", "ann")).disconnect();
    let wrong = Connect::new(Version::V3_1_1, "pump").with_credentials("ann", b"wrong");
    assert_eq!(Peer::try_connect(broker.address(), &wrong).1, 4);
    for parts in [
        ["INFO client connected client=\"pump\" user=\"ann\" peer=127.0.0.1:", "method=password"],
        ["INFO client refused client=\"pump\" user=\"ann\" peer=127.0.0.1:", "method=password"],
    ] {
        broker.process().wait_for(0, "line", |line| parts.iter().all(|part| line.contains(part)));
    }
    broker.stop();
}

#[test]
fn the_last_256_refusals_are_remembered() {
    let broker = Broker::start_with(&Setup {
        config: "client_id_bytes_max = 23\nconnection_log = \"none\"\n",
        ..Setup::default()
    });
    let long = "x".repeat(1_000);
    for number in 0..300 {
        let client_id = format!("{number:03}{long}");
        Peer::try_connect(broker.address(), &Connect::new(Version::V5, &client_id)).0.await_close();
    }
    let listed = operate(&broker, &["refusals"]).output;
    assert_eq!(listed.lines().count(), 256);
    for (line, number) in listed.lines().zip(44..) {
        assert!(line.contains(&format!("client=\"{number:03}xxx")) && line.len() < 700, "{line}");
    }
    broker.stop();
}
