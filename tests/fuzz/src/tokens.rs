//! The reader of tokens and of sets of keys. Any bytes are judged without a panic, and nothing is accepted that the issuer did not sign.

use jsonwebtoken::Algorithm;

use crate::auth::jwt::{KeySet, KeySetOrigin, TokenRules, is_token, judge};

/// The key of the example in RFC 7515, appendix A.1.
const KEYS: &str = r#"{"keys":[{"kty":"oct","alg":"HS256","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}]}"#;

/// The one text that this key has signed.
const SIGNED: &[u8] = b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA, Algorithm::PS256];

/// The first byte chooses a token or a set of keys, the rest is it.
///
/// # Panics
/// If a reader violates a guarantee.
pub fn check(input: &[u8]) {
    let Some((&which, content)) = input.split_first() else { return };
    if which % 2 == 0 { check_token(content) } else { check_keys(content) }
}

fn rules() -> TokenRules {
    TokenRules {
        algorithms: ALGORITHMS.to_vec(),
        issuer: None,
        audience: None,
        username_claim: "iss".to_owned(),
        roles_claim: "mqtt_roles".to_owned(),
    }
}

fn check_token(token: &[u8]) {
    let keys = KeySet::parse(KEYS.as_bytes(), KeySetOrigin::File, &ALGORITHMS).expect("the example is a set");
    for (now_s, is_valid) in [(1_300_819_000, true), (1_300_819_440, false)] {
        match judge(token, &[&keys], &rules(), now_s) {
            Ok(claims) => assert!(token == SIGNED && is_valid && claims.user == "joe", "{claims:?}"),
            Err(fault) => assert!(token != SIGNED || !is_valid, "{fault:?}"),
        }
    }
}

/// The example's token is accepted by a set only if that set has the example's key; and only from a file.
fn check_keys(json: &[u8]) {
    assert!(is_token(SIGNED));
    for origin in [KeySetOrigin::File, KeySetOrigin::Url] {
        match KeySet::parse(json, origin, &ALGORITHMS) {
            Ok(keys) => {
                assert!((1..=256).contains(&keys.len()));
                let judged = judge(SIGNED, &[&keys], &rules(), 1_300_819_000);
                assert!(judged.is_err() || origin == KeySetOrigin::File, "a secret came from a URL");
            }
            Err(fault) => assert!(!fault.to_string().is_empty()),
        }
    }
}
