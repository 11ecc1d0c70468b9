//! A support call: somebody who has never seen the broker answers each question by the command line alone, and changes what an operator
//! changes, without a client that notices.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;

use serde_json::Value;

use crate::authority::Authority;
use crate::broker::{directory, start_in, write};
use crate::client::{Client, Trust};
use crate::harness::broker::{Broker, Directory, Io, command_in, without_admin};
use crate::harness::packet::{Connect, Publish, Version};
use crate::harness::peer::Peer;
use crate::harness::process::{Finished, run};
use crate::harness::time::PATIENCE;
use crate::tunnel;

const CONFIG: &str = "queue_messages_max = 3\n[rules]\nroles = [\"all\"]\n[role.all]\npublish = [\"a/#\"]\nsubscribe = [\"a/#\"]\n\
    [auth.password]\nfile = \"passwords\"\n\
    [[listener]]\nname = \"devices\"\nbind = [\"127.0.0.1\"]\nport = 0\n[listener.tls]\n\
    certificates = [{ chain = \"server.pem\", key = \"server.key\" }]\n\
    [[listener]]\nname = \"proxied\"\nbind = [\"127.0.0.1\"]\nport = 0\nproxy_protocol = \"require\"\n\
    trusted_proxies = [\"127.0.0.0/8\"]\n";

/// Runs a command in the directory of a broker.
fn operate(broker: &Broker, arguments: &[&str]) -> Finished {
    let mut command = command_in(broker.directory());
    command.args(["--config", "broker.conf", "--data-dir", "data"]).args(arguments);
    run(command)
}

/// The output of a command that succeeds.
fn answer(broker: &Broker, arguments: &[&str]) -> String {
    let finished = operate(broker, arguments);
    assert!(finished.status.success(), "{arguments:?}: {}", finished.output);
    finished.output
}

/// Adds a user whose password is the name.
fn add_user(directory: &Directory, user: &str) {
    let mut command = command_in(directory);
    command
        .args(["--config", "broker.conf", "user", "--file", "passwords", "add", user])
        .stdin(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let input = child.stdin.as_mut().expect("standard input is piped");
    input.write_all(format!("{user}\n").as_bytes()).expect("the command reads a password");
    assert!(child.wait().expect("the command ends").success());
}

/// A client of 10.1.2.3, as a proxy says.
fn connect_from_afar(address: SocketAddr, connect: &Connect<'_>) -> Peer {
    let mut stream = TcpStream::connect(address).expect("the broker listens");
    stream.write_all(b"PROXY TCP4 10.1.2.3 127.0.0.1 8080 1883\r\n").expect("the broker takes a header");
    let mut peer = Peer::over(stream, connect.version);
    peer.send(&connect.encode());
    assert_eq!(peer.await_connack(), 0);
    peer
}

fn start(authority: &Authority) -> Broker {
    let directory = directory(authority);
    directory.write("broker.conf", "");
    add_user(&directory, "bob");
    start_in(directory, Io::Auto, CONFIG, &["--shards", "2"], 2)
}

#[test]
fn every_question_has_an_answer_and_every_change_leaves_clients_alone() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let mut broker = start(&first);
    let [devices, proxied] = broker.addresses()[..] else { panic!("two listeners") };
    let mut near =
        Peer::connect(tunnel::open(devices, Trust::new(&first)), &Connect::new(Version::V5, "near"));
    near.subscribe("a/b/c", 0);
    let mut pump = connect_from_afar(proxied, &Connect::new(Version::V5, "pump-1"));
    pump.subscribe("a/+/c", 0);
    let mut lazy =
        Peer::connect(tunnel::open(devices, Trust::new(&first)), &Connect::new(Version::V5, "lazy"));
    lazy.subscribe("a/lazy", 1);
    let mut absent = connect_from_afar(proxied, &Connect::persistent(Version::V5, "absent"));
    absent.subscribe("a/absent", 1);
    absent.disconnect();
    for number in 0..10 {
        near.publish(&Publish::new("a/absent", 1, &[number]));
    }
    near.publish(&Publish::new("a/lazy", 1, &[0; 1_000]));
    let mut device = connect_from_afar(proxied, &Connect::new(Version::V5, "D"));
    answer(&broker, &["disconnect", "D"]);
    assert_eq!(device.await_close(), Some(0x98));

    ask_everything(&broker);
    change_everything(&mut broker, &second, &mut near);
    // Each of them is on the connection that it had.
    for peer in [&mut near, &mut pump, &mut lazy] {
        peer.ping();
    }
    // Drain the host: each client is told where to go, and the broker ends. One that acknowledges nothing is waited for, and not for ever.
    answer(&broker, &["drain", "--reference", "other.example", "--timeout", "1"]);
    for peer in [&mut near, &mut pump, &mut lazy] {
        assert_eq!(peer.await_close(), Some(0x9C));
    }
    assert!(broker.process().wait_for_exit(PATIENCE).success());
}

/// The questions of a support call, in their order.
fn ask_everything(broker: &Broker) {
    let rows = |arguments: &[&str]| -> Vec<Value> {
        let text = answer(broker, &[arguments, &["--json"]].concat());
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    };
    let texts = |rows: &[Value], member: &str| -> Vec<String> {
        rows.iter().map(|row| row[member].as_str().unwrap_or("-").to_owned()).collect()
    };
    // Which clients are connected from 10.1.2.3?
    assert_eq!(texts(&rows(&["clients", "--address", "10.1.2.3"]), "client"), ["pump-1"]);
    // Why was D closed, and when?
    let closed = answer(broker, &["closed", "D"]);
    assert!(closed.contains("operator") && closed.contains("10.1.2.3") && closed.contains("20"), "{closed}");
    // Who receives a/b/c?
    let receivers = answer(broker, &["topics", "a/b/c"]);
    for part in ["near", "a/b/c", "pump-1", "a/+/c"] {
        assert!(receivers.contains(part), "{part}: {receivers}");
    }
    assert!(!receivers.contains("lazy"), "{receivers}");
    // Which subscriber is slow?
    assert_eq!(texts(&rows(&["slow"]), "client"), ["lazy"]);
    // What is dropped, and why?
    let statistics = &rows(&["stats"])[0];
    assert_eq!(statistics["dropped"]["queue_full"], 7, "{statistics}");
    assert!(answer(broker, &["stats"]).contains("queue_full"));
    // What is the configuration, and where does each value come from? Nothing of it waits for a restart.
    let shown = answer(broker, &["config", "show"]);
    let line = |key: &str| shown.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
    assert!(line("queue_messages_max = 3").contains("broker.conf, line 1; change: live"), "{shown}");
    assert!(line("max_connections = ").contains("# default"), "{shown}");
    assert!(answer(broker, &["config", "diff"]).contains("no key differs"));
    // When does the certificate end?
    let certificates = rows(&["certificates"]);
    let ends = &certificates[0];
    assert!(ends["file"].as_str().is_some_and(|file| file.ends_with("server.pem")), "{ends}");
    assert!(
        ends["ends_at_s"].as_i64() > Some(1_796_000_000) && ends["days_left"].as_i64() > Some(0),
        "{ends}"
    );
    let table = answer(broker, &["certificates"]);
    assert!(table.contains("DAYS LEFT") && table.contains("devices"), "{table}");
}

/// The changes that an operator makes.
fn change_everything(broker: &mut Broker, second: &Authority, near: &mut Peer) {
    let [devices, proxied] = broker.addresses()[..] else { panic!("two listeners") };
    // Rotate the certificate.
    write(broker.directory(), "server", &second.certificate("server", &["localhost"], 1));
    let told = answer(broker, &["reload"]);
    assert!(told.contains("certificates or lists of the listener devices"), "{told}");
    let mut client = Client::open(devices, &Trust::new(second), "localhost");
    client.shake_hands(&Connect::new(Version::V5, "after").encode()).expect("the new certificate serves");
    near.ping();
    // Add a user.
    let mark = broker.process().mark();
    add_user(broker.directory(), "ann");
    answer(broker, &["reload"]);
    broker
        .process()
        .wait_for(mark, "the new user", |line| line.contains("read the users") && line.contains("count=2"));
    let ann = Connect::new(Version::V5, "of ann").with_credentials("ann", b"ann");
    connect_from_afar(proxied, &ann).ping();
    // Change a rule.
    assert_eq!(near.subscribe("b/x", 0), 0x87);
    let wider = CONFIG.replace("subscribe = [\"a/#\"]", "subscribe = [\"a/#\", \"b/#\"]");
    broker.directory().write("broker.conf", &without_admin(&wider));
    let told = answer(broker, &["reload"]);
    assert!(told.contains("changed: role.all.subscribe from"), "{told}");
    while near.subscribe("b/x", 0) == 0x87 {}
    // Raise the level of the log.
    answer(broker, &["log-level", "debug"]);
    assert!(answer(broker, &["stats", "--json"]).contains("\"log_level\":\"debug\""));
}
