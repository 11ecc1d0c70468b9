//! A broker with one listener of TLS, and its certificates.

use std::net::SocketAddr;

use crate::authority::{Authority, Certificate};
use crate::client::Trust;
use crate::harness::broker::{Broker, Directory, Io, command_in, without_admin};

/// A broker, and the authority that its clients trust.
pub(crate) struct Served {
    pub(crate) broker: Broker,
    pub(crate) authority: Authority,
}

/// The listener of TLS in a configuration file, with more keys below `[listener.tls]`.
pub(crate) fn listener(more: &str) -> String {
    format!(
        "[[listener]]\nname = \"devices\"\nbind = [\"127.0.0.1\"]\nport = 0\n[listener.tls]\n\
         certificates = [{{ chain = \"server.pem\", key = \"server.key\" }}]\n{more}"
    )
}

/// The directory of a broker with a certificate of `authority` for `localhost`.
pub(crate) fn directory(authority: &Authority) -> Directory {
    let directory = Directory::new();
    write(&directory, "server", &authority.certificate("server", &["localhost"], 1));
    directory.write("ca.pem", &authority.pem());
    directory
}

pub(crate) fn write(directory: &Directory, name: &str, certificate: &Certificate) {
    directory.write(&format!("{name}.pem"), &certificate.chain);
    directory.write(&format!("{name}.key"), &certificate.key);
}

/// Starts a broker with a configuration file and flags in a directory.
pub(crate) fn start_in(
    directory: Directory,
    io: Io,
    config: &str,
    flags: &[&str],
    listeners: usize,
) -> Broker {
    let file = directory.write("broker.conf", &without_admin(config));
    let mut command = command_in(&directory);
    command.arg("--config").arg(file).arg("--data-dir").arg(directory.path().join("data"));
    command.args(["--io", io.possible().flag()]).args(flags);
    Broker::spawn(directory, command, listeners)
}

/// Starts a broker with one listener of TLS.
pub(crate) fn serve(io: Io, flags: &[&str]) -> Served {
    let authority = Authority::new("the tests' authority");
    let broker = start_in(directory(&authority), io, &listener(""), flags, 1);
    Served { broker, authority }
}

impl Served {
    pub(crate) fn address(&self) -> SocketAddr {
        self.broker.address()
    }

    /// Clients that trust its authority.
    pub(crate) fn trust(&self) -> Trust {
        Trust::new(&self.authority)
    }
}
