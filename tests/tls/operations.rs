//! The address for operators over TLS, and the metrics of TLS.

use std::net::SocketAddr;

use rustls::{StreamOwned, version};

use crate::authority::Authority;
use crate::broker::{directory, listener, start_in};
use crate::client::{Client, Trust};
use crate::harness::broker::Io;
use crate::harness::http::{Answer, address, ask, exchange};
use crate::harness::packet::{Connect, Version};
use crate::harness::time::{Deadline, PATIENCE};

/// The configuration of a broker whose address for operators has TLS.
fn config(more: &str) -> String {
    let admin = "[admin]\nbind = \"127.0.0.1:0\"\n[admin.tls]\ncertificates = [{ chain = \"server.pem\", key = \"server.key\" }]\n";
    format!("{}{admin}{more}", listener(""))
}

/// Asks for the metrics over TLS.
fn get(address: SocketAddr, trust: &Trust) -> Answer {
    let Client { socket, tls } = Client::open(address, trust, "localhost");
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    exchange(&mut StreamOwned::new(tls, socket), request)
}

#[test]
fn operators_ask_over_tls_and_metrics_tell_handshakes_and_the_end_of_certificates() {
    let authority = Authority::new("authority");
    let mut broker = start_in(directory(&authority), Io::Auto, &config(""), &[], 1);
    let admin = address(broker.process(), "admin serves https");
    let trust = Trust::new(&authority);
    for _ in 0..2 {
        let mut client = Client::open(broker.address(), &trust, "localhost");
        client.shake_hands(&Connect::new(Version::V5, "client").encode()).expect("the certificate is good");
        assert_eq!(client.hear(1).expect("the broker keeps to the rules"), [0x20]);
    }
    let stranger = Trust::new(&Authority::new("another authority"));
    let mut client = Client::open(broker.address(), &stranger, "localhost");
    client.shake_hands(b"").expect_err("the client does not know the authority");
    client.send_flight();
    let mut half = Client::open(broker.address(), &trust, "localhost");
    half.send_flight();
    assert!(half.receive().expect("the certificate is good") > 0);
    drop(half);

    let handshakes = |answer: &Answer, kind: &str, result: &str| {
        answer.sum("mqtt_tls_handshakes_total", &["listener=\"devices\"", kind, result])
    };
    let deadline = Deadline::after(PATIENCE);
    let metrics = loop {
        let metrics = get(admin, &trust);
        let ends = ["failed", "unfinished"].map(|end| format!("result=\"{end}\""));
        if ends.iter().all(|end| handshakes(&metrics, "kind=\"none\"", end) == 1) {
            break metrics;
        }
        assert!(deadline.remaining().is_some(), "the ends of handshakes are not counted: {}", metrics.body);
    };
    assert_eq!(metrics.status, 200);
    assert_eq!(handshakes(&metrics, "kind=\"full\"", "result=\"ok\""), 1);
    assert_eq!(handshakes(&metrics, "kind=\"resumed\"", "result=\"ok\""), 1);
    assert_eq!(handshakes(&metrics, "kind=\"none\"", "result=\"unfinished\""), 1);
    assert_eq!(metrics.body.matches("# TYPE mqtt_tls_handshakes").count(), 1, "they are counted once");
    let opened = metrics.sum("mqtt_handshake_seconds_count", &[]);
    assert_eq!(opened, 2, "only the handshakes that ended well have a time");
    for listener in ["devices", "admin"] {
        let label = format!("listener=\"{listener}\"");
        let ends_at_s = metrics.sum("mqtt_certificate_expiry_seconds", &[&label, "server.pem"]);
        assert!(ends_at_s > 1_700_000_000, "{ends_at_s}");
    }
    // A service of TLS tells nothing without it.
    assert_eq!(ask(admin, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 0);
    broker.stop();
}

#[test]
fn operators_without_a_certificate_are_refused_where_one_is_wanted() {
    let authority = Authority::new("authority");
    let mut broker = start_in(directory(&authority), Io::Auto, &config("client_ca = \"ca.pem\"\n"), &[], 1);
    let admin = address(broker.process(), "admin serves https");
    assert_eq!(get(admin, &Trust::new(&authority)).status, 0);
    let own = authority.certificate("operator", &[], 7);
    let versions = &[&version::TLS13, &version::TLS12];
    assert_eq!(get(admin, &Trust::of(&authority, Some(&own), versions)).status, 200);
    let foreign = Authority::new("authority").certificate("operator", &[], 7);
    assert_eq!(get(admin, &Trust::of(&authority, Some(&foreign), versions)).status, 0);
    broker.stop();
}
