//! The cryptography of the crate jsonwebtoken, on ring: it verifies, and signs nothing. The backends that the library brings are a
//! second provider of everything, or have an RSA with a known side channel (RUSTSEC-2023-0071).

use crypto::{hmac, signature as ring};
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use signature::{Error, Verifier};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: |algorithm, key| Ok(Box::new(RingVerifier { algorithm: *algorithm, key: key.clone() })),
    // Keys come from components of a JWKS alone, which needs none of these.
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
        rsa_pub_components_from_public_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
        ec_pub_components_from_private_key: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        ed_pub_components_from_private_key: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
        compute_digest: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    },
};

/// Makes ring the cryptography of `jsonwebtoken` in this process. Another call changes nothing.
pub(super) fn install() {
    // An error says that it is installed, and nothing else installs one.
    let _ = PROVIDER.install_default();
}

/// A key that verifies signatures of one algorithm.
struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
        let is_right = match (self.key.kind(), self.algorithm) {
            (
                DecodingKeyKind::SecretOrDer(secret),
                Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512,
            ) => {
                let key = hmac::Key::new(hmac_algorithm(self.algorithm), secret);
                hmac::verify(&key, message, signature).is_ok()
            }
            (DecodingKeyKind::SecretOrDer(key), algorithm) => {
                public_algorithm(algorithm).is_some_and(|algorithm| {
                    ring::UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
                })
            }
            (DecodingKeyKind::RsaModulusExponent { n, e }, algorithm) => rsa_algorithm(algorithm)
                .is_some_and(|algorithm| {
                    // Some issuers write the modulus as a signed number, and ring refuses the zeros in front.
                    let n = &n[n.iter().take_while(|byte| **byte == 0).count()..];
                    ring::RsaPublicKeyComponents { n, e }.verify(algorithm, message, signature).is_ok()
                }),
        };
        if is_right { Ok(()) } else { Err(Error::new()) }
    }
}

fn hmac_algorithm(algorithm: Algorithm) -> hmac::Algorithm {
    match algorithm {
        Algorithm::HS384 => hmac::HMAC_SHA384,
        Algorithm::HS512 => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    }
}

fn public_algorithm(algorithm: Algorithm) -> Option<&'static dyn ring::VerificationAlgorithm> {
    match algorithm {
        Algorithm::ES256 => Some(&ring::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Some(&ring::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Some(&ring::ED25519),
        _ => None,
    }
}

/// Keys of 2048 to 8192 bits.
fn rsa_algorithm(algorithm: Algorithm) -> Option<&'static ring::RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&ring::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&ring::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&ring::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&ring::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&ring::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&ring::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}
