//! The configuration file as a whole: flat keys above, tables below; and the file with every key as a comment.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::DeTable;

use super::admin::{AdminConfig, ProbesConfig};
use super::auth::{AuthConfig, AuthMethod};
use super::class::Class;
use super::error::{ConfigError, Meant, Origin};
use super::limits::BansConfig;
use super::listener::{ADDRESSES_MAX, IMPLIED_KEYS, LISTENERS_MAX, ListenerConfig};
use super::nearest::nearest_of;
use super::rules::{RoleConfig, RulesConfig, RulesTable, UserConfig};
use super::table::{Complete, Reader, Table, in_order, table};
use super::value::{Anonymous, Durability, Field, Given};
use super::{Config, Effective, SETTINGS, abbreviate, mosquitto, not_yet, position};

table! {
    /// The tables of a file.
    Tables {
        tables {
            /// Listeners. Each is a place where clients connect, with rules of its own. With any of them, `bind`, `port` and
            /// `anonymous` above must be left out.
            listener: Vec<ListenerConfig>;
            /// Authentication.
            auth: Option<AuthConfig>;
            /// Rules about topics. Without any rule or role, every client may publish and subscribe to everything.
            rules: Option<RulesTable>;
            /// Roles. In a topic filter, %u is the user name and %c the client identifier. A client has the roles of its user,
            /// those that its token names, and those of every client.
            role: BTreeMap<String, RoleConfig>;
            /// Users and their roles.
            user: BTreeMap<String, UserConfig>;
            /// Bans after failures of authentication. Without this table nobody is banned.
            bans: Option<BansConfig>;
            /// Operations over HTTP: metrics, health and the API. Without this table it serves on 127.0.0.1:9883 if nobody else does.
            admin: Option<AdminConfig>;
            /// Health and metrics alone, without TLS: for an orchestrator and Prometheus. Without this table nothing is served here.
            probes: Option<ProbesConfig>;
        }
    }
}

impl Complete for Tables {}

impl Effective {
    /// Applies the text of a file. Its flat keys are stored, its tables returned.
    pub(super) fn apply_file(&mut self, file: &Path, text: &str, errors: &mut Vec<ConfigError>) -> Tables {
        let origin = |at: usize| Origin::File { file: file.to_owned(), line: line_of(text, at) };
        let mut tables = Tables::default();
        let document = match DeTable::parse(text) {
            Ok(document) => document.into_inner(),
            Err(error) => {
                let reason = error.message().to_owned();
                errors.push(ConfigError::Syntax {
                    origin: origin(error.span().map_or(0, |span| span.start)),
                    reason,
                });
                errors.extend(mosquitto::lines(text).map(|(line, key, hint)| ConfigError::Foreign {
                    origin: Origin::File { file: file.to_owned(), line },
                    key: key.to_owned(),
                    hint,
                }));
                return tables;
            }
        };
        let mut shown = Vec::new();
        for (key, value) in in_order(&document) {
            let (name, origin) = (key.get_ref().as_ref(), origin(key.span().start));
            if let Some(at) = position(name) {
                let written = text.get(value.span()).unwrap_or_default();
                self.store(at, &Given::File(value.get_ref()), written, origin, errors);
            } else if let Some(reason) = not_yet::reason(name) {
                errors.push(ConfigError::NotYet { origin, key: name.to_owned(), reason });
            } else if let Some(inner) = Tables::TABLES.iter().find(|inner| inner.key == name) {
                let mut reader = Reader { file, text, errors, shown: &mut shown, refuses: true };
                (inner.read)(&mut tables, &mut reader, name, value, key.span().start);
            } else {
                let (meant, key) = (meant(name), abbreviate(name));
                errors.push(ConfigError::UnknownKey { origin, key, meant });
            }
        }
        self.tables = shown;
        tables
    }

    /// Makes the listeners, methods and rules of the configuration from its tables.
    pub(super) fn take_tables(&mut self, tables: Tables, errors: &mut Vec<ConfigError>) {
        let Tables { listener, auth, rules, role, user, bans, admin, probes } = tables;
        let config = &self.config;
        let listeners = if listener.is_empty() {
            let named = *self.origin("bind") != Origin::Default;
            vec![ListenerConfig::implied(&config.bind, named, config.port, config.anonymous)]
        } else {
            self.check_listeners(&listener, errors);
            listener
        };
        let config = &mut self.config;
        config.auth = auth.unwrap_or_default();
        config.listeners = listeners;
        for listener in &mut config.listeners {
            let by_certificate = listener.asks_for_certificates();
            let all =
                by_certificate.then_some(AuthMethod::Certificate).into_iter().chain(config.auth.methods());
            listener.auth.get_or_insert_with(|| all.collect());
        }
        let has_rules = rules.is_some() || !role.is_empty() || !user.is_empty();
        config.rules =
            has_rules.then(|| RulesConfig { table: rules.unwrap_or_default(), roles: role, users: user });
        config.bans = bans;
        (config.admin, config.probes) = (admin, probes);
    }

    /// Reports listeners that nobody could use.
    pub(super) fn check_admission(&self, errors: &mut Vec<ConfigError>) {
        let tables = self.tables.iter().filter(|table| table.header == "[[listener]]");
        let mut places = tables.map(|table| &table.origin);
        for listener in &self.config.listeners {
            let place = places.next();
            let origin = place.unwrap_or_else(|| self.origin("anonymous")).clone();
            let mut refuse = |origin, sentence| errors.push(ConfigError::Stated { origin, sentence });
            if listener.durability.is_some() && self.config.durability == Durability::Memory {
                let sentence = format!(
                    "the listener {:?} has a durability, and the broker's is \"memory\", which writes no log; set durability = \
                     \"process\" or \"power\" above the tables, or leave it out",
                    listener.name
                );
                refuse(origin.clone(), sentence);
            }
            for method in listener.methods().iter().filter(|&&method| !self.has(listener, method)) {
                let (name, method) = (&listener.name, method.render());
                let sentence =
                    format!("the listener {name:?} asks the method {method}, which is not configured");
                refuse(origin.clone(), sentence);
            }
            if !listener.methods().is_empty() {
                continue;
            }
            if listener.anonymous == Anonymous::Refused {
                let sentence = format!(
                    "the listener {:?} lets nobody in, because anonymous = false and there is no method of authentication; \
                     add one, such as [auth.password], or write anonymous = true",
                    listener.name
                );
                refuse(origin, sentence);
            } else if !listener.allows_anonymous() {
                let origin = place.unwrap_or_else(|| self.origin("bind")).clone();
                let sentence = format!(
                    "the listener {:?} would let in everybody who reaches {}; configure authentication, such as [auth.password], \
                     or write anonymous = true (--anonymous true) if everybody may come in",
                    listener.name,
                    listener.beyond().join(", ")
                );
                refuse(origin, sentence);
            }
        }
    }

    /// Whether `method` is configured for `listener`.
    fn has(&self, listener: &ListenerConfig, method: AuthMethod) -> bool {
        match method {
            AuthMethod::Certificate => listener.asks_for_certificates(),
            AuthMethod::Jwt | AuthMethod::Password | AuthMethod::Scram | AuthMethod::Http => {
                self.config.auth.methods().any(|configured| configured == method)
            }
        }
    }

    /// Reports faults of the listeners beside each other and beside the flat keys.
    fn check_listeners(&self, listeners: &[ListenerConfig], errors: &mut Vec<ConfigError>) {
        for key in IMPLIED_KEYS {
            let origin = self.origin(key).clone();
            if origin != Origin::Default {
                let sentence = format!(
                    "{key} describes the only listener, and the file has tables [[listener]]; write {key} in the listener \
                     that it is meant for"
                );
                errors.push(ConfigError::Stated { origin, sentence });
            }
        }
        let places =
            self.tables.iter().filter(|table| table.header == "[[listener]]").map(|table| &table.origin);
        let mut refuse = |origin: &Origin, sentence: String| {
            errors.push(ConfigError::Stated { origin: origin.clone(), sentence });
        };
        for (at, (listener, origin)) in listeners.iter().zip(places).enumerate() {
            if listeners[..at].iter().any(|other| other.name == listener.name) {
                let name = &listener.name;
                refuse(
                    origin,
                    format!("two listeners have the name {name:?}; write another name = \"NAME\""),
                );
            }
            // The system would give each connection to one of them by chance.
            for other in &listeners[..at] {
                if let Some(place) = listener.place_shared_with(other) {
                    let (name, other) = (&listener.name, &other.name);
                    refuse(
                        origin,
                        format!("the listener {name:?} has {place}, as {other:?} has; give it another"),
                    );
                }
            }
            if at == LISTENERS_MAX {
                refuse(origin, format!("there are more than {LISTENERS_MAX} listeners; remove some"));
            }
            for (key, own, whole) in [
                ("packet_bytes_max", listener.packet_bytes_max, self.config.packet_bytes_max),
                ("maximum_qos", listener.maximum_qos.map(u32::from), self.config.maximum_qos.into()),
            ] {
                if own.is_some_and(|own| own > whole) {
                    let name = &listener.name;
                    refuse(
                        origin,
                        format!(
                            "{key} of the listener {name:?} is above the broker's {key} = {whole}; raise that one, or lower this"
                        ),
                    );
                }
            }
            let addresses: usize = listeners[..=at].iter().map(ListenerConfig::sockets).sum();
            if addresses > ADDRESSES_MAX {
                refuse(
                    origin,
                    format!("the listeners have more than {ADDRESSES_MAX} addresses; remove some"),
                );
            }
        }
    }
}

/// `broker.conf` with every setting at its default, commented out, below its description.
pub(crate) fn default_file() -> String {
    let defaults = Config::default();
    let mut text = String::from(
        "# Configuration of mqtt-broker, in TOML syntax.\n\
         #\n\
         # The broker reads config/broker.conf below its working directory, or else\n\
         # /etc/mqtt-broker/broker.conf; --config FILE names another file. Every key above the tables is also a flag\n\
         # (max_connections: --max-connections N) and a variable of the environment\n\
         # (MQTT_BROKER_MAX_CONNECTIONS=N). Flags override variables, which override this file.\n\
         # Each key is shown with its default: remove the # before it and change the value. A change that is live takes\n\
         # effect on SIGHUP, and within a minute without it; any other one after a restart.\n\
         #\n\
         #   mqtt-broker config check [FILE]   reports every error in a file, with its line\n\
         #   mqtt-broker config show           prints the values in force and the origin of each\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        if setting.section != section {
            section = setting.section;
            text.push_str(&rule(section));
        }
        text.push('\n');
        for line in setting.meaning() {
            text.extend(["# ", &line, "\n"]);
        }
        text.extend([
            "# Allowed: ",
            &(setting.allowed)(),
            ". Change: ",
            &Class::of(setting.key).to_string(),
            ".\n",
        ]);
        text.push_str(&not_yet::note(setting.key));
        text.extend(["#", setting.key, " = ", &(setting.render)(&defaults), "\n"]);
    }
    text.push_str(&rule("Tables"));
    text.push_str(
        "#\n\
         # Keys behind a [header] belong to that table, so tables stand below all keys above. Their values here are\n\
         # examples. A relative path is relative to the directory of this file.\n",
    );
    for inner in Tables::TABLES {
        (inner.describe)(&mut text, inner.key, inner.lines);
    }
    text
}

/// The heading of a section.
fn rule(section: &str) -> String {
    format!("\n# {section} {}\n", "-".repeat(72_usize.saturating_sub(section.len())))
}

/// The line of the byte `at`, counted from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count()
}

/// The key that was meant by one that does not exist.
fn meant(key: &str) -> Meant {
    match (mosquitto::key(key), nearest(key)) {
        (Some(hint), _) => Meant::Mosquitto(hint),
        (None, Some(nearest)) => Meant::Nearest(nearest),
        (None, None) => Meant::Unknown,
    }
}

/// The flat key or the table with the name most similar to `key`, if it is similar enough.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    let tables = Tables::TABLES.iter().map(|inner| inner.key);
    nearest_of(key, SETTINGS.iter().map(|setting| setting.key).chain(tables))
}
