//! The types of values that only tables have: lists, paths of files, networks, and values that may be absent.

use std::net::IpAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use toml::de::DeValue;

use super::BindAddress;
use super::auth::AuthMethod;
use super::limits::OnRate;
use super::value::{ANY, Bounds, Durability, Field, Given, quote, text};

/// The path of a file. A relative one is relative to the directory of the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FilePath(PathBuf);

impl From<&str> for FilePath {
    fn from(path: &str) -> Self {
        Self(PathBuf::from(path))
    }
}

impl AsRef<Path> for FilePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Deref for FilePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Field for FilePath {
    const VALUE_NAME: &'static str = "FILE";

    fn parse(given: &Given<'_>, _: &Bounds) -> Option<Self> {
        text(given).filter(|path| !path.is_empty()).map(Self::from)
    }

    /// Empty, if it was not given.
    fn render(&self) -> String {
        if self.0.as_os_str().is_empty() { String::new() } else { quote(&self.0.to_string_lossy()) }
    }

    fn allowed(_: &Bounds) -> String {
        "the path of a file in quotes".to_owned()
    }

    fn resolve(&mut self, directory: &Path) {
        if !self.0.as_os_str().is_empty() {
            self.0 = directory.join(&self.0);
        }
    }
}

/// A key that need not be given and has no default.
macro_rules! optional_fields {
    ($($type:ty),+) => { $(
        impl Field for Option<$type> {
            const VALUE_NAME: &'static str = <$type>::VALUE_NAME;

            fn parse(given: &Given<'_>, bounds: &Bounds) -> Option<Self> {
                <$type>::parse(given, bounds).map(Some)
            }

            fn render(&self) -> String {
                self.as_ref().map(Field::render).unwrap_or_default()
            }

            fn allowed(bounds: &Bounds) -> String {
                <$type>::allowed(bounds)
            }

            fn resolve(&mut self, directory: &Path) {
                if let Some(value) = self {
                    value.resolve(directory);
                }
            }
        }
    )+ };
}

optional_fields!(
    u16,
    u32,
    String,
    FilePath,
    OnRate,
    Durability,
    Vec<BindAddress>,
    Vec<String>,
    Vec<AuthMethod>
);

/// An item of a list.
pub(super) trait Item: Field {
    /// The items in the plural, with an example of a list.
    const ITEMS: &'static str;
}

impl<T: Item> Field for Vec<T> {
    const VALUE_NAME: &'static str = "LIST";

    fn parse(given: &Given<'_>, bounds: &Bounds) -> Option<Self> {
        match given {
            Given::File(DeValue::Array(items)) => {
                items.iter().map(|item| T::parse(&Given::File(item.get_ref()), bounds)).collect()
            }
            Given::File(_) | Given::Flag(_) => None,
        }
    }

    fn render(&self) -> String {
        let items: Vec<String> = self.iter().map(Field::render).collect();
        format!("[{}]", items.join(", "))
    }

    fn allowed(_: &Bounds) -> String {
        format!("a list of {}", T::ITEMS)
    }

    fn resolve(&mut self, directory: &Path) {
        for item in self {
            item.resolve(directory);
        }
    }
}

impl Item for String {
    const ITEMS: &'static str = "texts such as [\"one\", \"two\"]";
}

impl Item for FilePath {
    const ITEMS: &'static str = "paths of files such as [\"tls/ca.crl\"]";
}

impl Item for IpNet {
    const ITEMS: &'static str = "networks such as [\"10.0.0.0/8\", \"::1\"]";
}

/// A single address is a network of one.
impl Field for IpNet {
    const VALUE_NAME: &'static str = "NETWORK";

    fn parse(given: &Given<'_>, _: &Bounds) -> Option<Self> {
        let text = text(given)?;
        let network = text.parse::<Self>().or_else(|_| text.parse::<IpAddr>().map(Self::from)).ok()?;
        Some(network.trunc())
    }

    fn render(&self) -> String {
        quote(&self.to_string())
    }

    fn allowed(_: &Bounds) -> String {
        "a network such as \"10.0.0.0/8\"".to_owned()
    }
}

/// The permissions of a socket in the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileMode(pub(crate) u32);

impl Field for FileMode {
    const VALUE_NAME: &'static str = "MODE";

    fn parse(given: &Given<'_>, _: &Bounds) -> Option<Self> {
        let digits = text(given)?;
        let is_octal = (3..=4).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
        u32::from_str_radix(digits, 8).ok().filter(|&mode| is_octal && mode <= 0o777).map(Self)
    }

    fn render(&self) -> String {
        quote(&format!("{:04o}", self.0))
    }

    fn allowed(_: &Bounds) -> String {
        "the permissions as octal digits in quotes, such as \"0660\"".to_owned()
    }
}

/// A certificate with the certificates of its issuers, and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    /// The certificate first, then those of its issuers, in PEM.
    pub(crate) chain: FilePath,
    /// The private key, in PEM.
    pub(crate) key: FilePath,
}

impl Item for CertificateFiles {
    const ITEMS: &'static str = "pairs such as [{ chain = \"tls/server.pem\", key = \"tls/server.key\" }]";
}

impl Field for CertificateFiles {
    const VALUE_NAME: &'static str = "FILES";

    fn parse(given: &Given<'_>, _: &Bounds) -> Option<Self> {
        let Given::File(DeValue::Table(table)) = given else { return None };
        let file = |name: &str| FilePath::parse(&Given::File(table.get(name)?.get_ref()), &ANY);
        (table.len() == 2).then_some(Self { chain: file("chain")?, key: file("key")? })
    }

    fn render(&self) -> String {
        format!("{{ chain = {}, key = {} }}", self.chain.render(), self.key.render())
    }

    fn allowed(_: &Bounds) -> String {
        "a pair such as { chain = \"tls/server.pem\", key = \"tls/server.key\" }".to_owned()
    }

    fn resolve(&mut self, directory: &Path) {
        self.chain.resolve(directory);
        self.key.resolve(directory);
    }
}

/// The place of a set of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeySource {
    /// A file.
    File(FilePath),
    /// A URL, which is fetched.
    Url(String),
}

impl Item for KeySource {
    const ITEMS: &'static str = "files and URLs such as [\"jwks.json\", \"https://id.example.com/jwks\"]";
}

impl Field for KeySource {
    const VALUE_NAME: &'static str = "FILE";

    fn parse(given: &Given<'_>, bounds: &Bounds) -> Option<Self> {
        match text(given)? {
            url if url.contains("://") => is_fetched(url).then(|| Self::Url(url.to_owned())),
            _ => FilePath::parse(given, bounds).map(Self::File),
        }
    }

    fn render(&self) -> String {
        match self {
            Self::File(file) => file.render(),
            Self::Url(url) => quote(url),
        }
    }

    fn allowed(_: &Bounds) -> String {
        "the path of a file or a URL".to_owned()
    }

    fn resolve(&mut self, directory: &Path) {
        if let Self::File(file) = self {
            file.resolve(directory);
        }
    }
}

/// A URL that the broker asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Url(String);

impl Deref for Url {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Field for Url {
    const VALUE_NAME: &'static str = "URL";

    fn parse(given: &Given<'_>, _: &Bounds) -> Option<Self> {
        text(given).filter(|url| is_fetched(url)).map(|url| Self(url.to_owned()))
    }

    fn render(&self) -> String {
        if self.0.is_empty() { String::new() } else { quote(&self.0) }
    }

    fn allowed(_: &Bounds) -> String {
        "a URL that begins with https://, or with http:// and a loopback address".to_owned()
    }
}

/// Whether the broker fetches `url`: over TLS, or from this machine.
fn is_fetched(url: &str) -> bool {
    if url.contains(|c: char| c.is_control() || c == ' ' || c == '@') {
        return false;
    }
    match url.split_once("://") {
        Some(("https", rest)) => !rest.is_empty() && !rest.starts_with('/'),
        Some(("http", rest)) => {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            ["127.0.0.1", "localhost", "[::1]"].iter().any(|own| {
                host.strip_prefix(own).is_some_and(|port| port.is_empty() || port.starts_with(':'))
            })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed<T: Field>(text: &str) -> Option<T> {
        T::parse(&Given::Flag(&[text.to_owned()]), &ANY)
    }

    #[test]
    fn only_tls_and_this_machine_are_asked() {
        for url in
            ["https://id.example.com/jwks", "http://127.0.0.1:80/x", "http://localhost", "http://[::1]:1/"]
        {
            assert!(parsed::<Url>(url).is_some(), "{url}");
        }
        for url in [
            "http://id.example.com/",
            "http://127.0.0.1.example.com",
            "https://",
            "https:///x",
            "ftp://x",
            "x",
            "http://localhost@example.com",
            "https://user:secret@example.com",
            "http://127.0.0.1@x",
        ] {
            assert_eq!(parsed::<Url>(url), None, "{url}");
        }
        assert_eq!(parsed::<KeySource>("http://id.example.com/"), None);
        assert_eq!(parsed::<KeySource>("jwks.json"), Some(KeySource::File("jwks.json".into())));
    }

    #[test]
    fn a_network_is_written_without_its_host_bits_and_an_address_is_a_network() {
        let network = |text| parsed::<IpNet>(text).map(|network| network.to_string());
        assert_eq!(network("10.1.2.3/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(network("::1").as_deref(), Some("::1/128"));
        assert_eq!(network("10.0.0.0/33"), None);
        assert_eq!(network("localhost"), None);
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!(parsed::<FileMode>("0660"), Some(FileMode(0o660)));
        assert_eq!(parsed::<FileMode>("600").map(|mode| mode.render()).as_deref(), Some("\"0600\""));
        for text in ["", "66", "0680", "+660", "1777", "00660"] {
            assert_eq!(parsed::<FileMode>(text), None, "{text}");
        }
    }
}
