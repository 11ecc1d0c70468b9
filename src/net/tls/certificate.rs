//! Reading certificates: the names in them, and how long they are valid.

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::X509Name;

use crate::config::listener::CertificateName;

/// The names of a server in its own certificate, by which it is chosen.
#[derive(Debug, Default)]
pub(crate) struct ServerNames(Vec<String>);

impl ServerNames {
    /// The DNS names of a certificate, in lower case.
    ///
    /// # Errors
    /// If it is no certificate of X.509.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let parsed = parse(certificate)?;
        let names = alternative_names(&parsed).filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        Ok(Self(names.collect()))
    }

    /// Whether a client that asks for `name` is served by it. A first label `*` is any one label.
    pub(crate) fn include(&self, name: &str) -> bool {
        let rest = name.split_once('.').map(|(_, rest)| rest);
        self.0.iter().any(|own| {
            own.eq_ignore_ascii_case(name)
                || own
                    .strip_prefix("*.")
                    .is_some_and(|own| rest.is_some_and(|rest| own.eq_ignore_ascii_case(rest)))
        })
    }
}

/// The seconds since 1970 at which a certificate ends.
///
/// # Errors
/// If it is no certificate of X.509.
pub(crate) fn expires_at_s(certificate: &CertificateDer<'_>) -> Result<i64, String> {
    Ok(parse(certificate)?.validity().not_after.timestamp())
}

/// The names that a client has by its certificate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PeerCertificate {
    /// The user name, by the part of the certificate that the listener takes it from.
    pub(crate) username: Option<Box<str>>,
    /// The common name of the subject.
    pub(crate) common_name: Option<Box<str>>,
}

impl PeerCertificate {
    /// The names in a certificate that was verified. A name that is empty, ambiguous or has a control character is none.
    pub(crate) fn of(certificate: &CertificateDer<'_>, username_from: CertificateName) -> Self {
        let Ok(parsed) = parse(certificate) else { return Self { username: None, common_name: None } };
        let common_name = common_name(parsed.subject());
        let username = match username_from {
            CertificateName::Cn => common_name.clone(),
            CertificateName::Subject => usable_name(&parsed.subject().to_string()),
            CertificateName::SanDns => first(&parsed, |name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            }),
            CertificateName::SanUri => first(&parsed, |name| match name {
                GeneralName::URI(name) => Some((*name).to_owned()),
                _ => None,
            }),
            CertificateName::None => None,
        };
        Self { username, common_name }
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    X509Certificate::from_der(certificate)
        .map(|(_, parsed)| parsed)
        .map_err(|error| format!("it has a certificate that cannot be read: {error}"))
}

fn alternative_names<'a>(parsed: &'a X509Certificate<'a>) -> impl Iterator<Item = &'a GeneralName<'a>> {
    parsed.subject_alternative_name().ok().flatten().into_iter().flat_map(|names| &names.value.general_names)
}

/// The only common name: of two, a reader could take either.
fn common_name(subject: &X509Name<'_>) -> Option<Box<str>> {
    let mut names = subject.iter_common_name();
    let name = names.next().filter(|_| names.next().is_none())?;
    usable_name(name.as_str().ok()?)
}

fn first(
    parsed: &X509Certificate<'_>,
    take: impl Fn(&GeneralName<'_>) -> Option<String>,
) -> Option<Box<str>> {
    usable_name(&alternative_names(parsed).find_map(take)?)
}

/// A name that may be a user name of MQTT.
pub(crate) fn usable_name(name: &str) -> Option<Box<str>> {
    let is_usable = !name.is_empty() && name.len() <= 65_535 && !name.chars().any(char::is_control);
    is_usable.then(|| name.into())
}

/// The seconds since 1970 at which a list of revoked certificates is to be replaced, if it says so.
pub(crate) fn list_expires_at_s(list: &CertificateRevocationListDer<'_>) -> Option<i64> {
    let (_, parsed) = CertificateRevocationList::from_der(list).ok()?;
    parsed.next_update().map(|time| time.timestamp())
}
