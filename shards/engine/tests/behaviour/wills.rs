//! Wills: published when a connection ends without DISCONNECT, deleted when it ends normally, delayed on request.

use engine::Limits;
use wire::{QoS, ReasonCode};

use crate::client::{Client, Hello};
use crate::host::{Shard, run};

fn watched(test: impl FnOnce(&mut Shard, Client)) {
    run(Limits::default(), |shard| {
        let watcher = shard.connect(&Hello::v5("watcher"));
        shard.subscribe(watcher, "will/#", 1);
        test(shard, watcher);
    });
}

#[test]
fn mqtt_3_1_2_8_a_will_is_published_when_the_connection_ends_without_disconnect() {
    for hello in [Hello::v3("a"), Hello::v5("a"), Hello::v5("a").expiry_s(100)] {
        watched(|shard, watcher| {
            let client = shard.connect(&hello.will("will/a", "gone", 0));
            assert_eq!(shard.texts(watcher), [""; 0]);
            shard.hang_up(client);
            assert_eq!(shard.texts(watcher), ["gone"]);
            shard.advance_ms(1_000_000);
            assert_eq!(shard.texts(watcher), [""; 0], "once");
        });
    }
}

#[test]
fn mqtt_3_14_4_3_a_normal_disconnect_deletes_the_will_and_0x04_does_not() {
    watched(|shard, watcher| {
        let client = shard.connect(&Hello::v5("a").will("will/a", "gone", 0));
        shard.goodbye(client);
        assert_eq!(shard.texts(watcher), [""; 0]);
        let client = shard.connect(&Hello::v5("a").will("will/a", "gone", 0));
        shard.disconnect(client, ReasonCode::DisconnectWithWill, None);
        assert_eq!(shard.texts(watcher), ["gone"]);
        let client = shard.connect(&Hello::v3("a").will("will/a", "gone", 0));
        shard.goodbye(client);
        assert_eq!(shard.texts(watcher), [""; 0]);
    });
}

#[test]
fn a_will_waits_for_its_delay_or_the_end_of_the_session() {
    for (delay_s, expiry_s, due_ms) in
        [(10, 100, 10_000), (100, 10, 10_000), (10, 10, 10_000), (10, 0, 0), (10, u32::MAX, 10_000)]
    {
        watched(|shard, watcher| {
            let client = shard.connect(&Hello::v5("a").expiry_s(expiry_s).will("will/a", "gone", delay_s));
            shard.hang_up(client);
            if due_ms > 0 {
                shard.advance_ms(due_ms - 1);
                assert_eq!(shard.texts(watcher), [""; 0], "{delay_s} {expiry_s}");
                shard.advance_ms(1);
            }
            assert_eq!(shard.texts(watcher), ["gone"], "{delay_s} {expiry_s}");
        });
    }
}

#[test]
fn mqtt_3_1_3_9_a_client_that_reconnects_before_the_delay_cancels_its_will() {
    watched(|shard, watcher| {
        let hello = Hello::v5("a").resume();
        let client = shard.connect(&hello.will("will/a", "first", 10));
        shard.hang_up(client);
        shard.advance_ms(9_999);
        let client = shard.connect(&hello);
        shard.advance_ms(100_000);
        shard.hang_up(client);
        assert_eq!(shard.texts(watcher), [""; 0]);
    });
}

#[test]
fn a_client_that_reconnects_before_the_delay_stops_the_timer_of_its_will() {
    for next in [None, Some("second")] {
        watched(|shard, watcher| {
            let hello = Hello::v5("a").resume();
            let client = shard.connect(&hello.will("will/a", "first", 10));
            shard.hang_up(client);
            shard.advance_ms(9_999);
            let client = shard.connect(&next.map_or(hello, |text| hello.will("will/a", text, 10)));
            assert_eq!(shard.engine.audit().timers, 0, "{next:?}");
            // A timer that still ran would publish the will of the new connection.
            shard.advance_ms(100_000);
            assert_eq!(shard.texts(watcher), [""; 0], "{next:?}");
            shard.hang_up(client);
            shard.advance_ms(9_999);
            assert_eq!(shard.texts(watcher), [""; 0], "{next:?}");
            shard.advance_ms(100_000);
            assert_eq!(shard.texts(watcher), next.into_iter().collect::<Vec<_>>());
        });
    }
}

#[test]
fn a_take_over_publishes_the_will_unless_its_delay_has_not_passed() {
    for (delay_s, resumes, expected) in
        [(0, true, true), (10, true, false), (10, false, true), (0, false, true)]
    {
        watched(|shard, watcher| {
            let old = shard.connect(&Hello::v5("a").expiry_s(100).will("will/a", "gone", delay_s));
            let hello = Hello::v5("a");
            shard.connect(&if resumes { hello.resume() } else { hello });
            assert!(shard.is_closed(old));
            let expected: &[&str] = if expected { &["gone"] } else { &[] };
            assert_eq!(shard.texts(watcher), expected, "{delay_s} {resumes}");
            assert_eq!(shard.engine.audit().timers, 0, "{delay_s} {resumes}");
            shard.advance_ms(200_000);
            assert_eq!(shard.texts(watcher), [""; 0]);
        });
    }
}

#[test]
fn mqtt_3_1_2_15_a_retained_will_is_there_for_later_subscribers() {
    run(Limits::default(), |shard| {
        let hello = Hello::v5("a").will_with("will/a", "gone", QoS::AtLeastOnce, true, 0);
        let client = shard.connect(&hello);
        shard.hang_up(client);
        let watcher = shard.connect(&Hello::v5("watcher"));
        shard.subscribe(watcher, "will/#", 2);
        let messages = shard.messages(watcher);
        assert_eq!((messages[0].text(), messages[0].qos, messages[0].retain), ("gone", 1, true));
    });
}

#[test]
fn the_message_expiry_interval_of_a_will_begins_when_it_is_published() {
    run(Limits::default(), |shard| {
        let mut hello = Hello::v5("a").expiry_s(1_000).will_with("t", "gone", QoS::AtLeastOnce, false, 100);
        let will = hello.connect.will.as_mut().expect("it has one");
        will.properties.message_expiry_interval_s = Some(10);
        let client = shard.connect(&hello);
        let online = shard.connect(&Hello::v5("online"));
        let keepers = ["in time", "too late"].map(|name| {
            let keeper = shard.connect(&Hello::v5(name).resume());
            shard.subscribe(keeper, "t", 1);
            shard.hang_up(keeper);
            Hello::v5(name).resume()
        });
        shard.subscribe(online, "t", 1);
        shard.hang_up(client);
        shard.advance_ms(100_000);
        assert_eq!(shard.messages(online)[0].expiry_s, Some(10));
        shard.advance_ms(6_000);
        let keeper = shard.connect(&keepers[0]);
        assert_eq!(shard.messages(keeper)[0].expiry_s, Some(4));
        shard.advance_ms(4_000);
        let keeper = shard.connect(&keepers[1]);
        assert_eq!(shard.messages(keeper), []);
    });
}

#[test]
fn a_will_reaches_its_own_session_when_that_goes_on() {
    run(Limits::default(), |shard| {
        let hello = Hello::v5("a").resume();
        let client = shard.connect(&hello.will_with("t", "own", QoS::AtLeastOnce, false, 0));
        shard.subscribe(client, "t", 1);
        shard.hang_up(client);
        let client = shard.connect(&hello);
        assert_eq!(shard.texts(client), ["own"]);
    });
}

#[test]
fn wills_of_many_sessions_that_end_together_all_come() {
    watched(|shard, watcher| {
        for number in 0..700 {
            let name = format!("c{number}");
            let client = shard.connect(&Hello::v5(&name).expiry_s(50).will("will/a", "gone", 60));
            shard.hang_up(client);
        }
        shard.advance_ms(49_999);
        assert_eq!(shard.texts(watcher).len(), 0);
        shard.advance_ms(1);
        assert_eq!(shard.texts(watcher).len(), 700);
    });
}

#[test]
fn a_protocol_error_and_a_keep_alive_time_out_publish_the_will() {
    watched(|shard, watcher| {
        let client = shard.connect(&Hello::v5("a").will("will/a", "error", 0));
        shard.send_bytes(client, &[0x00, 0x00]);
        assert!(shard.is_closed(client));
        let client = shard.connect(&Hello::v5("a").keep_alive_s(10).will("will/a", "silence", 0));
        shard.advance_ms(15_001);
        assert!(shard.is_closed(client));
        assert_eq!(shard.texts(watcher), ["error", "silence"]);
    });
}
