//! A listener of mosquitto, as its lines describe it, and as a table `[[listener]]`.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::super::value::quote;
use super::Answer;

/// A listener so far.
#[derive(Debug, Default)]
pub(super) struct Listener {
    pub(super) port: Option<u16>,
    pub(super) unix: Option<String>,
    pub(super) binds: Vec<String>,
    pub(super) anonymous: Option<bool>,
    pub(super) has_passwords: bool,
    ipv4: Option<bool>,
    /// Origins, if it serves WebSocket.
    websocket: Option<Vec<String>>,
    chain: Option<String>,
    key: Option<String>,
    client_ca: Option<String>,
    crl: Option<String>,
    requires_certificate: bool,
    username_from: Option<&'static str>,
    client_id_is_username: bool,
    keys: Vec<String>,
}

impl Listener {
    /// One on `port`.
    pub(super) fn on(port: u16) -> Self {
        Self { port: Some(port), ..Self::default() }
    }

    /// Whether no line said where to listen.
    pub(super) fn is_unchanged(&self) -> bool {
        self.port.is_none() && self.binds.is_empty()
    }

    /// Whether clients are known by their certificates.
    pub(super) fn has_client_certificates(&self) -> bool {
        self.requires_certificate && self.username_from.is_some()
    }

    /// Where it listens, for a sentence.
    pub(super) fn place(&self) -> String {
        self.unix.clone().unwrap_or_else(|| format!("port {}", self.port.unwrap_or(1_883)))
    }

    /// Listens on `host`.
    pub(super) fn bind(&mut self, host: &str) -> Result<(), String> {
        if host.parse::<IpAddr>().is_ok() {
            self.binds = vec![host.to_owned()];
            return Ok(());
        }
        // Never more than was served before.
        self.binds = vec!["127.0.0.1".to_owned(), "::1".to_owned()];
        match host {
            "localhost" => Ok(()),
            name => {
                Err(format!("{name} is no IP address; it serves this machine alone until bind names another"))
            }
        }
    }

    /// Its addresses in TOML.
    pub(super) fn addresses(&self) -> String {
        let addresses: Vec<String> = match (&self.binds[..], self.ipv4) {
            ([], None) => vec![quote("0.0.0.0"), quote("::")],
            ([], Some(true)) => vec![quote("0.0.0.0")],
            ([], Some(false)) => vec![quote("::")],
            (binds, _) => binds.iter().map(|bind| quote(bind)).collect(),
        };
        format!("[{}]", addresses.join(", "))
    }

    /// Takes a line about a listener.
    pub(super) fn line(&mut self, key: &str, value: &str) -> Option<Answer> {
        let taken = |text: &str| Answer::Taken(text.to_owned());
        Some(match key {
            "port" => match value.parse() {
                Ok(port) => {
                    self.port = Some(port);
                    Answer::Taken(format!("port = {port}"))
                }
                Err(_) => Answer::Lost("it is no port".to_owned()),
            },
            "bind_address" => match self.bind(value) {
                Ok(()) => Answer::Taken(format!("bind = {}", self.addresses())),
                Err(reason) => Answer::Lost(reason),
            },
            "socket_domain" => {
                self.ipv4 = Some(value == "ipv4");
                Answer::Taken(format!("bind = {}", self.addresses()))
            }
            "protocol" if value == "websockets" => {
                self.websocket.get_or_insert_default();
                taken("[listener.websocket] path = \"/mqtt\"; mosquitto takes any path, so clients must use this one")
            }
            "protocol" if value == "mqtt" => Answer::Needless("it is the default"),
            "websockets_origin" => {
                self.websocket.get_or_insert_default().push(value.to_owned());
                taken("origins of [listener.websocket]")
            }
            "max_connections" if value.starts_with('-') => Answer::Needless("there is no limit by default"),
            "max_connections" => self.number("connections_max", value, 1),
            "max_qos" => self.number("maximum_qos", value, 0),
            "mount_point" => Answer::Lost("topics have the same names for all clients".to_owned()),
            "bind_interface" => Answer::Lost("write bind = [\"ADDRESS\"] with the addresses of the interface".to_owned()),
            "http_dir" => Answer::Lost("this broker serves no files".to_owned()),
            "enable_proxy_protocol" => Answer::Lost(
                "write proxy_protocol = \"require\" and trusted_proxies = [\"ADDRESS\"], which names the proxies".to_owned(),
            ),
            "accept_protocol_versions" | "protocol" => Answer::Lost("every version is served".to_owned()),
            _ => return self.tls_line(key, value),
        })
    }

    /// Takes a line about TLS.
    fn tls_line(&mut self, key: &str, value: &str) -> Option<Answer> {
        let truth = value == "true";
        let taken = |text: &str| Answer::Taken(text.to_owned());
        Some(match key {
            "certfile" => {
                self.chain = Some(value.to_owned());
                taken("the chain in certificates of [listener.tls]")
            }
            "keyfile" => {
                self.key = Some(value.to_owned());
                taken("the key in certificates of [listener.tls]")
            }
            "cafile" => {
                self.client_ca = Some(value.to_owned());
                taken("client_ca of [listener.tls], if certificates of clients are required")
            }
            "crlfile" => {
                self.crl = Some(value.to_owned());
                taken("crl of [listener.tls]")
            }
            "require_certificate" => {
                self.requires_certificate = truth;
                Answer::Taken(format!(
                    "client_certificate = {}",
                    quote(if truth { "require" } else { "off" })
                ))
            }
            "use_identity_as_username" | "use_subject_as_username" => {
                let part = if key.contains("subject") { "subject" } else { "cn" };
                if truth {
                    self.username_from = Some(part);
                }
                Answer::Taken(format!("username_from = {}", quote(if truth { part } else { "none" })))
            }
            "use_username_as_clientid" if !truth => Answer::Needless("it is the default"),
            "use_username_as_clientid" => {
                self.client_id_is_username = true;
                taken(
                    "client_id_from = \"username\", client_id_mismatch = \"replace\" of [listener.tls], which a listener without TLS does not have",
                )
            }
            "tls_version" if value == "tlsv1.2" => Answer::Needless("TLS 1.2 and 1.3 are served"),
            "tls_version" => Answer::Lost("TLS 1.2 and 1.3 are served, no other choice".to_owned()),
            "capath" => {
                Answer::Lost("join the certificates of the directory into one file for client_ca".to_owned())
            }
            "ciphers" | "ciphers_tls1.3" | "dhparamfile" => {
                Answer::Lost("only modern ciphers are served, without a choice".to_owned())
            }
            "tls_engine" | "tls_engine_kpass_sha1" | "tls_keyform" => {
                Answer::Lost("keys are files in PEM, without an engine".to_owned())
            }
            _ => return None,
        })
    }

    fn number(&mut self, key: &str, value: &str, min: u32) -> Answer {
        match value.parse::<u32>() {
            Ok(number) if number >= min => {
                self.keys.push(format!("{key} = {number}"));
                Answer::Taken(format!("{key} = {number}"))
            }
            _ => Answer::Lost("it is no number that is allowed here".to_owned()),
        }
    }

    /// Appends the table. `is_local` says that it serves this machine alone.
    pub(super) fn write(&self, config: &mut String, anonymous: bool, by_password: bool, is_local: bool) {
        config.push_str("\n[[listener]]\n");
        if let Some(path) = &self.unix {
            let _ = writeln!(config, "unix = {}", quote(path));
        } else {
            let _ = writeln!(config, "port = {}", self.port.unwrap_or(1_883));
            if !is_local {
                let _ = writeln!(config, "bind = {}", self.addresses());
            }
        }
        let _ = writeln!(config, "anonymous = {anonymous}");
        let methods: Vec<String> =
            [("certificate", self.has_client_certificates()), ("password", by_password)]
                .into_iter()
                .filter(|(_, asked)| *asked)
                .map(|(method, _)| quote(method))
                .collect();
        if !methods.is_empty() {
            let _ = writeln!(config, "auth = [{}]", methods.join(", "));
        }
        for key in &self.keys {
            let _ = writeln!(config, "{key}");
        }
        if let (Some(chain), Some(key)) = (&self.chain, &self.key) {
            let (chain, key) = (quote(chain), quote(key));
            let _ = writeln!(config, "[listener.tls]\ncertificates = [{{ chain = {chain}, key = {key} }}]");
            if self.requires_certificate {
                config.push_str("client_certificate = \"require\"\n");
                if let Some(client_ca) = &self.client_ca {
                    let _ = writeln!(config, "client_ca = {}", quote(client_ca));
                }
                if let Some(crl) = &self.crl {
                    let _ = writeln!(config, "crl = [{}]", quote(crl));
                }
                let _ = writeln!(config, "username_from = {}", quote(self.username_from.unwrap_or("none")));
            }
            if self.client_id_is_username {
                config.push_str("client_id_from = \"username\"\nclient_id_mismatch = \"replace\"\n");
            }
        }
        if let Some(origins) = &self.websocket {
            config.push_str("[listener.websocket]\npath = \"/mqtt\"\n");
            if origins.is_empty() {
                config.push_str(
                    "# Pages in browsers need their origins here, such as [\"https://app.example.com\"].\n",
                );
            }
            let origins: Vec<String> = origins.iter().map(|origin| quote(origin)).collect();
            let _ = writeln!(config, "origins = [{}]", origins.join(", "));
        }
    }
}
