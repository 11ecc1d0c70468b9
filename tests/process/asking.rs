//! `mqtt-broker clients`, `client`, `slow`, `closed`, `stats`, `log-level` and `ban`: the operator asks the running broker who is
//! connected, why somebody is not, and what it does.

use std::process::Stdio;

use serde_json::Value;

use crate::addresses::connect_from;
use crate::bans;
use crate::harness::broker::{Broker, Directory, Io, Setup, command_in};
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::operators::{WITH_PASSWORDS, as_user, operate, with_users};

/// An identifier that tries to be more than text.
pub(crate) const HOSTILE: &str = "x\u{1b}[2J\n<b>\u{202e}\u{9b}31m\"";

/// The rows that a command prints as JSON.
pub(crate) fn rows(broker: &Broker, arguments: &[&str]) -> Vec<Value> {
    let finished = operate(broker, &[arguments, &["--json"]].concat());
    assert!(finished.status.success(), "{}", finished.output);
    finished.output.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// The texts of one member of all rows.
pub(crate) fn texts(rows: &[Value], member: &str) -> Vec<String> {
    rows.iter().map(|row| row[member].as_str().unwrap_or("-").to_owned()).collect()
}

/// Nothing that a terminal obeys is in a text but ends of lines.
pub(crate) fn is_plain(text: &str) -> bool {
    let is_hidden = |character: char| character.is_control() || "\u{202e}\u{200b}".contains(character);
    !text.replace('\n', "").chars().any(is_hidden)
}

#[test]
fn clients_are_found_by_address_user_listener_and_the_beginning_of_their_names() {
    for io in [Io::Auto, Io::Tokio] {
        let broker = bans::start(io, Directory::new(), bans::LISTENERS);
        let from = |peer: &str, client_id: &str| {
            let (peer, reason) = connect_from(&broker, peer, &Connect::persistent(Version::V5, client_id));
            assert_eq!(reason, 0);
            peer
        };
        let mut far = [from("10.1.2.3", "pump-1"), from("10.1.2.3", "pump-2"), from("10.1.9.9", "meter-1")];
        let _near = Peer::connect(broker.addresses()[1], &Connect::new(Version::V3_1_1, HOSTILE));
        far[1].subscribe("a", 1);
        let of = |arguments: &[&str]| texts(&rows(&broker, &[&["clients"], arguments].concat()), "client");
        assert_eq!(of(&[]), ["meter-1", "pump-1", "pump-2", HOSTILE]);
        assert_eq!(of(&["--address", "10.1.2.3"]), ["pump-1", "pump-2"]);
        assert_eq!(of(&["--address", "10.1.0.0/16", "--prefix", "meter"]), ["meter-1"]);
        assert_eq!(of(&["--listener", "local"]), [HOSTILE]);
        assert_eq!(of(&["--sort", "subscriptions", "--limit", "1"]), ["pump-2"]);
        assert_eq!(of(&["--user", "nobody"]), Vec::<String>::new());
        let row = &rows(&broker, &["clients", "--prefix", "pump-2"])[0];
        let (version, peer) = (row["version"].as_str().unwrap(), row["peer"].as_str().unwrap());
        assert!(version == "5.0" && peer.starts_with("10.1.2.3:"), "{row}");
        assert_eq!((&row["subscriptions"], &row["connected"]), (&Value::from(1), &Value::from(true)));

        let table = operate(&broker, &["clients"]).output;
        assert_eq!(table.lines().count(), 5, "{table}");
        assert!(table.starts_with("CLIENT  ") && is_plain(&table), "{table:?}");
        let refused = operate(&broker, &["clients", "--address", "10.1.2"]);
        assert_eq!(refused.status.code(), Some(2), "{}", refused.output);
        broker.stop();
    }
}

#[test]
fn a_list_is_whole_however_many_shards_and_parts_it_has() {
    let broker = Broker::start_with(&Setup { flags: &["--shards", "3"], ..Setup::default() });
    let connect = |number: usize| {
        Peer::connect(broker.address(), &Connect::new(Version::V3_1_1, &format!("client-{number:04}")))
    };
    let _peers: Vec<Peer> = (0..900).map(connect).collect();
    let expected: Vec<String> = (0..900).map(|number| format!("client-{number:04}")).collect();
    assert_eq!(texts(&rows(&broker, &["clients"]), "client"), expected);
    broker.stop();
}

#[test]
fn everything_about_a_client_is_shown_and_why_it_is_gone() {
    let broker = with_users(Io::Auto, &["ann"], WITH_PASSWORDS);
    let mut pump = Peer::connect(broker.address(), &as_user("pump", "ann"));
    pump.subscribe("t", 1);
    let mut publisher = Peer::connect(broker.address(), &as_user("publisher", "ann"));
    publisher.publish(&Publish::new("t", 1, b"not acknowledged"));
    let shown = &rows(&broker, &["client", "pump"])[0];
    let session = &shown["session"];
    for (member, value) in [
        ("user", Value::from("ann")),
        ("connected", Value::from(true)),
        ("version", Value::from("5.0")),
        ("subscriptions", Value::from(1)),
        ("inflight", Value::from(1)),
        ("matched", Value::from(1)),
    ] {
        assert_eq!(session[member], value, "{member}: {shown}");
    }
    assert!(session["since_us"].as_u64() > Some(1_700_000_000_000_000) && shown["last_end"].is_null());
    let slow = rows(&broker, &["slow"]);
    assert!(texts(&slow, "client")[0] == "pump" && slow[0]["waiting_bytes"].as_u64() > Some(0), "{slow:?}");

    assert!(operate(&broker, &["disconnect", "pump"]).status.success());
    assert_eq!(pump.await_close(), Some(0x98));
    let wrong = Connect::new(Version::V5, "pump").with_credentials("ann", b"wrong");
    let (mut refused, reason) = Peer::try_connect(broker.address(), &wrong);
    assert_eq!((reason, refused.await_close()), (0x86, None));
    let shown = operate(&broker, &["client", "pump"]).output;
    for part in [
        "client            pump\n",
        "user              ann\n",
        "connected         no\n",
        "reason=authentication",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let ends = rows(&broker, &["closed", "pump"]);
    assert_eq!(texts(&ends, "reason"), ["operator", "authentication"]);
    assert_eq!((&ends[0]["was_let_in"], &ends[1]["was_let_in"]), (&Value::from(true), &Value::from(false)));
    let unknown = operate(&broker, &["client", "nobody"]);
    assert_eq!(
        (unknown.status.code(), &*unknown.output),
        (Some(1), "mqtt-broker: error: there is no session of the client \"nobody\"")
    );
    assert_eq!(operate(&broker, &["closed", "nobody"]).status.code(), Some(1));
    broker.stop();
}

#[test]
fn the_last_ends_are_listed_in_order_and_hostile_names_stay_text() {
    for io in [Io::Auto, Io::Blocking] {
        let broker = Broker::start_with(&Setup {
            io,
            flags: &["--shards", "2"],
            config: "connection_log = \"none\"\n",
        });
        for number in 0..700 {
            let mut peer =
                Peer::connect(broker.address(), &Connect::new(Version::V5, &format!("client-{number:03}")));
            peer.ping();
            peer.finish();
        }
        let mut hostile = Peer::connect(broker.address(), &Connect::new(Version::V5, HOSTILE));
        hostile.ping();
        hostile.send(&[0xF0, 0x00, 0x00]);
        hostile.await_close();
        let ends = rows(&broker, &["closed"]);
        assert_eq!(ends.len(), 701);
        assert!(ends.is_sorted_by_key(|end| end["at_us"].as_u64()));
        assert_eq!(ends[700]["client"].as_str(), Some(HOSTILE));
        let table = operate(&broker, &["closed", "--limit", "1"]).output;
        assert!(table.lines().count() == 2 && is_plain(&table), "{table:?}");
        assert!(table.contains("closed") && table.contains("\\u{1b}[2J\\n<b>\\u{202e}"), "{table}");
        broker.stop();
    }
}

#[test]
fn the_counters_are_shown_once_or_again_and_again() {
    let broker = Broker::start_with(&Setup { flags: &["--shards", "2"], ..Setup::default() });
    let mut peer = Peer::connect(broker.address(), &Connect::new(Version::V5, "peer"));
    peer.subscribe("t", 0);
    peer.publish(&Publish::new("t", 1, b"x"));
    let _message = peer.next_message();
    let received = |row: &Value| row["totals"]["messages_received"].as_u64();
    // Counters are published at the end of a turn.
    let row =
        (0..100).map(|_| rows(&broker, &["stats"]).remove(0)).find(|row| received(row) == Some(1)).unwrap();
    assert_eq!((&row["connections"], row["shards"].as_array().unwrap().len()), (&Value::from(1), 2));
    for member in ["dropped", "closed", "refused", "memory"] {
        assert!(row[member].as_object().is_some_and(|counts| !counts.is_empty()), "{member}: {row}");
    }
    let table = operate(&broker, &["stats"]).output;
    assert!(table.contains("messages received 1 (") && table.contains("SHARD  CONNECTIONS"), "{table}");

    let mut command = command_in(broker.directory());
    command.args(["--data-dir", "data", "stats", "--watch=1", "--json"]).stdout(Stdio::piped());
    let mut watching = command.spawn().unwrap();
    let output = std::io::BufReader::new(watching.stdout.take().unwrap());
    let readings: Vec<Value> = std::io::BufRead::lines(output)
        .take(2)
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert!(readings[0]["at_us"].as_u64() < readings[1]["at_us"].as_u64());
    // Nobody reads any more, so it ends.
    assert!(watching.wait().unwrap().success());
    broker.stop();
}

#[test]
fn the_level_of_the_log_changes_while_the_broker_runs() {
    let mut broker = Broker::start_with(&Setup { flags: &["--log-level", "info"], ..Setup::default() });
    let debug = |line: &str| line.contains("DEBUG") && line.contains("network connection gone");
    Peer::connect(broker.address(), &Connect::new(Version::V5, "before")).disconnect();
    assert_eq!(
        operate(&broker, &["log-level", "debug"]).output,
        "the log has level debug until the next start"
    );
    let mark = broker.process().mark();
    Peer::connect(broker.address(), &Connect::new(Version::V5, "after")).disconnect();
    broker.process().wait_for(mark, "line at level debug", debug);
    assert_eq!(rows(&broker, &["stats"])[0]["log_level"], "debug");
    assert_eq!(operate(&broker, &["log-level", "loud"]).status.code(), Some(2));
    let (finished, _directory) = broker.stop();
    let changed = finished.output.lines().position(|line| line.contains("the level of the log was changed"));
    let first = finished.output.lines().position(debug);
    assert!(changed.is_some() && changed < first, "{}", finished.output);
}

/// The answer to a client that a proxy names.
fn answer(broker: &Broker, peer: &str, client_id: &str) -> u8 {
    connect_from(broker, peer, &Connect::new(Version::V5, client_id)).1
}

#[test]
fn the_operator_bans_an_address_without_a_table_of_bans() {
    let broker = bans::start(Io::Auto, Directory::new(), bans::LISTENERS);
    let banned = operate(&broker, &["ban", "--address", "10.0.0.1", "--for", "1000"]);
    assert!(banned.output.starts_with("banned address=10.0.0.1 until=2"), "{}", banned.output);
    assert_eq!((answer(&broker, "10.0.0.1", "a"), answer(&broker, "10.0.0.2", "a")), (0x8A, 0));
    for arguments in [&["--address", "127.0.0.1"][..], &["--user", "ann"], &["--client-id", "a"]] {
        let refused = operate(&broker, &[&["ban"], arguments].concat());
        assert_eq!(
            (refused.status.code(), refused.output.lines().count()),
            (Some(1), 1),
            "{}",
            refused.output
        );
    }
    assert!(operate(&broker, &["bans", "lift", "--all"]).status.success());
    assert_eq!(answer(&broker, "10.0.0.1", "a"), 0);
    broker.stop();
}

#[test]
fn the_operator_bans_a_client_from_an_address_where_clients_are_judged() {
    let config = format!("{}[bans]\nflapping_max = 1000\n", bans::LISTENERS);
    let broker = bans::start(Io::Auto, Directory::new(), &config);
    assert!(operate(&broker, &["ban", "--address", "10.0.0.2", "--client-id", HOSTILE]).status.success());
    let codes = [("10.0.0.2", HOSTILE), ("10.0.0.2", "b"), ("10.0.0.3", HOSTILE)];
    assert_eq!(codes.map(|(peer, client_id)| answer(&broker, peer, client_id)), [0x8A, 0, 0]);
    let listed = operate(&broker, &["bans"]).output;
    assert!(listed.contains("address=10.0.0.2 until=") && is_plain(&listed), "{listed:?}");
    broker.stop();
}

#[test]
fn without_a_broker_each_question_says_so() {
    let directory = Directory::new();
    for arguments in
        [&["clients"][..], &["client", "a"], &["closed"], &["stats"], &["topics", "a"], &["retained", "list"]]
    {
        let mut command = command_in(&directory);
        command.args(["--data-dir", "data"]).args(arguments);
        let finished = crate::harness::process::run(command);
        assert_eq!(finished.status.code(), Some(1), "{}", finished.output);
        assert!(finished.output.contains("no broker runs with the data directory"), "{}", finished.output);
    }
}
