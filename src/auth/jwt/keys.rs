//! The keys of an issuer, read from a set of JSON Web Keys [RFC 7517].
//! Invariant: each key serves one algorithm, which the key set and the configuration decide and never a token: else a token could
//! have a public key used as the secret of an HMAC.

use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

/// Keys of a set at most; more make the set a fault.
const KEYS_MAX: usize = 256;

/// Bits of the shortest secret of an HMAC, in bytes [RFC 7518, section 3.2].
const SECRET_BYTES_MIN: usize = 32;

/// The place that a set of keys comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeySetOrigin {
    /// A file of the operator, which may hold secrets of HMAC.
    File,
    /// A URL, which everybody can read.
    Url,
}

/// The usable keys of a set.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
}

/// A key with the one algorithm that it serves.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// The name that tokens give it by `kid`.
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// A set that is not read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KeySetFault {
    /// No JSON, or no member `keys` with a list.
    NoSet,
    /// Too many keys.
    TooMany,
    /// No key that serves a configured algorithm.
    NoKey,
}

impl fmt::Display for KeySetFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSet => f.write_str("it is no set of keys: it must be JSON with a list `keys` (RFC 7517)"),
            Self::TooMany => write!(f, "it has more than {KEYS_MAX} keys"),
            Self::NoKey => f.write_str(
                "no key in it serves an algorithm of `algorithms`; an RSA key or secret without `alg` serves only if one algorithm of \
                 its kind is listed, and secrets are read from files alone",
            ),
        }
    }
}

impl KeySet {
    /// Reads a set. A key of another kind, another use or another algorithm than the configured ones is passed over [RFC 7517,
    /// section 5].
    ///
    /// # Errors
    /// If it is no set, is too long, or has no usable key.
    pub(crate) fn parse(
        json: &[u8],
        origin: KeySetOrigin,
        algorithms: &[Algorithm],
    ) -> Result<Self, KeySetFault> {
        let document: Value = serde_json::from_slice(json).map_err(|_| KeySetFault::NoSet)?;
        let Some(Value::Array(keys)) = document.get("keys") else { return Err(KeySetFault::NoSet) };
        if keys.len() > KEYS_MAX {
            return Err(KeySetFault::TooMany);
        }
        let keys: Vec<Key> = keys
            .iter()
            .filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok())
            .filter_map(|key| Key::of(&key, origin, algorithms))
            .collect();
        if keys.is_empty() { Err(KeySetFault::NoKey) } else { Ok(Self { keys }) }
    }

    /// Number of the keys.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys that a token of this `kid` and algorithm may have been signed with.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| {
            let is_named = match (id, key.id.as_deref()) {
                (Some(wanted), Some(own)) => wanted == own,
                // A token or a key without a name may belong together.
                (None, _) | (_, None) => true,
            };
            is_named && key.algorithm == algorithm
        })
    }
}

impl Key {
    fn of(jwk: &Jwk, origin: KeySetOrigin, algorithms: &[Algorithm]) -> Option<Self> {
        let verifies =
            jwk.common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        let signs = !matches!(&jwk.common.public_key_use, Some(usage) if *usage != PublicKeyUse::Signature);
        let is_secret = matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_));
        if !verifies || !signs || (is_secret && origin == KeySetOrigin::Url) {
            return None;
        }
        let algorithm = algorithm_of(jwk, algorithms)?;
        let key = DecodingKey::from_jwk(jwk).ok()?;
        let is_long_enough =
            !is_secret || key.try_get_as_bytes().is_ok_and(|secret| secret.len() >= SECRET_BYTES_MIN);
        is_long_enough.then(|| Self { id: jwk.common.key_id.clone(), algorithm, decoding: key })
    }
}

/// The algorithm of a key: the one that it names, if its kind has it, or the only one of its kind; in either case a configured one.
fn algorithm_of(jwk: &Jwk, algorithms: &[Algorithm]) -> Option<Algorithm> {
    let of_kind: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        AlgorithmParameters::RSA(_) => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmParameters::OctetKey(_) => &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512],
        _ => return None,
    };
    let mut possible = of_kind.iter().filter(|algorithm| algorithms.contains(algorithm));
    if let Some(named) = jwk.common.key_algorithm {
        return possible.find(|algorithm| is_same(named, **algorithm)).copied();
    }
    match (possible.next(), possible.next()) {
        (Some(only), None) => Some(*only),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

fn is_same(named: KeyAlgorithm, algorithm: Algorithm) -> bool {
    named.to_string().parse() == Ok(algorithm)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EC: &str = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;
    const ED: &str = r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;
    const SECRET: &str = r#""kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow""#;
    const RSA: &str = r#""kty":"RSA","n":"AQAB","e":"AQAB""#;
    const ALL: [Algorithm; 5] =
        [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256, Algorithm::PS256, Algorithm::HS256];

    fn of(
        keys: &[&str],
        origin: KeySetOrigin,
        algorithms: &[Algorithm],
    ) -> Result<Vec<Algorithm>, KeySetFault> {
        let json = format!(
            "{{\"keys\":[{}]}}",
            keys.iter().map(|key| format!("{{{key}}}")).collect::<Vec<_>>().join(",")
        );
        KeySet::parse(json.as_bytes(), origin, algorithms)
            .map(|set| set.keys.iter().map(|key| key.algorithm).collect())
    }

    #[test]
    fn a_key_serves_the_algorithm_of_its_kind() {
        let file = |key: &str, algorithms: &[Algorithm]| of(&[key], KeySetOrigin::File, algorithms);
        assert_eq!(file(EC, &ALL), Ok(vec![Algorithm::ES256]));
        assert_eq!(file(ED, &ALL), Ok(vec![Algorithm::EdDSA]));
        assert_eq!(file(SECRET, &ALL), Ok(vec![Algorithm::HS256]));
        assert_eq!(file(EC, &[Algorithm::EdDSA]), Err(KeySetFault::NoKey), "not configured");
        let named = |alg: &str| format!("{EC},\"alg\":\"{alg}\"");
        assert_eq!(file(&named("ES256"), &ALL), Ok(vec![Algorithm::ES256]));
        for other in ["ES384", "HS256", "none", "RSA-OAEP"] {
            assert_eq!(file(&named(other), &ALL), Err(KeySetFault::NoKey), "{other} is not of this kind");
        }
    }

    #[test]
    fn an_rsa_key_without_an_algorithm_serves_only_if_one_is_listed() {
        let file = |key: &str, algorithms: &[Algorithm]| of(&[key], KeySetOrigin::File, algorithms);
        assert_eq!(file(RSA, &ALL), Err(KeySetFault::NoKey));
        assert_eq!(file(RSA, &[Algorithm::PS256, Algorithm::ES256]), Ok(vec![Algorithm::PS256]));
        assert_eq!(file(&format!("{RSA},\"alg\":\"RS256\""), &ALL), Ok(vec![Algorithm::RS256]));
    }

    #[test]
    fn a_secret_is_read_from_a_file_alone_and_long_enough() {
        assert_eq!(of(&[SECRET], KeySetOrigin::Url, &ALL), Err(KeySetFault::NoKey));
        assert_eq!(of(&[r#""kty":"oct","k":"c2hvcnQ""#], KeySetOrigin::File, &ALL), Err(KeySetFault::NoKey));
    }

    #[test]
    fn keys_for_another_use_and_unknown_ones_are_passed_over() {
        let others = [
            format!("{EC},\"use\":\"enc\""),
            format!("{EC},\"key_ops\":[\"sign\"]"),
            r#""kty":"XYZ","x":1"#.to_owned(),
            r#""kty":"EC","crv":"P-256","x":"!","y":"!""#.to_owned(),
        ];
        for other in &others {
            assert_eq!(of(&[other], KeySetOrigin::Url, &ALL), Err(KeySetFault::NoKey), "{other}");
            assert_eq!(of(&[other, ED], KeySetOrigin::Url, &ALL), Ok(vec![Algorithm::EdDSA]), "{other}");
        }
        let used = format!("{EC},\"use\":\"sig\",\"key_ops\":[\"verify\"]");
        assert_eq!(of(&[&used], KeySetOrigin::Url, &ALL), Ok(vec![Algorithm::ES256]));
    }

    #[test]
    fn a_text_that_is_no_set_is_told() {
        for json in ["", "[]", "{}", r#"{"keys":{}}"#, "{\"keys\":"] {
            let fault = KeySet::parse(json.as_bytes(), KeySetOrigin::File, &ALL).unwrap_err();
            assert_eq!(fault, KeySetFault::NoSet, "{json}");
        }
        let many = vec![ED; KEYS_MAX + 1];
        assert_eq!(of(&many, KeySetOrigin::File, &ALL), Err(KeySetFault::TooMany));
        assert!(of(&many[..KEYS_MAX], KeySetOrigin::File, &ALL).is_ok());
        for fault in [KeySetFault::NoSet, KeySetFault::TooMany, KeySetFault::NoKey] {
            assert!(fault.to_string().starts_with(['i', 'n']));
        }
    }

    #[test]
    fn a_token_and_a_key_without_a_name_may_belong_together() {
        let json = format!("{{\"keys\":[{{{ED},\"kid\":\"a\"}},{{{ED}}},{{{ED},\"kid\":\"b\"}}]}}");
        let set = KeySet::parse(json.as_bytes(), KeySetOrigin::File, &ALL).unwrap();
        let count = |id| set.candidates(id, Algorithm::EdDSA).count();
        assert_eq!((count(None), count(Some("a")), count(Some("c"))), (3, 2, 1));
        assert_eq!(set.candidates(None, Algorithm::ES256).count(), 0);
    }
}
