//! Shared subscriptions: their names, and messages that a member cannot or will not accept. The choice of a member is not
//! tested, since the standard does not define it.

use super::refusal::{closes_or_fails, subscribe_bytes};
use crate::harness::packet::{
    Connect, PUBACK, PUBCOMP, PUBREC, Properties, Publish, acknowledgement, packet, property,
};
use crate::harness::peer::Peer;
use crate::harness::received::{Message, Received};
use crate::harness::time::{Deadline, patience};
use crate::target::Target;

/// Checks that each of these filters is refused, and that the corrected filter is accepted.
fn refuses(on: &Target, filters: &[&str]) {
    for filter in filters {
        let bytes = subscribe_bytes(on.version, 1, &[(filter.as_bytes(), 1)]);
        closes_or_fails(on, filter, &bytes, &[0x81, 0x82, 0x8F]);
    }
    let (mut peer, mut publisher) = (on.client("s"), on.client("p"));
    for (share, topic) in [("g", "/t"), ("\u{e4} \u{1F600}", "/u"), ("$share", "/v"), ("a.b", "/w/x")] {
        let topic = on.name(topic);
        let filter = format!("$share/{share}{}/{topic}", on.name(""));
        assert_eq!(peer.subscribe(&filter, 1), 1, "{filter}");
        publisher.publish(&Publish::new(&topic, 1, b"m"));
        assert_eq!(peer.next_message().topic, topic);
    }
}

pub(crate) fn a_share_has_a_name(on: &Target) {
    refuses(on, &["$share/", "$share//", "$share//t", "$share//#", "$share//t/u"]);
}

pub(crate) fn a_share_name_has_no_wildcard_and_a_filter_follows(on: &Target) {
    refuses(
        on,
        &[
            "$share/+/t",
            "$share/#/t",
            "$share/g+/t",
            "$share/+g/t",
            "$share/g#/t",
            "$share/#",
            "$share/+",
            "$share/g",
            "$share/g/",
            "$share/group",
            "$share/g/t#",
            "$share/g/#/t",
            "$share/g/t+",
        ],
    );
}

pub(crate) fn the_granted_quality_is_kept(on: &Target) {
    let mut publisher = on.client("p");
    for requested in 0..3 {
        let topic = on.name(&format!("/{requested}"));
        let mut peer = on.client("s");
        let granted = peer.subscribe(&format!("$share/g/{topic}"), requested);
        assert!(granted <= requested, "granted {granted:#04x} of {requested}");
        for published in 0..3 {
            publisher.publish(&Publish::new(&topic, published, b"m"));
            assert_eq!(peer.next_message().qos, published.min(granted), "published with {published}");
        }
    }
    // Each member of a group keeps its own granted QoS.
    let topic = on.name("/mixed");
    let mut members: Vec<(u8, Peer)> = (0..3)
        .map(|qos| {
            let mut member = on.client(&format!("m{qos}"));
            assert_eq!(member.subscribe(&format!("$share/g/{topic}"), qos), qos);
            (qos, member)
        })
        .collect();
    for _ in 0..30 {
        publisher.publish(&Publish::new(&topic, 2, b"m"));
        let (chosen, message) = next_receiver(members.iter_mut().map(|(_, member)| member));
        members[chosen].1.acknowledge(&message);
        assert_eq!(message.qos, members[chosen].0);
    }
}

/// Polls the members in turn until one receives a PUBLISH, which is not acknowledged.
fn next_receiver<'a>(members: impl Iterator<Item = &'a mut Peer>) -> (usize, Message) {
    let mut members: Vec<&mut Peer> = members.collect();
    let deadline = Deadline::after(patience());
    while deadline.remaining().is_some() {
        for (number, member) in members.iter_mut().enumerate() {
            member.ping();
            if member.waiting().iter().any(|packet| matches!(packet, Received::Publish(_))) {
                return (number, member.next_publish());
            }
        }
    }
    panic!("no member received the message");
}

/// Two members of one group; each also subscribes to `end` itself.
struct Group {
    topic: String,
    end: String,
    publisher: Peer,
    members: Vec<Peer>,
}

impl Group {
    fn new(on: &Target, qos: u8, connect: impl Fn(&str) -> Peer) -> Self {
        let (topic, end) = (on.name("/t"), on.name("/end"));
        let members = ["a", "b"].map(|suffix| {
            let mut member = connect(suffix);
            member.subscribe(&format!("$share/g/{topic}"), qos);
            member.subscribe(&end, 1);
            member
        });
        Self { topic, end, publisher: on.client("p"), members: members.into() }
    }

    /// Publishes a message. Returns the receiving member's name, that member, the other member, and the message.
    fn share(&mut self, qos: u8) -> (&'static str, Peer, Peer, Message) {
        self.publisher.publish(&Publish::new(&self.topic, qos, b"shared"));
        let (chosen, message) = next_receiver(self.members.iter_mut());
        let member = self.members.remove(chosen);
        let other = self.members.remove(0);
        (if chosen == 0 { "a" } else { "b" }, member, other, message)
    }

    /// Asserts that the peers receive the end message and nothing before it.
    fn assert_nothing_until_end(&mut self, peers: &mut [&mut Peer]) {
        self.publisher.publish(&Publish::new(&self.end, 1, b"end"));
        for peer in peers {
            assert_eq!(peer.next_message().text(), "end", "the message was for one member");
        }
    }
}

pub(crate) fn delivery_is_completed_when_its_member_is_back(on: &Target) {
    // The connection is lost before PUBREC, and after it.
    for after_pubrec in [false, true] {
        let mut group = Group::new(on, 2, |suffix| on.persistent(suffix));
        let (name, mut member, mut other, message) = group.share(2);
        assert_eq!(message.qos, 2);
        let id = message.packet_id;
        let is_pubrel = |p: &Received| matches!(p, Received::PubRel { packet_id, .. } if *packet_id == id);
        if after_pubrec {
            member.send(&acknowledgement(PUBREC, id));
            member.await_packet("PUBREL", is_pubrel);
        }
        member.vanish();
        let mut member = on.persistent(name);
        assert!(member.session_present);
        if after_pubrec {
            member.await_packet("PUBREL", is_pubrel);
            member.send(&acknowledgement(PUBCOMP, id));
        } else {
            let again = member.next_publish();
            assert_eq!((again.text().as_str(), again.packet_id, again.qos), ("shared", id, 2));
            assert!(again.dup);
            member.acknowledge(&again);
        }
        group.assert_nothing_until_end(&mut [&mut member, &mut other]);
        for (peer, suffix) in [(member, name), (other, if name == "a" { "b" } else { "a" })] {
            peer.disconnect();
            on.client(suffix).disconnect();
        }
    }
}

pub(crate) fn an_incomplete_qos_2_delivery_ends_with_its_session(on: &Target) {
    let wills = on.name("/will");
    let mut group = Group::new(on, 2, |suffix| {
        let name = on.name(suffix);
        // The sessions end with these connections.
        on.connect(&Connect::new(on.version, &name).with_will(&wills, b"ended", Properties::new()))
    });
    let (_, member, mut other, _) = group.share(2);
    other.subscribe(&wills, 1);
    member.vanish();
    assert_eq!(other.next_message().text(), "ended");
    group.assert_nothing_until_end(&mut [&mut other]);
}

pub(crate) fn a_message_refused_by_its_member_goes_to_no_other(on: &Target) {
    for qos in [1, 2] {
        for reason in [0x80, 0x83, 0x87, 0x97] {
            let mut group = Group::new(on, qos, |suffix| on.persistent(suffix));
            let (name, mut member, mut other, message) = group.share(qos);
            let [high, low] = message.packet_id.to_be_bytes();
            let first_byte = if qos == 1 { PUBACK } else { PUBREC };
            member.send(&packet(first_byte, &[high, low, reason]));
            member.settle();
            member.vanish();
            let mut member = on.persistent(name);
            group.assert_nothing_until_end(&mut [&mut member, &mut other]);
            for (peer, suffix) in [(member, name), (other, if name == "a" { "b" } else { "a" })] {
                let ended = Properties::new().four(property::SESSION_EXPIRY_INTERVAL, 0);
                peer.disconnect_with(0, &ended);
                on.client(suffix).disconnect();
            }
        }
    }
}
