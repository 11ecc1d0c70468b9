//! Bytes of peers that are not known yet: the longest CONNECT, and the bound that all unfinished ones share.

use engine::{Admission, CauseGroup, Limits, MemoryKind};
use wire::{Auth, AuthProperties, Packet, ProtocolVersion, ReasonCode};

use crate::client::{Client, Got, Hello};
use crate::host::{Shard, run};

const V3: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;

/// The fixed header of a CONNECT of `packet_bytes`, and what all of one version begin with.
fn long_connect(version: ProtocolVersion, packet_bytes: u32) -> Vec<u8> {
    assert!((16_388..2_097_156).contains(&packet_bytes), "its length takes three bytes");
    let length = packet_bytes - 4;
    let byte = |shift: u32| u8::try_from((length >> shift) & 0x7F).expect("seven bits");
    let mut bytes = vec![0x10, byte(0) | 0x80, byte(7) | 0x80, byte(14)];
    bytes.extend_from_slice(b"\x00\x04MQTT");
    bytes.push(version.level());
    bytes
}

/// A connection that has sent the first `bytes` bytes of a CONNECT.
fn unfinished(shard: &mut Shard, bytes: usize) -> Client {
    let client = shard.open(V3, Admission::Serve);
    let mut packet = long_connect(V3, 60_000);
    packet.resize(bytes, b'x');
    shard.send_bytes(client, &packet);
    client
}

#[test]
fn a_connect_longer_than_the_bound_is_refused_by_its_fixed_header() {
    run(Limits::default(), |shard| {
        for (version, bytes, answer) in
            [(V5, 100_001, Some(0x95)), (V3, 100_001, None), (V5, 2_000_000, Some(0x95))]
        {
            let client = shard.open(version, Admission::Serve);
            shard.send_bytes(client, &long_connect(version, bytes));
            assert!(shard.is_closed(client), "{bytes}");
            let reason = shard.next(client).map(|got| match got {
                Got::ConnAck { reason, .. } => reason,
                other => panic!("no CONNACK but {other:?}"),
            });
            assert_eq!(reason, answer);
        }
        assert_eq!(shard.engine.counters().refused[CauseGroup::ConnectTooLong.index()], 3);
        let client = shard.open(V5, Admission::Serve);
        shard.send_bytes(client, &long_connect(V5, 100_000));
        assert!(!shard.is_closed(client));
        // The version is not known while only the header has come.
        let client = shard.open(V5, Admission::Serve);
        shard.send_bytes(client, &long_connect(V5, 100_001)[..4]);
        assert!(shard.is_closed(client) && shard.next(client).is_none());
    });
}

#[test]
fn a_client_that_is_known_may_send_longer_packets_than_its_connect() {
    run(Limits { connect_bytes_max: 1_024, ..Limits::default() }, |shard| {
        let client = shard.connect(&Hello::v5("a"));
        shard.subscribe(client, "t", 0);
        assert_eq!(shard.publish(client, "t", &[b'x'; 5_000], 1), 0);
        let long = "c".repeat(1_024);
        let refused = shard.dial(&Hello::v5(&long));
        assert!(matches!(shard.next(refused), Some(Got::ConnAck { reason: 0x95, .. })));
    });
}

#[test]
fn past_the_common_bound_the_peer_that_holds_most_is_closed_and_of_equals_the_oldest() {
    run(Limits { unjudged_bytes_max: 100_000, ..Limits::default() }, |shard| {
        let small = unfinished(shard, 10_000);
        let oldest = unfinished(shard, 40_000);
        let younger = unfinished(shard, 40_000);
        assert_eq!(shard.engine.counters().refused[CauseGroup::UnjudgedBytes.index()], 0);
        let last = unfinished(shard, 20_000);
        assert!(shard.is_closed(oldest) && shard.next(oldest).is_none());
        let others = [small, younger, last];
        assert!(others.iter().all(|&client| !shard.is_closed(client)));
        assert_eq!(shard.engine.counters().refused[CauseGroup::UnjudgedBytes.index()], 1);
        // The one that grows past it holds most itself.
        shard.send_bytes(last, &vec![b'x'; 38_000]);
        assert!(shard.is_closed(last) && !shard.is_closed(younger) && !shard.is_closed(small));
        // A client that is let in gives its bytes free.
        shard.hang_up(younger);
        let held = shard.engine.memory_use().of_kind(MemoryKind::PartialPackets);
        assert!((9_000..=20_000).contains(&held), "{held}");
        shard.connect(&Hello::v3("known"));
    });
}

#[test]
fn any_number_of_unfinished_connects_holds_no_more_than_the_common_bound() {
    run(Limits { unjudged_bytes_max: 1_000_000, ..Limits::default() }, |shard| {
        for _ in 0..200 {
            unfinished(shard, 50_000);
            assert!(shard.engine.memory_use().of_kind(MemoryKind::PartialPackets) <= 1_000_000);
        }
        assert!((170..200).contains(&shard.engine.counters().refused[CauseGroup::UnjudgedBytes.index()]));
        // A small CONNECT that comes in two parts passes all of them.
        let client = shard.open(V3, Admission::Serve);
        let mut connect = Vec::new();
        Packet::Connect(Hello::v3("a").connect).encode(V3, &mut connect);
        shard.send_bytes(client, &connect[..8]);
        shard.send_bytes(client, &connect[8..]);
        assert!(matches!(shard.next(client), Some(Got::ConnAck { reason: 0, .. })));
    });
}

#[test]
fn an_exchange_of_authentication_counts_until_its_verdict_and_is_told_why_it_ends() {
    let limits = Limits {
        authentication_methods: vec!["m".into()],
        unjudged_bytes_max: 10_000,
        connect_bytes_max: 60_000,
        ..Limits::default()
    };
    run(limits, |shard| {
        let will = "w".repeat(6_000);
        let waiting = shard.dial(&Hello::v5("a").will("will", &will, 0).method("m", b"data"));
        unfinished(shard, 3_000);
        assert!(!shard.is_closed(waiting));
        unfinished(shard, 3_000);
        assert!(shard.is_closed(waiting));
        assert!(matches!(shard.next(waiting), Some(Got::ConnAck { reason: 0x97, .. })));
        // AUTH has the bound of CONNECT.
        let client = shard.dial(&Hello::v5("b").method("m", b"data"));
        let data = vec![0; 60_000];
        let properties = AuthProperties { authentication_data: Some(&data), ..AuthProperties::default() };
        let reason = ReasonCode::ContinueAuthentication;
        shard.send(client, &Packet::Auth(Auth { reason, properties }));
        assert!(matches!(shard.next(client), Some(Got::ConnAck { reason: 0x95, .. })));
        assert_eq!(shard.engine.counters().refused[CauseGroup::ConnectTooLong.index()], 1);
    });
}
