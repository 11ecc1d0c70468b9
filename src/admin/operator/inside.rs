//! Answers about the inside of the broker: what each shard holds and how long its stages take, the configuration in force, certificates,
//! and the last lines of the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
