//! What can be wrong with a configuration, each told in one sentence that says where and what is allowed.
//! Knows no file system: who reads the file passes its name on.

use std::fmt;
use std::path::PathBuf;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nowhere: it is the default.
    Default,
    /// On a line of a file, counted from 1.
    File {
        /// The file as it was named or found.
        file: PathBuf,
        /// The line of the key.
        line: usize,
    },
    /// By a flag of this name, dashes included.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::File { file, line } => write!(f, "{}, line {line}", file.display()),
            Self::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// One thing wrong with a configuration; always the operator's to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConfigError {
    /// The file could not be read.
    Unreadable {
        /// The file as it was named.
        file: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file is not TOML.
    Syntax {
        /// Where reading stopped.
        origin: Origin,
        /// What the reader says.
        reason: String,
    },
    /// There is no such key.
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// The key as it was written.
        key: String,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
    },
    /// The value is not one the key takes.
    BadValue {
        /// Where it was given.
        origin: Origin,
        /// Its key.
        key: &'static str,
        /// The value as it was written.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Two values, each allowed, contradict one another.
    Contradiction {
        /// The key that must not exceed the other, its value, and where that was given.
        lesser: (&'static str, u32, Origin),
        /// The other.
        greater: (&'static str, u32, Origin),
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, reason } => {
                write!(
                    f,
                    "{}: the configuration file cannot be read: {reason}; --config FILE names another",
                    file.display()
                )
            }
            Self::Syntax { origin, reason } => write!(f, "{origin}: the file is not valid TOML: {reason}"),
            Self::UnknownKey { origin, key, nearest: Some(nearest) } => {
                write!(f, "{origin}: unknown key {key}; did you mean {nearest}?")
            }
            Self::UnknownKey { origin, key, nearest: None } => {
                write!(f, "{origin}: unknown key {key}; `mqtt-broker config default` lists every key")
            }
            Self::BadValue { origin: Origin::Flag(flag), value, allowed, .. } => {
                write!(f, "{flag} must be {}, not {value}", requirement(allowed, value))
            }
            Self::BadValue { origin, key, value, allowed } => {
                write!(f, "{origin}: {key} must be {}, not {value}", requirement(allowed, value))
            }
            Self::Contradiction { lesser, greater } => write!(
                f,
                "{} = {} ({}) must not exceed {} = {} ({}); lower the first or raise the second",
                lesser.0, lesser.1, lesser.2, greater.0, greater.1, greater.2
            ),
        }
    }
}

/// The range of allowed values, for a sentence about `value`. A value that is an integer need not be told that it must be one.
fn requirement<'a>(allowed: &'a str, value: &str) -> &'a str {
    let digits = value.trim_start_matches(['+', '-']);
    let is_integer = digits.starts_with(|first: char| first.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    if is_integer { allowed.strip_prefix("an integer ").unwrap_or(allowed) } else { allowed }
}
