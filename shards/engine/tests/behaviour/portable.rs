//! What outlives the process, described and brought back by another shard, is the same there, and goes on.

use engine::{Limits, Portable};
use wire::{AckKind, Packet, Publish};

use crate::client::{Got, Hello, publish};
use crate::host::Shard;

fn logged() -> Shard {
    Shard::with_log(Limits::default(), 7, true)
}

fn described(shard: &Shard) -> Vec<String> {
    let mut lines = Vec::new();
    shard.engine.describe(shard.now(), &mut |portable| lines.push(format!("{portable:?}")));
    lines
}

/// Another shard that was brought everything back of this one.
fn brought_back(shard: &Shard) -> Shard {
    let mut other = logged();
    other.pass_ms(shard.now().as_ms() - other.now().as_ms());
    let now = other.now();
    shard.engine.describe(now, &mut |portable| {
        other.engine.bring_back(now, portable).expect("it was described");
    });
    other.settle();
    other
}

#[test]
fn everything_that_is_described_is_brought_back_and_survives_there() {
    let mut shard = logged();
    let publisher = shard.connect(&Hello::v5("publisher"));
    shard.publish_retained(publisher, "kept", b"k", 1);
    let mut expiring = Publish { retain: true, ..publish("soon", b"s", 1, 9) };
    expiring.properties.message_expiry_interval_s = Some(100);
    expiring.properties.content_type = Some("text");
    shard.publish_packet(publisher, &expiring);
    let reader = shard.connect(&Hello::v5("reader").expiry_s(1_000).receive_maximum(2));
    shard.subscribe(reader, "t", 2);
    for (payload, qos) in [("1", 1), ("2", 2), ("3", 1), ("4", 2)] {
        shard.publish(publisher, "t", payload.as_bytes(), qos);
    }
    let sent = shard.messages(reader);
    // Its handshake is at its end there, since the message has arrived.
    shard.ack(reader, AckKind::PubRec, sent[1].id);
    shard.take(reader);
    shard.hang_up(reader);
    let waiting = shard.connect(&Hello::v5("waiting").expiry_s(500).will("w", "will", 60));
    shard.hang_up(waiting);
    let volatile = shard.connect(&Hello::v5("volatile"));
    shard.subscribe(volatile, "t", 1);
    shard.advance_ms(10_000);

    let before = described(&shard);
    assert_eq!(before.len(), 2 + 2 + 1 + 3, "{before:#?}");
    let mut other = brought_back(&shard);
    assert_eq!(described(&other), before);
    // The log has it all.
    let recovered = other.log.recovered(other.log.batch_count(), other.now().as_ms());
    assert_eq!(described(&recovered), before);

    let watcher = other.connect(&Hello::v5("watcher"));
    other.subscribe(watcher, "w", 0);
    other.advance_ms(49_000);
    assert_eq!(other.texts(watcher), [""; 0], "ten seconds of its delay have passed");
    other.advance_ms(2_000);
    assert_eq!(other.texts(watcher), ["will"]);
    let reader = other.connect(&Hello::v5("reader").expiry_s(1_000).resume());
    assert_eq!(other.texts(reader), ["1", "3", "4"]);
    other.finish();
    shard.finish();
}

#[test]
fn something_that_cannot_have_been_described_is_refused_with_its_reason() {
    let mut shard = logged();
    let reader = shard.connect(&Hello::v5("reader").resume());
    shard.subscribe(reader, "t", 1);
    let publisher = shard.connect(&Hello::v5("publisher"));
    shard.hang_up(reader);
    shard.send(publisher, &Packet::Publish(Publish { retain: true, ..publish("t", b"x", 1, 5) }));
    assert!(matches!(shard.take(publisher)[..], [Got::Ack(AckKind::PubAck, 5, 0)]));
    let now = shard.now();
    let mut faults = Vec::new();
    let mut other = logged();
    shard.engine.describe(now, &mut |portable| {
        let mut try_with =
            |changed: Portable<'_>| faults.extend(other.engine.bring_back(now, &changed).err());
        match portable.clone() {
            Portable::Retained(message, user) => {
                for topic in ["", "a/#", "$SYS/x"] {
                    try_with(Portable::Retained(engine::PortableMessage { topic, ..message }, user));
                }
                try_with(Portable::Retained(engine::PortableMessage { payload: b"", ..message }, user));
                try_with(Portable::Retained(engine::PortableMessage { properties: b"?", ..message }, user));
                try_with(Portable::Retained(engine::PortableMessage { qos: 3, ..message }, user));
            }
            // Before its session.
            Portable::Owed { .. } => try_with(portable.clone()),
            Portable::Session(_) | Portable::Will { .. } => {}
        }
    });
    assert_eq!(faults.len(), 7, "{faults:#?}");
    assert!(faults[6].contains("no session of \"reader\""), "{faults:#?}");
    assert_eq!(described(&other), [""; 0]);
    other.finish();
    shard.finish();
}
