//! `mqtt-broker reload`, `rollback` and `config diff`, and SIGHUP: the configuration of the running broker changes without a client that
//! notices, and a fault changes nothing.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::process::Signal;
use serde_json::Value;

use crate::asking::rows;
use crate::harness::broker::{Broker, Directory, Io, command_in, without_admin};
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::process::{Finished, run};
use crate::harness::websocket::request;

const RULES: &str = "[rules]\nroles = [\"all\"]\n[role.all]\npublish = [\"#\"]\nsubscribe = [\"#\"]\n";

/// A broker with this configuration, whose port the system has chosen.
fn start(io: Io, config: &str) -> Broker {
    let directory = Directory::new();
    let mut command = command_in(&directory);
    command.arg("--config").arg(directory.write("test.conf", config)).args(["--data-dir", "data"]);
    command.args(["--io", io.possible().flag(), "--shards", "2", "--port", "0", "--bind", "127.0.0.1"]);
    Broker::spawn(directory, command, 1)
}

/// Runs a command with the broker's configuration file.
fn operate(broker: &Broker, arguments: &[&str]) -> Finished {
    let mut command = command_in(broker.directory());
    command.args(["--data-dir", "data"]).args(arguments);
    run(command)
}

/// The keys that a command names, each with its values and whether it is live.
fn differences(broker: &Broker, arguments: &[&str]) -> Vec<(String, String, bool)> {
    let row = rows(broker, arguments).remove(0);
    let text = |value: &Value| value.as_str().unwrap_or("absent").to_owned();
    let differences = row["differences"].as_array().expect("a list").iter();
    differences
        .map(|it| {
            let values = format!("{} to {}", text(&it["before"]), text(&it["after"]));
            (text(&it["key"]), values, it["is_live"] == true)
        })
        .collect()
}

fn of(key: &str, values: &str, is_live: bool) -> (String, String, bool) {
    (key.to_owned(), values.to_owned(), is_live)
}

fn connect(broker: &Broker, client_id: &str) -> Peer {
    Peer::connect(broker.address(), &Connect::persistent(Version::V5, client_id))
}

#[test]
fn a_reload_is_tried_applied_and_taken_back_and_restart_keys_keep_their_values() {
    for io in [Io::Auto, Io::Blocking] {
        let broker = start(io, RULES);
        let mut peer = connect(&broker, "peer");
        assert_eq!(differences(&broker, &["config", "diff"]), []);
        let changed = format!(
            "subscriptions_per_session_max = 1\nlog_level = \"debug\"\nqueue_messages_max = 7\nread_buffer_bytes = 16384\n{}",
            RULES.replace("publish = [\"#\"]", "publish = [\"a\"]")
        );
        broker.directory().write("test.conf", &changed);
        let expected = [
            of("log_level", "\"info\" to \"debug\"", true),
            of("queue_messages_max", "1000 to 7", true),
            of("read_buffer_bytes", "8192 to 16384", false),
            of("role.all.publish", "[\"#\"] to [\"a\"]", true),
            of("subscriptions_per_session_max", "10000 to 1", true),
        ];
        for dry in [&["config", "diff"][..], &["reload", "--dry-run"]] {
            let keys = |them: &[(String, String, bool)]| {
                them.iter().map(|(key, _, is_live)| (key.clone(), *is_live)).collect::<Vec<_>>()
            };
            assert_eq!(keys(&differences(&broker, dry)), keys(&expected));
        }
        assert_eq!(peer.publish(&Publish::new("b", 1, b"still allowed")), 0x10);

        let told = operate(&broker, &["reload"]);
        assert!(told.status.success() && told.output.starts_with("generation 2\n"), "{}", told.output);
        for part in [
            "changed: log_level from \"info\" to \"debug\" (",
            "test.conf, line 2)",
            "needs a restart: read_buffer_bytes from ",
        ] {
            assert!(told.output.contains(part), "{part}: {}", told.output);
        }
        // The shards take it in behind this answer.
        while peer.publish(&Publish::new("b", 1, b"forbidden")) != 0x87 {}
        assert_eq!((peer.subscribe("a", 1), peer.subscribe("c", 1)), (1, 0x97));
        assert_eq!(rows(&broker, &["stats"])[0]["log_level"], "debug");
        // Only what a restart needs is left.
        let left = differences(&broker, &["config", "diff"]);
        assert!(left.len() == 1 && left[0].0 == "read_buffer_bytes", "{left:?}");

        let back = operate(&broker, &["rollback"]);
        assert!(back.output.starts_with("generation 3\n"), "{}", back.output);
        while peer.publish(&Publish::new("b", 1, b"allowed again")) == 0x87 {}
        assert_eq!(peer.subscribe("c", 1), 1);
        assert_eq!(rows(&broker, &["stats"])[0]["log_level"], "info");
        let again = operate(&broker, &["rollback"]);
        assert_eq!((again.status.code(), again.output.lines().count()), (Some(1), 1), "{}", again.output);
        assert!(differences(&broker, &["reload"]).len() == 5, "the file is as it was");
        peer.ping();
        broker.stop();
    }
}

#[test]
fn a_fault_anywhere_changes_nothing_and_is_named_with_its_place_and_remedy() {
    let acl = format!("{RULES}acl_file = \"acl\"\n")
        .replace("roles = [\"all\"]\n", "acl_file = \"acl\"\nroles = [\"all\"]\n");
    let acl = acl.trim_end_matches("acl_file = \"acl\"\n");
    let directory = Directory::new();
    directory.write("acl", "topic write x\n");
    let config = |more: &str| format!("{more}{acl}");
    let mut command = command_in(&directory);
    command.arg("--config").arg(directory.write("test.conf", &config(""))).args(["--data-dir", "data"]);
    command.args(["--shards", "2", "--port", "0", "--bind", "127.0.0.1"]);
    let mut broker = Broker::spawn(directory, command, 1);
    let mut peer = connect(&broker, "peer");
    let wanted = "subscriptions_per_session_max = 1\n";
    let levels = [("log_level = \"loud\"\n", "", "log_level"), ("", "topic sometimes x\n", "acl, line 1")];
    for (fault, acl, named) in levels {
        broker.directory().write("test.conf", &config(&format!("{wanted}{fault}")));
        broker.directory().write("acl", if acl.is_empty() { "topic write x\n" } else { acl });
        let refused = operate(&broker, &["reload"]);
        assert!(!refused.status.success() && refused.output.contains(named), "{named}: {}", refused.output);
        let mark = broker.process().mark();
        broker.process().signal(Signal::HUP);
        broker.process().wait_for(mark, "the fault", |line| {
            line.contains("SIGHUP: everything stays as it is") && line.contains(named)
        });
        assert_eq!((peer.subscribe("a", 1), peer.subscribe("b", 1)), (1, 1), "the limit was not changed");
    }
    broker.directory().write("acl", "topic write x\n");
    broker.directory().write("test.conf", &config(wanted));
    let mark = broker.process().mark();
    broker.process().signal(Signal::HUP);
    broker.process().wait_for(mark, "the reload", |line| {
        line.contains("changed=\"subscriptions_per_session_max\"") && line.contains("generation=2")
    });
    while peer.subscribe("c", 1) != 0x97 {
        peer.unsubscribe(&["c"]);
    }
    broker.stop();
}

#[test]
fn a_lower_bound_cuts_nothing_that_was_there_before() {
    let broker = start(Io::Auto, "");
    let mut absent = connect(&broker, "absent");
    absent.subscribe("t", 1);
    absent.disconnect();
    let mut peer = connect(&broker, "peer");
    for number in 0..5 {
        peer.publish(&Publish::new("t", 1, number.to_string().as_bytes()).retained());
    }
    broker
        .directory()
        .write("test.conf", "queue_messages_max = 2\nretained_messages_max = 1\nsessions_max = 1\n");
    assert!(operate(&broker, &["reload"]).status.success());
    // Later ones are dropped, and those that waited are delivered.
    for number in 5..10 {
        peer.publish(&Publish::new("t", 1, number.to_string().as_bytes()));
    }
    let mut absent = connect(&broker, "absent");
    assert!(absent.session_present);
    for number in 0..5 {
        assert_eq!(absent.next_message().text(), number.to_string());
    }
    peer.ping();
    // One of the two shards may have no session yet.
    let try_connect = |number: usize| {
        let client_id = format!("another-{number}");
        Peer::try_connect(broker.address(), &Connect::persistent(Version::V5, &client_id))
    };
    let refused = (0..4).map(try_connect).filter(|(_, reason)| *reason == 0x97).count();
    assert!(refused >= 3, "{refused}");
    fs::remove_file(broker.directory().path().join("test.conf")).unwrap();
    let gone = operate(&broker, &["reload"]);
    assert!(!gone.status.success() && gone.output.contains("test.conf"), "{}", gone.output);
    peer.ping();
    broker.stop();
}

/// A listener with a name, and more keys.
fn listener(name: &str, more: &str) -> String {
    format!("[[listener]]\nname = \"{name}\"\nbind = [\"127.0.0.1\"]\nport = 0\nanonymous = true\n{more}\n")
}

/// The address of the listener that a reload has opened since `mark`.
fn opened(broker: &mut Broker, mark: usize) -> SocketAddr {
    let line =
        broker.process().wait_for(mark, "the new listener", |line| line.contains("listening on 127.0.0.1:"));
    let address = line.rsplit("listening on ").next().expect("it is there");
    address.trim().parse().expect("an address")
}

fn listener_names(broker: &Broker) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("absent").to_owned();
    let mut names: Vec<_> =
        rows(broker, &["clients"]).iter().map(|row| (text(&row["client"]), text(&row["listener"]))).collect();
    names.sort();
    names
}

fn pair(client: &str, listener: &str) -> (String, String) {
    (client.to_owned(), listener.to_owned())
}

#[test]
fn listeners_come_change_and_go_and_clients_of_those_that_stay_notice_nothing() {
    const MAXIMUM_QOS: u8 = 0x24;
    for io in [Io::Auto, Io::Tokio] {
        let config = listener("a", "") + &listener("b", "");
        let mut broker = Broker::listen(io, &config, &["--shards", "2"]);
        let [a, b] = broker.addresses()[..] else { panic!("two listeners") };
        let mut stays = Peer::connect(a, &Connect::new(Version::V5, "stays"));
        let mut goes: Vec<_> = (0..4)
            .map(|number| Peer::connect(b, &Connect::new(Version::V5, &format!("goes-{number}"))))
            .collect();
        let after = listener("a", "maximum_qos = 0") + &listener("c", "");
        broker.directory().write("test.conf", &without_admin(&after));
        let dry = differences(&broker, &["reload", "--dry-run"]);
        assert!(dry.iter().all(|(_, _, is_live)| *is_live) && dry.len() >= 3, "{dry:?}");
        goes[0].ping();
        let mark = broker.process().mark();
        let told = operate(&broker, &["reload"]);
        assert!(told.status.success(), "{}", told.output);
        let c = opened(&mut broker, mark);
        for peer in &mut goes {
            assert_eq!(peer.await_close(), Some(0x98));
        }
        let refused = TcpStream::connect(b).map_err(|error| error.kind());
        assert!(matches!(refused, Err(ErrorKind::ConnectionRefused)), "{refused:?}");
        // The one that stays was told a higher QoS, and has it; a new one is told the lower one.
        assert_eq!(stays.publish(&Publish::new("t", 2, b"as before")), 0x10);
        let newer = Peer::connect(a, &Connect::new(Version::V5, "newer"));
        assert_eq!(newer.number(MAXIMUM_QOS), Some(0));
        let mut third = Peer::connect(c, &Connect::new(Version::V5, "third"));
        assert_eq!(third.number(MAXIMUM_QOS), None);
        assert_eq!(listener_names(&broker), [pair("newer", "a"), pair("stays", "a"), pair("third", "c")]);

        // Another kind of listener at the same socket, which goes on.
        let web = listener("a", "[listener.websocket]\npath = \"/mqtt\"");
        broker.directory().write("test.conf", &without_admin(&web));
        assert!(operate(&broker, &["reload"]).status.success());
        assert_eq!(third.await_close(), Some(0x98));
        let mut stream = TcpStream::connect(a).expect("it listens on");
        stream.write_all(request("/mqtt", "").as_bytes()).expect("it reads");
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("it answers");
        assert_eq!(&head, b"HTTP/1.1 101");
        stays.ping();

        for expected in [Some(0), None] {
            assert!(operate(&broker, &["rollback"]).status.success());
            let peer = Peer::connect(a, &Connect::new(Version::V5, "after"));
            assert_eq!(peer.number(MAXIMUM_QOS), expected);
        }
        stays.ping();
        drop((newer, stream));
        broker.stop();
    }
}

#[test]
fn a_listener_that_cannot_be_had_refuses_the_whole_reload() {
    let config = listener("a", "");
    let broker = Broker::listen(Io::Auto, &config, &["--shards", "2"]);
    let mut peer = connect(&broker, "peer");
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let taken = holder.local_addr().expect("it has one").port();
    let on_taken = listener("b", "").replace("port = 0", &format!("port = {taken}"));
    let tls = listener("b", "[listener.tls]\ncertificates = [{ chain = \"none.pem\", key = \"none.key\" }]");
    let unknown =
        "[auth.password]\nfile = \"passwords\"\n".to_owned() + &listener("b", "auth = [\"password\"]");
    broker.directory().write("passwords", "");
    for (fault, named) in [(&on_taken, "in use"), (&tls, "none.pem"), (&unknown, "restart it")] {
        let text = format!("subscriptions_per_session_max = 1\n{config}{fault}");
        broker.directory().write("test.conf", &without_admin(&text));
        for arguments in [&["reload", "--dry-run"][..], &["reload"]] {
            let refused = operate(&broker, arguments);
            assert!(
                !refused.status.success() && refused.output.contains(named),
                "{named}: {}",
                refused.output
            );
            assert!(refused.output.contains("test.conf, line "), "{}", refused.output);
        }
        assert_eq!((peer.subscribe("a", 1), peer.subscribe("b", 1)), (1, 1), "nothing has changed");
    }
    broker.directory().write("test.conf", &without_admin(&config));
    assert!(operate(&broker, &["reload"]).status.success());
    connect(&broker, "another").ping();
    peer.ping();
    broker.stop();
}
