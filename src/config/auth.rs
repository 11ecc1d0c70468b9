//! The methods of authentication: `[auth.password]`, `[auth.jwt]`, `[auth.http]` and `[auth.scram]`.

use super::list::{FilePath, Item, KeySource, Url};
use super::table::{Complete, GivenTable, table};
use super::value::{ANY, between, word_fields};

table! {
    /// The methods of authentication that listeners can ask.
    AuthConfig {
        tables {
            /// User names with passwords or keys of devices, in a file that `mqtt-broker user` writes.
            password: Option<PasswordConfig>;
            /// Signed tokens (JSON Web Token) of an issuer.
            jwt: Option<JwtConfig>;
            /// A service of yours that decides over HTTP.
            http: Option<HttpConfig>;
            /// SCRAM-SHA-256, by the packet AUTH of MQTT 5.0: the password never travels.
            scram: Option<ScramConfig>;
        }
    }
}

table! {
    /// Passwords.
    PasswordConfig {
        /// The file of names and hashes; lines of mosquitto's are read as well. `mqtt-broker user add` writes it.
        file: FilePath = FilePath::default(), ANY, "\"passwords\"";
        /// Passwords that may wait to be checked. One more is refused with 0x89.
        queue_max: u32 = 256, between(1, 1_000_000), "256";
        /// Threads that check passwords.
        threads: u16 = 1, between(1, 64), "1";
        /// Seconds for which a right password is remembered, so that the next connection costs no hash; 0 remembers none.
        remember_s: u32 = 3_600, between(0, 604_800), "3600";
        /// Names that these users may have, with * for any characters; none allows every name.
        names: Vec<String> = Vec::new(), between(1, 1_024), "[]";
    }
}

table! {
    /// Signed tokens.
    JwtConfig {
        /// Files and URLs of the issuer's keys (JWKS). A URL begins with https://, or with http:// on this machine.
        keys: Vec<KeySource> = Vec::new(), ANY, "[\"jwks.json\"]";
        /// Certificates of the authorities that the certificates of URLs are checked against, in PEM.
        ca: Option<FilePath> = None, ANY, "\"ca.pem\"";
        /// Algorithms of signatures that are accepted.
        algorithms: Vec<JwtAlgorithm> = vec![JwtAlgorithm::Es256, JwtAlgorithm::EdDsa], ANY, "[\"ES256\", \"EdDSA\"]";
        /// The issuer that a token must name (`iss`). It is needed if a key comes from a URL.
        issuer: Option<String> = None, between(1, 1_024), "\"https://id.example.com\"";
        /// The audience that a token must name (`aud`). It is needed if a key comes from a URL.
        audience: Option<String> = None, between(1, 1_024), "\"mqtt\"";
        /// The place of the token: the `"password"` of CONNECT, or the authentication `"method"` "JWT" of MQTT 5.0, which can renew
        /// it.
        from: JwtFrom = JwtFrom::Password, ANY, "\"password\"";
        /// Names that a token may give, with * for any characters; none allows every name.
        names: Vec<String> = Vec::new(), between(1, 1_024), "[\"dev-*\"]";
        tables {
            /// The claims of a token that the broker reads.
            claims: Option<JwtClaims>;
        }
    }
}

table! {
    /// Claims of a token.
    JwtClaims {
        /// The user name.
        username: String = "sub".to_owned(), between(1, 256), "\"sub\"";
        /// The roles, as a list of texts.
        roles: String = "mqtt_roles".to_owned(), between(1, 256), "\"mqtt_roles\"";
    }
}

table! {
    /// A service that decides.
    HttpConfig {
        /// URL that is asked by POST: https://, or http:// on this machine.
        url: Url = Url::default(), ANY, "\"https://auth.internal/mqtt\"";
        /// Certificates of the authorities that the service's certificate is checked against, in PEM.
        ca: Option<FilePath> = None, ANY, "\"ca.pem\"";
        /// Milliseconds within which the service must answer; after that the client is refused.
        timeout_ms: u32 = 2_000, between(10, 60_000), "2000";
        /// Questions that may be open at the same time. One more is refused with 0x89.
        concurrent_max: u32 = 64, between(1, 10_000), "64";
        /// Names that are asked for, with * for any characters; none asks for every name.
        names: Vec<String> = Vec::new(), between(1, 1_024), "[]";
    }
}

table! {
    /// SCRAM-SHA-256.
    ScramConfig {
        /// The file of names and keys. `mqtt-broker user add --scram` writes it.
        file: FilePath = FilePath::default(), ANY, "\"passwords\"";
        /// Names that these users may have, with * for any characters; none allows every name.
        names: Vec<String> = Vec::new(), between(1, 1_024), "[]";
    }
}

/// A method of authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AuthMethod {
    /// The client's certificate.
    Certificate,
    /// A signed token.
    Jwt,
    /// A password or the key of a device.
    Password,
    /// SCRAM-SHA-256.
    Scram,
    /// A service over HTTP.
    Http,
}

/// The place of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JwtFrom {
    /// The password of CONNECT.
    Password,
    /// The packet AUTH.
    Method,
}

/// An algorithm of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JwtAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
    /// RSA, PKCS #1 1.5, SHA-256.
    Rs256,
    /// RSA, PKCS #1 1.5, SHA-384.
    Rs384,
    /// RSA, PKCS #1 1.5, SHA-512.
    Rs512,
    /// RSA-PSS with SHA-256.
    Ps256,
    /// RSA-PSS with SHA-384.
    Ps384,
    /// RSA-PSS with SHA-512.
    Ps512,
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

word_fields! {
    AuthMethod, "METHOD": {
        Certificate = "certificate", Jwt = "jwt", Password = "password", Scram = "scram", Http = "http",
    }
    JwtFrom, "PLACE": { Password = "password", Method = "method", }
    JwtAlgorithm, "ALGORITHM": {
        Es256 = "ES256", Es384 = "ES384", EdDsa = "EdDSA", Rs256 = "RS256", Rs384 = "RS384", Rs512 = "RS512",
        Ps256 = "PS256", Ps384 = "PS384", Ps512 = "PS512", Hs256 = "HS256", Hs384 = "HS384", Hs512 = "HS512",
    }
}

impl Item for JwtAlgorithm {
    const ITEMS: &'static str = "algorithms such as [\"ES256\", \"EdDSA\"]";
}

impl AuthConfig {
    /// The methods that are configured here, in the order in which a listener without `auth` asks them.
    pub(crate) fn methods(&self) -> impl Iterator<Item = AuthMethod> {
        [
            self.jwt.as_ref().map(|_| AuthMethod::Jwt),
            self.password.as_ref().map(|_| AuthMethod::Password),
            self.scram.as_ref().map(|_| AuthMethod::Scram),
            self.http.as_ref().map(|_| AuthMethod::Http),
        ]
        .into_iter()
        .flatten()
    }
}

impl Complete for AuthConfig {}

impl Complete for PasswordConfig {
    fn complete(&mut self, given: &mut GivenTable<'_>) {
        given.needs("file", "\"passwords\"");
    }
}

impl Complete for ScramConfig {
    fn complete(&mut self, given: &mut GivenTable<'_>) {
        given.needs("file", "\"passwords\"");
    }
}

impl Complete for HttpConfig {
    fn complete(&mut self, given: &mut GivenTable<'_>) {
        given.needs("url", "\"https://auth.internal/mqtt\"");
        if self.url.starts_with("https:") {
            given.needs("ca", "\"ca.pem\"");
        }
    }
}

impl Complete for JwtConfig {
    fn complete(&mut self, given: &mut GivenTable<'_>) {
        given.needs("keys", "[\"jwks.json\"]");
        if given.has("keys") && self.keys.is_empty() {
            given.refuse("keys", "must name at least one file or URL");
        }
        if self.algorithms.is_empty() {
            given.refuse("algorithms", "must name at least one algorithm");
        }
        if self.keys.iter().any(|key| matches!(key, KeySource::Url(_))) {
            given.needs("issuer", "\"https://id.example.com\"");
            given.needs("audience", "\"mqtt\"");
            if self.keys.iter().any(|key| matches!(key, KeySource::Url(url) if url.starts_with("https:"))) {
                given.needs("ca", "\"ca.pem\"");
            }
        }
    }
}

impl Complete for JwtClaims {}
