//! `mqtt-broker data export` and `import`: the way to another machine, and back to versions without a log.

use std::fs;

use crate::backup::{check_used, data, done, used};
use crate::clients::Publisher;
use crate::harness::broker::{Broker, Directory, Io, command_in};
use crate::harness::packet::{Connect, Properties, Publish, Version, property};
use crate::harness::peer::Peer;
use crate::harness::process::{Finished, run};
use crate::harness::received::Value;
use crate::{PROCESS, kill, setup};

/// `mqtt-broker data import` into the data directory "imported".
fn import(directory: &Directory, from: &str, flags: &[&str]) -> Finished {
    let mut command = command_in(directory);
    command.args(["data", "import", from, "--data-dir", "imported"]).args(flags);
    run(command)
}

/// A broker in the data directory "imported".
fn start_imported(directory: Directory, flags: &[&str]) -> Broker {
    fs::rename(directory.path().join("data"), directory.path().join("former"))
        .expect("the test's own directory");
    fs::rename(directory.path().join("imported"), directory.path().join("data")).expect("it is imported");
    Broker::start_in(directory, &setup(Io::Auto, flags))
}

fn state(directory: &Directory) -> String {
    fs::read_to_string(directory.path().join("out/state.jsonl")).expect("it is exported")
}

#[test]
fn an_export_has_everything_that_clients_are_owed_and_an_import_brings_it_back() {
    let broker = used(&PROCESS);
    // In flight, with every property that travels with a message.
    let mut reader = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "reader"));
    reader.subscribe_with(&[("rich", 1)], &Properties::new().variable(property::SUBSCRIPTION_ID, 7));
    let properties = || {
        Properties::new()
            .byte(property::PAYLOAD_FORMAT, 1)
            .text(property::CONTENT_TYPE, "text/plain")
            .pair("name", "value")
    };
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "rich publisher"));
    let expiring = properties().four(property::MESSAGE_EXPIRY_INTERVAL, 1_000);
    publisher.publish(&Publish::new("rich", 1, b"text").with(expiring));
    assert_eq!(reader.next_publish().text(), "text", "it is sent and not acknowledged");
    reader.vanish();
    // A will that waits.
    let mut waiting = Connect::persistent(Version::V5, "waiting");
    waiting = waiting.with_will(
        "will/later",
        b"later",
        Properties::new().four(property::WILL_DELAY_INTERVAL, 3_000),
    );
    let mut waiting = Peer::connect(broker.address(), &waiting);
    waiting.subscribe("$share/group/shared", 1);
    waiting.vanish();
    publisher.ping();
    let (_, directory) = broker.stop();

    let output = done(&directory, &["export", "out", "--data-dir", "data"]);
    assert!(output.contains("4 sessions, 3 messages for them, 2 retained messages, 1 wills"), "{output}");
    let lines = state(&directory);
    for part in [
        "{\"format\":\"mqtt-broker export\",\"version\":1}",
        "{\"retained\":{\"topic\":\"kept/1\",\"payload\":\"BwD/\",\"qos\":1,\"retain\":true}}",
        "\"client_id\":\"keeper\",\"expiry_s\":3600,",
        "\"subscription_identifiers\":[7]",
        "\"will\":{\"client_id\":\"waiting\"",
    ] {
        assert!(lines.contains(part), "{part} is missing in {lines}");
    }
    // A person may change it: the will is due in a moment instead of most of an hour.
    let (before, delay) = lines.split_once("\"delay_s\":").expect("a will has a delay");
    let (delay, after) = delay.split_once(',').expect("more follows");
    assert!((2_000..=3_000).contains(&delay.parse::<u32>().expect("a number of seconds")), "{delay}");
    fs::write(directory.path().join("out/state.jsonl"), format!("{before}\"delay_s\":2,{after}"))
        .expect("its own");
    let finished = import(&directory, "out", &PROCESS);
    assert!(finished.status.success(), "{}", finished.output);
    assert!(finished.output.contains("4 sessions, 2 retained messages"), "{}", finished.output);
    let again = import(&directory, "out", &PROCESS);
    assert!(!again.status.success() && again.output.contains("not empty"), "{}", again.output);

    let broker = start_imported(directory, &PROCESS);
    let mut watcher = Peer::connect(broker.address(), &Connect::new(Version::V5, "watcher"));
    watcher.subscribe("will/#", 0);
    let mut reader = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "reader"));
    assert!(reader.session_present);
    let message = reader.next_message();
    assert_eq!((message.text().as_str(), message.qos), ("text", 1));
    assert!(message.number(property::MESSAGE_EXPIRY_INTERVAL).is_some_and(|left| left <= 1_000));
    for (id, value) in [
        (property::SUBSCRIPTION_ID, Value::Number(7)),
        (property::PAYLOAD_FORMAT, Value::Number(1)),
        (property::CONTENT_TYPE, Value::Bytes(b"text/plain".to_vec())),
        (property::USER_PROPERTY, Value::Pair("name".to_owned(), "value".to_owned())),
    ] {
        assert!(message.properties.contains(&(id, value.clone())), "{value:?} is missing in {message:?}");
    }
    check_used(&broker);
    assert_eq!(watcher.next_message().text(), "later");
    // All of it is in the log.
    let directory = broker.kill();
    let broker = Broker::start_in(directory, &setup(Io::Auto, &PROCESS));
    let mut waiting = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "waiting"));
    assert!(waiting.session_present);
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "p"));
    publisher.publish(&Publish::new("shared", 1, b"shared"));
    assert_eq!(waiting.next_message().text(), "shared");
    broker.stop();
}

#[test]
fn the_subscriptions_of_an_export_are_those_that_every_version_reads() {
    let directory = used(&PROCESS).kill();
    done(&directory, &["export", "out", "--data-dir", "data"]);
    fs::create_dir(directory.path().join("imported")).expect("the test's own directory");
    fs::copy(
        directory.path().join("out/subscriptions.json"),
        directory.path().join("imported/subscriptions.json"),
    )
    .expect("it is exported");
    let finished = import(&directory, "out", &["--durability", "memory"]);
    assert!(
        !finished.status.success() && finished.output.contains("subscriptions.json"),
        "{}",
        finished.output
    );
    let broker = start_imported(directory, &[]);
    let mut keeper = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "keeper"));
    assert!(keeper.session_present);
    let mut publisher = Peer::connect(broker.address(), &Connect::new(Version::V5, "p"));
    publisher.publish(&Publish::new("t/x", 1, b"x"));
    assert_eq!(keeper.next_message().text(), "x");
    broker.stop();
}

#[test]
fn a_line_that_is_none_is_named_and_nothing_is_imported() {
    let directory = used(&PROCESS).kill();
    done(&directory, &["export", "out", "--data-dir", "data"]);
    let lines = state(&directory);
    let file = directory.path().join("out/state.jsonl");
    for (before, after, parts) in [
        ("\"version\":1", "\"version\":2", ["line 1", "a later version"]),
        ("mqtt-broker export", "something", ["line 1", "it is no export"]),
        ("BwD/", "B!", ["line 2", "base64"]),
        ("\"topic\":\"kept/1\"", "\"topic\":\"kept/#\"", ["line 2", "topic"]),
        ("\"topic\":\"kept/1\"", "\"topic\":\"$SYS/x\"", ["line 2", "no client may publish"]),
        (
            "{\"session\":{\"client_id\":\"keeper\"",
            "{\"session\":{\"client_id\":\"other\"",
            ["there is no session of", "keeper"],
        ),
        ("\"owed\":", "\"unknown\":", ["no line of an export", "line"]),
    ] {
        assert!(lines.contains(before), "{before} is missing in {lines}");
        fs::write(&file, lines.replacen(before, after, 1)).expect("the test's own file");
        let finished = import(&directory, "out/state.jsonl", &PROCESS);
        assert_eq!(finished.status.code(), Some(1), "{after}");
        assert!(parts.iter().all(|part| finished.output.contains(part)), "{after}: {}", finished.output);
        let check = data(&directory, &["check", "imported"]);
        assert!(check.output.contains("there is no journal"), "{after}: {}", check.output);
        fs::remove_dir_all(directory.path().join("imported")).expect("the test's own directory");
    }
}

/// Also messages that were on their way between two shards at the kill, and into another number of shards.
#[test]
fn everything_that_several_shards_acknowledged_is_in_an_export() {
    let publishers =
        [Publisher::new("one", 1), Publisher::new("other", 1), Publisher::new("kept", 1).retained()];
    let mut shards = [3, 4, 1, 2].iter().cycle();
    let mut deal = |directory: Directory| {
        done(&directory, &["export", "out", "--data-dir", "data"]);
        let shards = shards.next().expect("it goes on").to_string();
        let finished = import(&directory, "out", &["--durability", "process", "--shards", &shards]);
        assert!(finished.status.success(), "{}", finished.output);
        for former in ["data", "out"] {
            fs::remove_dir_all(directory.path().join(former)).expect("the test's own directory");
        }
        fs::rename(directory.path().join("imported"), directory.path().join("data")).expect("it is imported");
        directory
    };
    let (broker, counts) = kill::check_of(Io::Auto, (8, 7), &[], publishers, &mut deal);
    println!("{counts}");
    broker.stop();
}
