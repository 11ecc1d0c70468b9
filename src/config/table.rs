//! The tables of the configuration file, such as `[[listener]]` and `[auth.password]`: how they are read with the place of each key,
//! shown, and described.
//! Invariant: a table is read by its list of keys alone, so every key of the struct can be set and no other.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::class::Class;
use super::entry::{Entry, plain};
use super::error::{ConfigError, Meant, Origin};
use super::listener::IMPLIED_KEYS;
use super::value::Given;
use super::{abbreviate, line_of, nearest_of, not_yet, position};

/// A struct that a table of the file is read into. The macro `table!` implements it.
pub(crate) trait Table: Default + Complete + 'static {
    /// Its keys.
    const KEYS: &'static [Entry<Self>];
    /// The tables below it.
    const TABLES: &'static [Inner<Self>];

    /// Makes relative paths relative to `directory`.
    fn resolve(&mut self, directory: &Path);
}

/// The rules of a table that concern more than one key.
pub(crate) trait Complete {
    /// Reports keys that are missing or contradict each other.
    fn complete(&mut self, _given: &mut GivenTable<'_>) {}
}

/// A table below another one.
#[derive(Debug)]
pub(crate) struct Inner<T: 'static> {
    /// Its name.
    pub(super) key: &'static str,
    /// The lines of its documentation.
    pub(super) lines: &'static [&'static str],
    /// Reads it.
    pub(super) read: fn(&mut T, &mut Reader<'_>, &str, &Spanned<DeValue<'_>>, usize),
    /// Appends it to `broker.conf`, with every key as a comment.
    pub(super) describe: fn(&mut String, &str, &'static [&'static str]),
}

/// One table, several of one name, or several with names of their own.
pub(super) trait Shape {
    fn read(&mut self, reader: &mut Reader<'_>, path: &str, value: &Spanned<DeValue<'_>>, at: usize);
    fn describe(text: &mut String, path: &str, lines: &'static [&'static str]);
}

/// `[auth]`
impl<T: Table> Shape for Option<T> {
    fn read(&mut self, reader: &mut Reader<'_>, path: &str, value: &Spanned<DeValue<'_>>, at: usize) {
        match value.get_ref() {
            DeValue::Table(table) => *self = Some(reader.table(format!("[{path}]"), path, at, table)),
            _ => reader.not_a_table(path, at, &format!("[{path}]")),
        }
    }

    fn describe(text: &mut String, path: &str, lines: &'static [&'static str]) {
        describe_table::<T>(text, &format!("[{path}]"), path, lines);
    }
}

/// `[[listener]]`
impl<T: Table> Shape for Vec<T> {
    fn read(&mut self, reader: &mut Reader<'_>, path: &str, value: &Spanned<DeValue<'_>>, at: usize) {
        let header = format!("[[{path}]]");
        let Some(array) = value.get_ref().as_array() else { return reader.not_a_table(path, at, &header) };
        for item in array {
            match item.get_ref() {
                DeValue::Table(table) => {
                    self.push(reader.table(header.clone(), path, item.span().start, table));
                }
                _ => reader.not_a_table(path, item.span().start, &header),
            }
        }
    }

    fn describe(text: &mut String, path: &str, lines: &'static [&'static str]) {
        describe_table::<T>(text, &format!("[[{path}]]"), path, lines);
    }
}

/// `[role.NAME]`
impl<T: Table> Shape for BTreeMap<String, T> {
    fn read(&mut self, reader: &mut Reader<'_>, path: &str, value: &Spanned<DeValue<'_>>, at: usize) {
        let DeValue::Table(named) = value.get_ref() else {
            return reader.not_a_table(path, at, &format!("[{path}.NAME]"));
        };
        for (name, value) in in_order(named) {
            let at = name.span().start;
            let path = format!("{path}.{}", abbreviate(name.get_ref()));
            match value.get_ref() {
                DeValue::Table(table) => {
                    let read = reader.table(format!("[{path}]"), &path, at, table);
                    self.insert(name.get_ref().to_string(), read);
                }
                _ => reader.not_a_table(&path, at, &format!("[{path}]")),
            }
        }
    }

    fn describe(text: &mut String, path: &str, lines: &'static [&'static str]) {
        let path = format!("{path}.example");
        describe_table::<T>(text, &format!("[{path}]"), &path, lines);
    }
}

/// The file that is read: its text gives the lines of keys, and everything found is collected here.
pub(super) struct Reader<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
    pub(super) errors: &'a mut Vec<ConfigError>,
    /// The tables so far, in the order of the file.
    pub(super) shown: &'a mut Vec<ShownTable>,
    /// Whether keys are refused whose feature is not in this version.
    pub(super) refuses: bool,
}

impl Reader<'_> {
    /// The place of the byte `at`.
    pub(super) fn origin(&self, at: usize) -> Origin {
        Origin::File { file: self.file.to_owned(), line: line_of(self.text, at) }
    }

    fn not_a_table(&mut self, path: &str, at: usize, header: &str) {
        let sentence = format!("{path} must be a table: write its keys below {header}");
        self.errors.push(ConfigError::Stated { origin: self.origin(at), sentence });
    }

    fn table<T: Table>(&mut self, header: String, path: &str, at: usize, table: &DeTable<'_>) -> T {
        let mut read = T::default();
        let mut origins: BTreeMap<&'static str, Origin> = BTreeMap::new();
        let place = self.shown.len();
        self.shown.push(ShownTable { header, origin: self.origin(at), rows: Vec::new() });
        for (key, value) in in_order(table) {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            let origin = self.origin(at);
            let full = format!("{path}.{}", abbreviate(name));
            if let Some(reason) = not_yet::reason(&full).filter(|_| self.refuses) {
                self.errors.push(ConfigError::NotYet { origin, key: full, reason });
            } else if let Some(key) = T::KEYS.iter().find(|key| key.key == name) {
                if (key.store)(&mut read, &Given::File(value.get_ref())) {
                    origins.insert(key.key, origin);
                } else {
                    let value = abbreviate(self.text.get(value.span()).unwrap_or_default());
                    let allowed = (key.allowed)();
                    self.errors.push(ConfigError::BadValue { origin, key: full, value, allowed });
                }
            } else if let Some(inner) = T::TABLES.iter().find(|inner| inner.key == name) {
                origins.insert(inner.key, origin);
                (inner.read)(&mut read, self, &full, value, at);
            } else {
                let meant = meant::<T>(name);
                self.errors.push(ConfigError::UnknownKey { origin, key: full, meant });
            }
        }
        read.resolve(self.file.parent().unwrap_or(Path::new("")));
        let header = self.shown[place].origin.clone();
        read.complete(&mut GivenTable { path, header, origins: &origins, errors: self.errors });
        self.shown[place].rows = T::KEYS
            .iter()
            .map(|key| (key.key, (key.render)(&read), origins.remove(key.key).unwrap_or(Origin::Default)))
            .filter(|(_, value, _)| !value.is_empty())
            .collect();
        read
    }
}

/// A table that was read: the keys that were given, and where.
pub(crate) struct GivenTable<'a> {
    path: &'a str,
    header: Origin,
    origins: &'a BTreeMap<&'static str, Origin>,
    errors: &'a mut Vec<ConfigError>,
}

impl GivenTable<'_> {
    /// Whether the key was given.
    pub(super) fn has(&self, key: &str) -> bool {
        self.origins.contains_key(key)
    }

    /// Reports that the table lacks `key`, such as `example`.
    pub(super) fn needs(&mut self, key: &'static str, example: &str) {
        if !self.has(key) {
            let sentence = format!("{} needs {key}; write {key} = {example}", self.path);
            self.errors.push(ConfigError::Stated { origin: self.header.clone(), sentence });
        }
    }

    /// Reports that `key` cannot stand beside `other`, if both were given.
    pub(super) fn excludes(&mut self, key: &'static str, other: &'static str) {
        if self.has(key) && self.has(other) {
            self.refuse(key, &format!("cannot stand beside {other}; leave one of them out"));
        }
    }

    /// Reports a fault of `key`. The sentence begins behind its name.
    pub(super) fn refuse(&mut self, key: &'static str, sentence: &str) {
        let origin = self.origins.get(key).unwrap_or(&self.header).clone();
        let sentence = format!("{}.{key} {sentence}", self.path);
        self.errors.push(ConfigError::Stated { origin, sentence });
    }
}

/// A table as `config show` prints it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ShownTable {
    /// Its header with the brackets.
    pub(crate) header: String,
    /// Where it begins.
    pub(crate) origin: Origin,
    /// Each key with its value in the syntax of the file, and the origin of the value.
    pub(crate) rows: Vec<(&'static str, String, Origin)>,
}

/// The entries of a table in the order of the file.
pub(super) fn in_order<'t, 'f>(
    table: &'t DeTable<'f>,
) -> Vec<(&'t Spanned<toml::de::DeString<'f>>, &'t Spanned<DeValue<'f>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// The key of the table that was meant by one that it does not have.
fn meant<T: Table>(key: &str) -> Meant {
    let own = T::KEYS.iter().map(|key| key.key).chain(T::TABLES.iter().map(|inner| inner.key));
    if position(key).is_some() && !IMPLIED_KEYS.contains(&key) {
        return Meant::AboveTables;
    }
    nearest_of(key, own).map_or(Meant::Unknown, Meant::Nearest)
}

/// Appends a table to `broker.conf`, with every key as a comment.
fn describe_table<T: Table>(text: &mut String, header: &str, path: &str, lines: &'static [&'static str]) {
    let (defaults, note) = (T::default(), not_yet::note(path));
    text.push('\n');
    for line in plain(lines) {
        text.extend(["# ", &line, "\n"]);
    }
    text.extend([&note, "#", header, "\n"]);
    for key in T::KEYS {
        text.push('\n');
        for line in key.meaning() {
            text.extend(["# ", &line, "\n"]);
        }
        let default = (key.render)(&defaults);
        text.extend(["# Allowed: ", &(key.allowed)(), "."]);
        if !default.is_empty() && !key.example.is_empty() && default != key.example {
            text.extend([" Default: ", &default, "."]);
        }
        text.extend([" Change: ", &Class::of(&format!("{path}.{}", key.key)).to_string(), "."]);
        let value = if key.example.is_empty() { default.as_str() } else { key.example };
        text.extend(["\n", &not_yet::note(&format!("{path}.{}", key.key)), "#", key.key, " = ", value, "\n"]);
    }
    for inner in T::TABLES {
        (inner.describe)(text, &format!("{path}.{}", inner.key), inner.lines);
    }
}

/// Defines the struct of a table: keys with their types, defaults, bounds and examples, and the tables below it.
macro_rules! table {
    ($(#[doc = $title:literal])+ $name:ident {
        $( $(#[doc = $line:literal])+ $key:ident: $type:ty = $default:expr, $bounds:expr, $example:literal; )*
        $( tables { $( $(#[doc = $inner_line:literal])+ $inner:ident: $inner_type:ty; )+ } )?
    }) => {
        $(#[doc = $title])+
        #[derive(Clone, Debug, PartialEq)]
        pub(crate) struct $name {
            $( $(#[doc = $line])+ pub(crate) $key: $type, )*
            $( $( $(#[doc = $inner_line])+ pub(crate) $inner: $inner_type, )+ )?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $key: $default, )* $( $( $inner: Default::default(), )+ )? }
            }
        }

        impl $crate::config::table::Table for $name {
            const KEYS: &'static [$crate::config::entry::Entry<Self>] = &[
                $( $crate::config::entry::Entry {
                    section: "",
                    key: stringify!($key),
                    lines: &[$($line),+],
                    value_name: <$type as $crate::config::value::Field>::VALUE_NAME,
                    repeatable: <$type as $crate::config::value::Field>::REPEATABLE,
                    store: |table: &mut Self, given| {
                        const BOUNDS: $crate::config::value::Bounds = $bounds;
                        <$type as $crate::config::value::Field>::parse(given, &BOUNDS)
                            .map(|value| table.$key = value)
                            .is_some()
                    },
                    render: |table: &Self| $crate::config::value::Field::render(&table.$key),
                    allowed: || <$type as $crate::config::value::Field>::allowed(&$bounds),
                    example: $example,
                }, )*
            ];
            const TABLES: &'static [$crate::config::table::Inner<Self>] = &[
                $( $( $crate::config::table::Inner {
                    key: stringify!($inner),
                    lines: &[$($inner_line),+],
                    read: |table: &mut Self, reader, path, value, at| {
                        $crate::config::table::Shape::read(&mut table.$inner, reader, path, value, at);
                    },
                    describe: <$inner_type as $crate::config::table::Shape>::describe,
                }, )+ )?
            ];

            fn resolve(&mut self, _directory: &std::path::Path) {
                $( $crate::config::value::Field::resolve(&mut self.$key, _directory); )*
            }
        }
    };
}

pub(super) use table;
