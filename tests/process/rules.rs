//! `mqtt-broker rules check`: the rules of a configuration, and the line that decides.

use crate::harness::broker::{Directory, command_in};
use crate::harness::process::{Finished, run};

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
