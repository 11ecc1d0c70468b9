//! Errors of a configuration. Each is one sentence that names the origin of the value and the allowed range.

use std::fmt;
use std::path::PathBuf;

/// Origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The value is the default.
    Default,
    /// A line of a file, counted from 1.
    File {
        /// The file as it was named or found.
        file: PathBuf,
        /// The line of the key.
        line: usize,
    },
    /// A flag of this name, dashes included.
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

/// One error of a configuration. Only the operator can correct it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// The file as it was named.
        file: PathBuf,
        /// The error of the operating system.
        reason: String,
    },
    /// The file is not TOML.
    Syntax {
        /// Position of the syntax error.
        origin: Origin,
        /// Message of the TOML parser.
        reason: String,
    },
    /// The key does not exist.
    UnknownKey {
        /// Position of the key.
        origin: Origin,
        /// The key as it was written.
        key: String,
        /// The existing key with the most similar name.
        nearest: Option<&'static str>,
    },
    /// The value is outside the allowed range of its key.
    BadValue {
        /// Origin of the value.
        origin: Origin,
        /// Its key.
        key: &'static str,
        /// The value as it was written.
        value: String,
        /// The allowed values.
        allowed: String,
    },
    /// Two values, each allowed by itself, contradict each other.
    Contradiction {
        /// The key that must not exceed the other, its value and its origin.
        lesser: (&'static str, u32, Origin),
        /// The other key, its value and its origin.
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

/// The allowed values as they follow "must be". The sentence about an integer omits "an integer".
fn requirement<'a>(allowed: &'a str, value: &str) -> &'a str {
    let digits = value.trim_start_matches(['+', '-']);
    let is_integer = digits.starts_with(|first: char| first.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    if is_integer { allowed.strip_prefix("an integer ").unwrap_or(allowed) } else { allowed }
}
