//! The keys of a configuration as flat paths, and the differences between two of them: for a reload.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::Effective;
use super::class::Class;

/// The keys of a configuration by their paths: `port`, `role.device.publish`, `listener.NAME.tls.crl`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys(BTreeMap<String, Key>);

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// In the syntax of the file.
    pub(crate) value: String,
    /// Where it stands, or `default`.
    pub(crate) origin: String,
    /// When a change takes effect.
    pub(crate) class: Class,
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

    /// The keys behind a path, or all, in the order of their paths.
    pub(crate) fn behind(&self, after: Option<&str>) -> impl Iterator<Item = (&str, &Key)> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.range::<str, _>((begin, Bound::Unbounded)).map(|(path, key)| (&**path, key))
    }

    /// Takes the live keys of another configuration over. The others keep their values.
    pub(crate) fn take_live(&mut self, after: &Self) {
        self.0.retain(|_, key| !key.class.is_live());
        let live = after.0.iter().filter(|(_, key)| key.class.is_live());
        self.0.extend(live.map(|(path, key)| (path.clone(), key.clone())));
    }
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
    fn keys_of_listeners_are_told_apart_by_their_names() {
        let listeners = |port: u16| {
            let one = "[[listener]]\nname = \"a\"\nport = 1\n";
            keys(&format!("{one}[[listener]]\nname = \"b\"\nport = {port}\n"))
        };
        let differences = listeners(2).differences(&listeners(3));
        assert_eq!(differences.iter().map(|it| &*it.key).collect::<Vec<_>>(), ["listener.b.port"]);
    }
}
