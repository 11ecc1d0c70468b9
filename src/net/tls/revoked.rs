//! The certificates that the lists of a listener revoke, for connections that are open already: rustls asks the lists in a handshake
//! alone.

use std::collections::BTreeSet;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::{FromDer, RevokedCertificate, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::files::Files;
use crate::config::listener::TlsConfig;

/// An issuer and a serial number of its, as they are encoded.
type Numbered = (Box<[u8]>, Box<[u8]>);

/// The certificates that issuers revoke.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Revoked(BTreeSet<Numbered>);

impl Revoked {
    /// The certificates in the lists of a configuration, which rustls has accepted.
    pub(crate) fn of(config: &TlsConfig, files: &Files) -> Self {
        let mut revoked = BTreeSet::new();
        for file in &config.crl {
            for list in CertificateRevocationListDer::pem_slice_iter(files.content(file)).flatten() {
                let Ok((_, list)) = CertificateRevocationList::from_der(&list) else { continue };
                let issuer = list.issuer().as_raw();
                let serials = list.iter_revoked_certificates().map(RevokedCertificate::raw_serial);
                revoked.extend(serials.map(|serial| (issuer.into(), serial.into())));
            }
        }
        Self(revoked)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a certificate is revoked.
    pub(crate) fn include(&self, certificate: &CertificateDer<'_>) -> bool {
        X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| {
            let issuer = certificate.issuer().as_raw();
            self.0.contains(&(issuer.into(), certificate.raw_serial().into()))
        })
    }
}
