//! Every kind of record is read as it was written; bytes that nobody wrote are an error and never a panic.

use alloc::format;
use alloc::vec::Vec;

use wire::{QoS, RetainHandling, SubscribeOptions, SubscriptionId};

use super::body::kind;
use super::*;
use crate::base::time::Instant;

fn content(expires_at: Option<Instant>) -> Content<'static> {
    Content::new(("a/b", &[1, 2, 3], b"payload"), (QoS::ExactlyOnce, true), expires_at)
}

fn deliveries() -> Vec<u8> {
    let mut identifiers = Vec::new();
    put_number(&mut identifiers, 7);
    put_number(&mut identifiers, 300);
    let mut out = Vec::new();
    for (qos, group, identifiers) in [
        (QoS::AtLeastOnce, None, Numbers::default()),
        (QoS::ExactlyOnce, Some(u64::MAX), Numbers::of(&identifiers)),
    ] {
        let terms = Terms::new(group.is_some(), group, identifiers);
        DeliveryBody::new((1 << 40 | 5, 70_000), qos, terms).encode(&mut out);
    }
    out
}

fn targets() -> Vec<u8> {
    let mut out = Vec::new();
    let keys = [7u64.to_le_bytes(), u64::MAX.to_le_bytes()].concat();
    let plain = Purpose::new([true, false, false, false]);
    let all = Purpose::new([false, true, true, true]);
    for (shard, purpose, author, groups, tried) in
        [(0, plain, (0, ""), &[][..], 0), (63, all, (u64::MAX, "user"), &keys, u64::MAX)]
    {
        TargetBody::new(shard, purpose, (shard, 1 << 40 | 7), author, (groups, tried)).encode(&mut out);
    }
    out
}

/// Calls `visit` with a body of each kind and of each form that a kind has.
fn each(mut visit: impl FnMut(Body<'_>)) {
    let mut owed = Vec::new();
    for number in [1, 70_000, u64::MAX] {
        put_number(&mut owed, number);
    }
    let owed = Numbers::of(&owed);
    let options = SubscribeOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: false,
        retain_handling: RetainHandling::DoNotSend,
    };
    let session = 9 << 40 | 1;
    visit(Body::Settled { session, delivery: 0 });
    visit(Body::Received { session, delivery: u64::MAX });
    visit(Body::Released { session, packet_id: u16::MAX });
    visit(Body::Accepted { session, packet_id: 1 });
    visit(Body::Numbered { session, next_delivery: 77 });
    for (client_id, user, expiry_interval_s, will) in [("c", "", 0, u64::MAX), ("", "u", u32::MAX, 0)] {
        visit(Body::Session { number: session, client_id, user, expiry_interval_s, will });
    }
    visit(Body::Ended { session, owed: Numbers::default() });
    visit(Body::Ended { session, owed });
    visit(Body::Detached { session, at_ms: 12 });
    for (identifier, look_up_since) in [(None, None), (SubscriptionId::new(268_435_455), Some(3))] {
        let filter = "$share/g/a/+";
        visit(Body::Subscribed { session, filter, options, identifier, look_up_since });
    }
    visit(Body::Unsubscribed { session, filter: "a/#", owed });
    for expiry_interval_s in [None, Some(0), Some(u32::MAX)] {
        let content = content(None);
        visit(Body::Will { number: 4, user: "u", delay_interval_s: 5, expiry_interval_s, content });
    }
    visit(Body::WillEnded { number: 4 });
    visit(Body::Expired { topic: "a" });
    for cursor in [LookedUp::Done, LookedUp::At("a"), LookedUp::After("b")] {
        visit(Body::LookedUp { session, filter: "#", shard: 63, cursor });
    }
    visit(Body::Taken { source: 63, sequence: session });
    visit(Body::Crossed { target: 0, sequence: u64::MAX });
    let list = deliveries();
    let targets = targets();
    let crossing = Crossing::new(Some((3, session)), TargetList::of(&targets));
    visit(Body::Message {
        number: 1,
        sender: Some((session, 9)),
        ends: Some((session, 2)),
        will: Some(3),
        stored: Some(StoredBody::new((u64::MAX, "u"), (2, 5))),
        crossing,
        deliveries: DeliveryList::of(&list),
        content: Some(content(Some(Instant::from_ms(77)))),
        goes_on: false,
    });
    for (content, goes_on) in [(Some(content(None)), true), (None, true), (None, false)] {
        let deliveries = DeliveryList::default();
        let (number, sender, ends, will, stored) = (2, None, None, None, None);
        let crossing = Crossing::default();
        visit(Body::Message { number, sender, ends, will, stored, crossing, deliveries, content, goes_on });
    }
}

#[test]
fn a_body_of_every_kind_is_read_as_it_was_written() {
    let mut kinds = Vec::new();
    each(|body| {
        let mut bytes = Vec::new();
        let kind = body.encode(&mut bytes);
        let decoded = Body::decode(kind, &bytes).expect("it was just written");
        assert_eq!(format!("{decoded:?}"), format!("{body:?}"));
        kinds.push(kind);
    });
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            1,
            2,
            3,
            4,
            5,
            6,
            7,
            8,
            9,
            10,
            11,
            kind::TAKEN,
            kind::LOOKED_UP,
            kind::WILL_ENDED,
            kind::ACCEPTED,
            kind::NUMBERED,
            kind::CROSSED
        ]
    );
}

#[test]
fn a_list_of_deliveries_has_all_of_them() {
    let bytes = deliveries();
    let read: Vec<_> = DeliveryList::of(&bytes).iter().collect();
    assert_eq!(read.len(), 2);
    let second = (read[1].of().1, read[1].terms().group(), read[1].qos());
    assert_eq!(second, (70_000, Some(u64::MAX), QoS::ExactlyOnce));
    assert_eq!(read[1].terms().identifiers().iter().collect::<Vec<_>>(), [7, 300]);
    assert_eq!(read[0].terms().identifiers().iter().count(), 0);
}

#[test]
fn a_body_that_was_cut_or_changed_is_an_error_or_another_body_and_never_a_panic() {
    each(|body| {
        let mut bytes = Vec::new();
        let kind = body.encode(&mut bytes);
        for end in 0..bytes.len() {
            let _any = Body::decode(kind, &bytes[..end]);
            // A body that can be read is written and read alike.
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[end] ^= 1 << bit;
                if let Ok(read) = Body::decode(kind, &changed) {
                    let mut again = Vec::new();
                    assert_eq!(read.encode(&mut again), kind);
                    let second = Body::decode(kind, &again).expect("it was just written");
                    assert_eq!(format!("{second:?}"), format!("{read:?}"));
                }
            }
        }
        for other in 0..=u8::MAX {
            let _any = Body::decode(other, &bytes);
        }
    });
    for kind in [0, 12, 13, 14, 20, u8::MAX] {
        assert!(Body::decode(kind, &[]).is_err(), "{kind}");
    }
}

#[test]
fn what_is_settled_during_its_own_fan_out_follows_its_message() {
    let mut recorder = Recorder::new(NonZeroU32::MIN);
    let session = recorder.next_number();
    assert_eq!(session.get(), (1 << 40) + 1);
    recorder.settled(session, 1);
    recorder.add_delivery(session, 2, QoS::AtLeastOnce, (false, None, &[]));
    recorder.settled(session, 2);
    recorder.end_message(5, &content(None));
    recorder.end_message(6, &content(None));
    let kinds: Vec<u8> = kinds(recorder.take());
    assert_eq!(kinds, [kind::SETTLED, kind::MESSAGE, kind::SETTLED]);
    assert!(recorder.is_empty());
}

/// The kinds of short records, whose length is one byte.
fn kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [length, kind, ..] = bytes {
        assert!(*length < 0x80);
        kinds.push(*kind);
        bytes = &bytes[1 + usize::from(*length)..];
    }
    kinds
}

#[test]
fn the_last_part_of_a_message_has_its_transfer_and_its_targets() {
    let mut recorder = Recorder::new(NonZeroU32::MIN);
    let target = TargetBody::new(3, Purpose::default(), (1, 5), (0, ""), (&[], 0));
    recorder.set_from(2, 9);
    recorder.add_target(&target);
    recorder.cut_message(5, &content(None));
    recorder.cut_message(5, &content(None));
    recorder.end_cut_message();
    assert!(recorder.has_recorded());
    let bytes = recorder.take().to_vec();
    let parts: Vec<_> =
        bodies(&bytes).map(|body| Body::decode(kind::MESSAGE, body).expect("a part")).collect();
    let [Body::Message { crossing: first, content: Some(_), goes_on: true, .. }, last] = parts[..] else {
        panic!("{parts:?}");
    };
    assert_eq!(first, Crossing::default());
    let Body::Message { crossing, content: None, goes_on: false, .. } = last else { panic!("{last:?}") };
    assert_eq!(crossing.from(), Some((2, 9)));
    assert_eq!(crossing.targets().iter().collect::<Vec<_>>(), [target]);
    // Nothing of a message that came from elsewhere has to outlive the process: it has no record.
    recorder.set_from(2, 10);
    recorder.end_message(6, &content(None));
    assert!(!recorder.has_recorded() && recorder.is_empty());
}

/// The bodies of short records.
fn bodies(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    core::iter::from_fn(move || {
        let (&length, rest) = bytes.split_first()?;
        assert!(length < 0x80);
        let (record, rest) = rest.split_at(length.into());
        bytes = rest;
        Some(&record[1..])
    })
}
