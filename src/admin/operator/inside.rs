//! Answers about the inside of the broker: what each shard holds and how long its stages take, the configuration in force, certificates,
//! and the last lines of the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Page;
use crate::config::diff::Keys;

/// Bytes of a value that a page shows.
const VALUE_BYTES_MAX: usize = 4_096;

/// A shard from within, beside the counters of [`super::StatisticsRow`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardRow {
    /// Bytes held, by kind.
    pub(crate) memory: BTreeMap<String, u64>,
    /// Messages that its clients lost, by reason.
    pub(crate) dropped: BTreeMap<String, u64>,
    /// By stage: how many times were not above each bound and above the one before it. A stage that never happened is left out.
    pub(crate) stages: BTreeMap<String, Vec<u64>>,
}

/// A key of the configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    /// Its path, such as `listener.devices.port`.
    pub(crate) key: String,
    /// Its value in the syntax of the file; a long one is cut and ends with `…`.
    pub(crate) value: String,
    /// The place that the value comes from: `default`, or the file with its line, the variable or the flag.
    pub(crate) origin: String,
    /// When a change takes effect.
    pub(crate) class: String,
}

/// A certificate, or a list of revoked ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CertificateRow {
    /// The name of its listener; `admin` for the address of operators.
    pub(crate) listener: String,
    /// Its file.
    pub(crate) file: String,
    /// Whether it is a list of revoked certificates.
    pub(crate) is_list: bool,
    /// Its end, in seconds since 1970.
    pub(crate) ends_at_s: i64,
}

/// A line of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogLine {
    /// Its number since the start.
    pub(crate) number: u64,
    /// The line, without colours; a long one is cut and ends with `…`.
    pub(crate) line: String,
}

/// The keys behind `after`, as many as fit a page, and the last one of them if more follow.
pub(crate) fn page_of_keys(keys: &Keys, after: Option<&str>) -> (Vec<KeyRow>, Option<String>) {
    let mut page = Page::default();
    let mut last = None;
    for (path, key) in keys.behind(after) {
        let row = || KeyRow {
            key: path.to_owned(),
            value: cut(&key.value),
            origin: key.origin.clone(),
            class: key.class.to_string(),
        };
        if !page.take(path.len() + key.value.len().min(VALUE_BYTES_MAX) + key.origin.len(), row) {
            return (page.into_rows(), last);
        }
        last = Some(path.to_owned());
    }
    (page.into_rows(), None)
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
    use super::*;
    use crate::config::{Effective, Environment};

    #[test]
    fn pages_have_every_key_once_with_its_origin_and_its_class() {
        let roles =
            (0..300).map(|at| format!("[role.r{at}]\npublish = [\"{at}\"]\n")).collect::<Vec<_>>().concat();
        let long = format!("[role.long]\npublish = [\"{}\"]\n", "ä".repeat(3_000));
        let all = {
            let file = Some(("broker.conf".into(), format!("port = 1885\n{roles}{long}")));
            Keys::of(&Effective::layer(file, Environment::default(), &[], Vec::new()).unwrap())
        };
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = page_of_keys(&all, after.as_deref());
            assert!(!page.is_empty());
            rows.extend(page);
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        assert_eq!(rows.len(), all.behind(None).count());
        let row = |key: &str| rows.iter().find(|row| row.key == key).unwrap();
        let port = row("port");
        assert_eq!((&*port.value, &*port.class), ("1885", "live, for new connections"));
        assert!(port.origin.contains("broker.conf") && row("queue_messages_max").origin == "default");
        let long = row("role.long.publish");
        assert!(long.value.len() <= VALUE_BYTES_MAX + 3 && long.value.ends_with("ä…"), "{}", long.value);
    }
}
