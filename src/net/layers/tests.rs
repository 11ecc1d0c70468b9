//! Layers against a client of rustls, over a socket that takes as many bytes as a test lets it.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};

use rustls::ClientConnection;
use rustls::client::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::{RootCertStore, SupportedProtocolVersion};

use super::*;
use crate::net::tls::{ListenerTls, Shared};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// Numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound.max(1)
    }
}

/// A client and the layers of its server. The wires between them are bytes.
struct Pair {
    client: ClientConnection,
    server: Layers,
    scratch: Scratch,
    /// Everything that the client has said, as the server understood it.
    heard: Vec<u8>,
}

fn pair(version: &'static SupportedProtocolVersion) -> Pair {
    pair_with(version, false)
}

/// With `certified`, the server asks for a certificate and the client has one of its own authority, which nobody knows.
fn pair_with(version: &'static SupportedProtocolVersion, certified: bool) -> Pair {
    let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Shared::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Shared::new(roots.clone()), Shared::clone(&provider));
    let server = ServerConfig::builder_with_provider(Shared::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap();
    let server = if certified {
        server.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        server.with_no_client_auth()
    };
    let server = server.with_single_cert(vec![certificate], key).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let client = if certified {
        let own = rcgen::generate_simple_self_signed(["client".to_string()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
        client.with_client_auth_cert(vec![own.cert.der().clone()], key).unwrap()
    } else {
        client.with_no_client_auth()
    };
    let name = ServerName::try_from("localhost").unwrap();
    Pair {
        client: ClientConnection::new(Shared::new(client), name).unwrap(),
        server: Layers::new(Some(Tls::new(ListenerTls::with(server)))),
        scratch: Scratch::new(512),
        heard: Vec::new(),
    }
}

impl Pair {
    /// Everything that the client has to send.
    fn flight(&mut self) -> Vec<u8> {
        let mut flight = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut flight).unwrap();
        }
        flight
    }

    /// The server receives `bytes`, at most `at_once` of them at a time.
    fn feed(&mut self, mut bytes: &[u8], at_once: usize) -> io::Result<()> {
        while !bytes.is_empty() {
            self.server.receive(&self.scratch, &mut self.heard, |buffer| {
                let length = at_once.min(bytes.len()).min(buffer.len());
                buffer[..length].copy_from_slice(&bytes[..length]);
                bytes = &bytes[length..];
                Ok(length)
            })?;
        }
        Ok(())
    }

    /// The client receives `bytes`. Returns what the server said.
    fn understand(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut said = Vec::new();
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            self.client.process_new_packets().unwrap();
            let mut buffer = [0; 4_096];
            while let Ok(length @ 1..) = self.client.reader().read(&mut buffer) {
                said.extend_from_slice(&buffer[..length]);
            }
        }
        said
    }

    /// The bytes that the server sends of its own.
    fn own(&mut self) -> Vec<u8> {
        let own = RefCell::new(Vec::new());
        let is_done = self.server.flush(|bytes| {
            own.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        });
        assert!(is_done.unwrap());
        own.into_inner()
    }

    /// A handshake in which the server receives `at_once` bytes at a time.
    fn shake_hands(&mut self, at_once: usize) {
        while self.client.is_handshaking() || !self.server.are_open() {
            let flight = self.flight();
            self.feed(&flight, at_once).unwrap();
            let own = self.own();
            self.understand(&own);
        }
        assert!(self.heard.is_empty());
    }

    fn client_says(&mut self, bytes: &[u8], at_once: usize) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.client.writer().write(rest).unwrap();
            rest = &rest[taken..];
            let flight = self.flight();
            self.feed(&flight, at_once).unwrap();
        }
    }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[test]
fn a_client_is_understood_however_its_bytes_are_cut() {
    for version in VERSIONS {
        for at_once in [1, 7, 100, 5_000, usize::MAX] {
            let mut pair = pair(version);
            pair.shake_hands(at_once);
            let said = bytes(if at_once == 1 { 20_000 } else { 300_000 });
            pair.client_says(&said, at_once);
            assert!(pair.heard == said, "{version:?} cut to {at_once}");
            assert_eq!(pair.server.secure.as_ref().unwrap().tls.kept_bytes(), 0);
        }
    }
}

/// In TLS 1.3 the tickets wait for the kernel just when the first packet comes.
#[test]
fn bytes_in_the_flight_of_the_last_handshake_message_are_heard_while_answers_wait() {
    let mut pair = pair(&rustls::version::TLS13);
    let hello = pair.flight();
    pair.feed(&hello, usize::MAX).unwrap();
    assert!(!pair.server.are_open() && pair.server.needs_permit());
    let own = pair.own();
    pair.understand(&own);
    pair.client.writer().write_all(b"CONNECT").unwrap();
    let flight = pair.flight();
    pair.feed(&flight, usize::MAX).unwrap();
    assert_eq!(pair.heard, b"CONNECT");
    assert!(pair.server.are_open() && pair.server.are_pending());
    // They move with the connection, and leave before the first packet of the other shard.
    let sent = RefCell::new(Vec::new());
    let count = pair.server.send(&pair.scratch, b"CONNACK", |bytes| {
        sent.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    });
    assert_eq!(count.unwrap(), 7);
    assert_eq!(pair.understand(&sent.into_inner()), b"CONNACK");
}

#[test]
fn bytes_count_as_sent_once_the_kernel_has_all_that_they_became() {
    for version in VERSIONS {
        for room in [1, 100, 16 * 1024, 40_000] {
            let mut pair = pair(version);
            pair.shake_hands(usize::MAX);
            let said = bytes(100_000);
            let (sent, free) = (RefCell::new(Vec::new()), Cell::new(0));
            let (mut told, mut understood) = (0, Vec::new());
            while told < said.len() {
                free.set(room);
                let count = pair.server.send(&pair.scratch, &said[told..], |bytes| {
                    let taken = bytes.len().min(free.get());
                    free.set(free.get() - taken);
                    sent.borrow_mut().extend_from_slice(&bytes[..taken]);
                    if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
                });
                told += match count {
                    Err(refused) if refused.kind() == io::ErrorKind::WouldBlock => 0,
                    count => count.unwrap(),
                };
                understood.extend(pair.understand(&sent.take()));
                // Whole records: the client understands at least what is told, and nothing twice.
                assert!(understood.len() >= told && understood == said[..understood.len()]);
                assert!(understood.len() <= told + PLAIN_BYTES_MAX);
                assert!(pair.server.pending.len() <= RECORD_BYTES_MAX);
            }
            assert!(understood == said && !pair.server.are_pending());
            assert_eq!(pair.server.pending.held_bytes(), 0);
        }
    }
}

#[test]
fn a_farewell_of_either_side_is_told_from_a_lost_connection() {
    for version in VERSIONS {
        let mut pair = pair(version);
        pair.shake_hands(usize::MAX);
        pair.server.say_goodbye();
        pair.server.say_goodbye();
        let own = pair.own();
        pair.understand(&own);
        assert_eq!(pair.client.reader().read(&mut [0]).unwrap(), 0, "an end by the rules");
        pair.client.writer().write_all(b"DISCONNECT").unwrap();
        pair.client.send_close_notify();
        let flight = pair.flight();
        pair.feed(&flight, 3).unwrap();
        assert!(pair.server.have_ended());
        assert_eq!(pair.heard, b"DISCONNECT");
    }
    let mut cut = pair(&rustls::version::TLS13);
    cut.shake_hands(usize::MAX);
    let end = cut.server.receive(&cut.scratch, &mut cut.heard, |_| Ok(0));
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert!(!cut.server.have_ended());
}

#[test]
fn a_peer_that_breaks_the_rules_is_told_so_and_refused() {
    let mut plain = pair(&rustls::version::TLS13);
    let refused = plain.feed(b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0", usize::MAX).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    // An alert: fatal.
    assert_eq!(plain.own()[..3], [0x15, 3, 3]);

    let mut changed = pair(&rustls::version::TLS13);
    changed.shake_hands(usize::MAX);
    changed.client.writer().write_all(b"PUBLISH").unwrap();
    let mut flight = changed.flight();
    *flight.last_mut().unwrap() ^= 1;
    assert!(changed.feed(&flight, usize::MAX).is_err() && changed.heard.is_empty());

    // A handshake message that says that it has 8 MiB is kept up to the bound only.
    let mut long = pair(&rustls::version::TLS13);
    let mut record = vec![0x16, 3, 1, 0x40, 0];
    record.resize(5 + 0x4000, 0);
    record[5..9].copy_from_slice(&[1, 0, 0xFF, 0xFF]);
    let refused = (0..8).find_map(|_| long.feed(&record, usize::MAX).err());
    assert!(refused.is_some() && long.server.held_bytes() < 2 * KEPT_BYTES_MAX);
}

/// After a fault rustls refers to bytes that came with it, and panics if it is not shown them again.
#[test]
fn no_bytes_of_a_peer_cause_a_panic() {
    let mut numbers = Numbers(5);
    for round in 0..600 {
        let version = VERSIONS[numbers.below(2)];
        let mut pair = pair_with(version, numbers.below(2) == 0);
        let broken_flight = numbers.below(4);
        for flight_number in 0..5 {
            if flight_number >= 2 {
                let _ = pair.client.writer().write_all(&bytes(1 + numbers.below(40_000)));
            }
            let mut flight = pair.flight();
            if flight_number == broken_flight && !flight.is_empty() {
                match numbers.below(4) {
                    0 => flight.truncate(numbers.below(flight.len())),
                    1 => flight.extend(bytes(numbers.below(300))),
                    2 => flight.extend_from_within(numbers.below(flight.len())..),
                    _ => {
                        for _ in 0..=numbers.below(3) {
                            let at = numbers.below(flight.len());
                            flight[at] ^= 1 << numbers.below(8);
                        }
                    }
                }
            }
            let at_once = [1 + numbers.below(50), 1 + numbers.below(5_000), usize::MAX][numbers.below(3)];
            let refused = pair.feed(&flight, at_once).is_err();
            if numbers.below(3) == 0 || refused {
                pair.server.say_goodbye();
            }
            let _ = pair.server.send(&pair.scratch, &bytes(100), |bytes| Ok(bytes.len()));
            let own = pair.own();
            let mut own = &own[..];
            while !own.is_empty() && pair.client.read_tls(&mut own).is_ok() {
                let _ = pair.client.process_new_packets();
                let _ = pair.client.reader().read_to_end(&mut Vec::new());
            }
            assert!(pair.server.held_bytes() < 200_000, "round {round}");
        }
    }
}

#[test]
fn a_silent_connection_holds_nothing_and_an_idle_one_a_bound() {
    let mut pair = pair(&rustls::version::TLS13);
    assert_eq!(pair.server.held_bytes(), size_of::<Secure>());
    pair.server.say_goodbye();
    assert_eq!(pair.server.held_bytes(), size_of::<Secure>());
    pair.shake_hands(usize::MAX);
    assert!(pair.server.held_bytes() <= 4_096, "{}", pair.server.held_bytes());
}
