//! SCRAM-SHA-256 without channel binding [RFC 5802, RFC 7677]: the client proves its password and the server that it knows the
//! verifier, and the password does not travel.
//! Invariant: an unknown user's exchange looks as a known one's until its proof fails, also from one exchange to the next.

use std::borrow::Cow;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::ConstantTimeEq as _;

use super::password::{ScramVerifier, hmac_sha256, prepare_name, sha256};

/// Name of the method in MQTT.
pub(crate) const SCRAM_METHOD: &str = "SCRAM-SHA-256";

/// Iterations that an unknown user is asked for: as many as verifiers that are written here have.
const UNKNOWN_ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("a literal above zero");

/// Bytes of an unknown user's salt: as many as salts that are written here have.
const UNKNOWN_SALT_BYTES: usize = 16;

/// Bytes of a client's first message at most, since an exchange keeps it.
const FIRST_BYTES_MAX: usize = 1_024;

/// Random bytes of the server's nonce.
pub(crate) const NONCE_BYTES: usize = 18;

/// The first message of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClientFirst<'a> {
    /// The header about channel binding, with its commas.
    header: &'a str,
    /// The message behind the header.
    bare: &'a str,
    /// Name of the user.
    pub(crate) user: String,
    nonce: &'a str,
}

/// An exchange that waits for the client's proof.
pub(crate) struct Exchange {
    /// Name of the user.
    pub(crate) user: String,
    verifier: ScramVerifier,
    is_known: bool,
    /// The client's header in base64, which its last message repeats.
    binding: String,
    /// Both nonces.
    nonce: String,
    /// The first messages of client and server, as the proof signs them.
    signed: String,
}

/// A message that is no message of SCRAM, or a proof that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScramFault {
    /// The message has another form, or asks for what is not there: channel binding, another identity, an extension.
    Form,
    /// The nonce or the header is not the one of this exchange.
    Nonce,
    /// The proof is wrong, or the user is unknown.
    Proof,
}

impl<'a> ClientFirst<'a> {
    /// Reads `n,,n=USER,r=NONCE`.
    ///
    /// # Errors
    /// If it has another form.
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, ScramFault> {
        if message.len() > FIRST_BYTES_MAX {
            return Err(ScramFault::Form);
        }
        let text = str::from_utf8(message).map_err(|_| ScramFault::Form)?;
        // `n`: the client has no channel binding; `y`: it believes that the server has none. Both are true here.
        let bare = text.strip_prefix("n,,").or_else(|| text.strip_prefix("y,,")).ok_or(ScramFault::Form)?;
        let mut parts = bare.split(',');
        let user = attribute(parts.next(), "n=").and_then(read_name)?;
        let nonce = attribute(parts.next(), "r=")?;
        let is_printable = nonce.bytes().all(|byte| byte.is_ascii_graphic());
        // Extensions behind the nonce may be ignored [RFC 5802, section 5.1].
        if user.is_empty() || nonce.is_empty() || !is_printable {
            Err(ScramFault::Form)
        } else {
            Ok(Self { header: &text[..3], bare, user, nonce })
        }
    }
}

/// The value of an attribute.
fn attribute<'a>(part: Option<&'a str>, name: &str) -> Result<&'a str, ScramFault> {
    part.and_then(|part| part.strip_prefix(name)).ok_or(ScramFault::Form)
}

/// A name, prepared as RFC 4013 says, in which `=2C` is a comma and `=3D` an equals sign.
fn read_name(text: &str) -> Result<String, ScramFault> {
    let mut parts = text.split('=');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (character, rest) = match part.split_at_checked(2) {
            Some(("2C", rest)) => (',', rest),
            Some(("3D", rest)) => ('=', rest),
            Some(_) | None => return Err(ScramFault::Form),
        };
        name.push(character);
        name.push_str(rest);
    }
    prepare_name(&name).map(Cow::into_owned).ok_or(ScramFault::Form)
}

impl Exchange {
    /// Begins an exchange, and returns the server's first message with it. `verifier` is `None` for a user who is unknown or has no
    /// verifier; `kept_key` is a secret that outlives the process, of which that user's salt is made.
    pub(crate) fn begin(
        first: ClientFirst<'_>,
        verifier: Option<ScramVerifier>,
        kept_key: &[u8],
        random: [u8; NONCE_BYTES],
    ) -> (Self, String) {
        let is_known = verifier.is_some();
        let verifier = verifier.unwrap_or_else(|| unknown(&first.user, kept_key));
        let nonce = format!("{}{}", first.nonce, BASE64.encode(random));
        let answer = format!("r={nonce},s={},i={}", BASE64.encode(&verifier.salt), verifier.iterations);
        let exchange = Self {
            user: first.user,
            verifier,
            is_known,
            binding: BASE64.encode(first.header),
            signed: format!("{},{answer}", first.bare),
            nonce,
        };
        (exchange, answer)
    }

    /// Bytes of its texts.
    pub(crate) fn heap_bytes(&self) -> usize {
        let texts = [&self.user, &self.binding, &self.nonce, &self.signed];
        texts.map(String::capacity).iter().sum::<usize>() + self.verifier.salt.len()
    }

    /// Judges the client's last message, `c=BINDING,r=NONCE,p=PROOF`, and returns the server's.
    ///
    /// # Errors
    /// If it is not the last message of this exchange, or its proof is wrong.
    pub(crate) fn end(&self, message: &[u8]) -> Result<String, ScramFault> {
        let text = str::from_utf8(message).map_err(|_| ScramFault::Form)?;
        let (unproved, proof) = text.rsplit_once(",p=").ok_or(ScramFault::Form)?;
        let mut parts = unproved.split(',');
        let binding = attribute(parts.next(), "c=")?;
        let nonce = attribute(parts.next(), "r=")?;
        if binding != self.binding || nonce != self.nonce {
            return Err(ScramFault::Nonce);
        }
        let proof: [u8; 32] =
            BASE64.decode(proof).ok().and_then(|proof| proof.try_into().ok()).ok_or(ScramFault::Form)?;
        let signed = format!("{},{unproved}", self.signed);
        let signature = hmac_sha256(&self.verifier.stored_key, signed.as_bytes());
        let mut client_key = proof;
        for (byte, mask) in client_key.iter_mut().zip(signature) {
            *byte ^= mask;
        }
        let is_right: bool = sha256(&client_key).ct_eq(&self.verifier.stored_key).into();
        if !(is_right & self.is_known) {
            return Err(ScramFault::Proof);
        }
        Ok(format!("v={}", BASE64.encode(hmac_sha256(&self.verifier.server_key, signed.as_bytes()))))
    }
}

/// A verifier with a salt that stays the same for this name, and keys that nobody knows.
fn unknown(user: &str, kept_key: &[u8]) -> ScramVerifier {
    let keyed = |purpose: &str| hmac_sha256(kept_key, format!("{purpose}{user}").as_bytes());
    ScramVerifier {
        iterations: UNKNOWN_ITERATIONS,
        salt: keyed("scram salt ")[..UNKNOWN_SALT_BYTES].into(),
        stored_key: keyed("scram key "),
        server_key: keyed("scram server key "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";

    fn verifier() -> ScramVerifier {
        ScramVerifier::compute(b"pencil", BASE64.decode(SALT).unwrap().into(), UNKNOWN_ITERATIONS)
    }

    /// The exchange of RFC 7677, section 3, whose server's nonce is no base64 of 18 bytes.
    #[test]
    fn the_example_of_rfc_7677_is_replayed() {
        let first = ClientFirst::parse(FIRST).unwrap();
        assert_eq!(first.user, "user");
        let (mut exchange, _) = Exchange::begin(first, Some(verifier()), b"key", [0; NONCE_BYTES]);
        exchange.nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned();
        exchange.signed = format!("n=user,r=rOprNGfwEbeRWgbNEkqO,r={},s={SALT},i=4096", exchange.nonce);
        let last = |proof: &str| format!("c=biws,r={},p={proof}", exchange.nonce);
        let right = last("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        assert_eq!(
            exchange.end(right.as_bytes()),
            Ok("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_owned())
        );
        let wrong = last("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVA=");
        assert_eq!(exchange.end(wrong.as_bytes()), Err(ScramFault::Proof));
    }

    /// The last message of a client that knows `password`.
    fn last(first: &[u8], answer: &str, password: &[u8]) -> String {
        let bare = str::from_utf8(first).unwrap().split_once(",,").unwrap().1;
        let part = |name: &str| answer.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
        let salt = BASE64.decode(part("s=")).unwrap();
        let mut salted = [0; 32];
        let algorithm = crypto::pbkdf2::PBKDF2_HMAC_SHA256;
        crypto::pbkdf2::derive(algorithm, part("i=").parse().unwrap(), &salt, password, &mut salted);
        let client_key = hmac_sha256(&salted, b"Client Key");
        let binding = BASE64.encode(&first[..3]);
        let unproved = format!("c={binding},r={}", part("r="));
        let signature = hmac_sha256(&sha256(&client_key), format!("{bare},{answer},{unproved}").as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, mask)| key ^ mask).collect();
        format!("{unproved},p={}", BASE64.encode(proof))
    }

    #[test]
    fn the_right_password_is_proved_and_no_other() {
        for first in [FIRST, b"y,,n=user,r=abc,x=extension"] {
            let begin =
                || Exchange::begin(ClientFirst::parse(first).unwrap(), Some(verifier()), b"key", [9; 18]);
            let (exchange, answer) = begin();
            assert!(exchange.end(last(first, &answer, b"pencil").as_bytes()).unwrap().starts_with("v="));
            let wrong = exchange.end(last(first, &answer, b"pen").as_bytes());
            assert_eq!(wrong, Err(ScramFault::Proof));
            let replayed = last(first, &answer.replace('C', "D"), b"pencil");
            assert_eq!(exchange.end(replayed.as_bytes()), Err(ScramFault::Nonce), "{answer}");
        }
    }

    #[test]
    fn an_unknown_user_has_a_salt_that_stays_and_no_password() {
        let begin = |user: &str, key: &[u8]| {
            let first = format!("n,,n={user},r=abc");
            let (exchange, answer) =
                Exchange::begin(ClientFirst::parse(first.as_bytes()).unwrap(), None, key, [9; 18]);
            let salt = answer.split(',').nth(1).unwrap().to_owned();
            assert_eq!(salt.len(), "s=".len() + SALT.len());
            assert!(answer.ends_with(",i=4096"));
            let proof = last(first.as_bytes(), &answer, b"");
            assert_eq!(exchange.end(proof.as_bytes()), Err(ScramFault::Proof));
            salt
        };
        assert_eq!(begin("bob", b"key"), begin("bob", b"key"));
        assert_ne!(begin("bob", b"key"), begin("rob", b"key"));
        assert_ne!(begin("bob", b"key"), begin("bob", b"yek"), "the key is a secret");
    }

    #[test]
    fn a_name_may_hold_commas_and_equals_signs() {
        let name =
            |text: &str| ClientFirst::parse(format!("n,,n={text},r=abc").as_bytes()).map(|first| first.user);
        assert_eq!(name("a=2Cb=3D"), Ok("a,b=".to_owned()));
        for text in ["a=", "a=2", "a=2c", "a=20", "=", ""] {
            assert_eq!(name(text), Err(ScramFault::Form), "{text}");
        }
    }

    /// A name that was typed with ligatures and wide letters was another user's.
    #[test]
    fn a_name_and_a_password_are_the_same_however_they_are_typed() {
        let name =
            |text: &str| ClientFirst::parse(format!("n,,n={text},r=abc").as_bytes()).map(|first| first.user);
        assert_eq!(name("\u{FF55}ser"), Ok("user".to_owned()));
        assert_eq!(name("I\u{AD}X=2C"), Ok("IX,".to_owned()));
        for prohibited in ["\u{7}", "\u{627}\u{31}", "\u{AD}"] {
            assert_eq!(name(prohibited), Err(ScramFault::Form), "{prohibited:?}");
        }
        let typed = ScramVerifier::compute(
            "\u{2168}\u{AA}".as_bytes(),
            BASE64.decode(SALT).unwrap().into(),
            UNKNOWN_ITERATIONS,
        );
        let (exchange, answer) =
            Exchange::begin(ClientFirst::parse(FIRST).unwrap(), Some(typed), b"key", [9; 18]);
        assert!(exchange.end(last(FIRST, &answer, b"IXa").as_bytes()).is_ok());
    }

    #[test]
    fn messages_of_another_form_are_refused() {
        for message in [
            "",
            "n,,",
            "n,,n=a",
            "n,,r=a,n=a",
            "p=tls-exporter,,n=a,r=b",
            "n,a=admin,n=a,r=b",
            "n,,m=x,n=a,r=b",
            "n,,n=a,r=",
            "n,,n=a,r=\u{e9}",
        ] {
            assert_eq!(ClientFirst::parse(message.as_bytes()), Err(ScramFault::Form), "{message}");
        }
        assert_eq!(ClientFirst::parse(&[0xFF]), Err(ScramFault::Form));
        let (exchange, answer) =
            Exchange::begin(ClientFirst::parse(FIRST).unwrap(), Some(verifier()), b"key", [0; NONCE_BYTES]);
        let nonce = answer.split(',').next().unwrap();
        for message in [
            "",
            ",p=",
            &format!("c=biws,{nonce}"),
            &format!("c=biws,{nonce},p=AAAA"),
            &format!("{nonce},c=biws,p=AAAA"),
        ] {
            assert_eq!(exchange.end(message.as_bytes()), Err(ScramFault::Form), "{message}");
        }
        assert_eq!(exchange.end(&[0xFF]), Err(ScramFault::Form));
    }
}
