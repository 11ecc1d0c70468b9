//! Layers against a client of rustls, over a socket that takes as many bytes as a test lets it.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};

use rustls::ClientConnection;
use rustls::client::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{RootCertStore, SupportedProtocolVersion};

use super::*;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// A client and the layers of its server. The wires between them are bytes.
struct Pair {
    client: ClientConnection,
    server: Layers,
    scratch: Scratch,
    /// Everything that the client has said, as the server understood it.
    heard: Vec<u8>,
}

fn pair(version: &'static SupportedProtocolVersion) -> Pair {
    let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Shared::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(Shared::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    Pair {
        client: ClientConnection::new(Shared::new(client), name).unwrap(),
        server: Layers::new(Some(Tls::new(Shared::new(server)))),
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

    /// What the server has to say itself.
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

#[test]
fn a_silent_connection_holds_nothing_and_an_idle_one_a_bound() {
    let mut pair = pair(&rustls::version::TLS13);
    assert_eq!(pair.server.held_bytes(), size_of::<Secure>());
    pair.server.say_goodbye();
    assert_eq!(pair.server.held_bytes(), size_of::<Secure>());
    pair.shake_hands(usize::MAX);
    assert!(pair.server.held_bytes() <= 4_096, "{}", pair.server.held_bytes());
}
