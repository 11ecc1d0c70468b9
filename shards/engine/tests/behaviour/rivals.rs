//! Two connections with one client identifier: the one that was accepted later stays.

use engine::{Admission, Limits};
use wire::{Packet, ProtocolVersion};

use crate::client::{Got, Hello};
use crate::host::run;

#[test]
fn the_connection_that_was_accepted_later_stays_whichever_connect_comes_first() {
    for hello in [Hello::v3("a"), Hello::v5("a")] {
        run(Limits::default(), |shard| {
            let [older, newer] = [0; 2].map(|_| shard.open(hello.connect.version, Admission::Serve));
            for client in [newer, older] {
                shard.send(client, &Packet::Connect(hello.connect));
            }
            assert!(matches!(shard.next(newer), Some(Got::ConnAck { reason: 0, .. })));
            assert!(matches!(shard.next(older), Some(Got::ConnAck { reason: 0x88, .. })));
            assert!(shard.is_closed(older));
            shard.send(newer, &Packet::PingReq);
            assert_eq!(shard.take(newer), [Got::PingResp]);
            // A third one takes it over, as ever.
            let third = shard.connect(&hello);
            assert!(shard.is_closed(newer) && !shard.is_closed(third));
        });
    }
}

/// The host receives once from the old connection before a CONNECT that came from another shard takes it over.
#[test]
fn a_connect_names_the_connection_that_it_takes_over() {
    run(Limits::default(), |shard| {
        let mut connect = Vec::new();
        Packet::Connect(Hello::v5("a").connect).encode(ProtocolVersion::V5, &mut connect);
        let newer = shard.open(ProtocolVersion::V5, Admission::Serve);
        let newer = shard.id(newer);
        assert_eq!(shard.engine.rival(newer, &connect), None);
        let client = shard.connect(&Hello::v5("a"));
        assert_eq!(shard.engine.rival(newer, &connect), Some(shard.id(client)));
        for bytes in [&connect[..connect.len() - 1], &[0x10], &[0xC0, 0], &[]] {
            assert_eq!(shard.engine.rival(newer, bytes), None, "{bytes:?}");
        }
        connect.extend([0xC0, 0]);
        assert_eq!(shard.engine.rival(newer, &connect), Some(shard.id(client)), "bytes follow the CONNECT");
    });
}
