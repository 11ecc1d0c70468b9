//! A client of TLS under full control of the test: it says when its bytes leave, and in which pieces.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustls::client::{ClientConfig, Resumption, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConnection, RootCertStore, SupportedProtocolVersion};

use crate::authority::{Authority, Certificate};
use crate::harness::time::patience;

#[expect(clippy::disallowed_types, reason = "rustls takes its configuration in this shape")]
pub(crate) type Shared<T> = std::sync::Arc<T>;

/// The settings of clients.
#[derive(Clone)]
pub(crate) struct Trust(pub(crate) ClientConfig);

impl Trust {
    /// Trusts an authority, in both versions, and has no certificate.
    pub(crate) fn new(authority: &Authority) -> Self {
        Self::of(authority, None, &[&rustls::version::TLS13, &rustls::version::TLS12])
    }

    pub(crate) fn of(
        authority: &Authority,
        certificate: Option<&Certificate>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der()).expect("it is a certificate");
        let provider = Shared::new(ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Shared::new(roots), Shared::clone(&provider));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("the provider has both")
            .with_webpki_verifier(verifier.build().expect("there is a root"));
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some(Certificate { chain, key }) => {
                let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("it is PEM");
                builder.with_client_auth_cert(chain.expect("it is PEM"), key).expect("the key can sign")
            }
        };
        Self(config)
    }

    /// Clients that do not resume.
    pub(crate) fn forgetful(mut self) -> Self {
        self.0.resumption = Resumption::disabled();
        self
    }

    pub(crate) fn connection(&self, name: &'static str) -> ClientConnection {
        let name = ServerName::try_from(name).expect("it is a name");
        ClientConnection::new(Shared::new(self.0.clone()), name).expect("the settings are complete")
    }
}

/// A connection to a broker.
pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    pub(crate) tls: ClientConnection,
}

impl Client {
    /// A connection on which nothing was said.
    pub(crate) fn open(address: SocketAddr, trust: &Trust, name: &'static str) -> Self {
        let socket = TcpStream::connect(address).expect("the broker listens");
        socket.set_nodelay(true).expect("a TCP socket has this option");
        socket.set_read_timeout(Some(patience())).expect("the time-out is not zero");
        socket.set_write_timeout(Some(patience())).expect("the time-out is not zero");
        Self { socket, tls: trust.connection(name) }
    }

    /// Everything that is to be sent now.
    pub(crate) fn flight(&mut self) -> Vec<u8> {
        let mut flight = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut flight).expect("a vector takes everything");
        }
        flight
    }

    /// Sends everything in one piece.
    pub(crate) fn send_flight(&mut self) {
        let flight = self.flight();
        self.socket.write_all(&flight).expect("the broker reads");
    }

    /// Receives once. An error if the server is not to be believed, or has refused.
    pub(crate) fn receive(&mut self) -> Result<usize, rustls::Error> {
        let length = match self.tls.read_tls(&mut self.socket) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("nothing came from the broker: {error}"),
        };
        self.tls.process_new_packets()?;
        Ok(length)
    }

    /// The whole handshake. `bytes` leave in the flight of its last message.
    pub(crate) fn shake_hands(&mut self, bytes: &[u8]) -> Result<(), rustls::Error> {
        self.tls.writer().write_all(bytes).expect("there is room for so few bytes");
        loop {
            self.send_flight();
            if !self.tls.is_handshaking() {
                return Ok(());
            }
            if self.receive()? == 0 {
                return Err(rustls::Error::General("the broker has closed the connection".to_owned()));
            }
        }
    }

    /// Reads `length` bytes of what the broker says, or up to its end.
    pub(crate) fn hear(&mut self, length: usize) -> Result<Vec<u8>, rustls::Error> {
        let mut heard = vec![0; length];
        let mut at = 0;
        while at < length {
            match self.tls.reader().read(&mut heard[at..]) {
                Ok(0) => break,
                Ok(more) => at += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.receive()? == 0 {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        heard.truncate(at);
        Ok(heard)
    }
}
