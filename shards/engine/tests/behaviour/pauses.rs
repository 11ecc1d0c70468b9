//! Pauses of the host: a peer is not silent while bytes of it wait unread, and nothing ends that was in time.

use engine::{Admission, Limits};
use wire::{Packet, ProtocolVersion};

use crate::client::{Got, Hello};
use crate::host::run;

const PINGREQ: [u8; 2] = [0xC0, 0];

#[test]
fn a_peer_is_not_silent_while_bytes_of_it_wait_in_its_socket() {
    run(Limits::default(), |shard| {
        let [alive, silent] =
            ["alive", "silent"].map(|name| shard.connect(&Hello::v5(name).keep_alive_s(10)));
        shard.arrive_unread(alive, &PINGREQ);
        shard.advance_ms(15_001);
        assert_eq!(shard.ended(silent), Some(0x8D));
        assert!(!shard.is_closed(alive));
        shard.read(alive);
        assert_eq!(shard.take(alive), [Got::PingResp]);
        shard.advance_ms(15_001);
        assert_eq!(shard.ended(alive), Some(0x8D), "it is silent from then on");
    });
}

#[test]
fn a_connect_that_waits_unread_at_the_end_of_its_time_gets_one_more_second() {
    run(Limits::default(), |shard| {
        let client = shard.open(ProtocolVersion::V5, Admission::Serve);
        shard.arrive_unread(client, &[0x10]);
        shard.advance_ms(10_999);
        assert!(!shard.is_closed(client));
        shard.advance_ms(1);
        assert!(shard.is_closed(client), "a peer that sends byte by byte is not waited for again");
    });
}

/// The client is back in time, as far as it can tell: its CONNECT waits in the socket.
#[test]
fn neither_will_nor_session_ends_before_the_host_has_caught_up() {
    run(Limits::default(), |shard| {
        let watcher = shard.connect(&Hello::v5("watcher"));
        shard.subscribe(watcher, "will", 0);
        let hello = Hello::v5("client").resume().expiry_s(10).will("will", "gone", 5);
        let client = shard.connect(&hello);
        shard.hang_up(client);
        shard.ticks = false;
        shard.pass_ms(20_000);
        shard.ticks = true;
        shard.pause(false);
        assert_eq!(shard.messages(watcher), []);
        let client = shard.connect(&hello);
        shard.catch_up();
        assert_eq!(shard.messages(watcher), []);
        assert_eq!(shard.engine.session_count(), 2);
        // A pause delays such an end and does not prevent it.
        shard.hang_up(client);
        shard.advance_ms(10_000);
        assert_eq!(shard.texts(watcher), ["gone"]);
        assert_eq!(shard.engine.session_count(), 1);
    });
}

/// Its packet is longer than the buffers of its socket, so its own silence was ours.
#[test]
fn a_part_of_a_packet_is_a_sign_of_life_while_the_host_catches_up() {
    run(Limits::default(), |shard| {
        let [slow, silent] = ["slow", "silent"].map(|name| shard.connect(&Hello::v5(name).keep_alive_s(10)));
        shard.ticks = false;
        shard.pass_ms(20_000);
        shard.ticks = true;
        shard.pause(false);
        shard.send_bytes(slow, &[0x30, 50, 0, 1]);
        assert!(!shard.is_closed(silent), "nothing is judged before the host has caught up");
        shard.catch_up();
        assert_eq!(shard.ended(silent), Some(0x8D));
        assert!(!shard.is_closed(slow));
        shard.advance_ms(15_001);
        assert_eq!(shard.ended(slow), Some(0x8D));
    });
}

#[test]
fn the_silence_of_every_peer_begins_anew_after_a_suspension() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("a").keep_alive_s(10));
        shard.ticks = false;
        shard.pass_ms(3_600_000);
        shard.ticks = true;
        shard.pause(true);
        shard.catch_up();
        shard.advance_ms(15_000);
        assert!(!shard.is_closed(client));
        shard.send(client, &Packet::PingReq);
        shard.advance_ms(15_000);
        assert!(!shard.is_closed(client));
        shard.advance_ms(1);
        assert_eq!(shard.ended(client), Some(0x8D));
    });
}
