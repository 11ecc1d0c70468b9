//! Converts the configuration of mosquitto: `mosquitto.conf` with the files that it includes, and `dynamic-security.json`.
//! Invariant: every line of the input is answered, as taken over, as not needed here, or as not taken over with the reason.

mod dynamic_security;
mod general;
mod lines;
mod listener;

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use super::value::quote;
use lines::Line;
use listener::Listener;

/// The result of an import.
#[derive(Debug, Default)]
pub(super) struct Imported {
    /// Our configuration file.
    pub(super) config: String,
    /// Lines of a password file, for `[auth.password]`.
    pub(super) passwords: String,
    /// One sentence about each line of the input.
    pub(super) report: Vec<String>,
}

/// The name of the password file that an import writes beside the configuration.
pub(super) const PASSWORDS: &str = "passwords";

/// The answer to a line.
enum Answer {
    /// It is this in our file.
    Taken(String),
    /// It needs no line here.
    Needless(&'static str),
    /// It has no equal here.
    Lost(String),
}

/// Converts the text of `file`; `read` reads other files that it names.
pub(super) fn convert(file: &Path, text: &str, read: &dyn Fn(&Path) -> io::Result<String>) -> Imported {
    let mut import = Import::new(read);
    for line in lines::of(file, text, &mut import.report) {
        let answer = import.line(&line);
        import.answer(&line, answer);
    }
    import.finish()
}

/// Whether `json` is the state of mosquitto's plugin dynamic-security.
pub(super) fn is_dynamic_security(json: &serde_json::Value) -> bool {
    json.get("clients").is_some() && json.get("roles").is_some()
}

/// Converts the state of mosquitto's plugin dynamic-security.
pub(super) fn convert_dynamic_security(json: &serde_json::Value) -> Imported {
    let mut import = Import::new(&|_| Err(io::ErrorKind::NotFound.into()));
    import.dynamic = true;
    import.take_dynamic_security(json);
    let mut config = String::from("# Imported from mosquitto's plugin dynamic-security.\n");
    import.write_access(&mut config);
    Imported { config, passwords: import.passwords, report: import.report }
}

/// The import so far.
struct Import<'a> {
    read: &'a dyn Fn(&Path) -> io::Result<String>,
    /// Keys above the tables.
    general: Vec<(&'static str, String)>,
    /// The listener of lines before the first `listener`.
    first: Listener,
    listeners: Vec<Listener>,
    /// Whether the lines below belong to a bridge.
    in_bridge: bool,
    per_listener: bool,
    password_file: Option<String>,
    acl_file: Option<String>,
    dynamic: bool,
    /// Roles of clients without a name.
    roles_anonymous: Vec<String>,
    /// Tables that an import of the plugin's state makes.
    tables: String,
    passwords: String,
    log_level: Option<usize>,
    report: Vec<String>,
    /// Comments about lines that were not taken over.
    lost: String,
}

impl<'a> Import<'a> {
    fn new(read: &'a dyn Fn(&Path) -> io::Result<String>) -> Self {
        Self {
            read,
            general: Vec::new(),
            first: Listener::default(),
            listeners: Vec::new(),
            in_bridge: false,
            per_listener: false,
            password_file: None,
            acl_file: None,
            dynamic: false,
            roles_anonymous: Vec::new(),
            tables: String::new(),
            passwords: String::new(),
            log_level: None,
            report: Vec::new(),
            lost: String::new(),
        }
    }

    fn answer(&mut self, line: &Line, answer: Answer) {
        let Line { place, key, value } = line;
        let (verdict, reason) = match answer {
            Answer::Taken(ours) => ("taken over", ours),
            Answer::Needless(reason) => ("not needed", reason.to_owned()),
            Answer::Lost(reason) => {
                let _ = writeln!(self.lost, "# not taken over: {key} {} ({reason})", one_line(value));
                ("NOT TAKEN OVER", reason)
            }
        };
        self.report
            .push(format!("{place}: {verdict}: {key} {}: {reason}", one_line(value)).replace(" : ", ": "));
    }

    fn line(&mut self, line: &Line) -> Answer {
        let (key, value) = (line.key.as_str(), line.value.as_str());
        match key {
            "listener" => {
                self.in_bridge = false;
                return self.begin_listener(value);
            }
            "connection" => {
                self.in_bridge = true;
                return Answer::Lost(BRIDGE.to_owned());
            }
            "per_listener_settings" => {
                self.per_listener = value == "true";
                return Answer::Needless("each listener here says by itself which methods it asks");
            }
            _ => {}
        }
        if self.in_bridge
            || BRIDGE_KEYS.contains(&key)
            || key.starts_with("remote_")
            || key.starts_with("bridge_")
        {
            return Answer::Lost(BRIDGE.to_owned());
        }
        if let Some(answer) = self.access(key, value) {
            return answer;
        }
        if let Some(answer) = self.last_listener().line(key, value) {
            return answer;
        }
        self.general(key, value)
    }

    fn begin_listener(&mut self, value: &str) -> Answer {
        let mut words = value.split_whitespace();
        let port = words.next().and_then(|port| port.parse::<u16>().ok());
        let Some(port) = port else { return Answer::Lost("it has no port".to_owned()) };
        let mut listener = Listener::on(port);
        let place = words.next();
        let answer = match place {
            Some(path) if port == 0 => {
                listener.unix = Some(path.to_owned());
                Answer::Taken(format!("[[listener]] unix = {}", quote(path)))
            }
            Some(host) => match listener.bind(host) {
                Ok(()) => {
                    Answer::Taken(format!("[[listener]] port = {port}, bind = {}", listener.addresses()))
                }
                Err(reason) => Answer::Lost(reason),
            },
            None => Answer::Taken(format!("[[listener]] port = {port}, on all addresses")),
        };
        self.listeners.push(listener);
        answer
    }

    fn last_listener(&mut self) -> &mut Listener {
        self.listeners.last_mut().unwrap_or(&mut self.first)
    }

    /// The lines about who may come in and do what.
    fn access(&mut self, key: &str, value: &str) -> Option<Answer> {
        let ours = match key {
            "allow_anonymous" => {
                let allowed = Some(value == "true");
                if self.per_listener {
                    self.last_listener().anonymous = allowed;
                } else {
                    self.first.anonymous = allowed;
                }
                format!("anonymous = {}", value == "true")
            }
            "password_file" => {
                if self.password_file.as_deref().is_some_and(|file| file != value) {
                    return Some(Answer::Lost(
                        "there is one password file; append its lines to the first by `mqtt-broker user import`".to_owned(),
                    ));
                }
                self.password_file = Some(value.to_owned());
                self.last_listener().has_passwords = true;
                format!("[auth.password] file = {}; its lines are read as they are", quote(value))
            }
            "acl_file" => {
                if self.acl_file.as_deref().is_some_and(|file| file != value) {
                    return Some(Answer::Lost(
                        "rules are the same for all listeners; join the files".to_owned(),
                    ));
                }
                self.acl_file = Some(value.to_owned());
                format!("[rules] acl_file = {}; it is read as it is", quote(value))
            }
            "plugin" | "global_plugin" | "auth_plugin" if value.contains("dynamic_security") => {
                self.dynamic = true;
                "roles, users and passwords, see plugin_opt_config_file".to_owned()
            }
            "plugin_opt_config_file" | "auth_opt_config_file" if self.dynamic => {
                let json = (self.read)(Path::new(value)).map_err(|error| error.to_string());
                match json.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string())) {
                    Ok(json) => self.take_dynamic_security(&json),
                    Err(reason) => return Some(Answer::Lost(format!("the file cannot be read: {reason}"))),
                }
                "[role.NAME], [user.NAME] and a password file".to_owned()
            }
            "psk_file" | "psk_hint" => {
                return Some(Answer::Lost("this broker has no pre-shared keys".to_owned()));
            }
            "plugin" | "global_plugin" | "auth_plugin" => {
                return Some(Answer::Lost(
                    "this broker has no plugins; [auth.http] asks a service of yours".to_owned(),
                ));
            }
            _ if key.starts_with("plugin_") || key.starts_with("auth_opt_") => {
                return Some(Answer::Lost("this broker has no plugins".to_owned()));
            }
            _ => return None,
        };
        Some(Answer::Taken(ours))
    }

    fn finish(mut self) -> Imported {
        let mut config = String::from("# Imported from mosquitto's configuration.\n");
        if let Some(level) = self.log_level {
            self.general.push(("log_level", quote(general::LEVELS[level].1)));
        }
        if self.general.iter().all(|(key, _)| *key != "default_session_expiry_s") {
            let never = u32::MAX.to_string();
            config.push_str(
                "# Sessions of mosquitto never expire unless persistent_client_expiration says so.\n",
            );
            self.general.push(("default_session_expiry_s", never));
        }
        for (key, value) in &self.general {
            let _ = writeln!(config, "{key} = {value}");
        }
        config.push_str(&self.lost);
        let has_passwords = self.password_file.is_some() || self.dynamic;
        let is_local = self.listeners.is_empty() && self.first.is_unchanged();
        let global = if self.per_listener { None } else { self.first.anonymous };
        if self.first.port.is_some() || !self.first.binds.is_empty() || self.listeners.is_empty() {
            self.listeners.insert(0, std::mem::take(&mut self.first));
        }
        for listener in &mut self.listeners {
            // Of mosquitto without a listener, only this machine is served, and everybody is let in.
            let anonymous = listener.anonymous.or(global).unwrap_or(is_local);
            let by_password =
                if self.per_listener { listener.has_passwords || self.dynamic } else { has_passwords };
            listener.write(&mut config, anonymous, by_password, is_local);
            if !anonymous && !by_password && !listener.has_client_certificates() {
                self.report.push(format!(
                    "the listener on {} lets nobody in, as in mosquitto: add [auth.password], or write anonymous = true",
                    listener.place()
                ));
            }
        }
        self.write_access(&mut config);
        Imported { config, passwords: self.passwords, report: self.report }
    }

    /// Appends the tables about who may come in and do what.
    fn write_access(&mut self, config: &mut String) {
        if let Some(file) = &self.password_file {
            let _ = writeln!(config, "\n[auth.password]\nfile = {}", quote(file));
            if !self.passwords.is_empty() {
                self.report.push(format!(
                    "the plugin's users are in the file {PASSWORDS}; add them to {file} by `mqtt-broker user import`"
                ));
            }
        } else if self.dynamic {
            let _ = writeln!(config, "\n[auth.password]\nfile = {}", quote(PASSWORDS));
        }
        if self.acl_file.is_some() || self.dynamic {
            // mosquitto accepts every subscription and delivers nothing by it.
            config.push_str("\n[rules]\ndenied_subscribe = \"accept\"\n");
        }
        if let Some(file) = &self.acl_file {
            let _ = writeln!(config, "acl_file = {}", quote(file));
        }
        if !self.roles_anonymous.is_empty() {
            let _ = writeln!(config, "roles_anonymous = [{}]", self.roles_anonymous.join(", "));
        }
        config.push_str(&self.tables);
    }
}

const BRIDGE: &str = "this version opens no bridge; let the bridge of the other broker connect to this one";

/// Keys of a bridge that no other section has.
const BRIDGE_KEYS: [&str; 17] = [
    "address",
    "addresses",
    "topic",
    "cleansession",
    "local_cleansession",
    "clientid",
    "local_clientid",
    "local_username",
    "local_password",
    "idle_timeout",
    "keepalive_interval",
    "notifications",
    "notification_topic",
    "notifications_local_only",
    "restart_timeout",
    "round_robin",
    "start_type",
];

/// A text without control characters, as a comment of TOML may have it.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
