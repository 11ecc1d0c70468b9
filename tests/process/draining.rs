//! `mqtt-broker drain` and `/v1/drain`: newcomers are refused, clients are sent elsewhere at a rate once they have everything, and the
//! broker ends; or it stays, or is taken back.

use std::time::Duration;

use crate::api::{ADMIN, READ, serve};
use crate::harness::broker::{Broker, Setup, command_in};
use crate::harness::http::{address, get};
use crate::harness::packet::{Connect, Publish, Version, acknowledgement};
use crate::harness::peer::Peer;
use crate::harness::process::Process;
use crate::harness::received::text;
use crate::harness::time::{PATIENCE, now};
use crate::operators::operate;

/// Properties of CONNACK and DISCONNECT.
const SERVER_REFERENCE: u8 = 0x1C;

fn begin_drain(broker: &Broker, arguments: &[&str]) -> Process {
    let mut command = command_in(broker.directory());
    command.args(["--data-dir", "data", "drain"]).args(arguments);
    Process::spawn(command)
}

/// A client to which one message is owed until it acknowledges it.
fn owed_client(broker: &Broker) -> Peer {
    let mut owed = Peer::connect(broker.address(), &Connect::persistent(Version::V5, "owed"));
    owed.subscribe("t", 1);
    Peer::connect(broker.address(), &Connect::new(Version::V5, "publisher"))
        .publish(&Publish::new("t", 1, b"x").with_packet_id(1));
    assert_eq!(owed.next_publish().payload, b"x");
    owed
}

#[test]
fn a_drain_sends_clients_elsewhere_at_a_rate_and_ends_the_broker() {
    let config = "[probes]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"off\"\n";
    let mut broker = Broker::start_with(&Setup { flags: &["--shards", "2"], config, ..Setup::default() });
    let probes = address(broker.process(), "probes serve");
    let mut owed = owed_client(&broker);
    let connect = |number: usize| {
        let version = if number == 0 { Version::V3_1_1 } else { Version::V5 };
        Peer::connect(broker.address(), &Connect::new(version, &format!("client-{number}")))
    };
    let peers: Vec<Peer> = (0..8).map(connect).collect();
    assert_eq!(get(probes, "/readyz").status, 200);

    let began = now();
    let mut drain = begin_drain(&broker, &["--rate", "10", "--reference", "other:1883"]);
    for (number, mut peer) in peers.into_iter().enumerate() {
        match peer.await_disconnect() {
            Some((reason, properties)) => {
                let reference = text(&properties, SERVER_REFERENCE);
                assert_eq!((reason, reference.as_deref()), (0x9C, Some("other:1883")));
            }
            None => assert_eq!(number, 0, "only MQTT 5.0 is told"),
        }
    }
    // Ten a second: the ninth waits for eight tenths.
    assert!(now().duration_since(began) >= Duration::from_millis(600), "no rate was kept");
    for (version, expected) in [(Version::V5, 0x9C), (Version::V3_1_1, 3)] {
        let (peer, reason) = Peer::try_connect(broker.address(), &Connect::new(version, "new"));
        let reference = peer.text(SERVER_REFERENCE);
        assert_eq!((reason, reference.is_some()), (expected, version == Version::V5));
    }
    let ready = get(probes, "/readyz");
    assert_eq!((ready.status, ready.body.trim()), (503, "the broker is being drained"));
    // It is served until it has acknowledged what it was sent.
    owed.ping();
    owed.send(&acknowledgement(0x40, 1));
    assert_eq!(owed.await_close(), Some(0x9C));
    assert!(drain.wait_for_exit(PATIENCE).success(), "{}", drain.output());
    assert!(drain.output().contains("the broker has ended"), "{}", drain.output());
    assert!(broker.process().wait_for_exit(PATIENCE).success());
    let output = broker.process().output();
    let warnings: Vec<&str> = output.lines().filter(|line| line.contains(" WARN ")).collect();
    let [first, last] = &warnings[..] else { panic!("{output}") };
    assert!(first.contains("the broker is being drained") && first.contains("rate=10"), "{first}");
    assert!(
        last.contains("the broker is drained") && last.contains("clients_at_start=9 clients=0"),
        "{last}"
    );
}

#[test]
fn a_drain_is_taken_back_waits_no_longer_than_its_time_and_may_leave_the_broker_running() {
    let mut served = serve();
    let mut owed = owed_client(&served.broker);
    let connect = |served: &crate::api::Served| {
        Peer::try_connect(served.broker.address(), &Connect::new(Version::V5, "new"))
    };
    // Load balancers learn of it before clients do.
    assert_eq!(served.call(ADMIN, "POST", "/v1/drain", r#"{"rate":0}"#).status, 400);
    assert_eq!(served.call(READ, "POST", "/v1/drain", "{}").status, 403);
    let begun = served.call(ADMIN, "POST", "/v1/drain", r#"{"wait_s":200}"#);
    assert!(begun.status == 200 && begun.body.contains("\"phase\":\"waiting\""), "{}", begun.body);
    assert_eq!(get(served.admin, "/readyz").status, 503);
    assert_eq!(connect(&served).1, 0);
    assert!(operate(&served.broker, &["drain", "--status"]).output.starts_with("waiting: "));
    let cancelled = served.call(ADMIN, "DELETE", "/v1/drain", "");
    assert!(cancelled.body.contains("\"phase\":\"off\""), "{}", cancelled.body);
    assert_eq!(get(served.admin, "/readyz").status, 200);

    owed.ping();
    let finished = operate(&served.broker, &["drain", "--timeout", "1", "--stay", "--json"]);
    assert!(finished.status.success(), "{}", finished.output);
    assert!(finished.output.contains("\"phase\":\"drained\""), "{}", finished.output);
    assert_eq!(owed.await_close(), Some(0x8B));
    assert_eq!(connect(&served).1, 0x88);
    let process = served.broker.process();
    process.wait_for(0, "the end of the time", |line| line.contains("the time of the drain is over"));
    let cancelled = operate(&served.broker, &["drain", "--cancel"]);
    assert!(cancelled.output.starts_with("not draining: 0 clients"), "{}", cancelled.output);
    let (mut back, reason) =
        Peer::try_connect(served.broker.address(), &Connect::persistent(Version::V5, "owed"));
    assert_eq!((reason, back.next_publish().payload), (0, b"x".to_vec()));

    // Nobody waits for a drain that somebody else takes back.
    let mut drain = begin_drain(&served.broker, &["--wait", "200"]);
    drain.wait_for(0, "the drain", |line| line.starts_with("waiting: "));
    operate(&served.broker, &["drain", "--cancel"]);
    assert_eq!(drain.wait_for_exit(PATIENCE).code(), Some(1));
    served.broker.stop();
}
