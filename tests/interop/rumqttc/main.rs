//! rumqttc against the broker at HOST PORT, over TLS if a file of certificates to trust is given; prints `rumqttc: N passed, M failed`.
//! Knows nothing of which broker it is: nothing is asked for here but what the standards promise.

#![expect(clippy::print_stdout, reason = "what it found is told by what it prints")]

use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

#[path = "../../harness"]
mod harness {
    #![allow(dead_code, reason = "the suites share these files, and this one needs least of them")]

    pub(crate) mod packet;
    pub(crate) mod time;
}

#[path = "../../end_to_end/library_client.rs"]
mod library_client;
mod properties;

use harness::packet::Version;
use library_client::{Client, Options};

/// Messages of one QoS that are published without waiting.
const MANY: usize = 500;
const LARGE_BYTES: usize = 1 << 20;

/// Where the broker is, the version to speak, and the topic (and client identifier) that no other check uses.
#[derive(Clone)]
struct Scope {
    broker: SocketAddr,
    transport: rumqttc::Transport,
    version: Version,
    topic: String,
}

impl Scope {
    fn connect(&self, who: &str) -> Client {
        Client::connect(self.broker, &self.options(&format!("{}-{who}", self.topic)))
    }

    fn options<'a>(&self, client_id: &'a str) -> Options<'a> {
        Options { transport: self.transport.clone(), ..Options::new(self.version, client_id) }
    }

    fn persistent<'a>(&self, client_id: &'a str) -> Options<'a> {
        Options { transport: self.transport.clone(), ..Options::persistent(self.version, client_id) }
    }

    fn below(&self, levels: &str) -> String {
        format!("{}/{levels}", self.topic)
    }
}

type Check = (&'static str, fn(&Scope));

const EVERY: [Check; 8] = [
    ("qos", qos),
    ("retained", retained),
    ("will", will),
    ("wildcards", wildcards),
    ("persistent", persistent),
    ("large", large),
    ("many_in_flight", many_in_flight),
    ("take_over", take_over),
];

const ONLY_V5: [Check; 2] = [("shared", shared), ("properties", properties::pass_through)];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (host, port, trusted) = match arguments.as_slice() {
        [host, port] => (host, port, None),
        [host, port, trusted] => (host, port, Some(Path::new(trusted))),
        _ => {
            println!("usage: rumqttc HOST PORT [CERTIFICATES]");
            return ExitCode::FAILURE;
        }
    };
    let transport = trusted.map_or_else(rumqttc::Transport::tcp, over_tls);
    let broker = format!("{host}:{port}")
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .expect("HOST PORT is an address");
    let (mut passed, mut failed) = (0, 0);
    let checks_of_v5 = EVERY.iter().chain(&ONLY_V5).map(|check| (Version::V5, check));
    for (version, (name, check)) in EVERY.iter().map(|check| (Version::V3_1_1, check)).chain(checks_of_v5) {
        let transport = transport.clone();
        let scope = Scope { broker, transport, version, topic: format!("rumqttc-{version:?}-{name}") };
        // What went wrong has been told by the panic; the other checks are still run.
        if catch_unwind(AssertUnwindSafe(|| check(&scope))).is_ok() {
            passed += 1;
        } else {
            failed += 1;
            println!("FAILED {name} {version:?}");
        }
    }
    println!("rumqttc {}: {passed} passed, {failed} failed", release());
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// TLS that trusts the certificates in a file.
fn over_tls(file: &Path) -> rumqttc::Transport {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).expect("the file of certificates is readable") {
        roots.add(certificate.expect("it holds certificates")).expect("they can be trusted");
    }
    let provider = rustls::crypto::ring::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("ring has the usual versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    rumqttc::Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(config.into()))
}

/// The version that Cargo.lock holds.
fn release() -> &'static str {
    include_str!("../../../Cargo.lock")
        .split_once("name = \"rumqttc\"\nversion = \"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("unknown", |(version, _)| version)
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn texts(client: &mut Client, count: usize) -> Vec<String> {
    client.messages(count).iter().map(library_client::Message::text).collect()
}

/// Publishes all of them before it waits for the broker to take them over.
fn publish_all(client: &mut Client, topic: &str, qos: u8, payloads: &[String]) {
    for payload in payloads {
        client.send(topic, qos, false, payload.as_bytes());
    }
    client.await_acknowledged(payloads.len());
}

fn qos(scope: &Scope) {
    let (mut subscriber, mut publisher) = (scope.connect("s"), scope.connect("p"));
    for level in 0..=2 {
        let topic = scope.below(&level.to_string());
        subscriber.subscribe(&topic, level);
        for sent in 0..=2 {
            publisher.publish(&topic, sent, false, format!("Hello {sent}").as_bytes());
            let message = subscriber.message();
            assert_eq!((message.text(), message.qos), (format!("Hello {sent}"), sent.min(level)));
            assert_eq!((&message.topic, message.retain), (&topic, false));
        }
    }
    subscriber.unsubscribe(&scope.below("0"));
    publisher.publish(&scope.below("0"), 1, false, b"unheard");
    publisher.publish(&scope.below("1"), 1, false, b"end");
    assert_eq!(subscriber.message().text(), "end");
    subscriber.disconnect();
    publisher.disconnect();
}

fn retained(scope: &Scope) {
    let mut publisher = scope.connect("p");
    publisher.publish(&scope.topic, 1, true, b"first");
    publisher.publish(&scope.topic, 1, true, b"second");
    for expected in [Some("second"), None] {
        let mut newcomer = scope.connect("n");
        newcomer.subscribe(&scope.topic, 1);
        if let Some(text) = expected {
            let message = newcomer.message();
            assert_eq!((message.text().as_str(), message.retain), (text, true));
        }
        publisher.publish(&scope.topic, 1, false, b"live");
        let message = newcomer.message();
        assert_eq!((message.text().as_str(), message.retain), ("live", false));
        newcomer.disconnect();
        publisher.publish(&scope.topic, 1, true, b"");
    }
    publisher.disconnect();
}

fn will(scope: &Scope) {
    let mut watcher = scope.connect("w");
    watcher.subscribe(&scope.topic, 1);
    let client_id = format!("{}-m", scope.topic);
    let mortal = |payload| {
        let will = Some((scope.topic.as_str(), payload, 1));
        Client::connect(scope.broker, &Options { will, ..scope.options(&client_id) })
    };
    mortal("wrong").disconnect();
    mortal("gone").vanish();
    assert_eq!(watcher.message().text(), "gone");
    watcher.disconnect();
}

fn wildcards(scope: &Scope) {
    let mut client = scope.connect("c");
    client.subscribe(&scope.below("+/x"), 1);
    client.subscribe(&scope.below("tree/#"), 1);
    for levels in ["a/y", "a/x", "tree", "tree/b/c", "end/x"] {
        client.publish(&scope.below(levels), 1, false, b"x");
    }
    let topics: Vec<String> = client.messages(4).into_iter().map(|message| message.topic).collect();
    assert_eq!(topics, ["a/x", "tree", "tree/b/c", "end/x"].map(|levels| scope.below(levels)));
    client.disconnect();
}

fn persistent(scope: &Scope) {
    let client_id = format!("{}-s", scope.topic);
    let clean = || Client::connect(scope.broker, &scope.options(&client_id));
    let sleeping = || Client::connect(scope.broker, &scope.persistent(&client_id));
    // Whatever an earlier run has left ends here.
    clean().disconnect();
    let mut sleeper = sleeping();
    assert!(!sleeper.session_present);
    sleeper.subscribe(&scope.topic, 2);
    sleeper.disconnect();
    let mut publisher = scope.connect("p");
    publish_all(&mut publisher, &scope.topic, 1, &numbers(0..100));
    publish_all(&mut publisher, &scope.topic, 2, &numbers(100..200));
    let mut sleeper = sleeping();
    assert!(sleeper.session_present);
    assert_eq!(texts(&mut sleeper, 200), numbers(0..200));
    publisher.publish(&scope.topic, 2, false, b"live");
    assert_eq!(sleeper.message().text(), "live");
    sleeper.disconnect();
    publisher.disconnect();
    let client = clean();
    assert!(!client.session_present);
    client.disconnect();
}

fn large(scope: &Scope) {
    let (mut subscriber, mut publisher) = (scope.connect("s"), scope.connect("p"));
    subscriber.subscribe(&scope.topic, 2);
    for qos in 0..=2 {
        let payload: Vec<u8> = (0..=250).map(|byte: u8| byte ^ qos).cycle().take(LARGE_BYTES).collect();
        publisher.publish(&scope.topic, qos, false, &payload);
        assert!(subscriber.message().payload == payload, "the payload was changed");
    }
    subscriber.disconnect();
    publisher.disconnect();
}

fn many_in_flight(scope: &Scope) {
    let (mut subscriber, mut publisher) = (scope.connect("s"), scope.connect("p"));
    subscriber.subscribe(&scope.topic, 2);
    for qos in [1, 2] {
        publish_all(&mut publisher, &scope.topic, qos, &numbers(0..MANY));
        assert_eq!(texts(&mut subscriber, MANY), numbers(0..MANY));
    }
    // Had any come twice, it would come before this one.
    publisher.publish(&scope.topic, 1, false, b"end");
    assert_eq!(subscriber.message().text(), "end");
    subscriber.disconnect();
    publisher.disconnect();
}

fn take_over(scope: &Scope) {
    let old = scope.connect("c");
    let mut new = scope.connect("c");
    old.await_end();
    new.subscribe(&scope.topic, 1);
    new.publish(&scope.topic, 1, false, b"mine");
    assert_eq!(new.message().text(), "mine");
    new.disconnect();
}

fn shared(scope: &Scope) {
    let mut members: Vec<Client> = (0..3).map(|number| scope.connect(&number.to_string())).collect();
    for member in &mut members {
        member.subscribe(&format!("$share/group/{}", scope.topic), 1);
        member.subscribe(&scope.below("end"), 1);
    }
    let mut publisher = scope.connect("p");
    publish_all(&mut publisher, &scope.topic, 1, &numbers(0..90));
    publisher.publish(&scope.below("end"), 1, false, b"end");
    let mut everything = Vec::new();
    for mut member in members {
        let messages = member.messages_until("end");
        assert!((15..=45).contains(&messages.len()), "not even: {}", messages.len());
        everything.extend(
            messages.iter().map(|message| message.text().parse::<usize>().expect("a number of ours")),
        );
        member.disconnect();
    }
    everything.sort_unstable();
    assert!(everything.into_iter().eq(0..90), "not each message came once");
    publisher.disconnect();
}
