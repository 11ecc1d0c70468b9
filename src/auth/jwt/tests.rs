//! Tokens of the standards, and tokens that must not be accepted.

use crypto::rand::SystemRandom;
use crypto::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use crypto::{hmac, signature};

use super::*;

/// The claims of the examples in RFC 7515, which end at 1300819380.
const CLAIMS: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const NOW_S: u64 = 1_300_819_000;

const SECRET: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
const EVERY: [Algorithm; 6] = [
    Algorithm::HS256,
    Algorithm::RS256,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
    Algorithm::PS256,
];

fn rules() -> TokenRules {
    TokenRules {
        algorithms: EVERY.to_vec(),
        issuer: None,
        audience: None,
        username_claim: "iss".to_owned(),
        roles_claim: "mqtt_roles".to_owned(),
    }
}

fn set(key: &str) -> KeySet {
    let json = format!("{{\"keys\":[{key}]}}");
    KeySet::parse(json.as_bytes(), KeySetOrigin::File, &EVERY).unwrap()
}

/// The example of RFC 7515 with this header, signature and key.
fn check(header: &str, signature: &str, key: &str) {
    let (keys, token) = (set(key), format!("{header}.{CLAIMS}.{signature}"));
    let lifetime = Duration::from_secs(380 + LEEWAY_S);
    let expected = Claims { user: "joe".to_owned(), roles: Vec::new(), lifetime };
    assert_eq!(judge(token.as_bytes(), &[&keys], &rules(), NOW_S), Ok(expected));
    let mut forged = token.into_bytes();
    let at = header.len() + 5;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    assert_eq!(judge(&forged, &[&keys], &rules(), NOW_S), Err(TokenFault::Signature));
}

#[test]
fn the_examples_of_rfc_7515_are_accepted() {
    check(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
        "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        &format!(r#"{{"kty":"oct","alg":"HS256","k":"{SECRET}"}}"#),
    );
    check(
        "eyJhbGciOiJSUzI1NiJ9",
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        r#"{"kty":"RSA","alg":"RS256","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#,
    );
    check(
        "eyJhbGciOiJFUzI1NiJ9",
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
    );
}

/// A key of Ed25519 and the tokens that it signs.
struct Issuer {
    pair: Ed25519KeyPair,
}

impl Issuer {
    fn new() -> Self {
        Self { pair: Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap() }
    }

    fn keys(&self) -> KeySet {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        set(&format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"{x}"}}"#))
    }

    fn sign(&self, header: &str, claims: &str) -> String {
        let message = message(header, claims);
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn judge(&self, claims: &str, rules: &TokenRules) -> Result<Claims, TokenFault> {
        let token = self.sign(r#"{"alg":"EdDSA","kid":"k1"}"#, claims);
        judge(token.as_bytes(), &[&self.keys()], rules, NOW_S)
    }
}

fn message(header: &str, claims: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

#[test]
fn claims_give_the_user_the_roles_and_the_end() {
    let rules = TokenRules { username_claim: "sub".to_owned(), ..rules() };
    let judged =
        Issuer::new().judge(r#"{"sub":"dev-7","mqtt_roles":["device","eu"],"exp":1300819010.5}"#, &rules);
    let claims = judged.unwrap();
    assert_eq!((claims.user.as_str(), claims.roles), ("dev-7", vec!["device".to_owned(), "eu".to_owned()]));
    assert_eq!(claims.lifetime, Duration::from_secs(10 + LEEWAY_S));
}

#[test]
fn every_refusal_is_provoked() {
    let issuer = Issuer::new();
    let mut seen = Vec::new();
    let mut check = |token: &[u8], expected: TokenFault| {
        let fault = judge(token, &[&issuer.keys()], &rules(), NOW_S).unwrap_err();
        assert_eq!(fault, expected, "{}", String::from_utf8_lossy(token));
        seen.push(fault);
    };
    let claims = r#"{"iss":"joe","exp":1300819380}"#;
    for text in ["", "secret", "a.b.c", "..", "W10.W10.W10", "eyJh.eyJh"] {
        check(text.as_bytes(), TokenFault::NoToken);
    }
    check(&[0xFF; 9], TokenFault::NoToken);
    let long = format!("{{\"iss\":\"joe\",\"exp\":1300819380,\"x\":\"{}\"}}", "x".repeat(TOKEN_BYTES_MAX));
    check(issuer.sign(r#"{"alg":"EdDSA"}"#, &long).as_bytes(), TokenFault::TooLong);
    check(issuer.sign(r#"{"alg":"EdDSA","kid":"k2"}"#, claims).as_bytes(), TokenFault::UnknownKey);
    check(issuer.sign(r#"{"alg":"ES256"}"#, claims).as_bytes(), TokenFault::UnknownKey);
    for header in
        [r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#, r#"{"alg":"EdDSA","crit":["exp"]}"#, r#"{"kid":"k1"}"#]
    {
        check(issuer.sign(header, claims).as_bytes(), TokenFault::Header);
    }
    // The header offers a key of its own, which is ignored.
    let own = r#"{"alg":"EdDSA","jku":"https://evil.example.com/jwks","jwk":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}"#;
    let stranger = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
    let forged = Issuer { pair: stranger }.sign(own, claims);
    check(forged.as_bytes(), TokenFault::Signature);
    for (claims, fault) in [
        (r#"{"iss":"joe"}"#, TokenFault::Time),
        (r#"{"iss":"joe","exp":"1300819380"}"#, TokenFault::Time),
        (r#"{"iss":"joe","exp":1300818940}"#, TokenFault::Time),
        (r#"{"iss":"joe","exp":-1}"#, TokenFault::Time),
        (r#"{"iss":"joe","exp":1300819380,"nbf":1300819061}"#, TokenFault::Time),
        (r#"{"iss":"joe","exp":1300819380,"nbf":"x"}"#, TokenFault::Time),
        (r#"{"exp":1300819380}"#, TokenFault::Claims),
        (r#"{"iss":"","exp":1300819380}"#, TokenFault::Claims),
        (r#"{"iss":"a\u0000b","exp":1300819380}"#, TokenFault::Claims),
        (r#"{"iss":"joe","exp":1300819380,"mqtt_roles":"admin"}"#, TokenFault::Claims),
        (r#"{"iss":"joe","exp":1300819380,"mqtt_roles":[1]}"#, TokenFault::Claims),
    ] {
        check(issuer.sign(r#"{"alg":"EdDSA","kid":"k1"}"#, claims).as_bytes(), fault);
    }
    for fault in TokenFault::ALL {
        assert!(seen.contains(&fault), "{fault:?}");
    }
}

#[test]
fn a_public_key_is_no_secret_of_an_hmac() {
    let issuer = Issuer::new();
    let message = message(r#"{"alg":"HS256","kid":"k1"}"#, r#"{"iss":"joe","exp":1300819380}"#);
    let key = hmac::Key::new(hmac::HMAC_SHA256, issuer.pair.public_key().as_ref());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes())));
    let judged = judge(token.as_bytes(), &[&issuer.keys()], &rules(), NOW_S);
    assert_eq!(judged, Err(TokenFault::UnknownKey), "the key serves EdDSA alone");
}

#[test]
fn issuer_and_audience_are_demanded_where_they_are_configured() {
    let issuer = Issuer::new();
    let rules = TokenRules { issuer: Some("joe".to_owned()), audience: Some("mqtt".to_owned()), ..rules() };
    let judge = |claims: &str| issuer.judge(claims, &rules).map(|claims| claims.user);
    assert_eq!(judge(r#"{"iss":"joe","aud":["web","mqtt"],"exp":1300819380}"#), Ok("joe".to_owned()));
    for claims in [
        r#"{"iss":"joe","exp":1300819380}"#,
        r#"{"iss":"joe","aud":"web","exp":1300819380}"#,
        r#"{"iss":"jim","aud":"mqtt","exp":1300819380}"#,
        r#"{"aud":"mqtt","exp":1300819380}"#,
    ] {
        assert_eq!(judge(claims), Err(TokenFault::Signature), "{claims}");
    }
}

#[test]
fn p_384_is_verified_as_well() {
    let random = SystemRandom::new();
    let algorithm: &signature::EcdsaSigningAlgorithm = &ECDSA_P384_SHA384_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[..48]), URL_SAFE_NO_PAD.encode(&point[48..]));
    let keys = set(&format!(r#"{{"kty":"EC","crv":"P-384","x":"{x}","y":"{y}"}}"#));
    let message = message(r#"{"alg":"ES384"}"#, r#"{"iss":"joe","exp":1300819380}"#);
    let signature = pair.sign(&random, message.as_bytes()).unwrap();
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
    assert!(judge(token.as_bytes(), &[&keys], &rules(), NOW_S).is_ok());
}
