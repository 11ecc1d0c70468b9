//! The keys of a configuration as flat paths, and the differences between two of them: for a reload.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::Effective;
use super::class::Class;
use crate::admin::operator::{KeyRow, Page};

/// Bytes of a value that a page shows.
const VALUE_BYTES_MAX: usize = 4_096;

/// The keys of a configuration by their paths: `port`, `role.device.publish`, `listener.NAME.tls.crl`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys(BTreeMap<String, Key>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    /// In the syntax of the file.
    value: String,
    origin: String,
    class: Class,
}

/// A key that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Difference {
    /// Its path.
    pub(crate) key: String,
    /// The value in force, in the syntax of the file; `None`: its table is not there.
    pub(crate) before: Option<String>,
    /// The value that the configuration has now.
    pub(crate) after: Option<String>,
    /// Where that stands, or where the one in force stood.
    pub(crate) origin: String,
    /// Whether a reload puts it into force; otherwise a restart does.
    pub(crate) is_live: bool,
}

impl Keys {
    /// The keys of a configuration.
    pub(crate) fn of(effective: &Effective) -> Self {
        let mut keys = BTreeMap::new();
        for (setting, value, origin) in effective.rows() {
            let (origin, class) = (origin.to_string(), Class::of(setting.key));
            keys.insert(setting.key.to_owned(), Key { value, origin, class });
        }
        let (mut listener, mut listener_count) = (String::new(), 0);
        for table in effective.tables() {
            let path = table.header.trim_matches(['[', ']']);
            if path == "listener" {
                let name = table.rows.iter().find(|(key, ..)| *key == "name");
                let name = name.map(|(_, value, _)| value.trim_matches('"').to_owned());
                listener = name.filter(|name| !name.is_empty()).unwrap_or(listener_count.to_string());
                listener_count += 1;
            }
            let named = match path.strip_prefix("listener") {
                Some(rest) => format!("listener.{listener}{rest}"),
                None => path.to_owned(),
            };
            for (key, value, origin) in &table.rows {
                let class = Class::of(&format!("{path}.{key}"));
                let key_path = format!("{named}.{key}");
                keys.insert(key_path, Key { value: value.clone(), origin: origin.to_string(), class });
            }
        }
        Self(keys)
    }

    /// The differences to another configuration, by path.
    pub(crate) fn differences(&self, after: &Self) -> Vec<Difference> {
        let mut paths: Vec<&String> = self.0.keys().chain(after.0.keys()).collect();
        paths.sort();
        paths.dedup();
        let difference = |path: &String| {
            let (before, after) = (self.0.get(path), after.0.get(path));
            let value = |key: Option<&Key>| key.map(|key| key.value.clone());
            let known = after.or(before)?;
            (value(before) != value(after)).then(|| Difference {
                key: path.clone(),
                before: value(before),
                after: value(after),
                origin: known.origin.clone(),
                is_live: known.class.is_live(),
            })
        };
        paths.into_iter().filter_map(difference).collect()
    }

    /// The keys behind `after`, as many as fit a page, and the last one of them if more follow.
    pub(crate) fn page(&self, after: Option<&str>) -> (Vec<KeyRow>, Option<String>) {
        let mut page = Page::default();
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        for (path, key) in self.0.range::<str, _>((begin, Bound::Unbounded)) {
            let row = || KeyRow {
                key: path.clone(),
                value: cut(&key.value),
                origin: key.origin.clone(),
                class: key.class.to_string(),
            };
            if !page.take(path.len() + key.value.len().min(VALUE_BYTES_MAX) + key.origin.len(), row) {
                return (page.into_rows(), last);
            }
            last = Some(path.clone());
        }
        (page.into_rows(), None)
    }

    /// Takes the live keys of another configuration over. The others keep their values.
    pub(crate) fn take_live(&mut self, after: &Self) {
        self.0.retain(|_, key| !key.class.is_live());
        let live = after.0.iter().filter(|(_, key)| key.class.is_live());
        self.0.extend(live.map(|(path, key)| (path.clone(), key.clone())));
    }
}

/// A value that is not longer than a page can take.
fn cut(value: &str) -> String {
    if value.len() <= VALUE_BYTES_MAX {
        return value.to_owned();
    }
    format!("{}…", &value[..value.floor_char_boundary(VALUE_BYTES_MAX)])
}

#[cfg(test)]
mod tests {
    use super::super::Environment;
    use super::*;

    fn keys(text: &str) -> Keys {
        let file = Some(("broker.conf".into(), text.to_owned()));
        Keys::of(&Effective::layer(file, Environment::default(), &[], Vec::new()).unwrap())
    }

    #[test]
    fn each_key_that_differs_is_named_with_its_values_its_place_and_its_class() {
        let before =
            keys("read_buffer_bytes = 4096\n[role.a]\npublish = [\"x\"]\n[role.b]\npublish = [\"y\"]\n");
        let after =
            keys("log_level = \"debug\"\n\nread_buffer_bytes = 16384\n[role.a]\npublish = [\"x\", \"z\"]\n");
        let differences = before.differences(&after);
        let short: Vec<_> = differences
            .iter()
            .map(|it| (&*it.key, it.before.as_deref(), it.after.as_deref(), it.is_live))
            .collect();
        for expected in [
            ("log_level", Some("\"info\""), Some("\"debug\""), true),
            ("read_buffer_bytes", Some("4096"), Some("16384"), false),
            ("role.a.publish", Some("[\"x\"]"), Some("[\"x\", \"z\"]"), true),
            ("role.b.publish", Some("[\"y\"]"), None, true),
        ] {
            assert!(short.contains(&expected), "{expected:?}: {short:?}");
        }
        let size = differences.iter().find(|it| it.key == "read_buffer_bytes").unwrap();
        assert!(size.origin.contains("broker.conf") && size.origin.contains('3'), "{}", size.origin);
        assert_eq!(before.differences(&before), []);

        let mut running = before.clone();
        running.take_live(&after);
        let left = running.differences(&after);
        assert_eq!(
            left.iter().map(|it| &*it.key).collect::<Vec<_>>(),
            ["read_buffer_bytes"],
            "a restart takes it over"
        );
    }

    #[test]
    fn pages_have_every_key_once_with_its_origin_and_its_class() {
        let roles =
            (0..300).map(|at| format!("[role.r{at}]\npublish = [\"{at}\"]\n")).collect::<Vec<_>>().concat();
        let long = format!("[role.long]\npublish = [\"{}\"]\n", "ä".repeat(3_000));
        let all = keys(&format!("port = 1885\n{roles}{long}"));
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = all.page(after.as_deref());
            assert!(!page.is_empty());
            rows.extend(page);
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(rows.len(), all.0.len());
        let row = |key: &str| rows.iter().find(|row| row.key == key).unwrap();
        let port = row("port");
        assert_eq!((&*port.value, &*port.class), ("1885", "live, for new connections"));
        assert!(port.origin.contains("broker.conf") && row("queue_messages_max").origin == "default");
        let long = row("role.long.publish");
        assert!(long.value.len() <= VALUE_BYTES_MAX + 3 && long.value.ends_with("ä…"), "{}", long.value);
    }

    #[test]
    fn keys_of_listeners_are_told_apart_by_their_names() {
        let listeners = |port: u16| {
            let one = "[[listener]]\nname = \"a\"\nport = 1\n";
            keys(&format!("{one}[[listener]]\nname = \"b\"\nport = {port}\n"))
        };
        let differences = listeners(2).differences(&listeners(3));
        assert_eq!(differences.iter().map(|it| &*it.key).collect::<Vec<_>>(), ["listener.b.port"]);
    }
}
