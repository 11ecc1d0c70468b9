//! SASLprep [RFC 4013]: one form for a name or password of SCRAM, on whatever keyboard it was typed.

use std::borrow::Cow;

use stringprep::saslprep;
use stringprep::tables::unassigned_code_point;
use zeroize::Zeroizing;

/// The name by which a user is looked up [RFC 5802, section 5.1]; `None` if SASLprep prohibits it, or leaves nothing of it. A name with
/// a character that is younger than Unicode 3.2 stays as it is.
pub(crate) fn prepare_name(name: &str) -> Option<Cow<'_, str>> {
    if name.chars().any(unassigned_code_point) {
        return Some(Cow::Borrowed(name));
    }
    saslprep(name).ok().filter(|prepared| !prepared.is_empty())
}

/// The bytes of which a verifier is made. A password that SASLprep prohibits, or that is no text, stays as it is, as other servers and
/// clients keep it: it is right if it is the same.
pub(crate) fn prepare_password(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = str::from_utf8(password).ok().and_then(|text| saslprep(text).ok());
    match prepared {
        Some(Cow::Owned(text)) => Zeroizing::new(text.into_bytes()),
        Some(Cow::Borrowed(_)) | None => Zeroizing::new(password.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_4013_have_their_forms() {
        for (typed, prepared) in [
            ("I\u{AD}X", Some("IX")),
            ("user", Some("user")),
            ("USER", Some("USER")),
            ("\u{AA}", Some("a")),
            ("\u{2168}", Some("IX")),
            ("\u{7}", None),
            ("\u{627}\u{31}", None),
        ] {
            assert_eq!(prepare_name(typed).as_deref(), prepared, "{typed:?}");
            let password = prepare_password(typed.as_bytes());
            assert_eq!(*password, prepared.unwrap_or(typed).as_bytes(), "{typed:?}");
        }
    }

    #[test]
    fn names_of_younger_characters_stay_and_empty_ones_are_none() {
        assert_eq!(prepare_name("\u{1F980}").as_deref(), Some("\u{1F980}"));
        assert_eq!(prepare_name("\u{AD}"), None);
        assert_eq!(*prepare_password(&[0xFF, b'a']), [0xFF, b'a']);
    }
}
