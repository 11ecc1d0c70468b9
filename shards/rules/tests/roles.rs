//! Roles, users, groups and mosquitto's file of rules, as an operator writes them.

use rules::{
    Access, AclFault, AclProblem, Coverage, Kind, NameFault, Names, Origin, RuleFault, Rules, RulesBuilder,
};
use wire::TopicFilter;

fn names<'a>(client_id: &'a str, user: &'a str) -> Names<'a> {
    Names { client_id, user }
}

fn of_acl(text: &str) -> Rules {
    let mut builder = RulesBuilder::new(Access::Deny);
    builder.add_acl_file(text, 7).expect("its lines are right");
    builder.build()
}

/// Whether a user may publish and read a topic.
fn may(rules: &Rules, user: &str, topic: &str) -> (bool, bool) {
    let set = rules.set_of(Some(user), &[]).expect("a few roles are a set");
    let names = names("c1", user);
    (rules.may_publish(set, names, topic), rules.may_read(set, names, topic))
}

#[test]
fn an_acl_file_is_read_as_mosquitto_reads_it() {
    let rules = of_acl(
        "# everybody without a name\ntopic read $SYS/#\n\nuser roger\ntopic foo/bar\ntopic read a b/c d\n\
         user other one  \ntopic write w\r\npattern write devices/%c/data\npattern readwrite users/%u/#\nuser roger\ntopic deny foo/bar/x\n",
    );
    let check =
        |user, topic, publish, read| assert_eq!(may(&rules, user, topic), (publish, read), "{user} {topic}");
    check("", "$SYS/broker", false, true);
    check("", "foo/bar", false, false);
    check("roger", "$SYS/broker", false, false);
    check("roger", "foo/bar", true, true);
    check("roger", "foo/bar/x", false, false);
    check("roger", "a b/c d", false, true);
    check("other one", "w", true, false);
    check("roger", "w", false, false);
    for user in ["", "roger", "stranger"] {
        check(user, "devices/c1/data", true, false);
        check(user, "devices/c2/data", false, false);
    }
    check("roger", "users/roger/x/y", true, true);
    check("roger", "users/other one/x", false, false);
    check("", "users//x", false, false);
    let set = rules.set_of(Some("other one"), &[]).unwrap();
    let told = rules.explain_publish(set, names("c", "other one"), "w").rule.unwrap();
    assert_eq!((told.origin, told.filter, told.role), (Origin { file: 7, line: 8 }, "w", "acl_file"));
}

#[test]
fn a_line_that_cannot_be_read_is_named() {
    let check = |text: &str, line, problem| {
        let fault = RulesBuilder::new(Access::Deny).add_acl_file(text, 0).unwrap_err();
        assert_eq!(fault, AclFault { line, problem }, "{text}");
    };
    check("users a", 1, AclProblem::Keyword);
    check("\n user a", 2, AclProblem::Keyword);
    check("topic a\nuser", 2, AclProblem::UserMissing);
    check("user   ", 1, AclProblem::UserMissing);
    check("topic", 1, AclProblem::TopicMissing);
    check("# x\n\npattern  ", 3, AclProblem::TopicMissing);
    check("topic publish a", 1, AclProblem::Access);
    check("topic read a#", 1, AclProblem::Filter(RuleFault::WildcardMisplaced));
    check("topic read a/\0", 1, AclProblem::Filter(RuleFault::HasNull));
    let words =
        [AclProblem::Keyword, AclProblem::Filter(RuleFault::TooDeep)].map(|problem| problem.to_string());
    assert_eq!(
        words,
        ["the line must begin with user, topic or pattern", "the filter has more than 128 levels"]
    );
}

#[test]
fn a_filter_that_is_none_is_refused() {
    let mut builder = RulesBuilder::new(Access::Deny);
    let role = builder.role("r");
    let mut check = |filter: &str, fault| {
        assert_eq!(builder.add(role, Kind::Publish, filter, Origin::default()), fault, "{filter}");
    };
    check("", Err(RuleFault::Empty));
    check(&"a".repeat(65_536), Err(RuleFault::TooLong));
    check("a\0", Err(RuleFault::HasNull));
    check("#/a", Err(RuleFault::WildcardMisplaced));
    check("%c+", Err(RuleFault::WildcardMisplaced));
    check("$share/g/a", Err(RuleFault::Shared));
    check(&"/".repeat(128), Err(RuleFault::TooDeep));
    check(&"/".repeat(127), Ok(()));
    check("$sharey/a", Ok(()));
}

#[test]
fn roles_add_up_and_a_deny_of_any_of_them_wins() {
    let mut builder = RulesBuilder::new(Access::Deny);
    let at = |line| Origin { file: 1, line };
    let reader = builder.role("reader");
    builder.add(reader, Kind::Subscribe, "#", at(2)).unwrap();
    let guarded = builder.role("guarded");
    builder.add(guarded, Kind::Deny, "+/secret/#", at(5)).unwrap();
    assert_eq!(builder.role("reader"), reader);
    assert_eq!(builder.user("eve", &["nobody"]).unwrap_err().to_string(), "there is no role \"nobody\"");
    builder.user("alice", &["reader"]).unwrap();
    builder.user("bob", &["guarded", "reader"]).unwrap();
    let rules = builder.build();
    let set = |user, claimed: &[&str]| rules.set_of(Some(user), claimed).unwrap();
    let (alice, bob) = (set("alice", &[]), set("bob", &[]));
    let who = names("c", "x");
    assert!(rules.may_read(alice, who, "a/secret/b") && !rules.may_read(bob, who, "a/secret/b"));
    assert!(rules.may_read(bob, who, "a/b") && !rules.may_publish(bob, who, "a/b"));
    let filter = |text| TopicFilter::parse(text).unwrap();
    let coverage = |set, text| rules.coverage(set, who, &filter(text));
    assert_eq!(coverage(alice, "#"), Coverage::Covered);
    assert_eq!(coverage(bob, "#"), Coverage::Partial);
    assert_eq!(coverage(bob, "a/+"), Coverage::Partial, "a/secret is the topic above `#`");
    assert_eq!(coverage(bob, "a/b/#"), Coverage::Covered);
    assert_eq!(coverage(bob, "$share/g/a/secret/#"), Coverage::Disjoint);
    assert_eq!(coverage(alice, "$SYS/#"), Coverage::Disjoint, "$SYS must be granted");
    let told = rules.explain_filter(bob, who, &filter("#")).rule.unwrap();
    assert_eq!((told.kind, told.origin.line, told.role), (Kind::Deny, 5, "guarded"));
    // A token's roles are added to those of its user; unknown ones are nothing.
    assert!(!rules.may_read(set("alice", &["guarded", "unknown"]), who, "a/secret"));
    assert_eq!(set("alice", &["unknown"]), alice);
    assert_eq!(set("carol", &["guarded", "reader"]), set("carol", &["reader", "guarded", "reader"]));
}

#[test]
fn names_that_could_act_in_a_rule_are_refused() {
    let rules = of_acl("user a\ntopic x\npattern read %u/#\n");
    let mut builder = RulesBuilder::new(Access::Deny);
    let role = builder.role("r");
    builder.add(role, Kind::Deny, "%u/secret", Origin::default()).unwrap();
    builder.add(role, Kind::Publish, "%c/x", Origin::default()).unwrap();
    builder.user("", &["r"]).unwrap();
    let denying = builder.build();
    let check = |rules: &Rules, client_id, user, expected| {
        let set = rules.set_of(None, &[]).unwrap();
        assert_eq!(rules.check_names(set, names(client_id, user)), expected, "{client_id} {user}");
    };
    check(&rules, "+", "u", Ok(()));
    check(&rules, "c", "", Ok(()));
    for user in ["a/b", "+", "#", "a+"] {
        check(&rules, "c", user, Err(NameFault::User));
    }
    check(&denying, "c", "", Err(NameFault::User));
    check(&denying, "c/d", "u", Err(NameFault::ClientId));
    check(&denying, "", "u", Ok(()));
    check(&denying, "c", "u", Ok(()));
}

#[test]
fn groups_are_bounded_by_the_roles_that_speak_of_them() {
    let mut builder = RulesBuilder::new(Access::Allow);
    let bounded = builder.role("bounded");
    builder.set_shares(bounded, &["g", "of-%u"]);
    let none = builder.role("none");
    builder.set_shares(none, &[]);
    builder.role("silent");
    let rules = builder.build();
    assert!(!rules.is_empty());
    let check = |claimed: &[&str], group, expected| {
        let set = rules.set_of(Some("u"), claimed).unwrap();
        assert_eq!(rules.may_join(set, names("c", "u"), group), expected, "{claimed:?} {group}");
    };
    check(&["silent"], "h", true);
    check(&[], "h", true);
    check(&["bounded", "silent"], "h", false);
    check(&["bounded", "silent"], "g", true);
    check(&["bounded", "none"], "of-u", true);
    check(&["none"], "g", false);
}

#[test]
fn claimed_roles_outlive_a_change_of_the_rules() {
    let build = |operator: &str| {
        let mut builder = RulesBuilder::new(Access::Deny);
        for (role, filter) in [("extra", "e"), ("one", "1"), ("two", "2")] {
            let id = builder.role(role);
            builder.add(id, Kind::Publish, filter, Origin::default()).unwrap();
        }
        builder.user("alice", &[operator]).unwrap();
        builder.build()
    };
    let (old, new) = (build("one"), build("two"));
    let number = old.set_of(Some("alice"), &["extra"]).unwrap();
    let after = new.set_after(&old, number, Some("alice")).unwrap();
    let check = |rules: &Rules, set, allowed: [bool; 3]| {
        let who = names("c", "alice");
        assert_eq!(["e", "1", "2"].map(|topic| rules.may_publish(set, who, topic)), allowed);
    };
    check(&old, number, [true, true, false]);
    check(&new, after, [true, false, true]);
    assert!(new.set_after(&old, number, None).is_ok());
    let mut builder = RulesBuilder::new(Access::Deny);
    let role = builder.role("all");
    builder.add(role, Kind::Publish, "a", Origin::default()).unwrap();
    builder.everybody(&["all"]).unwrap();
    assert_eq!(builder.everybody(&["none"]).unwrap_err().role, "none");
    let rules = builder.build();
    assert!(may(&rules, "", "a").0 && may(&rules, "stranger", "a").0);
    assert!(RulesBuilder::new(Access::Deny).build().is_empty());
}

#[test]
fn a_role_of_many_rules_finds_each_of_them() {
    let mut builder = RulesBuilder::new(Access::Deny);
    let role = builder.role("fleet");
    for device in 0..2000 {
        builder.add(role, Kind::Publish, &format!("fleet/device-{device}/+/up"), Origin::default()).unwrap();
    }
    builder.user("u", &["fleet"]).unwrap();
    let rules = builder.build();
    let set = rules.set_of(Some("u"), &[]).unwrap();
    for device in 0..2000 {
        assert!(rules.may_publish(set, names("c", "u"), &format!("fleet/device-{device}/x/up")));
    }
    assert!(!rules.may_publish(set, names("c", "u"), "fleet/device-2000/x/up"));
}
