//! The types of settings: how a value is parsed from file or flag, rendered, and described to the operator.

use std::fmt;
use std::path::{Path, PathBuf};

use engine::{QueueFull, Redirect, SessionOwner};
use toml::de::DeValue;

use super::address::BindAddress;

/// A value as it was given, before it is checked.
pub(crate) enum Given<'a> {
    /// From a configuration file, with its TOML type.
    File(&'a DeValue<'a>),
    /// From the command line or the environment, one text for each occurrence of the flag or item of the list.
    Flag(&'a [String]),
}

/// Range of an integer setting. For a text it bounds the length; other types ignore it.
pub(crate) struct Bounds {
    /// Smallest integer allowed.
    pub(crate) min: u64,
    /// Largest integer allowed, if the type itself has no lower maximum.
    pub(crate) max: u64,
}

/// Every value that the type can hold.
pub(crate) const ANY: Bounds = from(0);

/// Integers from `min` on.
pub(crate) const fn from(min: u64) -> Bounds {
    between(min, u64::MAX)
}

/// Integers from `min` to `max`, both included.
pub(crate) const fn between(min: u64, max: u64) -> Bounds {
    assert!(min <= max);
    Bounds { min, max }
}

/// A type of a setting.
pub(crate) trait Field: Sized {
    /// Placeholder for the value in `--help`.
    const VALUE_NAME: &'static str;
    /// Whether the flag may be given more than once.
    const REPEATABLE: bool = false;
    /// The parsed value, or `None` if it is not allowed.
    fn parse(given: &Given<'_>, bounds: &Bounds) -> Option<Self>;
    /// The value in TOML syntax.
    fn render(&self) -> String;
    /// Description of the allowed values for the operator.
    fn allowed(bounds: &Bounds) -> String;
    /// Makes a relative path relative to `directory`.
    fn resolve(&mut self, _directory: &Path) {}
}

macro_rules! integer_fields {
    ($($type:ty),+) => { $(
        impl Field for $type {
            const VALUE_NAME: &'static str = "N";

            fn parse(given: &Given<'_>, bounds: &Bounds) -> Option<Self> {
                let value = match given {
                    Given::File(DeValue::Integer(integer)) => {
                        u64::from_str_radix(integer.as_str(), integer.radix()).ok()?
                    }
                    Given::File(_) => return None,
                    Given::Flag(texts) => only(texts)?.replace('_', "").parse().ok()?,
                };
                if value < bounds.min || value > bounds.max {
                    return None;
                }
                Self::try_from(value).ok()
            }

            fn render(&self) -> String {
                self.to_string()
            }

            fn allowed(bounds: &Bounds) -> String {
                // TOML integers are signed 64-bit, so a file cannot contain a larger value.
                let max = bounds.max.min(u64::from(Self::MAX)).min(i64::MAX.unsigned_abs());
                match bounds.min {
                    min if max == i64::MAX.unsigned_abs() => format!("an integer from {min}"),
                    min => format!("an integer from {min} to {max}"),
                }
            }
        }
    )+ };
}

integer_fields!(u16, u32, u64);

impl Field for bool {
    const VALUE_NAME: &'static str = "BOOL";

    fn parse(given: &Given<'_>, _: &Bounds) -> Option<Self> {
        match given {
            Given::File(DeValue::Boolean(value)) => Some(*value),
            Given::File(_) => None,
            Given::Flag(texts) => only(texts)?.parse().ok(),
        }
    }

    fn render(&self) -> String {
        self.to_string()
    }

    fn allowed(_: &Bounds) -> String {
        "true or false".to_owned()
    }
}

/// The bounds apply to the length in bytes.
impl Field for String {
    const VALUE_NAME: &'static str = "TEXT";

    fn parse(given: &Given<'_>, bounds: &Bounds) -> Option<Self> {
        let text = text(given)?;
        let is_allowed = text.len() as u64 <= bounds.max && !text.contains(char::is_control);
        is_allowed.then(|| text.to_owned())
    }

    fn render(&self) -> String {
        quote(self)
    }

    fn allowed(bounds: &Bounds) -> String {
        format!("a text in quotes of at most {} bytes without control characters", bounds.max)
    }
}

impl Field for PathBuf {
    const VALUE_NAME: &'static str = "DIR";

    fn parse(given: &Given<'_>, _: &Bounds) -> Option<Self> {
        text(given).filter(|path| !path.is_empty()).map(Self::from)
    }

    fn render(&self) -> String {
        quote(&self.to_string_lossy())
    }

    fn allowed(_: &Bounds) -> String {
        "the path of a directory in quotes".to_owned()
    }
}

impl Field for Option<PathBuf> {
    const VALUE_NAME: &'static str = "DIR";

    fn parse(given: &Given<'_>, _: &Bounds) -> Option<Self> {
        text(given).map(|path| if path.is_empty() { None } else { Some(PathBuf::from(path)) })
    }

    fn render(&self) -> String {
        self.as_ref().map_or_else(|| quote(""), PathBuf::render)
    }

    fn allowed(_: &Bounds) -> String {
        "the path of a directory in quotes, or \"\" for none".to_owned()
    }
}

impl Field for Vec<BindAddress> {
    const VALUE_NAME: &'static str = "ADDRESS";
    const REPEATABLE: bool = true;

    fn parse(given: &Given<'_>, _: &Bounds) -> Option<Self> {
        let addresses: Self = match given {
            Given::File(DeValue::Array(items)) => items
                .iter()
                .map(|item| item.get_ref().as_str().and_then(|text| text.parse().ok()))
                .collect::<Option<_>>()?,
            Given::File(_) => return None,
            Given::Flag(texts) => texts.iter().map(|text| text.parse().ok()).collect::<Option<_>>()?,
        };
        // The second bind of the same address would fail, because the first one uses it.
        let distinct = addresses.iter().enumerate().all(|(at, address)| !addresses[..at].contains(address));
        (distinct && !addresses.is_empty()).then_some(addresses)
    }

    fn render(&self) -> String {
        let quoted: Vec<String> = self.iter().map(|address| quote(&address.to_string())).collect();
        format!("[{}]", quoted.join(", "))
    }

    fn allowed(_: &Bounds) -> String {
        "a list of different IP addresses such as [\"127.0.0.1\", \"::1\"] (on the command line one --bind for \
         each, in the environment separated by commas)".to_owned()
    }
}

/// A limit in bytes that follows the machine by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ceiling {
    /// A share of the memory that the process may use.
    Auto,
    /// This many; 0 sets no limit.
    Bytes(u64),
}

impl Ceiling {
    const AUTO: &'static str = "auto";

    /// The limit; 0 if there is none.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Auto => 0,
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Field for Ceiling {
    const VALUE_NAME: &'static str = "N";

    fn parse(given: &Given<'_>, bounds: &Bounds) -> Option<Self> {
        if text(given) == Some(Self::AUTO) {
            Some(Self::Auto)
        } else {
            u64::parse(given, bounds).map(Self::Bytes)
        }
    }

    fn render(&self) -> String {
        match self {
            Self::Auto => quote(Self::AUTO),
            Self::Bytes(bytes) => bytes.render(),
        }
    }

    fn allowed(bounds: &Bounds) -> String {
        format!("\"{}\" or {}", Self::AUTO, u64::allowed(bounds))
    }
}

/// The system interface for network I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Io {
    /// The best interface that works on this system.
    Auto,
    /// `io_uring`; an error if it is not available.
    Uring,
    /// epoll, or kqueue on macOS.
    Epoll,
    /// tokio, on every system.
    Tokio,
    /// A thread for each connection, on every system.
    Blocking,
}

impl Io {
    /// A build with the feature `sync` uses threads by default.
    pub(super) const DEFAULT: Self = if cfg!(feature = "sync") { Self::Blocking } else { Self::Auto };
}

impl fmt::Display for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The file uses the same word on every system; the log names the real interface.
            Self::Epoll if cfg!(target_os = "macos") => f.write_str("kqueue"),
            // The word of the file without its quotes.
            _ => f.write_str(self.render().trim_matches('"')),
        }
    }
}

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLevel {
    /// Everything, including the way of each connection.
    Debug,
    /// Events that the operator wants to know.
    Info,
    /// Events that the operator should look at.
    Warn,
    /// Failures.
    Error,
    /// Nothing.
    Off,
}

/// The accident that an acknowledgement of the broker survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The loss of power: it leaves once its records are synchronised.
    Power,
    /// The end of the process: it leaves once its records are written.
    Process,
    /// None: nothing is written.
    Memory,
}

impl Durability {
    /// Its name, as it is written.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::Process => "process",
            Self::Memory => "memory",
        }
    }

    /// What it promises, for the log.
    pub(crate) const fn promise(self) -> &'static str {
        match self {
            Self::Power => "what is acknowledged survives the loss of power",
            Self::Process => {
                "what is acknowledged survives the end of the process; the loss of power may take the last of it"
            }
            Self::Memory => "what is acknowledged is in memory only, but for subscriptions",
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Time, level, text and fields, for people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// The lines about connections that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionLines {
    /// Clients that come, clients that go, and refused connections.
    All,
    /// Refused connections.
    Refusals,
    /// None.
    None,
}

/// Whether clients may be let in without a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Anonymous {
    /// Clients of this machine may.
    #[default]
    Auto,
    /// All may.
    Allowed,
    /// None may.
    Refused,
}

impl Field for Anonymous {
    const VALUE_NAME: &'static str = "BOOL";

    fn parse(given: &Given<'_>, bounds: &Bounds) -> Option<Self> {
        if text(given) == Some("auto") {
            return Some(Self::Auto);
        }
        bool::parse(given, bounds).map(|allowed| if allowed { Self::Allowed } else { Self::Refused })
    }

    fn render(&self) -> String {
        match self {
            Self::Auto => quote("auto"),
            Self::Allowed => true.render(),
            Self::Refused => false.render(),
        }
    }

    fn allowed(_: &Bounds) -> String {
        "\"auto\", true or false".to_owned()
    }
}

/// Implements `Field` for enums: one or more words for each variant. The first word is the one that is rendered.
macro_rules! word_fields {
    ($( $name:ident, $value_name:literal: { $( $variant:ident = $word:literal $(| $other:literal)*, )+ } )+) => { $(
        impl $crate::config::value::Field for $name {
            const VALUE_NAME: &'static str = $value_name;

            fn parse(given: &$crate::config::value::Given<'_>, _: &$crate::config::value::Bounds) -> Option<Self> {
                match $crate::config::value::text(given)? {
                    $( $word $(| $other)* => Some(Self::$variant), )+
                    _ => None,
                }
            }

            fn render(&self) -> String {
                $crate::config::value::quote(match self { $( Self::$variant => $word, )+ })
            }

            fn allowed(_: &$crate::config::value::Bounds) -> String {
                format!("one of \"{}\"", [$( $word $(, $other)* ),+].join("\", \""))
            }
        }
    )+ };
}

pub(super) use word_fields;

word_fields! {
    Io, "IO": { Auto = "auto", Uring = "uring", Epoll = "epoll", Tokio = "tokio", Blocking = "blocking", }
    ConnectionLines, "LINES": { All = "all", Refusals = "refusals", None = "none", }
    Durability, "LEVEL": { Power = "power", Process = "process", Memory = "memory", }
    LogFormat, "FORMAT": { Text = "text", Json = "json", }
    LogLevel, "LEVEL": { Debug = "debug", Info = "info", Warn = "warn", Error = "error" | "err", Off = "off", }
    Redirect, "WHERE": { Off = "off", UseAnother = "use_another", Moved = "moved", }
    SessionOwner, "OWNER": { User = "user", ClientId = "client_id", }
    QueueFull, "POLICY": { DropNewest = "drop_newest", DropOldest = "drop_oldest", EndSession = "end_session", }
}

/// A text in TOML syntax, with quotes and escapes, on one line.
pub(super) fn quote(text: &str) -> String {
    if !text.contains(char::is_control) {
        return toml::Value::String(text.to_owned()).to_string();
    }
    // TOML allows a raw tab, and a raw line break in a text of several lines; both would tear a line of the log.
    let escaped: String = text
        .chars()
        .map(|symbol| match symbol {
            '"' | '\\' => format!("\\{symbol}"),
            symbol if symbol.is_control() => format!("\\u{:04X}", u32::from(symbol)),
            symbol => symbol.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}

pub(super) fn text<'a>(given: &'a Given<'_>) -> Option<&'a str> {
    match given {
        Given::File(value) => value.as_str(),
        Given::Flag(texts) => only(texts),
    }
}

fn only(texts: &[String]) -> Option<&str> {
    match texts {
        [text] => Some(text),
        _ => None,
    }
}
