//! Patterns of user names, in which `*` stands for any characters.

/// The names that a method may give to clients.
#[derive(Debug)]
pub(super) struct NamePatterns(Vec<String>);

impl NamePatterns {
    /// With these patterns; none allows every name.
    pub(super) fn new(patterns: &[String]) -> Self {
        Self(patterns.to_vec())
    }

    /// True if a pattern matches `name`, or there is no pattern.
    pub(super) fn allow(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| matches(pattern, name))
    }
}

/// Each part between two stars is found at its first place, so the work is bounded by the lengths.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, expected) in [
            ("dev-*", "dev-7", true),
            ("dev-*", "dev-", true),
            ("dev-*", "adev-7", false),
            ("*", "", true),
            ("alice", "alice", true),
            ("alice", "alice2", false),
            ("*-eu", "meter-eu", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("a*a", "a", false),
            ("a**b", "ab", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert!(NamePatterns::new(&[]).allow("anybody"));
        assert!(!NamePatterns::new(&["dev-*".to_owned(), "bob".to_owned()]).allow("admin"));
    }
}
