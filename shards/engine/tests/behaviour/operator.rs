//! The operator closes a client: the DISCONNECT that it is sent, its will, and its session afterwards.

use engine::{Event, Limits, LiveLimits, QueueFull};
use wire::Packet;

use crate::client::{Got, Hello, publish};
use crate::host::{Drain, Shard, run};

/// Closes the connection of a client identifier; `false` if it has none.
fn close(shard: &mut Shard, client_id: &str) -> bool {
    let Some(connection) = shard.engine.connection_of(client_id) else { return false };
    shard.raw_step(Event::Disconnect { connection });
    true
}

#[test]
fn only_5_0_is_sent_disconnect_and_both_are_closed_with_their_will() {
    for (hello, reason) in [(Hello::v5("a"), Some(0x98)), (Hello::v3("a"), None)] {
        run(Limits::default(), |shard| {
            let watcher = shard.connect(&Hello::v5("watcher"));
            shard.subscribe(watcher, "will/#", 1);
            let client = shard.connect(&hello.will("will/a", "gone", 0));
            assert!(close(shard, "a"));
            assert_eq!(shard.ended(client), reason);
            assert_eq!(shard.texts(watcher), ["gone"]);
            assert_eq!(shard.engine.counters().closed_by_operator, 1);
            // The other clients stay connected.
            shard.publish(watcher, "will/b", b"still here", 1);
            assert_eq!(shard.texts(watcher), ["still here"]);
        });
    }
}

#[test]
fn nothing_waits_for_a_client_that_has_acknowledged_everything() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("s").expiry_s(60));
        shard.subscribe(client, "t", 1);
        let publisher = shard.connect(&Hello::v5("p"));
        shard.drain(client, Drain::STALLED);
        shard.publish(publisher, "t", &[b'm'; 1_000], 1);
        let waiting = |shard: &Shard| shard.engine.session_of("s").unwrap().waiting_bytes;
        assert!(waiting(shard) > 1_000);
        shard.drain(client, Drain::ALL);
        assert_eq!(shard.texts(client).len(), 1);
        assert_eq!(shard.engine.session_of("s").unwrap().inflight_count, 0);
        assert_eq!(waiting(shard), 0);
    });
}

/// Acknowledged messages are therefore on their way before the stop closes the connections.
#[test]
fn a_shard_that_quiesces_takes_no_packets_and_sends_its_pending_messages() {
    run(Limits::default(), |shard| {
        let subscriber = shard.connect(&Hello::v5("s"));
        shard.subscribe(subscriber, "t", 1);
        let publisher = shard.connect(&Hello::v5("p"));
        shard.drain(subscriber, Drain::STALLED);
        shard.publish(publisher, "t", b"before", 1);
        shard.raw_step(Event::Quiesce);
        shard.send(publisher, &Packet::Publish(publish("t", b"after", 1, 7)));
        assert!(shard.unconsumed_bytes(publisher) > 0);
        assert_eq!(shard.take(publisher), []);
        shard.drain(subscriber, Drain::ALL);
        assert_eq!(shard.messages(subscriber).len(), 1);
        shard.stop();
        assert_eq!((shard.ended(publisher), shard.ended(subscriber)), (Some(0x8B), Some(0x8B)));
    });
}

#[test]
fn the_session_goes_on_as_its_expiry_says() {
    for (expiry_s, is_kept) in [(0, false), (100, true)] {
        run(Limits::default(), |shard| {
            let hello = Hello::v5("a").resume().expiry_s(expiry_s);
            let client = shard.connect(&hello);
            shard.subscribe(client, "t", 1);
            assert!(close(shard, "a"));
            assert_eq!(shard.ended(client), Some(0x98));
            let publisher = shard.connect(&Hello::v5("p"));
            shard.publish(publisher, "t", b"meanwhile", 1);
            let (client, present) = shard.connect_present(&hello);
            assert_eq!(present, is_kept);
            let expected: &[&str] = if is_kept { &["meanwhile"] } else { &[] };
            assert_eq!(shard.texts(client), expected);
        });
    }
}

#[test]
fn a_delayed_will_waits_and_a_client_that_reconnects_in_time_cancels_it() {
    run(Limits::default(), |shard| {
        let watcher = shard.connect(&Hello::v5("watcher"));
        shard.subscribe(watcher, "will/#", 1);
        let hello = Hello::v5("a").resume();
        for (back_ms, expected) in [(9_999, &[""; 0][..]), (10_000, &["gone"])] {
            shard.connect(&hello.will("will/a", "gone", 10));
            assert!(close(shard, "a"));
            shard.advance_ms(back_ms);
            shard.connect(&hello);
            shard.advance_ms(100_000);
            assert_eq!(shard.texts(watcher), expected, "{back_ms}");
        }
    });
}

#[test]
fn a_client_that_is_not_connected_cannot_be_closed() {
    run(Limits::default(), |shard| {
        assert!(!close(shard, "nobody"));
        let client = shard.connect(&Hello::v5("a").expiry_s(100));
        let connection = shard.id(client);
        shard.hang_up(client);
        assert!(!close(shard, "a"), "its session goes on without a connection");
        // A stale identity closes nothing.
        let heir = shard.connect(&Hello::v5("a").resume());
        shard.raw_step(Event::Disconnect { connection });
        assert_eq!(shard.engine.counters().closed_by_operator, 0);
        assert_eq!(shard.engine.counters().stale, 1);
        assert!(!shard.is_closed(heir));
    });
}

#[test]
fn a_client_whose_connack_is_not_out_is_closed_without_disconnect() {
    run(Limits::default(), |shard| {
        // CONNACK waits until the end of the earlier session is durable.
        let client = shard.connect(&Hello::v5("a").expiry_s(100));
        shard.hang_up(client);
        shard.durable_at_once = false;
        let client = shard.dial(&Hello::v5("a"));
        assert_eq!(shard.next(client), None);
        assert!(close(shard, "a"));
        shard.durable();
        assert!(shard.is_closed(client));
        assert_eq!(shard.next(client), None, "[MQTT-3.14.0-1]");
        shard.durable_at_once = true;
    });
}

#[test]
fn a_client_that_does_not_read_is_closed_after_the_time_out() {
    let limits = Limits { close_timeout_ms: 1_000, ..Limits::default() };
    run(limits, |shard| {
        let client = shard.connect(&Hello::v5("a"));
        shard.drain(client, Drain::STALLED);
        assert!(close(shard, "a"));
        assert!(!close(shard, "a"), "once");
        assert_eq!(shard.engine.counters().closed_by_operator, 1);
        shard.advance_ms(1_000);
        assert!(shard.is_closed(client));
        assert_eq!(shard.find(client, |got| matches!(got, Got::Disconnect(..)).then_some(())), None);
    });
}

/// Bounds that change are those of later decisions; what is beyond them already stays until one.
#[test]
fn lower_bounds_cut_nothing_and_hold_from_now_on() {
    for queue_full in [QueueFull::DropNewest, QueueFull::DropOldest, QueueFull::EndSession] {
        run(Limits::default(), |shard| {
            let absent = shard.connect(&Hello::v5("absent").resume().expiry_s(60));
            for filter in ["t", "u", "v"] {
                shard.subscribe(absent, filter, 1);
            }
            shard.hang_up(absent);
            let client = shard.connect(&Hello::v5("client").resume().expiry_s(60));
            for text in ["1", "2", "3"] {
                shard.publish_retained(client, "t", text.as_bytes(), 1);
            }
            shard.publish_retained(client, "u", b"4", 1);
            let lower = LiveLimits {
                queue_messages_max: 1,
                queue_full,
                retained_messages_max: 1,
                sessions_max: 1,
                subscriptions_per_session_max: 1,
                ..Limits::default().live()
            };
            shard.raw_step(Event::Limits(&lower));
            let _ledgers = shard.engine.audit();
            assert_eq!((shard.engine.retained_count(), shard.engine.session_count()), (2, 2));
            assert_eq!(shard.engine.session_of("absent").unwrap().queued_count, 4);
            shard.publish(client, "t", b"5", 1);
            let _ledgers = shard.engine.audit();
            let expected: &[&str] = match queue_full {
                QueueFull::DropNewest => &["1", "2", "3", "4"],
                // The next message brings the queue down to its bound.
                QueueFull::DropOldest => &["5"],
                QueueFull::EndSession => &[],
            };
            shard.raw_step(Event::Limits(&Limits::default().live()));
            let again = shard.connect(&Hello::v5("absent").resume().expiry_s(60));
            assert_eq!(shard.texts(again), expected, "{queue_full:?}");
            let _ledgers = shard.engine.audit();
        });
    }
}

/// A drain that refers clients to this server, or is over.
fn drain(shard: &mut Shard, is_on: bool, server_reference: &str) {
    shard.raw_step(Event::Drain { is_on, server_reference });
}

#[test]
fn a_drained_shard_refuses_clients_and_sends_those_away_that_it_is_told_to() {
    for (server, refused, sent_away) in [("other:1883", 0x9C, 0x9C), ("", 0x88, 0x8B)] {
        run(Limits::default(), |shard| {
            let clients =
                [Hello::v5("a"), Hello::v5("b"), Hello::v3("old")].map(|hello| shard.connect(&hello));
            drain(shard, true, server);
            let expected = Some(server.to_owned()).filter(|server| !server.is_empty());
            let newcomer = shard.dial(&Hello::v5("new"));
            match shard.next(newcomer) {
                Some(Got::ConnAck { reason, fields, .. }) => {
                    assert_eq!((reason, fields.server_reference), (refused, expected));
                }
                other => panic!("{other:?}"),
            }
            let old = shard.dial(&Hello::v3("new"));
            // Its code 3 means 0x88.
            assert!(matches!(shard.next(old), Some(Got::ConnAck { reason: 0x88, .. })));
            for (client, reason) in clients.into_iter().zip([Some(sent_away), None, None]) {
                assert!(!shard.is_closed(client));
                let connection = shard.id(client);
                if reason.is_some() || client == clients[2] {
                    shard.raw_step(Event::SendAway { connection });
                    assert_eq!(shard.ended(client), reason);
                    // It has no connection any more.
                    shard.raw_step(Event::SendAway { connection });
                }
            }
            // The one that nobody sent away is served, and newcomers are again once the drain is over.
            shard.subscribe(clients[1], "t", 1);
            drain(shard, false, "");
            let back = shard.connect(&Hello::v5("a"));
            shard.publish(back, "t", b"x", 1);
            assert_eq!(shard.texts(clients[1]), ["x"]);
        });
    }
}

#[test]
fn a_client_is_owed_something_until_it_has_acknowledged_everything() {
    run(Limits::default(), |shard| {
        let subscriber = shard.connect(&Hello::v5("s"));
        shard.subscribe(subscriber, "t", 1);
        let connection = shard.id(subscriber);
        assert_eq!(shard.engine.owes(connection), Some(false));
        let publisher = shard.connect(&Hello::v5("p"));
        shard.drain(subscriber, Drain::STALLED);
        shard.publish(publisher, "t", b"x", 1);
        assert_eq!(shard.engine.owes(connection), Some(true));
        shard.drain(subscriber, Drain::ALL);
        assert_eq!(shard.texts(subscriber), ["x"]);
        assert_eq!(shard.engine.owes(connection), Some(false));
        shard.hang_up(subscriber);
        assert_eq!(shard.engine.owes(connection), None);
    });
}
