//! Acknowledgements wait for the log, and a shard that is recovered from it goes on where the other one ended.

use engine::{Batch, Event, Limits, ListenerLimits, UserGrant};
use rules::Kind;
use wire::{AckKind, Packet, Publish, QoS, ReasonCode, Will, WillProperties};

use crate::client::{Got, Hello, Message, publish};
use crate::host::Shard;
use crate::judging;
use crate::rules::with_users;

/// A shard with a log.
fn logged(limits: Limits) -> Shard {
    Shard::with_log(limits, 7, true)
}

/// Another shard, recovered from everything that this one recorded, so much later.
fn after_crash(shard: &Shard, pause_ms: u64) -> Shard {
    shard.log.recovered(shard.log.batch_count(), shard.now().as_ms() + pause_ms)
}

#[test]
fn connack_waits_for_a_session_that_outlives_its_connection_and_for_a_will() {
    let mut shard = logged(Limits::default());
    shard.durable_at_once = false;
    let volatile = shard.connect(&Hello::v5("volatile"));
    let will = Will {
        topic: wire::TopicName::parse("w").unwrap(),
        payload: b"x",
        qos: QoS::AtMostOnce,
        retain: false,
        properties: WillProperties::default(),
    };
    let mut with_will = Hello::v5("with a will");
    with_will.connect.will = Some(will);
    for hello in
        [Hello::v5("lasting").resume(), with_will, Hello::v5("lasting").resume(), Hello::v5("lasting")]
    {
        let client = shard.dial(&hello);
        assert_eq!(shard.take(client), [], "{:?}", hello.connect);
        shard.durable();
        assert!(matches!(shard.take(client).as_slice(), [Got::ConnAck { reason: 0, .. }]));
        shard.hang_up(client);
    }
    shard.hang_up(volatile);
    shard.finish();
}

#[test]
fn suback_and_unsuback_of_a_session_in_the_log_wait() {
    let mut shard = logged(Limits::default());
    let client = shard.connect(&Hello::v3("lasting").resume());
    let volatile = shard.connect(&Hello::v3("volatile"));
    shard.durable_at_once = false;
    shard.subscribe(volatile, "t", 1);
    // SUBSCRIBE to "t" at QoS 1, and UNSUBSCRIBE.
    for (packet, ack) in
        [([0x82, 6, 0, 1, 0, 1, b't', 1].as_slice(), 0x90), (&[0xA2, 5, 0, 2, 0, 1, b't'], 0xB0)]
    {
        shard.send_bytes(client, packet);
        assert_eq!(shard.take(client), [], "{ack:x}");
        shard.durable();
        assert_eq!(shard.take(client).len(), 1, "{ack:x}");
    }
    shard.finish();
}

#[test]
fn volatile_traffic_is_not_recorded_and_waits_for_nothing() {
    let mut shard = logged(Limits::default());
    shard.durable_at_once = false;
    let reader = shard.connect(&Hello::v5("reader"));
    shard.subscribe(reader, "t", 2);
    let publisher = shard.connect(&Hello::v5("publisher"));
    for qos in [0, 1, 2] {
        shard.publish(publisher, "t", b"x", qos);
    }
    assert_eq!(shard.texts(reader), ["x", "x", "x"]);
    assert_eq!(shard.log.records(shard.log.batch_count()), []);
    shard.finish();
}

#[test]
fn qos_2_goes_a_step_further_only_when_the_last_one_is_synced() {
    // Acknowledgements may leave when a record is written. QoS 2 waits for the sync all the same.
    for acknowledge_written in [false, true] {
        let mut shard = logged(Limits { acknowledge_written, ..Limits::default() });
        let reader = shard.connect(&Hello::v3("reader").resume());
        shard.subscribe(reader, "t", 2);
        let publisher = shard.connect(&Hello::v3("publisher").resume());
        shard.durable_at_once = false;
        shard.send(publisher, &Packet::Publish(publish("t", b"first", 2, 7)));
        assert_eq!((shard.take(reader), shard.take(publisher)), (vec![], vec![]));
        shard.raw_step(Event::Durable { written: Batch(u64::MAX >> 1), synced: Batch(0) });
        let written = shard.take(publisher);
        assert_eq!(written.is_empty(), !acknowledge_written);
        assert_eq!(shard.take(reader), []);
        shard.durable();
        let [Got::Publish(message)] = &shard.take(reader)[..] else { panic!("no message") };
        shard.ack(reader, AckKind::PubRec, message.id);
        assert_eq!(shard.take(reader), [], "PUBREL waits");
        shard.ack(reader, AckKind::PubRec, message.id);
        assert_eq!(shard.take(reader), [], "a repetition of PUBREC changes nothing");
        shard.durable();
        assert_eq!(shard.take(reader), [Got::Ack(AckKind::PubRel, message.id, 0)]);
        shard.take(publisher);
        shard.ack(publisher, AckKind::PubRel, 7);
        assert_eq!(shard.take(publisher), [], "PUBCOMP waits");
        shard.durable();
        assert_eq!(shard.take(publisher), [Got::Ack(AckKind::PubComp, 7, 0)]);
        shard.finish();
    }
}

#[test]
fn acknowledgements_of_a_listener_leave_at_its_own_level() {
    for acknowledge_written in [false, true] {
        let own = |acknowledge_written| ListenerLimits { acknowledge_written, ..ListenerLimits::default() };
        let listeners = vec![own(None), own(Some(false)), own(Some(true))];
        let mut shard = logged(Limits { acknowledge_written, listeners, ..Limits::default() });
        let reader = shard.connect(&Hello::v3("reader").resume());
        shard.subscribe(reader, "t", 1);
        let names = ["0", "1", "2"];
        let clients: Vec<_> =
            (0..).zip(names).map(|(listener, name)| shard.dial_on(listener, &Hello::v5(name))).collect();
        for &client in &clients {
            assert!(matches!(shard.next(client), Some(Got::ConnAck { reason: 0, .. })));
        }
        shard.durable_at_once = false;
        for &client in &clients {
            shard.send(client, &Packet::Publish(publish("t", b"x", 1, 7)));
        }
        shard.raw_step(Event::Durable { written: Batch(u64::MAX >> 1), synced: Batch(0) });
        let left: Vec<_> = clients.iter().map(|&client| shard.take(client).len()).collect();
        assert_eq!(left, [usize::from(acknowledge_written), 0, 1]);
        shard.durable();
        let left: Vec<_> = clients.iter().map(|&client| shard.take(client).len()).collect();
        assert_eq!(left, [usize::from(!acknowledge_written), 1, 0]);
        shard.finish();
    }
}

#[test]
fn qos_1_overtakes_no_qos_2_that_waits_for_the_log() {
    let mut shard = logged(Limits::default());
    let reader = shard.connect(&Hello::v3("reader").resume());
    shard.subscribe(reader, "t", 2);
    let publisher = shard.connect(&Hello::v3("publisher"));
    shard.durable_at_once = false;
    shard.send(publisher, &Packet::Publish(publish("t", b"1", 2, 7)));
    shard.send(publisher, &Packet::Publish(publish("t", b"2", 1, 8)));
    assert_eq!(shard.take(reader), []);
    shard.durable();
    assert_eq!(shard.texts(reader), ["1", "2"]);
    shard.durable();
    shard.finish();
}

#[test]
fn a_pubrel_that_waits_is_sent_on_the_next_connection() {
    let mut shard = logged(Limits::default());
    let hello = Hello::v3("reader").resume();
    let reader = shard.connect(&hello);
    shard.subscribe(reader, "t", 2);
    let publisher = shard.connect(&Hello::v3("publisher"));
    shard.publish(publisher, "t", b"x", 2);
    let [Got::Publish(message)] = &shard.take(reader)[..] else { panic!("no message") };
    shard.durable_at_once = false;
    shard.ack(reader, AckKind::PubRec, message.id);
    shard.hang_up(reader);
    let reader = shard.dial(&hello);
    shard.durable();
    let got = shard.take(reader);
    assert!(
        matches!(got.as_slice(), [Got::ConnAck { present: true, .. }, Got::Ack(AckKind::PubRel, id, 0)] if *id == message.id),
        "{got:?}"
    );
    shard.finish();
}

#[test]
fn a_message_in_flight_is_sent_again_under_its_identifier_and_a_new_one_under_another() {
    let mut shard = logged(Limits::default());
    let reader = shard.connect(&Hello::v3("reader").resume());
    shard.subscribe(reader, "t", 2);
    let publisher = shard.connect(&Hello::v3("publisher"));
    for (payload, qos) in [("1", 1), ("2", 2), ("3", 2)] {
        shard.publish(publisher, "t", payload.as_bytes(), qos);
    }
    let sent = shard.messages(reader);
    shard.ack(reader, AckKind::PubRec, sent[2].id);
    assert_eq!(shard.take(reader).len(), 1);
    shard.hang_up(reader);
    // This one was not sent.
    shard.publish(publisher, "t", b"4", 1);
    let mut shard = after_crash(&shard, 5_000);
    let reader = shard.connect(&Hello::v3("reader").resume());
    let got = shard.take(reader);
    assert_eq!(got[0], Got::Ack(AckKind::PubRel, sent[2].id, 0), "{got:?}");
    let messages: Vec<_> = got[1..]
        .iter()
        .map(|got| match got {
            Got::Publish(message) => (message.id, message.dup, message.text().to_owned()),
            other => panic!("{other:?}"),
        })
        .collect();
    let again = |at: usize| (sent[at].id, true, sent[at].text().to_owned());
    assert_eq!(messages, [again(0), again(1), (sent[2].id + 1, false, "4".to_owned())]);
    let publisher = shard.connect(&Hello::v3("publisher"));
    shard.publish(publisher, "t", b"5", 1);
    let [new] = &shard.messages(reader)[..] else { panic!("no message") };
    assert_eq!(new.id, sent[2].id + 2 + 1_024, "a late acknowledgement must not meet it");
    shard.finish();
}

#[test]
fn a_checkpoint_remembers_the_identifiers_of_a_session_that_has_nothing_left() {
    let mut shard = logged(Limits::default());
    let reader = shard.connect(&Hello::v3("reader").resume());
    shard.subscribe(reader, "t", 1);
    let publisher = shard.connect(&Hello::v3("publisher"));
    for _ in 0..10 {
        shard.publish(publisher, "t", b"x", 1);
        assert_eq!(shard.texts(reader), ["x"]);
    }
    // Slices are taken between batches, until a checkpoint has begun and ended behind all of that.
    for _ in 0..20 {
        let other = shard.connect(&Hello::v3("other").resume());
        shard.hang_up(other);
    }
    let mut shard = after_crash(&shard, 0);
    let reader = shard.connect(&Hello::v3("reader").resume());
    let publisher = shard.connect(&Hello::v3("publisher"));
    shard.publish(publisher, "t", b"new", 1);
    let [new] = &shard.messages(reader)[..] else { panic!("no message") };
    assert_eq!(new.id, 10 + 1 + 1_024, "a late acknowledgement must not meet it");
    shard.finish();
}

#[test]
fn one_message_that_is_never_acknowledged_survives_many_starts() {
    // Each start skips 32,767 numbers of deliveries, so the third is beyond the packet identifiers of the first.
    let mut shard = logged(Limits { inflight_max: u16::MAX, ..Limits::default() });
    let hello = Hello::v3("reader").resume();
    let reader = shard.connect(&hello);
    shard.subscribe(reader, "t", 1);
    for start in ["1", "2", "3", "4", "5"] {
        let publisher = shard.connect(&Hello::v3("publisher"));
        shard.publish(publisher, "t", start.as_bytes(), 1);
        shard = after_crash(&shard, 0);
    }
    let reader = shard.connect(&hello);
    let first = shard.messages(reader);
    let text = |message: &Message| message.text().to_owned();
    assert_eq!(first.iter().map(text).collect::<Vec<_>>(), ["1", "2"]);
    // With the oldest acknowledged there are identifiers for the others.
    for message in &first {
        shard.ack(reader, AckKind::PubAck, message.id);
    }
    assert_eq!(shard.texts(reader), ["3", "4", "5"]);
    shard.finish();
}

#[test]
fn a_session_that_was_imported_in_part_is_completed() {
    let session_of = |filters: &[&str]| {
        let mut shard = logged(Limits::default());
        let client = shard.connect(&Hello::v3("a").resume());
        for filter in filters {
            shard.subscribe(client, filter, 1);
        }
        shard.hang_up(client);
        shard
    };
    let file = session_of(&["one", "two"]).exported();
    let mut shard = session_of(&["one"]);
    let now = shard.now();
    shard.engine.restore(now, &file[0]).expect("its filters are valid");
    shard.settle();
    let mut shard = after_crash(&shard, 0);
    let publisher = shard.connect(&Hello::v3("publisher"));
    shard.publish(publisher, "one", b"1", 1);
    shard.publish(publisher, "two", b"2", 1);
    let client = shard.connect(&Hello::v3("a").resume());
    assert_eq!(shard.texts(client), ["1", "2"]);
    shard.finish();
}

#[test]
fn a_session_that_is_given_away_is_offline_as_long_as_it_was() {
    let mut shard = logged(Limits::default());
    let client = shard.connect(&Hello::v5("a").expiry_s(10));
    shard.hang_up(client);
    shard.advance_ms(6_000);
    let grant = UserGrant { user: Some("bob"), ..UserGrant::NOBODY };
    shard.raw_step(Event::GiveSession { client_id: "a", grant: &grant });
    let mut shard = after_crash(&shard, 3_000);
    assert_eq!(shard.engine.session_count(), 1);
    shard.advance_ms(2_000);
    assert_eq!(shard.engine.session_count(), 0);
    shard.finish();
}

#[test]
fn a_repeated_qos_2_publish_is_known_after_a_crash_until_it_was_released() {
    let mut shard = logged(Limits::default());
    let reader = shard.connect(&Hello::v3("reader").resume());
    shard.subscribe(reader, "t", 2);
    let hello = Hello::v3("publisher").resume();
    let publisher = shard.connect(&hello);
    shard.send(publisher, &Packet::Publish(publish("t", b"once", 2, 7)));
    assert_eq!(shard.acked(publisher, AckKind::PubRec, 7), Some(0));
    let mut shard = after_crash(&shard, 0);
    let publisher = shard.connect(&hello);
    shard.send(publisher, &Packet::Publish(Publish { dup: true, ..publish("t", b"once", 2, 7) }));
    assert_eq!(shard.acked(publisher, AckKind::PubRec, 7), Some(0));
    shard.ack(publisher, AckKind::PubRel, 7);
    assert_eq!(shard.acked(publisher, AckKind::PubComp, 7), Some(0));
    let mut shard = after_crash(&shard, 0);
    let publisher = shard.connect(&hello);
    shard.send(publisher, &Packet::Publish(publish("t", b"new", 2, 7)));
    assert_eq!(shard.acked(publisher, AckKind::PubRec, 7), Some(0));
    let reader = shard.connect(&Hello::v3("reader").resume());
    assert_eq!(shard.texts(reader), ["once", "new"]);
    shard.ack(publisher, AckKind::PubRel, 7);
    shard.finish();
}

#[test]
fn retained_messages_are_recovered_with_their_expiry_and_without_those_that_were_removed() {
    let mut shard = logged(Limits::default());
    let publisher = shard.connect(&Hello::v5("p"));
    shard.publish_retained(publisher, "kept", b"old", 0);
    shard.publish_retained(publisher, "kept", b"new", 1);
    shard.publish_retained(publisher, "removed", b"x", 1);
    shard.publish_retained(publisher, "removed", b"", 0);
    for (topic, expiry_s) in [("short", 10), ("long", 1_000)] {
        let mut packet = Publish { retain: true, ..publish(topic, b"x", 0, 0) };
        packet.properties.message_expiry_interval_s = Some(expiry_s);
        shard.send(publisher, &Packet::Publish(packet));
    }
    let mut shard = after_crash(&shard, 100_000);
    let reader = shard.connect(&Hello::v5("r"));
    shard.subscribe(reader, "#", 1);
    shard.advance_ms(10);
    let messages = shard.messages(reader);
    let topics: Vec<_> =
        messages.iter().map(|message| (message.topic.as_str(), message.text(), message.expiry_s)).collect();
    assert_eq!(topics, [("kept", "new", None), ("long", "x", Some(900))]);
    shard.finish();
}

#[test]
fn a_look_up_goes_on_where_it_was_and_sends_nothing_twice() {
    let mut shard = logged(Limits { outbox_bytes_max: 2_000, ..Limits::default() });
    let publisher = shard.connect(&Hello::v5("p"));
    for number in 0..100 {
        shard.publish_retained(publisher, &format!("r/{number:03}"), &[b'x'; 50], 1);
    }
    let hello = Hello::v5("reader").resume().receive_maximum(10);
    let reader = shard.connect(&hello);
    shard.subscribe(reader, "r/#", 1);
    shard.advance_ms(10);
    let first: Vec<_> = shard.messages(reader).into_iter().map(|message| message.topic).collect();
    assert!(!first.is_empty() && first.len() < 100, "{}", first.len());
    let mut shard = after_crash(&shard, 0);
    let reader = shard.connect(&hello);
    let mut topics: Vec<String> = Vec::new();
    for _ in 0..200 {
        for message in shard.messages(reader) {
            topics.push(message.topic);
            shard.ack(reader, AckKind::PubAck, message.id);
        }
        shard.advance_ms(10);
    }
    let expected: Vec<String> = (0..100).map(|number| format!("r/{number:03}")).collect();
    assert_eq!(topics, expected);
    shard.finish();
}

fn with_will(hello: &Hello<'static>, delay_s: u32) -> Hello<'static> {
    let mut hello = *hello;
    let properties = WillProperties { delay_interval_s: Some(delay_s), ..WillProperties::default() };
    let topic = wire::TopicName::parse("will").expect("it is a topic");
    hello.connect.will =
        Some(Will { topic, payload: b"gone", qos: QoS::AtLeastOnce, retain: false, properties });
    hello
}

#[test]
fn wills_are_published_once_whenever_the_process_ends() {
    let mut shard = logged(Limits::default());
    let reader = shard.connect(&Hello::v5("reader").resume());
    shard.subscribe(reader, "will", 1);
    shard.connect(&with_will(&Hello::v5("volatile"), 0));
    shard.connect(&with_will(&Hello::v5("lasting").resume(), 0));
    let delayed = shard.connect(&with_will(&Hello::v5("delayed").resume(), 100));
    shard.hang_up(delayed);
    let normal = shard.connect(&with_will(&Hello::v5("normal").resume(), 0));
    shard.goodbye(normal);
    // Two wills are due at the crash, and one after its delay, of which 60 seconds pass until the start.
    let mut shard = after_crash(&shard, 60_000);
    let hello = Hello::v5("reader").resume();
    let reader = shard.connect(&hello);
    assert_eq!(shard.texts(reader), ["gone", "gone"]);
    shard.hang_up(reader);
    // Not once more after another crash.
    let mut shard = after_crash(&shard, 30_000);
    let reader = shard.connect(&hello);
    assert_eq!(shard.texts(reader), Vec::<String>::new());
    shard.advance_ms(20_000);
    assert_eq!(shard.texts(reader), ["gone"]);
    shard.finish();
}

/// It was published whatever the rules had come to say.
#[test]
fn a_will_without_a_session_is_published_after_a_crash_if_its_user_still_may() {
    let rules = |kind| with_users(&[(Kind::Subscribe, "#")], &[("ann", kind, "%c")]);
    {
        for (kind, expected) in [(Kind::Publish, vec!["gone"]), (Kind::Deny, vec![])] {
            let mut shard = Shard::with_log(judging::limits(), 7, true);
            shard.change_rules(Some(&rules(Kind::Publish)));
            let hello = Hello::v5("reader").resume();
            let reader = shard.connect_as(&hello, "ann", &[]);
            shard.subscribe(reader, "will", 1);
            shard.connect_as(&with_will(&Hello::v5("will"), 0), "ann", &[]);
            shard.advance_ms(1_000);
            let now_ms = shard.now().as_ms();
            let after = rules(kind);
            let mut shard = shard.log.recovered_under(Some(&after), shard.log.batch_count(), now_ms);
            let forbidden = u64::from(expected.is_empty());
            assert_eq!(shard.engine.counters().wills_forbidden, forbidden);
            let reader = shard.connect_as(&hello, "ann", &[]);
            assert_eq!(shard.texts(reader), expected);
            shard.change_rules(None);
            shard.finish();
        }
    }
}

#[test]
fn a_session_that_was_attached_begins_its_expiry_at_recovery_and_another_one_goes_on_with_its_own() {
    let mut shard = logged(Limits::default());
    let away = shard.connect(&Hello::v5("away").expiry_s(100));
    shard.hang_up(away);
    shard.connect(&Hello::v5("attached").expiry_s(100));
    shard.connect(&Hello::v5("ends with its connection").expiry_s(0));
    let shard = after_crash(&shard, 60_000);
    assert_eq!(shard.engine.session_count(), 2);
    let mut shard = after_crash(&shard, 60_000);
    shard.advance_ms(0);
    // The other one began 60 seconds ago, and a second crash changes nothing about that.
    let (_, is_present) = shard.connect_present(&Hello::v5("attached").resume());
    assert!(is_present);
    let (_, is_present) = shard.connect_present(&Hello::v5("away").resume());
    assert!(!is_present);
    let mut shard = after_crash(&shard, 0);
    shard.finish();
}

#[test]
fn an_expiry_set_to_zero_ends_the_session_with_its_connection_or_the_process() {
    let mut shard = logged(Limits::default());
    let client = shard.connect(&Hello::v5("a").expiry_s(100));
    shard.subscribe(client, "t", 1);
    shard.disconnect(client, ReasonCode::Success, Some(0));
    let client = shard.connect(&Hello::v5("b").expiry_s(100));
    shard.subscribe(client, "t", 1);
    shard.hang_up(client);
    shard.connect(&Hello::v5("b").resume().expiry_s(0));
    let mut shard = after_crash(&shard, 0);
    assert_eq!((shard.engine.session_count(), shard.engine.subscription_count()), (0, 0));
    shard.finish();
}

#[test]
fn messages_of_a_group_go_to_another_member_after_a_crash() {
    let mut shard = logged(Limits::default());
    let publisher = shard.connect(&Hello::v5("p"));
    let first = shard.connect(&Hello::v5("first").expiry_s(10));
    shard.subscribe(first, "$share/g/t", 1);
    shard.hang_up(first);
    for number in 0..5 {
        shard.publish(publisher, "t", number.to_string().as_bytes(), 1);
    }
    let second = shard.connect(&Hello::v5("second").resume());
    shard.subscribe(second, "$share/g/t", 1);
    shard.hang_up(second);
    // The first one's session expires while the process does not run.
    let mut shard = after_crash(&shard, 20_000);
    shard.advance_ms(0);
    let mut shard = after_crash(&shard, 0);
    let second = shard.connect(&Hello::v5("second").resume());
    assert_eq!(shard.texts(second), ["0", "1", "2", "3", "4"]);
    shard.finish();
}

#[test]
fn a_record_that_nobody_wrote_or_that_contradicts_the_others_is_refused() {
    let mut shard = logged(Limits::default());
    let client = shard.connect(&Hello::v5("a").resume());
    shard.subscribe(client, "t", 1);
    let records = shard.log.records(shard.log.batch_count());
    let (session, _) = (&records[0], &records[1]);
    let fresh = || logged(Limits::default());
    assert!(fresh().engine.recover(0, &[]).is_err());
    assert!(fresh().engine.recover(200, &session.1).is_err());
    assert!(fresh().engine.recover(session.0, &session.1[..session.1.len() - 1]).is_err());
    let mut other = fresh();
    assert_eq!(other.engine.recover(session.0, &session.1), Ok(()));
    let mut renumbered = session.1.clone();
    renumbered[0] ^= 1;
    let fault = other.engine.recover(session.0, &renumbered).unwrap_err();
    assert_eq!(fault.to_string(), "a record of kind 5 has the client identifier of another session");
    shard.finish();
}
