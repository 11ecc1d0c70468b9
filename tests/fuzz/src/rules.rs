//! Rules: an acl_file, then a client's names, then topics and filters that it asks for, each in a line after an empty one.

use rules::{Access, Coverage, Kind, Names, Origin, Rules, RulesBuilder};
use wire::{TopicFilter, TopicName};

/// A file of rules is refused by a line that it has, or decides every topic and filter without a contradiction.
///
/// # Panics
/// If it does not.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (acl, asked) = text.split_once("\n\n").unwrap_or((text, ""));
    for default in [Access::Deny, Access::Allow] {
        let Some(rules) = read(acl, default, false) else { return };
        let denied = read(acl, default, true).expect("a line more is no fault");
        let mut asked = asked.lines();
        let (client_id, user) = (asked.next().unwrap_or_default(), asked.next().unwrap_or_default());
        let names = Names { client_id, user };
        let set = rules.set_of(Some(user), &["role", "none"]).expect("a few roles are a set");
        if rules.check_names(set, names).is_err() {
            continue;
        }
        for text in asked.take(64) {
            check_topic((&rules, set), names, text, default);
            check_filter((&rules, set), names, text);
            let set = denied.set_of(Some(user), &["role"]).expect("a few roles are a set");
            assert!(!denied.may_publish(set, names, text) && !denied.may_read(set, names, text));
        }
    }
}

fn read(acl: &str, default: Access, denies_all: bool) -> Option<Rules> {
    let mut builder = RulesBuilder::new(default);
    if denies_all {
        let role = builder.role("role");
        builder.add(role, Kind::Deny, "#", Origin::default()).expect("this is a filter");
    }
    match builder.add_acl_file(acl, 0) {
        Ok(()) => Some(builder.build()),
        Err(fault) => {
            assert!((1..=acl.lines().count()).contains(&(fault.line as usize)));
            assert!(!fault.problem.to_string().is_empty());
            None
        }
    }
}

fn check_topic((rules, set): (&Rules, u32), names: Names<'_>, topic: &str, default: Access) {
    if TopicName::parse(topic).is_err() {
        return;
    }
    let may_publish = rules.may_publish(set, names, topic);
    let told = rules.explain_publish(set, names, topic);
    assert_eq!(told.coverage == Coverage::Covered, may_publish);
    match told.rule {
        Some(rule) => assert_eq!(rule.kind == Kind::Deny, !may_publish),
        None => assert_eq!(default == Access::Allow, may_publish),
    }
    // As a filter it matches itself alone. One that begins as a shared subscription does is another one.
    let filter = TopicFilter::parse_unshared(topic).expect("a topic is a filter");
    let expected = if rules.may_read(set, names, topic) { Coverage::Covered } else { Coverage::Disjoint };
    assert_eq!(rules.coverage(set, names, &filter), expected, "{topic}");
}

/// A filter that is covered, or disjoint, says so of the topics that it certainly matches.
fn check_filter((rules, set): (&Rules, u32), names: Names<'_>, text: &str) {
    let Ok(filter) = TopicFilter::parse(text) else { return };
    let coverage = rules.coverage(set, names, &filter);
    assert_eq!(rules.explain_filter(set, names, &filter).coverage, coverage);
    for level in ["x", names.client_id, names.user, "$"] {
        let topic = filter.filter().replace('+', level).replace('#', level);
        if !filter.matches(&topic) {
            continue;
        }
        match coverage {
            Coverage::Covered => assert!(rules.may_read(set, names, &topic), "{text} {topic}"),
            Coverage::Disjoint => assert!(!rules.may_read(set, names, &topic), "{text} {topic}"),
            Coverage::Partial => {}
        }
    }
}
