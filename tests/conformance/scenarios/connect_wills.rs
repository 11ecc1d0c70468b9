//! Wills: when they are published, when not, and how.

use crate::harness::packet::{Connect, Properties, Publish, Will, property};
use crate::harness::peer::Peer;
use crate::harness::received::Value;
use crate::target::Target;

/// A will delay that gives the client an hour to reconnect.
const AN_HOUR_S: u32 = 3600;
const ABNORMAL: u8 = 0x04;

pub(crate) fn a_lost_connection_publishes_its_will(on: &Target) {
    let topic = on.name("/w");
    let mut watcher = watch(on, &topic);
    let name = on.name("a");
    let peer = on.connect(&Connect::new(on.version, &name).with_will(&topic, b"gone", Properties::new()));
    peer.vanish();
    assert_eq!(watcher.next_message().text(), "gone");
    // A connection that the server closes because of an error publishes its will as well.
    let mut peer =
        on.connect(&Connect::new(on.version, &name).with_will(&topic, b"thrown out", Properties::new()));
    peer.send_ignoring_errors(&[0x00, 0x00]);
    peer.await_close();
    assert_eq!(watcher.next_message().text(), "thrown out");
}

/// The will belongs to the session: it waits for its delay after the connection is lost.
pub(crate) fn a_will_is_published_after_its_delay(on: &Target) {
    let topic = on.name("/w");
    let mut watcher = watch(on, &topic);
    let name = on.name("a");
    persistent_with_will(on, &name, &topic, b"late", 1).vanish();
    assert_eq!(watcher.next_message().text(), "late");
    let mut back = on.persistent("a");
    assert!(back.session_present, "the session goes on");
    back.ping();
}

/// The session ends before the delay, by its expiry or by a clean start.
pub(crate) fn a_will_is_published_when_its_session_ends(on: &Target) {
    let topic = on.name("/w");
    let mut watcher = watch(on, &topic);
    let name = on.name("a");
    let delay = || Properties::new().four(property::WILL_DELAY_INTERVAL, AN_HOUR_S);
    for (expiry_s, payload) in [(0, &b"at once"[..]), (1, b"in a second")] {
        let mut connect = Connect::new(on.version, &name).with_will(&topic, payload, delay());
        connect.properties = Properties::new().four(property::SESSION_EXPIRY_INTERVAL, expiry_s);
        on.connect(&connect).vanish();
        assert_eq!(watcher.next_message().payload, payload);
    }
    persistent_with_will(on, &name, &topic, b"by a clean start", AN_HOUR_S).vanish();
    on.client("a").disconnect();
    assert_eq!(watcher.next_message().text(), "by a clean start");
}

/// A client that disconnects normally or reconnects deletes its will; the next will is the next message.
pub(crate) fn a_will_is_deleted_by_a_normal_disconnect(on: &Target) {
    let topic = on.name("/w");
    let mut watcher = watch(on, &topic);
    let connect = |payload| {
        let mut connect = Connect::persistent(on.version, "").with_will(&topic, payload, Properties::new());
        connect.clean_start = false;
        connect
    };
    let name = on.name("a");
    on.connect(&Connect { client_id: &name, ..connect(b"deleted") }).disconnect();
    on.connect(&Connect { client_id: &name, ..connect(b"published") }).vanish();
    assert_eq!(watcher.next_message().text(), "published");
    // Published or deleted, the will is gone: a connection without a will leaves none.
    on.persistent("a").vanish();
    on.connect(&Connect { client_id: &name, ..connect(b"deleted again") }).disconnect();
    on.persistent("a").vanish();
    on.connect(&Connect { client_id: &name, ..connect(b"the last") }).vanish();
    assert_eq!(watcher.next_message().text(), "the last");
}

pub(crate) fn a_client_that_returns_in_time_cancels_its_will(on: &Target) {
    let topic = on.name("/w");
    let mut watcher = watch(on, &topic);
    let name = on.name("a");
    persistent_with_will(on, &name, &topic, b"never", AN_HOUR_S).vanish();
    let back = on.persistent("a");
    assert!(back.session_present);
    // The end of the session would publish a will that still exists.
    let ending = Properties::new().four(property::SESSION_EXPIRY_INTERVAL, 0);
    back.disconnect_with(ABNORMAL, &ending);
    on.connect(&Connect::new(on.version, &name).with_will(&topic, b"next", Properties::new())).vanish();
    assert_eq!(watcher.next_message().text(), "next");
}

pub(crate) fn a_will_is_published_at_its_qos(on: &Target) {
    let topic = on.name("/w");
    let mut watcher = watch(on, &topic);
    for qos in 0..3 {
        let name = on.name("a");
        let mut connect = Connect::new(on.version, &name);
        connect.will =
            Some(Will { topic: &topic, payload: b"gone", qos, retain: false, properties: Properties::new() });
        on.connect(&connect).vanish();
        let will = watcher.next_message();
        assert_eq!((will.qos, will.text()), (qos, "gone".to_owned()));
    }
}

pub(crate) fn a_will_without_retain_is_not_retained(on: &Target) {
    let topic = on.name("/w");
    let mut watcher = watch(on, &topic);
    leave_will(on, &topic, false);
    let message = watcher.next_message();
    assert!(!message.retain);
    let mut late = on.client("l");
    late.subscribe(&topic, 2);
    watcher.publish(&Publish::new(&topic, 1, b"after"));
    assert_eq!(late.next_message().text(), "after", "nothing was retained");
}

pub(crate) fn a_will_with_retain_is_retained(on: &Target) {
    let topic = on.name("/w");
    let mut watcher = watch(on, &topic);
    leave_will(on, &topic, true);
    watcher.next_message();
    // It may be kept a moment after it was delivered: then a subscriber that comes in between is sent it as all others are.
    let is_retained = |attempt: u32| {
        let mut late = on.client(&format!("l{attempt}"));
        late.subscribe(&topic, 2);
        let message = late.next_message();
        assert_eq!(message.text(), "gone");
        message.retain
    };
    assert!((0..20).any(is_retained));
    watcher.publish(&Publish::new(&topic, 1, b"").retained());
}

pub(crate) fn user_properties_of_a_will_keep_their_order(on: &Target) {
    let topic = on.name("/w");
    let mut watcher = watch(on, &topic);
    let pairs = [("b", "1"), ("a", "2"), ("b", "3"), ("b", "1"), ("", "")];
    let properties = pairs.iter().fold(Properties::new(), |all, (key, value)| all.pair(key, value));
    let name = on.name("a");
    on.connect(&Connect::new(on.version, &name).with_will(&topic, b"gone", properties)).vanish();
    let will = watcher.next_message();
    let expected =
        pairs.map(|(key, value)| (property::USER_PROPERTY, Value::Pair(key.to_owned(), value.to_owned())));
    assert_eq!(will.properties, expected);
}

fn watch(on: &Target, topic: &str) -> Peer {
    let mut watcher = on.client("w");
    watcher.subscribe(topic, 2);
    watcher
}

fn persistent_with_will(on: &Target, name: &str, topic: &str, payload: &[u8], delay_s: u32) -> Peer {
    let delay = Properties::new().four(property::WILL_DELAY_INTERVAL, delay_s);
    on.connect(&Connect::persistent(on.version, name).with_will(topic, payload, delay))
}

fn leave_will(on: &Target, topic: &str, retain: bool) {
    let name = on.name("a");
    let mut connect = Connect::new(on.version, &name).with_will(topic, b"gone", Properties::new());
    if let Some(will) = &mut connect.will {
        will.retain = retain;
    }
    on.connect(&connect).vanish();
}
