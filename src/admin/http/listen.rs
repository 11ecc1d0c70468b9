//! The sockets of `[admin]` and `[probes]`, which are bound before the broker serves.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use tracing::{info, warn};

use super::serve::{Service, Surface};
use crate::auth::Operators;
use crate::config::Config;
use crate::config::admin::AdminConfig;
use crate::error::StartupError;
use crate::net::tls::{Rotation, TlsListeners};

/// The name of `[admin]` among the listeners that have TLS.
const ADMIN: &str = "admin";

/// The one protocol that TLS agrees on.
const HTTP: &[u8] = b"http/1.1";

/// The sockets that are bound.
#[derive(Default)]
pub(crate) struct Bound {
    services: Vec<Service>,
    /// The TLS of every listener.
    tls: TlsListeners,
    /// The tokens of the page's clients, and the socket of their listener.
    operators: Operators,
    socket: Option<PathBuf>,
}

/// Binds what is configured, and adds the TLS of `[admin]` to `rotation`. Without `[admin]`, a usual place that is taken is a warning:
/// two brokers on one machine both start.
///
/// # Errors
/// An address of the configuration that cannot be bound, or a file of TLS that cannot be used.
pub(crate) fn bind(config: &Config, rotation: &mut Rotation) -> Result<Bound, StartupError> {
    let mut bound = Bound::default();
    let usual = AdminConfig::default();
    let admin = config.admin.as_ref().unwrap_or(&usual);
    if let Some(address) = admin.bind.address() {
        let tls = admin.tls.as_ref().map(|tls| rotation.begin(ADMIN, &tls.listener(), HTTP));
        let tls = tls.transpose().map_err(|fault| StartupError::listener("[admin]", fault))?;
        match listener(address) {
            Ok(socket) => {
                let scheme = if tls.is_some() { "https" } else { "http" };
                info!("admin serves {scheme}://{}", place(&socket, address));
                let hosts = admin.hosts.iter().cloned().collect();
                bound.services.push(Service {
                    socket,
                    tls,
                    surface: Surface::Admin { hosts, is_open: address.ip().is_loopback() },
                });
            }
            Err(error) if config.admin.is_none() => warn!(
                %address, %error,
                "metrics and health are not served over HTTP; to serve them elsewhere write [admin] with bind = \"127.0.0.1:PORT\", or \
                 \"off\" for nowhere"
            ),
            Err(error) => return Err(unbound("[admin]", address, &error)),
        }
    }
    if let Some(address) = config.probes.as_ref().and_then(|probes| probes.bind.address()) {
        let socket = listener(address).map_err(|error| unbound("[probes]", address, &error))?;
        info!("probes serve http://{}", place(&socket, address));
        bound.services.push(Service { socket, tls: None, surface: Surface::Probes });
    }
    bound.tls = rotation.listeners();
    bound.socket = config.operators_listener().and(config.operators_socket()).map(|path| path.to_path_buf());
    Ok(bound)
}

impl Bound {
    /// The tokens of the page's clients.
    pub(crate) fn operators(&self) -> Operators {
        self.operators.clone()
    }

    /// The services, the TLS of every listener, and the socket of the listener of the page's clients.
    pub(super) fn into_parts(self) -> (Vec<Service>, TlsListeners, Option<PathBuf>) {
        (self.services, self.tls, self.socket)
    }
}

/// The error of an address that the operator has written.
fn unbound(table: &str, address: SocketAddr, error: &io::Error) -> StartupError {
    StartupError::listener(
        table,
        format!("cannot listen on {address}: {error}; write another bind, or \"off\""),
    )
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The address with the port that the system selected.
fn place(socket: &TcpListener, address: SocketAddr) -> SocketAddr {
    socket.local_addr().unwrap_or(address)
}
