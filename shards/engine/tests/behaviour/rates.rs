//! The rates at which clients publish: a client that exceeds them is paused until it may go on, or closed.

use engine::{
    Admission, CauseGroup, Event, Limits, ListenerLimits, MemoryKind, OnRate, Rates, UserGrant, Verdict,
};
use wire::{Packet, ProtocolVersion, ReasonCode};

use crate::client::{Client, Got, Hello, publish};
use crate::host::{Shard, run};
use crate::judging::judge;

/// The listener of these tests whose clients have rates; 0 has none.
const LIMITED: u16 = 1;

fn limits(messages: u32, bytes: u32, on_rate: OnRate) -> Limits {
    let rates = Some(Rates { messages, bytes, burst_s: 2, on_rate });
    let listeners = vec![ListenerLimits::default(), ListenerLimits { rates, ..ListenerLimits::default() }];
    Limits { listeners, ..Limits::default() }
}

fn connect(shard: &mut Shard, hello: &Hello<'_>) -> Client {
    let client = shard.dial_on(LIMITED, hello);
    assert!(matches!(shard.next(client), Some(Got::ConnAck { reason: 0, .. })));
    client
}

/// Sends so many messages in one piece, and a PINGREQ behind them.
fn send_many(shard: &mut Shard, client: Client, count: usize) {
    let mut bytes = Vec::new();
    for _ in 0..count {
        Packet::Publish(publish("t", b"x", 0, 0)).encode(client.version, &mut bytes);
    }
    bytes.extend_from_slice(&[0xC0, 0]);
    shard.send_bytes(client, &bytes);
}

#[test]
fn a_burst_passes_and_the_rest_comes_at_the_rate() {
    for (messages, bytes) in [(5, 0), (0, 30), (5, 1_000_000)] {
        run(limits(messages, bytes, OnRate::Pause), |shard| {
            let watcher = shard.connect(&Hello::v5("watcher"));
            shard.subscribe(watcher, "t", 0);
            // Each takes six bytes.
            let client = connect(shard, &Hello::v3("a"));
            let read = |shard: &mut Shard| shard.texts(watcher).len();
            send_many(shard, client, 20);
            assert_eq!((read(shard), shard.unconsumed_bytes(client)), (10, 62));
            assert_eq!(shard.next(client), None, "PINGREQ waits behind the messages");
            // A message may come with the first of its bytes, and the others are paid afterwards.
            let early = usize::from(bytes == 30);
            let mut passed = 0;
            for at in 1..=10 {
                shard.advance_ms(199);
                passed += read(shard);
                assert_eq!(passed, at - 1 + early);
                shard.advance_ms(1);
                passed += read(shard);
                assert_eq!(passed, at);
            }
            assert_eq!(shard.next(client), Some(Got::PingResp));
            assert_eq!(shard.engine.counters().rate_pauses, 10);
            // After a rest, a burst passes again.
            shard.advance_ms(60_000);
            send_many(shard, client, 10);
            assert_eq!(read(shard), 10);
        });
    }
}

#[test]
fn a_client_without_rates_and_packets_that_are_no_publish_are_not_paused() {
    run(limits(1, 1, OnRate::Pause), |shard| {
        let free = shard.connect(&Hello::v5("free"));
        send_many(shard, free, 1_000);
        assert_eq!(shard.unconsumed_bytes(free), 0);
        let client = connect(shard, &Hello::v5("a"));
        for number in 0..50 {
            shard.subscribe(client, &format!("filter/{number}"), 0);
            shard.send_bytes(client, &[0xC0, 0]);
        }
        assert_eq!(shard.unconsumed_bytes(client), 0);
        assert_eq!(shard.engine.counters().rate_pauses, 0);
    });
}

#[test]
fn a_client_that_may_not_exceed_its_rates_is_closed() {
    for (hello, reason) in [(Hello::v5("a"), Some(0x96)), (Hello::v3("a"), None)] {
        run(limits(5, 0, OnRate::Disconnect), |shard| {
            let client = connect(shard, &hello);
            send_many(shard, client, 10);
            assert!(!shard.is_closed(client));
            send_many(shard, client, 1);
            assert_eq!(shard.ended(client), reason);
            let counters = shard.engine.counters();
            assert_eq!((counters.messages_received, counters.rate_pauses), (10, 0));
            assert_eq!(counters.closed[CauseGroup::Rate.index()], 1);
        });
    }
}

/// The keep alive of a client that waits for its rate is its own PINGREQ, which waits as well.
#[test]
fn a_client_that_is_paused_is_not_silent() {
    run(limits(1, 0, OnRate::Pause), |shard| {
        let client = connect(shard, &Hello::v5("a").keep_alive_s(2));
        send_many(shard, client, 100);
        shard.advance_ms(97_999);
        assert!(!shard.is_closed(client));
        assert_eq!(shard.engine.counters().messages_received, 99);
        shard.advance_ms(2);
        assert_eq!(shard.next(client), Some(Got::PingResp));
        // From now on it is.
        shard.advance_ms(3_002);
        assert_eq!(shard.ended(client), Some(ReasonCode::KeepAliveTimeout.code()));
    });
}

#[test]
fn a_packet_is_charged_once_however_it_is_cut_and_once_it_is_long_it_is_paid_afterwards() {
    run(limits(0, 100, OnRate::Pause), |shard| {
        let client = connect(shard, &Hello::v3("a"));
        let mut bytes = Vec::new();
        Packet::Publish(publish("t", &[b'x'; 1_193], 0, 0)).encode(client.version, &mut bytes);
        assert_eq!(bytes.len(), 1_199);
        for byte in bytes {
            shard.send_bytes(client, &[byte]);
        }
        assert_eq!((shard.engine.counters().messages_received, shard.unconsumed_bytes(client)), (1, 0));
        send_many(shard, client, 1);
        // The burst of 200 bytes is used, 999 are owed, and a whole one has to be there.
        shard.advance_ms(9_999);
        assert_eq!(shard.engine.counters().messages_received, 1);
        shard.advance_ms(1);
        assert_eq!(shard.engine.counters().messages_received, 2);
    });
}

#[test]
fn a_packet_that_waits_for_the_next_step_is_charged_once() {
    // Each step takes one packet and lets others go first.
    let limits = Limits { step_work_max: 1, ..limits(10, 0, OnRate::Disconnect) };
    run(limits, |shard| {
        let client = connect(shard, &Hello::v5("a"));
        send_many(shard, client, 20);
        assert!(!shard.is_closed(client));
        assert_eq!(shard.engine.counters().messages_received, 20);
    });
}

/// Each new connection began with a whole burst, so a client that connected again and again had no rate.
#[test]
fn a_client_that_comes_again_goes_on_where_it_stopped() {
    run(limits(1, 0, OnRate::Pause), |shard| {
        let received = |shard: &Shard| shard.engine.counters().messages_received;
        let first = connect(shard, &Hello::v5("a"));
        send_many(shard, first, 10);
        assert_eq!(received(shard), 2);
        // Whether it takes its own place, or was gone.
        let second = connect(shard, &Hello::v5("a"));
        assert_eq!(shard.ended(first), Some(ReasonCode::SessionTakenOver.code()));
        send_many(shard, second, 10);
        assert_eq!(received(shard), 2);
        shard.hang_up(second);
        shard.advance_ms(1_000);
        let third = connect(shard, &Hello::v5("a"));
        send_many(shard, third, 10);
        assert_eq!(received(shard), 3);
        // Others have a burst of their own, and so has who was away for long.
        let other = connect(shard, &Hello::v5("b"));
        send_many(shard, other, 10);
        assert_eq!(received(shard), 5);
        shard.hang_up(third);
        shard.hang_up(other);
        shard.advance_ms(2_000);
        let fourth = connect(shard, &Hello::v5("a"));
        send_many(shard, fourth, 10);
        assert_eq!(received(shard), 7);
    });
}

/// It kept its slot and its will until everything that it had sent was read at its rate.
#[test]
fn a_peer_that_leaves_while_its_rate_pauses_it_is_noticed_and_pays_afterwards() {
    run(limits(1, 0, OnRate::Pause), |shard| {
        let client = connect(shard, &Hello::v5("a"));
        send_many(shard, client, 50);
        assert_eq!(shard.engine.counters().messages_received, 2);
        let before = shard.peek_count;
        shard.advance_ms(3_500);
        assert!(
            (3..=5).contains(&(shard.peek_count - before)),
            "once a second: {}",
            shard.peek_count - before
        );
        assert_eq!(shard.engine.counters().messages_received, 5);
        let connection = shard.id(client);
        shard.raw_step(Event::HungUp { connection });
        shard.settle();
        assert_eq!((shard.engine.counters().messages_received, shard.unconsumed_bytes(client)), (50, 0));
        assert_eq!(shard.next(client), Some(Got::PingResp), "what it sent is taken in its order");
        shard.hang_up(client);
        let client = connect(shard, &Hello::v5("a"));
        send_many(shard, client, 1);
        shard.advance_ms(45_000);
        assert_eq!(shard.engine.counters().messages_received, 50);
        shard.advance_ms(2_000);
        assert_eq!(shard.engine.counters().messages_received, 51);
        // A long packet pauses once, and its peer is looked at all the while.
        let before = shard.peek_count;
        send_many(shard, client, 1);
        shard.advance_ms(900);
        shard.raw_step(Event::HungUp { connection: shard.id(client) });
        shard.settle();
        assert!(shard.peek_count - before <= 2);
    });
}

/// Everything was taken that a client had sent before it left, so one that came and left again and again had no rate.
#[test]
fn a_client_that_leaves_is_closed_where_it_owes_more_than_a_minute() {
    run(limits(1, 0, OnRate::Pause), |shard| {
        for expected in [62, 62] {
            let client = connect(shard, &Hello::v5("a"));
            send_many(shard, client, 1_000);
            let connection = shard.id(client);
            shard.raw_step(Event::HungUp { connection });
            shard.settle();
            let counters = shard.engine.counters();
            assert_eq!(counters.messages_received, expected);
            assert!(counters.closed[CauseGroup::Rate.index()] > 0);
            shard.hang_up(client);
            let _audit = shard.engine.audit();
        }
    });
}

#[test]
fn meters_are_counted_and_go_with_their_connections() {
    run(limits(1, 0, OnRate::Pause), |shard| {
        let held = |shard: &Shard| shard.engine.memory_use().of_kind(MemoryKind::Connections);
        let before = held(shard);
        for _ in 0..2 {
            let clients: Vec<_> =
                (0..64).map(|number| connect(shard, &Hello::v5(&format!("{number}")))).collect();
            for &client in &clients {
                send_many(shard, client, 10);
            }
            assert!(held(shard) > before);
            let _audit = shard.engine.audit();
            for client in clients {
                shard.hang_up(client);
            }
            let _audit = shard.engine.audit();
        }
    });
}

/// Connects as a client with this address, if it has one.
fn connect_from(shard: &mut Shard, address: Option<u64>, client_id: &str) -> Client {
    let hello = Hello::v5(client_id);
    let client = shard.open_on(LIMITED, hello.connect.version, Admission::Serve);
    if let Some(address) = address {
        shard.engine.set_address(shard.id(client), address);
    }
    shard.send(client, &Packet::Connect(hello.connect));
    assert!(matches!(shard.next(client), Some(Got::ConnAck { reason: 0, .. })));
    client
}

/// Each identifier began with a whole burst, so a client that invented identifiers had no rate.
#[test]
fn an_address_has_no_more_bursts_than_connections_at_once_whatever_identifiers_it_invents() {
    run(limits(1, 0, OnRate::Pause), |shard| {
        let received = |shard: &Shard| shard.engine.counters().messages_received;
        for number in 0..20 {
            let client = connect_from(shard, Some(7), &format!("invented-{number}"));
            send_many(shard, client, 10);
            assert_eq!(received(shard), 2);
            shard.hang_up(client);
        }
        // Another address, and a client that has none.
        for (address, expected) in [(Some(8), 4), (None, 6), (None, 8)] {
            let client = connect_from(shard, address, &format!("other-{expected}"));
            send_many(shard, client, 10);
            assert_eq!(received(shard), expected);
            shard.hang_up(client);
        }
        // Two at once have two bursts, and leave two.
        shard.advance_ms(60_000);
        for round in 0..5 {
            let both = [0, 1].map(|number| connect_from(shard, Some(7), &format!("{round}-{number}")));
            for client in both {
                send_many(shard, client, 10);
                shard.hang_up(client);
            }
            assert_eq!(received(shard), 12);
            let _audit = shard.engine.audit();
        }
        // A client that left buckets goes on with these, wherever it comes from.
        let client = connect_from(shard, Some(9), "4-0");
        send_many(shard, client, 10);
        assert_eq!(received(shard), 12);
    });
}

#[test]
fn a_user_has_no_more_bursts_than_connections_at_once_wherever_it_connects() {
    let mut limits = limits(1, 0, OnRate::Pause);
    limits.listeners[usize::from(LIMITED)].judged = true;
    run(limits, |shard| {
        for (number, user, expected) in
            [(0, "ann", 2), (1, "ann", 2), (2, "bob", 4), (3, "ann", 4), (4, "bob", 4)]
        {
            let client_id = format!("invented-{number}");
            let hello = Hello::v5(&client_id);
            let client = shard.open_on(LIMITED, hello.connect.version, Admission::Serve);
            shard.engine.set_address(shard.id(client), number);
            shard.send(client, &Packet::Connect(hello.connect));
            let _audit = shard.engine.audit();
            let grant = UserGrant { user: Some(user), ..UserGrant::NOBODY };
            judge(shard, Verdict::Success { data: b"", grant: &grant });
            assert!(matches!(shard.next(client), Some(Got::ConnAck { reason: 0, .. })));
            send_many(shard, client, 10);
            assert_eq!(shard.engine.counters().messages_received, expected);
            shard.hang_up(client);
        }
    });
}

/// A client that keeps to its rate may not be closed because of its neighbour.
#[test]
fn a_client_waits_for_the_buckets_of_another_and_is_not_closed_for_them() {
    run(limits(1, 0, OnRate::Disconnect), |shard| {
        let hasty = connect_from(shard, Some(7), "hasty");
        send_many(shard, hasty, 3);
        assert_eq!(shard.ended(hasty), Some(0x96));
        shard.hang_up(hasty);
        let calm = connect_from(shard, Some(7), "calm");
        send_many(shard, calm, 1);
        assert_eq!((shard.engine.counters().messages_received, shard.is_closed(calm)), (2, false));
        shard.advance_ms(1_000);
        assert_eq!(shard.engine.counters().messages_received, 3);
        // From now on the buckets are its own.
        send_many(shard, calm, 1);
        assert_eq!(shard.ended(calm), Some(0x96));
    });
}

#[test]
fn the_address_of_a_client_that_never_connects_is_forgotten() {
    run(limits(1, 0, OnRate::Pause), |shard| {
        let held = |shard: &Shard| shard.engine.memory_use().of_kind(MemoryKind::Connections);
        let open = |shard: &mut Shard, listener| {
            let client = shard.open_on(listener, ProtocolVersion::V5, Admission::Serve);
            shard.engine.set_address(shard.id(client), 7);
            let _audit = shard.engine.audit();
            client
        };
        for listener in [LIMITED, 0] {
            let client = open(shard, listener);
            shard.hang_up(client);
        }
        let before = held(shard);
        let client = open(shard, LIMITED);
        assert!(held(shard) > before);
        shard.hang_up(client);
        assert_eq!(held(shard), before);
    });
}
