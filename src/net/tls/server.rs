//! The configuration that a listener gives rustls, out of the files that its own configuration names.
//!
//! Invariants:
//! - Where clients are asked for certificates nothing is resumed: a session that is resumed skips certificate and revocation.
//! - Nothing is kept for a client after its connection: tickets, one for each handshake, are all that resumes.
//! - A ticket of one listener is worth nothing at another.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig, VerifierBuilderError,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;

use super::Shared;
use super::certificate::{self, ServerNames};
use super::files::Files;
use crate::config::CertificateFiles;
use crate::config::listener::{ClientCertificate, TlsConfig};

/// A file of a listener that cannot serve.
#[derive(Debug)]
pub(crate) struct FileFault {
    /// The file.
    pub(crate) file: PathBuf,
    /// The reason; it follows the name of the file.
    pub(crate) reason: String,
}

impl FileFault {
    fn new(file: &Path, reason: impl fmt::Display) -> Self {
        Self { file: file.to_owned(), reason: reason.to_string() }
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot use {}: the file {}", self.file.display(), self.reason)
    }
}

/// A file that ends, and when.
#[derive(Debug)]
pub(crate) struct Expiry {
    pub(crate) file: PathBuf,
    /// Seconds since 1970.
    pub(crate) at_s: i64,
    /// Whether it is a list of revoked certificates.
    pub(crate) is_list: bool,
}

/// A configuration for new connections.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) server: Shared<ServerConfig>,
    pub(crate) expiries: Vec<Expiry>,
}

/// The one provider of ciphers. Nothing is installed for the whole process: every use names it.
pub(crate) fn provider() -> Shared<CryptoProvider> {
    Shared::new(ring::default_provider())
}

/// Makes the configuration out of the content of its files. `protocol` is the one name of the application's protocol: a client may
/// name none.
///
/// # Errors
/// The first file that cannot be used, and the reason.
pub(crate) fn make(config: &TlsConfig, files: &Files, protocol: &[u8]) -> Result<Made, FileFault> {
    let provider = provider();
    let mut expiries = Vec::new();
    let mut certificates = Vec::new();
    for pair in &config.certificates {
        certificates.push(certificate(pair, files, &provider, &mut expiries)?);
    }
    let first = config.certificates.first().map_or_else(PathBuf::new, |pair| pair.chain.to_path_buf());
    let refused = |error: rustls::Error| FileFault::new(&first, format!("cannot be used: {error}"));
    let builder = ServerConfig::builder_with_provider(Shared::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(refused)?;
    let asks = config.client_certificate != ClientCertificate::Off;
    let builder = match &config.client_ca {
        Some(authority) if asks => {
            builder.with_client_cert_verifier(verifier(config, authority, files, provider, &mut expiries)?)
        }
        Some(_) | None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_cert_resolver(Shared::new(ByName(certificates)));
    server.session_storage = Shared::new(NoServerSessionStorage {});
    server.alpn_protocols = vec![protocol.to_vec()];
    if asks {
        server.send_tls13_tickets = 0;
    } else {
        server.ticketer = ring::Ticketer::new().map_err(refused)?;
        server.send_tls13_tickets = 1;
    }
    Ok(Made { server: Shared::new(server), expiries })
}

fn certificate(
    pair: &CertificateFiles,
    files: &Files,
    provider: &CryptoProvider,
    expiries: &mut Vec<Expiry>,
) -> Result<(ServerNames, Shared<CertifiedKey>), FileFault> {
    let chain = certificates(&pair.chain, files)?;
    let key = PrivateKeyDer::from_pem_slice(files.content(&pair.key)).map_err(|error| {
        FileFault::new(&pair.key, format!("has no private key in PEM without a password: {error}"))
    })?;
    let unreadable = |reason| FileFault::new(&pair.chain, format!("cannot be used: {reason}"));
    let leaf = &chain[0];
    let names = ServerNames::of(leaf).map_err(unreadable)?;
    expiries.push(Expiry {
        file: pair.chain.to_path_buf(),
        at_s: certificate::expires_at_s(leaf).map_err(unreadable)?,
        is_list: false,
    });
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => FileFault::new(
            &pair.key,
            format!("is not the key of the first certificate in {}", pair.chain.display()),
        ),
        error => FileFault::new(&pair.key, format!("cannot be used: {error}")),
    })?;
    Ok((names, Shared::new(certified)))
}

fn certificates(file: &Path, files: &Files) -> Result<Vec<CertificateDer<'static>>, FileFault> {
    let certificates = CertificateDer::pem_slice_iter(files.content(file))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| FileFault::new(file, format!("is not in PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(FileFault::new(file, "has no certificate in PEM"));
    }
    Ok(certificates)
}

fn verifier(
    config: &TlsConfig,
    authority: &Path,
    files: &Files,
    provider: Shared<CryptoProvider>,
    expiries: &mut Vec<Expiry>,
) -> Result<Shared<dyn ClientCertVerifier>, FileFault> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority, files)? {
        expiries.extend(certificate::expires_at_s(&certificate).ok().map(|at_s| Expiry {
            file: authority.to_owned(),
            at_s,
            is_list: false,
        }));
        roots
            .add(certificate)
            .map_err(|error| FileFault::new(authority, format!("cannot be used: {error}")))?;
    }
    let mut lists: Vec<(&Path, _)> = Vec::new();
    for file in &config.crl {
        let before = lists.len();
        for list in CertificateRevocationListDer::pem_slice_iter(files.content(file)) {
            let list = list.map_err(|error| FileFault::new(file, format!("is not in PEM: {error}")))?;
            if let Some(at_s) = certificate::list_expires_at_s(&list) {
                expiries.push(Expiry { file: file.to_path_buf(), at_s, is_list: true });
            }
            lists.push((file.as_ref(), list));
        }
        if lists.len() == before {
            return Err(FileFault::new(file, "has no list of revoked certificates in PEM"));
        }
    }
    let roots = Shared::new(roots);
    for (file, list) in &lists {
        let alone =
            WebPkiClientVerifier::builder_with_provider(Shared::clone(&roots), Shared::clone(&provider))
                .with_crls([list.clone()]);
        if let Err(error @ VerifierBuilderError::InvalidCrl(_)) = alone.build() {
            return Err(FileFault::new(
                file,
                format!("cannot be used: {error}; it must be of version 2, with a number"),
            ));
        }
    }
    // A certificate whose authority has no list, or an expired one, is refused.
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider)
        .with_crls(lists.into_iter().map(|(_, list)| list))
        .enforce_revocation_expiration();
    let builder = match config.client_certificate {
        ClientCertificate::Require => builder,
        ClientCertificate::Optional | ClientCertificate::Off => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| FileFault::new(authority, format!("cannot be used: {error}")))
}

/// Certificates by the name that a client asks for: the first that has the name and a key that the client can verify; else the first
/// with such a key; else the first.
#[derive(Debug)]
struct ByName(Vec<(ServerNames, Shared<CertifiedKey>)>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Shared<CertifiedKey>> {
        let verifiable = |(_, certified): &&(ServerNames, Shared<CertifiedKey>)| {
            certified.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let named = |(names, _): &&(ServerNames, Shared<CertifiedKey>)| {
            hello.server_name().is_some_and(|name| names.include(name))
        };
        let mut all = self.0.iter();
        let found = all.clone().filter(named).find(verifiable).or_else(|| all.clone().find(verifiable));
        found.or_else(|| all.next()).map(|(_, certified)| Shared::clone(certified))
    }
}
