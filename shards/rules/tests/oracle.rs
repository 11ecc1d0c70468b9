//! Decisions compared with an oracle that knows no trie: it looks at each rule alone, and at each topic of a small world.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use rules::{Access, Coverage, Decision, Kind, Names, Origin, Rules, RulesBuilder};
use wire::TopicFilter;

/// Levels of topics, beside those that names make of a rule. No rule and no filter names `z`, so it stands for all others.
const TOPIC_LEVELS: [&str; 5] = ["a", "b", "", "$s", "z"];
const RULE_LEVELS: [&str; 11] = ["a", "b", "", "$s", "c1", "+", "+", "%c", "x%u", "%u", "$%c"];
const FILTER_LEVELS: [&str; 8] = ["a", "b", "", "$s", "c1", "xu1", "+", "+"];
/// Topics have one level more than rules and filters, so that a `#` differs from what stands above it.
const LEVELS_MAX: usize = 2;

type RuleText = (Kind, String);

fn filter(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
    let texts = (vec(select(levels), 0..=LEVELS_MAX), any::<bool>());
    texts.prop_map(|(levels, is_multi)| {
        let mut text = levels.join("/");
        if is_multi {
            text = if levels.is_empty() { "#".to_owned() } else { text + "/#" };
        }
        if text.is_empty() { "a".to_owned() } else { text }
    })
}

fn rule() -> impl Strategy<Value = RuleText> {
    let kind = select(vec![Kind::Publish, Kind::Subscribe, Kind::Subscribe, Kind::Deny]);
    (kind, filter(&RULE_LEVELS))
}

fn names() -> impl Strategy<Value = (&'static str, &'static str)> {
    (select(vec!["c1", "$s", "a"]), select(vec!["u1", "u1", "", "$s"]))
}

fn topics(names: Names<'_>) -> Vec<String> {
    let mut levels: Vec<String> = TOPIC_LEVELS.iter().map(ToString::to_string).collect();
    levels.extend(RULE_LEVELS.iter().filter(|level| level.contains('%')).map(|level| put(level, names)));
    levels.extend(FILTER_LEVELS.iter().filter(|level| **level != "+").map(ToString::to_string));
    levels.sort();
    levels.dedup();
    let mut all: Vec<Vec<&str>> = vec![vec![]];
    let mut from = 0;
    for _ in 0..=LEVELS_MAX {
        let until = all.len();
        for at in from..until {
            for level in &levels {
                let mut longer = all[at].clone();
                longer.push(level);
                all.push(longer);
            }
        }
        from = until;
    }
    // A single empty level is no topic, but the rules need not know.
    all[1..].iter().map(|levels| levels.join("/")).collect()
}

fn put(level: &str, names: Names<'_>) -> String {
    level.replace("%c", names.client_id).replace("%u", names.user)
}

/// Whether one rule covers one topic.
fn covers(rule: &RuleText, names: Names<'_>, topic: &str) -> bool {
    let (kind, text) = rule;
    let begins_open = text.starts_with(['+', '#']) || text.starts_with("%c") || text.starts_with("%u");
    if topic.starts_with('$') && begins_open && *kind != Kind::Deny {
        return false;
    }
    let mut levels = topic.split('/');
    for level in text.split('/') {
        if level == "#" {
            return true;
        }
        let Some(in_topic) = levels.next() else { return false };
        if (level.contains("%c") && names.client_id.is_empty())
            || (level.contains("%u") && names.user.is_empty())
        {
            return false;
        }
        let level = put(level, names);
        if level != "+" && level != in_topic {
            return false;
        }
    }
    levels.next().is_none()
}

fn is_allowed(rules: &[RuleText], default: Access, grant: Kind, names: Names<'_>, topic: &str) -> bool {
    let any = |kind| rules.iter().any(|rule| rule.0 == kind && covers(rule, names, topic));
    !any(Kind::Deny) && (default == Access::Allow || any(grant))
}

/// The relation of a filter to the rules, by all topics that it matches.
fn coverage_of(
    rules: &[RuleText],
    default: Access,
    names: Names<'_>,
    filter: &TopicFilter<'_>,
    topics: &[String],
) -> Coverage {
    let matched: Vec<&String> = topics.iter().filter(|topic| filter.matches(topic)).collect();
    assert!(!matched.is_empty());
    let of_kind = |kind| rules.iter().filter(move |rule| rule.0 == kind);
    let one_covers = |kind| of_kind(kind).any(|rule| matched.iter().all(|topic| covers(rule, names, topic)));
    let one_meets = |kind| of_kind(kind).any(|rule| matched.iter().any(|topic| covers(rule, names, topic)));
    let is_default = default == Access::Allow;
    if one_covers(Kind::Deny) || !(is_default || one_meets(Kind::Subscribe)) {
        Coverage::Disjoint
    } else if (is_default || one_covers(Kind::Subscribe)) && !one_meets(Kind::Deny) {
        Coverage::Covered
    } else {
        Coverage::Partial
    }
}

/// Splits the rules over as many roles of one user.
fn complete_of(texts: &[RuleText], default: Access, role_count: usize, user: &str) -> (Rules, u32) {
    let mut builder = RulesBuilder::new(default);
    let names: Vec<String> = (0..role_count).map(|role| role.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let roles: Vec<_> = names.iter().map(|name| builder.role(name)).collect();
    for (line, (kind, text)) in (0..).zip(texts) {
        let role = roles[line as usize % role_count];
        builder.add(role, *kind, text, Origin { file: 0, line }).expect("generated filters are filters");
    }
    builder.user(user, &names).expect("the roles exist");
    let complete = builder.build();
    let set = complete.set_of(Some(user), &[]).expect("a few roles are a set");
    (complete, set)
}

fn check_reason(decision: &Decision<'_>, rules: &[RuleText], names: Names<'_>, topic: &str) {
    if let Some(rule) = decision.rule {
        let told = &rules[rule.origin.line as usize];
        assert_eq!((told.0, &*told.1), (rule.kind, rule.filter));
        assert!(covers(told, names, topic));
        assert_eq!(rule.kind == Kind::Deny, decision.coverage == Coverage::Disjoint);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_topic_is_decided_as_the_rules_say_one_by_one(
        rules in vec(rule(), 0..10),
        (client_id, user) in names(),
        default in select(vec![Access::Deny, Access::Deny, Access::Allow]),
        role_count in 1_usize..4,
    ) {
        let names = Names { client_id, user };
        let (complete, set) = complete_of(&rules, default, role_count, user);
        for topic in topics(names) {
            let expected = |kind| is_allowed(&rules, default, kind, names, &topic);
            prop_assert_eq!(complete.may_publish(set, names, &topic), expected(Kind::Publish), "publish {}", &topic);
            prop_assert_eq!(complete.may_read(set, names, &topic), expected(Kind::Subscribe), "read {}", &topic);
            check_reason(&complete.explain_publish(set, names, &topic), &rules, names, &topic);
        }
    }

    #[test]
    fn every_filter_is_covered_met_or_missed_as_its_topics_are(
        rules in vec(rule(), 0..8),
        filters in vec(filter(&FILTER_LEVELS), 1..12),
        (client_id, user) in names(),
        default in select(vec![Access::Deny, Access::Deny, Access::Allow]),
        role_count in 1_usize..4,
    ) {
        let names = Names { client_id, user };
        let topics = topics(names);
        let (complete, set) = complete_of(&rules, default, role_count, user);
        for text in &filters {
            let filter = TopicFilter::parse(text).unwrap();
            let expected = coverage_of(&rules, default, names, &filter, &topics);
            prop_assert_eq!(complete.coverage(set, names, &filter), expected, "{}", text);
            prop_assert_eq!(complete.explain_filter(set, names, &filter).coverage, expected);
        }
    }

    #[test]
    fn an_acl_file_of_any_text_is_read_or_refused_by_a_line_that_it_has(
        lines in vec(select(vec![
            "user a", "user ", "topic read a/#", "topic write +/b c", "topic deny a#", "pattern readwrite d/%u/%c", "pattern",
            "topic", "# x", "", "user  two words ", "topic  a", "topic read", "topicread", "pattern deny %u/x/#", "\u{feff}user a",
        ]), 0..12),
        noise in ".{0,20}",
        at in 0_usize..12,
    ) {
        let mut lines: Vec<&str> = lines;
        lines.insert(at.min(lines.len()), &noise);
        let text = lines.join("\n");
        let mut builder = RulesBuilder::new(Access::Deny);
        match builder.add_acl_file(&text, 0) {
            Ok(()) => {
                let rules = builder.build();
                let set = rules.set_of(Some("a"), &[]).unwrap();
                let _ = rules.may_publish(set, Names { client_id: "c", user: "a" }, "d/a/c");
            }
            Err(fault) => prop_assert!((1..=text.lines().count()).contains(&(fault.line as usize))),
        }
    }
}
