//! Rules about topics: what a client may not do is refused and counted, and a change of the rules decides from its event on.

use engine::{DropReason, Event, Limits, SessionOwner, SharedRules, UserGrant, Verdict};
use rules::{Access, Kind, Origin, RulesBuilder};
use wire::{AckKind, Packet, ProtocolVersion};

use crate::client::{Client, Got, Hello, plain, publish};
use crate::host::{Drain, Shard, run};
use crate::judging::{JUDGED, judge, limits};

const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];

/// Rules of everybody: kinds with their filters.
fn of(rules: &[(Kind, &str)]) -> SharedRules {
    with_users(rules, &[])
}

/// Rules of everybody, and those of users.
pub(crate) fn with_users(rules: &[(Kind, &str)], users: &[(&str, Kind, &str)]) -> SharedRules {
    let mut builder = RulesBuilder::new(Access::Deny);
    let role = builder.role("everybody");
    for (kind, filter) in rules {
        builder.add(role, *kind, filter, Origin::default()).expect("tests use good filters");
    }
    builder.everybody(&["everybody"]).expect("the role exists");
    for (user, kind, filter) in users {
        let role = builder.role(user);
        builder.add(role, *kind, filter, Origin::default()).expect("tests use good filters");
        builder.user(user, &[user]).expect("the role exists");
    }
    SharedRules::new(builder.build())
}

impl Shard {
    pub(crate) fn change_rules(&mut self, rules: Option<&SharedRules>) {
        self.raw_step(Event::Rules(rules));
        self.settle();
    }

    /// A client of a user, whose token has these roles.
    pub(crate) fn connect_as(&mut self, hello: &Hello<'_>, user: &str, roles: &[&str]) -> Client {
        let client = self.dial_on(JUDGED, hello);
        let grant = UserGrant { user: Some(user), roles, ..UserGrant::NOBODY };
        judge(self, Verdict::Success { data: b"", grant: &grant });
        match self.next(client) {
            Some(Got::ConnAck { reason: 0, .. }) => client,
            other => panic!("not let in: {other:?}"),
        }
    }

    fn reads_denied(&self) -> u64 {
        self.engine.counters().reads_denied
    }
}

/// Runs a test with rules, and ends it without any, so that everything can be tidied up.
pub(crate) fn ruled(limits: Limits, rules: &SharedRules, test: impl FnOnce(&mut Shard)) {
    run(limits, |shard| {
        shard.change_rules(Some(rules));
        test(shard);
        shard.settle();
        shard.change_rules(None);
    });
}

#[test]
fn a_publish_that_is_not_allowed_reaches_nobody_and_is_answered_by_version() {
    let rules = of(&[(Kind::Publish, "a/#"), (Kind::Subscribe, "#"), (Kind::Deny, "a/secret")]);
    for version in VERSIONS {
        ruled(Limits::default(), &rules, |shard| {
            let watcher = shard.connect(&Hello::v5("watcher"));
            // The deny has it checked.
            shard.subscribe(watcher, "#", 2);
            let client = shard.connect(&Hello::new(version, "c"));
            let told = if version == ProtocolVersion::V5 { 0x87 } else { 0 };
            for qos in 0..=2 {
                for topic in ["b", "a/secret"] {
                    let expected = if qos == 0 { 0 } else { told };
                    assert_eq!(shard.publish(client, topic, b"no", qos), expected);
                }
                assert_eq!(shard.publish(client, "a/b", b"yes", qos), 0);
            }
            // A repetition of one that was denied is acknowledged again, and its handshake ends.
            let id = 7;
            for _ in 0..2 {
                shard.send(client, &Packet::Publish(publish("b", b"no", 2, id)));
                assert_eq!(shard.acked(client, AckKind::PubRec, id), Some(told));
            }
            shard.ack(client, AckKind::PubRel, id);
            let expected = if version == ProtocolVersion::V5 { 0x92 } else { 0 };
            assert_eq!(shard.acked(client, AckKind::PubComp, id), Some(expected));
            assert_eq!(shard.texts(watcher), ["yes"; 3]);
            let denied = if version == ProtocolVersion::V5 { 8 } else { 7 };
            assert_eq!(shard.engine.counters().publishes_forbidden, denied);
        });
    }
}

#[test]
fn a_client_that_publishes_what_it_may_not_is_closed_if_the_limits_say_so() {
    let limits = Limits { denied_publish_closes: true, ..Limits::default() };
    for version in VERSIONS {
        for qos in 0..=2 {
            ruled(limits.clone(), &of(&[(Kind::Publish, "a")]), |shard| {
                let client = shard.connect(&Hello::new(version, "c"));
                shard.send(client, &Packet::Publish(publish("b", b"no", qos, 1)));
                let told = (version == ProtocolVersion::V5).then_some(0x87);
                assert_eq!(shard.ended(client), told);
            });
        }
    }
}

#[test]
fn a_publish_is_decided_anew_for_each_topic_alias_and_change() {
    let rules = of(&[(Kind::Publish, "a"), (Kind::Publish, "%c/x")]);
    ruled(Limits::default(), &rules, |shard| {
        let client = shard.connect(&Hello::v5("c"));
        for _ in 0..3 {
            assert_eq!(shard.publish(client, "a", b"", 1), 0x10);
            assert_eq!(shard.publish(client, "a", b"", 1), 0x10);
            assert_eq!(shard.publish(client, "c/x", b"", 1), 0x10);
            assert_eq!(shard.publish(client, "d/x", b"", 1), 0x87);
        }
        // Topics that evict each other from the match cache do not inherit what the other may.
        for number in 0..3000 {
            assert_eq!(shard.publish(client, &format!("evict/{number}"), b"", 1), 0x87);
            assert_eq!(shard.publish(client, "a", b"", 1), 0x10);
        }
        assert_eq!(shard.publish(client, "a", b"", 1), 0x10);
        shard.change_rules(Some(&of(&[(Kind::Publish, "b")])));
        assert_eq!(shard.publish(client, "a", b"", 1), 0x87);
        assert_eq!(shard.publish(client, "b", b"", 1), 0x10);
        shard.change_rules(None);
        assert_eq!(shard.publish(client, "a", b"", 1), 0x10);
    });
}

#[test]
fn a_subscription_gets_what_it_may_read_and_no_more() {
    let rules = of(&[
        (Kind::Publish, "#"),
        (Kind::Subscribe, "a/+"),
        (Kind::Subscribe, "covered/#"),
        (Kind::Deny, "a/secret"),
    ]);
    for version in VERSIONS {
        for accepts in [false, true] {
            let limits = Limits { denied_subscribe_accepted: accepts, ..Limits::default() };
            ruled(limits, &rules, |shard| {
                let client = shard.connect(&Hello::new(version, "c"));
                let filters = ["covered/x", "a/#", "b", "$SYS/#"].map(|filter| (filter, plain(1)));
                let refused = match (accepts, version) {
                    (true, _) => 1,
                    (false, ProtocolVersion::V5) => 0x87,
                    (false, _) => 0x80,
                };
                assert_eq!(shard.subscribe_with(client, &filters, None), [1, 1, refused, refused]);
                let publisher = shard.connect(&Hello::v5("p"));
                for topic in ["covered/x", "a/b", "a/secret", "a/b/c", "b"] {
                    shard.publish(publisher, topic, topic.as_bytes(), 1);
                }
                assert_eq!(shard.texts(client), ["covered/x", "a/b"]);
                // Nobody may publish to a/secret either.
                assert_eq!(shard.reads_denied(), if accepts { 2 } else { 1 });
                assert_eq!(shard.engine.counters().subscriptions_forbidden, if accepts { 0 } else { 2 });
            });
        }
    }
}

#[test]
fn retained_messages_that_may_not_be_read_are_not_sent() {
    let rules = of(&[(Kind::Publish, "#"), (Kind::Subscribe, "a/#"), (Kind::Deny, "a/secret")]);
    ruled(Limits::default(), &rules, |shard| {
        let publisher = shard.connect(&Hello::v5("p"));
        for topic in ["a/b", "a/secret", "b"] {
            shard.publish_retained(publisher, topic, topic.as_bytes(), 1);
        }
        let client = shard.connect(&Hello::v5("c"));
        shard.subscribe(client, "#", 1);
        shard.advance_ms(1);
        assert_eq!(shard.texts(client), ["a/b"]);
    });
}

#[test]
fn users_have_their_roles_and_those_of_their_token() {
    let rules = with_users(
        &[(Kind::Publish, "users/%u")],
        &[("ann", Kind::Publish, "ann"), ("bob", Kind::Publish, "bob")],
    );
    ruled(limits(), &rules, |shard| {
        let ann = shard.connect_as(&Hello::v5("1"), "ann", &[]);
        let bob = shard.connect_as(&Hello::v5("2"), "bob", &["ann", "unknown"]);
        let nobody = shard.connect(&Hello::v5("3").credentials("ann", b""));
        for (client, allowed) in
            [(ann, ["ann", "users/ann"].as_slice()), (bob, &["bob", "ann", "users/bob"]), (nobody, &[])]
        {
            for topic in ["ann", "bob", "users/ann", "users/bob", "users/"] {
                let expected = if allowed.contains(&topic) { 0x10 } else { 0x87 };
                assert_eq!(shard.publish(client, topic, b"", 1), expected, "{topic}");
            }
        }
        // A role of a token outlives a change, and a user's own roles follow it.
        shard.change_rules(Some(&with_users(
            &[],
            &[("ann", Kind::Publish, "new"), ("bob", Kind::Publish, "b2")],
        )));
        for (topic, expected) in [("new", 0x10), ("b2", 0x10), ("bob", 0x87), ("ann", 0x87)] {
            assert_eq!(shard.publish(bob, topic, b"", 1), expected, "{topic}");
        }
    });
}

#[test]
fn a_name_that_could_act_in_a_rule_is_not_let_in() {
    let rules = of(&[(Kind::Publish, "%c/#")]);
    ruled(Limits::default(), &rules, |shard| {
        for (version, told) in [(ProtocolVersion::V3_1_1, 0x85), (ProtocolVersion::V5, 0x85)] {
            for name in ["a/b", "+", "#"] {
                let client = shard.dial(&Hello::new(version, name));
                let reason = match shard.next(client) {
                    Some(Got::ConnAck { reason, .. }) => reason,
                    other => panic!("{other:?}"),
                };
                assert_eq!(reason, told);
                assert!(shard.is_closed(client));
            }
        }
        assert_eq!(shard.engine.session_count(), 0);
        let client = shard.connect(&Hello::v5("c"));
        assert_eq!(shard.publish(client, "c/x", b"", 1), 0x10);
    });
    ruled(Limits::default(), &of(&[(Kind::Publish, "a")]), |shard| {
        let client = shard.connect(&Hello::v5("a/b"));
        assert_eq!(shard.publish(client, "a", b"", 1), 0x10);
    });
}

#[test]
fn a_will_is_allowed_when_it_is_left_and_when_it_is_sent() {
    let rules = of(&[(Kind::Publish, "will/#"), (Kind::Subscribe, "#")]);
    ruled(Limits::default(), &rules, |shard| {
        for version in VERSIONS {
            let client = shard.dial(&Hello::new(version, "w").will("other", "gone", 0));
            match shard.next(client) {
                Some(Got::ConnAck { reason: 0x87, .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        let watcher = shard.connect(&Hello::v5("watcher"));
        shard.subscribe(watcher, "#", 0);
        let first = shard.connect(&Hello::v5("w").will("will/1", "gone", 0));
        shard.hang_up(first);
        assert_eq!(shard.texts(watcher), ["gone"]);
        let second = shard.connect(&Hello::v5("w").will("will/2", "gone", 0));
        shard.change_rules(Some(&of(&[(Kind::Publish, "else"), (Kind::Subscribe, "#")])));
        shard.hang_up(second);
        assert_eq!(shard.texts(watcher), [""; 0]);
        assert_eq!(shard.engine.counters().wills_forbidden, 1);
    });
}

#[test]
fn nothing_is_delivered_under_the_rules_before() {
    let before = of(&[(Kind::Publish, "#"), (Kind::Subscribe, "#")]);
    let after = of(&[(Kind::Publish, "#"), (Kind::Subscribe, "kept")]);
    for qos in [1, 2] {
        ruled(Limits::default(), &before, |shard| {
            let publisher = shard.connect(&Hello::v5("p"));
            let offline = shard.connect(&Hello::v5("offline").resume());
            shard.subscribe(offline, "#", 2);
            // Two are in flight when the connection is lost, two are queued.
            for topic in ["lost", "kept"] {
                shard.publish(publisher, topic, b"in flight", qos);
            }
            assert_eq!(shard.messages(offline).len(), 2);
            shard.hang_up(offline);
            for topic in ["lost", "kept"] {
                shard.publish(publisher, topic, b"queued", qos);
            }
            let online = shard.connect(&Hello::v5("online"));
            shard.subscribe(online, "lost", 0);
            let slow = shard.connect(&Hello::v5("slow"));
            shard.subscribe(slow, "lost", 0);
            shard.drain(slow, Drain::STALLED);
            shard.publish(publisher, "lost", b"encoded", 0);
            assert_eq!(shard.texts(online), ["encoded"]);

            shard.change_rules(Some(&after));
            shard.publish(publisher, "lost", b"later", qos);
            shard.publish_retained(publisher, "lost", b"retained", qos);
            assert_eq!(shard.texts(online), [""; 0]);
            assert_eq!(shard.subscribe_with(online, &[("lost", plain(0))], None), [0x87]);
            shard.drain(slow, Drain::ALL);
            assert_eq!(shard.texts(slow), ["encoded"], "bytes that were encoded leave");
            let (offline, is_present) = shard.connect_present(&Hello::v5("offline").resume());
            assert!(is_present);
            assert_eq!(shard.texts(offline), ["in flight", "queued"]);
            let counters = shard.engine.counters();
            assert_eq!(counters.dropped[DropReason::Denied.index()], 2);
            assert_eq!(counters.reads_denied, 6);
            // Topics that the rules give back are delivered again: the subscriptions are still there.
            shard.change_rules(Some(&before));
            shard.publish(publisher, "lost", b"again", 1);
            assert_eq!(shard.texts(online), ["again"]);
            assert_eq!(shard.texts(offline), ["again"]);
        });
    }
}

#[test]
fn a_member_of_a_group_that_may_not_read_is_passed_over() {
    let rules = with_users(
        &[(Kind::Publish, "#")],
        &[("ann", Kind::Subscribe, "a/#"), ("bob", Kind::Subscribe, "a/b"), ("ann", Kind::Subscribe, "x")],
    );
    ruled(limits(), &rules, |shard| {
        let ann = shard.connect_as(&Hello::v5("1"), "ann", &[]);
        let bob = shard.connect_as(&Hello::v5("2"), "bob", &[]);
        for client in [ann, bob] {
            shard.subscribe(client, "$share/g/a/#", 1);
        }
        let publisher = shard.connect(&Hello::v5("p"));
        for _ in 0..4 {
            shard.publish(publisher, "a/c", b"c", 1);
        }
        assert_eq!(shard.texts(ann), ["c"; 4]);
        for _ in 0..4 {
            shard.publish(publisher, "a/b", b"b", 1);
        }
        assert_eq!((shard.texts(ann).len(), shard.texts(bob).len()), (2, 2));
        assert_eq!(shard.reads_denied(), 0);
    });
}

#[test]
fn a_group_is_joined_only_where_the_rules_let_in() {
    let mut builder = RulesBuilder::new(Access::Allow);
    let role = builder.role("everybody");
    builder.set_shares(role, &["g"]);
    builder.everybody(&["everybody"]).unwrap();
    ruled(Limits::default(), &SharedRules::new(builder.build()), |shard| {
        let client = shard.connect(&Hello::v5("c"));
        let filters = ["$share/g/a", "$share/h/a", "a"].map(|filter| (filter, plain(0)));
        assert_eq!(shard.subscribe_with(client, &filters, None), [0, 0x87, 0]);
    });
}

#[test]
fn a_session_that_changes_its_user_is_decided_by_the_new_one() {
    let rules =
        with_users(&[(Kind::Publish, "#")], &[("ann", Kind::Subscribe, "#"), ("bob", Kind::Subscribe, "b")]);
    let limits = Limits { session_owner: SessionOwner::ClientId, ..limits() };
    ruled(limits, &rules, |shard| {
        let client = shard.connect_as(&Hello::v5("c").resume(), "ann", &[]);
        shard.subscribe(client, "#", 1);
        shard.hang_up(client);
        let publisher = shard.connect(&Hello::v5("p"));
        shard.publish(publisher, "a", b"a", 1);
        shard.publish(publisher, "b", b"b", 1);
        let client = shard.connect_as(&Hello::v5("c").resume(), "bob", &[]);
        assert_eq!(shard.texts(client), ["b"]);
        shard.publish(publisher, "a", b"a", 1);
        assert_eq!(shard.texts(client), [""; 0]);
    });
}

#[test]
fn a_sweep_visits_a_bounded_number_of_sessions_in_each_step() {
    let all = of(&[(Kind::Publish, "#"), (Kind::Subscribe, "#")]);
    let some = of(&[(Kind::Publish, "#"), (Kind::Subscribe, "t/0/#"), (Kind::Subscribe, "t/150/#")]);
    ruled(Limits::default(), &all, |shard| {
        let clients: Vec<Client> = (0..200)
            .map(|number| {
                let client = shard.connect(&Hello::v5(&format!("c{number}")));
                shard.subscribe(client, &format!("t/{number}/#"), 0);
                client
            })
            .collect();
        let publisher = shard.connect(&Hello::v5("p"));
        shard.ticks = false;
        shard.raw_step(Event::Rules(Some(&some)));
        let mut steps = 0;
        while !shard.engine.is_swept() {
            for number in [0, 1, 150] {
                shard.publish(publisher, &format!("t/{number}/x"), b"m", 0);
            }
            shard.tick();
            assert!(shard.engine.step_work() < 200);
            steps += 1;
        }
        assert!(steps >= 3, "{steps}");
        shard.ticks = true;
        assert_eq!(shard.texts(clients[0]).len(), steps);
        assert_eq!(shard.texts(clients[150]).len(), steps);
        assert_eq!(shard.texts(clients[1]), [""; 0]);
        assert_eq!(shard.reads_denied(), steps as u64);
    });
}

#[test]
fn rules_of_nobody_hold_for_sessions_that_were_there_before() {
    run(Limits::default(), |shard| {
        let client = shard.connect(&Hello::v5("c"));
        shard.subscribe(client, "#", 0);
        shard.change_rules(Some(&of(&[(Kind::Publish, "a"), (Kind::Subscribe, "a")])));
        assert_eq!(shard.publish(client, "b", b"b", 1), 0x87);
        assert_eq!(shard.publish(client, "a", b"a", 0), 0);
        assert_eq!(shard.texts(client), ["a"]);
        shard.change_rules(None);
        assert_eq!(shard.publish(client, "b", b"b", 0), 0);
        assert_eq!(shard.texts(client), ["b"]);
    });
}

/// A user that came before there were rules is that user afterwards, and a set of rules that are gone decides nothing.
#[test]
fn rules_that_come_later_know_the_users_that_are_there() {
    run(limits(), |shard| {
        let alice = shard.connect_as(&Hello::v5("a"), "alice", &[]);
        let of_alice = |topic| with_users(&[], &[("alice", Kind::Publish, topic)]);
        for topic in ["one", "two"] {
            shard.change_rules(Some(&of_alice(topic)));
            for other in ["one", "two"] {
                let expected = if other == topic { 0x10 } else { 0x87 };
                assert_eq!(shard.publish(alice, other, b"", 1), expected, "{topic} {other}");
            }
            // Without rules in between, their generations go on.
            shard.change_rules(None);
            assert_eq!(shard.publish(alice, "three", b"", 1), 0x10);
        }
    });
}
