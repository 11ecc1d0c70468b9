//! One key of the configuration file as parsers, help and `broker.conf` use it.
//! Invariant: a key is written once. The field of the struct, the parser and the documentation come from the same entry of `settings!`
//! or `table!`, so they cannot disagree.

use super::value::Given;

/// One key of the struct `T`.
#[derive(Debug)]
pub(crate) struct Entry<T: 'static> {
    /// The heading it stands under in `broker.conf` and `--help`; empty for a key of a table.
    pub(crate) section: &'static str,
    /// Its name in the file: snake case, unit included.
    pub(crate) key: &'static str,
    /// The lines of its documentation in the struct.
    pub(super) lines: &'static [&'static str],
    /// Placeholder for its value in `--help`.
    pub(crate) value_name: &'static str,
    /// Whether the flag may be given more than once.
    pub(crate) repeatable: bool,
    /// Stores an allowed value and returns `true`; otherwise stores nothing and returns `false`.
    pub(crate) store: fn(&mut T, &Given<'_>) -> bool,
    /// The value in the syntax of the file; empty if it has none.
    pub(crate) render: fn(&T) -> String,
    /// Description of the allowed values for the operator.
    pub(crate) allowed: fn() -> String,
    /// A value that `broker.conf` shows in place of the default; empty for a key that shows its default.
    pub(super) example: &'static str,
}

impl<T> Entry<T> {
    /// Its description, line by line, without markup.
    pub(crate) fn meaning(&self) -> impl Iterator<Item = String> {
        plain(self.lines)
    }

    /// The flag that sets it, without the two dashes.
    pub(crate) fn flag(&self) -> String {
        match self.key {
            "stats_interval_s" => "stats-interval".to_owned(),
            key => key.replace('_', "-"),
        }
    }
}

/// Lines of documentation without markup.
pub(super) fn plain(lines: &'static [&'static str]) -> impl Iterator<Item = String> {
    lines.iter().map(|line| line.trim().replace('`', ""))
}
