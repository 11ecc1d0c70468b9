//! The listeners: `[[listener]]` with `[listener.tls]` and `[listener.websocket]`, and the implied listener of the flat keys.
//! Invariant: a configuration has at least one listener, and every listener has a name that no other has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::auth::AuthMethod;
use super::limits::OnRate;
use super::list::{CertificateFiles, FileMode, FilePath, Item};
use super::table::{Complete, GivenTable, table};
use super::value::{ANY, Anonymous, Durability, between, word_fields};
use super::{BindAddress, MQTT_PACKET_BYTES_MAX};

/// Maximum number of listeners.
pub(crate) const LISTENERS_MAX: usize = 64;

/// Maximum number of addresses of all listeners.
pub(crate) const ADDRESSES_MAX: usize = 256;

/// The flat keys that describe the only listener.
pub(super) const IMPLIED_KEYS: [&str; 3] = ["bind", "port", "anonymous"];

/// Name of that listener.
const IMPLIED: &str = "default";

const MODE: FileMode = FileMode(0o660);

table! {
    /// A place where clients connect. Without any, `bind`, `port` and `anonymous` above describe the only one.
    ListenerConfig {
        /// Its name in the log, in metrics and in the messages of the broker. The default is its port, path or name.
        name: String = String::new(), between(0, 64), "\"devices\"";
        /// IP addresses to listen on. The default is this machine alone.
        bind: Option<Vec<BindAddress>> = None, ANY, "[\"0.0.0.0\", \"::\"]";
        /// TCP port; 0 selects a free one.
        port: u16 = 1883, ANY, "8883";
        /// Path of a unix socket to listen on instead of a port.
        unix: Option<FilePath> = None, ANY, "\"mqtt.sock\"";
        /// Permissions of that socket.
        mode: FileMode = MODE, ANY, "\"0660\"";
        /// Name of the sockets that systemd passes (`FileDescriptorName=`), to listen on these instead of a port.
        systemd: Option<String> = None, between(1, 255), "\"mqtt\"";
        /// Whether clients may connect without a name. `"auto"` lets them in from this machine: on loopback and unix sockets.
        anonymous: Anonymous = Anonymous::Auto, ANY, "false";
        /// Methods of authentication in the order in which they are asked; the first that knows a client decides. The default
        /// is every method that is configured below `[auth]` and, with client certificates, `"certificate"` first.
        auth: Option<Vec<AuthMethod>> = None, ANY, "[\"certificate\", \"password\"]";
        /// Whether each connection begins with a header of the PROXY protocol, which names the client behind a load balancer:
        /// `"off"` or `"require"`.
        proxy_protocol: ProxyProtocol = ProxyProtocol::Off, ANY, "\"require\"";
        /// Networks of the proxies that are believed. Connections from elsewhere are closed.
        trusted_proxies: Vec<IpNet> = Vec::new(), ANY, "[\"10.0.0.0/8\"]";
        /// Whether the name of the client certificate that the proxy has verified is the client's user name.
        proxy_identity: bool = false, ANY, "false";
        /// Maximum number of connections of this listener.
        connections_max: Option<u32> = None, between(1, 10_000_000), "200000";
        /// Longest packet accepted here, in bytes. The default is the broker's `packet_bytes_max`.
        packet_bytes_max: Option<u32> = None, between(1_024, MQTT_PACKET_BYTES_MAX), "65536";
        /// Highest QoS accepted and granted here. The default is the broker's `maximum_qos`.
        maximum_qos: Option<u16> = None, between(0, 2), "1";
        /// The accident that an acknowledgement of this listener survives: `"power"` or `"process"`. The default is the broker's
        /// `durability`. It decides when acknowledgements leave, and nothing about what is kept.
        durability: Option<Durability> = None, ANY, "\"process\"";
        /// Messages a second that each client may publish here. The default is the broker's.
        publish_rate: Option<u32> = None, between(0, 1_000_000_000), "1000";
        /// Bytes a second that each client may publish here. The default is the broker's.
        publish_bytes_rate: Option<u32> = None, between(0, 4_294_967_295), "1000000";
        /// Seconds of these rates that may come at once. The default is the broker's.
        burst_s: Option<u16> = None, between(1, 3_600), "2";
        /// The answer to a client that exceeds its rates. The default is the broker's.
        on_rate: Option<OnRate> = None, ANY, "\"pause\"";
        tables {
            /// TLS 1.2 and 1.3 on this listener.
            tls: Option<TlsConfig>;
            /// MQTT over WebSocket on this listener.
            websocket: Option<WebSocketConfig>;
        }
    }
}

table! {
    /// TLS of a listener.
    TlsConfig {
        /// Certificates with their private keys, in PEM. A client gets the first one that has the name it asks for, and else the
        /// first.
        certificates: Vec<CertificateFiles> = Vec::new(), ANY, "[{ chain = \"tls/server.pem\", key = \"tls/server.key\" }]";
        /// Certificates of the authorities that sign certificates of clients, in PEM.
        client_ca: Option<FilePath> = None, ANY, "\"tls/ca.pem\"";
        /// Whether clients have certificates: `"off"`, `"optional"` or `"require"`.
        client_certificate: ClientCertificate = ClientCertificate::Off, ANY, "\"require\"";
        /// Lists of revoked certificates, in PEM, one of each authority in the chain. If there is any, a client whose authority has
        /// no list or an expired one is refused.
        crl: Vec<FilePath> = Vec::new(), ANY, "[\"tls/ca.crl\"]";
        /// The part of the client's certificate that is its user name: `"cn"`, `"san_dns"`, `"san_uri"`, `"subject"` or `"none"`.
        username_from: CertificateName = CertificateName::Cn, ANY, "\"cn\"";
        /// The origin of the client identifier: `"connect"`, or the `"username"` or the certificate's `"cn"`, to which the
        /// client's own must then be equal or empty. It is told an empty client, in MQTT 3.1.1 also without clean session.
        client_id_from: ClientIdFrom = ClientIdFrom::Connect, ANY, "\"connect\"";
        /// The answer to a client whose own identifier is another one: `"refuse"`, or `"replace"`, which mosquitto does.
        client_id_mismatch: ClientIdMismatch = ClientIdMismatch::Refuse, ANY, "\"refuse\"";
    }
}

table! {
    /// WebSocket of a listener.
    WebSocketConfig {
        /// Path of the URL.
        path: String = "/mqtt".to_owned(), between(1, 1_024), "\"/mqtt\"";
        /// Origins of the pages that may connect. Without any, only clients that are no browser may.
        origins: Vec<String> = Vec::new(), between(1, 1_024), "[\"https://app.example.com\"]";
        /// Whether the header X-Forwarded-For of a trusted proxy names the client.
        forwarded_for: bool = false, ANY, "false";
    }
}

/// Whether a connection begins with a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyProtocol {
    /// It does not.
    Off,
    /// It must.
    Require,
}

/// Whether clients have certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientCertificate {
    /// They are not asked for one.
    Off,
    /// They are asked, and let in without one.
    Optional,
    /// They must have one.
    Require,
}

/// The part of a certificate that is the user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertificateName {
    /// The common name of the subject.
    Cn,
    /// The first DNS name among the alternative names.
    SanDns,
    /// The first URI among the alternative names.
    SanUri,
    /// The whole subject.
    Subject,
    /// None.
    None,
}

/// The answer to a client whose identifier is not the one that it has to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientIdMismatch {
    /// It is refused.
    Refuse,
    /// It gets the other one.
    Replace,
}

/// The origin of the client identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientIdFrom {
    /// The CONNECT packet.
    Connect,
    /// The user name.
    Username,
    /// The common name of the client's certificate.
    Cn,
}

word_fields! {
    ProxyProtocol, "MODE": { Off = "off", Require = "require", }
    ClientCertificate, "MODE": { Off = "off", Optional = "optional", Require = "require", }
    CertificateName, "PART": { Cn = "cn", SanDns = "san_dns", SanUri = "san_uri", Subject = "subject", None = "none", }
    ClientIdMismatch, "ANSWER": { Refuse = "refuse", Replace = "replace", }
    ClientIdFrom, "ORIGIN": { Connect = "connect", Username = "username", Cn = "cn", }
}

/// The place where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenAt<'a> {
    /// A TCP port on each of these addresses.
    Tcp {
        /// The addresses; one that this machine lacks is left out if `named` is false.
        bind: Vec<BindAddress>,
        /// Whether the operator named the addresses.
        named: bool,
        /// The port; 0 for a free one.
        port: u16,
    },
    /// A socket in the file system.
    Unix {
        /// Its path.
        path: &'a FilePath,
        /// Its permissions.
        mode: FileMode,
    },
    /// Sockets that systemd passes.
    Systemd {
        /// Their name.
        name: &'a str,
    },
}

impl ListenerConfig {
    /// The listener that the flat keys describe; `named` says whether the operator named the addresses.
    pub(super) fn implied(bind: &[BindAddress], named: bool, port: u16, anonymous: Anonymous) -> Self {
        let bind = named.then(|| bind.to_vec());
        Self { name: IMPLIED.to_owned(), bind, port, anonymous, ..Self::default() }
    }

    /// Whether the flat keys describe it.
    pub(crate) fn is_implied(&self) -> bool {
        self.name == IMPLIED
    }

    /// The place where it listens.
    pub(crate) fn at(&self) -> ListenAt<'_> {
        if let Some(path) = &self.unix {
            ListenAt::Unix { path, mode: self.mode }
        } else if let Some(name) = &self.systemd {
            ListenAt::Systemd { name }
        } else {
            let bind = self.bind.clone().unwrap_or_else(loopback);
            ListenAt::Tcp { bind, named: self.bind.is_some(), port: self.port }
        }
    }

    /// A place where both this listener and `other` would listen.
    pub(super) fn place_shared_with(&self, other: &Self) -> Option<String> {
        match (self.at(), other.at()) {
            (ListenAt::Tcp { bind, port, .. }, ListenAt::Tcp { bind: others, port: other, .. }) => {
                let shared =
                    bind.iter().find(|address| port == other && port != 0 && others.contains(address));
                shared.map(|address| format!("port {port} of {address}"))
            }
            (ListenAt::Unix { path, .. }, ListenAt::Unix { path: other, .. }) => {
                (path == other).then(|| format!("the socket {}", path.display()))
            }
            (ListenAt::Systemd { name }, ListenAt::Systemd { name: other }) => {
                (name == other).then(|| format!("systemd's socket {name}"))
            }
            _ => None,
        }
    }

    /// Whether clients may connect without a name.
    pub(crate) fn allows_anonymous(&self) -> bool {
        match self.anonymous {
            Anonymous::Allowed => true,
            Anonymous::Refused => false,
            Anonymous::Auto => self.beyond().is_empty(),
        }
    }

    /// Whether somebody has to say who each client is.
    pub(crate) fn judges(&self) -> bool {
        !self.methods().is_empty() || !self.allows_anonymous()
    }

    /// Whether clients have names by certificates: their own, or those that a proxy has verified.
    pub(crate) fn asks_for_certificates(&self) -> bool {
        self.proxy_identity
            || self.tls.as_ref().is_some_and(|tls| {
                tls.client_certificate != ClientCertificate::Off && tls.username_from != CertificateName::None
            })
    }

    /// Whether the name in a certificate is the user.
    pub(crate) fn knows_by_certificate(&self) -> bool {
        self.asks_for_certificates() && self.methods().contains(&AuthMethod::Certificate)
    }

    /// The places where others than this machine may reach it.
    pub(crate) fn beyond(&self) -> Vec<String> {
        match self.at() {
            ListenAt::Tcp { bind, .. } => {
                bind.iter().filter(|address| !address.ip.is_loopback()).map(ToString::to_string).collect()
            }
            ListenAt::Unix { .. } => Vec::new(),
            // Nobody knows which sockets will be passed.
            ListenAt::Systemd { name } => vec![format!("the sockets {name:?} of systemd")],
        }
    }

    /// The methods of authentication, in the order in which they are asked.
    pub(crate) fn methods(&self) -> &[AuthMethod] {
        self.auth.as_deref().unwrap_or_default()
    }

    /// Number of sockets that each shard may have of it.
    pub(crate) fn sockets(&self) -> usize {
        match self.at() {
            ListenAt::Tcp { bind, .. } => bind.len(),
            ListenAt::Unix { .. } | ListenAt::Systemd { .. } => 1,
        }
    }
}

/// The loopback addresses of this machine.
pub(crate) fn loopback() -> Vec<BindAddress> {
    vec![IpAddr::V4(Ipv4Addr::LOCALHOST).into(), IpAddr::V6(Ipv6Addr::LOCALHOST).into()]
}

impl Complete for ListenerConfig {
    fn complete(&mut self, given: &mut GivenTable<'_>) {
        for (key, other) in [
            ("unix", "bind"),
            ("unix", "port"),
            ("unix", "systemd"),
            ("systemd", "bind"),
            ("systemd", "port"),
        ] {
            given.excludes(key, other);
        }
        if given.has("unix") && cfg!(not(unix)) {
            given.refuse("unix", "needs a system with unix sockets; write port and bind");
        }
        if given.has("systemd") && cfg!(not(target_os = "linux")) {
            given.refuse("systemd", "needs Linux; write port and bind");
        }
        if given.has("mode") && !given.has("unix") {
            given.refuse(
                "mode",
                "is the mode of a unix socket; write unix = \"mqtt.sock\" as well, or leave it out",
            );
        }
        for address in self.bind.iter().flatten().filter(|address| address.lacks_interface()) {
            given.refuse(
                "bind",
                &format!("names {address}, which {}", super::error::lacks_interface(&address.to_string())),
            );
        }
        if self.durability == Some(Durability::Memory) {
            let sentence = "must be \"power\" or \"process\": the log has what it has whatever the listener";
            given.refuse("durability", sentence);
        }
        if given.has("auth") && self.auth.iter().flatten().next().is_none() {
            given.refuse(
                "auth",
                "must name at least one method; leave it out for every method that is configured",
            );
        }
        let forwarded = self.websocket.as_ref().is_some_and(|websocket| websocket.forwarded_for);
        if (self.proxy_protocol == ProxyProtocol::Require || forwarded) && self.trusted_proxies.is_empty() {
            given.refuse(
                "trusted_proxies",
                "must name the proxies that are believed, such as [\"10.0.0.0/8\"]",
            );
        }
        let asks = |tls: &TlsConfig| tls.client_certificate != ClientCertificate::Off;
        if self.proxy_identity && self.proxy_protocol == ProxyProtocol::Off {
            given.refuse("proxy_identity", "needs proxy_protocol = \"require\", which brings the name");
        } else if self.proxy_identity && self.tls.as_ref().is_some_and(asks) {
            given.refuse(
                "proxy_identity",
                "and client_certificate would both name the client; leave one of them out",
            );
        }
        if self.name.is_empty() {
            self.name = match self.at() {
                ListenAt::Tcp { port, .. } => port.to_string(),
                ListenAt::Unix { path, .. } => path.display().to_string(),
                ListenAt::Systemd { name } => name.to_owned(),
            };
        }
    }
}

impl Complete for TlsConfig {
    fn complete(&mut self, given: &mut GivenTable<'_>) {
        given.needs("certificates", "[{ chain = \"tls/server.pem\", key = \"tls/server.key\" }]");
        if given.has("certificates") && self.certificates.is_empty() {
            given.refuse("certificates", "must name at least one certificate");
        }
        let asks = self.client_certificate != ClientCertificate::Off;
        if asks {
            given.needs("client_ca", "\"tls/ca.pem\"");
        } else {
            for key in ["client_ca", "crl"] {
                if given.has(key) {
                    given.refuse(key, "is used with client certificates alone; write client_certificate = \"require\" as well");
                }
            }
        }
        if self.client_id_from == ClientIdFrom::Cn && self.client_certificate != ClientCertificate::Require {
            given.refuse("client_id_from", "= \"cn\" needs client_certificate = \"require\"");
        }
    }
}

impl Complete for WebSocketConfig {
    fn complete(&mut self, given: &mut GivenTable<'_>) {
        if !self.path.starts_with('/') {
            given.refuse("path", "must begin with /, such as \"/mqtt\"");
        }
    }
}

impl Item for AuthMethod {
    const ITEMS: &'static str = "methods of \"certificate\", \"jwt\", \"password\", \"scram\" and \"http\"";
}
