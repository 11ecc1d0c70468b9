//! The socket of a client, with TLS over it if the run has that.

use std::fs;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::Path;

use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, RootCertStore};

#[expect(clippy::disallowed_types, reason = "rustls takes its configuration in this shape")]
type Shared<T> = std::sync::Arc<T>;

/// The settings of clients with TLS, the same for all of a run.
#[derive(Debug)]
pub(crate) struct Trust(Shared<ClientConfig>);

impl Trust {
    /// Clients that trust the certificate in `file` and nothing else. They speak TLS 1.3 and resume nothing.
    ///
    /// # Errors
    /// If the file has no certificate in PEM.
    pub(crate) fn read(file: &Path) -> io::Result<Self> {
        let pem = fs::read(file)?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        let mut config = ClientConfig::builder_with_provider(Shared::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self(Shared::new(config)))
    }
}

/// A socket, blocking or not.
pub(crate) struct Transport<S> {
    pub(crate) socket: S,
    tls: Option<Box<ClientConnection>>,
}

impl<S: Read + Write> Transport<S> {
    /// Nothing was said on the socket.
    ///
    /// # Errors
    /// If rustls refuses the settings.
    pub(crate) fn new(socket: S, server: IpAddr, trust: Option<&Trust>) -> io::Result<Self> {
        let begin = |Trust(config): &Trust| {
            ClientConnection::new(Shared::clone(config), ServerName::IpAddress(server.into()))
        };
        let tls = trust.map(begin).transpose().map_err(io::Error::other)?;
        Ok(Self { socket, tls: tls.map(Box::new) })
    }

    /// Whether a read that did not fill its buffer has emptied the socket.
    pub(crate) fn tells_its_end(&self) -> bool {
        self.tls.is_none()
    }

    /// The same over another kind of socket.
    pub(crate) fn over<T>(self, change: impl FnOnce(S) -> T) -> Transport<T> {
        Transport { socket: change(self.socket), tls: self.tls }
    }

    /// Reads of what has come.
    ///
    /// # Errors
    /// The errors of the socket, and `InvalidData` if the server breaks the rules of TLS.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            if tls.wants_write() {
                tls.write_tls(&mut self.socket)?;
            } else if tls.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            } else {
                tls.process_new_packets().map_err(io::Error::other)?;
            }
        }
    }

    /// Writes as many of `bytes` as are taken.
    ///
    /// # Errors
    /// The errors of the socket, if nothing was taken.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.tls.is_none() {
            return self.socket.write(bytes);
        }
        self.flush()?;
        let tls = self.tls.as_mut().expect("it was there");
        let taken = tls.writer().write(bytes)?;
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Sends records that were not taken before.
    ///
    /// # Errors
    /// The errors of the socket.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}
