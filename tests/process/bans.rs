//! `[bans]` on the running broker, and `mqtt-broker bans`. Loopback is never banned, so the peers come through a proxy that names them.

use std::fs;

use crate::addresses::{connect_from, open_from};
use crate::harness::broker::{Broker, Directory, Io, command_in};
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;
use crate::identities::exchanges;
use crate::operators::{add_user, operate};

/// A listener behind a trusted proxy, and one for peers of this machine.
pub(crate) const LISTENERS: &str = "[[listener]]\nname = \"proxied\"\nbind = [\"127.0.0.1\"]\nport = 0\n\
    proxy_protocol = \"require\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n\
    [[listener]]\nname = \"local\"\nbind = [\"127.0.0.1\"]\nport = 0\n";

const PASSWORDS: &str = "[auth.password]\nfile = \"passwords\"\n";

pub(crate) fn start(io: Io, directory: Directory, config: &str) -> Broker {
    let mut command = command_in(&directory);
    command.arg("--config").arg(directory.write("test.conf", config)).args(["--data-dir", "data"]);
    command.args(["--io", io.possible().flag(), "--shards", "2", "--sys-interval-s", "1"]);
    Broker::spawn(directory, command, 2)
}

fn with_users(io: Io, bans: &str) -> Broker {
    let directory = Directory::new();
    for user in ["ann", "bob"] {
        add_user(&directory, user);
    }
    start(io, directory, &format!("{LISTENERS}{PASSWORDS}[bans]\n{bans}"))
}

/// The answer to a client of `user` that sends this password.
fn connect(broker: &Broker, peer: &str, user: &str, password: &str, version: Version) -> u8 {
    let client_id = format!("{peer} {user}");
    let connect = Connect::new(version, &client_id).with_credentials(user, password.as_bytes());
    connect_from(broker, peer, &connect).1
}

#[test]
fn a_name_that_fails_too_often_from_one_address_is_banned_from_there() {
    for io in [Io::Uring, Io::Epoll, Io::Tokio] {
        let mut broker = with_users(io, "failures_max = 3\n");
        let one = "192.0.2.1";
        for _ in 0..3 {
            assert_eq!(connect(&broker, one, "ann", "wrong", Version::V5), 0x86);
        }
        // Not even the right password helps, and nobody else behind this address is concerned.
        assert_eq!(connect(&broker, one, "ann", "ann", Version::V5), 0x8A);
        assert_eq!(connect(&broker, one, "ann", "ann", Version::V3_1_1), 5);
        assert_eq!(connect(&broker, one, "bob", "bob", Version::V5), 0);
        assert_eq!(connect(&broker, "192.0.2.2", "ann", "ann", Version::V5), 0);
        let listed = operate(&broker, &["bans"]).output;
        assert!(listed.starts_with("address=192.0.2.1 user=\"ann\" until=20"), "{listed}");
        assert_eq!(listed.lines().count(), 1, "{listed}");
        broker.process().wait_for(0, "line", |line| {
            line.contains("client refused") && line.contains("user=\"ann\"") && line.contains("reason=banned")
        });
        let refusals = operate(&broker, &["refusals"]).output;
        assert!(refusals.lines().last().is_some_and(|line| line.contains("method=bans reason=banned")));

        // Loopback is never banned.
        let local = broker.addresses()[1];
        let watcher = |password: &[u8]| {
            let connect = Connect::new(Version::V5, "watcher").with_credentials("ann", password);
            Peer::try_connect(local, &connect)
        };
        for _ in 0..5 {
            assert_eq!(watcher(b"wrong").1, 0x86);
        }
        let (mut watcher, reason) = watcher(b"ann");
        assert_eq!(reason, 0);
        watcher.subscribe("$SYS/broker/clients/refused/banned", 0);
        while watcher.next_message().text() != "2" {}

        for (arguments, expected) in [
            (&["bans", "lift", "--user", "bob"][..], "mqtt-broker: error: there is no such ban"),
            (&["bans", "lift", "--address", one, "--user", "ann"], "bans lifted: 1"),
            (&["bans", "lift", "--all"], "mqtt-broker: error: there is no such ban"),
        ] {
            assert_eq!(operate(&broker, arguments).output, expected);
        }
        assert_eq!(connect(&broker, one, "ann", "ann", Version::V5), 0);
        assert_eq!(operate(&broker, &["bans"]).output, "");
        broker.stop();
    }
}

/// The name in CONNECT is optional there, so failures had no name, and a ban by name held nobody up.
#[test]
fn the_user_whom_an_exchange_names_is_counted_banned_and_told() {
    let directory = Directory::new();
    directory.write("passwords", &(exchanges::line("ann", "pencil") + &exchanges::line("bob", "crayon")));
    let config = format!("{LISTENERS}[auth.scram]\nfile = \"passwords\"\n[bans]\nfailures_max = 3\n");
    let mut broker = start(Io::Auto, directory, &config);
    let begin = |username: Option<&str>, user: &str| {
        let mut peer = open_from(&broker, "192.0.2.1", Version::V5);
        exchanges::begin(&mut peer, username, user);
        peer
    };
    for username in [None, Some("ann"), None] {
        assert_eq!(exchanges::end(&mut begin(username, "ann"), "ann", "wrong").0, 0x86);
    }
    // There is no challenge any more, whatever name CONNECT has.
    for username in [None, Some("ann"), Some("bob")] {
        assert_eq!(begin(username, "ann").await_connack(), 0x8A, "{username:?}");
    }
    assert_eq!(exchanges::end(&mut begin(None, "bob"), "bob", "crayon").0, 0);
    let mut elsewhere = open_from(&broker, "192.0.2.2", Version::V5);
    exchanges::begin(&mut elsewhere, None, "ann");
    assert_eq!(exchanges::end(&mut elsewhere, "ann", "pencil").0, 0);

    let listed = operate(&broker, &["bans"]).output;
    assert!(listed.starts_with("address=192.0.2.1 user=\"ann\" until=20"), "{listed}");
    assert_eq!(listed.lines().count(), 1, "{listed}");
    let refusals = operate(&broker, &["refusals"]).output;
    for (method, count) in [("method=scram", 3), ("method=bans", 3)] {
        let is_told = |line: &&str| line.contains(method) && line.contains("user=\"ann\"");
        assert_eq!(refusals.lines().filter(is_told).count(), count, "{refusals}");
    }
    broker.process().wait_for(0, "line", |line| {
        line.contains("client refused") && line.contains("user=\"ann\"") && line.contains("method=scram")
    });
    assert_eq!(operate(&broker, &["bans", "lift", "--all"]).output, "bans lifted: 1");
    broker.stop();
}

#[test]
fn a_whole_address_is_banned_by_a_key_of_its_own_and_across_restarts() {
    let bans = "failures_max = 0\naddress_failures_max = 4\n";
    let broker = with_users(Io::Auto, bans);
    let one = "2001:db8::1";
    for user in ["ann", "bob", "eve", "ann"] {
        assert_eq!(connect(&broker, one, user, "wrong", Version::V5), 0x86);
    }
    assert_eq!(connect(&broker, "2001:db8::2", "bob", "bob", Version::V5), 0x8A);
    assert_eq!(connect(&broker, "2001:db8:0:1::1", "bob", "bob", Version::V5), 0);
    let (_, directory) = broker.stop();
    let file = directory.path().join("data/bans.json");
    assert!(fs::read_to_string(&file).is_ok_and(|text| text.contains("2001:db8::")));
    let config = format!("{LISTENERS}{PASSWORDS}[bans]\n{bans}");
    let broker = start(Io::Auto, directory, &config);
    assert_eq!(connect(&broker, one, "bob", "bob", Version::V3_1_1), 5);
    assert!(operate(&broker, &["bans"]).output.starts_with("address=2001:db8::/64 until="));
    let (_, directory) = broker.stop();

    // A damaged file is told and kept aside.
    fs::write(&file, "{").expect("the data directory is writable");
    let mut broker = start(Io::Auto, directory, &config);
    broker.process().wait_for(0, "warning", |line| line.contains("the bans cannot be read"));
    assert_eq!(connect(&broker, one, "bob", "bob", Version::V5), 0);
    let kept = broker.directory().path().join("data/bans.json.damaged");
    assert!(fs::read_to_string(kept).is_ok_and(|text| text == "{"));
    broker.stop();
}

#[test]
fn an_identifier_that_flaps_is_banned_where_nobody_is_judged() {
    let config = format!("{}[bans]\nfailures_max = 0\nflapping_max = 3\n", crate::addresses::LISTENERS);
    let broker = start(Io::Auto, Directory::new(), &config);
    let flapping = |peer: &str, user: Option<&str>| {
        let mut connect = Connect::new(Version::V5, "pump");
        if let Some(user) = user {
            connect = connect.with_credentials(user, b"ignored");
        }
        let (client, reason) = connect_from(&broker, peer, &connect);
        client.vanish();
        reason
    };
    assert_eq!([None, Some("ann"), None].map(|user| flapping("192.0.2.1", user)), [0; 3]);
    // Nobody is judged, so a name is nobody's, and the ban is one of this address.
    assert_eq!([None, Some("ann")].map(|user| flapping("192.0.2.1", user)), [0x8A; 2]);
    assert_eq!(flapping("192.0.2.9", None), 0);
    assert_eq!(connect(&broker, "192.0.2.1", "ann", "ignored", Version::V5), 0);
    Peer::connect(broker.addresses()[1], &Connect::new(Version::V5, "pump")).disconnect();
    assert_eq!(operate(&broker, &["bans", "lift", "--client-id", "pump"]).output, "bans lifted: 1");
    assert_eq!(flapping("192.0.2.1", None), 0);
    broker.stop();
}

#[test]
fn a_user_that_flaps_with_the_identifier_of_another_bans_itself_only() {
    let broker = with_users(Io::Auto, "failures_max = 0\nflapping_max = 3\n");
    let pump = |user: &str, password: &str| {
        let connect = Connect::new(Version::V5, "pump").with_credentials(user, password.as_bytes());
        let (client, reason) = connect_from(&broker, "192.0.2.1", &connect);
        if reason == 0 {
            client.disconnect();
        }
        reason
    };
    assert_eq!([(); 4].map(|()| pump("bob", "bob")), [0, 0, 0, 0x8A]);
    assert_eq!(pump("ann", "ann"), 0);
    assert_eq!(connect(&broker, "192.0.2.1", "bob", "bob", Version::V5), 0);
    // Only the user itself is told of its ban.
    assert_eq!(pump("bob", "wrong"), 0x86);
    let listed = operate(&broker, &["bans"]).output;
    assert!(
        listed.starts_with("client=\"pump\" user=\"bob\" until=20") && listed.lines().count() == 1,
        "{listed}"
    );
    assert_eq!(operate(&broker, &["bans", "lift", "--client-id", "pump"]).output, "bans lifted: 1");
    assert_eq!(pump("bob", "bob"), 0);
    broker.stop();
}

#[test]
fn a_ban_ends_by_itself() {
    let broker = with_users(Io::Auto, "failures_max = 1\nban_s = 1\n");
    assert_eq!(connect(&broker, "192.0.2.1", "ann", "wrong", Version::V5), 0x86);
    assert_eq!(connect(&broker, "192.0.2.1", "ann", "ann", Version::V5), 0x8A);
    while connect(&broker, "192.0.2.1", "ann", "ann", Version::V5) != 0 {}
    broker.stop();
}
