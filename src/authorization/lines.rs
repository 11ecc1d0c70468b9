//! The lines of a configuration's rules, so that a decision names the one that made it.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

/// The lines of the filters of each role, by the names of role and key.
#[derive(Debug, Default)]
pub(super) struct Lines(BTreeMap<(String, String), Vec<u32>>);

impl Lines {
    /// Finds the lines in the text of a file. A text that is no configuration has none.
    pub(super) fn of(text: &str) -> Self {
        let mut lines = Self::default();
        let Ok(document) = DeTable::parse(text) else { return lines };
        let roles = document.get_ref().get("role").and_then(|roles| roles.get_ref().as_table());
        for (name, role) in roles.into_iter().flatten() {
            for (key, list) in role.get_ref().as_table().into_iter().flatten() {
                let DeValue::Array(filters) = list.get_ref() else { continue };
                let line = |at: usize| text[..at].matches('\n').count() + 1;
                let found =
                    filters.iter().map(|filter| u32::try_from(line(filter.span().start)).unwrap_or(0));
                lines.0.insert((name.get_ref().to_string(), key.get_ref().to_string()), found.collect());
            }
        }
        lines
    }

    /// The line of a filter, from 1; 0 if it is not known.
    pub(super) fn line(&self, role: &str, key: &str, at: usize) -> u32 {
        let filters = self.0.get(&(role.to_owned(), key.to_owned()));
        filters.and_then(|filters| filters.get(at)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_of_a_list_has_its_line() {
        let lines = Lines::of(
            "port = 1\n[role.a]\npublish = [\n  \"x\", \"y\",\n  \"z\",\n]\nsubscribe = [\"s\"]\n[role.\"b c\"]\ndeny = [\"d\"]\n",
        );
        let check = |role, key, at, expected| assert_eq!(lines.line(role, key, at), expected);
        check("a", "publish", 0, 4);
        check("a", "publish", 1, 4);
        check("a", "publish", 2, 5);
        check("a", "subscribe", 0, 7);
        check("b c", "deny", 0, 9);
        check("a", "publish", 3, 0);
        check("a", "deny", 0, 0);
        assert_eq!(Lines::of("no = toml = ").line("a", "publish", 0), 0);
    }
}
