//! A log whose disk is slow, full or has failed: nothing is taken that it would have to keep, and everybody else is served.

use engine::{Event, Limits, LogRoom};
use wire::{AckKind, Packet, Publish};

use crate::client::{Got, Hello, publish};
use crate::host::Shard;

fn logged() -> Shard {
    Shard::with_log(Limits::default(), 7, true)
}

fn set_room(shard: &mut Shard, room: LogRoom) {
    shard.raw_step(Event::LogRoom(room));
}

/// The bytes of records until now.
fn recorded(shard: &Shard) -> usize {
    shard.log.records(shard.log.batch_count()).len()
}

#[test]
fn a_publish_that_would_be_recorded_waits_for_room_and_everything_else_is_taken() {
    for (hello, qos, retain) in [
        (Hello::v5("p"), 1, false),
        (Hello::v5("p"), 2, false),
        (Hello::v3("p"), 1, false),
        (Hello::v3("p").resume(), 2, false),
        (Hello::v5("p"), 0, true),
        (Hello::v3("p"), 1, true),
    ] {
        let mut shard = logged();
        let keeper = shard.connect(&Hello::v5("keeper").resume());
        shard.subscribe(keeper, "kept", 2);
        let reader = shard.connect(&Hello::v5("reader"));
        shard.subscribe(reader, "volatile", 2);
        shard.subscribe(reader, "kept", 0);
        let publisher = shard.connect(&hello);
        let others = [shard.connect(&Hello::v5("volatile")), shard.connect(&Hello::v3("old"))];
        set_room(&mut shard, LogRoom::Short);
        let before = recorded(&shard);
        let held = Publish { retain, ..publish("kept", b"held", qos, 5) };
        for _ in 0..3 {
            shard.send(publisher, &Packet::Publish(held));
        }
        assert!(shard.unconsumed_bytes(publisher) > 0, "{qos} {retain}");
        assert_eq!((shard.take(publisher), shard.texts(keeper)), (vec![], vec![]), "{qos} {retain}");
        // QoS 0 to anybody, and any QoS to sessions that end with their connections.
        for client in others {
            shard.publish(client, "kept", b"0", 0);
            for qos in [0, 1, 2] {
                shard.publish(client, "volatile", b"v", qos);
            }
            shard.send(client, &Packet::PingReq);
            assert_eq!(shard.take(client), [Got::PingResp]);
        }
        assert_eq!(shard.texts(reader), ["0", "v", "v", "v", "0", "v", "v", "v"]);
        assert_eq!(shard.texts(keeper), ["0", "0"]);
        assert_eq!(recorded(&shard), before, "nothing is recorded");
        // The broker's silence is not the client's.
        shard.advance_ms(1_000_000);
        assert!(!shard.is_closed(publisher));
        set_room(&mut shard, LogRoom::Free);
        assert_eq!(shard.unconsumed_bytes(publisher), 0);
        assert!(recorded(&shard) > before);
        assert_eq!(shard.texts(keeper)[0], "held");
        assert!(shard.engine.counters().log_waits > 0);
        shard.finish();
    }
}

#[test]
fn a_message_waits_for_room_if_one_member_of_a_group_outlives_its_connection() {
    let mut shard = logged();
    let members = [shard.connect(&Hello::v5("volatile")), shard.connect(&Hello::v5("lasting").resume())];
    let publisher = shard.connect(&Hello::v5("p"));
    for (member, is_held) in members.into_iter().zip([false, true]) {
        shard.subscribe(member, "$share/g/t", 1);
        set_room(&mut shard, LogRoom::Short);
        shard.send(publisher, &Packet::Publish(publish("t", b"x", 1, 5)));
        assert_eq!(shard.take(publisher).is_empty(), is_held);
        set_room(&mut shard, LogRoom::Free);
    }
    assert_eq!(shard.take(publisher).len(), 1);
    shard.finish();
}

#[test]
fn what_frees_is_taken_while_the_log_has_no_room_and_a_subscribe_waits() {
    let mut shard = logged();
    let hello = Hello::v5("lasting").resume();
    let client = shard.connect(&hello);
    let publisher = shard.connect(&Hello::v5("p").resume());
    shard.subscribe(client, "t", 2);
    shard.subscribe(client, "other", 1);
    shard.publish(publisher, "t", b"1", 1);
    shard.send(publisher, &Packet::Publish(publish("t", b"2", 2, 9)));
    assert_eq!(shard.acked(publisher, AckKind::PubRec, 9), Some(0));
    for room in [LogRoom::Short, LogRoom::Full] {
        set_room(&mut shard, room);
        // The client acknowledges by itself as it takes messages.
        shard.texts(client);
        shard.ack(publisher, AckKind::PubRel, 9);
        assert!(shard.acked(publisher, AckKind::PubComp, 9).is_some());
        assert_eq!(shard.unsubscribe(client, &["other"]).len(), 1);
        // SUBSCRIBE to "s" at QoS 1; the volatile one is answered.
        let packet = [0x82, 7, 0, 1, 0, 0, 1, b's', 1];
        let volatile = shard.connect(&Hello::v5("volatile"));
        shard.send_bytes(volatile, &packet);
        assert_eq!(shard.take(volatile), [Got::SubAck(1, vec![1])]);
        shard.send_bytes(client, &packet);
        assert_eq!(shard.take(client), []);
        set_room(&mut shard, LogRoom::Free);
        assert_eq!(shard.take(client), [Got::SubAck(1, vec![1])]);
    }
    set_room(&mut shard, LogRoom::Short);
    shard.goodbye(client);
    assert!(shard.is_closed(client));
    shard.finish();
}

#[test]
fn a_publisher_that_waits_may_leave() {
    let mut shard = logged();
    let keeper = shard.connect(&Hello::v5("keeper").resume());
    shard.subscribe(keeper, "t", 1);
    let publishers = ["a", "b", "c"].map(|name| shard.connect(&Hello::v3(name)));
    set_room(&mut shard, LogRoom::Short);
    for publisher in publishers {
        shard.send(publisher, &Packet::Publish(publish("t", b"x", 1, 5)));
    }
    shard.hang_up(publishers[1]);
    assert_eq!(shard.engine.audit().pending_acks, 0);
    set_room(&mut shard, LogRoom::Free);
    assert_eq!(shard.texts(keeper), ["x", "x"]);
    shard.finish();
}

/// The reason of CONNACK.
fn connack(shard: &mut Shard, hello: &Hello<'_>) -> u8 {
    let client = shard.dial(hello);
    let got = shard.take(client);
    let [Got::ConnAck { reason, .. }, ..] = got[..] else { panic!("{got:?}") };
    shard.hang_up(client);
    reason
}

#[test]
fn a_connect_whose_connack_would_wait_is_refused_while_the_log_is_full_or_has_failed() {
    let mut shard = logged();
    let known = shard.connect(&Hello::v5("known").resume());
    shard.hang_up(known);
    assert_eq!(connack(&mut shard, &Hello::v5("lasting").resume()), 0);
    for room in [LogRoom::Full, LogRoom::Failed] {
        set_room(&mut shard, room);
        for hello in [
            // It outlives its connection, did so before, or is discarded; and a will.
            Hello::v5("new").resume(),
            Hello::v5("lasting").resume(),
            Hello::v5("known"),
            Hello::v5("w").will("w", "x", 0),
        ] {
            assert_eq!(connack(&mut shard, &hello), 0x88, "{:?}", hello.connect);
        }
        // 3 before 5.0, which reads as the same.
        assert_eq!(connack(&mut shard, &Hello::v3("known").resume()), 0x88);
        assert_eq!(connack(&mut shard, &Hello::v3("volatile")), 0);
        assert_eq!(shard.engine.session_count(), 2, "the sessions are as before");
        if room == LogRoom::Full {
            set_room(&mut shard, LogRoom::Short);
            assert_eq!(connack(&mut shard, &Hello::v5("known").resume()), 0);
        }
    }
}

#[test]
fn acknowledgements_that_wait_for_a_failed_log_take_no_room_and_their_connections_none() {
    let mut shard = logged();
    let keeper = shard.connect(&Hello::v5("keeper").resume());
    shard.subscribe(keeper, "t", 1);
    let publisher = shard.connect(&Hello::v5("publisher"));
    shard.durable_at_once = false;
    shard.send(publisher, &Packet::Publish(publish("t", b"x", 1, 5)));
    let connecting = shard.dial(&Hello::v5("connecting").resume());
    assert_eq!(shard.engine.audit().pending_acks, 2);
    set_room(&mut shard, LogRoom::Failed);
    assert!(shard.is_closed(connecting), "it waits for a CONNACK that cannot come");
    assert_eq!(shard.engine.audit().pending_acks, 0);
    // Nothing that may be lost is acknowledged, and a client is served until it has sent as much as it may without acknowledgement.
    for id in 6..20 {
        shard.send(publisher, &Packet::Publish(publish("t", b"x", 1, id)));
    }
    shard.send(publisher, &Packet::PingReq);
    assert_eq!(shard.take(publisher), [Got::PingResp]);
    assert_eq!(shard.texts(keeper).len(), 15, "it is served");
    for _ in 0..3 {
        shard.hang_up(publisher);
        let publisher = shard.connect(&Hello::v5("publisher"));
        shard.send(publisher, &Packet::Publish(publish("t", b"x", 1, 5)));
        assert_eq!(shard.take(publisher), []);
        assert_eq!(shard.engine.audit().pending_acks, 0);
        shard.hang_up(publisher);
    }
    let volatile = shard.connect(&Hello::v5("volatile"));
    assert_eq!(shard.publish(volatile, "nobody", b"x", 1), 0x10);
}
