//! Configuration: flags override the environment, which overrides the file, which overrides the defaults. The result is one
//! typed [`Config`].
//! Invariants: every value of a [`Config`] is allowed, and settings enter the process only here. All errors of file,
//! environment and flags are reported together, so that the operator can correct them in one pass.

mod address;
pub(crate) mod admin;
pub(crate) mod auth;
mod class;
pub(crate) mod command;
pub(crate) mod diff;
mod document;
mod engine_limits;
mod entry;
mod environment;
mod error;
mod from_mosquitto;
pub(crate) mod import;
pub(crate) mod limits;
pub(crate) mod list;
pub(crate) mod listener;
pub(crate) mod mosquitto;
mod nearest;
mod not_yet;
mod operators_listener;
pub(crate) mod rules;
mod settings;
mod table;
mod value;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use engine::Redirect;

pub(crate) use address::BindAddress;
pub(crate) use environment::{Environment, Notice};
pub(crate) use error::{ConfigError, Origin};
pub(crate) use list::{CertificateFiles, FileMode};
pub(crate) use listener::{ListenAt, ListenerConfig, ProxyProtocol};
pub(crate) use settings::{Config, SETTINGS, Setting};
pub(crate) use value::{Ceiling, ConnectionLines, Durability, Io, LogFormat, LogLevel};

use crate::process::available_memory::{self, Available};
pub(crate) use document::default_file;
use document::{Tables, line_of};
use nearest::nearest_of;
use settings::MQTT_PACKET_BYTES_MAX;
use table::ShownTable;
use value::Given;

/// Configuration files that are tried in this order when none is named.
const FILES: [&str; 2] = ["config/broker.conf", "/etc/mqtt-broker/broker.conf"];

/// The share of the available memory that `memory_bytes_max` permits by default. The rest is for what the broker does not count,
/// such as buffers of its allocator, and for the buffers of sockets, which a control group counts as well.
const MEMORY_PERCENT: u64 = 60;

/// The setting of a flag and its texts, one for each occurrence.
pub(crate) type GivenFlag = (&'static Setting, Vec<String>);

/// A configuration and the origin of each value.
#[derive(Debug)]
pub(crate) struct Effective {
    /// The values.
    pub(crate) config: Config,
    /// The file that was read, if there was one.
    pub(crate) file: Option<PathBuf>,
    /// Variables of the environment that set nothing although they look as if they did.
    pub(crate) notices: Vec<Notice>,
    /// Origin of each value, in the order of [`SETTINGS`].
    origins: Vec<Origin>,
    /// The tables of the file, in its order.
    tables: Vec<ShownTable>,
}

impl Effective {
    /// Reads `file`, or the one that the environment names, or the first of the usual files that exists; and applies the
    /// environment and then `flags` over it.
    ///
    /// # Errors
    /// All errors of file, environment and flags, in the order in which they occur.
    pub(crate) fn load(file: Option<&Path>, flags: &[GivenFlag]) -> Result<Self, Vec<ConfigError>> {
        let environment = Environment::read();
        let layered = match read(file.or(environment.file.as_deref())) {
            Ok(given) => Self::layer(given, environment, flags, Vec::new()),
            Err(error) => Self::layer(None, environment, flags, vec![error]),
        };
        layered.map(|effective| effective.derive(available_memory::available()))
    }

    /// Replaces a value that follows the machine, which has this memory, by the number that is in force.
    fn derive(mut self, memory: Option<Available>) -> Self {
        if self.config.memory_bytes_max == Ceiling::Auto
            && let Some(Available { bytes, owner }) = memory
        {
            let at = position("memory_bytes_max").expect("the key is in the table of settings");
            // At least one byte, because 0 sets no limit.
            self.config.memory_bytes_max = Ceiling::Bytes((bytes / 100 * MEMORY_PERCENT).max(1));
            let derived = format!("{}: {MEMORY_PERCENT} % of {owner}", self.origins[at]);
            self.origins[at] = Origin::Derived(derived);
        }
        self
    }

    /// Applies the text of a file, if there is one, then `environment` and then `flags` over the defaults.
    ///
    /// # Errors
    /// `errors`, and all errors of file, environment and flags, in the order in which they occur.
    pub(crate) fn layer(
        file: Option<(PathBuf, String)>,
        environment: Environment,
        flags: &[GivenFlag],
        mut errors: Vec<ConfigError>,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut effective = Self::default();
        let mut tables = Tables::default();
        if let Some((file, text)) = file {
            tables = effective.apply_file(&file, &text, &mut errors);
            effective.file = Some(file);
        }
        effective.apply_environment(&environment, &mut errors);
        effective.notices = environment.notices;
        effective.apply_flags(flags, &mut errors);
        if errors.is_empty() {
            effective.follow();
            effective.take_tables(tables, &mut errors);
            effective.compare(&mut errors);
        }
        if errors.is_empty() {
            effective.check_admission(&mut errors);
        }
        if errors.is_empty() { Ok(effective) } else { Err(errors) }
    }

    /// Origin of the value of `key`.
    ///
    /// # Panics
    /// If there is no such key.
    pub(crate) fn origin(&self, key: &str) -> &Origin {
        &self.origins[position(key).expect("the key is in the table of settings")]
    }

    /// Each setting, its value in the syntax of the file, and its origin.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&'static Setting, String, &Origin)> {
        SETTINGS
            .iter()
            .zip(&self.origins)
            .map(|(setting, origin)| (setting, (setting.render)(&self.config), origin))
    }

    /// The tables of the file, as it shows them.
    pub(crate) fn tables(&self) -> &[ShownTable] {
        &self.tables
    }

    fn apply_environment(&mut self, environment: &Environment, errors: &mut Vec<ConfigError>) {
        for variable in &environment.settings {
            let setting = &SETTINGS[variable.at];
            let texts: Vec<String> = if setting.repeatable {
                variable.value.split(',').map(|text| text.trim().to_owned()).collect()
            } else {
                vec![variable.value.clone()]
            };
            let written = if variable.value.is_empty() { "\"\"" } else { &variable.value };
            let origin = Origin::Variable(variable.name.clone());
            self.store(variable.at, &Given::Flag(&texts), written, origin, errors);
        }
    }

    fn apply_flags(&mut self, flags: &[GivenFlag], errors: &mut Vec<ConfigError>) {
        for (setting, texts) in flags {
            let at = position(setting.key).expect("flags are made from the table");
            let origin = Origin::Flag(format!("--{}", setting.flag()));
            self.store(at, &Given::Flag(texts), &texts.join(" "), origin, errors);
        }
    }

    fn store(
        &mut self,
        at: usize,
        given: &Given<'_>,
        written: &str,
        origin: Origin,
        errors: &mut Vec<ConfigError>,
    ) {
        let setting = &SETTINGS[at];
        if let Some(reason) = not_yet::reason(setting.key).filter(|_| !is_default(setting, given)) {
            errors.push(ConfigError::NotYet { origin, key: setting.key.to_owned(), reason });
        } else if (setting.store)(&mut self.config, given) {
            self.origins[at] = origin;
        } else {
            let (value, allowed) = (abbreviate(written), (setting.allowed)());
            errors.push(ConfigError::BadValue { origin, key: setting.key.to_owned(), value, allowed });
        }
    }

    /// Adapts values that were not given to those that were.
    fn follow(&mut self) {
        let at = position("max_pool_size").expect("it is in the table of settings");
        // Every connection occupies a slot.
        if self.origins[at] == Origin::Default && self.config.max_connections > self.config.max_pool_size {
            self.config.max_pool_size = self.config.max_connections;
            self.origins[at] = Origin::Follows("max_connections");
        }
        let at = position("initial_pool_size").expect("it is in the table of settings");
        if self.origins[at] == Origin::Default && self.config.initial_pool_size > self.config.max_pool_size {
            self.config.initial_pool_size = self.config.max_pool_size;
            self.origins[at] = Origin::Follows("max_pool_size");
        }
    }

    fn compare(&self, errors: &mut Vec<ConfigError>) {
        let config = &self.config;
        let pairs = [
            (("initial_pool_size", config.initial_pool_size), ("max_pool_size", config.max_pool_size)),
            // Every connection occupies a slot.
            (("max_connections", config.max_connections), ("max_pool_size", config.max_pool_size)),
            (
                ("default_session_expiry_s", config.default_session_expiry_s),
                ("session_expiry_s_max", config.session_expiry_s_max),
            ),
        ];
        for (lesser, greater) in pairs {
            if lesser.1 > greater.1 {
                errors.push(ConfigError::Contradiction {
                    lesser: (lesser.0, lesser.1, self.origin(lesser.0).clone()),
                    greater: (greater.0, greater.1, self.origin(greater.0).clone()),
                });
            }
        }
        if config.redirect != Redirect::Off && config.server_reference.is_empty() {
            let redirect = value::Field::render(&config.redirect);
            errors.push(ConfigError::Incomplete {
                given: ("redirect", redirect, self.origin("redirect").clone()),
                needed: ("server_reference", "\"mqtt2.example.com:1883\""),
                otherwise: "\"off\"",
            });
        }
        for address in config.bind.iter().filter(|address| address.lacks_interface()) {
            let origin = self.origin("bind").clone();
            errors.push(ConfigError::NoInterface { origin, address: address.to_string() });
        }
    }
}

impl Default for Effective {
    fn default() -> Self {
        Self {
            config: Config::default(),
            file: None,
            notices: Vec::new(),
            origins: vec![Origin::Default; SETTINGS.len()],
            tables: Vec::new(),
        }
    }
}

/// The text of `file`, or of the first of the usual files that exists; `None` if none is named and none exists.
fn read(file: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let candidates = match file {
        Some(file) => vec![file.to_owned()],
        None => FILES.map(PathBuf::from).to_vec(),
    };
    for candidate in candidates {
        match fs::read_to_string(&candidate) {
            Ok(text) => return Ok(Some((candidate, text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && file.is_none() => {}
            Err(error) => {
                return Err(ConfigError::Unreadable { file: candidate, reason: reason(&error) });
            }
        }
    }
    Ok(None)
}

pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "the file does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "this user has no permission to read it".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether a value is the default of its setting, as `config show` prints it.
fn is_default(setting: &Setting, given: &Given<'_>) -> bool {
    let (mut config, default) = (Config::default(), Config::default());
    (setting.store)(&mut config, given) && (setting.render)(&config) == (setting.render)(&default)
}

fn position(key: &str) -> Option<usize> {
    SETTINGS.iter().position(|setting| setting.key == key)
}

/// The flat key with the name most similar to `key`, if it is similar enough.
fn nearest_setting(key: &str) -> Option<&'static str> {
    nearest_of(key, SETTINGS.iter().map(|setting| setting.key))
}

/// A value as it was written, shortened and on one line, so that it fits into a sentence.
fn abbreviate(written: &str) -> String {
    const CHARS_MAX: usize = 80;
    let mut short: String =
        written.chars().take(CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if written.chars().nth(CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
