//! The places where the broker answers operators over HTTP: `[admin]` and `[probes]`.

use std::net::SocketAddr;

use super::list::{CertificateFiles, FilePath};
use super::listener::{ClientCertificate, TlsConfig};
use super::table::{Complete, GivenTable, table};
use super::value::{ANY, Bounds, Field, Given, between, quote, text};

/// The port of `[admin]` on loopback, unless another one is written.
const PORT: u16 = 9_883;

table! {
    /// Operations over HTTP: metrics, health and the API. Without this table it serves on 127.0.0.1:9883 if nobody else does.
    AdminConfig {
        /// Address and port; "off" serves nothing. Beyond this machine it needs [admin.tls]. Port 0 selects a free port, which the log
        /// line `admin serves` shows.
        bind: ServiceAddress = ServiceAddress::loopback(PORT), ANY, "\"127.0.0.1:9883\"";
        /// Names under which the address is reached, beside IP addresses and "localhost". A request for another name is refused.
        hosts: Vec<String> = Vec::new(), between(1, 255), "[\"mqtt.example.com\"]";
        tables {
            /// TLS of the address.
            tls: Option<AdminTlsConfig>;
        }
    }
}

table! {
    /// TLS of the address for operators.
    AdminTlsConfig {
        /// Certificates with their private keys, in PEM; they are read again when they change.
        certificates: Vec<CertificateFiles> = Vec::new(), ANY, "[{ chain = \"tls/admin.pem\", key = \"tls/admin.key\" }]";
        /// Certificates of the authorities that sign certificates of operators, in PEM. With them, nobody is served without one.
        client_ca: Option<FilePath> = None, ANY, "\"tls/ca.pem\"";
    }
}

impl AdminTlsConfig {
    /// The same as TLS of a listener.
    pub(crate) fn listener(&self) -> TlsConfig {
        let client_certificate =
            if self.client_ca.is_some() { ClientCertificate::Require } else { ClientCertificate::Off };
        let (certificates, client_ca) = (self.certificates.clone(), self.client_ca.clone());
        TlsConfig { certificates, client_ca, client_certificate, ..TlsConfig::default() }
    }
}

impl Complete for AdminTlsConfig {
    fn complete(&mut self, given: &mut GivenTable<'_>) {
        given.needs("certificates", "[{ chain = \"tls/admin.pem\", key = \"tls/admin.key\" }]");
        if given.has("certificates") && self.certificates.is_empty() {
            given.refuse("certificates", "must name at least one certificate");
        }
    }
}

table! {
    /// Health and metrics alone, without TLS: for an orchestrator and Prometheus. Without this table nothing is served here.
    ProbesConfig {
        /// Address and port. Port 0 selects a free port, which the log line `probes serve` shows.
        bind: ServiceAddress = ServiceAddress::Off, ANY, "\"0.0.0.0:9884\"";
    }
}

/// The address of a service that is not MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceAddress {
    /// It is not served.
    Off,
    /// It is served here.
    At(SocketAddr),
}

impl ServiceAddress {
    const OFF: &'static str = "off";

    fn loopback(port: u16) -> Self {
        Self::At(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// The address, if it is served.
    pub(crate) fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
        }
    }
}

impl Field for ServiceAddress {
    const VALUE_NAME: &'static str = "ADDRESS:PORT";

    fn parse(given: &Given<'_>, _: &Bounds) -> Option<Self> {
        match text(given)? {
            Self::OFF => Some(Self::Off),
            address => address.parse().ok().map(Self::At),
        }
    }

    fn render(&self) -> String {
        match self {
            Self::Off => quote(Self::OFF),
            Self::At(address) => quote(&address.to_string()),
        }
    }

    fn allowed(_: &Bounds) -> String {
        format!(
            "an IP address with a port such as \"127.0.0.1:{PORT}\" or \"[::1]:{PORT}\", or \"{}\"",
            Self::OFF
        )
    }
}

impl Complete for AdminConfig {
    fn complete(&mut self, given: &mut GivenTable<'_>) {
        if !cfg!(feature = "admin") && self.bind != ServiceAddress::Off {
            given.refuse("bind", &absent());
        }
        let is_beyond = self.bind.address().is_some_and(|address| !address.ip().is_loopback());
        if is_beyond && self.tls.is_none() {
            given.refuse(
                "bind",
                "is an address that others reach, and needs [admin.tls]; add that table, bind 127.0.0.1, or serve metrics and \
                 health alone by [probes]",
            );
        }
    }
}

impl Complete for ProbesConfig {
    fn complete(&mut self, given: &mut GivenTable<'_>) {
        given.needs("bind", "\"0.0.0.0:9884\"");
        if !cfg!(feature = "admin") && self.bind != ServiceAddress::Off {
            given.refuse("bind", &absent());
        }
    }
}

/// The reason in a build that serves nothing over HTTP.
fn absent() -> String {
    "serves nothing in this build, which was made without the feature admin; leave the table out, or install a build that has it"
        .to_owned()
}
