//! Errors of a configuration. Each is one sentence that names the origin of the value and the allowed range.

use std::fmt;
use std::path::PathBuf;

/// Origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The value is the default.
    Default,
    /// The value follows the machine. The text says what asked for that, and how it is computed.
    Derived(String),
    /// A line of a file, counted from 1.
    File {
        /// The file as it was named or found.
        file: PathBuf,
        /// The line of the key.
        line: usize,
    },
    /// The value was not given and follows the value of another key.
    Follows(&'static str),
    /// A variable of the environment.
    Variable(String),
    /// A flag of this name, dashes included.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "default"),
            Self::Derived(from) => write!(f, "{from}"),
            Self::File { file, line } => write!(f, "{}, line {line}", file.display()),
            Self::Follows(key) => write!(f, "follows {key}"),
            Self::Variable(name) => write!(f, "{name}"),
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
        /// The key that was probably meant.
        meant: Meant,
    },
    /// A line in the form of mosquitto's file.
    Foreign {
        /// Position of the line.
        origin: Origin,
        /// Its key.
        key: String,
        /// The equivalent line, as a sentence.
        hint: String,
    },
    /// The value is outside the allowed range of its key.
    BadValue {
        /// Origin of the value.
        origin: Origin,
        /// Its key.
        key: String,
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
    /// A value needs another one, which is empty.
    Incomplete {
        /// The key, its value and its origin.
        given: (&'static str, String, Origin),
        /// The key that is empty, and an example of its value.
        needed: (&'static str, &'static str),
        /// The value of the first key that needs nothing.
        otherwise: &'static str,
    },
    /// A fault that its own sentence tells.
    Stated {
        /// Position of the fault.
        origin: Origin,
        /// The sentence.
        sentence: String,
    },
    /// The key belongs to a feature that this version lacks.
    NotYet {
        /// Position of the key.
        origin: Origin,
        /// The key.
        key: String,
        /// The reason.
        reason: &'static str,
    },
    /// An address exists on every network interface and does not name one.
    NoInterface {
        /// Origin of the address.
        origin: Origin,
        /// The address.
        address: String,
    },
}

/// The key that was meant by one that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    /// No key is similar.
    Unknown,
    /// The key with the most similar name.
    Nearest(&'static str),
    /// The key of this name stands above the tables.
    AboveTables,
    /// A key of mosquitto; the hint names ours.
    Mosquitto(&'static str),
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
            Self::UnknownKey { origin, key, meant: Meant::Nearest(nearest) } => {
                write!(f, "{origin}: unknown key {key}; did you mean {nearest}?")
            }
            Self::UnknownKey { origin, key, meant: Meant::Mosquitto(hint) } => {
                write!(f, "{origin}: unknown key {key}, which is mosquitto's; {hint}")
            }
            Self::UnknownKey { origin, key, meant: Meant::AboveTables } => {
                write!(
                    f,
                    "{origin}: {key} is a key of the whole broker; write it above the first table, because keys behind a \
                     [header] belong to that table"
                )
            }
            Self::UnknownKey { origin, key, meant: Meant::Unknown } => {
                write!(f, "{origin}: unknown key {key}; `mqtt-broker config default` lists every key")
            }
            Self::Foreign { origin, key, hint } => {
                write!(f, "{origin}: {key} is written as in mosquitto.conf; {hint}")
            }
            Self::BadValue {
                origin: Origin::Flag(name) | Origin::Variable(name), value, allowed, ..
            } => {
                write!(f, "{name} must be {}, not {value}", requirement(allowed, value))
            }
            Self::BadValue { origin, key, value, allowed } => {
                write!(f, "{origin}: {key} must be {}, not {value}", requirement(allowed, value))
            }
            Self::Contradiction { lesser, greater } => write!(
                f,
                "{} = {} ({}) must not exceed {} = {} ({}); lower the first or raise the second",
                lesser.0, lesser.1, lesser.2, greater.0, greater.1, greater.2
            ),
            Self::Incomplete { given: (key, value, origin), needed: (needed, example), otherwise } => write!(
                f,
                "{key} = {value} ({origin}) needs {needed}, which is empty; set {needed} = {example}, or {key} = {otherwise}"
            ),
            Self::NoInterface { origin, address } => {
                write!(f, "{origin}: {address} {}", lacks_interface(address))
            }
            Self::Stated { origin, sentence } => write!(f, "{origin}: {sentence}"),
            Self::NotYet { origin, key, reason } => write!(f, "{origin}: {key} is refused: {reason}"),
        }
    }
}

/// A fault of `address`, behind its name.
pub(super) fn lacks_interface(address: &str) -> String {
    format!(
        "is a link-local address, which every network interface has; name the interface as well, such as {address}%eth0 \
         (`ip -6 address` lists both)"
    )
}

/// The allowed values as they follow "must be". The sentence about an integer omits "an integer".
fn requirement<'a>(allowed: &'a str, value: &str) -> &'a str {
    let digits = value.trim_start_matches(['+', '-']);
    let is_integer = digits.starts_with(|first: char| first.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    if is_integer { allowed.strip_prefix("an integer ").unwrap_or(allowed) } else { allowed }
}
