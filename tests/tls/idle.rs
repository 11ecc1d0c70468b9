//! The memory of an idle connection with TLS beside that of a plain one.
#![cfg(target_os = "linux")]

use std::net::SocketAddr;

use crate::authority::Authority;
use crate::broker::{directory, listener, start_in};
use crate::client::{Client, Trust};
use crate::harness::broker::{Broker, Io};
use crate::harness::machine::{print_notice, resident_bytes};
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;

/// Bytes above a plain connection, at most: without and with a certificate of the client.
const BYTES_MAX: [u64; 2] = [4_096, 5_120];
const COUNT: usize = 800;

pub(crate) fn an_idle_connection_takes_little_more_than_a_plain_one(io: Io) {
    let authority = Authority::new("authority");
    let device = authority.certificate("device", &[], 7);
    for (certificate, bytes_max) in [None, Some(&device)].into_iter().zip(BYTES_MAX) {
        let plain = "[[listener]]\nname = \"plain\"\nbind = [\"127.0.0.1\"]\nport = 0\n";
        let keys = "client_ca = \"ca.pem\"\nclient_certificate = \"require\"\n";
        let config = format!("{plain}{}", listener(if certificate.is_some() { keys } else { "" }));
        let flags = ["--shards", "1", "--max-connections", "5000"];
        let mut broker = start_in(directory(&authority), io, &config, &flags, 2);
        let trust = Trust::of(&authority, certificate, &[&rustls::version::TLS13]).forgetful();
        let [plain_address, address] = [broker.addresses()[0], broker.addresses()[1]];
        let _warm = (plain_ones(plain_address, 0, 50), with_tls(address, &trust, 0, 50));
        let begin = held(&mut broker);
        let _plain = plain_ones(plain_address, 1, COUNT);
        let middle = held(&mut broker);
        let _with_tls = with_tls(address, &trust, 1, COUNT);
        let end = held(&mut broker);
        let count = COUNT as u64;
        let [plain, more] = [middle - begin, end - middle].map(|bytes| bytes / count);
        let above = more.saturating_sub(plain);
        let kind = if certificate.is_some() { "with a client certificate" } else { "without one" };
        print_notice(&format!(
            "{}: a plain connection takes {plain} bytes, TLS {kind} {above} more",
            io.flag()
        ));
        assert!(above <= bytes_max, "{above} bytes more than a plain one, {kind}");
        broker.stop();
    }
}

fn held(broker: &mut Broker) -> u64 {
    resident_bytes(broker.process().id())
}

fn plain_ones(address: SocketAddr, round: usize, count: usize) -> Vec<Peer> {
    let connect = |number| Connect::new(Version::V5, &format!("plain-{round}-{number}")).encode();
    let open = |number| {
        let mut peer = Peer::open(address, Version::V5);
        peer.send(&connect(number));
        assert_eq!(peer.await_connack(), 0);
        peer
    };
    (0..count).map(open).collect()
}

fn with_tls(address: SocketAddr, trust: &Trust, round: usize, count: usize) -> Vec<Client> {
    let connect = |number| Connect::new(Version::V5, &format!("tls-{round}-{number}")).encode();
    let open = |number| {
        let mut client = Client::open(address, trust, "localhost");
        client.shake_hands(&connect(number)).expect("it is let in");
        assert_eq!(client.hear(1).expect("it is let in"), [0x20]);
        client
    };
    (0..count).map(open).collect()
}
