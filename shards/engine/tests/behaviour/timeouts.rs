//! Time-outs: of CONNECT, of the keep alive, and of the last bytes of a connection.

use engine::{Admission, Limits};
use wire::{Packet, ProtocolVersion};

use crate::client::{Got, Hello, publish};
use crate::host::{Drain, run};

#[test]
fn a_connection_without_connect_is_closed_after_the_connect_time_out() {
    run(Limits::default(), |shard| {
        let client = shard.open(ProtocolVersion::V5, Admission::Serve);
        shard.send_bytes(client, &[0x10]);
        shard.advance_ms(9_999);
        assert!(!shard.is_closed(client));
        shard.advance_ms(1);
        assert!(shard.is_closed(client));
        assert_eq!(shard.next(client), None);
    });
}

#[test]
fn mqtt_3_1_2_22_one_and_a_half_keep_alives_of_silence_end_a_connection() {
    for (hello, reason) in [(Hello::v3("a"), None), (Hello::v5("a"), Some(0x8D))] {
        run(Limits::default(), |shard| {
            let client = shard.connect(&hello.keep_alive_s(10));
            for _ in 0..5 {
                shard.advance_ms(15_000);
                shard.send(client, &Packet::PingReq);
                assert_eq!(shard.take(client), [Got::PingResp]);
            }
            // A partial packet does not count as a packet.
            shard.advance_ms(14_000);
            shard.send_bytes(client, &[0x30, 5, 0]);
            shard.advance_ms(1_000);
            assert!(!shard.is_closed(client), "the packet may have come at the end of its millisecond");
            shard.advance_ms(1);
            assert_eq!(shard.ended(client), reason);
        });
    }
}

/// One tick ends a bounded number of sessions; the rest is due again at once.
#[test]
fn sessions_that_expire_together_end_in_steps_of_bounded_length() {
    run(Limits::default(), |shard| {
        for number in 0..600 {
            let client = shard.connect(&Hello::v5(&number.to_string()).expiry_s(10));
            shard.hang_up(client);
        }
        shard.ticks = false;
        shard.pass_ms(10_000);
        let mut left = 600;
        while left > 0 {
            assert!(shard.engine.next_deadline().is_some_and(|due| due <= shard.now()));
            shard.tick();
            let before = core::mem::replace(&mut left, shard.engine.session_count());
            assert!(before - left <= 256 && before > left, "{before} to {left}");
        }
        shard.ticks = true;
    });
}

#[test]
fn a_keep_alive_of_zero_never_ends_a_connection() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        shard.advance_ms(100_000_000);
        assert!(!shard.is_closed(client));
        assert_eq!(shard.engine.audit().timers, 0);
    });
}

#[test]
fn the_server_s_keep_alive_is_the_one_in_force() {
    run(Limits { keep_alive_s_max: 20, ..Limits::default() }, |shard| {
        let new = shard.connect(&Hello::v5("new").keep_alive_s(100));
        // 3.1.1 has no Server Keep Alive, so the client's own interval applies.
        let old = shard.connect(&Hello::v3("old").keep_alive_s(100));
        shard.advance_ms(30_001);
        assert_eq!(shard.ended(new), Some(0x8D));
        shard.advance_ms(119_999);
        assert!(!shard.is_closed(old));
        shard.advance_ms(1);
        assert!(shard.is_closed(old));
    });
}

#[test]
fn a_connection_that_the_broker_does_not_read_is_not_silent() {
    let limits = Limits { receive_maximum: 1, ..Limits::default() };
    run(limits, |shard| {
        let client = shard.connect(&Hello::v3("a").keep_alive_s(10));
        shard.durable_at_once = false;
        for id in 1..=3 {
            shard.send(client, &Packet::Publish(wire::Publish { retain: true, ..publish("t", b"x", 1, id) }));
        }
        // Only a part of the next packet is sent, so no packet is read later.
        shard.send_bytes(client, &[0x30, 50]);
        assert!(shard.unconsumed_bytes(client) > 0);
        shard.advance_ms(104_000);
        assert!(!shard.is_closed(client));
        shard.durable_at_once = true;
        shard.durable();
        assert_eq!(shard.unconsumed_bytes(client), 0);
        shard.advance_ms(15_000);
        assert!(!shard.is_closed(client), "its own silence began when it was read again");
        shard.advance_ms(1);
        assert!(shard.is_closed(client));
    });
}

#[test]
fn a_client_whose_connack_waits_is_not_silent() {
    run(Limits::default(), |shard| {
        let hello = Hello::v5("a").expiry_s(100).keep_alive_s(10);
        let client = shard.connect(&hello);
        shard.hang_up(client);
        shard.durable_at_once = false;
        let client = shard.dial(&hello);
        shard.advance_ms(60_000);
        assert!(!shard.is_closed(client));
        shard.durable();
        assert!(matches!(shard.next(client), Some(Got::ConnAck { reason: 0, .. })));
        shard.advance_ms(15_001);
        assert_eq!(shard.ended(client), Some(0x8D));
    });
}

#[test]
fn last_bytes_that_nobody_takes_are_given_up() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a"));
        shard.drain(client, Drain::STALLED);
        shard.send_bytes(client, &[0x00, 0x00]);
        assert_eq!(shard.engine.session_count(), 0, "its session is let go at once");
        shard.advance_ms(4_999);
        assert!(!shard.is_closed(client));
        shard.advance_ms(1);
        assert!(shard.is_closed(client));
        assert_eq!(shard.engine.audit().outbox_bytes, 0);
    });
}

#[test]
fn nothing_is_due_when_nobody_waits() {
    run(Limits::default(), |shard| {
        assert_eq!(shard.engine.next_deadline(), None);
        let client = shard.connect(&Hello::v3("a"));
        assert_eq!(shard.engine.next_deadline(), None);
        shard.hang_up(client);
        assert_eq!(shard.engine.next_deadline(), None);
    });
}
