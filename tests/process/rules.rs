//! Rules about topics: `mqtt-broker rules check`, and a running broker that keeps to them.

use rustix::process::Signal;

use crate::harness::broker::{Broker, Directory, Io, Setup, command_in};
use crate::harness::packet::{Connect, Properties, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::process::{Finished, run};
use crate::harness::time::{Deadline, PATIENCE};

const CONFIGURATION: &str = r#"
[rules]
acl_file = "acl"
roles = ["everybody"]

[role.everybody]
subscribe = ["news/#"]

[role.device]
publish = [
    "devices/%u/up/#",
    "devices/%u/%c",
]
subscribe = ["devices/%u/down/#", "fleet/+/news"]
deny = ["devices/+/up/secret/#"]
shares = ["workers"]

[user.alice]
roles = ["device"]
"#;

const ACL: &str = "topic read $SYS/#\n\nuser bob\ntopic write bob/out\npattern read clients/%c/#\n";

fn check(directory: &Directory, question: &[&str]) -> Finished {
    let mut command = command_in(directory);
    command.args(["rules", "check", "--config", "etc/broker.conf"]).args(question);
    run(command)
}

/// The directory with the rules, which are found beside the configuration file.
fn directory_with(acl: &str) -> Directory {
    let directory = Directory::new();
    directory.write("etc/broker.conf", CONFIGURATION);
    directory.write("etc/acl", acl);
    directory
}

#[test]
fn a_decision_names_the_rule_with_its_file_and_line() {
    let directory = directory_with(ACL);
    let answers = |question: &[&str], code: i32, parts: &[&str]| {
        let finished = check(&directory, question);
        assert_eq!(finished.status.code(), Some(code), "{question:?}: {}", finished.output);
        for part in parts {
            assert!(
                finished.output.contains(part),
                "{question:?}: {part:?} is missing in {}",
                finished.output
            );
        }
    };
    let up = "devices/alice/up/t";
    answers(
        &["alice", "c1", "publish", up],
        0,
        &["allow: publish \"devices/%u/up/#\"", "broker.conf, line 11"],
    );
    answers(&["alice", "c1", "publish", "devices/alice/c1"], 0, &["line 12"]);
    let secret = "devices/alice/up/secret/x";
    answers(&["alice", "c1", "publish", secret], 1, &["deny: deny", "role \"device\"", "line 15"]);
    answers(&["alice", "c1", "publish", "devices/bob/up/t"], 1, &["deny: no rule", "the default is deny"]);
    answers(&["alice", "c1", "subscribe", "devices/#"], 0, &["allow: in part", "line 15"]);
    answers(&["alice", "c1", "subscribe", "news/a"], 0, &["role \"everybody\"", "line 7"]);
    answers(&["alice", "c1", "subscribe", "$share/others/news/a"], 1, &["the group \"others\""]);
    answers(&["alice", "c1", "subscribe", "$share/workers/news/a"], 0, &["allow"]);
    answers(&["", "c1", "subscribe", "$SYS/#"], 0, &["role \"acl_file\"", "acl, line 1"]);
    answers(&["bob", "c1", "subscribe", "$SYS/#"], 1, &["deny: no rule"]);
    answers(&["bob", "c1", "publish", "bob/out"], 0, &["acl, line 4"]);
    answers(&["stranger", "c1", "subscribe", "clients/c1/x"], 0, &["acl, line 5"]);
    answers(&["stranger", "c/1", "subscribe", "x"], 1, &["CONNECT is refused with 0x85", "%c"]);
    answers(&["bob", "c1", "publish", "devices/bob/up/t", "--role", "device"], 0, &["line 11"]);
    answers(&["bob", "c1", "publish", "a/#"], 2, &["\"a/#\" is no topic"]);
}

#[test]
fn a_fault_of_either_file_is_named_with_its_line() {
    let refused = |directory: &Directory, parts: &[&str]| {
        let finished = check(directory, &["bob", "c1", "publish", "a"]);
        assert_eq!(finished.status.code(), Some(2), "{}", finished.output);
        for part in parts {
            assert!(finished.output.contains(part), "{part:?} is missing in {}", finished.output);
        }
    };
    refused(&directory_with("topic read a\n\nuser\n"), &["acl, line 3", "a name must follow user"]);
    let directory = directory_with(ACL);
    directory.write("etc/broker.conf", "[user.bob]\nroles = [\"none\"]\n");
    refused(&directory, &["broker.conf, line 2", "there is no role \"none\""]);
    directory.write("etc/broker.conf", "[rules]\nacl_file = \"absent\"\n");
    refused(&directory, &["absent", "does not exist"]);
    directory.write("etc/broker.conf", "[role.a]\nshares = []\npublish = [\n\"$share/g/a\"]\n");
    refused(&directory, &["broker.conf, line 3", "shares"]);
}

#[test]
fn without_rules_everything_is_allowed() {
    let directory = Directory::new();
    directory.write("etc/broker.conf", "port = 0\n");
    let finished = check(&directory, &["bob", "c1", "publish", "a"]);
    assert_eq!(finished.status.code(), Some(0));
    assert!(finished.output.contains("allow: there are no rules"), "{}", finished.output);
}

/// A device that publishes and a watcher that reads, by rules that name nobody.
fn acl(publish: &str) -> String {
    format!(
        "topic write {publish}\ntopic read up/#\ntopic read $SYS/#\npattern write will/%c\ntopic read will/#\n"
    )
}

#[test]
fn a_running_broker_keeps_to_its_rules_and_reads_them_again() {
    for io in Io::EACH {
        let directory = Directory::new();
        directory.write("acl", &acl("up/#"));
        let setup = Setup { io, config: "[rules]\nacl_file = \"acl\"\n", flags: &["--shards", "3"] };
        let mut broker = Broker::start_in(directory, &setup);
        let address = broker.address();
        let mut watcher = Peer::connect(address, &Connect::new(Version::V5, "watcher"));
        assert_eq!(watcher.subscribe("up/#", 1), 1);
        assert_eq!(watcher.subscribe("will/+", 1), 1);
        assert_eq!(watcher.subscribe("down/#", 1), 0x87);
        assert_eq!(watcher.subscribe("#", 1), 1, "in part");
        let mut old = Peer::connect(address, &Connect::new(Version::V3_1_1, "old"));
        assert_eq!(old.subscribe("down/#", 1), 0x80);
        // Several, so that some live on another shard than the watcher.
        for number in 0..4 {
            let id = format!("device-{number}");
            let will = format!("will/{id}");
            let connect = Connect::new(Version::V5, &id);
            let mut device =
                Peer::connect(address, &connect.clone().with_will(&will, b"gone", Properties::new()));
            assert_eq!(device.publish(&Publish::new("up/t", 1, b"21")), 0);
            assert_eq!(device.publish(&Publish::new("down/t", 1, b"no")), 0x87);
            let message = watcher.next_message();
            assert_eq!((&*message.topic, &*message.payload), ("up/t", &b"21"[..]));
            device.ping();
            device.vanish();
            assert_eq!(watcher.next_message().topic, will);
            let (_, refused) =
                Peer::try_connect(address, &connect.with_will("will/other", b"gone", Properties::new()));
            assert_eq!(refused, 0x87);
        }
        assert_eq!(old.publish(&Publish::new("down/t", 2, b"acknowledged and forgotten")), 0);

        let mut device = Peer::connect(address, &Connect::new(Version::V5, "device"));
        broker.directory().write("acl", &acl("other/#"));
        broker.process().signal(Signal::HUP);
        broker.process().wait_for(0, "the rules", |line| line.contains("SIGHUP: the rules about topics"));
        await_reason(&mut device, 0x87);
        // A fault keeps the rules that are in force.
        broker.directory().write("acl", "topic sometimes up/#\n");
        broker.process().signal(Signal::HUP);
        broker
            .process()
            .wait_for(0, "the fault", |line| line.contains("acl, line 1") && line.contains("SIGHUP"));
        assert_eq!(device.publish(&Publish::new("up/t", 1, b"22")), 0x87);
        broker.directory().write("acl", &acl("up/#"));
        broker.process().signal(Signal::HUP);
        await_reason(&mut device, 0);
        assert_eq!(watcher.next_message().topic, "up/t");
        broker.stop();
    }
}

/// Publishes until every shard has the rules that answer so.
fn await_reason(device: &mut Peer, reason: u8) {
    let deadline = Deadline::after(PATIENCE);
    while device.publish(&Publish::new("up/t", 1, b"22")) != reason {
        assert!(deadline.remaining().is_some(), "the rules are not in force");
    }
}
