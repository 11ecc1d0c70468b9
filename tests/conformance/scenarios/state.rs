//! Session state: how long it is kept, and which messages become part of it.

use std::time::Duration;

use crate::harness::packet::{Connect, PUBREC, PUBREL, Publish, acknowledgement};
use crate::harness::peer::{Peer, expiring};
use crate::harness::received::Received;
use crate::target::Target;

const EVERYBODY: [(&str, u8); 3] = [("/t", 1), ("/+", 2), ("/#", 1)];

/// A client of version 5 that resumes its session, which outlives the connection by this many seconds.
fn outliving(on: &Target, seconds: u32) -> Peer {
    let name = on.name("a");
    let mut connect = Connect::persistent(on.version, &name);
    connect.properties = expiring(seconds);
    on.connect(&connect)
}

pub(crate) fn it_lasts_as_long_as_the_connection(on: &Target) {
    let topic = on.name("/t");
    let mut publisher = on.client("p");
    // With a clean session, with an interval of 0, and with an interval that passes while the client is connected.
    let mut peers = vec![on.client("c")];
    if on.version.is_v5() {
        peers.push(outliving(on, 0));
        let (name, mut connect) = (on.name("b"), Connect::new(on.version, ""));
        connect.client_id = &name;
        connect.properties = expiring(1);
        peers.push(on.connect(&connect));
    }
    for peer in &mut peers {
        peer.subscribe(&topic, 2);
        peer.send(&Publish::new(&on.name("/own"), 2, b"x").with_packet_id(7).encode(on.version));
        peer.await_pubrec(7);
    }
    publisher.publish(&Publish::new(&topic, 2, b"early"));
    let open: Vec<u16> = peers.iter_mut().map(|peer| peer.next_publish().packet_id).collect();
    // The statement is about the duration of a session.
    std::thread::sleep(Duration::from_millis(2_200));
    publisher.publish(&Publish::new(&topic, 1, b"late"));
    for (peer, id) in peers.iter_mut().zip(open) {
        assert_eq!(peer.next_message().text(), "late", "the subscription is part of the session");
        peer.send(&acknowledgement(PUBREC, id));
        match peer.next() {
            Received::PubRel { packet_id, reason, .. } => {
                assert_eq!((packet_id, reason), (id, 0), "messages in flight are part of the session");
            }
            other => panic!("PUBREC was answered with {other:?}"),
        }
        peer.send(&acknowledgement(PUBREL, 7));
        match peer.next() {
            Received::PubComp { packet_id, reason, .. } => {
                assert_eq!((packet_id, reason), (7, 0), "received identifiers are part of the session");
            }
            other => panic!("PUBREL was answered with {other:?}"),
        }
    }
}

pub(crate) fn all_of_it_is_kept_while_the_client_is_away(on: &Target) {
    let (topic, other) = (on.name("/t"), on.name("/other"));
    let mut publisher = on.client("p");
    let mut peer = on.persistent("a");
    peer.subscribe(&topic, 2);
    let mut witness = on.client("w");
    witness.subscribe(&other, 2);
    publisher.publish(&Publish::new(&topic, 1, b"sent"));
    publisher.publish(&Publish::new(&topic, 2, b"half"));
    let (sent, half) = (peer.next_publish(), peer.next_publish());
    peer.send(&acknowledgement(PUBREC, half.packet_id));
    peer.await_packet("PUBREL", |packet| matches!(packet, Received::PubRel { .. }));
    peer.send(&Publish::new(&other, 2, b"own").with_packet_id(7).encode(on.version));
    peer.await_pubrec(7);
    peer.disconnect();
    publisher.publish(&Publish::new(&topic, 2, b"queued"));
    let mut peer = on.persistent("a");
    assert!(peer.session_present);
    let again = peer.next_message();
    assert_eq!((again.text(), again.packet_id), (sent.text(), sent.packet_id), "sent and not acknowledged");
    let released = peer.await_packet("PUBREL", |packet| matches!(packet, Received::PubRel { .. }));
    assert!(matches!(released, Received::PubRel { packet_id, .. } if packet_id == half.packet_id));
    assert_eq!(peer.next_message().text(), "queued", "a queued message");
    // A repetition of a message received before.
    let mut publish = Publish::new(&other, 2, b"own").with_packet_id(7);
    publish.dup = true;
    peer.send(&publish.encode(on.version));
    assert!(peer.complete(2, 7) < 0x80);
    peer.publish(&Publish::new(&other, 1, b"new"));
    for text in ["own", "new"] {
        assert_eq!(witness.next_message().text(), text, "a repetition is not a new message");
    }
    peer.disconnect();
}

pub(crate) fn it_is_discarded_when_its_interval_has_passed(on: &Target) {
    let topic = on.name("/t");
    for interval_s in [0, 1] {
        for ends_with_disconnect in [true, false] {
            let mut peer = outliving(on, interval_s);
            peer.subscribe(&topic, 1);
            if ends_with_disconnect {
                peer.disconnect();
            } else {
                // Without DISCONNECT, and noticed by the broker.
                peer.finish();
            }
            // The statement is about elapsed time.
            std::thread::sleep(Duration::from_millis(u64::from(interval_s) * 1000 + 1500));
            let mut peer = outliving(on, 0);
            assert!(!peer.session_present, "{interval_s} s have passed");
            on.client("p").publish(&Publish::new(&topic, 1, b"lost"));
            peer.subscribe(&topic, 1);
            on.client("p").publish(&Publish::new(&topic, 1, b"seen"));
            assert_eq!(peer.next_message().text(), "seen", "its subscription is gone");
            peer.disconnect();
        }
    }
}

pub(crate) fn a_message_is_added_to_every_session_that_wants_it(on: &Target) {
    for qos in [1, 2] {
        let scope = on.name(&format!("/{qos}"));
        let topic = format!("{scope}/t");
        for connected in [true, false] {
            let mut peers: Vec<(String, Peer)> = Vec::new();
            for (number, (filter, granted)) in EVERYBODY.into_iter().enumerate() {
                let name = format!("s{}{number}", u8::from(connected));
                let mut peer = on.persistent(&name);
                peer.subscribe(&format!("{scope}{filter}"), granted);
                peers.push((name, peer));
            }
            if !connected {
                peers = peers
                    .into_iter()
                    .map(|(name, peer)| {
                        peer.disconnect();
                        (name, on.open())
                    })
                    .collect();
            }
            on.client("p").publish(&Publish::new(&topic, qos, b"x"));
            // It was acknowledged, so the sessions have it even if the connections are lost.
            for ((name, peer), (_, granted)) in peers.into_iter().zip(EVERYBODY) {
                peer.vanish();
                let mut peer = on.persistent(&name);
                let message = peer.next_message();
                assert_eq!((message.text().as_str(), message.qos), ("x", granted.min(qos)));
                peer.unsubscribe(&[&format!("{scope}/t"), &format!("{scope}/+"), &format!("{scope}/#")]);
                peer.disconnect();
            }
        }
    }
}
