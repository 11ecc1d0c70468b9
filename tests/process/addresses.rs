//! Limits by the address of a peer, on the running broker. Loopback is exempt, so the peers come through a proxy that names them.

use std::io::Write as _;
use std::net::{IpAddr, TcpStream};

use crate::harness::broker::{Broker, Io};
use crate::harness::packet::{Connect, Version};
use crate::harness::peer::Peer;

/// A listener behind a trusted proxy, and one for peers of this machine.
pub(crate) const LISTENERS: &str = "[[listener]]\nname = \"proxied\"\nbind = [\"127.0.0.1\"]\nport = 0\nanonymous = true\n\
    proxy_protocol = \"require\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n\
    [[listener]]\nname = \"local\"\nbind = [\"127.0.0.1\"]\nport = 0\nanonymous = true\n";

/// A connection of a peer whom a proxy names.
pub(crate) fn open_from(broker: &Broker, peer: &str, version: Version) -> Peer {
    let mut stream = TcpStream::connect(broker.addresses()[0]).expect("the broker listens");
    let address: IpAddr = peer.parse().expect("tests name good addresses");
    let (family, own) = if address.is_ipv4() { ("TCP4", "127.0.0.1") } else { ("TCP6", "::1") };
    write!(stream, "PROXY {family} {address} {own} 8080 1883\r\n").expect("the broker takes a header");
    Peer::over(stream, version)
}

/// The answer to a CONNECT of a peer whom a proxy names.
pub(crate) fn connect_from(broker: &Broker, peer: &str, connect: &Connect<'_>) -> (Peer, u8) {
    let mut client = open_from(broker, peer, connect.version);
    client.send(&connect.encode());
    let reason = client.await_connack();
    (client, reason)
}

/// Clients of different names, which live on different shards.
fn connect(broker: &Broker, peer: &str, version: Version, number: usize) -> (Peer, u8) {
    connect_from(broker, peer, &Connect::new(version, &format!("{peer} {number}")))
}

#[test]
fn an_address_has_its_connections_and_no_more() {
    for io in [Io::Uring, Io::Epoll, Io::Tokio] {
        let config = format!("connections_per_address_max = 2\nsys_interval_s = 1\n{LISTENERS}");
        let mut broker = Broker::listen(io, &config, &["--shards", "3"]);
        let kept: Vec<Peer> = [("192.0.2.1", 0), ("192.0.2.1", 1), ("2001:db8::1", 0), ("2001:db8::2", 1)]
            .into_iter()
            .map(|(peer, number)| {
                let (client, reason) = connect(&broker, peer, Version::V5, number);
                assert_eq!(reason, 0, "{peer} {number} on {io:?}");
                client
            })
            .collect();
        for (peer, version, expected) in [
            ("192.0.2.1", Version::V5, 0x9F),
            ("192.0.2.1", Version::V3_1_1, 3),
            ("2001:db8::3", Version::V5, 0x9F),
            ("192.0.2.2", Version::V5, 0),
            ("2001:db8:0:1::1", Version::V5, 0),
        ] {
            let (mut client, reason) = connect(&broker, peer, version, 9);
            assert_eq!(reason, expected, "{peer} on {io:?}");
            if reason != 0 {
                client.await_close();
            }
        }
        broker.process().wait_for(0, "line", |line| {
            line.contains("client refused client=\"192.0.2.1 9\" peer=192.0.2.1:8080 listener=proxied")
                && line.contains("by=broker reason=address_limit")
                && line.contains("connections_per_address_max")
        });
        // Loopback is not concerned.
        let local = broker.addresses()[1];
        let locals: Vec<Peer> = (0..5)
            .map(|number| Peer::connect(local, &Connect::new(Version::V5, &format!("local {number}"))))
            .collect();
        let mut watcher = Peer::connect(local, &Connect::new(Version::V5, "watcher"));
        watcher.subscribe("$SYS/broker/clients/refused/address_limit", 0);
        while watcher.next_message().text() != "3" {}
        kept.into_iter().for_each(Peer::disconnect);
        // The room is there again once the broker has seen the end.
        while connect(&broker, "192.0.2.1", Version::V5, 7).1 != 0 {}
        locals.into_iter().for_each(Peer::disconnect);
        broker.stop();
    }
}

#[test]
fn an_address_connects_at_its_rate() {
    for io in [Io::Uring, Io::Epoll, Io::Tokio] {
        // One in a hundred seconds would be too slow to be configured; five at once are.
        let config = format!("connects_per_address_rate = 5\n{LISTENERS}");
        let broker = Broker::listen(io, &config, &["--shards", "2"]);
        let mut reasons = Vec::new();
        while reasons.len() < 1_000 && !reasons.contains(&0x9F) {
            let (client, reason) = connect(&broker, "192.0.2.1", Version::V5, reasons.len());
            reasons.push(reason);
            client.vanish();
        }
        assert!(reasons.len() > 5 && reasons.ends_with(&[0x9F]), "{reasons:?} on {io:?}");
        assert_eq!(connect(&broker, "192.0.2.2", Version::V5, 0).1, 0);
        while connect(&broker, "192.0.2.1", Version::V3_1_1, 0).1 != 0 {}
        broker.stop();
    }
}
