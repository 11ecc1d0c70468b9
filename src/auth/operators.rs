//! The judgement of operators' clients of MQTT, which come through the page of `[admin]`: the password is a token of the API, and its
//! scope decides.
//!
//! Invariant: no shard reads the file of tokens. The admin thread reads it before it passes a connection on, so the tokens here are
//! those of a moment before.

use crypto::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;
use wire::ReasonCode;

use super::question::{Answer, OwnedGrant, Step};
use super::shared::{Locked, Shared};

/// The role of these clients, which allows everything that no rule of everybody denies. No configuration and no issuer can give it: a
/// text with U+0000 is none of theirs.
pub(crate) const OPERATORS_ROLE: &str = "\0operators";

/// The name of this method.
const TOKEN: &str = "token";

/// A token that may come.
#[derive(Debug)]
pub(crate) struct OperatorToken {
    /// Its name.
    pub(crate) name: String,
    /// SHA-256 of its text, in hexadecimal digits.
    pub(crate) sha256: String,
    /// Whether its scope has payloads in it.
    pub(crate) reads_payloads: bool,
}

/// The tokens at this time. **Lives on:** every shard, and the admin thread, which writes them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operators(Shared<Locked<Vec<OperatorToken>>>);

impl Operators {
    /// Replaces the tokens.
    #[cfg(all(feature = "admin", unix))]
    pub(crate) fn replace(&self, tokens: Vec<OperatorToken>) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = tokens;
    }

    /// The answer to a step of such a client.
    pub(super) fn judge(&self, step: &Step) -> Answer {
        let Step::Basic { password, .. } = step else {
            return Answer::failed(ReasonCode::BadAuthenticationMethod, TOKEN);
        };
        let hash = password.as_ref().map(|password| token_hash(password));
        let tokens = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_known = |token: &&OperatorToken| {
            hash.as_ref().is_some_and(|hash| bool::from(token.sha256.as_bytes().ct_eq(hash.as_bytes())))
        };
        match tokens.iter().find(is_known) {
            None => Answer::failed(ReasonCode::BadUserNameOrPassword, TOKEN),
            Some(token) if !token.reads_payloads => Answer::failed(ReasonCode::NotAuthorized, TOKEN),
            Some(token) => Answer::Success {
                data: Vec::new(),
                grant: OwnedGrant {
                    method: TOKEN,
                    user: Some(format!("token:{}", token.name).into_boxed_str()),
                    roles: vec![OPERATORS_ROLE.into()],
                    ..OwnedGrant::default()
                },
            },
        }
    }
}

/// SHA-256 of the text of a token, in hexadecimal digits, as the file has it.
pub(crate) fn token_hash(text: &[u8]) -> String {
    let digits =
        |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
    digest(&SHA256, text).as_ref().iter().flat_map(digits).collect()
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn a_hash_is_sha_256_in_hexadecimal_digits() {
        assert_eq!(token_hash(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    #[cfg(all(feature = "admin", unix))]
    fn the_scope_of_a_token_decides_and_nothing_else_lets_in() {
        let operators = Operators::default();
        let judge = |password: Option<&[u8]>| {
            let password = password.map(|password| Zeroizing::new(password.to_vec()));
            let step =
                Step::Basic { client_id: "c".to_owned(), username: Some("admin".to_owned()), password };
            match operators.judge(&step) {
                Answer::Success { grant, .. } => Ok(grant.user.map(String::from)),
                Answer::Failed { reason, .. } => Err(reason),
                Answer::Continue(_) => panic!("nothing goes on"),
            }
        };
        assert_eq!(judge(Some(b"one")), Err(ReasonCode::BadUserNameOrPassword), "there is none yet");
        let token = |name: &str, reads_payloads| OperatorToken {
            name: name.to_owned(),
            sha256: token_hash(name.as_bytes()),
            reads_payloads,
        };
        operators.replace(vec![token("one", true), token("board", false)]);
        assert_eq!(judge(Some(b"one")), Ok(Some("token:one".to_owned())));
        assert_eq!(judge(Some(b"board")), Err(ReasonCode::NotAuthorized));
        for wrong in [None, Some(&b""[..]), Some(&b"two"[..]), Some(token_hash(b"one").as_bytes())] {
            assert_eq!(judge(wrong), Err(ReasonCode::BadUserNameOrPassword), "{wrong:?}");
        }
        operators.replace(Vec::new());
        assert_eq!(judge(Some(b"one")), Err(ReasonCode::BadUserNameOrPassword), "it was removed");
    }
}
