//! Retained messages are judged by the rules of their source when they are read, and members of groups by their own, on every shard.

use engine::{DropReason, SharedRules};
use rules::Kind;

use crate::client::{Client, Hello, plain};
use crate::host::Shard;
use crate::judging::limits;
use crate::rules::{ruled, with_users};
use crate::two_shards::{Two, name_on, topic_on};

/// The retained texts that a new client is sent.
fn retained(shard: &mut Shard, reader: &mut u32, filter: &str) -> Vec<String> {
    *reader += 1;
    let name = format!("reader-{reader}");
    let client = shard.connect(&Hello::v5(&name));
    shard.subscribe(client, filter, 1);
    shard.advance_ms(1);
    let texts = shard.texts(client);
    shard.goodbye(client);
    texts
}

fn everybody_reads(users: &[(&str, Kind, &str)]) -> SharedRules {
    with_users(&[(Kind::Subscribe, "#")], users)
}

/// Clients were sent retained messages of a source that had lost the right to publish them (CVE-2018-12546 of mosquitto).
#[test]
fn a_retained_message_is_read_as_long_as_its_source_may_publish_it() {
    let allowed = everybody_reads(&[("ann", Kind::Publish, "a/#"), ("bob", Kind::Publish, "#")]);
    ruled(limits(), &allowed, |shard| {
        let mut reader = 0;
        let ann = shard.connect_as(&Hello::v5("1"), "ann", &[]);
        let bob = shard.connect_as(&Hello::v5("2"), "bob", &[]);
        shard.publish_retained(ann, "a/1", b"ann's", 1);
        shard.publish_retained(ann, "a/2", b"ann's too", 1);
        shard.publish_retained(bob, "a/3", b"bob's", 1);
        assert_eq!(retained(shard, &mut reader, "a/+"), ["ann's", "ann's too", "bob's"]);
        shard.goodbye(ann);
        // She loses one of her topics.
        shard.change_rules(Some(&everybody_reads(&[
            ("ann", Kind::Publish, "a/2"),
            ("bob", Kind::Publish, "#"),
        ])));
        assert_eq!(retained(shard, &mut reader, "a/+"), ["ann's too", "bob's"]);
        assert_eq!(retained(shard, &mut reader, "a/1"), [""; 0]);
        assert_eq!(shard.engine.counters().retained_unread, 2);
        // A user that is removed has no message that is read, and they all stay.
        shard.change_rules(Some(&everybody_reads(&[("bob", Kind::Publish, "#")])));
        assert_eq!(retained(shard, &mut reader, "#"), ["bob's"]);
        assert_eq!(shard.engine.retained_count(), 3);
        shard.change_rules(Some(&allowed));
        assert_eq!(retained(shard, &mut reader, "a/+").len(), 3);
        let cleaner = shard.connect_as(&Hello::v5("3"), "bob", &[]);
        for topic in ["a/1", "a/2", "a/3"] {
            shard.publish_retained(cleaner, topic, b"", 1);
        }
    });
}

#[test]
fn a_source_is_its_client_identifier_and_the_roles_of_its_token_too() {
    let rules = |kind| {
        with_users(
            &[(Kind::Subscribe, "#"), (Kind::Publish, "clients/%c"), (Kind::Publish, "users/%u")],
            &[("writer", kind, "log")],
        )
    };
    ruled(limits(), &rules(Kind::Publish), |shard| {
        let mut reader = 0;
        let ann = shard.connect_as(&Hello::v5("pump"), "ann", &["writer"]);
        for topic in ["clients/pump", "users/ann", "log"] {
            assert_eq!(shard.publish_retained(ann, topic, topic.as_bytes(), 1), 0x10);
        }
        shard.goodbye(ann);
        assert_eq!(retained(shard, &mut reader, "#"), ["clients/pump", "log", "users/ann"]);
        shard.change_rules(Some(&rules(Kind::Deny)));
        assert_eq!(retained(shard, &mut reader, "#"), ["clients/pump", "users/ann"]);
        shard.change_rules(None);
        assert_eq!(retained(shard, &mut reader, "log"), ["log"]);
        let cleaner = shard.connect(&Hello::v5("cleaner"));
        for topic in ["clients/pump", "users/ann", "log"] {
            shard.publish_retained(cleaner, topic, b"", 1);
        }
    });
}

#[test]
fn a_message_of_nobody_is_read_and_a_will_has_the_source_of_its_client() {
    let allowed = everybody_reads(&[("ann", Kind::Publish, "wills/%c"), ("bob", Kind::Publish, "#")]);
    ruled(limits(), &allowed, |shard| {
        let mut reader = 0;
        shard.change_rules(None);
        let nobody = shard.connect(&Hello::v5("nobody"));
        shard.publish_retained(nobody, "open", b"nobody's", 1);
        shard.change_rules(Some(&allowed));
        for (client_id, topic) in [("1", "wills/1"), ("2", "wills/2")] {
            let will = Hello::v5(client_id).will_with(topic, "gone", wire::QoS::AtLeastOnce, true, 0);
            let client = shard.connect_as(&will, "ann", &[]);
            shard.hang_up(client);
        }
        assert_eq!(retained(shard, &mut reader, "#"), ["nobody's", "gone", "gone"]);
        shard.change_rules(Some(&everybody_reads(&[("bob", Kind::Publish, "#")])));
        assert_eq!(retained(shard, &mut reader, "#"), ["nobody's"]);
        shard.change_rules(None);
        for topic in ["open", "wills/1", "wills/2"] {
            shard.publish_retained(nobody, topic, b"", 1);
        }
    });
}

/// A client of a user whose session lives on a shard.
fn user_on(two: &mut Two, shard: u16, nth: usize, user: &str) -> Client {
    two.0[usize::from(shard)].connect_as(&Hello::v5(&name_on(shard, nth)), user, &[])
}

fn change(two: &mut Two, rules: Option<&SharedRules>) {
    for shard in &mut two.0 {
        shard.change_rules(rules);
    }
    two.settle();
}

#[test]
fn the_home_of_a_topic_judges_messages_that_came_from_another_shard() {
    let mut two = Two::with(&limits());
    let allowed = everybody_reads(&[("ann", Kind::Publish, "t/#")]);
    change(&mut two, Some(&allowed));
    let ann = user_on(&mut two, 0, 0, "ann");
    let topics = [topic_on(0, 0), topic_on(1, 0)];
    for topic in &topics {
        assert_eq!(two.0[0].publish_retained(ann, topic, b"x", 1), 0x10);
    }
    two.settle();
    for (rules, count) in [(&allowed, 2), (&everybody_reads(&[]), 0), (&allowed, 2)] {
        change(&mut two, Some(rules));
        for shard in [0, 1] {
            let reader = two.0[usize::from(shard)].connect(&Hello::v5(&name_on(shard, 1)));
            two.subscribe_with(usize::from(shard), reader, "t/+", plain(1));
            assert_eq!(two.0[usize::from(shard)].texts(reader).len(), count, "shard {shard}");
            two.0[usize::from(shard)].goodbye(reader);
        }
    }
    change(&mut two, None);
    for topic in &topics {
        two.0[0].publish_retained(ann, topic, b"", 1);
    }
    two.finish();
}

/// A message of a group was dropped if nobody on the chosen shard might read it.
#[test]
fn a_shard_whose_members_may_not_read_is_passed_over() {
    let can_read = |user| with_users(&[(Kind::Publish, "#")], &[(user, Kind::Subscribe, "t")]);
    for may_read in [0, 1] {
        for is_offline in [false, true] {
            let mut two = Two::with(&limits());
            change(&mut two, Some(&with_users(&[(Kind::Publish, "#"), (Kind::Subscribe, "t")], &[])));
            let members = [0, 1].map(|shard| {
                let user = format!("user-{shard}");
                let name = name_on(shard, 0);
                let hello = Hello::v5(&name).resume();
                let client = two.0[usize::from(shard)].connect_as(&hello, &user, &[]);
                two.subscribe_with(usize::from(shard), client, "$share/g/t", plain(1));
                client
            });
            let publisher = two.0[0].connect(&Hello::v5(&name_on(0, 1)));
            let rules = can_read(if may_read == 0 { "user-0" } else { "user-1" });
            change(&mut two, Some(&rules));
            if is_offline {
                two.0[may_read].hang_up(members[may_read]);
                two.settle();
            }
            // Both shards have their turn.
            for _ in 0..4 {
                two.0[0].publish(publisher, "t", b"x", 1);
                two.settle();
            }
            if is_offline {
                let name = name_on(u16::try_from(may_read).expect("there are two"), 0);
                let user = format!("user-{may_read}");
                let again = two.0[may_read].connect_as(&Hello::v5(&name).resume(), &user, &[]);
                two.settle();
                assert_eq!(two.0[may_read].texts(again), ["x"; 4]);
            } else {
                assert_eq!(two.0[may_read].texts(members[may_read]), ["x"; 4]);
            }
            // Nobody anywhere: each shard is asked, and the drop is counted once.
            change(&mut two, Some(&with_users(&[(Kind::Publish, "#")], &[])));
            two.0[0].publish(publisher, "t", b"x", 1);
            two.settle();
            let dropped = |shard: &Shard| shard.engine.counters().dropped[DropReason::NoMember.index()];
            assert_eq!(two.0.iter().map(dropped).sum::<u64>(), 1, "{may_read} {is_offline}");
            change(&mut two, None);
            two.finish();
        }
    }
}
