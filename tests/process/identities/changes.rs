//! Users and rules that change while clients are connected.

use base64::Engine as _;
use rustix::process::Signal;

use crate::harness::broker::{Broker, Directory, Io, Setup};
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::time::{Deadline, PATIENCE};
use crate::operators::operate;

/// A line of the password file for a user with this key.
fn line(user: &str, key: &str) -> String {
    let hash = crypto::digest::digest(&crypto::digest::SHA256, key.as_bytes());
    let hash = base64::engine::general_purpose::STANDARD.encode(hash);
    format!("{user}:$device${hash}\n")
}

/// Users whose keys are their names.
pub(super) fn passwords(users: &[&str]) -> String {
    users.iter().map(|user| line(user, user)).collect()
}

/// A broker of a few shards with these users and mosquitto's rules.
fn start(io: Io, users: &[&str], acl: &str) -> Broker {
    let directory = Directory::new();
    directory.write("passwords", &passwords(users));
    directory.write("acl", acl);
    let config = "[auth.password]\nfile = \"passwords\"\n[rules]\nacl_file = \"acl\"\n";
    Broker::start_in(directory, &Setup { io, config, flags: &["--shards", "3"] })
}

/// A client of this user.
fn connect(broker: &Broker, version: Version, client_id: &str, user: &str) -> Peer {
    Peer::connect(broker.address(), &Connect::new(version, client_id).with_credentials(user, user.as_bytes()))
}

/// Writes a file and has the broker read it.
fn change(broker: &mut Broker, file: &str, content: &str, line: &str) {
    broker.directory().write(file, content);
    let mark = broker.process().mark();
    broker.process().signal(Signal::HUP);
    broker.process().wait_for(mark, "the files to be read", |found| found.contains(line));
}

/// The retained texts that new clients are sent, one on each of several shards, until there are `count`.
fn await_retained(broker: &Broker, count: usize) {
    for number in 0..6 {
        let id = format!("reader-{number}");
        let deadline = Deadline::after(PATIENCE);
        loop {
            let mut reader = connect(broker, Version::V5, &id, "reader");
            reader.subscribe("t/#", 1);
            reader.settle();
            let retained = reader.waiting().len();
            reader.disconnect();
            if retained == count {
                break;
            }
            assert!(deadline.remaining().is_some(), "{retained} retained messages are read, not {count}");
        }
    }
}

/// CVE-2018-12546: mosquitto sent retained messages of clients that had lost the right to publish them.
#[test]
fn retained_messages_are_read_as_long_as_their_source_may_publish_them() {
    const READER: &str = "user reader\ntopic read t/#\n";
    const READ: &str = "SIGHUP: the rules about topics";
    let allowed = format!("{READER}user ann\ntopic write t/#\nuser bob\ntopic write t/bob\n");
    let mut broker = start(Io::Auto, &["ann", "bob", "reader"], &allowed);
    let mut ann = connect(&broker, Version::V5, "ann", "ann");
    // Their homes are on several shards.
    for number in 0..6 {
        let topic = format!("t/{number}");
        assert_eq!(ann.publish(&Publish::new(&topic, 1, b"ann's").retained()), 0x10);
    }
    let mut bob = connect(&broker, Version::V3_1_1, "bob", "bob");
    assert_eq!(bob.publish(&Publish::new("t/bob", 1, b"bob's").retained()), 0);
    await_retained(&broker, 7);
    change(
        &mut broker,
        "acl",
        &allowed.replace("user ann\ntopic write t/#", "user ann\ntopic write t/1"),
        READ,
    );
    await_retained(&broker, 2);
    change(&mut broker, "acl", &allowed.replace("user ann\ntopic write t/#\n", ""), READ);
    await_retained(&broker, 1);
    change(&mut broker, "acl", &allowed, READ);
    await_retained(&broker, 7);
    broker.stop();
}

/// A password that was changed because somebody knew it let its clients stay for as long as they liked.
#[test]
fn clients_of_users_that_are_removed_or_have_new_passwords_are_closed() {
    const TOLD: &str = "users are gone or have new passwords";
    const ACL: &str = "topic readwrite #\nuser ann\ntopic readwrite #\nuser bob\ntopic readwrite #\n";
    for io in Io::EACH {
        let mut broker = start(io, &["ann", "bob", "eve"], ACL);
        // On several shards.
        let clients = |broker: &Broker, user: &str| -> Vec<Peer> {
            let connect = |number| {
                let version = if number % 2 == 0 { Version::V5 } else { Version::V3_1_1 };
                let id = format!("{user}-{number}");
                let connect = Connect::persistent(version, &id);
                Peer::connect(broker.address(), &connect.with_credentials(user, user.as_bytes()))
            };
            (0..6).map(connect).collect()
        };
        let [anns, mut bobs, eves] = ["ann", "bob", "eve"].map(|user| clients(&broker, user));
        let content = line("ann", "another key") + &line("bob", "bob");
        change(&mut broker, "passwords", &content, TOLD);
        for (number, mut client) in anns.into_iter().chain(eves).enumerate() {
            assert_eq!(client.await_close(), (number % 2 == 0).then_some(0x87));
        }
        for client in &mut bobs {
            client.ping();
        }
        let login = |broker: &Broker, id: &str, user: &str, key: &str| {
            let connect = Connect::persistent(Version::V5, id);
            let (peer, reason) =
                Peer::try_connect(broker.address(), &connect.with_credentials(user, key.as_bytes()));
            (reason, peer.session_present)
        };
        assert_eq!(login(&broker, "ann-0", "ann", "ann"), (0x86, false));
        assert_eq!(login(&broker, "ann-0", "ann", "another key"), (0, true), "her session waited");
        // A session of a user that is gone is gone as well.
        change(&mut broker, "passwords", &(content + &line("eve", "eve")), "read the users or keys");
        assert_eq!(login(&broker, "eve-0", "eve", "eve"), (0, false));
        broker.stop();
    }
}

/// Their sessions stayed until somebody asked for them, which nobody could.
#[test]
fn sessions_of_users_that_are_removed_while_the_broker_does_not_run_end_at_its_start() {
    let config = "[auth.password]\nfile = \"passwords\"\n";
    let setup = Setup { config, flags: &["--shards", "2"], ..Setup::default() };
    let mut directory = Directory::new();
    let mut sessions_with = |users: &[&str]| {
        directory.write("passwords", &passwords(users));
        let broker = Broker::start_in(std::mem::replace(&mut directory, Directory::new()), &setup);
        for user in users.iter().filter(|&&user| user != "eve") {
            let id = format!("{user}-session");
            let connect = Connect::persistent(Version::V5, &id);
            let mut client =
                Peer::connect(broker.address(), &connect.with_credentials(user, user.as_bytes()));
            client.subscribe("t", 1);
            client.disconnect();
        }
        let deadline = Deadline::after(PATIENCE);
        let mut listed = String::new();
        while listed.lines().count() != 2 && deadline.remaining().is_some() {
            listed = operate(&broker, &["sessions"]).output;
        }
        (_, directory) = broker.stop();
        listed
    };
    assert!(sessions_with(&["ann", "bob"]).contains("user=\"bob\""));
    // An empty file removes nobody.
    assert!(sessions_with(&[]).contains("user=\"bob\""));
    let listed = sessions_with(&["ann", "dan", "eve"]);
    let has = |user: &str| listed.contains(&format!("user=\"{user}\""));
    assert!(has("ann") && has("dan") && !has("bob"), "{listed}");
}

/// An editor or a script that failed left an empty file, and the sessions of all its users were gone.
#[test]
fn a_file_of_users_that_becomes_empty_is_not_taken_over() {
    let directory = Directory::new();
    directory.write("passwords", &passwords(&["ann", "bob"]));
    let config = "[auth.password]\nfile = \"passwords\"\n[auth.scram]\nfile = \"passwords\"\n";
    let mut broker = Broker::start_in(directory, &Setup { config, ..Setup::default() });
    let mut ann = connect(&broker, Version::V5, "ann", "ann");
    for empty in ["", "# nobody\n"] {
        change(
            &mut broker,
            "passwords",
            empty,
            "the file has no users; to remove all of them, delete its table",
        );
        ann.ping();
        connect(&broker, Version::V5, "another", "ann").disconnect();
    }
    // The methods share the file: it is told once, and so is each user of it.
    change(&mut broker, "passwords", &passwords(&["bob"]), "their clients are closed gone=1 renewed=0");
    assert_eq!(ann.await_close(), Some(0x87));
    let (finished, _) = broker.stop();
    let told = |part: &str| finished.output.lines().filter(|line| line.contains(part)).count();
    assert_eq!(
        (told("the file has no users"), told("read the users or keys")),
        (2, 2),
        "{}",
        finished.output
    );
    assert!(finished.output.lines().any(|line| line.contains("no users") && line.contains("passwords")));
}

/// The classes that `config show` tells are true: keys that are live change on SIGHUP, and the others do not.
#[test]
fn live_keys_change_on_sighup_and_the_others_with_a_restart() {
    const READ: &str = "SIGHUP: the rules about topics";
    // Each of these allows the one topic that is asked about.
    let live = [
        ("rules.default", "[rules]\ndefault = \"allow\"\n"),
        ("rules.acl_file", "[rules]\nacl_file = \"acl\"\n"),
        ("rules.roles", "[rules]\nroles = [\"writer\"]\n[role.writer]\npublish = [\"t\"]\n"),
        (
            "rules.roles_anonymous",
            "[rules]\nroles_anonymous = [\"writer\"]\n[role.writer]\npublish = [\"t\"]\n",
        ),
        ("role.writer.publish", "[rules]\nroles = [\"writer\"]\n[role.writer]\npublish = [\"+\"]\n"),
    ];
    // Nobody may do anything, and a message that is refused closes nobody.
    let none = "port = 0\n[rules]\n[role.writer]\ndeny = [\"t\"]\n";
    let directory = Directory::new();
    directory.write("acl", "topic write t\n");
    let mut broker = Broker::start_in(directory, &Setup { config: none, ..Setup::default() });
    let mut client = Peer::connect(broker.address(), &Connect::new(Version::V5, "client"));
    let await_answer = |client: &mut Peer, expected: u8, key: &str| {
        let deadline = Deadline::after(PATIENCE);
        while client.publish(&Publish::new("t", 1, b"")) != expected {
            assert!(deadline.remaining().is_some(), "{key} is not in force");
        }
    };
    for (key, rules) in live {
        await_answer(&mut client, 0x87, "a refusal");
        change(&mut broker, "test.conf", &format!("port = 0\n{rules}"), READ);
        await_answer(&mut client, 0x10, key);
        change(&mut broker, "test.conf", none, READ);
    }
    // This one needs a restart.
    await_answer(&mut client, 0x87, "a refusal");
    let restart = none.replace("[rules]\n", "maximum_qos = 0\n[rules]\n");
    change(&mut broker, "test.conf", &restart, READ);
    client.ping();
    assert_eq!(client.publish(&Publish::new("t", 2, b"")), 0x87);
    client.ping();
    // And this one does not.
    change(
        &mut broker,
        "test.conf",
        &none.replace("[rules]\n", "[rules]\ndenied_publish = \"disconnect\"\n"),
        READ,
    );
    client.send(&Publish::new("t", 0, b"").encode(Version::V5));
    assert_eq!(client.await_close(), Some(0x87));
    broker.stop();
}

/// A message of a group was dropped if the shard that was chosen had only members that may not read it.
#[test]
fn a_group_finds_the_member_that_may_read_whatever_its_shard_is() {
    const ACL: &str = "user ann\ntopic read t/open\ntopic write #\nuser bob\ntopic read t/#\n";
    let broker = start(Io::Auto, &["ann", "bob"], ACL);
    // Several of hers, so that each shard has some; he is on one of them.
    let mut anns: Vec<Peer> = (0..6)
        .map(|number| {
            let mut ann = connect(&broker, Version::V5, &format!("ann-{number}"), "ann");
            assert_eq!(ann.subscribe("$share/g/t/+", 1), 1);
            ann
        })
        .collect();
    let mut bob = connect(&broker, Version::V5, "bob", "bob");
    assert_eq!(bob.subscribe("$share/g/t/+", 1), 1);
    for ann in &mut anns {
        for number in 0..4 {
            let text = format!("secret {number}");
            assert_eq!(ann.publish(&Publish::new("t/secret", 1, text.as_bytes())), 0);
        }
    }
    for _ in 0..anns.len() * 4 {
        let message = bob.next_publish();
        assert_eq!(message.topic, "t/secret");
        bob.acknowledge(&message);
    }
    for ann in &mut anns {
        ann.settle();
        assert!(ann.waiting().is_empty(), "{:?}", ann.waiting());
    }
    broker.stop();
}
