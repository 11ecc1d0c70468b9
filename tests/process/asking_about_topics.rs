//! `mqtt-broker subscriptions`, `topics`, `retained` and `publish`: the operator asks who receives what, and sends messages.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::Value;

use crate::asking::{HOSTILE, is_plain, rows, texts};
use crate::harness::broker::{Broker, Io, Setup, command_in};
use crate::harness::packet::{Connect, Properties, Publish, Version, property};
use crate::harness::peer::Peer;
use crate::operators::{WITH_PASSWORDS, as_user, operate, with_users};

fn start(io: Io) -> Broker {
    Broker::start_with(&Setup { io, flags: &["--shards", "3"], ..Setup::default() })
}

fn connect(broker: &Broker, client_id: &str) -> Peer {
    Peer::connect(broker.address(), &Connect::persistent(Version::V5, client_id))
}

#[test]
fn subscriptions_are_listed_whole_of_one_client_and_of_all() {
    for io in [Io::Auto, Io::Blocking] {
        let broker = start(io);
        let mut many = connect(&broker, "many");
        let filters: Vec<String> = (0..600).map(|number| format!("line/{number:03}/+")).collect();
        for part in filters.chunks(100) {
            let part: Vec<(&str, u8)> = part.iter().map(|filter| (&**filter, 1)).collect();
            many.subscribe_with(&part, &Properties::new().variable(property::SUBSCRIPTION_ID, 7));
        }
        let mut other = connect(&broker, HOSTILE);
        // No Local, Retain As Published, and retained messages for a new subscription only.
        other.subscribe("$share/group/line/#", 2);
        other.subscribe("t\u{202e}", 0b0001_1110);
        let listed = rows(&broker, &["subscriptions", "many"]);
        assert_eq!(texts(&listed, "filter"), filters);
        assert!(listed.iter().all(|row| row["identifier"] == 7 && row["qos"] == 1), "{listed:?}");
        let all = rows(&broker, &["subscriptions"]);
        assert_eq!(all.len(), 602);
        let listed = rows(&broker, &["subscriptions", HOSTILE]);
        assert_eq!(texts(&listed, "filter"), ["$share/group/line/#", "t\u{202e}"]);
        assert_eq!(
            (&listed[1]["no_local"], &listed[1]["retain_handling"]),
            (&Value::from(true), &Value::from(1))
        );
        let table = operate(&broker, &["subscriptions", HOSTILE]).output;
        assert!(table.lines().count() == 3 && is_plain(&table), "{table:?}");
        assert_eq!(operate(&broker, &["subscriptions", "none"]).status.code(), Some(1));
        broker.stop();
    }
}

#[test]
fn the_receivers_of_a_topic_are_listed_with_filters_groups_and_rules() {
    let rules = "[rules]\n[role.all]\npublish = [\"#\"]\nsubscribe = [\"#\"]\n[role.few]\nsubscribe = [\"a/#\"]\n\
        deny = [\"a/secret\"]\n[user.ann]\nroles = [\"all\"]\n[user.bob]\nroles = [\"few\"]\n";
    let broker = with_users(Io::Auto, &["ann", "bob"], &format!("{WITH_PASSWORDS}{rules}"));
    let dial = |client_id: &str, user: &str| Peer::connect(broker.address(), &as_user(client_id, user));
    let mut exact = dial("exact", "ann");
    exact.subscribe("a/secret", 2);
    let mut members: Vec<Peer> = (0..3).map(|number| dial(&format!("member-{number}"), "ann")).collect();
    for member in &mut members {
        assert_eq!(member.subscribe("$share/g/a/+", 1), 1);
    }
    let mut denied = dial("denied", "bob");
    denied.subscribe("a/#", 1);
    let mut offline = dial("offline", "ann");
    offline.subscribe("#", 0);
    offline.disconnect();
    let mut elsewhere = dial("elsewhere", "ann");
    elsewhere.subscribe("b", 0);

    let listed = rows(&broker, &["topics", "a/secret"]);
    let short = |row: &Value| {
        let text = |member: &str| row[member].as_str().unwrap_or("-").to_owned();
        (text("client"), text("filter"), text("group"), row["may_read"] == true, row["connected"] == true)
    };
    let of = |client: &str, filter: &str, group: &str, may_read, connected| {
        (client.to_owned(), filter.to_owned(), group.to_owned(), may_read, connected)
    };
    let expected = [
        of("offline", "#", "-", true, false),
        of("denied", "a/#", "-", false, true),
        of("exact", "a/secret", "-", true, true),
        of("member-0", "a/+", "g", true, true),
        of("member-1", "a/+", "g", true, true),
        of("member-2", "a/+", "g", true, true),
    ];
    assert_eq!(listed.iter().map(short).collect::<Vec<_>>(), expected);
    let table = operate(&broker, &["topics", "a/secret"]).output;
    assert!(table.contains("no: the rules forbid it") && table.contains("one of its group each"), "{table}");
    assert_eq!(rows(&broker, &["topics", "c"]).len(), 1);
    let refused = operate(&broker, &["topics", "a/+"]);
    assert!(refused.status.code() == Some(1) && refused.output.contains("is no topic of clients"));
    broker.stop();
}

#[test]
fn a_topic_with_more_receivers_than_a_part_lists_each_once() {
    let broker = start(Io::Auto);
    let _peers: Vec<Peer> = (0..1_000)
        .map(|number| {
            let mut peer = connect(&broker, &format!("client-{number:04}"));
            peer.subscribe(["t", "+", "$share/a/t", "$share/b/#"][number % 4], 0);
            peer
        })
        .collect();
    let mut clients = texts(&rows(&broker, &["topics", "t"]), "client");
    clients.sort();
    assert_eq!(clients, (0..1_000).map(|number| format!("client-{number:04}")).collect::<Vec<_>>());
    broker.stop();
}

#[test]
fn retained_messages_are_listed_read_and_removed() {
    for io in [Io::Auto, Io::Blocking] {
        let broker = start(io);
        let mut publisher = connect(&broker, "publisher");
        for number in 0..1_000 {
            publisher.publish(&Publish::new(&format!("line/{number:04}"), 1, b"12345").retained());
        }
        publisher.publish(&Publish::new("other\u{202e}", 2, b"\x00\x1b binary").retained());
        let topics: Vec<String> = (0..1_000).map(|number| format!("line/{number:04}")).collect();
        let listed = rows(&broker, &["retained", "list", "line/+"]);
        assert_eq!(texts(&listed, "topic"), topics);
        assert!(listed.iter().all(|row| row["payload_bytes"] == 5 && row["qos"] == 1));
        assert_eq!(rows(&broker, &["retained", "list"]).len(), 1_001);
        assert_eq!(texts(&rows(&broker, &["retained", "list", "$SYS/broker/version"]), "topic").len(), 1);
        let table = operate(&broker, &["retained", "list", "other\u{202e}"]).output;
        assert!(table.lines().count() == 2 && is_plain(&table), "{table:?}");

        let mut command = command_in(broker.directory());
        command.args(["--data-dir", "data", "retained", "get", "other\u{202e}"]);
        assert_eq!(command.output().unwrap().stdout, b"\x00\x1b binary");
        let json = &rows(&broker, &["retained", "get", "line/0007"])[0];
        assert_eq!(
            (&json["payload_base64"], &json["message"]["qos"]),
            (&Value::from("MTIzNDU="), &Value::from(1))
        );

        let mut watcher = connect(&broker, "watcher");
        watcher.subscribe("line/0007", 0);
        assert_eq!(watcher.next_message().text(), "12345");
        assert!(operate(&broker, &["retained", "clear", "line/0007"]).status.success());
        assert_eq!(watcher.next_message().text(), "");
        for command in ["get", "clear"] {
            let refused = operate(&broker, &["retained", command, "line/0007"]);
            assert_eq!(refused.status.code(), Some(1));
            assert!(
                refused.output.contains("there is no retained message of \"line/0007\""),
                "{}",
                refused.output
            );
        }
        assert_eq!(rows(&broker, &["retained", "list"]).len(), 1_000);
        assert_eq!(operate(&broker, &["retained", "list", "a/#/b"]).status.code(), Some(1));
        broker.stop();
    }
}

#[test]
fn the_operator_publishes_from_an_argument_a_file_or_a_pipe() {
    for io in [Io::Auto, Io::Blocking] {
        let broker = start(io);
        let mut peer = connect(&broker, "peer");
        peer.subscribe("a/+", 2);
        let sent = operate(&broker, &["publish", "a/b", "hello", "--qos", "1"]);
        assert!(sent.status.success() && sent.output.is_empty(), "{}", sent.output);
        let message = peer.next_message();
        assert_eq!((&*message.text(), message.qos), ("hello", 1));
        broker.directory().write("payload", "from a file");
        assert!(operate(&broker, &["publish", "a/c", "--file", "payload", "--retain"]).status.success());
        assert_eq!(peer.next_message().text(), "from a file");
        let mut command = command_in(broker.directory());
        command.args(["--data-dir", "data", "publish", "a/d"]).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Longer than a message that crosses in a block.
        child.stdin.take().unwrap().write_all("x".repeat(100_000).as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(peer.next_message().text().len(), 100_000);
        assert_eq!(texts(&rows(&broker, &["retained", "list"]), "topic"), ["a/c"]);
        for topic in ["a/+", "", "$SYS/broker/version"] {
            let refused = operate(&broker, &["publish", topic, "x"]);
            assert_eq!(
                (refused.status.code(), refused.output.lines().count()),
                (Some(1), 1),
                "{}",
                refused.output
            );
        }
        broker.stop();
    }
}

#[test]
fn a_message_that_the_operator_retains_is_in_the_log() {
    let flags = ["--shards", "1", "--durability", "process"];
    let broker = Broker::start_with(&Setup { flags: &flags, ..Setup::default() });
    let mut absent = connect(&broker, "absent");
    absent.subscribe("t", 1);
    absent.disconnect();
    assert!(operate(&broker, &["publish", "t", "kept", "--qos", "1", "--retain"]).status.success());
    let (_finished, directory) = broker.stop();
    let broker = Broker::start_in(directory, &Setup { flags: &flags, ..Setup::default() });
    let got = operate(&broker, &["retained", "get", "t"]);
    assert_eq!((got.status.code(), &*got.output), (Some(0), "kept"));
    let mut absent = connect(&broker, "absent");
    assert!(absent.session_present);
    assert_eq!(absent.next_message().text(), "kept");
    broker.stop();
}
