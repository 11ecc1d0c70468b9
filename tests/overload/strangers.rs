//! Peers that make the broker hold bytes before it knows them, or in topic aliases.

use std::net::SocketAddr;

use crate::Scale;
use crate::figure::Figure;
use crate::harness::broker::{Broker, Setup};
use crate::harness::machine::raise_descriptor_limit;
use crate::harness::packet::{Connect, Properties, Publish, Version, variable_byte_integer};
use crate::harness::peer::Peer;
use crate::meter::{mib, resident_bytes};

/// The bytes of an unfinished CONNECT of `packet_bytes`.
fn unfinished_connect(packet_bytes: u32, sent_bytes: usize) -> Vec<u8> {
    let mut bytes = vec![0x10];
    variable_byte_integer(packet_bytes, &mut bytes);
    bytes.extend_from_slice(b"\x00\x04MQTT\x05\x02\x00\x3c");
    bytes.resize(sent_bytes, b'x');
    bytes
}

fn send_unfinished(address: SocketAddr, count: usize, bytes: &[u8]) -> Vec<Peer> {
    let peers = (0..count).map(|_| {
        let mut peer = Peer::open(address, Version::V5);
        peer.send_ignoring_errors(bytes);
        peer
    });
    peers.collect()
}

/// Unknown peers send CONNECTs of 2 MB and of the longest length that is accepted, and never finish them.
pub(crate) fn unfinished_connects(scale: Scale) -> Vec<Figure> {
    raise_descriptor_limit();
    let flags = ["--shards", "2", "--stats-interval", "0", "--connect-timeout-s", "600"];
    let mut broker = Broker::start_with(&Setup { flags: &flags, ..Setup::default() });
    let (process, address) = (broker.process().id(), broker.address());
    let growth_since = |before: u64| mib(resident_bytes(process).saturating_sub(before));

    let idle_bytes = resident_bytes(process);
    let long = send_unfinished(address, 40, &unfinished_connect(2_000_000, 1_990_000));
    Peer::connect(address, &Connect::new(Version::V5, "after-long")).ping();
    let long_mib = growth_since(idle_bytes);
    drop(long);

    let idle_bytes = resident_bytes(process);
    let count = scale.pick(1_000, 5_000);
    let accepted = send_unfinished(address, count, &unfinished_connect(99_000, 98_000));
    let mut client = Peer::connect(address, &Connect::new(Version::V5, "after-accepted"));
    client.ping();
    let accepted_mib = growth_since(idle_bytes);
    drop(accepted);
    vec![
        Figure::at_most("growth by 40 unfinished CONNECTs of 2 MB", long_mib, "MiB", 4.0),
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        Figure::told("unfinished CONNECTs of 99 KB", count as f64, ""),
        Figure::at_most("growth by them: 64 MiB, their connections and a quarter", accepted_mib, "MiB", 90.0),
    ]
}

/// Clients set 64 aliases with topics of almost 64 KiB.
pub(crate) fn aliases(scale: Scale) -> Vec<Figure> {
    raise_descriptor_limit();
    let flags = ["--shards", "2", "--stats-interval", "0"];
    let mut broker = Broker::start_with(&Setup { flags: &flags, ..Setup::default() });
    let (process, address) = (broker.process().id(), broker.address());
    let count = scale.pick(250, 1_000);
    let mut clients: Vec<Peer> = (0..count)
        .map(|number| Peer::connect(address, &Connect::new(Version::V5, &format!("client-{number}"))))
        .collect();
    let idle_bytes = resident_bytes(process);
    let topic = "t".repeat(65_000);
    let set = |alias: u16| {
        Publish::new(&topic, 0, b"").with(Properties::new().two(0x23, alias)).encode(Version::V5)
    };
    for client in &mut clients {
        client.send(&set(1));
        client.ping();
    }
    let one_mib = mib(resident_bytes(process).saturating_sub(idle_bytes));
    let more: Vec<u8> = (2..=64).flat_map(set).collect();
    let mut reasons = Vec::new();
    for client in &mut clients {
        client.send_ignoring_errors(&more);
        reasons.push(client.await_close());
    }
    let all_mib = mib(resident_bytes(process).saturating_sub(idle_bytes));
    let refused = reasons.iter().filter(|&&reason| reason == Some(0x97)).count();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let (count, refused) = (f64::from(count), refused as f64);
    vec![
        Figure::told("clients with an alias of 65,000 bytes each", count, ""),
        Figure::at_most("growth for each of them", one_mib * 1_024.0 / count, "KiB", 80.0),
        Figure::at_least("clients that set 64 and were told 0x97", refused / count, "", 1.0),
        Figure::at_most("growth by 64 aliases for each client", all_mib * 1_024.0 / count, "KiB", 80.0),
    ]
}
