//! Settings from the environment: the prefix and a key in capital letters, such as `MQTT_BROKER_MAX_CONNECTIONS=5`.
//!
//! Other programs set variables of that prefix too. Kubernetes describes each service to every pod beside it, so a service called
//! `mqtt-broker` sets `MQTT_BROKER_PORT=tcp://10.0.0.1:1883` and a dozen more, as links of Docker do. An environment that is
//! shared with clients tells them their broker, as `MQTT_BROKER_URL=mqtt://broker`. Such variables must not keep the broker
//! from starting: descriptions of services are left out, and any other unknown name is a warning.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::{nearest_setting, position};

/// The beginning of each variable.
const PREFIX: &str = "MQTT_BROKER_";

/// The variable that names the configuration file, as `--config` does. It is no setting.
const FILE: &str = "CONFIG";

/// Variables of the environment, sorted by purpose.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// The settings, in the order of the table.
    pub(super) settings: Vec<Variable>,
    /// The configuration file.
    pub(super) file: Option<PathBuf>,
    /// Variables that were left out.
    pub(super) notices: Vec<Notice>,
}

/// A variable that sets a value.
#[derive(Debug)]
pub(super) struct Variable {
    /// Index of its setting in the table.
    pub(super) at: usize,
    /// Its name.
    pub(super) name: String,
    /// Its value, with U+FFFD where it is not UTF-8.
    pub(super) value: String,
}

/// Variables that were left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// They describe a service.
    Service {
        /// Their names, in order.
        names: Vec<String>,
    },
    /// No key has this name.
    Unknown {
        /// Name of the variable.
        name: String,
        /// The variable of the key with the most similar name.
        nearest: Option<String>,
    },
}

impl Notice {
    /// Whether the operator probably meant something else.
    pub(crate) fn is_warning(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { names } => {
                let name = &names[0];
                match names.len() - 1 {
                    0 => write!(f, "{name} describes a service of Kubernetes or Docker and sets nothing")?,
                    others => write!(
                        f,
                        "{name} and {others} more like it describe a service of Kubernetes or Docker and set nothing"
                    )?,
                }
                write!(f, "; `enableServiceLinks: false` in the pod removes them")
            }
            Self::Unknown { name, nearest: Some(nearest) } => {
                write!(f, "{name} sets nothing: there is no such key; did you mean {nearest}?")
            }
            Self::Unknown { name, nearest: None } => write!(
                f,
                "{name} sets nothing: there is no such key; `mqtt-broker config default` lists every key"
            ),
        }
    }
}

impl Environment {
    /// The environment of the process.
    pub(crate) fn read() -> Self {
        Self::of(env::vars_os())
    }

    /// Sorts `variables`; those without the prefix are left out.
    pub(crate) fn of(variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let mut sorted = Self::default();
        let mut services = Vec::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().map(in_capitals) else { continue };
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            if rest == FILE {
                sorted.file = Some(PathBuf::from(value));
                continue;
            }
            let value = value.to_string_lossy();
            let key = rest.to_ascii_lowercase();
            if describes_service(rest, &value) {
                services.push(name);
            } else if let Some(at) = position(&key).filter(|_| rest == key.to_ascii_uppercase()) {
                sorted.settings.push(Variable { at, name, value: value.trim().to_owned() });
            } else {
                let nearest = nearest_setting(&key).map(variable);
                sorted.notices.push(Notice::Unknown { name, nearest });
            }
        }
        sorted.settings.sort_by_key(|variable| variable.at);
        if !services.is_empty() {
            services.sort();
            sorted.notices.push(Notice::Service { names: services });
        }
        sorted
    }
}

/// The variable of `key`.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase())
}

/// Names of variables differ by case, but not on Windows.
fn in_capitals(name: &str) -> String {
    if cfg!(windows) { name.to_ascii_uppercase() } else { name.to_owned() }
}

/// Whether a variable, without its prefix, is one of those that describe a service. The service can have a longer name than the
/// prefix: `mqtt-broker-metrics` sets `MQTT_BROKER_METRICS_SERVICE_HOST`.
fn describes_service(rest: &str, value: &str) -> bool {
    const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
    let words: Vec<&str> = rest.split('_').collect();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_address = || {
        PROTOCOLS.iter().any(|protocol| value.starts_with(&format!("{}://", protocol.to_ascii_lowercase())))
    };
    words.ends_with(&["SERVICE", "HOST"])
        || words.windows(2).any(|pair| pair == ["SERVICE", "PORT"])
        || words
            .windows(3)
            .any(|three| three[0] == "PORT" && is_number(three[1]) && PROTOCOLS.contains(&three[2]))
        || (words.ends_with(&["PORT"]) && is_address())
}

#[cfg(test)]
mod tests {
    use super::super::SETTINGS;
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::of(variables.iter().map(|&(name, value)| (name.into(), value.into())))
    }

    fn settings(variables: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        let environment = environment(variables);
        assert_eq!(environment.notices, []);
        environment.settings.into_iter().map(|variable| (SETTINGS[variable.at].key, variable.value)).collect()
    }

    fn notices(variables: &[(&str, &str)]) -> Vec<String> {
        let environment = environment(variables);
        assert!(environment.settings.is_empty(), "{environment:?}");
        environment.notices.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_key_has_a_variable() {
        for setting in SETTINGS {
            assert_eq!(settings(&[(&variable(setting.key), " 1 ")]), [(setting.key, "1".to_owned())]);
        }
        assert_eq!(settings(&[("PATH", "/bin"), ("MQTT_BROKER", "x"), ("mqtt_broker_port", "1")]), []);
    }

    #[test]
    fn the_file_can_be_named() {
        assert_eq!(environment(&[("MQTT_BROKER_CONFIG", "/c")]).file, Some(PathBuf::from("/c")));
    }

    /// The variables that Kubernetes sets for a service `mqtt-broker` with the ports `mqtt` and `metrics`, and for one called
    /// `mqtt-broker-admin`.
    #[test]
    fn descriptions_of_services_are_one_notice_and_no_warning() {
        let variables = [
            ("MQTT_BROKER_SERVICE_HOST", "10.96.0.7"),
            ("MQTT_BROKER_SERVICE_PORT", "1883"),
            ("MQTT_BROKER_SERVICE_PORT_MQTT", "1883"),
            ("MQTT_BROKER_SERVICE_PORT_METRICS", "9090"),
            ("MQTT_BROKER_PORT", "tcp://10.96.0.7:1883"),
            ("MQTT_BROKER_PORT_1883_TCP", "tcp://10.96.0.7:1883"),
            ("MQTT_BROKER_PORT_1883_TCP_PROTO", "tcp"),
            ("MQTT_BROKER_PORT_1883_TCP_PORT", "1883"),
            ("MQTT_BROKER_PORT_1883_TCP_ADDR", "10.96.0.7"),
            ("MQTT_BROKER_ADMIN_SERVICE_HOST", "10.96.0.8"),
            ("MQTT_BROKER_ADMIN_PORT", "udp://10.96.0.8:80"),
            ("MQTT_BROKER_ADMIN_PORT_80_UDP_ADDR", "10.96.0.8"),
        ];
        let environment = environment(&variables);
        assert!(environment.notices.len() == 1 && !environment.notices[0].is_warning(), "{environment:?}");
        assert_eq!(
            notices(&variables),
            [
                "MQTT_BROKER_ADMIN_PORT and 11 more like it describe a service of Kubernetes or Docker and set nothing; \
              `enableServiceLinks: false` in the pod removes them"
            ]
        );
        // A port of one's own is a setting, and one that is wrong is an error of its value.
        assert_eq!(settings(&[("MQTT_BROKER_PORT", "1884")]), [("port", "1884".to_owned())]);
        assert_eq!(settings(&[("MQTT_BROKER_PORT", "http://x")]), [("port", "http://x".to_owned())]);
    }

    #[test]
    fn an_unknown_name_is_a_warning_with_the_nearest_variable() {
        assert_eq!(
            notices(&[("MQTT_BROKER_MAX_CONECTIONS", "5"), ("MQTT_BROKER_URL", "mqtt://x")]),
            [
                "MQTT_BROKER_MAX_CONECTIONS sets nothing: there is no such key; did you mean MQTT_BROKER_MAX_CONNECTIONS?",
                "MQTT_BROKER_URL sets nothing: there is no such key; `mqtt-broker config default` lists every key"
            ]
        );
    }
}
