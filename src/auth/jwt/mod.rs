//! JSON Web Tokens: signed statements of an issuer about a client.
//! Invariants: a token is judged by the keys and algorithms of the operator and never by its own header, and one without an end is
//! refused. No token, whatever its bytes, costs more than the verification of eight signatures.

mod keys;
mod provider;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::{Map, Value};

pub(crate) use keys::{KeySet, KeySetOrigin};

/// The method by which a token travels in AUTH, where it can be renewed.
pub(crate) const JWT_METHOD: &str = "JWT";

/// Bytes of a token at most.
const TOKEN_BYTES_MAX: usize = 8_192;

/// Seconds by which the clocks of issuer and broker may differ.
const LEEWAY_S: u64 = 60;

/// Keys that one token is tried with.
const KEYS_TRIED_MAX: usize = 8;

/// Roles of one token at most, and bytes of each and of the user name.
const ROLES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 1_024;

/// The demands of the operator on tokens.
#[derive(Debug)]
pub(crate) struct TokenRules {
    /// Algorithms that are accepted.
    pub(crate) algorithms: Vec<Algorithm>,
    /// The issuer that a token must name.
    pub(crate) issuer: Option<String>,
    /// The audience that a token must name.
    pub(crate) audience: Option<String>,
    /// The claim with the user name.
    pub(crate) username_claim: String,
    /// The claim with the roles.
    pub(crate) roles_claim: String,
}

/// The statement of a valid token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Name of the user.
    pub(crate) user: String,
    /// Names of the user's roles.
    pub(crate) roles: Vec<String>,
    /// Time until the token ends.
    pub(crate) lifetime: Duration,
}

/// A token that is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenFault {
    /// The text is no token at all: another method may know it.
    NoToken,
    /// It is too long.
    TooLong,
    /// It names no key that is known; the issuer may have a new one.
    UnknownKey,
    /// Its header asks for something that is not accepted.
    Header,
    /// The signature is wrong, or the issuer or audience is another.
    Signature,
    /// It has ended, has not begun, or has no end.
    Time,
    /// The claim of the user name or of the roles is missing or has another form.
    Claims,
}

impl TokenFault {
    /// All of them, for the test that provokes each.
    #[cfg(test)]
    const ALL: [Self; 7] = [
        Self::NoToken,
        Self::TooLong,
        Self::UnknownKey,
        Self::Header,
        Self::Signature,
        Self::Time,
        Self::Claims,
    ];
}

/// True if the text has the form of a token, whatever it is worth.
pub(crate) fn is_token(text: &[u8]) -> bool {
    let mut parts = text.split(|byte| *byte == b'.');
    let header = parts.next().unwrap_or_default();
    parts.count() == 2
        && header.len() <= TOKEN_BYTES_MAX
        && URL_SAFE_NO_PAD.decode(header).is_ok_and(|json| json.starts_with(b"{"))
}

/// Judges a token at the time `now_s`, in seconds since 1970.
///
/// # Errors
/// If it is not accepted.
pub(crate) fn judge(
    token: &[u8],
    keys: &[&KeySet],
    rules: &TokenRules,
    now_s: u64,
) -> Result<Claims, TokenFault> {
    provider::install();
    if !is_token(token) {
        return Err(TokenFault::NoToken);
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenFault::TooLong);
    }
    let header = decode_header(token).map_err(|_| TokenFault::Header)?;
    // An extension that the issuer marks as critical is one that we do not have [RFC 7515, section 4.1.11].
    if header.crit.is_some() || !rules.algorithms.contains(&header.alg) {
        return Err(TokenFault::Header);
    }
    let candidates = keys.iter().flat_map(|keys| keys.candidates(header.kid.as_deref(), header.alg));
    let mut fault = TokenFault::UnknownKey;
    for key in candidates.take(KEYS_TRIED_MAX) {
        match decode::<Map<String, Value>>(token, &key.decoding, &validation(key.algorithm, rules)) {
            Ok(decoded) => return read(&decoded.claims, rules, now_s),
            Err(_) => fault = TokenFault::Signature,
        }
    }
    Err(fault)
}

/// The demands that the library checks: algorithm, issuer and audience.
fn validation(algorithm: Algorithm, rules: &TokenRules) -> Validation {
    let mut validation = Validation::new(algorithm);
    // Times are checked in `read`, where the time is an argument.
    validation.validate_exp = false;
    let mut required = Vec::new();
    if let Some(issuer) = &rules.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    match &rules.audience {
        Some(audience) => {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        None => validation.validate_aud = false,
    }
    validation.set_required_spec_claims(&required);
    validation
}

/// Reads the claims of a token whose signature is right.
fn read(claims: &Map<String, Value>, demands: &TokenRules, now_s: u64) -> Result<Claims, TokenFault> {
    let end_s = claims.get("exp").and_then(seconds).ok_or(TokenFault::Time)?;
    let begin_s = match claims.get("nbf") {
        Some(begin) => seconds(begin).ok_or(TokenFault::Time)?,
        None => 0,
    };
    let end_s = end_s.saturating_add(LEEWAY_S);
    if end_s <= now_s || begin_s > now_s.saturating_add(LEEWAY_S) {
        return Err(TokenFault::Time);
    }
    let user = claims.get(&demands.username_claim).and_then(name).ok_or(TokenFault::Claims)?;
    let roles = match claims.get(&demands.roles_claim) {
        None => Vec::new(),
        Some(Value::Array(roles)) if roles.len() <= ROLES_MAX => {
            roles.iter().map(name).collect::<Option<_>>().ok_or(TokenFault::Claims)?
        }
        Some(_) => return Err(TokenFault::Claims),
    };
    Ok(Claims { user, roles, lifetime: Duration::from_secs(end_s - now_s) })
}

/// A time as RFC 7519 has it: seconds, possibly with a fraction.
fn seconds(value: &Value) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates, and the fraction is dropped"
    )]
    value.as_u64().or_else(|| value.as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| seconds as u64))
}

fn name(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let is_name = (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control);
    is_name.then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
